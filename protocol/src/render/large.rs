//! Large values, whose text need not be in memory: they are left out of their line, and written in
//! their place piece by piece.
//!
//! Types whose text is made of a value's bytes one after the other can be, and those that are
//! printed part for part: arrays and `jsonb`. Every other text is part of its line. What cannot be
//! rendered is found before anything is given out, so values of the latter are printed twice.

use std::ops::Range;

use super::ColumnError;
use crate::event::ColumnValue;
use crate::limits::{LARGE_VALUE_BYTES, PIECE_BYTES};
use crate::schema::{TypeDesc, TypeShape};
use crate::value::decompress::decompress_within;
use crate::value::digits::push_hex;
use crate::value::json::push_escaped;
use crate::value::xml::push_declaration;
use crate::value::{Known, TextContext, TypeRenderer, ValueError};

/// PostgreSQL's number for UTF8.
const UTF8: i32 = 6;

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

/// What a type's text is made of, if it can be written piece by piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piecewise {
    /// `bytea`.
    Hex,
    /// The character types.
    Text,
    /// `json`.
    Json,
    /// `xml`: text behind its declaration.
    Xml,
    /// Arrays, `jsonb`: printed part for part.
    Parts,
}

/// Whether, and how, a type's text can be written piece by piece.
pub(super) fn piecewise(data_type: &TypeDesc, renderer: &TypeRenderer) -> Option<Piecewise> {
    // That a type is not known is said where it is rendered.
    if renderer.has_pieces() && renderer.known() == Known::Yes {
        return Some(Piecewise::Parts);
    }
    match &data_type.base().shape {
        TypeShape::Base(function) if function.library.is_empty() => {
            match function.symbol.as_str() {
                "byteaout" => Some(Piecewise::Hex),
                "textout" | "varcharout" | "bpcharout" => Some(Piecewise::Text),
                "json_out" => Some(Piecewise::Json),
                "xml_out" => Some(Piecewise::Xml),
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
    parts: Option<Parts>,
}

/// How a value is printed part for part; its form is that of the pieces.
#[derive(Debug)]
pub(super) struct Parts {
    renderer: TypeRenderer,
    context: TextContext,
    as_json: bool,
}

impl Parts {
    /// For values of a type, once it is certain that this one can be printed; none if it cannot be
    /// in pieces.
    pub(super) fn of(
        value: &[u8],
        renderer: &TypeRenderer,
        context: &TextContext,
        as_json: bool,
    ) -> Result<Option<Self>, ValueError> {
        let must_be_utf8 = as_json && renderer.is_jsonb();
        if must_be_utf8 && context.encoding != UTF8 {
            return Ok(None);
        }
        let mut can_be = true;
        renderer.pieces(value, context, as_json, &mut |piece| {
            can_be &= !must_be_utf8 || std::str::from_utf8(piece).is_ok();
            piece.clear();
        })?;
        Ok(can_be.then(|| Parts {
            renderer: renderer.clone(),
            context: context.clone(),
            as_json,
        }))
    }
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
                let mut raw = Vec::new();
                decompress_within(value_bytes_max, method, raw_size, stored, &mut raw)
                    .map_err(ColumnError::Value)?;
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

    /// Appends an `xml` value's declaration, and takes it away.
    pub(super) fn take_declaration(&mut self, payload: &[u8], form: Form, out: &mut Vec<u8>) {
        let mut declaration = Vec::new();
        let bytes = self.bytes(payload);
        let taken = bytes.len() - push_declaration(bytes, &mut declaration).len();
        form.push(&declaration, out);
        match self {
            Stored::Payload(range) => range.start += taken,
            Stored::Own(bytes) => drop(bytes.drain(..taken)),
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
        Self {
            at,
            stored,
            form,
            parts: None,
        }
    }

    pub(super) const fn of_parts(at: usize, stored: Stored, form: Form, parts: Parts) -> Self {
        Self {
            at,
            stored,
            form,
            parts: Some(parts),
        }
    }

    fn write<E>(
        &self,
        payload: &[u8],
        piece_text: &mut Vec<u8>,
        write: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let bytes = self.stored.bytes(payload);
        let mut written = Ok(());
        let mut write_piece = |piece: &[u8]| {
            if written.is_ok() {
                piece_text.clear();
                self.form.push(piece, piece_text);
                written = write(piece_text);
            }
        };
        match &self.parts {
            None => bytes.chunks(PIECE_BYTES).for_each(&mut write_piece),
            Some(parts) => {
                let mut flush = |piece: &mut Vec<u8>| {
                    write_piece(piece);
                    piece.clear();
                };
                let printed =
                    parts
                        .renderer
                        .pieces(bytes, &parts.context, parts.as_json, &mut flush);
                debug_assert!(printed.is_ok(), "it was printed before");
            }
        }
        written
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
        value.write(payload, &mut piece_text, &mut write)?;
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
    use std::sync::Arc;

    use super::*;
    use crate::ids::Oid;
    use crate::schema::{Name, OutputFunction};

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

    fn text_type(shape: TypeShape) -> TypeDesc {
        TypeDesc {
            oid: Oid(25),
            schema: Name::default(),
            name: Name::default(),
            formatted: Name::default(),
            length: -1,
            align: b'i',
            shape,
        }
    }

    /// `text[]` of `count` elements, some of them null, with lower bound 3.
    fn text_array(count: u32) -> (TypeDesc, Vec<u8>) {
        let text = text_type(TypeShape::Base(OutputFunction {
            symbol: "textout".to_owned(),
            library: String::new(),
        }));
        let data_type = text_type(TypeShape::Array {
            element: Arc::new(text),
            delimiter: b',',
        });
        let nulls = (count as usize).div_ceil(8);
        let data_offset = (4 + 12 + 8 + nulls).next_multiple_of(8);
        let mut value = Vec::new();
        for number in [1, data_offset as u32, 25, count, 3] {
            value.extend_from_slice(&number.to_le_bytes());
        }
        // Every eighth is null.
        value.extend(std::iter::repeat_n(0x7F, nulls));
        value.resize(data_offset - 4, 0);
        for number in (0..count).filter(|number| number % 8 != 7) {
            let element = format!("it's \"{number}\"");
            value.resize(value.len().next_multiple_of(4), 0);
            value.extend(((element.len() as u32 + 4) << 2).to_le_bytes());
            value.extend(element.bytes());
        }
        (data_type, value)
    }

    #[test]
    fn parts_are_the_whole() {
        let context = TextContext::new(15, UTF8);
        let (data_type, value) = text_array(40_000);
        let renderer = TypeRenderer::new(&data_type);
        assert_eq!(piecewise(&data_type, &renderer), Some(Piecewise::Parts));
        for as_json in [false, true] {
            let mut expected = Vec::new();
            if as_json {
                let mut scratch = Vec::new();
                renderer
                    .json(&value, &context, &mut scratch, &mut expected)
                    .unwrap();
            } else {
                renderer.text(&value, &context, &mut expected).unwrap();
            }
            let parts = Parts::of(&value, &renderer, &context, as_json).unwrap();
            let stored = Stored::Own(value.clone());
            let large = LargeValue::of_parts(1, stored, Form::Verbatim, parts.unwrap());
            let (mut written, mut pieces) = (Vec::new(), 0);
            let write = |bytes: &[u8]| {
                pieces += 1;
                written.extend_from_slice(bytes);
                Ok::<(), ()>(())
            };
            write_around(b"<>", vec![large], &[], write).unwrap();
            assert!(written == [b"<", &expected[..], b">"].concat(), "{as_json}");
            assert!(pieces > 4, "{pieces}");
        }
        // A value that cannot be printed is refused before anything is written.
        let short = &value[..value.len() - 1];
        assert!(Parts::of(short, &renderer, &context, false).is_err());
    }

    #[test]
    fn a_declaration_stands_before_the_pieces() {
        let mut stored = Stored::Own(b"<?xml version='1.0' standalone='yes'?><a>'</a>".to_vec());
        let mut out = Vec::new();
        stored.take_declaration(&[], Form::JsonString, &mut out);
        assert_eq!(out, br#"<?xml version=\"1.0\" standalone=\"yes\"?>"#);
        assert_eq!(stored.bytes(&[]), b"<a>'</a>");
        let payload = b"..<?xml version=\"1.0\"?>\n<b/>";
        let mut stored = Stored::Payload(2..payload.len());
        stored.take_declaration(payload, Form::Literal, &mut out);
        assert_eq!(stored.bytes(payload), b"<b/>");
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
