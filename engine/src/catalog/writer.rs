//! What an open transaction has done to catalogs: enough to know which cached relations it
//! changes, for itself at once and for everybody at its commit.

use redostream_protocol::{DatabaseOid, Oid, RelFileNode};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use super::index::Tid;
use super::layout::oid;

/// What kind of thing a catalog row describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ObjectKind {
    /// A relation: `pg_class` and everything keyed by a relation's OID.
    Relation,
    /// A file number, as `pg_class.relfilenode` names it.
    File,
    /// A type: `pg_type`, `pg_enum`, `pg_range`.
    Type,
    /// A schema.
    Schema,
    /// A function.
    Function,
    /// A database.
    Database,
}

/// One thing that catalog rows describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Object {
    /// Its database, 0 for databases themselves.
    pub database: DatabaseOid,
    /// What it is.
    pub kind: ObjectKind,
    /// Its OID.
    pub oid: Oid,
}

/// Catalogs whose rows say what they belong to: catalog, column, kind.
pub(crate) const KEYS: [(Oid, &str, ObjectKind); 14] = [
    (oid::CLASS, "oid", ObjectKind::Relation),
    (oid::CLASS, "relfilenode", ObjectKind::File),
    (oid::ATTRIBUTE, "attrelid", ObjectKind::Relation),
    (oid::INDEX, "indrelid", ObjectKind::Relation),
    (oid::ATTRDEF, "adrelid", ObjectKind::Relation),
    (oid::CONSTRAINT, "conrelid", ObjectKind::Relation),
    (oid::INHERITS, "inhrelid", ObjectKind::Relation),
    (oid::TYPE, "oid", ObjectKind::Type),
    (oid::ENUM, "enumtypid", ObjectKind::Type),
    (oid::RANGE, "rngtypid", ObjectKind::Type),
    (oid::RANGE, "rngmultitypid", ObjectKind::Type),
    (oid::NAMESPACE, "oid", ObjectKind::Schema),
    (oid::PROC, "oid", ObjectKind::Function),
    (oid::DATABASE, "oid", ObjectKind::Database),
];

/// One open transaction.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Writer {
    /// What its rows describe.
    pub(crate) touched: FxHashSet<Object>,
    /// It may have touched more than is listed: it wrote before the catalog could be trusted.
    pub(crate) everything: bool,
    /// Rises with each change of what the transaction sees.
    pub(crate) changes: u64,
    /// Mapped catalogs it has rewritten and reads in their new files, before the map says so:
    /// database (0 for shared), catalog, file.
    pub(crate) mapped: Vec<(DatabaseOid, Oid, RelFileNode)>,
    /// Tuples that it has ended, as far as they were noted: at its commit their rows are let go.
    /// After a restart those from before it stay.
    #[serde(skip)]
    pub(crate) ended: Vec<(RelFileNode, Tid)>,
}

impl Writer {
    /// One of which nothing is known.
    pub(crate) fn unknown() -> Writer {
        Writer {
            everything: true,
            ..Writer::default()
        }
    }

    /// The file in which this transaction reads a mapped catalog, if not the map's.
    pub(crate) fn mapped_file(&self, database: DatabaseOid, catalog: Oid) -> Option<RelFileNode> {
        let all = self.mapped.iter().rev();
        let mut of_catalog =
            all.filter(|(at, oid, _)| *oid == catalog && (*at == database || !at.is_valid()));
        of_catalog.next().map(|(_, _, node)| *node)
    }
}
