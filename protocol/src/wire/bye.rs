//! Bye: the client is done; its name is free at once. No payload.

use super::error::WireError;
use super::header::{FrameKind, Payload};
use crate::Cursor;

/// The client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bye;

impl Payload for Bye {
    const KIND: FrameKind = FrameKind::Bye;
    const NAME: &'static str = "bye";

    fn encode(&self, _out: &mut Vec<u8>) {}

    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        Cursor::new(payload).finish("bye")?;
        Ok(Self)
    }
}
