//! `json` and `jsonb`.
//!
//! ```text
//! container   u32 header: count in the low 28 bits, then scalar 1<<28, object 1<<29, array 1<<30
//!             count x u32 entry (an object: count keys, then count values)
//!             the data of the entries, in their order
//!
//! entry       type in bits 28-30: string 0, numeric 1, false 2, true 3, null 4, container 5
//!             low 28 bits: the length of its data, or, with bit 31, where its data ends
//! ```
//!
//! Numerics (with a 4-byte varlena header) and containers are aligned to 4 bytes within the data
//! of the container they are in; the padding counts as theirs. A lone scalar is an array of one
//! element with the scalar bit.
// pg: utils/jsonb.h JEntry, JsonbContainer [14-18]

use super::json::{push_escaped, push_escaped_string};
use super::pieces::{bytes_at, u32_at};
use super::{Flush, TextContext, ValueError, numeric};
use crate::limits::{PIECE_BYTES, TEXT_BYTES_MAX};

const SCALAR: u32 = 1 << 28;
const OBJECT: u32 = 1 << 29;
const ARRAY: u32 = 1 << 30;
const COUNT_MASK: u32 = (1 << 28) - 1;

const ENTRY_HAS_OFFSET: u32 = 1 << 31;
const ENTRY_LENGTH_MASK: u32 = (1 << 28) - 1;

fn invalid(problem: &'static str) -> ValueError {
    ValueError::invalid("jsonb", problem)
}

/// `json_out`: the text is stored as it came.
pub(super) fn json_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    out.extend_from_slice(value);
    Ok(())
}

/// What stands at an entry.
enum Entry<'a> {
    /// Something that has been printed.
    Printed,
    /// A container, to be printed next.
    Container(Open<'a>),
    /// A string that is too long for one piece, to be printed next.
    Long(&'a [u8]),
}

/// A container that is being printed.
struct Open<'a> {
    /// The entries.
    entries: &'a [u8],
    /// The data they describe.
    data: &'a [u8],
    /// Pairs of an object, elements of an array.
    count: usize,
    /// Those begun so far.
    begun: usize,
    /// Where the data of the next key, or element, starts.
    next: usize,
    /// Objects: where the data of the next value starts.
    next_value: usize,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Scalar,
    Array,
    Object,
}

impl<'a> Open<'a> {
    fn new(container: &'a [u8]) -> Result<Self, ValueError> {
        let header = u32_at(container, 0, "jsonb container header")?;
        let count = (header & COUNT_MASK) as usize;
        let kind = match header & (ARRAY | OBJECT) {
            ARRAY if header & SCALAR == 0 => Kind::Array,
            ARRAY if count == 1 => Kind::Scalar,
            OBJECT if header & SCALAR == 0 => Kind::Object,
            _ => return Err(invalid("a container is neither array nor object")),
        };
        let entries = if kind == Kind::Object {
            2 * count
        } else {
            count
        };
        let entries = bytes_at(container, 4, 4 * entries, "jsonb entries")?;
        let mut open = Open {
            entries,
            data: container.get(4 + entries.len()..).unwrap_or_default(),
            count,
            begun: 0,
            next: 0,
            next_value: 0,
            kind,
        };
        if kind == Kind::Object {
            for key in 0..count {
                open.next_value = open.end(key, open.next_value)?;
            }
        }
        Ok(open)
    }

    fn entry(&self, index: usize) -> Result<u32, ValueError> {
        Ok(u32_at(self.entries, 4 * index, "jsonb entry")?)
    }

    /// Where the data of entry `index` ends, if it starts at `start`.
    fn end(&self, index: usize, start: usize) -> Result<usize, ValueError> {
        let entry = self.entry(index)?;
        let length = (entry & ENTRY_LENGTH_MASK) as usize;
        let end = if entry & ENTRY_HAS_OFFSET != 0 {
            length
        } else {
            start + length
        };
        // Entries that overlapped could stand for far more text than there are bytes.
        if end < start || end > self.data.len() {
            return Err(invalid("an entry lies outside its container"));
        }
        Ok(end)
    }

    /// Prints entry `index`, whose data starts at `start`; a container is handed back unprinted, and
    /// so is a string of more than `long` bytes.
    fn print(
        &self,
        index: usize,
        start: usize,
        numbers: Numbers<'_>,
        long: usize,
        out: &mut Vec<u8>,
    ) -> Result<(usize, Entry<'a>), ValueError> {
        let end = self.end(index, start)?;
        let aligned = || {
            let aligned = start.next_multiple_of(4);
            self.data
                .get(aligned..end)
                .ok_or_else(|| invalid("an entry is shorter than its padding"))
        };
        let mut found = Entry::Printed;
        match self.entry(index)? >> 28 & 7 {
            0 if end - start > long => found = Entry::Long(&self.data[start..end]),
            0 => push_escaped_string(out, &self.data[start..end]),
            1 => numbers.push(aligned()?, out)?,
            2 => out.extend_from_slice(b"false"),
            3 => out.extend_from_slice(b"true"),
            4 => out.extend_from_slice(b"null"),
            5 => found = Entry::Container(Open::new(aligned()?)?),
            _ => return Err(invalid("an entry is of an unknown type")),
        }
        Ok((end, found))
    }

    /// Prints up to what is not printed here, which is handed back; none at the end. Stops, as if
    /// at something that has been printed, when there are `long` bytes.
    fn advance(
        &mut self,
        numbers: Numbers<'_>,
        long: usize,
        out: &mut Vec<u8>,
    ) -> Result<Option<Entry<'a>>, ValueError> {
        while self.begun < self.count {
            let index = self.begun;
            self.begun += 1;
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            let found;
            if self.kind == Kind::Object {
                if self.entry(index)? >> 28 & 7 != 0 {
                    return Err(invalid("a key is not a string"));
                }
                (self.next, _) = self.print(index, self.next, numbers, usize::MAX, out)?;
                out.extend_from_slice(b": ");
                (self.next_value, found) =
                    self.print(self.count + index, self.next_value, numbers, long, out)?;
            } else {
                (self.next, found) = self.print(index, self.next, numbers, long, out)?;
            }
            if !matches!(found, Entry::Printed) || out.len() >= long {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn brackets(&self) -> (&'static [u8], &'static [u8]) {
        match self.kind {
            Kind::Scalar => (b"", b""),
            Kind::Array => (b"[", b"]"),
            Kind::Object => (b"{", b"}"),
        }
    }
}

/// `jsonb_out`.
pub(super) fn jsonb_text(
    value: &[u8],
    context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    print(value, context, out, None)
}

/// `jsonb_out`, piece by piece.
pub(super) fn jsonb_pieces(
    value: &[u8],
    context: &TextContext,
    flush: &mut Flush<'_>,
) -> Result<(), ValueError> {
    let mut out = Vec::new();
    print(value, context, &mut out, Some(&mut *flush))?;
    flush(&mut out);
    Ok(())
}

/// The stack of open containers is ours and not the machine's: its height is bounded by the
/// value's own length, as each level takes at least 8 bytes of the one around it.
// pg: utils/adt/jsonb.c JsonbToCString [14-18]
fn print(
    value: &[u8],
    context: &TextContext,
    out: &mut Vec<u8>,
    mut flush: Option<&mut Flush<'_>>,
) -> Result<(), ValueError> {
    let mut numbers = Numbers::new(context, out);
    let long = flush.as_ref().map_or(usize::MAX, |_| PIECE_BYTES);
    let mut pass_on = |out: &mut Vec<u8>, numbers: &mut Numbers<'_>| {
        if let Some(flush) = &mut flush
            && out.len() >= PIECE_BYTES
        {
            numbers.end_max = numbers.end_max.saturating_sub(out.len());
            flush(out);
        }
    };
    let root = Open::new(value)?;
    out.extend_from_slice(root.brackets().0);
    let mut stack = vec![root];
    while let Some(open) = stack.last_mut() {
        match open.advance(numbers, long, out)? {
            Some(Entry::Container(inner)) => {
                if inner.kind == Kind::Scalar {
                    return Err(invalid("a lone scalar is nested"));
                }
                out.extend_from_slice(inner.brackets().0);
                stack.push(inner);
            }
            Some(Entry::Long(mut rest)) => {
                out.push(b'"');
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(whole_characters(rest, PIECE_BYTES));
                    push_escaped(out, piece);
                    pass_on(out, &mut numbers);
                    rest = after;
                }
                out.push(b'"');
            }
            Some(Entry::Printed) => {}
            None => {
                out.extend_from_slice(open.brackets().1);
                stack.pop();
            }
        }
        pass_on(out, &mut numbers);
    }
    Ok(())
}

/// At most `wanted` bytes of a text, so that no character of UTF-8 is cut; all of a shorter one.
fn whole_characters(text: &[u8], wanted: usize) -> usize {
    let begins = |at: &usize| text.get(*at).is_none_or(|byte| byte & 0xC0 != 0x80);
    let wanted = wanted.min(text.len());
    (wanted.saturating_sub(3)..=wanted)
        .rev()
        .find(begins)
        .unwrap_or(wanted)
}

/// Prints the numerics inside a document, and keeps its text within what the server prints: a few
/// bytes of a numeric can stand for 147 thousand digits.
#[derive(Clone, Copy)]
pub(super) struct Numbers<'a> {
    context: &'a TextContext,
    /// Where the text of the document must end.
    end_max: usize,
}

impl<'a> Numbers<'a> {
    /// For the document whose text starts at the end of `out`.
    pub(super) fn new(context: &'a TextContext, out: &[u8]) -> Self {
        Self {
            context,
            end_max: out.len().saturating_add(TEXT_BYTES_MAX),
        }
    }

    /// Appends the numeric that is stored with its 4-byte varlena header at the start of `stored`.
    pub(super) fn push(&self, stored: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
        let header = u32_at(stored, 0, "numeric header")?;
        let length = (header >> 2) as usize;
        if header & 3 != 0 || length < 4 {
            return Err(invalid("a number has a bad header"));
        }
        let digits = bytes_at(stored, 4, length - 4, "numeric")?;
        numeric::numeric_text(digits, self.context, out)?;
        if out.len() > self.end_max {
            return Err(invalid("its text would be longer than 1 GB"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &[u8]) -> Result<String, ValueError> {
        let mut out = Vec::new();
        jsonb_text(value, &TextContext::new(15, 6), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// `levels` arrays, each the only element of the one around it.
    fn nested(levels: u32) -> Vec<u8> {
        let mut value = Vec::new();
        for inside in (1..levels).rev() {
            value.extend_from_slice(&(ARRAY | 1).to_le_bytes());
            // Only the innermost fits its length into 28 bits comfortably; so do all here.
            value.extend_from_slice(&(5 << 28 | (8 * inside - 4)).to_le_bytes());
        }
        value.extend_from_slice(&ARRAY.to_le_bytes());
        value
    }

    #[test]
    fn any_depth() {
        assert_eq!(text(&nested(3)).unwrap(), "[[[]]]");
        assert_eq!(text(&nested(1_000_000)).unwrap().len(), 2_000_000);
    }

    /// An array of these strings.
    fn strings(texts: &[Vec<u8>]) -> Vec<u8> {
        let mut value = (ARRAY | texts.len() as u32).to_le_bytes().to_vec();
        for text in texts {
            value.extend_from_slice(&(text.len() as u32).to_le_bytes());
        }
        value.extend(texts.concat());
        value
    }

    #[test]
    fn pieces_are_the_whole() {
        let texts = ["é\"\u{1}".repeat(PIECE_BYTES), "x".repeat(3 * PIECE_BYTES)];
        let mut texts: Vec<Vec<u8>> = texts.map(String::into_bytes).to_vec();
        texts.extend((0..PIECE_BYTES / 4).map(|number| number.to_string().into_bytes()));
        let value = strings(&texts);
        let (mut pieces, mut largest) = (String::new(), 0);
        let mut flush = |piece: &mut Vec<u8>| {
            largest = largest.max(piece.len());
            // No character is cut.
            pieces.push_str(std::str::from_utf8(piece).unwrap());
            piece.clear();
        };
        jsonb_pieces(&value, &TextContext::new(15, 6), &mut flush).unwrap();
        assert_eq!(pieces, text(&value).unwrap());
        assert!(largest < 8 * PIECE_BYTES, "{largest}");
    }

    #[test]
    fn entries_that_share_bytes_are_refused() {
        let mut value = (ARRAY | 2).to_le_bytes().to_vec();
        value.extend_from_slice(&(ENTRY_HAS_OFFSET | 3).to_le_bytes());
        value.extend_from_slice(&(ENTRY_HAS_OFFSET | 2).to_le_bytes());
        value.extend_from_slice(b"abc");
        assert!(text(&value).is_err());
    }
}
