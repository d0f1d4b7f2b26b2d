//! START HERE. Builds the stages and owns every thread and queue.
//!
//! ```text
//!  planner ──plan──▶ worker: read, frame ──FramedChunk──▶ gate (ordered) ──GatedPart──▶ tasks
//!                                                                                       │
//!  output ◀──Block── assembly (ordered) ◀──Part── merge ◀──last finisher── workers: decode
//! ```
//!
//! There are N workers and no other thread. A worker looks for work from the end of the line
//! towards its beginning: a decode task of its own, one of somebody else's, else a new chunk. The
//! two ordered steps have no thread either: whoever brings the next chunk or part in order, and
//! finds the step free, does it, and goes on while the next one is there. So with one worker the
//! stages are fused, and with many nobody waits for a hand-over.
//!
//! Bounds: at most `Shared::window` chunks are under way between planning and assembly, which
//! bounds every queue here; a worker that finds the window full and no task waits. The output is
//! called on the ordered step and may block: that is backpressure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::deque::{Injector, Steal, Stealer, Worker as Deque};
use parking_lot::{Condvar, Mutex};
use redostream_protocol::Lsn;

use crate::assembly::part::Part;
use crate::assembly::{Assembler, AssemblerState, AssemblyError, Output, SpilledCopy};
use crate::catalog::CurrentCatalog;
use crate::catalog::tracked::TrackedFiles;
use crate::decoding::merge::merge;
use crate::decoding::task::{TaskOutput, decode};
use crate::error::EngineError;
use crate::feed::block::Block;
use crate::framing::chunk::{FrameError, FramedChunk, Framer, FramingRules, Progress, Stop};
use crate::framing::partition::RowEntry;
use crate::gate::{Gate, GateError, GateState, GatedPart, Passed};
use crate::limits::{CHUNKS_PER_DECODER, POOLED_BUFFERS_MAX, WAL_PAGE_BYTES};
use crate::pool::BufferPool;
use crate::source::chunk::{Next, Plan, Planned, Planner};
use crate::source::{Origin, Source, SourceError};

/// How long a worker with nothing to do sleeps before it looks again by itself.
const IDLE: Duration = Duration::from_millis(50);
/// How long the end of the log may be followed by a page of its right place before that is damage
/// rather than a write that is still under way.
const TORN_GRACE: Duration = Duration::from_secs(5);

/// How long the pipeline waits for room when rows of open transactions cannot be spilled, and how
/// often it tries.
const ROOM_WAIT: Duration = Duration::from_secs(60);
const ROOM_STEP: Duration = Duration::from_millis(500);

/// How a pipeline runs.
#[derive(Clone, Debug)]
pub struct PipelineOptions {
    /// Workers; 0 takes the machine's cores.
    pub decoders: usize,
    /// Partitions of a chunk; 0 takes as many as workers.
    pub partitions: usize,
    /// Bytes of WAL per chunk.
    pub chunk_bytes: usize,
    /// First LSN that is not wanted; [`Lsn::MAX`] for never.
    pub end: Lsn,
    /// How restart points are asked for.
    pub restart_points: RestartRequest,
}

/// Asks a pipeline for a restart point: it is taken before the next chunk, once C is reached.
#[derive(Clone, Debug, Default)]
pub struct RestartRequest(Arc<AtomicBool>);

impl RestartRequest {
    /// Asks for one.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn take(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::AcqRel)
    }
}

/// Who takes what the pipeline releases. Called on the ordered step, in order.
pub trait Sink: Send {
    /// Takes a block. Blocking is backpressure; an error stops the pipeline.
    fn block(&mut self, block: Block) -> Result<(), EngineError>;

    /// Takes a restart point: the state of the stages at one LSN.
    fn restart_point(&mut self, _point: RestartPoint) {}

    /// The catalog can be trusted and nothing before this LSN is open any more.
    fn ready(&mut self, _earliest: Lsn) {}
}

/// What a pipeline can be begun from again.
pub struct RestartPoint {
    /// The gate's share.
    pub gate: GateState,
    /// Assembly's share.
    pub assembly: AssemblerState,
    /// Spilled rows of open transactions.
    pub spilled: Vec<SpilledCopy>,
}

/// Numbers of a running pipeline, for anyone to read.
#[derive(Debug, Default)]
pub struct Counters {
    /// WAL bytes decoded.
    pub wal_bytes: AtomicU64,
    /// Of which from the redo buffer.
    pub buffer_bytes: AtomicU64,
    /// Records framed, ignored ones too.
    pub records: AtomicU64,
    /// Rows released.
    pub rows: AtomicU64,
    /// Transactions released.
    pub transactions: AtomicU64,
    /// LSN behind the last record that went through the gate.
    pub decoded_lsn: AtomicU64,
    /// LSN up to which everything was released.
    pub released_lsn: AtomicU64,
    /// The catalogs as they are now, for whoever asks.
    pub catalog: CurrentCatalog,
    /// Transactions that have rows and have not ended.
    pub open_transactions: AtomicU64,
    /// Bytes of memory that these take.
    pub open_bytes: AtomicU64,
    /// Bytes ever spilled.
    pub spilled_bytes: AtomicU64,
    /// What keeps the pipeline from going on, or C from being reached, in words.
    pub waits_for: Mutex<Option<String>>,
    /// Nanoseconds for which workers waited for WAL.
    pub wal_wait_ns: AtomicU64,
    /// Nanoseconds for which workers waited for other workers.
    pub work_wait_ns: AtomicU64,
    /// Nanoseconds spent, by stage: source, framing, gate, decoding, assembly with output.
    pub busy_ns: [AtomicU64; 5],
}

/// Names of the stages of [`Counters::busy_ns`].
pub const STAGES: [&str; 5] = ["source", "framing", "gate", "decoding", "assembly"];

/// How a pipeline is told to stop.
#[derive(Clone, Debug, Default)]
pub struct StopToken(Arc<AtomicBool>);

impl StopToken {
    /// Asks the pipeline to stop soon.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was asked.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Runs a pipeline until its end, an error, or a stop. The ordered stages are given back.
pub fn run(
    source: &dyn Source,
    gate: Gate,
    assembler: Assembler,
    options: &PipelineOptions,
    sink: &mut dyn Sink,
    counters: &Counters,
    stop: &StopToken,
) -> (Result<(), EngineError>, Gate) {
    let workers = match options.decoders {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let partitions = if options.partitions == 0 {
        workers
    } else {
        options.partitions
    };
    let rules = FramingRules {
        partitions: partitions as u32,
        ..gate.rules()
    };
    let planner = Planner::new(gate.expected(), options.end, options.chunk_bytes);
    let deques: Vec<Deque<Task>> = (0..workers).map(|_| Deque::new_lifo()).collect();
    let shared = Shared {
        source,
        rules,
        window: (CHUNKS_PER_DECODER * workers) as u64,
        end: options.end,
        restart_points: &options.restart_points,
        counters,
        stop,
        pool: BufferPool::new(POOLED_BUFFERS_MAX),
        stealers: deques.iter().map(Deque::stealer).collect(),
        injector: Injector::new(),
        planning: Mutex::new(Planning {
            planner,
            before_gate: 0,
            after_gate: 0,
            tracked: gate.catalog().tracked(),
        }),
        framed: Mutex::new(BTreeMap::new()),
        decoded: Mutex::new(BTreeMap::new()),
        expected: AtomicU64::new(gate.expected().0),
        gate: Mutex::new(GateStep {
            gate,
            next_chunk: 0,
            next_part: 0,
            torn: None,
            ready_told: false,
        }),
        assembly: Mutex::new(AssemblyStep {
            assembler,
            sink,
            next_part: 0,
        }),
        states: Mutex::new(BTreeMap::new()),
        failure: Mutex::new(None),
        outcome: Mutex::new(None),
        over: AtomicBool::new(false),
        wake: Condvar::new(),
        wake_lock: Mutex::new(()),
    };
    std::thread::scope(|scope| {
        let mut deques = deques.into_iter();
        let first = deques.next();
        for deque in deques {
            scope.spawn(|| Worker::new(&shared, deque).run());
        }
        if let Some(deque) = first {
            Worker::new(&shared, deque).run();
        }
    });
    let outcome = shared.outcome.into_inner().unwrap_or(Ok(()));
    (outcome, shared.gate.into_inner().gate)
}

/// What the workers share.
struct Shared<'a> {
    source: &'a dyn Source,
    rules: FramingRules,
    window: u64,
    end: Lsn,
    restart_points: &'a RestartRequest,
    counters: &'a Counters,
    stop: &'a StopToken,
    pool: BufferPool,
    stealers: Vec<Stealer<Task>>,
    injector: Injector<Task>,
    planning: Mutex<Planning>,
    /// Framed chunks that wait for their turn at the gate, by number.
    framed: Mutex<BTreeMap<u64, Framed>>,
    /// Merged parts that wait for their turn at assembly, by number.
    decoded: Mutex<BTreeMap<u64, Decoded>>,
    /// Where the gate expects the next record.
    expected: AtomicU64,
    gate: Mutex<GateStep>,
    assembly: Mutex<AssemblyStep<'a>>,
    /// The gate's shares of restart points that are on their way through assembly.
    states: Mutex<BTreeMap<u64, GateState>>,
    /// What went wrong, and the first part that must not be released because of it.
    failure: Mutex<Option<(u64, EngineError)>>,
    outcome: Mutex<Option<Result<(), EngineError>>>,
    over: AtomicBool,
    wake: Condvar,
    wake_lock: Mutex<()>,
}

struct Planning {
    planner: Planner,
    /// Chunks planned in this round and not yet through the gate.
    before_gate: u64,
    /// Chunks through the gate and not yet through assembly.
    after_gate: u64,
    tracked: Arc<TrackedFiles>,
}

struct GateStep {
    gate: Gate,
    next_chunk: u64,
    next_part: u64,
    /// Since when the log ends at this LSN though a later page is in its place.
    torn: Option<(Lsn, Instant)>,
    ready_told: bool,
}

struct AssemblyStep<'a> {
    assembler: Assembler,
    sink: &'a mut dyn Sink,
    next_part: u64,
}

struct Framed {
    plan: Plan,
    generation: u64,
    /// The chunk, or why it could not be read.
    chunk: Result<FramedChunk, EngineError>,
}

/// A part on its way through decoding.
struct PartWork {
    number: u64,
    part: GatedPart,
    /// Whether it is the last part of its chunk.
    last: bool,
    ready: Option<Lsn>,
    outputs: Mutex<Vec<(usize, TaskOutput)>>,
    left: AtomicU64,
}

struct Decoded {
    part: Part,
    last: bool,
    ready: Option<Lsn>,
}

/// Decode one partition of one part.
struct Task {
    work: Arc<PartWork>,
    partition: usize,
}

impl<'a> Shared<'a> {
    fn end_with(&self, result: Result<(), EngineError>) {
        let mut outcome = self.outcome.lock();
        if outcome.is_none() {
            *outcome = Some(result);
        }
        self.over.store(true, Ordering::Release);
        self.wake_all();
    }

    fn wake_all(&self) {
        let _guard = self.wake_lock.lock();
        self.wake.notify_all();
    }

    /// Something went wrong: everything before `part` is still released, then the pipeline ends.
    fn fail(&self, part: u64, error: EngineError) {
        let mut failure = self.failure.lock();
        if failure.as_ref().is_none_or(|(earlier, _)| part < *earlier) {
            *failure = Some((part, error));
        }
        drop(failure);
        self.wake_all();
    }

    /// The first part that must not be released, if something went wrong.
    fn failed_part(&self) -> Option<u64> {
        self.failure.lock().as_ref().map(|(part, _)| *part)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn busy(&self, stage: usize, since: Instant) {
        let spent = since.elapsed().as_nanos() as u64;
        self.counters.busy_ns[stage].fetch_add(spent, Ordering::Relaxed);
    }
}

fn waited(counter: &AtomicU64, since: Instant) {
    counter.fetch_add(since.elapsed().as_nanos() as u64, Ordering::Relaxed);
}

/// One worker thread.
struct Worker<'s, 'a> {
    shared: &'s Shared<'a>,
    deque: Deque<Task>,
    /// Entry lists to use again.
    entries: Vec<Vec<Vec<RowEntry>>>,
}

impl<'s, 'a> Worker<'s, 'a> {
    fn new(shared: &'s Shared<'a>, deque: Deque<Task>) -> Self {
        Worker {
            shared,
            deque,
            entries: Vec::new(),
        }
    }

    fn run(mut self) {
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
    fn answer(&self) {
        if self.shared.counters.catalog.is_wanted()
            && let Some(mut step) = self.shared.gate.try_lock()
        {
            self.answer_from(&mut step);
        }
    }

    fn answer_from(&self, step: &mut GateStep) {
        let current = &self.shared.counters.catalog;
        if current.is_wanted() {
            current.give(step.gate.current_catalog());
        }
    }

    fn step(&mut self) -> Result<(), EngineError> {
        self.answer();
        if let Some(task) = self.find_task() {
            return self.decode(&task);
        }
        if let Some(part) = self.shared.failed_part() {
            return self.wind_up(part);
        }
        match self.plan()? {
            (Planned::Chunk(plan), tracked) => self.frame(plan, &tracked),
            (Planned::Wait(beyond), _) => {
                let since = Instant::now();
                self.shared.source.wait(beyond, IDLE);
                waited(&self.shared.counters.wal_wait_ns, since);
                Ok(())
            }
            (Planned::Busy | Planned::End, _) => {
                let since = Instant::now();
                self.idle();
                waited(&self.shared.counters.work_wait_ns, since);
                Ok(())
            }
        }
    }

    /// Something went wrong at `part`: ends when everything before it is released.
    fn wind_up(&self, part: u64) -> Result<(), EngineError> {
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

    fn plan(&self) -> Result<(Planned, Arc<TrackedFiles>), EngineError> {
        let mut planning = self.shared.planning.lock();
        let tracked = Arc::clone(&planning.tracked);
        if planning.before_gate + planning.after_gate >= self.shared.window {
            return Ok((Planned::Busy, tracked));
        }
        let expected = Lsn(self.shared.expected.load(Ordering::Acquire));
        let idle = planning.before_gate == 0;
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
    fn at_end(&self, expected: Lsn) -> Result<(), EngineError> {
        let end = self.shared.end;
        if end < Lsn::MAX && expected < end {
            return Err(self.ends_early(expected, "no more WAL was found"));
        }
        self.shared.end_with(Ok(()));
        Ok(())
    }

    fn ends_early(&self, lsn: Lsn, reason: &str) -> EngineError {
        let place = self.shared.source.locate(lsn);
        EngineError::EndsEarly {
            lsn,
            place,
            reason: reason.to_owned(),
            wanted: self.shared.end,
        }
    }

    fn idle(&self) {
        let mut guard = self.shared.wake_lock.lock();
        if !self.shared.is_over() && self.shared.stealers.iter().all(Stealer::is_empty) {
            self.shared.wake.wait_for(&mut guard, IDLE);
        }
    }

    fn find_task(&self) -> Option<Task> {
        if let Some(task) = self.deque.pop() {
            return Some(task);
        }
        loop {
            let mut again = false;
            let others = self.shared.stealers.iter().map(Stealer::steal);
            for steal in others.chain(std::iter::once(self.shared.injector.steal())) {
                match steal {
                    Steal::Success(task) => return Some(task),
                    Steal::Retry => again = true,
                    Steal::Empty => {}
                }
            }
            if !again {
                return None;
            }
        }
    }

    /// Reads and frames a chunk, and brings it to the gate.
    fn frame(&mut self, plan: Plan, tracked: &Arc<TrackedFiles>) -> Result<(), EngineError> {
        let chunk = self.framed(plan, tracked);
        let framed = Framed {
            plan,
            generation: tracked.generation(),
            chunk,
        };
        let planning = self.shared.planning.lock();
        if planning.planner.round() != plan.round {
            return Ok(());
        }
        self.shared.framed.lock().insert(plan.number, framed);
        drop(planning);
        self.drain_gate()
    }

    fn framed(
        &mut self,
        plan: Plan,
        tracked: &Arc<TrackedFiles>,
    ) -> Result<FramedChunk, EngineError> {
        let since = Instant::now();
        let mut bytes = self.shared.pool.take();
        let base = Lsn(plan.span.start.0 / WAL_PAGE_BYTES as u64 * WAL_PAGE_BYTES as u64);
        let want = plan.span.end.add(WAL_PAGE_BYTES as u64).min(plan.available);
        self.read(base, want, &mut bytes)?;
        self.shared.busy(0, since);
        let since = Instant::now();
        let entries = self.entries.pop().unwrap_or_default();
        let mut framer = Framer::new(self.shared.rules, tracked, plan.span, bytes, entries);
        while let Progress::NeedsUpTo(lsn) = framer.run() {
            let from = framer.available_end();
            let available = match self.shared.source.available(from) {
                Ok(available) => available.end,
                Err(SourceError::NotYet(_)) => from,
                Err(error) => return Err(error.into()),
            };
            let to = lsn.min(available);
            if to <= from {
                break;
            }
            self.read(from, to, framer.bytes_mut())?;
        }
        let chunk = framer.finish();
        self.shared.busy(1, since);
        Ok(chunk)
    }

    fn read(&self, from: Lsn, to: Lsn, bytes: &mut Vec<u8>) -> Result<(), EngineError> {
        let start = bytes.len();
        let mut at = from;
        bytes.resize(start + to.bytes_since(from) as usize, 0);
        while at < to {
            let offset = start + at.bytes_since(from) as usize;
            match self.shared.source.read(at, &mut bytes[offset..]) {
                Ok((read, origin)) => {
                    if origin == Origin::Buffer {
                        self.shared
                            .counters
                            .buffer_bytes
                            .fetch_add(read as u64, Ordering::Relaxed);
                    }
                    at = at.add(read as u64);
                }
                // Less is there than was said; framing will find the chunk short.
                Err(SourceError::NotYet(_)) => {
                    bytes.truncate(offset);
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes chunks through the gate while the next one is there.
    fn drain_gate(&mut self) -> Result<(), EngineError> {
        loop {
            let Some(mut step) = self.shared.gate.try_lock() else {
                return Ok(());
            };
            while let Some(framed) = self.next_framed(step.next_chunk) {
                let since = Instant::now();
                step.next_chunk += 1;
                let passed = self.pass(&mut step, framed);
                self.shared.busy(2, since);
                passed?;
            }
            let next = step.next_chunk;
            drop(step);
            // Somebody may have brought the next one and found the gate taken.
            if !self.shared.framed.lock().contains_key(&next) {
                return Ok(());
            }
        }
    }

    fn next_framed(&self, number: u64) -> Option<Framed> {
        self.shared.framed.lock().remove(&number)
    }

    fn pass(&mut self, step: &mut GateStep, framed: Framed) -> Result<(), EngineError> {
        let Framed {
            plan,
            generation,
            chunk,
        } = framed;
        let chunk = match chunk {
            Ok(chunk) => Arc::new(chunk),
            Err(error) => {
                self.shared.fail(step.next_part, error);
                return Ok(());
            }
        };
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
        self.release_parts(step, parts);
        match (passed, &chunk.stop) {
            (Err(error), _) => self.shared.fail(step.next_part, error.into()),
            (Ok(Passed::Again(lsn)), _) => self.restart(step, Next::Record(lsn), Lsn::INVALID),
            (_, Stop::End) => {}
            (_, Stop::Switch) => self.restart(step, Next::Record(chunk.next), Lsn::INVALID),
            (_, Stop::Short) => self.restart(step, Next::Record(chunk.next), plan.available),
            (_, Stop::Bad(error)) => self.bad_record(step, plan, chunk.next, error)?,
        }
        Ok(())
    }

    fn passed_gate(&self, has_parts: bool) {
        let mut planning = self.shared.planning.lock();
        planning.before_gate = planning.before_gate.saturating_sub(1);
        planning.after_gate += u64::from(has_parts);
    }

    /// Plans anew from `next`; chunks framed meanwhile are dropped as they arrive.
    fn restart(&self, step: &GateStep, next: Next, tried: Lsn) {
        let mut planning = self.shared.planning.lock();
        planning.tracked = step.gate.catalog().tracked();
        planning.planner.restart(next, step.next_chunk, tried);
        planning.before_gate = 0;
        self.shared.framed.lock().clear();
        drop(planning);
        self.shared.wake_all();
    }

    fn bad_seam(&self, step: &GateStep, plan: Plan, seam: GateError) {
        if plan.span.exact {
            self.shared.fail(step.next_part, seam.into());
        } else {
            // The chunk was framed from a page header alone; framing from the record decides.
            let expected = step.gate.expected();
            self.restart(step, Next::Record(expected), Lsn::INVALID);
        }
    }

    /// What is at `lsn` is not a record: the end of the log, or damage.
    fn bad_record(
        &self,
        step: &mut GateStep,
        plan: Plan,
        lsn: Lsn,
        error: &FrameError,
    ) -> Result<(), EngineError> {
        let source = self.shared.source;
        let available = source.available(plan.span.start)?;
        let goes_on = error.is_past_checks()
            || (available.trusted && available.end > lsn)
            || self.later_page(lsn, available.end)?;
        let torn_for = match step.torn {
            Some((at, since)) if at == lsn => since.elapsed(),
            _ => Duration::ZERO,
        };
        let certain = error.is_past_checks() || available.closed || torn_for > TORN_GRACE;
        if goes_on && certain {
            let (place, error) = (source.locate(lsn), error.clone());
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
            // Nobody else gets to the gate while this waits.
            self.answer_from(step);
            source.wait(available.end, IDLE);
        }
        Ok(())
    }

    /// Whether a page behind `lsn` is what it says it is, so that the log goes on there.
    fn later_page(&self, lsn: Lsn, end: Lsn) -> Result<bool, EngineError> {
        let page_bytes = WAL_PAGE_BYTES as u64;
        let mut page = Lsn(lsn.0 / page_bytes * page_bytes + page_bytes);
        let mut bytes = Vec::new();
        while page < end {
            bytes.clear();
            let to = page.add(crate::limits::CHUNK_BYTES as u64).min(end);
            self.read(page, to, &mut bytes)?;
            if bytes.is_empty() {
                return Ok(false);
            }
            let magic = self.shared.rules.format.page_magic;
            for header in bytes.chunks(WAL_PAGE_BYTES) {
                let segment_bytes = self.shared.rules.segment_bytes;
                let whole = header.len() >= crate::framing::page::LONG_HEADER_BYTES;
                let parsed =
                    || crate::framing::page::PageHeader::parse(header, page, magic, segment_bytes);
                if whole && parsed().is_ok() {
                    return Ok(true);
                }
                page = page.add(page_bytes);
            }
        }
        Ok(false)
    }

    /// Turns the gate's parts into decode tasks of this worker.
    fn release_parts(&self, step: &mut GateStep, parts: Vec<GatedPart>) {
        let ready = match step.gate.ready() {
            Some(lsn) if !step.ready_told => {
                step.ready_told = true;
                Some(lsn)
            }
            _ => None,
        };
        let count = parts.len();
        for (index, part) in parts.into_iter().enumerate() {
            let last = index + 1 == count;
            let tasks: Vec<usize> = part
                .ranges
                .iter()
                .enumerate()
                .filter(|(_, range)| !range.is_empty())
                .map(|(partition, _)| partition)
                .collect();
            let work = Arc::new(PartWork {
                number: step.next_part,
                part,
                last,
                ready: ready.filter(|_| last),
                outputs: Mutex::new(Vec::new()),
                left: AtomicU64::new(tasks.len().max(1) as u64),
            });
            step.next_part += 1;
            if tasks.is_empty() {
                // Merging is then all there is to do; any partition does.
                self.deque.push(Task {
                    work,
                    partition: usize::MAX,
                });
                continue;
            }
            for partition in tasks.into_iter().rev() {
                self.deque.push(Task {
                    work: Arc::clone(&work),
                    partition,
                });
            }
        }
        if self.deque.len() > 1 {
            self.shared.wake_all();
        }
    }

    fn decode(&mut self, task: &Task) -> Result<(), EngineError> {
        let since = Instant::now();
        let work = &task.work;
        if let Some(range) = work.part.ranges.get(task.partition) {
            let part = &work.part;
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
        if work.left.fetch_sub(1, Ordering::AcqRel) != 1 {
            self.shared.busy(3, since);
            return Ok(());
        }
        let decoded = self.merge(work);
        self.shared.busy(3, since);
        self.shared.decoded.lock().insert(work.number, decoded);
        self.drain_assembly()
    }

    fn merge(&self, work: &PartWork) -> Decoded {
        let mut outputs = std::mem::take(&mut *work.outputs.lock());
        outputs.sort_by_key(|(partition, _)| *partition);
        let mut outputs: Vec<TaskOutput> = outputs.into_iter().map(|(_, output)| output).collect();
        let part = &work.part;
        if !part.own.items.is_empty() {
            let own = TaskOutput {
                arena: part.own.arena.clone(),
                items: part.own.items.clone(),
            };
            outputs.push(own);
        }
        let merged = merge(
            outputs,
            &part.own_relations,
            &part.chunk.groups,
            &part.tops,
            &self.shared.pool,
        );
        let part = Part {
            end: part.end,
            arena: merged.arena,
            runs: merged.runs,
            segments: merged.segments,
            relations: merged.relations,
            controls: part.controls.clone(),
        };
        Decoded {
            part,
            last: work.last,
            ready: work.ready,
        }
    }

    /// Takes parts through assembly while the next one is there.
    fn drain_assembly(&self) -> Result<(), EngineError> {
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
        if since.elapsed() >= ROOM_WAIT || self.shared.stop.is_stopped() {
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

    fn assemble(&self, step: &mut AssemblyStep<'_>, decoded: Decoded) -> Result<(), EngineError> {
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
            self.shared.wake_all();
        }
        Ok(())
    }
}
