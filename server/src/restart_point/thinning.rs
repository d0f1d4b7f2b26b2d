//! Which restart points are let go.

use redostream_protocol::Lsn;

/// Of older restart points one is kept for so many bytes of WAL.
const SPAN_BYTES: u64 = 1 << 30;
/// The newest so many always stay: should one be damaged, there is the one before.
pub(super) const ALWAYS_KEPT: usize = 2;

/// A restart point that is there: where decoding goes on, and what it takes on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) next: Lsn,
    pub(super) bytes: u64,
}

/// The restart points that go. `kept` rises by LSN; `is_at_hand` says whether WAL there can still
/// be read; together they may take `bytes_max` bytes, the newest ones aside.
pub(super) fn surplus(kept: &[Kept], is_at_hand: impl Fn(Lsn) -> bool, bytes_max: u64) -> Vec<Lsn> {
    let older = &kept[..kept.len().saturating_sub(ALWAYS_KEPT)];
    let mut surplus = Vec::new();
    let mut stay: Vec<Kept> = Vec::new();
    let mut reachable = false;
    for point in older {
        // WAL is removed from the oldest on.
        reachable = reachable || is_at_hand(point.next);
        let of_its_own = stay
            .last()
            .is_none_or(|last| last.next.0 / SPAN_BYTES != point.next.0 / SPAN_BYTES);
        if reachable && of_its_own {
            stay.push(*point);
        } else {
            surplus.push(point.next);
        }
    }
    let newest: u64 = kept[older.len()..].iter().map(|point| point.bytes).sum();
    let mut total = newest + stay.iter().map(|point| point.bytes).sum::<u64>();
    for point in stay {
        if total <= bytes_max {
            break;
        }
        total -= point.bytes;
        surplus.push(point.next);
    }
    surplus.sort_unstable();
    surplus
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(gigabytes: &[u64]) -> Vec<Kept> {
        let point = |tenths: &u64| Kept {
            next: Lsn(tenths * (SPAN_BYTES / 10)),
            bytes: 100,
        };
        gigabytes.iter().map(point).collect()
    }

    fn left(kept: &[Kept], surplus: &[Lsn]) -> Vec<u64> {
        let stay = kept.iter().filter(|point| !surplus.contains(&point.next));
        stay.map(|point| point.next.0 / (SPAN_BYTES / 10)).collect()
    }

    #[test]
    fn one_stays_for_each_gigabyte_and_the_last_two() {
        let kept = points(&[1, 4, 9, 11, 12, 25, 31, 32, 33]);
        let surplus = surplus(&kept, |_| true, u64::MAX);
        assert_eq!(left(&kept, &surplus), [1, 11, 25, 31, 32, 33]);
    }

    #[test]
    fn those_whose_wal_is_gone_go_but_never_the_last_two() {
        let kept = points(&[1, 11, 21, 31, 41]);
        let later = |lsn: Lsn| lsn >= Lsn(2 * SPAN_BYTES);
        assert_eq!(left(&kept, &surplus(&kept, later, u64::MAX)), [21, 31, 41]);
        assert_eq!(left(&kept, &surplus(&kept, |_| false, 0)), [31, 41]);
        assert!(surplus(&points(&[1]), |_| false, 0).is_empty());
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room() {
        let kept = points(&[1, 11, 21, 31, 41]);
        assert_eq!(left(&kept, &surplus(&kept, |_| true, 350)), [21, 31, 41]);
    }
}
