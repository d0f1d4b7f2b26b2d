//! Payloads as differences, 64 bytes at a time: which bytes differ, and by how much.
//!
//! The bytes that differ are pushed together, and pulled apart again. x86-64 has instructions to do so
//! for eight bytes (BMI2, beside AVX2 for the rest) and for 64 (AVX-512 VBMI2); the code that uses them
//! is made to be inlined into a loop over events that is compiled for them. All ways give the same.
//!
//! Blocks are passed by reference, from where they are to where they go: what is written in small
//! pieces and read back in large ones at once makes the processor wait.

#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "these instructions, and the call into code compiled for them, need it"
    )
)]

/// Bytes that are looked at together.
pub(super) const BLOCK_BYTES: usize = 64;

/// So many of them.
pub(super) type Block = [u8; BLOCK_BYTES];

/// A way to tell and to apply differences.
pub(super) trait Differences: Copy {
    /// A block as it is worked with: in registers, where there are such.
    type Held: Copy;

    /// Takes a block up.
    fn hold(self, block: &Block) -> Self::Held;

    /// Puts one down.
    fn put(self, held: Self::Held, out: &mut Block);

    /// A bit for each byte in which `now` differs from `before`, of those that `valid` asks for; by how
    /// much they differ is in the first bytes of `out`, all of which may be written.
    fn tell(self, before: Self::Held, now: Self::Held, valid: u64, out: &mut Block) -> u64;

    /// The other way: `before` with the first bytes of `changed` added where `mask` has a bit.
    fn apply(self, before: Self::Held, mask: u64, changed: &Block) -> Self::Held;
}

/// What is done with a way to tell and to apply differences.
pub(super) trait Work {
    /// What comes of it.
    type Output;

    /// Does it. To be inlined always: only so the instructions are inlined into it.
    fn run<D: Differences>(self, differences: D) -> Self::Output;
}

/// Does it in the machine's best way.
pub(super) fn best<W: Work>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(avx512) = hardware::Avx512::detect() {
            return hardware::with_avx512(avx512, work);
        }
        if let Some(avx2) = hardware::Avx2::detect() {
            return hardware::with_avx2(avx2, work);
        }
    }
    work.run(Portable)
}

/// The portable way: word by word, and of those byte by byte.
#[derive(Clone, Copy)]
struct Portable;

impl Differences for Portable {
    type Held = [u64; BLOCK_BYTES / 8];

    #[inline(always)]
    fn hold(self, block: &Block) -> Self::Held {
        let mut held = [0; BLOCK_BYTES / 8];
        for (word, bytes) in held.iter_mut().zip(block.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        held
    }

    #[inline(always)]
    fn put(self, held: Self::Held, out: &mut Block) {
        for (word, bytes) in held.iter().zip(out.as_chunks_mut().0) {
            *bytes = word.to_le_bytes();
        }
    }

    #[inline(always)]
    fn tell(self, before: Self::Held, now: Self::Held, valid: u64, out: &mut Block) -> u64 {
        let (mut all, mut at) = (0, 0);
        for (number, (before, now)) in before.into_iter().zip(now).enumerate() {
            let valid = (valid >> (8 * number)) as u8;
            if valid == 0 {
                break;
            }
            let word = subtract(now, before) & bytes(valid);
            let high = not_zero(word);
            // At most eight bytes for each word so far.
            out[at..at + 8].copy_from_slice(&gather(word, high >> 7).to_le_bytes());
            at += high.count_ones() as usize;
            all |= u64::from(bits(high)) << (8 * number);
        }
        all
    }

    #[inline(always)]
    fn apply(self, before: Self::Held, mask: u64, changed: &Block) -> Self::Held {
        let mut out = before;
        let (mut rest, mut at) = (mask, 0);
        for word in &mut out {
            if rest == 0 {
                break;
            }
            let mask = rest as u8;
            let mut from = [0; 8];
            from.copy_from_slice(&changed[at..at + 8]);
            let difference = scatter(u64::from_le_bytes(from), bytes(mask) & LOW_BITS);
            *word = add(*word, difference);
            at += mask.count_ones() as usize;
            rest >>= 8;
        }
        out
    }
}

/// The bytes of `word` whose lowest bit is set in `rest`, at the lower end; 0 above them.
#[inline]
const fn gather(word: u64, mut rest: u64) -> u64 {
    let (mut out, mut at) = (0, 0);
    while rest != 0 {
        out |= (word >> rest.trailing_zeros() & 0xff) << at;
        at += 8;
        rest &= rest - 1;
    }
    out
}

/// The other way: the lowest bytes of `word` to where `rest` has a byte's lowest bit, 0 between.
#[inline]
const fn scatter(mut word: u64, mut rest: u64) -> u64 {
    let mut out = 0;
    while rest != 0 {
        out |= (word & 0xff) << rest.trailing_zeros();
        word >>= 8;
        rest &= rest - 1;
    }
    out
}

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = LOW_BITS << 7;

/// Each byte of `now` less that of `before`, modulo 256.
#[inline(always)]
const fn subtract(now: u64, before: u64) -> u64 {
    // Borrows end at the highest bits, which are set for that and then put right.
    ((now | HIGH_BITS).wrapping_sub(before & !HIGH_BITS)) ^ ((now ^ !before) & HIGH_BITS)
}

/// Each byte of `before` and that of `difference` together, modulo 256.
#[inline(always)]
const fn add(before: u64, difference: u64) -> u64 {
    ((before & !HIGH_BITS).wrapping_add(difference & !HIGH_BITS))
        ^ ((before ^ difference) & HIGH_BITS)
}

/// The highest bit of each byte that is not 0.
#[inline(always)]
const fn not_zero(word: u64) -> u64 {
    ((word & !HIGH_BITS).wrapping_add(!HIGH_BITS) | word) & HIGH_BITS
}

/// One bit for each highest bit.
#[inline(always)]
const fn bits(high: u64) -> u8 {
    ((high >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}

/// 0xff for each bit.
#[inline(always)]
const fn bytes(bits: u8) -> u64 {
    let each = (bits as u64).wrapping_mul(LOW_BITS) & 0x8040_2010_0804_0201;
    (not_zero(each) >> 7).wrapping_mul(0xff)
}

/// The block that `from` begins with; where it ends before, one in `room` that is 0 beyond its end.
#[inline(always)]
pub(super) fn block_of<'a>(from: &'a [u8], room: &'a mut Block) -> &'a Block {
    match from.first_chunk() {
        Some(block) => block,
        None => short(from, room),
    }
}

#[cold]
fn short<'a>(from: &[u8], room: &'a mut Block) -> &'a Block {
    let (there, beyond) = room.split_at_mut(from.len());
    there.copy_from_slice(from);
    beyond.fill(0);
    room
}

/// A bit for each of the next `bytes` bytes, as far as they are in one block.
#[inline(always)]
pub(super) const fn valid(bytes: usize) -> u64 {
    match bytes {
        0..BLOCK_BYTES => (1 << bytes) - 1,
        _ => u64::MAX,
    }
}

/// Writes how the first `bytes` of `now` differ from those of `before`: to `masks` which of them, to
/// `out` by how much; gives how many differ. What is beyond them is not looked at. `masks` has room for
/// 8 bytes more than it needs, `out` for a block more than `bytes`.
#[inline(always)]
pub(super) fn write<D: Differences>(
    differences: D,
    before: &[u8],
    now: &[u8],
    bytes: usize,
    masks: &mut [u8],
    out: &mut [u8],
) -> usize {
    let (mut from, mut at) = (0, 0);
    let (mut room, mut other) = ([0; BLOCK_BYTES], [0; BLOCK_BYTES]);
    while from < bytes {
        let before = block_of(&before[from..], &mut room);
        let now = block_of(&now[from..], &mut other);
        let Some(out) = out[at..].first_chunk_mut() else {
            panic!("no room for differences");
        };
        let (before, now) = (differences.hold(before), differences.hold(now));
        let mask = differences.tell(before, now, valid(bytes - from), out);
        masks[from / 8..from / 8 + 8].copy_from_slice(&mask.to_le_bytes());
        at += mask.count_ones() as usize;
        from += BLOCK_BYTES;
    }
    at
}

/// The other way: the next block of a payload, of which `bytes` are still to come, from that of the
/// payload before, and its mask. Takes away what belongs to it from the beginning of `masks` and of `changed`; none
/// if they have too few, or where the mask goes beyond the bytes.
#[inline(always)]
pub(super) fn read_block<D: Differences>(
    differences: D,
    before: D::Held,
    bytes: usize,
    masks: &mut &[u8],
    changed: &mut &[u8],
) -> Option<(D::Held, u64)> {
    let mask_bytes = bytes.min(BLOCK_BYTES).div_ceil(8);
    let mask = match masks.first_chunk() {
        Some(mask) => u64::from_le_bytes(*mask),
        None => short_mask(masks),
    };
    let mask = mask & valid(8 * mask_bytes);
    let block = differences.apply(before, mask, block_of(changed, &mut [0; BLOCK_BYTES]));
    *masks = masks.get(mask_bytes..)?;
    *changed = changed.get(mask.count_ones() as usize..)?;
    (mask & !valid(bytes) == 0).then_some((block, mask))
}

#[cold]
fn short_mask(masks: &[u8]) -> u64 {
    let bytes = masks.iter().rev();
    bytes.fold(0, |mask, byte| mask << 8 | u64::from(*byte))
}

#[cfg(target_arch = "x86_64")]
mod hardware {
    //! One instruction for eight bytes, or for 64.

    use std::arch::x86_64::{
        __m256i, __m512i, _mm256_add_epi8, _mm256_cmpeq_epi8, _mm256_loadu_si256,
        _mm256_movemask_epi8, _mm256_set_epi64x, _mm256_setzero_si256, _mm256_storeu_si256,
        _mm256_sub_epi8, _mm512_add_epi8, _mm512_loadu_si512, _mm512_mask_test_epi8_mask,
        _mm512_maskz_compress_epi8, _mm512_maskz_expand_epi8, _mm512_storeu_si512, _mm512_sub_epi8,
        _pdep_u64, _pext_u64,
    };

    use super::{BLOCK_BYTES, Block, Differences, LOW_BITS, Work};

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
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct There<'a> {
        before: &'a Block,
        now: &'a Block,
        valid: u64,
    }

    impl Work for There<'_> {
        type Output = (u64, Vec<u8>, Block);

        fn run<D: Differences>(self, differences: D) -> Self::Output {
            let mut out = [0; BLOCK_BYTES];
            let (before, now) = (differences.hold(self.before), differences.hold(self.now));
            let mask = differences.tell(before, now, self.valid, &mut out);
            let changed = out[..mask.count_ones() as usize].to_vec();
            // What is beyond those that changed does not matter.
            out[changed.len()..].fill(0x5a);
            let held = differences.apply(before, mask, &out);
            differences.put(held, &mut out);
            (mask, changed, out)
        }
    }

    fn any_block() -> impl Strategy<Value = Block> {
        proptest::collection::vec(prop_oneof![Just(7u8), any::<u8>()], BLOCK_BYTES)
            .prop_map(|bytes| bytes.try_into().unwrap())
    }

    proptest! {
        #[test]
        fn all_ways_give_the_same(before in any_block(), now in any_block(), bytes in 0..100usize) {
            let valid = valid(bytes);
            let there = || There { before: &before, now: &now, valid };
            let differs = |at: &usize| valid >> at & 1 == 1 && before[*at] != now[*at];
            let places: Vec<usize> = (0..BLOCK_BYTES).filter(differs).collect();
            let mask = places.iter().fold(0, |mask, at| mask | 1u64 << at);
            let changed = places.iter().map(|at| now[*at].wrapping_sub(before[*at])).collect();
            let mut back = before;
            places.iter().for_each(|at| back[*at] = now[*at]);
            let wanted = (mask, changed, back);
            prop_assert_eq!(&there().run(Portable), &wanted);
            #[cfg(target_arch = "x86_64")]
            {
                if let Some(avx2) = hardware::Avx2::detect() {
                    prop_assert_eq!(&hardware::with_avx2(avx2, there()), &wanted);
                }
                if let Some(avx512) = hardware::Avx512::detect() {
                    prop_assert_eq!(&hardware::with_avx512(avx512, there()), &wanted);
                }
            }
        }
    }
}
