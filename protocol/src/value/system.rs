//! Types that show the server's own workings: `pg_lsn`, `tid`, `pg_snapshot`, and the statistics
//! `pg_ndistinct` and `pg_dependencies`.

use super::pieces::{array_at, bytes_at, push_number, u16_at, u32_at};
use super::{TextContext, ValueError};
use crate::cursor::Cursor;

/// `pg_lsn_out`.
// pg: utils/adt/pg_lsn.c [14-18]
pub(super) fn lsn_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let lsn = u64::from_le_bytes(array_at(value, 0, "pg_lsn")?);
    push_number(out, format_args!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF));
    Ok(())
}

/// `tidout`: the upper and the lower half of the block number, then the offset number, u16 each.
// pg: storage/itemptr.h, utils/adt/tid.c [14-18]
pub(super) fn tid_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let mut cursor = Cursor::new(value);
    let (upper, lower) = (cursor.u16("tid")?, cursor.u16("tid")?);
    let block = u32::from(upper) << 16 | u32::from(lower);
    push_number(out, format_args!("({block},{})", cursor.u16("tid")?));
    Ok(())
}

/// `pg_snapshot_out`, also behind `txid_snapshot`: u32 count, u64 xmin, u64 xmax, count x u64 xid.
// pg: utils/adt/xid8funcs.c pg_snapshot [14-18]
pub(super) fn snapshot_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let mut cursor = Cursor::new(value);
    let count = cursor.u32("number of transactions")?;
    let (xmin, xmax) = (cursor.u64("xmin")?, cursor.u64("xmax")?);
    push_number(out, format_args!("{xmin}:{xmax}:"));
    for index in 0..count {
        if index > 0 {
            out.push(b',');
        }
        push_number(out, cursor.u64("transaction")?);
    }
    Ok(())
}

const NDISTINCT_MAGIC: u32 = 0xA352_BFA4;
const DEPENDENCIES_MAGIC: u32 = 0xB454_9A2C;

/// Checks magic and format number; gives the number of items and the items.
fn statistics<'a>(
    value: &'a [u8],
    magic: u32,
    type_name: &'static str,
) -> Result<(u32, Cursor<'a>), ValueError> {
    let mut cursor = Cursor::new(value);
    if cursor.u32("magic")? != magic || cursor.u32("format")? != 1 {
        return Err(ValueError::invalid(type_name, "unknown format"));
    }
    Ok((cursor.u32("number of items")?, cursor))
}

/// The `index`th attribute number of a list.
fn attribute(list: &[u8], index: usize) -> Result<i16, ValueError> {
    let stored = u16_at(list, 2 * index, "attribute number")?;
    Ok(i16::from_le_bytes(stored.to_le_bytes()))
}

/// `pg_ndistinct_out`: items of f64 distinct values, i32 count, count x i16 attribute number.
// pg: statistics/mvdistinct.c [14-18]
pub(super) fn ndistinct_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let (items, mut cursor) = statistics(value, NDISTINCT_MAGIC, "pg_ndistinct")?;
    out.push(b'{');
    for item in 0..items {
        out.extend_from_slice(if item > 0 { b", \"" } else { b"\"" });
        let distinct = f64::from_le_bytes(cursor.array("distinct values")?);
        let count = cursor.u32("number of attributes")? as usize;
        let bytes = count.checked_mul(2);
        let bytes =
            bytes.ok_or_else(|| ValueError::invalid("pg_ndistinct", "too many attributes"))?;
        let list = cursor.take(bytes, "attribute numbers")?;
        for index in 0..count {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            push_number(out, attribute(list, index)?);
        }
        #[expect(clippy::cast_possible_truncation, reason = "as PostgreSQL prints it")]
        push_number(out, format_args!("\": {}", distinct as i32));
    }
    out.push(b'}');
    Ok(())
}

/// `pg_dependencies_out`: items of f64 degree, i16 count, count x i16 attribute number.
// pg: statistics/dependencies.c [14-18]
pub(super) fn dependencies_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let (items, mut cursor) = statistics(value, DEPENDENCIES_MAGIC, "pg_dependencies")?;
    out.push(b'{');
    for item in 0..items {
        out.extend_from_slice(if item > 0 { b", \"" } else { b"\"" });
        let degree = f64::from_le_bytes(cursor.array("degree")?);
        let count = usize::from(cursor.u16("number of attributes")?);
        let list = cursor.take(2 * count, "attribute numbers")?;
        for index in 0..count {
            if index + 1 == count {
                out.extend_from_slice(b" => ");
            } else if index > 0 {
                out.extend_from_slice(b", ");
            }
            push_number(out, attribute(list, index)?);
        }
        push_number(out, format_args!("\": {degree:.6}"));
    }
    out.push(b'}');
    Ok(())
}

/// `pg_node_tree_out`: text.
pub(super) fn node_tree_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    out.extend_from_slice(value);
    Ok(())
}

/// `pg_mcv_list_out`: bytes in hexadecimal, as `bytea`.
pub(super) fn mcv_list_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    out.extend_from_slice(b"\\x");
    for byte in value {
        push_number(out, format_args!("{byte:02x}"));
    }
    Ok(())
}

/// `bqarr_out`, `query_int` of intarray: i32 count, count x (i16 type, i16 left operand, i32
/// value) in Polish notation, the last item first.
// pg: contrib/intarray/_int.h QUERYTYPE, contrib/intarray/_int_bool.c [14-18]
pub(super) fn query_int_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    use super::boolean_query::{Item, print_infix};
    let invalid = |problem| ValueError::invalid("query_int", problem);
    let count = u32_at(value, 0, "query_int count")? as usize;
    let bytes = count
        .checked_mul(8)
        .ok_or_else(|| invalid("too many items"))?;
    let stored = bytes_at(value, 4, bytes, "query_int items")?;
    let items = stored
        .rchunks_exact(8)
        .map(|item| match item {
            [2, 0, ..] => Ok(Item::Operand),
            [3, 0, _, _, b'!', 0, 0, 0] => Ok(Item::Not),
            [3, 0, _, _, operator @ (b'&' | b'|'), 0, 0, 0] => Ok(Item::Binary(*operator)),
            _ => Err(invalid("unknown item")),
        })
        .collect::<Result<Vec<_>, _>>()?;
    print_infix(&items, out, invalid, |at, out| {
        let number = array_at(stored, stored.len() - 8 * (at + 1) + 4, "query_int operand")?;
        push_number(out, i32::from_le_bytes(number));
        Ok(())
    })
}
