//! Values: from a column's on-disk bytes to the text PostgreSQL's own output function prints, and
//! to JSON as `to_json()` gives it.
//!
//! One file per type family. Every function takes the value without its varlena header.

pub mod decompress;

use std::sync::Arc;

use crate::cursor::ShortInput;

mod zone;

pub use zone::{TimeZone, UnknownTimeZone};

/// What the text of a value depends on besides the value and its type: the settings of a session.
#[derive(Clone, Debug)]
pub struct TextContext {
    /// Major version of the server, 14 to 18.
    pub major: u16,
    /// The database's encoding, PostgreSQL's number for it (6 is UTF8, 0 SQL_ASCII).
    // pg: mb/pg_wchar.h pg_enc [14-18]
    pub encoding: i32,
    /// `TimeZone`, for `timestamptz`.
    pub zone: Arc<TimeZone>,
}

impl TextContext {
    /// The context for a database of `major` version and `encoding`, in UTC.
    #[must_use]
    pub fn new(major: u16, encoding: i32) -> Self {
        Self {
            major,
            encoding,
            zone: Arc::new(TimeZone::utc()),
        }
    }
}

/// Appends the text of one value, given without its varlena header.
#[expect(dead_code, reason = "the dispatch table comes next")]
pub(crate) type TextFn = fn(&[u8], &TextContext, &mut Vec<u8>) -> Result<(), ValueError>;

/// A value that contradicts its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The value ends before its own structure does.
    #[error(transparent)]
    Short(#[from] ShortInput),
    /// The value says something that its type cannot mean.
    #[error("not a valid {type_name}: {problem}")]
    Invalid {
        /// The type.
        type_name: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// Nested deeper than any value the server accepts.
    #[error("{0} nested too deeply")]
    TooDeep(&'static str),
    /// Compressed data that does not decompress to what it says.
    #[error("bad {0} data")]
    BadCompression(&'static str),
}
