//! LZ4 over one data frame's events, with the raw size known and checked on both sides: over all of
//! them as they are, over their packed form (`pack`), or over part of them (`split`).

use bytes::Bytes;
use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};

use super::buffers::Buffers;
use super::error::WireError;
use super::limits::{DATA_RAW_BYTES_MAX, LZ4_RATIO_MAX};
use super::pack;
use super::split::{Split, Splitter};

/// Events smaller than this are not worth it.
const RAW_BYTES_MIN: usize = 64;

/// Room to compress in, used again for each frame.
#[derive(Default)]
pub struct Compressor {
    packing: pack::Room,
    splitter: Splitter,
    joined: Vec<u8>,
    buffers: Buffers,
    lends: bool,
    table: Option<CompressTable>,
}

/// How events are stored in fewer bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As one LZ4 block.
    Lz4,
    /// Packed inside an LZ4 block, with the size of what that holds before it.
    Packed,
    /// Split: part of them beside an LZ4 block.
    Split,
}

/// Events in fewer bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compressed {
    /// How.
    pub form: Form,
    /// The LZ4 block, and what stands before it.
    pub stored: Bytes,
    /// What stands behind it, by reference.
    pub beside: Vec<Bytes>,
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
        if let Some(packed) = pack::pack(pieces, &mut self.packing) {
            let input = packed.len();
            let (mut room, written) = lz4(packed, 4, &self.buffers, &mut self.table)?;
            room[..4].copy_from_slice(&(input as u32).to_le_bytes());
            return self.compressed(Form::Packed, raw, room, written, Vec::new());
        }
        self.joined.clear();
        let split = self.splitter.split(pieces, &mut self.joined);
        let input: &[u8] = match pieces {
            _ if split => &self.joined,
            [one] => one,
            many => {
                many.iter()
                    .for_each(|piece| self.joined.extend_from_slice(piece));
                &self.joined
            }
        };
        let head = if split { self.splitter.head_bytes() } else { 0 };
        let (mut room, written) = lz4(input, head, &self.buffers, &mut self.table)?;
        self.splitter.learn(&room[head..written]);
        if !split {
            return self.compressed(Form::Lz4, raw, room, written, Vec::new());
        }
        let (head, lz4) = room[..written].split_at_mut(head);
        self.splitter.write_head(input.len(), lz4.len(), head);
        let beside = self.splitter.beside().collect();
        self.compressed(Form::Split, raw, room, written, beside)
    }

    /// What was `written` for `raw` bytes of events, unless that gains nothing.
    fn compressed(
        &self,
        form: Form,
        raw: usize,
        room: Vec<u8>,
        written: usize,
        beside: Vec<Bytes>,
    ) -> Option<Compressed> {
        let size = written + beside.iter().map(Bytes::len).sum::<usize>();
        let worth_it = size < raw - raw / 16;
        let stored = if worth_it && self.lends && written >= room.len() / 2 {
            self.buffers.share(room, written)
        } else {
            let copy = worth_it.then(|| Bytes::copy_from_slice(&room[..written]));
            self.buffers.give(room);
            copy?
        };
        Some(Compressed {
            form,
            stored,
            beside,
        })
    }
}

/// Compresses `input` into a buffer, behind `head` bytes that are left; gives where it ends.
fn lz4(
    input: &[u8],
    head: usize,
    buffers: &Buffers,
    table: &mut Option<CompressTable>,
) -> Option<(Vec<u8>, usize)> {
    let mut room = buffers.take(head + get_maximum_output_size(input.len()));
    let table = table.get_or_insert_with(CompressTable::large);
    // It fails only where the room is too small.
    let written = compress_into_with_table(input, &mut room[head..], table).ok()?;
    Some((room, head + written))
}

/// Room to decompress in, used again for each frame.
#[derive(Debug, Default)]
pub struct Decompressor {
    inner: Vec<u8>,
    buffers: Buffers,
}

impl Decompressor {
    /// Decompresses `stored`, which is in this form, to exactly `raw_size` bytes of events.
    pub fn decompress(
        &mut self,
        stored: &[u8],
        form: Form,
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
        match form {
            Form::Lz4 => {
                let size = checked_size(stored, raw).ok_or(bad.clone())?;
                let mut out = self.buffers.take(size);
                decompress_exactly(stored, &mut out[..size]).ok_or(bad)?;
                Ok(self.buffers.share(out, size))
            }
            Form::Packed => {
                let (size, stored) = stored.split_first_chunk::<4>().ok_or(bad.clone())?;
                let size = u32::from_le_bytes(*size) as usize;
                let packed = open_inner(&mut self.inner, stored, size, raw).ok_or(bad)?;
                pack::unpack(packed, raw, &self.buffers)
            }
            Form::Split => {
                let split = Split::read(stored, raw).ok_or(bad.clone())?;
                let inner = open_inner(&mut self.inner, split.lz4, split.inner_bytes, raw);
                let inner = inner.ok_or(bad.clone())?;
                let mut out = self.buffers.take(raw);
                split.join(inner, &mut out[..raw]).ok_or(bad)?;
                Ok(self.buffers.share(out, raw))
            }
        }
    }
}

/// Decompresses what is not events yet, of `size` bytes and at most `size_max`, into `room`.
fn open_inner<'room>(
    room: &'room mut Vec<u8>,
    stored: &[u8],
    size: usize,
    size_max: usize,
) -> Option<&'room [u8]> {
    let size = checked_size(stored, size).filter(|size| *size <= size_max)?;
    if room.len() < size {
        room.resize(size, 0);
    }
    let inner = &mut room[..size];
    decompress_exactly(stored, inner)?;
    Some(inner)
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
        Decompressor::default().decompress(&stored.stored, stored.form, raw_size)
    }

    #[test]
    fn round_trip_and_lies() {
        let raw = Bytes::from(vec![7; 10_000]);
        let pieces = [raw.slice(..4000), raw.slice(4000..)];
        let stored = Compressor::default().compress(&pieces).unwrap();
        assert_eq!(stored.form, Form::Lz4, "these are not events");
        assert_eq!(decompress(&stored, 10_000), Ok(raw));
        for lie in [0, 9_999, 10_001, 1_000_000, u32::MAX] {
            assert!(decompress(&stored, lie).is_err(), "{lie}");
        }
    }

    #[test]
    fn a_bomb_is_refused_unopened() {
        // A few bytes of LZ4 that promise a megabyte.
        let (raw, lz4) = (DATA_RAW_BYTES_MAX as u32, [0xff; 14]);
        let numbers = |numbers: &[u32]| -> Vec<u8> {
            numbers
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect()
        };
        for (form, head) in [
            (Form::Lz4, numbers(&[])),
            (Form::Packed, numbers(&[raw])),
            (Form::Split, numbers(&[1, raw, lz4.len() as u32, raw, 0])),
        ] {
            let mut decompressor = Decompressor::default();
            let stored = [&head[..], &lz4].concat();
            assert!(decompressor.decompress(&stored, form, raw).is_err());
            assert_eq!(decompressor.inner.capacity(), 0);
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
                let back = decompressor.decompress(&stored.stored, stored.form, size);
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
            let form = if packed { Form::Packed } else { Form::Lz4 };
            let _ = Decompressor::default().decompress(&stored, form, raw);
        }
    }
}
