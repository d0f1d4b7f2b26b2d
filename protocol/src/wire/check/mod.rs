//! Checks events as they arrive.
//!
//! [`scan`] looks at one block alone: every event's structure, the order of positions, and the
//! count and checksum of every transaction that lies whole in it. It needs nothing of what came
//! before, so the connections of a session scan in parallel. [`OrderedCheck`] then does per block
//! what is left: positions across blocks, and transactions that span them.

mod events;
mod order;
mod scan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use order::OrderedCheck;
pub use scan::scan;

use crate::Position;
use crate::event::TransactionHeader;
use crate::schema::RelationVersion;

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
