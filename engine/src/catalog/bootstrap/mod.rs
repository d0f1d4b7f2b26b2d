//! Bootstrap: a data directory to the state from which catalog replay starts.
//!
//! Takes: a data directory. Gives: catalog pages, relation maps, commit log, multixacts, and the
//! rule by which replay knows when all of it can be trusted. Keeps: nothing. Never: writes a file,
//! reads WAL, or decides what a catalog tuple means.
//!
//! ```text
//! data_directory ── control_file, backup_label ──► consistency (the rule for M)
//!       │                                                 │
//!      load ── class_rows, prepared ──► CatalogSink       ▼
//!       └──────────► Bootstrap ────────────────────► readiness (finds M, then C)
//! ```

pub mod backup_label;
pub mod class_rows;
pub mod consistency;
pub mod control_file;
pub mod data_directory;
pub mod error;
pub mod findings;
pub mod load;
pub mod prepared;
pub mod readiness;

use redostream_protocol::{DatabaseOid, Lsn, Oid, RelFileNode, Xid};

use super::commit_log::CommitLog;
use super::filenodes::RelationMap;
use super::multixact::Multixacts;

pub use consistency::{ConsistencyRule, DirectoryKind};
pub use data_directory::DataDirectory;
pub use error::BootstrapError;
pub use findings::{Finding, Severity, findings};
pub use load::{Bootstrap, load};
pub use readiness::{ConsistencyError, Readiness};

/// Takes what is loaded; the catalog is one. Called in this order: for each database itself, its
/// map and its files; then the shared map and files; then multixacts and commit log.
pub trait CatalogSink {
    /// A database has its home in `tablespace`.
    fn database(&mut self, database: DatabaseOid, tablespace: Oid);

    /// A relation map; `database` is 0 and `tablespace` 1664 for that of the shared catalogs.
    fn map(&mut self, database: DatabaseOid, tablespace: Oid, map: &RelationMap);

    /// Whole pages of a file of `catalog`, from `first_block` on, in rising order of blocks. A file
    /// that is there but empty is told with no pages.
    ///
    /// Whose file it is cannot be left to the pages of `pg_class` among those told: a rewrite of
    /// `pg_class` that ended meanwhile has cut the file that said so to nothing.
    fn file(&mut self, node: RelFileNode, catalog: Oid, first_block: u32, pages: &[u8]);

    /// Transactions from this one on begin after the redo LSN.
    fn next_xid(&mut self, _next: Xid) {}

    /// The multixacts that catalog tuples may name.
    fn multixacts(&mut self, multixacts: Multixacts);

    /// Who has committed.
    fn commit_log(&mut self, commit_log: CommitLog);
}

/// The running server that uses a data directory, or its primary.
pub trait Upstream {
    /// The LSN before which its WAL is flushed (`xlogpos` of `IDENTIFY_SYSTEM`); the error is in
    /// words for an operator.
    fn flushed_or_replayed(&self) -> Result<Lsn, String>;
}
