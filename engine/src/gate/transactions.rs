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
