//! Finding tuples by a key without scanning: an exact secondary index of one file.
//!
//! The key is a 32-bit column at a fixed place of every tuple (an OID, a file number). The index
//! is a function of the pages alone: it holds every tuple version that a line pointer leads to,
//! visible or not, so it needs no thought about transactions. Key 0 is not indexed.

use redostream_protocol::RelFileNode;
use rustc_hash::FxHashMap;

use super::pages::Page;
use super::tuple;

/// Where a tuple is within its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tid {
    pub(crate) block: u32,
    pub(crate) offset: u16,
}

/// A tuple of some file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TupleId {
    pub(crate) node: RelFileNode,
    pub(crate) tid: Tid,
}

/// An index on the u32 at a fixed offset of the tuples' data.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    at: usize,
    /// By block, by line pointer (from 1): the key it was entered under, 0 for none.
    keys: Vec<Vec<u32>>,
    tids: FxHashMap<u32, Vec<Tid>>,
}

impl Index {
    /// An empty index on the column at offset `at`.
    pub(crate) fn new(at: usize) -> Index {
        Index {
            at,
            ..Index::default()
        }
    }

    /// The column's offset.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Makes the entries of a block what its page says; no page, no entries.
    pub(crate) fn set_block(&mut self, block: u32, page: Option<&Page>) {
        let index = block as usize;
        if self.keys.len() <= index {
            if page.is_none() {
                return;
            }
            self.keys.resize_with(index + 1, Vec::new);
        }
        let pointers = page.map_or(0, |page| page.pointers().unwrap_or(0));
        let old = std::mem::take(&mut self.keys[index]);
        let mut new = Vec::with_capacity(usize::from(pointers));
        if let Some(page) = page {
            for offset in 1..=pointers {
                let tuple = page.tuple(offset).ok();
                let key = tuple.and_then(|tuple| tuple::fixed_u32(tuple, self.at));
                new.push(key.unwrap_or(0));
            }
        }
        for slot in 0..old.len().max(new.len()) {
            let before = old.get(slot).copied().unwrap_or(0);
            let after = new.get(slot).copied().unwrap_or(0);
            if before == after {
                continue;
            }
            let tid = Tid {
                block,
                offset: slot as u16 + 1,
            };
            self.remove(before, tid);
            if after != 0 {
                self.tids.entry(after).or_default().push(tid);
            }
        }
        self.keys[index] = new;
    }

    /// Forgets every block from `blocks` on.
    pub(crate) fn truncate(&mut self, blocks: u32) {
        for block in blocks..self.keys.len() as u32 {
            self.set_block(block, None);
        }
        self.keys.truncate(blocks as usize);
    }

    /// Where tuples with this key are, in order of place.
    pub(crate) fn tids(&self, key: u32) -> Vec<Tid> {
        let mut tids = self.tids.get(&key).cloned().unwrap_or_default();
        tids.sort_unstable();
        tids
    }

    fn remove(&mut self, key: u32, tid: Tid) {
        if key == 0 {
            return;
        }
        if let Some(list) = self.tids.get_mut(&key) {
            list.retain(|other| *other != tid);
            if list.is_empty() {
                self.tids.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use redostream_protocol::Xid;

    use super::*;
    use crate::catalog::tuple::LoggedHeader;

    fn tuple(key: u32) -> Vec<u8> {
        let header = LoggedHeader {
            mask2: 1,
            mask: 0,
            hoff: 24,
        };
        tuple::build(header, Xid(7), Xid(0), (0, 1), &[&[0], &key.to_le_bytes()])
    }

    #[test]
    fn follows_the_pages() {
        let mut page = Page::empty();
        page.add(1, &tuple(10)).unwrap();
        page.add(2, &tuple(11)).unwrap();
        page.add(3, &tuple(10)).unwrap();
        let mut index = Index::new(0);
        index.set_block(4, Some(&page));
        let at = |offset| Tid { block: 4, offset };
        assert_eq!(index.tids(10), [at(1), at(3)]);
        page.set_unused(1).unwrap();
        page.set_dead(2).unwrap();
        page.add(1, &tuple(12)).unwrap();
        index.set_block(4, Some(&page));
        assert_eq!(index.tids(10), [at(3)]);
        assert_eq!(index.tids(11), []);
        assert_eq!(index.tids(12), [at(1)]);
        index.truncate(4);
        assert_eq!(index.tids(10), []);
        assert!(index.tids.is_empty());
    }
}
