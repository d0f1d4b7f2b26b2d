//! WAL segments read record by record: framing in small.

use std::path::Path;

use redostream_protocol::Lsn;

use crate::framing::crc::{Crc32c, Folded};
use crate::framing::format::WalFormat;
use crate::framing::rmgr::id;

/// The page's first record takes the place of one that a crash cut off.
// pg: access/xlog_internal.h XLP_FIRST_IS_OVERWRITE_CONTRECORD [14-18]
const OVERWRITES: u8 = 0x08;

/// Why bytes of a record are not to be had.
#[derive(PartialEq, Eq)]
enum Missing {
    /// The log ends.
    End,
    /// A crash cut the record off; the log goes on at the page just entered.
    Overwritten,
}

/// WAL segments of one timeline, read as one stretch of bytes.
pub(super) struct Wal {
    pub(super) format: &'static WalFormat,
    segment_bytes: u64,
    first: u64,
    bytes: Vec<u8>,
    position: u64,
    last: u64,
}

impl Wal {
    pub(super) fn open(
        directory: &Path,
        format: &'static WalFormat,
        segment_bytes: u64,
        start: Lsn,
    ) -> Wal {
        let mut number = start.0 / segment_bytes;
        let first = number * segment_bytes;
        let mut bytes = Vec::new();
        let per_log = 0x1_0000_0000 / segment_bytes;
        loop {
            let name = format!("{:08X}{:08X}{:08X}", 1, number / per_log, number % per_log);
            match std::fs::read(directory.join(name)) {
                Ok(segment) => bytes.extend(segment),
                Err(_) => break,
            }
            number += 1;
        }
        Wal {
            format,
            segment_bytes,
            first,
            bytes,
            position: start.0,
            last: 0,
        }
    }

    fn take(&mut self, wanted: usize) -> Result<Vec<u8>, Missing> {
        let mut out = Vec::new();
        while out.len() < wanted {
            if self.position.is_multiple_of(8192) {
                let long = self.position.is_multiple_of(self.segment_bytes);
                let at = (self.position - self.first) as usize;
                let header = self.bytes.get(at..at + 16).ok_or(Missing::End)?;
                if header[8..16] != self.position.to_le_bytes() {
                    return Err(Missing::End);
                }
                self.position += if long { 40 } else { 24 };
                if header[2] & OVERWRITES != 0 {
                    return Err(Missing::Overwritten);
                }
            }
            let at = (self.position - self.first) as usize;
            let room = (8192 - self.position % 8192) as usize;
            let here = room.min(wanted - out.len());
            let bytes = self.bytes.get(at..at + here).ok_or(Missing::End)?;
            out.extend_from_slice(bytes);
            self.position += here as u64;
        }
        Ok(out)
    }

    /// Where the next record starts.
    pub(super) fn settle(&mut self) -> u64 {
        self.position = self.position.next_multiple_of(8);
        if self.position.is_multiple_of(8192) {
            let long = self.position.is_multiple_of(self.segment_bytes);
            self.position += if long { 40 } else { 24 };
        }
        self.position
    }

    fn record(&mut self) -> Result<Vec<u8>, Missing> {
        let mut bytes = self.take(4)?;
        let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
        if length < 24 {
            return Err(Missing::End);
        }
        bytes.extend(self.take(length - 4)?);
        Ok(bytes)
    }

    /// The next record: start, end, bytes.
    pub(super) fn next(&mut self) -> Option<(Lsn, Lsn, Vec<u8>)> {
        let start = self.settle();
        let bytes = match self.record() {
            Ok(bytes) => bytes,
            Err(Missing::End) => return None,
            Err(Missing::Overwritten) => {
                eprintln!("a crash cut off the record at {}", Lsn(start));
                return self.next();
            }
        };
        let prev = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
        if self.last != 0 && prev != self.last {
            return None;
        }
        assert_eq!(
            Folded.record(&bytes).to_le_bytes(),
            bytes[20..24],
            "CRC of the record at {}",
            Lsn(start)
        );
        self.last = start;
        let end = self.position;
        if bytes[17] == id::XLOG && bytes[16] & 0xF0 == 0x40 {
            self.position = self.position.next_multiple_of(self.segment_bytes);
        }
        Some((Lsn(start), Lsn(end), bytes))
    }
}
