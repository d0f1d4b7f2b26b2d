//! One instruction for eight bytes, or for 64.

#![expect(
    unsafe_code,
    reason = "these instructions, and the call into code compiled for them, need it"
)]

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_add_epi8, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8,
    _mm256_set_epi64x, _mm256_setzero_si256, _mm256_storeu_si256, _mm256_sub_epi8, _mm512_add_epi8,
    _mm512_loadu_si512, _mm512_mask_test_epi8_mask, _mm512_maskz_compress_epi8,
    _mm512_maskz_expand_epi8, _mm512_storeu_si512, _mm512_sub_epi8, _pdep_u64, _pext_u64,
};

use super::portable::LOW_BITS;
use super::{BLOCK_BYTES, Block, Differences, Work};

/// Bytes of half a block.
const HALF_BYTES: usize = BLOCK_BYTES / 2;

/// AVX2 and BMI2, and counting of bits. Made only by [`Avx2::detect`], so that having one proves
/// the machine can.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let there = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("popcnt");
        // AMD's processors before those with VAES have BMI2 in microcode: slower than a loop.
        let slow = is_x86_feature_detected!("sse4a") && !is_x86_feature_detected!("vaes");
        (there && !slow).then_some(Self(()))
    }

    /// 0xff for each of the lowest eight bits.
    #[inline(always)]
    fn bytes(self, bits: u64) -> u64 {
        // SAFETY: a value of this type exists only where the instructions were detected.
        unsafe { _pdep_u64(bits, LOW_BITS) }.wrapping_mul(0xff)
    }

    /// Half a block and by how much its four words are more.
    #[inline(always)]
    fn add(self, before: __m256i, words: [u64; 4]) -> __m256i {
        let [a, b, c, d] = words.map(u64::cast_signed);
        // SAFETY: as above.
        unsafe { _mm256_add_epi8(before, _mm256_set_epi64x(d, c, b, a)) }
    }
}

impl Differences for Avx2 {
    type Held = [__m256i; 2];

    #[inline(always)]
    fn hold(self, block: &Block) -> Self::Held {
        // SAFETY: the instructions were detected; a block has two vectors' bytes.
        unsafe {
            let low = _mm256_loadu_si256(block.as_ptr().cast());
            let high = _mm256_loadu_si256(block.as_ptr().add(HALF_BYTES).cast());
            [low, high]
        }
    }

    #[inline(always)]
    fn put(self, [low, high]: Self::Held, out: &mut Block) {
        // SAFETY: as above.
        unsafe {
            _mm256_storeu_si256(out.as_mut_ptr().cast(), low);
            _mm256_storeu_si256(out.as_mut_ptr().add(HALF_BYTES).cast(), high);
        }
    }

    #[inline(always)]
    fn tell(self, before: Self::Held, now: Self::Held, valid: u64, out: &mut Block) -> u64 {
        let mut words = [[0u64; 4]; 2];
        let mut mask = 0;
        for half in 0..2 {
            // SAFETY: as above; four words have a vector's bytes.
            unsafe {
                let difference = _mm256_sub_epi8(now[half], before[half]);
                let same = _mm256_cmpeq_epi8(difference, _mm256_setzero_si256());
                let changed = !_mm256_movemask_epi8(same).cast_unsigned();
                mask |= u64::from(changed) << (HALF_BYTES * half);
                _mm256_storeu_si256(words[half].as_mut_ptr().cast(), difference);
            }
        }
        mask &= valid;
        let mut at = 0;
        for (half, words) in words.iter().enumerate() {
            let mask = mask >> (HALF_BYTES * half);
            if mask == 0 {
                break;
            }
            for (number, word) in words.iter().enumerate() {
                let bits = mask >> (8 * number) & 0xff;
                // SAFETY: as above.
                let changed = unsafe { _pext_u64(*word, self.bytes(bits)) };
                // At most eight bytes for each word so far.
                out[at..at + 8].copy_from_slice(&changed.to_le_bytes());
                at += bits.count_ones() as usize;
            }
        }
        mask
    }

    #[inline(always)]
    fn apply(self, before: Self::Held, mask: u64, changed: &Block) -> Self::Held {
        let mut out = before;
        let mut at = 0;
        for (half, out) in out.iter_mut().enumerate() {
            let mask = mask >> (HALF_BYTES * half);
            if mask == 0 {
                break;
            }
            let mut words = [0; 4];
            for (number, word) in words.iter_mut().enumerate() {
                let bits = mask >> (8 * number) & 0xff;
                let mut from = [0; 8];
                from.copy_from_slice(&changed[at..at + 8]);
                // SAFETY: as above.
                *word = unsafe { _pdep_u64(u64::from_le_bytes(from), self.bytes(bits)) };
                at += bits.count_ones() as usize;
            }
            *out = self.add(*out, words);
        }
        out
    }
}

/// Runs `work` compiled for AVX2 and BMI2, so that the instructions are inlined into it.
#[inline]
pub(super) fn with_avx2<W: Work>(avx2: Avx2, work: W) -> W::Output {
    #[target_feature(enable = "avx2,bmi2,popcnt")]
    fn inner<W: Work>(avx2: Avx2, work: W) -> W::Output {
        work.run(avx2)
    }
    // SAFETY: a value of this type exists only where all of them were detected.
    unsafe { inner(avx2, work) }
}

/// AVX-512 with byte masks and VBMI2, and counting of bits. Made only by [`Avx512::detect`].
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let there = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi2")
            && is_x86_feature_detected!("popcnt");
        there.then_some(Self(()))
    }
}

impl Differences for Avx512 {
    type Held = __m512i;

    #[inline(always)]
    fn hold(self, block: &Block) -> __m512i {
        // SAFETY: a value of this type exists only where the instructions were detected; a block
        // has a vector's bytes.
        unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
    }

    #[inline(always)]
    fn put(self, held: __m512i, out: &mut Block) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), held) }
    }

    #[inline(always)]
    fn tell(self, before: __m512i, now: __m512i, valid: u64, out: &mut Block) -> u64 {
        // SAFETY: as above.
        unsafe {
            let difference = _mm512_sub_epi8(now, before);
            let mask = _mm512_mask_test_epi8_mask(valid, difference, difference);
            let changed = _mm512_maskz_compress_epi8(mask, difference);
            _mm512_storeu_si512(out.as_mut_ptr().cast(), changed);
            mask
        }
    }

    #[inline(always)]
    fn apply(self, before: __m512i, mask: u64, changed: &Block) -> __m512i {
        // SAFETY: as above.
        unsafe {
            let changed = _mm512_loadu_si512(changed.as_ptr().cast());
            _mm512_add_epi8(before, _mm512_maskz_expand_epi8(mask, changed))
        }
    }
}

/// Runs `work` compiled for AVX-512, so that the instructions are inlined into it.
#[inline]
pub(super) fn with_avx512<W: Work>(avx512: Avx512, work: W) -> W::Output {
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
    fn inner<W: Work>(avx512: Avx512, work: W) -> W::Output {
        work.run(avx512)
    }
    // SAFETY: a value of this type exists only where all of them were detected.
    unsafe { inner(avx512, work) }
}
