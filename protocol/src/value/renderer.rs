//! A type, compiled: everything that can be decided before the first value is.

use super::array::{array_json, array_pieces, array_text};
use super::boolean::truth;
use super::composite::{composite_json, composite_text};
use super::json::{push_json_text, push_json_verbatim};
use super::jsonb::{jsonb_pieces, jsonb_text};
use super::range::{multirange_text, range_text};
use super::text_json::push_json_of_text;
use super::{
    Flush, TextContext, TextFn, ValueError, bytea, datetime, fixed, functions, other_families,
};
use crate::limits::TYPE_NESTING_MAX;
use crate::schema::{Name, TypeDesc, TypeShape};

/// Whether a value's text is what PostgreSQL prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is.
    Yes,
    /// The type, or one inside it, has an output function that is not known: `\x` and its bytes in
    /// hexadecimal stand for it.
    No,
}

/// Turns the values of one type into text or JSON.
#[derive(Clone, Debug)]
pub struct TypeRenderer {
    plan: Plan,
    json: JsonForm,
    length: i16,
    align: u8,
    known: Known,
}

/// How the text is made.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    Function(TextFn),
    Jsonb,
    /// Labels by OID, sorted.
    Enum(Vec<(u32, Name)>),
    Array {
        element: Box<TypeRenderer>,
        delimiter: u8,
    },
    Range(Box<TypeRenderer>),
    /// The field is the type of the ranges' bounds.
    Multirange(Box<TypeRenderer>),
    Composite(Vec<Field>),
    /// The type is nested too deeply to be followed.
    TooDeep,
}

/// One attribute of a row type, dropped ones included.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: Name,
    /// None if dropped.
    pub(crate) renderer: Option<TypeRenderer>,
    pub(crate) length: i16,
    pub(crate) align: u8,
}

/// How `to_json()` gives the type.
#[derive(Clone, Debug)]
pub(crate) enum JsonForm {
    /// Its text as a string.
    Text,
    Bool,
    /// Its text as a number; as a string if it is none (`NaN`).
    Number,
    /// What the function gives, in quotes.
    Quoted(TextFn),
    /// What the function gives, which is JSON.
    Whole(TextFn),
    /// Its text as it is.
    Verbatim,
    Array,
    Composite,
    /// `int2vector`, `oidvector`: an array of the type.
    Vector(Box<TypeRenderer>),
}

impl TypeRenderer {
    /// Compiles a type.
    #[must_use]
    pub fn new(data_type: &TypeDesc) -> Self {
        Self::nested(data_type, TYPE_NESTING_MAX)
    }

    fn nested(data_type: &TypeDesc, levels: usize) -> Self {
        let data_type = data_type.base();
        let (plan, known) = Plan::new(data_type, levels);
        TypeRenderer {
            json: JsonForm::of(data_type, &plan),
            plan,
            length: data_type.length,
            align: data_type.align,
            known,
        }
    }

    /// `typlen`.
    pub(crate) const fn length(&self) -> i16 {
        self.length
    }

    /// `typalign`.
    pub(crate) const fn align(&self) -> u8 {
        self.align
    }

    /// Whether the texts of this type are what PostgreSQL prints.
    #[must_use]
    pub const fn known(&self) -> Known {
        self.known
    }

    /// Appends the text of a value, in its database's encoding. After an error `out` may hold a
    /// part of it.
    pub fn text(
        &self,
        value: &[u8],
        context: &TextContext,
        out: &mut Vec<u8>,
    ) -> Result<Known, ValueError> {
        match &self.plan {
            Plan::Function(function) => function(value, context, out)?,
            Plan::Jsonb => jsonb_text(value, context, out)?,
            Plan::Enum(labels) => out.extend_from_slice(label(labels, value)?.as_bytes()),
            Plan::Array { element, delimiter } => {
                array_text(element, *delimiter, value, context, out)?;
            }
            Plan::Range(bound) => range_text(bound, value, context, out)?,
            Plan::Multirange(bound) => multirange_text(bound, value, context, out)?,
            Plan::Composite(fields) => composite_text(fields, value, context, out)?,
            Plan::TooDeep => return Err(ValueError::TooDeep("type")),
        }
        Ok(self.known)
    }

    /// Appends a value as JSON, in UTF-8 and on one line. `scratch` holds nothing between calls.
    /// After an error `out` may hold a part of it.
    pub fn json(
        &self,
        value: &[u8],
        context: &TextContext,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Known, ValueError> {
        match (&self.json, &self.plan) {
            (JsonForm::Bool, _) => {
                out.extend_from_slice(if truth(value)? { b"true" } else { b"false" });
            }
            (JsonForm::Number, _) => {
                let start = out.len();
                self.text(value, context, out)?;
                if !out.last().is_some_and(u8::is_ascii_digit) {
                    out.insert(start, b'"');
                    out.push(b'"');
                }
            }
            (JsonForm::Quoted(function), _) => {
                out.push(b'"');
                function(value, context, out)?;
                out.push(b'"');
            }
            (JsonForm::Whole(function), _) => function(value, context, out)?,
            (JsonForm::Verbatim, _) => {
                scratch.clear();
                self.text(value, context, scratch)?;
                push_json_verbatim(out, context.encoding, scratch);
            }
            (JsonForm::Array, Plan::Array { element, .. }) => {
                array_json(element, value, context, scratch, out)?;
            }
            (JsonForm::Vector(element), _) => array_json(element, value, context, scratch, out)?,
            (JsonForm::Composite, Plan::Composite(fields)) => {
                composite_json(fields, value, context, scratch, out)?;
            }
            _ => {
                scratch.clear();
                self.text(value, context, scratch)?;
                push_json_text(out, context.encoding, scratch);
            }
        }
        Ok(self.known)
    }

    /// Whether values of the type can be given piece by piece.
    pub(crate) const fn has_pieces(&self) -> bool {
        matches!(self.plan, Plan::Array { .. }) && matches!(self.json, JsonForm::Array)
            || matches!(self.plan, Plan::Jsonb) && matches!(self.json, JsonForm::Verbatim)
    }

    /// Whether its JSON is the text of the database, which must be UTF-8 to be given in pieces.
    pub(crate) const fn is_jsonb(&self) -> bool {
        matches!(self.plan, Plan::Jsonb)
    }

    /// Gives the text of a value, or its JSON, piece by piece. The same as [`Self::text`] and
    /// [`Self::json`] but for the encoding of `jsonb`, which is the database's in JSON too.
    pub(crate) fn pieces(
        &self,
        value: &[u8],
        context: &TextContext,
        as_json: bool,
        flush: &mut Flush<'_>,
    ) -> Result<(), ValueError> {
        match &self.plan {
            Plan::Array { element, delimiter } => {
                let delimiter = (!as_json).then_some(*delimiter);
                array_pieces(element, delimiter, value, context, flush)
            }
            Plan::Jsonb => jsonb_pieces(value, context, flush),
            _ => {
                let mut out = Vec::new();
                if as_json {
                    self.json(value, context, &mut Vec::new(), &mut out)?;
                } else {
                    self.text(value, context, &mut out)?;
                }
                flush(&mut out);
                Ok(())
            }
        }
    }

    /// Appends the JSON of a value of which the stream gives the text.
    pub fn json_of_text(&self, text: &[u8], context: &TextContext, out: &mut Vec<u8>) {
        push_json_of_text(self, context.encoding, text, out);
    }

    pub(crate) const fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(crate) const fn json_form(&self) -> &JsonForm {
        &self.json
    }

    fn number(function: TextFn, length: i16, align: u8, json: JsonForm) -> Self {
        TypeRenderer {
            plan: Plan::Function(function),
            json,
            length,
            align,
            known: Known::Yes,
        }
    }
}

impl Plan {
    fn new(data_type: &TypeDesc, levels: usize) -> (Self, Known) {
        let Some(levels) = levels.checked_sub(1) else {
            return (Plan::TooDeep, Known::Yes);
        };
        let below = |data_type: &TypeDesc| {
            let renderer = TypeRenderer::nested(data_type, levels);
            let known = renderer.known;
            (Box::new(renderer), known)
        };
        match &data_type.shape {
            TypeShape::Base(function)
                if function.symbol == "jsonb_out" && function.library.is_empty() =>
            {
                (Plan::Jsonb, Known::Yes)
            }
            TypeShape::Base(function) => match functions::lookup(function) {
                Some(function) => (Plan::Function(function), Known::Yes),
                None => (Plan::Function(bytea::bytea_text), Known::No),
            },
            TypeShape::Enum(labels) => {
                let mut labels: Vec<_> = labels
                    .iter()
                    .map(|label| (label.oid.0, label.label.clone()))
                    .collect();
                labels.sort_unstable();
                (Plan::Enum(labels), Known::Yes)
            }
            TypeShape::Array { element, delimiter } => {
                let (element, known) = below(element);
                let delimiter = *delimiter;
                (Plan::Array { element, delimiter }, known)
            }
            TypeShape::Range(bound) => {
                let (bound, known) = below(bound);
                (Plan::Range(bound), known)
            }
            TypeShape::Multirange(range) => {
                let bound = match &range.base().shape {
                    TypeShape::Range(bound) => bound,
                    _ => range,
                };
                let (bound, known) = below(bound);
                (Plan::Multirange(bound), known)
            }
            TypeShape::Composite(fields) => {
                let mut known = Known::Yes;
                let fields = fields
                    .iter()
                    .map(|field| Field {
                        name: field.name.clone(),
                        renderer: field.data_type.as_ref().map(|data_type| {
                            let renderer = TypeRenderer::nested(data_type, levels);
                            if renderer.known == Known::No {
                                known = Known::No;
                            }
                            renderer
                        }),
                        length: field.length,
                        align: field.align,
                    })
                    .collect();
                (Plan::Composite(fields), known)
            }
            // `base()` has taken these off.
            TypeShape::Domain(_) => (Plan::TooDeep, Known::Yes),
        }
    }
}

impl JsonForm {
    // pg: utils/adt/json.c json_categorize_type; catalog/pg_type.dat [14-18]
    fn of(data_type: &TypeDesc, plan: &Plan) -> Self {
        match plan {
            Plan::Array { .. } => return JsonForm::Array,
            Plan::Composite(_) => return JsonForm::Composite,
            Plan::Function(_) | Plan::Jsonb => {}
            _ => return JsonForm::Text,
        }
        if let TypeShape::Base(function) = &data_type.shape
            && let Some(json) = other_families::json(&function.symbol, &function.library)
        {
            return JsonForm::Whole(json);
        }
        match data_type.oid.0 {
            16 => JsonForm::Bool,
            20 | 21 | 23 | 700 | 701 => JsonForm::Number,
            22 => JsonForm::Vector(Box::new(TypeRenderer::number(
                super::integer::int2_text,
                2,
                b's',
                JsonForm::Number,
            ))),
            30 => JsonForm::Vector(Box::new(TypeRenderer::number(
                super::integer::oid_text,
                4,
                b'i',
                JsonForm::Text,
            ))),
            1114 => JsonForm::Quoted(datetime::timestamp_json),
            1184 => JsonForm::Quoted(datetime::timestamptz_json),
            114 | 3802 => JsonForm::Verbatim,
            _ => JsonForm::Text,
        }
    }
}

fn label<'a>(labels: &'a [(u32, Name)], value: &[u8]) -> Result<&'a Name, ValueError> {
    let oid = u32::from_le_bytes(fixed(value, "enum")?);
    labels
        .binary_search_by_key(&oid, |(oid, _)| *oid)
        .ok()
        .and_then(|at| labels.get(at))
        .map(|(_, label)| label)
        .ok_or(ValueError::UnknownLabel(oid))
}
