//! The redo buffer: the newest WAL in memory, fed by physical replication.
//!
//! One writer pushes at the head, any number of readers copy from anywhere in it, the oldest
//! pieces leave at the tail. Pieces are shared by reference, so readers copy outside the lock.
//!
//! ```text
//!  tail                                             gathered        head
//!   | piece | piece | piece |  ...  | piece | piece | small ones |
//! ```

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use redostream_protocol::Lsn;

use crate::limits::{REDO_BUFFER_BYTES_MIN, REDO_PIECE_BYTES};

/// Bytes of small pieces that are gathered into one.
const GATHER_BYTES: usize = 4 * REDO_PIECE_BYTES;
/// Pieces one read takes at most.
const READ_PIECES: usize = 8;

/// The newest WAL, bounded by bytes.
pub struct RedoBuffer {
    bytes_max: usize,
    state: Mutex<State>,
    changed: Condvar,
    on_push: OnceLock<Box<dyn Fn(Lsn) + Send + Sync>>,
}

/// What keeps a piece out of the buffer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BufferError {
    /// The upstream sent an LSN again with other bytes: it has another history. Stop and compare
    /// timelines.
    #[error("the upstream sent WAL at {0} again, and it differs from what it sent before")]
    Diverged(Lsn),
}

#[derive(Default)]
struct State {
    /// By LSN, without gaps.
    pieces: VecDeque<Piece>,
    /// Small pieces after the last of `pieces`.
    gathered: Vec<u8>,
    /// Bytes in `pieces`.
    piece_bytes: usize,
    /// First LSN after the newest byte; `None` before the first push.
    head: Option<u64>,
    /// Rises when bytes that were there are taken back.
    cuts: u64,
}

struct Piece {
    start: u64,
    bytes: Bytes,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl RedoBuffer {
    /// A buffer of at most `bytes_max` bytes (at least 1 MiB).
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self::bounded(bytes_max.max(REDO_BUFFER_BYTES_MIN))
    }

    pub(super) fn bounded(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            state: Mutex::default(),
            changed: Condvar::new(),
            on_push: OnceLock::new(),
        }
    }

    /// Has `callback` called with the new head after each push, outside the lock. Only the first
    /// call counts.
    pub fn set_on_push(&self, callback: impl Fn(Lsn) + Send + Sync + 'static) {
        let _ = self.on_push.set(Box::new(callback));
    }

    /// Adds WAL at the head. What is there already is compared and left out; after a gap the
    /// buffer begins anew at `lsn`.
    pub fn push(&self, lsn: Lsn, bytes: Bytes) -> Result<(), BufferError> {
        let head = {
            let mut state = self.state.lock();
            let start = state.tail().filter(|tail| *tail <= lsn.0).is_some();
            if !(start && state.head.is_some_and(|head| lsn.0 <= head)) {
                state.clear(lsn.0);
            }
            let fresh = state.without_known(lsn, bytes)?;
            state.append(fresh);
            state.evict(self.bytes_max);
            state.head.unwrap_or(lsn.0)
        };
        self.changed.notify_all();
        if let Some(callback) = self.on_push.get() {
            callback(Lsn(head));
        }
        Ok(())
    }

    /// Oldest byte and first LSN after the newest; `None` before the first push.
    #[must_use]
    pub fn range(&self) -> Option<(Lsn, Lsn)> {
        let state = self.state.lock();
        Some((Lsn(state.tail()?), Lsn(state.head?)))
    }

    /// Copies bytes at `lsn` into `out`; returns how many, 0 if `lsn` is not in the buffer. May
    /// give fewer than there are.
    pub fn read(&self, lsn: Lsn, out: &mut [u8]) -> usize {
        let mut shared: [Bytes; READ_PIECES] = Default::default();
        let mut done = 0;
        {
            let state = self.state.lock();
            let Some(head) = state.head else { return 0 };
            if lsn.0 >= head || state.tail().is_none_or(|tail| lsn.0 < tail) {
                return 0;
            }
            let index = state.pieces.partition_point(|piece| piece.end() <= lsn.0);
            let mut pieces = state.pieces.range(index..);
            let mut at = lsn.0;
            let mut wanted = out.len();
            for slot in &mut shared {
                let Some(piece) = pieces.next().filter(|_| wanted > 0) else {
                    break;
                };
                let skip = usize::try_from(at - piece.start).unwrap_or(usize::MAX);
                let take = (piece.bytes.len() - skip).min(wanted);
                *slot = piece.bytes.slice(skip..skip + take);
                at += take as u64;
                wanted -= take;
            }
            let gathered_start = state.gathered_start();
            if at >= gathered_start && wanted > 0 {
                // The gathered bytes may still grow, so they are copied here.
                let skip = usize::try_from(at - gathered_start).unwrap_or(usize::MAX);
                let before = out.len() - wanted;
                let from = state.gathered.get(skip..).unwrap_or_default();
                let to = out.get_mut(before..).unwrap_or_default();
                done += copy(from, to);
            }
        }
        let mut at = 0;
        for piece in &shared {
            at += copy(piece, out.get_mut(at..).unwrap_or_default());
        }
        done + at
    }

    /// Takes back everything from `lsn` on: the upstream's history left it there.
    pub fn truncate_after(&self, lsn: Lsn) {
        {
            let mut state = self.state.lock();
            if state.head.is_none_or(|head| head <= lsn.0) {
                return;
            }
            if state.tail().is_none_or(|tail| tail >= lsn.0) {
                state.clear(lsn.0);
            } else {
                state.cut(lsn.0);
            }
            state.cuts += 1;
        }
        self.changed.notify_all();
    }

    /// Blocks until there is something beyond `beyond`, something was taken back, or `timeout`
    /// passed.
    pub fn wait(&self, beyond: Lsn, timeout: Duration) {
        let until = Instant::now() + timeout;
        let mut state = self.state.lock();
        let cuts = state.cuts;
        while state.cuts == cuts && state.head.is_none_or(|head| head <= beyond.0) {
            if self.changed.wait_until(&mut state, until).timed_out() {
                return;
            }
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let state = self.state.lock();
        state.piece_bytes + state.gathered.len()
    }
}

fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    if let (Some(to), Some(from)) = (to.get_mut(..count), from.get(..count)) {
        to.copy_from_slice(from);
    }
    count
}

impl State {
    fn tail(&self) -> Option<u64> {
        match self.pieces.front() {
            Some(piece) => Some(piece.start),
            None => self.head.map(|head| head - self.gathered.len() as u64),
        }
    }

    fn gathered_start(&self) -> u64 {
        self.head.unwrap_or(0) - self.gathered.len() as u64
    }

    fn clear(&mut self, head: u64) {
        self.pieces.clear();
        self.gathered.clear();
        self.piece_bytes = 0;
        self.head = Some(head);
    }

    /// The part of `bytes` that lies beyond the head; what does not must be what is there.
    fn without_known(&self, lsn: Lsn, mut bytes: Bytes) -> Result<Bytes, BufferError> {
        let head = self.head.unwrap_or(lsn.0);
        let known = usize::try_from(head - lsn.0).unwrap_or(usize::MAX);
        let again = bytes.split_to(known.min(bytes.len()));
        let mut at = lsn.0;
        let mut again = &again[..];
        while let Some(there) = self.slice_at(at).filter(|_| !again.is_empty()) {
            let count = there.len().min(again.len());
            let (compared, rest) = again.split_at(count);
            if there.get(..count) != Some(compared) {
                return Err(BufferError::Diverged(Lsn(at)));
            }
            at += count as u64;
            again = rest;
        }
        Ok(bytes)
    }

    fn slice_at(&self, at: u64) -> Option<&[u8]> {
        let index = self.pieces.partition_point(|piece| piece.end() <= at);
        let (start, bytes) = match self.pieces.get(index) {
            Some(piece) => (piece.start, &piece.bytes[..]),
            None => (self.gathered_start(), &self.gathered[..]),
        };
        bytes
            .get(usize::try_from(at - start).ok()?..)
            .filter(|rest| !rest.is_empty())
    }

    fn append(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let large = bytes.len() >= REDO_PIECE_BYTES;
        if large || self.gathered.len() + bytes.len() > GATHER_BYTES {
            self.close_gathered();
        }
        let start = self.head.unwrap_or(0);
        self.head = Some(start + bytes.len() as u64);
        if large {
            self.piece_bytes += bytes.len();
            self.pieces.push_back(Piece { start, bytes });
        } else {
            if self.gathered.capacity() == 0 {
                self.gathered.reserve_exact(GATHER_BYTES);
            }
            self.gathered.extend_from_slice(&bytes);
        }
    }

    fn close_gathered(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let start = self.gathered_start();
        let mut gathered = std::mem::take(&mut self.gathered);
        gathered.shrink_to(gathered.len() * 5 / 4);
        self.piece_bytes += gathered.len();
        self.pieces.push_back(Piece {
            start,
            bytes: gathered.into(),
        });
    }

    fn evict(&mut self, bytes_max: usize) {
        while self.piece_bytes + self.gathered.len() > bytes_max {
            let Some(oldest) = self.pieces.pop_front() else {
                return;
            };
            self.piece_bytes -= oldest.bytes.len();
        }
    }

    /// Ends the buffer at `lsn`, which lies inside it.
    fn cut(&mut self, lsn: u64) {
        let gathered_start = self.gathered_start();
        let kept = usize::try_from(lsn.saturating_sub(gathered_start)).unwrap_or(usize::MAX);
        self.gathered.truncate(kept);
        while let Some(last) = self.pieces.back_mut().filter(|last| last.end() > lsn) {
            if last.start >= lsn {
                self.piece_bytes -= last.bytes.len();
                self.pieces.pop_back();
                continue;
            }
            let kept = usize::try_from(lsn - last.start).unwrap_or(usize::MAX);
            self.piece_bytes -= last.bytes.len() - kept;
            last.bytes.truncate(kept);
        }
        self.head = Some(lsn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wal(start: u64, end: u64) -> Bytes {
        (start..end).map(|at| (at % 251) as u8).collect()
    }

    fn check(buffer: &RedoBuffer, from: u64, bytes: usize) -> usize {
        let mut out = vec![0; bytes];
        let count = buffer.read(Lsn(from), &mut out);
        assert_eq!(out[..count], wal(from, from + count as u64)[..]);
        count
    }

    #[test]
    fn small_pieces_are_gathered_and_large_ones_kept() {
        let buffer = RedoBuffer::new(0);
        let mut at = 1000;
        for size in [10, 100, 20_000, 5, 70_000, 16_383, 16_384, 60_000, 1] {
            buffer.push(Lsn(at), wal(at, at + size)).unwrap();
            at += size;
        }
        assert_eq!(buffer.range(), Some((Lsn(1000), Lsn(at))));
        for from in (1000..at).step_by(997) {
            let mut read = from;
            while read < at {
                let count = check(&buffer, read, 30_000);
                assert!(count > 0, "{read}");
                read += count as u64;
            }
        }
        assert_eq!(check(&buffer, at, 10), 0);
        assert_eq!(check(&buffer, 999, 10), 0);
    }

    #[test]
    fn the_bound_holds() {
        let buffer = RedoBuffer::bounded(256 * 1024);
        let mut at = 0;
        for round in 0..2000 {
            let size = 1 + round * 7919 % 40_000;
            buffer.push(Lsn(at), wal(at, at + size)).unwrap();
            at += size;
            assert!(buffer.held_bytes() <= 256 * 1024);
            let (tail, head) = buffer.range().unwrap();
            assert_eq!(head, Lsn(at));
            assert_eq!(head.0 - tail.0, buffer.held_bytes() as u64);
        }
    }

    #[test]
    fn what_comes_again_must_be_the_same() {
        let buffer = RedoBuffer::new(0);
        buffer.push(Lsn(100), wal(100, 50_000)).unwrap();
        buffer.push(Lsn(50_000), wal(50_000, 50_100)).unwrap();
        buffer.push(Lsn(40_000), wal(40_000, 60_000)).unwrap();
        assert_eq!(buffer.range(), Some((Lsn(100), Lsn(60_000))));
        assert_eq!(check(&buffer, 49_000, 11_000), 11_000);
        let error = buffer.push(Lsn(59_000), wal(58_999, 61_000)).unwrap_err();
        assert_eq!(error, BufferError::Diverged(Lsn(59_000)));
    }

    #[test]
    fn a_gap_begins_anew() {
        let buffer = RedoBuffer::new(0);
        buffer.push(Lsn(100), wal(100, 200)).unwrap();
        buffer.push(Lsn(300), wal(300, 400)).unwrap();
        assert_eq!(buffer.range(), Some((Lsn(300), Lsn(400))));
        buffer.push(Lsn(200), wal(200, 210)).unwrap();
        assert_eq!(buffer.range(), Some((Lsn(200), Lsn(210))));
    }

    #[test]
    fn a_cut_takes_back() {
        for cut in [50, 100, 101, 20_000, 60_000, 80_050, 80_100, 90_000] {
            let buffer = RedoBuffer::new(0);
            buffer.push(Lsn(100), wal(100, 40_000)).unwrap();
            buffer.push(Lsn(40_000), wal(40_000, 80_000)).unwrap();
            buffer.push(Lsn(80_000), wal(80_000, 80_100)).unwrap();
            buffer.truncate_after(Lsn(cut));
            let head = cut.min(80_100);
            assert_eq!(buffer.range().unwrap().1, Lsn(head));
            assert_eq!(buffer.held_bytes() as u64, head.saturating_sub(100));
            buffer.push(Lsn(head), wal(head, head + 20_000)).unwrap();
            let from = head.saturating_sub(10).max(100.min(head));
            assert!(check(&buffer, from, 1000) > 0);
        }
    }

    #[test]
    fn a_waiting_reader_is_woken() {
        let buffer = RedoBuffer::new(0);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let began = Instant::now();
                buffer.wait(Lsn(100), Duration::from_secs(60));
                began.elapsed()
            });
            std::thread::sleep(Duration::from_millis(20));
            buffer.push(Lsn(100), wal(100, 101)).unwrap();
            assert!(waiter.join().unwrap() < Duration::from_secs(30));
        });
    }
}
