//! How it goes, on a terminal's standard error while standard output goes elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar};
use redostream_client::Subscription;
use redostream_client::protocol::Lsn;

const EVERY: Duration = Duration::from_millis(500);

/// A line that is written over again and again; or nothing.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    shown: Instant,
    rows: u64,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let wanted = std::io::stderr().is_terminal() && !std::io::stdout().is_terminal();
        Progress {
            bar: wanted.then(ProgressBar::new_spinner),
            shown: Instant::now(),
            rows: 0,
        }
    }

    /// Shows how far `subscription` is, now and then.
    pub(crate) fn show(&mut self, subscription: &Subscription) {
        let Some(bar) = &self.bar else {
            return;
        };
        let passed = self.shown.elapsed();
        if passed < EVERY {
            return;
        }
        let totals = subscription.totals();
        let rate = (totals.rows - self.rows) as f64 / passed.as_secs_f64();
        let lag = subscription.received().bytes_since(reached(subscription));
        bar.set_message(format!(
            "{} transactions, {} rows, {} rows/s, {} behind",
            HumanCount(totals.transactions),
            HumanCount(totals.rows),
            HumanCount(rate as u64),
            HumanBytes(lag),
        ));
        bar.tick();
        self.shown = Instant::now();
        self.rows = totals.rows;
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How far the subscription is. Only heartbeats say what is released: before the first, what has
/// come, or where it began.
fn reached(subscription: &Subscription) -> Lsn {
    let start = subscription.start().map(|start| start.lsn());
    let last = subscription.position().map(|last| last.commit_lsn);
    let reached = start.max(last).unwrap_or_default();
    reached.max(subscription.released())
}
