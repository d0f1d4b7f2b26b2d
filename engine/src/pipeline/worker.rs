//! A worker's loop: what it does next, and when it sleeps.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam::deque::Steal;
use redostream_protocol::Lsn;

use super::sleepers::{IDLE, Seen};
use super::{GateStep, Shared, Stage, Task};
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
    /// So many tasks have come up here, and nobody was woken for them yet.
    offered_tasks: usize,
    /// The same of a chunk that may be planned.
    offered_planning: bool,
}

impl<'s, 'a> Worker<'s, 'a> {
    pub(super) fn new(shared: &'s Shared<'a>, number: usize) -> Self {
        Worker {
            shared,
            number,
            scratch: Scratch::default(),
            offered_tasks: 0,
            offered_planning: false,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            // First of all: what comes up from here on, the end too, is not slept through.
            let seen = self.shared.sleepers.seen();
            if self.shared.is_over() {
                break;
            }
            if self.shared.stop.is_stopped() {
                self.shared.end_with(Ok(()));
                break;
            }
            if let Err(error) = self.step(seen) {
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

    /// So many tasks have come up.
    pub(super) fn offer_tasks(&mut self, count: usize) {
        self.offered_tasks += count;
    }

    /// A chunk may be planned now. Whoever does so wakes another if there may be more.
    pub(super) fn offer_planning(&mut self) {
        self.offered_planning = true;
    }

    /// Others are to do what has come up: this worker is busy with something else.
    pub(super) fn give_away(&mut self) {
        self.wake_all_but(0);
    }

    /// This worker does one thing of what has come up, and others the rest.
    pub(super) fn give_away_but_one(&mut self) {
        self.wake_all_but(1);
    }

    fn wake_all_but(&mut self, own: usize) {
        let planning = std::mem::take(&mut self.offered_planning);
        let things = std::mem::take(&mut self.offered_tasks) + usize::from(planning);
        self.shared.sleepers.wake(things.saturating_sub(own));
    }

    fn step(&mut self, seen: Seen) -> Result<(), EngineError> {
        self.answer()?;
        if let Some(task) = self.find_task() {
            return self.decode(task);
        }
        if let Some(part) = self.shared.failed_part() {
            return self.wind_up(part, seen);
        }
        match self.plan()? {
            (Planned::Chunk(plan), tracked) => self.frame(plan, &tracked),
            (Planned::Wait(beyond), _) => {
                let since = Instant::now();
                match self.shared.sleepers.place_at_source() {
                    Some(_place) => self.shared.source.wait(beyond, IDLE),
                    None => self.shared.sleepers.sleep(self.number, seen),
                }
                self.shared.waited(Stage::Source, since);
                Ok(())
            }
            (Planned::Busy | Planned::End, _) => {
                let since = Instant::now();
                self.shared.sleepers.sleep(self.number, seen);
                self.shared.waited(Stage::Framing, since);
                Ok(())
            }
        }
    }

    /// Something went wrong at `part`: ends when everything before it is released.
    pub(super) fn wind_up(&mut self, part: u64, seen: Seen) -> Result<(), EngineError> {
        self.drain_assembly()?;
        let Some(step) = self.shared.assembly.try_lock() else {
            self.shared.sleepers.sleep(self.number, seen);
            return Ok(());
        };
        let done = step.next_part >= part;
        drop(step);
        if !done {
            self.shared.sleepers.sleep(self.number, seen);
            return Ok(());
        }
        match self.shared.failure.lock().take() {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    pub(super) fn plan(&mut self) -> Result<(Planned, Arc<TrackedFiles>), EngineError> {
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
                let room = planning.before_gate + planning.after_gate < self.shared.window;
                let more = room && planning.planner.is_far_from_end();
                drop(planning);
                // Another may plan the next one, and wake who plans the one after it.
                if more {
                    self.offer_planning();
                    self.give_away();
                }
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

    /// The oldest task of a chunk that this worker has framed, else of another.
    fn find_task(&self) -> Option<Task> {
        let workers = self.shared.tasks.len();
        let queued = &self.shared.tasks_queued;
        let mut again = true;
        while std::mem::take(&mut again) && queued.load(Ordering::SeqCst) > 0 {
            for worker in (self.number..workers).chain(0..self.number) {
                match self.shared.tasks[worker].steal() {
                    Steal::Success(task) => {
                        queued.fetch_sub(1, Ordering::SeqCst);
                        return Some(task);
                    }
                    Steal::Retry => again = true,
                    Steal::Empty => {}
                }
            }
        }
        None
    }
}
