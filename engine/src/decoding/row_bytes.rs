//! Writes one event behind an arena's end: its header and its columns.
//!
//! Columns are a few bytes each: growing the arena, or calling for a copy, for every one of them
//! costs more than the rest of decoding. So room for the whole row is made once and its end is
//! compared with for every column; small values are copied by a fixed number of bytes; the arena's
//! length is set once.

#![expect(
    unsafe_code,
    reason = "columns are written behind the arena's end, whose length is set over them"
)]

use redostream_protocol::event::{TAG_INLINE_MAX, TAG_LONG, TAG_NULL};

use crate::catalog::relation::Attribute;

/// Bytes that a column takes besides its value, at most.
const COLUMN_BYTES: usize = 10;

/// The columns of one tuple, behind the end of an arena.
pub(super) struct RowBytes<'a> {
    arena: &'a mut Vec<u8>,
    /// Where the next byte goes: from the arena's end up to `end`.
    next: *mut u8,
    /// Behind the room that was made.
    end: *mut u8,
}

impl<'a> RowBytes<'a> {
    /// Makes room for `columns` columns of `bytes` bytes of values.
    #[inline]
    pub(super) fn new(arena: &'a mut Vec<u8>, columns: usize, bytes: usize) -> Self {
        arena.reserve(COLUMN_BYTES * columns + bytes);
        let room = arena.spare_capacity_mut().as_mut_ptr_range();
        RowBytes {
            next: room.start.cast(),
            end: room.end.cast(),
            arena,
        }
    }

    /// The same behind a header of `HEADER` bytes, which comes last.
    #[inline(always)]
    pub(super) fn with_header<const HEADER: usize>(
        arena: &'a mut Vec<u8>,
        columns: usize,
        bytes: usize,
    ) -> Self {
        arena.reserve(HEADER + COLUMN_BYTES * columns + bytes);
        let room = arena.spare_capacity_mut().as_mut_ptr_range();
        let start: *mut u8 = room.start.cast();
        RowBytes {
            // SAFETY: room for the header was made.
            next: unsafe { start.add(HEADER) },
            end: room.end.cast(),
            arena,
        }
    }

    /// Bytes written behind the arena's end, with the header's.
    #[inline(always)]
    pub(super) fn written(&self) -> usize {
        self.next.addr() - self.arena.as_ptr().addr() - self.arena.len()
    }

    /// Writes the header that room was left for, and takes all into the arena.
    #[inline(always)]
    pub(super) fn settle_with_header<const HEADER: usize>(self, header: &[u8; HEADER]) {
        let (start, written) = (self.arena.len(), self.written());
        assert!(written >= HEADER, "room was left for the header");
        // SAFETY: `HEADER` bytes behind the arena's end lie within the room that was made, and
        // every byte behind them up to `next` was written.
        unsafe {
            let at = self.arena.as_mut_ptr().add(start);
            at.cast::<[u8; HEADER]>().write_unaligned(*header);
            self.arena.set_len(start + written);
        }
    }

    /// Where `bytes` bytes can be written, which are then counted as written.
    #[inline(always)]
    fn take(&mut self, bytes: usize) -> *mut u8 {
        let room = self.end.addr() - self.next.addr();
        assert!(
            bytes <= room,
            "columns are written within the room for them"
        );
        let at = self.next;
        // SAFETY: so many bytes are left before `end`, in the same allocation.
        self.next = unsafe { at.add(bytes) };
        at
    }

    #[inline(always)]
    pub(super) fn null(&mut self) {
        let at = self.take(1);
        // SAFETY: one byte of room at `at`.
        unsafe { at.write(TAG_NULL) }
    }

    /// A value of a fixed, small size.
    #[inline(always)]
    pub(super) fn fixed<const N: usize>(&mut self, value: &[u8; N]) {
        const { assert!(N <= TAG_INLINE_MAX as usize) }
        let at = self.take(1 + N);
        // SAFETY: N + 1 bytes of room at `at`; `value` lies elsewhere, since it is borrowed.
        unsafe {
            at.write(N as u8);
            at.add(1).cast::<[u8; N]>().write_unaligned(*value);
        }
    }

    /// A value of any size.
    #[inline(always)]
    pub(super) fn value(&mut self, value: &[u8]) {
        let length = value.len();
        if length <= TAG_INLINE_MAX as usize {
            let at = self.take(1 + length);
            // SAFETY: 1 + length bytes of room at `at`.
            unsafe {
                at.write(length as u8);
                copy_short(value, at.add(1));
            }
        } else {
            let at = self.take(5 + length);
            // SAFETY: 5 + length bytes of room at `at`; `value` lies elsewhere.
            unsafe {
                at.write(TAG_LONG);
                at.add(1)
                    .cast::<[u8; 4]>()
                    .write_unaligned((length as u32).to_le_bytes());
                at.add(5).copy_from_nonoverlapping(value.as_ptr(), length);
            }
        }
    }

    /// Writes columns as long as they are plain: null, of a fixed size, or a varlena with a short
    /// header. Goes on from an attribute and a place in `values`, and says where it stopped: what
    /// is there is for the general way to take, or to complain of.
    ///
    /// `bitmap` has a bit for each attribute, 1 where there is a value; it is empty if none is null.
    #[inline(always)]
    pub(super) fn plain<const NULLS: bool>(
        &mut self,
        attributes: &[Attribute],
        bitmap: &[u8],
        values: &[u8],
        (from, mut at): (usize, usize),
    ) -> (usize, usize) {
        for (number, attribute) in attributes.iter().enumerate().skip(from) {
            let live = attribute.column.is_some();
            if NULLS && bitmap[number / 8] & (1 << (number % 8)) == 0 {
                if live {
                    self.null();
                }
                continue;
            }
            let end = match attribute.length {
                4 => self.plain_fixed::<4>(attribute, values, at),
                -1 => self.plain_varlena(live, values, at),
                8 => self.plain_fixed::<8>(attribute, values, at),
                2 => self.plain_fixed::<2>(attribute, values, at),
                1 => self.plain_fixed::<1>(attribute, values, at),
                16 => self.plain_fixed::<16>(attribute, values, at),
                _ => None,
            };
            let Some(end) = end else {
                return (number, at);
            };
            at = end;
        }
        (attributes.len(), at)
    }

    /// Where a value of a fixed size ends that lies at or behind `at`, written.
    #[inline(always)]
    fn plain_fixed<const N: usize>(
        &mut self,
        attribute: &Attribute,
        values: &[u8],
        at: usize,
    ) -> Option<usize> {
        let start = align(at, attribute.align);
        let value = values.get(start..start + N)?.first_chunk::<N>()?;
        if attribute.column.is_some() {
            self.fixed(value);
        }
        Some(start + N)
    }

    /// Where a varlena with a short header ends that lies at `at`, written.
    // pg: varatt.h VARATT_IS_1B, VARATT_IS_1B_E [14-18]
    #[inline(always)]
    fn plain_varlena(&mut self, live: bool, values: &[u8], at: usize) -> Option<usize> {
        let first = *values.get(at)?;
        if first & 1 == 0 || first == 1 {
            return None;
        }
        let end = at + usize::from(first >> 1);
        let value = values.get(at + 1..end)?;
        if live {
            let to = self.take(1 + value.len());
            // SAFETY: 1 + length bytes of room at `to`; `value` lies elsewhere.
            unsafe {
                to.write(value.len() as u8);
                copy_short(value, to.add(1));
            }
        }
        Some(end)
    }

    /// Writes a rarer kind of column at the arena's end.
    #[inline(never)]
    pub(super) fn push(&mut self, push: impl FnOnce(&mut Vec<u8>)) {
        self.settle();
        push(self.arena);
        let room = self.arena.spare_capacity_mut().as_mut_ptr_range();
        self.next = room.start.cast();
        self.end = room.end.cast();
    }

    /// Takes what was written into the arena.
    #[inline(always)]
    pub(super) fn settle(&mut self) {
        let length = self.next.addr() - self.arena.as_ptr().addr();
        // SAFETY: `next` lies within the capacity, and every byte before it was written.
        unsafe { self.arena.set_len(length) };
    }
}

/// The next multiple of `alignment`, a power of two.
#[inline(always)]
pub(super) const fn align(at: usize, alignment: u8) -> usize {
    let mask = alignment as usize - 1;
    (at + mask) & !mask
}

/// Copies a short value to `to`: by two copies of a fixed size that may overlap.
///
/// # Safety
/// There is room for it at `to`, and it does not lie there.
#[inline(always)]
unsafe fn copy_short(value: &[u8], to: *mut u8) {
    macro_rules! halves {
        ($size:literal) => {
            if let (Some(first), Some(last)) =
                (value.first_chunk::<$size>(), value.last_chunk::<$size>())
            {
                // SAFETY: the value has at least this size, so both lie in the room for it.
                unsafe {
                    to.cast::<[u8; $size]>().write_unaligned(*first);
                    to.add(value.len() - $size)
                        .cast::<[u8; $size]>()
                        .write_unaligned(*last);
                }
                return;
            }
        };
    }
    if value.len() > 32 {
        // SAFETY: as for this function.
        unsafe { to.copy_from_nonoverlapping(value.as_ptr(), value.len()) };
        return;
    }
    halves!(16);
    halves!(8);
    halves!(4);
    halves!(2);
    if let [byte] = value {
        // SAFETY: room for one byte.
        unsafe { to.write(*byte) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_size_arrive() {
        for length in (0..70).chain([238, 239, 240, 255, 256, 70_000]) {
            let value: Vec<u8> = (0..length).map(|i: usize| (i * 7 + 1) as u8).collect();
            let mut arena = b"before".to_vec();
            let mut row = RowBytes::new(&mut arena, 3, length + 4);
            row.value(&value);
            row.push(|arena| arena.push(TAG_NULL));
            row.fixed(&[1, 2, 3, 4]);
            row.settle();
            let mut expected = b"before".to_vec();
            redostream_protocol::event::push_value(&mut expected, &value);
            expected.extend_from_slice(&[TAG_NULL, 4, 1, 2, 3, 4]);
            assert_eq!(arena, expected);
        }
    }
}
