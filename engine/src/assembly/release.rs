//! Publishes one committed transaction, piece by piece, so that its size does not matter.
//!
//! Takes the transaction's rows from the spill store and from memory, in log order; leaves out
//! those of rolled-back subtransactions; joins TOASTed values; holds speculative inserts back until
//! they are confirmed. What needs none of that passes untouched and unread. The small transactions
//! that need nothing at all do not come here: see [`super::Assembler`].

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use redostream_protocol::Cursor;
use redostream_protocol::event::{
    Event, EventError, EventHeader, EventKind, HEADER_BYTES, TransactionHeader, flags,
};
use redostream_protocol::schema::RelationVersion;

use super::builder::{BlockBuilder, Stretch};
use super::error::AssemblyError;
use super::kept::Kept;
use super::part::segment_flags::SPECIAL;
use super::reading::Reading;
use super::spill::SpillStore;
use super::spill::frame::{self, FrameError};
use super::toast::{ChunkError, PendingChunks, Piece, ReadFrame};
use super::transaction::Transaction;
use super::walk::{is_row, measure, place_at};
use crate::limits::{BLOCK_BYTES, COPY_BYTES_MAX, REBUILD_SCRATCH_BYTES};

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
    /// An event that waits for the next block.
    held: Option<Held>,
    /// Events written; a transaction without any is not begun.
    events: u64,
    begun: bool,
}

/// An event that is complete.
struct Held {
    bytes: HeldBytes,
    /// Its header, whose size may be that from before its values were joined.
    header: EventHeader,
    relations: Vec<RelationVersion>,
}

enum HeldBytes {
    Built(Vec<u8>),
    Shared(Bytes, Range<usize>),
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
            held: None,
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
            if let Some(held) = self.held.take() {
                self.write(held, out)?;
                if self.held.is_some() {
                    return Ok(Step::BlockFull);
                }
                continue;
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
        self.begin(out)?;
        let Some(reading) = &self.reading else {
            return Ok(Step::Done);
        };
        let data = &reading.piece.data;
        let start = reading.offset;
        let end = start + reading.passable(&self.kept);
        let fits = out.fits(end - start);
        if !fits && out.bytes() >= BLOCK_BYTES / 2 {
            return Ok(Step::BlockFull);
        }
        let known = reading.run.known(start..end).filter(|_| fits);
        let (measured, crc) = match known {
            Some(known) => known,
            None => {
                let room = if fits {
                    usize::MAX
                } else {
                    BLOCK_BYTES.saturating_sub(out.bytes())
                };
                let measured = measure(data, start, end, room);
                (measured.map_err(|source| self.malformed(source))?, None)
            }
        };
        if !out.admits(measured.end - start) {
            return Ok(Step::BlockFull);
        }
        // A run's relations are named in each of its blocks: more than there are is harmless.
        let stretch = Stretch {
            first: place_at(data, start).map_err(|source| self.malformed(source))?,
            last: place_at(data, measured.last).map_err(|source| self.malformed(source))?,
            events: measured.events,
            rows: measured.rows,
            relations: &reading.run.relations,
            undecodable: false,
        };
        out.shared(data, start..measured.end, stretch, crc)?;
        self.events += u64::from(measured.events);
        if let Some(reading) = &mut self.reading {
            reading.advance(measured.end - start);
        }
        Ok(Step::Done)
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
            EventKind::Insert | EventKind::Update | EventKind::Delete | EventKind::Undecodable => {
                self.row(piece, start, event, out, store)
            }
            EventKind::SpeculativeInsert => {
                // Its chunks come before it. One that is pending has failed and is dropped.
                let mut complete = Vec::new();
                if event.header.flags & flags::UNDECODABLE == 0 {
                    self.rebuild(piece, event, EventKind::Insert, true, store, &mut complete)?;
                } else {
                    let header = EventHeader {
                        kind: EventKind::Undecodable,
                        flags: 0,
                        ..event.header
                    };
                    complete.extend_from_slice(&header.to_bytes());
                    complete.extend_from_slice(event.payload);
                }
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
            self.built(row, event.header, out)?;
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
        let header = EventHeader {
            record_lsn: event.header.record_lsn,
            row: event.header.row,
            ..insert
        };
        row[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        self.built(row, header, out)?;
        self.chunks.clear();
        Ok(())
    }

    /// Writes a row that was built here, and takes its buffer back if it is worth keeping.
    fn built(
        &mut self,
        mut row: Vec<u8>,
        header: EventHeader,
        out: &mut BlockBuilder,
    ) -> Result<(), AssemblyError> {
        self.begin(out)?;
        if !out.admits(row.len()) {
            self.held = Some(Held {
                bytes: HeldBytes::Built(row),
                header,
                relations: vec![header.relation],
            });
            return Ok(());
        }
        out.built(&mut row, stretch_of(&header, &[header.relation]))?;
        self.events += 1;
        if row.capacity() <= REBUILD_SCRATCH_BYTES {
            self.scratch = row;
        }
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
        let header = event.header;
        let mut relations = Vec::new();
        if header.kind == EventKind::Truncate {
            let mut cursor = Cursor::new(event.payload);
            for _ in 0..header.count {
                let version = cursor.u32("truncated relation");
                let version = version.map_err(|error| self.malformed(error.into()))?;
                relations.push(RelationVersion(version));
            }
        }
        self.begin(out)?;
        let range = start..start + header.size as usize;
        if range.len() <= COPY_BYTES_MAX && relations.is_empty() {
            let named = std::slice::from_ref(&header.relation);
            let named = if header.relation.0 == 0 { &[] } else { named };
            out.copied(&piece.data[range], stretch_of(&header, named))?;
            self.events += 1;
            return Ok(());
        }
        if header.relation.0 != 0 {
            relations.push(header.relation);
        }
        let held = Held {
            bytes: HeldBytes::Shared(piece.data.clone(), range),
            header,
            relations,
        };
        self.write(held, out)
    }

    /// Writes an event, or holds it back for the next block if it does not go into this one.
    fn write(&mut self, held: Held, out: &mut BlockBuilder) -> Result<(), AssemblyError> {
        let bytes = match &held.bytes {
            HeldBytes::Built(row) => row.len(),
            HeldBytes::Shared(_, range) => range.len(),
        };
        if !out.admits(bytes) {
            self.held = Some(held);
            return Ok(());
        }
        let stretch = stretch_of(&held.header, &held.relations);
        match held.bytes {
            HeldBytes::Built(mut row) => out.built(&mut row, stretch)?,
            HeldBytes::Shared(data, range) => out.shared(&data, range, stretch, None)?,
        }
        self.events += 1;
        Ok(())
    }

    fn begin(&mut self, out: &mut BlockBuilder) -> Result<(), AssemblyError> {
        if !self.begun {
            out.begin(&self.header)?;
            self.begun = true;
        }
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
            .map_err(|error| chunk_error(&self.header, error))?;
        match self.transaction.names_at(event.header.record_lsn) {
            Some(names) => (names.write(self.header.xid, row))
                .map_err(|source| malformed(&self.header, source)),
            None => Ok(()),
        }
    }

    fn malformed(&self, source: EventError) -> AssemblyError {
        malformed(&self.header, source)
    }

    fn frame_error(&self, offset: u64, error: FrameError) -> AssemblyError {
        frame_error(&self.header, offset, error)
    }
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

fn stretch_of<'a>(header: &EventHeader, relations: &'a [RelationVersion]) -> Stretch<'a> {
    let place = (header.record_lsn, header.row);
    Stretch {
        first: place,
        last: place,
        events: 1,
        rows: u32::from(is_row(header.kind as u8)),
        relations,
        undecodable: header.kind == EventKind::Undecodable,
    }
}
