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
