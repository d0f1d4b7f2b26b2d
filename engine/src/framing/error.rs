//! What is wrong where a record ought to be.

use redostream_protocol::Lsn;

use super::page::PageError;

/// Why a record, or the page it should be on, is not what it has to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The page's header is wrong.
    #[error(transparent)]
    Page(#[from] PageError),
    /// No record: zeros.
    #[error("no record here")]
    Zero,
    /// The length cannot be one.
    #[error("record length {0} is impossible")]
    Length(u32),
    /// The record does not link to the one before it.
    #[error("record links back to {found}, not to {expected}")]
    PrevLink {
        /// What it says.
        found: Lsn,
        /// The record before it.
        expected: Lsn,
    },
    /// The sum is wrong.
    #[error("record CRC is {found:08X}, its bytes give {computed:08X}")]
    Crc {
        /// What it carries.
        found: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// The page where the record should go on does not continue it.
    #[error(
        "page {page} does not continue the record ({rem_len} bytes there, {expected} expected)"
    )]
    Continuation {
        /// The page.
        page: Lsn,
        /// What the page says.
        rem_len: u32,
        /// What is left of the record.
        expected: u32,
    },
    /// The first page of the chunk says that a record goes on where none does, or the reverse.
    #[error("page {0} continues a record that does not reach it")]
    StrayContinuation(Lsn),
    /// A resource manager that no version has.
    #[error("unknown resource manager {0}")]
    UnknownManager(u8),
    /// The CRC is right but the inside contradicts itself: a log we cannot read.
    #[error("malformed {manager} record: {problem}")]
    Malformed {
        /// Resource manager.
        manager: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
}

impl FrameError {
    /// Whether the record passed its checks, so that this is not a torn end of the log.
    #[must_use]
    pub const fn is_past_checks(&self) -> bool {
        matches!(
            self,
            FrameError::Malformed { .. } | FrameError::UnknownManager(_)
        )
    }
}
