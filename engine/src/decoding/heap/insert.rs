//! `XLOG_HEAP_INSERT`.
//!
//! ```text
//! main data:  offnum u16 | flags u8
//! block 0:    xl_heap_header (5 bytes) | tuple data
//! ```
// pg: access/heapam_xlog.h xl_heap_insert; replication/logical/decode.c DecodeInsert [14-18]

use redostream_protocol::event::EventKind;

use super::{push_chunk, push_new};
use crate::assembly::part::segment_flags;
use crate::catalog::relation::Target;
use crate::decoding::TupleError;
use crate::decoding::task::RowWriter;
use crate::decoding::tuple::LoggedTuple;
use crate::framing::walk::Parts;

const IS_SPECULATIVE: u8 = 1 << 2;
const CONTAINS_NEW_TUPLE: u8 = 1 << 3;

/// Whether the main data is of a record with a tuple that is inserted for good.
#[inline(always)]
pub(crate) fn is_ordinary(main: &[u8]) -> bool {
    matches!(main, [_, _, flags] if flags & (IS_SPECULATIVE | CONTAINS_NEW_TUPLE) == CONTAINS_NEW_TUPLE)
}

/// Whether the main data is of a record that a later one confirms or withdraws.
pub(crate) fn is_speculative(main: &[u8]) -> bool {
    main.get(2).is_some_and(|flags| flags & IS_SPECULATIVE != 0)
}

#[inline]
pub(crate) fn decode(
    parts: Parts<'_>,
    target: &Target,
    row: &mut RowWriter<'_>,
) -> Result<(), TupleError> {
    let flags = *parts
        .main
        .get(2)
        .ok_or(TupleError::Short("insert header"))?;
    if flags & CONTAINS_NEW_TUPLE == 0 {
        return Ok(());
    }
    let tuple = LoggedTuple::parse(parts.block_data)?;
    match target {
        Target::Table(layout) => {
            let columns = layout.attributes.len();
            row.begin(layout.relation.version, columns, parts.block_data.len());
            let kind = if flags & IS_SPECULATIVE == 0 {
                EventKind::Insert
            } else {
                row.mark(segment_flags::SPECULATIVE);
                EventKind::SpeculativeInsert
            };
            push_new(layout, kind, tuple, 0, row)
        }
        Target::Toast { oid } => push_chunk(oid.0, tuple, row),
        Target::Ignore(_) | Target::Sequence(_) | Target::Undecodable { .. } => Ok(()),
    }
}
