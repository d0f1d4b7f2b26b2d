//! JSON strings from database text, and what stands in for text that is not valid.

use super::encoding::to_utf8;

/// Appends a string in quotes, escaped as `to_json()` does.
// pg: utils/adt/json.c escape_json [14-18]
pub fn push_json_string(out: &mut Vec<u8>, text: &str) {
    push_escaped_string(out, text.as_bytes());
}

/// The same for text in whatever encoding the database has: all of them keep ASCII as it is.
pub(crate) fn push_escaped_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    push_escaped(out, bytes);
    out.push(b'"');
}

/// What stands between the quotes; a string may come in several pieces.
pub(crate) fn push_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut copied = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte >= b' ' && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + 1;
        push_escape(out, *byte);
    }
    out.extend_from_slice(&bytes[copied..]);
}

fn push_escape(out: &mut Vec<u8>, byte: u8) {
    let letter = match byte {
        0x08 => b'b',
        0x0C => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        b'"' | b'\\' => byte,
        _ => {
            out.extend_from_slice(b"\\u00");
            super::digits::push_hex(out, &[byte]);
            return;
        }
    };
    out.extend([b'\\', letter]);
}

/// Appends text of a database with this encoding as a string; `{"base64": ...}` if it is not
/// valid.
pub fn push_json_text(out: &mut Vec<u8>, encoding: i32, text: &[u8]) {
    match to_utf8(encoding, text) {
        Some(text) => push_json_string(out, &text),
        None => push_json_bytes(out, text),
    }
}

/// Appends a name of a database with this encoding as a string, whatever its bytes: a key must
/// be one.
pub(crate) fn push_json_name(out: &mut Vec<u8>, encoding: i32, name: &[u8]) {
    match to_utf8(encoding, name) {
        Some(name) => push_json_string(out, &name),
        None => push_json_string(out, &String::from_utf8_lossy(name)),
    }
}

/// Appends a value that is JSON already, on one line: a line break there is only white space.
pub(crate) fn push_json_verbatim(out: &mut Vec<u8>, encoding: i32, json: &[u8]) {
    let Some(json) = to_utf8(encoding, json) else {
        push_json_bytes(out, json);
        return;
    };
    out.extend(json.bytes().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        byte => byte,
    }));
}

/// Appends `{"base64": ...}`.
pub fn push_json_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"{\"base64\":\"");
    push_base64(out, bytes);
    out.extend_from_slice(b"\"}");
}

fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| u32::from(group.get(at).copied().unwrap_or_default()));
        let bits = a << 16 | b << 8 | c;
        for place in 0..4 {
            out.push(if place <= group.len() {
                ALPHABET[(bits >> (18 - 6 * place) & 0x3F) as usize]
            } else {
                b'='
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_the_server_does() {
        let mut out = Vec::new();
        push_json_text(
            &mut out,
            6,
            "a\"\\\u{8}\u{c}\n\r\t\u{1f}/é\u{7f}".as_bytes(),
        );
        assert_eq!(
            out,
            "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u001f/é\u{7f}\"".as_bytes()
        );
        serde_json::from_slice::<String>(&out).unwrap();
    }

    #[test]
    fn invalid_text_is_given_in_base64() {
        for (bytes, base64) in [
            (&b"\xFF"[..], "/w=="),
            (b"\xFFa", "/2E="),
            (b"\xFFab", "/2Fi"),
            (b"\xFFabc", "/2FiYw=="),
        ] {
            let mut out = Vec::new();
            push_json_text(&mut out, 6, bytes);
            assert_eq!(out, format!("{{\"base64\":\"{base64}\"}}").as_bytes());
        }
    }
}
