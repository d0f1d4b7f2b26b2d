//! Welcome: the server takes a connection.
//!
//! ```text
//! 0         1          2         4                 8                 12
//! | version | reserved | streams | peer timeout ms | frame bytes max |
//! ```

use super::error::WireError;
use super::header::{FrameKind, Payload};
use crate::Cursor;

/// What both sides keep to on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version both speak.
    pub version: u8,
    /// Connections of the session.
    pub streams: u16,
    /// Milliseconds without a byte, after which either side gives the other up.
    pub peer_timeout_ms: u32,
    /// Payload bytes of the largest frame the server sends.
    pub frame_bytes_max: u32,
}

impl Payload for Welcome {
    const KIND: FrameKind = FrameKind::Welcome;
    const NAME: &'static str = "welcome";

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.version);
        out.push(0);
        out.extend_from_slice(&self.streams.to_le_bytes());
        out.extend_from_slice(&self.peer_timeout_ms.to_le_bytes());
        out.extend_from_slice(&self.frame_bytes_max.to_le_bytes());
    }

    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(payload);
        let version = cursor.u8("version")?;
        cursor.u8("reserved byte")?;
        let welcome = Self {
            version,
            streams: cursor.u16("streams")?,
            peer_timeout_ms: cursor.u32("peer timeout")?,
            frame_bytes_max: cursor.u32("largest frame")?,
        };
        cursor.finish("welcome")?;
        Ok(welcome)
    }
}
