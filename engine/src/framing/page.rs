//! WAL page headers.
//!
//! ```text
//! 0       2      4     8          16        20   24           32         36       40
//! | magic | info | tli | pageaddr | rem_len | pad | system id | seg size | blcksz |
//!                                            ^ short header ends here; the first page of a
//!                                              segment has the long one
//! ```
// pg: access/xlog_internal.h XLogPageHeaderData, XLogLongPageHeaderData [14-18]

use redostream_protocol::Lsn;

use crate::limits::WAL_PAGE_BYTES;

/// Bytes of an ordinary page's header.
pub const SHORT_HEADER_BYTES: usize = 24;
/// Bytes of the header of a segment's first page.
pub const LONG_HEADER_BYTES: usize = 40;

/// The page begins with the rest of a record.
pub const FIRST_IS_CONTRECORD: u16 = 0x0001;
/// The page has the long header.
pub const LONG_HEADER: u16 = 0x0002;
/// The record that ran into this page was abandoned; this page begins anew.
pub const FIRST_IS_OVERWRITE_CONTRECORD: u16 = 0x0008;
const ALL_FLAGS: u16 = 0x000F;

/// What a page header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    /// Flag bits.
    pub info: u16,
    /// Timeline of the page's first record.
    pub timeline: u32,
    /// Bytes left of a record that began on an earlier page.
    pub rem_len: u32,
    /// Bytes of this header.
    pub bytes: usize,
}

/// What is wrong with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// Not a WAL page of this version (zeros among them).
    #[error("page magic is {found:#06X}, not {expected:#06X}")]
    Magic {
        /// What is there.
        found: u16,
        /// What this version writes.
        expected: u16,
    },
    /// A page of another place: the segment was recycled, or the file is not what its name says.
    #[error("page says it is at {found}")]
    Address {
        /// Where the page says it is.
        found: Lsn,
    },
    /// A page of a timeline that the log is not on here.
    #[error("page is of timeline {found}, not {expected}")]
    Timeline {
        /// What the page says.
        found: u32,
        /// The timeline of the cluster's history here.
        expected: u32,
    },
    /// Flags that contradict the page's place.
    #[error("page flags {0:#06X} do not fit its place")]
    Flags(u16),
    /// A record's rest that the flags know nothing of.
    #[error("page says that {0} bytes of a record are left, and its flags that none are")]
    Rest(u32),
}

/// Reads a little-endian `u16`; the caller has checked the length.
#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Reads a little-endian `u32`; the caller has checked the length.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

/// Reads a little-endian `u64`; the caller has checked the length.
#[inline]
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}

impl PageHeader {
    /// Reads and checks the header of the page at `address`.
    ///
    /// # Panics
    /// If `page` is shorter than a short header.
    #[inline]
    pub fn parse(
        page: &[u8],
        address: Lsn,
        magic: u16,
        segment_bytes: u64,
    ) -> Result<Self, PageError> {
        assert!(page.len() >= SHORT_HEADER_BYTES, "a header is there");
        let found = u16_at(page, 0);
        if found != magic {
            return Err(PageError::Magic {
                found,
                expected: magic,
            });
        }
        let info = u16_at(page, 2);
        let pageaddr = Lsn(u64_at(page, 8));
        if pageaddr != address {
            return Err(PageError::Address { found: pageaddr });
        }
        let long = info & LONG_HEADER != 0;
        if info & !ALL_FLAGS != 0 || long != address.0.is_multiple_of(segment_bytes) {
            return Err(PageError::Flags(info));
        }
        let rem_len = u32_at(page, 16);
        // Both are always written together.
        // pg: access/transam/xlog.c CopyXLogRecordToWAL [14-18]
        if rem_len != 0 && info & FIRST_IS_CONTRECORD == 0 {
            return Err(PageError::Rest(rem_len));
        }
        let bytes = if long {
            LONG_HEADER_BYTES
        } else {
            SHORT_HEADER_BYTES
        };
        Ok(PageHeader {
            info,
            timeline: u32_at(page, 4),
            rem_len,
            bytes,
        })
    }

    /// Bytes a page at `address` leaves for records.
    #[must_use]
    pub const fn body_bytes(&self) -> usize {
        WAL_PAGE_BYTES - self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(info: u16, rem_len: u32) -> Result<PageHeader, PageError> {
        let mut page = [0; SHORT_HEADER_BYTES];
        page[..2].copy_from_slice(&0xD110_u16.to_le_bytes());
        page[2..4].copy_from_slice(&info.to_le_bytes());
        page[8..16].copy_from_slice(&0x100_2000_u64.to_le_bytes());
        page[16..20].copy_from_slice(&rem_len.to_le_bytes());
        PageHeader::parse(&page, Lsn(0x100_2000), 0xD110, 16 << 20)
    }

    /// Where a record ends with its page, nothing else reads how much of it is left.
    #[test]
    fn a_rest_needs_its_flag() {
        assert_eq!(page(FIRST_IS_CONTRECORD, 7).unwrap().rem_len, 7);
        assert_eq!(page(4, 0).unwrap().rem_len, 0);
        assert_eq!(page(4, 1 << 18), Err(PageError::Rest(1 << 18)));
    }
}
