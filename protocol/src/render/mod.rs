//! Renderers: events into the lines that `--format` asks for.
//!
//! Takes events in stream order and the relations they name. Gives whole lines, appended to a
//! buffer; very large values on request beside them, so that their text is never in memory whole.
//! Keeps the open transaction, and everything of a relation that is the same for each of its rows.
//! Never does I/O, never filters.

pub mod identifier;
mod json;
mod large;
mod object;
mod relations;
#[cfg(test)]
mod samples;
mod structure;
mod test_decoding;

use std::sync::Arc;

use crate::cursor::{Cursor, ShortInput};
use crate::event::{ColumnValue, Event, EventError, EventKind, TransactionHeader, flags};
use crate::ids::{DatabaseOid, Lsn};
use crate::position::Position;
use crate::schema::{Database, Name, Relation, RelationVersion};
use crate::value::decompress::decompress_within;
use crate::value::{Monetary, TextContext, TimeZone, ValueError};
use crate::wire::limits::VALUE_BYTES_MAX;

pub use json::{Json, JsonOptions, push_notice_line, push_relation_line};
pub use large::{LargeValue, write_around};
pub use structure::push_table_json;
pub use test_decoding::{TestDecoding, TestDecodingOptions};

/// What a stream has told of the relations and databases its events name.
pub trait Relations {
    /// The relation version with this number.
    fn relation(&self, version: RelationVersion) -> Option<Arc<Relation>>;

    /// The database with this OID.
    fn database(&self, _oid: DatabaseOid) -> Option<Arc<Database>> {
        None
    }
}

impl<F: Fn(RelationVersion) -> Option<Arc<Relation>>> Relations for F {
    fn relation(&self, version: RelationVersion) -> Option<Arc<Relation>> {
        self(version)
    }
}

/// The settings of a session that text depends on.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// `TimeZone`.
    pub zone: Arc<TimeZone>,
    /// `lc_monetary`.
    pub monetary: Arc<Monetary>,
    /// Bytes of the largest value that is decompressed.
    pub value_bytes_max: u64,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            zone: Arc::new(TimeZone::utc()),
            monetary: Arc::new(Monetary::c()),
            value_bytes_max: VALUE_BYTES_MAX as u64,
        }
    }
}

impl SessionSettings {
    fn context(&self, database: &Database) -> TextContext {
        TextContext {
            major: database.major,
            encoding: database.encoding,
            zone: Arc::clone(&self.zone),
            monetary: Arc::clone(&self.monetary),
            names: None,
            value_bytes_max: self.value_bytes_max,
        }
    }
}

/// What a begin event holds.
fn transaction_header(event: &Event<'_>) -> Result<TransactionHeader, RenderError> {
    TransactionHeader::read(event.payload).ok_or_else(|| RenderError::Payload {
        kind: event.header.kind,
        lsn: event.header.record_lsn,
        problem: "it does not decode, or goes on behind its header".to_owned(),
    })
}

/// The relations that a truncate event names.
fn truncated(event: &Event<'_>) -> Result<Vec<RelationVersion>, RenderError> {
    let lsn = event.header.record_lsn;
    let short = |source: ShortInput| RenderError::Event {
        lsn,
        source: source.into(),
    };
    let mut cursor = Cursor::new(event.payload);
    let mut versions = Vec::new();
    for _ in 0..event.header.count {
        versions.push(RelationVersion(
            cursor.u32("truncated relation").map_err(short)?,
        ));
    }
    cursor.finish("truncate").map_err(short)?;
    Ok(versions)
}

/// What a message event holds.
struct Message<'a> {
    prefix: &'a [u8],
    content: &'a [u8],
    transactional: bool,
}

impl<'a> Message<'a> {
    fn read(event: &Event<'a>) -> Result<Self, RenderError> {
        let lsn = event.header.record_lsn;
        let mut cursor = Cursor::new(event.payload);
        let mut prefix = || {
            if event.header.flags & flags::DATABASE != 0 {
                cursor.u32("message database")?;
            }
            let length = cursor.u32("message prefix length")? as usize;
            cursor.take(length, "message prefix")
        };
        let prefix = prefix().map_err(|source| RenderError::Event {
            lsn,
            source: source.into(),
        })?;
        Ok(Message {
            prefix,
            content: cursor.rest(),
            transactional: event.header.flags & flags::TRANSACTIONAL != 0,
        })
    }
}

/// A relation's name with its schema, for errors.
fn qualified(relation: &Relation) -> String {
    format!("{}.{}", relation.schema, relation.name)
}

/// Refuses a row with another number of columns than its relation has.
fn check_count(event: &Event<'_>, expected: usize, table: &str) -> Result<(), RenderError> {
    if usize::from(event.header.count) == expected {
        return Ok(());
    }
    Err(RenderError::ColumnCount {
        table: table.to_owned(),
        lsn: event.header.record_lsn,
        found: event.header.count,
        expected,
    })
}

/// A column's content, ready to be rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content<'a> {
    Null,
    Unchanged,
    Bytes(&'a [u8]),
    Text(&'a [u8]),
}

/// Reads a column, decompressed into `raw` where it must be.
#[inline]
fn column_content<'a>(
    value: ColumnValue<'a>,
    value_bytes_max: u64,
    raw: &'a mut Vec<u8>,
) -> Result<Content<'a>, ColumnError> {
    Ok(match value {
        ColumnValue::Null => Content::Null,
        ColumnValue::Unchanged => Content::Unchanged,
        ColumnValue::Bytes(bytes) => Content::Bytes(bytes),
        ColumnValue::Text(text) => Content::Text(text),
        ColumnValue::Compressed {
            method,
            raw_size,
            stored,
        } => {
            raw.clear();
            decompress_within(value_bytes_max, method, raw_size, stored, raw)
                .map_err(ColumnError::Value)?;
            Content::Bytes(raw)
        }
        ColumnValue::External(_) => return Err(ColumnError::External),
    })
}

/// A column that cannot be rendered, before it is said which.
#[derive(Debug)]
enum ColumnError {
    External,
    Value(ValueError),
}

impl ColumnError {
    fn at(self, lsn: Lsn, table: &str, column: &Name) -> RenderError {
        match self {
            ColumnError::External => RenderError::Internal {
                what: "a TOAST pointer",
                lsn,
            },
            ColumnError::Value(source) => RenderError::Value {
                table: table.to_owned(),
                column: column.to_string(),
                lsn,
                source,
            },
        }
    }
}

/// Appends the text form of a position.
fn push_position(out: &mut Vec<u8>, position: Position) {
    use std::io::Write;
    // Writing to a vector cannot fail.
    let _ = write!(out, "{position}");
}

/// A type whose values were given as `\x` bytes, since its output function is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndecodedType {
    /// The type, as `format_type` writes it.
    pub data_type: Name,
    /// A column of it.
    pub column: Name,
}

/// An event that cannot be rendered. Nothing of it has been appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// The event's own bytes are wrong: the stream is damaged.
    #[error("event of the record at {lsn}: {source}")]
    Event {
        /// Start of the event's WAL record.
        lsn: Lsn,
        /// What is wrong.
        source: EventError,
    },
    /// A value contradicts its column's type: the table's data or the decoder is wrong.
    #[error("{table}, column {column}, row of the record at {lsn}: {source}")]
    Value {
        /// The table, with its schema.
        table: String,
        /// The column.
        column: String,
        /// Start of the row's WAL record.
        lsn: Lsn,
        /// What is wrong.
        source: ValueError,
    },
    /// The stream has not told of this relation before naming it.
    #[error(
        "the event of the record at {lsn} names relation version {version}, which is not known"
    )]
    UnknownRelation {
        /// The number.
        version: u32,
        /// Start of the event's WAL record.
        lsn: Lsn,
    },
    /// The event has another number of columns than its relation.
    #[error("the row of the record at {lsn} has {found} columns, {table} has {expected}")]
    ColumnCount {
        /// The table, with its schema.
        table: String,
        /// Start of the row's WAL record.
        lsn: Lsn,
        /// Columns of the row.
        found: u16,
        /// Columns of the relation.
        expected: usize,
    },
    /// Text that is not valid in its database's encoding, or has characters that the encoding
    /// asked for has not: take it in the database's own.
    #[error(
        "text of the record at {lsn} cannot be given in {encoding}; without --encoding it is given as it is stored"
    )]
    Encoding {
        /// The encoding asked for.
        encoding: &'static str,
        /// Start of the event's WAL record.
        lsn: Lsn,
    },
    /// The event belongs to a transaction, and none has begun.
    #[error("the event of the record at {lsn} stands outside a transaction")]
    NoTransaction {
        /// Start of the event's WAL record.
        lsn: Lsn,
    },
    /// An event, or a value, that never leaves the engine.
    #[error("{what} of the record at {lsn} has left the engine")]
    Internal {
        /// What it is.
        what: &'static str,
        /// Start of the event's WAL record.
        lsn: Lsn,
    },
    /// A payload that is not what its kind asks for.
    #[error("{kind:?} event of the record at {lsn} cannot be read: {problem}")]
    Payload {
        /// The event's kind.
        kind: EventKind,
        /// Start of the event's WAL record.
        lsn: Lsn,
        /// What is wrong.
        problem: String,
    },
}
