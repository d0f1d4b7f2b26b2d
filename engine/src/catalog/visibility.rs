//! Whether a transaction sees a tuple at this point of the log.
//!
//! Nothing here knows snapshots or command ids: at its place in the log a transaction sees what it
//! wrote before that place, and what had committed. What others have not committed is never seen,
//! so "still running" and "rolled back" need not be told apart.

use redostream_protocol::Xid;

use super::commit_log::{CommitLog, XidStatus};
use super::multixact::Multixacts;
use super::tuple::{self, infomask};
use crate::gate::transactions::Transactions;

/// Who looks, and what is known of everybody else.
#[derive(Clone, Copy)]
pub(crate) struct Visibility<'a> {
    /// Top-level transaction that looks; none sees committed rows only.
    pub(crate) viewer: Option<Xid>,
    pub(crate) transactions: &'a Transactions,
    pub(crate) commit_log: &'a CommitLog,
    pub(crate) multixacts: &'a Multixacts,
}

impl Visibility<'_> {
    /// Whether the tuple is seen.
    pub(crate) fn sees(&self, tuple: &[u8]) -> bool {
        self.inserted(tuple) && !self.deleted(tuple)
    }

    /// Whether the tuple's inserter is seen, whoever deleted it. TOAST chunks are read so: who
    /// sees the pointer sees the chunks.
    // pg: access/heap/heapam_visibility.c HeapTupleSatisfiesToast [14-18]
    pub(crate) fn inserted(&self, tuple: &[u8]) -> bool {
        let bits = tuple::mask(tuple);
        let xmin = tuple::xmin(tuple);
        if bits & infomask::XMIN_FROZEN == infomask::XMIN_FROZEN {
            return true;
        }
        if !xmin.is_normal() {
            // Bootstrap and frozen are in; no xmin at all is a withdrawn speculative insert.
            return xmin.is_valid();
        }
        if let Some(own) = self.own(xmin) {
            return own;
        }
        match self.commit_log.get(xmin) {
            XidStatus::Committed => true,
            XidStatus::Aborted => false,
            // A hint may be the only trace of an old transaction; it is never set before the end
            // of its transaction is in the log.
            XidStatus::InProgress | XidStatus::SubCommitted => {
                bits & infomask::XMIN_FROZEN == infomask::XMIN_COMMITTED
            }
        }
    }

    fn deleted(&self, tuple: &[u8]) -> bool {
        let bits = tuple::mask(tuple);
        if bits & infomask::XMAX_INVALID != 0 || tuple::is_lock_only(bits) {
            return false;
        }
        let raw = tuple::xmax(tuple);
        let deleter = if bits & infomask::XMAX_IS_MULTI != 0 {
            self.multixacts.updater(raw.0)
        } else {
            Some(raw)
        };
        let Some(deleter) = deleter.filter(|xid| xid.is_normal()) else {
            return false;
        };
        if let Some(own) = self.own(deleter) {
            return own;
        }
        match self.commit_log.get(deleter) {
            XidStatus::Committed => true,
            XidStatus::Aborted => false,
            XidStatus::InProgress | XidStatus::SubCommitted => {
                bits & infomask::XMAX_IS_MULTI == 0 && bits & infomask::XMAX_COMMITTED != 0
            }
        }
    }

    /// Whether a change of `xid` counts, if `xid` belongs to the viewer.
    fn own(&self, xid: Xid) -> Option<bool> {
        let viewer = self.viewer?;
        (self.transactions.top_of(xid) == viewer).then(|| !self.transactions.is_aborted(xid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tuple::{LoggedHeader, build, set_deleter, set_mask};

    struct World {
        transactions: Transactions,
        commit_log: CommitLog,
        multixacts: Multixacts,
    }

    impl World {
        fn sees(&self, viewer: Option<u32>, tuple: &[u8]) -> bool {
            let visibility = Visibility {
                viewer: viewer.map(Xid),
                transactions: &self.transactions,
                commit_log: &self.commit_log,
                multixacts: &self.multixacts,
            };
            visibility.sees(tuple)
        }
    }

    fn world() -> World {
        let mut world = World {
            transactions: Transactions::default(),
            commit_log: CommitLog::default(),
            multixacts: Multixacts::default(),
        };
        world.commit_log.set(Xid(100), XidStatus::Committed);
        world.commit_log.set(Xid(101), XidStatus::Aborted);
        world.transactions.assign(Xid(201), Xid(200));
        world.transactions.assign(Xid(202), Xid(200));
        world.transactions.abort_subtransactions([Xid(202)]);
        world
    }

    fn tuple(xmin: u32, mask: u16) -> Vec<u8> {
        let header = LoggedHeader {
            mask2: 1,
            mask,
            hoff: 24,
        };
        build(header, Xid(xmin), Xid(0), (0, 1), &[&[0; 5]])
    }

    #[test]
    fn inserters() {
        let world = world();
        let none = infomask::XMAX_INVALID;
        for (xmin, mask, others, own) in [
            (100, none, true, true),
            (101, none, false, false),
            (1, none, true, true),
            (2, none, true, true),
            (0, none, false, false),
            (101, none | infomask::XMIN_FROZEN, true, true),
            (50, none | infomask::XMIN_COMMITTED, true, true),
            (50, none | infomask::XMIN_INVALID, false, false),
            (200, none, false, true),
            (201, none, false, true),
            (202, none, false, false),
            (300, none, false, false),
        ] {
            let bytes = tuple(xmin, mask);
            assert_eq!(world.sees(None, &bytes), others, "{xmin} {mask:x}");
            assert_eq!(world.sees(Some(200), &bytes), own, "{xmin} {mask:x}");
        }
    }

    #[test]
    fn deleters() {
        let mut world = world();
        let mut main = Vec::new();
        for word in [9_u32, 1, 2, 100, 5, 300, 0] {
            main.extend_from_slice(&word.to_le_bytes());
        }
        world.multixacts.replay(0x20, &main).unwrap();
        // infobits: 1 multi, 2 lock only, 4 exclusive
        for (xmax, infobits, others, own) in [
            (100, 0, false, false),
            (101, 0, true, true),
            (100, 6, true, true),
            (200, 0, true, false),
            (202, 0, true, true),
            (300, 0, true, true),
            (9, 1, false, false),
            (8, 1, true, true),
        ] {
            let mut bytes = tuple(100, 0);
            set_deleter(&mut bytes, Xid(xmax), infobits);
            assert_eq!(world.sees(None, &bytes), others, "{xmax} {infobits}");
            assert_eq!(world.sees(Some(200), &bytes), own, "{xmax} {infobits}");
        }
        let mut bytes = tuple(100, 0);
        set_deleter(&mut bytes, Xid(60), 0);
        let hinted = tuple::mask(&bytes) | infomask::XMAX_COMMITTED;
        assert!(world.sees(None, &bytes));
        set_mask(&mut bytes, hinted);
        assert!(!world.sees(None, &bytes));
    }
}
