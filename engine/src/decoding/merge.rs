//! Joins the outputs of a part's tasks: back into log order, contiguous per top-level
//! transaction, in the form that goes to the wire.
//!
//! Items carry their record's number within the chunk; scattering them into a table by that
//! number sorts them without comparing. Then two passes: one measures each transaction's run, the
//! next copies.

use bytes::Bytes;
use redostream_protocol::Xid;
use redostream_protocol::schema::RelationVersion;

use super::task::{Item, TaskOutput};
use crate::assembly::part::{Run, Segment, segment_flags};
use crate::framing::partition::Group;
use crate::pool::BufferPool;

/// The rows of a part, merged.
#[derive(Debug, Default)]
pub struct Merged {
    /// Events.
    pub arena: Bytes,
    /// Runs by first row.
    pub runs: Vec<Run>,
    /// Segments of the runs.
    pub segments: Vec<Segment>,
    /// Relation versions of the runs.
    pub relations: Vec<RelationVersion>,
}

/// The top-level transaction of each of a chunk's groups.
#[derive(Clone, Debug, Default)]
pub struct Tops {
    /// For each group, the first group with the same top, and that top.
    pub by_group: Vec<(u16, Xid)>,
}

impl Tops {
    /// Where every group is its own top.
    #[must_use]
    pub fn of(groups: &[Group], mut top_of: impl FnMut(&Group) -> Xid) -> Self {
        let mut by_group = Vec::with_capacity(groups.len());
        let mut are_tops = true;
        for (number, group) in groups.iter().enumerate() {
            let top = top_of(group);
            are_tops &= top == group.xid;
            by_group.push((number as u16, top));
        }
        // Mostly all groups are tops themselves, each its own leader.
        if !are_tops {
            let mut leaders = rustc_hash::FxHashMap::default();
            for (leader, top) in &mut by_group {
                *leader = *leaders.entry(*top).or_insert(*leader);
            }
        }
        Tops { by_group }
    }
}

/// Up to this many relations of a run are compared one by one.
pub(super) const FEW_RELATIONS: usize = 16;
const NO_RUN: u32 = u32::MAX;
const NO_ITEM: u32 = u32::MAX;
const OUTPUT_SHIFT: u32 = 24;

/// What the first pass finds out about a run.
struct Measure {
    top: Xid,
    bytes: u32,
    segments: u32,
    last_group: u16,
    last_flags: u8,
}

/// Merges the outputs of a part's tasks. Their arenas go back to `pool`. `more` names relations
/// that an event of the last output names besides its first: item and version.
#[must_use]
pub fn merge(
    mut outputs: Vec<TaskOutput>,
    more: &[(u32, RelationVersion)],
    groups: &[Group],
    tops: &Tops,
    pool: &BufferPool,
) -> Merged {
    let order = order_of(&outputs);
    if order.is_empty() {
        return Merged::default();
    }
    let item_at =
        |place: u32| &outputs[(place >> OUTPUT_SHIFT) as usize].items[(place & 0xFF_FFFF) as usize];
    let mut run_of = vec![NO_RUN; groups.len()];
    let mut measures: Vec<Measure> = Vec::new();
    for place in &order {
        measure(item_at(*place), tops, &mut run_of, &mut measures);
    }
    let mut merged = Merged::default();
    let mut cursors = lay_out(&measures, &mut merged);
    let total = merged.runs.last().map_or(0, |run| run.bytes.end) as usize;
    let sole = measures.len() == 1 && outputs.iter().filter(|o| !o.items.is_empty()).count() == 1;
    let mut arena = if sole {
        Vec::new()
    } else {
        pool.take_filled(total)
    };
    let mut relations: Vec<(u32, RelationVersion)> = Vec::new();
    for place in &order {
        let output = &outputs[(place >> OUTPUT_SHIFT) as usize];
        let item = &output.items[(place & 0xFF_FFFF) as usize];
        let run = run_of[usize::from(tops.by_group[usize::from(item.group)].0)] as usize;
        let cursor = &mut cursors[run];
        let to = cursor.at as usize;
        if !sole {
            let from = item.offset as usize..(item.offset + item.bytes) as usize;
            arena[to..to + item.bytes as usize].copy_from_slice(&output.arena[from]);
        }
        cursor.place(item, groups[usize::from(item.group)].xid, &mut merged, run);
        cursor.note_relation(item.relation, run as u32, &mut relations);
    }
    if let Some(last) = outputs.last() {
        for (item, version) in more {
            let group = last.items[*item as usize].group;
            let run = run_of[usize::from(tops.by_group[usize::from(group)].0)];
            relations.push((run, *version));
        }
    }
    merged.set_relations(relations);
    if sole {
        let place = (order[0] >> OUTPUT_SHIFT) as usize;
        arena = std::mem::take(&mut outputs[place].arena);
    }
    for output in outputs {
        pool.give(output.arena);
    }
    merged.set_sums(&arena);
    merged.arena = pool.freeze(arena, total);
    merged
}

/// The places (output, item) of all items in log order.
fn order_of(outputs: &[TaskOutput]) -> Vec<u32> {
    let filled = |o: &&TaskOutput| !o.items.is_empty();
    let first = outputs
        .iter()
        .filter(filled)
        .map(|o| o.items[0].number)
        .min();
    let last = outputs
        .iter()
        .filter_map(|o| o.items.last())
        .map(|item| item.number)
        .max();
    let (Some(first), Some(last)) = (first, last) else {
        return Vec::new();
    };
    if outputs.iter().filter(filled).count() == 1 {
        let output = outputs
            .iter()
            .position(|o| !o.items.is_empty())
            .unwrap_or(0);
        let places = 0..outputs[output].items.len() as u32;
        return places
            .map(|item| (output as u32) << OUTPUT_SHIFT | item)
            .collect();
    }
    let mut table = vec![NO_ITEM; (last - first) as usize + 1];
    for (output, o) in outputs.iter().enumerate() {
        for (number, item) in o.items.iter().enumerate() {
            table[(item.number - first) as usize] = (output as u32) << OUTPUT_SHIFT | number as u32;
        }
    }
    table.retain(|place| *place != NO_ITEM);
    table
}

#[inline]
fn measure(item: &Item, tops: &Tops, run_of: &mut [u32], measures: &mut Vec<Measure>) {
    let (leader, top) = tops.by_group[usize::from(item.group)];
    let run = &mut run_of[usize::from(leader)];
    if *run == NO_RUN {
        *run = measures.len() as u32;
        measures.push(Measure {
            top,
            bytes: item.bytes,
            segments: 1,
            last_group: item.group,
            last_flags: item.flags,
        });
        return;
    }
    let measure = &mut measures[*run as usize];
    measure.bytes += item.bytes;
    if measure.last_group != item.group || measure.last_flags != item.flags {
        measure.segments += 1;
        measure.last_group = item.group;
        measure.last_flags = item.flags;
    }
}

/// Where the next item of a run goes.
struct Cursor {
    at: u32,
    segment: u32,
    fresh: bool,
    last_group: u16,
    last_flags: u8,
    seen: [u32; 8],
    seen_count: usize,
}

fn lay_out(measures: &[Measure], merged: &mut Merged) -> Vec<Cursor> {
    let (mut bytes, mut segments) = (0, 0);
    let mut cursors = Vec::with_capacity(measures.len());
    merged.runs.reserve(measures.len());
    for measure in measures {
        merged.runs.push(Run {
            top: measure.top,
            segments: segments..segments + measure.segments,
            bytes: bytes..bytes + measure.bytes,
            last: bytes,
            events: 0,
            rows: 0,
            crc: 0,
            relations: 0..0,
            flags: 0,
            finished: None,
        });
        cursors.push(Cursor {
            at: bytes,
            segment: segments,
            fresh: true,
            last_group: 0,
            last_flags: 0,
            seen: [0; 8],
            seen_count: 0,
        });
        bytes += measure.bytes;
        segments += measure.segments;
    }
    let empty = Segment {
        xid: Xid::INVALID,
        bytes: 0,
        events: 0,
        rows: 0,
        flags: 0,
    };
    merged.segments.resize(segments as usize, empty);
    cursors
}

impl Cursor {
    #[inline]
    fn place(&mut self, item: &Item, xid: Xid, merged: &mut Merged, run: usize) {
        let changed = self.last_group != item.group || self.last_flags != item.flags;
        if self.fresh {
            self.fresh = false;
        } else if changed {
            self.segment += 1;
        }
        self.last_group = item.group;
        self.last_flags = item.flags;
        let segment = &mut merged.segments[self.segment as usize];
        segment.xid = xid;
        segment.bytes += item.bytes;
        segment.events += item.events;
        segment.rows += item.rows;
        segment.flags |= item.flags;
        let run = &mut merged.runs[run];
        run.events += item.events;
        run.rows += item.rows;
        run.flags |= item.flags;
        run.last = self.at + (item.last - item.offset);
        self.at += item.bytes;
    }

    /// Notes a relation version of the run, once or a few times.
    #[inline]
    fn note_relation(
        &mut self,
        version: RelationVersion,
        run: u32,
        relations: &mut Vec<(u32, RelationVersion)>,
    ) {
        if version.0 == 0 || self.seen[..self.seen_count].contains(&version.0) {
            return;
        }
        if self.seen_count < self.seen.len() {
            self.seen[self.seen_count] = version.0;
            self.seen_count += 1;
        }
        relations.push((run, version));
    }
}

impl Merged {
    /// Groups the noted versions by run, each once, by first use.
    fn set_relations(&mut self, mut noted: Vec<(u32, RelationVersion)>) {
        noted.sort_by_key(|(run, _)| *run);
        let mut at = 0;
        for (number, run) in self.runs.iter_mut().enumerate() {
            let from = self.relations.len();
            let mut distinct = rustc_hash::FxHashSet::default();
            let few = |length: usize| length <= FEW_RELATIONS;
            let length = noted[at..]
                .iter()
                .take_while(|(of, _)| *of == number as u32)
                .count();
            for (_, version) in &noted[at..at + length] {
                let known = if few(length) {
                    self.relations[from..].contains(version)
                } else {
                    !distinct.insert(*version)
                };
                if !known {
                    self.relations.push(*version);
                }
            }
            at += length;
            run.relations = from as u32..self.relations.len() as u32;
        }
    }

    fn set_sums(&mut self, arena: &[u8]) {
        for run in &mut self.runs {
            set_sum(run, arena);
        }
    }

    /// Puts the runs in the order of the numbers of their first records.
    pub(super) fn order_runs(&mut self, numbers: &[u32]) {
        if numbers.is_sorted() {
            return;
        }
        let mut numbered: Vec<_> = numbers.iter().zip(self.runs.drain(..)).collect();
        numbered.sort_unstable_by_key(|(number, _)| **number);
        self.runs = numbered.into_iter().map(|(_, run)| run).collect();
    }
}

/// Sums a run's bytes, if they are what leaves.
pub(super) fn set_sum(run: &mut Run, arena: &[u8]) {
    if run.flags & segment_flags::SPECIAL == 0 {
        run.crc = crc32fast::hash(&arena[run.bytes.start as usize..run.bytes.end as usize]);
    }
}
