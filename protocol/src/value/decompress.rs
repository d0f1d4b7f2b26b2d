//! Decompression of values and page images, as PostgreSQL stores them: pglz and LZ4 blocks.
//!
//! The raw size always comes from outside beside the compressed bytes. It is refused before
//! anything is allocated if no input of that length could produce it, and afterwards the output
//! must have exactly that size and the input must be used up.

use super::ValueError;
use crate::event::CompressionMethod;

/// The longest match of pglz.
const PGLZ_MATCH_BYTES_MAX: u64 = 18 + 255;
/// Most bytes that one byte of LZ4 input can stand for.
const LZ4_EXPANSION_MAX: u64 = 255;

/// Decompresses `stored` and appends the `raw_size` bytes it holds to `out`.
///
/// On an error `out` is as it was.
pub fn decompress(
    method: CompressionMethod,
    raw_size: u32,
    stored: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let raw_bytes = raw_size as usize;
    match method {
        CompressionMethod::Pglz => decompress_pglz(stored, raw_bytes, out),
        CompressionMethod::Lz4 => decompress_lz4(stored, raw_bytes, out),
    }
}

/// The same, but a value of more than `value_bytes_max` bytes is refused before anything is
/// allocated.
pub fn decompress_within(
    value_bytes_max: u64,
    method: CompressionMethod,
    raw_size: u32,
    stored: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let bytes = u64::from(raw_size);
    if bytes > value_bytes_max {
        let limit = value_bytes_max;
        return Err(ValueError::TooLarge { bytes, limit });
    }
    decompress(method, raw_size, stored, out)
}

/// Decompresses pglz data of exactly `raw_bytes` bytes and appends them to `out`.
///
/// A control byte announces eight items, lowest bit first: 0 is a literal byte, 1 a match of two
/// bytes (length - 3 in the low nibble of the first, the offset's upper four bits in its high
/// nibble, its lower eight in the second) or of three, if the nibble is 15 (15 + 3 + third byte).
// pg: common/pg_lzcompress.c [14-18]
pub fn decompress_pglz(
    stored: &[u8],
    raw_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    // Eight matches of three bytes need a control byte, so this is generous.
    let possible = (stored.len() as u64 / 3 + 1) * PGLZ_MATCH_BYTES_MAX;
    let bad = ValueError::BadCompression("pglz");
    in_place(raw_bytes, possible, out, bad, |target| {
        pglz_into(stored, target)
    })
}

/// Decompresses an LZ4 block of exactly `raw_bytes` bytes and appends them to `out`.
pub fn decompress_lz4(
    stored: &[u8],
    raw_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let possible = stored.len() as u64 * LZ4_EXPANSION_MAX;
    let bad = ValueError::BadCompression("lz4");
    in_place(raw_bytes, possible, out, bad, |target| {
        lz4_flex::block::decompress_into(stored, target)
            .is_ok_and(|written| written == target.len())
    })
}

/// Appends `raw_bytes` bytes to `out` and lets `fill` write them; takes them back if it fails.
fn in_place(
    raw_bytes: usize,
    possible_bytes: u64,
    out: &mut Vec<u8>,
    bad: ValueError,
    fill: impl FnOnce(&mut [u8]) -> bool,
) -> Result<(), ValueError> {
    if raw_bytes as u64 > possible_bytes {
        return Err(bad);
    }
    let start = out.len();
    out.resize(start + raw_bytes, 0);
    if fill(&mut out[start..]) {
        return Ok(());
    }
    out.truncate(start);
    Err(bad)
}

/// Fills `target` from pglz data; false if the two do not fit each other exactly.
fn pglz_into(stored: &[u8], target: &mut [u8]) -> bool {
    let (mut read, mut written) = (0, 0);
    while read < stored.len() && written < target.len() {
        let mut control = stored[read];
        read += 1;
        if control == 0
            && let Some(from) = stored.get(read..read + 8)
            && let Some(to) = target.get_mut(written..written + 8)
        {
            to.copy_from_slice(from);
            read += 8;
            written += 8;
            continue;
        }
        for _ in 0..8 {
            if read >= stored.len() || written >= target.len() {
                break;
            }
            if control & 1 == 0 {
                target[written] = stored[read];
                read += 1;
                written += 1;
            } else {
                let Some((length, distance, used)) = pglz_match(&stored[read..]) else {
                    return false;
                };
                if distance == 0 || distance > written || length > target.len() - written {
                    return false;
                }
                copy_match(target, written, distance, length);
                read += used;
                written += length;
            }
            control >>= 1;
        }
    }
    read == stored.len() && written == target.len()
}

/// Length, distance back, and bytes used of the match at the start of `input`.
fn pglz_match(input: &[u8]) -> Option<(usize, usize, usize)> {
    let (&first, &second) = (input.first()?, input.get(1)?);
    let distance = usize::from(first & 0xF0) << 4 | usize::from(second);
    let length = usize::from(first & 0x0F) + 3;
    if length < 18 {
        return Some((length, distance, 2));
    }
    Some((length + usize::from(*input.get(2)?), distance, 3))
}

/// Copies `length` bytes from `distance` before `at` to `at`; the two may overlap, which repeats
/// the bytes between them. The caller has checked `distance` and `length`.
fn copy_match(target: &mut [u8], at: usize, distance: usize, length: usize) {
    // Most matches are short: one copy of a fixed size is a load and a store. What it writes too
    // much is written over by what follows.
    if length <= 16 && distance >= 16 && at + 16 <= target.len() {
        target.copy_within(at - distance..at - distance + 16, at);
        return;
    }
    if distance == 1 {
        let byte = target[at - 1];
        target[at..at + length].fill(byte);
        return;
    }
    let source = at - distance;
    let mut done = 0;
    while done < length {
        // What has been copied already repeats the pattern, so each step can be twice as long.
        let step = (distance + done).min(length - done);
        target.copy_within(source..source + step, at + done);
        done += step;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pglz(stored: &[u8], raw_bytes: usize) -> Result<Vec<u8>, ValueError> {
        let mut out = b"kept".to_vec();
        let result = decompress_pglz(stored, raw_bytes, &mut out);
        if result.is_err() {
            assert_eq!(out, b"kept");
        }
        result.map(|()| out.split_off(4))
    }

    /// The format's own definition, a byte at a time.
    fn pglz_slowly(stored: &[u8], raw_bytes: usize) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut input = stored.iter().copied();
        'all: while let Some(control) = input.next() {
            for bit in 0..8 {
                if control >> bit & 1 == 0 {
                    let Some(byte) = input.next() else { break 'all };
                    out.push(byte);
                } else {
                    let Some(first) = input.next() else {
                        break 'all;
                    };
                    let distance = (usize::from(first) & 0xF0) << 4 | usize::from(input.next()?);
                    let mut length = usize::from(first & 15) + 3;
                    if length == 18 {
                        length += usize::from(input.next()?);
                    }
                    for _ in 0..length {
                        let from = out.len().checked_sub(distance)?;
                        out.push(*out.get(from)?);
                    }
                }
                if out.len() >= raw_bytes {
                    break;
                }
            }
            if out.len() >= raw_bytes {
                break;
            }
        }
        (out.len() == raw_bytes && input.next().is_none()).then_some(out)
    }

    #[test]
    fn literals_and_matches() {
        assert_eq!(pglz(b"\x00abcdefgh\x00i", 9).unwrap(), b"abcdefghi");
        assert_eq!(pglz(b"\x02a\x0F\x01\x02", 21).unwrap(), [b'a'; 21]);
        assert_eq!(pglz(b"\x04ab\x05\x02", 10).unwrap(), b"ababababab");
        assert_eq!(pglz(b"", 0).unwrap(), b"");
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let bad = Err(ValueError::BadCompression("pglz"));
        assert_eq!(pglz(b"\x02a\x00\x02", 4), bad, "before the beginning");
        assert_eq!(pglz(b"\x02a\x00\x00", 4), bad, "distance 0");
        assert_eq!(pglz(b"\x02a\x00", 4), bad, "half a match");
        assert_eq!(
            pglz(b"\x02a\x0F\x01", 21),
            bad,
            "a match without its third byte"
        );
        assert_eq!(pglz(b"\x02a\x00\x01", 3), bad, "more than announced");
        assert_eq!(pglz(b"\x00abc", 4), bad, "less than announced");
        assert_eq!(pglz(b"\x00abcd", 3), bad, "leftover input");
        assert_eq!(pglz(b"\x00abcd", usize::MAX), bad, "impossible size");
    }

    #[test]
    fn lz4_blocks() {
        let raw = b"abcabcabcabcabcabcabcabcabcabc".repeat(40);
        let stored = lz4_flex::block::compress(&raw);
        let size = u32::try_from(raw.len()).unwrap();
        let mut out = Vec::new();
        decompress(CompressionMethod::Lz4, size, &stored, &mut out).unwrap();
        assert_eq!(out, raw);
        for wrong in [size - 1, size + 1, u32::MAX] {
            assert!(decompress(CompressionMethod::Lz4, wrong, &stored, &mut out).is_err());
            assert_eq!(out.len(), raw.len());
        }
    }

    /// Recorded by `testdata/values/compressed.sql`.
    #[test]
    fn values_that_a_server_compressed() {
        let recorded = include_str!("../../tests/values/compressed.tsv");
        for line in recorded.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let [method, raw_size, stored, text] = fields[..] else {
                panic!("{line}");
            };
            let method = match method {
                "0" => CompressionMethod::Pglz,
                _ => CompressionMethod::Lz4,
            };
            let digits = |at: usize| u8::from_str_radix(&stored[at..at + 2], 16).unwrap();
            let stored: Vec<u8> = (0..stored.len()).step_by(2).map(digits).collect();
            let mut out = Vec::new();
            decompress(method, raw_size.parse().unwrap(), &stored, &mut out).unwrap();
            assert_eq!(out, text.as_bytes());
        }
        assert_eq!(recorded.lines().count(), 20);
    }

    proptest! {
        #[test]
        fn pglz_agrees_with_its_definition(
            stored in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..200),
            raw_bytes in 0usize..600,
        ) {
            prop_assert_eq!(pglz(&stored, raw_bytes).ok(), pglz_slowly(&stored, raw_bytes));
        }

        #[test]
        fn pglz_of_any_size(stored in prop::collection::vec(any::<u8>(), 0..300)) {
            // Whatever the bytes mean, their true length is the only one accepted.
            let found = (0..3000).filter(|size| pglz(&stored, *size).is_ok()).count();
            prop_assert!(found <= 1);
        }
    }
}
