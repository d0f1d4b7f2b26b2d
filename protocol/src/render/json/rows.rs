//! Rows: the tuples of an event as objects, by what is worked out once for their relation.

use super::UTF8;
use crate::event::{Columns, Event};
use crate::ids::Lsn;
use crate::render::large::{Bytewise, Form, LargeValue, Stored, bytewise};
use crate::render::object::Object;
use crate::render::{ColumnError, Content, column_content, qualified};
use crate::render::{RenderError, SessionSettings};
use crate::schema::{Column, Name, Relation};
use crate::value::json::push_json_name;
use crate::value::{Known, TextContext, TypeRenderer, ValueError};

/// Buffers that keep their memory from row to row.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// A decompressed value.
    raw: Vec<u8>,
    /// The text of a value before it is made a string.
    text: Vec<u8>,
    /// Numbers of columns.
    unchanged: Vec<usize>,
    undecoded: Vec<usize>,
}

/// A relation's part of its lines.
#[derive(Debug)]
pub(super) struct RelationLines {
    /// `,"database":..,"schema":..,"table":..`
    pub(super) members: Vec<u8>,
    pub(super) columns: Vec<ColumnJson>,
    context: TextContext,
    value_bytes_max: u64,
    /// `schema.table`, for errors.
    pub(super) qualified: String,
}

#[derive(Debug)]
pub(super) struct ColumnJson {
    /// `"name"`
    key_text: Vec<u8>,
    renderer: TypeRenderer,
    /// Whether, and how, a large value can be written piece by piece.
    bytewise: Option<Bytewise>,
    /// Whether it belongs to the replica identity's key.
    key: bool,
    name: Name,
}

impl RelationLines {
    pub(super) fn new(relation: &Relation, settings: &SessionSettings) -> Self {
        let encoding = relation.database.encoding;
        let mut members = Vec::new();
        let mut object = Object::resume(&mut members, encoding);
        object.text("database", relation.database.name.as_bytes());
        object.text("schema", relation.schema.as_bytes());
        object.text("table", relation.name.as_bytes());
        let columns = relation
            .columns
            .iter()
            .map(|column| ColumnJson::new(column, encoding))
            .collect();
        RelationLines {
            members,
            columns,
            context: settings.context(&relation.database),
            value_bytes_max: settings.value_bytes_max,
            qualified: qualified(relation),
        }
    }
}

impl ColumnJson {
    fn new(column: &Column, encoding: i32) -> Self {
        let mut key_text = Vec::new();
        push_json_name(&mut key_text, encoding, column.name.as_bytes());
        ColumnJson {
            key_text,
            renderer: TypeRenderer::new(&column.data_type),
            bytewise: bytewise(&column.data_type),
            key: column.key,
            name: column.name.clone(),
        }
    }
}

/// Which tuple of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    OldKey,
    OldFull,
    New,
}

/// The tuples of one row event, printed one after the other.
pub(super) struct Tuples<'a> {
    relation: &'a RelationLines,
    columns: Columns<'a>,
    lsn: Lsn,
    scratch: &'a mut Scratch,
    large: Option<&'a mut Vec<LargeValue>>,
    payload: &'a [u8],
}

impl<'a> Tuples<'a> {
    /// The tuples of `event`, a row of `relation`.
    pub(super) fn new(
        relation: &'a RelationLines,
        event: &Event<'a>,
        scratch: &'a mut Scratch,
        large: Option<&'a mut Vec<LargeValue>>,
    ) -> Self {
        scratch.unchanged.clear();
        scratch.undecoded.clear();
        Self {
            relation,
            columns: event.columns(),
            lsn: event.header.record_lsn,
            scratch,
            large,
            payload: event.payload,
        }
    }

    /// Appends one of them, which is the next in the event.
    pub(super) fn push(&mut self, part: Part, out: &mut Vec<u8>) -> Result<(), RenderError> {
        let lsn = self.lsn;
        let relation = self.relation;
        let mut separator = b'{';
        for (number, column) in relation.columns.iter().enumerate() {
            let fail = |error: ColumnError| error.at(lsn, &relation.qualified, &column.name);
            let value = self.columns.read();
            let value = value.map_err(|source| RenderError::Event { lsn, source })?;
            if let (Some(large), Some(bytewise)) = (&mut self.large, column.bytewise) {
                let end = self.columns.offset();
                let stored = Stored::of(value, end, relation.value_bytes_max).map_err(fail)?;
                if let Some(stored) = stored
                    && let Some(form) =
                        string_form(bytewise, &relation.context, &stored, self.payload)
                {
                    out.push(separator);
                    separator = b',';
                    out.extend_from_slice(&column.key_text);
                    out.push(b':');
                    leave_out(stored, form, large, out);
                    continue;
                }
            }
            let content = column_content(value, relation.value_bytes_max, &mut self.scratch.raw)
                .map_err(fail)?;
            match content {
                // With a key identity every other column is null in the log.
                Content::Null if part == Part::OldKey && !column.key => continue,
                Content::Unchanged => {
                    self.scratch.unchanged.push(number);
                    continue;
                }
                _ => {}
            }
            out.push(separator);
            separator = b',';
            out.extend_from_slice(&column.key_text);
            out.push(b':');
            let known = column
                .push(content, &relation.context, &mut self.scratch.text, out)
                .map_err(|error| fail(ColumnError::Value(error)))?;
            if known == Known::No && !self.scratch.undecoded.contains(&number) {
                self.scratch.undecoded.push(number);
            }
        }
        if separator == b'{' {
            out.push(b'{');
        }
        out.push(b'}');
        Ok(())
    }

    /// Says what the tuples could not give.
    pub(super) fn finish(self, object: &mut Object<'_>) -> Result<(), RenderError> {
        let lsn = self.lsn;
        let columns = &self.relation.columns;
        for (key, numbers) in [
            ("unchanged", &self.scratch.unchanged),
            ("undecoded", &self.scratch.undecoded),
        ] {
            if !numbers.is_empty() {
                let listed = numbers.iter().filter_map(|number| columns.get(*number));
                object.list(key, listed, |column, _, out| {
                    out.extend_from_slice(&column.key_text);
                });
            }
        }
        self.columns
            .finish()
            .map_err(|source| RenderError::Event { lsn, source })
    }
}

/// How a large value is written, if it is text that need not be converted.
fn string_form(
    bytewise: Bytewise,
    context: &TextContext,
    stored: &Stored,
    payload: &[u8],
) -> Option<Form> {
    if bytewise == Bytewise::Hex {
        return Some(Form::Hex);
    }
    let bytes = stored.bytes(payload);
    let is_utf8 = context.encoding == UTF8 && std::str::from_utf8(bytes).is_ok();
    if !is_utf8 || bytes.contains(&0) {
        return None;
    }
    Some(match bytewise {
        Bytewise::Json => Form::JsonLine,
        _ => Form::JsonString,
    })
}

/// Appends what stands around a large value.
fn leave_out(stored: Stored, form: Form, large: &mut Vec<LargeValue>, out: &mut Vec<u8>) {
    let quoted = form != Form::JsonLine;
    if quoted {
        out.push(b'"');
    }
    if form == Form::Hex {
        out.extend_from_slice(b"\\\\x");
    }
    large.push(LargeValue::new(out.len(), stored, form));
    if quoted {
        out.push(b'"');
    }
}

impl ColumnJson {
    fn push(
        &self,
        content: Content<'_>,
        context: &TextContext,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Known, ValueError> {
        match content {
            Content::Bytes(bytes) => return self.renderer.json(bytes, context, scratch, out),
            Content::Text(text) => self.renderer.json_of_text(text, context, out),
            Content::Null | Content::Unchanged => out.extend_from_slice(b"null"),
        }
        Ok(Known::Yes)
    }
}
