//! Questions about the catalogs as they are now, from threads that do not decode.
//!
//! Nothing is done until somebody asks: then the gate, when it next has a moment, gives out an
//! unchanging copy, which shares its pages with the catalog.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use redostream_protocol::schema::Database;
use redostream_protocol::{DatabaseOid, Oid};

use super::layout::oid;
use super::resolve::database_of;
use super::view::View;
use super::{CatalogError, CatalogSnapshot};

/// Where a copy of the catalogs is asked for and given out.
#[derive(Debug, Default)]
pub struct CurrentCatalog {
    wanted: AtomicBool,
    given: Mutex<Option<Arc<CatalogSnapshot>>>,
    changed: Condvar,
}

impl CurrentCatalog {
    /// The catalogs as of a moment after this call began; none if the gate does not get to it
    /// within `timeout`.
    #[must_use]
    pub fn ask(&self, timeout: Duration) -> Option<Arc<CatalogSnapshot>> {
        let until = Instant::now() + timeout;
        let mut given = self.given.lock();
        // What was given before may be old.
        *given = None;
        self.wanted.store(true, Ordering::Release);
        while given.is_none() {
            if self.changed.wait_until(&mut given, until).timed_out() {
                break;
            }
        }
        given.clone()
    }

    /// Whether somebody waits.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Gives a copy to everybody who waits.
    pub fn give(&self, snapshot: Arc<CatalogSnapshot>) {
        let mut given = self.given.lock();
        self.wanted.store(false, Ordering::Release);
        *given = Some(snapshot);
        self.changed.notify_all();
    }
}

impl CatalogSnapshot {
    /// The committed databases.
    pub fn databases(&self) -> Result<Vec<Database>, CatalogError> {
        let view = self.view(DatabaseOid::INVALID);
        let rows = view.scan(oid::DATABASE)?;
        rows.iter()
            .map(|row| database_of(row, view.store.format.major))
            .collect()
    }

    /// Whether a database has a committed relation of this name, in this schema if one is given.
    pub fn has_relation(
        &self,
        database: DatabaseOid,
        schema: Option<&str>,
        name: &str,
    ) -> Result<bool, CatalogError> {
        let view = self.view(database);
        for row in view.scan(oid::CLASS)? {
            if row.name("relname")?.as_bytes() != name.as_bytes() {
                continue;
            }
            let Some(schema) = schema else {
                return Ok(true);
            };
            let namespace = view.row_of(oid::NAMESPACE, "oid", row.oid("relnamespace")?)?;
            if let Some(namespace) = namespace
                && namespace.name("nspname")?.as_bytes() == schema.as_bytes()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The columns of each committed table of a database whose schema and name `matches`.
    pub fn columns_of(
        &self,
        database: DatabaseOid,
        matches: &dyn Fn(&str, &str) -> bool,
    ) -> Result<Vec<Vec<String>>, CatalogError> {
        let view = self.view(database);
        let mut tables = Vec::new();
        for row in view.scan(oid::CLASS)? {
            // pg: catalog/pg_class.h RELKIND_RELATION, RELKIND_MATVIEW, RELKIND_PARTITIONED_TABLE
            // [14-18]
            if !matches!(row.byte("relkind")?, b'r' | b'm' | b'p') {
                continue;
            }
            let Some(namespace) = view.row_of(oid::NAMESPACE, "oid", row.oid("relnamespace")?)?
            else {
                continue;
            };
            let (schema, name) = (namespace.name("nspname")?, row.name("relname")?);
            if matches(&schema.lossy(), &name.lossy()) {
                tables.push(column_names(&view, row.oid("oid")?)?);
            }
        }
        Ok(tables)
    }
}

/// The names of a table's columns.
fn column_names(view: &View<'_>, table: Oid) -> Result<Vec<String>, CatalogError> {
    let mut names = Vec::new();
    for row in view.rows(oid::ATTRIBUTE, "attrelid", table.0)? {
        if row.i16("attnum")? > 0 && !row.flag("attisdropped")? {
            names.push(row.name("attname")?.lossy().into_owned());
        }
    }
    Ok(names)
}
