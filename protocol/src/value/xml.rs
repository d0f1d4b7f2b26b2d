//! `xml`: stored as it came; only its declaration is printed anew, without the encoding.

use super::{TextContext, ValueError};

/// `xml_out`.
///
/// A declaration that says no more than version 1.0 is left out, with the line break after it. A
/// value without a declaration loses one line break at its start too; one with a declaration that
/// cannot be read is printed as stored.
// pg: utils/adt/xml.c xml_out_internal, parse_xml_decl, print_xml_decl [14-18]
pub(super) fn xml_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let rest = push_declaration(value, out);
    out.extend_from_slice(rest);
    Ok(())
}

/// Appends the declaration as it is printed, and gives what is printed behind it.
pub(crate) fn push_declaration<'a>(value: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let Some(declaration) = Declaration::parse(value) else {
        return value;
    };
    let rest = declaration.rest;
    match (declaration.version, declaration.standalone) {
        (None | Some(b"1.0"), None) => rest.strip_prefix(b"\n").unwrap_or(rest),
        (version, standalone) => {
            out.extend_from_slice(b"<?xml version=\"");
            out.extend_from_slice(version.unwrap_or(b"1.0"));
            out.push(b'"');
            match standalone {
                Some(true) => out.extend_from_slice(b" standalone=\"yes\""),
                Some(false) => out.extend_from_slice(b" standalone=\"no\""),
                None => {}
            }
            out.extend_from_slice(b"?>");
            rest
        }
    }
}

/// A declaration at the start of a value, or none there.
struct Declaration<'a> {
    version: Option<&'a [u8]>,
    standalone: Option<bool>,
    /// What follows it.
    rest: &'a [u8],
}

impl<'a> Declaration<'a> {
    /// None if it cannot be read.
    fn parse(value: &'a [u8]) -> Option<Self> {
        let Some(at) = value.strip_prefix(b"<?xml") else {
            return Some(Declaration {
                version: None,
                standalone: None,
                rest: value,
            });
        };
        // Without white space it is a processing instruction like <?xml-stylesheet?>, which is
        // printed as stored, as an unreadable declaration is.
        let (version, mut at) = attribute(at, b"version").ok()??;
        if let Some((_, after)) = attribute(at, b"encoding").ok()? {
            at = after;
        }
        let mut standalone = None;
        if let Some((text, after)) = attribute(at, b"standalone").ok()? {
            standalone = Some(match text {
                b"yes" => true,
                b"no" => false,
                _ => return None,
            });
            at = after;
        }
        let rest = skip_space(at).strip_prefix(b"?>")?;
        let declaration = &value[..value.len() - rest.len()];
        declaration.is_ascii().then_some(Declaration {
            version: Some(version),
            standalone,
            rest,
        })
    }
}

fn skip_space(text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let end = text.iter().position(|byte| !blank(byte));
    &text[end.unwrap_or(text.len())..]
}

/// An attribute's value, and what follows it.
type Attribute<'a> = (&'a [u8], &'a [u8]);

/// The attribute `name` at the start of `text` after white space: none if another thing stands
/// there, an error if it is broken.
fn attribute<'a>(text: &'a [u8], name: &[u8]) -> Result<Option<Attribute<'a>>, ()> {
    let from = skip_space(text);
    let Some(after) = from.strip_prefix(name) else {
        return Ok(None);
    };
    if from.len() == text.len() {
        return Err(());
    }
    let after = skip_space(after).strip_prefix(b"=").ok_or(())?;
    let after = skip_space(after);
    let (&quote, after) = after.split_first().ok_or(())?;
    if quote != b'"' && quote != b'\'' {
        return Err(());
    }
    let end = after.iter().position(|byte| *byte == quote).ok_or(())?;
    Ok(Some((&after[..end], &after[end + 1..])))
}
