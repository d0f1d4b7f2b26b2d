//! Relation: the structure that later events name. Comes before the first data frame that uses it.
//!
//! ```text
//! 0      4       8       12
//! | part | parts | total | postcard of schema::Relation, or this part of it
//! ```

use bytes::Bytes;

use super::error::WireError;
use super::header::{FrameKind, Payload};
use super::limits::{DATA_RAW_BYTES_MAX, RELATION_BYTES_MAX};
use super::parts::Part;
use crate::Cursor;
use crate::schema::Relation;

/// A relation version, or a part of a very large one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationPart {
    /// Where it belongs.
    pub part: Part,
    /// Its bytes.
    pub bytes: Bytes,
}

impl RelationPart {
    /// The parts in which `relation` travels: one, but for absurdly large structures.
    pub fn split(relation: &Relation) -> Result<Vec<RelationPart>, WireError> {
        let bytes =
            postcard::to_stdvec(relation).map_err(|_| WireError::Structure("a relation"))?;
        if bytes.len() > RELATION_BYTES_MAX {
            return Err(WireError::TooLarge {
                what: "relation",
                size: bytes.len() as u64,
                limit: RELATION_BYTES_MAX as u64,
            });
        }
        let bytes = Bytes::from(bytes);
        let count = bytes.len().div_ceil(DATA_RAW_BYTES_MAX);
        let part = |number: usize| {
            let start = number * DATA_RAW_BYTES_MAX;
            let end = bytes.len().min(start + DATA_RAW_BYTES_MAX);
            RelationPart {
                part: Part {
                    number: number as u32,
                    count: count as u32,
                    total: bytes.len() as u64,
                },
                bytes: bytes.slice(start..end),
            }
        };
        Ok((0..count).map(part).collect())
    }

    /// Decodes the whole, once its parts are joined.
    pub fn decode_whole(bytes: &[u8]) -> Result<Relation, WireError> {
        let (relation, rest) =
            postcard::take_from_bytes(bytes).map_err(|_| WireError::Structure("a relation"))?;
        match rest.is_empty() {
            true => Ok(relation),
            false => Err(WireError::Structure("a relation")),
        }
    }
}

impl Payload for RelationPart {
    const KIND: FrameKind = FrameKind::Relation;
    const NAME: &'static str = "relation";

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.part.number.to_le_bytes());
        out.extend_from_slice(&self.part.count.to_le_bytes());
        // Bounded by RELATION_BYTES_MAX.
        out.extend_from_slice(&(self.part.total as u32).to_le_bytes());
        out.extend_from_slice(&self.bytes);
    }

    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(payload);
        Ok(Self {
            part: Part {
                number: cursor.u32("part")?,
                count: cursor.u32("parts")?,
                total: u64::from(cursor.u32("relation size")?),
            },
            bytes: Bytes::copy_from_slice(cursor.rest()),
        })
    }
}
