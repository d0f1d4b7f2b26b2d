//! Buffers that are used again: fresh memory costs more than decoding into it.

use std::sync::Arc;

use bytes::Bytes;
use crossbeam::queue::ArrayQueue;

use crate::limits::POOLED_BUFFER_BYTES_MAX;

/// A bounded stock of byte buffers, shared by the threads of a pipeline.
#[derive(Clone, Debug)]
pub struct BufferPool {
    stock: Arc<ArrayQueue<Vec<u8>>>,
}

impl BufferPool {
    /// A pool that keeps at most `buffers`.
    #[must_use]
    pub fn new(buffers: usize) -> Self {
        BufferPool {
            stock: Arc::new(ArrayQueue::new(buffers.max(1))),
        }
    }

    /// An empty buffer, with whatever room it has.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        let mut buffer = self.stock.pop().unwrap_or_default();
        buffer.clear();
        buffer
    }

    /// A buffer of at least `bytes` bytes, holding anything.
    #[must_use]
    pub fn take_filled(&self, bytes: usize) -> Vec<u8> {
        let mut buffer = self.stock.pop().unwrap_or_default();
        if buffer.len() < bytes {
            buffer.resize(bytes, 0);
        }
        buffer
    }

    /// Gives a buffer back; one that grew beyond the bound, or that the stock has no room for, is
    /// freed.
    pub fn give(&self, buffer: Vec<u8>) {
        if buffer.capacity() > 0 && buffer.capacity() <= POOLED_BUFFER_BYTES_MAX {
            // A full stock frees it.
            let _ = self.stock.push(buffer);
        }
    }

    /// The first `bytes` of a buffer, shared by reference; the buffer comes back when the last
    /// reference is gone.
    ///
    /// # Panics
    /// If the buffer is shorter.
    #[must_use]
    pub fn freeze(&self, buffer: Vec<u8>, bytes: usize) -> Bytes {
        assert!(
            bytes <= buffer.len(),
            "only bytes that are there can be shared"
        );
        Bytes::from_owner(Lent {
            buffer,
            bytes,
            pool: self.clone(),
        })
    }
}

struct Lent {
    buffer: Vec<u8>,
    bytes: usize,
    pool: BufferPool,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.bytes]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.buffer));
    }
}
