//! From a database's encoding to UTF-8, which JSON needs.

use std::borrow::Cow;

use encoding_rs::Encoding;

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
        // EUC_TW, EUC_JIS_2004, MULE_INTERNAL, and numbers no database has.
        _ => return Reader::Ascii,
    })
}

/// `bytes` of a database with this encoding as UTF-8; none if they are not valid in it.
#[must_use]
pub fn to_utf8(encoding: i32, bytes: &[u8]) -> Option<Cow<'_, str>> {
    let reader = reader(encoding);
    if matches!(reader, Reader::Utf8) || bytes.is_ascii() {
        return std::str::from_utf8(bytes).ok().map(Cow::Borrowed);
    }
    match reader {
        Reader::Utf8 | Reader::Ascii => None,
        Reader::Latin1 => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        Reader::Table(table) => table.decode_without_bom_handling_and_without_replacement(bytes),
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
        assert_eq!(read(4, b"ascii").as_deref(), Some("ascii"));
        assert_eq!(read(4, b"\xA4\xA2"), None);
    }
}
