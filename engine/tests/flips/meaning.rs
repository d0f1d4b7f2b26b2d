//! Which bytes of a log mean something: a walk over its records, apart from the one that is tested.

use std::ops::Range;

use redostream_protocol::Lsn;

const PAGE: usize = 8192;
/// Flag of a page whose images may be left out when it is archived: nobody reads it.
// pg: access/xlog_internal.h XLP_BKP_REMOVABLE [14-18]
const REMOVABLE: u8 = 0x04;
/// Flag of a page that goes on over a record that a crash cut off.
// pg: access/xlog_internal.h XLP_FIRST_IS_OVERWRITE_CONTRECORD [14-18]
const OVERWRITES: u8 = 0x08;

/// What a byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Of a page header.
    Header,
    /// The flags of a page header, low byte.
    Flags,
    /// Of a record.
    Record,
}

/// What the bytes of one segment are.
pub(crate) struct Meaning {
    parts: Vec<Option<Part>>,
    /// The bytes that are read.
    pub(crate) read: Range<usize>,
}

impl Meaning {
    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// What a bit is; none if it means nothing.
    pub(super) fn of(&self, offset: usize, bit: u8) -> Option<Part> {
        let part = self.parts[offset];
        if part == Some(Part::Flags) && 1 << bit == REMOVABLE {
            return None;
        }
        part
    }
}

/// What the bytes of these segments, which follow one another, are: of the records that start from
/// `redo` on and before `end`, and of the pages they lie on.
pub(super) fn of(segments: &[Vec<u8>], redo: Lsn, end: Lsn) -> Vec<Meaning> {
    let size = segments[0].len();
    let first = u64::from_le_bytes(segments[0][8..16].try_into().unwrap());
    let mut walk = Walk {
        bytes: segments.concat(),
        parts: vec![None; size * segments.len()],
        size,
        at: usize::try_from(redo.0 - first).unwrap(),
    };
    let start = walk.at;
    let end = usize::try_from(end.0 - first).unwrap();
    // The page that holds the first record is read from its header on.
    walk.header(start / PAGE * PAGE);
    while walk.settle() < end {
        walk.record();
    }
    let stop = walk.at;
    (0..segments.len())
        .map(|number| {
            let (low, high) = (number * size, (number + 1) * size);
            Meaning {
                parts: walk.parts[low..high].to_vec(),
                read: start.clamp(low, high) - low..stop.clamp(low, high) - low,
            }
        })
        .collect()
}

struct Walk {
    bytes: Vec<u8>,
    parts: Vec<Option<Part>>,
    size: usize,
    at: usize,
}

impl Walk {
    /// Marks the header of the page at `page`; gives its length.
    fn header(&mut self, page: usize) -> usize {
        let length = if page.is_multiple_of(self.size) {
            40
        } else {
            24
        };
        self.parts[page..page + length].fill(Some(Part::Header));
        self.parts[page + 2] = Some(Part::Flags);
        // Four bytes of padding.
        self.parts[page + 20..page + 24].fill(None);
        length
    }

    /// Moves to where a record can start.
    fn settle(&mut self) -> usize {
        self.at = self.at.next_multiple_of(8);
        if self.at.is_multiple_of(PAGE) {
            self.at += self.header(self.at);
        }
        self.at
    }

    fn record(&mut self) {
        let start = self.at;
        let length = u32::from_le_bytes(self.bytes[start..start + 4].try_into().unwrap()) as usize;
        assert!(length >= 24, "no record at {start}");
        let (manager, info) = (self.bytes.get(start + 17).copied(), self.bytes[start + 16]);
        let mut left = length;
        while left > 0 {
            if self.at.is_multiple_of(PAGE) {
                let page = self.at;
                self.at += self.header(page);
                if self.bytes[page + 2] & OVERWRITES != 0 {
                    // What there is of the record is never used.
                    self.parts[start..page].fill(None);
                    self.parts[start..start + 4].fill(Some(Part::Record));
                    return;
                }
            }
            let here = left.min(PAGE - self.at % PAGE);
            self.parts[self.at..self.at + here].fill(Some(Part::Record));
            self.at += here;
            left -= here;
        }
        // Behind a switch the segment means nothing.
        if manager == Some(0) && info & 0xF0 == 0x40 {
            self.at = self.at.next_multiple_of(self.size);
        }
    }
}
