//! Whole numbers: the integer types, object ids, transaction ids, and the two vectors of them that
//! catalogs use.

use super::digits::{push_i64, push_u64};
use super::packed::Packed;
use super::{TextContext, ValueError, fixed};

type Text = Result<(), ValueError>;

// pg: utils/adt/int.c int2out, int4out; int8.c int8out [14-18]
pub(crate) fn int2_text(value: &[u8], _context: &TextContext, out: &mut Vec<u8>) -> Text {
    push_i64(out, i16::from_le_bytes(fixed(value, "smallint")?).into());
    Ok(())
}

pub(crate) fn int4_text(value: &[u8], _context: &TextContext, out: &mut Vec<u8>) -> Text {
    push_i64(out, i32::from_le_bytes(fixed(value, "integer")?).into());
    Ok(())
}

pub(crate) fn int8_text(value: &[u8], _context: &TextContext, out: &mut Vec<u8>) -> Text {
    push_i64(out, i64::from_le_bytes(fixed(value, "bigint")?));
    Ok(())
}

/// `oid`, `xid`, `cid`.
// pg: utils/adt/oid.c oidout, xid.c xidout, cidout [14-18]
pub(crate) fn oid_text(value: &[u8], _context: &TextContext, out: &mut Vec<u8>) -> Text {
    push_u64(out, u32::from_le_bytes(fixed(value, "oid")?).into());
    Ok(())
}

// pg: utils/adt/xid.c xid8out [14-18]
pub(crate) fn xid8_text(value: &[u8], _context: &TextContext, out: &mut Vec<u8>) -> Text {
    push_u64(out, u64::from_le_bytes(fixed(value, "xid8")?));
    Ok(())
}

/// `regclass` and its like without a catalog to look the name up in: as the server prints an OID
/// that names nothing.
// pg: utils/adt/regproc.c regclassout and others [14-18]
pub(crate) fn reg_text(value: &[u8], context: &TextContext, out: &mut Vec<u8>) -> Text {
    if value == [0; 4] {
        out.push(b'-');
        return Ok(());
    }
    oid_text(value, context, out)
}

// pg: utils/adt/int.c int2vectorout [14-18]
pub(crate) fn int2vector_text(value: &[u8], context: &TextContext, out: &mut Vec<u8>) -> Text {
    vector(value, 2, |number, out| int2_text(number, context, out), out)
}

// pg: utils/adt/oid.c oidvectorout [14-18]
pub(crate) fn oidvector_text(value: &[u8], context: &TextContext, out: &mut Vec<u8>) -> Text {
    vector(value, 4, |number, out| oid_text(number, context, out), out)
}

/// Prints the numbers of an array of one dimension without nulls, spaces between them.
fn vector(
    value: &[u8],
    number_bytes: i16,
    print: impl Fn(&[u8], &mut Vec<u8>) -> Text,
    out: &mut Vec<u8>,
) -> Text {
    let mut first = true;
    super::array::ArrayValue::read(value)?.each(number_bytes, b'c', |element| {
        let Some(Packed::Plain(number)) = element else {
            return Err(ValueError::invalid("vector", "null element"));
        };
        if !std::mem::take(&mut first) {
            out.push(b' ');
        }
        print(number, out)
    })
}
