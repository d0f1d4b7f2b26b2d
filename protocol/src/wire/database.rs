//! Database: what a database that later events name is called. Comes before the first data frame
//! that uses it, unless a relation of that database came before.
//!
//! ```text
//! 0
//! | postcard of schema::Database |
//! ```

use super::error::WireError;
use super::header::{FrameKind, Payload};
use crate::schema::Database;

impl Payload for Database {
    const KIND: FrameKind = FrameKind::Database;
    const NAME: &'static str = "database";

    fn encode(&self, out: &mut Vec<u8>) {
        // Writing to memory what holds nothing but numbers and bytes cannot fail.
        if let Ok(bytes) = postcard::to_stdvec(self) {
            out.extend_from_slice(&bytes);
        }
    }

    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        match postcard::take_from_bytes(payload) {
            Ok((database, [])) => Ok(database),
            _ => Err(WireError::Structure("a database")),
        }
    }
}
