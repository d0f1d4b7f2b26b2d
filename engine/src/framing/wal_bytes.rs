//! A buffer for WAL bytes that the kernel copies into quickly.
//!
//! The kernel copies what is read from files by one instruction (`rep movsb`). Some processors are
//! slow at it where the destination lies a few bytes behind the source's place within a page: on an
//! AMD Zen 3, a buffer 16 bytes behind the begin of a page, as every buffer is that the allocator
//! maps by itself, is read into at 1.4 GB/s, and one at a cache line at 8. So the buffer is made of
//! whole cache lines.

use std::ops::{Deref, DerefMut};

use zerocopy::{FromBytes, Immutable, IntoBytes};

const LINE_BYTES: usize = 64;

/// A cache line.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C, align(64))]
struct Line([u8; LINE_BYTES]);

/// Bytes of which the first begins a cache line.
#[derive(Clone, Debug, Default)]
pub struct WalBytes {
    /// As many as were ever needed.
    lines: Vec<Line>,
    bytes: usize,
}

impl WalBytes {
    /// Makes it so long. What is new holds anything.
    pub fn set_len(&mut self, bytes: usize) {
        let lines = bytes.div_ceil(LINE_BYTES);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0; LINE_BYTES]));
        }
        self.bytes = bytes;
    }

    /// Bytes that there is memory for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.lines.capacity() * LINE_BYTES
    }

    /// Gives back memory that is not needed.
    pub fn shrink_to_fit(&mut self) {
        self.lines.truncate(self.bytes.div_ceil(LINE_BYTES));
        self.lines.shrink_to_fit();
    }

    /// Appends bytes.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let start = self.bytes;
        self.set_len(start + bytes.len());
        self[start..].copy_from_slice(bytes);
    }
}

impl Deref for WalBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.lines.as_bytes()[..self.bytes]
    }
}

impl DerefMut for WalBytes {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.lines.as_mut_bytes()[..self.bytes]
    }
}

impl From<&[u8]> for WalBytes {
    fn from(bytes: &[u8]) -> Self {
        let mut own = WalBytes::default();
        own.extend_from_slice(bytes);
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_at_a_line_and_keeps_what_it_held() {
        for length in [0, 1, 63, 64, 65, 100_000] {
            let content: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let mut bytes = WalBytes::from(&content[..]);
            assert_eq!(&bytes[..], content);
            assert!(bytes.as_ptr().addr().is_multiple_of(LINE_BYTES));
            bytes.set_len(length / 2);
            assert_eq!(&bytes[..], &content[..length / 2]);
            bytes.extend_from_slice(&content[length / 2..]);
            assert_eq!(&bytes[..], content);
            bytes.set_len(length / 2);
            bytes.shrink_to_fit();
            assert_eq!(&bytes[..], &content[..length / 2]);
            assert!(bytes.capacity() < length / 2 + LINE_BYTES);
        }
    }
}
