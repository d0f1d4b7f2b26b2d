//! A block: released events in wire form, in order.

use std::sync::Arc;

use bytes::Bytes;
use redostream_protocol::event::TransactionHeader;
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::{DatabaseOid, Lsn, Position};

use crate::limits::MERGED_RELATIONS_MAX;

/// Released events of one timeline. A block may hold many small transactions or a piece of a large
/// one.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Position of its first event (a begin counts).
    pub first: Position,
    /// Position of its last event (a commit counts).
    pub last: Position,
    /// Everything that starts before this LSN and can be released has been, up to and including
    /// this block. Blocks without events carry only this.
    pub wal_end: Lsn,
    /// The header of the transaction that the first event belongs to, where its begin stands in an
    /// earlier block.
    pub continues: Option<Arc<TransactionHeader>>,
    /// The events, in order; an event may span pieces only if it is alone in the block.
    pub pieces: Vec<Bytes>,
    /// Number of events, begins and commits included.
    pub events: u64,
    /// Number of rows (inserts, updates, deletes).
    pub rows: u64,
    /// Number of commits.
    pub transactions: u64,
    /// Databases of the events, distinct, in order of first use.
    pub databases: Vec<DatabaseOid>,
    /// Relation versions of the events, distinct, in order of first use.
    pub relations: Vec<RelationVersion>,
    /// Whether an event says of rows that they cannot be decoded: such a block is for nobody as it
    /// is.
    pub undecodable: bool,
}

impl Block {
    /// Bytes of its events.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Adds the block that follows this one, if the two together are one: of one timeline, with at
    /// most `bytes_max` bytes, and with nothing that stands alone in its block.
    ///
    /// # Errors
    /// The block that follows, as it was.
    pub fn append(&mut self, next: Block, bytes_max: usize) -> Result<(), Box<Block>> {
        if self.events > 0 && next.events > 0 {
            let apart = self.last.timeline != next.first.timeline
                || self.bytes() + next.bytes() > bytes_max
                || self.relations.len() + next.relations.len() > MERGED_RELATIONS_MAX
                || self.stands_alone()
                || next.stands_alone();
            if apart {
                return Err(Box::new(next));
            }
        }
        if self.events == 0 {
            let wal_end = self.wal_end;
            *self = next;
            self.wal_end = self.wal_end.max(wal_end);
            return Ok(());
        }
        if next.events > 0 {
            self.last = next.last;
        }
        self.wal_end = self.wal_end.max(next.wal_end);
        self.pieces.extend(next.pieces);
        self.events += next.events;
        self.rows += next.rows;
        self.transactions += next.transactions;
        add_new(&mut self.databases, &next.databases);
        add_new(&mut self.relations, &next.relations);
        Ok(())
    }

    /// Whether it is for itself: one event in pieces, or something undecodable.
    fn stands_alone(&self) -> bool {
        self.undecodable || (self.events == 1 && self.pieces.len() > 1)
    }
}

fn add_new<T: Copy + PartialEq>(all: &mut Vec<T>, more: &[T]) {
    for one in more {
        if !all.contains(one) {
            all.push(*one);
        }
    }
}
