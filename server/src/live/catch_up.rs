//! A catch-up pipeline: private to one subscriber, from a restart point over files (or the redo
//! buffer, as far as it reaches), until it has reached the feed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use redostream_engine::assembly::Assembler;
use redostream_engine::catalog::RelationRegistry;
use redostream_engine::error::EngineError;
use redostream_engine::feed::block::Block;
use redostream_engine::gate::Gate;
use redostream_engine::pipeline::{self, Counters, PipelineOptions, Sink, StopToken};
use redostream_protocol::Lsn;
use redostream_protocol::wire::{Fault, FaultCode};

use super::blocks::{self, Receiver, Sender, Taken};
use super::{Live, fault_of};
use crate::session::BlockEntry;
use crate::session::limits::CATCH_UP_DECODERS_MAX;

/// Numbers catch-up pipelines, so that each has a spill directory of its own.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Keeps a catch-up pipeline's relation versions at hand: it may name some that the live pipeline has
/// let go. They are numbered alike.
pub(super) struct Versions {
    live: Arc<Live>,
    number: u64,
}

impl Versions {
    fn keep(live: &Arc<Live>, number: u64, relations: RelationRegistry) -> Self {
        live.catch_ups.lock().push((number, relations));
        Versions {
            live: Arc::clone(live),
            number,
        }
    }
}

impl Drop for Versions {
    fn drop(&mut self) {
        let mut all = self.live.catch_ups.lock();
        all.retain(|(number, _)| *number != self.number);
    }
}

/// A running pipeline's share of the memory for open transactions: the first has as much as the live
/// pipeline, each further one less, so that many that come together have little more than a few.
struct Share {
    live: Arc<Live>,
    memory_bytes: usize,
}

impl Share {
    fn new(live: &Arc<Live>) -> Self {
        let before = live.catching_up.fetch_add(1, Ordering::AcqRel);
        Share {
            live: Arc::clone(live),
            memory_bytes: live.setting.memory_bytes / (before + 1),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.live.catching_up.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A running catch-up pipeline.
pub(super) struct CatchUp {
    blocks: Receiver,
    stop: StopToken,
    thread: Option<JoinHandle<Result<(), EngineError>>>,
}

struct ChannelSink<'a> {
    sender: Sender,
    counters: &'a Counters,
    /// WAL bytes that have been added to everybody's.
    counted: u64,
    total: &'a AtomicU64,
}

impl Sink for ChannelSink<'_> {
    fn block(&mut self, block: Block) -> Result<(), EngineError> {
        let bytes = self.counters.wal_bytes.load(Ordering::Relaxed);
        let more = bytes - self.counted;
        self.total.fetch_add(more, Ordering::Relaxed);
        self.counted = bytes;
        let sent = self.sender.send(block);
        sent.map_err(|_| EngineError::Output("the subscriber went away".to_owned()))
    }
}

impl CatchUp {
    /// Starts from the newest restart point at or before `start`, for transactions that commit at
    /// `start` or later.
    pub(super) fn start(live: &Arc<Live>, start: Lsn) -> Result<(Self, Versions), Fault> {
        let internal = |error: &dyn ToString| Fault::new(FaultCode::Internal, error.to_string());
        let too_old = |message| {
            let mut fault = Fault::new(FaultCode::PositionTooOld, message);
            fault.oldest = *live.ready.borrow();
            fault
        };
        live.restart_points.wait_for_first();
        let Some(head) = live.restart_points.newest_before(start) else {
            let message = format!("no restart point at or before {start} is left");
            return Err(too_old(message));
        };
        if let Err(error) = live.setting.source.available(head.next) {
            let message = format!("{start} can no longer be decoded: {error}");
            return Err(too_old(message));
        }
        let at = head.next;
        let stored = live.restart_points.read(at);
        let stored = stored.map_err(|error| internal(&error))?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("catch-up-{number}");
        let share = Share::new(live);
        let (gate, assembler) = live
            .stages(stored, start, &name, share.memory_bytes)
            .map_err(|error| internal(&error))?;
        let assembler = assembler.for_one_reader();
        let versions = Versions::keep(live, number, gate.catalog().registry().clone());
        let (sender, blocks) = blocks::queue();
        let stop = StopToken::default();
        let (live, stopped) = (Arc::clone(live), stop.clone());
        tracing::info!(from = %at, %start, "catch-up pipeline started");
        let thread = std::thread::Builder::new()
            .name("catch-up".to_owned())
            .spawn(move || {
                let _share = share;
                run(&live, gate, assembler, sender, &stopped)
            })
            .map_err(|error| internal(&error))?;
        let catch_up = CatchUp {
            blocks,
            stop,
            thread: Some(thread),
        };
        Ok((catch_up, versions))
    }

    /// Says that all blocks are going to be compressed: the pipeline may do it while it waits.
    pub(super) fn compress_ahead(&self) {
        self.blocks.compress_ahead();
    }

    /// The next block; none if there is none within `timeout`.
    pub(super) fn next(&mut self, timeout: Duration) -> Result<Option<Arc<BlockEntry>>, Fault> {
        match self.blocks.take(timeout) {
            Taken::Block(entry) => Ok(Some(entry)),
            Taken::Nothing => Ok(None),
            Taken::Closed => Err(self.end()),
        }
    }

    fn end(&mut self) -> Fault {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => fault_of(&error),
            Some(Ok(Ok(()))) | None => Fault::new(FaultCode::Stopping, "the server stops"),
            Some(Err(_)) => Fault::new(FaultCode::Internal, "a catch-up pipeline panicked"),
        }
    }
}

impl Drop for CatchUp {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

fn run(
    live: &Live,
    gate: Gate,
    assembler: Assembler,
    sender: Sender,
    stop: &StopToken,
) -> Result<(), EngineError> {
    let options = PipelineOptions {
        decoders: pipeline::workers(live.setting.decoders).min(CATCH_UP_DECODERS_MAX),
        partitions: 0,
        chunk_bytes: redostream_engine::limits::CHUNK_BYTES,
        end: Lsn::MAX,
        restart_points: pipeline::RestartRequest::default(),
        room_wait: live.setting.room_wait,
        arenas: live.arenas.clone(),
    };
    let source = &*live.setting.source;
    let counters = Counters::default();
    let mut sink = ChannelSink {
        sender,
        counters: &counters,
        counted: 0,
        total: &live.gauges.catch_up_bytes,
    };
    pipeline::run(
        source, gate, assembler, &options, &mut sink, &counters, stop,
    )
    .0
}
