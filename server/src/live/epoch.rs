//! A stretch of decoding that one feed holds. A new one begins when decoding has to go back: the
//! cluster's history was left, or WAL was missing for a while.

use std::sync::Arc;

use redostream_engine::catalog::RelationRegistry;
use redostream_engine::feed::Feed;
use redostream_protocol::wire::{Fault, FaultCode};
use redostream_protocol::{Lsn, Position};

use crate::session::BlockEntry;

/// One stretch.
pub(super) struct Epoch {
    pub(super) feed: Feed<Arc<BlockEntry>>,
    pub(super) relations: RelationRegistry,
    /// What ended the epoch before this one, if the history was left.
    pub(super) fork: Option<Fork>,
}

/// Where the cluster's history left what was decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fork {
    /// From here on nothing that was decoded holds.
    pub(super) at: Lsn,
    /// How many released transactions do not exist any more.
    pub(super) transactions: u64,
    /// The first and last of their events.
    pub(super) first: Position,
    pub(super) last: Position,
}

impl Fork {
    /// What a subscriber is told that was given events up to `last`, and LSNs up to `released`.
    pub(super) fn fault(&self, last: Option<Position>, released: Lsn) -> Fault {
        let at = self.at;
        if last.is_some_and(|last| last.commit_lsn >= at) {
            let message = format!(
                "the cluster's history was left at {at}: {} transactions from {} to {} were sent \
                 or about to be, and do not exist any more; undo what commits at or after {at}, \
                 and subscribe from {at}",
                self.transactions, self.first, self.last
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
