//! Which values stand beside the LZ4 block.

use bytes::Bytes;

use super::matches::read_matches;
use super::{HEAD_BYTES, STRETCH_BYTES};
use crate::cursor::Cursor;
use crate::event::{ColumnValue, Columns, Event, EventKind};

/// Shorter values are left where they are: what they cost is not worth the looking.
const VALUE_BYTES_MIN: usize = 1024;
/// LZ4 gains little if it is less than one byte of so many, where a match counts for what it repeats
/// too: of values that are like none of another column a sixteenth.
const LITTLE: u64 = 8;
/// After so many blocks every column is tried again.
const TRIED_EVERY: u32 = 32;
/// Where there was no large value, every so many blocks it is looked whether there is one now.
const LOOKED_THROUGH_EVERY: u32 = 8;
const _: () = assert!(TRIED_EVERY.is_multiple_of(LOOKED_THROUGH_EVERY));
/// Columns of which something is known; a further one takes the place of another.
const SLOTS: usize = 256;
/// What a match takes in an LZ4 block: a token and an offset.
const MATCH_BYTES: u64 = 3;

/// A column: the relation version, and its number among an event's columns.
type Column = (u32, u32);

/// What is known of a column.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    column: Option<Column>,
    /// Whether its values stand beside the block.
    beside: bool,
    /// Bytes that were tried last, and how many LZ4 saved by them.
    tried: u64,
    saved: u64,
}

/// A value in the LZ4 block that says something about its column.
#[derive(Clone, Copy, Debug)]
struct Trial {
    column: Column,
    /// Where it is among the inner bytes.
    start: usize,
    end: usize,
}

impl Trial {
    /// Adds what a match of so many bytes saves of the value, unless another column has its slot.
    fn add(&self, slots: &mut [Slot; SLOTS], at: usize, bytes: usize) {
        let matched = self.end.min(at + bytes) - self.start.max(at);
        let slot = &mut slots[slot_of(self.column)];
        if slot.column == Some(self.column) {
            slot.saved += (matched as u64).saturating_sub(MATCH_BYTES);
        }
    }
}

/// Decides which values stand beside the LZ4 block.
pub(in super::super) struct Splitter {
    slots: Box<[Slot; SLOTS]>,
    blocks: u32,
    /// Whether the block that was looked through last has no large value.
    is_quiet: bool,
    trials: Vec<Trial>,
    stretches: Vec<(u32, u32)>,
    beside: Vec<Bytes>,
    beside_bytes: usize,
}

impl Default for Splitter {
    fn default() -> Self {
        Self {
            slots: Box::new([Slot::default(); SLOTS]),
            blocks: 0,
            is_quiet: false,
            trials: Vec::new(),
            stretches: Vec::new(),
            beside: Vec::new(),
            beside_bytes: 0,
        }
    }
}

impl Splitter {
    /// Looks for what is to stand beside the block; gives whether there is anything, and then the
    /// rest is in `inner`, which was empty. What is not events stays inside.
    pub(in super::super) fn split(&mut self, pieces: &[Bytes], inner: &mut Vec<u8>) -> bool {
        self.trials.clear();
        self.stretches.clear();
        self.beside.clear();
        self.beside_bytes = 0;
        let try_all = self.blocks.is_multiple_of(TRIED_EVERY);
        let is_left_out = self.is_quiet && !self.blocks.is_multiple_of(LOOKED_THROUGH_EVERY);
        self.blocks = self.blocks.wrapping_add(1);
        if is_left_out {
            return false;
        }
        self.is_quiet = true;
        let (mut before, mut split) = (0, 0);
        for (number, piece) in pieces.iter().enumerate() {
            // Up to here the piece is inside or beside.
            let mut done = 0;
            let mut cursor = Cursor::new(piece);
            while let Ok(event) = Event::read(&mut cursor) {
                if event.payload.len() < VALUE_BYTES_MIN || !is_row(event.header.kind) {
                    continue;
                }
                for (column, start, end) in Values::of(&event, cursor.offset()) {
                    self.is_quiet = false;
                    if !self.is_beside(column, before + start, before + end, try_all) {
                        continue;
                    }
                    if self.beside.is_empty() {
                        pieces[..number]
                            .iter()
                            .for_each(|piece| inner.extend_from_slice(piece));
                    }
                    inner.extend_from_slice(&piece[done..start]);
                    self.push(inner.len() - split, piece.slice(start..end));
                    (done, split) = (end, inner.len());
                }
            }
            if !self.beside.is_empty() {
                inner.extend_from_slice(&piece[done..]);
            }
            before += piece.len();
        }
        if self.beside.is_empty() {
            return false;
        }
        self.push(inner.len() - split, Bytes::new());
        true
    }

    fn push(&mut self, inner: usize, beside: Bytes) {
        self.stretches.push((inner as u32, beside.len() as u32));
        self.beside_bytes += beside.len();
        self.beside.push(beside);
    }

    /// Whether a value, at these bytes of the events, stands beside the block; remembers it if it is
    /// tried.
    fn is_beside(&mut self, column: Column, start: usize, end: usize, try_all: bool) -> bool {
        let slot = &mut self.slots[slot_of(column)];
        let known = slot.column == Some(column);
        if known && !try_all {
            return slot.beside;
        }
        slot.column = Some(column);
        slot.beside &= known;
        let (start, end) = (start - self.beside_bytes, end - self.beside_bytes);
        self.trials.push(Trial { column, start, end });
        false
    }

    /// Bytes before the LZ4 block.
    pub(in super::super) fn head_bytes(&self) -> usize {
        HEAD_BYTES + STRETCH_BYTES * self.stretches.len()
    }

    /// Writes them.
    pub(in super::super) fn write_head(
        &self,
        inner_bytes: usize,
        lz4_bytes: usize,
        out: &mut [u8],
    ) {
        let head = [self.stretches.len(), inner_bytes, lz4_bytes].map(|number| number as u32);
        let stretches = self.stretches.iter();
        let numbers = head
            .into_iter()
            .chain(stretches.flat_map(|(inner, beside)| [*inner, *beside]));
        for (number, out) in numbers.zip(out.chunks_exact_mut(4)) {
            out.copy_from_slice(&number.to_le_bytes());
        }
    }

    /// What stands beside the block.
    pub(in super::super) fn beside(&mut self) -> impl Iterator<Item = Bytes> + '_ {
        self.beside.drain(..).filter(|bytes| !bytes.is_empty())
    }

    /// Learns from the LZ4 block of what is inside how much was gained by which column.
    pub(in super::super) fn learn(&mut self, lz4: &[u8]) {
        if self.trials.is_empty() {
            return;
        }
        for trial in &self.trials {
            let slot = &mut self.slots[slot_of(trial.column)];
            (slot.tried, slot.saved) = (0, 0);
        }
        for trial in &self.trials {
            let slot = &mut self.slots[slot_of(trial.column)];
            if slot.column == Some(trial.column) {
                slot.tried += (trial.end - trial.start) as u64;
            }
        }
        let read = read_matches(lz4, |at, from, bytes| {
            for trial in within(&self.trials, at, bytes) {
                trial.add(&mut self.slots, at, bytes);
            }
            // What others are like gains as much as they do.
            for trial in within(&self.trials, from, bytes) {
                trial.add(&mut self.slots, from, bytes);
            }
        });
        assert!(read.is_some(), "an LZ4 block of our own cannot be read");
        for trial in &self.trials {
            let slot = &mut self.slots[slot_of(trial.column)];
            slot.beside = slot.saved * LITTLE < slot.tried;
        }
    }
}

/// The values of which a match of so many bytes has some.
fn within(trials: &[Trial], at: usize, bytes: usize) -> impl Iterator<Item = &Trial> {
    let first = trials.partition_point(|trial| trial.end <= at);
    trials[first..]
        .iter()
        .take_while(move |trial| trial.start < at + bytes)
}

const fn slot_of((relation, number): Column) -> usize {
    let mixed = (relation.wrapping_mul(64) ^ number).wrapping_mul(0x9E37_79B1);
    mixed as usize >> (u32::BITS - SLOTS.ilog2())
}

const fn is_row(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Insert | EventKind::Update | EventKind::Delete
    )
}

/// The large values of a row.
struct Values<'a> {
    columns: Columns<'a>,
    relation: u32,
    number: u32,
    /// Where the payload begins in its piece, and its bytes.
    at: usize,
    bytes: usize,
}

impl<'a> Values<'a> {
    /// Of an event that ends there in its piece.
    fn of(event: &Event<'a>, end: usize) -> Self {
        let bytes = event.payload.len();
        Self {
            columns: event.columns(),
            relation: event.header.relation.0,
            number: 0,
            at: end - bytes,
            bytes,
        }
    }
}

impl Iterator for Values<'_> {
    /// The column, and where its value begins and ends in the piece.
    type Item = (Column, usize, usize);

    fn next(&mut self) -> Option<Self::Item> {
        while self.bytes - self.columns.offset() >= VALUE_BYTES_MIN {
            let value = match self.columns.read().ok()? {
                ColumnValue::Bytes(value) | ColumnValue::Text(value) => value,
                ColumnValue::Compressed { stored, .. } => stored,
                ColumnValue::Null | ColumnValue::Unchanged | ColumnValue::External(_) => &[],
            };
            let column = (self.relation, self.number);
            self.number += 1;
            if value.len() >= VALUE_BYTES_MIN {
                // A value is the last of what is read.
                let end = self.at + self.columns.offset();
                return Some((column, end - value.len(), end));
            }
        }
        None
    }
}
