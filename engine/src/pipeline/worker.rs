//! A worker's loop: what it does next, and when it sleeps.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam::deque::{Injector, Steal};
use redostream_protocol::Lsn;

use super::{GateStep, IDLE, Shared, Stage, Task};
use crate::catalog::tracked::TrackedFiles;
use crate::decoding::ordered::Scratch;
use crate::error::EngineError;
use crate::source::chunk::Planned;

/// One worker thread.
pub(super) struct Worker<'s, 'a> {
    pub(super) shared: &'s Shared<'a>,
    /// Its number.
    pub(super) number: usize,
    /// What it decodes in.
    pub(super) scratch: Scratch,
}

impl<'s, 'a> Worker<'s, 'a> {
    pub(super) fn new(shared: &'s Shared<'a>, number: usize) -> Self {
        Worker {
            shared,
            number,
            scratch: Scratch::default(),
        }
    }

    pub(super) fn run(mut self) {
        while !self.shared.is_over() {
            if self.shared.stop.is_stopped() {
                self.shared.end_with(Ok(()));
                break;
            }
            if let Err(error) = self.step() {
                self.shared.end_with(Err(error));
            }
        }
    }

    /// Gives the catalogs to whoever asks for them, if the gate is free.
    fn answer(&mut self) -> Result<(), EngineError> {
        if !self.shared.counters.catalog.is_wanted() {
            return Ok(());
        }
        let Some(mut step) = self.shared.gate.try_lock() else {
            return Ok(());
        };
        self.answer_from(&mut step);
        drop(step);
        // Somebody may have brought a chunk meanwhile, found the gate taken, and gone away.
        self.drain_gate()
    }

    /// As [`Self::answer`], by who has the gate and keeps it for a while.
    pub(super) fn answer_from(&self, step: &mut GateStep) {
        let current = &self.shared.counters.catalog;
        if current.is_wanted() {
            current.give(step.gate.current_catalog());
        }
    }

    pub(super) fn step(&mut self) -> Result<(), EngineError> {
        self.answer()?;
        if let Some(task) = self.find_task() {
            return self.decode(task);
        }
        if let Some(part) = self.shared.failed_part() {
            return self.wind_up(part);
        }
        match self.plan()? {
            (Planned::Chunk(plan), tracked) => self.frame(plan, &tracked),
            (Planned::Wait(beyond), _) => {
                let since = Instant::now();
                self.shared.source.wait(beyond, IDLE);
                self.shared.waited(Stage::Source, since);
                Ok(())
            }
            (Planned::Busy | Planned::End, _) => {
                let since = Instant::now();
                self.idle();
                self.shared.waited(Stage::Framing, since);
                Ok(())
            }
        }
    }

    /// Something went wrong at `part`: ends when everything before it is released.
    pub(super) fn wind_up(&self, part: u64) -> Result<(), EngineError> {
        self.drain_assembly()?;
        let Some(step) = self.shared.assembly.try_lock() else {
            self.idle();
            return Ok(());
        };
        let done = step.next_part >= part;
        drop(step);
        if !done {
            self.idle();
            return Ok(());
        }
        match self.shared.failure.lock().take() {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    pub(super) fn plan(&self) -> Result<(Planned, Arc<TrackedFiles>), EngineError> {
        let mut planning = self.shared.planning.lock();
        let tracked = Arc::clone(&planning.tracked);
        if planning.before_gate + planning.after_gate >= self.shared.window {
            return Ok((Planned::Busy, tracked));
        }
        let expected = Lsn(self.shared.expected.load(Ordering::Acquire));
        let idle = planning.before_gate == 0;
        if self.shared.stop.is_ending() {
            let through = idle && planning.after_gate == 0;
            drop(planning);
            if through {
                self.finish()?;
            }
            return Ok((Planned::Busy, tracked));
        }
        match planning.planner.plan(self.shared.source, idle, expected) {
            Ok(planned) => {
                if matches!(planned, Planned::Chunk(_)) {
                    planning.before_gate += 1;
                }
                let through = idle && planning.after_gate == 0;
                drop(planning);
                if planned == Planned::End && through {
                    self.at_end(expected)?;
                }
                Ok((planned, tracked))
            }
            // What comes before it goes first.
            Err(_) if !idle || planning.after_gate > 0 => Ok((Planned::Busy, tracked)),
            Err(error) => Err(error.into()),
        }
    }

    /// Everything that was planned is through.
    pub(super) fn at_end(&self, expected: Lsn) -> Result<(), EngineError> {
        let end = self.shared.end;
        if end < Lsn::MAX && expected < end {
            return Err(self.ends_early(expected, "no more WAL was found"));
        }
        self.shared.end_with(Ok(()));
        Ok(())
    }

    pub(super) fn ends_early(&self, lsn: Lsn, reason: &str) -> EngineError {
        let place = self.shared.source.locate(lsn);
        EngineError::EndsEarly {
            lsn,
            place,
            reason: reason.to_owned(),
            wanted: self.shared.end,
        }
    }

    pub(super) fn idle(&self) {
        let mut guard = self.shared.wake_lock.lock();
        if !self.shared.is_over() && self.shared.tasks.iter().all(Injector::is_empty) {
            self.shared.wake.wait_for(&mut guard, IDLE);
        }
    }

    /// The oldest task of a chunk that this worker has framed, else of another.
    fn find_task(&self) -> Option<Task> {
        let workers = self.shared.tasks.len();
        let mut again = true;
        while std::mem::take(&mut again) {
            for worker in (self.number..workers).chain(0..self.number) {
                match self.shared.tasks[worker].steal() {
                    Steal::Success(task) => return Some(task),
                    Steal::Retry => again = true,
                    Steal::Empty => {}
                }
            }
        }
        None
    }
}
