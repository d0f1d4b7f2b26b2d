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
//!
//! Rows come as structs of yours, or value by value:
//!
//! ```no_run
//! # async fn example() -> Result<(), redostream_client::ClientError> {
//! use redostream_client::{Options, Subscription, Value};
//!
//! #[derive(Debug, serde::Deserialize)]
//! struct Order {
//!     id: i64,
//!     #[serde(default)]
//!     note: Option<String>,
//! }
//!
//! let mut options = Options::new(["127.0.0.1:7600"]);
//! options.tables = vec!["public.orders".to_owned()];
//! let mut subscription = Subscription::open(options).await?;
//! while let Some(change) = subscription.next_event().await? {
//!     if let Some(order) = change.deserialize::<Order>()? {
//!         println!("{}: {order:?}", change.position);
//!     }
//!     if let (Some(old), None) = change.rows()?
//!         && let Value::Int(id) = old.get("id")?
//!     {
//!         println!("order {id} is gone");
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! Transactions that are too large for memory are read as they come:
//!
//! ```no_run
//! # async fn example() -> Result<(), redostream_client::ClientError> {
//! use redostream_client::{Options, Subscription, Unit};
//!
//! let mut options = Options::new(["127.0.0.1:7600", "10.0.0.2:7600"]);
//! options.transaction_bytes_max = 16 << 20;
//! let mut subscription = Subscription::open(options).await?;
//! loop {
//!     let position = match subscription.next_unit().await? {
//!         None => break,
//!         Some(Unit::Whole(transaction)) => transaction.position(),
//!         Some(Unit::Large(mut large)) => {
//!             while let Some(change) = large.next().await? {
//!                 println!("{}", change.position);
//!             }
//!             large.position()
//!         }
//!     };
//!     subscription.acknowledge(position).await?;
//! }
//! # Ok(()) }
//! ```

pub mod blocking;
mod change;
mod connection;
mod control;
pub mod ddl;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod options;
mod row;
mod session;
mod stripe;
mod subscription;
mod transaction;

pub use change::Change;
pub use control::Control;
pub use error::ClientError;
pub use options::{Compression, Options, Tls};
pub use redostream_protocol as protocol;
pub use row::{Row, Side, Value};
pub use session::Delivery;
pub use subscription::{OnNotice, OnTrouble, Subscription, Totals};
pub use transaction::{LargeTransaction, Transaction, Unit};
