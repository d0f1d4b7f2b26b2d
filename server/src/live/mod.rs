//! The live pipeline as sessions see it: one decode into the feed, streams out of it.
//!
//! Takes: a bootstrapped catalog and a source. Gives: streams from any place since C. Keeps: the
//! feed, the restart points, how far everything is. Never: decodes twice for two subscribers that
//! keep up; who is behind the feed gets a catch-up pipeline of its own.

mod catch_up;
mod describe;
mod provider;
mod reader;
mod trim;

pub(crate) use provider::LiveProvider;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use redostream_engine::assembly::{Assembler, FileSpill};
use redostream_engine::catalog::RelationRegistry;
use redostream_engine::error::EngineError;
use redostream_engine::feed::Feed;
use redostream_engine::feed::block::Block;
use redostream_engine::framing::format::WalFormat;
use redostream_engine::gate::{Gate, Selection};
use redostream_engine::pipeline::{self, Counters, PipelineOptions, RestartPoint, Sink, StopToken};
use redostream_engine::source::Source;
use redostream_protocol::wire::{Fault, FaultCode};
use redostream_protocol::{Lsn, Position};
use tokio::sync::watch;

use crate::restart_point::RestartPoints;
use crate::session::BlockEntry;
use crate::upstream::ReceivedState;

/// Everything that stays the same while a server runs.
pub(crate) struct Setting {
    pub(crate) system_identifier: u64,
    pub(crate) format: &'static WalFormat,
    pub(crate) segment_bytes: u64,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) databases: Vec<String>,
    pub(crate) state: PathBuf,
    pub(crate) decoders: usize,
    pub(crate) memory_bytes: usize,
    pub(crate) spill_bytes: u64,
    pub(crate) feed_bytes: u64,
    /// What the replication client has received; none when only files are served.
    pub(crate) received: Option<Arc<ReceivedState>>,
}

impl Setting {
    pub(crate) fn selection(&self, start: Lsn) -> Selection {
        Selection {
            databases: self.databases.clone(),
            start,
        }
    }

    pub(crate) fn timeline_at(&self) -> redostream_engine::gate::TimelineAt {
        let source = Arc::clone(&self.source);
        Arc::new(move |lsn| source.timeline_at(lsn))
    }

    fn assembler_store(&self, name: &str) -> Result<Box<FileSpill>, EngineError> {
        let directory = self.state.join("spill").join(name);
        let store = FileSpill::new(directory, self.spill_bytes);
        store
            .map(Box::new)
            .map_err(|error| EngineError::Output(error.to_string()))
    }
}

/// The live pipeline's state, shared by everybody.
pub(crate) struct Live {
    pub(crate) setting: Setting,
    feed: Feed<Arc<BlockEntry>>,
    relations: RelationRegistry,
    restart_points: RestartPoints,
    counters: Counters,
    ready: watch::Sender<Option<Position>>,
    waits_for: Mutex<Option<String>>,
    failure: Mutex<Option<Fault>>,
    pub(crate) stop: StopToken,
}

impl Live {
    /// A server that has not begun to decode.
    pub(crate) fn new(setting: Setting, relations: RelationRegistry) -> Self {
        let restart_points = RestartPoints::new(&setting.state, setting.system_identifier);
        let feed = Feed::new(setting.feed_bytes, Position::default(), Lsn::INVALID);
        Live {
            setting,
            feed,
            relations,
            restart_points,
            counters: Counters::default(),
            ready: watch::Sender::new(None),
            waits_for: Mutex::new(None),
            failure: Mutex::new(None),
            stop: StopToken::default(),
        }
    }

    /// Decodes until stopped or until something goes wrong; blocks its thread.
    pub(crate) fn run(&self, gate: Gate) -> Result<(), EngineError> {
        *self.waits_for.lock() = gate.waits_for();
        let setting = &self.setting;
        let store = setting.assembler_store("live")?;
        let assembler = Assembler::new(setting.memory_bytes, store);
        let options = PipelineOptions {
            decoders: setting.decoders,
            partitions: 0,
            chunk_bytes: redostream_engine::limits::CHUNK_BYTES,
            end: Lsn::MAX,
        };
        let mut sink = FeedSink { live: self };
        let (result, _) = pipeline::run(
            &*setting.source,
            gate,
            assembler,
            &options,
            &mut sink,
            &self.counters,
            &self.stop,
        );
        if let Err(error) = &result {
            tracing::error!(%error, "decoding stopped");
            *self.failure.lock() = Some(fault_of(error));
        }
        self.feed.close();
        result
    }

    /// Waits until the earliest position is known.
    pub(crate) fn ready(&self) -> watch::Receiver<Option<Position>> {
        self.ready.subscribe()
    }

    /// Everything that starts before this has been released.
    pub(crate) fn released(&self) -> Lsn {
        Lsn(self.counters.released_lsn.load(Ordering::Relaxed))
    }

    /// WAL bytes decoded.
    pub(crate) fn wal_bytes(&self) -> u64 {
        self.counters.wal_bytes.load(Ordering::Relaxed)
    }

    /// Why streams end: a fault of the log, or the server stops.
    fn end_fault(&self) -> Fault {
        let failure = self.failure.lock().clone();
        failure.unwrap_or_else(|| Fault::new(FaultCode::Stopping, "the server stops"))
    }
}

/// What an engine error is to a subscriber.
fn fault_of(error: &EngineError) -> Fault {
    let code = match error {
        EngineError::Damaged { .. } => FaultCode::LogDamaged,
        error if error.is_log_fault() => FaultCode::Undecodable,
        EngineError::Source(_) | EngineError::EndsEarly { .. } => FaultCode::SourceLost,
        _ => FaultCode::Internal,
    };
    Fault::new(code, error.to_string())
}

/// Puts what the pipeline releases into the feed.
struct FeedSink<'a> {
    live: &'a Live,
}

impl Sink for FeedSink<'_> {
    fn block(&mut self, block: Block) -> Result<(), EngineError> {
        let wal_end = block.wal_end;
        self.live.feed.append(block);
        if let Some(received) = &self.live.setting.received {
            received.set_applied(wal_end);
        }
        Ok(())
    }

    fn restart_point(&mut self, point: RestartPoint) {
        let lsn = point.gate.next;
        match self.live.restart_points.store(point) {
            Ok(path) => {
                tracing::info!(%lsn, path = %path.display(), "restart point written");
                if let Some(received) = &self.live.setting.received {
                    received.set_not_needed_before(lsn);
                }
            }
            Err(error) => tracing::error!(%error, %lsn, "a restart point could not be written"),
        }
    }

    fn ready(&mut self, earliest: Lsn) {
        let timeline = self.live.setting.source.timeline_at(earliest);
        *self.live.waits_for.lock() = None;
        self.live
            .ready
            .send_replace(Some(Position::begin(timeline, earliest)));
    }
}
