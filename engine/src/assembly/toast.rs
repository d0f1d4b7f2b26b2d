//! Joins TOASTed values to their rows, where [`crate::decoding`] has not: it had not all of their
//! chunks before it, or more was to be done with the row.
//!
//! Chunks are remembered by where they are, not copied, until a row asks for them; a row's values
//! are then written straight into its final bytes. Chunks live until the transaction's next row
//! that does not keep them. What a row does not find here was not written by its transaction since
//! then: the value is unchanged.

use bytes::Bytes;
use redostream_protocol::event::{
    ColumnValue, Event, EventError, EventHeader, EventKind, HEADER_BYTES, TAG_UNCHANGED,
    ToastPointer, flags,
};
use redostream_protocol::{Cursor, Lsn};
use rustc_hash::FxHashMap;

use super::error::AssemblyError;
use crate::decoding::toasted::{self, Untrue};

/// Bytes of a chunk event before the chunk's own: header, TOAST relation, value id, sequence.
const CHUNK_HEAD_BYTES: usize = HEADER_BYTES + 12;
/// A map of values that has grown beyond this is given back when it is cleared.
const VALUES_KEPT: usize = 1024;

/// Bytes that hold events: where they are, and the bytes themselves if they stay in memory.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Different for every piece of the transaction.
    pub(super) number: u64,
    /// The bytes.
    pub(super) data: Bytes,
    /// Offset of the frame they were read from, if they need not be kept in memory.
    pub(super) frame: Option<u64>,
}

/// Brings back the bytes of a frame.
pub(super) type ReadFrame<'a> = dyn FnMut(u64) -> Result<Bytes, AssemblyError> + 'a;

/// Consecutive chunk events of one value.
#[derive(Clone, Debug)]
struct Extent {
    piece: u64,
    source: Source,
    start: usize,
    end: usize,
}

#[derive(Clone, Debug)]
enum Source {
    Memory(Bytes),
    Frame(u64),
}

#[derive(Clone, Debug)]
struct Value {
    chunks: u32,
    bytes: u64,
    /// The newest extent; nearly always the only one.
    newest: Extent,
    older: Vec<Extent>,
}

/// The chunks of one transaction that wait for their row.
#[derive(Debug, Default)]
pub(super) struct PendingChunks {
    values: FxHashMap<(u32, u32), Value>,
}

impl PendingChunks {
    /// Whether no chunk waits.
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Forgets all chunks.
    pub(super) fn clear(&mut self) {
        if self.values.capacity() > VALUES_KEPT {
            self.values = FxHashMap::default();
        } else {
            self.values.clear();
        }
    }

    /// Remembers the chunk event at `start` of `piece`.
    // pg: replication/logical/reorderbuffer.c ReorderBufferToastAppendChunk [14-18]
    pub(super) fn add(
        &mut self,
        piece: &Piece,
        start: usize,
        event: &Event<'_>,
    ) -> Result<(), ChunkError> {
        let mut cursor = Cursor::new(event.payload);
        let relation = cursor.u32("toast relation").map_err(EventError::from)?;
        let value = cursor.u32("toast value id").map_err(EventError::from)?;
        let sequence = cursor
            .u32("toast chunk sequence")
            .map_err(EventError::from)?;
        let end = start + event.header.size as usize;
        let bytes = cursor.remaining() as u64;
        let wanted = self
            .values
            .get(&(relation, value))
            .map_or(0, |found| found.chunks);
        if sequence != wanted {
            return Err(AssemblyError::ToastGap {
                lsn: event.header.record_lsn,
                relation,
                value,
                wanted,
                found: sequence,
            }
            .into());
        }
        let extent = || Extent {
            piece: piece.number,
            source: match piece.frame {
                Some(frame) => Source::Frame(frame),
                None => Source::Memory(piece.data.clone()),
            },
            start,
            end,
        };
        match self.values.get_mut(&(relation, value)) {
            Some(found) => {
                found.chunks += 1;
                found.bytes += bytes;
                if found.newest.piece == piece.number && found.newest.end == start {
                    found.newest.end = end;
                } else {
                    let older = std::mem::replace(&mut found.newest, extent());
                    found.older.push(older);
                }
            }
            None => {
                let fresh = Value {
                    chunks: 1,
                    bytes,
                    newest: extent(),
                    older: Vec::new(),
                };
                self.values.insert((relation, value), fresh);
            }
        }
        Ok(())
    }

    /// Writes `event` to `out` with its TOASTed values in place of their pointers. With `consume`
    /// the chunks used are let go as they are copied, so that a large value is in memory once.
    /// `out` is emptied first; `event` is of kind `kind` from now on.
    // pg: replication/logical/reorderbuffer.c ReorderBufferToastReplace [14-18]
    pub(super) fn rebuild(
        &mut self,
        event: &Event<'_>,
        kind: EventKind,
        consume: bool,
        current: &Piece,
        read_frame: &mut ReadFrame<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ChunkError> {
        let lsn = event.header.record_lsn;
        let size = self.rebuilt_size(event)?;
        let Ok(size) = u32::try_from(size) else {
            return Err(AssemblyError::EventTooLarge { lsn, bytes: size }.into());
        };
        let header = EventHeader {
            size,
            kind,
            flags: event.header.flags & !flags::HAS_EXTERNAL,
            ..event.header
        };
        out.clear();
        out.reserve_exact(size as usize);
        out.extend_from_slice(&header.to_bytes());
        let mut columns = event.columns();
        let old = toasted::old_columns(event);
        for number in 0..toasted::all_columns(event) {
            let start = columns.offset();
            match columns.read()? {
                ColumnValue::External(pointer) => {
                    // The server detoasts old tuples before it logs them.
                    // pg: access/heap/heapam.c ExtractReplicaIdentity [14-18]
                    let value = if number < old {
                        None
                    } else {
                        self.take(pointer, lsn, consume)?
                    };
                    match value {
                        Some(value) => toasted::push(pointer, out, |out| {
                            copy_chunks(value, current, read_frame, out).map_err(JoinError::Chunks)
                        })
                        .map_err(|error| error.of(pointer, lsn))?,
                        None => out.push(TAG_UNCHANGED),
                    }
                }
                _ => out.extend_from_slice(&event.payload[start..columns.offset()]),
            }
        }
        columns.finish()?;
        if out.len() != size as usize {
            // Only if two columns name one value, or chunks changed their length on disk.
            return Err(EventError::BadSize(size).into());
        }
        Ok(())
    }

    fn rebuilt_size(&self, event: &Event<'_>) -> Result<u64, ChunkError> {
        let mut size = HEADER_BYTES as u64;
        let mut columns = event.columns();
        let old = toasted::old_columns(event);
        for number in 0..toasted::all_columns(event) {
            let start = columns.offset();
            size += match columns.read()? {
                ColumnValue::External(pointer) => {
                    if number >= old && self.find(pointer, event.header.record_lsn)?.is_some() {
                        toasted::joined_bytes(pointer)
                    } else {
                        1
                    }
                }
                _ => (columns.offset() - start) as u64,
            };
        }
        Ok(size)
    }

    fn take(
        &mut self,
        pointer: ToastPointer,
        lsn: Lsn,
        consume: bool,
    ) -> Result<Option<Value>, AssemblyError> {
        let found = self.find(pointer, lsn)?;
        if consume && found.is_some() {
            return Ok(self.values.remove(&(pointer.relation, pointer.value)));
        }
        Ok(found.cloned())
    }

    /// The chunks of a value, if there are any; their number of bytes is checked.
    fn find(&self, pointer: ToastPointer, lsn: Lsn) -> Result<Option<&Value>, AssemblyError> {
        let Some(value) = self.values.get(&(pointer.relation, pointer.value)) else {
            return Ok(None);
        };
        toasted::check(pointer).map_err(|untrue| not_believed(pointer, lsn, untrue))?;
        if value.bytes != u64::from(pointer.stored_size()) {
            return Err(AssemblyError::ToastSize {
                lsn,
                relation: pointer.relation,
                value: pointer.value,
                wanted: u64::from(pointer.stored_size()),
                found: value.bytes,
            });
        }
        Ok(Some(value))
    }
}

/// Why a value could not be joined to its row.
enum JoinError {
    Untrue(Untrue),
    Chunks(ChunkError),
}

impl From<Untrue> for JoinError {
    fn from(untrue: Untrue) -> Self {
        Self::Untrue(untrue)
    }
}

impl JoinError {
    fn of(self, pointer: ToastPointer, lsn: Lsn) -> ChunkError {
        match self {
            Self::Untrue(untrue) => not_believed(pointer, lsn, untrue).into(),
            Self::Chunks(error) => error,
        }
    }
}

fn not_believed(pointer: ToastPointer, lsn: Lsn, untrue: Untrue) -> AssemblyError {
    AssemblyError::ToastPointer {
        lsn,
        relation: pointer.relation,
        value: pointer.value,
        why: untrue.0,
    }
}

/// Appends the chunks of `value`, letting go of each stretch of them as it is copied.
fn copy_chunks(
    value: Value,
    current: &Piece,
    read_frame: &mut ReadFrame<'_>,
    out: &mut Vec<u8>,
) -> Result<(), ChunkError> {
    for extent in value.older.into_iter().chain([value.newest]) {
        if extent.piece == current.number {
            copy_extent(&current.data, extent.start, extent.end, out)?;
            continue;
        }
        let data = match extent.source {
            Source::Memory(data) => data,
            Source::Frame(frame) => read_frame(frame)?,
        };
        copy_extent(&data, extent.start, extent.end, out)?;
    }
    Ok(())
}

fn copy_extent(data: &[u8], start: usize, end: usize, out: &mut Vec<u8>) -> Result<(), EventError> {
    let events = data.get(start..end).unwrap_or_default();
    let mut cursor = Cursor::new(events);
    while cursor.remaining() > 0 {
        let size = Cursor::new(cursor.rest()).u32("chunk event size")?;
        let event = cursor.take(size.max(1) as usize, "chunk event")?;
        let chunk = event.get(CHUNK_HEAD_BYTES..);
        out.extend_from_slice(chunk.ok_or(EventError::BadSize(size))?);
    }
    Ok(())
}

/// What can go wrong with chunks: the caller knows the transaction that malformed events belong to.
pub(super) enum ChunkError {
    /// Bytes that are no event.
    Event(EventError),
    /// Anything else.
    Assembly(Box<AssemblyError>),
}

impl From<EventError> for ChunkError {
    fn from(error: EventError) -> Self {
        Self::Event(error)
    }
}

impl From<AssemblyError> for ChunkError {
    fn from(error: AssemblyError) -> Self {
        Self::Assembly(Box::new(error))
    }
}
