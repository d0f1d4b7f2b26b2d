//! Joins TOASTed values to their rows where one part of the log has all of a row's chunks, the row,
//! and nothing else to be done with it: mostly, unless values are as large as chunks of the log.
//!
//! Chunks are held back until their row comes, whose values are then copied once, from the log into
//! its event, while both are in the processor's cache. A row that wants what is not held, or is not
//! simply there for good, goes on with its chunks before it, and assembly joins them or says what is
//! wrong. Rows are the same bytes either way. Chunks live until their transaction's next row that
//! does not keep them.
// pg: replication/logical/reorderbuffer.c ReorderBufferToastReplace [14-18]

use std::ops::Range;

use redostream_protocol::Cursor;
use redostream_protocol::event::{
    ColumnValue, Event, EventHeader, EventKind, HEADER_BYTES, ToastPointer, flags,
};

use super::heap::{Chunk, insert};
use super::task::Written;
use super::toasted::{self, Untrue};
use super::tuple::LoggedTuple;
use crate::assembly::part::segment_flags;
use crate::framing::format::WalFormat;
use crate::framing::partition::RowEntry;
use crate::framing::walk;
use crate::limits::ARENA_REGION_BYTES;

/// Chunks of one (sub)transaction that wait for their row.
#[derive(Debug, Default)]
pub(super) struct Joiner<'c> {
    /// In log order.
    chunks: Vec<Held<'c>>,
    values: Vec<Value>,
    /// Where the next value is looked for first: rows come in the order of their values.
    next: usize,
    /// The chunk's group.
    group: u16,
    /// What the pointers of the record being joined lead to, in their order.
    found: Vec<u32>,
    /// The record's events, with pointers.
    rows: Vec<u8>,
}

#[derive(Debug)]
struct Held<'c> {
    /// Index of its entry.
    entry: u32,
    data: &'c [u8],
}

#[derive(Debug)]
struct Value {
    relation: u32,
    value: u32,
    chunks: Range<u32>,
    bytes: u64,
}

impl<'c> Joiner<'c> {
    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Holds the chunk that the record of `entry`, the one of this number, inserts into TOAST table
    /// `relation`. False if it is not simply the next one.
    pub(super) fn hold(
        &mut self,
        number: u32,
        entry: &RowEntry,
        relation: u32,
        record: &'c [u8],
        format: &WalFormat,
    ) -> bool {
        let Some(chunk) = chunk_of(record, format) else {
            return false;
        };
        if self.is_empty() {
            self.group = entry.group;
        } else if self.group != entry.group {
            return false;
        }
        let end = self.chunks.len() as u32;
        let is_of = |value: &Value| (value.relation, value.value) == (relation, chunk.value);
        match self.values.last_mut() {
            Some(last) if is_of(last) => {
                if chunk.sequence != last.chunks.len() as u32 {
                    return false;
                }
                last.chunks.end += 1;
                last.bytes += chunk.data.len() as u64;
            }
            _ => {
                if chunk.sequence != 0 || self.values.iter().any(is_of) {
                    return false;
                }
                self.values.push(Value {
                    relation,
                    value: chunk.value,
                    chunks: end..end + 1,
                    bytes: chunk.data.len() as u64,
                });
            }
        }
        self.chunks.push(Held {
            entry: number,
            data: chunk.data,
        });
        true
    }

    /// Lets go of what is held; gives the indexes of the entries.
    pub(super) fn release(&mut self) -> impl Iterator<Item = u32> {
        self.values.clear();
        self.next = 0;
        self.chunks.drain(..).map(|held| held.entry)
    }

    fn clear(&mut self) {
        self.release().for_each(drop);
    }

    /// Takes what stands in `arena` from `start` on out of it, into a buffer that is used again.
    pub(super) fn set_aside(&mut self, start: usize, arena: &mut Vec<u8>) -> Vec<u8> {
        let mut rows = std::mem::take(&mut self.rows);
        rows.clear();
        rows.extend_from_slice(&arena[start..]);
        arena.truncate(start);
        rows
    }

    /// Puts it back, behind what is there now.
    pub(super) fn put_back(&mut self, rows: Vec<u8>, arena: &mut Vec<u8>) {
        arena.extend_from_slice(&rows);
        self.rows = rows;
    }

    /// Writes the events of a table's record, which stand in `arena` from `start` on, with values in
    /// place of pointers. None, and nothing changed, where that is assembly's to do.
    pub(super) fn join(
        &mut self,
        entry: &RowEntry,
        written: &Written,
        start: usize,
        arena: &mut Vec<u8>,
    ) -> Option<Written> {
        if entry.group != self.group || written.flags != segment_flags::TOAST {
            return None;
        }
        let (bytes, keeps) = self.look_up(&arena[start..])?;
        // Rows of a batch that all name one value could be far more than the log they stand in.
        if start + bytes as usize > ARENA_REGION_BYTES {
            return None;
        }
        let rows = self.set_aside(start, arena);
        arena.reserve(bytes as usize);
        let Some(last) = self.write(&rows, arena) else {
            arena.truncate(start);
            self.put_back(rows, arena);
            return None;
        };
        self.rows = rows;
        debug_assert_eq!(arena.len() - start, bytes as usize);
        if !keeps {
            self.clear();
        }
        Some(Written {
            bytes,
            last: last as u32,
            flags: 0,
            ..*written
        })
    }

    /// Finds what all pointers of some events lead to. Gives the bytes of the events with their
    /// values, and whether chunks are kept for the record that follows.
    fn look_up(&mut self, events: &[u8]) -> Option<(u32, bool)> {
        self.found.clear();
        let (mut bytes, mut keeps) = (0, false);
        let mut cursor = Cursor::new(events);
        while cursor.remaining() > 0 {
            let event = Event::read(&mut cursor).ok()?;
            if !matches!(event.header.kind, EventKind::Insert | EventKind::Update) {
                return None;
            }
            bytes += self.look_up_row(&event)?;
            keeps = event.header.flags & flags::KEEPS_TOAST != 0;
        }
        Some((u32::try_from(bytes).ok()?, keeps))
    }

    fn look_up_row(&mut self, event: &Event<'_>) -> Option<u64> {
        if event.header.flags & flags::HAS_EXTERNAL == 0 {
            return Some(u64::from(event.header.size));
        }
        let mut bytes = HEADER_BYTES as u64;
        let mut columns = event.columns();
        let of_row = self.found.len();
        for number in 0..toasted::all_columns(event) {
            let start = columns.offset();
            let ColumnValue::External(pointer) = columns.read().ok()? else {
                bytes += (columns.offset() - start) as u64;
                continue;
            };
            let found = self.find(pointer)?;
            if number < toasted::old_columns(event) || self.found[of_row..].contains(&found) {
                return None;
            }
            self.found.push(found);
            bytes += toasted::joined_bytes(pointer);
        }
        Some(bytes)
    }

    fn find(&mut self, pointer: ToastPointer) -> Option<u32> {
        let wanted =
            |value: &Value| (value.relation, value.value) == (pointer.relation, pointer.value);
        let (before, from) = self.values.split_at(self.next);
        let found = match from.iter().position(wanted) {
            Some(at) => self.next + at,
            None => before.iter().position(wanted)?,
        };
        let is_whole = self.values[found].bytes == u64::from(pointer.stored_size());
        if !is_whole || toasted::check(pointer).is_err() {
            return None;
        }
        self.next = (found + 1) % self.values.len();
        Some(found as u32)
    }

    /// Writes events with the values that were found; gives the offset of the last one.
    fn write(&self, events: &[u8], arena: &mut Vec<u8>) -> Option<usize> {
        let mut found = self.found.iter();
        let mut cursor = Cursor::new(events);
        let mut last = None;
        while cursor.remaining() > 0 {
            let event = Event::read(&mut cursor).ok()?;
            let start = arena.len();
            last = Some(start);
            arena.extend_from_slice(&[0; HEADER_BYTES]);
            if event.header.flags & flags::HAS_EXTERNAL == 0 {
                arena.extend_from_slice(event.payload);
            } else {
                self.write_columns(&event, &mut found, arena)?;
            }
            let header = EventHeader {
                size: (arena.len() - start) as u32,
                flags: event.header.flags & !flags::HAS_EXTERNAL,
                ..event.header
            };
            arena[start..start + HEADER_BYTES].copy_from_slice(&header.to_bytes());
        }
        last
    }

    fn write_columns<'f>(
        &self,
        event: &Event<'_>,
        found: &mut impl Iterator<Item = &'f u32>,
        arena: &mut Vec<u8>,
    ) -> Option<()> {
        let mut columns = event.columns();
        for _ in 0..toasted::all_columns(event) {
            let start = columns.offset();
            let ColumnValue::External(pointer) = columns.read().ok()? else {
                arena.extend_from_slice(&event.payload[start..columns.offset()]);
                continue;
            };
            let value = &self.values[*found.next()? as usize];
            let chunks = &self.chunks[value.chunks.start as usize..value.chunks.end as usize];
            let filled: Result<(), Untrue> = toasted::push(pointer, arena, |arena| {
                for held in chunks {
                    arena.extend_from_slice(held.data);
                }
                Ok(())
            });
            filled.ok()?;
        }
        columns.finish().ok()
    }
}

/// The chunk that a record inserts for good.
fn chunk_of<'c>(record: &'c [u8], format: &WalFormat) -> Option<Chunk<'c>> {
    let parts = walk::parts(record, format)?;
    if !insert::is_ordinary(parts.main) {
        return None;
    }
    Chunk::parse(LoggedTuple::parse(parts.block_data).ok()?).ok()
}
