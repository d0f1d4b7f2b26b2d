//! Payloads of the transaction resource manager: commit, abort, prepare, assignment.
//!
//! ```text
//! commit, abort: time i64, then, as the bits of xinfo u32 say, in this order:
//!   dbinfo (database, tablespace), subxacts (count, xids), relfilenodes (count, 12 bytes each),
//!   stats (count, items: 15+), invals (count, 16 bytes each), twophase (xid),
//!   gid (C string), origin (lsn u64, time i64)
//! prepare: fixed header, then each part padded to 8 bytes:
//!   gid, subxacts, files to drop at commit, at abort, stats to drop at commit, at abort, invals
//! ```
// pg: access/xact.h, access/rmgrdesc/xactdesc.c Parse{Commit,Abort,Prepare}Record [14-18]

use nom::IResult;
use nom::Parser;
use nom::bytes::complete::{take, take_while};
use nom::combinator::cond;
use nom::multi::count;
use nom::number::complete::{le_i64, le_u8, le_u16, le_u32, le_u64};
use redostream_protocol::{DatabaseOid, Lsn, Oid, RelFileNode, Xid};

use super::format::WalFormat;
use super::record::only_main;

/// Info bits of the resource manager, without `XLOG_XACT_HAS_INFO`.
pub mod op {
    /// Mask for the bits below.
    pub const MASK: u8 = 0x70;
    /// Commit.
    pub const COMMIT: u8 = 0x00;
    /// Prepare.
    pub const PREPARE: u8 = 0x10;
    /// Abort.
    pub const ABORT: u8 = 0x20;
    /// Commit of a prepared transaction.
    pub const COMMIT_PREPARED: u8 = 0x30;
    /// Abort of a prepared transaction.
    pub const ABORT_PREPARED: u8 = 0x40;
    /// Subtransactions told their top.
    pub const ASSIGNMENT: u8 = 0x50;
    /// Invalidation messages of a command.
    pub const INVALIDATIONS: u8 = 0x60;
    /// The record has an `xinfo` word.
    pub const HAS_INFO: u8 = 0x80;
}

const HAS_DBINFO: u32 = 1 << 0;
const HAS_SUBXACTS: u32 = 1 << 1;
const HAS_RELFILENODES: u32 = 1 << 2;
const HAS_INVALS: u32 = 1 << 3;
const HAS_TWOPHASE: u32 = 1 << 4;
const HAS_ORIGIN: u32 = 1 << 5;
const HAS_GID: u32 = 1 << 7;
const HAS_DROPPED_STATS: u32 = 1 << 8;

/// All that [`parse_end`] looks for.
const HAS_ANY: u32 = HAS_DBINFO
    | HAS_SUBXACTS
    | HAS_RELFILENODES
    | HAS_INVALS
    | HAS_TWOPHASE
    | HAS_ORIGIN
    | HAS_GID
    | HAS_DROPPED_STATS;

const INVAL_BYTES: usize = 16;
/// Main data of a commit record that says when and where, and nothing else.
const PLAIN_COMMIT_BYTES: usize = 20;

/// What a commit, abort or prepare record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XactEnd {
    /// Time, microseconds since 2000-01-01 00:00 UTC.
    pub time_us: i64,
    /// Database, 0 if not given (always given for commits at `wal_level = logical`).
    pub database: DatabaseOid,
    /// Committed children (commit, prepare) or own ones (abort).
    pub subxacts: Vec<Xid>,
    /// Files dropped by the record.
    pub dropped: Vec<RelFileNode>,
    /// Number of invalidation messages.
    pub invalidations: u32,
    /// The prepared transaction this record ends or, for a prepare record, is.
    pub prepared_xid: Option<Xid>,
    /// Global id, if the record has one.
    pub gid: Option<Vec<u8>>,
    /// LSN and time at the origin, if replicated.
    pub origin: Option<(Lsn, i64)>,
}

/// A payload that contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0} record")]
pub struct XactError(pub &'static str);

/// Reads a commit or abort record's main data.
pub fn parse_end(info: u8, main: &[u8], format: &WalFormat) -> Result<XactEnd, XactError> {
    match end(info, format)(main) {
        Ok((_, end)) => Ok(end),
        Err(_) => Err(XactError("commit or abort")),
    }
}

/// A commit record's transaction and what it says, if that is when and in which database, and nothing
/// else, as nearly always. None of any other record: [`parse_end`] reads them all.
#[must_use]
pub fn plain_commit(record: &[u8]) -> Option<(Xid, XactEnd)> {
    let (xid, info, main) = only_main(record)?;
    let main: &[u8; PLAIN_COMMIT_BYTES] = main.try_into().ok()?;
    let word = |at| u32::from_le_bytes([main[at], main[at + 1], main[at + 2], main[at + 3]]);
    let is_commit = info & (op::MASK | op::HAS_INFO) == op::COMMIT | op::HAS_INFO;
    if !is_commit || word(8) & HAS_ANY != HAS_DBINFO {
        return None;
    }
    let end = XactEnd {
        time_us: (u64::from(word(0)) | u64::from(word(4)) << 32).cast_signed(),
        database: Oid(word(12)),
        ..XactEnd::default()
    };
    Some((xid, end))
}

/// Reads a prepare record's main data. `dropped` is what a commit would drop.
pub fn parse_prepare(main: &[u8], format: &WalFormat) -> Result<XactEnd, XactError> {
    match prepare(format)(main) {
        Ok((_, end)) => Ok(end),
        Err(_) => Err(XactError("prepare")),
    }
}

/// Reads an assignment record's main data: the top-level xid and its children.
pub fn parse_assignment(main: &[u8]) -> Result<(Xid, Vec<Xid>), XactError> {
    let mut parser = (xid, |input| {
        let (input, n) = le_u32(input)?;
        counted(n, 4, xid)(input)
    });
    match parser.parse(main) {
        Ok((_, pair)) => Ok(pair),
        Err(_) => Err(XactError("assignment")),
    }
}

fn xid(input: &[u8]) -> IResult<&[u8], Xid> {
    le_u32.map(Xid).parse(input)
}

fn relfilenode(input: &[u8]) -> IResult<&[u8], RelFileNode> {
    (le_u32, le_u32, le_u32)
        .map(|(tablespace, database, relation)| RelFileNode {
            tablespace: Oid(tablespace),
            database: Oid(database),
            relation: Oid(relation),
        })
        .parse(input)
}

/// `n` items of `size` bytes; fails before allocating if they cannot be there.
fn counted<'a, T>(
    n: u32,
    size: usize,
    mut item: impl FnMut(&'a [u8]) -> IResult<&'a [u8], T>,
) -> impl FnMut(&'a [u8]) -> IResult<&'a [u8], Vec<T>> {
    move |input| {
        let n = n as usize;
        take(n.saturating_mul(size))(input)?;
        count(&mut item, n).parse(input)
    }
}

fn list<'a, T>(
    size: usize,
    item: impl Fn(&'a [u8]) -> IResult<&'a [u8], T>,
) -> impl Fn(&'a [u8]) -> IResult<&'a [u8], Vec<T>> {
    move |input| {
        let (input, n) = le_u32(input)?;
        counted(n, size, &item)(input)
    }
}

fn skipped_list(size: usize) -> impl Fn(&[u8]) -> IResult<&[u8], u32> {
    move |input| {
        let (input, n) = le_u32(input)?;
        let (input, _) = take((n as usize).saturating_mul(size))(input)?;
        Ok((input, n))
    }
}

fn end(info: u8, format: &WalFormat) -> impl Fn(&[u8]) -> IResult<&[u8], XactEnd> {
    let stats_bytes = format.stats_item_bytes;
    move |input| {
        let (input, time_us) = le_i64(input)?;
        let (input, xinfo) = cond(info & op::HAS_INFO != 0, le_u32).parse(input)?;
        let has = |bit: u32| xinfo.unwrap_or(0) & bit != 0;
        let (input, dbinfo) = cond(has(HAS_DBINFO), (le_u32, le_u32)).parse(input)?;
        let (input, subxacts) = cond(has(HAS_SUBXACTS), list(4, xid)).parse(input)?;
        let (input, dropped) = cond(has(HAS_RELFILENODES), list(12, relfilenode)).parse(input)?;
        let (input, _) = cond(has(HAS_DROPPED_STATS), skipped_list(stats_bytes)).parse(input)?;
        let (input, invals) = cond(has(HAS_INVALS), skipped_list(INVAL_BYTES)).parse(input)?;
        let (input, prepared_xid) = cond(has(HAS_TWOPHASE), xid).parse(input)?;
        let gid_bytes =
            (take_while(|byte| byte != 0), le_u8).map(|(gid, _): (&[u8], u8)| gid.to_vec());
        let (input, gid) = cond(has(HAS_TWOPHASE) && has(HAS_GID), gid_bytes).parse(input)?;
        let (input, origin) = cond(has(HAS_ORIGIN), (le_u64.map(Lsn), le_i64)).parse(input)?;
        let end = XactEnd {
            time_us,
            database: Oid(dbinfo.map_or(0, |(database, _)| database)),
            subxacts: subxacts.unwrap_or_default(),
            dropped: dropped.unwrap_or_default(),
            invalidations: invals.unwrap_or(0),
            prepared_xid,
            gid,
            origin,
        };
        Ok((input, end))
    }
}

fn padded<'a, T>(
    n: u32,
    size: usize,
    item: impl FnMut(&'a [u8]) -> IResult<&'a [u8], T>,
) -> impl FnMut(&'a [u8]) -> IResult<&'a [u8], Vec<T>> {
    let mut items = counted(n, size, item);
    move |input| {
        let bytes = (n as usize).saturating_mul(size);
        let (rest, _) = take(bytes.checked_next_multiple_of(8).unwrap_or(usize::MAX))(input)?;
        let (_, items) = items(input)?;
        Ok((rest, items))
    }
}

fn prepare(format: &WalFormat) -> impl Fn(&[u8]) -> IResult<&[u8], XactEnd> {
    let stats_bytes = format.stats_item_bytes;
    move |input| {
        let (input, (_magic, _length, xid_, database)) =
            (le_u32, le_u32, xid, le_u32).parse(input)?;
        let (input, (time_us, _owner)) = (le_i64, le_u32).parse(input)?;
        let (input, (subxacts_n, commit_rels, abort_rels)) =
            (le_u32, le_u32, le_u32).parse(input)?;
        let (input, stats) = cond(stats_bytes > 0, (le_u32, le_u32)).parse(input)?;
        let (input, (invals_n, _initfile, _pad, gid_len)) =
            (le_u32, le_u8, le_u8, le_u16).parse(input)?;
        // The 8-byte LSN that follows is aligned.
        let fixed: usize = 4 * 4 + 8 + 4 * 4 + stats.map_or(0, |_| 8) + 8;
        let (input, _) = take((8 - fixed % 8) % 8)(input)?;
        let (input, origin) = (le_u64.map(Lsn), le_i64).parse(input)?;
        let (input, gid) = padded(u32::from(gid_len), 1, le_u8)(input)?;
        let (input, subxacts) = padded(subxacts_n, 4, xid)(input)?;
        let (input, dropped) = padded(commit_rels, 12, relfilenode)(input)?;
        let (input, _) = padded(abort_rels, 12, relfilenode)(input)?;
        let (commit_stats, abort_stats) = stats.unwrap_or_default();
        let stats_item = |input| take(stats_bytes)(input);
        let (input, _) = padded(commit_stats, stats_bytes, stats_item)(input)?;
        let (input, _) = padded(abort_stats, stats_bytes, stats_item)(input)?;
        let end = XactEnd {
            time_us,
            database: Oid(database),
            subxacts,
            dropped,
            invalidations: invals_n,
            prepared_xid: Some(xid_),
            gid: Some(gid.into_iter().take_while(|byte| *byte != 0).collect()),
            origin: (origin.0.is_valid()).then_some(origin),
        };
        Ok((input, end))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::framing::record::Record;

    /// A commit record of 46 bytes.
    fn commit_record() -> Vec<u8> {
        let mut record = vec![0; 24];
        record[..4].copy_from_slice(&46_u32.to_le_bytes());
        record[4..8].copy_from_slice(&700_u32.to_le_bytes());
        record[16..18].copy_from_slice(&[op::HAS_INFO, 1]);
        record.extend_from_slice(&[255, 20]);
        record.extend_from_slice(&(-5_i64).to_le_bytes());
        for word in [HAS_DBINFO | 1 << 31, 16384, 1663] {
            record.extend_from_slice(&word.to_le_bytes());
        }
        record
    }

    #[test]
    fn a_commit_that_says_little() {
        let record = commit_record();
        let (xid, end) = plain_commit(&record).unwrap();
        assert_eq!((xid, end.time_us, end.database), (Xid(700), -5, Oid(16384)));
        for bit in (0..32).filter(|bit| HAS_ANY >> bit & 1 == 1) {
            let mut record = record.clone();
            record[34 + bit / 8] ^= 1 << (bit % 8);
            assert_eq!(plain_commit(&record), None, "bit {bit}");
        }
        for operation in (0..=op::MASK).step_by(0x10).skip(1) {
            let mut record = record.clone();
            record[16] = operation | op::HAS_INFO;
            assert_eq!(plain_commit(&record), None, "{operation:#x}");
        }
        assert_eq!(plain_commit(&record[..45]), None);
        assert_eq!(plain_commit(&[&record[..], &[0]].concat()), None);
    }

    proptest! {
        /// Whatever stands in it, the short way reads nothing or what the long way reads.
        #[test]
        fn the_short_way_reads_what_the_long_way_does(
            changes in proptest::collection::vec((16_usize..46, any::<u8>()), 0..4),
        ) {
            let mut record = commit_record();
            for (at, byte) in changes {
                record[at] = byte;
            }
            if let Some((xid, end)) = plain_commit(&record) {
                let format = WalFormat::of_major(15).unwrap();
                let long = Record::parse(&record, Lsn(8), Lsn(56), format).unwrap();
                prop_assert_eq!(long.op() & op::MASK, op::COMMIT);
                prop_assert_eq!((long.xid, long.origin), (xid, 0));
                prop_assert_eq!(parse_end(long.info, long.main, format), Ok(end));
            }
        }
    }

    #[test]
    fn commit_with_everything() {
        let format = WalFormat::of_major(15).unwrap();
        let mut main = 5_i64.to_le_bytes().to_vec();
        let xinfo = HAS_DBINFO
            | HAS_SUBXACTS
            | HAS_RELFILENODES
            | HAS_DROPPED_STATS
            | HAS_INVALS
            | HAS_TWOPHASE
            | HAS_GID
            | HAS_ORIGIN;
        for word in [xinfo, 16384, 1663, 2, 701, 702, 1, 1663, 16384, 20000] {
            main.extend_from_slice(&word.to_le_bytes());
        }
        main.extend_from_slice(&1_u32.to_le_bytes());
        main.extend_from_slice(&[0; 12]);
        main.extend_from_slice(&1_u32.to_le_bytes());
        main.extend_from_slice(&[0; 16]);
        main.extend_from_slice(&700_u32.to_le_bytes());
        main.extend_from_slice(b"gid\0");
        main.extend_from_slice(&9_u64.to_le_bytes());
        main.extend_from_slice(&10_i64.to_le_bytes());
        let end = parse_end(op::HAS_INFO, &main, format).unwrap();
        assert_eq!(end.subxacts, [Xid(701), Xid(702)]);
        assert_eq!(end.dropped.len(), 1);
        assert_eq!(end.gid.as_deref(), Some(&b"gid"[..]));
        assert_eq!(end.prepared_xid, Some(Xid(700)));
        assert_eq!(end.origin, Some((Lsn(9), 10)));
        for cut in 0..main.len() {
            assert!(parse_end(op::HAS_INFO, &main[..cut], format).is_err());
        }
    }

    #[test]
    fn a_lying_count_allocates_nothing() {
        let format = WalFormat::of_major(16).unwrap();
        let mut main = 5_i64.to_le_bytes().to_vec();
        main.extend_from_slice(&HAS_SUBXACTS.to_le_bytes());
        main.extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(parse_end(op::HAS_INFO, &main, format).is_err());
    }
}
