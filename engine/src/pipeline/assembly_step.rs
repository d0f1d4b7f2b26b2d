//! Assembly's turn: parts in order, what they release to the sink.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::worker::Worker;
use super::{AssemblyStep, Decoded, RestartPoint};
use crate::assembly::Output;
use crate::error::EngineError;

impl Worker<'_, '_> {
    /// Takes parts through assembly while the next one is there.
    pub(super) fn drain_assembly(&self) -> Result<(), EngineError> {
        loop {
            let Some(mut step) = self.shared.assembly.try_lock() else {
                return Ok(());
            };
            loop {
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
                let since = Instant::now();
                step.next_part += 1;
                self.assemble(&mut step, decoded)?;
                self.shared.busy(4, since);
            }
            let next = step.next_part;
            drop(step);
            if !self.shared.decoded.lock().contains_key(&next) {
                return Ok(());
            }
        }
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
        while let Some(output) = assembler.next_output()? {
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
        if let Some(ready) = decoded.ready {
            sink.ready(ready);
        }
        if decoded.last {
            self.shared.planning.lock().after_gate -= 1;
            self.shared.wake_all();
        }
        Ok(())
    }
}
