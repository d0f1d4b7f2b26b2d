//! A block: released events in wire form, in order.

use std::sync::Arc;

use bytes::Bytes;
use redostream_protocol::event::TransactionHeader;
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::{DatabaseOid, Lsn, Position};

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
}
