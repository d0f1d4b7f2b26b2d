//! Memory for what leaves a decoder and stays until its transaction commits, or longer.
//!
//! Fresh pages cost more than decoding into them, so this memory is taken in regions that ask for
//! huge pages, is cut into units, and is used again from the lowest address on, which keeps it
//! dense. An arena takes whole units of its own, so that one that lives long pins nothing else.

#![expect(
    unsafe_code,
    reason = "arenas are parts of a region that are handed out and come back on their own"
)]

use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{MmapMut, MmapOptions};
use parking_lot::Mutex;

use crate::limits::{ARENA_BYTES_MIN, ARENA_REGION_BYTES, ARENA_REGIONS_KEPT, ARENA_UNIT_BYTES};

const UNITS: usize = ARENA_REGION_BYTES / ARENA_UNIT_BYTES;
const WORDS: usize = UNITS / 64;

/// A stock of arenas, shared by the threads of a pipeline, or of several. Clones are the same stock.
#[derive(Clone, Debug)]
pub struct Arenas {
    regions: Arc<Mutex<Regions>>,
}

impl Default for Arenas {
    fn default() -> Self {
        Self::keeping(0)
    }
}

#[derive(Debug)]
struct Regions {
    /// A slot keeps its number while blocks of its region are out.
    slots: Vec<Option<Region>>,
    /// Regions that are kept though nothing is in them.
    idle_max: usize,
}

#[derive(Debug)]
struct Region {
    memory: MmapMut,
    start: NonNull<u8>,
    /// A bit for each unit that is out.
    taken: [u64; WORDS],
    free: usize,
    /// Whether it has been empty since the stock was last trimmed.
    stale: bool,
}

// SAFETY: `start` points into `memory`, which the region owns; nothing is tied to a thread.
unsafe impl Send for Region {}

/// Units `first..first + units` of a region.
struct Block {
    regions: Arc<Mutex<Regions>>,
    slot: usize,
    first: usize,
    units: usize,
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a block is the only owner of its units until it is dropped, and only reads them once it
// is shared.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Arenas {
    /// A stock that has nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A stock that keeps about so many bytes of memory that nothing is in, for what comes next,
    /// until [`Self::trim`] finds that nothing comes.
    #[must_use]
    pub fn keeping(bytes: usize) -> Self {
        let regions = Regions {
            slots: Vec::new(),
            idle_max: (bytes / ARENA_REGION_BYTES).max(ARENA_REGIONS_KEPT),
        };
        Self {
            regions: Arc::new(Mutex::new(regions)),
        }
    }

    /// Gives memory back that nothing has been in since the last time.
    pub fn trim(&self) {
        // Let go of when nobody waits for the lock any more: it takes the kernel a while.
        let mut gone = Vec::new();
        let mut regions = self.regions.lock();
        let mut idle = 0;
        for slot in &mut regions.slots {
            let Some(region) = slot else {
                continue;
            };
            let is_idle = region.free == UNITS;
            idle += usize::from(is_idle);
            if is_idle && region.stale && idle > ARENA_REGIONS_KEPT {
                gone.extend(slot.take());
            } else {
                region.stale = is_idle;
            }
        }
        drop(regions);
    }

    /// A copy of `bytes`, shared by reference; its memory comes back when the last reference is
    /// gone.
    #[must_use]
    pub fn store(&self, bytes: &[u8]) -> Bytes {
        let small = bytes.len() < ARENA_BYTES_MIN;
        if small || bytes.len() > ARENA_REGION_BYTES {
            return Bytes::copy_from_slice(bytes);
        }
        match self.take(bytes.len()) {
            Some(mut block) => {
                block.fill(bytes);
                Bytes::from_owner(block)
            }
            None => Bytes::copy_from_slice(bytes),
        }
    }

    fn take(&self, bytes: usize) -> Option<Block> {
        let units = bytes.div_ceil(ARENA_UNIT_BYTES);
        let mut regions = self.regions.lock();
        let found = regions
            .slots
            .iter_mut()
            .enumerate()
            .find_map(|(slot, region)| {
                let first = region.as_mut()?.take(units)?;
                Some((slot, first))
            });
        let (slot, first) = match found {
            Some(found) => found,
            None => {
                let mut region = Region::map()?;
                let first = region.take(units)?;
                (regions.put(region), first)
            }
        };
        let start = regions.slots.get(slot)?.as_ref()?.start;
        drop(regions);
        Some(Block {
            regions: Arc::clone(&self.regions),
            slot,
            first,
            units,
            // SAFETY: the unit lies in the region.
            start: unsafe { start.add(first * ARENA_UNIT_BYTES) },
            bytes,
        })
    }
}

impl Regions {
    fn put(&mut self, region: Region) -> usize {
        match self.slots.iter().position(Option::is_none) {
            Some(slot) => {
                self.slots[slot] = Some(region);
                slot
            }
            None => {
                self.slots.push(Some(region));
                self.slots.len() - 1
            }
        }
    }

    /// Takes units back; gives the region if it is not to be kept.
    fn give_back(&mut self, slot: usize, first: usize, units: usize) -> Option<Region> {
        let region = self.slots.get_mut(slot)?.as_mut()?;
        region.mark(first, units, false);
        if region.free < UNITS {
            return None;
        }
        let idle = |region: &&Region| region.free == UNITS;
        let kept = self.slots.iter().flatten().filter(idle).count() <= self.idle_max;
        if kept { None } else { self.slots[slot].take() }
    }
}

impl Region {
    fn map() -> Option<Self> {
        let mut memory = MmapOptions::new().len(ARENA_REGION_BYTES).map_anon().ok()?;
        // Without huge pages it is slower, and that is all.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        let start = NonNull::new(memory.as_mut_ptr())?;
        Some(Region {
            memory,
            start,
            taken: [0; WORDS],
            free: UNITS,
            stale: false,
        })
    }

    /// The first of `units` free units in a row.
    fn take(&mut self, units: usize) -> Option<usize> {
        debug_assert_eq!(self.memory.len(), ARENA_REGION_BYTES);
        if self.free < units {
            return None;
        }
        let mut first = 0;
        let mut at = 0;
        while at < UNITS {
            let (word, bit) = (self.taken[at / 64], at % 64);
            if bit == 0 && word == u64::MAX {
                at += 64;
                first = at;
                continue;
            }
            at += 1;
            if word >> bit & 1 == 1 {
                first = at;
            } else if at - first == units {
                self.mark(first, units, true);
                return Some(first);
            }
        }
        None
    }

    fn mark(&mut self, first: usize, units: usize, taken: bool) {
        for unit in first..first + units {
            let bit = 1 << (unit % 64);
            let word = &mut self.taken[unit / 64];
            assert_eq!(
                *word & bit == 0,
                taken,
                "a unit is handed out once and comes back once"
            );
            *word ^= bit;
        }
        if taken {
            self.free -= units;
            self.stale = false;
        } else {
            self.free += units;
        }
    }
}

impl Block {
    fn fill(&mut self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.bytes, "a block is made for its bytes");
        // SAFETY: the block's units are this long, mapped, and nobody else's; `bytes` is borrowed
        // from elsewhere, as the units were free.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr(), bytes.len()) }
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: these bytes lie in units that this block owns; its region is mapped as long as
        // units of it are out, and a mapping begins as zeros.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut regions = self.regions.lock();
        let gone = regions.give_back(self.slot, self.first, self.units);
        // It takes the kernel a while to let go of it.
        drop(regions);
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn arenas_keep_what_they_hold(sizes in prop::collection::vec(1..40 * ARENA_UNIT_BYTES, 1..80)) {
            let arenas = Arenas::new();
            let mut held: VecDeque<(u8, Bytes)> = VecDeque::new();
            for (number, size) in sizes.iter().enumerate() {
                let fill = number as u8 + 1;
                held.push_back((fill, arenas.store(&vec![fill; *size])));
                if number % 3 == 2 && let Some((fill, bytes)) = held.pop_front() {
                    prop_assert!(bytes.iter().all(|byte| *byte == fill));
                }
            }
            for (fill, bytes) in held {
                prop_assert!(bytes.iter().all(|byte| *byte == fill));
            }
        }
    }

    #[test]
    fn memory_comes_back() {
        let arenas = Arenas::new();
        let part = vec![7; ARENA_REGION_BYTES / 2];
        let held: Vec<Bytes> = (0..4 * ARENA_REGIONS_KEPT)
            .map(|_| arenas.store(&part))
            .collect();
        assert_eq!(
            arenas.regions.lock().slots.iter().flatten().count(),
            2 * ARENA_REGIONS_KEPT
        );
        drop(held);
        let regions = arenas.regions.lock();
        assert_eq!(regions.slots.iter().flatten().count(), ARENA_REGIONS_KEPT);
        assert!(
            regions
                .slots
                .iter()
                .flatten()
                .all(|region| region.free == UNITS)
        );
    }

    #[test]
    fn idle_memory_is_kept_for_a_while() {
        const KEPT: usize = 4 * ARENA_REGIONS_KEPT;
        let arenas = Arenas::keeping(KEPT * ARENA_REGION_BYTES);
        let regions = || arenas.regions.lock().slots.iter().flatten().count();
        let part = vec![7; ARENA_REGION_BYTES];
        let fill = |count| -> Vec<Bytes> { (0..count).map(|_| arenas.store(&part)).collect() };
        let held = fill(KEPT + 2);
        assert_eq!(regions(), KEPT + 2);
        arenas.trim();
        assert_eq!(regions(), KEPT + 2, "they are in use");
        drop(held);
        assert_eq!(regions(), KEPT);
        arenas.trim();
        assert_eq!(regions(), KEPT, "they have just become idle");
        let held = fill(ARENA_REGIONS_KEPT + 1);
        arenas.trim();
        assert_eq!(regions(), 2 * ARENA_REGIONS_KEPT + 1);
        drop(held);
        arenas.trim();
        assert_eq!(regions(), ARENA_REGIONS_KEPT + 1);
        arenas.trim();
        assert_eq!(regions(), ARENA_REGIONS_KEPT);
    }
}
