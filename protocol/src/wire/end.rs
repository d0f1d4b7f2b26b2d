//! End: everything that was asked for has been sent.
//!
//! ```text
//! 0        1          25         33
//! | reason | position | released |
//! ```

use super::error::WireError;
use super::header::{FrameKind, Payload};
use crate::{Cursor, Lsn, Position};

/// Why a stream is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EndReason {
    /// The place given as `until` has been reached.
    Until = 1,
    /// The source has no more and never will.
    SourceEnded = 2,
    /// The server stops; connect again later, or elsewhere.
    ServerStopping = 3,
    /// The subscription was dropped by somebody.
    Dropped = 4,
}

/// The last frame of a session that went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// The last event sent, all zero if there was none.
    pub position: Position,
    /// As in a heartbeat.
    pub released: Lsn,
}

impl Payload for End {
    const KIND: FrameKind = FrameKind::End;
    const NAME: &'static str = "end";

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.reason as u8);
        out.extend_from_slice(&self.position.to_bytes());
        out.extend_from_slice(&self.released.0.to_le_bytes());
    }

    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(payload);
        let end = Self {
            reason: match cursor.u8("reason")? {
                1 => EndReason::Until,
                2 => EndReason::SourceEnded,
                3 => EndReason::ServerStopping,
                4 => EndReason::Dropped,
                _ => return Err(WireError::Invalid("unknown reason in an end frame")),
            },
            position: Position::from_bytes(&cursor.array("position")?),
            released: Lsn(cursor.u64("released LSN")?),
        };
        cursor.finish("end")?;
        Ok(end)
    }
}
