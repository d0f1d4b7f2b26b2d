//! Reading catalog rows as a transaction sees them, by key.

use std::borrow::Cow;
use std::sync::Arc;

use redostream_protocol::schema::Name;
use redostream_protocol::{DatabaseOid, Oid, RelFileNode, Xid};

use super::CatalogError;
use super::detoast;
use super::index::{Tid, TupleId};
use super::layout::{CatalogColumn, CatalogLayout, align_bytes, oid};
use super::store::Store;
use super::tuple::{self, Storage};
use super::visibility::Visibility;
use crate::gate::transactions::Transactions;

/// The catalogs of one database as one transaction sees them.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) store: &'a Store,
    pub(crate) database: DatabaseOid,
    pub(crate) viewer: Option<Xid>,
    pub(crate) transactions: &'a Transactions,
}

impl<'a> View<'a> {
    pub(crate) fn visibility(&self) -> Visibility<'a> {
        Visibility {
            viewer: self.viewer,
            transactions: self.transactions,
            commit_log: &self.store.commit_log,
            multixacts: &self.store.multixacts,
        }
    }

    /// The visible rows of `catalog` whose column `key` is `value`, in order of place.
    pub(crate) fn rows(
        &self,
        catalog: Oid,
        key: &'static str,
        value: u32,
    ) -> Result<Vec<Row<'a>>, CatalogError> {
        let layout = self.layout(catalog)?;
        let at = layout
            .fixed_offset(key)
            .ok_or(self.no_catalog(catalog, "a key column is missing"))?;
        let node = self.file_of(catalog)?;
        let Some(file) = self.store.file(node) else {
            return self.empty(catalog, node);
        };
        let visibility = self.visibility();
        let mut rows = Vec::new();
        for tid in file.find(at, value) {
            let Some(Ok(tuple)) = file.page(tid.block).map(|page| page.tuple(tid.offset)) else {
                continue;
            };
            if visibility.sees(tuple) {
                rows.push(self.row(catalog, TupleId { node, tid }, tuple, &layout));
            }
        }
        Ok(rows)
    }

    /// The one visible row of `catalog` whose column `key` is `value`.
    pub(crate) fn row_of(
        &self,
        catalog: Oid,
        key: &'static str,
        value: Oid,
    ) -> Result<Option<Row<'a>>, CatalogError> {
        Ok(self.rows(catalog, key, value.0)?.pop())
    }

    /// As [`View::row_of`], but the row must be there.
    pub(crate) fn object(
        &self,
        what: &'static str,
        catalog: Oid,
        value: Oid,
    ) -> Result<Row<'a>, CatalogError> {
        let row = self.row_of(catalog, "oid", value)?;
        row.ok_or(CatalogError::NoObject {
            what,
            oid: value,
            database: self.database,
        })
    }

    /// The name of a schema; empty for one that is not there. Sessions that create and drop at the
    /// same time can leave an object whose schema is gone, and the server then gives the object's
    /// name alone.
    // pg: utils/cache/lsyscache.c get_namespace_name [14-18]
    pub(crate) fn schema_name(&self, oid: Oid) -> Result<Name, CatalogError> {
        match self.row_of(oid::NAMESPACE, "oid", oid)? {
            Some(row) => row.name("nspname"),
            None => Ok(Name::default()),
        }
    }

    /// Every visible row of a catalog.
    pub(crate) fn scan(&self, catalog: Oid) -> Result<Vec<Row<'a>>, CatalogError> {
        let layout = self.layout(catalog)?;
        let node = self.file_of(catalog)?;
        let Some(file) = self.store.file(node) else {
            return self.empty(catalog, node);
        };
        let visibility = self.visibility();
        let mut rows = Vec::new();
        for (block, page) in file.pages() {
            for (offset, tuple) in page.tuples() {
                if visibility.sees(tuple) {
                    let tid = Tid { block, offset };
                    rows.push(self.row(catalog, TupleId { node, tid }, tuple, &layout));
                }
            }
        }
        Ok(rows)
    }

    /// A catalog without pages: one that was rewritten while it was empty has a file that nobody has
    /// written to yet.
    fn empty(&self, catalog: Oid, node: RelFileNode) -> Result<Vec<Row<'a>>, CatalogError> {
        if self.store.consistent && self.store.owner(node) == Some(catalog) {
            return Ok(Vec::new());
        }
        Err(self.no_catalog(catalog, "its file is not there"))
    }

    fn row(
        &self,
        catalog: Oid,
        id: TupleId,
        tuple: &'a [u8],
        layout: &Arc<CatalogLayout>,
    ) -> Row<'a> {
        Row {
            view: *self,
            catalog,
            id,
            tuple,
            layout: Arc::clone(layout),
        }
    }

    /// The file of a catalog.
    pub(crate) fn file_of(&self, catalog: Oid) -> Result<RelFileNode, CatalogError> {
        let writer = self.viewer.and_then(|xid| self.store.writers.get(&xid));
        if let Some(node) = writer.and_then(|writer| writer.mapped_file(self.database, catalog)) {
            return Ok(node);
        }
        if let Some(node) = self.store.shared_file(catalog) {
            return Ok(node);
        }
        let home = self.home()?;
        if let Some(node) = self.store.mapped_file(self.database, home, catalog) {
            return Ok(node);
        }
        if catalog == oid::CLASS {
            return Err(self.no_catalog(catalog, "the relation map does not name it"));
        }
        let Some(class) = self.row_of(oid::CLASS, "oid", catalog)? else {
            return Err(self.no_catalog(catalog, "pg_class does not name it"));
        };
        let tablespace = class.oid("reltablespace")?;
        Ok(RelFileNode {
            tablespace: if tablespace.is_valid() {
                tablespace
            } else {
                home
            },
            database: self.database,
            relation: class.oid("relfilenode")?,
        })
    }

    /// The tablespace that the database's directory with its relation map is in.
    pub(crate) fn home(&self) -> Result<Oid, CatalogError> {
        let mut homes = self.store.homes_of(self.database);
        let first = homes
            .next()
            .ok_or(self.no_catalog(oid::CLASS, "the database has no relation map"))?;
        if homes.next().is_none() {
            return Ok(first);
        }
        // The database is being moved: its row says where it is.
        let committed = View {
            viewer: None,
            ..*self
        };
        match committed.row_of(oid::DATABASE, "oid", self.database)? {
            Some(row) => row.oid("dattablespace"),
            None => Ok(first),
        }
    }

    /// The layout of a catalog.
    pub(crate) fn layout(&self, catalog: Oid) -> Result<Arc<CatalogLayout>, CatalogError> {
        let (layouts, major) = (&self.store.layouts, self.store.format.major);
        // Shared catalogs are described in every database alike; any will do.
        let database = match self.database {
            Oid::INVALID => {
                let mut all = self.store.homes().map(|(database, _)| database);
                let whole = all.find(|database| !self.store.filling.contains(database));
                whole.ok_or(self.no_catalog(catalog, "no database is known"))?
            }
            given => given,
        };
        if let Some(layout) = layouts.get(major, database, catalog) {
            return Ok(layout);
        }
        let committed = View {
            viewer: None,
            database,
            ..*self
        };
        let mut columns = Vec::new();
        for row in committed.rows(oid::ATTRIBUTE, "attrelid", catalog.0)? {
            let number = row.i16("attnum")?;
            if number > 0 {
                let column = CatalogColumn {
                    name: row.name("attname")?.lossy().into_owned(),
                    storage: Storage {
                        length: row.i16("attlen")?,
                        align: align_bytes(row.byte("attalign")?),
                    },
                    nullable: row.byte("attnotnull")? == 0,
                };
                columns.push((number, column));
            }
        }
        columns.sort_unstable_by_key(|(number, _)| *number);
        let unbroken = (1..).zip(&columns).all(|(n, (number, _))| n == *number);
        if columns.is_empty() || !unbroken {
            return Err(self.no_catalog(catalog, "pg_attribute does not describe it"));
        }
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        let layout = Arc::new(CatalogLayout::new(catalog, columns));
        // Before the consistency point rows may still be missing.
        if self.store.consistent {
            layouts.put(database, catalog, Arc::clone(&layout));
        }
        Ok(layout)
    }

    pub(crate) fn no_catalog(&self, catalog: Oid, problem: &'static str) -> CatalogError {
        CatalogError::NoCatalog {
            database: self.database,
            catalog,
            problem,
        }
    }
}

/// One row of a catalog.
#[derive(Clone)]
pub(crate) struct Row<'a> {
    view: View<'a>,
    catalog: Oid,
    id: TupleId,
    tuple: &'a [u8],
    layout: Arc<CatalogLayout>,
}

impl<'a> Row<'a> {
    /// A column's value: fixed-width ones as stored, varlena ones whole and without their header.
    pub(crate) fn value(&self, column: &str) -> Result<Option<Cow<'a, [u8]>>, CatalogError> {
        let Some(position) = self.layout.position(column) else {
            return Err(self.bad(format!("there is no column {column}")));
        };
        let stored = tuple::attribute(self.tuple, self.layout.storage(), position)
            .map_err(|problem| self.bad(format!("{column}: {problem}")))?;
        let length = self.layout.columns[position].storage.length;
        match (stored, length) {
            (None, _) => Ok(None),
            (Some(stored), -1) => detoast::payload(&self.view, stored)
                .map(Some)
                .map_err(|problem| self.bad(format!("{column}: {problem}"))),
            (Some(stored), _) => Ok(Some(Cow::Borrowed(stored))),
        }
    }

    /// A fixed-width column that is never null.
    fn fixed<const N: usize>(&self, column: &str) -> Result<[u8; N], CatalogError> {
        let value = self.value(column)?;
        let bytes = value.as_deref().and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| self.bad(format!("{column} is not {N} bytes")))
    }

    pub(crate) fn oid(&self, column: &str) -> Result<Oid, CatalogError> {
        Ok(Oid(u32::from_le_bytes(self.fixed(column)?)))
    }

    pub(crate) fn u32(&self, column: &str) -> Result<u32, CatalogError> {
        Ok(u32::from_le_bytes(self.fixed(column)?))
    }

    pub(crate) fn i32(&self, column: &str) -> Result<i32, CatalogError> {
        Ok(i32::from_le_bytes(self.fixed(column)?))
    }

    pub(crate) fn i16(&self, column: &str) -> Result<i16, CatalogError> {
        Ok(i16::from_le_bytes(self.fixed(column)?))
    }

    /// A whole number, whatever its width: some have changed it between versions.
    pub(crate) fn whole(&self, column: &str) -> Result<i64, CatalogError> {
        let value = self.value(column)?.unwrap_or_default();
        let mut bytes = match value.last() {
            Some(last) if last & 0x80 != 0 => [0xFF; 8],
            _ => [0; 8],
        };
        let Some(place) = bytes.get_mut(..value.len()) else {
            return Err(self.bad(format!("{column} is no number")));
        };
        place.copy_from_slice(&value);
        Ok(i64::from_le_bytes(bytes))
    }

    /// Checksum of all columns but one, as they are stored.
    pub(crate) fn checksum(&self, except: Option<&str>) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        for (position, column) in self.layout.columns.iter().enumerate() {
            if except == Some(column.name.as_str()) {
                continue;
            }
            let stored = tuple::attribute(self.tuple, self.layout.storage(), position);
            if let Ok(Some(stored)) = stored {
                hasher.update(&[1]);
                hasher.update(stored);
            } else {
                hasher.update(&[0]);
            }
        }
        hasher.finalize()
    }

    /// The server's major version.
    pub(crate) fn major(&self) -> u16 {
        self.view.store.format.major
    }

    /// A `"char"`, or a boolean as 0 or 1.
    pub(crate) fn byte(&self, column: &str) -> Result<u8, CatalogError> {
        Ok(u8::from_le_bytes(self.fixed(column)?))
    }

    pub(crate) fn flag(&self, column: &str) -> Result<bool, CatalogError> {
        Ok(self.byte(column)? != 0)
    }

    /// A column of type `name`.
    pub(crate) fn name(&self, column: &str) -> Result<Name, CatalogError> {
        let bytes: [u8; 64] = self.fixed(column)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(64);
        Ok(Name(bytes[..end].to_vec()))
    }

    /// An `int2vector` column.
    // pg: c.h int2vector [14-18]: dimensions, offset, element type, size, lower bound, values
    pub(crate) fn numbers(&self, column: &str) -> Result<Vec<i16>, CatalogError> {
        let value = self.value(column)?.unwrap_or_default();
        let values = value.get(20..).unwrap_or_default();
        let pairs = values.chunks_exact(2);
        Ok(pairs
            .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
            .collect())
    }

    /// An `oidvector` column.
    // pg: c.h oidvector [14-18]: as int2vector
    pub(crate) fn oids(&self, column: &str) -> Result<Vec<Oid>, CatalogError> {
        let value = self.value(column)?.unwrap_or_default();
        let values = value.get(20..).unwrap_or_default();
        let words = values.chunks_exact(4);
        Ok(words
            .map(|word| Oid(u32::from_le_bytes([word[0], word[1], word[2], word[3]])))
            .collect())
    }

    pub(crate) fn bad(&self, problem: String) -> CatalogError {
        CatalogError::Tuple {
            database: self.view.database,
            catalog: self.catalog,
            block: self.id.tid.block,
            offset: self.id.tid.offset,
            problem,
        }
    }
}

/// The chunks of a TOASTed value of a catalog, in order of place.
pub(crate) fn toast_chunks<'a>(
    view: &View<'a>,
    toast: Oid,
    value: u32,
) -> Result<Vec<&'a [u8]>, &'static str> {
    let node = view
        .file_of(toast)
        .map_err(|_| "its TOAST table cannot be found")?;
    let file = view
        .store
        .file(node)
        .ok_or("its TOAST table is not there")?;
    let visibility = view.visibility();
    let tids = file.find(0, value).into_iter();
    let tuples = tids.filter_map(|tid| file.page(tid.block)?.tuple(tid.offset).ok());
    Ok(tuples.filter(|tuple| visibility.inserted(tuple)).collect())
}

/// How a TOAST table's three columns are stored: value id, chunk number, data.
// pg: catalog/toasting.c create_toast_table [14-18]
pub(crate) const TOAST_COLUMNS: [Storage; 3] = [
    Storage {
        length: 4,
        align: 4,
    },
    Storage {
        length: 4,
        align: 4,
    },
    Storage {
        length: -1,
        align: 4,
    },
];

/// The layout of a catalog, for those who look at raw tuples; `None` if it cannot be read.
pub(crate) fn layout_of(
    store: &Store,
    database: DatabaseOid,
    catalog: Oid,
) -> Option<Arc<CatalogLayout>> {
    let transactions = Transactions::default();
    let view = View {
        store,
        database,
        viewer: None,
        transactions: &transactions,
    };
    view.layout(catalog).ok()
}
