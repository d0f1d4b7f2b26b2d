//! A stretch of decoding that one feed holds. A new one begins when decoding has to go back: the
//! cluster's history was left, or WAL was missing for a while.

use std::sync::Arc;

use redostream_engine::catalog::RelationRegistry;
use redostream_engine::feed::Feed;
use redostream_engine::feed::block::Block;
use redostream_protocol::event::{Event, EventKind, TransactionHeader};
use redostream_protocol::wire::{Fault, FaultCode};
use redostream_protocol::{Cursor, Lsn, Position, Xid};

use crate::session::BlockEntry;

/// One stretch.
pub(super) struct Epoch {
    pub(super) feed: Feed<Arc<BlockEntry>>,
    pub(super) relations: RelationRegistry,
    /// What ended the epoch before this one, if the history was left.
    pub(super) fork: Option<Fork>,
}

/// Transactions that a subscriber is told by name.
const NAMED_MAX: usize = 200;

/// Where the cluster's history left what was decoded.
#[derive(Clone, Debug)]
pub(super) struct Fork {
    /// From here on nothing that was decoded holds.
    pub(super) at: Lsn,
    /// The released transactions that do not exist any more, by where they committed.
    pub(super) gone: Vec<Gone>,
}

/// A transaction that does not exist any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) xid: Xid,
    pub(super) commit_lsn: Lsn,
}

impl Gone {
    /// Transactions of a block that commit at or after `at`.
    pub(super) fn of(block: &Block, at: Lsn, gone: &mut Vec<Gone>) {
        let mut add = |header: &TransactionHeader| {
            let one = Gone {
                xid: header.xid,
                commit_lsn: header.commit_lsn,
            };
            // A large transaction is in many blocks.
            if header.commit_lsn >= at && gone.last() != Some(&one) {
                gone.push(one);
            }
        };
        if let Some(header) = &block.continues {
            add(header);
        }
        for piece in &block.pieces {
            let mut cursor = Cursor::new(piece);
            while cursor.remaining() > 0 {
                // An event in several pieces is no begin.
                let Ok(event) = Event::read(&mut cursor) else {
                    break;
                };
                if event.header.kind == EventKind::Begin
                    && let Some(header) = TransactionHeader::read(event.payload)
                {
                    add(&header);
                }
            }
        }
    }
}

impl Fork {
    /// What a subscriber is told that was given events up to `last`, and LSNs up to `released`.
    pub(super) fn fault(&self, last: Option<Position>, released: Lsn) -> Fault {
        let at = self.at;
        if let Some(last) = last.filter(|last| last.commit_lsn >= at) {
            let sent = self
                .gone
                .partition_point(|gone| gone.commit_lsn <= last.commit_lsn);
            let sent = self.gone.get(..sent).unwrap_or_default();
            let named: Vec<String> = sent
                .iter()
                .take(NAMED_MAX)
                .map(|gone| format!("{} (commit at {})", gone.xid, gone.commit_lsn))
                .collect();
            let more = match sent.len().saturating_sub(NAMED_MAX) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let message = format!(
                "the cluster's history was left at {at}: of what was sent, {} transactions do not \
                 exist any more: {}{more}; undo what commits at or after {at}, and subscribe from \
                 {at}",
                sent.len(),
                named.join(", "),
            );
            return Fault::new(FaultCode::Diverged, message).at(at);
        }
        if released > at {
            let message = format!(
                "the cluster's history was left at {at}; no transaction that was sent is lost, \
                 but {released} was reported as reached: subscribe from {at}"
            );
            return Fault::new(FaultCode::Diverged, message).at(at);
        }
        let message = format!("the cluster's history went over to another timeline at {at}");
        Fault::new(FaultCode::Stopping, message).at(at)
    }
}
