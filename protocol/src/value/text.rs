//! Character types: what is stored is what is printed.

use super::{TextContext, ValueError, fixed};

type Text = Result<(), ValueError>;

/// `text`, `character varying`, `character` (with its padding), `cstring`, `unknown`.
// pg: utils/adt/varlena.c textout, unknownout; varchar.c varcharout, bpcharout [14-18]
pub(crate) fn text_text(value: &[u8], _context: &TextContext, out: &mut Vec<u8>) -> Text {
    // The server's strings end at a NUL. No input function lets one into a value, but C code that
    // makes text from bytes can.
    if value.contains(&0) {
        out.extend(value.iter().take_while(|byte| **byte != 0));
    } else {
        out.extend_from_slice(value);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_at_a_nul_as_in_the_server() {
        for (stored, printed) in [
            (&b"whole"[..], &b"whole"[..]),
            (b"cut\0off", b"cut"),
            (b"\0", b""),
        ] {
            let mut out = Vec::new();
            text_text(stored, &TextContext::new(15, 6), &mut out).unwrap();
            assert_eq!(out, printed);
        }
    }
}
