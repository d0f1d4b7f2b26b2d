//! The way through one stretch of a transaction's rows, event by event or segment by segment.

use super::kept::Kept;
use super::part::Segment;
use super::part::segment_flags::SPECIAL;
use super::toast::Piece;
use super::transaction::StoredRun;

/// The piece that is being read, and how far.
pub(super) struct Reading {
    pub(super) piece: Piece,
    pub(super) run: StoredRun,
    segment: usize,
    /// Bytes left of the segment.
    pub(super) left: usize,
    /// Offset of the next event.
    pub(super) offset: usize,
}

impl Reading {
    /// Begins at the beginning.
    pub(super) fn new(piece: Piece, run: StoredRun) -> Self {
        let left = run.segments.first().map_or(0, |first| first.bytes as usize);
        Self {
            piece,
            run,
            segment: 0,
            left,
            offset: 0,
        }
    }

    /// The segment that the next event belongs to.
    pub(super) fn segment(&self) -> Option<Segment> {
        self.run.segments.get(self.segment).copied()
    }

    /// Moves on, over segments too.
    pub(super) fn advance(&mut self, mut bytes: usize) {
        self.offset += bytes;
        while bytes >= self.left {
            bytes -= self.left;
            self.segment += 1;
            match self.segment() {
                Some(segment) => self.left = segment.bytes as usize,
                None => {
                    self.left = 0;
                    return;
                }
            }
        }
        self.left -= bytes;
    }

    /// Bytes from here that can be passed on untouched, over segments.
    pub(super) fn passable(&self, kept: &Kept) -> usize {
        let further = self.run.segments.get(self.segment + 1..);
        let further: usize = further
            .unwrap_or_default()
            .iter()
            .take_while(|segment| segment.flags & SPECIAL == 0 && kept.keeps(segment.xid))
            .map(|segment| segment.bytes as usize)
            .sum();
        self.left + further
    }
}
