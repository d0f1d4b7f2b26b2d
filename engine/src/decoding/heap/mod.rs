//! The heap's row records, one file each.

pub(crate) mod confirm;
pub(crate) mod delete;
pub(crate) mod insert;
pub(crate) mod multi_insert;
pub(crate) mod update;

use redostream_protocol::event::{EventKind, flags};

use super::TupleError;
use super::task::RowWriter;
use super::tuple::{LoggedTuple, push_columns};
use crate::assembly::part::segment_flags;
use crate::catalog::relation::Layout;
use crate::framing::page::u32_at;

/// Writes an insert-like event of one new tuple.
#[inline(always)]
pub(crate) fn push_new(
    layout: &Layout,
    kind: EventKind,
    tuple: LoggedTuple<'_>,
    extra_flags: u8,
    row: &mut RowWriter<'_>,
) -> Result<(), TupleError> {
    let mut external = false;
    let names = row.names(layout);
    row.event(kind, layout.relation.columns.len(), |out| {
        external = push_columns(layout, tuple, names, out)?;
        Ok(extra_flags | if external { flags::HAS_EXTERNAL } else { 0 })
    })?;
    if external {
        row.mark(segment_flags::TOAST);
    }
    Ok(())
}

/// A chunk of a TOASTed value.
#[derive(Clone, Copy)]
pub(crate) struct Chunk<'a> {
    /// `chunk_id`: the value's number.
    pub(crate) value: u32,
    /// `chunk_seq`, from 0.
    pub(crate) sequence: u32,
    /// `chunk_data`.
    pub(crate) data: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Reads the columns chunk_id oid, chunk_seq int4, chunk_data bytea.
    // pg: catalog/toasting.c create_toast_table [14-18]
    pub(crate) fn parse(tuple: LoggedTuple<'a>) -> Result<Self, TupleError> {
        let (count, bitmap, values) = tuple.split()?;
        if count != 3 || !bitmap.is_empty() {
            return Err(TupleError::Contradiction(
                "a TOAST chunk has three columns, none null",
            ));
        }
        let ids = values.get(..8).ok_or(TupleError::Overrun(2))?;
        Ok(Chunk {
            value: u32_at(ids, 0),
            sequence: u32_at(ids, 4),
            data: plain_varlena(&values[8..]).ok_or(TupleError::Varlena(3))?,
        })
    }
}

/// Writes a chunk of a TOASTed value.
pub(crate) fn push_chunk(
    toast: u32,
    tuple: LoggedTuple<'_>,
    row: &mut RowWriter<'_>,
) -> Result<(), TupleError> {
    let chunk = Chunk::parse(tuple)?;
    row.mark(segment_flags::TOAST);
    row.event(EventKind::ToastChunk, 0, |out| {
        for number in [toast, chunk.value, chunk.sequence] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(chunk.data);
        Ok(0)
    })
}

/// The payload of an uncompressed inline varlena that fills `bytes`.
fn plain_varlena(bytes: &[u8]) -> Option<&[u8]> {
    let first = *bytes.first()?;
    if first & 1 == 1 {
        let size = usize::from(first >> 1);
        return if size == bytes.len() {
            bytes.get(1..)
        } else {
            None
        };
    }
    let header = u32_at(bytes.get(..4)?, 0);
    let whole = header & 3 == 0 && (header >> 2) as usize == bytes.len();
    whole.then(|| &bytes[4..])
}
