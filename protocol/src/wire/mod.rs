//! The data plane: frames on TCP connections.
//!
//! A session is opened on the control plane ([`crate::control`]), which gives its id and token.
//! The client then opens K connections (1 to 32), says hello on each, and the server spreads the
//! session's frames over them. Everything that has an order carries a number that counts through
//! the whole session, so the receiver joins the connections again ([`Joiner`]).
//!
//! ```text
//!  client                                              server
//!    | -- Hello (session, token, stripe n) ------------> |   on each connection
//!    | <------------- Welcome (version, timeouts) ------ |   or Error, and the connection closes
//!    | -- Credit (bytes granted so far) ---------------> |
//!    | <---- Relation, Data, Data, Heartbeat, ... ------ |   numbered 1, 2, 3 ... in the session
//!    | -- Ack (position), Credit, Ping ----------------> |
//!    | <------------------------------- Ping ----------- |   when there is nothing else to say
//!    | <------------------------------- End ------------ |   or Error; then both sides close
//! ```
//!
//! Every frame begins with the same 28 bytes, little-endian as all of it:
//!
//! ```text
//! 0       4         5      6       8        12         20            24           28
//! | magic | version | kind | flags | length | sequence | payload CRC | header CRC | payload
//!
//! magic        "RDSW"
//! version      5
//! kind         FrameKind
//! flags        u16, meaning depends on the kind; unknown bits are an error
//! length       u32  bytes of payload, at most 4 MiB, checked before anything is allocated
//! sequence     u64  place in the session, from 1; 0 for frames that belong to one connection
//! payload CRC  u32  CRC-32 of the payload
//! header CRC   u32  CRC-32 of the 24 bytes before it, so that a length is never believed unchecked
//! ```
//!
//! The payload of each kind is drawn at the head of its file. `WIRE.md` beside this crate's
//! manifest is the same for readers without the source.
//!
//! Nothing in here does I/O: [`FrameReader`] is given bytes and gives frames, [`Joiner`] is given
//! numbered frames and gives them in order, [`scan`](check::scan) checks a block of events.

pub mod ack;
mod buffers;
pub mod bye;
pub mod check;
pub mod compress;
pub mod credit;
pub mod data;
pub mod database;
pub mod end;
pub mod error;
pub mod fault;
pub mod header;
pub mod heartbeat;
pub mod hello;
pub mod joiner;
pub mod limits;
pub mod notice;
mod pack;
pub mod parts;
pub mod ping;
pub mod reader;
pub mod relation;
mod split;
pub mod welcome;

pub use ack::Ack;
pub use bye::Bye;
pub use check::{BlockSummary, CheckError, OrderedCheck};
pub use credit::Credit;
pub use data::{Data, DataHead};
pub use end::{End, EndReason};
pub use error::WireError;
pub use fault::{Fault, FaultCode};
pub use header::{Frame, FrameHeader, FrameKind, HEADER_BYTES, Payload, push_frame};
pub use heartbeat::Heartbeat;
pub use hello::Hello;
pub use joiner::{JoinError, Joiner};
pub use notice::Notice;
pub use ping::Ping;
pub use reader::FrameReader;
pub use relation::RelationPart;
pub use welcome::Welcome;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod stream_tests;
