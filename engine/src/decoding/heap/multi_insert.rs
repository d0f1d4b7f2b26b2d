//! `XLOG_HEAP2_MULTI_INSERT`: several new tuples on one page.
//!
//! ```text
//! main data:  flags u8 | pad | ntuples u16 | [offsets u16 ...]
//! block 0:    per tuple, aligned to 2 bytes:
//!             datalen u16 | infomask2 u16 | infomask u16 | hoff u8 | tuple data
//! ```
// pg: access/heapam_xlog.h xl_heap_multi_insert; replication/logical/decode.c DecodeMultiInsert [14-18]

use redostream_protocol::event::{EventKind, flags};

use super::{push_chunk, push_new};
use crate::catalog::relation::Target;
use crate::decoding::TupleError;
use crate::decoding::task::RowWriter;
use crate::decoding::tuple::LoggedTuple;
use crate::framing::page::u16_at;
use crate::framing::walk::Parts;

const LAST_IN_MULTI: u8 = 1 << 1;
const CONTAINS_NEW_TUPLE: u8 = 1 << 3;
const TUPLE_FIXED_BYTES: usize = 7;

pub(crate) fn decode(
    parts: Parts<'_>,
    target: &Target,
    row: &mut RowWriter<'_>,
) -> Result<(), TupleError> {
    let fixed = parts
        .main
        .get(..4)
        .ok_or(TupleError::Short("multi-insert header"))?;
    let record_flags = fixed[0];
    if record_flags & CONTAINS_NEW_TUPLE == 0 {
        return Ok(());
    }
    let count = u16_at(fixed, 2);
    if let Target::Table(layout) = target {
        let columns = layout.attributes.len() * usize::from(count);
        row.begin(layout.relation.version, columns, parts.block_data.len());
    }
    let mut at = 0;
    for number in 1..=count {
        at = (at + 1) & !1;
        let short = TupleError::Short("multi-insert tuple");
        let header = parts
            .block_data
            .get(at..at + TUPLE_FIXED_BYTES)
            .ok_or(short)?;
        at += TUPLE_FIXED_BYTES;
        let bytes = usize::from(u16_at(header, 0));
        let data = parts.block_data.get(at..at + bytes).ok_or(short)?;
        at += bytes;
        let tuple = LoggedTuple::from_header(&header[2..], data);
        let ends_chunks = number == count && record_flags & LAST_IN_MULTI != 0;
        let keeps = if ends_chunks { 0 } else { flags::KEEPS_TOAST };
        match target {
            Target::Table(layout) => push_new(layout, EventKind::Insert, tuple, keeps, row)?,
            Target::Toast { oid } => push_chunk(oid.0, tuple, row)?,
            Target::Ignore(_) | Target::Sequence(_) | Target::Undecodable { .. } => {}
        }
    }
    if at != parts.block_data.len() {
        return Err(TupleError::Leftover(parts.block_data.len() - at));
    }
    Ok(())
}
