//! Which transactions have committed, as `pg_xact` holds it: two bits for each xid.
//!
//! Pages are kept in memory for every xid that `pg_xact` still covers. Nearly all transactions of
//! an old page have one and the same fate, so such a page is kept as that fate and its exceptions;
//! the copy of a large `pg_xact` then takes a small part of its size.
//!
//! ```text
//! page of 8192 bytes: xid n stands in byte n / 4 at bit 2 * (n % 4); no header
//! ```
// pg: access/transam/clog.c [14-18]

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use redostream_protocol::Xid;
use redostream_protocol::cursor::{Cursor, ShortInput};
use serde::{Deserialize, Serialize};

use super::slru::{self, SlruError};
use crate::limits::{COMMIT_LOG_EXCEPTIONS_MAX, HEAP_PAGE_BYTES};

const XIDS_PER_PAGE: u32 = HEAP_PAGE_BYTES as u32 * 4;
/// Pages in the whole circle of xids.
const PAGES: u32 = 1 << 17;

const OP_ZERO_PAGE: u8 = 0x00;
const OP_TRUNCATE: u8 = 0x10;

/// What became of a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum XidStatus {
    /// Not ended; or nothing is known of it.
    #[default]
    InProgress,
    /// Committed.
    Committed,
    /// Rolled back.
    Aborted,
    /// A subtransaction whose parents are not settled.
    SubCommitted,
}

impl XidStatus {
    const fn of_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::InProgress,
            1 => Self::Committed,
            2 => Self::Aborted,
            _ => Self::SubCommitted,
        }
    }

    const fn bits(self) -> u32 {
        match self {
            Self::InProgress => 0,
            Self::Committed => 1,
            Self::Aborted => 2,
            Self::SubCommitted => 3,
        }
    }
}

/// One page of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Page {
    /// All xids have the status `common` but the few in `others`: index * 4 + status bits, sorted.
    Sparse { common: u32, others: Vec<u32> },
    /// As on disk.
    Dense(Vec<u8>),
}

impl Page {
    const fn empty() -> Self {
        Page::Sparse {
            common: 0,
            others: Vec::new(),
        }
    }

    fn get(&self, index: u32) -> u32 {
        match self {
            Page::Sparse { common, others } => {
                let at = others.partition_point(|other| other >> 2 < index);
                match others.get(at) {
                    Some(other) if other >> 2 == index => other & 3,
                    _ => *common,
                }
            }
            Page::Dense(bytes) => {
                let byte = bytes.get(index as usize / 4).copied().unwrap_or(0);
                u32::from(byte) >> (index % 4 * 2) & 3
            }
        }
    }

    fn set(&mut self, index: u32, status: u32) {
        match self {
            Page::Sparse { common, others } => {
                let at = others.partition_point(|other| other >> 2 < index);
                let there = others.get(at).is_some_and(|other| other >> 2 == index);
                match (there, status == *common) {
                    (true, true) => drop(others.remove(at)),
                    (true, false) => others[at] = index << 2 | status,
                    (false, true) => {}
                    (false, false) => others.insert(at, index << 2 | status),
                }
                if others.len() > COMMIT_LOG_EXCEPTIONS_MAX {
                    *self = Page::Dense(self.to_bytes());
                }
            }
            Page::Dense(bytes) => {
                if let Some(byte) = bytes.get_mut(index as usize / 4) {
                    let shift = index % 4 * 2;
                    // Two bits at a shift of at most six fit a byte.
                    *byte = *byte & !(3 << shift) | (status << shift) as u8;
                }
            }
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Page::Dense(bytes) => bytes.clone(),
            Page::Sparse { common, others } => {
                // 0b01010101 repeats the two bits of the status four times.
                let mut dense = Page::Dense(vec![(common * 0x55) as u8; HEAP_PAGE_BYTES]);
                for other in others {
                    dense.set(other >> 2, other & 3);
                }
                dense.to_bytes()
            }
        }
    }

    /// The smaller form of a page on disk. A short one is filled with zeros.
    fn from_bytes(bytes: &[u8]) -> Self {
        let mut counts = [0_usize; 4];
        let mut histogram = [0_usize; 256];
        for byte in bytes {
            histogram[usize::from(*byte)] += 1;
        }
        for (byte, n) in histogram.iter().enumerate() {
            for shift in [0, 2, 4, 6] {
                counts[byte >> shift & 3] += n;
            }
        }
        counts[0] += (HEAP_PAGE_BYTES - bytes.len().min(HEAP_PAGE_BYTES)) * 4;
        let total: usize = counts.iter().sum();
        let common = (0..4_u32)
            .max_by_key(|status| counts[*status as usize])
            .unwrap_or(0);
        if total - counts[common as usize] > COMMIT_LOG_EXCEPTIONS_MAX {
            let mut dense = bytes.to_vec();
            dense.resize(HEAP_PAGE_BYTES, 0);
            return Page::Dense(dense);
        }
        let uniform = (common * 0x55) as u8;
        let mut others = Vec::with_capacity(total - counts[common as usize]);
        let zeros = std::iter::repeat_n(&0, HEAP_PAGE_BYTES - bytes.len().min(HEAP_PAGE_BYTES));
        for (index, byte) in (0_u32..).zip(bytes.iter().chain(zeros)) {
            if *byte == uniform {
                continue;
            }
            for slot in 0..4 {
                let status = u32::from(*byte) >> (slot * 2) & 3;
                if status != common {
                    others.push((index * 4 + slot) << 2 | status);
                }
            }
        }
        Page::Sparse { common, others }
    }

    fn compact(&mut self) {
        if let Page::Dense(bytes) = self {
            *self = Page::from_bytes(bytes);
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Page::Sparse { others, .. } => others.capacity() * size_of::<u32>(),
                Page::Dense(bytes) => bytes.capacity(),
            }
    }
}

/// The commit log in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitLog {
    pages: BTreeMap<u32, Page>,
}

impl CommitLog {
    /// Reads the directory `pg_xact`. Files that vanish meanwhile are left out: they have been
    /// truncated away.
    pub fn load(directory: &Path) -> Result<Self, SlruError> {
        let segments = slru::segments(directory)?;
        let pages = segments
            .par_iter()
            .map(|(number, path)| {
                let bytes = slru::read_segment(path)?.unwrap_or_default();
                let first = number.saturating_mul(slru::PAGES_PER_SEGMENT);
                let pages: Vec<_> = (first..)
                    .zip(bytes.chunks(HEAP_PAGE_BYTES))
                    .map(|(page, bytes)| (page, Page::from_bytes(bytes)))
                    .collect();
                Ok(pages)
            })
            .collect::<Result<Vec<_>, SlruError>>()?;
        let pages = pages.into_iter().flatten();
        Ok(Self {
            pages: pages.filter(|(page, _)| *page < PAGES).collect(),
        })
    }

    /// What is known of `xid`. Nothing known (before the oldest page, or not reached yet) is in
    /// progress.
    #[must_use]
    pub fn get(&self, xid: Xid) -> XidStatus {
        // pg: access/transam/transam.c TransactionLogFetch [14-18]
        if !xid.is_normal() {
            return match xid {
                Xid::INVALID => XidStatus::Aborted,
                _ => XidStatus::Committed,
            };
        }
        match self.pages.get(&(xid.0 / XIDS_PER_PAGE)) {
            Some(page) => XidStatus::of_bits(page.get(xid.0 % XIDS_PER_PAGE)),
            None => XidStatus::InProgress,
        }
    }

    /// Notes what became of `xid`.
    pub fn set(&mut self, xid: Xid, status: XidStatus) {
        if !xid.is_normal() {
            return;
        }
        let number = xid.0 / XIDS_PER_PAGE;
        if let Some(page) = self.pages.get_mut(&number) {
            return page.set(xid.0 % XIDS_PER_PAGE, status.bits());
        }
        self.start_page(number);
        if let Some(page) = self.pages.get_mut(&number) {
            page.set(xid.0 % XIDS_PER_PAGE, status.bits());
        }
    }

    /// Notes one fate of many, most of which follow each other.
    pub fn set_all(&mut self, xids: impl IntoIterator<Item = Xid>, status: XidStatus) {
        let mut xids = xids.into_iter().filter(|xid| xid.is_normal()).peekable();
        while let Some(first) = xids.next() {
            self.set(first, status);
            let number = first.0 / XIDS_PER_PAGE;
            let Some(page) = self.pages.get_mut(&number) else {
                continue;
            };
            while let Some(xid) = xids.next_if(|xid| xid.0 / XIDS_PER_PAGE == number) {
                page.set(xid.0 % XIDS_PER_PAGE, status.bits());
            }
        }
    }

    /// Replays a record of the commit log's resource manager. `info` is the record's upper bits.
    // pg: access/clog.h xl_clog_truncate [14-18]: the page number has 8 bytes from 17 on
    pub fn replay(&mut self, info: u8, main: &[u8]) -> Result<(), CommitLogError> {
        match info & 0xF0 {
            OP_ZERO_PAGE => {
                let number = page_number(main, main.len())?;
                self.start_page(number);
            }
            OP_TRUNCATE => {
                // The page number is followed by the oldest xid and the database it is in.
                page_number(main, main.len().saturating_sub(8))?;
                let mut cursor = Cursor::new(main.get(main.len() - 8..).unwrap_or_default());
                self.truncate(Xid(cursor.u32("oldest xid")?));
            }
            other => return Err(CommitLogError::Operation(other)),
        }
        Ok(())
    }

    /// Forgets the pages wholly before that of `oldest`.
    pub fn truncate(&mut self, oldest: Xid) {
        let cutoff = oldest.0 / XIDS_PER_PAGE;
        self.pages
            .retain(|page, _| page.wrapping_sub(cutoff) % PAGES < PAGES / 2);
    }

    /// Bytes of memory in use.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.pages.values().map(Page::bytes).sum()
    }

    /// A page begins with nothing known; the pages before it are about to be full.
    fn start_page(&mut self, number: u32) {
        for before in 1..=2 {
            let number = number.wrapping_sub(before) % PAGES;
            if let Some(page) = self.pages.get_mut(&number) {
                page.compact();
            }
        }
        self.pages.insert(number % PAGES, Page::empty());
    }
}

fn page_number(main: &[u8], bytes: usize) -> Result<u32, CommitLogError> {
    let mut cursor = Cursor::new(main);
    let number = match bytes {
        4 => u64::from(cursor.u32("commit log page")?),
        8 => cursor.u64("commit log page")?,
        _ => return Err(CommitLogError::Size(main.len())),
    };
    match u32::try_from(number) {
        Ok(number) if number < PAGES => Ok(number),
        _ => Err(CommitLogError::Page(number)),
    }
}

/// A record of the commit log that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitLogError {
    /// Cut short.
    #[error(transparent)]
    Short(#[from] ShortInput),
    /// A size that no version writes.
    #[error("commit log record of {0} bytes")]
    Size(usize),
    /// Beyond the last page.
    #[error("commit log page {0} does not exist")]
    Page(u64),
    /// An unknown kind.
    #[error("commit log record of unknown kind {0:#04x}")]
    Operation(u8),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const ALL: [XidStatus; 4] = [
        XidStatus::InProgress,
        XidStatus::Committed,
        XidStatus::Aborted,
        XidStatus::SubCommitted,
    ];

    #[test]
    fn special_xids() {
        let mut log = CommitLog::default();
        log.set(Xid::BOOTSTRAP, XidStatus::Aborted);
        assert_eq!(log.get(Xid::BOOTSTRAP), XidStatus::Committed);
        assert_eq!(log.get(Xid::FROZEN), XidStatus::Committed);
        assert_eq!(log.get(Xid::INVALID), XidStatus::Aborted);
        assert_eq!(log.get(Xid(700)), XidStatus::InProgress);
        assert_eq!(log.get(Xid(u32::MAX)), XidStatus::InProgress);
    }

    #[test]
    fn many_at_once_are_as_one_after_the_other() {
        let (mut one, mut many) = (CommitLog::default(), CommitLog::default());
        let page = XIDS_PER_PAGE;
        let xids = [
            0,
            700,
            701,
            page - 1,
            page,
            3 * page,
            5,
            page + 1,
            u32::MAX,
            3,
        ]
        .map(Xid);
        for xid in xids {
            one.set(xid, XidStatus::Aborted);
        }
        many.set_all(xids, XidStatus::Aborted);
        assert_eq!(many, one);
        assert_eq!(many.get(Xid(5)), XidStatus::Aborted);
    }

    #[test]
    fn a_settled_page_is_small() {
        let mut log = CommitLog::default();
        for xid in 3..XIDS_PER_PAGE * 6 {
            let aborted = xid % 500 == 0;
            let status = if aborted {
                XidStatus::Aborted
            } else {
                XidStatus::Committed
            };
            log.set(Xid(xid), status);
        }
        assert!(log.memory_bytes() < 20_000, "{}", log.memory_bytes());
        for xid in 3..XIDS_PER_PAGE * 6 {
            let aborted = xid % 500 == 0;
            assert_eq!(log.get(Xid(xid)) == XidStatus::Aborted, aborted);
        }
        log.truncate(Xid(XIDS_PER_PAGE * 2 + 5));
        assert_eq!(log.get(Xid(XIDS_PER_PAGE * 2 - 1)), XidStatus::InProgress);
        assert_eq!(log.get(Xid(XIDS_PER_PAGE * 2)), XidStatus::Committed);
    }

    #[test]
    fn truncation_is_circular() {
        let mut log = CommitLog::default();
        for xid in [3, u32::MAX, u32::MAX - XIDS_PER_PAGE] {
            log.set(Xid(xid), XidStatus::Committed);
        }
        log.truncate(Xid(u32::MAX - 5));
        assert_eq!(log.get(Xid(3)), XidStatus::Committed);
        assert_eq!(log.get(Xid(u32::MAX)), XidStatus::Committed);
        assert_eq!(
            log.get(Xid(u32::MAX - XIDS_PER_PAGE)),
            XidStatus::InProgress
        );
    }

    #[test]
    fn records_of_both_sizes() {
        for wide in [false, true] {
            let number = |page: u32| {
                if wide {
                    u64::from(page).to_le_bytes().to_vec()
                } else {
                    page.to_le_bytes().to_vec()
                }
            };
            let mut log = CommitLog::default();
            log.set(Xid(40_000), XidStatus::Committed);
            log.set(Xid(10), XidStatus::Committed);
            log.replay(OP_ZERO_PAGE, &number(1)).unwrap();
            assert_eq!(log.get(Xid(40_000)), XidStatus::InProgress);
            assert_eq!(log.get(Xid(10)), XidStatus::Committed);
            let mut main = number(1);
            main.extend_from_slice(&40_000_u32.to_le_bytes());
            main.extend_from_slice(&5_u32.to_le_bytes());
            log.replay(OP_TRUNCATE, &main).unwrap();
            assert_eq!(log.get(Xid(10)), XidStatus::InProgress);
            assert!(log.replay(OP_TRUNCATE, &main[..11]).is_err());
            assert!(log.replay(OP_ZERO_PAGE, &number(PAGES)).is_err());
            assert!(log.replay(0x20, &main).is_err());
            assert!(log.replay(OP_TRUNCATE, &[]).is_err());
        }
    }

    #[test]
    fn files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let mut first = vec![0_u8; HEAP_PAGE_BYTES * 32];
        first[0] = 0b01_10_01_11;
        first[HEAP_PAGE_BYTES * 31 + 5] = 0b01;
        std::fs::write(directory.path().join("0000"), &first).unwrap();
        std::fs::write(directory.path().join("0001"), [0x55; 100]).unwrap();
        std::fs::write(directory.path().join("other"), [0x55; 100]).unwrap();
        let log = CommitLog::load(directory.path()).unwrap();
        assert_eq!(log.get(Xid(3)), XidStatus::Committed);
        let late = XIDS_PER_PAGE * 31 + 20;
        assert_eq!(log.get(Xid(late)), XidStatus::Committed);
        assert_eq!(log.get(Xid(late + 1)), XidStatus::InProgress);
        let next = XIDS_PER_PAGE * 32;
        assert_eq!(log.get(Xid(next + 399)), XidStatus::Committed);
        assert_eq!(log.get(Xid(next + 400)), XidStatus::InProgress);
        let stored = postcard::to_stdvec(&log).unwrap();
        assert_eq!(postcard::from_bytes::<CommitLog>(&stored).unwrap(), log);
        assert!(CommitLog::load(&directory.path().join("none")).is_err());
    }

    proptest! {
        #[test]
        fn behaves_as_a_map(
            changes in proptest::collection::vec((3_u32..70_000, 0_usize..4), 0..4000),
            seed in any::<u8>(),
        ) {
            let bytes: Vec<u8> = (0..HEAP_PAGE_BYTES).map(|n| if n % 64 == 0 { seed } else { 0x55 }).collect();
            let mut log = CommitLog::default();
            log.pages.insert(0, Page::from_bytes(&bytes));
            let mut model = HashMap::new();
            for (xid, status) in changes {
                log.set(Xid(xid), ALL[status]);
                model.insert(xid, ALL[status]);
            }
            for page in log.pages.values_mut() {
                let before = page.clone();
                page.compact();
                prop_assert_eq!(before.to_bytes(), page.to_bytes());
            }
            for xid in 3..70_000 {
                let untouched = if xid < XIDS_PER_PAGE {
                    XidStatus::of_bits(u32::from(bytes[xid as usize / 4]) >> (xid % 4 * 2))
                } else {
                    XidStatus::InProgress
                };
                let expected = model.get(&xid).copied().unwrap_or(untouched);
                prop_assert_eq!(log.get(Xid(xid)), expected);
            }
        }
    }
}
