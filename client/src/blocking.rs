//! The same without async: a subscription that blocks its thread.
//!
//! ```no_run
//! # fn example() -> Result<(), redostream_client::ClientError> {
//! use redostream_client::{Options, blocking::Subscription};
//!
//! let mut subscription = Subscription::open(Options::new(["127.0.0.1:7600"]))?;
//! for change in subscription.by_ref().take(10) {
//!     println!("{}", change?.position);
//! }
//! subscription.close();
//! # Ok(()) }
//! ```

use std::sync::Arc;

use redostream_protocol::event::TransactionHeader;
use redostream_protocol::schema::{Relation, RelationVersion};
use redostream_protocol::wire::End;
use redostream_protocol::{Lsn, Position};

use crate::change::Change;
use crate::error::ClientError;
use crate::options::Options;
use crate::subscription::{self, OnNotice, OnTrouble, Totals};
use crate::transaction::{self, Transaction};

/// What [`Subscription::next_unit`] gives.
pub enum Unit<'s> {
    /// All of it.
    Whole(Transaction),
    /// More than is to be held in memory at once.
    Large(LargeTransaction<'s>),
}

/// A transaction that is read event by event; see [`crate::LargeTransaction`].
pub struct LargeTransaction<'s> {
    runtime: &'s tokio::runtime::Runtime,
    inner: transaction::LargeTransaction<'s>,
}

impl LargeTransaction<'_> {
    /// The next change, begin and commit left out; none after the last.
    pub fn next_event(&mut self) -> Result<Option<Change>, ClientError> {
        self.runtime.block_on(self.inner.next())
    }

    /// Tells the server that everything up to `position` is safe, also inside the transaction.
    pub fn acknowledge(&mut self, position: Position) -> Result<(), ClientError> {
        self.runtime.block_on(self.inner.acknowledge(position))
    }

    /// What is known of it.
    #[must_use]
    pub fn header(&self) -> &Arc<TransactionHeader> {
        &self.inner.header
    }

    /// Whether its first events were delivered before.
    #[must_use]
    pub fn resumed(&self) -> bool {
        self.inner.resumed
    }

    /// The position of its commit.
    #[must_use]
    pub fn position(&self) -> Position {
        self.inner.position()
    }
}

/// Its changes one after the other.
impl Iterator for LargeTransaction<'_> {
    type Item = Result<Change, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_event().transpose()
    }
}

/// A running subscription that blocks.
pub struct Subscription {
    runtime: tokio::runtime::Runtime,
    inner: subscription::Subscription,
}

impl Subscription {
    /// Opens a subscription; see [`crate::Subscription::open`].
    pub fn open(options: Options) -> Result<Self, ClientError> {
        Self::open_with(options, None)
    }

    /// As [`Subscription::open`]; `on_trouble` is told of every failed attempt and the wait that
    /// follows.
    pub fn open_with(options: Options, on_trouble: Option<OnTrouble>) -> Result<Self, ClientError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| ClientError::Usage(format!("cannot start threads: {error}")))?;
        let opening = subscription::Subscription::open_with(options, on_trouble);
        let inner = runtime.block_on(opening)?;
        Ok(Subscription { runtime, inner })
    }

    /// The next event; none once everything asked for has arrived.
    pub fn next_event(&mut self) -> Result<Option<Change>, ClientError> {
        self.runtime.block_on(self.inner.next_event())
    }

    /// The next whole transaction; none once everything asked for has arrived.
    pub fn next_transaction(&mut self) -> Result<Option<Transaction>, ClientError> {
        self.runtime.block_on(self.inner.next_transaction())
    }

    /// The next transaction: whole if it fits the bound (`transaction_bytes_max`), else to be read
    /// event by event; none once everything asked for has arrived.
    pub fn next_unit(&mut self) -> Result<Option<Unit<'_>>, ClientError> {
        let unit = self.runtime.block_on(self.inner.next_unit())?;
        Ok(unit.map(|unit| match unit {
            transaction::Unit::Whole(transaction) => Unit::Whole(transaction),
            transaction::Unit::Large(inner) => Unit::Large(LargeTransaction {
                runtime: &self.runtime,
                inner,
            }),
        }))
    }

    /// Tells the server what is safe.
    pub fn acknowledge(&mut self, position: Position) -> Result<(), ClientError> {
        self.runtime.block_on(self.inner.acknowledge(position))
    }

    /// Tells the server that everything received so far is safe.
    pub fn acknowledge_received(&mut self) {
        self.runtime.block_on(self.inner.acknowledge_received());
    }

    /// Has `tell` told of notices; see [`crate::Subscription::on_notice`].
    pub fn on_notice(&mut self, tell: OnNotice) {
        self.inner.on_notice(tell);
    }

    /// The relation with this version, if it was sent.
    #[must_use]
    pub fn relation(&self, version: RelationVersion) -> Option<Arc<Relation>> {
        self.inner.relation(version)
    }

    /// Everything before this LSN has been received or was filtered out.
    #[must_use]
    pub fn released(&self) -> Lsn {
        self.inner.released()
    }

    /// How the stream ended, once it has.
    #[must_use]
    pub fn ended(&self) -> Option<&End> {
        self.inner.ended()
    }

    /// The last event received; none before the first.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.inner.position()
    }

    /// Ends the subscription; the server keeps a name's acknowledged position.
    pub fn close(self) {
        self.runtime.block_on(self.inner.close());
    }

    /// What has been counted.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.inner.totals()
    }
}

/// Events one after the other, until everything asked for has arrived.
impl Iterator for Subscription {
    type Item = Result<Change, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_event().transpose()
    }
}
