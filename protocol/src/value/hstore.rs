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
    ValueError::Invalid {
        type_name: "hstore",
        problem,
    }
}

/// A value taken apart.
struct Hstore<'a> {
    pairs: usize,
    entries: &'a [u8],
    strings: &'a [u8],
}

/// `hstore_out`.
pub(super) fn hstore_text(
    value: &[u8],
    _context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let size = u32_at(value, 0, "hstore size")?;
    let pairs = (size & COUNT_MASK) as usize;
    let entries = bytes_at(value, 4, 8 * pairs, "hstore entries")?;
    let hstore = Hstore {
        pairs,
        entries,
        strings: value.get(4 + entries.len()..).unwrap_or_default(),
    };
    if pairs == 0 {
        return Ok(());
    }
    let first = u32_at(entries, 0, "hstore entry")?;
    let surely_new = size & NEW_VERSION != 0
        || (first & ENTRY_IS_FIRST != 0 && value.len() + 4 < AMBIGUOUS_BYTES_MIN);
    if !surely_new && hstore.is_old()? {
        return hstore.print_old(out);
    }
    hstore.print(out)
}

impl Hstore<'_> {
    fn print(&self, out: &mut Vec<u8>) -> Result<(), ValueError> {
        let mut start = 0;
        for pair in 0..self.pairs {
            let (key_end, _) = self.end(2 * pair, start)?;
            let (value_end, null) = self.end(2 * pair + 1, key_end)?;
            let key = &self.strings[start..key_end];
            let value = (!null).then(|| &self.strings[key_end..value_end]);
            push_pair(out, pair, key, value);
            start = value_end;
        }
        Ok(())
    }

    /// Where the string of entry `index` ends, if it starts at `start`; and whether it is null.
    fn end(&self, index: usize, start: usize) -> Result<(usize, bool), ValueError> {
        let entry = u32_at(self.entries, 4 * index, "hstore entry")?;
        let end = (entry & ENTRY_END_MASK) as usize;
        if (entry & ENTRY_IS_FIRST != 0) != (index == 0) {
            return Err(invalid("the first entry is not the first"));
        }
        if end < start || end > self.strings.len() {
            return Err(invalid("an entry lies outside the strings"));
        }
        Ok((end, entry & ENTRY_IS_NULL != 0))
    }

    /// Key, then value (if not null) of an old pair, as lengths, and where it starts.
    fn old_pair(&self, pair: usize) -> Result<(usize, usize, Option<usize>), ValueError> {
        let lengths = u32_at(self.entries, 8 * pair, "hstore entry")?;
        let place = u32_at(self.entries, 8 * pair + 4, "hstore entry")?;
        let value = (place & 1 == 0).then_some((lengths >> 16) as usize);
        Ok(((place >> 1) as usize, (lengths & 0xFFFF) as usize, value))
    }

    /// Whether it holds together as an old value: pairs without gaps, keys not getting shorter.
    fn is_old(&self) -> Result<bool, ValueError> {
        let (mut at, mut longest) = (0, 0);
        for pair in 0..self.pairs {
            let (start, key, value) = self.old_pair(pair)?;
            if start != at || key < longest {
                return Ok(false);
            }
            longest = key;
            at += key + value.unwrap_or(0);
        }
        Ok(at <= self.strings.len())
    }

    fn print_old(&self, out: &mut Vec<u8>) -> Result<(), ValueError> {
        for pair in 0..self.pairs {
            let (start, key, value) = self.old_pair(pair)?;
            let key = bytes_at(self.strings, start, key, "hstore key")?;
            let value = value
                .map(|length| bytes_at(self.strings, start + key.len(), length, "hstore value"))
                .transpose()?;
            push_pair(out, pair, key, value);
        }
        Ok(())
    }
}

fn push_pair(out: &mut Vec<u8>, index: usize, key: &[u8], value: Option<&[u8]>) {
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

fn push_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    push_escaped(out, text, |byte| {
        (byte == b'"' || byte == b'\\').then_some(b'\\')
    });
    out.push(b'"');
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
    }
}
