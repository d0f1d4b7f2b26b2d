//! Packing: the events of a data frame as differences to events before them, before LZ4.
//!
//! Most rows are like a row before them: the header's 28 bytes are those of the last one or a little
//! more, and of the columns few bytes change. What stays the same is left out, and numbers that
//! count become the same byte in each row, so there is less to compress, to send and to decompress.
//!
//! ```text
//! 0            4             8
//! | head bytes | place bytes | payloads ... | places ... | heads ...
//! ```
//!
//! Each event has something in each of the three, in the order of the events. Its shape is its kind,
//! flags, count, relation and payload size ([`shape`]); 64 shapes are remembered, with the last event
//! that had them.
//!
//! ```text
//! a head: a control byte
//!   bits 0-1  place: 0 same record LSN, row one more; of a begin or commit, both 0
//!                    1 record LSN 8 x u8 further, row 0 (of a commit, its only one)
//!                    2 record LSN 8 x i32 further, row as in 1
//!                    3 u64 record LSN, u32 row
//!   bits 2-3  xid:   0 as before, 1 i8 further, 2 u32
//!   bits 4-5  shape: 0 as remembered, payload as difference
//!                    1 as remembered, payload whole
//!                    2 given, payload whole
//!   then      shape: u8 where it is remembered, or, given: u8 kind, u8 flags, u16 count,
//!                    u32 relation, u32 payload bytes
//!   then      of a payload as difference: a bit for each byte that differs, lowest bit first
//!   bit 6     with place 0 or 1, and else 0: xid, shape and mask are those of the event before, a row
//!             with place 0 or 1, xid 0 and a payload as difference of at most 64 bytes; no more
//!             follows
//!
//! a place: what the control byte asks for, xid first; before the first event all is 0, and a begin
//!          or commit changes only the xid that the next is a difference to
//!
//! a payload: all of it, or of each byte that differs from the payload of the last event of this
//!            shape by how much it is more, modulo 256
//! ```

mod differences;
mod packing;
mod place;
mod shape;
#[cfg(test)]
mod tests;
mod unpacking;

use bytes::Bytes;

use self::differences::BLOCK_BYTES;
use self::packing::Packing;
use self::unpacking::Unpacking;
use super::buffers::Buffers;
use super::error::WireError;
use super::limits::PACKED_RATIO_MAX;

/// Bytes before the payloads.
const SIZES_BYTES: usize = 8;
/// What may be written beyond what counts.
const SLACK_BYTES: usize = BLOCK_BYTES;
/// Payloads up to this many bytes are copied as if they had so many.
const SHORT_BYTES: usize = 48;

const SHAPE_SHIFT: u8 = 4;
const AS_DIFFERENCE: u8 = 0;
const WHOLE: u8 = 1 << SHAPE_SHIFT;
const GIVEN: u8 = 2 << SHAPE_SHIFT;
/// The bits of the control byte that say which of these.
const HOW: u8 = 0xf0;
/// The bit of the control byte of a row like the one before: slot and mask are the same, and not given.
const AGAIN: u8 = 1 << 6;

/// Room to pack in, used again for each frame.
#[derive(Default)]
pub(super) struct Room {
    packed: Vec<u8>,
    places: Vec<u8>,
    heads: Vec<u8>,
}

impl Room {
    /// Room for so many bytes of events.
    fn reserve(&mut self, raw: usize) {
        for part in [&mut self.packed, &mut self.places, &mut self.heads] {
            if part.len() < raw + SLACK_BYTES {
                part.resize(raw + SLACK_BYTES, 0);
            }
        }
    }
}

/// Packs events. None where it gains nothing and unless every piece is whole events.
pub(super) fn pack<'room>(pieces: &[Bytes], room: &'room mut Room) -> Option<&'room [u8]> {
    let raw = pieces.iter().map(Bytes::len).sum();
    room.reserve(raw);
    let ends = differences::best(Packing { pieces, room })?;
    let (places_at, heads_at) = (ends.payloads, ends.payloads + ends.places);
    let end = heads_at + ends.heads;
    if end > raw {
        return None;
    }
    room.packed[..4].copy_from_slice(&(ends.heads as u32).to_le_bytes());
    room.packed[4..SIZES_BYTES].copy_from_slice(&(ends.places as u32).to_le_bytes());
    room.packed[places_at..heads_at].copy_from_slice(&room.places[..ends.places]);
    room.packed[heads_at..end].copy_from_slice(&room.heads[..ends.heads]);
    Some(&room.packed[..end])
}

/// Unpacks exactly `raw` bytes of events; the caller has bounded `raw`.
pub(super) fn unpack(packed: &[u8], raw: usize, buffers: &Buffers) -> Result<Bytes, WireError> {
    let bad = WireError::Invalid("packed events contradict their size");
    if raw > packed.len().saturating_mul(PACKED_RATIO_MAX) {
        return Err(bad);
    }
    let mut buffer = buffers.take(raw + SLACK_BYTES);
    let out = &mut buffer;
    let unpacked = differences::best(Unpacking { packed, raw, out });
    unpacked.map(|()| buffers.share(buffer, raw)).ok_or(bad)
}

/// Copies the first `bytes` of `from` to `to`, and possibly more.
///
/// Most payloads are short. Copying a fixed number of bytes is a few moves, where a copy of any length
/// is a call.
#[inline(always)]
fn copy_short(from: &[u8], bytes: usize, to: &mut [u8]) {
    let short = (from.first_chunk(), to.first_chunk_mut::<SHORT_BYTES>());
    match short {
        (Some(from), Some(to)) if bytes <= SHORT_BYTES => *to = *from,
        _ => to[..bytes].copy_from_slice(&from[..bytes]),
    }
}
