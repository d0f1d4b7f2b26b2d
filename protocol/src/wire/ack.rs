//! Ack: everything up to here is safe on the client's side.
//!
//! ```text
//! 0          24          32
//! | position | released  |
//! ```

use super::error::WireError;
use super::header::{FrameKind, Payload};
use crate::{Cursor, Lsn, Position};

/// What a named subscription need not be sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// The last event that is safe; all zero if there was none.
    pub position: Position,
    /// The last heartbeat that came after it, 0 if none: nothing before this LSN is wanted again.
    pub released: Lsn,
}

impl Payload for Ack {
    const KIND: FrameKind = FrameKind::Ack;
    const NAME: &'static str = "ack";

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.position.to_bytes());
        out.extend_from_slice(&self.released.0.to_le_bytes());
    }

    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(payload);
        let ack = Self {
            position: Position::from_bytes(&cursor.array("position")?),
            released: Lsn(cursor.u64("released LSN")?),
        };
        cursor.finish("ack")?;
        Ok(ack)
    }
}
