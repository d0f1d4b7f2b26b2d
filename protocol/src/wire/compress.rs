//! LZ4 over one data frame's events, with the raw size known and checked on both sides.

use bytes::Bytes;

use super::error::WireError;
use super::limits::{DATA_RAW_BYTES_MAX, LZ4_RATIO_MAX};

/// Compresses `pieces`, or gives none where that gains nothing.
#[must_use]
pub fn compress(pieces: &[Bytes]) -> Option<Vec<u8>> {
    let raw: usize = pieces.iter().map(Bytes::len).sum();
    if !(64..=DATA_RAW_BYTES_MAX).contains(&raw) {
        return None;
    }
    let joined;
    let input: &[u8] = match pieces {
        [one] => one,
        many => {
            joined = many.concat();
            &joined
        }
    };
    let stored = lz4_flex::block::compress(input);
    (stored.len() < raw - raw / 16).then_some(stored)
}

/// Decompresses `stored` to exactly `raw_size` bytes.
pub fn decompress(stored: &[u8], raw_size: u32) -> Result<Bytes, WireError> {
    let raw = raw_size as usize;
    if raw > DATA_RAW_BYTES_MAX {
        return Err(WireError::TooLarge {
            what: "compressed block",
            size: u64::from(raw_size),
            limit: DATA_RAW_BYTES_MAX as u64,
        });
    }
    let bad = WireError::BadCompression { raw_size };
    // So many stored bytes cannot give so much: refused before anything is allocated.
    if raw > stored.len().saturating_mul(LZ4_RATIO_MAX) {
        return Err(bad);
    }
    let mut out = vec![0; raw];
    match lz4_flex::block::decompress_into(stored, &mut out) {
        Ok(written) if written == raw => Ok(Bytes::from(out)),
        _ => Err(bad),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn round_trip_and_lies() {
        let raw = Bytes::from(vec![7; 10_000]);
        let stored = compress(&[raw.slice(..4000), raw.slice(4000..)]).unwrap();
        assert_eq!(decompress(&stored, 10_000), Ok(raw));
        for lie in [0, 9_999, 10_001, 1_000_000, u32::MAX] {
            assert!(decompress(&stored, lie).is_err(), "{lie}");
        }
    }

    #[test]
    fn a_bomb_is_refused_unopened() {
        // 10 bytes that promise a megabyte.
        assert!(decompress(&[0xff; 10], DATA_RAW_BYTES_MAX as u32).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes(stored in proptest::collection::vec(any::<u8>(), 0..300), raw in 0u32..100_000) {
            let _ = decompress(&stored, raw);
        }
    }
}
