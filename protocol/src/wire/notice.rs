//! Notice: something the subscriber should know, at its place in the stream.
//!
//! ```text
//! 0     8             10     ..              ..
//! | lsn | code length | code | detail length | detail |
//! ```

use super::error::WireError;
use super::header::{FrameKind, Payload};
use crate::{Cursor, Lsn};

/// For example that a table's rows are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The place in the log it concerns.
    pub lsn: Lsn,
    /// A word for programs.
    pub code: String,
    /// A sentence for people.
    pub detail: String,
}

impl Payload for Notice {
    const KIND: FrameKind = FrameKind::Notice;
    const NAME: &'static str = "notice";

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.lsn.0.to_le_bytes());
        push_text(out, &self.code);
        push_text(out, &self.detail);
    }

    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(payload);
        let notice = Self {
            lsn: Lsn(cursor.u64("notice LSN")?),
            code: take_text(&mut cursor, "notice code")?,
            detail: take_text(&mut cursor, "notice detail")?,
        };
        cursor.finish("notice")?;
        Ok(notice)
    }
}

/// Appends a text with its length; what is beyond 64 KB is cut.
pub(super) fn push_text(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.extend_from_slice(&(end as u16).to_le_bytes());
    out.extend_from_slice(&text.as_bytes()[..end]);
}

/// Takes a text with its length.
pub(super) fn take_text(cursor: &mut Cursor<'_>, what: &'static str) -> Result<String, WireError> {
    let length = usize::from(cursor.u16(what)?);
    let bytes = cursor.take(length, what)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| WireError::Invalid("text that is not UTF-8"))
}
