//! Tuples that nobody will see again: while one transaction stays open, a server keeps every version
//! of every catalog row that others replace, and their rows need not be kept here.

use redostream_protocol::RelFileNode;

use super::commit_log::{CommitLog, XidStatus};
use super::index::Tid;
use super::store::Store;
use super::tuple::{self, infomask};

impl Store {
    /// Keeps of these tuples, if who ended them has committed, only the headers: line pointers and
    /// later records go on to name them, but nobody sees them.
    pub(crate) fn let_go(&mut self, ended: &[(RelFileNode, Tid)]) {
        let mut places = ended.to_vec();
        places.sort_unstable();
        places.dedup();
        let same_page =
            |a: &(RelFileNode, Tid), b: &(RelFileNode, Tid)| (a.0, a.1.block) == (b.0, b.1.block);
        for places in places.chunk_by(same_page) {
            let Some((node, Tid { block, .. })) = places.first().copied() else {
                continue;
            };
            let Some(page) = self.file(node).and_then(|file| file.page(block)) else {
                continue;
            };
            let offsets = places.iter().map(|(_, tid)| tid.offset);
            let gone: Vec<u16> = offsets
                .filter(|offset| {
                    let tuple = page.tuple(*offset);
                    tuple.is_ok_and(|tuple| is_gone(tuple, &self.commit_log))
                })
                .collect();
            if gone.is_empty() {
                continue;
            }
            // A page that cannot be tidied up stays as it is: whoever needs it says what is wrong.
            self.file_mut(node).change(block, |page| {
                gone.iter().try_for_each(|offset| page.let_go(*offset))?;
                page.compact()
            });
        }
    }
}

/// Whether nobody will see the tuple from here on: who deleted it has committed. A tuple that others
/// have locked as well is left to be on the safe side.
fn is_gone(tuple: &[u8], commit_log: &CommitLog) -> bool {
    let (bits, deleter) = (tuple::mask(tuple), tuple::xmax(tuple));
    bits & (infomask::XMAX_INVALID | infomask::XMAX_IS_MULTI) == 0
        && !tuple::is_lock_only(bits)
        && deleter.is_normal()
        && commit_log.get(deleter) == XidStatus::Committed
}
