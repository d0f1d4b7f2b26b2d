//! Publishes one committed transaction, piece by piece, so that its size does not matter.
//!
//! Takes the transaction's rows from the spill store and from memory, in log order; leaves out
//! those of rolled-back subtransactions; joins TOASTed values; holds speculative inserts back until
//! they are confirmed. What needs none of that passes untouched and unread. The small transactions
//! that need nothing at all do not come here: see [`super::Assembler`].

use std::sync::Arc;

use bytes::Bytes;
use redostream_protocol::event::{
    Event, EventError, EventKind, HEADER_BYTES, TransactionHeader, flags,
};
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::{Cursor, Lsn};

use super::builder::{BlockBuilder, Stretch};
use super::error::AssemblyError;
use super::part::{Segment, segment_flags};
use super::spill::SpillStore;
use super::spill::frame::{self, FrameError};
use super::toast::{ChunkError, PendingChunks, Piece, ReadFrame};
use super::transaction::{Kept, Place, StoredRun, Transaction};
use crate::limits::{BLOCK_BYTES, COPY_BYTES_MAX, REBUILD_SCRATCH_BYTES};

/// Segments with one of these flags hold events that cannot be passed on as they are.
pub(super) const SPECIAL: u8 =
    segment_flags::TOAST | segment_flags::SPECULATIVE | segment_flags::SKIPPED;

/// How far a release has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The block is to be closed before more is written.
    BlockFull,
    /// Everything is written.
    Done,
}

/// A transaction that is being published.
pub(super) struct Release {
    header: TransactionHeader,
    shared_header: Option<Arc<TransactionHeader>>,
    kept: Kept,
    transaction: Box<Transaction>,
    /// Offset of the next frame in the spill.
    frame: u64,
    pieces: u64,
    reading: Option<Box<Reading>>,
    chunks: PendingChunks,
    /// The last frame that was read again for its chunks.
    cached_frame: Option<(u64, Bytes)>,
    /// A speculative insert, complete, that waits for its confirmation.
    speculative: Option<Vec<u8>>,
    scratch: Vec<u8>,
    /// Events written; a transaction without any is not begun.
    events: u64,
    begun: bool,
}

/// The piece that is being read, and how far.
struct Reading {
    piece: Piece,
    run: StoredRun,
    segment: usize,
    /// Bytes left of the segment.
    left: usize,
    offset: usize,
}

impl Reading {
    fn new(piece: Piece, run: StoredRun) -> Self {
        let left = run.segments.first().map_or(0, |first| first.bytes as usize);
        Self {
            piece,
            run,
            segment: 0,
            left,
            offset: 0,
        }
    }

    fn segment(&self) -> Option<Segment> {
        self.run.segments.get(self.segment).copied()
    }

    /// Moves on, over segments too.
    fn advance(&mut self, mut bytes: usize) {
        self.offset += bytes;
        while bytes >= self.left {
            bytes -= self.left;
            self.segment += 1;
            match self.segment() {
                Some(segment) => self.left = segment.bytes as usize,
                None => {
                    self.left = 0;
                    return;
                }
            }
        }
        self.left -= bytes;
    }
}

impl Release {
    pub(super) fn new(
        header: TransactionHeader,
        kept: Kept,
        mut transaction: Box<Transaction>,
    ) -> Self {
        transaction.freeze_tail();
        Self {
            header,
            shared_header: None,
            kept,
            transaction,
            frame: 0,
            pieces: 0,
            reading: None,
            chunks: PendingChunks::default(),
            cached_frame: None,
            speculative: None,
            scratch: Vec::new(),
            events: 0,
            begun: false,
        }
    }

    /// The transaction's header.
    pub(super) fn header(&self) -> &TransactionHeader {
        &self.header
    }

    /// The header for a block that continues this transaction; none if it has not begun.
    pub(super) fn continues(&mut self) -> Option<Arc<TransactionHeader>> {
        if !self.begun {
            return None;
        }
        let header = &self.header;
        Some(Arc::clone(
            self.shared_header
                .get_or_insert_with(|| Arc::new(header.clone())),
        ))
    }

    /// Gives back the transaction's buffers.
    pub(super) fn into_transaction(self) -> Box<Transaction> {
        self.transaction
    }

    /// Writes until the block is full or everything is written.
    pub(super) fn step(
        &mut self,
        out: &mut BlockBuilder,
        store: &mut dyn SpillStore,
    ) -> Result<Step, AssemblyError> {
        loop {
            if out.is_full() {
                return Ok(Step::BlockFull);
            }
            let Some(reading) = &mut self.reading else {
                match self.next_piece(store)? {
                    Some(reading) => self.reading = Some(reading),
                    None => return self.finish(out),
                }
                continue;
            };
            let Some(segment) = reading.segment() else {
                self.reading = None;
                continue;
            };
            if !self.kept.keeps(segment.xid) {
                reading.advance(reading.left);
            } else if segment.flags & SPECIAL == 0 && self.chunks.is_empty() {
                if self.pass(out)? == Step::BlockFull {
                    return Ok(Step::BlockFull);
                }
            } else {
                self.event(out, store)?;
            }
        }
    }

    fn finish(&mut self, out: &mut BlockBuilder) -> Result<Step, AssemblyError> {
        if self.begun {
            out.commit(self.header.xid, self.events, None)?;
        }
        Ok(Step::Done)
    }

    /// The transaction's next stretch of rows: first what was spilled, then what is in memory.
    fn next_piece(
        &mut self,
        store: &mut dyn SpillStore,
    ) -> Result<Option<Box<Reading>>, AssemblyError> {
        let from_spill = self
            .transaction
            .spilled
            .filter(|spilled| self.frame < spilled.bytes);
        let (run, frame) = if let Some(spilled) = from_spill {
            let at = self.frame;
            let (run, next) = frame::read(store, spilled.id, at, spilled.bytes)
                .map_err(|error| self.frame_error(at, error))?;
            self.frame = next;
            (run, Some(at))
        } else {
            match self.transaction.stored.pop_front() {
                Some(run) => (run, None),
                None => return Ok(None),
            }
        };
        let segment_bytes: usize = run.segments.iter().map(|s| s.bytes as usize).sum();
        if segment_bytes != run.data.len() {
            return Err(self.malformed(EventError::BadSize(segment_bytes as u32)));
        }
        self.pieces += 1;
        let piece = Piece {
            number: self.pieces,
            data: run.data.clone(),
            frame,
        };
        Ok(Some(Box::new(Reading::new(piece, run))))
    }

    /// Passes on as many events as can be passed untouched.
    fn pass(&mut self, out: &mut BlockBuilder) -> Result<Step, AssemblyError> {
        let Some(reading) = &self.reading else {
            return Ok(Step::Done);
        };
        let data = &reading.piece.data;
        let start = reading.offset;
        let end = start + self.passable(reading);
        let whole = start == 0 && end == data.len();
        if !out.fits(end - start) && out.bytes() >= BLOCK_BYTES / 2 {
            return Ok(Step::BlockFull);
        }
        let measured = if whole && out.fits(end - start) {
            Measured {
                end,
                last: reading.run.last as usize,
                events: reading.run.events,
                rows: reading.run.rows,
            }
        } else {
            let room = if out.fits(end - start) {
                usize::MAX
            } else {
                BLOCK_BYTES.saturating_sub(out.bytes())
            };
            measure(data, start, end, room).map_err(|source| self.malformed(source))?
        };
        let first = place_at(data, start).map_err(|source| self.malformed(source))?;
        let last = place_at(data, measured.last).map_err(|source| self.malformed(source))?;
        let crc = if whole && measured.end == end {
            reading.run.crc
        } else {
            None
        };
        // A large relation list of a run is repeated for each of its blocks: a superset is harmless.
        let stretch = Stretch {
            first,
            last,
            events: measured.events,
            rows: measured.rows,
            relations: &reading.run.relations,
        };
        begin(&mut self.begun, out, &self.header)?;
        out.shared(data, start..measured.end, stretch, crc)?;
        self.events += u64::from(measured.events);
        if let Some(reading) = &mut self.reading {
            reading.advance(measured.end - start);
        }
        Ok(Step::Done)
    }

    /// Bytes from here that can be passed on untouched, over segments.
    fn passable(&self, reading: &Reading) -> usize {
        let further = reading.run.segments.get(reading.segment + 1..);
        let further: usize = further
            .unwrap_or_default()
            .iter()
            .take_while(|segment| segment.flags & SPECIAL == 0 && self.kept.keeps(segment.xid))
            .map(|segment| segment.bytes as usize)
            .sum();
        reading.left + further
    }

    /// Takes the next event by itself.
    // pg: replication/logical/reorderbuffer.c ReorderBufferProcessTXN [14-18]
    fn event(
        &mut self,
        out: &mut BlockBuilder,
        store: &mut dyn SpillStore,
    ) -> Result<(), AssemblyError> {
        // Taken out while an event borrows from it.
        let Some(mut reading) = self.reading.take() else {
            return Ok(());
        };
        let start = reading.offset;
        let rest = &reading.piece.data[start..start + reading.left];
        let event = Event::read(&mut Cursor::new(rest)).map_err(|source| self.malformed(source))?;
        let size = event.header.size as usize;
        self.apply(&reading.piece, start, &event, out, store)?;
        reading.advance(size);
        self.reading = Some(reading);
        Ok(())
    }

    fn apply(
        &mut self,
        piece: &Piece,
        start: usize,
        event: &Event<'_>,
        out: &mut BlockBuilder,
        store: &mut dyn SpillStore,
    ) -> Result<(), AssemblyError> {
        match event.header.kind {
            EventKind::ToastChunk => {
                let added = self.chunks.add(piece, start, event);
                added.map_err(|error| chunk_error(&self.header, error))
            }
            EventKind::Insert | EventKind::Update | EventKind::Delete => {
                self.row(piece, start, event, out, store)
            }
            EventKind::SpeculativeInsert => {
                // Its chunks come before it. One that is pending has failed and is dropped.
                let mut complete = Vec::new();
                self.rebuild(piece, event, EventKind::Insert, true, store, &mut complete)?;
                self.speculative = Some(complete);
                Ok(())
            }
            EventKind::SpeculativeConfirm => self.confirm(event, out),
            EventKind::SpeculativeAbort => {
                // Withdrawals of the insert's chunks follow that of the insert, and find nothing.
                if self.speculative.take().is_some() {
                    self.chunks.clear();
                }
                Ok(())
            }
            EventKind::Skipped => Ok(()),
            EventKind::Truncate | EventKind::Message | EventKind::Sequence | EventKind::Ddl => {
                self.pass_event(piece, start, event, out)
            }
            kind @ (EventKind::Begin | EventKind::Commit) => {
                Err(self.malformed(EventError::UnknownKind(kind as u8)))
            }
        }
    }

    fn row(
        &mut self,
        piece: &Piece,
        start: usize,
        event: &Event<'_>,
        out: &mut BlockBuilder,
        store: &mut dyn SpillStore,
    ) -> Result<(), AssemblyError> {
        let clears = event.header.flags & flags::KEEPS_TOAST == 0;
        if event.header.flags & flags::HAS_EXTERNAL == 0 {
            self.pass_event(piece, start, event, out)?;
        } else {
            let mut row = std::mem::take(&mut self.scratch);
            self.rebuild(piece, event, event.header.kind, clears, store, &mut row)?;
            begin(&mut self.begun, out, &self.header)?;
            out.built(&mut row, stretch_of(event, &[event.header.relation]))?;
            self.events += 1;
            if row.capacity() <= REBUILD_SCRATCH_BYTES {
                self.scratch = row;
            }
        }
        if clears {
            self.chunks.clear();
        }
        Ok(())
    }

    /// The pending insert becomes a row, at the place of its confirmation.
    fn confirm(&mut self, event: &Event<'_>, out: &mut BlockBuilder) -> Result<(), AssemblyError> {
        let Some(mut row) = self.speculative.take() else {
            return Err(AssemblyError::ConfirmWithoutInsert {
                lsn: event.header.record_lsn,
                xid: event.header.xid,
            });
        };
        let insert = Event::read(&mut Cursor::new(&row));
        let insert = insert.map_err(|source| self.malformed(source))?.header;
        let mut header = insert;
        header.record_lsn = event.header.record_lsn;
        header.row = event.header.row;
        row[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        let place = (header.record_lsn, header.row);
        let stretch = Stretch {
            first: place,
            last: place,
            events: 1,
            rows: 1,
            relations: &[header.relation],
        };
        begin(&mut self.begun, out, &self.header)?;
        out.built(&mut row, stretch)?;
        self.events += 1;
        self.chunks.clear();
        Ok(())
    }

    /// Passes one event on as it is.
    fn pass_event(
        &mut self,
        piece: &Piece,
        start: usize,
        event: &Event<'_>,
        out: &mut BlockBuilder,
    ) -> Result<(), AssemblyError> {
        let mut named = Vec::new();
        let relations = match event.header.kind {
            EventKind::Truncate => {
                let mut cursor = Cursor::new(event.payload);
                for _ in 0..event.header.count {
                    let version = cursor.u32("truncated relation");
                    let version = version.map_err(|error| self.malformed(error.into()))?;
                    named.push(RelationVersion(version));
                }
                &named[..]
            }
            _ if event.header.relation.0 == 0 => &[],
            _ => std::slice::from_ref(&event.header.relation),
        };
        begin(&mut self.begun, out, &self.header)?;
        let range = start..start + event.header.size as usize;
        let stretch = stretch_of(event, relations);
        if range.len() <= COPY_BYTES_MAX {
            out.copied(&piece.data[range], stretch)?;
        } else {
            out.shared(&piece.data, range, stretch, None)?;
        }
        self.events += 1;
        Ok(())
    }

    fn rebuild(
        &mut self,
        piece: &Piece,
        event: &Event<'_>,
        kind: EventKind,
        consume: bool,
        store: &mut dyn SpillStore,
        row: &mut Vec<u8>,
    ) -> Result<(), AssemblyError> {
        let header = &self.header;
        let spilled = self.transaction.spilled;
        let cached = &mut self.cached_frame;
        let read_frame: &mut ReadFrame<'_> = &mut |at| {
            if let Some((frame, data)) = cached
                && *frame == at
            {
                return Ok(data.clone());
            }
            let Some(spilled) = spilled else {
                return Err(malformed(header, EventError::BadSize(0)));
            };
            let (run, _) = frame::read(store, spilled.id, at, spilled.bytes)
                .map_err(|error| frame_error(header, at, error))?;
            *cached = Some((at, run.data.clone()));
            Ok(run.data)
        };
        self.chunks
            .rebuild(event, kind, consume, piece, read_frame, row)
            .map_err(|error| chunk_error(&self.header, error))
    }

    fn malformed(&self, source: EventError) -> AssemblyError {
        malformed(&self.header, source)
    }

    fn frame_error(&self, offset: u64, error: FrameError) -> AssemblyError {
        frame_error(&self.header, offset, error)
    }
}

fn begin(
    begun: &mut bool,
    out: &mut BlockBuilder,
    header: &TransactionHeader,
) -> Result<(), AssemblyError> {
    if !*begun {
        out.begin(header)?;
        *begun = true;
    }
    Ok(())
}

fn malformed(header: &TransactionHeader, source: EventError) -> AssemblyError {
    AssemblyError::Malformed {
        lsn: header.commit_lsn,
        top: header.xid,
        source,
    }
}

fn chunk_error(header: &TransactionHeader, error: ChunkError) -> AssemblyError {
    match error {
        ChunkError::Event(source) => malformed(header, source),
        ChunkError::Assembly(error) => *error,
    }
}

fn frame_error(header: &TransactionHeader, offset: u64, error: FrameError) -> AssemblyError {
    match error {
        FrameError::Store(source) => AssemblyError::Spill {
            top: header.xid,
            doing: "read back from",
            source,
        },
        FrameError::Damaged(what) => AssemblyError::SpillDamaged {
            top: header.xid,
            offset,
            what,
        },
    }
}

fn stretch_of<'a>(event: &Event<'_>, relations: &'a [RelationVersion]) -> Stretch<'a> {
    let place = (event.header.record_lsn, event.header.row);
    Stretch {
        first: place,
        last: place,
        events: 1,
        rows: u32::from(is_row(event.header.kind as u8)),
        relations,
    }
}

fn is_row(kind: u8) -> bool {
    (EventKind::Insert as u8..=EventKind::Delete as u8).contains(&kind)
}

/// What a stretch of events holds.
struct Measured {
    end: usize,
    last: usize,
    events: u32,
    rows: u32,
}

/// Walks events from `start`, up to `end` and about `room` bytes, at least one.
fn measure(data: &[u8], start: usize, end: usize, room: usize) -> Result<Measured, EventError> {
    let mut measured = Measured {
        end: start,
        last: start,
        events: 0,
        rows: 0,
    };
    while measured.end < end {
        let at = measured.end;
        let mut cursor = Cursor::new(data.get(at..end).unwrap_or_default());
        let size = cursor.u32("event size")?;
        let kind = cursor.u8("event kind")?;
        if (size as usize) < HEADER_BYTES || size as usize > end - at {
            return Err(EventError::BadSize(size));
        }
        if measured.events > 0 && at + size as usize - start > room {
            break;
        }
        measured.last = at;
        measured.end = at + size as usize;
        measured.events += 1;
        measured.rows += u32::from(is_row(kind));
    }
    Ok(measured)
}

/// The place of the event at `offset`.
pub(super) fn place_at(data: &[u8], offset: usize) -> Result<Place, EventError> {
    let header = data.get(offset..offset.saturating_add(HEADER_BYTES));
    let mut cursor = Cursor::new(header.unwrap_or_default());
    cursor.take(16, "event")?;
    Ok((
        Lsn(cursor.u64("event record LSN")?),
        cursor.u32("event row")?,
    ))
}
