//! `hstore` as JSON: `to_json()` goes by the type's own cast, which gives an object.

use super::json::push_json_text;

/// Appends the object for what `hstore_out` printed: `"key"=>"value", "other"=>NULL`.
// pg: contrib/hstore/hstore_io.c hstore_to_json [14-18]
pub(crate) fn push_hstore_json(out: &mut Vec<u8>, encoding: i32, text: &[u8]) {
    let mut pairs = Pairs { rest: text };
    out.push(b'{');
    let mut first = true;
    while let Some(key) = pairs.quoted() {
        if !std::mem::take(&mut first) {
            out.extend_from_slice(b", ");
        }
        super::json::push_json_name(out, encoding, &key);
        out.extend_from_slice(b": ");
        match pairs.quoted_after(b"=>") {
            Some(value) => push_json_text(out, encoding, &value),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
}

struct Pairs<'a> {
    rest: &'a [u8],
}

impl Pairs<'_> {
    /// Takes the next text in quotes, wherever it begins.
    fn quoted(&mut self) -> Option<Vec<u8>> {
        let start = self.rest.iter().position(|byte| *byte == b'"')?;
        self.rest = self.rest.get(start + 1..)?;
        let mut text = Vec::new();
        let mut bytes = self.rest.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => break,
                b'\\' => text.extend(bytes.next()),
                byte => text.push(*byte),
            }
        }
        self.rest = bytes.as_slice();
        Some(text)
    }

    /// Takes the text in quotes that follows `sign` at once.
    fn quoted_after(&mut self, sign: &[u8]) -> Option<Vec<u8>> {
        self.rest = self.rest.strip_prefix(sign)?;
        self.rest.starts_with(b"\"").then(|| self.quoted())?
    }
}
