//! Payloads as differences, 64 bytes at a time: which bytes differ, and by how much.
//!
//! The bytes that differ are pushed together, and pulled apart again. x86-64 has instructions to do so
//! for eight bytes (BMI2, beside AVX2 for the rest) and for 64 (AVX-512 VBMI2); the code that uses them
//! is made to be inlined into a loop over events that is compiled for them. All ways give the same.
//!
//! Where they come from and where they go blocks are passed by reference, and between them held in
//! registers: what is written in small pieces and read back in large ones at once makes the processor
//! wait.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use self::portable::Portable;

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
        if let Some(avx512) = x86::Avx512::detect() {
            return x86::with_avx512(avx512, work);
        }
        if let Some(avx2) = x86::Avx2::detect() {
            return x86::with_avx2(avx2, work);
        }
    }
    work.run(Portable)
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
/// payload before, and its mask. Takes away what belongs to it from the beginning of `masks` and of
/// `changed`; none if they have too few, or where the mask goes beyond the bytes.
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
                if let Some(avx2) = x86::Avx2::detect() {
                    prop_assert_eq!(&x86::with_avx2(avx2, there()), &wanted);
                }
                if let Some(avx512) = x86::Avx512::detect() {
                    prop_assert_eq!(&x86::with_avx512(avx512, there()), &wanted);
                }
            }
        }
    }
}
