//! Buffers for events, compressed and not, used again once nobody holds the events any more.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::limits::BUFFERS_KEPT;

/// Buffers that are free.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// A buffer of at least so many bytes, with anything in it.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        let mut buffer = self.0.lock().pop().unwrap_or_default();
        if buffer.len() < bytes {
            // What was in it need not be copied. The next frame may be a little larger.
            let unit = (bytes.next_power_of_two() / 8).max(1);
            buffer = vec![0; bytes.next_multiple_of(unit)];
        }
        buffer
    }

    /// Gives a buffer back.
    pub(super) fn give(&self, buffer: Vec<u8>) {
        let mut free = self.0.lock();
        if free.len() < BUFFERS_KEPT {
            free.push(buffer);
        }
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
        assert_eq!(buffers.0.lock().len(), BUFFERS_KEPT);
        assert_eq!(one, vec![1; 10], "it is held still");
        assert_eq!(buffers.take(500).len(), 1024);
        assert_eq!(buffers.take(2000).len(), 2048);
    }
}
