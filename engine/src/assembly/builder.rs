//! Writes released events into blocks.
//!
//! Small stretches of events are copied into the block's glue, larger ones become pieces by
//! reference. The builder keeps what must hold across blocks: that positions rise, and the running
//! checksum of the transaction being written. What goes into a block is its caller's choice.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use redostream_protocol::event::{EventKind, HEADER_BYTES, TransactionHeader};
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::{DatabaseOid, Lsn, Position, TimelineId, Xid};
use rustc_hash::FxHashSet;

use super::error::AssemblyError;
use super::part::{Commit, Particulars};
use super::transaction::Place;
use crate::feed::block::Block;
use crate::limits::{
    BLOCK_BYTES, BLOCK_SLACK_BYTES, COPY_BYTES_MAX, COPY_BYTES_MAX_PASSING, PASSING_BUFFERS_MAX,
    REFERENCE_SHARE,
};
use crate::pool::BufferPool;

/// Bytes of a commit event.
const COMMIT_BYTES: usize = HEADER_BYTES + 12;
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
    /// Whether they say of rows that they cannot be decoded.
    pub(super) undecodable: bool,
}

/// A piece of the block being written.
#[derive(Debug)]
enum Piece {
    /// A range of the glue.
    Glue(Range<usize>),
    Shared(Bytes),
}

/// The block being written.
#[derive(Debug, Default)]
pub(super) struct BlockBuilder {
    /// Where blocks are soon gone, their buffers for use again.
    passing: Option<BufferPool>,
    glue: Vec<u8>,
    glue_hint: usize,
    pieces: Vec<Piece>,
    /// Offset of the glue that is not in a piece yet.
    loose: usize,
    /// Bytes of pieces by reference.
    shared_bytes: usize,
    first: Option<Position>,
    /// Of the last event released, and so of the transaction being written.
    timeline: TimelineId,
    commit_lsn: Lsn,
    /// Place of the last event within its transaction.
    place: Place,
    continues: Option<Arc<TransactionHeader>>,
    events: u64,
    rows: u64,
    transactions: u64,
    databases: Vec<DatabaseOid>,
    relations: Vec<RelationVersion>,
    relation_set: FxHashSet<RelationVersion>,
    undecodable: bool,
    checksum: crc32fast::Hasher,
    /// Whether the checksum has anything in it.
    is_summing: bool,
    /// Offset into the glue up to which the checksum has come.
    summed: usize,
}

/// Appends the fixed part of a begin event with so many bytes of payload.
#[inline]
fn push_begin(out: &mut Vec<u8>, top: Xid, payload: usize) {
    let size = (HEADER_BYTES + payload) as u64;
    push_words(
        out,
        [
            size | u64::from(EventKind::Begin as u8) << 32,
            u64::from(top.0),
            0,
        ],
    );
    out.extend_from_slice(&0u32.to_le_bytes());
}

/// Appends numbers, each by one store: an event put together elsewhere and copied from there is
/// read back before its parts have left the processor's store buffer, which costs more than all
/// the rest.
#[inline]
fn push_words<const N: usize>(out: &mut Vec<u8>, words: [u64; N]) {
    out.reserve(N * 8);
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

impl BlockBuilder {
    /// Goes on after `last`, the position of the last event released.
    pub(super) fn after(last: Position) -> Self {
        Self {
            timeline: last.timeline,
            commit_lsn: last.commit_lsn,
            place: (last.record_lsn, last.row),
            ..Self::default()
        }
    }

    /// Blocks are soon gone: small stretches may keep large arenas alive, and are not copied, and
    /// buffers come back.
    pub(super) fn pass_on(&mut self) {
        self.passing = Some(BufferPool::new(PASSING_BUFFERS_MAX));
    }

    /// Whether `length` bytes of `all` are better copied than kept by reference.
    const fn is_small(&self, length: usize, all: usize) -> bool {
        if self.passing.is_some() {
            return length <= COPY_BYTES_MAX_PASSING;
        }
        length <= COPY_BYTES_MAX || length.saturating_mul(REFERENCE_SHARE) < all
    }

    /// Says how many bytes are about to come, so that the glue need not grow.
    pub(super) fn expect(&mut self, bytes: usize) {
        self.glue_hint = bytes.min(BLOCK_BYTES + BLOCK_SLACK_BYTES);
    }

    /// Bytes in the block.
    pub(super) fn bytes(&self) -> usize {
        self.shared_bytes + self.glue.len()
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
        self.position(self.place)
    }

    fn position(&self, (record_lsn, row): Place) -> Position {
        Position {
            timeline: self.timeline,
            commit_lsn: self.commit_lsn,
            record_lsn,
            row,
        }
    }

    /// Writes a begin event.
    pub(super) fn begin(&mut self, header: &TransactionHeader) -> Result<(), AssemblyError> {
        let encoded = postcard::to_allocvec(header).map_err(|source| AssemblyError::Header {
            lsn: header.commit_lsn,
            source,
        })?;
        self.enter(header.timeline, header.commit_lsn, (Lsn(0), 0))?;
        self.reserve();
        push_begin(&mut self.glue, header.xid, encoded.len());
        self.glue.extend_from_slice(&encoded);
        self.begun(header.database);
        Ok(())
    }

    /// Writes the begin event of a transaction without origin and global id: as [`Self::begin`],
    /// but nothing is allocated.
    pub(super) fn begin_plain(
        &mut self,
        commit: &Commit,
        lsn: Lsn,
        end_lsn: Lsn,
    ) -> Result<(), AssemblyError> {
        let particulars = commit.particulars.as_deref();
        debug_assert!(particulars.is_none_or(Particulars::is_nameless));
        self.enter(commit.timeline, lsn, (Lsn(0), 0))?;
        self.reserve();
        let glue = &mut self.glue;
        glue.reserve(HEADER_BYTES + TransactionHeader::PLAIN_BYTES_MAX);
        let start = glue.len();
        push_begin(glue, commit.top, 0);
        let names = (commit.top, commit.database);
        let (timeline, time) = (commit.timeline, commit.commit_time_us);
        TransactionHeader::push_plain(glue, timeline, (lsn, end_lsn), names, time);
        let size = (glue.len() - start) as u32;
        glue[start..start + 4].copy_from_slice(&size.to_le_bytes());
        self.begun(commit.database);
        Ok(())
    }

    fn begun(&mut self, database: DatabaseOid) {
        self.add_database(database);
        self.events += 1;
        self.checksum.reset();
        self.is_summing = false;
        self.summed = self.glue.len();
    }

    /// Writes a commit event. `crc` is the checksum of the transaction's events if it is known.
    pub(super) fn commit(
        &mut self,
        top: Xid,
        events: u64,
        crc: Option<u32>,
    ) -> Result<(), AssemblyError> {
        let at = (self.commit_lsn, Position::COMMIT_ROW);
        self.advance(at, at)?;
        let crc = crc.unwrap_or_else(|| {
            self.sum_glue();
            self.checksum.clone().finalize()
        });
        let events_low = u64::from(events as u32);
        self.reserve();
        push_words(
            &mut self.glue,
            [
                COMMIT_BYTES as u64 | u64::from(EventKind::Commit as u8) << 32,
                u64::from(top.0),
                self.commit_lsn.0,
                u64::from(Position::COMMIT_ROW) | events_low << 32,
                events >> 32 | u64::from(crc) << 32,
            ],
        );
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
        self.enter(timeline, lsn, (lsn, 0))?;
        self.add_database(database);
        if relation.0 != 0 {
            self.add_relation(relation);
        }
        self.events += 1;
        self.summed = self.glue.len();
        self.put(event, 0..event.len(), None);
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
    #[inline]
    pub(super) fn shared(
        &mut self,
        data: &Bytes,
        range: Range<usize>,
        stretch: Stretch<'_>,
        crc: Option<u32>,
    ) -> Result<(), AssemblyError> {
        self.note(stretch)?;
        self.put(data, range, crc);
        Ok(())
    }

    fn put(&mut self, data: &Bytes, range: Range<usize>, crc: Option<u32>) {
        let length = range.len();
        if self.is_small(length, data.len()) {
            self.reserve();
            self.glue.extend_from_slice(&data[range]);
            return;
        }
        self.sum_glue();
        match crc {
            Some(crc) => {
                let known = crc32fast::Hasher::new_with_initial_len(crc, length as u64);
                // Joining two sums costs as much as summing some hundred bytes.
                match self.is_summing {
                    true => self.checksum.combine(&known),
                    false => self.checksum = known,
                }
            }
            None => self.checksum.update(&data[range.clone()]),
        }
        self.is_summing = true;
        self.end_glue_piece();
        self.pieces.push(Piece::Shared(data.slice(range)));
        self.shared_bytes += length;
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
        self.end_glue_piece();
        let pieces = self.take_pieces();
        self.relation_set.clear();
        let last = self.last();
        Block {
            first: self.first.take().unwrap_or(last),
            last,
            wal_end,
            continues: std::mem::replace(&mut self.continues, continues),
            pieces,
            events: std::mem::take(&mut self.events),
            rows: std::mem::take(&mut self.rows),
            transactions: std::mem::take(&mut self.transactions),
            databases: std::mem::take(&mut self.databases),
            relations: std::mem::take(&mut self.relations),
            undecodable: std::mem::take(&mut self.undecodable),
        }
    }

    #[inline]
    fn note(&mut self, stretch: Stretch<'_>) -> Result<(), AssemblyError> {
        self.advance(stretch.first, stretch.last)?;
        self.events += u64::from(stretch.events);
        self.rows += u64::from(stretch.rows);
        self.undecodable |= stretch.undecodable;
        for relation in stretch.relations {
            self.add_relation(*relation);
        }
        Ok(())
    }

    /// Begins the next transaction, or unit of its own.
    #[inline]
    fn enter(
        &mut self,
        timeline: TimelineId,
        commit_lsn: Lsn,
        place: Place,
    ) -> Result<(), AssemblyError> {
        let before = self.last();
        if (timeline, commit_lsn) <= (self.timeline, self.commit_lsn) {
            return Err(AssemblyError::PositionOutOfOrder {
                found: Position {
                    timeline,
                    commit_lsn,
                    record_lsn: place.0,
                    row: place.1,
                },
                before,
            });
        }
        self.timeline = timeline;
        self.commit_lsn = commit_lsn;
        self.place = place;
        if self.first.is_none() {
            self.start();
        }
        Ok(())
    }

    /// Moves on within the transaction.
    #[inline]
    fn advance(&mut self, first: Place, last: Place) -> Result<(), AssemblyError> {
        if first <= self.place || last < first {
            return Err(AssemblyError::PositionOutOfOrder {
                found: self.position(first),
                before: self.last(),
            });
        }
        self.place = first;
        if self.first.is_none() {
            self.start();
        }
        self.place = last;
        Ok(())
    }

    /// Notes the current place as the block's first.
    fn start(&mut self) {
        self.first = Some(self.last());
        if let Some(header) = &self.continues {
            self.add_database(header.database);
        }
    }

    #[inline]
    fn add_database(&mut self, database: DatabaseOid) {
        if self.databases.last() != Some(&database) && !self.databases.contains(&database) {
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
            if let Some(pool) = &self.passing {
                self.glue = pool.take();
            }
            self.glue
                .reserve(self.glue_hint.saturating_sub(self.shared_bytes));
        }
    }

    fn sum_glue(&mut self) {
        if let Some(fresh) = self
            .glue
            .get(self.summed..)
            .filter(|fresh| !fresh.is_empty())
        {
            self.checksum.update(fresh);
            self.is_summing = true;
        }
        self.summed = self.glue.len();
    }

    /// Makes a piece of the glue that is in none.
    fn end_glue_piece(&mut self) {
        let end = self.glue.len();
        if self.loose < end {
            self.pieces.push(Piece::Glue(self.loose..end));
            self.loose = end;
        }
    }

    /// Gives the pieces away. A glue buffer that is mostly empty is kept, and its content copied.
    fn take_pieces(&mut self) -> Vec<Bytes> {
        let glue = if self.glue.len() * 2 < self.glue.capacity() {
            let copy = Bytes::copy_from_slice(&self.glue);
            self.glue.clear();
            copy
        } else {
            let bytes = self.glue.len();
            let glue = std::mem::take(&mut self.glue);
            match &self.passing {
                Some(pool) => pool.freeze(glue, bytes),
                None => Bytes::from(glue),
            }
        };
        (self.loose, self.summed, self.shared_bytes) = (0, 0, 0);
        let pieces = self.pieces.drain(..).map(|piece| match piece {
            Piece::Glue(range) => glue.slice(range),
            Piece::Shared(bytes) => bytes,
        });
        pieces.collect()
    }
}
