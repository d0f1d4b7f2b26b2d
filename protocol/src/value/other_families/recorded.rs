//! Values as real servers stored and printed them (recorded by `testdata/values/record.sql`), and
//! what becomes of them when their bytes are damaged.

use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::TestRng;

use super::*;
use crate::schema::OutputFunction;
use crate::value::{TextContext, ValueError, functions};

/// A value as it was recorded.
struct Recorded {
    symbol: String,
    library: String,
    stored: Vec<u8>,
    text: Vec<u8>,
}

impl Recorded {
    fn function(&self) -> TextFn {
        functions::lookup(&OutputFunction {
            symbol: self.symbol.clone(),
            library: self.library.clone(),
        })
        .unwrap_or_else(|| panic!("no function for {} of {:?}", self.symbol, self.library))
    }

    fn print(&self, stored: &[u8], major: u16) -> Result<Vec<u8>, ValueError> {
        let mut out = Vec::new();
        self.function()(stored, &TextContext::new(major, 6), &mut out)?;
        Ok(out)
    }
}

/// The values recorded with one major version.
fn recorded(major: u16) -> Vec<Recorded> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/values/{major}.tsv"));
    let lines = std::fs::read_to_string(&path).unwrap();
    let values = lines.lines().map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [symbol, library, stored, text] = fields[..] else {
            panic!("{}: {line}", path.display());
        };
        Recorded {
            symbol: symbol.to_owned(),
            library: library.to_owned(),
            stored: from_hex(stored),
            text: unescape(text),
        }
    });
    values.collect()
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digits).collect()
}

/// Undoes the escapes of COPY's text format.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next().unwrap() {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 8,
                b'f' => 12,
                b'v' => 11,
                other => other,
            },
            _ => byte,
        });
    }
    out
}

#[test]
fn prints_what_the_server_printed() {
    let mut wrong = 0;
    for major in [14, 15, 16, 17, 18] {
        let values = recorded(major);
        assert!(major != 15 || values.len() > 2500);
        for value in values {
            let printed = value.print(&value.stored, major);
            if printed.as_ref() != Ok(&value.text) {
                wrong += 1;
                let printed = printed.map(|text| String::from_utf8_lossy(&text).into_owned());
                let expected = String::from_utf8_lossy(&value.text);
                println!("{major} {}: {printed:?}, not {expected:?}", value.symbol);
            }
        }
    }
    assert_eq!(wrong, 0);
}

/// Text stays within a multiple of the value: nothing is printed twice from the same bytes.
fn is_bounded(value: &Recorded, stored: &[u8]) {
    if let Ok(text) = value.print(stored, 17) {
        // 12 bytes of a document can be a number of very many digits.
        let number = if value.symbol.starts_with("json") {
            150_000
        } else {
            0
        };
        assert!(
            text.len() <= 64 + 24 * stored.len() + number * (stored.len() / 12),
            "{}: {} bytes from {}",
            value.symbol,
            text.len(),
            stored.len()
        );
    }
}

#[test]
fn damaged_values_end_in_an_error_or_in_some_text() {
    let mut random = TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    for value in recorded(15).iter().chain(&recorded(17)) {
        for length in 0..value.stored.len().min(60) {
            is_bounded(value, &value.stored[..length]);
        }
        for _ in 0..40 {
            let mut stored = value.stored.clone();
            for _ in 0..1 + random.next_u32() % 3 {
                let Some(last) = stored.len().checked_sub(1) else {
                    break;
                };
                // Headers and entries are where it hurts.
                let reach = if random.next_u32() & 1 == 0 {
                    last.min(40)
                } else {
                    last
                };
                let at = random.next_u32() as usize % (reach + 1);
                match random.next_u32() % 4 {
                    0 => stored[at] = random.next_u32() as u8,
                    1 => stored[at] ^= 1 << (random.next_u32() % 8),
                    2 => stored[at] = stored[at].wrapping_add(1),
                    _ => {
                        stored.remove(at);
                    }
                }
            }
            is_bounded(value, &stored);
        }
    }
}

proptest! {
    #[test]
    fn random_bytes(stored in prop::collection::vec(prop_oneof![0u8..5, any::<u8>()], 0..200)) {
        let mut seen = std::collections::HashSet::new();
        for value in recorded(18).iter().chain(&recorded(17)) {
            if seen.insert(value.symbol.clone()) {
                is_bounded(value, &stored);
            }
        }
    }
}
