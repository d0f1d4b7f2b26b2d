//! Why a data directory cannot be read, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};

use redostream_protocol::{Lsn, RelFileNode};

use crate::catalog::filenodes::RelationMapError;
use crate::catalog::slru::SlruError;
use crate::limits::{CATALOG_BLOCKS_MAX, HEAP_PAGE_BYTES};

/// What keeps a data directory from being read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootstrapError {
    /// There is no such directory. Give the right one.
    #[error("{} does not exist; give the PostgreSQL data directory", .0.display())]
    NoDirectory(PathBuf),
    /// A directory, but not PostgreSQL's. Give the right one.
    #[error(
        "{} is not a PostgreSQL data directory: it has no {missing}; give the directory that SHOW data_directory names",
        path.display()
    )]
    NotADataDirectory {
        /// The directory.
        path: PathBuf,
        /// What it should have.
        missing: &'static str,
    },
    /// The files belong to somebody else. Run as that user or one of the file's group.
    #[error(
        "no permission to read {}; run as the user that owns the data directory, or start PostgreSQL's initdb with --allow-group-access and join the group",
        .0.display()
    )]
    Permission(PathBuf),
    /// Reading failed.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A version that is not supported.
    #[error(
        "{} is of PostgreSQL {found}; versions 14 to 18 (released ones, not betas) are supported",
        path.display()
    )]
    Version {
        /// The file that says so.
        path: PathBuf,
        /// The version as the file has it.
        found: String,
    },
    /// The data directory comes from another kind of machine.
    #[error("{} was written on {what}; read it on a 64-bit little-endian machine's cluster only", path.display())]
    Machine {
        /// `pg_control`.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// `pg_control` is damaged.
    #[error(
        "{} is damaged: its CRC is {stored:#010x}, its content gives {computed:#010x}; take a new base backup",
        path.display()
    )]
    ControlCrc {
        /// `pg_control`.
        path: PathBuf,
        /// CRC in the file.
        stored: u32,
        /// CRC of the content.
        computed: u32,
    },
    /// `pg_control` holds a value it cannot hold.
    #[error("{}: {problem}", path.display())]
    Control {
        /// `pg_control`.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// PostgreSQL was built with another block size.
    #[error(
        "{} says {what} is {found} bytes; only servers built with {expected} are supported",
        path.display()
    )]
    BlockSize {
        /// `pg_control`.
        path: PathBuf,
        /// Which size.
        what: &'static str,
        /// The size there.
        found: u32,
        /// The size supported.
        expected: u32,
    },
    /// The WAL does not hold what decoding needs.
    #[error(
        "wal_level is {found} ({}); set wal_level = logical on the primary and restart it",
        path.display()
    )]
    WalLevel {
        /// `pg_control`.
        path: PathBuf,
        /// The level there.
        found: &'static str,
    },
    /// An incremental backup is not a data directory by itself.
    #[error(
        "{} belongs to an incremental backup; make a full data directory of it with pg_combinebackup first",
        .0.display()
    )]
    Incremental(PathBuf),
    /// The directory is in use. Use `serve` for a running server, or stop it, or copy it.
    #[error(
        "{} is in use by a running server (process {pid}); stop it, or use a base backup, or use serve with --upstream",
        path.display()
    )]
    Running {
        /// The data directory.
        path: PathBuf,
        /// The server's process.
        pid: u32,
    },
    /// `backup_label` is not as PostgreSQL writes it.
    #[error(
        "{}: {problem}; take the file from the backup as it was written",
        path.display()
    )]
    BackupLabel {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A relation map is damaged.
    #[error("{}: {error}; take a new base backup", path.display())]
    RelationMap {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: RelationMapError,
    },
    /// A catalog is larger than what is believed of one. Rewrite it.
    #[error(
        "{} is a system catalog of more than {} GiB; make it smaller with VACUUM FULL at the primary, and take a new base backup if this is one",
        path.display(),
        (u64::from(CATALOG_BLOCKS_MAX) * HEAP_PAGE_BYTES as u64) >> 30
    )]
    CatalogTooLarge {
        /// Its first file.
        path: PathBuf,
    },
    /// The file of a prepared transaction is damaged.
    #[error("{}: {problem}; take a new base backup", path.display())]
    Prepared {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// `pg_xact` or `pg_multixact` could not be read.
    #[error(transparent)]
    Slru(#[from] SlruError),
    /// What was asked while loading changed faster than it could be read. Try again.
    #[error("{} kept changing while it was read; try again when no catalog is being rewritten", .0.display())]
    Unstable(PathBuf),
    /// A running server's pages can be torn in the copy and only full-page images mend them.
    #[error(
        "full_page_writes is off (as of the checkpoint at {checkpoint}); turn it on at the primary and run CHECKPOINT, or use a base backup made with pg_basebackup"
    )]
    FullPageWrites {
        /// The checkpoint that says so.
        checkpoint: Lsn,
    },
    /// The upstream could not be asked how far it is. Retry.
    #[error("cannot ask the upstream how far it is: {0}")]
    Upstream(String),
    /// The upstream is behind the data directory: not the same server. Give the right one.
    #[error(
        "a page of {node} (block {block}) is at {page}, but the upstream has only reached {upstream}; --upstream must be the server of --pgdata, or its primary"
    )]
    UpstreamBehind {
        /// The file.
        node: RelFileNode,
        /// The block.
        block: u32,
        /// Its LSN.
        page: Lsn,
        /// How far the upstream is.
        upstream: Lsn,
    },
}

impl BootstrapError {
    /// Sorts an I/O error by what the operator has to do.
    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Permission(path.to_owned()),
            _ => Self::Io {
                path: path.to_owned(),
                error,
            },
        }
    }
}
