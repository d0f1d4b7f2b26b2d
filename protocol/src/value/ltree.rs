//! The types of ltree: `ltree`, `lquery`, `ltxtquery`.
//!
//! Offsets inside are aligned to 8 bytes, counted from the 4-byte varlena header, which the values
//! here come without.

use super::boolean_query::{Item, print_infix};
use super::pieces::{bytes_at, push_number, u16_at, u32_at};
use super::{TextContext, ValueError};

/// `ltree_out`: u16 number of levels, padding; each level is u16 length, its label, padding.
// pg: contrib/ltree/ltree.h ltree_level [14-18]
pub(super) fn ltree_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let levels = u16_at(value, 0, "ltree levels")?;
    let mut at = 4;
    for level in 0..levels {
        if level > 0 {
            out.push(b'.');
        }
        let length = usize::from(u16_at(value, at, "ltree label length")?);
        out.extend_from_slice(bytes_at(value, at + 2, length, "ltree label")?);
        at += (length + 2).next_multiple_of(8);
    }
    Ok(())
}

/// A label matches its beginning.
const ANY_END: u8 = 0x01;
/// A label matches in any case.
const ANY_CASE: u8 = 0x02;
/// A label matches word by word.
const SUBLEXEME: u8 = 0x04;
/// Level: none of its labels.
const LEVEL_NOT: u16 = 0x10;
/// Level with labels: has repeat counts.
const LEVEL_COUNT: u16 = 0x20;
/// The header of a level, and of a label.
const LEVEL_HEADER_BYTES: usize = 16;
const LABEL_HEADER_BYTES: usize = 8;

fn push_label_flags(flags: u8, out: &mut Vec<u8>) {
    for (flag, sign) in [(SUBLEXEME, b'%'), (ANY_CASE, b'@'), (ANY_END, b'*')] {
        if flags & flag != 0 {
            out.push(sign);
        }
    }
}

/// `lquery_out`: u16 number of levels, u16 leading simple levels, u16 flags, padding to 16 bytes
/// from the varlena header; then the levels.
///
/// ```text
/// level   u16 bytes of the level, u16 flags, u16 labels (0: any), u16 low, u16 high, padding
/// label   i32 CRC, u16 length, u8 flags, the label; the next starts 8 bytes after the label's
///         length, rounded up to 8
/// ```
// pg: contrib/ltree/ltree.h lquery_level, contrib/ltree/ltree_io.c deparse_lquery [14-18]
pub(super) fn lquery_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let levels = u16_at(value, 0, "lquery levels")?;
    let mut at = 12;
    for level in 0..levels {
        if level > 0 {
            out.push(b'.');
        }
        let bytes = usize::from(u16_at(value, at, "lquery level")?);
        if bytes < LEVEL_HEADER_BYTES {
            return Err(ValueError::invalid(
                "lquery",
                "a level is shorter than its header",
            ));
        }
        push_level(bytes_at(value, at, bytes, "lquery level")?, out)?;
        at += bytes.next_multiple_of(8);
    }
    Ok(())
}

fn push_level(level: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let flags = u16_at(level, 2, "lquery level flags")?;
    let labels = u16_at(level, 4, "lquery labels")?;
    let low = u16_at(level, 6, "lquery repeat count")?;
    let high = u16_at(level, 8, "lquery repeat count")?;
    if labels == 0 {
        out.push(b'*');
    } else if flags & LEVEL_NOT != 0 {
        out.push(b'!');
    }
    let mut at = LEVEL_HEADER_BYTES;
    for label in 0..labels {
        if label > 0 {
            out.push(b'|');
        }
        let length = usize::from(u16_at(level, at + 4, "lquery label length")?);
        let flags = bytes_at(level, at + 6, 1, "lquery label flags")?;
        out.extend_from_slice(bytes_at(level, at + 7, length, "lquery label")?);
        push_label_flags(flags[0], out);
        at += length.next_multiple_of(8) + LABEL_HEADER_BYTES;
    }
    if labels == 0 || flags & LEVEL_COUNT != 0 {
        push_repeats(low, high, labels == 0, out);
    }
    Ok(())
}

fn push_repeats(low: u16, high: u16, any_label: bool, out: &mut Vec<u8>) {
    match (low, high) {
        _ if low == high => push_number(out, format_args!("{{{low}}}")),
        (0, u16::MAX) if any_label => {}
        (0, u16::MAX) => out.extend_from_slice(b"{,}"),
        (0, _) => push_number(out, format_args!("{{,{high}}}")),
        (_, u16::MAX) => push_number(out, format_args!("{{{low},}}")),
        _ => push_number(out, format_args!("{{{low},{high}}}")),
    }
}

/// Bytes of an item of an `ltxtquery`.
const ITEM_BYTES: usize = 12;

/// `ltxtq_out`: i32 count, count x item in Polish notation, then the labels, each with a NUL.
///
/// ```text
/// item   i16 type (2 label, 3 operator), i16 left operand, i32 operator or CRC, u8 flags,
///        u8 length (too small a type, so unused), u16 where its label starts
/// ```
// pg: contrib/ltree/ltree.h ITEM, contrib/ltree/ltxtquery_io.c [14-18]
pub(super) fn ltxtquery_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let invalid = |problem| ValueError::invalid("ltxtquery", problem);
    let count = u32_at(value, 0, "ltxtquery count")? as usize;
    let bytes = count
        .checked_mul(ITEM_BYTES)
        .ok_or_else(|| invalid("too many items"))?;
    let stored = bytes_at(value, 4, bytes, "ltxtquery items")?;
    let labels = value.get(4 + bytes..).unwrap_or_default();
    let items = stored
        .chunks_exact(ITEM_BYTES)
        .map(|item| match item {
            [2, 0, ..] => Ok(Item::Operand),
            [3, 0, _, _, b'!', 0, 0, 0, ..] => Ok(Item::Not),
            [3, 0, _, _, operator @ (b'&' | b'|'), 0, 0, 0, ..] => Ok(Item::Binary(*operator)),
            _ => Err(invalid("unknown item")),
        })
        .collect::<Result<Vec<_>, _>>()?;
    // Labels that shared bytes could stand for far more text than there are bytes.
    let mut bytes_left = labels.len();
    print_infix(&items, out, invalid, |at, out| {
        let flags = bytes_at(stored, ITEM_BYTES * at + 8, 1, "ltxtquery flags")?;
        let start = usize::from(u16_at(stored, ITEM_BYTES * at + 10, "ltxtquery label")?);
        let label = labels.get(start..).unwrap_or_default();
        let end = label.iter().position(|byte| *byte == 0);
        let end = end.ok_or_else(|| invalid("a label has no end"))?;
        bytes_left = bytes_left
            .checked_sub(end + 1)
            .ok_or_else(|| invalid("labels are shared"))?;
        out.extend_from_slice(&label[..end]);
        push_label_flags(flags[0], out);
        Ok(())
    })
}
