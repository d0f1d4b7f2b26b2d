//! Describing a data type: its shape, its text name, what both depend on.

use std::sync::Arc;

use redostream_protocol::limits::{TYPE_NESTING_MAX, TYPE_PARTS_MAX};
use redostream_protocol::render::identifier::push_identifier;
use redostream_protocol::schema::{
    CompositeField, EnumLabel, Name, OutputFunction, TypeDesc, TypeShape,
};
use redostream_protocol::{DatabaseOid, Oid};

use super::CatalogError;
use super::cache::{Cache, DescribedType};
use super::layout::oid;
use super::view::{Row, View};
use super::writer::{Object, ObjectKind};
use crate::limits::{CATALOG_OID_END, DOMAIN_CHAIN_MAX};

/// `array_subscript_handler`: what makes a type with elements a true array.
// pg: catalog/pg_type.h IsTrueArrayType [14-18]
const ARRAY_SUBSCRIPT_HANDLER: Oid = Oid(6179);
/// `array_out`.
// pg: catalog/pg_proc.dat array_out [14-18]
const ARRAY_OUT: Oid = Oid(751);
/// `pg_catalog`, which is searched whatever the `search_path`.
pub(crate) const PG_CATALOG: Oid = Oid(11);

/// Types that SQL has words for, which `format_type` prints instead of their names.
// pg: utils/adt/format_type.c format_type_extended [14-18]
const SQL_NAMES: [(u32, &str); 17] = [
    (16, "boolean"),
    (20, "bigint"),
    (21, "smallint"),
    (23, "integer"),
    (114, "json"),
    (700, "real"),
    (701, "double precision"),
    (1042, "character"),
    (1043, "character varying"),
    (1083, "time without time zone"),
    (1114, "timestamp without time zone"),
    (1184, "timestamp with time zone"),
    (1186, "interval"),
    (1266, "time with time zone"),
    (1560, "bit"),
    (1562, "bit varying"),
    (1700, "numeric"),
];

/// Output functions whose text depends on other catalog rows.
// pg: utils/adt/regproc.c, utils/adt/acl.c [14-18]
pub(crate) const NEEDS_CATALOG: [&str; 12] = [
    "regprocout",
    "regprocedureout",
    "regoperout",
    "regoperatorout",
    "regclassout",
    "regtypeout",
    "regcollationout",
    "regconfigout",
    "regdictionaryout",
    "regroleout",
    "regnamespaceout",
    "aclitemout",
];

/// A type's description, and what is to be known of it as a part of others.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) desc: Arc<TypeDesc>,
    /// Whether its text needs the catalog.
    pub(crate) needs_catalog: bool,
    /// How deep it is nested; 1 for a type that has no other in it.
    levels: usize,
    /// How many descriptions it consists of.
    parts: usize,
}

/// What a type is made of, and what of that is known.
struct Made {
    shape: TypeShape,
    needs_catalog: bool,
    levels: usize,
    parts: usize,
}

impl Made {
    /// Of nothing else.
    const fn plain(shape: TypeShape, needs_catalog: bool) -> Self {
        Made {
            shape,
            needs_catalog,
            levels: 1,
            parts: 1,
        }
    }

    fn of(inner: Described, shape: impl FnOnce(Arc<TypeDesc>) -> TypeShape) -> Self {
        Made {
            needs_catalog: inner.needs_catalog,
            levels: inner.levels + 1,
            parts: inner.parts + 1,
            shape: shape(inner.desc),
        }
    }
}

/// Describes types in one view, noting what the descriptions depend on.
pub(crate) struct Describer<'a, 'c> {
    pub(crate) view: View<'a>,
    pub(crate) cache: &'c mut Cache,
    /// What was looked at since the start, or since it was taken.
    pub(crate) depends_on: Vec<Object>,
}

impl Describer<'_, '_> {
    /// Notes a dependency. What `initdb` pinned does not change.
    pub(crate) fn depend(&mut self, kind: ObjectKind, oid: Oid) {
        if oid.0 < CATALOG_OID_END && kind != ObjectKind::Database {
            return;
        }
        let database = match kind {
            ObjectKind::Database => DatabaseOid::INVALID,
            _ => self.view.database,
        };
        let object = Object {
            database,
            kind,
            oid,
        };
        if !self.depends_on.contains(&object) {
            self.depends_on.push(object);
        }
    }

    /// The name of a schema; empty for one that is not there.
    pub(crate) fn schema(&mut self, oid: Oid) -> Result<Name, CatalogError> {
        self.depend(ObjectKind::Schema, oid);
        self.view.schema_name(oid)
    }

    /// A type that stands `depth` levels inside another.
    pub(crate) fn describe(&mut self, oid: Oid, depth: usize) -> Result<Described, CatalogError> {
        if depth >= TYPE_NESTING_MAX {
            return Err(self.too_deep(oid));
        }
        let writer = self
            .view
            .viewer
            .and_then(|top| self.view.store.writers.get(&top));
        if let Some(known) = self
            .cache
            .known_type(self.view.database, oid, writer.map(Arc::as_ref))
        {
            let known = known.clone();
            for object in known.depends_on.iter() {
                if !self.depends_on.contains(object) {
                    self.depends_on.push(*object);
                }
            }
            return Ok(known.described);
        }
        let outer = std::mem::take(&mut self.depends_on);
        let built = self.build(oid, depth);
        let own = std::mem::replace(&mut self.depends_on, outer);
        let described = built?;
        for object in &own {
            if !self.depends_on.contains(object) {
                self.depends_on.push(*object);
            }
        }
        if self.view.viewer.is_none() {
            let kept = DescribedType {
                described: described.clone(),
                depends_on: own.into(),
            };
            self.cache.put_type(self.view.database, oid, kept);
        }
        Ok(described)
    }

    const fn too_deep(&self, oid: Oid) -> CatalogError {
        CatalogError::TooDeep {
            oid,
            database: self.view.database,
        }
    }

    fn build(&mut self, oid: Oid, depth: usize) -> Result<Described, CatalogError> {
        self.depend(ObjectKind::Type, oid);
        let Some(row) = self.view.row_of(oid::TYPE, "oid", oid)? else {
            let desc = Arc::new(gone(oid));
            return Ok(Described {
                desc,
                needs_catalog: false,
                levels: 1,
                parts: 1,
            });
        };
        let namespace = row.oid("typnamespace")?;
        let schema = self.schema(namespace)?;
        let name = row.name("typname")?;
        let element = row.oid("typelem")?;
        let is_array = element.is_valid() && row.oid("typsubscript")? == ARRAY_SUBSCRIPT_HANDLER;
        let made = self.shape(oid, &row, element, is_array, depth)?;
        // Parts that were known already have not been counted by `depth`.
        if made.levels > TYPE_NESTING_MAX || made.parts > TYPE_PARTS_MAX {
            return Err(self.too_deep(oid));
        }
        let shape = made.shape;
        let major = self.view.store.format.major;
        let formatted = match &shape {
            TypeShape::Array { element, .. } if row.byte("typstorage")? != b'p' => {
                let mut text = element.formatted.0.clone();
                text.extend_from_slice(b"[]");
                Name(text)
            }
            _ => format_type(oid, namespace, &schema, &name, major),
        };
        let desc = TypeDesc {
            oid,
            schema,
            name,
            formatted,
            length: row.i16("typlen")?,
            align: row.byte("typalign")?,
            shape,
        };
        Ok(Described {
            desc: Arc::new(desc),
            needs_catalog: made.needs_catalog,
            levels: made.levels,
            parts: made.parts,
        })
    }

    fn shape(
        &mut self,
        oid: Oid,
        row: &Row<'_>,
        element: Oid,
        is_array: bool,
        depth: usize,
    ) -> Result<Made, CatalogError> {
        let below = depth + 1;
        Ok(match row.byte("typtype")? {
            b'c' => self.composite(oid, row.oid("typrelid")?, below)?,
            b'd' => {
                let base = self.below_domains(row.oid("typbasetype")?)?;
                Made::of(self.describe(base, below)?, TypeShape::Domain)
            }
            b'e' => Made::plain(TypeShape::Enum(self.labels(oid)?), false),
            b'r' => {
                let subtype = self.range_column("rngtypid", oid, "rngsubtype")?;
                Made::of(self.describe(subtype, below)?, TypeShape::Range)
            }
            b'm' => {
                let range = self.range_column("rngmultitypid", oid, "rngtypid")?;
                Made::of(self.describe(range, below)?, TypeShape::Multirange)
            }
            _ if is_array && row.oid("typoutput")? == ARRAY_OUT => {
                let described = self.describe(element, below)?;
                let of_element = self.view.row_of(oid::TYPE, "oid", element)?;
                let delimiter = of_element.map_or(Ok(b','), |row| row.byte("typdelim"))?;
                Made::of(described, |element| TypeShape::Array { element, delimiter })
            }
            _ => {
                let output = self.output_function(row.oid("typoutput")?)?;
                let needs =
                    output.library.is_empty() && NEEDS_CATALOG.contains(&output.symbol.as_str());
                Made::plain(TypeShape::Base(output), needs)
            }
        })
    }

    /// The type itself, or the one below all domains that it begins.
    // pg: utils/cache/lsyscache.c getBaseType [14-18]
    fn below_domains(&mut self, oid: Oid) -> Result<Oid, CatalogError> {
        let mut at = oid;
        for _ in 0..DOMAIN_CHAIN_MAX {
            let Some(row) = self.view.row_of(oid::TYPE, "oid", at)? else {
                return Ok(at);
            };
            if row.byte("typtype")? != b'd' {
                return Ok(at);
            }
            self.depend(ObjectKind::Type, at);
            at = row.oid("typbasetype")?;
        }
        Err(self.too_deep(oid))
    }

    fn range_column(
        &self,
        key: &'static str,
        value: Oid,
        column: &'static str,
    ) -> Result<Oid, CatalogError> {
        let row = self.view.row_of(oid::RANGE, key, value)?;
        let row = row.ok_or(CatalogError::NoObject {
            what: "range of type",
            oid: value,
            database: self.view.database,
        })?;
        row.oid(column)
    }

    fn labels(&self, oid: Oid) -> Result<Vec<EnumLabel>, CatalogError> {
        let mut labels = Vec::new();
        for row in self.view.rows(oid::ENUM, "enumtypid", oid.0)? {
            labels.push(EnumLabel {
                oid: row.oid("oid")?,
                sort_bits: row.u32("enumsortorder")?,
                label: row.name("enumlabel")?,
            });
        }
        labels.sort_unstable_by_key(|label| label.oid);
        Ok(labels)
    }

    fn composite(&mut self, oid: Oid, relation: Oid, depth: usize) -> Result<Made, CatalogError> {
        self.depend(ObjectKind::Relation, relation);
        let mut fields = Vec::new();
        let mut made = Made::plain(TypeShape::Composite(Vec::new()), false);
        for row in self.view.rows(oid::ATTRIBUTE, "attrelid", relation.0)? {
            let number = row.i16("attnum")?;
            if number <= 0 {
                continue;
            }
            let data_type = if row.flag("attisdropped")? {
                None
            } else {
                let described = self.describe(row.oid("atttypid")?, depth)?;
                made.needs_catalog |= described.needs_catalog;
                made.levels = made.levels.max(described.levels + 1);
                made.parts += described.parts;
                // At once, before more of the same is looked at.
                if made.parts > TYPE_PARTS_MAX {
                    return Err(self.too_deep(oid));
                }
                Some(described.desc)
            };
            let field = CompositeField {
                name: row.name("attname")?,
                data_type,
                length: row.i16("attlen")?,
                align: row.byte("attalign")?,
            };
            fields.push((number, field));
        }
        fields.sort_unstable_by_key(|(number, _)| *number);
        let fields = fields.into_iter().map(|(_, field)| field).collect();
        made.shape = TypeShape::Composite(fields);
        Ok(made)
    }

    fn output_function(&mut self, oid: Oid) -> Result<OutputFunction, CatalogError> {
        self.depend(ObjectKind::Function, oid);
        let Some(row) = self.view.row_of(oid::PROC, "oid", oid)? else {
            return Ok(UNKNOWN_OUTPUT);
        };
        let text = |column| -> Result<String, CatalogError> {
            let value = row.value(column)?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&value).into_owned())
        };
        Ok(OutputFunction {
            symbol: text("prosrc")?,
            library: text("probin")?,
        })
    }
}

/// What is printed for a type that is not there.
// pg: utils/adt/format_type.c format_type_extended [14-18]
const GONE: &str = "???";

/// An output function that nobody knows: values are given as their bytes.
const UNKNOWN_OUTPUT: OutputFunction = OutputFunction {
    symbol: String::new(),
    library: String::new(),
};

/// A type that a column names and that is not there. Sessions that create and drop at the same time
/// can leave that behind; it must not stop those who have nothing to do with the table.
fn gone(oid: Oid) -> TypeDesc {
    TypeDesc {
        oid,
        schema: Name::default(),
        name: Name::from(GONE),
        formatted: Name::from(GONE),
        length: -1,
        align: b'i',
        shape: TypeShape::Base(UNKNOWN_OUTPUT),
    }
}

/// A type's name as `format_type` prints it with an empty `search_path`, for types that are not
/// arrays.
pub(crate) fn format_type(
    oid: Oid,
    namespace: Oid,
    schema: &Name,
    name: &Name,
    major: u16,
) -> Name {
    let sql_name = SQL_NAMES.iter().find(|(known, _)| *known == oid.0);
    if let Some((_, text)) = sql_name {
        return Name::from(*text);
    }
    let mut out = Vec::new();
    // A schema that is gone has no name.
    if namespace != PG_CATALOG && !schema.as_bytes().is_empty() {
        push_identifier(&mut out, schema.as_bytes(), major);
        out.push(b'.');
    }
    push_identifier(&mut out, name.as_bytes(), major);
    Name(out)
}

/// As above for any type by its OID, also for one that is not there.
pub(crate) fn format_type_of(
    view: &View<'_>,
    oid: Oid,
    depth: usize,
) -> Result<Name, CatalogError> {
    let Some(row) = view.row_of(oid::TYPE, "oid", oid)? else {
        return Ok(Name::from(GONE));
    };
    let element = row.oid("typelem")?;
    let is_array = element.is_valid()
        && row.oid("typsubscript")? == ARRAY_SUBSCRIPT_HANDLER
        && row.byte("typstorage")? != b'p';
    if is_array {
        if depth > TYPE_NESTING_MAX {
            let database = view.database;
            return Err(CatalogError::TooDeep { oid, database });
        }
        let mut name = format_type_of(view, element, depth + 1)?;
        name.0.extend_from_slice(b"[]");
        return Ok(name);
    }
    let namespace = row.oid("typnamespace")?;
    let schema = if namespace == PG_CATALOG {
        Name::default()
    } else {
        view.schema_name(namespace)?
    };
    let name = row.name("typname")?;
    Ok(format_type(
        oid,
        namespace,
        &schema,
        &name,
        view.store.format.major,
    ))
}
