//! Characters of the encodings that no library here knows, as a server reads them:
//! `testdata/values/characters.sql` makes the files.

use std::sync::LazyLock;

/// The least that the last byte of a character can be.
const FIRST: u8 = 0xA1;

static EUC_TW: LazyLock<Characters> =
    LazyLock::new(|| Characters::read(include_str!("euc_tw.txt")));
static EUC_JIS_2004: LazyLock<Characters> =
    LazyLock::new(|| Characters::read(include_str!("euc_jis_2004.txt")));

/// The characters of one encoding beyond ASCII.
pub(in crate::value) struct Characters {
    /// Their bytes as a number, in rising order, and what they are in UTF-8.
    by_code: Vec<(u32, &'static str)>,
}

impl Characters {
    /// The characters of the encoding with this number.
    // pg: mb/pg_wchar.h pg_enc [14-18]
    pub(super) fn of(encoding: i32) -> Option<&'static Self> {
        match encoding {
            4 => Some(&EUC_TW),
            5 => Some(&EUC_JIS_2004),
            _ => None,
        }
    }

    /// Each character: its bytes and what it is in UTF-8, in the order of the bytes, the shorter
    /// ones first.
    pub(in crate::value) fn all(&self) -> impl Iterator<Item = (Vec<u8>, &'static str)> + '_ {
        self.by_code.iter().map(|(code, text)| {
            let bytes = code.to_be_bytes();
            let used = bytes.iter().skip_while(|byte| **byte == 0);
            (used.copied().collect(), *text)
        })
    }

    /// Reads a file: its lines say what they are themselves.
    fn read(file: &'static str) -> Self {
        let mut by_code = Vec::new();
        for (bytes, text) in file.lines().filter_map(|line| line.split_once('\t')) {
            if let Some(Ok(code)) = bytes.strip_prefix('=').map(parse) {
                by_code.push((code, text));
            } else if let Ok(lead) = parse(bytes) {
                let characters = text.split_inclusive(|_| true);
                for (last, character) in (FIRST..=u8::MAX).zip(characters) {
                    if character != " " {
                        by_code.push((lead << 8 | u32::from(last), character));
                    }
                }
            }
        }
        by_code.sort_unstable_by_key(|(code, _)| *code);
        Characters { by_code }
    }

    /// What one character's bytes are, if they are one.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<&'static str> {
        // The first plane of EUC_TW may be named or not.
        let bytes = match bytes {
            [0x8E, 0xA1, plain @ ..] if plain.len() == 2 => plain,
            _ => bytes,
        };
        let code = bytes
            .iter()
            .fold(0, |code: u32, byte| code << 8 | u32::from(*byte));
        let at = self.by_code.binary_search_by_key(&code, |(code, _)| *code);
        let (_, character) = self.by_code.get(at.ok()?)?;
        Some(character)
    }
}

fn parse(hex: &str) -> Result<u32, std::num::ParseIntError> {
    u32::from_str_radix(hex, 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_of_the_files_is_found() {
        // As many as a server reads of all that could be one, each once.
        for (encoding, count) in [(4, 5864 + 7650), (5, 8797 + 2436 + 63)] {
            let characters = Characters::of(encoding).unwrap();
            assert_eq!(characters.by_code.len(), count);
            assert!(characters.by_code.is_sorted_by(|(a, _), (b, _)| a < b));
            for (code, character) in &characters.by_code {
                let bytes = code.to_be_bytes();
                let used = bytes.iter().position(|byte| *byte != 0).unwrap();
                assert_eq!(characters.find(&bytes[used..]), Some(*character));
            }
        }
    }
}
