//! One column of a line: its label, and its value as a literal.

use super::super::identifier::push_identifier;
use super::super::large::{Form, LargeValue, Parts, Piecewise, Stored, piecewise};
use super::super::{ColumnError, Content};
use crate::ids::Oid;
use crate::schema::{Column, Name};
use crate::value::quoting::close_literal;
use crate::value::{Known, TextContext, TypeRenderer, ValueError};

#[derive(Debug)]
pub(super) struct ColumnText {
    /// ` name[type]:`
    pub(super) label: Vec<u8>,
    pub(super) renderer: TypeRenderer,
    pub(super) literal: Literal,
    /// How a large value is written piece by piece, if it can be.
    pub(super) large: Option<Piecewise>,
    pub(super) name: Name,
    pub(super) data_type: Name,
    /// Whether it has been said that the type is not known.
    pub(super) told: bool,
}

/// How a text becomes a literal: by the exact type, so a domain over `integer` is quoted.
// pg: contrib/test_decoding.c print_literal [14-18]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Literal {
    Bare,
    Bits,
    Bool,
    Quoted,
}

impl Literal {
    // pg: catalog/pg_type.dat [14-18]
    const fn of(data_type: Oid) -> Self {
        match data_type.0 {
            20 | 21 | 23 | 26 | 700 | 701 | 1700 => Literal::Bare,
            1560 | 1562 => Literal::Bits,
            16 => Literal::Bool,
            _ => Literal::Quoted,
        }
    }

    /// Appends what stands before the text.
    fn open(self, out: &mut Vec<u8>) {
        match self {
            Literal::Bare | Literal::Bool => {}
            Literal::Bits => out.extend_from_slice(b"B'"),
            Literal::Quoted => out.push(b'\''),
        }
    }

    /// Makes a literal of the text from `start` on.
    fn close(self, out: &mut Vec<u8>, start: usize) {
        match self {
            Literal::Bare => {}
            Literal::Bits => out.push(b'\''),
            Literal::Bool => {
                let truth = out.get(start..) == Some(b"t");
                out.truncate(start);
                out.extend_from_slice(if truth { b"true" } else { b"false" });
            }
            Literal::Quoted => close_literal(out, start),
        }
    }
}

impl ColumnText {
    pub(super) fn new(column: &Column, major: u16) -> Self {
        let mut label = vec![b' '];
        push_identifier(&mut label, column.name.as_bytes(), major);
        label.push(b'[');
        label.extend_from_slice(column.data_type.formatted.as_bytes());
        label.extend_from_slice(b"]:");
        let renderer = TypeRenderer::new(&column.data_type);
        ColumnText {
            label,
            literal: Literal::of(column.data_type.oid),
            large: piecewise(&column.data_type, &renderer),
            renderer,
            name: column.name.clone(),
            data_type: column.data_type.formatted.clone(),
            told: false,
        }
    }
}

impl ColumnText {
    /// Appends what stands around a large value.
    pub(super) fn leave_out(
        &self,
        mut stored: Stored,
        piecewise: Piecewise,
        payload: &[u8],
        context: &TextContext,
        large: &mut Vec<LargeValue>,
        out: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        let parts = match piecewise {
            Piecewise::Parts => Parts::of(stored.bytes(payload), &self.renderer, context, false)?,
            _ => None,
        };
        out.extend_from_slice(&self.label);
        self.literal.open(out);
        let form = match piecewise {
            Piecewise::Hex => {
                out.extend_from_slice(b"\\x");
                Form::Hex
            }
            Piecewise::Text | Piecewise::Json | Piecewise::Xml => {
                stored.end_at_nul(payload);
                if piecewise == Piecewise::Xml {
                    stored.take_declaration(payload, Form::Literal, out);
                }
                Form::Literal
            }
            Piecewise::Parts => Form::Literal,
        };
        large.push(match parts {
            Some(parts) => LargeValue::of_parts(out.len(), stored, form, parts),
            None => LargeValue::new(out.len(), stored, form),
        });
        out.push(b'\'');
        Ok(())
    }

    #[inline]
    pub(super) fn push(
        &self,
        content: Content<'_>,
        context: &TextContext,
        out: &mut Vec<u8>,
    ) -> Result<Known, ColumnError> {
        out.extend_from_slice(&self.label);
        match content {
            Content::Null => {
                out.extend_from_slice(b"null");
                return Ok(Known::Yes);
            }
            Content::Unchanged => {
                out.extend_from_slice(b"unchanged-toast-datum");
                return Ok(Known::Yes);
            }
            Content::Bytes(_) | Content::Text(_) => {}
        }
        self.literal.open(out);
        let start = out.len();
        let known = match content {
            Content::Bytes(bytes) => {
                let rendered = self.renderer.text(bytes, context, out);
                rendered.map_err(ColumnError::Value)?
            }
            Content::Text(text) => {
                out.extend_from_slice(text);
                Known::Yes
            }
            Content::Null | Content::Unchanged => Known::Yes,
        };
        self.literal.close(out, start);
        Ok(known)
    }
}
