//! LZ4 over one data frame's events, with the raw size known and checked on both sides.

use bytes::Bytes;
use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};

use super::buffers::Buffers;
use super::error::WireError;
use super::limits::{DATA_RAW_BYTES_MAX, LZ4_RATIO_MAX};
use super::pack;

/// Events smaller than this are not worth it.
const RAW_BYTES_MIN: usize = 64;

/// Room to compress in, used again for each frame.
#[derive(Default)]
pub struct Compressor {
    packing: pack::Room,
    joined: Vec<u8>,
    buffers: Buffers,
    lends: bool,
    table: Option<CompressTable>,
}

/// Events in fewer bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compressed {
    /// The LZ4 block; before it the size of what it holds, if that is packed.
    pub stored: Bytes,
    /// Whether the events are packed inside.
    pub packed: bool,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    /// Whether what is compressed from here on may lie in a buffer that is used again: nothing is
    /// copied then, but it may hold twice its size for as long as it lives.
    pub fn lend(&mut self, lends: bool) -> &mut Self {
        self.lends = lends;
        self
    }

    /// Compresses `pieces`, or gives none where that gains nothing.
    pub fn compress(&mut self, pieces: &[Bytes]) -> Option<Compressed> {
        let raw: usize = pieces.iter().map(Bytes::len).sum();
        if !(RAW_BYTES_MIN..=DATA_RAW_BYTES_MAX).contains(&raw) {
            return None;
        }
        let packed = pack::pack(pieces, &mut self.packing);
        let input: &[u8] = match (packed, pieces) {
            (Some(packed), _) => packed,
            (None, [one]) => one,
            (None, many) => {
                self.joined.clear();
                many.iter()
                    .for_each(|piece| self.joined.extend_from_slice(piece));
                &self.joined
            }
        };
        let packed = packed.is_some();
        // The size of the packed events stands before them.
        let prefix = if packed { 4 } else { 0 };
        let room = prefix + get_maximum_output_size(input.len());
        let mut stored = self.buffers.take(room);
        let (size, block) = stored.split_at_mut(prefix);
        size.copy_from_slice(&(input.len() as u32).to_le_bytes()[..prefix]);
        let table = self.table.get_or_insert_with(CompressTable::large);
        // It fails only where the room is too small.
        let written = prefix + compress_into_with_table(input, block, table).ok()?;
        let worth_it = written < raw - raw / 16;
        let stored = if worth_it && self.lends && written >= stored.len() / 2 {
            self.buffers.share(stored, written)
        } else {
            let copy = worth_it.then(|| Bytes::copy_from_slice(&stored[..written]));
            self.buffers.give(stored);
            copy?
        };
        Some(Compressed { stored, packed })
    }
}

/// Room to decompress in, used again for each frame.
#[derive(Debug, Default)]
pub struct Decompressor {
    packed: Vec<u8>,
    buffers: Buffers,
}

impl Decompressor {
    /// Decompresses `stored` to exactly `raw_size` bytes of events.
    pub fn decompress(
        &mut self,
        stored: &[u8],
        packed: bool,
        raw_size: u32,
    ) -> Result<Bytes, WireError> {
        let raw = raw_size as usize;
        if raw > DATA_RAW_BYTES_MAX {
            return Err(WireError::TooLarge {
                what: "compressed block",
                size: u64::from(raw_size),
                limit: DATA_RAW_BYTES_MAX as u64,
            });
        }
        let bad = WireError::BadCompression { raw_size };
        if !packed {
            let size = checked_size(stored, raw).ok_or(bad.clone())?;
            let mut out = self.buffers.take(size);
            decompress_exactly(stored, &mut out[..size]).ok_or(bad)?;
            return Ok(self.buffers.share(out, size));
        }
        let (size, stored) = stored.split_first_chunk::<4>().ok_or(bad.clone())?;
        let size = u32::from_le_bytes(*size) as usize;
        if size > raw {
            return Err(bad);
        }
        let size = checked_size(stored, size).ok_or(bad.clone())?;
        if self.packed.len() < size {
            self.packed.resize(size, 0);
        }
        decompress_exactly(stored, &mut self.packed[..size]).ok_or(bad)?;
        pack::unpack(&self.packed[..size], raw, &self.buffers)
    }
}

/// The size, unless so many stored bytes cannot give so much: refused before anything is allocated.
fn checked_size(stored: &[u8], size: usize) -> Option<usize> {
    (size <= stored.len().saturating_mul(LZ4_RATIO_MAX)).then_some(size)
}

fn decompress_exactly(stored: &[u8], out: &mut [u8]) -> Option<()> {
    let written = decompress_into(stored, out).ok()?;
    (written == out.len()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decompress(stored: &Compressed, raw_size: u32) -> Result<Bytes, WireError> {
        Decompressor::default().decompress(&stored.stored, stored.packed, raw_size)
    }

    #[test]
    fn round_trip_and_lies() {
        let raw = Bytes::from(vec![7; 10_000]);
        let pieces = [raw.slice(..4000), raw.slice(4000..)];
        let stored = Compressor::default().compress(&pieces).unwrap();
        assert!(!stored.packed, "these are not events");
        assert_eq!(decompress(&stored, 10_000), Ok(raw));
        for lie in [0, 9_999, 10_001, 1_000_000, u32::MAX] {
            assert!(decompress(&stored, lie).is_err(), "{lie}");
        }
    }

    #[test]
    fn a_bomb_is_refused_unopened() {
        // 14 bytes that promise a megabyte.
        for packed in [false, true] {
            let stored = Compressed {
                stored: Bytes::from_static(&[0xff; 14]),
                packed,
            };
            assert!(decompress(&stored, DATA_RAW_BYTES_MAX as u32).is_err());
        }
    }

    #[test]
    fn the_room_does_not_leak_into_the_next_frame() {
        let mut compressor = Compressor::default();
        let mut decompressor = Decompressor::default();
        let mut held = Vec::new();
        for size in [200_000, 100, 70_000, 64] {
            held.push(frame(size, |at| (at / 50) as u8));
        }
        // A frame that shrinks to little more than a half is lent its buffer.
        let mut seed = 1u32;
        let mut mixed = |at| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if at % 100 < 60 {
                (seed >> 24) as u8
            } else {
                b'x'
            }
        };
        for size in [100_000, 90_000, 100_000, 80_000, 100_000, 100_000, 100_000] {
            held.push(frame(size, &mut mixed));
        }
        for lends in [false, true] {
            let stored: Vec<_> = held
                .iter()
                .map(|raw| {
                    let pieces = std::slice::from_ref(raw);
                    compressor.lend(lends).compress(pieces).unwrap()
                })
                .collect();
            assert!(stored.iter().any(|stored| stored.stored.len() > 50_000));
            for (raw, stored) in held.iter().zip(stored) {
                let size = raw.len() as u32;
                let back = decompressor.decompress(&stored.stored, stored.packed, size);
                assert_eq!(back.as_ref(), Ok(raw), "{size}");
            }
        }
    }

    fn frame(size: usize, byte: impl FnMut(usize) -> u8) -> Bytes {
        Bytes::from((0..size).map(byte).collect::<Vec<u8>>())
    }

    proptest! {
        #[test]
        fn any_bytes(
            stored in proptest::collection::vec(any::<u8>(), 0..300),
            packed in any::<bool>(),
            raw in 0u32..100_000,
        ) {
            let _ = Decompressor::default().decompress(&stored, packed, raw);
        }
    }
}
