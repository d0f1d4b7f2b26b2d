//! Everything that can stop a pipeline, and what to do about it.

use redostream_protocol::Lsn;

use crate::assembly::AssemblyError;
use crate::decoding::DecodeError;
use crate::framing::error::FrameError;
use crate::gate::GateError;
use crate::source::SourceError;

/// Why a pipeline ended before it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// WAL could not be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The log is damaged: what lies behind proves that it goes on.
    #[error(
        "the log is damaged at {lsn} ({place}): {error}; nothing after it was released. Restore the segment from another copy"
    )]
    Damaged {
        /// The bad record.
        lsn: Lsn,
        /// File and offset.
        place: String,
        /// What is wrong with it.
        error: FrameError,
    },
    /// The log ends before the end that was asked for.
    #[error(
        "the log ends at {lsn} ({place}: {reason}), before the end that was asked for, {wanted}; give the WAL that is missing"
    )]
    EndsEarly {
        /// Where it ends.
        lsn: Lsn,
        /// File and offset.
        place: String,
        /// What is there instead of a record.
        reason: String,
        /// The end that was asked for.
        wanted: Lsn,
    },
    /// The gate stopped.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// A row could not be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Rows of a table that is wanted cannot be decoded.
    #[error(
        "rows of {table} at {lsn} cannot be decoded: {reason}; everything before was given. Ask for other tables to go on"
    )]
    Undecodable {
        /// The record.
        lsn: Lsn,
        /// The table, as people name it.
        table: String,
        /// Why.
        reason: String,
    },
    /// Assembly stopped.
    #[error(transparent)]
    Assembly(#[from] AssemblyError),
    /// The cluster's history was left where decoding had been already. Go back to before it.
    #[error(
        "the cluster's history was left at {at}, and there is no restart point at or before it; begin again with an empty state directory"
    )]
    Forked {
        /// Where it was left.
        at: Lsn,
    },
    /// Whoever takes the output no longer does.
    #[error("the output is closed: {0}")]
    Output(String),
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Try again, perhaps from elsewhere.
    Retry,
    /// Wait for somebody to bring what is missing.
    Wait,
    /// Stop: the same input gives the same error.
    Stop,
}

impl EngineError {
    /// What to do about it.
    #[must_use]
    pub const fn disposition(&self) -> Disposition {
        match self {
            EngineError::Source(SourceError::Missing { .. } | SourceError::NotYet(_)) => {
                Disposition::Wait
            }
            EngineError::Source(SourceError::Io { .. }) => Disposition::Retry,
            _ => Disposition::Stop,
        }
    }

    /// Whether the log itself is damaged or cannot be decoded (as opposed to not being there).
    #[must_use]
    pub const fn is_log_fault(&self) -> bool {
        match self {
            EngineError::Damaged { .. }
            | EngineError::Gate(_)
            | EngineError::Decode(_)
            | EngineError::Undecodable { .. } => true,
            EngineError::Assembly(error) => error.is_log_fault(),
            _ => false,
        }
    }
}
