//! An open transaction: its rows so far, and what it costs to keep them.
//!
//! Large runs stay where decoding put them and pin their arena; small ones are copied into the
//! transaction's own buffer, the tail, which becomes a stored run when it is as long as a block.
//! What leaves for the spill store is always the oldest.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::{Lsn, Xid};
use rustc_hash::FxHashSet;

use super::part::segment_flags::{self, SPECIAL};
use super::part::{Finished, Part, Run, Segment};
use super::spill::SpillId;
use super::walk::Measured;
use crate::decoding::names::LateNames;
use crate::limits::{
    BLOCK_BYTES, COPY_BYTES_MAX, LATE_NAMES_MAX, PIN_SHARE, TRANSACTION_POOL_BYTES,
};

/// Events of one transaction that stand together in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct StoredRun {
    /// Encoded events.
    pub(super) data: Bytes,
    /// Which (sub)transactions wrote them.
    pub(super) segments: Vec<Segment>,
    /// Relation versions they name.
    pub(super) relations: Vec<RelationVersion>,
    /// Offset of the last event.
    pub(super) last: u32,
    /// Number of events.
    pub(super) events: u32,
    /// Number of inserts, updates and deletes.
    pub(super) rows: u32,
    /// CRC-32 of `data`, if it is known.
    pub(super) crc: Option<u32>,
    /// Union of the segments' flags.
    pub(super) flags: u8,
    /// Bytes of memory it keeps.
    #[serde(skip)]
    pub(super) charge: usize,
    /// Finished rows among others; not known any more of what was written down.
    #[serde(skip)]
    pub(super) finished: Option<Finished>,
}

impl StoredRun {
    /// A run by reference, as it stands in its part.
    pub(super) fn of(part: &Part, run: &Run) -> Self {
        let start = run.bytes.start;
        Self {
            data: part.arena.slice(byte_range(run)),
            segments: segments(part, run).to_vec(),
            relations: relations(part, run).to_vec(),
            last: run.last - start,
            events: run.events,
            rows: run.rows,
            crc: (run.flags & SPECIAL == 0).then_some(run.crc),
            flags: run.flags,
            charge: 0,
            finished: run.finished.as_ref().map(|finished| Finished {
                bytes: finished.bytes.start - start..finished.bytes.end - start,
                last: finished.last - start,
                ..*finished
            }),
        }
    }

    /// What was counted of the finished rows in `range`, and their CRC-32, if this is known.
    pub(super) fn known(&self, range: std::ops::Range<usize>) -> Option<(Measured, Option<u32>)> {
        let end = range.end;
        if range == (0..self.data.len()) {
            let measured = Measured {
                end,
                last: self.last as usize,
                events: self.events,
                rows: self.rows,
            };
            return Some((measured, self.crc));
        }
        let finished = self.finished.as_ref()?;
        let bytes = finished.bytes.start as usize..finished.bytes.end as usize;
        let measured = Measured {
            end,
            last: finished.last as usize,
            events: finished.events,
            rows: finished.rows,
        };
        (range == bytes).then_some((measured, Some(finished.crc)))
    }
}

/// A run's bytes, as offsets into the arena.
pub(super) fn byte_range(run: &Run) -> std::ops::Range<usize> {
    run.bytes.start as usize..run.bytes.end as usize
}

/// A run's segments.
pub(super) fn segments<'a>(part: &'a Part, run: &Run) -> &'a [Segment] {
    &part.segments[run.segments.start as usize..run.segments.end as usize]
}

/// A run's relation versions.
pub(super) fn relations<'a>(part: &'a Part, run: &Run) -> &'a [RelationVersion] {
    &part.relations[run.relations.start as usize..run.relations.end as usize]
}

/// What of a transaction is in the spill store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spilled {
    /// Where.
    pub(super) id: SpillId,
    /// How much.
    pub(super) bytes: u64,
}

/// Copied small runs that still grow.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pub(super) data: Vec<u8>,
    pub(super) segments: Vec<Segment>,
    pub(super) relations: Vec<RelationVersion>,
    pub(super) last: u32,
    pub(super) events: u32,
    pub(super) rows: u32,
    /// CRC-32 of `data`, if it is one run's.
    pub(super) crc: Option<u32>,
    pub(super) flags: u8,
}

/// One open top-level transaction.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// Its oldest rows, if they have left memory.
    pub(super) spilled: Option<Spilled>,
    /// Relation versions that spilled rows name.
    pub(super) spilled_relations: FxHashSet<RelationVersion>,
    /// Rows in memory, after the spilled ones.
    pub(super) stored: VecDeque<StoredRun>,
    /// Rows in memory, after the stored ones.
    pub(super) tail: Tail,
    /// Subtransactions rolled back by name.
    pub(super) aborted: FxHashSet<Xid>,
    /// Whether it was prepared.
    pub(super) prepared: bool,
    /// Union of the flags of all its rows.
    pub(super) flags: u8,
    /// Event bytes in memory.
    pub(super) bytes: usize,
    /// Bytes of memory that it keeps.
    pub(super) charge: usize,
    /// What names in TOASTed values are looked up in: for rows before an LSN, ascending.
    pub(super) names: Vec<(Lsn, Arc<LateNames>)>,
}

impl Transaction {
    /// Remembers what names in a run's TOASTed values are looked up in.
    pub(super) fn note_names(&mut self, part: &Part, run: &Run) {
        let Some(names) = part.names.as_ref() else {
            return;
        };
        if run.flags & segment_flags::TOAST == 0 {
            return;
        }
        match self.names.last_mut() {
            Some((end, last)) if last.is_as_of(names) => {
                last.cover(names);
                *end = part.end;
            }
            _ => {
                self.names.push((part.end, Arc::clone(names)));
                if self.names.len() > LATE_NAMES_MAX {
                    let (_, oldest) = self.names.remove(0);
                    self.names[0].1.cover(&oldest);
                }
            }
        }
    }

    /// Remembers what names in the TOASTed values of a transaction from a restart point are looked
    /// up in.
    pub(super) fn restore_names(&mut self, end: Lsn, names: &Arc<LateNames>) {
        if self.flags & segment_flags::TOAST != 0 {
            self.names.insert(0, (end, Arc::clone(names)));
        }
    }

    /// What names in a TOASTed value of the record at `lsn` are looked up in.
    pub(super) fn names_at(&self, lsn: Lsn) -> Option<&Arc<LateNames>> {
        let at = self.names.partition_point(|(end, _)| *end <= lsn);
        self.names.get(at).map(|(_, names)| names)
    }

    /// Takes over a run of a part that ends while the transaction goes on.
    pub(super) fn keep(&mut self, part: &Part, run: &Run) {
        let length = run.bytes.len();
        self.note_names(part, run);
        self.flags |= run.flags;
        self.bytes += length;
        let before = self.charge;
        let pins = length > COPY_BYTES_MAX && length.saturating_mul(PIN_SHARE) >= part.arena.len();
        if pins {
            self.freeze_tail();
            let mut stored = StoredRun::of(part, run);
            stored.charge = part.arena.len() + size_of_val(stored.segments.as_slice());
            self.charge += stored.charge;
            self.stored.push_back(stored);
        } else {
            self.copy(part, run);
        }
        debug_assert!(self.charge > before, "rows cost memory");
    }

    fn copy(&mut self, part: &Part, run: &Run) {
        let tail = &mut self.tail;
        let known = tail.data.is_empty() && run.flags & SPECIAL == 0;
        tail.crc = known.then_some(run.crc);
        tail.last = tail.data.len() as u32 + (run.last - run.bytes.start);
        tail.data.extend_from_slice(&part.arena[byte_range(run)]);
        tail.events += run.events;
        tail.rows += run.rows;
        tail.flags |= run.flags;
        self.charge += run.bytes.len();
        for segment in segments(part, run) {
            match tail.segments.last_mut() {
                Some(last) if last.xid == segment.xid && last.flags == segment.flags => {
                    last.bytes += segment.bytes;
                    last.events += segment.events;
                    last.rows += segment.rows;
                }
                _ => {
                    tail.segments.push(*segment);
                    self.charge += size_of::<Segment>();
                }
            }
        }
        for relation in relations(part, run) {
            if !tail.relations.contains(relation) {
                tail.relations.push(*relation);
            }
        }
        if tail.data.len() >= BLOCK_BYTES {
            self.freeze_tail();
        }
    }

    /// Makes the tail a stored run.
    pub(super) fn freeze_tail(&mut self) {
        if self.tail.data.is_empty() {
            return;
        }
        let tail = std::mem::take(&mut self.tail);
        self.stored.push_back(StoredRun {
            charge: tail.data.len() + size_of_val(tail.segments.as_slice()),
            data: Bytes::from(tail.data),
            segments: tail.segments,
            relations: tail.relations,
            last: tail.last,
            events: tail.events,
            rows: tail.rows,
            crc: tail.crc,
            flags: tail.flags,
            finished: None,
        });
    }

    /// Drops the oldest stored run, which is now in the spill store.
    pub(super) fn drop_spilled_run(&mut self) {
        if let Some(run) = self.stored.pop_front() {
            self.bytes -= run.data.len();
            self.charge -= run.charge;
            self.spilled_relations.extend(run.relations);
        }
    }

    /// Forgets everything but buffers that are worth keeping.
    pub(super) fn reset(&mut self) {
        self.spilled = None;
        self.prepared = false;
        self.flags = 0;
        self.bytes = 0;
        self.charge = 0;
        self.stored.clear();
        self.names.clear();
        if !self.aborted.is_empty() {
            self.aborted = FxHashSet::default();
        }
        if !self.spilled_relations.is_empty() {
            self.spilled_relations = FxHashSet::default();
        }
        let tail = &mut self.tail;
        tail.data.clear();
        tail.data.shrink_to(TRANSACTION_POOL_BYTES);
        tail.segments.clear();
        tail.relations.clear();
        (tail.last, tail.events, tail.rows, tail.flags) = (0, 0, 0, 0);
        tail.crc = None;
    }
}

/// LSN and row number of an event, its place within its transaction.
pub(super) type Place = (Lsn, u32);
