//! Ranges: the range type's OID, the bounds there are, and a byte of flags at the very end.
//! Multiranges: how many ranges, where each begins, their flags, then their bounds.

use super::packed::PackedValues;
use super::quoting::{Escape, is_space, quote_tail};
use super::renderer::TypeRenderer;
use super::{TextContext, ValueError};
use crate::cursor::Cursor;

// pg: utils/rangetypes.h RANGE_EMPTY and others [14-18]
const EMPTY: u8 = 0x01;
const LOWER_INCLUSIVE: u8 = 0x02;
const UPPER_INCLUSIVE: u8 = 0x04;
const NO_LOWER: u8 = EMPTY | 0x08 | 0x20;
const NO_UPPER: u8 = EMPTY | 0x10 | 0x40;

/// Where the bounds begin, counted from the start of the varlena.
const BOUNDS_OFFSET: usize = 8;
/// Where the items of a multirange begin.
const ITEMS_OFFSET: usize = 12;

// pg: utils/adt/rangetypes.c range_deserialize, range_out [14-18]
pub(crate) fn range_text(
    bound: &TypeRenderer,
    value: &[u8],
    context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let mut cursor = Cursor::new(value);
    cursor.u32("range type")?;
    let Some((flags, bounds)) = value.split_last().filter(|_| cursor.remaining() > 0) else {
        return Err(ValueError::invalid("range", "no flags"));
    };
    push_range(
        bound,
        *flags,
        &mut PackedValues::new(bounds, BOUNDS_OFFSET),
        context,
        out,
    )
}

// pg: utils/adt/multirangetypes.c multirange_get_range, multirange_out [14-18]
pub(crate) fn multirange_text(
    bound: &TypeRenderer,
    value: &[u8],
    context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let mut cursor = Cursor::new(value);
    cursor.u32("multirange type")?;
    let ranges = cursor.u32("multirange length")? as usize;
    let items = ranges.saturating_sub(1).saturating_mul(4);
    cursor.take(items, "multirange items")?;
    let flags = cursor.take(ranges, "multirange flags")?;
    let mut bounds = PackedValues::new(value, ITEMS_OFFSET + items + ranges);
    out.push(b'{');
    for (number, flags) in flags.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        bounds.align(bound.align());
        push_range(bound, *flags, &mut bounds, context, out)?;
    }
    out.push(b'}');
    Ok(())
}

// pg: utils/adt/rangetypes.c range_deparse [14-18]
fn push_range(
    bound: &TypeRenderer,
    flags: u8,
    bounds: &mut PackedValues<'_>,
    context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    if flags & EMPTY != 0 {
        out.extend_from_slice(b"empty");
        return Ok(());
    }
    out.push(if flags & LOWER_INCLUSIVE != 0 {
        b'['
    } else {
        b'('
    });
    if flags & NO_LOWER == 0 {
        push_bound(bound, bounds, context, out)?;
    }
    out.push(b',');
    if flags & NO_UPPER == 0 {
        bounds.align_stored(bound.align(), bound.length());
        push_bound(bound, bounds, context, out)?;
    }
    out.push(if flags & UPPER_INCLUSIVE != 0 {
        b']'
    } else {
        b')'
    });
    Ok(())
}

// pg: utils/adt/rangetypes.c range_bound_escape [14-18]
fn push_bound(
    bound: &TypeRenderer,
    bounds: &mut PackedValues<'_>,
    context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let start = out.len();
    bounds
        .read(bound.length())?
        .plain(context, |bytes| bound.text(bytes, context, out))?;
    quote_tail(out, start, Escape::Double, |byte| {
        matches!(byte, b'"' | b'\\' | b'(' | b')' | b'[' | b']' | b',') || is_space(byte)
    })
}
