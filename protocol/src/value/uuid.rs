//! `uuid`: 16 bytes in the order they are printed.

use super::digits::push_hex;
use super::{TextContext, ValueError, fixed};

// pg: utils/adt/uuid.c uuid_out [14-18]
pub(crate) fn uuid_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let bytes: [u8; 16] = fixed(value, "uuid")?;
    for (number, group) in [
        &bytes[..4],
        &bytes[4..6],
        &bytes[6..8],
        &bytes[8..10],
        &bytes[10..],
    ]
    .into_iter()
    .enumerate()
    {
        if number > 0 {
            out.push(b'-');
        }
        push_hex(out, group);
    }
    Ok(())
}
