//! Buffers for events, compressed and not, used again once nobody holds the events any more.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::limits::{BUFFERS_KEPT, BUFFERS_KEPT_BYTES};

/// Buffers up to this size are used for fewer bytes too.
const SMALL_BYTES: usize = 4096;

/// Buffers that are free.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers(Arc<Mutex<Free>>);

#[derive(Debug, Default)]
struct Free {
    /// Those that came back last are at the end.
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Free {
    /// One of at least so many bytes, but not of many more: whoever holds few bytes must not hold
    /// much memory.
    fn take(&mut self, bytes: usize) -> Option<Vec<u8>> {
        let fits = bytes..=(2 * bytes).max(SMALL_BYTES);
        let found = self
            .buffers
            .iter()
            .rposition(|one| fits.contains(&one.len()));
        if found.is_none() && !self.buffers.is_empty() {
            // Sizes have changed: the oldest makes room for one of this size.
            self.remove(0);
        }
        found.map(|number| self.remove(number))
    }

    fn remove(&mut self, number: usize) -> Vec<u8> {
        let buffer = self.buffers.remove(number);
        self.bytes -= buffer.len();
        buffer
    }

    fn give(&mut self, buffer: Vec<u8>) {
        if self.buffers.len() < BUFFERS_KEPT && self.bytes + buffer.len() <= BUFFERS_KEPT_BYTES {
            self.bytes += buffer.len();
            self.buffers.push(buffer);
        }
    }
}

impl Buffers {
    /// A buffer of at least so many bytes, with anything in it.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        let found = self.0.lock().take(bytes);
        found.unwrap_or_else(|| {
            // The next frame may be a little larger.
            let unit = (bytes.next_power_of_two() / 8).max(1);
            vec![0; bytes.next_multiple_of(unit)]
        })
    }

    /// Gives a buffer back.
    pub(super) fn give(&self, buffer: Vec<u8>) {
        self.0.lock().give(buffer);
    }

    /// The first bytes of a buffer, all of which were written; it comes back when they are let go.
    pub(super) fn share(&self, buffer: Vec<u8>, bytes: usize) -> Bytes {
        assert!(bytes <= buffer.len(), "so many bytes were written");
        Bytes::from_owner(Shared {
            buffer,
            bytes,
            free: self.clone(),
        })
    }
}

struct Shared {
    buffer: Vec<u8>,
    bytes: usize,
    free: Buffers,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.bytes]
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.free.give(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::DATA_RAW_BYTES_MAX;
    use super::*;

    #[test]
    fn buffers_come_back_and_no_more_than_the_bound() {
        let buffers = Buffers::default();
        let shared: Vec<Bytes> = (0..2 * BUFFERS_KEPT)
            .map(|number| {
                let mut buffer = buffers.take(1024);
                buffer.fill(number as u8);
                buffers.share(buffer, 900)
            })
            .collect();
        let one = shared[1].slice(10..20);
        for (number, bytes) in shared.into_iter().enumerate() {
            assert_eq!(bytes, vec![number as u8; 900]);
        }
        assert_eq!(buffers.0.lock().buffers.len(), BUFFERS_KEPT);
        assert_eq!(one, vec![1; 10], "it is held still");
        assert_eq!(buffers.take(500).len(), 1024);
        assert_eq!(buffers.take(2000).len(), 2048);
    }

    #[test]
    fn few_bytes_do_not_hold_a_large_buffer() {
        let buffers = Buffers::default();
        buffers.give(vec![0; 1 << 20]);
        buffers.give(vec![0; 300_000]);
        assert_eq!(buffers.take(600_000).len(), 1 << 20);
        assert_eq!(buffers.take(200_000).len(), 300_000);
        for _ in 0..2 {
            buffers.give(vec![0; 1 << 20]);
            assert_eq!(buffers.take(64).len(), 64);
        }
        for _ in 0..2 * BUFFERS_KEPT {
            buffers.give(vec![0; DATA_RAW_BYTES_MAX]);
        }
        let free = buffers.0.lock();
        assert!(free.bytes <= BUFFERS_KEPT_BYTES);
        let bytes: usize = free.buffers.iter().map(Vec::len).sum();
        assert_eq!(free.bytes, bytes);
    }
}
