//! Which part of a block goes to a session: start, end and filter applied.
//!
//! Takes blocks in order; gives for each all of it untouched, nothing, or runs of events. A
//! transaction of which not everything is sent gets a commit event that counts what was. One of
//! which nothing is left is not sent at all, begin and commit included; but where the stream begins
//! inside it, its commit is, since its begin has been seen.

use std::sync::Arc;

use bytes::Bytes;
use redostream_engine::feed::block::Block;
use redostream_protocol::control::{Start, Until};
use redostream_protocol::event::{Event, EventError, EventKind, TransactionHeader};
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::wire::limits::DATA_RAW_BYTES_MAX;
use redostream_protocol::wire::{Fault, FaultCode};
use redostream_protocol::{Cursor, Position};

use super::filter::{Filter, Share, Verdict};
use super::provider::{BlockEntry, joined};
use super::undecodable::Undecodable;

/// What is sent of a block.
#[derive(Debug)]
pub(super) enum Selected {
    Whole,
    Runs(Vec<Run>),
}

/// Events that go into one frame; or one event that is larger than a frame.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) first: Position,
    pub(super) last: Position,
    pub(super) continues: Option<Arc<TransactionHeader>>,
    pub(super) pieces: Vec<Bytes>,
    pub(super) bytes: usize,
    pub(super) relations: Vec<RelationVersion>,
}

/// The transaction under way.
struct Open {
    header: Arc<TransactionHeader>,
    /// Its begin event, until that is sent.
    begin: Option<Bytes>,
    /// Whether something of it was left out.
    altered: bool,
    /// Events sent.
    events: u64,
    crc: crc32fast::Hasher,
}

impl Open {
    fn new(header: Arc<TransactionHeader>, begin: Option<Bytes>, altered: bool) -> Self {
        Self {
            header,
            begin,
            altered,
            events: 0,
            crc: crc32fast::Hasher::new(),
        }
    }
}

/// A session's selection.
pub(super) struct Selection {
    start: Start,
    until: Option<Until>,
    filter: Option<Filter>,
    pub(super) undecodable: Undecodable,
    open: Option<Open>,
    /// Whether an event after the start has been seen.
    started: bool,
    ended: bool,
}

impl Selection {
    pub(super) fn new(
        start: Start,
        until: Option<Until>,
        filter: Option<Filter>,
        undecodable: Undecodable,
    ) -> Self {
        Self {
            start,
            until,
            filter,
            undecodable,
            open: None,
            started: false,
            ended: until.is_some_and(|until| until.is_before(&start)),
        }
    }

    /// Whether the end has been passed.
    pub(super) const fn ended(&self) -> bool {
        self.ended
    }

    /// Selects from the next block.
    pub(super) fn select(&mut self, entry: &BlockEntry) -> Result<Selected, Fault> {
        let block = &entry.block;
        let nothing = Ok(Selected::Runs(Vec::new()));
        if block.events == 0 || self.ended || !self.start.admits(&block.last) {
            return nothing;
        }
        let until_admits = |at: &Position| self.until.is_none_or(|until| until.admits(at));
        if !until_admits(&block.first) {
            self.ended = true;
            return nothing;
        }
        // The stream begins inside a transaction whose begin is in an earlier block.
        let midway = !self.started && block.continues.is_some();
        let uncut = !midway && self.start.admits(&block.first) && until_admits(&block.last);
        if uncut && self.fits(block) {
            if self.filter.is_none() {
                if self.open.as_ref().is_none_or(|open| !open.altered) {
                    self.started = true;
                    self.open = None;
                    return Ok(Selected::Whole);
                }
            } else if let Some(selected) = self.select_by_list(entry)? {
                self.started = true;
                return Ok(selected);
            }
        }
        let walked = self.walk(block);
        walked.map(Selected::Runs)
    }

    /// A block goes out as it is only if it makes one frame, or is one event, and all of it is for
    /// subscribers.
    fn fits(&self, block: &Block) -> bool {
        !block.undecodable && (block.events == 1 || block.bytes() <= DATA_RAW_BYTES_MAX)
    }

    /// Decides by the block's list of relations, without looking at events; none if that cannot be.
    fn select_by_list(&mut self, entry: &BlockEntry) -> Result<Option<Selected>, Fault> {
        let Some(filter) = &mut self.filter else {
            return Ok(None);
        };
        let share = filter.share(&entry.block)?;
        if share == Share::Some {
            return Ok(None);
        }
        let summary = entry.summary()?;
        let begins = summary.transactions + u64::from(summary.tail.is_some())
            - u64::from(summary.lead_commit.is_some());
        if summary.rows + summary.transactions + begins != summary.events {
            return Ok(None);
        }
        if summary.lead.is_some() != self.open.is_some() {
            return Ok(None);
        }
        let begun = self.open.as_ref().is_none_or(|open| open.begin.is_none());
        let altered = self.open.as_ref().is_some_and(|open| open.altered);
        if share == Share::All {
            if !begun || (altered && summary.lead_commit.is_some()) {
                return Ok(None);
            }
            if let (Some(open), Some((_, lead))) = (&mut self.open, &summary.lead) {
                open.events += lead.events;
                open.crc.combine(&lead.crc);
            }
            if summary.lead_commit.is_some() {
                self.open = None;
            }
            if let Some((header, tail)) = &summary.tail {
                self.open = Some(Open {
                    header: Arc::clone(header),
                    begin: None,
                    altered: false,
                    events: tail.events,
                    crc: tail.crc.clone(),
                });
            }
            return Ok(Some(Selected::Whole));
        }
        let commit_wanted = self.open.is_some() && begun && summary.lead_commit.is_some();
        if commit_wanted || summary.tail.is_some() {
            return Ok(None);
        }
        if let Some(open) = &mut self.open {
            open.altered = true;
        }
        if summary.lead_commit.is_some() {
            self.open = None;
        }
        Ok(Some(Selected::Runs(Vec::new())))
    }

    /// Goes through a block event by event.
    fn walk(&mut self, block: &Block) -> Result<Vec<Run>, Fault> {
        let bytes = joined(&block.pieces);
        if self.open.is_none()
            && let Some(header) = &block.continues
        {
            self.open = Some(Open::new(Arc::clone(header), None, !self.started));
        }
        let mut runs = Runs::new(&bytes);
        let mut cursor = Cursor::new(&bytes);
        while !cursor.rest().is_empty() {
            let at = cursor.offset();
            let event = Event::read(&mut cursor).map_err(|error| damaged(block, &error))?;
            self.event(block, &event, at..cursor.offset(), &mut runs)?;
            if self.ended {
                break;
            }
        }
        Ok(runs.finish())
    }

    fn event(
        &mut self,
        block: &Block,
        event: &Event<'_>,
        range: std::ops::Range<usize>,
        runs: &mut Runs<'_>,
    ) -> Result<(), Fault> {
        let begins = match event.header.kind {
            EventKind::Begin => {
                let header: TransactionHeader = postcard::from_bytes(event.payload)
                    .map_err(|_| internal(block, "a begin whose header does not decode"))?;
                Some(Arc::new(header))
            }
            _ => None,
        };
        let header = begins
            .as_ref()
            .or(self.open.as_ref().map(|open| &open.header));
        let position = Position {
            timeline: block.first.timeline,
            commit_lsn: header.map_or(event.header.record_lsn, |header| header.commit_lsn),
            record_lsn: event.header.record_lsn,
            row: event.header.row,
        };
        if !self.until.is_none_or(|until| until.admits(&position)) {
            self.ended = true;
            return Ok(());
        }
        let admitted = self.start.admits(&position);
        self.started |= admitted;
        match event.header.kind {
            EventKind::Begin => {
                let Some(header) = begins else { return Ok(()) };
                let mut open = Open::new(header, None, !admitted);
                if admitted && self.filter.is_none() {
                    runs.push(position, None, event, range);
                } else if admitted {
                    open.begin = Some(Bytes::copy_from_slice(runs.slice(&range)));
                }
                self.open = Some(open);
            }
            EventKind::Commit => {
                let open = self.open.take();
                let open = open.ok_or_else(|| internal(block, "a commit without a begin"))?;
                if admitted && open.begin.is_none() {
                    match open.altered {
                        true => {
                            let commit = commit_event(event, &open);
                            runs.replace(position, Some(&open.header), event, commit);
                        }
                        false => runs.push(position, Some(&open.header), event, range),
                    }
                }
            }
            EventKind::Undecodable => self.left_out(event, position, admitted)?,
            _ => self.change(block, event, position, admitted, range, runs)?,
        }
        Ok(())
    }

    /// Rows that cannot be decoded: nothing of them is sent.
    fn left_out(
        &mut self,
        event: &Event<'_>,
        position: Position,
        admitted: bool,
    ) -> Result<(), Fault> {
        if let Some(open) = &mut self.open {
            open.altered = true;
        }
        let wanted = match &mut self.filter {
            Some(filter) => filter.admits_undecodable(event.header.relation)?,
            None => true,
        };
        if admitted && wanted {
            self.ended |= !self.undecodable.take(event, position)?;
        }
        Ok(())
    }

    /// A row, or whatever else is neither begin nor commit.
    fn change(
        &mut self,
        block: &Block,
        event: &Event<'_>,
        position: Position,
        admitted: bool,
        range: std::ops::Range<usize>,
        runs: &mut Runs<'_>,
    ) -> Result<(), Fault> {
        let verdict = match (&mut self.filter, admitted) {
            (_, false) => Verdict::Drop,
            (None, true) => Verdict::Keep,
            (Some(filter), true) => {
                let database = self.open.as_ref().map(|open| open.header.database);
                filter.judge(event, database, block)?
            }
        };
        if let Some(open) = &mut self.open {
            open.altered |= !matches!(verdict, Verdict::Keep);
            let sent = match &verdict {
                Verdict::Drop => return Ok(()),
                Verdict::Keep => runs.slice(&range),
                Verdict::Replace(bytes) => bytes,
            };
            open.events += 1;
            open.crc.update(sent);
            if let Some(begin) = open.begin.take() {
                let at = Position::begin(position.timeline, open.header.commit_lsn);
                runs.insert(at, begin);
            }
        }
        let header = self.open.as_ref().map(|open| &open.header);
        match verdict {
            Verdict::Drop => {}
            Verdict::Keep => runs.push(position, header, event, range),
            Verdict::Replace(bytes) => runs.replace(position, header, event, bytes),
        }
        Ok(())
    }
}

/// A commit event that counts what was sent.
fn commit_event(event: &Event<'_>, open: &Open) -> Bytes {
    let mut header = event.header;
    header.size = (redostream_protocol::event::HEADER_BYTES + 12) as u32;
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend_from_slice(&open.events.to_le_bytes());
    bytes.extend_from_slice(&open.crc.clone().finalize().to_le_bytes());
    Bytes::from(bytes)
}

fn damaged(block: &Block, error: &EventError) -> Fault {
    internal(block, &error.to_string())
}

fn internal(block: &Block, problem: &str) -> Fault {
    let message = format!("a block for subscribers is damaged: {problem}");
    Fault::new(FaultCode::Internal, message).at(block.first.commit_lsn)
}

/// Collects what is sent into runs; what is contiguous in the block stays so.
struct Runs<'b> {
    bytes: &'b Bytes,
    done: Vec<Run>,
    run: Option<Run>,
    pending: std::ops::Range<usize>,
}

impl<'b> Runs<'b> {
    fn new(bytes: &'b Bytes) -> Self {
        Self {
            bytes,
            done: Vec::new(),
            run: None,
            pending: 0..0,
        }
    }

    fn slice(&self, range: &std::ops::Range<usize>) -> &'b [u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    /// Adds an event of the block as it is; `header` is its transaction's, if it has begun before.
    fn push(
        &mut self,
        position: Position,
        header: Option<&Arc<TransactionHeader>>,
        event: &Event<'_>,
        range: std::ops::Range<usize>,
    ) {
        self.open(position, header, range.len());
        self.note_relations(event.header.kind, event.header.relation, event.payload);
        if self.pending.end == range.start && !self.pending.is_empty() {
            self.pending.end = range.end;
        } else {
            self.flush();
            self.pending = range;
        }
    }

    /// Adds other bytes in the place of an event.
    fn replace(
        &mut self,
        position: Position,
        header: Option<&Arc<TransactionHeader>>,
        event: &Event<'_>,
        bytes: Bytes,
    ) {
        let payload = bytes.get(redostream_protocol::event::HEADER_BYTES..);
        self.open(position, header, bytes.len());
        let payload = payload.unwrap_or_default();
        self.note_relations(event.header.kind, event.header.relation, payload);
        self.add(bytes);
    }

    /// Adds a begin that was held back.
    fn insert(&mut self, position: Position, bytes: Bytes) {
        self.open(position, None, bytes.len());
        self.add(bytes);
    }

    fn add(&mut self, bytes: Bytes) {
        self.flush();
        if let Some(run) = &mut self.run {
            run.pieces.push(bytes);
        }
    }

    fn note_relations(&mut self, kind: EventKind, relation: RelationVersion, payload: &[u8]) {
        let Some(run) = &mut self.run else { return };
        let mut note = |version: RelationVersion| {
            if version.0 != 0
                && run.relations.last() != Some(&version)
                && !run.relations.contains(&version)
            {
                run.relations.push(version);
            }
        };
        match kind {
            EventKind::Truncate => {
                for version in payload.as_chunks::<4>().0 {
                    note(RelationVersion(u32::from_le_bytes(*version)));
                }
            }
            EventKind::Begin | EventKind::Commit => {}
            _ => note(relation),
        }
    }

    /// Makes room in the run for an event of `size` bytes.
    fn open(&mut self, position: Position, header: Option<&Arc<TransactionHeader>>, size: usize) {
        if let Some(run) = &mut self.run
            && run.bytes + size <= DATA_RAW_BYTES_MAX
        {
            run.bytes += size;
            run.last = position;
            return;
        }
        self.close();
        self.run = Some(Run {
            first: position,
            last: position,
            continues: header.cloned(),
            pieces: Vec::new(),
            bytes: size,
            relations: Vec::new(),
        });
    }

    fn flush(&mut self) {
        let pending = std::mem::replace(&mut self.pending, 0..0);
        if let Some(run) = &mut self.run
            && !pending.is_empty()
        {
            run.pieces.push(self.bytes.slice(pending));
        }
    }

    fn close(&mut self) {
        self.flush();
        self.done.extend(self.run.take());
    }

    fn finish(mut self) -> Vec<Run> {
        self.close();
        self.done
    }
}
