//! Writes restart points, away from the pipeline, and decides when the next one is due.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redostream_engine::pipeline::RestartPoint;
use redostream_protocol::Lsn;
use rustc_hash::FxHashSet;

use super::Live;
use crate::restart_point::Draft;

/// WAL after which a restart point is due, unless set otherwise.
pub(crate) const WAL_BYTES: u64 = 64 << 20;
/// Time after which one is due, if there was any WAL.
const INTERVAL: Duration = Duration::from_secs(30);
/// No two come closer than this.
const PAUSE: Duration = Duration::from_secs(1);
/// How often one is tried again that could not be written.
const AGAIN: Duration = Duration::from_millis(500);
/// How long the last one waits for the one before it to be written.
const LAST_MAX: Duration = Duration::from_secs(15);

/// How writing goes.
pub(super) struct Saving {
    /// How long restart points may fail to be written before the server gives up.
    failing_max: Duration,
    busy: AtomicBool,
    /// Where the last one written begins.
    written: AtomicU64,
    /// How many were written.
    count: AtomicU64,
    /// Since when, and why, none could be written.
    failing: Mutex<Option<(Instant, String)>>,
}

impl Saving {
    /// Nothing has been written yet.
    pub(super) fn new(failing_max: Duration) -> Self {
        Self {
            failing_max,
            busy: AtomicBool::new(false),
            written: AtomicU64::new(0),
            count: AtomicU64::new(0),
            failing: Mutex::new(None),
        }
    }

    /// The restart point to begin from is the last one written.
    pub(super) fn begin(&self, lsn: Lsn) {
        self.written.store(lsn.0, Ordering::Release);
    }

    /// Why restart points cannot be written, if they cannot.
    pub(super) fn trouble(&self) -> Option<String> {
        let failing = self.failing.lock();
        failing
            .as_ref()
            .map(|(_, why)| format!("room for restart points ({why})"))
    }

    /// Whether decoding has to pause: a restart point is tried again and again.
    pub(super) fn is_stuck(&self) -> bool {
        self.busy.load(Ordering::Acquire) && self.failing.lock().is_some()
    }

    /// Why restart points could not be written for so long that there is no going on.
    pub(super) fn given_up(&self) -> Option<String> {
        let failing = self.failing.lock();
        let (since, why) = failing.as_ref()?;
        (since.elapsed() > self.failing_max).then(|| {
            let seconds = self.failing_max.as_secs();
            format!("no restart point could be written for {seconds} s: {why}")
        })
    }
}

/// Says when a restart point is due; belongs to who releases blocks.
pub(super) struct Due {
    wal_bytes: u64,
    asked: Instant,
    asked_at: Lsn,
}

impl Due {
    /// Due after `wal_bytes` bytes, counted from `at`.
    pub(super) fn new(wal_bytes: u64, at: Lsn) -> Self {
        Due {
            wal_bytes,
            asked: Instant::now(),
            asked_at: at,
        }
    }

    /// Whether to ask for one, now that everything before `released` is out.
    pub(super) fn is_now(&mut self, released: Lsn, saving: &Saving) -> bool {
        let wal = released.bytes_since(self.asked_at);
        if wal == 0 || saving.busy.load(Ordering::Acquire) {
            return false;
        }
        let since = self.asked.elapsed();
        let failing = saving.failing.lock().is_some();
        let due = wal >= self.wal_bytes || since >= INTERVAL || failing;
        if due && since >= PAUSE {
            *self = Due::new(self.wal_bytes, released);
            return true;
        }
        false
    }
}

/// Hands a restart point to the writer; one that comes while another is being written is dropped,
/// and asked for again.
pub(super) fn hand_over(point: RestartPoint, to: &SyncSender<RestartPoint>, saving: &Saving) {
    if saving.busy.swap(true, Ordering::AcqRel) {
        return;
    }
    let sent = to.try_send(point);
    if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = sent {
        saving.busy.store(false, Ordering::Release);
    }
}

/// Hands over the last one: nothing comes after it, so it waits for one that is being written.
pub(super) fn hand_over_last(point: RestartPoint, to: &SyncSender<RestartPoint>, saving: &Saving) {
    let since = Instant::now();
    while saving.busy.swap(true, Ordering::AcqRel) {
        if since.elapsed() > LAST_MAX {
            tracing::error!("no last restart point: the one before it cannot be written");
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    if saving.written.load(Ordering::Acquire) == point.gate.next.0 || to.send(point).is_err() {
        saving.busy.store(false, Ordering::Release);
    }
}

/// Writes restart points until nobody sends any.
pub(super) fn run(live: &Live, points: &Receiver<RestartPoint>) {
    let mut needed = FxHashSet::default();
    for point in points {
        let mut draft = Draft::new(point);
        let written = write(live, &mut draft);
        live.saving.busy.store(false, Ordering::Release);
        if written {
            let (next, open) = (draft.gate.next, draft.assembly.relations());
            // The structures that it holds must not count as held.
            drop(draft);
            needed = live.let_go_of_relations(next, open, needed);
        }
    }
}

/// Writes one; as long as there is no room, again and again. Gives up when the server stops or has
/// given up, or when it cannot be tried again.
fn write(live: &Live, draft: &mut Draft) -> bool {
    let saving = &live.saving;
    let (lsn, since) = (draft.gate.next, Instant::now());
    let open = draft.assembly.open().count();
    let mut told = false;
    loop {
        let at_hand = |lsn| live.is_at_hand(lsn);
        let error = match live.restart_points.store(draft, at_hand) {
            Ok(head) => {
                let took = since.elapsed();
                tracing::info!(
                    %lsn, open_transactions = open, rows = head.rows.len(),
                    ms = took.as_millis(), "restart point written"
                );
                saving.written.store(lsn.0, Ordering::Release);
                saving.count.fetch_add(1, Ordering::Relaxed);
                *saving.failing.lock() = None;
                live.tell_earliest();
                return true;
            }
            Err(error) => error,
        };
        if !std::mem::replace(&mut told, true) {
            tracing::error!(%error, %lsn, "a restart point cannot be written; decoding waits");
        }
        {
            let mut failing = saving.failing.lock();
            let since = failing.as_ref().map_or(since, |(since, _)| *since);
            *failing = Some((since, error.to_string()));
        }
        if saving.given_up().is_some() {
            live.give_up();
        }
        if live.stop.is_stopped() || saving.given_up().is_some() || !draft.is_whole() {
            return false;
        }
        std::thread::sleep(AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wal_or_time_makes_one_due() {
        let saving = Saving::new(INTERVAL);
        let mut due = Due::new(WAL_BYTES, Lsn(1000));
        let long_ago = Instant::now().checked_sub(PAUSE).unwrap();
        assert!(!due.is_now(Lsn(1000 + WAL_BYTES), &saving), "too soon");
        due.asked = long_ago;
        assert!(!due.is_now(Lsn(999 + WAL_BYTES), &saving), "too little");
        assert!(due.is_now(Lsn(1000 + WAL_BYTES), &saving));
        assert_eq!(due.asked_at, Lsn(1000 + WAL_BYTES));
        due.asked = Instant::now().checked_sub(INTERVAL).unwrap();
        assert!(!due.is_now(Lsn(1000 + WAL_BYTES), &saving), "nothing new");
        saving.busy.store(true, Ordering::Release);
        assert!(!due.is_now(Lsn(1001 + WAL_BYTES), &saving), "under way");
        saving.busy.store(false, Ordering::Release);
        assert!(due.is_now(Lsn(1001 + WAL_BYTES), &saving));
    }
}
