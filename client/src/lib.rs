//! Subscribe to a Redostream server.
//!
//! [`Subscription`] opens a session on the control plane, reads its events over several
//! connections, checks every one of them, and hands them over in order. It reconnects and resumes
//! by itself; what it hands over is every event once.
//!
//! ```no_run
//! # async fn example() -> Result<(), redostream_client::ClientError> {
//! use redostream_client::{Options, Subscription};
//!
//! let mut options = Options::new(["127.0.0.1:7600"]);
//! options.name = Some("billing".to_owned());
//! let mut subscription = Subscription::open(options).await?;
//! while let Some(transaction) = subscription.next_transaction().await? {
//!     println!("transaction {} with {} events", transaction.header.xid, transaction.events.len());
//!     subscription.acknowledge(transaction.position()).await?;
//! }
//! # Ok(()) }
//! ```

pub mod blocking;
mod connection;
mod control;
pub mod ddl;
mod error;
mod options;
mod session;
mod stripe;
mod subscription;

pub use control::Control;
pub use error::ClientError;
pub use options::{Compression, Options, Tls};
pub use redostream_protocol as protocol;
pub use session::Delivery;
pub use subscription::{Change, OnTrouble, Subscription, Totals, Transaction};
