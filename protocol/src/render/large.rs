//! Large values, whose text need not be in memory: they are left out of their line, and written in
//! their place piece by piece.
//!
//! Only types whose text is made of a value's bytes one after the other can be: every other text
//! is part of its line. What cannot be rendered is found before anything is given out.

use std::ops::Range;

use super::ColumnError;
use crate::event::ColumnValue;
use crate::limits::LARGE_VALUE_BYTES;
use crate::schema::{TypeDesc, TypeShape};
use crate::value::ValueError;
use crate::value::decompress::decompress;
use crate::value::digits::push_hex;
use crate::value::json::push_escaped;

/// How the bytes of a value become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Two digits each.
    Hex,
    /// As they are.
    Verbatim,
    /// As they are, `'` doubled.
    Literal,
    /// Escaped as in a JSON string.
    JsonString,
    /// As they are, line breaks as spaces.
    JsonLine,
}

/// A type whose text is made of its bytes one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bytewise {
    /// `bytea`.
    Hex,
    /// The character types.
    Text,
    /// `json`.
    Json,
}

/// Whether, and how, a type's text can be written piece by piece.
pub(super) fn bytewise(data_type: &TypeDesc) -> Option<Bytewise> {
    match &data_type.base().shape {
        TypeShape::Base(function) if function.library.is_empty() => {
            match function.symbol.as_str() {
                "byteaout" => Some(Bytewise::Hex),
                "textout" | "varcharout" | "bpcharout" => Some(Bytewise::Text),
                "json_out" => Some(Bytewise::Json),
                _ => None,
            }
        }
        _ => None,
    }
}

/// A value that was left out of a line.
#[derive(Debug)]
pub struct LargeValue {
    at: usize,
    stored: Stored,
    form: Form,
}

/// Where the bytes of a large value are.
#[derive(Debug)]
pub(super) enum Stored {
    /// In the event's payload.
    Payload(Range<usize>),
    /// Decompressed.
    Own(Vec<u8>),
}

impl Stored {
    /// Takes the value that ends at `end` of `payload`, if it is large.
    pub(super) fn of(
        value: ColumnValue<'_>,
        end: usize,
        value_bytes_max: u64,
    ) -> Result<Option<Self>, ColumnError> {
        match value {
            ColumnValue::Bytes(bytes) if bytes.len() >= LARGE_VALUE_BYTES => {
                Ok(Some(Stored::Payload(end - bytes.len()..end)))
            }
            ColumnValue::Compressed {
                method,
                raw_size,
                stored,
            } if raw_size as usize >= LARGE_VALUE_BYTES => {
                let bytes = u64::from(raw_size);
                if bytes > value_bytes_max {
                    let limit = value_bytes_max;
                    return Err(ColumnError::Value(ValueError::TooLarge { bytes, limit }));
                }
                let mut raw = Vec::new();
                decompress(method, raw_size, stored, &mut raw).map_err(ColumnError::Value)?;
                Ok(Some(Stored::Own(raw)))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn bytes<'a>(&'a self, payload: &'a [u8]) -> &'a [u8] {
        match self {
            Stored::Payload(range) => payload.get(range.clone()).unwrap_or_default(),
            Stored::Own(bytes) => bytes,
        }
    }

    /// Ends the value at its first NUL, where the server's strings end.
    pub(super) fn end_at_nul(&mut self, payload: &[u8]) {
        let bytes = self.bytes(payload);
        if !bytes.contains(&0) {
            return;
        }
        let end = bytes.iter().take_while(|byte| **byte != 0).count();
        match self {
            Stored::Payload(range) => range.end = range.start + end,
            Stored::Own(bytes) => bytes.truncate(end),
        }
    }
}

impl LargeValue {
    pub(super) const fn new(at: usize, stored: Stored, form: Form) -> Self {
        Self { at, stored, form }
    }
}

/// Writes the text of an event with its large values, each in its place. `payload` is the event's.
pub fn write_around<E>(
    text: &[u8],
    large: Vec<LargeValue>,
    payload: &[u8],
    mut write: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut written = 0;
    let mut piece_text = Vec::new();
    for value in large {
        write(text.get(written..value.at).unwrap_or_default())?;
        written = value.at;
        for piece in value.stored.bytes(payload).chunks(LARGE_VALUE_BYTES / 8) {
            piece_text.clear();
            value.form.push(piece, &mut piece_text);
            write(&piece_text)?;
        }
    }
    write(text.get(written..).unwrap_or_default())
}

impl Form {
    fn push(self, piece: &[u8], out: &mut Vec<u8>) {
        match self {
            Form::Hex => push_hex(out, piece),
            Form::Verbatim => out.extend_from_slice(piece),
            Form::Literal => {
                for part in piece.split_inclusive(|byte| *byte == b'\'') {
                    out.extend_from_slice(part);
                    if part.ends_with(b"'") {
                        out.push(b'\'');
                    }
                }
            }
            Form::JsonString => push_escaped(out, piece),
            Form::JsonLine => out.extend(piece.iter().map(|byte| match byte {
                b'\n' | b'\r' => b' ',
                byte => *byte,
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_whole() {
        let size = LARGE_VALUE_BYTES + 12_345;
        let value: Vec<u8> = (0..size).map(|i| b"a'\n\"\\z\x01"[i * i % 7]).collect();
        for (form, expected) in [
            (Form::Verbatim, value.clone()),
            (
                Form::Literal,
                String::from_utf8(value.clone())
                    .unwrap()
                    .replace('\'', "''")
                    .into_bytes(),
            ),
            (
                Form::Hex,
                value
                    .iter()
                    .flat_map(|byte| format!("{byte:02x}").into_bytes())
                    .collect(),
            ),
            (Form::JsonString, {
                let mut out = Vec::new();
                push_escaped(&mut out, &value);
                out
            }),
        ] {
            for own in [false, true] {
                let mut payload = b"before".to_vec();
                payload.extend_from_slice(&value);
                let column = ColumnValue::Bytes(&payload[6..]);
                let mut stored = Stored::of(column, payload.len(), u64::MAX)
                    .unwrap()
                    .unwrap();
                if own {
                    stored = Stored::Own(value.clone());
                }
                let large = vec![LargeValue::new(3, stored, form)];
                let mut written = Vec::new();
                let write = |bytes: &[u8]| {
                    written.extend_from_slice(bytes);
                    Ok::<(), ()>(())
                };
                write_around(b"ab>< after", large, &payload, write).unwrap();
                assert!(
                    written == [b"ab>", &expected[..], b"< after"].concat(),
                    "{form:?}"
                );
            }
        }
    }

    #[test]
    fn a_text_ends_at_its_nul() {
        let mut payload = vec![b'x'; LARGE_VALUE_BYTES * 2];
        payload[LARGE_VALUE_BYTES + 7] = 0;
        let column = ColumnValue::Bytes(&payload[..]);
        let mut stored = Stored::of(column, payload.len(), 0).unwrap().unwrap();
        stored.end_at_nul(&payload);
        assert_eq!(stored.bytes(&payload).len(), LARGE_VALUE_BYTES + 7);
        let mut stored = Stored::Own(payload.clone());
        stored.end_at_nul(&[]);
        assert_eq!(stored.bytes(&[]).len(), LARGE_VALUE_BYTES + 7);
    }
}
