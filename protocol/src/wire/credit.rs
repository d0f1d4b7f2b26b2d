//! Credit: how many bytes the server may have sent since the session began.
//!
//! ```text
//! 0         8
//! | granted |
//! ```
//!
//! The number only grows, so it does not matter on which connection, or how often, it comes. A
//! sequenced frame costs its header and the larger of its payload and its raw size; one frame may
//! go beyond what is left.

use super::error::WireError;
use super::header::{FrameKind, HEADER_BYTES, Payload};
use crate::Cursor;

/// Bytes granted in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// Since the session began.
    pub granted: u64,
}

/// What a frame costs.
#[must_use]
pub const fn cost(payload_bytes: usize, raw_bytes: usize) -> u64 {
    let larger = if payload_bytes > raw_bytes {
        payload_bytes
    } else {
        raw_bytes
    };
    (HEADER_BYTES + larger) as u64
}

impl Payload for Credit {
    const KIND: FrameKind = FrameKind::Credit;
    const NAME: &'static str = "credit";

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.granted.to_le_bytes());
    }

    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(payload);
        let granted = cursor.u64("granted bytes")?;
        cursor.finish("credit")?;
        Ok(Self { granted })
    }
}
