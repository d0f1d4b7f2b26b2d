//! Framing against a log built byte by byte: any chunking gives the same records, any flipped bit
//! is found or lies in bytes that mean nothing.

use proptest::prelude::*;
use redostream_protocol::Lsn;

use super::chunk::{ChunkBuffers, FramedChunk, FramingRules, Span, Stop, header_bytes};
use super::crc::crc32c;
use super::error::FrameError;
use super::format::WalFormat;
use super::framer::{Framer, Progress};
use crate::catalog::tracked::TrackedFiles;
use crate::limits::WAL_PAGE_BYTES;

const SEGMENT: u64 = 1024 * 1024;
const START: u64 = 16 * SEGMENT;

/// Writes a log as the server would.
struct LogBuilder {
    bytes: Vec<u8>,
    format: &'static WalFormat,
    last: u64,
    records: Vec<u64>,
    /// Whether each byte means something.
    meant: Vec<bool>,
}

impl LogBuilder {
    fn new(format: &'static WalFormat) -> Self {
        LogBuilder {
            bytes: Vec::new(),
            format,
            last: START - 100,
            records: Vec::new(),
            meant: Vec::new(),
        }
    }

    fn lsn(&self) -> u64 {
        START + self.bytes.len() as u64
    }

    fn page_header(&mut self, rem_len: u32) {
        let lsn = self.lsn();
        let long = lsn.is_multiple_of(SEGMENT);
        let info = u16::from(rem_len > 0) | if long { 2 } else { 0 };
        let mut header = self.format.page_magic.to_le_bytes().to_vec();
        header.extend_from_slice(&info.to_le_bytes());
        header.extend_from_slice(&1_u32.to_le_bytes());
        header.extend_from_slice(&lsn.to_le_bytes());
        header.extend_from_slice(&rem_len.to_le_bytes());
        header.resize(header_bytes(Lsn(lsn), SEGMENT), 0);
        // Magic, flags, address and remaining length are checked; the timeline is the source's.
        let checked = |at: usize| at < 4 || (8..20).contains(&at);
        self.meant.extend((0..header.len()).map(checked));
        self.bytes.extend_from_slice(&header);
    }

    fn push(&mut self, rmgr: u8, info: u8, xid: u32, payload: &[u8]) {
        if self.bytes.len().is_multiple_of(WAL_PAGE_BYTES) {
            self.page_header(0);
        }
        let lsn = self.lsn();
        let mut record = ((24 + payload.len()) as u32).to_le_bytes().to_vec();
        record.extend_from_slice(&xid.to_le_bytes());
        record.extend_from_slice(&self.last.to_le_bytes());
        record.extend_from_slice(&[info, rmgr, 0, 0]);
        let mut summed = payload.to_vec();
        summed.extend_from_slice(&record);
        record.extend_from_slice(&crc32c(&summed).to_le_bytes());
        record.extend_from_slice(payload);
        self.last = lsn;
        self.records.push(lsn);
        let mut rest = &record[..];
        while !rest.is_empty() {
            if self.bytes.len().is_multiple_of(WAL_PAGE_BYTES) {
                self.page_header(rest.len() as u32);
            }
            let room = WAL_PAGE_BYTES - self.bytes.len() % WAL_PAGE_BYTES;
            let (here, later) = rest.split_at(room.min(rest.len()));
            self.bytes.extend_from_slice(here);
            self.meant.resize(self.bytes.len(), true);
            rest = later;
        }
        let padded = self.bytes.len().next_multiple_of(8);
        self.bytes.resize(padded, 0);
        self.meant.resize(padded, false);
    }

    /// A record with main data only.
    fn push_main(&mut self, rmgr: u8, info: u8, xid: u32, main: &[u8]) {
        let mut payload = vec![254];
        payload.extend_from_slice(&(main.len() as u32).to_le_bytes());
        payload.extend_from_slice(main);
        self.push(rmgr, info, xid, &payload);
    }
}

/// Frames `bytes` in chunks; gives the records' places by the groups' and rows' bookkeeping.
fn frame_all(bytes: &[u8], format: &'static WalFormat, chunk: u64) -> (u64, Lsn, Stop) {
    let rules = FramingRules {
        format,
        segment_bytes: SEGMENT,
        partitions: 2,
        timelines: None,
    };
    let end = START + bytes.len() as u64;
    let (mut at, mut records, mut expected) = (START, 0, None);
    loop {
        let to = (at + chunk).min(end);
        let span = Span {
            start: Lsn(at),
            exact: false,
            end: Lsn(to),
        };
        let framed = frame(bytes, rules, span);
        if let (Some(first), Some((next, last))) = (framed.first, expected)
            && (first.lsn != next || first.prev != last)
        {
            let stray = FrameError::StrayContinuation(first.lsn);
            return (records, next, Stop::Bad(stray));
        }
        records += framed.records;
        if framed.first.is_some() {
            expected = Some((framed.next, framed.last));
        }
        if framed.stop != Stop::End || to == end {
            return (records, framed.next, framed.stop);
        }
        at = to;
    }
}

fn frame(bytes: &[u8], rules: FramingRules, span: Span) -> FramedChunk {
    let tracked = TrackedFiles::default();
    let from = (span.start.0 - START) as usize;
    let to = (span.end.0 - START) as usize;
    let mut framer = Framer::new(rules, &tracked, span, ChunkBuffers::over(&bytes[from..to]));
    while let Progress::NeedsUpTo(lsn) = framer.run() {
        let have = (framer.available_end().0 - START) as usize;
        let want = ((lsn.0 - START) as usize).min(bytes.len());
        if want <= have {
            break;
        }
        framer.bytes_mut().extend_from_slice(&bytes[have..want]);
    }
    framer.finish()
}

fn sample(format: &'static WalFormat, sizes: &[usize]) -> LogBuilder {
    let mut log = LogBuilder::new(format);
    for (number, size) in sizes.iter().enumerate() {
        let main: Vec<u8> = (0..*size).map(|i| (i * 31 + number) as u8).collect();
        // B-tree records are checked and passed over.
        log.push_main(11, 0, 700 + number as u32 % 5, &main);
    }
    log
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_chunking_gives_the_same_records(
        sizes in prop::collection::vec(prop_oneof![8 => 0_usize..300, 1 => 7000_usize..40_000], 1..300),
        pages in 1_u64..20,
    ) {
        for format in &super::format::FORMATS {
            let log = sample(format, &sizes);
            let mut bytes = log.bytes.clone();
            bytes.resize(bytes.len().next_multiple_of(WAL_PAGE_BYTES), 0);
            let (records, next, stop) = frame_all(&bytes, format, pages * WAL_PAGE_BYTES as u64);
            prop_assert_eq!(records, sizes.len() as u64);
            let end = log.lsn();
            let skipped = if end.is_multiple_of(WAL_PAGE_BYTES as u64) { header_bytes(Lsn(end), SEGMENT) as u64 } else { 0 };
            prop_assert_eq!(next.0, end + skipped);
            let ended = matches!(stop, Stop::Bad(FrameError::Zero)) || stop == Stop::End;
            prop_assert!(ended, "{:?}", stop);
        }
    }
}

/// At the live end a record's last bytes may be all that there is of a page: fewer than a long
/// header would have.
#[test]
fn a_record_is_whole_with_its_last_byte() {
    for format in &super::format::FORMATS {
        for tail in 1..=40 {
            let mut log = LogBuilder::new(format);
            let left = 64;
            log.push_main(11, 0, 700, &vec![1; WAL_PAGE_BYTES - 40 - left - 29]);
            log.push_main(11, 0, 700, &vec![2; left + tail - 29]);
            let bytes = &log.bytes[..WAL_PAGE_BYTES + 24 + tail];
            let (records, _, stop) = frame_all(bytes, format, 1 << 20);
            assert_eq!((records, stop), (2, Stop::End), "{tail} bytes");
            let (records, _, _) = frame_all(&bytes[..bytes.len() - 1], format, 1 << 20);
            assert_eq!(records, 1, "{tail} bytes");
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let format = WalFormat::of_major(15).unwrap();
    let sizes: Vec<usize> = (0..120)
        .map(|i| [10, 60, 200, 9000][i % 4] / (1 + i % 3))
        .collect();
    let log = sample(format, &sizes);
    let whole = frame_all(&log.bytes, format, 32 * 1024).0;
    assert_eq!(whole, sizes.len() as u64);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..10_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bit = (state % (log.bytes.len() as u64 * 8)) as usize;
        let mut bytes = log.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (records, next, stop) = frame_all(&bytes, format, 32 * 1024);
        // Of a page's flags, "removable" means nothing, and "overwritten" only where a record is cut.
        let unread_flag = bit / 8 % WAL_PAGE_BYTES == 2 && matches!(bit % 8, 2 | 3);
        if unread_flag && records == whole {
            continue;
        }
        if !log.meant[bit / 8] {
            assert_eq!(records, whole, "bit {bit} means nothing");
            continue;
        }
        assert!(stop != Stop::End, "bit {bit} was not found");
        // Nothing from the record with the flipped bit on was taken.
        let at = START + (bit / 8) as u64;
        let good = log.records.iter().take_while(|lsn| **lsn <= at).count() as u64;
        assert!(
            records <= good && next.0 <= at.next_multiple_of(WAL_PAGE_BYTES as u64) + 40,
            "bit {bit}"
        );
    }
}

#[test]
fn a_switch_ends_the_segment() {
    let format = WalFormat::of_major(17).unwrap();
    let mut log = LogBuilder::new(format);
    log.push_main(11, 0, 0, b"one");
    log.push(0, 0x40, 0, b"");
    log.bytes.resize(WAL_PAGE_BYTES * 2, 0xAA);
    let (records, next, stop) = frame_all(&log.bytes, format, 8192);
    assert_eq!((records, stop), (2, Stop::Switch));
    assert_eq!(next, Lsn(START + SEGMENT + 40));
}

#[test]
fn an_abandoned_record_is_dropped() {
    let format = WalFormat::of_major(15).unwrap();
    let mut log = LogBuilder::new(format);
    log.push_main(11, 0, 0, b"one");
    let last = log.last;
    let cut = log.lsn();
    log.push_main(11, 0, 0, &[7; 9000]);
    // The server stopped here; it goes on at the next page, which says so.
    log.bytes.truncate(WAL_PAGE_BYTES);
    log.last = last;
    log.page_header(0);
    log.bytes[WAL_PAGE_BYTES + 2] |= 8;
    log.push_main(0, 0xD0, 0, &cut.to_le_bytes());
    log.push_main(11, 0, 0, b"two");
    let rules = FramingRules {
        format,
        segment_bytes: SEGMENT,
        partitions: 1,
        timelines: None,
    };
    let end = Lsn(log.lsn());
    let framed = frame(
        &log.bytes,
        rules,
        Span {
            start: Lsn(START),
            exact: false,
            end,
        },
    );
    assert_eq!(framed.stop, Stop::End);
    assert_eq!((framed.records, framed.abandoned), (3, Some(Lsn(cut))));
}
