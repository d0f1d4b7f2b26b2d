//! Quotes around the text of a value inside another value's text.
//!
//! The inner text is printed first, straight to its place, and quoted there only if it must be.
//! Each level doubles the quotes of the one below: a row of rows of rows soon has no text that a
//! server could give, and is refused here as it is there.

use super::ValueError;
use crate::limits::TEXT_BYTES_MAX;

/// How a quote or backslash inside quotes is marked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escape {
    /// `\"`, `\\`: arrays.
    Backslash,
    /// `""`, `\\`: row types and ranges.
    Double,
}

/// Puts the text from `start` on into quotes if it is empty or `special` says so of a byte.
pub(crate) fn quote_tail(
    out: &mut Vec<u8>,
    start: usize,
    escape: Escape,
    special: impl Fn(u8) -> bool,
) -> Result<(), ValueError> {
    let tail = out.get(start..).unwrap_or_default();
    if tail.is_empty() || tail.iter().any(|byte| special(*byte)) {
        force_quotes(out, start, escape)?;
    }
    Ok(())
}

/// Puts the text from `start` on into quotes.
// pg: lib/stringinfo.c enlargeStringInfo [14-18]
pub(crate) fn force_quotes(
    out: &mut Vec<u8>,
    start: usize,
    escape: Escape,
) -> Result<(), ValueError> {
    let marked = |byte: u8| byte == b'"' || byte == b'\\';
    let marks = out[start..].iter().filter(|byte| marked(**byte)).count();
    let mut from = out.len();
    let mut to = from + marks + 2;
    if to - start > TEXT_BYTES_MAX {
        return Err(ValueError::TooLarge {
            bytes: (to - start) as u64,
            limit: TEXT_BYTES_MAX as u64,
        });
    }
    out.resize(to, b'"');
    to -= 1;
    // From the back, so that nothing is overwritten before it has moved.
    while from > start {
        from -= 1;
        to -= 1;
        let byte = out[from];
        out[to] = byte;
        if marked(byte) {
            to -= 1;
            out[to] = if escape == Escape::Double {
                byte
            } else {
                b'\\'
            };
        }
    }
    out[start] = b'"';
    Ok(())
}

/// Doubles every `'` in the text from `start` on and ends it with one.
pub(crate) fn close_literal(out: &mut Vec<u8>, start: usize) {
    let mut from = out.len();
    out.push(b'\'');
    let text = &out[start..from];
    if !text.contains(&b'\'') {
        return;
    }
    let quotes = text.iter().filter(|byte| **byte == b'\'').count();
    let mut to = from + quotes;
    out.resize(to + 1, b'\'');
    // From the back; once the places meet there is no quote before them.
    while from < to {
        from -= 1;
        to -= 1;
        out[to] = out[from];
        if out[from] == b'\'' {
            to -= 1;
            out[to] = b'\'';
        }
    }
}

/// What C's `isspace` and PostgreSQL's scanners take for white space.
// pg: utils/adt/arrayfuncs.c array_isspace [14-18]
pub(crate) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_put_in_place() {
        for (text, double, backslash) in [
            ("", r#""""#, r#""""#),
            ("a b", r#""a b""#, r#""a b""#),
            (r#"a"\"#, r#""a""\\""#, r#""a\"\\""#),
        ] {
            for (escape, expected) in [(Escape::Double, double), (Escape::Backslash, backslash)] {
                let mut out = b"x".to_vec();
                out.extend_from_slice(text.as_bytes());
                force_quotes(&mut out, 1, escape).unwrap();
                assert_eq!(out, [b"x", expected.as_bytes()].concat());
            }
        }
        let mut out = b"x'it''".to_vec();
        close_literal(&mut out, 1);
        assert_eq!(out, b"x''it'''''");
        let mut out = b"'plain".to_vec();
        close_literal(&mut out, 1);
        assert_eq!(out, b"'plain'");
    }
}
