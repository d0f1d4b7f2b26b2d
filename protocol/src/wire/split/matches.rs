//! The matches of an LZ4 block, as they stand in it.

use crate::cursor::Cursor;

/// The shortest match.
const MATCH_MIN: usize = 4;

/// Reads the matches of an LZ4 block: where each stands in what it holds, where that is repeated from,
/// and its bytes. None if the block is not whole.
pub(super) fn read_matches(lz4: &[u8], mut each: impl FnMut(usize, usize, usize)) -> Option<()> {
    let mut cursor = Cursor::new(lz4);
    let mut at = 0;
    loop {
        let token = usize::from(cursor.u8("token").ok()?);
        let literals = length(token >> 4, &mut cursor)?;
        cursor.take(literals, "literals").ok()?;
        at += literals;
        if cursor.remaining() == 0 {
            return Some(());
        }
        let offset = usize::from(cursor.u16("offset").ok()?);
        let bytes = length(token & 15, &mut cursor)? + MATCH_MIN;
        each(at, at.checked_sub(offset)?, bytes);
        at += bytes;
    }
}

/// A length of an LZ4 block: if it is 15, bytes are added up to the first that is not 255.
fn length(start: usize, cursor: &mut Cursor<'_>) -> Option<usize> {
    let mut length = start;
    let mut more = start == 15;
    while more {
        let byte = cursor.u8("length").ok()?;
        length += usize::from(byte);
        more = byte == 255;
    }
    Some(length)
}
