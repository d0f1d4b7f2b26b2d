//! CRC-32C of a WAL record.
//!
//! PostgreSQL sums the record's bytes after its header first, then the header up to the CRC field.
//! Records are 50 to 90 bytes, so a call per record costs more than the sum itself: the hardware
//! loop here is made to be inlined into the framing loop. Longer ones (large rows, page images) are
//! summed in three lanes side by side (`crc/lanes.rs`): the instruction takes three times as long as
//! it takes until the next can begin.
// pg: access/transam/xlogreader.c ValidXLogRecord [14-18]

#![expect(
    unsafe_code,
    reason = "the CRC32 instructions, and the call into code compiled for them, need it"
)]

use crate::framing::record::RECORD_HEADER_BYTES;

/// Where the CRC field stands; the header is summed up to here.
const CRC_OFFSET: usize = 20;
/// A way to sum a record.
pub(crate) trait Crc32c: Copy {
    /// The CRC that `record` (whole, at least a header) ought to carry.
    fn record(self, record: &[u8]) -> u32;
}

/// What is done with a way to sum records.
pub(crate) trait Work {
    /// What comes of it.
    type Output;

    /// Does it. To be inlined always: only so the sum is inlined into it.
    fn run<C: Crc32c>(self, crc: C) -> Self::Output;
}

/// The portable way.
#[derive(Clone, Copy)]
pub(crate) struct Folded;

impl Crc32c for Folded {
    #[inline]
    fn record(self, record: &[u8]) -> u32 {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        digest.update(&record[RECORD_HEADER_BYTES..]);
        digest.update(&record[..CRC_OFFSET]);
        digest.finalize() as u32
    }
}

/// The CRC-32C of any bytes, for files and payloads outside the hot loop.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(target_arch = "x86_64")]
mod lanes;

#[cfg(target_arch = "x86_64")]
pub(crate) mod hardware {
    //! One instruction per 8 bytes, inlined.

    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u16, _mm_crc32_u32, _mm_crc32_u64};

    use super::{CRC_OFFSET, Crc32c, Work, lanes};
    use crate::framing::record::RECORD_HEADER_BYTES;

    /// SSE 4.2 and carry-less multiplication. Made only by [`Sse42::detect`], so that having one
    /// proves the machine can.
    #[derive(Clone, Copy)]
    pub(crate) struct Sse42(());

    impl Sse42 {
        pub(crate) fn detect() -> Option<Self> {
            let can = is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq");
            can.then_some(Self(()))
        }
    }

    impl Crc32c for Sse42 {
        #[inline(always)]
        fn record(self, record: &[u8]) -> u32 {
            // SAFETY: a value of this type exists only where both were detected.
            unsafe {
                match record.len() {
                    lanes::BYTES_MIN.. => sum_long(record),
                    _ => sum(record),
                }
            }
        }
    }

    #[inline(never)]
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    fn sum_long(record: &[u8]) -> u32 {
        let (crc, rest) = lanes::add(u32::MAX, &record[RECORD_HEADER_BYTES..]);
        !add(add(crc, rest), &record[..CRC_OFFSET])
    }

    #[inline]
    #[target_feature(enable = "sse4.2")]
    fn sum(record: &[u8]) -> u32 {
        let crc = add(u32::MAX, &record[RECORD_HEADER_BYTES..]);
        !add(crc, &record[..CRC_OFFSET])
    }

    /// Each step waits for the one before, so a tail takes few wide ones and not one per byte.
    #[inline]
    #[target_feature(enable = "sse4.2")]
    fn add(crc: u32, bytes: &[u8]) -> u32 {
        let (words, mut tail) = bytes.as_chunks::<8>();
        let mut long = u64::from(crc);
        for word in words {
            long = _mm_crc32_u64(long, u64::from_le_bytes(*word));
        }
        let mut crc = long as u32;
        if let Some((word, rest)) = tail.split_first_chunk::<4>() {
            crc = _mm_crc32_u32(crc, u32::from_le_bytes(*word));
            tail = rest;
        }
        if let Some((word, rest)) = tail.split_first_chunk::<2>() {
            crc = _mm_crc32_u16(crc, u16::from_le_bytes(*word));
            tail = rest;
        }
        if let [byte] = tail {
            crc = _mm_crc32_u8(crc, *byte);
        }
        crc
    }

    /// Runs `work` compiled for SSE 4.2, so that the sum is inlined into it.
    #[inline]
    pub(crate) fn with<W: Work>(crc: Sse42, work: W) -> W::Output {
        #[target_feature(enable = "sse4.2,pclmulqdq")]
        fn inner<W: Work>(crc: Sse42, work: W) -> W::Output {
            work.run(crc)
        }
        // SAFETY: a value of this type exists only where both were detected.
        unsafe { inner(crc, work) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sum<'a>(&'a [u8]);

    impl Work for Sum<'_> {
        type Output = u32;

        fn run<C: Crc32c>(self, crc: C) -> u32 {
            crc.record(self.0)
        }
    }

    #[test]
    fn both_ways_agree_with_the_definition() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        for length in (24..=300).chain([511, 512, 3095, 3096, 3097, 3400, 9000, 100_003]) {
            let record: Vec<u8> = (0..length)
                .map(|i: u32| (i.wrapping_mul(i) / 7) as u8)
                .collect();
            let mut joined = record[RECORD_HEADER_BYTES..].to_vec();
            joined.extend_from_slice(&record[..CRC_OFFSET]);
            let expected = crc32c(&joined);
            assert_eq!(Folded.record(&record), expected);
            #[cfg(target_arch = "x86_64")]
            if let Some(crc) = hardware::Sse42::detect() {
                assert_eq!(hardware::with(crc, Sum(&record)), expected);
            }
        }
    }
}
