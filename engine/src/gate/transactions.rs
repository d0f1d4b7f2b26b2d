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
    top_of: TopOf,
    children: FxHashMap<Xid, Vec<Xid>>,
    aborted: FxHashSet<Xid>,
}

impl Transactions {
    /// Learns that `sub` runs inside `top`.
    // The first record of a subtransaction carries its top's xid at wal_level = logical.
    // pg: access/xloginsert.c XLogRecordAssemble, access/xact.h xl_xact_assignment [14-18]
    pub fn assign(&mut self, sub: Xid, top: Xid) {
        if sub != top && top.is_valid() && self.top_of.insert(sub, top) {
            self.children.entry(top).or_default().push(sub);
        }
    }

    /// The top-level transaction of `xid`.
    #[must_use]
    #[inline]
    pub fn top_of(&self, xid: Xid) -> Xid {
        self.top_of.get(xid).unwrap_or(xid)
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
            if self.top_of.get(sub).is_some() {
                self.aborted.insert(sub);
            }
        }
    }

    /// The top-level transaction ended; everything of it is forgotten.
    pub fn end(&mut self, top: Xid) {
        for sub in self.children.remove(&top).unwrap_or_default() {
            self.top_of.remove(sub);
            if !self.aborted.is_empty() {
                self.aborted.remove(&sub);
            }
        }
    }

    /// Top-level transactions that have subtransactions.
    pub fn tops(&self) -> impl Iterator<Item = Xid> + '_ {
        self.children.keys().copied()
    }
}

/// Subtransactions of one page.
const PAGE: u32 = 256;

/// The tops of subtransactions. Xids are given out one after the other, and mostly end so: they are
/// kept in pages, and a page is let go with its last one. The page that was changed last is at hand.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<(Xid, Xid)>", into = "Vec<(Xid, Xid)>")]
struct TopOf {
    /// With its number.
    at_hand: Option<(u32, Box<Page>)>,
    others: FxHashMap<u32, Box<Page>>,
}

#[derive(Clone, Debug)]
struct Page {
    used: u32,
    /// By xid; invalid where there is none.
    tops: [Xid; PAGE as usize],
}

impl Default for Page {
    fn default() -> Self {
        Page {
            used: 0,
            tops: [Xid::INVALID; PAGE as usize],
        }
    }
}

impl TopOf {
    #[inline]
    fn get(&self, sub: Xid) -> Option<Xid> {
        let number = sub.0 / PAGE;
        let page = match &self.at_hand {
            Some((at_hand, page)) if *at_hand == number => page,
            _ => self.others.get(&number)?,
        };
        let top = page.tops[(sub.0 % PAGE) as usize];
        top.is_valid().then_some(top)
    }

    /// Whether it was not there yet.
    #[inline]
    fn insert(&mut self, sub: Xid, top: Xid) -> bool {
        let number = sub.0 / PAGE;
        let page = match &mut self.at_hand {
            Some((at_hand, page)) if *at_hand == number => page,
            _ => {
                let page = self.others.remove(&number).unwrap_or_default();
                self.put_aside();
                &mut self.at_hand.insert((number, page)).1
            }
        };
        let place = &mut page.tops[(sub.0 % PAGE) as usize];
        let fresh = !place.is_valid();
        page.used += u32::from(fresh);
        *place = top;
        fresh
    }

    #[inline]
    fn remove(&mut self, sub: Xid) {
        let number = sub.0 / PAGE;
        let page = match &mut self.at_hand {
            Some((at_hand, page)) if *at_hand == number => page,
            _ => {
                let Some(page) = self.others.remove(&number) else {
                    return;
                };
                self.put_aside();
                &mut self.at_hand.insert((number, page)).1
            }
        };
        let place = &mut page.tops[(sub.0 % PAGE) as usize];
        page.used -= u32::from(place.is_valid());
        *place = Xid::INVALID;
        if page.used == 0 {
            self.at_hand = None;
        }
    }

    fn put_aside(&mut self) {
        self.others.extend(self.at_hand.take());
    }
}

impl From<Vec<(Xid, Xid)>> for TopOf {
    fn from(pairs: Vec<(Xid, Xid)>) -> Self {
        let mut all = TopOf::default();
        for (sub, top) in pairs {
            if top.is_valid() {
                all.insert(sub, top);
            }
        }
        all
    }
}

impl From<TopOf> for Vec<(Xid, Xid)> {
    fn from(all: TopOf) -> Self {
        let mut pages: Vec<_> = all.others.into_iter().chain(all.at_hand).collect();
        pages.sort_unstable_by_key(|(number, _)| *number);
        let pairs = pages.iter().flat_map(|(number, page)| {
            let subs = (0..PAGE).map(move |place| Xid(number * PAGE + place));
            subs.zip(page.tops.iter().copied())
        });
        pairs.filter(|(_, top)| top.is_valid()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Xids of a few pages, told and forgotten in any order: as a map does it.
        #[test]
        fn pages_do_what_a_map_does(
            steps in proptest::collection::vec((any::<bool>(), 0..4 * PAGE, 1..9_u32), 0..300),
        ) {
            let (mut pages, mut map) = (TopOf::default(), FxHashMap::default());
            for (told, sub, top) in steps {
                let (sub, top) = (Xid(3 + sub), Xid(top));
                if told {
                    prop_assert_eq!(pages.insert(sub, top), map.insert(sub, top).is_none());
                } else {
                    pages.remove(sub);
                    map.remove(&sub);
                }
                for near in [sub.0 - 1, sub.0, sub.0 + 1, sub.0 + PAGE].map(Xid) {
                    prop_assert_eq!(pages.get(near), map.get(&near).copied());
                }
            }
            let mut all: Vec<_> = map.into_iter().collect();
            all.sort_unstable();
            prop_assert_eq!(Vec::from(pages.clone()), all.clone());
            for (sub, _) in all {
                pages.remove(sub);
            }
            prop_assert!(pages.at_hand.is_none() && pages.others.is_empty());
        }
    }

    #[test]
    fn tops_are_kept_for_as_long_as_their_transaction_runs() {
        let mut all = Transactions::default();
        let subs = [1000, 1001, 1023, 1024, 5000, u32::MAX].map(Xid);
        for sub in subs {
            all.assign(sub, Xid(999));
            all.assign(sub, Xid(999));
        }
        all.assign(Xid(1002), Xid(998));
        assert_eq!(all.children(Xid(999)), subs);
        let bytes = postcard::to_stdvec(&all).unwrap();
        let mut all: Transactions = postcard::from_bytes(&bytes).unwrap();
        assert!(subs.iter().all(|sub| all.top_of(*sub) == Xid(999)));
        assert_eq!(all.top_of(Xid(1002)), Xid(998));
        assert_eq!(all.top_of(Xid(1003)), Xid(1003));
        all.abort_subtransactions([Xid(1001), Xid(1003)]);
        assert!(all.is_aborted(Xid(1001)) && !all.is_aborted(Xid(1003)));
        all.end(Xid(999));
        assert!(subs.iter().all(|sub| all.top_of(*sub) == *sub));
        assert!(!all.is_aborted(Xid(1001)));
        assert_eq!(all.top_of(Xid(1002)), Xid(998));
        all.end(Xid(998));
        assert!(all.top_of.at_hand.is_none() && all.top_of.others.is_empty());
    }

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
