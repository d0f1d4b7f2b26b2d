//! The gate's turn: chunks in order, their parts to the decoders; where the log ends or is damaged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redostream_protocol::Lsn;

use super::sleepers::IDLE;
use super::worker::Worker;
use super::{Framed, GateStep, LOOK, PartWork, Stage, TORN_GRACE, Task};
use crate::error::EngineError;
use crate::framing::chunk::Stop;
use crate::framing::error::FrameError;
use crate::framing::page::{LONG_HEADER_BYTES, PageHeader};
use crate::framing::wal_bytes::WalBytes;
use crate::gate::{GateError, GatedPart, Passed};
use crate::limits::WAL_PAGE_BYTES;
use crate::source::Available;
use crate::source::chunk::{Next, Plan};

/// Pages that the longest record may stand on.
const RECORD_PAGES_MAX: usize = (1 << 30) / WAL_PAGE_BYTES + 2;

impl Worker<'_, '_> {
    /// Takes chunks through the gate while the next one is there.
    pub(super) fn drain_gate(&mut self) -> Result<(), EngineError> {
        let drained = self.drain_gate_while_free();
        self.give_away_but_one();
        drained
    }

    fn drain_gate_while_free(&mut self) -> Result<(), EngineError> {
        loop {
            let Some(mut step) = self.shared.gate.try_lock() else {
                return Ok(());
            };
            while !self.shared.is_over()
                && let Some(framed) = self.next_framed(step.next_chunk)
            {
                // What the last chunk brought is not to wait for this one.
                self.give_away();
                let since = Instant::now();
                step.next_chunk += 1;
                let passed = self.pass(&mut step, framed);
                self.shared.busy(Stage::Gate, since);
                if let Err(error) = passed {
                    // While the gate is held: nobody goes on from where it broke off.
                    self.shared.end_with(Err(error));
                    return Ok(());
                }
            }
            let next = step.next_chunk;
            drop(step);
            // Somebody may have brought the next one and found the gate taken.
            if self.shared.is_over() || !self.shared.framed.lock().contains_key(&next) {
                return Ok(());
            }
        }
    }

    /// Ends the pipeline with a restart point behind everything that went through it. Nothing is
    /// under way any more.
    pub(super) fn finish(&self) -> Result<(), EngineError> {
        let Some(mut step) = self.shared.gate.try_lock() else {
            return Ok(());
        };
        if self.shared.is_over() {
            return Ok(());
        }
        if let Some((id, state)) = step.gate.final_state() {
            let next = state.next;
            self.shared.states.lock().insert(id, state);
            let assembled = self.assemble_checkpoint(id, next);
            self.shared.end_with(assembled);
        } else {
            self.shared.end_with(Ok(()));
        }
        Ok(())
    }

    pub(super) fn next_framed(&self, number: u64) -> Option<Framed> {
        self.shared.framed.lock().remove(&number)
    }

    pub(super) fn pass(&mut self, step: &mut GateStep, framed: Framed) -> Result<(), EngineError> {
        let Framed {
            plan,
            tried,
            worker,
            generation,
            chunk,
            since,
        } = framed;
        self.shared.waited(Stage::Gate, since);
        let chunk = match chunk {
            Ok(chunk) => Arc::new(chunk),
            Err(error) => {
                self.shared.fail(step.next_part, error);
                return Ok(());
            }
        };
        if chunk.stop == Stop::Short && !plan.span.exact && chunk.first.is_none() {
            // Bytes of it were not there, and no record is known to start in it: whether one goes on
            // behind them it cannot tell.
            let expected = step.gate.expected();
            self.restart(step, Next::Record(expected), Lsn::INVALID);
            self.await_read(step, plan, tried);
            self.shared.recycle(chunk);
            return Ok(());
        }
        if let Err(seam) = step.gate.join_mut().check(&chunk) {
            self.bad_seam(step, plan, seam);
            return Ok(());
        }
        if self.shared.restart_points.take() {
            step.gate.want_checkpoint();
        }
        let before = step.gate.expected();
        let mut parts = Vec::new();
        let passed = step.gate.push(&chunk, generation, &mut parts);
        let expected = step.gate.expected();
        if !step.ready_told {
            *self.shared.counters.waits_for.lock() = step.gate.waits_for();
        }
        self.shared.states.lock().extend(step.gate.take_states());
        self.shared.expected.store(expected.0, Ordering::Release);
        self.shared
            .counters
            .wal_bytes
            .fetch_add(expected.bytes_since(before), Ordering::Relaxed);
        self.shared
            .counters
            .records
            .fetch_add(chunk.records, Ordering::Relaxed);
        self.shared
            .counters
            .decoded_lsn
            .store(expected.0, Ordering::Relaxed);
        self.passed_gate(!parts.is_empty());
        self.release_parts(step, parts, worker);
        match (passed, &chunk.stop) {
            (Err(error), _) => self.shared.fail(step.next_part, error.into()),
            (Ok(Passed::Again(lsn)), _) => self.restart(step, Next::Record(lsn), Lsn::INVALID),
            (_, Stop::End) => {}
            (_, Stop::Switch) => self.restart(step, Next::Record(chunk.next), Lsn::INVALID),
            (_, Stop::Short) => {
                self.restart(step, Next::Record(chunk.next), tried);
                self.await_read(step, plan, tried);
            }
            (_, Stop::Bad(error)) => self.bad_record(step, plan, chunk.next, error)?,
        }
        self.shared.recycle(chunk);
        Ok(())
    }

    /// Waits for what a chunk was planned with and could not read: it has left the buffer, and the files
    /// do not give it yet.
    fn await_read(&mut self, step: &mut GateStep, plan: Plan, tried: Lsn) {
        if tried < plan.available {
            self.give_away();
            // Nobody else gets to the gate while this waits.
            self.answer_from(step);
            self.shared.source.wait(tried, IDLE);
        }
    }

    pub(super) fn passed_gate(&mut self, has_parts: bool) {
        let mut planning = self.shared.planning.lock();
        planning.before_gate = planning.before_gate.saturating_sub(1);
        planning.after_gate += u64::from(has_parts);
        // Its place is free for another chunk, or at the live end the next one is planned only now.
        let room = planning.before_gate + planning.after_gate < self.shared.window;
        let may_plan = room && (!has_parts || planning.before_gate == 0);
        drop(planning);
        if may_plan {
            self.offer_planning();
        }
    }

    /// Plans anew from `next`; chunks framed meanwhile are dropped as they arrive.
    pub(super) fn restart(&mut self, step: &GateStep, next: Next, tried: Lsn) {
        let mut planning = self.shared.planning.lock();
        planning.tracked = step.gate.catalog().tracked();
        planning.planner.restart(next, step.next_chunk, tried);
        planning.before_gate = 0;
        self.shared.framed.lock().clear();
        drop(planning);
        self.offer_planning();
    }

    pub(super) fn bad_seam(&mut self, step: &GateStep, plan: Plan, seam: GateError) {
        if plan.span.exact {
            self.shared.fail(step.next_part, seam.into());
        } else {
            // The chunk was framed from a page header alone; framing from the record decides.
            let expected = step.gate.expected();
            self.restart(step, Next::Record(expected), Lsn::INVALID);
        }
    }

    /// What is at `lsn` is not a record: the end of the log, or damage.
    pub(super) fn bad_record(
        &mut self,
        step: &mut GateStep,
        plan: Plan,
        lsn: Lsn,
        error: &FrameError,
    ) -> Result<(), EngineError> {
        let source = self.shared.source;
        let available = source.available(plan.span.start)?;
        let goes_on = error.is_past_checks()
            || (available.trusted && available.end > lsn)
            || self.look_further(step, lsn, available)?;
        let torn_for = match step.torn {
            Some((at, since)) if at == lsn => since.elapsed(),
            _ => Duration::ZERO,
        };
        let certain = error.is_past_checks() || available.closed || torn_for > TORN_GRACE;
        if goes_on && certain {
            let (place, error) = (self.place_of(lsn, error), error.clone());
            self.shared
                .fail(step.next_part, EngineError::Damaged { lsn, place, error });
        } else if available.closed && self.shared.end < Lsn::MAX {
            self.shared
                .fail(step.next_part, self.ends_early(lsn, &error.to_string()));
        } else if available.closed {
            self.restart(step, Next::Record(Lsn::MAX), Lsn::INVALID);
        } else {
            if torn_for.is_zero() {
                step.torn = goes_on.then(|| (lsn, Instant::now()));
            }
            self.restart(step, Next::Record(lsn), Lsn::INVALID);
            self.give_away();
            // Nobody else gets to the gate while this waits.
            self.answer_from(step);
            source.wait(available.end, IDLE);
        }
        Ok(())
    }

    /// As [`Self::later_page`], but not again and again while the log waits at its end: files are
    /// longer than what is written in them, and all of the rest would be read each time.
    fn look_further(
        &self,
        step: &mut GateStep,
        lsn: Lsn,
        available: Available,
    ) -> Result<bool, EngineError> {
        let looked = step.looked.filter(|(at, end, since)| {
            (*at, *end) == (lsn, available.end) && since.elapsed() < LOOK
        });
        if looked.is_some() && !available.closed {
            return Ok(false);
        }
        let later = self.later_page(lsn, available)?;
        step.looked = (!later).then(|| (lsn, available.end, Instant::now()));
        Ok(later)
    }

    /// Whether a page behind `lsn` is what it says it is, so that the log goes on there.
    pub(super) fn later_page(&self, lsn: Lsn, available: Available) -> Result<bool, EngineError> {
        let end = available.end;
        let page_bytes = WAL_PAGE_BYTES as u64;
        let mut page = Lsn(lsn.0 / page_bytes * page_bytes + page_bytes);
        let mut bytes = WalBytes::default();
        while page < end {
            let to = page.add(crate::limits::CHUNK_BYTES as u64).min(end);
            self.read(page, to, &mut bytes, 0)?;
            if bytes.is_empty() {
                return Ok(false);
            }
            let magic = self.shared.rules.format.page_magic;
            for header in bytes.chunks(WAL_PAGE_BYTES) {
                let segment_bytes = self.shared.rules.segment_bytes;
                let whole = header.len() >= LONG_HEADER_BYTES;
                if whole && let Ok(header) = PageHeader::parse(header, page, magic, segment_bytes) {
                    // What an older timeline left behind here says nothing of this one. Of a newer
                    // one the history may still come, where anything comes at all.
                    let (oldest, newest) = self.shared.source.page_timelines(page, page);
                    let stale = header.timeline < oldest.0;
                    let ahead = header.timeline > newest.0;
                    if !stale && (available.closed || !ahead) {
                        return Ok(true);
                    }
                }
                page = page.add(page_bytes);
            }
        }
        Ok(false)
    }

    /// Names the file and offset of what is wrong with the record at `lsn`: it may stand on a page in
    /// a later file.
    fn place_of(&self, lsn: Lsn, error: &FrameError) -> String {
        let page = match error {
            FrameError::Page(_) => self.bad_page(lsn),
            FrameError::Continuation { page, .. } => Some(*page),
            _ => None,
        };
        self.shared.source.locate(page.unwrap_or(lsn).max(lsn))
    }

    /// The first page from that of `lsn` on whose header is wrong.
    fn bad_page(&self, lsn: Lsn) -> Option<Lsn> {
        let page_bytes = WAL_PAGE_BYTES as u64;
        let mut page = Lsn(lsn.0 / page_bytes * page_bytes);
        let (mut bytes, rules) = (WalBytes::default(), &self.shared.rules);
        for _ in 0..RECORD_PAGES_MAX {
            self.read(page, page.add(page_bytes), &mut bytes, 0).ok()?;
            if bytes.len() < crate::framing::page::LONG_HEADER_BYTES {
                return None;
            }
            let (magic, segment_bytes) = (rules.format.page_magic, rules.segment_bytes);
            let parsed =
                crate::framing::page::PageHeader::parse(&bytes, page, magic, segment_bytes);
            if parsed.is_err() {
                return Some(page);
            }
            page = page.add(page_bytes);
        }
        None
    }

    /// Turns the gate's parts into decode tasks of the worker that framed their chunk.
    fn release_parts(&mut self, step: &mut GateStep, parts: Vec<GatedPart>, worker: usize) {
        let ready = match step.gate.ready() {
            Some(lsn) if !step.ready_told => {
                step.ready_told = true;
                Some(lsn)
            }
            _ => None,
        };
        let count = parts.len();
        for (index, mut part) in parts.into_iter().enumerate() {
            let last = index + 1 == count;
            let mut tasks: Vec<usize> = part
                .ranges
                .iter()
                .enumerate()
                .filter(|(_, range)| !range.is_empty())
                .map(|(partition, _)| partition)
                .collect();
            if tasks.is_empty() {
                // Merging is then all there is to do; any partition does.
                tasks.push(usize::MAX);
            }
            let work = Arc::new(PartWork {
                number: step.next_part,
                controls: Mutex::new(std::mem::take(&mut part.controls)),
                own: Mutex::new(std::mem::take(&mut part.own)),
                part,
                last,
                ready: ready.filter(|_| last),
                outputs: Mutex::new(Vec::new()),
                left: AtomicU64::new(tasks.len() as u64),
            });
            step.next_part += 1;
            self.offer_tasks(tasks.len());
            self.shared
                .tasks_queued
                .fetch_add(tasks.len(), Ordering::SeqCst);
            for partition in tasks {
                self.shared.tasks[worker].push(Task {
                    work: Arc::clone(&work),
                    partition,
                    since: Instant::now(),
                });
            }
        }
    }
}
