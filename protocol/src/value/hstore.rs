//! `hstore`.
//!
//! ```text
//! u32 size: number of pairs, bit 31 set
//! pairs x 2 x u32 entry: where the key, then the value, ends in the strings; bit 31 on the
//!   first, bit 30 on a null value
//! the strings
//! ```
//!
//! Before 9.0 an entry pair was u16 key length, u16 value length, u32 (bit 0 null, the rest where
//! the key starts), and bit 31 of the size was clear; such values may still be there after
//! pg_upgrade.
// pg: contrib/hstore/hstore.h, contrib/hstore/hstore_compat.c [14-18]

use super::json::{push_json_name, push_json_text};
use super::pieces::{bytes_at, push_escaped, u32_at};
use super::{TextContext, ValueError};

const NEW_VERSION: u32 = 1 << 31;
const COUNT_MASK: u32 = 0x0FFF_FFFF;
const ENTRY_IS_FIRST: u32 = 1 << 31;
const ENTRY_IS_NULL: u32 = 1 << 30;
const ENTRY_END_MASK: u32 = ENTRY_IS_NULL - 1;
/// Values shorter than this (with their 4-byte header) cannot be mistaken for old ones.
const AMBIGUOUS_BYTES_MIN: usize = 32768;

fn invalid(problem: &'static str) -> ValueError {
    ValueError::invalid("hstore", problem)
}

/// `hstore_out`.
pub(super) fn hstore_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let hstore = Hstore::new(value)?;
    for index in 0..hstore.pairs {
        let (key, value) = hstore.pair(index)?;
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        push_quoted(out, key);
        out.extend_from_slice(b"=>");
        match value {
            Some(value) => push_quoted(out, value),
            None => out.extend_from_slice(b"NULL"),
        }
    }
    Ok(())
}

/// What `to_json()` gives: an object of strings and nulls, here in UTF-8.
// pg: contrib/hstore/hstore_io.c hstore_to_json [14-18]
pub(super) fn hstore_json(
    value: &[u8],
    context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let hstore = Hstore::new(value)?;
    out.push(b'{');
    for index in 0..hstore.pairs {
        let (key, value) = hstore.pair(index)?;
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        push_json_name(out, context.encoding, key);
        out.extend_from_slice(b": ");
        match value {
            Some(value) => push_json_text(out, context.encoding, value),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
    Ok(())
}

fn push_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    push_escaped(out, text, |byte| {
        (byte == b'"' || byte == b'\\').then_some(b'\\')
    });
    out.push(b'"');
}

/// A key, and its value if that is not null.
type Pair<'a> = (&'a [u8], Option<&'a [u8]>);

/// A value taken apart.
struct Hstore<'a> {
    pairs: usize,
    entries: &'a [u8],
    strings: &'a [u8],
    /// From before 9.0.
    old: bool,
}

impl<'a> Hstore<'a> {
    fn new(value: &'a [u8]) -> Result<Self, ValueError> {
        let size = u32_at(value, 0, "hstore size")?;
        let pairs = (size & COUNT_MASK) as usize;
        let entries = bytes_at(value, 4, 8 * pairs, "hstore entries")?;
        let mut hstore = Hstore {
            pairs,
            entries,
            strings: value.get(4 + entries.len()..).unwrap_or_default(),
            old: false,
        };
        if pairs > 0 && size & NEW_VERSION == 0 {
            let first = u32_at(entries, 0, "hstore entry")?;
            let short = value.len() + 4 < AMBIGUOUS_BYTES_MIN;
            hstore.old = !(short && first & ENTRY_IS_FIRST != 0) && hstore.is_old()?;
        }
        Ok(hstore)
    }

    fn pair(&self, index: usize) -> Result<Pair<'a>, ValueError> {
        if self.old {
            let (start, key, value) = self.old_pair(index)?;
            let key = bytes_at(self.strings, start, key, "hstore key")?;
            let value = value
                .map(|length| bytes_at(self.strings, start + key.len(), length, "hstore value"))
                .transpose()?;
            return Ok((key, value));
        }
        let (key, _) = self.string(2 * index)?;
        let (value, null) = self.string(2 * index + 1)?;
        Ok((key, (!null).then_some(value)))
    }

    /// The string of entry `index`, from where the one before it ends; and whether it is null.
    fn string(&self, index: usize) -> Result<(&'a [u8], bool), ValueError> {
        let entry = u32_at(self.entries, 4 * index, "hstore entry")?;
        let start = match index.checked_sub(1) {
            Some(before) => u32_at(self.entries, 4 * before, "hstore entry")? & ENTRY_END_MASK,
            None => 0,
        };
        if (entry & ENTRY_IS_FIRST != 0) != (index == 0) {
            return Err(invalid("the first entry is not the first"));
        }
        let string = self
            .strings
            .get(start as usize..(entry & ENTRY_END_MASK) as usize)
            .ok_or_else(|| invalid("an entry lies outside the strings"))?;
        Ok((string, entry & ENTRY_IS_NULL != 0))
    }

    /// Where an old pair starts, the length of its key, and of its value if that is not null.
    fn old_pair(&self, index: usize) -> Result<(usize, usize, Option<usize>), ValueError> {
        let lengths = u32_at(self.entries, 8 * index, "hstore entry")?;
        let place = u32_at(self.entries, 8 * index + 4, "hstore entry")?;
        let value = (place & 1 == 0).then_some((lengths >> 16) as usize);
        Ok(((place >> 1) as usize, (lengths & 0xFFFF) as usize, value))
    }

    /// Whether it holds together as an old value: pairs without gaps, keys not getting shorter.
    fn is_old(&self) -> Result<bool, ValueError> {
        let (mut at, mut longest) = (0, 0);
        for index in 0..self.pairs {
            let (start, key, value) = self.old_pair(index)?;
            if start != at || key < longest {
                return Ok(false);
            }
            longest = key;
            at += key + value.unwrap_or(0);
        }
        Ok(at <= self.strings.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_from_before_version_9() {
        let mut value = 2u32.to_le_bytes().to_vec();
        for (key, item, place) in [(1u16, 2u16, 0u32), (2, 0, 3 << 1 | 1)] {
            value.extend_from_slice(&key.to_le_bytes());
            value.extend_from_slice(&item.to_le_bytes());
            value.extend_from_slice(&place.to_le_bytes());
        }
        value.extend_from_slice(b"a12bc");
        let mut out = Vec::new();
        hstore_text(&value, &TextContext::new(15, 6), &mut out).unwrap();
        assert_eq!(out, br#""a"=>"12", "bc"=>NULL"#);
        out.clear();
        hstore_json(&value, &TextContext::new(15, 6), &mut out).unwrap();
        assert_eq!(out, br#"{"a": "12", "bc": null}"#);
    }
}
