//! The types of pgvector: `vector`, `halfvec`, `sparsevec`.
// pg: pgvector 0.7 to 0.8, src/vector.h, src/halfvec.h, src/sparsevec.h

use super::float::float4_text;
use super::pieces::{array_at, bytes_at, push_number};
use super::{TextContext, ValueError};
use crate::cursor::Cursor;

/// Prints `[a,b,c]` from u16 dimensions, u16 unused, and elements of `N` bytes.
fn push_dense<const N: usize>(
    value: &[u8],
    out: &mut Vec<u8>,
    type_name: &'static str,
    context: &TextContext,
    element: impl Fn([u8; N]) -> f32,
) -> Result<(), ValueError> {
    let dimensions = usize::from(Cursor::new(value).u16("vector dimensions")?);
    let elements = value.get(4..).unwrap_or_default();
    if elements.len() != dimensions * N {
        return Err(ValueError::invalid(
            type_name,
            "its length is not that of its elements",
        ));
    }
    out.push(b'[');
    for index in 0..dimensions {
        if index > 0 {
            out.push(b',');
        }
        let number = element(array_at(elements, N * index, "vector element")?);
        float4_text(&number.to_le_bytes(), context, out)?;
    }
    out.push(b']');
    Ok(())
}

/// `vector_out`: elements are floats.
pub(super) fn vector_text(
    value: &[u8],
    context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    push_dense(value, out, "vector", context, f32::from_le_bytes)
}

/// `halfvec_out`: elements are IEEE half-precision floats, printed as the float of that value.
pub(super) fn halfvec_text(
    value: &[u8],
    context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    push_dense(value, out, "halfvec", context, |bits| {
        half_to_float(u16::from_le_bytes(bits))
    })
}

fn half_to_float(bits: u16) -> f32 {
    let negative = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10 & 0x1F);
    let fraction = u32::from(bits & 0x3FF);
    let size = match exponent {
        0 => return f32::from_bits(negative | ((fraction as f32) / 16_777_216.0).to_bits()),
        31 => 0xFF << 23,
        _ => (exponent + 112) << 23,
    };
    f32::from_bits(negative | size | fraction << 13)
}

/// `sparsevec_out`: i32 dimensions, i32 count, i32 unused, count x i32 index from 0, count x f32.
pub(super) fn sparsevec_text(
    value: &[u8],
    context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let mut cursor = Cursor::new(value);
    let dimensions = cursor.i32("sparsevec dimensions")?;
    let count = cursor.u32("sparsevec count")? as usize;
    cursor.u32("sparsevec unused")?;
    let elements = cursor.rest();
    if count.checked_mul(8) != Some(elements.len()) {
        return Err(ValueError::invalid(
            "sparsevec",
            "its length is not that of its elements",
        ));
    }
    let (indices, values) = elements.split_at(4 * count);
    out.push(b'{');
    for at in 0..count {
        if at > 0 {
            out.push(b',');
        }
        let index = i32::from_le_bytes(array_at(indices, 4 * at, "sparsevec index")?);
        push_number(out, format_args!("{}:", i64::from(index) + 1));
        let element = bytes_at(values, 4 * at, 4, "sparsevec element")?;
        float4_text(element, context, out)?;
    }
    push_number(out, format_args!("}}/{dimensions}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves() {
        let cases = [
            (0x0000, 0.0),
            (0x3C00, 1.0),
            (0xC000, -2.0),
            (0x7BFF, 65504.0),
            (0x0400, 6.103_515_6e-5),
            (0x0001, 5.960_464_5e-8),
            (0x83FF, -6.097_555e-5),
            (0x2E66, 0.099_975_586),
        ];
        for (bits, float) in cases {
            assert_eq!(half_to_float(bits), float);
        }
        assert!(half_to_float(0x7C00).is_infinite() && half_to_float(0x7E00).is_nan());
    }

    fn text(function: super::super::TextFn, parts: &[&[u8]]) -> Result<String, ValueError> {
        let mut out = Vec::new();
        function(&parts.concat(), &TextContext::new(17, 6), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn vectors() {
        let (one, tenth) = (1f32.to_le_bytes(), 0.1f32.to_le_bytes());
        let dense = text(vector_text, &[&[2, 0, 0, 0], &one, &tenth]);
        assert_eq!(dense.unwrap(), "[1,0.1]");
        let half = text(halfvec_text, &[&[2, 0, 0, 0], &[0, 0x3C], &[0x66, 0x2E]]);
        assert_eq!(half.unwrap(), "[1,0.099975586]");
        let header = [5u8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
        let sparse = text(
            sparsevec_text,
            &[&header, &[0, 0, 0, 0, 4, 0, 0, 0], &one, &tenth],
        );
        assert_eq!(sparse.unwrap(), "{1:1,5:0.1}/5");
        assert!(text(vector_text, &[&[2, 0, 0, 0], &one]).is_err());
    }
}
