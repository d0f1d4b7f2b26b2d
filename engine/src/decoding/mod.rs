//! Decoding: row records to encoded events.
//!
//! Takes: the rows of one partition of one part, with the relation of every file. Gives: encoded
//! events in an arena, then, when all partitions of the part are done, the merged part. Keeps:
//! nothing. Never: looks at the live catalog, allocates or (TOASTed values aside) looks anything up per
//! row.

pub mod heap;
mod joining;
#[cfg(test)]
mod joining_tests;
pub mod merge;
pub mod names;
pub mod ordered;
mod plain;
mod row_bytes;
pub mod task;
#[cfg(test)]
mod tests;
pub(crate) mod toasted;
pub mod tuple;
mod undecodable;

use redostream_protocol::Lsn;

/// A row that cannot be decoded: its tuple contradicts its relation, or its record itself.
///
/// The catalog and the log disagree, which is a fault of ours or damage that a CRC does not show.
/// Where the row's table is known, that is said in the row's place to those who want the table;
/// else the log is stopped there. Report it with the LSN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {row} of the record at {lsn} ({relation}) cannot be decoded: {problem}")]
pub struct DecodeError {
    /// Start of the record.
    pub lsn: Lsn,
    /// Number of the row within it.
    pub row: u32,
    /// The relation, as people name it.
    pub relation: String,
    /// What is wrong.
    pub problem: TupleError,
}

/// What is wrong with a tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TupleError {
    /// The record is too short for what it says it holds.
    #[error("the record ends inside its {0}")]
    Short(&'static str),
    /// The tuple has more attributes than its relation.
    #[error("the tuple has {tuple} attributes, its relation {relation}")]
    TooManyAttributes {
        /// Attributes in the tuple.
        tuple: usize,
        /// Attributes of the relation.
        relation: usize,
    },
    /// The header offset and the null bitmap do not fit together.
    #[error("the tuple header offset {0} does not fit its null bitmap")]
    HeaderOffset(u8),
    /// A value goes beyond the tuple's end.
    #[error("attribute {0} goes beyond the tuple's end")]
    Overrun(usize),
    /// A varlena header that cannot be.
    #[error("attribute {0} has an invalid varlena header")]
    Varlena(usize),
    /// Bytes are left behind the last attribute.
    #[error("{0} bytes are left behind the last attribute")]
    Leftover(usize),
    /// A combination of flags that cannot be.
    #[error("{0}")]
    Contradiction(&'static str),
}
