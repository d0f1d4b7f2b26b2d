//! `bytea`, and the form any value is given in whose type is unknown.

use super::digits::push_hex;
use super::{TextContext, ValueError};

// pg: utils/adt/varlena.c byteaout, bytea_output = hex [14-18]
pub(crate) fn bytea_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    out.extend_from_slice(b"\\x");
    push_hex(out, value);
    Ok(())
}
