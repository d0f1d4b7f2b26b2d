//! Rows: the tuples of an event as objects, by what is worked out once for their relation.

use super::UTF8;
use crate::event::{Columns, Event};
use crate::ids::Lsn;
use crate::render::large::{Form, LargeValue, Parts, Piecewise, Stored, piecewise};
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
    /// `schema.table`, for errors.
    pub(super) qualified: String,
}

#[derive(Debug)]
pub(super) struct ColumnJson {
    /// `"name"`
    key_text: Vec<u8>,
    renderer: TypeRenderer,
    /// Whether, and how, a large value can be written piece by piece.
    piecewise: Option<Piecewise>,
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
            qualified: qualified(relation),
        }
    }
}

impl ColumnJson {
    fn new(column: &Column, encoding: i32) -> Self {
        let mut key_text = Vec::new();
        push_json_name(&mut key_text, encoding, column.name.as_bytes());
        let renderer = TypeRenderer::new(&column.data_type);
        ColumnJson {
            key_text,
            piecewise: piecewise(&column.data_type, &renderer),
            renderer,
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
            if let (Some(large), Some(piecewise)) = (&mut self.large, column.piecewise) {
                let end = self.columns.offset();
                let stored =
                    Stored::of(value, end, relation.context.value_bytes_max).map_err(fail)?;
                if let Some(stored) = stored
                    && let Some(value) = column
                        .large(piecewise, &relation.context, stored, self.payload)
                        .map_err(|error| fail(ColumnError::Value(error)))?
                {
                    out.push(separator);
                    separator = b',';
                    out.extend_from_slice(&column.key_text);
                    out.push(b':');
                    value.leave_out(piecewise, self.payload, large, out);
                    continue;
                }
            }
            let content = column_content(
                value,
                relation.context.value_bytes_max,
                &mut self.scratch.raw,
            )
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

/// A large value that can be written piece by piece.
struct Large {
    stored: Stored,
    form: Form,
    parts: Option<Parts>,
}

impl Large {
    /// Appends what stands around it.
    fn leave_out(
        mut self,
        piecewise: Piecewise,
        payload: &[u8],
        large: &mut Vec<LargeValue>,
        out: &mut Vec<u8>,
    ) {
        if let Some(parts) = self.parts {
            large.push(LargeValue::of_parts(
                out.len(),
                self.stored,
                self.form,
                parts,
            ));
            return;
        }
        let quoted = self.form != Form::JsonLine;
        if quoted {
            out.push(b'"');
        }
        match piecewise {
            Piecewise::Hex => out.extend_from_slice(b"\\\\x"),
            Piecewise::Xml => self.stored.take_declaration(payload, self.form, out),
            _ => {}
        }
        large.push(LargeValue::new(out.len(), self.stored, self.form));
        if quoted {
            out.push(b'"');
        }
    }
}

impl ColumnJson {
    /// How a large value is written, if it need not be converted as a whole.
    fn large(
        &self,
        piecewise: Piecewise,
        context: &TextContext,
        stored: Stored,
        payload: &[u8],
    ) -> Result<Option<Large>, ValueError> {
        let bytes = stored.bytes(payload);
        let (form, parts) = match piecewise {
            Piecewise::Hex => (Form::Hex, None),
            Piecewise::Parts => match Parts::of(bytes, &self.renderer, context, true)? {
                None => return Ok(None),
                parts => (Form::Verbatim, parts),
            },
            _ => {
                let is_utf8 = context.encoding == UTF8 && std::str::from_utf8(bytes).is_ok();
                if !is_utf8 || bytes.contains(&0) {
                    return Ok(None);
                }
                let form = match piecewise {
                    Piecewise::Json => Form::JsonLine,
                    _ => Form::JsonString,
                };
                (form, None)
            }
        };
        Ok(Some(Large {
            stored,
            form,
            parts,
        }))
    }

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
