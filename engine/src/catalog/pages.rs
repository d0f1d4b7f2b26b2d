//! One heap page: line pointers, tuple bytes, and the few edits that replay makes to them.
//!
//! ```text
//! 0     8          10      12      14      16        18             20           24
//! | lsn | checksum | flags | lower | upper | special | size version | prune xid | line pointers ...
//!   ... lower .. (free) .. upper ... tuples ... special = 8192
//! ```
//!
//! A line pointer is a u32: offset (15 bits), state (2), length (15). Pages come from outside, so
//! nothing in them is believed: every access is checked.
//!
//! Where a tuple lies within the page is not kept the same as the server's; line pointers, which
//! other pages and records name, are. The free space between line pointers and tuples takes no
//! memory, and of a tuple that nobody will see again only the header is kept: while one transaction
//! stays open, a server must keep every version of every catalog row that others replace.
// pg: storage/bufpage.h, storage/itemid.h [14-18]

use std::borrow::Cow;
use std::fmt;

use redostream_protocol::Lsn;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::HEAP_PAGE_BYTES;

const PAGE: usize = HEAP_PAGE_BYTES;
const PAGE_HEADER_BYTES: usize = 24;
const POINTER_BYTES: usize = 4;
const SIZE_AND_VERSION: u16 = PAGE as u16 | 4;
/// Bytes of a tuple header's fixed part.
// pg: access/htup_details.h SizeofHeapTupleHeader [14-18]
pub(crate) const TUPLE_HEADER_BYTES: usize = 23;
/// The most line pointers a page can have.
const POINTERS_MAX: u16 = ((PAGE - PAGE_HEADER_BYTES) / POINTER_BYTES) as u16;

/// A page, or what is asked of it, that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// The header's offsets contradict each other.
    #[error("damaged page header (lower {lower}, upper {upper}, special {special})")]
    Header {
        /// `pd_lower`.
        lower: u16,
        /// `pd_upper`.
        upper: u16,
        /// `pd_special`.
        special: u16,
    },
    /// A line pointer that does not exist.
    #[error("line pointer {0} does not exist")]
    NoPointer(u16),
    /// A line pointer that holds no tuple.
    #[error("line pointer {0} holds no tuple")]
    NoTuple(u16),
    /// A line pointer whose tuple is not within the page.
    #[error("line pointer {0} points outside of the tuples")]
    BadPointer(u16),
    /// A line pointer that should be free is not.
    #[error("line pointer {0} is in use")]
    InUse(u16),
    /// A tuple does not fit.
    #[error("no room for {0} bytes")]
    NoRoom(usize),
    /// A tuple is shorter than its own header says, or than a change to it needs.
    #[error("tuple at line pointer {0} is too short")]
    ShortTuple(u16),
    /// An in-place update of another size.
    #[error("in-place update of {found} bytes with {given}")]
    OtherSize {
        /// Bytes there.
        found: usize,
        /// Bytes in the record.
        given: usize,
    },
}

/// What a line pointer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pointer {
    /// Free.
    Unused,
    /// A tuple.
    Normal {
        /// Its offset.
        offset: usize,
        /// Its length.
        length: usize,
    },
    /// Another line pointer.
    Redirect(u16),
    /// Dead.
    Dead,
}

/// A page grows by so much at once.
const GROWTH_BYTES: usize = 512;

/// A heap page.
#[derive(Clone)]
pub(crate) struct Page {
    /// What stands before the gap, then what stands after it.
    bytes: Vec<u8>,
    /// Zeros that are not kept: where they begin, and how many.
    gap_at: usize,
    gap: usize,
}

impl Page {
    /// An empty heap page.
    pub(crate) fn empty() -> Page {
        let mut page = Page {
            bytes: Vec::new(),
            gap_at: 0,
            gap: 0,
        };
        page.init();
        page
    }

    /// The page with these bytes, which must be 8192.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Page> {
        if bytes.len() != PAGE {
            return None;
        }
        let at = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let (lower, upper) = (at(12), at(14));
        let free = bytes.get(lower..upper);
        let is_gap = lower >= PAGE_HEADER_BYTES
            && free.is_some_and(|free| free.iter().all(|byte| *byte == 0));
        let (gap_at, gap) = match is_gap {
            true => (lower, upper - lower),
            false => (PAGE, 0),
        };
        let mut kept = Vec::with_capacity(PAGE - gap);
        kept.extend_from_slice(&bytes[..gap_at]);
        kept.extend_from_slice(&bytes[gap_at + gap..]);
        Some(Page {
            bytes: kept,
            gap_at,
            gap,
        })
    }

    /// Makes it an empty heap page.
    pub(crate) fn init(&mut self) {
        self.bytes = vec![0; PAGE_HEADER_BYTES];
        (self.gap_at, self.gap) = (PAGE_HEADER_BYTES, PAGE - PAGE_HEADER_BYTES);
        self.set_u16(12, PAGE_HEADER_BYTES as u16);
        self.set_u16(14, PAGE as u16);
        self.set_u16(16, PAGE as u16);
        self.set_u16(18, SIZE_AND_VERSION);
    }

    /// Whether it was never used: all zeros.
    pub(crate) fn is_new(&self) -> bool {
        self.u16_at(14) == 0
    }

    /// The page whole.
    pub(crate) fn bytes(&self) -> Cow<'_, [u8]> {
        if self.gap == 0 {
            return Cow::Borrowed(&self.bytes);
        }
        let mut whole = Vec::with_capacity(PAGE);
        whole.extend_from_slice(&self.bytes[..self.gap_at]);
        whole.resize(self.gap_at + self.gap, 0);
        whole.extend_from_slice(&self.bytes[self.gap_at..]);
        Cow::Owned(whole)
    }

    pub(crate) fn lsn(&self) -> Lsn {
        Lsn(u64::from(self.u32_at(0)) << 32 | u64::from(self.u32_at(4)))
    }

    pub(crate) fn set_lsn(&mut self, lsn: Lsn) {
        self.set_u32(0, (lsn.0 >> 32) as u32);
        self.set_u32(4, lsn.0 as u32);
    }

    /// How many line pointers there are; 0 for a new page.
    pub(crate) fn pointers(&self) -> Result<u16, PageError> {
        if self.is_new() {
            return Ok(0);
        }
        let (lower, _) = self.bounds()?;
        Ok(((lower - PAGE_HEADER_BYTES) / POINTER_BYTES) as u16)
    }

    /// What a line pointer says.
    pub(crate) fn pointer(&self, number: u16) -> Result<Pointer, PageError> {
        if number == 0 || number > self.pointers()? {
            return Err(PageError::NoPointer(number));
        }
        let raw = self.u32_at(Self::pointer_at(number));
        let offset = (raw & 0x7FFF) as usize;
        let length = (raw >> 17) as usize;
        Ok(match (raw >> 15) & 3 {
            0 => Pointer::Unused,
            1 => Pointer::Normal { offset, length },
            2 => Pointer::Redirect(offset as u16),
            _ => Pointer::Dead,
        })
    }

    /// The tuple at a line pointer, at least its fixed header long.
    pub(crate) fn tuple(&self, number: u16) -> Result<&[u8], PageError> {
        let range = self.tuple_range(number)?;
        Ok(&self.bytes[range])
    }

    /// The tuple at a line pointer, to be changed.
    pub(crate) fn tuple_mut(&mut self, number: u16) -> Result<&mut [u8], PageError> {
        let range = self.tuple_range(number)?;
        Ok(&mut self.bytes[range])
    }

    /// Every tuple with its line pointer.
    pub(crate) fn tuples(&self) -> impl Iterator<Item = (u16, &[u8])> {
        let pointers = self.pointers().unwrap_or(0);
        (1..=pointers).filter_map(|number| Some((number, self.tuple(number).ok()?)))
    }

    /// Puts a tuple at a line pointer that is free or does not exist yet.
    // pg: storage/page/bufpage.c PageAddItemExtended [14-18]
    pub(crate) fn add(&mut self, number: u16, tuple: &[u8]) -> Result<(), PageError> {
        if number == 0 || number > POINTERS_MAX {
            return Err(PageError::NoPointer(number));
        }
        let pointers = self.pointers()?;
        if number <= pointers && self.pointer(number)? != Pointer::Unused {
            return Err(PageError::InUse(number));
        }
        let size = tuple.len().next_multiple_of(8);
        // Trailing free pointers are cut off earlier than every version does, so a record may
        // name one beyond the end.
        let added = usize::from(number.saturating_sub(pointers)) * POINTER_BYTES;
        if !self.has_room(size + added)? {
            self.compact()?;
            if !self.has_room(size + added)? {
                return Err(PageError::NoRoom(tuple.len()));
            }
        }
        self.open_gap()?;
        let at = self.gap_at;
        if self.bytes.capacity() < self.bytes.len() + added + size {
            self.bytes
                .reserve_exact((added + size).next_multiple_of(GROWTH_BYTES));
        }
        let padding = std::iter::repeat_n(0, size - tuple.len());
        let pointers = std::iter::repeat_n(0, added);
        let put = pointers.chain(tuple.iter().copied()).chain(padding);
        self.bytes.splice(at..at, put);
        self.gap_at += added;
        self.gap -= added + size;
        let offset = self.gap_at + self.gap;
        self.set_u16(12, self.gap_at as u16);
        self.set_u16(14, offset as u16);
        let raw = offset as u32 | 1 << 15 | (tuple.len() as u32) << 17;
        self.set_u32(Self::pointer_at(number), raw);
        Ok(())
    }

    /// Makes a line pointer lead to another.
    pub(crate) fn redirect(&mut self, number: u16, to: u16) -> Result<(), PageError> {
        self.pointer(number)?;
        self.set_u32(Self::pointer_at(number), u32::from(to) | 2 << 15);
        Ok(())
    }

    /// Marks a line pointer dead.
    pub(crate) fn set_dead(&mut self, number: u16) -> Result<(), PageError> {
        self.pointer(number)?;
        self.set_u32(Self::pointer_at(number), 3 << 15);
        Ok(())
    }

    /// Frees a line pointer. One beyond the end is free already.
    pub(crate) fn set_unused(&mut self, number: u16) -> Result<(), PageError> {
        if number == 0 || number > POINTERS_MAX {
            return Err(PageError::NoPointer(number));
        }
        if number <= self.pointers()? {
            self.set_u32(Self::pointer_at(number), 0);
        }
        Ok(())
    }

    /// Keeps of a tuple that nobody will see again only its header. What becomes free is so after
    /// [`Page::compact`].
    pub(crate) fn let_go(&mut self, number: u16) -> Result<(), PageError> {
        self.tuple_range(number)?;
        let at = Self::pointer_at(number);
        let raw = self.u32_at(at) & 0x1_FFFF | (TUPLE_HEADER_BYTES as u32) << 17;
        self.set_u32(at, raw);
        Ok(())
    }

    /// Brings the tuples together and cuts off free line pointers at the end, so that at least
    /// as much room is free as on the server's page.
    // pg: storage/page/bufpage.c PageRepairFragmentation, PageTruncateLinePointerArray [14-18]
    pub(crate) fn compact(&mut self) -> Result<(), PageError> {
        if self.is_new() {
            return Ok(());
        }
        let mut last = self.pointers()?;
        while last > 0 && self.pointer(last)? == Pointer::Unused {
            last -= 1;
        }
        let lower = PAGE_HEADER_BYTES + usize::from(last) * POINTER_BYTES;
        let special = PAGE.min(usize::from(self.u16_at(16)));
        let mut upper = special;
        // The new tuples, the last one first.
        let mut places = Vec::with_capacity(usize::from(last));
        for number in 1..=last {
            let Pointer::Normal { .. } = self.pointer(number)? else {
                continue;
            };
            let range = self.tuple_range(number)?;
            upper = upper
                .checked_sub(range.len().next_multiple_of(8))
                .filter(|offset| *offset >= lower)
                .ok_or(PageError::BadPointer(number))?;
            places.push((number, upper, range));
        }
        let tail = self.place(special);
        let mut bytes = Vec::with_capacity(PAGE - (upper - lower));
        bytes.extend_from_slice(&self.bytes[..lower]);
        for (_, _, range) in places.iter().rev() {
            let padded = bytes.len() + range.len().next_multiple_of(8);
            bytes.extend_from_slice(&self.bytes[range.clone()]);
            bytes.resize(padded, 0);
        }
        bytes.extend_from_slice(&self.bytes[tail..]);
        self.bytes = bytes;
        (self.gap_at, self.gap) = (lower, upper - lower);
        for (number, offset, range) in places {
            let raw = offset as u32 | 1 << 15 | (range.len() as u32) << 17;
            self.set_u32(Self::pointer_at(number), raw);
        }
        self.set_u16(12, lower as u16);
        self.set_u16(14, upper as u16);
        Ok(())
    }

    /// Sees to it that the gap is the free space, whatever that held.
    fn open_gap(&mut self) -> Result<(), PageError> {
        let (lower, upper) = self.bounds()?;
        if (self.gap_at, self.gap) != (lower, upper - lower) {
            let whole = self.bytes();
            let kept = [&whole[..lower], &whole[upper..]].concat();
            self.bytes = kept;
            (self.gap_at, self.gap) = (lower, upper - lower);
        }
        Ok(())
    }

    /// Where the byte at an offset of the page is kept.
    const fn place(&self, at: usize) -> usize {
        if at < self.gap_at { at } else { at - self.gap }
    }

    fn has_room(&self, wanted: usize) -> Result<bool, PageError> {
        let (lower, upper) = self.bounds()?;
        Ok(upper - lower >= wanted)
    }

    /// Lower and upper, checked against each other and the page.
    fn bounds(&self) -> Result<(usize, usize), PageError> {
        let (lower, upper, special) = (self.u16_at(12), self.u16_at(14), self.u16_at(16));
        let fits = usize::from(lower) >= PAGE_HEADER_BYTES
            && lower <= upper
            && upper <= special
            && usize::from(special) <= PAGE;
        if fits {
            Ok((usize::from(lower), usize::from(upper)))
        } else {
            Err(PageError::Header {
                lower,
                upper,
                special,
            })
        }
    }

    /// Where a tuple is kept.
    fn tuple_range(&self, number: u16) -> Result<std::ops::Range<usize>, PageError> {
        let Pointer::Normal { offset, length } = self.pointer(number)? else {
            return Err(PageError::NoTuple(number));
        };
        let end = offset + length;
        let in_gap = offset < self.gap_at + self.gap && end > self.gap_at;
        if offset < PAGE_HEADER_BYTES || end > PAGE || in_gap {
            return Err(PageError::BadPointer(number));
        }
        if length < TUPLE_HEADER_BYTES {
            return Err(PageError::ShortTuple(number));
        }
        let start = self.place(offset);
        Ok(start..start + length)
    }

    const fn pointer_at(number: u16) -> usize {
        PAGE_HEADER_BYTES + (number as usize - 1) * POINTER_BYTES
    }

    // The header and the line pointers stand before the gap, wherever that is.

    fn u16_at(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn u32_at(&self, at: usize) -> u32 {
        let mut raw = [0; 4];
        raw.copy_from_slice(&self.bytes[at..at + 4]);
        u32::from_le_bytes(raw)
    }

    fn set_u16(&mut self, at: usize, value: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn set_u32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

impl PartialEq for Page {
    fn eq(&self, other: &Page) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Page {}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Page(lsn {}, {:?} pointers)",
            self.lsn(),
            self.pointers()
        )
    }
}

impl Serialize for Page {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.bytes())
    }
}

impl<'de> Deserialize<'de> for Page {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Page;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a page of {PAGE} bytes")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Page, E> {
                Page::from_bytes(bytes).ok_or_else(|| E::invalid_length(bytes.len(), &self))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(fill: u8, length: usize) -> Vec<u8> {
        vec![fill; length]
    }

    #[test]
    fn tuples_come_and_go() {
        let mut page = Page::empty();
        page.add(1, &tuple(1, 100)).unwrap();
        page.add(2, &tuple(2, 61)).unwrap();
        assert_eq!(page.add(2, &tuple(3, 30)), Err(PageError::InUse(2)));
        // A pointer beyond the end is made, with free ones before it.
        page.add(5, &tuple(5, 40)).unwrap();
        assert_eq!(page.pointers(), Ok(5));
        assert_eq!(page.pointer(4), Ok(Pointer::Unused));
        page.redirect(1, 2).unwrap();
        page.set_unused(5).unwrap();
        page.compact().unwrap();
        assert_eq!(page.pointers(), Ok(2));
        assert_eq!(page.pointer(1), Ok(Pointer::Redirect(2)));
        assert_eq!(page.tuple(2), Ok(&tuple(2, 61)[..]));
        assert_eq!(page.tuple(1), Err(PageError::NoTuple(1)));
        assert_eq!(page.tuple(9), Err(PageError::NoPointer(9)));
        page.set_unused(9).unwrap();
        page.set_dead(2).unwrap();
        assert_eq!(page.tuples().count(), 0);
    }

    #[test]
    fn room_is_found_by_compacting() {
        let mut page = Page::empty();
        for number in 1..=8 {
            page.add(number, &tuple(number as u8, 1000)).unwrap();
        }
        assert_eq!(page.add(9, &tuple(9, 1000)), Err(PageError::NoRoom(1000)));
        page.set_unused(3).unwrap();
        page.add(3, &tuple(9, 999)).unwrap();
        for (number, bytes) in page.tuples() {
            let fill = if number == 3 { 9 } else { number as u8 };
            assert!(bytes.iter().all(|byte| *byte == fill), "{number}");
        }
    }

    #[test]
    fn of_a_tuple_that_is_let_go_the_header_stays() {
        let mut page = Page::empty();
        for number in 1..=7 {
            page.add(number, &tuple(number as u8, 1000)).unwrap();
        }
        let full = page.bytes.len();
        for number in [1, 3, 4] {
            page.let_go(number).unwrap();
        }
        page.compact().unwrap();
        assert_eq!(page.bytes.len(), full - 3 * (1000 - 24));
        for number in 1..=7 {
            let length = if [1, 3, 4].contains(&number) {
                23
            } else {
                1000
            };
            assert_eq!(page.tuple(number), Ok(&tuple(number as u8, length)[..]));
        }
        assert_eq!(page.let_go(8), Err(PageError::NoPointer(8)));
        let again = Page::from_bytes(&page.bytes()).unwrap();
        assert!(again == page && again.bytes.len() == page.bytes.len());
        page.add(8, &tuple(8, 2000)).unwrap();
        assert_eq!(page.tuple(7), Ok(&tuple(7, 1000)[..]));
        assert_eq!(page.tuple(8), Ok(&tuple(8, 2000)[..]));
    }

    /// What a server leaves in the free space means nothing, and is gone with the next tuple.
    #[test]
    fn free_space_may_hold_anything() {
        let mut page = Page::empty();
        page.add(1, &tuple(1, 100)).unwrap();
        let mut bytes = page.bytes().into_owned();
        bytes[4000] = 7;
        let mut other = Page::from_bytes(&bytes).unwrap();
        assert!(other != page && other.bytes.len() == PAGE);
        assert_eq!(other.tuple(1), page.tuple(1));
        other.add(2, &tuple(2, 50)).unwrap();
        page.add(2, &tuple(2, 50)).unwrap();
        assert!(other == page && other.bytes.len() == page.bytes.len());
    }

    #[test]
    fn damage_is_an_error() {
        let mut page = Page::empty();
        page.add(1, &tuple(1, 100)).unwrap();
        let mut bytes = page.bytes().into_owned();
        bytes[12..14].copy_from_slice(&9000_u16.to_le_bytes());
        let bad = Page::from_bytes(&bytes).unwrap();
        assert!(matches!(bad.pointers(), Err(PageError::Header { .. })));
        let mut bytes = page.bytes().into_owned();
        bytes[24..28].copy_from_slice(&(8190_u32 | 1 << 15 | 100 << 17).to_le_bytes());
        let bad = Page::from_bytes(&bytes).unwrap();
        assert_eq!(bad.tuple(1), Err(PageError::BadPointer(1)));
        assert!(Page::from_bytes(&[0; 100]).is_none());
        assert_eq!(Page::from_bytes(&[0; PAGE]).unwrap().pointers(), Ok(0));
    }

    #[test]
    fn stored_form_round_trips() {
        let mut page = Page::empty();
        page.add(1, &tuple(1, 100)).unwrap();
        page.set_lsn(Lsn(0x12_3456_789A));
        assert_eq!(page.lsn(), Lsn(0x12_3456_789A));
        let stored = postcard::to_stdvec(&page).unwrap();
        assert_eq!(postcard::from_bytes::<Page>(&stored), Ok(page));
        assert!(postcard::from_bytes::<Page>(&stored[..100]).is_err());
    }
}
