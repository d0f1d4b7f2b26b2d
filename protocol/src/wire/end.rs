//! End: everything that was asked for has been sent.
//!
//! ```text
//! 0        1          25         33
//! | reason | position | released |
//! ```

use super::error::WireError;
use super::header::{FrameKind, Payload};
use crate::{Cursor, Lsn, Position};

/// Why a stream is over. The number 2 is reserved: a server stays up at the end of its log, whatever
/// it reads, so no log is ever over for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EndReason {
    /// The place given as `until` has been reached.
    Until = 1,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_read_and_others_refused() {
        let reasons = [
            EndReason::Until,
            EndReason::ServerStopping,
            EndReason::Dropped,
        ];
        let mut known = 0;
        for number in 0..=u8::MAX {
            let mut payload = vec![number];
            payload.extend_from_slice(&Position::default().to_bytes());
            payload.extend_from_slice(&7_u64.to_le_bytes());
            let Ok(end) = End::decode(&payload) else {
                assert!(reasons.iter().all(|reason| *reason as u8 != number));
                continue;
            };
            assert_eq!((end.reason as u8, end.released), (number, Lsn(7)));
            known += 1;
        }
        assert_eq!(known, reasons.len());
    }
}
