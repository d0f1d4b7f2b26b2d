//! JSON from the text of a value, for values that come as text: `regclass` and its like, and
//! everything that holds one. Takes the text of an array or row apart again; what is inside
//! becomes what its own type is in JSON.

use super::hstore_json::push_hstore_json;
use super::json::{push_json_name, push_json_text, push_json_verbatim};
use super::quoting::is_space;
use super::renderer::{Field, JsonForm, Plan, TypeRenderer};

/// Appends the JSON of a value given as text. A text that its type cannot have becomes a string.
pub(crate) fn push_json_of_text(
    renderer: &TypeRenderer,
    encoding: i32,
    text: &[u8],
    out: &mut Vec<u8>,
) {
    let start = out.len();
    let taken_apart = match (renderer.json_form(), renderer.plan()) {
        (JsonForm::Array, Plan::Array { element, delimiter }) => {
            push_array(element, *delimiter, encoding, text, out)
        }
        (JsonForm::Composite, Plan::Composite(fields)) => push_row(fields, encoding, text, out),
        (JsonForm::Vector(element), _) => {
            push_vector(element, encoding, text, out);
            Some(())
        }
        (JsonForm::Bool, _) => push_bool(text, out),
        (JsonForm::Number, _) if text.last().is_some_and(u8::is_ascii_digit) => {
            out.extend_from_slice(text);
            Some(())
        }
        (JsonForm::Quoted(_), _) => {
            push_timestamp(text, out);
            Some(())
        }
        (JsonForm::Verbatim, _) => {
            push_json_verbatim(out, encoding, text);
            Some(())
        }
        // Only hstore brings a cast to JSON of its own.
        (JsonForm::Whole(_), _) => {
            push_hstore_json(out, encoding, text);
            Some(())
        }
        _ => None,
    };
    if taken_apart.is_none() {
        out.truncate(start);
        push_json_text(out, encoding, text);
    }
}

fn push_vector(element: &TypeRenderer, encoding: i32, text: &[u8], out: &mut Vec<u8>) {
    out.push(b'[');
    let numbers = text.split(|byte| *byte == b' ');
    for (place, number) in numbers.filter(|number| !number.is_empty()).enumerate() {
        if place > 0 {
            out.push(b',');
        }
        push_json_of_text(element, encoding, number, out);
    }
    out.push(b']');
}

fn push_bool(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let truth: &[u8] = match text {
        b"t" => b"true",
        b"f" => b"false",
        _ => return None,
    };
    out.extend_from_slice(truth);
    Some(())
}

/// `2024-01-01 10:00:00+00 BC` as `2024-01-01T10:00:00+00:00 BC`.
fn push_timestamp(text: &[u8], out: &mut Vec<u8>) {
    let (moment, era) = match text.strip_suffix(b" BC") {
        Some(moment) => (moment, &b" BC"[..]),
        None => (text, &b""[..]),
    };
    let mut moment = moment.to_vec();
    if let Some(space) = moment.iter().position(|byte| *byte == b' ') {
        moment[space] = b'T';
        let offset = moment[space..]
            .iter()
            .position(|byte| matches!(byte, b'+' | b'-'));
        if offset.is_some_and(|offset| !moment[space + offset..].contains(&b':')) {
            moment.extend_from_slice(b":00");
        }
    }
    out.push(b'"');
    out.extend_from_slice(&moment);
    out.extend_from_slice(era);
    out.push(b'"');
}

/// A reader over the text of an array or row.
struct Literal<'a> {
    rest: &'a [u8],
}

impl Literal<'_> {
    fn next_is(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Takes an item up to an unquoted byte that `ends`; says whether it had quotes. A backslash
    /// or, in rows, a doubled quote stands for the byte after it.
    fn item(&mut self, ends: impl Fn(u8) -> bool) -> Option<(Vec<u8>, bool)> {
        let mut item = Vec::new();
        let (mut inside, mut quoted) = (false, false);
        loop {
            let (byte, rest) = self.rest.split_first()?;
            if !inside && ends(*byte) {
                return Some((item, quoted));
            }
            self.rest = rest;
            match byte {
                b'\\' => {
                    let (byte, rest) = rest.split_first()?;
                    item.push(*byte);
                    self.rest = rest;
                }
                b'"' if inside && rest.first() == Some(&b'"') => {
                    item.push(b'"');
                    self.rest = &rest[1..];
                }
                b'"' => {
                    inside = !inside;
                    quoted = true;
                }
                byte => item.push(*byte),
            }
        }
    }
}

fn push_array(
    element: &TypeRenderer,
    delimiter: u8,
    encoding: i32,
    text: &[u8],
    out: &mut Vec<u8>,
) -> Option<()> {
    // `[0:1]={..}`
    let start = text.iter().position(|byte| *byte == b'{')?;
    let mut literal = Literal {
        rest: text.get(start..)?,
    };
    let mut open = 0_usize;
    let ends = |byte: u8| byte == delimiter || byte == b'}';
    loop {
        while literal.next_is(b'{') {
            out.push(b'[');
            open += 1;
        }
        if !literal.rest.starts_with(b"}") {
            let (item, quoted) = literal.item(ends)?;
            if !quoted && item.eq_ignore_ascii_case(b"NULL") {
                out.extend_from_slice(b"null");
            } else {
                push_json_of_text(element, encoding, &item, out);
            }
        }
        while literal.next_is(b'}') {
            out.push(b']');
            open = open.checked_sub(1)?;
        }
        if open == 0 {
            return literal
                .rest
                .iter()
                .all(|byte| is_space(*byte))
                .then_some(());
        }
        if !literal.next_is(delimiter) {
            return None;
        }
        out.push(b',');
    }
}

fn push_row(fields: &[Field], encoding: i32, text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut literal = Literal { rest: text };
    if !literal.next_is(b'(') {
        return None;
    }
    out.push(b'{');
    let live = fields
        .iter()
        .filter_map(|field| Some((field, field.renderer.as_ref()?)));
    for (number, (field, renderer)) in live.enumerate() {
        if number > 0 {
            if !literal.next_is(b',') {
                return None;
            }
            out.push(b',');
        }
        push_json_name(out, encoding, field.name.as_bytes());
        out.push(b':');
        let (item, quoted) = literal.item(|byte| byte == b',' || byte == b')')?;
        if item.is_empty() && !quoted {
            out.extend_from_slice(b"null");
        } else {
            push_json_of_text(renderer, encoding, &item, out);
        }
    }
    out.push(b'}');
    (literal.rest == b")").then_some(())
}
