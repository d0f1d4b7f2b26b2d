//! Who deleted or updated a tuple whose `xmax` is a multixact.
//!
//! Of a multixact's members at most one deletes or updates; the others only lock, and locks mean
//! nothing here. So a multixact is kept as its updater alone, and one without is not kept at all.
//!
//! From a data directory only those multixacts are read that the copied catalog pages name, and
//! the newest ones; all later ones come with the log. Every multixact of every table passes here,
//! though, so those that no catalog tuple was stamped with are forgotten once their members have
//! ended: a multixact is put on a tuple only while one of its members runs.
//!
//! ```text
//! offsets/: one u32 for each multixact: the number of its first member
//! members/: groups of 20 bytes: 4 status bytes, then 4 xids; 409 groups and 12 unused bytes a page
//! ```
// pg: access/transam/multixact.c, access/multixact.h [14-18]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use redostream_protocol::Xid;
use redostream_protocol::cursor::{Cursor, ShortInput};
use serde::{Deserialize, Serialize};

use super::slru::{PageReader, SlruError};
use crate::limits::{HEAP_PAGE_BYTES, MULTIXACT_MEMBERS_MAX, MULTIXACTS_SCANNED_MAX};

const OP_ZERO_OFFSETS_PAGE: u8 = 0x00;
const OP_ZERO_MEMBERS_PAGE: u8 = 0x10;
const OP_CREATE: u8 = 0x20;
const OP_TRUNCATE: u8 = 0x30;

const OFFSETS_PER_PAGE: u32 = HEAP_PAGE_BYTES as u32 / 4;
const MEMBERS_PER_GROUP: u32 = 4;
const GROUP_BYTES: u32 = 20;
const MEMBERS_PER_PAGE: u32 = HEAP_PAGE_BYTES as u32 / GROUP_BYTES * MEMBERS_PER_GROUP;

/// The highest status that only locks.
// pg: access/multixact.h MultiXactStatusForUpdate [14-18]
const STATUS_LOCK_MAX: u32 = 3;
/// The highest status.
const STATUS_MAX: u32 = 5;

/// The multixacts whose updater is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Multixacts {
    known: BTreeMap<u32, Known>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    updater: Xid,
    /// The member that was given its xid last.
    newest: Xid,
    /// Whether a catalog tuple is stamped with it.
    pinned: bool,
}

/// Which multixacts a data directory has, from its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MultixactRange {
    /// The oldest.
    pub oldest: u32,
    /// One past the newest.
    pub next: u32,
    /// The first member of `next`.
    pub next_offset: u32,
}

impl MultixactRange {
    fn contains(&self, multixact: u32) -> bool {
        multixact != 0 && multixact.wrapping_sub(self.oldest) < self.next.wrapping_sub(self.oldest)
    }
}

impl Multixacts {
    /// Reads from the directory `pg_multixact` the multixacts that `named` by copied catalog
    /// tuples, and the newest ones before the checkpoint.
    pub fn load(
        directory: &Path,
        range: MultixactRange,
        named: &BTreeSet<u32>,
    ) -> Result<Self, SlruError> {
        let mut reader = Reader::new(directory, range);
        let mut known = BTreeMap::new();
        for multixact in named.iter().filter(|multixact| range.contains(**multixact)) {
            if let Some(entry) = reader.read(*multixact)? {
                let pinned = true;
                known.insert(*multixact, Known { pinned, ..entry });
            }
        }
        let newest = range
            .next
            .wrapping_sub(range.oldest)
            .min(MULTIXACTS_SCANNED_MAX);
        for back in (1..=newest).rev() {
            let multixact = range.next.wrapping_sub(back);
            if multixact == 0 || known.contains_key(&multixact) {
                continue;
            }
            if let Some(entry) = reader.read(multixact)? {
                known.insert(multixact, entry);
            }
        }
        Ok(Self { known })
    }

    /// The member that deletes or updates, if there is one.
    #[must_use]
    pub fn updater(&self, multixact: u32) -> Option<Xid> {
        self.known.get(&multixact).map(|known| known.updater)
    }

    /// A catalog tuple was stamped with this multixact: it is kept until PostgreSQL truncates it.
    pub fn pin(&mut self, multixact: u32) {
        if let Some(known) = self.known.get_mut(&multixact) {
            known.pinned = true;
        }
    }

    /// Forgets multixacts that no catalog tuple was stamped with and none can be any more: all
    /// members are older than `oldest_running`.
    pub fn forget_ended(&mut self, oldest_running: Xid) {
        self.known
            .retain(|_, known| known.pinned || !known.newest.precedes(oldest_running));
    }

    /// Number of multixacts kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Replays a record of the multixact resource manager. `info` is the record's upper bits.
    pub fn replay(&mut self, info: u8, main: &[u8]) -> Result<(), MultixactError> {
        match info & 0xF0 {
            OP_ZERO_OFFSETS_PAGE | OP_ZERO_MEMBERS_PAGE => Ok(()),
            OP_CREATE => self.create(main),
            OP_TRUNCATE => self.truncate(main),
            other => Err(MultixactError::Operation(other)),
        }
    }

    // pg: access/multixact.h xl_multixact_create [14-18]
    fn create(&mut self, main: &[u8]) -> Result<(), MultixactError> {
        let mut cursor = Cursor::new(main);
        let multixact = cursor.u32("multixact")?;
        cursor.u32("first member")?;
        let count = cursor.u32("number of members")?;
        let mut folded = Folded::default();
        for _ in 0..count {
            let xid = Xid(cursor.u32("member xid")?);
            let status = cursor.u32("member status")?;
            if status > STATUS_MAX {
                return Err(MultixactError::Status(status));
            }
            folded.add(xid, status);
        }
        cursor.finish("multixact record")?;
        match folded.known() {
            Some(entry) => {
                // A copied tuple may carry it already: replay must not undo that mark.
                let pinned = self.known.get(&multixact).is_some_and(|known| known.pinned);
                self.known.insert(multixact, Known { pinned, ..entry });
            }
            None => drop(self.known.remove(&multixact)),
        }
        Ok(())
    }

    // pg: access/multixact.h xl_multixact_truncate [14-18]
    fn truncate(&mut self, main: &[u8]) -> Result<(), MultixactError> {
        let mut cursor = Cursor::new(main);
        cursor.u32("database of the oldest multixact")?;
        cursor.u32("first truncated multixact")?;
        let end = cursor.u32("end of truncated multixacts")?;
        cursor.take(8, "truncated members")?;
        cursor.finish("multixact truncation")?;
        // pg: access/transam/multixact.c MultiXactIdPrecedes [14-18]
        self.known
            .retain(|multixact, _| multixact.wrapping_sub(end) < 1 << 31);
        Ok(())
    }
}

/// What matters of a list of members.
#[derive(Default)]
struct Folded {
    updater: Option<Xid>,
    newest: Option<Xid>,
}

impl Folded {
    fn add(&mut self, xid: Xid, status: u32) {
        if !xid.is_valid() {
            return;
        }
        if status > STATUS_LOCK_MAX {
            self.updater = Some(xid);
        }
        if self.newest.is_none_or(|newest| newest.precedes(xid)) {
            self.newest = Some(xid);
        }
    }

    fn known(&self) -> Option<Known> {
        let updater = self.updater?;
        Some(Known {
            updater,
            newest: self.newest.unwrap_or(updater),
            pinned: false,
        })
    }
}

struct Reader {
    offsets: PageReader,
    members: PageReader,
    range: MultixactRange,
}

impl Reader {
    fn new(directory: &Path, range: MultixactRange) -> Self {
        Self {
            offsets: PageReader::new(directory.join("offsets")),
            members: PageReader::new(directory.join("members")),
            range,
        }
    }

    /// A multixact with an updater; `None` if it has none, or if the files do not have it (it was
    /// truncated, or is so new that the log still brings it).
    fn read(&mut self, multixact: u32) -> Result<Option<Known>, SlruError> {
        let Some(first) = self.offset(multixact)? else {
            return Ok(None);
        };
        let Some(end) = self.offset(following(multixact))? else {
            return Ok(None);
        };
        let count = end.wrapping_sub(first);
        if count > MULTIXACT_MEMBERS_MAX {
            return Ok(None);
        }
        let mut folded = Folded::default();
        for n in 0..count {
            let Some((xid, status)) = self.member(first.wrapping_add(n))? else {
                return Ok(None);
            };
            folded.add(xid, status);
        }
        Ok(folded.known())
    }

    fn offset(&mut self, multixact: u32) -> Result<Option<u32>, SlruError> {
        if multixact == self.range.next {
            return Ok(Some(self.range.next_offset));
        }
        let page = self.offsets.page(multixact / OFFSETS_PER_PAGE)?;
        let at = (multixact % OFFSETS_PER_PAGE * 4) as usize;
        let offset = page.and_then(|page| word(page, at));
        Ok(offset.filter(|offset| *offset != 0))
    }

    fn member(&mut self, number: u32) -> Result<Option<(Xid, u32)>, SlruError> {
        let Some(page) = self.members.page(number / MEMBERS_PER_PAGE)? else {
            return Ok(None);
        };
        let within = number % MEMBERS_PER_PAGE;
        let group = (within / MEMBERS_PER_GROUP * GROUP_BYTES) as usize;
        let slot = (within % MEMBERS_PER_GROUP) as usize;
        let status = page.get(group + slot).copied();
        let xid = word(page, group + MEMBERS_PER_GROUP as usize + slot * 4);
        Ok(xid
            .zip(status)
            .map(|(xid, status)| (Xid(xid), u32::from(status))))
    }
}

/// The multixact given out after this one; 0 is never given out.
fn following(multixact: u32) -> u32 {
    multixact.wrapping_add(1).max(1)
}

fn word(page: &[u8], at: usize) -> Option<u32> {
    let bytes = page.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// A multixact record that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MultixactError {
    /// Cut short, or with leftovers.
    #[error(transparent)]
    Short(#[from] ShortInput),
    /// An unknown member status.
    #[error("multixact member of unknown status {0}")]
    Status(u32),
    /// An unknown kind.
    #[error("multixact record of unknown kind {0:#04x}")]
    Operation(u8),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(multixact: u32, members: &[(u32, u32)]) -> Vec<u8> {
        let mut words = vec![multixact, 17, u32::try_from(members.len()).unwrap()];
        words.extend(members.iter().flat_map(|(xid, status)| [*xid, *status]));
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn truncate(end: u32) -> Vec<u8> {
        let words = [1, 1, end, 1, 2];
        words
            .iter()
            .flat_map(|word: &u32| word.to_le_bytes())
            .collect()
    }

    #[test]
    fn only_updaters_are_kept() {
        let mut multixacts = Multixacts::default();
        let members = [(700, 0), (702, 5), (701, 3)];
        multixacts.replay(OP_CREATE, &create(9, &members)).unwrap();
        multixacts
            .replay(OP_CREATE, &create(10, &members[..1]))
            .unwrap();
        assert_eq!(multixacts.updater(9), Some(Xid(702)));
        assert_eq!(multixacts.updater(10), None);
        assert_eq!(multixacts.len(), 1);
        multixacts.forget_ended(Xid(702));
        assert_eq!(multixacts.len(), 1);
        multixacts.forget_ended(Xid(703));
        assert!(multixacts.is_empty());
    }

    #[test]
    fn a_pinned_one_stays_until_truncated() {
        let mut multixacts = Multixacts::default();
        for multixact in [u32::MAX, 1, 2] {
            let main = create(multixact, &[(700, 4)]);
            multixacts.replay(OP_CREATE, &main).unwrap();
            multixacts.pin(multixact);
        }
        multixacts.forget_ended(Xid(9000));
        assert_eq!(multixacts.len(), 3);
        multixacts.replay(OP_TRUNCATE, &truncate(2)).unwrap();
        assert_eq!(multixacts.len(), 1);
        assert_eq!(multixacts.updater(2), Some(Xid(700)));
        let stored = postcard::to_stdvec(&multixacts).unwrap();
        assert_eq!(
            postcard::from_bytes::<Multixacts>(&stored).unwrap(),
            multixacts
        );
    }

    #[test]
    fn bad_records_are_refused() {
        let mut multixacts = Multixacts::default();
        let main = create(9, &[(700, 5), (701, 0)]);
        for cut in 0..main.len() {
            assert!(multixacts.replay(OP_CREATE, &main[..cut]).is_err());
        }
        assert!(multixacts.replay(OP_CREATE, &create(9, &[(1, 6)])).is_err());
        assert!(multixacts.replay(0x40, &main).is_err());
        assert!(multixacts.replay(OP_TRUNCATE, &main).is_err());
        assert!(multixacts.is_empty());
    }

    /// Files as PostgreSQL would have them for multixacts of the given members.
    fn write_files(directory: &Path, first: u32, all: &[Vec<(u32, u8)>]) -> u32 {
        let mut offsets = vec![0_u8; HEAP_PAGE_BYTES * 32];
        let mut members = vec![0_u8; HEAP_PAGE_BYTES * 32];
        let mut number = 1;
        for (multixact, list) in (first..).zip(all) {
            let at = multixact as usize * 4;
            offsets[at..at + 4].copy_from_slice(&u32::to_le_bytes(number));
            for (xid, status) in list {
                let page = (number / MEMBERS_PER_PAGE) as usize * HEAP_PAGE_BYTES;
                let group = page + (number % MEMBERS_PER_PAGE / 4 * 20) as usize;
                let slot = (number % 4) as usize;
                members[group + slot] = *status;
                let at = group + 4 + slot * 4;
                members[at..at + 4].copy_from_slice(&xid.to_le_bytes());
                number += 1;
            }
        }
        for (name, bytes) in [("offsets", offsets), ("members", members)] {
            std::fs::create_dir(directory.join(name)).unwrap();
            std::fs::write(directory.join(name).join("0000"), bytes).unwrap();
        }
        number
    }

    #[test]
    fn files_are_read_across_pages() {
        let directory = tempfile::tempdir().unwrap();
        let all: Vec<_> = (0..2000_u32)
            .map(|n| vec![(1000 + n, 0), (5000 + n, if n % 3 == 0 { 5 } else { 1 })])
            .collect();
        let next_offset = write_files(directory.path(), 100, &all);
        let range = MultixactRange {
            oldest: 100,
            next: 2100,
            next_offset,
        };
        let named = BTreeSet::from([0, 99, 100, 2099, 2100, u32::MAX]);
        let multixacts = Multixacts::load(directory.path(), range, &named).unwrap();
        for n in 0..2000 {
            let expected = (n % 3 == 0).then_some(Xid(5000 + n));
            assert_eq!(multixacts.updater(100 + n), expected, "{n}");
        }
        assert!(multixacts.known[&100].pinned && !multixacts.known[&103].pinned);
        assert_eq!(multixacts.len(), 667);
    }

    #[test]
    fn missing_files_hold_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let range = MultixactRange {
            oldest: 1,
            next: 1,
            next_offset: 0,
        };
        let named = BTreeSet::from([1, 7]);
        let multixacts = Multixacts::load(directory.path(), range, &named).unwrap();
        assert!(multixacts.is_empty());
        let range = MultixactRange { next: 50, ..range };
        let multixacts = Multixacts::load(directory.path(), range, &named).unwrap();
        assert!(multixacts.is_empty());
    }
}
