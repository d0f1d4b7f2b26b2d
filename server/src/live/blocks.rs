//! Blocks on their way from a catch-up pipeline to its subscriber, put together while they wait.
//!
//! A pipeline ends a block with every chunk, so that nothing waits in it. Who has far to go wants
//! fewer and larger ones: each is a frame, and several threads are woken for each, here and at the
//! client. So whoever takes blocks waits a moment for a small one to grow, but never longer. And
//! whoever finds no room for a large one compresses it, if it is to be, instead of only waiting: one
//! session's thread compresses less than two decoders decode.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use redostream_engine::feed::block::Block;
use redostream_engine::limits::{BLOCK_BYTES, BLOCK_SLACK_BYTES};
use redostream_protocol::wire::compress::Compressor;
use redostream_protocol::wire::limits::DATA_RAW_BYTES_MAX;

use crate::session::BlockEntry;

/// Blocks that wait for the subscriber, each made of several.
const BLOCKS_MAX: usize = 8;
/// Bytes up to which they are put together: of one frame.
const MERGED_BYTES_MAX: usize = DATA_RAW_BYTES_MAX;
/// So many are put together at most: a few bytes of each may keep a whole chunk's rows in memory.
const MERGED_MAX: usize = 16;
/// A block of so many bytes is not waited for to grow.
const LARGE_BYTES: usize = MERGED_BYTES_MAX / 5 * 3;
/// A block of so many bytes, as a pipeline gives it, is compressed where there is no room for it.
const COMPRESSED_BYTES_MIN: usize = BLOCK_BYTES / 4 * 3;
const _: () = assert!(BLOCK_BYTES + BLOCK_SLACK_BYTES <= MERGED_BYTES_MAX);
/// How long whoever takes blocks waits for a smaller one to grow.
const LINGER: Duration = Duration::from_millis(2);

/// The two ends of a queue.
pub(super) fn queue() -> (Sender, Receiver) {
    let shared = Arc::new(Shared::default());
    let sender = Sender {
        shared: Arc::clone(&shared),
        compressor: Compressor::default(),
    };
    (sender, Receiver(shared))
}

/// What became of waiting for a block.
#[derive(Debug)]
pub(super) enum Taken {
    Block(Arc<BlockEntry>),
    /// None came in time.
    Nothing,
    /// The other end is gone, and everything it sent was taken.
    Closed,
}

/// The pipeline's end.
pub(super) struct Sender {
    shared: Arc<Shared>,
    compressor: Compressor,
}

/// The subscriber's end.
pub(super) struct Receiver(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the receiver.
    filled: Condvar,
    /// Wakes the sender.
    emptied: Condvar,
}

#[derive(Default)]
struct State {
    /// Each with the number of those that it was made of.
    blocks: VecDeque<(BlockEntry, usize)>,
    /// Whether blocks that find no room are compressed before they wait for it.
    compresses: bool,
    /// Whether the receiver waits, and for what.
    awaited: Awaited,
    /// Whether one of the ends is gone.
    closed: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Awaited {
    #[default]
    Nothing,
    Large,
    Any,
}

impl State {
    /// Whether the first block does not get larger.
    fn is_large(&self) -> bool {
        let first = self.blocks.front();
        self.blocks.len() > 1
            || first.is_some_and(|(entry, made_of)| {
                *made_of == MERGED_MAX || entry.block.bytes() >= LARGE_BYTES
            })
    }

    /// Adds a block, to the last one if that may grow; gives it back if there is no room.
    fn put(&mut self, mut entry: BlockEntry) -> Option<BlockEntry> {
        if let Some((last, made_of)) = self.blocks.back_mut()
            && *made_of < MERGED_MAX
            && !last.is_compressed()
            && !entry.is_compressed()
        {
            match last.block.append(entry.block, MERGED_BYTES_MAX) {
                Ok(()) => {
                    *made_of += 1;
                    return None;
                }
                Err(apart) => entry = BlockEntry::passing(*apart),
            }
        }
        if self.blocks.len() < BLOCKS_MAX {
            self.blocks.push_back((entry, 1));
            return None;
        }
        Some(entry)
    }

    fn satisfies(&self) -> bool {
        match self.awaited {
            Awaited::Nothing => false,
            Awaited::Large => self.is_large(),
            Awaited::Any => !self.blocks.is_empty(),
        }
    }
}

impl Sender {
    /// Sends a block; waits while there is no room. The block, if nobody takes it any more.
    pub(super) fn send(&mut self, block: Block) -> Result<(), Box<Block>> {
        let mut entry = BlockEntry::passing(block);
        let mut state = self.shared.state.lock();
        loop {
            if state.closed {
                return Err(Box::new(entry.block));
            }
            entry = match state.put(entry) {
                None => break,
                Some(entry) => entry,
            };
            // A small one may still become part of a larger one.
            let is_small = entry.block.bytes() < COMPRESSED_BYTES_MIN;
            if state.compresses && !is_small && !entry.is_compressed() {
                // With the queue free for whoever takes from it meanwhile.
                drop(state);
                entry.bodies(Some(&mut self.compressor));
                state = self.shared.state.lock();
                continue;
            }
            self.shared.emptied.wait(&mut state);
        }
        let wakes = state.satisfies();
        drop(state);
        if wakes {
            self.shared.filled.notify_one();
        }
        Ok(())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.filled.notify_one();
    }
}

impl Receiver {
    /// Says that all blocks are going to be compressed.
    pub(super) fn compress_ahead(&self) {
        self.0.state.lock().compresses = true;
    }

    /// Takes the next block, waiting up to `timeout` for one, and a moment for it to get larger; with
    /// no time at all only one that is large.
    pub(super) fn take(&self, timeout: Duration) -> Taken {
        let since = Instant::now();
        let mut state = self.0.state.lock();
        if timeout.is_zero() && !state.is_large() && !state.closed {
            return Taken::Nothing;
        }
        for (awaited, wait) in [
            (Awaited::Large, timeout.min(LINGER)),
            (Awaited::Any, timeout),
        ] {
            state.awaited = awaited;
            while !state.satisfies() && !state.closed {
                let waited = self.0.filled.wait_until(&mut state, since + wait);
                if waited.timed_out() {
                    break;
                }
            }
        }
        state.awaited = Awaited::Nothing;
        let taken = state.blocks.pop_front();
        let closed = state.closed;
        drop(state);
        match taken {
            Some((entry, _)) => {
                self.0.emptied.notify_one();
                Taken::Block(Arc::new(entry))
            }
            None if closed => Taken::Closed,
            None => Taken::Nothing,
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.closed = true;
        state.blocks.clear();
        drop(state);
        self.0.emptied.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use redostream_protocol::{Lsn, Position, TimelineId};

    const LONG: Duration = Duration::from_secs(60);

    fn block(number: u64, bytes: usize) -> Block {
        let position = Position::begin(TimelineId(1), Lsn(number));
        Block {
            first: position,
            last: position,
            wal_end: Lsn(number),
            pieces: vec![Bytes::from(vec![number as u8; bytes])],
            events: 1,
            ..Block::default()
        }
    }

    fn taken(receiver: &Receiver) -> Block {
        match receiver.take(LONG) {
            Taken::Block(entry) => entry.block.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn small_blocks_become_one() {
        let (mut sender, receiver) = queue();
        assert!(matches!(receiver.take(Duration::ZERO), Taken::Nothing));
        for number in 1..=3 {
            sender.send(block(number, 100)).unwrap();
        }
        // It could grow still.
        assert!(matches!(receiver.take(Duration::ZERO), Taken::Nothing));
        let one = taken(&receiver);
        assert_eq!((one.events, one.bytes(), one.wal_end), (3, 300, Lsn(3)));
        assert!(matches!(receiver.take(LINGER), Taken::Nothing));
        for number in 6..=6 + MERGED_MAX as u64 {
            sender.send(block(number, 1)).unwrap();
        }
        assert_eq!(taken(&receiver).events, MERGED_MAX as u64);
        assert_eq!(taken(&receiver).events, 1);
    }

    #[test]
    fn a_large_block_is_there_at_once_and_does_not_grow_without_bound() {
        let (mut sender, receiver) = queue();
        sender.send(block(1, LARGE_BYTES)).unwrap();
        assert!(
            matches!(receiver.take(Duration::ZERO), Taken::Block(one) if one.block.bytes() == LARGE_BYTES)
        );
        sender.send(block(2, LARGE_BYTES)).unwrap();
        sender.send(block(3, LARGE_BYTES)).unwrap();
        assert_eq!(taken(&receiver).bytes(), LARGE_BYTES);
        assert_eq!(taken(&receiver).bytes(), LARGE_BYTES);
    }

    #[test]
    fn whoever_waits_is_woken_and_told_of_the_end() {
        let (mut sender, receiver) = queue();
        let thread = std::thread::spawn(move || {
            let first = taken(&receiver);
            let second = taken(&receiver);
            let end = receiver.take(LONG);
            (first.events + second.events, matches!(end, Taken::Closed))
        });
        sender.send(block(1, 10)).unwrap();
        // Longer than it waits for more.
        std::thread::sleep(4 * LINGER);
        sender.send(block(2, 10)).unwrap();
        drop(sender);
        assert_eq!(thread.join().unwrap(), (2, true));
    }

    #[test]
    fn nobody_takes_what_is_left() {
        let (mut sender, receiver) = queue();
        drop(receiver);
        assert_eq!(sender.send(block(1, 10)).unwrap_err().events, 1);
    }

    #[test]
    fn a_full_queue_is_waited_for() {
        let (mut sender, receiver) = queue();
        let count = 3 * BLOCKS_MAX as u64;
        let thread = std::thread::spawn(move || {
            for number in 1..=count {
                sender.send(block(number, LARGE_BYTES)).unwrap();
            }
        });
        for number in 1..=count {
            assert_eq!(taken(&receiver).wal_end, Lsn(number));
            assert!(receiver.0.state.lock().blocks.len() <= BLOCKS_MAX);
        }
        thread.join().unwrap();
        assert!(matches!(receiver.take(LONG), Taken::Closed));
    }

    /// Sends more blocks than there is room for; gives how many came compressed.
    fn compressed(ahead: bool, bytes: usize) -> usize {
        let (mut sender, receiver) = queue();
        if ahead {
            receiver.compress_ahead();
        }
        for number in 1..=BLOCKS_MAX as u64 {
            sender.send(block(number, MERGED_BYTES_MAX)).unwrap();
        }
        let last = BLOCKS_MAX as u64 + 4;
        let thread = std::thread::spawn(move || {
            for number in BLOCKS_MAX as u64 + 1..=last {
                sender.send(block(number, bytes)).unwrap();
            }
        });
        std::thread::sleep(Duration::from_millis(20));
        let (mut compressed, mut seen) = (0, Vec::new());
        loop {
            match receiver.take(LONG) {
                Taken::Block(entry) => {
                    compressed += usize::from(entry.is_compressed());
                    seen.push(entry.block.wal_end);
                }
                Taken::Closed => break,
                Taken::Nothing => panic!("it stands still"),
            }
        }
        thread.join().unwrap();
        assert!(seen.is_sorted());
        assert_eq!(seen.last(), Some(&Lsn(last)));
        compressed
    }

    #[test]
    fn who_finds_no_room_compresses() {
        assert_eq!(compressed(false, COMPRESSED_BYTES_MIN), 0);
        // Small ones are left to grow.
        assert_eq!(compressed(true, COMPRESSED_BYTES_MIN / 2), 0);
        // On a machine that is busy with others there may be room before the thread looks.
        assert!((0..500).any(|_| compressed(true, COMPRESSED_BYTES_MIN) > 0));
    }
}
