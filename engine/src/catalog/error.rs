//! What can be wrong while catalog pages are replayed or read.

use redostream_protocol::cursor::ShortInput;
use redostream_protocol::{DatabaseOid, Lsn, Oid, RelFileNode, Xid};

use super::pages::PageError;

/// What keeps the catalog from being replayed or read.
///
/// None of these can be retried on the same input: the log, the copied files, or a server of an
/// unknown kind is behind each of them. Decoding stops at the record; take a new copy of the data
/// directory and start again from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// A record contradicts itself.
    #[error("malformed {record} record at {lsn}: {short}")]
    Record {
        /// Its start.
        lsn: Lsn,
        /// What kind of record it is.
        record: &'static str,
        /// What is missing or left over.
        short: ShortInput,
    },
    /// A record says something impossible.
    #[error("malformed {record} record at {lsn}: {problem}")]
    Malformed {
        /// Its start.
        lsn: Lsn,
        /// What kind of record it is.
        record: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A record does not fit the page it changes: the copy of the catalog is not of this log, or
    /// a record before was missed.
    #[error(
        "record at {lsn} does not fit block {block} of catalog file {node} (page LSN {page_lsn}): {error}; \
         the copied catalog does not belong to this WAL, take a new copy"
    )]
    Replay {
        /// Start of the record.
        lsn: Lsn,
        /// The file.
        node: RelFileNode,
        /// The block.
        block: u32,
        /// The page's LSN before the record.
        page_lsn: Lsn,
        /// What does not fit.
        error: PageError,
    },
    /// A block that a record changes is not there.
    #[error(
        "record at {lsn} changes block {block} of catalog file {node}, which the copy lacks; take a new copy"
    )]
    MissingBlock {
        /// Start of the record.
        lsn: Lsn,
        /// The file.
        node: RelFileNode,
        /// The block.
        block: u32,
    },
    /// A full-page image does not decompress to a page.
    #[error("full-page image in the record at {lsn} for block {block} of {node}: {problem}")]
    Image {
        /// Start of the record.
        lsn: Lsn,
        /// The file.
        node: RelFileNode,
        /// The block.
        block: u32,
        /// What is wrong.
        problem: &'static str,
    },
    /// A catalog tuple contradicts its layout.
    #[error("catalog {catalog} of database {database}: tuple ({block},{offset}): {problem}")]
    Tuple {
        /// Database, 0 for shared catalogs.
        database: DatabaseOid,
        /// `pg_class.oid` of the catalog.
        catalog: Oid,
        /// Block.
        block: u32,
        /// Line pointer.
        offset: u16,
        /// What is wrong.
        problem: String,
    },
    /// A catalog has no file, or no description of itself.
    #[error("catalog {catalog} of database {database} cannot be read: {problem}")]
    NoCatalog {
        /// Database, 0 for shared catalogs.
        database: DatabaseOid,
        /// `pg_class.oid` of the catalog.
        catalog: Oid,
        /// What is missing.
        problem: &'static str,
    },
    /// Another object is named that cannot be seen.
    #[error("{what} {oid} of database {database} is named by another catalog row but not there")]
    NoObject {
        /// What kind of object.
        what: &'static str,
        /// Its OID.
        oid: Oid,
        /// Database.
        database: DatabaseOid,
    },
    /// A row's file belongs to no relation that its transaction can see.
    #[error("no relation of file {node} is visible to {}", viewer_text(*.viewer))]
    NoRelation {
        /// The file.
        node: RelFileNode,
        /// The transaction, if one was asked for.
        viewer: Option<Xid>,
    },
    /// A value that an output function cannot have been given.
    #[error("{symbol} has no text for a value of {bytes} bytes")]
    Value {
        /// The output function.
        symbol: String,
        /// Bytes of the value.
        bytes: usize,
    },
    /// A type is nested more deeply, or has more parts, than is followed (`TYPE_NESTING_MAX`,
    /// `TYPE_PARTS_MAX` of the protocol's limits); or it refers to itself.
    #[error("type {oid} of database {database} is nested too deeply")]
    TooDeep {
        /// The type.
        oid: Oid,
        /// Database.
        database: DatabaseOid,
    },
}

impl CatalogError {
    /// Whether it concerns the object that was looked at and nothing else: everything that does
    /// not use it can be read.
    #[must_use]
    pub(crate) const fn is_of_one_object(&self) -> bool {
        matches!(
            self,
            CatalogError::Tuple { .. }
                | CatalogError::NoObject { .. }
                | CatalogError::Value { .. }
                | CatalogError::TooDeep { .. }
        )
    }
}

fn viewer_text(viewer: Option<Xid>) -> String {
    match viewer {
        Some(xid) => format!("transaction {xid}"),
        None => "new transactions".to_owned(),
    }
}
