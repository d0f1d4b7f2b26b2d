//! From events to the packed form.

use bytes::Bytes;

use super::differences::{self, BLOCK_BYTES, Differences, Work};
use super::place::{self, Place};
use super::shape::{self, Shape};
use super::{AGAIN, AS_DIFFERENCE, GIVEN, Room, SIZES_BYTES, WHOLE, copy_short};
use crate::event::HEADER_BYTES;

/// Events of more than this many bytes on average are not packed: it would only copy them. Rows of
/// many columns have a few hundred, and much of each is as in the one before.
const LARGE_BYTES: usize = 768;
/// So many bytes decide whether events are large.
const SAMPLE_BYTES: usize = 6 * 1024;
/// So many events of a shape are written whole after one whose differences gained little.
const WHOLE_AFTER_POOR: u8 = 15;
/// An event's header and a block of its payload.
const ROW_BYTES: usize = HEADER_BYTES + BLOCK_BYTES;

/// How far the parts are filled.
pub(super) struct Ends {
    /// With the sizes before them.
    pub(super) payloads: usize,
    pub(super) places: usize,
    pub(super) heads: usize,
}

pub(super) struct Packing<'a> {
    pub(super) pieces: &'a [Bytes],
    pub(super) room: &'a mut Room,
}

impl Work for Packing<'_> {
    type Output = Option<Ends>;

    #[inline(always)]
    fn run<D: Differences>(self, differences: D) -> Option<Ends> {
        let mut packer = Packer {
            differences,
            packed: &mut self.room.packed,
            places: &mut self.room.places,
            heads: &mut self.room.heads,
            ends: Ends {
                payloads: SIZES_BYTES,
                places: 0,
                heads: 0,
            },
            before: Place::default(),
            spare_bytes: SAMPLE_BYTES,
        };
        let mut slots = [Slot::default(); shape::SLOTS];
        for piece in self.pieces {
            let mut rest: &[u8] = piece;
            while !rest.is_empty() {
                rest = packer.event(&mut slots, rest)?;
            }
        }
        Some(packer.ends)
    }
}

/// A shape that is remembered.
#[derive(Clone, Copy, Default)]
struct Slot<'a> {
    shape: Shape,
    /// So many of it are written whole.
    whole: u8,
    /// The payload of the last event that had it, and what follows it.
    last: &'a [u8],
}

struct Packer<'a, D> {
    differences: D,
    packed: &'a mut [u8],
    places: &'a mut [u8],
    heads: &'a mut [u8],
    ends: Ends,
    before: Place,
    /// So many bytes more are not too many for the events so far.
    spare_bytes: usize,
}

impl<D: Differences> Packer<'_, D> {
    /// Packs the event that `rest` begins with, and those like it that follow; gives what is behind
    /// them.
    #[inline(always)]
    fn event<'e>(
        &mut self,
        slots: &mut [Slot<'e>; shape::SLOTS],
        rest: &'e [u8],
    ) -> Option<&'e [u8]> {
        let (raw, payload) = rest.split_first_chunk::<HEADER_BYTES>()?;
        let size = u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]) as usize;
        let bytes = size.checked_sub(HEADER_BYTES)?;
        let after = payload.get(bytes..)?;
        self.spare_bytes = (self.spare_bytes + LARGE_BYTES).checked_sub(bytes)?;
        let (now, shape) = (Place::of(raw), Shape::of(raw, bytes as u32));
        if shape.is_none() {
            return None;
        }
        let out = &mut self.places[self.ends.places..];
        let (place, written) = now.write(&shape, &mut self.before, out);
        self.ends.places += written;
        let number = shape.slot();
        let slot = &mut slots[number];
        let known = slot.shape == shape;
        if known && slot.whole == 0 && self.difference(slot, number, place, payload, bytes) {
            let usual = place::is_usual(place) && !place::is_aside(&shape);
            return Some(match usual && bytes <= BLOCK_BYTES {
                true => self.alike(slot, number, raw, after),
                false => after,
            });
        }
        if !known {
            *slot = Slot {
                shape,
                ..Slot::default()
            };
        }
        self.whole(slot, number, known, place, payload, bytes);
        Some(after)
    }

    /// Writes an event whose payload is a difference, unless that gains little.
    #[inline(always)]
    fn difference<'e>(
        &mut self,
        slot: &mut Slot<'e>,
        number: usize,
        place: u8,
        payload: &'e [u8],
        bytes: usize,
    ) -> bool {
        let head = &mut self.heads[self.ends.heads..];
        let out = &mut self.packed[self.ends.payloads..];
        head[0] = place | AS_DIFFERENCE;
        head[1] = number as u8;
        let masks = &mut head[2..];
        let changed = differences::write(self.differences, slot.last, payload, bytes, masks, out);
        let gains = changed <= few(bytes);
        if gains {
            self.ends.payloads += changed;
            self.ends.heads += 2 + bytes.div_ceil(8);
            slot.last = payload;
        } else {
            slot.whole = WHOLE_AFTER_POOR + 1;
        }
        gains
    }

    #[inline(always)]
    fn whole<'e>(
        &mut self,
        slot: &mut Slot<'e>,
        number: usize,
        known: bool,
        place: u8,
        payload: &'e [u8],
        bytes: usize,
    ) {
        let head = &mut self.heads[self.ends.heads..];
        if known {
            head[0] = place | WHOLE;
            head[1] = number as u8;
            self.ends.heads += 2;
        } else {
            head[0] = place | GIVEN;
            head[1..1 + shape::BYTES].copy_from_slice(&slot.shape.to_bytes());
            self.ends.heads += 1 + shape::BYTES;
        }
        copy_short(payload, bytes, &mut self.packed[self.ends.payloads..]);
        self.ends.payloads += bytes;
        slot.whole = slot.whole.saturating_sub(1);
        slot.last = payload;
    }

    /// Writes the rows that follow the one with the header `raw`, as long as each is like the one
    /// before: of the same shape and transaction, in the same record or one that is near, and with few
    /// bytes changed. Gives what is behind them.
    ///
    /// Most rows are of this kind, and what is known of the one before need not be worked out again.
    #[inline(always)]
    fn alike<'e>(
        &mut self,
        slot: &mut Slot<'e>,
        number: usize,
        raw: &[u8; HEADER_BYTES],
        mut rest: &'e [u8],
    ) -> &'e [u8] {
        let bytes = slot.shape.payload as usize;
        let (valid, few) = (differences::valid(bytes), few(bytes));
        let head_bytes = 2 + bytes.div_ceil(8);
        let known = &raw[..16];
        let mut room = [0; BLOCK_BYTES];
        let last_block = differences::block_of(slot.last, &mut room);
        let mut before = self.differences.hold(last_block);
        let mut place = self.before;
        let mut last = None;
        while let Some(row) = rest.first_chunk::<ROW_BYTES>() {
            let Some((header, now)) = row.split_first_chunk::<HEADER_BYTES>() else {
                break;
            };
            let how = place.usual(header).filter(|_| header[..16] == *known);
            let Some((control, eighths)) = how else {
                break;
            };
            let out = self.packed[self.ends.payloads..].first_chunk_mut();
            let (Some(now), Some(out)) = (now.first_chunk(), out) else {
                break;
            };
            let now = self.differences.hold(now);
            let mask = self.differences.tell(before, now, valid, out);
            let count = mask.count_ones() as usize;
            if count > few {
                break;
            }
            let head = &mut self.heads[self.ends.heads..];
            // Both forms are written, and one is counted: which one cannot be foretold.
            let again = last == Some(mask);
            head[..2].copy_from_slice(&[control | if again { AGAIN } else { 0 }, number as u8]);
            head[2..10].copy_from_slice(&mask.to_le_bytes());
            last = Some(mask);
            self.places[self.ends.places] = eighths;
            self.ends.payloads += count;
            self.ends.heads += if again { 1 } else { head_bytes };
            self.ends.places += usize::from(control);
            // They have fewer bytes than they may.
            self.spare_bytes += LARGE_BYTES - bytes;
            place.go_on_usual(control, eighths);
            before = now;
            slot.last = &rest[HEADER_BYTES..];
            rest = &rest[HEADER_BYTES + bytes..];
        }
        self.before = place;
        rest
    }
}

/// So many changed bytes of a payload are few.
#[inline(always)]
const fn few(bytes: usize) -> usize {
    bytes - bytes / 4
}
