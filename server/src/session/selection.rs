//! Which part of a block goes to a session: start, end and filter applied.
//!
//! Takes blocks in order; gives for each all of it untouched, nothing, or runs of events. A
//! transaction of which not everything is sent gets a commit event that counts what was. One of
//! which nothing is left is not sent at all, begin and commit included; but where the stream begins
//! inside it, its commit is, since its begin has been seen.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use redostream_engine::feed::block::Block;
use redostream_protocol::control::{Start, Until};
use redostream_protocol::event::{Event, EventError, EventKind, HEADER_BYTES, TransactionHeader};
use redostream_protocol::schema::{Relation, RelationVersion};
use redostream_protocol::wire::limits::DATA_RAW_BYTES_MAX;
use redostream_protocol::wire::{Fault, FaultCode};
use redostream_protocol::{Cursor, DatabaseOid, Position};

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
    pub(super) relations: Vec<RelationVersion>,
    pub(super) databases: Vec<DatabaseOid>,
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

    /// A relation as the session is sent it; `known` gives it whole.
    pub(super) fn relation(
        &mut self,
        version: RelationVersion,
        known: impl FnOnce() -> Result<Arc<Relation>, Fault>,
    ) -> Result<Arc<Relation>, Fault> {
        match &mut self.filter {
            Some(filter) => filter.relation(version),
            None => known(),
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
        range: Range<usize>,
        runs: &mut Runs<'_>,
    ) -> Result<(), Fault> {
        let begins = match event.header.kind {
            EventKind::Begin => {
                let header = TransactionHeader::read(event.payload)
                    .ok_or_else(|| internal(block, "a begin whose header does not decode"))?;
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
                    runs.push(position, None, event, Piece::Block(range));
                } else if admitted {
                    open.begin = Some(Bytes::copy_from_slice(runs.slice(&range)));
                }
                self.open = Some(open);
            }
            EventKind::Commit => {
                let open = self.open.take();
                let open = open.ok_or_else(|| internal(block, "a commit without a begin"))?;
                if admitted && open.begin.is_none() {
                    let piece = match open.altered {
                        true => Piece::Own(commit_event(event, &open)),
                        false => Piece::Block(range),
                    };
                    runs.push(position, Some(&open.header), event, piece);
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
        range: Range<usize>,
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
        let kept = matches!(verdict, Verdict::Keep);
        let piece = match verdict {
            Verdict::Drop => None,
            Verdict::Keep => Some(Piece::Block(range)),
            Verdict::Replace(bytes) => Some(Piece::Own(bytes)),
            Verdict::Narrow(narrowed) => {
                let built = runs.build(|out| narrowed.push(event, out));
                Some(built.map_err(|error| damaged(block, &error))?)
            }
        };
        if let Some(open) = &mut self.open {
            open.altered |= !kept;
        }
        let Some(piece) = piece else { return Ok(()) };
        if let Some(open) = &mut self.open {
            open.events += 1;
            open.crc.update(runs.bytes_of(&piece));
            if let Some(begin) = open.begin.take() {
                let at = Position::begin(position.timeline, open.header.commit_lsn);
                runs.insert(at, begin);
            }
        }
        let header = self.open.as_ref().map(|open| &open.header);
        runs.push(position, header, event, piece);
        Ok(())
    }
}

/// A commit event that counts what was sent.
fn commit_event(event: &Event<'_>, open: &Open) -> Bytes {
    let mut header = event.header;
    header.size = (HEADER_BYTES + 12) as u32;
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

/// Where an event that is sent stands.
enum Piece {
    /// In the block.
    Block(Range<usize>),
    /// Among what was made anew of this block's rows.
    Built(Range<usize>),
    /// By itself.
    Own(Bytes),
}

/// A run before its bytes are put together.
struct Draft {
    first: Position,
    last: Position,
    continues: Option<Arc<TransactionHeader>>,
    pieces: Vec<Piece>,
    bytes: usize,
    relations: Vec<RelationVersion>,
    databases: Vec<DatabaseOid>,
}

/// Collects what is sent into runs; what is contiguous in the block stays so.
struct Runs<'b> {
    bytes: &'b Bytes,
    built: Vec<u8>,
    drafts: Vec<Draft>,
}

impl<'b> Runs<'b> {
    fn new(bytes: &'b Bytes) -> Self {
        Self {
            bytes,
            built: Vec::new(),
            drafts: Vec::new(),
        }
    }

    fn slice(&self, range: &Range<usize>) -> &'b [u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    fn bytes_of<'p>(&'p self, piece: &'p Piece) -> &'p [u8] {
        match piece {
            Piece::Block(range) => self.slice(range),
            Piece::Built(range) => self.built.get(range.clone()).unwrap_or_default(),
            Piece::Own(bytes) => bytes,
        }
    }

    /// Makes an event anew.
    fn build<E>(&mut self, make: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<Piece, E> {
        let start = self.built.len();
        make(&mut self.built)?;
        Ok(Piece::Built(start..self.built.len()))
    }

    /// Adds an event; `header` is its transaction's, if it has begun before.
    fn push(
        &mut self,
        position: Position,
        header: Option<&Arc<TransactionHeader>>,
        event: &Event<'_>,
        piece: Piece,
    ) {
        let size = self.bytes_of(&piece).len();
        let named = match event.header.kind {
            EventKind::Begin | EventKind::Commit => Vec::new(),
            // Not all that the event named need be left.
            EventKind::Truncate => truncated(self.bytes_of(&piece)),
            _ => Vec::new(),
        };
        let draft = self.draft(position, header, size);
        named.into_iter().for_each(|version| draft.note(version));
        if event.header.kind != EventKind::Truncate {
            draft.note(event.header.relation);
        }
        let database = header.map(|header| header.database);
        draft.note_database(database.or_else(|| event.database()));
        draft.add(piece);
    }

    /// Adds a begin that was held back.
    fn insert(&mut self, position: Position, bytes: Bytes) {
        self.draft(position, None, bytes.len())
            .add(Piece::Own(bytes));
    }

    /// The run with room for an event of `size` bytes.
    fn draft(
        &mut self,
        position: Position,
        header: Option<&Arc<TransactionHeader>>,
        size: usize,
    ) -> &mut Draft {
        let fits = |draft: &Draft| draft.bytes + size <= DATA_RAW_BYTES_MAX;
        if !self.drafts.last().is_some_and(fits) {
            self.drafts.push(Draft {
                first: position,
                last: position,
                continues: header.cloned(),
                pieces: Vec::new(),
                bytes: 0,
                relations: Vec::new(),
                databases: Vec::new(),
            });
        }
        let place = self.drafts.len() - 1;
        let draft = &mut self.drafts[place];
        draft.bytes += size;
        draft.last = position;
        draft
    }

    fn finish(self) -> Vec<Run> {
        let (bytes, built) = (self.bytes, Bytes::from(self.built));
        let cut = |piece| match piece {
            Piece::Block(range) => bytes.slice(range),
            Piece::Built(range) => built.slice(range),
            Piece::Own(bytes) => bytes,
        };
        let drafts = self.drafts.into_iter();
        let runs = drafts.map(|draft| Run {
            first: draft.first,
            last: draft.last,
            continues: draft.continues,
            pieces: draft.pieces.into_iter().map(cut).collect(),
            relations: draft.relations,
            databases: draft.databases,
        });
        runs.collect()
    }
}

impl Draft {
    fn note(&mut self, version: RelationVersion) {
        if version.0 != 0
            && self.relations.last() != Some(&version)
            && !self.relations.contains(&version)
        {
            self.relations.push(version);
        }
    }

    fn note_database(&mut self, database: Option<DatabaseOid>) {
        if let Some(database) = database
            && !self.databases.contains(&database)
        {
            self.databases.push(database);
        }
    }

    fn add(&mut self, piece: Piece) {
        match (self.pieces.last_mut(), piece) {
            (Some(Piece::Block(last)), Piece::Block(range)) if last.end == range.start => {
                last.end = range.end;
            }
            (Some(Piece::Built(last)), Piece::Built(range)) if last.end == range.start => {
                last.end = range.end;
            }
            (_, piece) => self.pieces.push(piece),
        }
    }
}

/// The relations that a truncate names.
fn truncated(event: &[u8]) -> Vec<RelationVersion> {
    let payload = event.get(HEADER_BYTES..).unwrap_or_default();
    let raw = payload.as_chunks::<4>().0.iter();
    raw.map(|raw| RelationVersion(u32::from_le_bytes(*raw)))
        .collect()
}
