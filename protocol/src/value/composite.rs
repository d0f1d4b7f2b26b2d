//! Row types: a heap tuple inside a value. What would be the tuple's transaction fields holds its
//! own type.
//!
//! ```text
//! typmod i32 | type u32 | 6 unused | infomask2 u16, attributes in the low 11 bits | infomask u16
//! | data offset u8 | bitmap, 1 is not null | padding | attributes
//! ```

use super::packed::{HEADER_BYTES, Packed, PackedValues};
use super::quoting::{Escape, is_space, quote_tail};
use super::renderer::Field;
use super::{TextContext, ValueError};
use crate::cursor::Cursor;

// pg: access/htup_details.h HEAP_HASNULL, HEAP_NATTS_MASK [14-18]
const HAS_NULLS: u16 = 0x0001;
const ATTRIBUTES_MASK: u16 = 0x07FF;

/// Calls `with` for every attribute that is not dropped, with its number among these; `None` for
/// null, also where the value was stored before the type had the attribute.
// pg: access/htup_details.h HeapTupleHeaderData; common/heaptuple.c heap_deform_tuple [14-18]
fn each<'a>(
    payload: &'a [u8],
    fields: &[Field],
    mut with: impl FnMut(&Field, Option<Packed<'a>>) -> Result<(), ValueError>,
) -> Result<(), ValueError> {
    let mut cursor = Cursor::new(payload);
    cursor.take(14, "row type header")?;
    let stored = usize::from(cursor.u16("row type attributes")? & ATTRIBUTES_MASK);
    let has_nulls = cursor.u16("row type flags")? & HAS_NULLS != 0;
    let data_offset = usize::from(cursor.u8("row type data offset")?);
    let nulls = if has_nulls {
        cursor.take(stored.div_ceil(8), "row type null bitmap")?
    } else {
        &[]
    };
    if data_offset < HEADER_BYTES + cursor.offset() {
        return Err(ValueError::invalid(
            "row type",
            "attributes begin within its header",
        ));
    }
    if stored > fields.len() {
        return Err(ValueError::invalid(
            "row type",
            "more attributes than its type has",
        ));
    }
    let mut values = PackedValues::new(payload, data_offset);
    for (number, field) in fields.iter().enumerate() {
        let null = number >= stored
            || has_nulls
                && nulls
                    .get(number / 8)
                    .is_none_or(|byte| byte >> (number % 8) & 1 == 0);
        let value = if null {
            None
        } else {
            values.align_stored(field.align, field.length);
            Some(values.read(field.length)?)
        };
        if field.renderer.is_some() {
            with(field, value)?;
        }
    }
    Ok(())
}

// pg: utils/adt/rowtypes.c record_out [14-18]
pub(crate) fn composite_text(
    fields: &[Field],
    value: &[u8],
    context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    out.push(b'(');
    let mut first = true;
    each(value, fields, |field, value| {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        let (Some(value), Some(renderer)) = (value, &field.renderer) else {
            return Ok(());
        };
        let start = out.len();
        value.plain(context, |bytes| renderer.text(bytes, context, out))?;
        quote_tail(out, start, Escape::Double, |byte| {
            matches!(byte, b'"' | b'\\' | b'(' | b')' | b',') || is_space(byte)
        })
    })?;
    out.push(b')');
    Ok(())
}

/// The row as a JSON object.
// pg: utils/adt/json.c composite_to_json [14-18]
pub(crate) fn composite_json(
    fields: &[Field],
    value: &[u8],
    context: &TextContext,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    out.push(b'{');
    let mut first = true;
    each(value, fields, |field, value| {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        super::json::push_json_name(out, context.encoding, field.name.as_bytes());
        out.push(b':');
        match (value, &field.renderer) {
            (Some(value), Some(renderer)) => value.plain(context, |bytes| {
                renderer.json(bytes, context, scratch, out)?;
                Ok(())
            }),
            _ => {
                out.extend_from_slice(b"null");
                Ok(())
            }
        }
    })?;
    out.push(b'}');
    Ok(())
}
