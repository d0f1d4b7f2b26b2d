//! Which (sub)transactions' rows are passed on at a commit: asked once for each stretch of rows that
//! one subtransaction has written, of which there may be millions.

use redostream_protocol::Xid;
use rustc_hash::FxHashSet;

/// Up to so many committed subtransactions a list is searched fastest.
const FEW: usize = 8;
/// There is a bit for each xid from the first to the last if there are at most so many for each that
/// has committed.
const BITS_EACH_MAX: usize = 64;

/// The transaction and its subtransactions that have committed with it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    top: Xid,
    committed: Committed,
    aborted: FxHashSet<Xid>,
}

impl Kept {
    /// For a commit of `top` with `subs`; `aborted` were rolled back by name.
    pub(super) fn new(top: Xid, subs: Vec<Xid>, aborted: FxHashSet<Xid>) -> Self {
        let committed = Committed::new(subs);
        Self {
            top,
            committed,
            aborted,
        }
    }

    /// Whether rows of `xid` are passed on.
    // pg: replication/logical/decode.c DecodeCommit: only listed children are merged [14-18]
    #[inline]
    pub(super) fn keeps(&self, xid: Xid) -> bool {
        xid == self.top || self.committed.has(xid) && !self.aborted.contains(&xid)
    }
}

/// Subtransactions that a commit record lists.
#[derive(Debug)]
enum Committed {
    Few(Vec<Xid>),
    /// A bit for each xid from the first on: they mostly follow one another.
    Dense {
        first: Xid,
        bits: Vec<u64>,
    },
    Sparse(FxHashSet<Xid>),
}

impl Default for Committed {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Committed {
    fn new(subs: Vec<Xid>) -> Self {
        let numbers = || subs.iter().map(|sub| sub.0);
        let (Some(first), Some(last), true) = (numbers().min(), numbers().max(), subs.len() > FEW)
        else {
            return Self::Few(subs);
        };
        // Where xids have begun anew in between, this is nearly all there are.
        let span = (last - first) as usize + 1;
        if span > subs.len() * BITS_EACH_MAX {
            return Self::Sparse(subs.into_iter().collect());
        }
        let mut bits = vec![0; span.div_ceil(64)];
        for number in numbers() {
            let at = (number - first) as usize;
            bits[at / 64] |= 1 << (at % 64);
        }
        let first = Xid(first);
        Self::Dense { first, bits }
    }

    #[inline]
    fn has(&self, xid: Xid) -> bool {
        match self {
            Self::Few(subs) => subs.contains(&xid),
            Self::Dense { first, bits } => {
                let at = xid.0.wrapping_sub(first.0) as usize;
                let word = bits.get(at / 64).copied().unwrap_or(0);
                word >> (at % 64) & 1 == 1
            }
            Self::Sparse(subs) => subs.contains(&xid),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_form_is_taken_where_it_is_right() {
        let of = |subs: &[u32]| Committed::new(subs.iter().map(|sub| Xid(*sub)).collect());
        assert!(matches!(of(&[]), Committed::Few(_)));
        let following: Vec<u32> = (1000..1100).collect();
        assert!(matches!(of(&following), Committed::Dense { .. }));
        let around_the_end: Vec<u32> = (0..100)
            .map(|at| (u32::MAX - 50).wrapping_add(at))
            .collect();
        let far = of(&around_the_end);
        assert!(matches!(far, Committed::Sparse(_)));
        assert!(around_the_end.iter().all(|sub| far.has(Xid(*sub))));
    }

    proptest! {
        #[test]
        fn a_set_says_the_same(
            subs in proptest::collection::vec(3_u32..500, 0..40),
            first in prop_oneof![Just(0_u32), Just(u32::MAX - 250)],
            spread in prop_oneof![Just(1_u32), Just(1000)],
        ) {
            let xid = |number: u32| Xid(first.wrapping_add(number.wrapping_mul(spread)));
            let committed = Committed::new(subs.iter().map(|sub| xid(*sub)).collect());
            for number in 0..520 {
                prop_assert_eq!(committed.has(xid(number)), subs.contains(&number));
            }
        }
    }
}
