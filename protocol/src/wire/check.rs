//! Checks events as they arrive.
//!
//! [`scan`] looks at one block alone: every event's structure, the order of positions, and the
//! count and checksum of every transaction that lies whole in it. It needs nothing of what came
//! before, so the connections of a session scan in parallel. [`OrderedCheck`] then does per block
//! what is left: positions across blocks, and transactions that span them.

use std::sync::Arc;

use super::check_events::{check_other, check_row, columns_of, has_columns};
use crate::event::{EventHeader, EventKind, HEADER_BYTES, TransactionHeader, flags};
use crate::schema::RelationVersion;
use crate::{Lsn, Position, TimelineId, Xid};

/// Events that contradict themselves or each other. The stream cannot be trusted from the event
/// before on: connect again and resume after it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The bytes are not an event.
    #[error("event at byte {offset} of its block: {problem}")]
    Malformed {
        /// Where in the block, in bytes.
        offset: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// A position is not after the one before.
    #[error("event at {next} does not come after {last}")]
    OutOfOrder {
        /// The event before.
        last: Position,
        /// The offending one.
        next: Position,
    },
    /// A commit says other numbers than its events have.
    #[error(
        "transaction at {commit}: {wanted_events} events with checksum {wanted_crc:08x} sent, \
         {events} with {crc:08x} arrived"
    )]
    Count {
        /// Position of the commit.
        commit: Position,
        /// As the commit says.
        wanted_events: u64,
        /// As the commit says.
        wanted_crc: u32,
        /// As they arrived.
        events: u64,
        /// As they arrived.
        crc: u32,
    },
    /// The block's head says other things than its events.
    #[error("block from {first} to {last}: {problem}")]
    Head {
        /// First position, as the head says.
        first: Position,
        /// Last position, as the head says.
        last: Position,
        /// What is wrong.
        problem: &'static str,
    },
    /// An event names a relation that was not sent.
    #[error("an event before {last} names relation {} with {columns} columns, which was not sent", version.0)]
    UnknownRelation {
        /// Last position of the block.
        last: Position,
        /// The relation.
        version: RelationVersion,
        /// Columns of the event.
        columns: u16,
    },
}

/// Events of one transaction, or some of them.
#[derive(Clone, Debug, Default)]
pub struct Stretch {
    /// How many.
    pub events: u64,
    /// CRC-32 of their bytes, under way.
    pub crc: crc32fast::Hasher,
}

impl Stretch {
    fn append(&mut self, next: &Stretch) {
        self.events += next.events;
        self.crc.combine(&next.crc);
    }
}

/// What a commit event says of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Position of the commit.
    pub commit: Position,
    /// Events, begin and commit not counted.
    pub events: u64,
    /// CRC-32 of their bytes.
    pub crc: u32,
}

impl Claim {
    fn check(&self, stretch: &Stretch) -> Result<(), CheckError> {
        let crc = stretch.crc.clone().finalize();
        if self.events == stretch.events && self.crc == crc {
            return Ok(());
        }
        Err(CheckError::Count {
            commit: self.commit,
            wanted_events: self.events,
            wanted_crc: self.crc,
            events: stretch.events,
            crc,
        })
    }
}

/// What [`scan`] has found.
#[derive(Clone, Debug, Default)]
pub struct BlockSummary {
    /// Events, begins and commits included.
    pub events: u64,
    /// Inserts, updates, deletes.
    pub rows: u64,
    /// Commits.
    pub transactions: u64,
    /// Position of the first event.
    pub first: Position,
    /// Position of the last event.
    pub last: Position,
    /// The transaction the block begins in.
    pub lead: Option<(Arc<TransactionHeader>, Stretch)>,
    /// Its commit, if it is in the block.
    pub lead_commit: Option<Claim>,
    /// The transaction that begins in the block and does not end in it.
    pub tail: Option<(Arc<TransactionHeader>, Stretch)>,
    /// The relations of the events, distinct, with their columns.
    pub relations: Vec<(RelationVersion, u16)>,
}

/// The transaction that a scan is in.
struct Open {
    header: Arc<TransactionHeader>,
    /// Whether its begin is in an earlier block.
    lead: bool,
    /// Offset of its first event here.
    start: usize,
    events: u64,
}

struct Scan<'a> {
    bytes: &'a [u8],
    timeline: TimelineId,
    open: Option<Open>,
    last: Option<Position>,
    summary: BlockSummary,
}

/// Checks one block of whole events. `timeline` is that of its positions; `continues` is the
/// transaction it begins in, where that began before.
pub fn scan(
    bytes: &[u8],
    timeline: TimelineId,
    continues: Option<&Arc<TransactionHeader>>,
) -> Result<BlockSummary, CheckError> {
    let mut scan = Scan {
        bytes,
        timeline,
        open: continues.map(|header| Open {
            header: Arc::clone(header),
            lead: true,
            start: 0,
            events: 0,
        }),
        last: None,
        summary: BlockSummary::default(),
    };
    let mut offset = 0;
    while offset < bytes.len() {
        let end = scan.event(offset).map_err(|problem| match problem {
            Problem::Malformed(problem) => CheckError::Malformed { offset, problem },
            Problem::Other(error) => *error,
        })?;
        offset = match are_alike(bytes, offset, end) {
            true => scan.rows_like(offset, end),
            false => end,
        };
    }
    scan.finish()
}

enum Problem {
    Malformed(&'static str),
    Other(Box<CheckError>),
}

impl From<&'static str> for Problem {
    fn from(problem: &'static str) -> Self {
        Problem::Malformed(problem)
    }
}

impl From<CheckError> for Problem {
    fn from(error: CheckError) -> Self {
        Problem::Other(Box::new(error))
    }
}

/// Reads the fixed part of the event at `offset`.
#[inline]
fn header_at(bytes: &[u8], offset: usize) -> Result<EventHeader, &'static str> {
    let raw: &[u8; HEADER_BYTES] = bytes
        .get(offset..)
        .and_then(<[u8]>::first_chunk)
        .ok_or("shorter than an event's header")?;
    let u32_at = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    Ok(EventHeader {
        size: u32_at(0),
        kind: EventKind::from_u8(raw[4]).ok_or("unknown kind")?,
        flags: raw[5],
        count: u16::from_le_bytes([raw[6], raw[7]]),
        xid: Xid(u32_at(8)),
        relation: RelationVersion(u32_at(12)),
        record_lsn: Lsn(u64_at(16)),
        row: u32_at(24),
    })
}

/// Whether the events at these offsets have the same kind, flags, columns and relation.
#[inline]
fn are_alike(bytes: &[u8], one: usize, other: usize) -> bool {
    let known = |at: usize| {
        let raw: &[u8; 16] = bytes.get(at..)?.first_chunk()?;
        let [_, _, _, _, kind, flags, c0, c1, _, _, _, _, r0, r1, r2, r3] = *raw;
        Some([kind, flags, c0, c1, r0, r1, r2, r3])
    };
    known(one).is_some_and(|one| known(other) == Some(one))
}

impl Scan<'_> {
    /// Checks the event at `offset`; gives the offset after it.
    #[inline]
    fn event(&mut self, offset: usize) -> Result<usize, Problem> {
        let header = header_at(self.bytes, offset)?;
        let end = offset
            .checked_add(header.size as usize)
            .filter(|_| header.size as usize >= HEADER_BYTES)
            .ok_or("size smaller than a header")?;
        let payload = self
            .bytes
            .get(offset + HEADER_BYTES..end)
            .ok_or("longer than its block")?;
        self.summary.events += 1;
        match header.kind {
            EventKind::Insert | EventKind::Update | EventKind::Delete => {
                self.summary.rows += 1;
                self.inside(&header)?;
                check_row(&header, payload)?;
                self.relation(header.relation, header.count);
            }
            EventKind::Begin => self.begin(&header, payload, end)?,
            EventKind::Commit => self.commit(&header, payload, offset)?,
            _ => self.other(&header, payload)?,
        }
        Ok(end)
    }

    /// Checks the rows at `offset` that are of the same kind and relation as that at `before`, which has
    /// been checked; gives the offset of what is not, or in which something is wrong:
    /// [`Self::event`] says what.
    ///
    /// Most rows are of this kind, and what is known of the one before need not be worked out again.
    fn rows_like(&mut self, before: usize, mut offset: usize) -> usize {
        let (Some(open), Ok(before)) = (&mut self.open, header_at(self.bytes, before)) else {
            return offset;
        };
        if !matches!(
            before.kind,
            EventKind::Insert | EventKind::Update | EventKind::Delete
        ) {
            return offset;
        }
        let columns = columns_of(&before);
        let mut place = (before.record_lsn, before.row);
        let mut events = 0;
        while let Ok(header) = header_at(self.bytes, offset) {
            let alike = (header.kind, header.flags) == (before.kind, before.flags)
                && (header.count, header.relation) == (before.count, before.relation);
            let next = (header.record_lsn, header.row);
            let end = offset.saturating_add(header.size as usize);
            let payload = self.bytes.get(offset + HEADER_BYTES..end);
            let whole = payload.is_some_and(|payload| has_columns(payload, columns).is_ok());
            if !alike || next <= place || !whole {
                break;
            }
            place = next;
            events += 1;
            offset = end;
        }
        open.events += events;
        self.summary.events += events;
        self.summary.rows += events;
        if let Some(last) = &mut self.last {
            (last.record_lsn, last.row) = place;
        }
        offset
    }

    /// Places an event of the open transaction.
    #[inline]
    fn inside(&mut self, header: &EventHeader) -> Result<(), Problem> {
        let open = self.open.as_mut().ok_or("a row outside a transaction")?;
        open.events += 1;
        let position = Position {
            timeline: self.timeline,
            commit_lsn: open.header.commit_lsn,
            record_lsn: header.record_lsn,
            row: header.row,
        };
        self.place(position)
    }

    #[inline]
    fn place(&mut self, next: Position) -> Result<(), Problem> {
        match self.last {
            Some(last) if last >= next => {
                return Err(CheckError::OutOfOrder { last, next }.into());
            }
            Some(_) => {}
            None => self.summary.first = next,
        }
        self.last = Some(next);
        Ok(())
    }

    #[inline]
    fn relation(&mut self, version: RelationVersion, columns: u16) {
        let used = &mut self.summary.relations;
        if used.last() != Some(&(version, columns)) && !used.contains(&(version, columns)) {
            used.push((version, columns));
        }
    }

    fn begin(&mut self, event: &EventHeader, payload: &[u8], end: usize) -> Result<(), Problem> {
        if self.open.is_some() {
            return Err("begin inside a transaction".into());
        }
        let (header, rest) = postcard::take_from_bytes::<TransactionHeader>(payload)
            .map_err(|_| "a begin whose header does not decode")?;
        if !rest.is_empty() || header.timeline != self.timeline {
            return Err("a begin that contradicts its block".into());
        }
        if event.record_lsn != Lsn(0) || event.row != 0 {
            return Err("a begin at another place than its transaction's".into());
        }
        self.place(Position::begin(self.timeline, header.commit_lsn))?;
        self.open = Some(Open {
            header: Arc::new(header),
            lead: false,
            start: end,
            events: 0,
        });
        Ok(())
    }

    fn commit(&mut self, event: &EventHeader, payload: &[u8], at: usize) -> Result<(), Problem> {
        let open = self.open.take().ok_or("commit outside a transaction")?;
        let commit = Position::commit(self.timeline, open.header.commit_lsn);
        if (event.record_lsn, event.row) != (commit.record_lsn, commit.row) {
            return Err("a commit at another place than its transaction's".into());
        }
        self.place(commit)?;
        let numbers: &[u8; 12] = payload.try_into().map_err(|_| "a commit of another size")?;
        let [e0, e1, e2, e3, e4, e5, e6, e7, c0, c1, c2, c3] = *numbers;
        let claim = Claim {
            commit,
            events: u64::from_le_bytes([e0, e1, e2, e3, e4, e5, e6, e7]),
            crc: u32::from_le_bytes([c0, c1, c2, c3]),
        };
        self.summary.transactions += 1;
        let stretch = self.stretch(&open, at);
        if open.lead {
            self.summary.lead = Some((open.header, stretch));
            self.summary.lead_commit = Some(claim);
        } else {
            claim.check(&stretch)?;
        }
        Ok(())
    }

    fn stretch(&self, open: &Open, end: usize) -> Stretch {
        let mut crc = crc32fast::Hasher::new();
        crc.update(self.bytes.get(open.start..end).unwrap_or_default());
        Stretch {
            events: open.events,
            crc,
        }
    }

    fn other(&mut self, header: &EventHeader, payload: &[u8]) -> Result<(), Problem> {
        check_other(header, payload)?;
        let own_unit = matches!(header.kind, EventKind::Message | EventKind::Sequence)
            && header.flags & flags::TRANSACTIONAL == 0;
        match (&self.open, own_unit) {
            (None, true) => self.place(Position {
                timeline: self.timeline,
                commit_lsn: header.record_lsn,
                record_lsn: header.record_lsn,
                row: header.row,
            })?,
            (None, false) => return Err("an event outside a transaction".into()),
            (Some(_), _) => self.inside(header)?,
        }
        match header.kind {
            EventKind::Truncate => {
                for version in payload.as_chunks::<4>().0 {
                    self.relation(RelationVersion(u32::from_le_bytes(*version)), u16::MAX);
                }
            }
            _ if header.relation.0 != 0 => self.relation(header.relation, u16::MAX),
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self) -> Result<BlockSummary, CheckError> {
        if let Some(open) = self.open.take() {
            let stretch = self.stretch(&open, self.bytes.len());
            let place = if open.lead {
                &mut self.summary.lead
            } else {
                &mut self.summary.tail
            };
            *place = Some((open.header, stretch));
        }
        self.summary.last = self.last.unwrap_or_default();
        Ok(self.summary)
    }
}

/// Checks blocks against one another, in order.
#[derive(Debug, Default)]
pub struct OrderedCheck {
    last: Option<Position>,
    open: Option<(Arc<TransactionHeader>, Stretch)>,
    began: bool,
}

impl OrderedCheck {
    /// A check that has seen nothing; what comes must be after `last`, if that is given.
    #[must_use]
    pub const fn new(last: Option<Position>) -> Self {
        Self {
            last,
            open: None,
            began: false,
        }
    }

    /// The transaction that is under way.
    #[must_use]
    pub fn open(&self) -> Option<&Arc<TransactionHeader>> {
        self.open.as_ref().map(|(header, _)| header)
    }

    /// Takes the next block. `columns` gives the number of columns of a relation that was sent.
    pub fn push(
        &mut self,
        block: &BlockSummary,
        mut columns: impl FnMut(RelationVersion) -> Option<usize>,
    ) -> Result<(), CheckError> {
        if let Some(last) = self.last.filter(|last| *last >= block.first) {
            let next = block.first;
            return Err(CheckError::OutOfOrder { last, next });
        }
        let head = |problem| CheckError::Head {
            first: block.first,
            last: block.last,
            problem,
        };
        for (version, used) in &block.relations {
            let known = columns(*version);
            if !known.is_some_and(|known| *used == u16::MAX || known == usize::from(*used)) {
                return Err(CheckError::UnknownRelation {
                    last: block.last,
                    version: *version,
                    columns: *used,
                });
            }
        }
        match (&mut self.open, &block.lead) {
            (Some((open, so_far)), Some((header, lead))) => {
                if open.commit_lsn != header.commit_lsn {
                    return Err(head("it goes on with another transaction"));
                }
                so_far.append(lead);
            }
            // Only the first block of a session may begin inside a transaction.
            (None, Some(lead)) if !self.began => self.open = Some(lead.clone()),
            (None, Some(_)) => return Err(head("it goes on with a transaction that never began")),
            (Some(_), None) => return Err(head("it leaves a transaction open")),
            (None, None) => {}
        }
        if let Some(claim) = &block.lead_commit
            && let Some((_, stretch)) = self.open.take()
        {
            claim.check(&stretch)?;
        }
        if let Some(tail) = &block.tail {
            self.open = Some(tail.clone());
        }
        self.began = true;
        self.last = Some(block.last);
        Ok(())
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
