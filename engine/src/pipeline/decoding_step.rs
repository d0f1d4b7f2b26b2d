//! Decoding a part's rows: one task per partition; who finishes last merges.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::worker::Worker;
use super::{Decoded, PartWork, Stage, Task};
use crate::assembly::part::{Part, Run, segment_flags};
use crate::decoding::merge::{Merged, merge};
use crate::decoding::names::LateNames;
use crate::decoding::ordered::decode_ordered;
use crate::decoding::task::{TaskOutput, decode};
use crate::error::EngineError;

impl Worker<'_, '_> {
    pub(super) fn decode(&mut self, task: Task) -> Result<(), EngineError> {
        self.shared.waited(Stage::Decoding, task.since);
        let since = Instant::now();
        let work = &task.work;
        let part = &work.part;
        let merged = if part.ranges.len() == 1 && work.own.lock().items.is_empty() {
            self.decode_alone(work)
        } else {
            self.decode_partition(&task);
            if work.left.fetch_sub(1, Ordering::AcqRel) != 1 {
                self.shared.busy(Stage::Decoding, since);
                self.recycle(task.work);
                return Ok(());
            }
            self.merge(work)
        };
        let toasted = |run: &Run| run.flags & segment_flags::TOAST != 0;
        let names = match merged.runs.iter().any(toasted) {
            true => LateNames::of(&part.targets),
            false => None,
        };
        let decoded = Decoded {
            part: Part {
                end: part.end,
                arena: merged.arena,
                runs: merged.runs,
                segments: merged.segments,
                relations: merged.relations,
                controls: std::mem::take(&mut *work.controls.lock()),
                names,
            },
            last: work.last,
            ready: work.ready,
            since: Instant::now(),
        };
        let number = work.number;
        self.recycle(task.work);
        self.shared.busy(Stage::Decoding, since);
        self.shared.decoded.lock().insert(number, decoded);
        self.drain_assembly()
    }

    /// All rows of a part.
    fn decode_alone(&mut self, work: &PartWork) -> Merged {
        let part = &work.part;
        let decoded = decode_ordered(
            &part.chunk,
            &part.chunk.partitions[0][part.ranges[0].clone()],
            &part.targets,
            &part.tops,
            self.shared.rules.format,
            &self.shared.arenas,
            &mut self.scratch,
        );
        decoded.unwrap_or_else(|error| {
            self.shared.fail(work.number, error.into());
            Merged::default()
        })
    }

    fn decode_partition(&self, task: &Task) {
        let work = &task.work;
        let part = &work.part;
        let Some(range) = part.ranges.get(task.partition) else {
            return;
        };
        let entries = &part.chunk.partitions[task.partition][range.clone()];
        let mut output = TaskOutput {
            arena: self.shared.pool.take(),
            items: Vec::new(),
        };
        let format = self.shared.rules.format;
        if let Err(error) = decode(&part.chunk, entries, &part.targets, format, &mut output) {
            self.shared.fail(work.number, error.into());
        }
        work.outputs.lock().push((task.partition, output));
    }

    fn merge(&self, work: &PartWork) -> Merged {
        let mut outputs = std::mem::take(&mut *work.outputs.lock());
        outputs.sort_by_key(|(partition, _)| *partition);
        let mut outputs: Vec<TaskOutput> = outputs.into_iter().map(|(_, output)| output).collect();
        let part = &work.part;
        let own = std::mem::take(&mut *work.own.lock());
        if !own.items.is_empty() {
            outputs.push(own);
        }
        let with_own;
        let groups = if part.own_groups.is_empty() {
            &part.chunk.groups
        } else {
            with_own = [&part.chunk.groups[..], &part.own_groups].concat();
            &with_own
        };
        merge(
            outputs,
            &part.own_relations,
            groups,
            &part.tops,
            &self.shared.pool,
        )
    }

    /// Takes back the buffers of a chunk whose last task is done.
    fn recycle(&self, work: Arc<PartWork>) {
        if let Some(work) = Arc::into_inner(work) {
            self.shared.recycle(work.part.chunk);
        }
    }
}
