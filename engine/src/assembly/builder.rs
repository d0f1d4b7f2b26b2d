//! Writes released events into blocks.
//!
//! Small stretches of events are copied into the block's glue, larger ones become pieces by
//! reference. The builder keeps what must hold across blocks: that positions rise, and the running
//! checksum of the transaction being written. What goes into a block is its caller's choice.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use redostream_protocol::event::{EventHeader, EventKind, HEADER_BYTES, TransactionHeader};
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::{DatabaseOid, Lsn, Position, TimelineId, Xid};
use rustc_hash::FxHashSet;

use super::error::AssemblyError;
use super::transaction::Place;
use crate::feed::block::Block;
use crate::limits::{BLOCK_BYTES, BLOCK_SLACK_BYTES, COPY_BYTES_MAX, REFERENCE_SHARE};

/// Bytes of a commit event.
const COMMIT_BYTES: usize = HEADER_BYTES + 12;
/// Room that a begin event without origin and global id takes, at most: seven numbers and two tags.
const PLAIN_HEADER_BYTES: usize = 64;
/// Up to so many relations in a block a list is searched faster than a set.
const FEW_RELATIONS: usize = 32;

/// Consecutive events of one transaction, all passed on as they are.
#[derive(Clone, Copy)]
pub(super) struct Stretch<'a> {
    /// Place of the first event.
    pub(super) first: Place,
    /// Place of the last.
    pub(super) last: Place,
    /// Number of events.
    pub(super) events: u32,
    /// Number of inserts, updates and deletes.
    pub(super) rows: u32,
    /// Relation versions they name.
    pub(super) relations: &'a [RelationVersion],
}

/// The block being written.
#[derive(Debug, Default)]
pub(super) struct BlockBuilder {
    glue: Vec<u8>,
    glue_hint: usize,
    pieces: Vec<Bytes>,
    piece_bytes: usize,
    first: Option<Position>,
    last: Position,
    timeline: TimelineId,
    commit_lsn: Lsn,
    continues: Option<Arc<TransactionHeader>>,
    events: u64,
    rows: u64,
    transactions: u64,
    databases: Vec<DatabaseOid>,
    relations: Vec<RelationVersion>,
    relation_set: FxHashSet<RelationVersion>,
    checksum: crc32fast::Hasher,
    /// Offset into the glue up to which the checksum has come.
    summed: usize,
}

impl BlockBuilder {
    /// Goes on after `last`, the position of the last event released.
    pub(super) fn after(last: Position) -> Self {
        Self {
            last,
            ..Self::default()
        }
    }

    /// Says how many bytes are about to come, so that the glue need not grow.
    pub(super) fn expect(&mut self, bytes: usize) {
        self.glue_hint = bytes.min(BLOCK_BYTES + BLOCK_SLACK_BYTES);
    }

    /// Bytes in the block.
    pub(super) fn bytes(&self) -> usize {
        self.piece_bytes + self.glue.len()
    }

    /// Whether the block has no event.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Whether the block is to be closed.
    pub(super) fn is_full(&self) -> bool {
        self.bytes() >= BLOCK_BYTES
    }

    /// Whether so many bytes more make a block of reasonable size.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        self.bytes().saturating_add(bytes) <= BLOCK_BYTES + BLOCK_SLACK_BYTES
    }

    /// Whether an event of so many bytes may go into this block: one that does not fit stands
    /// alone in its block.
    pub(super) fn admits(&self, bytes: usize) -> bool {
        self.is_empty() || self.fits(bytes)
    }

    /// Whether events of this timeline need a block of their own.
    pub(super) fn is_other_timeline(&self, timeline: TimelineId) -> bool {
        self.first.is_some() && self.timeline != timeline
    }

    /// Position of the last event written.
    pub(super) fn last(&self) -> Position {
        self.last
    }

    /// Writes a begin event.
    pub(super) fn begin(&mut self, header: &TransactionHeader) -> Result<(), AssemblyError> {
        self.timeline = header.timeline;
        self.commit_lsn = header.commit_lsn;
        let at = Position::begin(header.timeline, header.commit_lsn);
        self.advance(at, at)?;
        self.reserve();
        let event = EventHeader {
            size: 0,
            kind: EventKind::Begin,
            flags: 0,
            count: 0,
            xid: header.xid,
            relation: RelationVersion(0),
            record_lsn: Lsn(0),
            row: 0,
        };
        let start = self.glue.len();
        self.glue.extend_from_slice(&event.to_bytes());
        let encoding = |source| AssemblyError::Header {
            lsn: header.commit_lsn,
            source,
        };
        if header.origin.is_none() && header.gid.is_none() {
            let mut plain = [0; PLAIN_HEADER_BYTES];
            let used = postcard::to_slice(header, &mut plain).map_err(encoding)?;
            self.glue.extend_from_slice(used);
        } else {
            let bytes = postcard::to_allocvec(header).map_err(encoding)?;
            self.glue.extend_from_slice(&bytes);
        }
        let size = (self.glue.len() - start) as u32;
        self.glue[start..start + 4].copy_from_slice(&size.to_le_bytes());
        self.add_database(header.database);
        self.events += 1;
        self.checksum.reset();
        self.summed = self.glue.len();
        Ok(())
    }

    /// Writes a commit event. `crc` is the checksum of the transaction's events if it is known.
    pub(super) fn commit(
        &mut self,
        top: Xid,
        events: u64,
        crc: Option<u32>,
    ) -> Result<(), AssemblyError> {
        let at = Position::commit(self.timeline, self.commit_lsn);
        self.advance(at, at)?;
        let crc = crc.unwrap_or_else(|| {
            self.sum_glue();
            self.checksum.clone().finalize()
        });
        let header = EventHeader {
            size: COMMIT_BYTES as u32,
            kind: EventKind::Commit,
            flags: 0,
            count: 0,
            xid: top,
            relation: RelationVersion(0),
            record_lsn: self.commit_lsn,
            row: Position::COMMIT_ROW,
        };
        let mut event = [0; COMMIT_BYTES];
        event[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        event[HEADER_BYTES..HEADER_BYTES + 8].copy_from_slice(&events.to_le_bytes());
        event[HEADER_BYTES + 8..].copy_from_slice(&crc.to_le_bytes());
        self.glue.extend_from_slice(&event);
        self.summed = self.glue.len();
        self.events += 1;
        self.transactions += 1;
        Ok(())
    }

    /// Writes a unit of its own, an event without begin and commit.
    pub(super) fn standalone(
        &mut self,
        timeline: TimelineId,
        lsn: Lsn,
        database: DatabaseOid,
        relation: RelationVersion,
        event: &Bytes,
    ) -> Result<(), AssemblyError> {
        self.timeline = timeline;
        self.commit_lsn = lsn;
        let stretch = Stretch {
            first: (lsn, 0),
            last: (lsn, 0),
            events: 1,
            rows: 0,
            relations: if relation.0 == 0 { &[] } else { &[relation] },
        };
        self.add_database(database);
        self.shared(event, 0..event.len(), stretch, None)?;
        self.summed = self.glue.len();
        Ok(())
    }

    /// Writes events that are copied.
    pub(super) fn copied(
        &mut self,
        data: &[u8],
        stretch: Stretch<'_>,
    ) -> Result<(), AssemblyError> {
        self.note(stretch)?;
        self.reserve();
        self.glue.extend_from_slice(data);
        Ok(())
    }

    /// Writes events that lie in `data`, by reference if they are worth it. `crc` is their checksum
    /// if it is known.
    pub(super) fn shared(
        &mut self,
        data: &Bytes,
        range: Range<usize>,
        stretch: Stretch<'_>,
        crc: Option<u32>,
    ) -> Result<(), AssemblyError> {
        let length = range.len();
        if length <= COPY_BYTES_MAX || length.saturating_mul(REFERENCE_SHARE) < data.len() {
            return self.copied(&data[range], stretch);
        }
        self.note(stretch)?;
        self.sum_glue();
        match crc {
            Some(crc) => {
                let known = crc32fast::Hasher::new_with_initial_len(crc, length as u64);
                self.checksum.combine(&known);
            }
            None => self.checksum.update(&data[range.clone()]),
        }
        self.flush_glue();
        self.pieces.push(data.slice(range));
        self.piece_bytes += length;
        Ok(())
    }

    /// Writes one event that was built here, taking its buffer if it is large.
    pub(super) fn built(
        &mut self,
        event: &mut Vec<u8>,
        stretch: Stretch<'_>,
    ) -> Result<(), AssemblyError> {
        if event.len() <= crate::limits::REBUILD_SCRATCH_BYTES {
            return self.copied(event, stretch);
        }
        let event = Bytes::from(std::mem::take(event));
        self.shared(&event, 0..event.len(), stretch, None)
    }

    /// Closes the block. Where its transaction goes on in the next one, `continues` is its header.
    pub(super) fn close(
        &mut self,
        wal_end: Lsn,
        continues: Option<Arc<TransactionHeader>>,
    ) -> Block {
        self.sum_glue();
        self.flush_glue();
        self.piece_bytes = 0;
        self.relation_set.clear();
        Block {
            first: self.first.take().unwrap_or(self.last),
            last: self.last,
            wal_end,
            continues: std::mem::replace(&mut self.continues, continues),
            pieces: std::mem::take(&mut self.pieces),
            events: std::mem::take(&mut self.events),
            rows: std::mem::take(&mut self.rows),
            transactions: std::mem::take(&mut self.transactions),
            databases: std::mem::take(&mut self.databases),
            relations: std::mem::take(&mut self.relations),
        }
    }

    fn note(&mut self, stretch: Stretch<'_>) -> Result<(), AssemblyError> {
        let at = |(record_lsn, row)| Position {
            timeline: self.timeline,
            commit_lsn: self.commit_lsn,
            record_lsn,
            row,
        };
        self.advance(at(stretch.first), at(stretch.last))?;
        self.events += u64::from(stretch.events);
        self.rows += u64::from(stretch.rows);
        for relation in stretch.relations {
            self.add_relation(*relation);
        }
        Ok(())
    }

    fn advance(&mut self, first: Position, last: Position) -> Result<(), AssemblyError> {
        if first <= self.last || last < first {
            return Err(AssemblyError::PositionOutOfOrder {
                found: first,
                before: self.last,
            });
        }
        if self.first.is_none() {
            self.first = Some(first);
            if let Some(header) = &self.continues {
                self.add_database(header.database);
            }
        }
        self.last = last;
        Ok(())
    }

    fn add_database(&mut self, database: DatabaseOid) {
        if !self.databases.contains(&database) {
            self.databases.push(database);
        }
    }

    fn add_relation(&mut self, relation: RelationVersion) {
        if self.relations.len() <= FEW_RELATIONS {
            if self.relations.contains(&relation) {
                return;
            }
            self.relations.push(relation);
            if self.relations.len() > FEW_RELATIONS {
                self.relation_set.extend(self.relations.iter().copied());
            }
        } else if self.relation_set.insert(relation) {
            self.relations.push(relation);
        }
    }

    fn reserve(&mut self) {
        if self.glue.capacity() == 0 {
            self.glue
                .reserve(self.glue_hint.saturating_sub(self.piece_bytes));
        }
    }

    fn sum_glue(&mut self) {
        if let Some(fresh) = self.glue.get(self.summed..) {
            self.checksum.update(fresh);
        }
        self.summed = self.glue.len();
    }

    /// Makes the glue a piece. A buffer that is mostly empty is kept, and its content copied.
    fn flush_glue(&mut self) {
        if self.glue.is_empty() {
            return;
        }
        if self.glue.len() * 2 < self.glue.capacity() {
            self.pieces.push(Bytes::copy_from_slice(&self.glue));
            self.piece_bytes += self.glue.len();
            self.glue.clear();
        } else {
            self.piece_bytes += self.glue.len();
            self.pieces
                .push(Bytes::from(std::mem::take(&mut self.glue)));
        }
        self.summed = 0;
    }
}
