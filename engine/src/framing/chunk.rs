//! A chunk: where it begins and ends, and what framing makes of it.

use redostream_protocol::{Lsn, RelFileNode, TimelineId};

use super::error::FrameError;
use super::format::WalFormat;
use super::lookups::Lookups;
use super::page::{LONG_HEADER_BYTES, SHORT_HEADER_BYTES, u32_at};
use super::partition::{Group, OrderedEntry, Place, RowEntry};
use super::wal_bytes::WalBytes;
use crate::limits::WAL_PAGE_BYTES;

/// Where and why a chunk ends before its plan said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Every record that starts in the planned range was framed.
    End,
    /// A log switch: the rest of the segment means nothing.
    Switch,
    /// The bytes end inside a record or page.
    Short,
    /// What is at [`FramedChunk::next`] is not a record.
    Bad(FrameError),
}

/// The first record of a chunk, for joining it to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstRecord {
    /// Where it starts.
    pub lsn: Lsn,
    /// Its link to the record before it.
    pub prev: Lsn,
}

/// The buffers of a chunk that is done, holding anything.
#[derive(Debug, Default)]
pub struct ChunkBuffers {
    /// For the WAL bytes.
    pub bytes: WalBytes,
    side: Vec<u8>,
    partitions: Vec<Vec<RowEntry>>,
    ordered: Vec<OrderedEntry>,
    groups: Vec<Group>,
    files: Vec<RelFileNode>,
    first_rows: Vec<u32>,
    lookups: Lookups,
}

impl ChunkBuffers {
    /// New buffers with these bytes.
    #[must_use]
    pub fn over(bytes: &[u8]) -> Self {
        ChunkBuffers {
            bytes: bytes.into(),
            ..Self::default()
        }
    }

    /// An empty chunk that begins at `start`, over the buffer's bytes.
    pub(crate) fn into_chunk(mut self, start: Lsn, partitions: u32) -> FramedChunk {
        self.side.clear();
        self.partitions.iter_mut().for_each(Vec::clear);
        self.partitions.resize_with(partitions as usize, Vec::new);
        self.ordered.clear();
        self.groups.clear();
        self.files.clear();
        self.first_rows.clear();
        self.lookups.clear();
        FramedChunk {
            base: Lsn(start.0 - start.0 % WAL_PAGE_BYTES as u64),
            bytes: self.bytes,
            side: self.side,
            partitions: self.partitions,
            ordered: self.ordered,
            groups: self.groups,
            files: self.files,
            first_rows: self.first_rows,
            first: None,
            last: Lsn::INVALID,
            next: start,
            abandoned: None,
            stop: Stop::End,
            records: 0,
            rows: 0,
            lookups: self.lookups,
        }
    }
}

/// A chunk, framed.
#[derive(Debug)]
pub struct FramedChunk {
    /// LSN of `bytes[0]`, a page boundary.
    pub base: Lsn,
    /// The WAL bytes.
    pub bytes: WalBytes,
    /// Records that cross pages, put together.
    pub side: Vec<u8>,
    /// Row records by partition.
    pub partitions: Vec<Vec<RowEntry>>,
    /// Records for the gate.
    pub ordered: Vec<OrderedEntry>,
    /// (Sub)transactions with records here, by first record.
    pub groups: Vec<Group>,
    /// Files with row records here.
    pub files: Vec<RelFileNode>,
    /// For each of them, the number of its first row record; `u32::MAX` if it has none.
    pub first_rows: Vec<u32>,
    /// The first record, none if none starts here.
    pub first: Option<FirstRecord>,
    /// The last record's start; invalid if none.
    pub last: Lsn,
    /// Where the next record starts (after a page header, if at one).
    pub next: Lsn,
    /// A record cut off by a crash and abandoned, if one was met.
    pub abandoned: Option<Lsn>,
    /// Why it ends at `next`.
    pub stop: Stop,
    /// Records framed, ignored ones too.
    pub records: u64,
    /// Row records.
    pub rows: u64,
    /// What framing looks xids and files up in, kept for the next chunk.
    pub(super) lookups: Lookups,
}

impl FramedChunk {
    /// The chunk's buffers, to be used for another one.
    #[must_use]
    pub fn into_buffers(self) -> ChunkBuffers {
        ChunkBuffers {
            bytes: self.bytes,
            side: self.side,
            partitions: self.partitions,
            ordered: self.ordered,
            groups: self.groups,
            files: self.files,
            first_rows: self.first_rows,
            lookups: self.lookups,
        }
    }

    /// The bytes of a record.
    ///
    /// # Panics
    /// Never: places are made by framing from checked records.
    #[must_use]
    #[inline]
    pub fn record(&self, place: Place) -> &[u8] {
        let (side, offset) = place.get();
        let buffer = if side {
            &self.side[..]
        } else {
            &self.bytes[..]
        };
        let length = u32_at(buffer, offset) as usize;
        &buffer[offset..offset + length]
    }

    /// The LSN at an offset from the base.
    #[must_use]
    #[inline]
    pub const fn lsn(&self, offset: u32) -> Lsn {
        Lsn(self.base.0 + offset as u64)
    }
}

/// What stays the same for all chunks of a pipeline.
#[derive(Clone, Copy, Debug)]
pub struct FramingRules {
    /// The version.
    pub format: &'static WalFormat,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Partitions to deal rows to.
    pub partitions: u32,
    /// The timelines of the history at the chunk's first page and at its end, where it is known:
    /// pages are of these or between.
    // pg: access/transam/xlogreader.c XLogReaderValidatePageHeader [14-18]
    pub timelines: Option<(TimelineId, TimelineId)>,
}

/// Where a chunk begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// A page boundary, or a record's start.
    pub start: Lsn,
    /// Whether `start` is a record's exact start.
    pub exact: bool,
    /// Records that start before this belong to the chunk.
    pub end: Lsn,
}

/// Bytes of the header of the page at `page`.
#[must_use]
pub const fn header_bytes(page: Lsn, segment_bytes: u64) -> usize {
    if page.0.is_multiple_of(segment_bytes) {
        LONG_HEADER_BYTES
    } else {
        SHORT_HEADER_BYTES
    }
}
