//! Data: events, in the form [`crate::event`] draws.
//!
//! ```text
//! 0       24     48        56         60     64      68      76              80
//! | first | last | wal end | raw size | part | parts | total | header length | header, events
//!
//! frame flags   1 events are LZ4, 2 a transaction header is there; of 4 and 8 at most one, and only
//!               with 1: 4 the events are packed (`pack`) inside the LZ4 block, and the
//!               packed size, u32, stands before it; 8 they are split (`split`)
//! first, last   positions of the first and last event
//! wal end       u64  everything that starts before it has been released; 0 if that is not said
//! raw size      u32  bytes of this frame's events, decompressed; at most 1 MiB
//! part, parts   u32  0 and 1, but for an event larger than a frame: its parts, in order
//! total         u64  bytes of all parts, decompressed
//! header        postcard of the TransactionHeader that the first event belongs to, where its begin
//!               was in an earlier frame or session
//! ```

use std::sync::Arc;

use bytes::Bytes;

use super::compress::{Compressor, Decompressor, Form};
use super::error::WireError;
use super::header::{Frame, FrameHeader, FrameKind, HEADER_BYTES};
use super::limits::{DATA_RAW_BYTES_MAX, TRANSACTION_HEADER_BYTES_MAX};
use super::parts::Part;
use crate::event::TransactionHeader;
use crate::{Cursor, Lsn, Position};

/// Frame flag: the events are compressed with LZ4.
pub const FLAG_LZ4: u16 = 1;
/// Frame flag: a transaction header is there.
pub const FLAG_CONTINUES: u16 = 2;
/// Frame flag: the events are packed inside their LZ4 block, whose size is given before it.
pub const FLAG_PACKED: u16 = 4;
/// Frame flag: part of the events stands beside their LZ4 block.
pub const FLAG_SPLIT: u16 = 8;
/// Bytes of the payload before the transaction header.
pub const DATA_HEAD_BYTES: usize = 80;

/// What stands before the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataHead {
    /// Position of the first event.
    pub first: Position,
    /// Position of the last event.
    pub last: Position,
    /// Everything that starts before it has been released; 0 if that is not said.
    pub wal_end: Lsn,
    /// Bytes of this frame's events, decompressed.
    pub raw_size: u32,
    /// Where it belongs, if the event is larger than a frame.
    pub part: Part,
    /// The transaction that the first event belongs to, where its begin came earlier.
    pub continues: Option<Arc<TransactionHeader>>,
}

/// The body of a data frame, ready for any number of sessions.
#[derive(Clone, Debug)]
pub struct DataBody {
    /// The bytes as they go out.
    pub stored: Vec<Bytes>,
    /// Their number.
    pub stored_size: usize,
    /// Bytes of events.
    pub raw_size: u32,
    /// Bytes of `stored` that are not pieces of the events themselves.
    pub own_size: usize,
    /// How it is compressed, if it is.
    pub form: Option<Form>,
    /// CRC-32 of `stored`.
    crc: crc32fast::Hasher,
}

impl DataBody {
    /// The body as it is.
    ///
    /// # Panics
    /// If there are more than [`DATA_RAW_BYTES_MAX`] bytes: the caller splits before.
    #[must_use]
    pub fn raw(pieces: Vec<Bytes>) -> Self {
        let raw: usize = pieces.iter().map(Bytes::len).sum();
        assert!(raw <= DATA_RAW_BYTES_MAX, "{raw} bytes in one data frame");
        Self::new(pieces, raw as u32)
    }

    /// The body compressed, or as it is where that gains nothing.
    #[must_use]
    pub fn lz4(pieces: Vec<Bytes>, compressor: &mut Compressor) -> Self {
        let Some(compressed) = compressor.compress(&pieces) else {
            return Self::raw(pieces);
        };
        let raw: usize = pieces.iter().map(Bytes::len).sum();
        let own_size = compressed.stored.len();
        let mut stored = vec![compressed.stored];
        stored.extend(compressed.beside);
        Self {
            own_size,
            form: Some(compressed.form),
            ..Self::new(stored, raw as u32)
        }
    }

    fn new(stored: Vec<Bytes>, raw_size: u32) -> Self {
        let mut crc = crc32fast::Hasher::new();
        for piece in &stored {
            crc.update(piece);
        }
        Self {
            stored_size: stored.iter().map(Bytes::len).sum(),
            stored,
            raw_size,
            own_size: 0,
            form: None,
            crc,
        }
    }
}

const fn flags_of(form: Option<Form>) -> u16 {
    match form {
        None => 0,
        Some(Form::Lz4) => FLAG_LZ4,
        Some(Form::Packed) => FLAG_LZ4 | FLAG_PACKED,
        Some(Form::Split) => FLAG_LZ4 | FLAG_SPLIT,
    }
}

/// The form that flags of it say; none if there is none such.
fn form_of(flags: u16) -> Option<Option<Form>> {
    let forms = [None, Some(Form::Lz4), Some(Form::Packed), Some(Form::Split)];
    forms.into_iter().find(|form| flags_of(*form) == flags)
}

impl DataHead {
    /// The frame's bytes before `body`: frame header and data head.
    pub fn encode(&self, sequence: u64, body: &DataBody) -> Result<Vec<u8>, WireError> {
        let mut out = vec![0; HEADER_BYTES];
        out.extend_from_slice(&self.first.to_bytes());
        out.extend_from_slice(&self.last.to_bytes());
        out.extend_from_slice(&self.wal_end.0.to_le_bytes());
        out.extend_from_slice(&body.raw_size.to_le_bytes());
        out.extend_from_slice(&self.part.number.to_le_bytes());
        out.extend_from_slice(&self.part.count.to_le_bytes());
        out.extend_from_slice(&self.part.total.to_le_bytes());
        let mut flags = flags_of(body.form);
        match &self.continues {
            None => out.extend_from_slice(&0u32.to_le_bytes()),
            Some(header) => {
                flags |= FLAG_CONTINUES;
                let bytes = postcard::to_stdvec(&**header)
                    .map_err(|_| WireError::Structure("a transaction header"))?;
                if bytes.len() > TRANSACTION_HEADER_BYTES_MAX {
                    return Err(WireError::TooLarge {
                        what: "transaction header",
                        size: bytes.len() as u64,
                        limit: TRANSACTION_HEADER_BYTES_MAX as u64,
                    });
                }
                out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
                out.extend_from_slice(&bytes);
            }
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&out[HEADER_BYTES..]);
        crc.combine(&body.crc);
        let header = FrameHeader {
            kind: FrameKind::Data,
            flags,
            // Both are bounded far below 4 GB.
            length: (out.len() - HEADER_BYTES + body.stored_size) as u32,
            sequence,
            payload_crc: crc.finalize(),
        };
        out[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        Ok(out)
    }
}

/// A data frame as it arrives, decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// What stands before the events.
    pub head: DataHead,
    /// The events, or this part of one.
    pub events: Bytes,
}

impl Data {
    /// Decodes a data frame's payload and decompresses it.
    pub fn decode(frame: &Frame, decompressor: &mut Decompressor) -> Result<Self, WireError> {
        let flags = frame.header.flags;
        if frame.header.kind != FrameKind::Data {
            return Err(WireError::Unexpected {
                found: frame.header.kind,
                wanted: "data",
            });
        }
        let form = form_of(flags & !FLAG_CONTINUES).ok_or(WireError::UnknownFlags {
            kind: FrameKind::Data,
            flags,
        })?;
        let mut cursor = Cursor::new(&frame.payload);
        let first = Position::from_bytes(&cursor.array("first position")?);
        let last = Position::from_bytes(&cursor.array("last position")?);
        let wal_end = Lsn(cursor.u64("WAL end")?);
        let raw_size = cursor.u32("raw size")?;
        let part = Part {
            number: cursor.u32("part")?,
            count: cursor.u32("parts")?,
            total: cursor.u64("total size")?,
        };
        let length = cursor.u32("transaction header length")? as usize;
        let header = cursor.take(length, "transaction header")?;
        let continues = Self::header(header, flags & FLAG_CONTINUES != 0)?;
        let stored = frame.payload.slice(cursor.offset()..);
        let events = match form {
            Some(form) => decompressor.decompress(&stored, form, raw_size)?,
            None => stored,
        };
        if events.len() != raw_size as usize {
            return Err(WireError::Invalid("a data frame contradicts its raw size"));
        }
        if part.count == 0 || (part.count == 1 && part.total != u64::from(raw_size)) {
            return Err(WireError::Invalid("a data frame contradicts its total"));
        }
        Ok(Self {
            head: DataHead {
                first,
                last,
                wal_end,
                raw_size,
                part,
                continues,
            },
            events,
        })
    }

    fn header(bytes: &[u8], there: bool) -> Result<Option<Arc<TransactionHeader>>, WireError> {
        if !there && bytes.is_empty() {
            return Ok(None);
        }
        let bad = || WireError::Structure("a transaction header");
        let (header, rest) = postcard::take_from_bytes(bytes).map_err(|_| bad())?;
        match there && rest.is_empty() {
            true => Ok(Some(Arc::new(header))),
            false => Err(bad()),
        }
    }
}
