//! The upstream: a PostgreSQL standby or primary that streams its WAL to us.
//!
//! Takes: a connection string, and the LSN to begin at. Gives: WAL in the redo buffer, and what
//! the upstream says of its log. Keeps: one connection, made anew when it breaks. Never: looks
//! into the WAL, or drops a slot unasked.
//!
//! Reading order: `conninfo.rs` says where to, `connection.rs` with `tls.rs` and
//! `authentication.rs` gets there, `commands.rs` asks, `streaming.rs` receives, `receiver.rs`
//! does it again and again.

mod authentication;
mod backoff;
mod commands;
mod connection;
mod conninfo;
mod conninfo_text;
mod error;
mod passfile;
mod receiver;
mod streaming;
#[cfg(test)]
mod tests;
mod tls;

pub(crate) use commands::SystemIdentity;
pub(crate) use connection::{Connection, Purpose};
pub(crate) use conninfo::Conninfo;
pub(crate) use error::UpstreamError;
pub(crate) use receiver::{ReceivedState, Receiver, ReceiverOptions};
