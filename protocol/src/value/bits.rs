//! `bit` and `bit varying`: a count of bits, then the bits, the first in the highest place.

use super::{TextContext, ValueError};
use crate::cursor::Cursor;

// pg: utils/varbit.h VarBit, utils/adt/varbit.c varbit_out [14-18]
pub(crate) fn bit_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let mut cursor = Cursor::new(value);
    let bits = cursor.i32("bit count")?;
    let Ok(bits) = usize::try_from(bits) else {
        return Err(ValueError::invalid("bit string", "negative length"));
    };
    let bytes = cursor.take(bits.div_ceil(8), "bits")?;
    cursor.finish("bit string")?;
    out.reserve(bits);
    let start = out.len();
    for byte in bytes {
        out.extend((0..8).map(|place| b'0' + (byte << place >> 7)));
    }
    out.truncate(start + bits);
    Ok(())
}
