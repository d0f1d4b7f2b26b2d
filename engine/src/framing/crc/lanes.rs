//! CRC-32C of many bytes: three lanes side by side, then put together.
//!
//! An instruction that sums eight bytes takes three cycles, and the next one of another sum may begin
//! after one. So three thirds of the bytes are summed at once. What the first two would have become,
//! had the bytes behind them been zeros, is found by a carry-less multiplication each.

use std::arch::x86_64::{
    _mm_clmulepi64_si128, _mm_crc32_u64, _mm_cvtsi64_si128, _mm_cvtsi128_si64, _mm_xor_si128,
};

/// From here on lanes are worth putting them together.
pub(super) const BYTES_MIN: usize = 192;
/// Words of eight bytes in a lane, at most.
const WORDS_MAX: usize = 128;
/// The polynomial of CRC-32C, the highest power in the lowest bit.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// For each number of words: `x` to the power of 64 times it, less 33, modulo the polynomial. The
/// product of a sum with it has one power of `x` too many from the order of its bits, and the
/// instruction that reduces it brings 32 along.
static SHIFTS: [u32; 2 * WORDS_MAX + 1] = shifts();

const fn shifts() -> [u32; 2 * WORDS_MAX + 1] {
    let mut all = [0; 2 * WORDS_MAX + 1];
    // The power of 31, which is that of one word.
    let mut power: u32 = 1;
    let mut words = 1;
    while words < all.len() {
        all[words] = power;
        let mut bit = 0;
        while bit < 64 {
            power = power >> 1 ^ if power & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        words += 1;
    }
    all
}

/// Sums `bytes` as far as they fill lanes; gives the sum and what is left, which is less than
/// [`BYTES_MIN`].
#[inline]
#[target_feature(enable = "sse4.2,pclmulqdq")]
pub(super) fn add(mut crc: u32, mut bytes: &[u8]) -> (u32, &[u8]) {
    while bytes.len() >= BYTES_MIN {
        let words = (bytes.len() / 24).min(WORDS_MAX);
        let (lanes, rest) = bytes.split_at(3 * 8 * words);
        let (first, others) = lanes.split_at(8 * words);
        let (second, third) = others.split_at(8 * words);
        let (mut a, mut b, mut c) = (u64::from(crc), 0, 0);
        let lanes = (first.as_chunks().0.iter())
            .zip(second.as_chunks().0)
            .zip(third.as_chunks().0);
        for ((first, second), third) in lanes {
            a = _mm_crc32_u64(a, u64::from_le_bytes(*first));
            b = _mm_crc32_u64(b, u64::from_le_bytes(*second));
            c = _mm_crc32_u64(c, u64::from_le_bytes(*third));
        }
        let shifted = _mm_xor_si128(product(a, SHIFTS[2 * words]), product(b, SHIFTS[words]));
        crc = (_mm_crc32_u64(0, _mm_cvtsi128_si64(shifted) as u64) ^ c) as u32;
        bytes = rest;
    }
    (crc, bytes)
}

#[inline]
#[target_feature(enable = "sse4.2,pclmulqdq")]
fn product(crc: u64, shift: u32) -> std::arch::x86_64::__m128i {
    let (crc, shift) = (crc as i64, i64::from(shift));
    _mm_clmulepi64_si128::<0>(_mm_cvtsi64_si128(crc), _mm_cvtsi64_si128(shift))
}
