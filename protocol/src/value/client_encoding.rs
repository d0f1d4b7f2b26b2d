//! Text in another encoding than its database's, as a server gives it to a client that asks for one.

use std::borrow::Cow;
use std::collections::HashMap;

use super::encoding::{length, own_characters, to_utf8};

const SQL_ASCII: i32 = 0;
const UTF8: i32 = 6;

/// The encodings that can be asked for, which are those that a database can have: PostgreSQL's number, its name, and what else it is called,
/// in small letters and digits alone.
// pg: common/encnames.c pg_encname_tbl, clean_encoding_name [14-18]
const NAMES: &[(i32, &str, &[&str])] = &[
    (SQL_ASCII, "SQL_ASCII", &["sqlascii"]),
    (1, "EUC_JP", &["eucjp"]),
    (2, "EUC_CN", &["euccn"]),
    (3, "EUC_KR", &["euckr"]),
    (4, "EUC_TW", &["euctw"]),
    (5, "EUC_JIS_2004", &["eucjis2004"]),
    (UTF8, "UTF8", &["utf8", "unicode"]),
    (7, "MULE_INTERNAL", &["muleinternal"]),
    (8, "LATIN1", &["latin1", "iso88591"]),
    (9, "LATIN2", &["latin2", "iso88592"]),
    (10, "LATIN3", &["latin3", "iso88593"]),
    (11, "LATIN4", &["latin4", "iso88594"]),
    (12, "LATIN5", &["latin5", "iso88599"]),
    (13, "LATIN6", &["latin6", "iso885910"]),
    (14, "LATIN7", &["latin7", "iso885913"]),
    (15, "LATIN8", &["latin8", "iso885914"]),
    (16, "LATIN9", &["latin9", "iso885915"]),
    (17, "LATIN10", &["latin10", "iso885916"]),
    (18, "WIN1256", &["win1256", "windows1256"]),
    (
        19,
        "WIN1258",
        &["win1258", "windows1258", "abc", "tcvn", "tcvn5712", "vscii"],
    ),
    (20, "WIN866", &["win866", "windows866", "alt"]),
    (21, "WIN874", &["win874", "windows874"]),
    (22, "KOI8R", &["koi8r", "koi8"]),
    (23, "WIN1251", &["win1251", "windows1251", "win"]),
    (24, "WIN1252", &["win1252", "windows1252"]),
    (25, "ISO_8859_5", &["iso88595"]),
    (26, "ISO_8859_6", &["iso88596"]),
    (27, "ISO_8859_7", &["iso88597"]),
    (28, "ISO_8859_8", &["iso88598"]),
    (29, "WIN1250", &["win1250", "windows1250"]),
    (30, "WIN1253", &["win1253", "windows1253"]),
    (31, "WIN1254", &["win1254", "windows1254"]),
    (32, "WIN1255", &["win1255", "windows1255"]),
    (33, "WIN1257", &["win1257", "windows1257"]),
    (34, "KOI8U", &["koi8u"]),
];

/// Characters that PostgreSQL writes as bytes that it reads as another one.
// pg: utils/mb/Unicode utf8_to_euc_jp.map [14-18]
const WRITTEN_TOO: &[(i32, &[u8], &str)] = &[(1, b"\x8F\xA2\xC3", "¦")];

/// An encoding that is asked for by a name that is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no encoding that text can be given in; known are {known}", known = known())]
pub struct UnknownEncoding(pub String);

fn known() -> String {
    let names: Vec<&str> = NAMES.iter().map(|(_, name, _)| *name).collect();
    names.join(", ")
}

/// The encoding that a reader wants text in.
#[derive(Debug)]
pub struct ClientEncoding {
    number: i32,
    name: &'static str,
    /// Bytes of the characters beyond ASCII, but for UTF8 and SQL_ASCII.
    bytes: HashMap<char, Vec<u8>>,
    /// Bytes of those that are two in Unicode: EUC_JIS_2004 has some.
    pairs: HashMap<(char, char), Vec<u8>>,
}

impl ClientEncoding {
    /// The encoding with this name, as `client_encoding` knows it: case and punctuation do not
    /// matter.
    pub fn named(name: &str) -> Result<Self, UnknownEncoding> {
        let clean: String = name
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|character| character.to_ascii_lowercase())
            .collect();
        let found = NAMES
            .iter()
            .find(|(_, _, names)| names.contains(&clean.as_str()));
        let (number, name, _) = found.ok_or_else(|| UnknownEncoding(name.to_owned()))?;
        let mut found = Self {
            number: *number,
            name,
            bytes: HashMap::new(),
            pairs: HashMap::new(),
        };
        found.learn_characters();
        Ok(found)
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// `text` of a database with encoding `from` in this one; none if it is not valid there, or
    /// has a character that is not in here. With `SQL_ASCII` on either side nothing is changed, and
    /// with `MULE_INTERNAL` on one side ASCII alone can be given. Bytes that PostgreSQL would write
    /// and could not read again are not given either: characters beyond plane 7 of `EUC_TW`, control
    /// characters in `EUC_JIS_2004`.
    // pg: utils/mb/mbutils.c perform_default_encoding_conversion, pg_server_to_any [14-18]
    #[must_use]
    pub fn convert<'a>(&self, from: i32, text: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        if from == self.number || from == SQL_ASCII || self.number == SQL_ASCII || text.is_ascii() {
            return Some(Cow::Borrowed(text));
        }
        let text = to_utf8(from, text)?;
        if self.number == UTF8 {
            return Some(match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            });
        }
        let mut converted = Vec::with_capacity(text.len());
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            if let Ok(byte) = u8::try_from(character)
                && byte.is_ascii()
            {
                converted.push(byte);
                continue;
            }
            let pair = characters
                .peek()
                .and_then(|next| self.pairs.get(&(character, *next)));
            if pair.is_some() {
                characters.next();
            }
            converted.extend_from_slice(pair.or_else(|| self.bytes.get(&character))?);
        }
        Some(Cow::Owned(converted))
    }

    /// Learns every character beyond ASCII of the encoding, with its bytes.
    fn learn_characters(&mut self) {
        let encoding = self.number;
        if let Some(characters) = own_characters(encoding) {
            for (bytes, text) in characters.all() {
                self.learn(&bytes, text);
            }
            return;
        }
        if encoding == UTF8 {
            return;
        }
        let mut add = |bytes: &[u8]| {
            if let Some(text) = to_utf8(encoding, bytes) {
                self.learn(bytes, &text);
            }
        };
        for lead in 0x80..=0xFF {
            match length(encoding, lead) {
                1 => add(&[lead]),
                2 => (0xA1..=0xFE).for_each(|last| add(&[lead, last])),
                _ => {}
            }
        }
        if length(encoding, 0x8F) == 3 {
            for middle in 0xA1..=0xFE {
                (0xA1..=0xFE).for_each(|last| add(&[0x8F, middle, last]));
            }
        }
        for (_, bytes, text) in WRITTEN_TOO.iter().filter(|(of, ..)| *of == encoding) {
            self.learn(bytes, text);
        }
    }

    /// Learns one character. Of two that are read alike the first stays, which is the plainer one.
    fn learn(&mut self, bytes: &[u8], text: &str) {
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(one), None) => {
                self.bytes.entry(one).or_insert_with(|| bytes.to_vec());
            }
            (Some(one), Some(two)) => {
                let pair = self.pairs.entry((one, two));
                pair.or_insert_with(|| bytes.to_vec());
            }
            (None, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_the_server_finds_them() {
        for (name, number) in [
            ("utf-8", 6),
            ("UNICODE", 6),
            ("Latin-1", 8),
            ("ISO 8859-15", 16),
            ("win1252", 24),
            ("EUC_JP", 1),
            ("euc_tw", 4),
            ("euc-jis-2004", 5),
            ("Mule_Internal", 7),
        ] {
            assert_eq!(ClientEncoding::named(name).unwrap().number, number);
        }
        let error = ClientEncoding::named("EBCDIC").unwrap_err().to_string();
        assert!(
            error.contains("EBCDIC") && error.contains("LATIN1"),
            "{error}"
        );
    }

    /// Every encoding that a database can have, by its number and by the name the server prints.
    // pg: mb/pg_wchar.h pg_enc, PG_ENCODING_BE_LAST [14-18]
    #[test]
    fn every_encoding_of_a_database_is_known() {
        for number in 0..=34 {
            let (_, name, _) = NAMES.iter().find(|(of, ..)| *of == number).unwrap();
            for name in [(*name).to_owned(), name.to_lowercase()] {
                assert_eq!(ClientEncoding::named(&name).unwrap().number, number);
            }
        }
    }

    #[test]
    fn text_is_converted_or_refused() {
        let convert = |to: &str, from: i32, text: &[u8]| {
            let to = ClientEncoding::named(to).unwrap();
            to.convert(from, text).map(Cow::into_owned)
        };
        assert_eq!(convert("utf8", 8, b"\xE9"), Some("é".into()));
        assert_eq!(convert("latin1", 6, "é".as_bytes()), Some(vec![0xE9]));
        assert_eq!(convert("latin1", 6, "€".as_bytes()), None);
        assert_eq!(convert("latin9", 24, b"\x80"), Some(vec![0xA4]));
        assert_eq!(
            convert("euc_jp", 6, "aあ".as_bytes()),
            Some(vec![b'a', 0xA4, 0xA2])
        );
        assert_eq!(
            convert("euc_tw", 6, "a一乂".as_bytes()),
            Some(b"a\xC4\xA1\x8E\xA2\xA1\xA1".to_vec())
        );
        // Two characters that are one there, and the first of them alone.
        assert_eq!(
            convert("euc_jis_2004", 6, "か\u{309A}かb".as_bytes()),
            Some(b"\xA4\xF7\xA4\xABb".to_vec())
        );
        assert_eq!(
            convert("mule_internal", 6, b"ascii"),
            Some(b"ascii".to_vec())
        );
        assert_eq!(convert("mule_internal", 6, "é".as_bytes()), None);
        assert_eq!(
            convert("euc_jp", 6, "¦￤".as_bytes()),
            Some(b"\x8F\xA2\xC3\x8F\xA2\xC3".to_vec())
        );
        // From an encoding to itself nothing is looked at.
        assert_eq!(convert("utf8", 6, b"\xE9"), Some(vec![0xE9]));
        assert_eq!(convert("latin1", 6, b"\xE9"), None);
        assert_eq!(convert("utf8", 0, b"\xE9"), Some(vec![0xE9]));
        assert_eq!(convert("sql_ascii", 6, b"\xE9"), Some(vec![0xE9]));
    }
}
