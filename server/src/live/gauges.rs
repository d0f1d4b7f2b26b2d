//! What is measured of a running server beyond plain counters: how far behind it is in time, and
//! which stage works most.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redostream_engine::pipeline::{Counters, STAGES};
use redostream_protocol::Lsn;

/// Samples of how far was received when; with one each 100 ms this is some ten minutes.
const SAMPLES_MAX: usize = 6000;

/// See the file's head.
#[derive(Default)]
pub(crate) struct Gauges {
    samples: Mutex<VecDeque<(Lsn, Instant)>>,
    busy: Mutex<([u64; STAGES.len()], Option<&'static str>)>,
    /// WAL decoded by catch-up pipelines.
    pub(crate) catch_up_bytes: AtomicU64,
    /// Nanoseconds that sessions spent on blocks, and waited for blocks.
    pub(crate) session_ns: [AtomicU64; 2],
    /// Nanoseconds that releasing into the feed took.
    pub(crate) feed_ns: AtomicU64,
    /// Rows that could not be decoded, by table.
    pub(crate) undecodable: Mutex<BTreeMap<String, u64>>,
}

impl Gauges {
    /// WAL up to `received` is here now.
    pub(crate) fn sample(&self, received: Lsn, now: Instant) {
        let mut samples = self.samples.lock();
        if samples.back().is_some_and(|(lsn, _)| *lsn >= received) {
            return;
        }
        if samples.len() >= SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back((received, now));
    }

    /// How long ago the first WAL came that is not released.
    pub(crate) fn lag(&self, released: Lsn, now: Instant) -> Duration {
        let mut samples = self.samples.lock();
        let first = samples.partition_point(|(lsn, _)| *lsn <= released);
        samples.drain(..first);
        let oldest = samples.front();
        oldest.map_or(Duration::ZERO, |(_, at)| now.saturating_duration_since(*at))
    }

    /// Notes which stage has worked most since the last call.
    pub(crate) fn compare(&self, counters: &Counters) {
        let now = std::array::from_fn(|stage| counters.busy_ns[stage].load(Ordering::Relaxed));
        let mut busy = self.busy.lock();
        let spent = |stage: &usize| now[*stage] - busy.0[*stage];
        let most = (0..STAGES.len()).max_by_key(spent);
        let most = most.filter(|stage| spent(stage) > 0);
        *busy = (now, most.map(|stage| STAGES[stage]));
    }

    /// The stage that has worked most of late.
    pub(crate) fn busiest(&self) -> Option<&'static str> {
        self.busy.lock().1
    }
}

#[cfg(test)]
mod tests {
    use redostream_engine::pipeline::Stage;

    use super::*;

    #[test]
    fn lag_is_the_age_of_what_is_not_released() {
        let gauges = Gauges::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        for (lsn, seconds) in [(100, 0), (100, 1), (200, 2), (300, 5)] {
            gauges.sample(Lsn(lsn), at(seconds));
        }
        assert_eq!(gauges.lag(Lsn(50), at(10)), Duration::from_secs(10));
        assert_eq!(gauges.lag(Lsn(100), at(10)), Duration::from_secs(8));
        assert_eq!(gauges.lag(Lsn(250), at(10)), Duration::from_secs(5));
        assert_eq!(gauges.lag(Lsn(300), at(10)), Duration::ZERO);
    }

    #[test]
    fn the_stage_that_worked_most_is_named() {
        let (gauges, counters) = (Gauges::default(), Counters::default());
        gauges.compare(&counters);
        assert_eq!(gauges.busiest(), None);
        counters.busy_ns[Stage::Decoding as usize].store(50, Ordering::Relaxed);
        counters.busy_ns[Stage::Framing as usize].store(20, Ordering::Relaxed);
        gauges.compare(&counters);
        assert_eq!(gauges.busiest(), Some("decoding"));
        counters.busy_ns[Stage::Framing as usize].store(40, Ordering::Relaxed);
        gauges.compare(&counters);
        assert_eq!(gauges.busiest(), Some("framing"));
    }
}
