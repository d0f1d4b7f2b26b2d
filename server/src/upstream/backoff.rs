//! How long to wait before connecting again: twice as long each time, up to a bound.

use std::time::Duration;

/// The next waiting time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(least: Duration, most: Duration) -> Self {
        Self {
            least,
            most,
            next: least,
        }
    }

    /// The time to wait now.
    pub(super) fn take(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.most);
        now
    }

    /// It worked: the next failure is the first again.
    pub(super) fn reset(&mut self) {
        self.next = self.least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_its_bound_and_begins_again() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let taken: Vec<u128> = (0..6).map(|_| backoff.take().as_millis()).collect();
        assert_eq!(taken, [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.take().as_millis(), 100);
    }
}
