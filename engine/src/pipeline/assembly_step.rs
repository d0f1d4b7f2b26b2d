//! Assembly's turn: parts in order, what they release to the sink.

use std::sync::atomic::Ordering;
use std::time::Instant;

use redostream_protocol::Lsn;

use super::worker::Worker;
use super::{AssemblyStep, Decoded, ROOM_STEP, RestartPoint, Stage};
use crate::assembly::part::{Control, ControlKind, Part};
use crate::assembly::{Assembler, AssemblyError, Output};
use crate::error::EngineError;

impl Worker<'_, '_> {
    /// Takes parts through assembly while the next one is there.
    pub(super) fn drain_assembly(&mut self) -> Result<(), EngineError> {
        let drained = self.drain_assembly_while_free();
        self.give_away_but_one();
        drained
    }

    fn drain_assembly_while_free(&mut self) -> Result<(), EngineError> {
        loop {
            let Some(mut step) = self.shared.assembly.try_lock() else {
                return Ok(());
            };
            loop {
                if self.shared.is_over() {
                    return Ok(());
                }
                let number = step.next_part;
                if self
                    .shared
                    .failed_part()
                    .is_some_and(|failed| number >= failed)
                {
                    return Ok(());
                }
                let Some(decoded) = self.shared.decoded.lock().remove(&number) else {
                    break;
                };
                self.shared.waited(Stage::Assembly, decoded.since);
                // The output may block.
                self.give_away();
                let since = Instant::now();
                step.next_part += 1;
                let last = decoded.last;
                if let Err(error) = self.assemble(&mut step, decoded) {
                    // While assembly is held: nothing follows what could not be given out.
                    self.shared.end_with(Err(error));
                    return Ok(());
                }
                // Its chunk is through: there is room for another.
                if last {
                    self.offer_planning();
                }
                self.shared.busy(Stage::Assembly, since);
            }
            let next = step.next_part;
            drop(step);
            if !self.shared.decoded.lock().contains_key(&next) {
                return Ok(());
            }
        }
    }

    /// Takes a restart point behind everything that went through; nothing else is under way.
    pub(super) fn assemble_checkpoint(&self, id: u64, at: Lsn) -> Result<(), EngineError> {
        let mut step = self.shared.assembly.lock();
        let control = Control {
            lsn: at,
            end_lsn: at,
            kind: ControlKind::Checkpoint(id),
        };
        let part = Part {
            end: at,
            controls: vec![control],
            ..Part::default()
        };
        let decoded = Decoded {
            part,
            last: false,
            ready: None,
            since: Instant::now(),
        };
        self.assemble(&mut step, decoded)
    }

    /// The assembler's next output; waits while there is no room for rows.
    fn next_output(&self, assembler: &mut Assembler) -> Result<Option<Output>, EngineError> {
        let mut full_since = None;
        loop {
            match assembler.next_output() {
                Err(error) if error.is_retryable() => {
                    self.wait_for_room(*full_since.get_or_insert_with(Instant::now), error)?;
                }
                Err(error) => return Err(error.into()),
                Ok(output) => {
                    if full_since.is_some() {
                        tracing::info!("there is room again; decoding goes on");
                        *self.shared.counters.waits_for.lock() = None;
                    }
                    return Ok(output);
                }
            }
        }
    }

    /// There is no room for rows: says so, and lets some time pass before it is tried again.
    fn wait_for_room(&self, since: Instant, error: AssemblyError) -> Result<(), EngineError> {
        if since.elapsed() >= self.shared.room_wait || self.shared.stop.is_ending() {
            return Err(error.into());
        }
        let mut waits_for = self.shared.counters.waits_for.lock();
        if waits_for.is_none() {
            tracing::error!(%error, "decoding waits for room");
        }
        *waits_for = Some(error.to_string());
        drop(waits_for);
        std::thread::sleep(ROOM_STEP);
        Ok(())
    }

    pub(super) fn assemble(
        &self,
        step: &mut AssemblyStep<'_>,
        decoded: Decoded,
    ) -> Result<(), EngineError> {
        let AssemblyStep {
            assembler, sink, ..
        } = step;
        assembler.push(decoded.part)?;
        while let Some(output) = self.next_output(assembler)? {
            match output {
                Output::Block(block) => {
                    let counters = self.shared.counters;
                    counters.rows.fetch_add(block.rows, Ordering::Relaxed);
                    counters
                        .transactions
                        .fetch_add(block.transactions, Ordering::Relaxed);
                    counters
                        .released_lsn
                        .store(block.wal_end.0, Ordering::Relaxed);
                    sink.block(block)?;
                }
                Output::Checkpoint { id, state, spilled } => {
                    let gate = self.shared.states.lock().remove(&id);
                    if let Some(gate) = gate {
                        sink.restart_point(RestartPoint {
                            gate,
                            assembly: state,
                            spilled,
                        });
                    }
                }
            }
        }
        let (counted, counters) = (assembler.counters(), self.shared.counters);
        for (counter, value) in [
            (&counters.open_transactions, counted.open_transactions),
            (&counters.open_bytes, counted.open_bytes),
            (&counters.spilled_bytes, counted.spilled_bytes_total),
        ] {
            counter.store(value, Ordering::Relaxed);
        }
        if let Some(ready) = decoded.ready {
            sink.ready(ready);
        }
        if decoded.last {
            self.shared.planning.lock().after_gate -= 1;
        }
        Ok(())
    }
}
