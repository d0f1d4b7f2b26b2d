//! `boolean`: one byte, 0 or 1.

use super::{TextContext, ValueError, fixed};

// pg: utils/adt/bool.c boolout [14-18]
pub(crate) fn bool_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    out.push(if truth(value)? { b't' } else { b'f' });
    Ok(())
}

/// What the byte says.
pub(crate) fn truth(value: &[u8]) -> Result<bool, ValueError> {
    match fixed(value, "boolean")? {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(ValueError::invalid("boolean", "neither 0 nor 1")),
    }
}
