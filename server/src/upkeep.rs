//! What has to be looked after while a server runs: how much WAL is kept for whom, and whether the
//! cluster's history has been left.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redostream_engine::source::FileSource;
use redostream_protocol::Lsn;

use crate::live::Live;
use crate::restart_point::Head;
use crate::session::Registry;

/// How often forks are looked for.
const STEP: Duration = Duration::from_millis(100);
/// How often the rest is done.
const ROUND: Duration = Duration::from_secs(1);

/// What is kept, and for whom.
pub(crate) struct Upkeep {
    pub(crate) live: Arc<Live>,
    pub(crate) registry: Arc<Registry>,
    /// The files, if they are all there is: they tell of new timelines.
    pub(crate) files: Option<Arc<FileSource>>,
    /// WAL kept for subscribers to come.
    pub(crate) retain_bytes: u64,
    /// WAL kept for subscribers that do not come, at most; none for no bound.
    pub(crate) max_retained_bytes: Option<u64>,
}

impl Upkeep {
    /// Runs until the server stops.
    pub(crate) fn run(&self) {
        let mut given_up = HashSet::new();
        let mut forks = 0;
        let mut last = Instant::now().checked_sub(ROUND);
        while !self.live.stop.is_stopped() {
            if last.is_none_or(|last| last.elapsed() >= ROUND) {
                last = Some(Instant::now());
                self.look_for_timelines();
                self.retain(&mut given_up);
                self.live.gauges.compare(&self.live.counters);
                self.live.arenas.trim();
            }
            let upstream = &self.live.setting.upstream;
            if let (now, Some(at)) = upstream.forks_after(forks) {
                forks = now;
                self.registry.forked(at);
            }
            self.live.look_for_forks();
            let received = self.live.reached().received;
            self.live.gauges.sample(received, Instant::now());
            std::thread::sleep(STEP);
        }
    }

    /// Moves the slot to where WAL is still needed.
    fn retain(&self, given_up: &mut HashSet<String>) {
        let live = &self.live;
        let Some(received) = &live.setting.received else {
            return;
        };
        let end = received.received();
        let mut wanted = Vec::new();
        for (name, at) in self.registry.places() {
            let held = end.bytes_since(at);
            if self.max_retained_bytes.is_some_and(|most| held > most) {
                if given_up.insert(name.clone()) {
                    tracing::error!(
                        name, position = %at, held_bytes = held,
                        "WAL is no longer kept for this subscriber: it is further behind than \
                         --max-retained-wal allows; it is refused once the WAL is gone"
                    );
                }
                continue;
            }
            given_up.remove(&name);
            wanted.push(at);
        }
        wanted.push(Lsn(live.released().0.saturating_sub(self.retain_bytes)));
        if let Some(lsn) = needed_from(&live.restart_points.heads(), &wanted) {
            received.set_not_needed_before(lsn);
        }
    }

    /// Without an upstream, history files tell that the cluster went over to another timeline.
    fn look_for_timelines(&self) {
        let Some(files) = &self.files else {
            return;
        };
        let at = self.live.released();
        let history = files.history();
        match files.newer_timeline(at) {
            Ok(Some(newer)) => {
                let Some(left) = newer.end_of(history.timeline()) else {
                    return;
                };
                tracing::info!(timeline = %newer.timeline(), at = %left, "a newer timeline is there");
                self.live.setting.upstream.follow(left, newer.clone());
                files.follow(newer);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "timeline history files cannot be read"),
        }
    }
}

/// The LSN from which WAL is needed: that of the newest restart point from which everything in
/// `wanted` can be had; at the least that of the last but one, should the last be damaged. None
/// before there is any.
fn needed_from(points: &[Head], wanted: &[Lsn]) -> Option<Lsn> {
    let oldest = points.first()?;
    let spare = points.len().checked_sub(2).and_then(|at| points.get(at));
    let safe = spare.unwrap_or(oldest).next;
    let from = |at: &Lsn| {
        let mut newest_first = points.iter().rev();
        let found = newest_first.find(|point| point.covers <= *at);
        found.unwrap_or(oldest).next
    };
    let needed = wanted.iter().map(from).min().unwrap_or(safe);
    Some(needed.min(safe))
}

#[cfg(test)]
mod tests {
    use super::*;
    use redostream_protocol::TimelineId;

    fn points(lsns: &[u64]) -> Vec<Head> {
        let head = |lsn: &u64| Head {
            system_identifier: 1,
            next: Lsn(*lsn),
            covers: Lsn(*lsn),
            timeline: TimelineId(1),
            databases: Vec::new(),
            packs: Vec::new(),
            rows: Vec::new(),
        };
        lsns.iter().map(head).collect()
    }

    #[test]
    fn wal_is_kept_from_the_restart_point_of_whoever_is_furthest_behind() {
        let four = points(&[100, 200, 300, 400]);
        let needed = |wanted: &[u64]| {
            let wanted: Vec<Lsn> = wanted.iter().copied().map(Lsn).collect();
            needed_from(&four, &wanted)
        };
        assert_eq!(needed(&[450]), Some(Lsn(300)), "the last but one");
        assert_eq!(needed(&[]), Some(Lsn(300)));
        assert_eq!(needed(&[299, 450]), Some(Lsn(200)));
        assert_eq!(needed(&[200]), Some(Lsn(200)));
        assert_eq!(needed(&[50]), Some(Lsn(100)), "too old anyway");
        assert_eq!(needed_from(&points(&[100]), &[Lsn(500)]), Some(Lsn(100)));
        assert_eq!(needed_from(&[], &[Lsn(500)]), None);
    }
}
