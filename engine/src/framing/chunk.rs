//! The framing loop: walks a chunk's pages, checks every record that starts in it, deals it out.
//!
//! A chunk begins either at a page boundary (the page header tells where the first record starts,
//! so chunks are framed in parallel) or at a record's exact start (at the live end). A record
//! that runs past the chunk's end is completed from the bytes behind it: [`Framer::run`] says how
//! far it needs to see, the caller appends bytes and calls again.
//!
//! "Bad" is not judged here: whether it is the end of the log or damage is known only to who
//! knows what lies behind. The chunk then ends before the bad record.

use redostream_protocol::{Lsn, RelFileNode, TimelineId, Xid};
use rustc_hash::FxHashMap;

use super::crc::Crc32c;
use super::format::WalFormat;
use super::page::{
    FIRST_IS_CONTRECORD, FIRST_IS_OVERWRITE_CONTRECORD, LONG_HEADER_BYTES, PageError, PageHeader,
    SHORT_HEADER_BYTES, u32_at, u64_at,
};
use super::partition::{
    Group, NO_GROUP, OrderedEntry, OrderedKind, Place, RowEntry, RowKind, partition_of,
};
use super::record::RECORD_HEADER_BYTES;
use super::rmgr::{self, Treatment, heap, id, xlog};
use super::walk;
use crate::catalog::tracked::TrackedFiles;
use crate::limits::{CHUNK_BYTES_MAX, RECORD_BYTES_MAX, WAL_PAGE_BYTES};

const PAGE: u64 = WAL_PAGE_BYTES as u64;

/// Why a record, or the page it should be on, is not what it has to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The page's header is wrong.
    #[error(transparent)]
    Page(#[from] PageError),
    /// No record: zeros.
    #[error("no record here")]
    Zero,
    /// The length cannot be one.
    #[error("record length {0} is impossible")]
    Length(u32),
    /// The record does not link to the one before it.
    #[error("record links back to {found}, not to {expected}")]
    PrevLink {
        /// What it says.
        found: Lsn,
        /// The record before it.
        expected: Lsn,
    },
    /// The sum is wrong.
    #[error("record CRC is {found:08X}, its bytes give {computed:08X}")]
    Crc {
        /// What it carries.
        found: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// The page where the record should go on does not continue it.
    #[error(
        "page {page} does not continue the record ({rem_len} bytes there, {expected} expected)"
    )]
    Continuation {
        /// The page.
        page: Lsn,
        /// What the page says.
        rem_len: u32,
        /// What is left of the record.
        expected: u32,
    },
    /// The first page of the chunk says that a record goes on where none does, or the reverse.
    #[error("page {0} continues a record that does not reach it")]
    StrayContinuation(Lsn),
    /// A resource manager that no version has.
    #[error("unknown resource manager {0}")]
    UnknownManager(u8),
    /// The CRC is right but the inside contradicts itself: a log we cannot read.
    #[error("malformed {manager} record: {problem}")]
    Malformed {
        /// Resource manager.
        manager: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
}

impl FrameError {
    /// Whether the record passed its checks, so that this is not a torn end of the log.
    #[must_use]
    pub const fn is_past_checks(&self) -> bool {
        matches!(
            self,
            FrameError::Malformed { .. } | FrameError::UnknownManager(_)
        )
    }
}

/// Where and why a chunk ends before its plan said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Every record that starts in the planned range was framed.
    End,
    /// A log switch: the rest of the segment means nothing.
    Switch,
    /// The bytes end inside a record or page.
    Short,
    /// What is at [`FramedChunk::next`] is not a record.
    Bad(FrameError),
}

/// The first record of a chunk, for joining it to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstRecord {
    /// Where it starts.
    pub lsn: Lsn,
    /// Its link to the record before it.
    pub prev: Lsn,
}

/// A chunk, framed.
#[derive(Debug)]
pub struct FramedChunk {
    /// LSN of `bytes[0]`, a page boundary.
    pub base: Lsn,
    /// The WAL bytes.
    pub bytes: Vec<u8>,
    /// Records that cross pages, put together.
    pub side: Vec<u8>,
    /// Row records by partition.
    pub partitions: Vec<Vec<RowEntry>>,
    /// Records for the gate.
    pub ordered: Vec<OrderedEntry>,
    /// (Sub)transactions with records here, by first record.
    pub groups: Vec<Group>,
    /// Files with row records here.
    pub files: Vec<RelFileNode>,
    /// The first record, none if none starts here.
    pub first: Option<FirstRecord>,
    /// The last record's start; invalid if none.
    pub last: Lsn,
    /// Where the next record starts (after a page header, if at one).
    pub next: Lsn,
    /// A record cut off by a crash and abandoned, if one was met.
    pub abandoned: Option<Lsn>,
    /// Why it ends at `next`.
    pub stop: Stop,
    /// Records framed, ignored ones too.
    pub records: u64,
    /// Row records.
    pub rows: u64,
}

impl FramedChunk {
    /// The bytes of a record.
    ///
    /// # Panics
    /// Never: places are made by framing from checked records.
    #[must_use]
    #[inline]
    pub fn record(&self, place: Place) -> &[u8] {
        let (side, offset) = place.get();
        let buffer = if side { &self.side } else { &self.bytes };
        let length = u32_at(buffer, offset) as usize;
        &buffer[offset..offset + length]
    }

    /// The LSN at an offset from the base.
    #[must_use]
    #[inline]
    pub const fn lsn(&self, offset: u32) -> Lsn {
        Lsn(self.base.0 + offset as u64)
    }
}

/// Whether a framing run needs more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The chunk is framed as far as it goes.
    Done,
    /// Bytes up to this LSN would let it go on.
    NeedsUpTo(Lsn),
}

/// What stays the same for all chunks of a pipeline.
#[derive(Clone, Copy, Debug)]
pub struct FramingRules {
    /// The version.
    pub format: &'static WalFormat,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Partitions to deal rows to.
    pub partitions: u32,
    /// The timelines of the history at the chunk's first page and at its end, where that is
    /// certain: pages are of these or between.
    // pg: access/transam/xlogreader.c XLogReaderValidatePageHeader [14-18]
    pub timelines: Option<(TimelineId, TimelineId)>,
}

/// Where a chunk begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// A page boundary, or a record's start.
    pub start: Lsn,
    /// Whether `start` is a record's exact start.
    pub exact: bool,
    /// Records that start before this belong to the chunk.
    pub end: Lsn,
}

/// Frames one chunk.
pub struct Framer<'a> {
    rules: FramingRules,
    tracked: &'a TrackedFiles,
    span: Span,
    position: Lsn,
    chunk: FramedChunk,
    file_tracked: Vec<bool>,
    group_of: FxHashMap<u32, u16>,
    file_of: FxHashMap<RelFileNode, u16>,
    last_group: (u32, u16),
    last_file: u16,
}

/// What became of a record that crosses pages.
enum Gathered {
    Whole { end: Lsn },
    Abandoned { page: Lsn },
    Short { up_to: Lsn },
}

impl<'a> Framer<'a> {
    /// Begins a chunk; `bytes` and `partitions` are buffers to reuse, `bytes` holding WAL from
    /// the page that `span.start` is on.
    #[must_use]
    pub fn new(
        rules: FramingRules,
        tracked: &'a TrackedFiles,
        span: Span,
        bytes: Vec<u8>,
        mut partitions: Vec<Vec<RowEntry>>,
    ) -> Self {
        partitions.iter_mut().for_each(Vec::clear);
        partitions.resize_with(rules.partitions as usize, Vec::new);
        let chunk = FramedChunk {
            base: Lsn(span.start.0 - span.start.0 % PAGE),
            bytes,
            side: Vec::new(),
            partitions,
            ordered: Vec::new(),
            groups: Vec::new(),
            files: Vec::new(),
            first: None,
            last: Lsn::INVALID,
            next: span.start,
            abandoned: None,
            stop: Stop::End,
            records: 0,
            rows: 0,
        };
        Framer {
            rules,
            tracked,
            span,
            position: span.start,
            chunk,
            file_tracked: Vec::new(),
            group_of: FxHashMap::default(),
            file_of: FxHashMap::default(),
            last_group: (0, NO_GROUP),
            last_file: u16::MAX,
        }
    }

    /// The buffer, for appending bytes that [`Progress::NeedsUpTo`] asked for.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
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
        #[cfg(target_arch = "x86_64")]
        let result = match super::crc::hardware::Sse42::detect() {
            Some(crc) => super::crc::hardware::with(crc, |crc| self.walk_pages(&bytes, crc)),
            None => self.walk_pages(&bytes, super::crc::Folded),
        };
        #[cfg(not(target_arch = "x86_64"))]
        let result = self.walk_pages(&bytes, super::crc::Folded);
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
            self.chunk.bytes.truncate(start);
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

    fn page_header(&self, bytes: &[u8], page: Lsn) -> Result<PageHeader, FrameError> {
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

    /// A record that crosses pages.
    fn take_crossing<C: Crc32c>(
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
            if bytes.len() < page_end + LONG_HEADER_BYTES {
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

    #[inline(always)]
    fn check_prev(&self, record: &[u8], lsn: Lsn) -> Result<(), FrameError> {
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
    fn take_record<C: Crc32c>(
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

    #[inline]
    fn deal(&mut self, record: &[u8], place: Place, lsn: Lsn, end: Lsn) -> Result<(), FrameError> {
        let xid = u32_at(record, 4);
        let info = record[16];
        let manager = record[17];
        let group = if xid == 0 {
            NO_GROUP
        } else {
            self.group(xid, record, lsn)?
        };
        match manager {
            id::HEAP => self.deal_heap(record, place, lsn, end, info, group),
            id::HEAP2 => self.deal_heap2(record, place, lsn, end, info, group),
            _ => match rmgr::treatment(manager) {
                Treatment::Ignored => Ok(()),
                Treatment::Unknown => Err(FrameError::UnknownManager(manager)),
                Treatment::Decoded | Treatment::Tracked => {
                    self.deal_tracked(record, place, lsn, end, manager, info & 0xF0)
                }
            },
        }
    }

    #[inline]
    fn deal_heap(
        &mut self,
        record: &[u8],
        place: Place,
        lsn: Lsn,
        end: Lsn,
        info: u8,
        group: u16,
    ) -> Result<(), FrameError> {
        let kind = match info & heap::OP_MASK {
            heap::INSERT => RowKind::Insert,
            heap::UPDATE | heap::HOT_UPDATE => RowKind::Update,
            heap::DELETE => RowKind::Delete,
            heap::CONFIRM => RowKind::Confirm,
            heap::TRUNCATE => {
                self.order(place, lsn, end, OrderedKind::Truncate);
                return Ok(());
            }
            _ => return self.deal_catalog_page(record, place, lsn, end),
        };
        self.deal_row(record, place, lsn, end, kind, group)
    }

    fn deal_heap2(
        &mut self,
        record: &[u8],
        place: Place,
        lsn: Lsn,
        end: Lsn,
        info: u8,
        group: u16,
    ) -> Result<(), FrameError> {
        match info & heap::OP_MASK {
            heap::MULTI_INSERT => {
                self.deal_row(record, place, lsn, end, RowKind::MultiInsert, group)
            }
            // Mapping files of a rewrite and command ids serve the server's own decoder, which
            // looks at an old catalog; ours replays it.
            heap::REWRITE | heap::NEW_CID => Ok(()),
            _ => self.deal_catalog_page(record, place, lsn, end),
        }
    }

    #[inline]
    fn deal_row(
        &mut self,
        record: &[u8],
        place: Place,
        lsn: Lsn,
        end: Lsn,
        kind: RowKind,
        group: u16,
    ) -> Result<(), FrameError> {
        let malformed = |problem| FrameError::Malformed {
            manager: "Heap",
            problem,
        };
        let (node, block) = walk::first_block(record, self.rules.format)
            .ok_or_else(|| malformed("no block reference"))?;
        let file = self.file(&node);
        if self.file_tracked[usize::from(file)] {
            self.order(place, lsn, end, OrderedKind::CatalogPage);
            return Ok(());
        }
        if group == NO_GROUP {
            return Err(malformed("a row without a transaction"));
        }
        let entry = RowEntry {
            place,
            lsn_offset: (lsn.0 - self.chunk.base.0) as u32,
            number: self.chunk.records as u32,
            group,
            file,
            kind,
        };
        let partition = partition_of(&node, block, self.rules.partitions);
        self.chunk.partitions[partition].push(entry);
        self.chunk.rows += 1;
        Ok(())
    }

    /// A heap record that is no row: it matters only where it changes a catalog's page.
    fn deal_catalog_page(
        &mut self,
        record: &[u8],
        place: Place,
        lsn: Lsn,
        end: Lsn,
    ) -> Result<(), FrameError> {
        let (node, _) =
            walk::first_block(record, self.rules.format).ok_or(FrameError::Malformed {
                manager: "Heap",
                problem: "no block reference",
            })?;
        let file = self.file(&node);
        if self.file_tracked[usize::from(file)] {
            self.order(place, lsn, end, OrderedKind::CatalogPage);
        }
        Ok(())
    }

    fn deal_tracked(
        &mut self,
        record: &[u8],
        place: Place,
        lsn: Lsn,
        end: Lsn,
        manager: u8,
        op: u8,
    ) -> Result<(), FrameError> {
        let kind = match manager {
            id::XLOG => match op {
                xlog::FPI | xlog::FPI_FOR_HINT => {
                    return self.deal_catalog_page(record, place, lsn, end);
                }
                xlog::SWITCH => {
                    let segment = self.rules.segment_bytes;
                    self.chunk.stop = Stop::Switch;
                    self.position = Lsn(end.0.next_multiple_of(segment));
                    return Ok(());
                }
                xlog::NOOP | xlog::NEXTOID | xlog::RESTORE_POINT => return Ok(()),
                _ => OrderedKind::Log,
            },
            id::TRANSACTION => OrderedKind::Transaction,
            id::STANDBY => match op {
                0x10 => OrderedKind::RunningTransactions,
                _ => return Ok(()),
            },
            id::SEQUENCE => OrderedKind::Sequence,
            id::LOGICAL_MESSAGE => OrderedKind::Message,
            _ => OrderedKind::Replay,
        };
        self.order(place, lsn, end, kind);
        Ok(())
    }

    fn order(&mut self, place: Place, lsn: Lsn, end: Lsn, kind: OrderedKind) {
        let base = self.chunk.base.0;
        self.chunk.ordered.push(OrderedEntry {
            place,
            lsn_offset: (lsn.0 - base) as u32,
            end_offset: (end.0.next_multiple_of(8) - base) as u32,
            number: self.chunk.records as u32,
            kind,
        });
    }

    /// The group of a transaction; the first record of each is searched for its top's xid.
    #[inline]
    fn group(&mut self, xid: u32, record: &[u8], lsn: Lsn) -> Result<u16, FrameError> {
        if self.last_group.0 == xid {
            return Ok(self.last_group.1);
        }
        let group = match self.group_of.get(&xid) {
            Some(group) => *group,
            None => self.new_group(xid, record, lsn)?,
        };
        self.last_group = (xid, group);
        Ok(group)
    }

    #[cold]
    fn new_group(&mut self, xid: u32, record: &[u8], lsn: Lsn) -> Result<u16, FrameError> {
        let malformed = |problem| FrameError::Malformed {
            manager: "any",
            problem,
        };
        let top = walk::top_xid(record, self.rules.format)
            .ok_or_else(|| malformed("headers do not fit the record"))?;
        let group = self.chunk.groups.len() as u16;
        assert!(
            group < NO_GROUP,
            "a chunk holds fewer records than group numbers"
        );
        self.chunk.groups.push(Group {
            xid: Xid(xid),
            top,
            first: lsn,
        });
        self.group_of.insert(xid, group);
        Ok(group)
    }

    #[inline]
    fn file(&mut self, node: &RelFileNode) -> u16 {
        if let Some(last) = self.chunk.files.get(usize::from(self.last_file))
            && last == node
        {
            return self.last_file;
        }
        let next = self.chunk.files.len() as u16;
        let file = *self.file_of.entry(*node).or_insert(next);
        if file == next {
            assert!(
                file < u16::MAX,
                "a chunk holds fewer records than file numbers"
            );
            self.chunk.files.push(*node);
            self.file_tracked.push(self.tracked.contains(*node));
        }
        self.last_file = file;
        file
    }
}

/// Bytes of the header of the page at `page`.
#[must_use]
pub const fn header_bytes(page: Lsn, segment_bytes: u64) -> usize {
    if page.0.is_multiple_of(segment_bytes) {
        LONG_HEADER_BYTES
    } else {
        SHORT_HEADER_BYTES
    }
}
