//! The framing loop: walks a chunk's pages, checks every record that starts in it, deals it out.
//!
//! A chunk begins either at a page boundary (the page header tells where the first record starts,
//! so chunks are framed in parallel) or at a record's exact start (at the live end). A record
//! that runs past the chunk's end is completed from the bytes behind it: [`Framer::run`] says how
//! far it needs to see, the caller appends bytes and calls again.
//!
//! "Bad" is not judged here: whether it is the end of the log or damage is known only to who
//! knows what lies behind. The chunk then ends before the bad record.

use redostream_protocol::{Lsn, TimelineId};

use super::chunk::{
    ChunkBuffers, FirstRecord, FramedChunk, FramingRules, Span, Stop, header_bytes,
};
use super::crc::{Crc32c, Work};
use super::error::FrameError;
use super::page::{FIRST_IS_CONTRECORD, LONG_HEADER_BYTES, PageError, PageHeader, u32_at, u64_at};
use super::partition::Place;
use super::record::RECORD_HEADER_BYTES;
use super::wal_bytes::WalBytes;
use crate::catalog::tracked::TrackedFiles;
use crate::limits::{CHUNK_BYTES_MAX, RECORD_BYTES_MAX, WAL_PAGE_BYTES};

pub(super) const PAGE: u64 = WAL_PAGE_BYTES as u64;

/// Whether a framing run needs more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The chunk is framed as far as it goes.
    Done,
    /// Bytes up to this LSN would let it go on.
    NeedsUpTo(Lsn),
}

/// Frames one chunk.
pub struct Framer<'a> {
    pub(super) rules: FramingRules,
    pub(super) tracked: &'a TrackedFiles,
    pub(super) span: Span,
    pub(super) position: Lsn,
    pub(super) chunk: FramedChunk,
}

/// The loop over a chunk's pages.
struct WalkPages<'f, 'a, 'b> {
    framer: &'f mut Framer<'a>,
    bytes: &'b [u8],
}

impl Work for WalkPages<'_, '_, '_> {
    type Output = Result<Option<Lsn>, FrameError>;

    #[inline(always)]
    fn run<C: Crc32c>(self, crc: C) -> Self::Output {
        self.framer.walk_pages(self.bytes, crc)
    }
}

impl<'a> Framer<'a> {
    /// Begins a chunk in `buffers`, whose `bytes` hold WAL from the page that `span.start` is on.
    #[must_use]
    pub fn new(
        rules: FramingRules,
        tracked: &'a TrackedFiles,
        span: Span,
        buffers: ChunkBuffers,
    ) -> Self {
        Framer {
            rules,
            tracked,
            span,
            position: span.start,
            chunk: buffers.into_chunk(span.start, rules.partitions),
        }
    }

    /// Which timelines the bytes may be of, now that some were appended.
    pub fn set_timelines(&mut self, timelines: (TimelineId, TimelineId)) {
        self.rules.timelines = Some(timelines);
    }

    /// The buffer, for appending bytes that [`Progress::NeedsUpTo`] asked for.
    pub fn bytes_mut(&mut self) -> &mut WalBytes {
        &mut self.chunk.bytes
    }

    /// LSN behind the bytes that are there.
    #[must_use]
    pub fn available_end(&self) -> Lsn {
        self.chunk.base.add(self.chunk.bytes.len() as u64)
    }

    /// Frames as far as the bytes go.
    pub fn run(&mut self) -> Progress {
        // The loop reads the bytes while it fills the rest of the chunk.
        let bytes = std::mem::take(&mut self.chunk.bytes);
        let walk = WalkPages {
            framer: self,
            bytes: &bytes,
        };
        #[cfg(target_arch = "x86_64")]
        let result = match super::crc::hardware::Sse42::detect() {
            Some(crc) => super::crc::hardware::with(crc, walk),
            None => walk.run(super::crc::Folded),
        };
        #[cfg(not(target_arch = "x86_64"))]
        let result = walk.run(super::crc::Folded);
        self.chunk.bytes = bytes;
        match result {
            Ok(None) => Progress::Done,
            Ok(Some(up_to)) => {
                self.chunk.stop = Stop::Short;
                Progress::NeedsUpTo(up_to)
            }
            Err(error) => {
                self.chunk.stop = Stop::Bad(error);
                Progress::Done
            }
        }
    }

    /// The chunk as framed so far.
    #[must_use]
    pub fn finish(mut self) -> FramedChunk {
        let offset = self.position.0 % PAGE;
        self.chunk.next = if offset == 0 && self.position.0 > 0 {
            self.position
                .add(header_bytes(self.position, self.rules.segment_bytes) as u64)
        } else {
            self.position
        };
        if self.chunk.side.len() > CHUNK_BYTES_MAX {
            // The last record ran on far behind the chunk. It lies in `side` as a whole, so its
            // pages are let go: a large value is not in memory twice more than it must be.
            let start = self.chunk.last.0.saturating_sub(self.chunk.base.0) as usize;
            self.chunk.bytes.set_len(start.min(self.chunk.bytes.len()));
            self.chunk.bytes.shrink_to_fit();
        }
        self.chunk
    }

    #[inline(always)]
    fn walk_pages<C: Crc32c>(&mut self, bytes: &[u8], crc: C) -> Result<Option<Lsn>, FrameError> {
        self.chunk.stop = Stop::End;
        if self.span.exact && self.position == self.span.start {
            // The page's header stands before the first record.
            if bytes.len() < LONG_HEADER_BYTES {
                return Ok(Some(self.chunk.base.add(LONG_HEADER_BYTES as u64)));
            }
            self.page_header(bytes, self.chunk.base)?;
        }
        while self.position < self.span.end {
            let page = Lsn(self.position.0 - self.position.0 % PAGE);
            if self.position == page {
                let header = header_bytes(page, self.rules.segment_bytes) as u64;
                if page.add(header) >= self.span.end {
                    // No record can start on this page before the end.
                    return Ok(None);
                }
                let at = (page.0 - self.chunk.base.0) as usize;
                if bytes.len() < at + LONG_HEADER_BYTES {
                    return Ok(Some(page.add(LONG_HEADER_BYTES as u64)));
                }
                let header = self.page_header(&bytes[at..], page)?;
                match self.enter_page(page, header)? {
                    Some(first) => self.position = first,
                    None => {
                        self.position = page.add(PAGE);
                        continue;
                    }
                }
            }
            if let Some(up_to) = self.walk_page(bytes, page.add(PAGE), crc)? {
                return Ok(Some(up_to));
            }
            if self.chunk.stop == Stop::Switch {
                return Ok(None);
            }
        }
        Ok(None)
    }

    pub(super) fn page_header(&self, bytes: &[u8], page: Lsn) -> Result<PageHeader, FrameError> {
        let magic = self.rules.format.page_magic;
        let header = PageHeader::parse(bytes, page, magic, self.rules.segment_bytes)?;
        let found = header.timeline;
        match self.rules.timelines {
            Some((first, last)) if found < first.0 || found > last.0 => {
                let expected = first.0;
                Err(PageError::Timeline { found, expected }.into())
            }
            _ => Ok(header),
        }
    }

    /// Where the first record of a page starts; none if the page only continues one.
    fn enter_page(&self, page: Lsn, header: PageHeader) -> Result<Option<Lsn>, FrameError> {
        let start = page.add(header.bytes as u64);
        if header.info & FIRST_IS_CONTRECORD == 0 {
            return Ok(Some(start));
        }
        // Only a chunk that begins in the middle of a record meets its rest here.
        let at_chunk_start = self.chunk.first.is_none() && !self.span.exact;
        if !at_chunk_start || header.rem_len == 0 {
            return Err(FrameError::StrayContinuation(page));
        }
        let rest = u64::from(header.rem_len).next_multiple_of(8);
        Ok((rest < header.body_bytes() as u64).then(|| start.add(rest)))
    }

    #[inline(always)]
    fn walk_page<C: Crc32c>(
        &mut self,
        bytes: &[u8],
        page_end: Lsn,
        crc: C,
    ) -> Result<Option<Lsn>, FrameError> {
        let base = self.chunk.base.0;
        while self.position < page_end && self.position < self.span.end {
            let lsn = self.position;
            let at = (lsn.0 - base) as usize;
            if bytes.len() < at + 8 {
                return Ok(Some(lsn.add(RECORD_HEADER_BYTES as u64)));
            }
            let length = u32_at(bytes, at);
            if (length as usize) < RECORD_HEADER_BYTES || length as usize > RECORD_BYTES_MAX {
                return Err(if length == 0 {
                    FrameError::Zero
                } else {
                    FrameError::Length(length)
                });
            }
            let end = lsn.0 + u64::from(length);
            if end <= page_end.0 {
                let Some(record) = bytes.get(at..at + length as usize) else {
                    return Ok(Some(Lsn(end)));
                };
                self.take_record(record, Place::in_chunk(at as u32), lsn, Lsn(end), crc)?;
                if self.chunk.stop == Stop::Switch {
                    return Ok(None);
                }
                self.position = Lsn(end.next_multiple_of(8));
            } else if let Some(up_to) = self.take_crossing(bytes, lsn, length, crc)? {
                return Ok(Some(up_to));
            }
        }
        Ok(None)
    }

    #[inline(always)]
    pub(super) fn check_prev(&self, record: &[u8], lsn: Lsn) -> Result<(), FrameError> {
        let found = Lsn(u64_at(record, 8));
        let expected = self.chunk.last;
        let right = if expected.is_valid() {
            found == expected
        } else {
            found < lsn
        };
        if right {
            Ok(())
        } else {
            Err(FrameError::PrevLink { found, expected })
        }
    }

    #[inline(always)]
    pub(super) fn take_record<C: Crc32c>(
        &mut self,
        record: &[u8],
        place: Place,
        lsn: Lsn,
        end: Lsn,
        crc: C,
    ) -> Result<(), FrameError> {
        self.check_prev(record, lsn)?;
        let found = u32_at(record, 20);
        let computed = crc.record(record);
        if found != computed {
            return Err(FrameError::Crc { found, computed });
        }
        self.deal(record, place, lsn, end)?;
        if self.chunk.first.is_none() {
            self.chunk.first = Some(FirstRecord {
                lsn,
                prev: Lsn(u64_at(record, 8)),
            });
        }
        self.chunk.last = lsn;
        self.chunk.records += 1;
        Ok(())
    }
}
