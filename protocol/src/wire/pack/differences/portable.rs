//! Differences without any particular instructions.

use super::{BLOCK_BYTES, Block, Differences};

/// The portable way: word by word, and of those byte by byte.
#[derive(Clone, Copy)]
pub(super) struct Portable;

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

/// The lowest bit of each byte.
pub(super) const LOW_BITS: u64 = 0x0101_0101_0101_0101;
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
