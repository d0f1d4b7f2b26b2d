//! What can be said of one block alone.

use std::sync::Arc;

use super::events::{check_other, check_row, columns_of, has_columns};
use super::{BlockSummary, CheckError, Claim, Stretch};
use crate::event::{EventHeader, EventKind, HEADER_BYTES, TransactionHeader, flags};
use crate::schema::RelationVersion;
use crate::{Lsn, Position, TimelineId, Xid};

/// The transaction that a scan is in.
struct Open {
    begun: Begun,
    commit_lsn: Lsn,
    /// Offset of its first event here.
    start: usize,
    events: u64,
}

/// Where the transaction's begin is.
enum Begun {
    /// In an earlier block.
    Before(Arc<TransactionHeader>),
    /// In this one. Most end in it too: it is shared only if it does not.
    Here(TransactionHeader),
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
            begun: Begun::Before(Arc::clone(header)),
            commit_lsn: header.commit_lsn,
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
    let known = |at| Fixed::at(bytes, at).map(|event| (event.kind, event.relation));
    known(one).is_some_and(|one| known(other) == Some(one))
}

/// The fixed part of an event, in numbers to compare.
struct Fixed {
    size: u32,
    /// Kind, flags and count.
    kind: u32,
    relation: u32,
    record_lsn: u64,
    row: u32,
}

impl Fixed {
    #[inline(always)]
    fn at(bytes: &[u8], offset: usize) -> Option<Self> {
        let raw: &[u8; HEADER_BYTES] = bytes.get(offset..)?.first_chunk()?;
        let u32_at =
            |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        Some(Self {
            size: u32_at(0),
            kind: u32_at(4),
            relation: u32_at(12),
            record_lsn: u64::from(u32_at(16)) | u64::from(u32_at(20)) << 32,
            row: u32_at(24),
        })
    }
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
        let (Some(open), Ok(header)) = (&mut self.open, header_at(self.bytes, before)) else {
            return offset;
        };
        if !matches!(
            header.kind,
            EventKind::Insert | EventKind::Update | EventKind::Delete
        ) {
            return offset;
        }
        let Some(known) = Fixed::at(self.bytes, before) else {
            return offset;
        };
        let columns = columns_of(&header);
        let mut place = (header.record_lsn.0, header.row);
        let mut events = 0;
        while let Some(next) = Fixed::at(self.bytes, offset) {
            let end = offset.saturating_add(next.size as usize);
            let payload = self.bytes.get(offset + HEADER_BYTES..end);
            let whole = payload.is_some_and(|payload| has_columns(payload, columns).is_ok());
            let alike = next.kind == known.kind && next.relation == known.relation;
            if !alike || (next.record_lsn, next.row) <= place || !whole {
                break;
            }
            place = (next.record_lsn, next.row);
            events += 1;
            offset = end;
        }
        open.events += events;
        self.summary.events += events;
        self.summary.rows += events;
        if let Some(last) = &mut self.last {
            (last.record_lsn, last.row) = (Lsn(place.0), place.1);
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
            commit_lsn: open.commit_lsn,
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
        let header = TransactionHeader::read(payload)
            .ok_or("a begin whose header does not decode, or goes on behind it")?;
        if header.timeline != self.timeline {
            return Err("a begin that contradicts its block".into());
        }
        if event.record_lsn != Lsn(0) || event.row != 0 {
            return Err("a begin at another place than its transaction's".into());
        }
        self.place(Position::begin(self.timeline, header.commit_lsn))?;
        self.open = Some(Open {
            commit_lsn: header.commit_lsn,
            begun: Begun::Here(header),
            start: end,
            events: 0,
        });
        Ok(())
    }

    fn commit(&mut self, event: &EventHeader, payload: &[u8], at: usize) -> Result<(), Problem> {
        let open = self.open.take().ok_or("commit outside a transaction")?;
        let commit = Position::commit(self.timeline, open.commit_lsn);
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
        match open.begun {
            Begun::Before(header) => {
                self.summary.lead = Some((header, stretch));
                self.summary.lead_commit = Some(claim);
            }
            Begun::Here(_) => claim.check(&stretch)?,
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
            match open.begun {
                Begun::Before(header) => self.summary.lead = Some((header, stretch)),
                Begun::Here(header) => self.summary.tail = Some((Arc::new(header), stretch)),
            }
        }
        self.summary.last = self.last.unwrap_or_default();
        Ok(self.summary)
    }
}
