//! Heartbeat: how far everything has been released, also where nothing of it was for this session.
//!
//! ```text
//! 0          8          16              24
//! | released | received | source time us |
//! ```

use super::error::WireError;
use super::header::{FrameKind, Payload};
use crate::{Cursor, Lsn};

/// A place the stream has reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// Everything whose commit record starts before this LSN has been sent or was filtered out.
    pub released: Lsn,
    /// End of the WAL that the server has.
    pub received: Lsn,
    /// The source's clock when it last said something, microseconds since 2000-01-01 00:00 UTC;
    /// 0 if it is not known.
    pub source_time_us: i64,
}

impl Payload for Heartbeat {
    const KIND: FrameKind = FrameKind::Heartbeat;
    const NAME: &'static str = "heartbeat";

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.released.0.to_le_bytes());
        out.extend_from_slice(&self.received.0.to_le_bytes());
        out.extend_from_slice(&self.source_time_us.to_le_bytes());
    }

    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(payload);
        let heartbeat = Self {
            released: Lsn(cursor.u64("released LSN")?),
            received: Lsn(cursor.u64("received LSN")?),
            source_time_us: cursor.i64("source time")?,
        };
        cursor.finish("heartbeat")?;
        Ok(heartbeat)
    }
}
