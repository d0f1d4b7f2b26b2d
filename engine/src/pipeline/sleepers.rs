//! Where workers sleep that find nothing to do. As many are woken as there is something new to do
//! for, not all: with many cores, waking all for every chunk costs more than the chunk.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

/// How often one worker of a pipeline that has nothing to do looks again by itself: for a stop that
/// was asked for, for who asks for the catalogs.
pub(super) const IDLE: Duration = Duration::from_millis(50);

/// The workers that sleep.
#[derive(Debug)]
pub(super) struct Sleepers {
    /// Counts what came up to do. Who looked in vain at one count sleeps only while it stands, so
    /// that nothing that comes up meanwhile is slept through.
    changes: AtomicU64,
    /// How many sleep: most often there is no use in taking the lock.
    asleep: AtomicUsize,
    /// Who sleeps. The last one is woken first, whose caches are warmest: where two are enough it
    /// is always the same two.
    stack: Mutex<Vec<usize>>,
    wake: Vec<Condvar>,
    idle: Duration,
    /// Held by the one worker that waits for more of the log.
    at_source: Mutex<()>,
}

/// Up to where a worker has seen what came up to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen(u64);

impl Sleepers {
    /// For so many workers; one of them looks again by itself every `idle`.
    pub(super) fn new(workers: usize, idle: Duration) -> Self {
        Self {
            changes: AtomicU64::new(0),
            asleep: AtomicUsize::new(0),
            stack: Mutex::new(Vec::with_capacity(workers)),
            wake: (0..workers).map(|_| Condvar::new()).collect(),
            idle,
            at_source: Mutex::new(()),
        }
    }

    /// To be asked before looking for something to do, and whether all is over.
    pub(super) fn seen(&self) -> Seen {
        Seen(self.changes.load(Ordering::SeqCst))
    }

    /// Something to do has come up for `count` workers; it can be found already.
    pub(super) fn wake(&self, count: usize) {
        if count == 0 {
            return;
        }
        // In one order with the two steps of `sleep`: one of both sees the other.
        self.changes.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) > 0 {
            self.wake_from(count);
        }
    }

    /// Something has come up that concerns all.
    pub(super) fn wake_all(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.wake_from(usize::MAX);
    }

    fn wake_from(&self, count: usize) {
        let mut stack = self.stack.lock();
        let staying = stack.len().saturating_sub(count);
        for worker in stack.drain(staying..) {
            self.wake[worker].notify_one();
        }
        self.asleep.store(stack.len(), Ordering::SeqCst);
    }

    /// Has `worker` sleep, unless something came up after `seen`. Each sleeper looks again by itself
    /// the later the more there are, so that there is always one who will soon.
    pub(super) fn sleep(&self, worker: usize, seen: Seen) {
        let mut stack = self.stack.lock();
        self.asleep.store(stack.len() + 1, Ordering::SeqCst);
        if self.changes.load(Ordering::SeqCst) == seen.0 {
            stack.push(worker);
            let asleep = u32::try_from(stack.len()).unwrap_or(u32::MAX);
            let until = Instant::now() + self.idle.saturating_mul(asleep);
            while stack.contains(&worker)
                && !self.wake[worker].wait_until(&mut stack, until).timed_out()
            {}
            stack.retain(|asleep| *asleep != worker);
        }
        self.asleep.store(stack.len(), Ordering::SeqCst);
    }

    /// The place of the one worker that waits for more of the log, unless it is taken.
    pub(super) fn place_at_source(&self) -> Option<MutexGuard<'_, ()>> {
        self.at_source.try_lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody looks again by itself as long as a test lasts.
    const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn who_has_not_seen_the_last_change_does_not_sleep() {
        let sleepers = Sleepers::new(1, NEVER);
        let seen = sleepers.seen();
        sleepers.wake(1);
        sleepers.sleep(0, seen);
        assert!(sleepers.stack.lock().is_empty());
    }

    #[test]
    fn who_is_not_woken_looks_again_by_itself() {
        let sleepers = Sleepers::new(1, Duration::from_millis(1));
        sleepers.sleep(0, sleepers.seen());
        assert!(sleepers.stack.lock().is_empty());
        assert_eq!(sleepers.asleep.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn the_last_to_sleep_wakes_first_and_no_more_than_are_needed() {
        let sleepers = Sleepers::new(8, NEVER);
        *sleepers.stack.lock() = vec![4, 2, 7, 1];
        sleepers.asleep.store(4, Ordering::SeqCst);
        sleepers.wake(0);
        sleepers.wake(2);
        assert_eq!(*sleepers.stack.lock(), [4, 2]);
        sleepers.wake(3);
        assert!(sleepers.stack.lock().is_empty());
    }

    #[test]
    fn no_wake_up_is_lost() {
        const WORKERS: usize = 3;
        const ROUNDS: usize = 200_000;
        let sleepers = Sleepers::new(WORKERS, NEVER);
        let there = AtomicUsize::new(0);
        let taken = AtomicUsize::new(0);
        let take = |left: usize| left.checked_sub(1);
        std::thread::scope(|scope| {
            for worker in 0..WORKERS {
                let (sleepers, there, taken) = (&sleepers, &there, &taken);
                scope.spawn(move || {
                    while taken.load(Ordering::SeqCst) < ROUNDS {
                        let seen = sleepers.seen();
                        if there
                            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
                            .is_err()
                        {
                            sleepers.sleep(worker, seen);
                        } else if taken.fetch_add(1, Ordering::SeqCst) + 1 == ROUNDS {
                            sleepers.wake_all();
                        }
                    }
                });
            }
            for brought in 1..=ROUNDS {
                there.fetch_add(1, Ordering::SeqCst);
                sleepers.wake(1);
                // One at a time, so that all are asleep again and again.
                while taken.load(Ordering::SeqCst) < brought {
                    let asleep = sleepers.stack.lock().len();
                    let left = there.load(Ordering::SeqCst);
                    if asleep == WORKERS && left > 0 {
                        taken.store(ROUNDS, Ordering::SeqCst);
                        sleepers.wake_all();
                        panic!("round {brought}: there is something to do, and all sleep");
                    }
                }
            }
        });
    }
}
