//! Pages of a timeline that is not followed, in files that are still being written: they are not
//! taken for the log, and are read again once they are what they should be.

use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redostream_engine::pipeline::Counters;

use crate::flips::{Events, Laid};

const PAGE: usize = 8192;

/// Says that every page from `first` on is of `timeline`; from the back, so that a reader who waits
/// at the first sees all that follow.
fn number_pages(laid: &Laid, first: usize, timeline: u32) {
    for (number, segment) in laid.segments.iter().enumerate().rev() {
        let from = if number == 0 { first } else { 0 };
        for page in (from..segment.meaning.len() / PAGE).rev() {
            let at = (page * PAGE) as u64 + 4;
            let bytes = timeline.to_le_bytes();
            segment.file.write_all_at(&bytes, at).unwrap();
        }
    }
}

#[test]
fn pages_of_a_timeline_that_is_not_followed_are_waited_for() {
    let laid = Laid::new(15, "bulk");
    let read = laid.segments[0].meaning.read.clone();
    let middle = (read.start + read.len() / 2) / PAGE;
    for timeline in [2, 0] {
        number_pages(&laid, middle, timeline);
        let counters = Counters::default();
        let mut events = Events::default();
        std::thread::scope(|scope| {
            let run = scope.spawn(|| laid.run(&mut events, false, &counters));
            let decoded = || counters.decoded_lsn.load(Ordering::Relaxed) as usize;
            while decoded() == 0 && !run.is_finished() {
                std::thread::sleep(Duration::from_millis(10));
            }
            // However long this takes, the pages are not passed.
            std::thread::sleep(Duration::from_millis(300));
            let waits = !run.is_finished();
            let page = decoded() % laid.segment_bytes() / PAGE;
            number_pages(&laid, middle, 1);
            run.join().unwrap().unwrap();
            assert!(waits && page <= middle, "page {page}, not {middle}");
        });
        assert!(events.0 == laid.truth, "timeline {timeline}");
    }
}
