//! From a database's encoding to UTF-8, which JSON needs.
//!
//! The tables are a library's. Where PostgreSQL's own are different, [`CORRECTED`] and
//! [`REFUSED`] say so; those that the library lacks are in [`Characters`].

mod characters;

use std::borrow::Cow;

use encoding_rs::Encoding;

use characters::Characters;

/// Bytes below this are ASCII in every encoding a database can have.
const ASCII_END: u8 = 0x80;
/// Bytes below this, and not ASCII, are control characters in the ISO 8859 encodings.
const CONTROLS_END: u8 = 0xA0;

/// How an encoding is read.
enum Reader {
    Utf8,
    /// Each byte is the character with its number.
    Latin1,
    /// A library's encoding.
    Table(&'static Encoding),
    /// One that the library only has with Windows' characters where ISO 8859 has controls.
    IsoTable(&'static Encoding),
    /// One that the library does not have.
    Own(&'static Characters),
    /// Only ASCII can be read.
    Ascii,
}

// pg: mb/pg_wchar.h pg_enc [14-18]
fn reader(encoding: i32) -> Reader {
    use encoding_rs as e;
    Reader::Table(match encoding {
        // SQL_ASCII says nothing of its bytes; what is UTF-8 is taken for it.
        0 | 6 => return Reader::Utf8,
        1 => e::EUC_JP,
        2 => e::GBK,
        3 => e::EUC_KR,
        8 => return Reader::Latin1,
        9 => e::ISO_8859_2,
        10 => e::ISO_8859_3,
        11 => e::ISO_8859_4,
        12 => return Reader::IsoTable(e::WINDOWS_1254),
        13 => e::ISO_8859_10,
        14 => e::ISO_8859_13,
        15 => e::ISO_8859_14,
        16 => e::ISO_8859_15,
        17 => e::ISO_8859_16,
        18 => e::WINDOWS_1256,
        19 => e::WINDOWS_1258,
        20 => e::IBM866,
        21 => e::WINDOWS_874,
        22 => e::KOI8_R,
        23 => e::WINDOWS_1251,
        24 => e::WINDOWS_1252,
        25 => e::ISO_8859_5,
        26 => e::ISO_8859_6,
        27 => e::ISO_8859_7,
        28 => e::ISO_8859_8,
        29 => e::WINDOWS_1250,
        30 => e::WINDOWS_1253,
        31 => e::WINDOWS_1254,
        32 => e::WINDOWS_1255,
        33 => e::WINDOWS_1257,
        34 => e::KOI8_U,
        // MULE_INTERNAL, which PostgreSQL itself cannot convert to UTF-8, and numbers no database has.
        _ => return Characters::of(encoding).map_or(Reader::Ascii, Reader::Own),
    })
}

/// Characters that PostgreSQL reads in another way than the library, or reads at all: the encoding,
/// the bytes of the first one, the characters from there on.
// pg: utils/mb/Unicode [14-18], as servers convert
const CORRECTED: &[(i32, &[u8], &str)] = &[
    (1, b"\x8F\xA2\xC3", "￤"),
    (1, b"\x8F\xF3\xF3", "ⅰⅱⅲⅳⅴⅵⅶⅷⅸⅹⅠⅡ"),
    (
        1,
        b"\x8F\xF4\xA1",
        "ⅢⅣⅤⅥⅦⅧⅨⅩ＇＂㈱№℡炻仼僴凬匇匤\u{FA0E}咊坙\u{FA0F}\u{FA10}增寬峵嵓\u{FA11}德悅愠敎昻晥\u{FA12}\u{F929}栁\u{FA13}\u{FA14}橫櫢淸淲瀨\u{FA15}\u{FA16}甁皂皞\u{FA17}礰\u{FA18}\u{FA19}\u{FA1A}\u{FA1B}竧\u{FA1C}\u{FA1D}綠緖\u{FA1E}荢\u{FA1F}薰\u{FA20}\u{FA21}蠇\u{FA22}譿賴赶\u{FA23}\u{FA24}\u{FA25}郞\u{FA26}鄕\u{FA27}\u{FA28}閒\u{F9DC}\u{FA29}霻靍靑\u{FA2A}\u{FA2B}\u{FA2C}馞髙魲\u{FA2D}黑",
    ),
    (2, b"\xA1\xA4", "・"),
    (2, b"\xA1\xAA", "―"),
    (3, b"\xA2\xE8", "㉾"),
    (34, b"\xAE", "╝"),
    (34, b"\xBE", "╬"),
];

/// Bytes that are no characters to PostgreSQL, and controls to the library.
const REFUSED: &[(i32, &[u8])] = &[
    (19, b"\x81\x8A\x8D\x8E\x8F\x90\x9A\x9D\x9E"),
    (
        21,
        b"\x81\x82\x83\x84\x86\x87\x88\x89\x8A\x8B\x8C\x8D\x8E\x8F\x90\x98\x99\x9A\x9B\x9C\x9D\x9E\x9F",
    ),
    (23, b"\x98"),
    (24, b"\x81\x8D\x8F\x90\x9D"),
    (29, b"\x81\x83\x88\x90\x98"),
    (30, b"\x81\x88\x8A\x8C\x8D\x8E\x8F\x90\x98\x9A\x9C\x9D\x9E\x9F"),
    (31, b"\x81\x8D\x8E\x8F\x90\x9D\x9E"),
    (32, b"\x81\x8A\x8C\x8D\x8E\x8F\x90\x9A\x9C\x9D\x9E\x9F\xCA"),
    (33, b"\x81\x83\x88\x8A\x8C\x90\x98\x9A\x9C\x9F"),
];

/// `bytes` of a database with this encoding as UTF-8; none if they are not valid in it, or if the
/// encoding is MULE_INTERNAL, which PostgreSQL itself cannot convert to UTF-8.
#[must_use]
pub fn to_utf8(encoding: i32, bytes: &[u8]) -> Option<Cow<'_, str>> {
    let reader = reader(encoding);
    if matches!(reader, Reader::Utf8) || bytes.is_ascii() {
        return std::str::from_utf8(bytes).ok().map(Cow::Borrowed);
    }
    match reader {
        Reader::Utf8 | Reader::Ascii => None,
        Reader::Latin1 => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        Reader::Table(table) if CORRECTED.iter().any(|(of, ..)| *of == encoding) => {
            by_character(encoding, bytes, |character, text| {
                match corrected(encoding, character) {
                    None if is_librarys_own(encoding, character) => return None,
                    Some(character) => text.push(character),
                    None => text.push_str(
                        &table.decode_without_bom_handling_and_without_replacement(character)?,
                    ),
                }
                Some(())
            })
        }
        Reader::Own(characters) => by_character(encoding, bytes, |character, text| {
            match character {
                [ascii] if ascii.is_ascii() => text.push(char::from(*ascii)),
                _ => text.push_str(characters.find(character)?),
            }
            Some(())
        }),
        Reader::Table(table) => {
            let refused = REFUSED.iter().find(|(of, _)| *of == encoding);
            if refused.is_some_and(|(_, refused)| bytes.iter().any(|byte| refused.contains(byte))) {
                return None;
            }
            table.decode_without_bom_handling_and_without_replacement(bytes)
        }
        Reader::IsoTable(table) => bytes
            .iter()
            .map(|byte| {
                if (ASCII_END..CONTROLS_END).contains(byte) {
                    return Some(char::from(*byte));
                }
                let character = [*byte];
                let text = table.decode_without_bom_handling_and_without_replacement(&character)?;
                text.chars().next()
            })
            .collect::<Option<String>>()
            .map(Cow::Owned),
    }
}

/// Character for character, each as `push` reads it.
fn by_character<'a>(
    encoding: i32,
    bytes: &[u8],
    push: impl Fn(&[u8], &mut String) -> Option<()>,
) -> Option<Cow<'a, str>> {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(lead) = rest.first() {
        let (character, after) = rest.split_at_checked(length(encoding, *lead))?;
        rest = after;
        push(character, &mut text)?;
    }
    Some(Cow::Owned(text))
}

/// The characters of an encoding that the library does not have.
pub(super) fn own_characters(encoding: i32) -> Option<&'static Characters> {
    Characters::of(encoding)
}

/// Bytes of the character that begins with `lead`.
// pg: common/wchar.c pg_euc_mblen, pg_euctw_mblen [14-18]
pub(super) const fn length(encoding: i32, lead: u8) -> usize {
    match (encoding, lead) {
        (_, 0..ASCII_END) => 1,
        (4, 0x8E) => 4,
        (1 | 5, 0x8F) => 3,
        (1..=5, _) => 2,
        _ => 1,
    }
}

/// Whether a character is one of the library's that PostgreSQL does not have: rows of EUC_JP that a
/// vendor added, and what GBK has beyond GB 2312 and Windows beyond KS X 1001.
// pg: utils/mb/Unicode euc_jp_to_utf8.map, euc_cn_to_utf8.map, euc_kr_to_utf8.map [14-18]
const fn is_librarys_own(encoding: i32, character: &[u8]) -> bool {
    let [lead, last] = character else {
        return false;
    };
    match (encoding, *lead) {
        (1, 0xF5..) | (2 | 3, 0x80..=0xA0) | (2, 0xAA..=0xAF | 0xF8..) => true,
        (2, 0xA2) => matches!(last, 0..=0xB0 | 0xE3 | 0xE4 | 0xEF | 0xF0 | 0xFD..),
        (2, 0xA4) => *last >= 0xF4,
        (2, 0xA5) => *last >= 0xF7,
        (2, 0xA6) => matches!(last, 0xB9..=0xC0 | 0xD9..),
        (2, 0xA7) => matches!(last, 0xC2..=0xD0 | 0xF2..),
        (2, 0xA8) => matches!(last, 0xBB..=0xC4 | 0xEA..),
        (2, 0xA9) => matches!(last, 0..=0xA3 | 0xF0..),
        (2, 0xD7) => *last >= 0xFA,
        _ => false,
    }
}

fn corrected(encoding: i32, character: &[u8]) -> Option<char> {
    let (last, lead) = character.split_last()?;
    CORRECTED.iter().find_map(|(of, first, characters)| {
        let (first, first_lead) = first.split_last()?;
        if *of != encoding || first_lead != lead {
            return None;
        }
        characters.chars().nth(last.checked_sub(*first)?.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_read_or_refused() {
        let read = |encoding, bytes| to_utf8(encoding, bytes).map(Cow::into_owned);
        assert_eq!(read(6, "é".as_bytes()).as_deref(), Some("é"));
        assert_eq!(read(6, b"\xE9"), None);
        assert_eq!(read(0, b"\xE9"), None);
        assert_eq!(read(8, b"a\xE9\x80").as_deref(), Some("aé\u{80}"));
        assert_eq!(read(12, b"\xFE\x80").as_deref(), Some("ş\u{80}"));
        assert_eq!(read(1, b"\xA4\xA2").as_deref(), Some("あ"));
        assert_eq!(read(22, b"\xC1").as_deref(), Some("а"));
        assert_eq!(
            read(4, b"a\xC4\xA1\x8E\xA2\xA1\xA1").as_deref(),
            Some("a一乂")
        );
        assert_eq!(read(4, b"\x8E\xA1\xC4\xA1").as_deref(), Some("一"));
        assert_eq!(read(4, b"\x8E\xA3\xA1\xA1"), None);
        assert_eq!(
            read(5, b"\xA4\xF7b\x8E\xB1").as_deref(),
            Some("か\u{309A}bｱ")
        );
        assert_eq!(read(5, b"\x8F\xA1\xA1").as_deref(), Some("\u{20089}"));
        assert_eq!(read(5, b"\xA4"), None);
        assert_eq!(read(7, b"ascii").as_deref(), Some("ascii"));
        assert_eq!(read(7, b"\x81\xE9"), None);
        assert_eq!(read(1, b"a\x8F\xA2"), None);
        assert_eq!(read(1, b"\xFC\xFC"), None);
        assert_eq!(read(2, b"\xB0\xA1").as_deref(), Some("啊"));
        assert_eq!(read(2, b"\xA8\xBD"), None);
        assert_eq!(read(3, b"\x81\xA1"), None);
        assert_eq!(read(24, b"\x80").as_deref(), Some("€"));
        assert_eq!(read(24, b"\x81"), None);
    }
}
