//! Hello: the first frame on a connection, from the client.
//!
//! ```text
//! 0             1             2        4            20      52
//! | version min | version max | stripe | session id | token |
//! ```

use super::error::WireError;
use super::header::{FrameKind, Payload};
use crate::Cursor;

/// Which session a connection belongs to, and the proof.
#[derive(Clone, PartialEq, Eq)]
pub struct Hello {
    /// The oldest protocol version the client speaks.
    pub version_min: u8,
    /// The newest.
    pub version_max: u8,
    /// Number of this connection within the session, from 0.
    pub stripe: u16,
    /// The session, as the control plane named it.
    pub session: [u8; 16],
    /// The session's token.
    pub token: [u8; 32],
}

impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is a secret.
        f.debug_struct("Hello")
            .field("version_min", &self.version_min)
            .field("version_max", &self.version_max)
            .field("stripe", &self.stripe)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl Payload for Hello {
    const KIND: FrameKind = FrameKind::Hello;
    const NAME: &'static str = "hello";

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.version_min);
        out.push(self.version_max);
        out.extend_from_slice(&self.stripe.to_le_bytes());
        out.extend_from_slice(&self.session);
        out.extend_from_slice(&self.token);
    }

    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(payload);
        let hello = Self {
            version_min: cursor.u8("oldest version")?,
            version_max: cursor.u8("newest version")?,
            stripe: cursor.u16("stripe")?,
            session: cursor.array("session")?,
            token: cursor.array("token")?,
        };
        cursor.finish("hello")?;
        Ok(hello)
    }
}
