//! `XLOG_HEAP_UPDATE` and `XLOG_HEAP_HOT_UPDATE`.
//!
//! ```text
//! main data:  old_xmax u32 | old_offnum u16 | old_infobits u8 | flags u8 | new_xmax u32 |
//!             new_offnum u16 | [old tuple: xl_heap_header | tuple data]
//! block 0:    [prefix u16] [suffix u16] xl_heap_header | tuple data
//! ```
// pg: access/heapam_xlog.h xl_heap_update; replication/logical/decode.c DecodeUpdate [14-18]

use redostream_protocol::event::{EventKind, flags};

use crate::assembly::part::segment_flags;
use crate::catalog::relation::Target;
use crate::decoding::TupleError;
use crate::decoding::task::RowWriter;
use crate::decoding::tuple::{LoggedTuple, push_columns};
use crate::framing::walk::Parts;

const CONTAINS_OLD_TUPLE: u8 = 1 << 2;
const CONTAINS_OLD_KEY: u8 = 1 << 3;
const CONTAINS_NEW_TUPLE: u8 = 1 << 4;
const PREFIX_OR_SUFFIX: u8 = 1 << 5 | 1 << 6;
const FIXED_BYTES: usize = 14;

#[inline]
pub(crate) fn decode(
    parts: Parts<'_>,
    target: &Target,
    row: &mut RowWriter<'_>,
) -> Result<(), TupleError> {
    let (fixed, old) = parts
        .main
        .split_at_checked(FIXED_BYTES)
        .ok_or(TupleError::Short("update header"))?;
    let record_flags = fixed[7];
    let Target::Table(layout) = target else {
        return Ok(());
    };
    if record_flags & CONTAINS_NEW_TUPLE == 0 {
        return Ok(());
    }
    if record_flags & PREFIX_OR_SUFFIX != 0 {
        return Err(TupleError::Contradiction(
            "a logged row shares bytes with its old version",
        ));
    }
    let columns = layout.attributes.len();
    row.begin(
        layout.relation.version,
        2 * columns,
        parts.block_data.len() + old.len(),
    );
    let new = LoggedTuple::parse(parts.block_data)?;
    let old_flags = old_flags(record_flags, CONTAINS_OLD_TUPLE, CONTAINS_OLD_KEY);
    let mut external = false;
    let names = row.names(layout);
    row.event(EventKind::Update, layout.relation.columns.len(), |out| {
        if old_flags != 0 {
            external |= push_columns(layout, LoggedTuple::parse(old)?, names, out)?;
        }
        external |= push_columns(layout, new, names, out)?;
        Ok(old_flags | if external { flags::HAS_EXTERNAL } else { 0 })
    })?;
    if external {
        row.mark(segment_flags::TOAST);
    }
    Ok(())
}

/// The event flags for the old tuple a record's flags announce.
pub(crate) const fn old_flags(record_flags: u8, tuple: u8, key: u8) -> u8 {
    if record_flags & tuple != 0 {
        flags::OLD_FULL
    } else if record_flags & key != 0 {
        flags::OLD_KEY
    } else {
        0
    }
}
