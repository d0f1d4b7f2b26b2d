//! `XLOG_HEAP_DELETE`.
//!
//! ```text
//! main data:  xmax u32 | offnum u16 | infobits u8 | flags u8 |
//!             [old tuple: xl_heap_header | tuple data]
//! ```
//! With `IS_SUPER` it is no delete: it withdraws the pending speculative insert, or its TOAST
//! chunks, which then need nothing.
// pg: access/heapam_xlog.h xl_heap_delete; replication/logical/decode.c DecodeDelete [14-18]

use redostream_protocol::event::{EventKind, flags};

use super::update::old_flags;
use crate::assembly::part::segment_flags;
use crate::catalog::relation::Target;
use crate::decoding::TupleError;
use crate::decoding::task::RowWriter;
use crate::decoding::tuple::{LoggedTuple, push_columns};
use crate::framing::walk::Parts;

const CONTAINS_OLD_TUPLE: u8 = 1 << 1;
const CONTAINS_OLD_KEY: u8 = 1 << 2;
const IS_SUPER: u8 = 1 << 3;
const FIXED_BYTES: usize = 8;

/// Whether the main data is of a record that withdraws a speculative insert.
pub(crate) fn is_withdrawal(main: &[u8]) -> bool {
    main.get(7).is_some_and(|flags| flags & IS_SUPER != 0)
}

#[inline]
pub(crate) fn decode(
    parts: Parts<'_>,
    target: &Target,
    row: &mut RowWriter<'_>,
) -> Result<(), TupleError> {
    let (fixed, old) = parts
        .main
        .split_at_checked(FIXED_BYTES)
        .ok_or(TupleError::Short("delete header"))?;
    let record_flags = fixed[7];
    let Target::Table(layout) = target else {
        return Ok(());
    };
    row.begin(layout.relation.version, layout.attributes.len(), old.len());
    if record_flags & IS_SUPER != 0 {
        row.mark(segment_flags::SPECULATIVE);
        return row.event(EventKind::SpeculativeAbort, 0, |_| Ok(0));
    }
    let old_flags = old_flags(record_flags, CONTAINS_OLD_TUPLE, CONTAINS_OLD_KEY);
    let mut external = false;
    let names = row.names(layout);
    row.event(EventKind::Delete, layout.relation.columns.len(), |out| {
        if old_flags != 0 {
            external = push_columns(layout, LoggedTuple::parse(old)?, names, out)?;
        }
        Ok(old_flags | if external { flags::HAS_EXTERNAL } else { 0 })
    })?;
    if external {
        row.mark(segment_flags::TOAST);
    }
    Ok(())
}
