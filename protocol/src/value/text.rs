//! Character types: what is stored is what is printed.

use super::{TextContext, ValueError, fixed};

type Text = Result<(), ValueError>;

/// `text`, `character varying`, `character` (with its padding), `cstring`, `unknown`.
// pg: utils/adt/varlena.c textout, unknownout; varchar.c varcharout, bpcharout [14-18]
pub(crate) fn text_text(value: &[u8], _context: &TextContext, out: &mut Vec<u8>) -> Text {
    // The server's strings end at a NUL; a stored value cannot hold one.
    if value.contains(&0) {
        return Err(ValueError::invalid("text", "NUL byte"));
    }
    out.extend_from_slice(value);
    Ok(())
}

// pg: utils/adt/name.c nameout [14-18]
pub(crate) fn name_text(value: &[u8], _context: &TextContext, out: &mut Vec<u8>) -> Text {
    let name: [u8; 64] = fixed(value, "name")?;
    out.extend(name.into_iter().take_while(|byte| *byte != 0));
    Ok(())
}

/// `"char"`: one byte; 15 began to print those with the high bit as `\377`.
// pg: utils/adt/char.c charout [14], [15-18]
pub(crate) fn char_text(value: &[u8], context: &TextContext, out: &mut Vec<u8>) -> Text {
    let [byte] = fixed(value, "\"char\"")?;
    if byte >= 0x80 && context.major >= 15 {
        out.push(b'\\');
        out.extend([6, 3, 0].map(|shift| b'0' + (byte >> shift & 7)));
    } else if byte != 0 {
        out.push(byte);
    }
    Ok(())
}
