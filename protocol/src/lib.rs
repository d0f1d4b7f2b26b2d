//! What crosses a process boundary: positions, events, relation structures, value encodings and
//! their text, frames, and the control plane.
//!
//! This crate is the leaf of the workspace: engine, server and client all speak it, and it knows
//! none of them. Nothing here does I/O.

pub mod control;
pub mod cursor;
pub mod ddl;
pub mod event;
pub mod ids;
pub mod limits;
pub mod position;
pub mod render;
pub mod schema;
mod transaction_header;
pub mod value;
pub mod wire;

pub use cursor::{Cursor, ShortInput};
pub use ids::{DatabaseOid, Lsn, Oid, RelFileNode, TimelineId, Xid};
pub use position::Position;
