//! A session's thread: blocks in, numbered frames out, until the stream is over.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redostream_protocol::control::{Start, Until};
use redostream_protocol::event::TransactionHeader;
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::wire::compress::Compressor;
use redostream_protocol::wire::data::DataBody;
use redostream_protocol::wire::parts::Part;
use redostream_protocol::wire::{
    DataHead, End, EndReason, Fault, FaultCode, HEADER_BYTES, Heartbeat, Payload, RelationPart,
    WireError, credit, push_frame,
};
use redostream_protocol::{DatabaseOid, Lsn, Position};

use super::filter::{Filter, known_relation};
use super::limits::{
    BLOCK_WAIT, FAREWELL_WAIT, FILTERED_HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL, HELLO_TIMEOUT,
};
use super::outgoing::{Interrupt, OutFrame, Outgoing, Progress};
use super::provider::{BlockEntry, BlockReader, StreamProvider, data_bodies};
use super::selection::{Run, Selected, Selection};
use super::undecodable::{OnUndecodable, Undecodable};

/// Why a stream stops.
enum Stop {
    Interrupted(Interrupt),
    Fault(Fault),
}

impl From<Interrupt> for Stop {
    fn from(interrupt: Interrupt) -> Self {
        Self::Interrupted(interrupt)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Self {
        Self::Fault(Fault::new(FaultCode::Internal, error.to_string()))
    }
}

/// What a session's thread works with.
pub(super) struct Pump {
    provider: Arc<dyn StreamProvider>,
    reader: Box<dyn BlockReader>,
    selection: Selection,
    until: Option<Until>,
    compression: Compress,
    compressor: Compressor,
    sequence: u64,
    relations: HashSet<RelationVersion>,
    /// Those that the session has been told of, by themselves or with a relation.
    databases: HashSet<DatabaseOid>,
    /// The last event sent.
    position: Position,
    /// The highest LSN said to be released.
    told: Lsn,
    heartbeat_at: Instant,
    /// Whether something was left out since the last frame.
    skipped: bool,
    /// Whether a part of an event has been sent and not its last.
    inside_event: bool,
}

/// The places and the filter of a session.
pub(super) struct Wanted {
    pub(super) start: Start,
    pub(super) until: Option<Until>,
    pub(super) filter: Option<Filter>,
    pub(super) on_undecodable: OnUndecodable,
    pub(super) compression: Compress,
}

/// Which blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compress {
    Never,
    /// Those that would wait for a connection anyway.
    Behind,
    Always,
}

impl Pump {
    pub(super) fn new(
        provider: Arc<dyn StreamProvider>,
        mut reader: Box<dyn BlockReader>,
        wanted: Wanted,
    ) -> Self {
        // What a filter leaves of a block is compressed by itself.
        if wanted.compression == Compress::Always && wanted.filter.is_none() {
            reader.will_compress();
        }
        let undecodable = Undecodable::new(Arc::clone(&provider), wanted.on_undecodable);
        let (start, until, filter) = (wanted.start, wanted.until, wanted.filter);
        Self {
            provider,
            reader,
            selection: Selection::new(start, until, filter, undecodable),
            until: wanted.until,
            compression: wanted.compression,
            compressor: Compressor::default(),
            sequence: 0,
            relations: HashSet::new(),
            databases: HashSet::new(),
            position: Position::default(),
            told: Lsn(0),
            heartbeat_at: Instant::now(),
            skipped: false,
            inside_event: false,
        }
    }

    /// Runs the stream to its end and says why it ended.
    pub(super) fn run(mut self, out: &Outgoing) {
        if !out.wait_attached(HELLO_TIMEOUT) {
            out.fail(Fault::new(
                FaultCode::PeerTimeout,
                "no data connection came for the session",
            ));
            return;
        }
        let fault = match self.stream(out) {
            Ok(reason) | Err(Stop::Interrupted(Interrupt::End(reason))) => {
                if !self.inside_event && self.finish_with_end(out, reason) {
                    return;
                }
                match reason {
                    EndReason::Dropped => {
                        Fault::new(FaultCode::NotFound, "the subscription was dropped")
                    }
                    _ => Fault::new(FaultCode::Stopping, "the server stops"),
                }
            }
            Err(Stop::Interrupted(Interrupt::Gone)) => return,
            Err(Stop::Fault(fault)) => {
                // In order, so that everything before it arrives first.
                let (frame, cost) = self.small(&fault);
                if !self.inside_event && out.finish(frame, cost, Progress::default(), FAREWELL_WAIT)
                {
                    return;
                }
                fault
            }
        };
        out.fail(fault);
    }

    fn finish_with_end(&mut self, out: &Outgoing, reason: EndReason) -> bool {
        let mut released = self.reader.released();
        // What lies beyond the end has not been sent, so nothing is said of it.
        match (reason, self.until) {
            (EndReason::Until, Some(Until::Lsn(lsn))) => released = lsn,
            (EndReason::Until, Some(Until::Position(last))) => {
                released = released.min(last.commit_lsn);
            }
            _ => released = released.min(self.told.max(self.position.commit_lsn)),
        }
        let end = End {
            reason,
            position: self.position,
            released,
        };
        let (frame, cost) = self.small(&end);
        // A client acknowledges what it was told, this last word included.
        let progress = Progress {
            position: self.position,
            released,
        };
        out.finish(frame, cost, progress, FAREWELL_WAIT)
    }

    fn stream(&mut self, out: &Outgoing) -> Result<EndReason, Stop> {
        loop {
            if let Some(interrupt) = out.interrupt() {
                return Err(interrupt.into());
            }
            let released = self.reader.released();
            if self.selection.ended() || self.until.is_some_and(|until| until.is_reached(released))
            {
                return Ok(EndReason::Until);
            }
            let mut entry = self.reader.next(Duration::ZERO)?;
            if entry.is_none() {
                self.idle(out)?;
                entry = self.reader.next(BLOCK_WAIT)?;
            }
            if let Some(entry) = entry {
                self.block(out, &entry)?;
            }
        }
    }

    /// Nothing is there to be sent: says how far everything is.
    fn idle(&mut self, out: &Outgoing) -> Result<(), Stop> {
        let interval = match self.skipped && self.reader.released() > self.told {
            true => FILTERED_HEARTBEAT_INTERVAL,
            false => HEARTBEAT_INTERVAL,
        };
        match self.heartbeat_at.elapsed() >= interval {
            true => self.heartbeat(out),
            false => Ok(()),
        }
    }

    fn heartbeat(&mut self, out: &Outgoing) -> Result<(), Stop> {
        self.heartbeat_at = Instant::now();
        let status = self.provider.status();
        let heartbeat = Heartbeat {
            released: self.reader.released(),
            received: status.received.max(self.reader.released()),
            source_time_us: status.source_time_us,
        };
        self.skipped = false;
        let progress = Progress {
            position: self.position,
            released: heartbeat.released,
        };
        let (frame, cost) = self.small(&heartbeat);
        self.push(out, frame, cost, progress)?;
        self.told = self.told.max(heartbeat.released);
        Ok(())
    }

    fn block(&mut self, out: &Outgoing, entry: &BlockEntry) -> Result<(), Stop> {
        let block = &entry.block;
        let selected = self.selection.select(entry)?;
        for notice in self.selection.undecodable.take_notices() {
            let (frame, cost) = self.small(&notice);
            self.push(out, frame, cost, Progress::default())?;
        }
        match selected {
            Selected::Whole => {
                self.relations(out, &block.relations)?;
                self.databases(out, &block.databases)?;
                let head = Head {
                    first: block.first,
                    last: block.last,
                    wal_end: block.wal_end,
                    continues: block.continues.clone(),
                };
                let bodies = entry.bodies(self.compressor(out));
                self.frames(out, &head, bodies)
            }
            Selected::Runs(runs) => {
                self.skipped = true;
                let count = runs.len();
                for (number, run) in runs.into_iter().enumerate() {
                    let whole = number + 1 == count && !self.selection.ended();
                    let wal_end = if whole { block.wal_end } else { Lsn(0) };
                    self.run_of_events(out, run, wal_end)?;
                }
                if let Some(fault) = self.selection.undecodable.take_fault() {
                    return Err(fault.into());
                }
                if self.heartbeat_at.elapsed() >= HEARTBEAT_INTERVAL && !self.selection.ended() {
                    self.heartbeat(out)?;
                }
                Ok(())
            }
        }
    }

    fn run_of_events(&mut self, out: &Outgoing, run: Run, wal_end: Lsn) -> Result<(), Stop> {
        self.relations(out, &run.relations)?;
        self.databases(out, &run.databases)?;
        let head = Head {
            first: run.first,
            last: run.last,
            wal_end,
            continues: run.continues,
        };
        let compressor = self.compressor(out).map(|own| own.lend(true));
        let bodies = data_bodies(&run.pieces, compressor);
        self.frames(out, &head, &bodies)
    }

    /// What the next block is compressed with, if it is.
    fn compressor(&mut self, out: &Outgoing) -> Option<&mut Compressor> {
        let compresses = match self.compression {
            Compress::Never => false,
            Compress::Behind => out.is_behind(),
            Compress::Always => true,
        };
        compresses.then_some(&mut self.compressor)
    }

    /// Sends the relations that the session has not been sent.
    fn relations(&mut self, out: &Outgoing, versions: &[RelationVersion]) -> Result<(), Stop> {
        for version in versions {
            if self.relations.contains(version) {
                continue;
            }
            let known = || known_relation(&*self.provider, *version);
            let relation = self.selection.relation(*version, known)?;
            for part in RelationPart::split(&relation)? {
                let (frame, cost) = self.small(&part);
                self.push(out, frame, cost, Progress::default())?;
            }
            self.relations.insert(*version);
            self.databases.insert(relation.database.oid);
        }
        Ok(())
    }

    /// Sends the names of databases of which the session has not been sent anything yet.
    fn databases(&mut self, out: &Outgoing, databases: &[DatabaseOid]) -> Result<(), Stop> {
        for oid in databases {
            if *oid == DatabaseOid::INVALID || !self.databases.insert(*oid) {
                continue;
            }
            // One that is gone by now has no name.
            if let Some(database) = self.provider.database(*oid) {
                let (frame, cost) = self.small(&database);
                self.push(out, frame, cost, Progress::default())?;
            }
        }
        Ok(())
    }

    fn frames(&mut self, out: &Outgoing, head: &Head, bodies: &[DataBody]) -> Result<(), Stop> {
        let total = bodies.iter().map(|body| u64::from(body.raw_size)).sum();
        let count = bodies.len() as u32;
        for (number, body) in bodies.iter().enumerate() {
            let number = number as u32;
            let last = number + 1 == count;
            let data = DataHead {
                first: head.first,
                last: head.last,
                wal_end: head.wal_end,
                raw_size: body.raw_size,
                part: Part {
                    number,
                    count,
                    total,
                },
                continues: head.continues.clone(),
            };
            let bytes = data.encode(self.sequence + 1, body)?;
            let payload = bytes.len() - HEADER_BYTES + body.stored_size;
            let frame = OutFrame {
                bytes: bytes.len() + body.stored_size,
                head: bytes,
                body: body.stored.clone(),
            };
            let progress = match last {
                true => Progress {
                    position: head.last,
                    released: head.wal_end,
                },
                false => Progress::default(),
            };
            self.push(
                out,
                frame,
                credit::cost(payload, body.raw_size as usize),
                progress,
            )?;
            self.inside_event = !last;
        }
        self.position = head.last;
        self.told = self.told.max(head.wal_end);
        Ok(())
    }

    /// The next frame, of a small kind, and its cost.
    fn small<P: Payload>(&self, payload: &P) -> (OutFrame, u64) {
        let mut head = Vec::new();
        push_frame(&mut head, self.sequence + 1, payload);
        let cost = credit::cost(head.len() - HEADER_BYTES, 0);
        let frame = OutFrame {
            bytes: head.len(),
            head,
            body: Vec::new(),
        };
        (frame, cost)
    }

    fn push(
        &mut self,
        out: &Outgoing,
        frame: OutFrame,
        cost: u64,
        progress: Progress,
    ) -> Result<(), Stop> {
        out.push(frame, cost, progress)?;
        self.sequence += 1;
        Ok(())
    }
}

/// What the data frames of a block have in common.
struct Head {
    first: Position,
    last: Position,
    wal_end: Lsn,
    continues: Option<Arc<TransactionHeader>>,
}
