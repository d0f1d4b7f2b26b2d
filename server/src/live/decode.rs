//! The live pipeline itself: begun, and begun again from a restart point when the history was left
//! or WAL was missing.

use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::time::{Duration, Instant};

use redostream_engine::assembly::Assembler;
use redostream_engine::catalog::RelationRegistry;
use redostream_engine::error::{Disposition, EngineError};
use redostream_engine::feed::Feed;
use redostream_engine::feed::block::Block;
use redostream_engine::gate::Gate;
use redostream_engine::pipeline::{
    self, PipelineOptions, RestartPoint, RestartRequest, Sink, StopToken,
};
use redostream_engine::source::TimelineHistory;
use redostream_protocol::event::{Event, EventKind};
use redostream_protocol::{Cursor, Lsn, Position};

use super::epoch::{Epoch, Fork, Gone};
use super::saver::{self, Due};
use super::{Live, fault_of};
use crate::restart_point::{Head, RestartPoints, Stored};

/// How often missing WAL is looked for.
const LOOK: Duration = Duration::from_millis(500);
/// How long readers of an epoch that ended get to let go of it.
const PARTING: Duration = Duration::from_secs(10);

/// What the live pipeline begins from.
pub(crate) enum Begin {
    /// A copied catalog.
    Fresh(Box<Gate>),
    /// A restart point.
    From(Box<Stored>),
}

impl Begin {
    /// The epoch that begins here.
    pub(super) fn epoch(&self, feed_bytes: u64) -> Epoch {
        let (relations, last, from) = match self {
            Begin::Fresh(gate) => {
                let relations = gate.catalog().registry().clone();
                (relations, Position::default(), Lsn::INVALID)
            }
            Begin::From(stored) => {
                let relations: RelationRegistry = stored.gate.relations().clone();
                (relations, stored.assembly.last, stored.head.covers)
            }
        };
        Epoch {
            feed: Feed::new(feed_bytes, last, from),
            relations,
            fork: None,
        }
    }
}

impl Live {
    /// Ends decoding: the present run of the pipeline too.
    pub(crate) fn shut_down(&self) {
        self.stop.stop();
        self.turn.lock().stop();
    }

    /// Ends decoding when everything that has been read is through, with a restart point there.
    pub(crate) fn finish(&self) {
        self.stop.stop();
        self.turn.lock().finish();
    }

    /// Ends decoding because restart points cannot be written.
    pub(super) fn give_up(&self) {
        self.turn.lock().stop();
    }

    /// Decodes until stopped or until something goes wrong; blocks its thread.
    pub(crate) fn run(&self, begin: Begin) -> Result<(), EngineError> {
        let (sender, points) = mpsc::sync_channel(1);
        let result = std::thread::scope(|scope| {
            scope.spawn(move || saver::run(self, &points));
            let result = self.decode(begin, &sender);
            drop(sender);
            result
        });
        if let Err(error) = &result {
            tracing::error!(%error, "decoding stopped");
            *self.failure.lock() = Some(fault_of(error));
        }
        self.epoch().feed.close();
        result
    }

    fn decode(
        &self,
        mut begin: Begin,
        points: &SyncSender<RestartPoint>,
    ) -> Result<(), EngineError> {
        loop {
            // In this order, so that a fork that comes now is either seen or ends the turn.
            let turn = StopToken::default();
            *self.turn.lock() = turn.clone();
            let seen = self.forks_seen();
            self.forks_noted
                .store(seen, std::sync::atomic::Ordering::Release);
            if self.stop.is_stopped() {
                return Ok(());
            }
            let result = self.turn(begin, points, seen, &turn);
            if self.stop.is_stopped() {
                return result;
            }
            if let Some(why) = self.saving.given_up() {
                return Err(EngineError::Output(why));
            }
            let (_, fork) = self.setting.upstream.forks_after(seen);
            let again = match (fork, result) {
                (Some(at), _) => self.rewind(at)?,
                (None, Err(error)) if error.disposition() != Disposition::Stop => {
                    self.wait_for_wal(error)?
                }
                (None, result) => return result,
            };
            let Some(stored) = again else {
                return Ok(());
            };
            begin = Begin::From(Box::new(stored));
        }
    }

    /// One run of the pipeline.
    fn turn(
        &self,
        begin: Begin,
        points: &SyncSender<RestartPoint>,
        seen: usize,
        stop: &StopToken,
    ) -> Result<(), EngineError> {
        let setting = &self.setting;
        let (gate, assembler) = match begin {
            Begin::Fresh(gate) => {
                *self.counters.waits_for.lock() = gate.waits_for();
                let store = setting.assembler_store("live")?;
                (*gate, Assembler::new(setting.memory_bytes, store))
            }
            Begin::From(stored) => {
                self.saving.begin(stored.head.next);
                self.stages(*stored, Lsn::INVALID, "live", setting.memory_bytes)?
            }
        };
        let options = PipelineOptions {
            decoders: setting.decoders,
            partitions: 0,
            chunk_bytes: redostream_engine::limits::CHUNK_BYTES,
            end: Lsn::MAX,
            restart_points: RestartRequest::default(),
            room_wait: setting.room_wait,
            arenas: self.arenas.clone(),
        };
        let mut sink = FeedSink {
            live: self,
            epoch: self.epoch(),
            points,
            seen,
            due: Due::new(setting.restart_point_bytes, gate.expected()),
            request: options.restart_points.clone(),
        };
        pipeline::run(
            &*setting.source,
            gate,
            assembler,
            &options,
            &mut sink,
            &self.counters,
            stop,
        )
        .0
    }

    /// The stages as a restart point has them, for transactions that commit at `start` or later.
    pub(super) fn stages(
        &self,
        stored: Stored,
        start: Lsn,
        name: &str,
        memory_bytes: usize,
    ) -> Result<(Gate, Assembler), EngineError> {
        let setting = &self.setting;
        let mut gate = Gate::restore(
            stored.gate,
            setting.format,
            setting.selection(start),
            setting.timeline_at(),
            setting.segment_bytes,
        );
        let store = setting.assembler_store(name)?;
        let head = &stored.head;
        let rows = |top| self.restart_points.rows(head, top);
        let names = gate.late_names(stored.assembly.relations());
        let assembler = Assembler::restore(memory_bytes, store, stored.assembly, rows)?;
        let assembler = match names {
            Some(names) => assembler.with_names(&names),
            None => assembler,
        };
        Ok((gate, assembler))
    }

    /// How often the history has been left so far.
    fn forks_seen(&self) -> usize {
        self.setting.upstream.forks_after(0).0
    }

    /// Ends the turn if the history was left since it began: called now and then, since nothing
    /// may come out of the pipeline that would tell it.
    pub(crate) fn look_for_forks(&self) {
        let seen = self.forks_noted.load(std::sync::atomic::Ordering::Acquire);
        let now = self.forks_seen();
        if now > seen {
            self.forks_noted
                .store(now, std::sync::atomic::Ordering::Release);
            self.turn.lock().stop();
        }
    }

    /// Goes back to before `at`, where the history was left.
    fn rewind(&self, at: Lsn) -> Result<Option<Stored>, EngineError> {
        let history = self.setting.upstream.history();
        self.restart_points.wait_for_first();
        let stored = newest_usable(&self.restart_points, &history, at)
            .map_err(|error| EngineError::Output(error.to_string()))?;
        let Some(stored) = stored else {
            return Err(EngineError::Forked { at });
        };
        let old = self.epoch();
        let mut fork = Fork {
            at,
            gone: Vec::new(),
        };
        let mut gone = match old.feed.at_lsn(at) {
            redostream_engine::feed::Start::At(sequence) => old.feed.reader(sequence),
            redostream_engine::feed::Start::Behind => old.feed.reader(0),
        };
        while let redostream_engine::feed::Next::Entry(entry) = gone.next() {
            if entry.block.last.commit_lsn >= at {
                Gone::of(&entry.block, at, &mut fork.gone);
            }
        }
        drop(gone);
        tracing::warn!(
            %at, timeline = %history.timeline(), from = %stored.head.next,
            transactions_gone = fork.gone.len(),
            "the cluster's history went over to another timeline; decoding goes back"
        );
        let begin = Begin::From(Box::new(stored));
        let mut epoch = begin.epoch(self.setting.feed_bytes);
        epoch.fork = Some(fork);
        self.replace_epoch(epoch);
        // Relations are numbered anew from here on: nobody must read old blocks by new numbers.
        let since = Instant::now();
        while Arc::strong_count(&old) > 1 && since.elapsed() < PARTING {
            old.feed.close();
            std::thread::sleep(Duration::from_millis(10));
        }
        let Begin::From(stored) = begin else {
            return Ok(None);
        };
        Ok(Some(*stored))
    }

    /// WAL is missing that somebody may bring: waits for it.
    fn wait_for_wal(&self, error: EngineError) -> Result<Option<Stored>, EngineError> {
        let Some(newest) = self.restart_points.heads().pop() else {
            return Err(error);
        };
        let wanted = match &error {
            EngineError::Source(redostream_engine::source::SourceError::Missing {
                lsn, ..
            }) => *lsn,
            _ => newest.next,
        };
        tracing::error!(%error, "decoding waits");
        *self.trouble.lock() = Some(error.to_string());
        loop {
            if self.stop.is_stopped() {
                return Ok(None);
            }
            std::thread::sleep(LOOK);
            if self.is_at_hand(wanted) {
                break;
            }
        }
        tracing::info!(at = %wanted, "the WAL that was missing is there; decoding goes on");
        *self.trouble.lock() = None;
        let stored = self
            .restart_points
            .go_on_from(newest.next)
            .map_err(|error| EngineError::Output(error.to_string()))?;
        let begin = Begin::From(Box::new(stored));
        self.replace_epoch(begin.epoch(self.setting.feed_bytes));
        match begin {
            Begin::From(stored) => Ok(Some(*stored)),
            Begin::Fresh(_) => Ok(None),
        }
    }
}

/// The newest restart point at or before `at` that lies in `history` and can be read. Those after
/// it are removed; damaged ones are set aside.
pub(crate) fn newest_usable(
    points: &RestartPoints,
    history: &TimelineHistory,
    at: Lsn,
) -> Result<Option<Stored>, crate::restart_point::RestartError> {
    use crate::restart_point::RestartError;
    let in_history = |head: &Head| {
        let before = Lsn(head.next.0.saturating_sub(1));
        head.next <= at && history.contains(head.timeline, before)
    };
    for head in points.heads().into_iter().rev().filter(in_history) {
        match points.go_on_from(head.next) {
            Ok(stored) => return Ok(Some(stored)),
            Err(error @ RestartError::Damaged { .. }) => points.set_aside(head.next, &error),
            Err(RestartError::Io { path, error })
                if error.kind() == std::io::ErrorKind::NotFound =>
            {
                points.set_aside(head.next, &RestartError::Io { path, error });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Puts what the pipeline releases into the feed.
struct FeedSink<'a> {
    live: &'a Live,
    epoch: Arc<Epoch>,
    points: &'a SyncSender<RestartPoint>,
    /// How often the history had been left when this turn began.
    seen: usize,
    due: Due,
    request: RestartRequest,
}

impl FeedSink<'_> {
    /// Counts rows that cannot be decoded, and says of each table once that there are some.
    #[cold]
    fn count_undecodable(&self, block: &Block) {
        let mut counted = self.live.gauges.undecodable.lock();
        for piece in &block.pieces {
            let mut cursor = Cursor::new(piece);
            while let Ok(event) = Event::read(&mut cursor) {
                if event.header.kind != EventKind::Undecodable {
                    continue;
                }
                let relation = self.epoch.relations.relation(event.header.relation);
                let table = relation.map(|relation| {
                    format!("{}.{}", relation.schema.lossy(), relation.name.lossy())
                });
                let rows = counted.entry(table.unwrap_or_default());
                if let Entry::Vacant(entry) = &rows {
                    let reason = String::from_utf8_lossy(event.payload);
                    tracing::warn!(
                        table = entry.key(), lsn = %event.header.record_lsn, %reason,
                        "rows of a table cannot be decoded"
                    );
                }
                *rows.or_default() += u64::from(event.header.count);
            }
        }
    }

    /// Where there is no room for restart points, going on would only put off the end, and make
    /// more WAL to be read again.
    fn wait_for_room(&self) -> Result<(), EngineError> {
        let live = self.live;
        while live.saving.is_stuck() && !live.stop.is_stopped() {
            if let Some(why) = live.saving.given_up() {
                return Err(EngineError::Output(why));
            }
            std::thread::sleep(LOOK / 5);
        }
        Ok(())
    }
}

impl Sink for FeedSink<'_> {
    fn block(&mut self, block: Block) -> Result<(), EngineError> {
        let wal_end = block.wal_end;
        // Bytes of the old history may still have been under way when it was left.
        if let (_, Some(at)) = self.live.setting.upstream.forks_after(self.seen) {
            return Err(EngineError::Forked { at });
        }
        if block.undecodable {
            self.count_undecodable(&block);
        }
        let since = Instant::now();
        self.epoch.feed.append(block);
        super::spent(&self.live.gauges.feed_ns, since);
        if let Some(received) = &self.live.setting.received {
            received.set_applied(wal_end);
        }
        self.wait_for_room()?;
        if self.due.is_now(wal_end, &self.live.saving) {
            self.request.ask();
        }
        Ok(())
    }

    fn restart_point(&mut self, point: RestartPoint) {
        if self.live.stop.is_stopped() {
            saver::hand_over_last(point, self.points, &self.live.saving);
            return;
        }
        saver::hand_over(point, self.points, &self.live.saving);
    }

    fn ready(&mut self, earliest: Lsn) {
        self.live.tell_ready(earliest);
    }
}
