//! The log of blocks itself: appended at one end, evicted at the other, searched by position.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::{Lsn, Position};
use rustc_hash::FxHashSet;

use super::block::Block;
use super::reader::Reader;

/// One block with its place in the feed, and its encoded form `E` once somebody has needed it.
#[derive(Debug)]
pub struct Entry<E> {
    /// Its number: one more than that of the block before.
    pub sequence: u64,
    /// The block.
    pub block: Block,
    encoded: OnceLock<E>,
    /// Bytes it is charged for; changed under the feed's lock.
    charge: AtomicU64,
}

/// The bounded, shared log of released blocks. Clones are the same feed. `E` is the encoded
/// (compressed) form of a block.
#[derive(Debug)]
pub struct Feed<E> {
    pub(super) shared: Arc<Shared<E>>,
}

impl<E> Clone for Feed<E> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

pub(super) struct Shared<E> {
    bytes_max: u64,
    state: Mutex<State<E>>,
    changed: Condvar,
    wakeups: Mutex<Wakeups>,
}

impl<E> std::fmt::Debug for Shared<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("bytes_max", &self.bytes_max)
            .finish_non_exhaustive()
    }
}

struct State<E> {
    entries: VecDeque<Arc<Entry<E>>>,
    /// Sequence of the entry that comes next.
    next: u64,
    bytes: u64,
    evicted: u64,
    /// Everything after this position is here.
    floor: Position,
    /// Every transaction whose commit record starts here or later is here, whole.
    floor_lsn: Lsn,
    last: Position,
    wal_end: Lsn,
    closed: bool,
}

#[derive(Default)]
struct Wakeups {
    next: u64,
    hooks: Vec<(u64, Arc<dyn Fn() + Send + Sync>)>,
}

/// Keeps a wake-up hook in place; dropping it takes the hook away.
pub struct WakeupGuard {
    remove: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl std::fmt::Debug for WakeupGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WakeupGuard")
    }
}

impl Drop for WakeupGuard {
    fn drop(&mut self) {
        if let Some(remove) = self.remove.take() {
            remove();
        }
    }
}

/// Where a subscriber's reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// In the feed: the first block with something for it is, or will be, the one of this number.
    /// The block may begin before the place asked for.
    At(u64),
    /// What comes first for it has been evicted, or was never here.
    Behind,
}

/// What a feed holds and has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedCounters {
    /// Blocks held.
    pub entries: u64,
    /// Bytes of them, encoded forms included.
    pub bytes: u64,
    /// Blocks ever evicted.
    pub evicted: u64,
    /// Position of the last event released.
    pub last: Position,
    /// Everything that starts before this LSN has been released.
    pub wal_end: Lsn,
}

/// What a look at a place of the feed finds.
pub(super) enum Look<E> {
    Entry(Arc<Entry<E>>),
    Wait,
    Closed,
    Behind { oldest: u64 },
}

impl<E> Feed<E> {
    /// An empty feed that holds up to `bytes_max` bytes of blocks, and always the newest. It will
    /// be given everything after `after`, and every transaction whose commit record starts at
    /// `after_lsn` or later.
    #[must_use]
    pub fn new(bytes_max: u64, after: Position, after_lsn: Lsn) -> Self {
        let state = State {
            entries: VecDeque::new(),
            next: 0,
            bytes: 0,
            evicted: 0,
            floor: after,
            floor_lsn: after_lsn,
            last: after,
            wal_end: after_lsn,
            closed: false,
        };
        Self {
            shared: Arc::new(Shared {
                bytes_max,
                state: Mutex::new(state),
                changed: Condvar::new(),
                wakeups: Mutex::new(Wakeups::default()),
            }),
        }
    }

    /// Appends a block and wakes who waits. Evicts the oldest blocks if there are too many bytes;
    /// never waits.
    ///
    /// # Panics
    /// If the block does not come after the one before: a mistake of the caller.
    pub fn append(&self, block: Block) -> Arc<Entry<E>> {
        let (entry, evicted) = {
            let mut state = self.shared.state.lock();
            let in_order = if block.events == 0 {
                block.last >= state.last
            } else {
                block.first > state.last && block.last >= block.first
            };
            assert!(
                in_order && block.wal_end >= state.wal_end,
                "blocks {} to {} come after {}, and {} after {}",
                block.first,
                block.last,
                state.last,
                block.wal_end,
                state.wal_end,
            );
            state.last = block.last;
            state.wal_end = block.wal_end;
            let charge = (block.bytes() + size_of::<Entry<E>>()) as u64;
            let entry = Arc::new(Entry {
                sequence: state.next,
                block,
                encoded: OnceLock::new(),
                charge: AtomicU64::new(charge),
            });
            state.next += 1;
            state.bytes += charge;
            state.entries.push_back(Arc::clone(&entry));
            (entry, state.evict(self.shared.bytes_max))
        };
        self.shared.wake();
        drop(evicted);
        entry
    }

    /// The encoded form of an entry's block; `encode` makes it, with its size in bytes, if nobody
    /// has before. Who comes while it is being made waits for it.
    pub fn encoded<'e>(
        &self,
        entry: &'e Entry<E>,
        encode: impl FnOnce(&Block) -> (E, usize),
    ) -> &'e E {
        if let Some(encoded) = entry.encoded.get() {
            return encoded;
        }
        let mut made = 0;
        let encoded = entry.encoded.get_or_init(|| {
            let (encoded, bytes) = encode(&entry.block);
            made = bytes as u64;
            encoded
        });
        let mut evicted = Vec::new();
        if made > 0 {
            let mut state = self.shared.state.lock();
            if entry.sequence >= state.oldest() {
                entry.charge.fetch_add(made, Ordering::Relaxed);
                state.bytes += made;
                evicted = state.evict(self.shared.bytes_max);
            }
        }
        drop(evicted);
        encoded
    }

    /// No block will follow. Readers get what is there and then know.
    pub fn close(&self) {
        self.shared.state.lock().closed = true;
        self.shared.wake();
    }

    /// Where everything after `position` begins.
    #[must_use]
    pub fn after(&self, position: Position) -> Start {
        let state = self.shared.state.lock();
        if position < state.floor {
            return Start::Behind;
        }
        // An event at the very position is the last one that is not wanted.
        let index = state
            .entries
            .partition_point(|entry| entry.block.last <= position);
        Start::At(state.oldest() + index as u64)
    }

    /// Where the transactions whose commit record starts at `lsn` or later begin.
    #[must_use]
    pub fn at_lsn(&self, lsn: Lsn) -> Start {
        let state = self.shared.state.lock();
        if lsn < state.floor_lsn {
            return Start::Behind;
        }
        let index = state
            .entries
            .partition_point(|entry| entry.block.last.commit_lsn < lsn);
        Start::At(state.oldest() + index as u64)
    }

    /// The number of the block that is appended next: everything released from now on.
    #[must_use]
    pub fn latest(&self) -> u64 {
        self.shared.state.lock().next
    }

    /// A reader whose next block is the one of this number.
    #[must_use]
    pub fn reader(&self, sequence: u64) -> Reader<E> {
        Reader::new(self.clone(), sequence)
    }

    /// Calls `hook` after every append, and when the feed is closed, for as long as the guard
    /// lives (and once more at most, if a call is under way when it is dropped). The hook is called
    /// by whoever appends: it must not block.
    #[must_use]
    pub fn subscribe_wakeups(&self, hook: Box<dyn Fn() + Send + Sync>) -> WakeupGuard
    where
        E: Send + Sync + 'static,
    {
        let mut wakeups = self.shared.wakeups.lock();
        let number = wakeups.next;
        wakeups.next += 1;
        wakeups.hooks.push((number, Arc::from(hook)));
        let shared = Arc::downgrade(&self.shared);
        WakeupGuard {
            remove: Some(Box::new(move || {
                if let Some(shared) = shared.upgrade() {
                    let mut wakeups = shared.wakeups.lock();
                    wakeups.hooks.retain(|(found, _)| *found != number);
                }
            })),
        }
    }

    /// Relation versions that the blocks held name.
    #[must_use]
    pub fn relations(&self) -> FxHashSet<RelationVersion> {
        let state = self.shared.state.lock();
        let named = state
            .entries
            .iter()
            .flat_map(|entry| &entry.block.relations);
        named.copied().collect()
    }

    /// What the feed holds and has seen.
    #[must_use]
    pub fn counters(&self) -> FeedCounters {
        let state = self.shared.state.lock();
        FeedCounters {
            entries: state.entries.len() as u64,
            bytes: state.bytes,
            evicted: state.evicted,
            last: state.last,
            wal_end: state.wal_end,
        }
    }
}

impl<E> Shared<E> {
    /// Looks at the entry of this number.
    pub(super) fn look(&self, sequence: u64) -> Look<E> {
        self.state.lock().look(sequence)
    }

    /// How far everything is for whoever waits for the entry of this number; none if it is there.
    pub(super) fn passed(&self, sequence: u64) -> Option<Lsn> {
        let state = self.state.lock();
        (sequence >= state.next).then_some(state.wal_end)
    }

    /// As [`Shared::look`], but first waits up to `timeout` for the entry to be there.
    pub(super) fn wait(&self, sequence: u64, timeout: Duration) -> Look<E> {
        let mut state = self.state.lock();
        let missing = |state: &mut State<E>| sequence >= state.next && !state.closed;
        // Whether time ran out is seen by what is there.
        let _ = self.changed.wait_while_for(&mut state, missing, timeout);
        state.look(sequence)
    }

    fn wake(&self) {
        self.changed.notify_all();
        // Called without the lock, so that a hook may subscribe or unsubscribe.
        let hooks: Vec<_> = {
            let wakeups = self.wakeups.lock();
            wakeups
                .hooks
                .iter()
                .map(|(_, hook)| Arc::clone(hook))
                .collect()
        };
        for hook in hooks {
            hook();
        }
    }
}

impl<E> State<E> {
    fn oldest(&self) -> u64 {
        self.next - self.entries.len() as u64
    }

    fn look(&self, sequence: u64) -> Look<E> {
        let oldest = self.oldest();
        let Some(index) = sequence.checked_sub(oldest) else {
            return Look::Behind { oldest };
        };
        match self.entries.get(index as usize) {
            Some(entry) => Look::Entry(Arc::clone(entry)),
            None if self.closed => Look::Closed,
            None => Look::Wait,
        }
    }

    /// Lets go of the oldest entries until the bound is kept; the newest stays. They are given
    /// back so that their memory is freed without the lock.
    fn evict(&mut self, bytes_max: u64) -> Vec<Arc<Entry<E>>> {
        let mut evicted = Vec::new();
        while self.bytes > bytes_max && self.entries.len() > 1 {
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= entry.charge.load(Ordering::Relaxed);
            self.evicted += 1;
            if entry.block.events > 0 {
                self.floor = self.floor.max(entry.block.last);
                // The evicted transaction, or a part of it, cannot be had any more.
                self.floor_lsn = self.floor_lsn.max(entry.block.last.commit_lsn.add(1));
            }
            evicted.push(entry);
        }
        evicted
    }
}
