//! One reader's way through the feed.

use std::sync::Arc;
use std::time::Duration;

use redostream_protocol::Lsn;

use super::log::{Entry, Feed, Look};

/// What a reader finds.
#[derive(Debug)]
pub enum Next<E> {
    /// The next block.
    Entry(Arc<Entry<E>>),
    /// Nothing yet.
    Wait,
    /// The next block has been evicted; the oldest that is left has this number.
    Behind {
        /// Sequence of the oldest entry.
        oldest: u64,
    },
    /// The feed is closed, and everything has been read.
    Closed,
}

/// Goes through a feed, block by block.
#[derive(Debug)]
pub struct Reader<E> {
    feed: Feed<E>,
    next: u64,
}

impl<E> Reader<E> {
    pub(super) fn new(feed: Feed<E>, next: u64) -> Self {
        Self { feed, next }
    }

    /// The number of the block that comes next.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.next
    }

    /// Everything that starts before this LSN has been read; none while there is a block to read.
    #[must_use]
    pub fn passed(&self) -> Option<Lsn> {
        self.feed.shared.passed(self.next)
    }

    /// The feed that is read.
    #[must_use]
    pub fn feed(&self) -> &Feed<E> {
        &self.feed
    }

    /// The next block, if it is there; moves past it.
    #[expect(
        clippy::should_implement_trait,
        reason = "there is more to say than none"
    )]
    pub fn next(&mut self) -> Next<E> {
        let look = self.feed.shared.look(self.next);
        self.take(look)
    }

    /// The next block; waits up to `timeout` for it.
    pub fn next_within(&mut self, timeout: Duration) -> Next<E> {
        let look = self.feed.shared.wait(self.next, timeout);
        self.take(look)
    }

    fn take(&mut self, look: Look<E>) -> Next<E> {
        match look {
            Look::Entry(entry) => {
                self.next += 1;
                Next::Entry(entry)
            }
            Look::Wait => Next::Wait,
            Look::Closed => Next::Closed,
            Look::Behind { oldest } => Next::Behind { oldest },
        }
    }
}
