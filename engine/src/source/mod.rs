//! Source: gives WAL bytes at an LSN, from the redo buffer or else from segment files.
//!
//! Takes: an LSN. Gives: bytes there, "wait", or "end". Keeps: where bytes can be had from, and
//! how many came from where. Never: interprets a record.

mod buffer;
pub mod chunk;
mod directories;
mod files;
mod restore;
mod segments;
mod switch;
#[cfg(test)]
mod tests;
mod timelines;

use std::time::Duration;

use redostream_protocol::{Lsn, TimelineId};

pub use buffer::{BufferError, RedoBuffer};
pub use files::{FileSource, FileSourceOptions, TimelineChoice};
pub use restore::Restore;
pub use segments::{LongPageHeader, PARTIAL_SUFFIX, SegmentName, SegmentSize};
pub use switch::{SourceMetrics, SwitchingSource, Upstream};
pub use timelines::{
    ParseHistoryError, TimelineHistory, TimelineRange, history_file_name, parse_history_name,
};

/// Where bytes came from, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The redo buffer.
    Buffer,
    /// A segment file.
    File,
}

/// What can be read from some LSN on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Available {
    /// Bytes before this LSN can be asked for now. For segment files this is the end of the last
    /// file in an unbroken row, whatever is in it.
    pub end: Lsn,
    /// Whether `end` never moves: nothing will be added.
    pub closed: bool,
    /// Whether every byte before `end` is known to be WAL of this history (streamed, or before
    /// the end the upstream reported). Where false, bytes may be stale or zero and a bad record
    /// may be the end of the log.
    pub trusted: bool,
}

/// WAL by LSN. Shared by the threads of a pipeline, so everything takes `&self`.
pub trait Source: Send + Sync {
    /// What can be read from `from` on. Never blocks for long.
    fn available(&self, from: Lsn) -> Result<Available, SourceError>;

    /// Reads bytes at `from` into `out`; returns how many (at least one) and their origin. Fewer
    /// than asked for are returned at the end of a segment or of what is available. Asking at or
    /// beyond the end of what is available is [`SourceError::NotYet`].
    fn read(&self, from: Lsn, out: &mut [u8]) -> Result<(usize, Origin), SourceError>;

    /// Blocks until something beyond `beyond` may be available, or `timeout` passed.
    fn wait(&self, beyond: Lsn, timeout: Duration);

    /// The timeline of the cluster's history at `lsn`.
    fn timeline_at(&self, lsn: Lsn) -> TimelineId;

    /// The oldest and the newest timeline that pages from the one at `begin` to before `end` may
    /// be of. A page of another one is stale, or of a history that is not followed.
    fn page_timelines(&self, begin: Lsn, end: Lsn) -> (TimelineId, TimelineId) {
        (self.timeline_at(begin), self.timeline_at(end))
    }

    /// Bytes of a segment (a power of two from 1 MiB to 1 GiB).
    fn segment_bytes(&self) -> u64;

    /// Names the file (and offset) that holds `lsn`, for messages.
    fn locate(&self, lsn: Lsn) -> String;
}

/// What keeps a source from giving bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Nothing at this LSN yet. Wait.
    #[error("no WAL at {0} yet")]
    NotYet(Lsn),
    /// The segment is not in any place that was given. Give the directory that has it.
    #[error(
        "WAL segment {segment} (needed for {lsn}) is missing in {searched}; restore it there or name the directory that has it"
    )]
    Missing {
        /// The LSN that was asked for.
        lsn: Lsn,
        /// File name.
        segment: String,
        /// Directories that were searched.
        searched: String,
    },
    /// Two places hold different files under one segment's name.
    #[error(
        "two different files for WAL segment {segment}: {first} and {second}; remove the wrong one"
    )]
    Ambiguous {
        /// File name.
        segment: String,
        /// One file.
        first: String,
        /// The other.
        second: String,
    },
    /// Reading failed.
    #[error("cannot read WAL at {lsn} from {file}: {error}")]
    Io {
        /// The LSN that was asked for.
        lsn: Lsn,
        /// File and offset.
        file: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The files are not what was expected (another cluster, wrong size, bad timeline history).
    #[error("{file}: {problem}")]
    Wrong {
        /// The file.
        file: String,
        /// What is wrong and what to do.
        problem: String,
    },
}
