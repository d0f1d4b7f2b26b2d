//! The live pipeline as sessions see it: one decode into the feed, streams out of it.
//!
//! Takes: a bootstrapped catalog and a source. Gives: streams from any place since C. Keeps: the
//! feed, the restart points, how far everything is. Never: decodes twice for two subscribers that
//! keep up; who is behind the feed gets a catch-up pipeline of its own.

mod blocks;
mod catch_up;
mod decode;
mod describe;
mod epoch;
mod gauges;
mod provider;
mod reader;
mod saver;
mod trim;

pub(crate) use decode::{Begin, newest_usable};
pub(crate) use provider::LiveProvider;
pub(crate) use saver::WAL_BYTES as RESTART_POINT_BYTES;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use redostream_engine::arena::Arenas;
use redostream_engine::assembly::FileSpill;
use redostream_engine::catalog::RelationRegistry;
use redostream_engine::error::EngineError;
use redostream_engine::framing::format::WalFormat;
use redostream_engine::gate::Selection;
use redostream_engine::limits::CHUNK_BYTES_MAX;
use redostream_engine::pipeline::{Counters, StopToken};
use redostream_engine::source::{Source, SourceMetrics, Upstream};
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::wire::{Fault, FaultCode};
use redostream_protocol::{Lsn, Position};
use rustc_hash::FxHashSet;
use tokio::sync::watch;

use crate::restart_point::RestartPoints;
use crate::upstream::ReceivedState;
use epoch::Epoch;
use saver::Saving;

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
    /// How long decoding waits for room for open transactions or restart points.
    pub(crate) room_wait: Duration,
    pub(crate) feed_bytes: u64,
    /// WAL after which a restart point is due.
    pub(crate) restart_point_bytes: u64,
    /// What is known of the cluster's history.
    pub(crate) upstream: Arc<Upstream>,
    /// What was read from where.
    pub(crate) source_metrics: Arc<SourceMetrics>,
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
    epoch: RwLock<Arc<Epoch>>,
    pub(crate) restart_points: RestartPoints,
    /// The relation versions of running catch-up pipelines, by number.
    catch_ups: Mutex<Vec<(u64, RelationRegistry)>>,
    /// Catch-up pipelines that run.
    catching_up: AtomicUsize,
    /// Memory for the rows of all pipelines.
    pub(crate) arenas: Arenas,
    saving: Saving,
    pub(crate) counters: Counters,
    pub(crate) gauges: gauges::Gauges,
    ready: watch::Sender<Option<Position>>,
    /// What keeps decoding from going on, until it is mended.
    trouble: Mutex<Option<String>>,
    failure: Mutex<Option<Fault>>,
    /// Ends the present turn of the pipeline, not the server.
    turn: Mutex<StopToken>,
    forks_noted: AtomicUsize,
    pub(crate) stop: StopToken,
}

/// How far everything is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached {
    /// End of the WAL that is here.
    pub(crate) received: Lsn,
    /// End of the source's WAL, as far as it has said.
    pub(crate) source_end: Lsn,
    /// End of what is decoded.
    pub(crate) decoded: Lsn,
    /// End of what is released.
    pub(crate) released: Lsn,
}

impl Reached {
    /// WAL of the source that is not released.
    pub(crate) fn lag_bytes(&self) -> u64 {
        self.source_end.bytes_since(self.released)
    }
}

impl Live {
    /// A server that has not begun to decode.
    pub(crate) fn new(setting: Setting, restart_points: RestartPoints, begin: &Begin) -> Self {
        let epoch = Arc::new(begin.epoch(setting.feed_bytes));
        let (forks, _) = setting.upstream.forks_after(0);
        let room_wait = setting.room_wait;
        let arenas = Arenas::keeping(setting.memory_bytes);
        let live = Live {
            setting,
            epoch: RwLock::new(epoch),
            restart_points,
            catch_ups: Mutex::default(),
            catching_up: AtomicUsize::new(0),
            arenas,
            saving: Saving::new(room_wait),
            counters: Counters::default(),
            gauges: gauges::Gauges::default(),
            ready: watch::Sender::new(None),
            trouble: Mutex::new(None),
            failure: Mutex::new(None),
            turn: Mutex::default(),
            forks_noted: AtomicUsize::new(forks),
            stop: StopToken::default(),
        };
        if let Begin::From(stored) = begin {
            let next = stored.head.next.0;
            live.counters.decoded_lsn.store(next, Ordering::Relaxed);
            live.counters.released_lsn.store(next, Ordering::Relaxed);
            live.tell_ready(stored.gate.ready);
        }
        live
    }

    fn epoch(&self) -> Arc<Epoch> {
        Arc::clone(&self.epoch.read())
    }

    /// A new epoch begins; whoever reads the old one is told.
    fn replace_epoch(&self, epoch: Epoch) {
        let old = std::mem::replace(&mut *self.epoch.write(), Arc::new(epoch));
        old.feed.close();
    }

    /// Whether WAL at `lsn` can be read, or will be written there.
    pub(crate) fn is_at_hand(&self, lsn: Lsn) -> bool {
        self.setting.source.available(lsn).is_ok()
    }

    /// Everything from the oldest restart point on can be served, and from `ready` on if there is
    /// none yet.
    fn tell_ready(&self, ready: Lsn) {
        let oldest = self.restart_points.heads().first().map(|head| head.covers);
        let earliest = oldest.map_or(ready, |oldest| oldest.max(ready));
        let timeline = self.setting.source.timeline_at(earliest);
        let position = Position::begin(timeline, earliest);
        self.ready.send_if_modified(|told| {
            let other = *told != Some(position);
            *told = Some(position);
            other
        });
    }

    /// Restart points came or went.
    fn tell_earliest(&self) {
        let told = *self.ready.borrow();
        if let Some(told) = told {
            self.tell_ready(told.commit_lsn);
        }
    }

    /// Waits until the earliest position is known.
    pub(crate) fn ready(&self) -> watch::Receiver<Option<Position>> {
        self.ready.subscribe()
    }

    /// Everything that starts before this has been released.
    pub(crate) fn released(&self) -> Lsn {
        Lsn(self.counters.released_lsn.load(Ordering::Relaxed))
    }

    /// How far everything is.
    pub(crate) fn reached(&self) -> Reached {
        let decoded = Lsn(self.counters.decoded_lsn.load(Ordering::Relaxed));
        let received = self.setting.received.as_ref();
        let end = received.map_or(decoded, |received| received.received());
        let received_end = end.max(decoded);
        let source_end = received.map_or(received_end, |received| received.server_end());
        Reached {
            received: received_end,
            source_end: source_end.max(received_end),
            decoded,
            released: self.released(),
        }
    }

    /// WAL bytes decoded.
    pub(crate) fn wal_bytes(&self) -> u64 {
        self.counters.wal_bytes.load(Ordering::Relaxed)
    }

    /// Lets go of relation structures that nobody can ask for any more, now that a restart point at
    /// `next` is written where transactions with rows of `open` are open. Gives what is needed now:
    /// it stays until the next time, as `before` does, for sessions that are just at such a block.
    fn let_go_of_relations(
        &self,
        next: Lsn,
        open: Vec<RelationVersion>,
        before: FxHashSet<RelationVersion>,
    ) -> FxHashSet<RelationVersion> {
        let epoch = self.epoch();
        let mut needed = epoch.feed.relations();
        needed.extend(open);
        let all: FxHashSet<_> = needed.union(&before).copied().collect();
        // The gate is at most in the middle of a chunk that begins where decoding stands.
        let reached = || {
            let decoded = Lsn(self.counters.decoded_lsn.load(Ordering::Acquire));
            decoded.add(2 * CHUNK_BYTES_MAX as u64)
        };
        epoch.relations.let_go(next, reached, &all);
        let (kept, seen) = (epoch.relations.kept(), epoch.relations.len());
        tracing::debug!(kept, seen, "structures of relations");
        needed
    }

    /// Ends decoding, and says to everybody why once they have what is before it.
    pub(crate) fn fail(&self, fault: Fault) {
        self.failure.lock().get_or_insert(fault);
        self.shut_down();
    }

    /// Why streams end: a fault of the log, or the server stops.
    fn end_fault(&self) -> Fault {
        let failure = self.failure.lock().clone();
        failure.unwrap_or_else(|| Fault::new(FaultCode::Stopping, "the server stops"))
    }
}

fn spent(counter: &std::sync::atomic::AtomicU64, since: std::time::Instant) {
    counter.fetch_add(since.elapsed().as_nanos() as u64, Ordering::Relaxed);
}

/// What an engine error is to a subscriber.
fn fault_of(error: &EngineError) -> Fault {
    if let EngineError::Damaged { lsn, .. } = error {
        return Fault::new(FaultCode::LogDamaged, error.to_string()).at(*lsn);
    }
    let code = match error {
        error if error.is_log_fault() => FaultCode::Undecodable,
        EngineError::Source(_) | EngineError::EndsEarly { .. } => FaultCode::SourceLost,
        _ => FaultCode::Internal,
    };
    Fault::new(code, error.to_string())
}
