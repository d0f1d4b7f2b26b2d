//! Bytes in, frames out. Knows no socket: whoever owns one pushes what it reads.

use bytes::{Buf, Bytes, BytesMut};

use super::error::WireError;
use super::header::{Frame, FrameHeader, HEADER_BYTES};

/// Cuts a stream of bytes into frames and checks them.
///
/// Holds at most one frame and what was pushed beyond it. After an error it gives nothing more:
/// where the next frame begins cannot be known.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    header: Option<FrameHeader>,
    length_max: usize,
    failed: Option<WireError>,
}

impl FrameReader {
    /// A reader that takes payloads of at most `length_max` bytes.
    #[must_use]
    pub fn new(length_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            header: None,
            length_max,
            failed: None,
        }
    }

    /// Takes payloads of at most `length_max` bytes from now on.
    pub fn set_length_max(&mut self, length_max: usize) {
        self.length_max = length_max;
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The buffer to read a socket into, with room for at least what the frame under way lacks;
    /// append only.
    pub fn buffer(&mut self, at_least: usize) -> &mut BytesMut {
        let missing = self.missing().max(at_least);
        self.buffer.reserve(missing);
        &mut self.buffer
    }

    /// Bytes that are wanted before [`FrameReader::pop`] can give the next frame.
    #[must_use]
    pub fn missing(&self) -> usize {
        let wanted = match &self.header {
            None => HEADER_BYTES,
            Some(header) => header.length as usize,
        };
        wanted.saturating_sub(self.buffer.len())
    }

    /// Whether a frame has begun and not ended.
    #[must_use]
    pub fn inside_frame(&self) -> bool {
        self.header.is_some() || !self.buffer.is_empty()
    }

    /// The next whole frame, or none if more bytes are wanted.
    pub fn pop(&mut self) -> Result<Option<Frame>, WireError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let popped = self.pop_checked();
        if let Err(error) = &popped {
            self.failed = Some(error.clone());
        }
        popped
    }

    fn pop_checked(&mut self) -> Result<Option<Frame>, WireError> {
        let header = match self.header {
            Some(header) => header,
            None => {
                let Some(bytes) = self.buffer.first_chunk::<HEADER_BYTES>() else {
                    return Ok(None);
                };
                let header = FrameHeader::parse(bytes, self.length_max)?;
                self.buffer.advance(HEADER_BYTES);
                self.header = Some(header);
                header
            }
        };
        if self.buffer.len() < header.length as usize {
            return Ok(None);
        }
        let payload: Bytes = self.buffer.split_to(header.length as usize).freeze();
        self.header = None;
        let computed = crc32fast::hash(&payload);
        if computed != header.payload_crc {
            return Err(WireError::PayloadChecksum {
                sequence: header.sequence,
                found: header.payload_crc,
                computed,
            });
        }
        Ok(Some(Frame { header, payload }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Credit, Notice, limits, push_frame};
    use super::*;
    use crate::Lsn;
    use proptest::prelude::*;

    fn stream() -> Vec<u8> {
        let mut out = Vec::new();
        push_frame(&mut out, 0, &Credit { granted: 77 });
        let notice = Notice {
            lsn: Lsn(5),
            code: "skipped_rows".into(),
            detail: "table public.t".into(),
        };
        push_frame(&mut out, 9, &notice);
        out
    }

    #[test]
    fn every_cut_gives_the_same_frames() {
        let bytes = stream();
        let mut whole = FrameReader::new(limits::FRAME_BYTES_MAX);
        whole.push(&bytes);
        let first = whole.pop().unwrap().unwrap();
        let second = whole.pop().unwrap().unwrap();
        assert_eq!(whole.pop(), Ok(None));
        for cut in 0..bytes.len() {
            let mut reader = FrameReader::new(limits::FRAME_BYTES_MAX);
            let mut frames = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                reader.push(part);
                while let Some(frame) = reader.pop().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [first.clone(), second.clone()]);
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = stream();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut reader = FrameReader::new(limits::FRAME_BYTES_MAX);
            reader.push(&flipped);
            let found = loop {
                match reader.pop() {
                    Err(_) => break true,
                    Ok(None) => break false,
                    Ok(Some(_)) => {}
                }
            };
            assert!(found, "bit {bit}");
            assert!(reader.pop().is_err(), "an error is final");
        }
    }

    /// A million of them, in frames of every size up to some thousand bytes.
    #[test]
    fn a_million_flipped_bits_are_found() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as usize % below
        };
        for _ in 0..1000 {
            let detail: String = (0..random(2000))
                .map(|_| (b'a' + random(26) as u8) as char)
                .collect();
            let notice = Notice {
                lsn: Lsn(random(1 << 40) as u64),
                code: "skipped_rows".into(),
                detail,
            };
            let mut bytes = Vec::new();
            push_frame(&mut bytes, 1 + random(1 << 40) as u64, &notice);
            for _ in 0..1000 {
                let bit = random(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                let mut reader = FrameReader::new(limits::FRAME_BYTES_MAX);
                reader.push(&bytes);
                assert!(reader.pop().is_err(), "bit {bit} of {}", bytes.len());
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            let mut reader = FrameReader::new(limits::FRAME_BYTES_MAX);
            reader.push(&bytes);
            assert!(reader.pop().unwrap().is_some());
        }
    }

    #[test]
    fn a_lying_length_is_refused_before_anything_is_reserved() {
        let header = FrameHeader {
            kind: super::super::FrameKind::Data,
            flags: 0,
            length: u32::MAX,
            sequence: 1,
            payload_crc: 0,
        };
        let mut reader = FrameReader::new(limits::FRAME_BYTES_MAX);
        reader.push(&header.to_bytes());
        assert!(matches!(
            reader.pop(),
            Err(WireError::TooLarge { what: "frame", .. })
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_errors(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = FrameReader::new(limits::FRAME_BYTES_MAX);
            reader.push(&bytes);
            while let Ok(Some(_)) = reader.pop() {}
        }
    }
}
