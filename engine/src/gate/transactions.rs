//! Which subtransaction belongs to which transaction, and which have been rolled back while their
//! transaction still runs.

use redostream_protocol::Xid;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

/// The transactions that the log has shown and not yet ended.
///
/// Only subtransactions need an entry: an xid that is not here is its own top.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Transactions {
    top_of: FxHashMap<Xid, Xid>,
    children: FxHashMap<Xid, Vec<Xid>>,
    aborted: FxHashSet<Xid>,
}

impl Transactions {
    /// Learns that `sub` runs inside `top`.
    // The first record of a subtransaction carries its top's xid at wal_level = logical.
    // pg: access/xloginsert.c XLogRecordAssemble, access/xact.h xl_xact_assignment [14-18]
    pub fn assign(&mut self, sub: Xid, top: Xid) {
        if sub != top && self.top_of.insert(sub, top).is_none() {
            self.children.entry(top).or_default().push(sub);
        }
    }

    /// The top-level transaction of `xid`.
    #[must_use]
    #[inline]
    pub fn top_of(&self, xid: Xid) -> Xid {
        if self.top_of.is_empty() {
            return xid;
        }
        self.top_of.get(&xid).copied().unwrap_or(xid)
    }

    /// The top of what an abort record rolls back: `xid` with `children`. A subtransaction that has
    /// written nothing itself is first heard of there, and only its children tell whose it is.
    #[must_use]
    pub fn top_of_aborted(&self, xid: Xid, children: &[Xid]) -> Xid {
        let top = self.top_of(xid);
        if top != xid {
            return top;
        }
        let mut of_children = children.iter().filter_map(|sub| {
            let top = self.top_of(*sub);
            (top != *sub).then_some(top)
        });
        of_children.next().unwrap_or(xid)
    }

    /// Whether `xid` is a rolled-back subtransaction of a transaction that still runs.
    #[must_use]
    pub fn is_aborted(&self, xid: Xid) -> bool {
        self.aborted.contains(&xid)
    }

    /// The subtransactions seen of `top`, rolled back or not.
    #[must_use]
    pub fn children(&self, top: Xid) -> &[Xid] {
        self.children.get(&top).map_or(&[], Vec::as_slice)
    }

    /// Subtransactions were rolled back while their top goes on.
    pub fn abort_subtransactions(&mut self, subs: impl IntoIterator<Item = Xid>) {
        for sub in subs {
            if self.top_of.contains_key(&sub) {
                self.aborted.insert(sub);
            }
        }
    }

    /// The top-level transaction ended; everything of it is forgotten.
    pub fn end(&mut self, top: Xid) {
        for sub in self.children.remove(&top).unwrap_or_default() {
            self.top_of.remove(&sub);
            self.aborted.remove(&sub);
        }
    }

    /// Top-level transactions that have subtransactions.
    pub fn tops(&self) -> impl Iterator<Item = Xid> + '_ {
        self.children.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a subtransaction's children released to it goes with it, also where it has written
    /// nothing itself and nobody has heard of it before; the assignment record that names them all
    /// again later brings nothing back.
    // pg: access/transam/xact.c AssignTransactionId: aborted subtransactions stay in its list [14-18]
    #[test]
    fn an_assignment_after_a_rollback_brings_nothing_back() {
        let (top, parent, child) = (Xid(700), Xid(701), Xid(702));
        let mut transactions = Transactions::default();
        transactions.assign(child, top);
        assert_eq!(transactions.top_of_aborted(parent, &[child]), top);
        assert_eq!(transactions.top_of_aborted(child, &[]), top);
        assert_eq!(transactions.top_of_aborted(Xid(710), &[]), Xid(710));
        transactions.assign(parent, top);
        transactions.abort_subtransactions([parent, child]);
        for sub in [parent, child] {
            transactions.assign(sub, top);
            assert_eq!(transactions.top_of(sub), top);
            assert!(transactions.is_aborted(sub));
        }
        transactions.end(top);
        assert!(!transactions.is_aborted(child));
    }
}
