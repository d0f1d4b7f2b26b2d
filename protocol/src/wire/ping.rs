//! Ping: still here. No payload; sent by either side when it has had nothing else to say.

use super::error::WireError;
use super::header::{FrameKind, Payload};
use crate::Cursor;

/// A sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping;

impl Payload for Ping {
    const KIND: FrameKind = FrameKind::Ping;
    const NAME: &'static str = "ping";

    fn encode(&self, _out: &mut Vec<u8>) {}

    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        Cursor::new(payload).finish("ping")?;
        Ok(Self)
    }
}
