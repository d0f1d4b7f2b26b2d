//! Arrays: dimensions and lower bounds, a bitmap of nulls, then the elements.
//!
//! ```text
//! dimensions i32 | data offset i32, 0 without nulls | element type u32
//! | length of each dimension i32 | lower bounds i32 | bitmap, 1 is not null | padding to 8 | elements
//! ```

use super::digits::push_i64;
use super::packed::{HEADER_BYTES, Packed, PackedValues};
use super::quoting::{Escape, force_quotes, is_space};
use super::renderer::TypeRenderer;
use super::{Flush, TextContext, ValueError};
use crate::cursor::Cursor;
use crate::limits::PIECE_BYTES;

/// Most dimensions an array has.
// pg: utils/array.h MAXDIM [14-18]
const DIMENSIONS_MAX: usize = 6;
/// Most elements an array has.
// pg: utils/array.h MaxArraySize [14-18]
const ELEMENTS_MAX: u64 = 0x3FFF_FFFF / 8;
/// Bytes of the part that every array has, with the varlena header.
const FIXED_BYTES: usize = 16;

/// An array's structure, read and checked.
// pg: utils/array.h ArrayType [14-18]
pub(crate) struct ArrayValue<'a> {
    payload: &'a [u8],
    lengths: [i32; DIMENSIONS_MAX],
    lower_bounds: [i32; DIMENSIONS_MAX],
    dimensions: usize,
    elements: u64,
    nulls: Option<&'a [u8]>,
    data_offset: usize,
}

impl<'a> ArrayValue<'a> {
    pub(crate) fn read(payload: &'a [u8]) -> Result<Self, ValueError> {
        let mut cursor = Cursor::new(payload);
        let dimensions = cursor.u32("array dimensions")? as usize;
        if dimensions > DIMENSIONS_MAX {
            return Err(ValueError::invalid("array", "more than 6 dimensions"));
        }
        let nulls_end = cursor.u32("array data offset")? as usize;
        cursor.u32("array element type")?;
        let mut array = ArrayValue {
            payload,
            lengths: [0; DIMENSIONS_MAX],
            lower_bounds: [0; DIMENSIONS_MAX],
            dimensions,
            elements: u64::from(dimensions > 0),
            nulls: None,
            data_offset: (FIXED_BYTES + 8 * dimensions).next_multiple_of(8),
        };
        for length in array.lengths.iter_mut().take(dimensions) {
            *length = cursor.i32("array length")?;
            let length = u64::try_from(*length)
                .map_err(|_| ValueError::invalid("array", "negative length"))?;
            // Both factors fit 32 bits.
            array.elements *= length;
            if array.elements > ELEMENTS_MAX {
                return Err(ValueError::invalid("array", "too many elements"));
            }
        }
        for bound in array.lower_bounds.iter_mut().take(dimensions) {
            *bound = cursor.i32("array lower bound")?;
        }
        if nulls_end != 0 {
            let bytes = array.elements.div_ceil(8) as usize;
            array.nulls = Some(cursor.take(bytes, "array null bitmap")?);
            if nulls_end < HEADER_BYTES + cursor.offset() {
                return Err(ValueError::invalid(
                    "array",
                    "elements begin within its header",
                ));
            }
            array.data_offset = nulls_end;
        }
        Ok(array)
    }

    /// Calls `with` for every element in order, `None` for null.
    pub(crate) fn each(
        &self,
        length: i16,
        align: u8,
        mut with: impl FnMut(Option<Packed<'a>>) -> Result<(), ValueError>,
    ) -> Result<(), ValueError> {
        let mut values = PackedValues::new(self.payload, self.data_offset);
        for number in 0..self.elements as usize {
            let null = self.nulls.is_some_and(|bitmap| {
                bitmap
                    .get(number / 8)
                    .is_none_or(|byte| byte >> (number % 8) & 1 == 0)
            });
            if null {
                with(None)?;
                continue;
            }
            values.align(align);
            with(Some(values.read(length)?))?;
        }
        Ok(())
    }

    /// Appends all elements between braces, each written by `print`.
    fn push_nested(
        &self,
        element: &TypeRenderer,
        [open, delimiter, close]: [u8; 3],
        out: &mut Vec<u8>,
        mut print: impl FnMut(Option<Packed<'a>>, &mut Vec<u8>) -> Result<(), ValueError>,
    ) -> Result<(), ValueError> {
        let lengths = self.lengths.get(..self.dimensions).unwrap_or_default();
        let mut indexes = [0; DIMENSIONS_MAX];
        let mut opened = 0;
        self.each(element.length(), element.align(), |value| {
            if opened == lengths.len() {
                out.push(delimiter);
            }
            out.extend(std::iter::repeat_n(open, lengths.len() - opened));
            print(value, out)?;
            // The innermost dimension counts on; each one that is full closes and counts the next.
            opened = lengths.len();
            for (index, length) in indexes.iter_mut().zip(lengths).rev() {
                *index += 1;
                if *index < *length {
                    break;
                }
                *index = 0;
                out.push(close);
                opened -= 1;
            }
            if opened > 0 && opened < lengths.len() {
                out.push(delimiter);
            }
            Ok(())
        })
    }

    // pg: utils/adt/arrayfuncs.c array_out [14-18]
    fn push_bounds(&self, out: &mut Vec<u8>) {
        let bounds = self.lower_bounds.get(..self.dimensions).unwrap_or_default();
        if bounds.iter().all(|bound| *bound == 1) {
            return;
        }
        for (lower, length) in bounds.iter().zip(&self.lengths) {
            out.push(b'[');
            push_i64(out, i64::from(*lower));
            out.push(b':');
            push_i64(out, i64::from(lower.wrapping_add(*length).wrapping_sub(1)));
            out.push(b']');
        }
        out.push(b'=');
    }
}

// pg: utils/adt/arrayfuncs.c array_out [14-18]
pub(crate) fn array_text(
    element: &TypeRenderer,
    delimiter: u8,
    value: &[u8],
    context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    print_text(element, delimiter, value, context, out, &mut |_| {})
}

fn print_text(
    element: &TypeRenderer,
    delimiter: u8,
    value: &[u8],
    context: &TextContext,
    out: &mut Vec<u8>,
    pass_on: &mut Flush<'_>,
) -> Result<(), ValueError> {
    let array = ArrayValue::read(value)?;
    if array.elements == 0 {
        out.extend_from_slice(b"{}");
        return Ok(());
    }
    array.push_bounds(out);
    array.push_nested(element, [b'{', delimiter, b'}'], out, |value, out| {
        pass_on(out);
        let Some(value) = value else {
            out.extend_from_slice(b"NULL");
            return Ok(());
        };
        let start = out.len();
        value.plain(context, |bytes| element.text(bytes, context, out))?;
        quote_element(out, start, delimiter)
    })
}

fn quote_element(out: &mut Vec<u8>, start: usize, delimiter: u8) -> Result<(), ValueError> {
    let text = out.get(start..).unwrap_or_default();
    let special = |byte: &u8| {
        matches!(*byte, b'"' | b'\\' | b'{' | b'}') || *byte == delimiter || is_space(*byte)
    };
    if text.is_empty() || text.eq_ignore_ascii_case(b"NULL") || text.iter().any(special) {
        force_quotes(out, start, Escape::Backslash)?;
    }
    Ok(())
}

/// The array as nested JSON arrays.
// pg: utils/adt/json.c array_to_json_internal [14-18]
pub(crate) fn array_json(
    element: &TypeRenderer,
    value: &[u8],
    context: &TextContext,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    print_json(element, value, context, scratch, out, &mut |_| {})
}

fn print_json(
    element: &TypeRenderer,
    value: &[u8],
    context: &TextContext,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
    pass_on: &mut Flush<'_>,
) -> Result<(), ValueError> {
    let array = ArrayValue::read(value)?;
    if array.elements == 0 {
        out.extend_from_slice(b"[]");
        return Ok(());
    }
    array.push_nested(element, *b"[,]", out, |value, out| {
        pass_on(out);
        match value {
            None => {
                out.extend_from_slice(b"null");
                Ok(())
            }
            Some(value) => value.plain(context, |bytes| {
                element.json(bytes, context, scratch, out)?;
                Ok(())
            }),
        }
    })
}

/// The array as text or as JSON, piece by piece: what is in memory is no more than an element.
pub(crate) fn array_pieces(
    element: &TypeRenderer,
    delimiter: Option<u8>,
    value: &[u8],
    context: &TextContext,
    flush: &mut Flush<'_>,
) -> Result<(), ValueError> {
    let mut out = Vec::new();
    let mut pass_on = |out: &mut Vec<u8>| {
        if out.len() >= PIECE_BYTES {
            flush(out);
        }
    };
    match delimiter {
        Some(delimiter) => {
            print_text(element, delimiter, value, context, &mut out, &mut pass_on)?;
        }
        None => {
            let mut scratch = Vec::new();
            print_json(
                element,
                value,
                context,
                &mut scratch,
                &mut out,
                &mut pass_on,
            )?;
        }
    }
    flush(&mut out);
    Ok(())
}
