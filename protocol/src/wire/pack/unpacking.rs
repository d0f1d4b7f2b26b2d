//! From the packed form to events.

use super::differences::{self, BLOCK_BYTES, Block, Differences, Work};
use super::place::{self, Place};
use super::shape::{self, Shape};
use super::{AGAIN, AS_DIFFERENCE, GIVEN, HOW, SIZES_BYTES, WHOLE, copy_short};
use crate::event::HEADER_BYTES;

pub(super) struct Unpacking<'a> {
    pub(super) packed: &'a [u8],
    /// Bytes of the events, bounded.
    pub(super) raw: usize,
    /// Where they go, with room for the slack; what is in it does not matter.
    pub(super) out: &'a mut [u8],
}

impl Work for Unpacking<'_> {
    type Output = Option<()>;

    #[inline(always)]
    fn run<D: Differences>(self, differences: D) -> Option<()> {
        let (sizes, body) = self.packed.split_first_chunk::<SIZES_BYTES>()?;
        let size =
            |at| u32::from_le_bytes([sizes[at], sizes[at + 1], sizes[at + 2], sizes[at + 3]]);
        let heads_at = body.len().checked_sub(size(0) as usize)?;
        let places_at = heads_at.checked_sub(size(4) as usize)?;
        let mut unpacker = Unpacker {
            differences,
            payloads: body,
            payload_bytes: places_at,
            places: &body[places_at..heads_at],
            heads: &body[heads_at..],
            out: self.out,
            to: 0,
            raw: self.raw,
            before: Place::default(),
        };
        let mut slots = [Slot::default(); shape::SLOTS];
        while !unpacker.heads.is_empty() {
            unpacker.event(&mut slots)?;
        }
        unpacker.finish()
    }
}

/// A shape that is remembered.
#[derive(Clone, Copy)]
struct Slot {
    shape: Shape,
    /// Where the payload of the last event is that had it.
    at: usize,
    /// Its first block: the one that was written, for to read one put together from what was written
    /// over it means to wait for all of that.
    block: Block,
}

impl Default for Slot {
    fn default() -> Self {
        Slot {
            shape: Shape::default(),
            at: 0,
            block: [0; BLOCK_BYTES],
        }
    }
}

struct Unpacker<'a, D> {
    differences: D,
    /// With what is behind them: of what is read beyond their end nothing is used.
    payloads: &'a [u8],
    /// Bytes of them.
    payload_bytes: usize,
    places: &'a [u8],
    heads: &'a [u8],
    out: &'a mut [u8],
    to: usize,
    raw: usize,
    before: Place,
}

impl<D: Differences> Unpacker<'_, D> {
    /// Unpacks the next event, and those like it that follow; none if there is none.
    #[inline(always)]
    fn event(&mut self, slots: &mut [Slot; shape::SLOTS]) -> Option<()> {
        let (control, how, number) = self.head(slots)?;
        let slot = slots.get_mut(number)?;
        let bytes = slot.shape.payload as usize;
        let size = bytes.checked_add(HEADER_BYTES)?;
        if slot.shape.is_none() || size > self.raw - self.to {
            return None;
        }
        let now = self.before.read(&slot.shape, control, &mut self.places)?;
        let at = self.to + HEADER_BYTES;
        let header = self.out.get_mut(self.to..at)?.first_chunk_mut()?;
        now.write_header(size as u32, &slot.shape, header);
        self.to += size;
        if how == AS_DIFFERENCE {
            let mask = self.difference(slot, bytes, at)?;
            slot.at = at;
            let usual = place::is_usual(control) && !place::is_aside(&slot.shape);
            if usual && bytes <= BLOCK_BYTES {
                self.alike(slot, number, now, mask);
            }
        } else {
            self.payload_bytes = self.payload_bytes.checked_sub(bytes)?;
            let place = &mut self.out[at..];
            copy_short(self.payloads, bytes, place);
            self.payloads = &self.payloads[bytes..];
            slot.block = *place.first_chunk()?;
            slot.at = at;
        }
        Some(())
    }

    /// Takes a head but for the mask: its control byte, how the payload is written, and the number of
    /// the slot of its shape.
    #[inline(always)]
    fn head(&mut self, slots: &mut [Slot; shape::SLOTS]) -> Option<(u8, u8, usize)> {
        let [control, number, rest @ ..] = self.heads else {
            return None;
        };
        let how = control & HOW;
        match how {
            AS_DIFFERENCE | WHOLE => {
                self.heads = rest;
                Some((*control, how, usize::from(*number)))
            }
            GIVEN => {
                let shape = Shape::from_bytes(self.heads[1..].first_chunk()?);
                self.heads = &self.heads[1 + shape::BYTES..];
                let number = shape.slot();
                slots[number].shape = shape;
                Some((*control, how, number))
            }
            _ => None,
        }
    }

    /// Puts a payload together at `at` that is written as difference; gives the mask of its first
    /// block.
    #[inline(always)]
    fn difference(&mut self, slot: &mut Slot, bytes: usize, at: usize) -> Option<u64> {
        let there = self.payloads.len();
        let differences = self.differences;
        let (block, mask) = self.block(differences.hold(&slot.block), bytes)?;
        differences.put(block, &mut slot.block);
        differences.put(block, self.out.get_mut(at..)?.first_chunk_mut()?);
        for from in (BLOCK_BYTES..bytes).step_by(BLOCK_BYTES) {
            let before = differences.hold(self.out.get(slot.at + from..)?.first_chunk()?);
            let (block, _) = self.block(before, bytes - from)?;
            differences.put(block, self.out.get_mut(at + from..)?.first_chunk_mut()?);
        }
        let taken = there - self.payloads.len();
        self.payload_bytes = self.payload_bytes.checked_sub(taken)?;
        Some(mask)
    }

    /// The next block of a payload, of which so many bytes are still to come, and its mask.
    #[inline(always)]
    fn block(&mut self, before: D::Held, bytes: usize) -> Option<(D::Held, u64)> {
        let (masks, changed) = (&mut self.heads, &mut self.payloads);
        differences::read_block(self.differences, before, bytes, masks, changed)
    }

    /// Unpacks the rows that follow the one at `now` with this mask, as long as the head of each says
    /// that it is like the one before; what is not right is left for [`Self::event`] to refuse.
    #[inline(always)]
    fn alike(&mut self, slot: &mut Slot, number: usize, mut now: Place, mut mask: u64) {
        let bytes = slot.shape.payload as usize;
        let size = HEADER_BYTES + bytes;
        let mask_bytes = bytes.div_ceil(8);
        let (all, valid) = (
            differences::valid(8 * mask_bytes),
            differences::valid(bytes),
        );
        let differences = self.differences;
        let mut before = differences.hold(&slot.block);
        let mut room = [0; BLOCK_BYTES];
        loop {
            let [control, of, given @ ..] = self.head_again();
            // Which of the two it is cannot be foretold; that it is one of them can.
            let again = control & AGAIN != 0;
            let place = control & !AGAIN;
            let given = u64::from_le_bytes(given) & all;
            let wrong = usize::from(of) != number || given & !valid != 0;
            let place_bytes = usize::from(place);
            if !place::is_usual(place) || wrong && !again || place_bytes > self.places.len() {
                break;
            }
            let eighths = match self.places.first() {
                Some(eighths) if place == place::NEAR => *eighths,
                _ => 0,
            };
            mask = if again { mask } else { given };
            let head_bytes = if again { 1 } else { 2 + mask_bytes };
            let count = mask.count_ones() as usize;
            if head_bytes > self.heads.len()
                || count > self.payload_bytes
                || size > self.raw - self.to
            {
                break;
            }
            let changed = differences::block_of(self.payloads, &mut room);
            let block = differences.apply(before, mask, changed);
            let Some((header, payload)) = self.row_mut() else {
                break;
            };
            before = block;
            now.go_on_usual(place, eighths);
            now.write_header(size as u32, &slot.shape, header);
            differences.put(block, payload);
            slot.at = self.to + HEADER_BYTES;
            self.to += size;
            self.heads = &self.heads[head_bytes..];
            self.payloads = &self.payloads[count..];
            self.payload_bytes -= count;
            self.places = &self.places[place_bytes..];
        }
        differences.put(before, &mut slot.block);
        self.before = now;
    }

    /// The longest head of a row like the one before; what is beyond the last head is 0.
    #[inline(always)]
    fn head_again(&self) -> [u8; 10] {
        match self.heads.first_chunk() {
            Some(head) => *head,
            None => {
                let mut room = [0; 10];
                room[..self.heads.len()].copy_from_slice(self.heads);
                room
            }
        }
    }

    /// Where the next event's header goes, and the first block of its payload.
    #[inline(always)]
    fn row_mut(&mut self) -> Option<(&mut [u8; HEADER_BYTES], &mut Block)> {
        let (header, place) = self.out.get_mut(self.to..)?.split_first_chunk_mut()?;
        Some((header, place.first_chunk_mut()?))
    }

    /// Whether all was taken and all is there.
    fn finish(self) -> Option<()> {
        let taken = self.payload_bytes == 0 && self.places.is_empty();
        (taken && self.to == self.raw).then_some(())
    }
}
