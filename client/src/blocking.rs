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

use redostream_protocol::Position;

use crate::error::ClientError;
use crate::options::Options;
use crate::subscription::{Change, Totals, Transaction};

/// A running subscription that blocks.
pub struct Subscription {
    runtime: tokio::runtime::Runtime,
    inner: crate::subscription::Subscription,
}

impl Subscription {
    /// Opens a subscription; see [`crate::Subscription::open`].
    pub fn open(options: Options) -> Result<Self, ClientError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| ClientError::Usage(format!("cannot start threads: {error}")))?;
        let inner = runtime.block_on(crate::subscription::Subscription::open(options))?;
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

    /// Tells the server what is safe.
    pub fn acknowledge(&mut self, position: Position) -> Result<(), ClientError> {
        self.runtime.block_on(self.inner.acknowledge(position))
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
