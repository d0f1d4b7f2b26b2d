//! Decodes a part whose rows were all dealt to one partition: transaction by transaction, so that
//! the events are written where they belong and there is nothing to merge.
//!
//! The result is what [`super::merge`] makes of several partitions' outputs.

use bytes::Bytes;
use redostream_protocol::Xid;
use redostream_protocol::schema::RelationVersion;
use rustc_hash::FxHashSet;

use super::merge::{FEW_RELATIONS, Merged, Tops, set_sum};
use super::task::{Targets, Written, write_record};
use super::{DecodeError, plain};
use crate::arena::Arenas;
use crate::assembly::part::{Run, Segment};
use crate::catalog::relation::Target;
use crate::framing::chunk::FramedChunk;
use crate::framing::format::WalFormat;
use crate::framing::partition::{RowEntry, RowKind};
use crate::limits::ARENA_REGION_BYTES;

/// Buffers that a decoder uses again and again.
#[derive(Debug, Default)]
pub struct Scratch {
    arena: Vec<u8>,
    /// Indexes of entries, by transaction.
    order: Vec<u32>,
    /// For each group that leads a transaction, the number of its run.
    run_of: Vec<u32>,
    /// For each run, how many entries it has, then where they begin.
    starts: Vec<u32>,
    /// The relations of a run that has more than a few.
    relations: FxHashSet<RelationVersion>,
}

const NO_RUN: u32 = u32::MAX;

/// Decodes `entries` of `chunk`.
pub fn decode_ordered(
    chunk: &FramedChunk,
    entries: &[RowEntry],
    targets: &Targets,
    tops: &Tops,
    format: &WalFormat,
    arenas: &Arenas,
    scratch: &mut Scratch,
) -> Result<Merged, DecodeError> {
    let runs = scratch.sort(entries, tops);
    scratch.arena.clear();
    let mut merged = Merged::default();
    // Mostly each has one of each.
    merged.runs.reserve(runs);
    merged.segments.reserve(runs);
    merged.relations.reserve(runs);
    let mut numbers = Vec::with_capacity(runs);
    // Mostly all rows of a file have one target, and neighbours are of one file.
    let is_plain = targets.views.is_empty() && targets.snapshot.is_none();
    let mut last = (u16::MAX, None);
    for run in 0..runs {
        let at = scratch.arena.len();
        let mut writer = RunWriter::new(&mut merged, &mut scratch.relations, at);
        let range = scratch.starts[run] as usize..scratch.starts[run + 1] as usize;
        let order = &scratch.order[range];
        let mut rest = order;
        while let Some((index, after)) = rest.split_first() {
            let entry = &entries[*index as usize];
            let (target, names) = if !is_plain {
                (targets.of(entry), targets.names(entry))
            } else if entry.file == last.0 {
                (last.1, None)
            } else {
                last = (entry.file, targets.of(entry));
                (last.1, None)
            };
            let group = entry.group;
            let arena = &mut scratch.arena;
            if let (RowKind::Insert, Some(Target::Table(layout)), None) =
                (entry.kind, target, names)
            {
                let stretch = plain::inserts(chunk, entries, rest, layout, format, arena);
                if stretch.rows > 0 {
                    rest = &rest[stretch.rows as usize..];
                    let written = stretch.written(layout.relation.version);
                    writer.add(entry, chunk.groups[usize::from(group)].xid, &written);
                    continue;
                }
            }
            rest = after;
            let Some(target) = target else {
                continue;
            };
            let written = write_record(chunk, entry, target, names, format, arena)?;
            if written.bytes > 0 {
                writer.add(entry, chunk.groups[usize::from(group)].xid, &written);
            }
        }
        if let Some(first) = writer.first {
            let group = entries[order[0] as usize].group;
            writer.finish(tops.by_group[usize::from(group)].1, &scratch.arena);
            numbers.push(first);
        }
    }
    merged.order_runs(&numbers);
    merged.arena = scratch.stored(arenas);
    Ok(merged)
}

impl Scratch {
    /// What was decoded, shared by reference. What no region has room for is one large row: its
    /// buffer is handed over rather than copied, so that the row is not in memory once more.
    fn stored(&mut self, arenas: &Arenas) -> Bytes {
        if self.arena.len() > ARENA_REGION_BYTES {
            return Bytes::from(std::mem::take(&mut self.arena));
        }
        arenas.store(&self.arena)
    }

    /// Sorts entries by transaction, keeping log order within each; gives the number of
    /// transactions.
    fn sort(&mut self, entries: &[RowEntry], tops: &Tops) -> usize {
        let Scratch {
            order,
            run_of,
            starts,
            ..
        } = self;
        order.clear();
        starts.clear();
        run_of.clear();
        run_of.resize(tops.by_group.len(), NO_RUN);
        for entry in entries {
            let (leader, _) = tops.by_group[usize::from(entry.group)];
            let run = &mut run_of[usize::from(leader)];
            if *run == NO_RUN {
                *run = starts.len() as u32;
                starts.push(0);
            }
            starts[*run as usize] += 1;
        }
        let runs = starts.len();
        if runs <= 1 {
            order.extend(0..entries.len() as u32);
            starts.insert(0, 0);
            return runs;
        }
        let mut next = 0;
        for start in starts.iter_mut() {
            next += std::mem::replace(start, next);
        }
        starts.push(next);
        order.resize(entries.len(), 0);
        for (index, entry) in entries.iter().enumerate() {
            let (leader, _) = tops.by_group[usize::from(entry.group)];
            let place = &mut starts[run_of[usize::from(leader)] as usize];
            order[*place as usize] = index as u32;
            *place += 1;
        }
        // Every start is now its run's end, which is the next one's start.
        starts.rotate_right(1);
        starts[0] = 0;
        runs
    }
}

/// Writes down what a run holds.
struct RunWriter<'a> {
    merged: &'a mut Merged,
    distinct: &'a mut FxHashSet<RelationVersion>,
    run: Run,
    last_group: u16,
    last_relation: RelationVersion,
    /// Number of the run's first entry that gave events.
    first: Option<u32>,
}

impl<'a> RunWriter<'a> {
    fn new(
        merged: &'a mut Merged,
        distinct: &'a mut FxHashSet<RelationVersion>,
        at: usize,
    ) -> Self {
        let segments = merged.segments.len() as u32;
        let relations = merged.relations.len() as u32;
        RunWriter {
            merged,
            distinct,
            run: Run {
                top: Xid::INVALID,
                segments: segments..segments,
                bytes: at as u32..at as u32,
                last: 0,
                events: 0,
                rows: 0,
                crc: 0,
                relations: relations..relations,
                flags: 0,
            },
            last_group: 0,
            last_relation: RelationVersion(0),
            first: None,
        }
    }

    #[inline]
    fn add(&mut self, entry: &RowEntry, xid: Xid, written: &Written) {
        let merged = &mut *self.merged;
        let fresh = self.first.is_none();
        match merged.segments.last_mut() {
            Some(segment)
                if !fresh && self.last_group == entry.group && segment.flags == written.flags =>
            {
                segment.bytes += written.bytes;
                segment.events += written.events;
                segment.rows += written.rows;
            }
            _ => merged.segments.push(Segment {
                xid,
                bytes: written.bytes,
                events: written.events,
                rows: written.rows,
                flags: written.flags,
            }),
        }
        self.last_group = entry.group;
        let run = &mut self.run;
        run.events += written.events;
        run.rows += written.rows;
        run.flags |= written.flags;
        run.last = written.last;
        run.bytes.end += written.bytes;
        if written.relation != self.last_relation && written.relation.0 != 0 {
            self.last_relation = written.relation;
            self.note_relation(written.relation);
        }
        if fresh {
            self.first = Some(entry.number);
        }
    }

    fn note_relation(&mut self, version: RelationVersion) {
        let all = &mut self.merged.relations;
        let named = &all[self.run.relations.start as usize..];
        if named.len() < FEW_RELATIONS {
            if !named.contains(&version) {
                all.push(version);
            }
            return;
        }
        if named.len() == FEW_RELATIONS {
            self.distinct.clear();
            self.distinct.extend(named);
        }
        if self.distinct.insert(version) {
            all.push(version);
        }
    }

    fn finish(mut self, top: Xid, arena: &[u8]) {
        self.run.top = top;
        self.run.segments.end = self.merged.segments.len() as u32;
        self.run.relations.end = self.merged.relations.len() as u32;
        set_sum(&mut self.run, arena);
        self.merged.runs.push(self.run);
    }
}
