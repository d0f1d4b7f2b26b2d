//! What decoding hands to assembly: one part of a chunk, its rows merged into log order.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use redostream_protocol::event::Origin;
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::{DatabaseOid, Lsn, TimelineId, Xid};

use crate::decoding::names::LateNames;
use crate::framing::page::u32_at;

/// A stretch of the log in which no relation changed its structure.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Every record that starts before this LSN is in this part or an earlier one.
    pub end: Lsn,
    /// Encoded events ([`redostream_protocol::event`]), contiguous per top-level transaction and
    /// in log order within it; chunks of TOASTed values may come later, but before what wants them.
    pub arena: Bytes,
    /// One entry per top-level transaction with rows in this part, by first row.
    pub runs: Vec<Run>,
    /// Stretches of events of one (sub)transaction; runs name ranges of them.
    pub segments: Vec<Segment>,
    /// Relation versions that events name; runs name ranges of them.
    pub relations: Vec<RelationVersion>,
    /// What is not a row, in log order.
    pub controls: Vec<Control>,
    /// What names in values that are put together later are looked up in, if there may be any.
    pub names: Option<Arc<LateNames>>,
}

/// The rows of one top-level transaction in one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Top-level transaction.
    pub top: Xid,
    /// Indexes into [`Part::segments`].
    pub segments: Range<u32>,
    /// Offsets into [`Part::arena`].
    pub bytes: Range<u32>,
    /// Offset into [`Part::arena`] of its last event.
    pub last: u32,
    /// How many events; the sum over its segments.
    pub events: u32,
    /// How many of them are inserts, updates and deletes; the sum over its segments.
    pub rows: u32,
    /// CRC-32 (`crc32fast`) of its bytes, so that assembly need not touch them. Runs with TOAST,
    /// speculative or skipped events may leave it 0: what leaves of them is other bytes.
    pub crc: u32,
    /// Indexes into [`Part::relations`]: the versions that its events name (those of truncates
    /// too, those of TOAST chunks not), each once, by first use.
    pub relations: Range<u32>,
    /// The union of its segments' flags.
    pub flags: u8,
    /// Where some of its segments are [`segment_flags::SPECIAL`]: most of the others, if they lie
    /// together.
    pub finished: Option<Finished>,
}

/// Finished rows that lie together in a run that has other events too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Offsets of whole segments.
    pub bytes: Range<u32>,
    /// Offset of the last event.
    pub last: u32,
    /// How many events.
    pub events: u32,
    /// How many of them are inserts, updates and deletes.
    pub rows: u32,
    /// CRC-32 (`crc32fast`) of the bytes.
    pub crc: u32,
}

impl Finished {
    /// The largest such stretch of segments whose events begin at `start` of `arena`, if it has more
    /// than `bytes_min` bytes.
    #[must_use]
    pub fn largest(
        segments: &[Segment],
        start: u32,
        arena: &[u8],
        bytes_min: usize,
    ) -> Option<Self> {
        let is_finished = |segment: &Segment| segment.flags & segment_flags::SPECIAL == 0;
        let mut at = start;
        let stretches = segments
            .chunk_by(|one, next| is_finished(one) == is_finished(next))
            .map(|segments| {
                let bytes: u32 = segments.iter().map(|segment| segment.bytes).sum();
                at += bytes;
                (at - bytes..at, segments)
            });
        let (bytes, segments) = stretches
            .filter(|(_, segments)| segments.iter().all(is_finished))
            .max_by_key(|(bytes, _)| bytes.len())
            .filter(|(bytes, _)| bytes.len() > bytes_min)?;
        let mut last = bytes.start;
        loop {
            let end = last + u32_at(arena, last as usize);
            if end >= bytes.end {
                break;
            }
            last = end;
        }
        Some(Finished {
            last,
            events: segments.iter().map(|segment| segment.events).sum(),
            rows: segments.iter().map(|segment| segment.rows).sum(),
            crc: crc32fast::hash(&arena[bytes.start as usize..bytes.end as usize]),
            bytes,
        })
    }
}

/// Consecutive events of one (sub)transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Segment {
    /// The (sub)transaction.
    pub xid: Xid,
    /// Bytes of its events.
    pub bytes: u32,
    /// How many events.
    pub events: u32,
    /// How many of them are inserts, updates and deletes.
    pub rows: u32,
    /// Bits of [`segment_flags`].
    pub flags: u8,
}

/// What a segment holds besides finished rows.
pub mod segment_flags {
    /// TOAST chunks, or rows with TOAST pointers. A segment without it may still hold rows that
    /// end pending chunks, or keep them (`KEEPS_TOAST`).
    pub const TOAST: u8 = 1;
    /// Speculative inserts, confirmations or withdrawals.
    pub const SPECULATIVE: u8 = 2;
    /// Events of kind `Skipped`, or others that are not passed on.
    pub const SKIPPED: u8 = 4;
    /// Events of kind `Message`.
    pub const MESSAGE: u8 = 8;
    /// Events of kind `Undecodable`, among them.
    pub const UNDECODABLE: u8 = 16;
    /// Segments with one of these flags hold events that cannot be passed on as they are.
    pub const SPECIAL: u8 = TOAST | SPECULATIVE | SKIPPED | UNDECODABLE;
}

/// A record that decides about transactions, at its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Start of the record.
    pub lsn: Lsn,
    /// End of the record.
    pub end_lsn: Lsn,
    /// What it says.
    pub kind: ControlKind,
}

/// What a control record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlKind {
    /// A transaction committed (also at COMMIT PREPARED).
    Commit(Commit),
    /// A top-level transaction was rolled back.
    Abort {
        /// Its xid.
        top: Xid,
    },
    /// Subtransactions were rolled back while `top` goes on.
    AbortSubtransactions {
        /// Their top-level transaction.
        top: Xid,
        /// Every one rolled back.
        subs: Vec<Xid>,
    },
    /// A transaction was prepared: it outlives a restart of the server.
    Prepare {
        /// Its xid.
        top: Xid,
    },
    /// Every open transaction that precedes this xid, but prepared ones, is gone without a record.
    GoneBefore(Xid),
    /// Every open transaction but prepared ones is gone (the server stopped).
    AllGone,
    /// A unit of its own: a non-transactional message or sequence change.
    Standalone {
        /// Timeline at the record.
        timeline: TimelineId,
        /// Database.
        database: DatabaseOid,
        /// The event, encoded as in [`redostream_protocol::event`].
        event: Bytes,
    },
    /// The state of the stages before is taken here for a restart point; assembly adds its own and
    /// passes it on. The number is the gate's. The part ends with it: it is the last control, and
    /// no row of the part comes after it.
    Checkpoint(u64),
}

/// What a commit record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Timeline at the record.
    pub timeline: TimelineId,
    /// Top-level transaction.
    pub top: Xid,
    /// Database.
    pub database: DatabaseOid,
    /// Microseconds since 2000-01-01 00:00 UTC.
    pub commit_time_us: i64,
    /// Whether the transaction is to be left out: it began before the catalog could be trusted, or
    /// in a database that was not asked for. Its rows are dropped.
    pub skip: bool,
    /// What few commits have, apart, so that the others are small.
    pub particulars: Option<Box<Particulars>>,
}

/// What few commits have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Particulars {
    /// Children that committed with it. Others seen have been rolled back.
    pub subs: Vec<Xid>,
    /// Replication origin.
    pub origin: Option<Origin>,
    /// Global id of a prepared transaction.
    pub gid: Option<Vec<u8>>,
}

impl Particulars {
    /// Whether it has neither origin nor global id.
    #[must_use]
    pub const fn is_nameless(&self) -> bool {
        self.origin.is_none() && self.gid.is_none()
    }

    /// These, if there are any.
    #[must_use]
    pub fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

impl Commit {
    /// Children that committed with it. Others seen have been rolled back.
    #[must_use]
    pub fn subs(&self) -> &[Xid] {
        let particulars = self.particulars.as_ref();
        particulars.map_or(&[], |particulars| &particulars.subs)
    }
}
