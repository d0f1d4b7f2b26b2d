//! Writes a tuple's columns behind an arena's end.
//!
//! Columns are a few bytes each: growing the arena, or calling for a copy, for every one of them
//! costs more than the rest of decoding. So room for the whole tuple is made once, small values are
//! copied by a fixed number of bytes, and the arena's length is set once.

#![expect(
    unsafe_code,
    reason = "the arena's length is set over bytes that were written behind its end"
)]

use std::mem::MaybeUninit;

use redostream_protocol::event::{TAG_INLINE_MAX, TAG_LONG, TAG_NULL};

/// Bytes that a column takes besides its value, at most.
// The longest is a pointer to TOAST; a stored one has one byte more.
pub(super) const COLUMN_BYTES: usize = 10;

/// Values up to this size are copied as this many bytes where that many can be read and written.
const SMALL: usize = 16;

/// The columns of one tuple, behind the end of an arena.
pub(super) struct RowBytes<'a> {
    arena: &'a mut Vec<u8>,
    /// Bytes written behind the arena's end.
    written: usize,
}

impl<'a> RowBytes<'a> {
    /// Makes room for `columns` columns of `bytes` bytes of values.
    #[inline]
    pub(super) fn new(arena: &'a mut Vec<u8>, columns: usize, bytes: usize) -> Self {
        arena.reserve(COLUMN_BYTES * columns + bytes + SMALL);
        RowBytes { arena, written: 0 }
    }

    #[inline(always)]
    fn room(&mut self) -> &mut [MaybeUninit<u8>] {
        &mut self.arena.spare_capacity_mut()[self.written..]
    }

    #[inline(always)]
    pub(super) fn null(&mut self) {
        self.room()[0].write(TAG_NULL);
        self.written += 1;
    }

    /// A value of a fixed, small size.
    #[inline(always)]
    pub(super) fn fixed<const N: usize>(&mut self, value: &[u8; N]) {
        const { assert!(N <= TAG_INLINE_MAX as usize) }
        let room = &mut self.room()[..=N];
        room[0].write(N as u8);
        room[1..].write_copy_of_slice(value);
        self.written += 1 + N;
    }

    /// The `length` bytes of `values` from `start` on, which are there.
    #[inline(always)]
    pub(super) fn value(&mut self, values: &[u8], start: usize, length: usize) {
        let room = self.room();
        if length <= SMALL
            && let Some(wide) = values.get(start..start + SMALL)
        {
            // Bytes beyond the value are overwritten by what follows, or left behind the end.
            let room = &mut room[..=SMALL];
            room[0].write(length as u8);
            room[1..].write_copy_of_slice(wide);
            self.written += 1 + length;
            return;
        }
        let value = &values[start..start + length];
        if length <= TAG_INLINE_MAX as usize {
            room[0].write(length as u8);
            room[1..=length].write_copy_of_slice(value);
            self.written += 1 + length;
        } else {
            room[0].write(TAG_LONG);
            room[1..5].write_copy_of_slice(&(length as u32).to_le_bytes());
            room[5..5 + length].write_copy_of_slice(value);
            self.written += 5 + length;
        }
    }

    /// Writes a rarer kind of column at the arena's end.
    #[inline]
    pub(super) fn push(&mut self, push: impl FnOnce(&mut Vec<u8>)) {
        self.settle();
        push(self.arena);
    }

    /// Takes what was written into the arena.
    #[inline(always)]
    pub(super) fn settle(&mut self) {
        let length = self.arena.len() + self.written;
        assert!(
            length <= self.arena.capacity(),
            "columns are written within the room made for them"
        );
        // SAFETY: the bytes from the old length on were written, by slices of the spare capacity.
        unsafe { self.arena.set_len(length) };
        self.written = 0;
    }
}
