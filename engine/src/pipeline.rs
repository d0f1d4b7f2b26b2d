//! START HERE. Builds the stages and owns every thread and queue.
//!
//! ```text
//!  planner ──plan──▶ worker: read, frame ──FramedChunk──▶ gate (ordered) ──GatedPart──▶ tasks
//!                                                                                       │
//!  output ◀──Block── assembly (ordered) ◀──Part── merge ◀──last finisher── workers: decode
//! ```
//!
//! There are N workers and no other thread. A worker looks for work from the end of the line
//! towards its beginning: a decode task of a chunk it has framed, one of somebody else's, else a new chunk. The
//! two ordered steps have no thread either: whoever brings the next chunk or part in order, and
//! finds the step free, does it, and goes on while the next one is there. So with one worker the
//! stages are fused, and with many nobody waits for a hand-over.
//!
//! Bounds: at most `Shared::window` chunks are under way between planning and assembly, which
//! bounds every queue here; a worker that finds the window full and no task sleeps. The output is
//! called on the ordered step and may block: that is backpressure.
//!
//! Who brings up something to do wakes one sleeper for each, and does one of them itself. One worker
//! waits for more of the log; when it gets some, another takes its place.

mod assembly_step;
mod decoding_step;
mod framing_step;
mod gate_step;
mod sleepers;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam::deque::Injector;
use crossbeam::queue::ArrayQueue;
use parking_lot::Mutex;
use redostream_protocol::Lsn;

use crate::arena::Arenas;
use crate::assembly::part::{Control, Part};
use crate::assembly::{Assembler, AssemblerState, SpilledCopy};
use crate::catalog::CurrentCatalog;
use crate::catalog::tracked::TrackedFiles;
use crate::decoding::task::TaskOutput;
use crate::error::EngineError;
use crate::feed::block::Block;
use crate::framing::chunk::{ChunkBuffers, FramedChunk, FramingRules};

use crate::gate::{Gate, GateState, GatedPart};
use crate::limits::{CHUNKS_PER_DECODER, POOLED_BUFFER_BYTES_MAX, POOLED_BUFFERS_MAX};
use crate::pool::BufferPool;
use crate::source::Source;
use crate::source::chunk::{Plan, Planner};
use sleepers::{IDLE, Sleepers};
use worker::Worker;

/// How long the end of the log may be followed by a page of its right place before that is damage
/// rather than a write that is still under way.
const TORN_GRACE: Duration = Duration::from_secs(5);
/// How long to wait for room, unless set otherwise, when rows of open transactions cannot be
/// spilled.
pub const ROOM_WAIT: Duration = Duration::from_secs(60);
/// How often there is a try meanwhile.
const ROOM_STEP: Duration = Duration::from_millis(500);

/// How often what lies behind the end of the log is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How a pipeline runs.
#[derive(Clone, Debug)]
pub struct PipelineOptions {
    /// Workers, as [`workers`] takes them.
    pub decoders: usize,
    /// Partitions of a chunk; 0 takes one: whole chunks are then decoded side by side, and their
    /// rows need no merging.
    pub partitions: usize,
    /// Bytes of WAL per chunk.
    pub chunk_bytes: usize,
    /// First LSN that is not wanted; [`Lsn::MAX`] for never.
    pub end: Lsn,
    /// How restart points are asked for.
    pub restart_points: RestartRequest,
    /// How long to wait for room when rows of open transactions cannot be spilled.
    pub room_wait: Duration,
    /// Memory for rows; several pipelines may share it.
    pub arenas: Arenas,
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
    /// Transactions that have rows and have not ended.
    pub open_transactions: AtomicU64,
    /// Bytes of memory that these take.
    pub open_bytes: AtomicU64,
    /// Bytes ever spilled.
    pub spilled_bytes: AtomicU64,
    /// What keeps the pipeline from going on, or C from being reached, in words.
    pub waits_for: Mutex<Option<String>>,
    /// Nanoseconds waited, by [`Stage`]: source for WAL, framing for room in the stages behind it, gate
    /// and assembly for their turn (what waited was there, what comes before it was not), decoding
    /// for a worker.
    pub waiting_ns: [AtomicU64; STAGES.len()],
    /// The catalogs as they are now, for whoever asks.
    pub catalog: CurrentCatalog,
    /// Nanoseconds spent, by [`Stage`]; assembly with output.
    pub busy_ns: [AtomicU64; STAGES.len()],
}

/// What time is counted for: its place among [`STAGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the log.
    Source,
    /// Pages to records.
    Framing,
    /// The ordered step before decoding.
    Gate,
    /// Records to events.
    Decoding,
    /// The ordered step after it.
    Assembly,
}

/// Names of the stages of [`Counters::busy_ns`] and [`Counters::waiting_ns`].
pub const STAGES: [&str; 5] = ["source", "framing", "gate", "decoding", "assembly"];

/// How a pipeline is told to stop.
#[derive(Clone, Debug, Default)]
pub struct StopToken(Arc<AtomicU8>);

const FINISHING: u8 = 1;
const STOPPED: u8 = 2;

impl StopToken {
    /// Asks the pipeline to stop soon.
    pub fn stop(&self) {
        self.0.fetch_max(STOPPED, Ordering::AcqRel);
    }

    /// Asks the pipeline to read no more, to take everything through that has been read, and to
    /// end with a restart point behind it.
    pub fn finish(&self) {
        self.0.fetch_max(FINISHING, Ordering::AcqRel);
    }

    /// Whether it was asked to stop.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Acquire) == STOPPED
    }

    /// Whether it was asked to end, one way or the other.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.0.load(Ordering::Acquire) >= FINISHING
    }
}

/// How many workers there are if so many decoders are asked for: 0 takes the machine's cores.
#[must_use]
pub fn workers(decoders: usize) -> usize {
    match decoders {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
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
    let workers = workers(options.decoders);
    let partitions = options.partitions.max(1);
    let rules = FramingRules {
        partitions: partitions as u32,
        ..gate.rules()
    };
    let planner = Planner::new(gate.expected(), options.end, options.chunk_bytes);
    let shared = Shared {
        source,
        rules,
        window: (CHUNKS_PER_DECODER * workers) as u64,
        end: options.end,
        restart_points: &options.restart_points,
        room_wait: options.room_wait,
        counters,
        stop,
        pool: BufferPool::new(POOLED_BUFFERS_MAX),
        arenas: options.arenas.clone(),
        chunks: ArrayQueue::new(2 * CHUNKS_PER_DECODER * workers),
        tasks: (0..workers).map(|_| Injector::new()).collect(),
        tasks_queued: AtomicUsize::new(0),
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
            looked: None,
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
        sleepers: Sleepers::new(workers, IDLE),
    };
    std::thread::scope(|scope| {
        for number in 1..workers {
            let shared = &shared;
            scope.spawn(move || Worker::new(shared, number).run());
        }
        Worker::new(&shared, 0).run();
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
    room_wait: Duration,
    counters: &'a Counters,
    stop: &'a StopToken,
    pool: BufferPool,
    arenas: Arenas,
    /// Buffers of chunks that are done.
    chunks: ArrayQueue<ChunkBuffers>,
    /// Decode tasks, by the worker that framed their chunk; the others help themselves.
    tasks: Vec<Injector<Task>>,
    /// How many these are: most often there is no use in looking through all of them.
    tasks_queued: AtomicUsize,
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
    sleepers: Sleepers,
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
    /// Where and when nothing was found behind the log's end, up to where.
    looked: Option<(Lsn, Lsn, Instant)>,
    ready_told: bool,
}

struct AssemblyStep<'a> {
    assembler: Assembler,
    sink: &'a mut dyn Sink,
    next_part: u64,
}

struct Framed {
    plan: Plan,
    /// Up to where there were bytes for it: less than planned where they have left the buffer.
    tried: Lsn,
    /// The worker that framed it.
    worker: usize,
    generation: u64,
    /// The chunk, or why it could not be read.
    chunk: Result<FramedChunk, EngineError>,
    since: Instant,
}

/// A part on its way through decoding.
struct PartWork {
    number: u64,
    part: GatedPart,
    /// Whether it is the last part of its chunk.
    last: bool,
    ready: Option<Lsn>,
    controls: Mutex<Vec<Control>>,
    /// The gate's own events.
    own: Mutex<TaskOutput>,
    outputs: Mutex<Vec<(usize, TaskOutput)>>,
    left: AtomicU64,
}

struct Decoded {
    part: Part,
    last: bool,
    ready: Option<Lsn>,
    since: Instant,
}

/// Decode one partition of one part.
struct Task {
    work: Arc<PartWork>,
    partition: usize,
    since: Instant,
}

impl<'a> Shared<'a> {
    fn end_with(&self, result: Result<(), EngineError>) {
        let mut outcome = self.outcome.lock();
        if outcome.is_none() {
            *outcome = Some(result);
        }
        self.over.store(true, Ordering::Release);
        self.sleepers.wake_all();
    }

    /// Something went wrong: everything before `part` is still released, then the pipeline ends.
    fn fail(&self, part: u64, error: EngineError) {
        let mut failure = self.failure.lock();
        if failure.as_ref().is_none_or(|(earlier, _)| part < *earlier) {
            *failure = Some((part, error));
        }
        drop(failure);
        self.sleepers.wake_all();
    }

    /// The first part that must not be released, if something went wrong.
    fn failed_part(&self) -> Option<u64> {
        self.failure.lock().as_ref().map(|(part, _)| *part)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Keeps a chunk's buffers for another one, once nobody else holds the chunk.
    fn recycle(&self, chunk: Arc<FramedChunk>) {
        if let Some(chunk) = Arc::into_inner(chunk)
            && chunk.bytes.capacity() <= POOLED_BUFFER_BYTES_MAX
            && chunk.side.capacity() <= POOLED_BUFFER_BYTES_MAX
        {
            // A full stock frees them.
            let _ = self.chunks.push(chunk.into_buffers());
        }
    }

    fn busy(&self, stage: Stage, since: Instant) {
        let spent = since.elapsed().as_nanos() as u64;
        self.counters.busy_ns[stage as usize].fetch_add(spent, Ordering::Relaxed);
    }

    fn waited(&self, stage: Stage, since: Instant) {
        let spent = since.elapsed().as_nanos() as u64;
        self.counters.waiting_ns[stage as usize].fetch_add(spent, Ordering::Relaxed);
    }
}
