//! Decodes a part whose rows were all dealt to one partition: transaction by transaction, so that
//! the events are written where they belong and there is nothing to merge.
//!
//! What assembly makes of the result is what it makes of several partitions' outputs, merged by
//! [`super::merge`]; only that TOASTed values are joined here where they can be (`joining.rs`).

use bytes::Bytes;
use redostream_protocol::Xid;
use redostream_protocol::schema::RelationVersion;
use rustc_hash::FxHashSet;

use super::joining::Joiner;
use super::merge::{FEW_RELATIONS, Merged, Tops, set_sum};
use super::task::{Names, Targets, Written, write_record};
use super::{DecodeError, plain};
use crate::arena::Arenas;
use crate::assembly::part::{Finished, Run, Segment, segment_flags::SPECIAL};
use crate::catalog::relation::Target;
use crate::framing::chunk::FramedChunk;
use crate::framing::format::WalFormat;
use crate::framing::partition::{RowEntry, RowKind};
use crate::limits::{ARENA_REGION_BYTES, COPY_BYTES_MAX};

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
    let mut rows = Rows {
        chunk,
        entries,
        targets,
        format,
        is_plain: targets.views.is_empty() && targets.snapshot.is_none(),
        last: (u16::MAX, None),
        joiner: Joiner::default(),
    };
    for run in 0..runs {
        let at = scratch.arena.len();
        let mut writer = RunWriter::new(&mut merged, &mut scratch.relations, at);
        let range = scratch.starts[run] as usize..scratch.starts[run + 1] as usize;
        let order = &scratch.order[range];
        rows.write_run(order, &mut writer, &mut scratch.arena)?;
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

/// The rows of a part, and what is remembered from one to the next.
struct Rows<'a> {
    chunk: &'a FramedChunk,
    entries: &'a [RowEntry],
    targets: &'a Targets,
    format: &'a WalFormat,
    /// Whether all rows of a file have one target, as mostly.
    is_plain: bool,
    /// The last file and its target: neighbours are mostly of one file.
    last: (u16, Option<&'a Target>),
    joiner: Joiner<'a>,
}

impl<'a> Rows<'a> {
    /// Writes the rows of one transaction, whose entries' indexes `rest` has.
    #[inline]
    fn write_run(
        &mut self,
        mut rest: &[u32],
        writer: &mut RunWriter<'_>,
        arena: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        let (chunk, entries, format) = (self.chunk, self.entries, self.format);
        while let Some((index, after)) = rest.split_first() {
            let entry = &entries[*index as usize];
            let (target, names) = self.target(entry);
            if let (RowKind::Insert, Some(Target::Table(layout)), None) =
                (entry.kind, target, names)
                && self.joiner.is_empty()
            {
                let stretch = plain::inserts(chunk, entries, rest, layout, format, arena);
                if stretch.rows > 0 {
                    rest = &rest[stretch.rows as usize..];
                    let written = stretch.written(layout.relation.version);
                    writer.add(entry, self.xid(entry), &written);
                    continue;
                }
            }
            rest = after;
            let Some(target) = target else {
                continue;
            };
            if let (RowKind::Insert, Target::Toast { oid }) = (entry.kind, target) {
                let record = chunk.record(entry.place);
                if (self.joiner).hold(*index, entry, oid.0, record, format) {
                    continue;
                }
            }
            let start = arena.len();
            let mut written = write_record(chunk, entry, target, names, format, arena)?;
            if written.bytes == 0 {
                continue;
            }
            if !self.joiner.is_empty() {
                let is_named = names.is_some();
                written = self.after_chunks((entry, written), is_named, start, writer, arena)?;
            }
            writer.add(entry, self.xid(entry), &written);
        }
        if !self.joiner.is_empty() {
            self.write_held(writer, arena)?;
        }
        Ok(())
    }

    #[inline]
    fn target(&mut self, entry: &RowEntry) -> (Option<&'a Target>, Option<Names<'a>>) {
        let targets = self.targets;
        if !self.is_plain {
            return (targets.of(entry), targets.names(entry));
        }
        if entry.file != self.last.0 {
            self.last = (entry.file, targets.of(entry));
        }
        (self.last.1, None)
    }

    #[inline]
    fn xid(&self, entry: &RowEntry) -> Xid {
        self.chunk.groups[usize::from(entry.group)].xid
    }

    /// The events of a record, which stand in `arena` from `start` on, after chunks that are held:
    /// with their values, or with the chunks before them. Names in values are looked up where the
    /// transaction ends.
    fn after_chunks(
        &mut self,
        (entry, mut written): (&RowEntry, Written),
        is_named: bool,
        start: usize,
        writer: &mut RunWriter<'_>,
        arena: &mut Vec<u8>,
    ) -> Result<Written, DecodeError> {
        if !is_named && let Some(joined) = self.joiner.join(entry, &written, start, arena) {
            return Ok(joined);
        }
        let events = self.joiner.set_aside(start, arena);
        self.write_held(writer, arena)?;
        written.last += (arena.len() - start) as u32;
        self.joiner.put_back(events, arena);
        Ok(written)
    }

    /// Writes the chunks that are held as events of their own. Those of a batch may come behind rows
    /// that have used them, for rows of it that are still to come: no chunk is ever given out, so it
    /// does not matter that its LSN is lower.
    fn write_held(
        &mut self,
        writer: &mut RunWriter<'_>,
        arena: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        for index in self.joiner.release() {
            let entry = &self.entries[index as usize];
            let xid = self.chunk.groups[usize::from(entry.group)].xid;
            if let Some(target) = self.targets.of(entry) {
                let written = write_record(self.chunk, entry, target, None, self.format, arena)?;
                writer.add(entry, xid, &written);
            }
        }
        Ok(())
    }
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
                finished: None,
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
        if self.run.flags & SPECIAL != 0 {
            let range = self.run.segments.start as usize..self.run.segments.end as usize;
            let segments = &self.merged.segments[range];
            // What is smaller is copied anyway, and summed then.
            self.run.finished =
                Finished::largest(segments, self.run.bytes.start, arena, COPY_BYTES_MAX);
        }
        self.merged.runs.push(self.run);
    }
}
