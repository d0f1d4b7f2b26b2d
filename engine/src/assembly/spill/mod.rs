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

    /// Everything written so far, that stays good when the spill goes on or is removed.
    fn copy(&mut self, id: SpillId) -> Result<SpillCopy, SpillError>;

    /// Forgets a spill. Failure to free its space is the store's to report.
    fn remove(&mut self, id: SpillId);

    /// Bytes in all spills now.
    fn bytes(&self) -> u64;
}

/// What a spill held at some moment.
pub struct SpillCopy {
    /// Its bytes.
    pub reader: Box<dyn io::Read + Send>,
    /// The same as a file, if it is one.
    pub kept: Option<KeptFile>,
}

/// A further name of a spill file, whose bytes up to the moment it was made stay as they are;
/// removed when dropped.
#[derive(Debug)]
pub struct KeptFile(PathBuf);

impl KeptFile {
    /// Gives the file at `path` a further name.
    pub(super) fn link(path: &std::path::Path, name: PathBuf) -> io::Result<Self> {
        std::fs::hard_link(path, &name)?;
        Ok(Self(name))
    }

    /// Sees to it that its bytes are on disk, and gives it the name `to` (of the same file system)
    /// for good. On failure it can be tried again.
    pub fn store_as(&self, to: &std::path::Path) -> io::Result<()> {
        std::fs::File::open(&self.0)?.sync_data()?;
        std::fs::rename(&self.0, to)
    }
}

impl Drop for KeptFile {
    fn drop(&mut self) {
        // It has got another name for good, or nobody needs it.
        let _ = std::fs::remove_file(&self.0);
    }
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
