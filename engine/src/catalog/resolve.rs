//! From a file or an OID to the relation, and from the relation's rows to its layout.

use std::sync::Arc;

use redostream_protocol::ddl::TableShape;
use redostream_protocol::schema::{Column, Database, Name, Relation, RelationVersion};
use redostream_protocol::{Cursor, DatabaseOid, Oid, RelFileNode};

use super::CatalogError;
use super::layout::{align_bytes, oid};
use super::registry::RelationRegistry;
use super::relation::{Attribute, IgnoreReason, Layout, Target};
use super::tuple::{Storage, stored_range};
use super::type_desc::Describer;
use super::view::{Row, View};
use super::writer::ObjectKind;
use crate::limits::CATALOG_OID_END;

impl<'a> Describer<'a, '_> {
    /// The relation whose rows a file holds.
    pub(crate) fn target_of_file(
        &mut self,
        node: RelFileNode,
        registry: &RelationRegistry,
    ) -> Result<Target, CatalogError> {
        self.depend(ObjectKind::File, node.relation);
        let owner = self.view.store.owner(node);
        if owner.is_some_and(|oid| oid.0 < CATALOG_OID_END) || !node.database.is_valid() {
            return Ok(Target::Ignore(IgnoreReason::Catalog));
        }
        let rows = self.view.rows(oid::CLASS, "relfilenode", node.relation.0)?;
        let mut found = None;
        for row in rows {
            let tablespace = row.oid("reltablespace")?;
            if tablespace == node.tablespace || (!tablespace.is_valid() && found.is_none()) {
                found = Some(row);
            }
        }
        match found {
            Some(row) => self.target(&row, registry),
            None if owner.is_some() => Ok(Target::Ignore(IgnoreReason::Rewrite)),
            None => Err(CatalogError::NoRelation {
                node,
                viewer: self.view.viewer,
            }),
        }
    }

    /// The relation with an OID.
    pub(crate) fn target_of_oid(
        &mut self,
        relation: Oid,
        registry: &RelationRegistry,
    ) -> Result<Target, CatalogError> {
        self.depend(ObjectKind::Relation, relation);
        let row = self.view.object("relation", oid::CLASS, relation)?;
        self.target(&row, registry)
    }

    fn target(
        &mut self,
        class: &Row<'_>,
        registry: &RelationRegistry,
    ) -> Result<Target, CatalogError> {
        let oid = class.oid("oid")?;
        self.depend(ObjectKind::Relation, oid);
        if oid.0 < CATALOG_OID_END {
            return Ok(Target::Ignore(IgnoreReason::Catalog));
        }
        if class.oid("relrewrite")?.is_valid() {
            return Ok(Target::Ignore(IgnoreReason::Rewrite));
        }
        Ok(match class.byte("relkind")? {
            b'S' => Target::Sequence(self.layout(oid, class, registry)?),
            b't' => Target::Toast { oid },
            b'r' | b'm' | b'p' => self.table(oid, class, registry)?,
            _ => Target::Ignore(IgnoreReason::NotRows),
        })
    }

    /// A table, or why its rows cannot be decoded: that is a matter of those who want them.
    fn table(
        &mut self,
        oid: Oid,
        class: &Row<'_>,
        registry: &RelationRegistry,
    ) -> Result<Target, CatalogError> {
        let described = self.layout(oid, class, registry);
        let reason = match (foreign_access_method(&self.view, class)?, &described) {
            (Some(method), _) => format!("its access method is {method}, not heap"),
            (None, Err(error)) if error.is_of_one_object() => error.to_string(),
            (None, _) => return described.map(Target::Table),
        };
        let relation = match described {
            Ok(layout) => Arc::clone(&layout.relation),
            Err(_) => self.undescribed(oid, class, registry)?,
        };
        let reason = reason.into();
        Ok(Target::Undecodable { relation, reason })
    }

    /// A table of which no more is known than its name.
    fn undescribed(
        &mut self,
        oid: Oid,
        class: &Row<'_>,
        registry: &RelationRegistry,
    ) -> Result<Arc<Relation>, CatalogError> {
        let relation = self.relation(oid, class, Vec::new(), None)?;
        let layout = Layout {
            relation: Arc::new(relation.clone()),
            attributes: Vec::new(),
            fixed: 0,
            toast: Oid::INVALID,
            needs_catalog: false,
        };
        let registered = registry.register(relation, layout);
        Ok(Arc::clone(&registered.relation))
    }

    /// A relation that has no number yet.
    fn relation(
        &mut self,
        oid: Oid,
        class: &Row<'_>,
        columns: Vec<Column>,
        structure: Option<Arc<TableShape>>,
    ) -> Result<Relation, CatalogError> {
        Ok(Relation {
            version: RelationVersion(0),
            database: self.database()?,
            oid,
            schema: self.schema(class.oid("relnamespace")?)?,
            name: class.name("relname")?,
            kind: class.byte("relkind")?,
            replica_identity: class.byte("relreplident")?,
            columns,
            structure,
        })
    }

    fn layout(
        &mut self,
        oid: Oid,
        class: &Row<'_>,
        registry: &RelationRegistry,
    ) -> Result<Arc<Layout>, CatalogError> {
        let keys = self.key_columns(oid, class.byte("relreplident")?)?;
        let mut attributes = Vec::new();
        let mut columns = Vec::new();
        let mut needs_catalog = false;
        for row in self.attribute_rows(oid)? {
            let (attribute, column) = self.attribute(&row, &keys, columns.len())?;
            needs_catalog |= attribute.needs_catalog;
            attributes.push(attribute);
            columns.extend(column);
        }
        let fixed = place(&mut attributes);
        let structure = self.structure(class)?;
        let relation = self.relation(oid, class, columns, structure)?;
        let layout = Layout {
            relation: Arc::new(relation.clone()),
            attributes,
            fixed,
            toast: class.oid("reltoastrelid")?,
            needs_catalog,
        };
        Ok(registry.register(relation, layout))
    }

    /// The whole structure of a table, for those who keep a copy. Rows can be decoded without it.
    fn structure(&mut self, class: &Row<'_>) -> Result<Option<Arc<TableShape>>, CatalogError> {
        if class.byte("relkind")? == b'S' {
            return Ok(None);
        }
        let Ok((shape, tables)) = super::ddl::structure(&self.view, class) else {
            return Ok(None);
        };
        for table in tables {
            self.depend(ObjectKind::Relation, table);
        }
        Ok(Some(Arc::new(shape)))
    }

    /// The rows of a relation's attributes, system ones left out, in order.
    fn attribute_rows(&self, oid: Oid) -> Result<Vec<Row<'a>>, CatalogError> {
        let mut rows = Vec::new();
        for row in self.view.rows(oid::ATTRIBUTE, "attrelid", oid.0)? {
            let number = row.i16("attnum")?;
            if number > 0 {
                rows.push((number, row));
            }
        }
        rows.sort_by_key(|(number, _)| *number);
        for ((number, row), expected) in rows.iter().zip(1..) {
            if *number != expected {
                return Err(row.bad(format!("attribute {expected} of relation {oid} is missing")));
            }
        }
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    fn attribute(
        &mut self,
        row: &Row<'_>,
        keys: &[i16],
        columns: usize,
    ) -> Result<(Attribute, Option<Column>), CatalogError> {
        let number = row.i16("attnum")?;
        let generated = row.byte("attgenerated")?;
        let dropped = row.flag("attisdropped")?;
        let storage = Storage {
            length: row.i16("attlen")?,
            align: align_bytes(row.byte("attalign")?),
        };
        let mut attribute = Attribute {
            length: storage.length,
            align: storage.align,
            storage: row.byte("attstorage")?,
            by_value: row.flag("attbyval")?,
            not_null: row.flag("attnotnull")?,
            dropped,
            virtual_generated: generated == b'v',
            needs_catalog: false,
            offset: None,
            column: None,
            missing: None,
        };
        if row.flag("atthasmissing")? && !dropped {
            let value = row.value("attmissingval")?.unwrap_or_default();
            let missing = missing_value(&value, storage);
            attribute.missing = Some(missing.map_err(|problem| row.bad(problem.to_owned()))?);
        }
        if dropped {
            return Ok((attribute, None));
        }
        let described = self.describe(row.oid("atttypid")?, 0)?;
        attribute.needs_catalog = described.needs_catalog;
        attribute.column = Some(columns as u16);
        let column = Column {
            number,
            name: row.name("attname")?,
            data_type: described.desc,
            modifier: row.i32("atttypmod")?,
            not_null: attribute.not_null,
            key: keys.contains(&number),
            generated,
        };
        Ok((attribute, Some(column)))
    }

    /// Attribute numbers of the replica identity's index.
    // pg: utils/cache/relcache.c RelationGetIndexList [14-18]
    fn key_columns(&self, oid: Oid, identity: u8) -> Result<Vec<i16>, CatalogError> {
        let mark = match identity {
            b'd' => "indisprimary",
            b'i' => "indisreplident",
            _ => return Ok(Vec::new()),
        };
        for row in self.view.rows(oid::INDEX, "indrelid", oid.0)? {
            let mut usable = row.flag(mark)?;
            for flag in ["indislive", "indisvalid", "indisunique", "indimmediate"] {
                usable = usable && row.flag(flag)?;
            }
            if usable && row.value("indpred")?.is_none() {
                let mut columns = row.numbers("indkey")?;
                // Included columns follow the key's own.
                columns.truncate(usize::try_from(row.i16("indnkeyatts")?).unwrap_or(0));
                return Ok(columns);
            }
        }
        Ok(Vec::new())
    }

    /// The database of the view.
    pub(crate) fn database(&mut self) -> Result<Arc<Database>, CatalogError> {
        let oid = self.view.database;
        self.depend(ObjectKind::Database, oid);
        if self.view.viewer.is_none()
            && let Some(known) = self.cache.databases.get(&oid)
        {
            return Ok(Arc::clone(known));
        }
        let database = Arc::new(
            read_database(&self.view, oid)?.ok_or(CatalogError::NoObject {
                what: "database",
                oid,
                database: oid,
            })?,
        );
        if self.view.viewer.is_none() {
            self.cache.databases.insert(oid, Arc::clone(&database));
        }
        Ok(database)
    }
}

/// The access method of a table whose rows are not the heap's own. Another name for the heap's own
/// handler is as good as heap: the log is the same.
pub(crate) fn foreign_access_method(
    view: &View<'_>,
    class: &Row<'_>,
) -> Result<Option<Name>, CatalogError> {
    // pg: catalog/pg_am.dat heap, catalog/pg_proc.dat heap_tableam_handler [14-18]
    const HEAP: Oid = Oid(2);
    const HEAP_HANDLER: Oid = Oid(3);
    let method = class.oid("relam")?;
    let partitioned = class.byte("relkind")? == b'p';
    if !method.is_valid() || method == HEAP || partitioned {
        return Ok(None);
    }
    let row = view.object("access method", oid::AM, method)?;
    let own = row.oid("amhandler")? == HEAP_HANDLER;
    Ok(if own { None } else { Some(row.name("amname")?) })
}

/// A database by its OID.
pub(crate) fn read_database(
    view: &View<'_>,
    oid: DatabaseOid,
) -> Result<Option<Database>, CatalogError> {
    match view.row_of(oid::DATABASE, "oid", oid)? {
        Some(row) => database_of(&row, view.store.format.major).map(Some),
        None => Ok(None),
    }
}

/// A database by its row.
pub(crate) fn database_of(row: &Row<'_>, major: u16) -> Result<Database, CatalogError> {
    Ok(Database {
        oid: row.oid("oid")?,
        name: row.name("datname")?,
        encoding: row.i32("encoding")?,
        major,
    })
}

/// Gives leading attributes their offsets; how many there are.
fn place(attributes: &mut [Attribute]) -> usize {
    let mut at = 0_usize;
    for (index, attribute) in attributes.iter_mut().enumerate() {
        let aligned = at.next_multiple_of(usize::from(attribute.align.max(1)));
        match usize::try_from(attribute.length) {
            Ok(length) => {
                attribute.offset = Some(aligned as u32);
                at = aligned + length;
            }
            Err(_) => {
                // Its header tells whether it is aligned: certain only if both places are one.
                if at == aligned {
                    attribute.offset = Some(at as u32);
                    return index + 1;
                }
                return index;
            }
        }
    }
    attributes.len()
}

/// The one element of an `attmissingval` array.
///
/// ```text
/// dimensions i32, data offset i32 (0 without nulls), element type u32, size i32, lower bound i32,
/// element aligned from the start of the array with its 4-byte header
/// ```
// pg: utils/array.h ArrayType, catalog/heap.c StoreAttrMissingVal [14-18]
fn missing_value(array: &[u8], storage: Storage) -> Result<Vec<u8>, &'static str> {
    const BAD: &str = "attmissingval is not an array of one element";
    let mut cursor = Cursor::new(array);
    let mut word = || cursor.u32("array header").map_err(|_| BAD);
    if word()? != 1 || word()? != 0 {
        return Err(BAD);
    }
    word()?;
    if word()? != 1 {
        return Err(BAD);
    }
    word()?;
    // The data begins at 24 bytes with the header that is not here: aligned for every type.
    let data = array.get(20..).ok_or(BAD)?;
    let (start, end) = stored_range(data, 0, storage)?;
    let stored = data.get(start..end).ok_or(BAD)?;
    match storage.length {
        -1 => match stored.first() {
            Some(first) if first & 1 == 1 && *first != 1 => Ok(stored[1..].to_vec()),
            Some(first) if first & 3 == 0 => Ok(stored.get(4..).ok_or(BAD)?.to_vec()),
            _ => Err("attmissingval is compressed or TOASTed inside"),
        },
        -2 => Ok(stored[..stored.len() - 1].to_vec()),
        _ => Ok(stored.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(length: i16, align: u8) -> Attribute {
        Attribute {
            length,
            align,
            storage: b'p',
            by_value: true,
            not_null: false,
            dropped: false,
            virtual_generated: false,
            needs_catalog: false,
            offset: None,
            column: None,
            missing: None,
        }
    }

    #[test]
    fn leading_attributes_have_places() {
        let offsets = |list: &[(i16, u8)]| {
            let mut attributes: Vec<_> = list
                .iter()
                .map(|(length, align)| attribute(*length, *align))
                .collect();
            let fixed = place(&mut attributes);
            let offsets: Vec<_> = attributes
                .iter()
                .map(|attribute| attribute.offset)
                .collect();
            (fixed, offsets)
        };
        let all = offsets(&[(4, 4), (8, 8), (1, 1), (2, 2)]);
        assert_eq!(all, (4, vec![Some(0), Some(8), Some(16), Some(18)]));
        let text = offsets(&[(4, 4), (-1, 4), (4, 4)]);
        assert_eq!(text, (2, vec![Some(0), Some(4), None]));
        let odd = offsets(&[(1, 1), (-1, 4), (4, 4)]);
        assert_eq!(odd, (1, vec![Some(0), None, None]));
    }

    #[test]
    fn missing_values() {
        let array = |data: &[u8]| {
            let mut out = Vec::new();
            for word in [1_u32, 0, 23, 1, 1] {
                out.extend_from_slice(&word.to_le_bytes());
            }
            out.extend_from_slice(data);
            out
        };
        let int = Storage {
            length: 4,
            align: 4,
        };
        let text = Storage {
            length: -1,
            align: 4,
        };
        assert_eq!(
            missing_value(&array(&[5, 0, 0, 0]), int),
            Ok(vec![5, 0, 0, 0])
        );
        let long = [6 << 2, 0, 0, 0, b'h', b'i'];
        assert_eq!(missing_value(&array(&long), text), Ok(b"hi".to_vec()));
        for cut in 0..24 {
            missing_value(&array(&[5, 0, 0, 0])[..cut], int).unwrap_err();
        }
    }
}
