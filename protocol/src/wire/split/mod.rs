//! Splitting: large values in which LZ4 finds next to nothing stand beside its block, not in it.
//!
//! Text of hexadecimal digits or Base64 costs LZ4 most and gains a few per cent: there is always a
//! match of four letters to look at. Other columns of the same rows may become a tenth. So what LZ4
//! gains is measured now and then, by column, and the values of a column in which it gains little are
//! sent as they are, by reference.
//!
//! ```text
//! 0            4            8           12
//! | stretches | inner bytes | LZ4 bytes | stretches: (u32 inner, u32 beside) ... | LZ4 | beside
//!
//! The LZ4 block holds the inner bytes. The events are those of the first stretch, then the bytes
//! beside of the first stretch, then those of the second, and so on.
//! ```

mod matches;
mod splitter;
#[cfg(test)]
mod tests;

use crate::cursor::Cursor;

pub(super) use self::splitter::Splitter;

/// Bytes before the stretches.
const HEAD_BYTES: usize = 12;
/// Bytes of one stretch.
const STRETCH_BYTES: usize = 8;

/// What was split, taken apart; nothing is trusted yet but that it is there.
pub(super) struct Split<'a> {
    /// Bytes that the LZ4 block holds.
    pub(super) inner_bytes: usize,
    /// The block.
    pub(super) lz4: &'a [u8],
    stretches: &'a [u8],
    beside: &'a [u8],
}

impl<'a> Split<'a> {
    /// Takes it apart; none if it contradicts itself or is not `raw` bytes of events.
    pub(super) fn read(stored: &'a [u8], raw: usize) -> Option<Self> {
        let mut cursor = Cursor::new(stored);
        let stretches = cursor.u32("stretches").ok()? as usize;
        let inner_bytes = cursor.u32("inner bytes").ok()? as usize;
        let lz4_bytes = cursor.u32("LZ4 bytes").ok()? as usize;
        let stretches = stretches.checked_mul(STRETCH_BYTES)?;
        let stretches = cursor.take(stretches, "stretches").ok()?;
        let lz4 = cursor.take(lz4_bytes, "LZ4").ok()?;
        let beside = cursor.rest();
        let whole = inner_bytes.checked_add(beside.len())? == raw;
        whole.then_some(Self {
            inner_bytes,
            lz4,
            stretches,
            beside,
        })
    }

    /// Puts the events together; none unless everything is used up just when `out` is full.
    pub(super) fn join<'b>(&'b self, mut inner: &'b [u8], mut out: &mut [u8]) -> Option<()> {
        let mut beside: &[u8] = self.beside;
        for stretch in self.stretches.chunks_exact(STRETCH_BYTES) {
            let mut cursor = Cursor::new(stretch);
            for from in [&mut inner, &mut beside] {
                let bytes = cursor.u32("bytes of a stretch").ok()? as usize;
                let (now, after) = from.split_at_checked(bytes)?;
                let (to, room) = out.split_at_mut_checked(bytes)?;
                to.copy_from_slice(now);
                (*from, out) = (after, room);
            }
        }
        (inner.is_empty() && beside.is_empty() && out.is_empty()).then_some(())
    }
}
