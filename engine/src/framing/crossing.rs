//! Records that cross pages: put together in the side buffer, page by page.

use redostream_protocol::Lsn;

use super::chunk::{Stop, header_bytes};
use super::crc::Crc32c;
use super::error::FrameError;
use super::framer::{Framer, PAGE};
use super::page::{FIRST_IS_CONTRECORD, FIRST_IS_OVERWRITE_CONTRECORD, LONG_HEADER_BYTES};
use super::partition::Place;
use crate::limits::WAL_PAGE_BYTES;

/// What became of a record that crosses pages.
enum Gathered {
    Whole { end: Lsn },
    Abandoned { page: Lsn },
    Short { up_to: Lsn },
}

impl Framer<'_> {
    /// A record that crosses pages.
    pub(super) fn take_crossing<C: Crc32c>(
        &mut self,
        bytes: &[u8],
        lsn: Lsn,
        length: u32,
        crc: C,
    ) -> Result<Option<Lsn>, FrameError> {
        let mut side = std::mem::take(&mut self.chunk.side);
        let from = side.len();
        let gathered = self.gather(bytes, lsn, length, &mut side);
        let result = match gathered {
            Ok(Gathered::Whole { end }) => {
                let place = Place::in_side(from as u32);
                let taken = self.take_record(&side[from..], place, lsn, end, crc);
                if taken.is_ok() && self.chunk.stop != Stop::Switch {
                    self.position = Lsn(end.0.next_multiple_of(8));
                }
                taken.map(|()| None)
            }
            Ok(Gathered::Abandoned { page }) => {
                side.truncate(from);
                self.chunk.abandoned = Some(lsn);
                self.position = page;
                Ok(None)
            }
            Ok(Gathered::Short { up_to }) => {
                side.truncate(from);
                Ok(Some(up_to))
            }
            Err(error) => {
                side.truncate(from);
                Err(error)
            }
        };
        self.chunk.side = side;
        result
    }

    fn gather(
        &self,
        bytes: &[u8],
        lsn: Lsn,
        length: u32,
        side: &mut Vec<u8>,
    ) -> Result<Gathered, FrameError> {
        let base = self.chunk.base.0;
        let mut left = length as usize;
        let mut at = (lsn.0 - base) as usize;
        let mut page_end = at.next_multiple_of(WAL_PAGE_BYTES);
        let from = side.len();
        if bytes.len() - at >= left {
            // All of it is there, so its length is not taken on trust: room is made once.
            side.reserve(left);
        }
        loop {
            let here = left.min(page_end - at);
            let Some(piece) = bytes.get(at..at + here) else {
                return Ok(Gathered::Short {
                    up_to: self.end_of_crossing(lsn, length),
                });
            };
            side.extend_from_slice(piece);
            left -= here;
            // The link is checked before any more bytes are believed to belong here.
            if side.len() - from >= 16 && side.len() - from - here < 16 {
                self.check_prev(&side[from..], lsn)?;
            }
            if left == 0 {
                return Ok(Gathered::Whole {
                    end: Lsn(base + (at + here) as u64),
                });
            }
            let page = Lsn(base + page_end as u64);
            // No more than the header is asked for: at the live end the few bytes behind it may be
            // all there is for now.
            if bytes.len() < page_end + header_bytes(page, self.rules.segment_bytes) {
                return Ok(Gathered::Short {
                    up_to: self.end_of_crossing(lsn, length),
                });
            }
            let header = self.page_header(&bytes[page_end..], page)?;
            if header.info & FIRST_IS_OVERWRITE_CONTRECORD != 0 {
                return Ok(Gathered::Abandoned { page });
            }
            if header.info & FIRST_IS_CONTRECORD == 0 || header.rem_len as usize != left {
                let (rem_len, expected) = (header.rem_len, left as u32);
                return Err(FrameError::Continuation {
                    page,
                    rem_len,
                    expected,
                });
            }
            at = page_end + header.bytes;
            page_end += WAL_PAGE_BYTES;
        }
    }

    /// Upper bound of where a crossing record ends.
    fn end_of_crossing(&self, lsn: Lsn, length: u32) -> Lsn {
        let body = (WAL_PAGE_BYTES - LONG_HEADER_BYTES) as u64;
        let pages = u64::from(length).div_ceil(body) + 1;
        Lsn((lsn.0 - lsn.0 % PAGE) + (pages + 1) * PAGE)
    }
}
