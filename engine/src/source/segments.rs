//! WAL segments: their numbers, file names and first page header.
//!
//! Leaves to `timelines.rs` which timeline's file holds an LSN, and to `directories.rs` where the
//! file is.
//!
//! ```text
//! file name    TTTTTTTT HHHHHHHH LLLLLLLL[.partial]   timeline, then the segment's number
//! first page   0     2    4        8           16      20..24   24          32         36      40
//!              | magic | info | timeline | address | rem_len | pad | system id | segment | page |
//! ```

use redostream_protocol::{Cursor, Lsn, ShortInput, TimelineId};

use crate::limits::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};

/// Suffix of a segment that its writer had not finished.
pub const PARTIAL_SUFFIX: &str = ".partial";

/// Bytes of a segment: a power of two from 1 MiB to 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSize(u64);

impl SegmentSize {
    /// PostgreSQL's default, 16 MiB.
    pub const DEFAULT: SegmentSize = SegmentSize(16 * 1024 * 1024);

    /// Takes a size in bytes, if PostgreSQL allows it.
    // pg: access/xlog_internal.h IsValidWalSegSize [14-18]
    #[must_use]
    pub const fn new(bytes: u64) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= SEGMENT_BYTES_MIN && bytes <= SEGMENT_BYTES_MAX {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// Bytes of a segment.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of the segment that holds `lsn`.
    #[must_use]
    pub const fn number(self, lsn: Lsn) -> u64 {
        lsn.0 / self.0
    }

    /// First LSN of segment `number`.
    #[must_use]
    pub const fn start(self, number: u64) -> Lsn {
        Lsn(number.saturating_mul(self.0))
    }

    /// First LSN after segment `number`.
    #[must_use]
    pub const fn end(self, number: u64) -> Lsn {
        self.start(number.saturating_add(1))
    }

    /// Offset of `lsn` in its segment.
    #[must_use]
    pub const fn offset(self, lsn: Lsn) -> u64 {
        lsn.0 % self.0
    }

    /// The file name of segment `number` on `timeline`.
    // pg: access/xlog_internal.h XLogFileName [14-18]
    #[must_use]
    pub fn file_name(self, timeline: TimelineId, number: u64) -> String {
        let per_4_gib = 0x1_0000_0000 / self.0;
        format!(
            "{:08X}{:08X}{:08X}",
            timeline.0,
            number / per_4_gib,
            number % per_4_gib
        )
    }

    /// Reads a segment's file name; other files of `pg_wal` or an archive are `None`.
    #[must_use]
    pub fn parse_name(self, name: &str) -> Option<SegmentName> {
        let (digits, partial) = match name.strip_suffix(PARTIAL_SUFFIX) {
            Some(digits) => (digits, true),
            None => (name, false),
        };
        let upper_hex = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
        if digits.len() != 24 || !digits.bytes().all(upper_hex) {
            return None;
        }
        let part = |at: usize| u64::from_str_radix(digits.get(at..at + 8)?, 16).ok();
        let (timeline, high, low) = (part(0)?, part(8)?, part(16)?);
        let per_4_gib = 0x1_0000_0000 / self.0;
        if low >= per_4_gib {
            return None;
        }
        Some(SegmentName {
            timeline: TimelineId(u32::try_from(timeline).ok()?),
            number: high * per_4_gib + low,
            partial,
        })
    }
}

/// What a segment's file name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentName {
    /// Timeline.
    pub timeline: TimelineId,
    /// Number of the segment.
    pub number: u64,
    /// Whether the file is a `.partial` one.
    pub partial: bool,
}

/// The header of a segment's first page.
// pg: access/xlog_internal.h XLogLongPageHeaderData [14-18]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongPageHeader {
    /// `xlp_magic`, which tells the major version.
    pub magic: u16,
    /// `xlp_info`, flags.
    pub info: u16,
    /// `xlp_tli`.
    pub timeline: TimelineId,
    /// `xlp_pageaddr`, the LSN of the page.
    pub page_address: Lsn,
    /// `xlp_sysid`, the cluster.
    pub system_identifier: u64,
    /// `xlp_seg_size`.
    pub segment_bytes: u32,
    /// `xlp_xlog_blcksz`.
    pub page_bytes: u32,
}

impl LongPageHeader {
    /// Bytes of the header.
    pub const BYTES: usize = 40;
    /// The flag in `info` that says the header is a long one.
    // pg: access/xlog_internal.h XLP_LONG_HEADER [14-18]
    pub const LONG: u16 = 0x0002;

    /// Reads a header. Nothing is checked but the length: a page may well hold none.
    pub fn parse(bytes: &[u8]) -> Result<Self, ShortInput> {
        let mut cursor = Cursor::new(bytes);
        let magic = cursor.u16("page magic")?;
        let info = cursor.u16("page flags")?;
        let timeline = TimelineId(cursor.u32("page timeline")?);
        let page_address = Lsn(cursor.u64("page address")?);
        cursor.take(8, "remaining length")?;
        Ok(Self {
            magic,
            info,
            timeline,
            page_address,
            system_identifier: cursor.u64("system identifier")?,
            segment_bytes: cursor.u32("segment size")?,
            page_bytes: cursor.u32("page size")?,
        })
    }

    /// Whether `info` says that the header is a long one, as a segment's first page must have.
    #[must_use]
    pub const fn is_long(&self) -> bool {
        self.info & Self::LONG != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn sizes_are_what_postgresql_allows() {
        for good in [MIB, 16 * MIB, 1024 * MIB] {
            assert_eq!(SegmentSize::new(good).unwrap().bytes(), good);
        }
        for bad in [0, 1, MIB - 1, 3 * MIB, 2048 * MIB, MIB / 2] {
            assert_eq!(SegmentSize::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_round_trip() {
        for (bytes, lsn, name) in [
            (16 * MIB, 0x0_0100_0000, "000000070000000000000001"),
            (16 * MIB, 0x16_FF00_0123, "0000000700000016000000FF"),
            (MIB, 0x1_FFF0_0000, "000000070000000100000FFF"),
            (1024 * MIB, 0x2_C000_0001, "000000070000000200000003"),
        ] {
            let size = SegmentSize::new(bytes).unwrap();
            let number = size.number(Lsn(lsn));
            assert_eq!(size.file_name(TimelineId(7), number), name);
            let parsed = size.parse_name(name).unwrap();
            assert_eq!((parsed.timeline, parsed.number), (TimelineId(7), number));
            assert!(!parsed.partial);
            assert!(size.parse_name(&format!("{name}.partial")).unwrap().partial);
        }
    }

    #[test]
    fn other_files_are_not_segments() {
        let size = SegmentSize::DEFAULT;
        for name in [
            "",
            "archive_status",
            "00000002.history",
            "000000010000000000000002.00000028.backup",
            "00000001000000000000000g",
            "00000001000000000000000a",
            "000000010000000000000100",
            "000000010000000000000001.gz",
        ] {
            assert_eq!(size.parse_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_short_header_is_an_error() {
        assert!(LongPageHeader::parse(&[0; 39]).is_err());
        assert!(!LongPageHeader::parse(&[0; 40]).unwrap().is_long());
    }
}
