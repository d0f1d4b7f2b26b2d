//! Where rows of open transactions go when memory runs short.
//!
//! A spill is one sequential run of bytes per transaction, written in frames (`frame.rs`) and read
//! back in order at commit. This module says what a store must do; [`FileSpill`] does it with
//! files. Stores know nothing of transactions or frames.

pub mod file;
pub(super) mod frame;

use std::io;
use std::path::PathBuf;

use redostream_protocol::Xid;

pub use file::FileSpill;

/// Names one spill in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpillId(pub u64);

/// A place for the rows of open transactions.
pub trait SpillStore: Send {
    /// Begins an empty spill for a transaction.
    fn create(&mut self, top: Xid) -> Result<SpillId, SpillError>;

    /// Appends `parts`, one after the other: all of them, or on failure nothing.
    fn append(&mut self, id: SpillId, parts: &[&[u8]]) -> Result<(), SpillError>;

    /// Fills `out` with the bytes from `offset`; fewer bytes there are an error.
    fn read(&mut self, id: SpillId, offset: u64, out: &mut [u8]) -> Result<(), SpillError>;

    /// A reader over everything written so far, that stays good when the spill is removed.
    fn copy(&mut self, id: SpillId) -> Result<Box<dyn io::Read + Send>, SpillError>;

    /// Forgets a spill. Failure to free its space is the store's to report.
    fn remove(&mut self, id: SpillId);

    /// Bytes in all spills now.
    fn bytes(&self) -> u64;
}

/// What a spill store can run into.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpillError {
    /// The bound on spilled bytes is reached. Wait for open transactions to end, or raise the
    /// bound.
    #[error(
        "{used} bytes are spilled and {wanted} more would exceed the bound of {max}; end the long transactions, or raise the bound"
    )]
    Full {
        /// Bytes spilled now.
        used: u64,
        /// Bytes that were to be added.
        wanted: u64,
        /// The bound.
        max: u64,
    },
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// There is no spill of this name. A mistake of this program.
    #[error("there is no spill {}; please report this", .0.0)]
    Unknown(SpillId),
}

impl SpillError {
    /// Whether more space would mend it.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            Self::Unknown(_) => false,
        }
    }
}
