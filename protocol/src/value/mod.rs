//! Values: from a column's on-disk bytes to the text PostgreSQL's own output function prints, and
//! to JSON as `to_json()` gives it.
//!
//! One file per type family. Every function takes the value without its varlena header.

pub mod decompress;

use crate::cursor::ShortInput;

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
