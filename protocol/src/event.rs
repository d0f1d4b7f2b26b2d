//! One change, as bytes. The same bytes stand in the engine's arenas, in the feed and on the wire:
//! a decoder writes them once, and everything after it passes them on by reference.
//!
//! ```text
//! 0      4      5       6       8     12         16           24    28
//! | size | kind | flags | count | xid | relation | record_lsn | row | payload ...
//!
//! size        u32  bytes of the event, this header included
//! kind        u8   EventKind
//! flags       u8   EventFlags, meaning depends on the kind
//! count       u16  columns in each tuple; for a truncate, relations
//! xid         u32  the (sub)transaction that wrote it
//! relation    u32  RelationVersion, 0 if none
//! record_lsn  u64  start of the WAL record
//! row         u32  number of the row within that record
//!
//! payload by kind (numbers little-endian):
//!   insert    new tuple
//!   update    old tuple if flags say so, then new tuple
//!   delete    old tuple if flags say so
//!   truncate  count x u32 RelationVersion
//!   message   u32 database OID if flags say so, u32 prefix length, prefix, content
//!   sequence  i64 last value, u8 is_called
//!   ddl       postcard of the DDL event
//!   begin     postcard of the TransactionHeader; xid is the top-level one
//!   commit    u64 events (begin and commit not counted), u32 CRC-32 of their bytes; for a unit
//!             without a commit, begin and commit are left out
//!
//! a tuple is `count` columns, each a tag byte and what the tag asks for:
//!   0x00-0xEF  that many bytes of value
//!   0xF0       null
//!   0xF1       unchanged: TOASTed, and not in the log
//!   0xF2       u32 length, then the value
//!   0xF3       u8 method (0 pglz, 1 lz4), u32 raw size, u32 stored size, then the stored bytes
//!   0xF4       u32 toast relation, u32 value id, u32 raw size, u32 stored size with the method in
//!              the upper two bits: a TOAST pointer; inside the engine only
//!   0xF5       u32 length, then text as the output function prints it
//! ```
//!
//! A value is the column's on-disk form without a varlena header: fixed-size types have their
//! `typlen` bytes little-endian, varlena types their payload, C strings no NUL.

use crate::cursor::{Cursor, ShortInput};
use crate::ids::{DatabaseOid, Lsn, Oid, Xid};
use crate::schema::RelationVersion;

/// Bytes of the fixed part of an event.
pub const HEADER_BYTES: usize = 28;

/// Tag of a null column.
pub const TAG_NULL: u8 = 0xF0;
/// Tag of a column that the log does not hold because its TOASTed value did not change.
pub const TAG_UNCHANGED: u8 = 0xF1;
/// Tag of a value of more than [`TAG_INLINE_MAX`] bytes.
pub const TAG_LONG: u8 = 0xF2;
/// Tag of a value that is still compressed as PostgreSQL stored it.
pub const TAG_COMPRESSED: u8 = 0xF3;
/// Tag of a TOAST pointer; never leaves the engine.
pub const TAG_EXTERNAL: u8 = 0xF4;
/// Tag of a value given as text.
pub const TAG_TEXT: u8 = 0xF5;
/// The longest value whose tag is its length.
pub const TAG_INLINE_MAX: u8 = 0xEF;

/// What an event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum EventKind {
    /// A row was inserted.
    Insert = 1,
    /// A row was updated.
    Update = 2,
    /// A row was deleted.
    Delete = 3,
    /// Tables were truncated together.
    Truncate = 4,
    /// A logical message.
    Message = 5,
    /// A sequence moved.
    Sequence = 6,
    /// A structure changed.
    Ddl = 7,
    /// A transaction begins; what follows up to its commit belongs to it.
    Begin = 8,
    /// The transaction ends.
    Commit = 9,
    /// Engine only: a chunk of a TOASTed value. Payload: u32 toast relation, u32 value id, u32
    /// sequence number, then the chunk's bytes (the chunk varlena's payload).
    ToastChunk = 0x81,
    /// Engine only: a speculative insert that waits for its confirmation. Payload as insert.
    SpeculativeInsert = 0x82,
    /// Engine only: confirms the pending speculative insert. No payload.
    SpeculativeConfirm = 0x83,
    /// Engine only: withdraws the pending speculative insert. No payload.
    SpeculativeAbort = 0x84,
    /// Engine only: a row of a transient relation that is not passed on, kept where its number
    /// matters. No payload.
    Skipped = 0x85,
    /// Never on the wire: rows of a table whose rows cannot be decoded. The count is that of the
    /// rows, as far as the record tells; the relation is the table, and the payload says why, in
    /// UTF-8.
    Undecodable = 0x86,
}

impl EventKind {
    /// The kind with this number.
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Insert,
            2 => Self::Update,
            3 => Self::Delete,
            4 => Self::Truncate,
            5 => Self::Message,
            6 => Self::Sequence,
            7 => Self::Ddl,
            8 => Self::Begin,
            9 => Self::Commit,
            0x81 => Self::ToastChunk,
            0x82 => Self::SpeculativeInsert,
            0x83 => Self::SpeculativeConfirm,
            0x84 => Self::SpeculativeAbort,
            0x85 => Self::Skipped,
            0x86 => Self::Undecodable,
            _ => return None,
        })
    }
}

/// Flag bits of an event.
pub mod flags {
    /// Update, delete: the old tuple holds the replica identity's key columns only.
    pub const OLD_KEY: u8 = 0x01;
    /// Update, delete: the old tuple is the whole row.
    pub const OLD_FULL: u8 = 0x02;
    /// Rows: the event does not end its transaction's pending TOAST chunks, as every other insert,
    /// update and delete does. Set on the rows of a multi-insert but the last row of the record
    /// flagged `XLH_INSERT_LAST_IN_MULTI`. It depends on the log alone, so it may stay on the wire
    /// (bulk loads pass untouched); a receiver makes nothing of it.
    // pg: access/heapam_xlog.h XLH_INSERT_LAST_IN_MULTI [14-18]
    pub const KEEPS_TOAST: u8 = 0x04;
    /// Rows: the event holds a TOAST pointer. Engine only, 0 on the wire; its segment is flagged
    /// as holding TOAST.
    pub const HAS_EXTERNAL: u8 = 0x08;
    /// Truncate: with CASCADE.
    pub const CASCADE: u8 = 0x10;
    /// Speculative insert: the row cannot be decoded, and the payload says why. Engine only.
    pub const UNDECODABLE: u8 = 0x10;
    /// Truncate: with RESTART IDENTITY.
    pub const RESTART_IDENTITY: u8 = 0x20;
    /// Message, sequence: part of a transaction.
    pub const TRANSACTIONAL: u8 = 0x40;
    /// Message: the payload begins with the OID of its database. Set where no transaction says it.
    pub const DATABASE: u8 = 0x80;
}

/// The fixed part of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventHeader {
    /// Bytes of the whole event.
    pub size: u32,
    /// Kind.
    pub kind: EventKind,
    /// Bits of [`flags`].
    pub flags: u8,
    /// Columns in each tuple, or relations of a truncate.
    pub count: u16,
    /// The (sub)transaction that wrote it.
    pub xid: Xid,
    /// Relation version, 0 if none.
    pub relation: RelationVersion,
    /// Start of its WAL record.
    pub record_lsn: Lsn,
    /// Number of the row in the record.
    pub row: u32,
}

impl EventHeader {
    /// The header's bytes.
    #[must_use]
    #[inline]
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..4].copy_from_slice(&self.size.to_le_bytes());
        out[4] = self.kind as u8;
        out[5] = self.flags;
        out[6..8].copy_from_slice(&self.count.to_le_bytes());
        out[8..12].copy_from_slice(&self.xid.0.to_le_bytes());
        out[12..16].copy_from_slice(&self.relation.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.record_lsn.0.to_le_bytes());
        out[24..28].copy_from_slice(&self.row.to_le_bytes());
        out
    }
}

/// Bytes that are not an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// The input ends too early.
    #[error(transparent)]
    Short(#[from] ShortInput),
    /// The kind is none we know.
    #[error("unknown event kind {0:#04x}")]
    UnknownKind(u8),
    /// A column's tag is none we know.
    #[error("unknown column tag {0:#04x}")]
    UnknownTag(u8),
    /// The size in the header is smaller than the header.
    #[error("event size {0} is smaller than its header")]
    BadSize(u32),
}

/// One event, borrowed from its block.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The fixed part.
    pub header: EventHeader,
    /// What follows it.
    pub payload: &'a [u8],
}

impl<'a> Event<'a> {
    /// Takes the next event from `cursor`.
    pub fn read(cursor: &mut Cursor<'a>) -> Result<Self, EventError> {
        let size = Cursor::new(cursor.rest()).u32("event size")?;
        let body = (size as usize)
            .checked_sub(HEADER_BYTES)
            .ok_or(EventError::BadSize(size))?;
        cursor.take(4, "event size")?;
        let kind = cursor.u8("event kind")?;
        let header = EventHeader {
            size,
            kind: EventKind::from_u8(kind).ok_or(EventError::UnknownKind(kind))?,
            flags: cursor.u8("event flags")?,
            count: cursor.u16("event columns")?,
            xid: Xid(cursor.u32("event xid")?),
            relation: RelationVersion(cursor.u32("event relation")?),
            record_lsn: Lsn(cursor.u64("event record LSN")?),
            row: cursor.u32("event row")?,
        };
        Ok(Event {
            header,
            payload: cursor.take(body, "event payload")?,
        })
    }

    /// The database that a message outside of transactions was written in.
    #[must_use]
    pub fn database(&self) -> Option<DatabaseOid> {
        let given =
            self.header.kind == EventKind::Message && self.header.flags & flags::DATABASE != 0;
        let oid = self.payload.first_chunk().filter(|_| given)?;
        Some(Oid(u32::from_le_bytes(*oid)))
    }

    /// Whether the payload begins with an old tuple.
    #[must_use]
    pub const fn has_old(&self) -> bool {
        self.header.flags & (flags::OLD_KEY | flags::OLD_FULL) != 0
    }

    /// A reader over the payload's columns: the old tuple's first, if there is one, then the new
    /// one's.
    #[must_use]
    pub const fn columns(&self) -> Columns<'a> {
        Columns {
            cursor: Cursor::new(self.payload),
        }
    }
}

/// One column of a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnValue<'a> {
    /// SQL null.
    Null,
    /// The value is TOASTed, did not change, and is not in the log.
    Unchanged,
    /// The value's bytes.
    Bytes(&'a [u8]),
    /// The value, compressed as PostgreSQL stored it.
    Compressed {
        /// How.
        method: CompressionMethod,
        /// Bytes it decompresses to.
        raw_size: u32,
        /// The compressed bytes.
        stored: &'a [u8],
    },
    /// A TOAST pointer; never leaves the engine.
    External(ToastPointer),
    /// The value's text.
    Text(&'a [u8]),
}

/// How PostgreSQL compressed a value.
// pg: access/toast_compression.h ToastCompressionId [14-18]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CompressionMethod {
    /// PostgreSQL's own LZ.
    Pglz = 0,
    /// An LZ4 block.
    Lz4 = 1,
}

/// Where a TOASTed value is.
// pg: varatt.h varatt_external [14-18]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToastPointer {
    /// `va_toastrelid`.
    pub relation: u32,
    /// `va_valueid`.
    pub value: u32,
    /// `va_rawsize`: bytes of the value with its 4-byte header, decompressed.
    pub raw_size: u32,
    /// `va_extinfo`: bytes stored (no header) in the lower 30 bits, the method in the upper two.
    pub stored: u32,
}

impl ToastPointer {
    /// Bytes stored in chunks.
    #[must_use]
    pub const fn stored_size(&self) -> u32 {
        self.stored & 0x3FFF_FFFF
    }

    /// Whether the stored bytes are compressed.
    // pg: varatt.h VARATT_EXTERNAL_IS_COMPRESSED [14-18]
    #[must_use]
    pub const fn is_compressed(&self) -> bool {
        self.stored_size() < self.raw_size.saturating_sub(4)
    }
}

/// A reader over columns.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Columns<'a> {
    /// Reads columns from `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            cursor: Cursor::new(bytes),
        }
    }

    /// Bytes read so far.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.cursor.offset()
    }

    /// Takes the next column.
    #[inline]
    pub fn read(&mut self) -> Result<ColumnValue<'a>, EventError> {
        let cursor = &mut self.cursor;
        Ok(match cursor.u8("column tag")? {
            length @ 0..=TAG_INLINE_MAX => {
                ColumnValue::Bytes(cursor.take(usize::from(length), "column value")?)
            }
            TAG_NULL => ColumnValue::Null,
            TAG_UNCHANGED => ColumnValue::Unchanged,
            TAG_LONG => {
                let length = cursor.u32("column length")?;
                ColumnValue::Bytes(cursor.take(length as usize, "column value")?)
            }
            TAG_COMPRESSED => {
                let method = match cursor.u8("compression method")? {
                    0 => CompressionMethod::Pglz,
                    1 => CompressionMethod::Lz4,
                    other => return Err(EventError::UnknownTag(other)),
                };
                let raw_size = cursor.u32("raw size")?;
                let stored = cursor.u32("stored size")?;
                let stored = cursor.take(stored as usize, "compressed value")?;
                ColumnValue::Compressed {
                    method,
                    raw_size,
                    stored,
                }
            }
            TAG_EXTERNAL => ColumnValue::External(ToastPointer {
                relation: cursor.u32("toast relation")?,
                value: cursor.u32("toast value id")?,
                raw_size: cursor.u32("toast raw size")?,
                stored: cursor.u32("toast stored size")?,
            }),
            TAG_TEXT => {
                let length = cursor.u32("text length")?;
                ColumnValue::Text(cursor.take(length as usize, "column text")?)
            }
            other => return Err(EventError::UnknownTag(other)),
        })
    }

    /// Ends reading; leftovers are an error.
    pub fn finish(self) -> Result<(), EventError> {
        Ok(self.cursor.finish("event payload")?)
    }
}

/// Appends a value with the right tag.
#[inline]
pub fn push_value(out: &mut Vec<u8>, value: &[u8]) {
    match u8::try_from(value.len()) {
        Ok(length) if length <= TAG_INLINE_MAX => out.push(length),
        _ => {
            out.push(TAG_LONG);
            // A PostgreSQL value has at most 2^30 bytes.
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        }
    }
    out.extend_from_slice(value);
}

/// Appends a compressed value.
pub fn push_compressed(out: &mut Vec<u8>, method: CompressionMethod, raw_size: u32, stored: &[u8]) {
    out.push(TAG_COMPRESSED);
    out.push(method as u8);
    out.extend_from_slice(&raw_size.to_le_bytes());
    out.extend_from_slice(&(stored.len() as u32).to_le_bytes());
    out.extend_from_slice(stored);
}

/// Appends a TOAST pointer.
pub fn push_external(out: &mut Vec<u8>, pointer: ToastPointer) {
    out.push(TAG_EXTERNAL);
    for number in [
        pointer.relation,
        pointer.value,
        pointer.raw_size,
        pointer.stored,
    ] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// Appends a value given as text.
pub fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    out.push(TAG_TEXT);
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text);
}

/// What is known of a transaction when it is released; travels before its events.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TransactionHeader {
    /// Timeline at `commit_lsn`.
    pub timeline: crate::ids::TimelineId,
    /// Start of the commit record; for a unit without a commit, of its own record.
    pub commit_lsn: Lsn,
    /// End of that record.
    pub end_lsn: Lsn,
    /// Top-level transaction; 0 for a unit without a commit.
    pub xid: Xid,
    /// Database it ran in; 0 if the record does not say.
    pub database: crate::ids::DatabaseOid,
    /// Commit time, microseconds since 2000-01-01 00:00 UTC.
    pub commit_time_us: i64,
    /// Where the transaction first happened, if it was replicated here.
    pub origin: Option<Origin>,
    /// Global id, if it was prepared.
    pub gid: Option<Vec<u8>>,
}

/// The replication origin of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Origin {
    /// `pg_replication_origin.roident`.
    pub id: u16,
    /// `pg_replication_origin.roname`, if it was still known.
    pub name: Option<crate::schema::Name>,
    /// LSN of the commit on the origin.
    pub lsn: Lsn,
    /// Commit time on the origin, microseconds since 2000-01-01 00:00 UTC.
    pub commit_time_us: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_round_trips() {
        let mut bytes = vec![0; HEADER_BYTES];
        push_value(&mut bytes, b"abc");
        bytes.push(TAG_NULL);
        push_value(&mut bytes, &[7; 300]);
        let pointer = ToastPointer {
            relation: 1,
            value: 2,
            raw_size: 3004,
            stored: 2000,
        };
        push_external(&mut bytes, pointer);
        push_compressed(&mut bytes, CompressionMethod::Lz4, 10, b"xy");
        let header = EventHeader {
            size: bytes.len() as u32,
            kind: EventKind::Insert,
            flags: flags::KEEPS_TOAST,
            count: 5,
            xid: Xid(700),
            relation: RelationVersion(3),
            record_lsn: Lsn(99),
            row: 4,
        };
        bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        let event = Event::read(&mut Cursor::new(&bytes)).unwrap();
        assert_eq!(event.header, header);
        let mut columns = event.columns();
        assert_eq!(columns.read(), Ok(ColumnValue::Bytes(b"abc")));
        assert_eq!(columns.read(), Ok(ColumnValue::Null));
        assert_eq!(columns.read(), Ok(ColumnValue::Bytes(&[7; 300])));
        assert_eq!(columns.read(), Ok(ColumnValue::External(pointer)));
        assert!(matches!(
            columns.read(),
            Ok(ColumnValue::Compressed { raw_size: 10, .. })
        ));
        columns.finish().unwrap();
        for end in 0..bytes.len() {
            assert!(Event::read(&mut Cursor::new(&bytes[..end])).is_err());
        }
    }
}
