//! Whole transactions, gathered in memory up to a bound, and larger ones read event by event.

use std::collections::VecDeque;
use std::sync::Arc;

use redostream_protocol::event::{EventKind, TransactionHeader};
use redostream_protocol::{Position, Xid};

use crate::change::Change;
use crate::error::ClientError;
use crate::subscription::Subscription;

/// One whole transaction, or a unit without a commit.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// What is known of it.
    pub header: Arc<TransactionHeader>,
    /// Its changes in order, begin and commit left out.
    pub events: Vec<Change>,
    /// Whether its first events were delivered before this subscription began.
    pub resumed: bool,
}

impl Transaction {
    /// The position to acknowledge: that of its commit, or of its event where there is no commit.
    #[must_use]
    pub fn position(&self) -> Position {
        let mut position = Position::commit(self.header.timeline, self.header.commit_lsn);
        if self.header.xid == Xid::INVALID {
            position.row = 0;
        }
        position
    }
}

/// What [`Subscription::next_unit`] gives.
pub enum Unit<'s> {
    /// All of it.
    Whole(Transaction),
    /// More than is to be held in memory at once.
    Large(LargeTransaction<'s>),
}

/// A transaction that is read event by event. If it is dropped before its end, the rest comes next,
/// as a transaction that is resumed.
pub struct LargeTransaction<'s> {
    /// What is known of it.
    pub header: Arc<TransactionHeader>,
    /// Whether its first events were delivered before.
    pub resumed: bool,
    gathered: VecDeque<Change>,
    subscription: &'s mut Subscription,
    over: bool,
}

impl LargeTransaction<'_> {
    /// The next change, begin and commit left out; none after the last.
    pub async fn next(&mut self) -> Result<Option<Change>, ClientError> {
        if let Some(change) = self.gathered.pop_front() {
            return Ok(Some(change));
        }
        if self.over {
            return Ok(None);
        }
        let change = self.subscription.next_event().await?;
        let goes_on = match &change {
            Some(change) => change.kind()? != EventKind::Commit,
            None => false,
        };
        self.over = !goes_on;
        Ok(change.filter(|_| goes_on))
    }

    /// Tells the server that everything up to `position` is safe, also inside the transaction.
    pub async fn acknowledge(&mut self, position: Position) -> Result<(), ClientError> {
        self.subscription.acknowledge(position).await
    }

    /// The position of its commit.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::commit(self.header.timeline, self.header.commit_lsn)
    }
}

impl Drop for LargeTransaction<'_> {
    fn drop(&mut self) {
        // What was gathered and not taken is not lost.
        while let Some(change) = self.gathered.pop_back() {
            self.subscription.queue.push_front(change);
        }
    }
}

/// What gathering a transaction comes to.
enum Gathered {
    Nothing,
    Whole(Transaction),
    Large(Transaction),
}

/// A unit without a commit stands at its own record.
fn standalone_header(change: &Change) -> TransactionHeader {
    TransactionHeader {
        timeline: change.position.timeline,
        commit_lsn: change.position.commit_lsn,
        end_lsn: change.position.commit_lsn,
        xid: Xid::INVALID,
        database: change
            .event()
            .ok()
            .and_then(|event| event.database())
            .unwrap_or(redostream_protocol::Oid::INVALID),
        commit_time_us: 0,
        origin: None,
        gid: None,
    }
}

impl Subscription {
    /// The next transaction: whole if it fits the bound (`transaction_bytes_max`), else to be read
    /// event by event; none once everything asked for has arrived.
    pub async fn next_unit(&mut self) -> Result<Option<Unit<'_>>, ClientError> {
        match self.gather().await? {
            Gathered::Nothing => Ok(None),
            Gathered::Whole(transaction) => Ok(Some(Unit::Whole(transaction))),
            Gathered::Large(begun) => Ok(Some(Unit::Large(LargeTransaction {
                header: begun.header,
                resumed: begun.resumed,
                gathered: begun.events.into(),
                subscription: self,
                over: false,
            }))),
        }
    }

    /// The next whole transaction, gathered in memory up to a bound; none once everything asked
    /// for has arrived. Units without a commit come as transactions with one event. One beyond the
    /// bound is an error; [`Subscription::next_unit`] streams it.
    pub async fn next_transaction(&mut self) -> Result<Option<Transaction>, ClientError> {
        match self.gather().await? {
            Gathered::Nothing => Ok(None),
            Gathered::Whole(transaction) => Ok(Some(transaction)),
            Gathered::Large(begun) => Err(ClientError::TransactionTooLarge {
                xid: begun.header.xid.0,
                bytes_max: self.options.transaction_bytes_max,
            }),
        }
    }

    /// Gathers a transaction until it is whole or too large.
    async fn gather(&mut self) -> Result<Gathered, ClientError> {
        let mut gathered: Option<Transaction> = None;
        let mut bytes = 0;
        while let Some(change) = self.next_event().await? {
            let kind = change.kind()?;
            let Some(header) = change.transaction.clone() else {
                return Ok(Gathered::Whole(Transaction {
                    header: Arc::new(standalone_header(&change)),
                    events: vec![change],
                    resumed: false,
                }));
            };
            let transaction = gathered.get_or_insert_with(|| Transaction {
                header,
                events: Vec::new(),
                resumed: kind != EventKind::Begin,
            });
            match kind {
                EventKind::Begin => {}
                EventKind::Commit => {
                    return Ok(gathered.map_or(Gathered::Nothing, Gathered::Whole));
                }
                _ => {
                    bytes += change.bytes.len();
                    transaction.events.push(change);
                    if bytes > self.options.transaction_bytes_max {
                        return Ok(gathered.map_or(Gathered::Nothing, Gathered::Large));
                    }
                }
            }
        }
        // The stream was asked to end inside it.
        Ok(gathered.map_or(Gathered::Nothing, Gathered::Whole))
    }
}
