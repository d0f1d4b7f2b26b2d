//! Whose an event is and where: as difference to the event before.

use super::shape::Shape;
use crate::Position;
use crate::event::{EventKind, HEADER_BYTES};

/// The same record, one row further.
pub(super) const NEXT: u8 = 0;
/// A record eight times a byte further.
pub(super) const NEAR: u8 = 1;
const FAR: u8 = 2;
const GIVEN: u8 = 3;
const PLACE: u8 = 3;
const XID_NEAR: u8 = 1 << 2;
const XID_GIVEN: u8 = 2 << 2;
const XID: u8 = 3 << 2;

/// Whether events of this shape are begins or commits, which stand between rows.
#[inline(always)]
pub(super) const fn is_aside(shape: &Shape) -> bool {
    let kind = shape.kind() as u8;
    kind == EventKind::Begin as u8 || kind == EventKind::Commit as u8
}

/// The row of most events of this shape.
#[inline(always)]
const fn usual_row(shape: &Shape) -> u32 {
    match shape.kind() as u8 == EventKind::Commit as u8 {
        true => Position::COMMIT_ROW,
        false => 0,
    }
}

/// Whether a place so much further is so many eighths, in a byte.
#[inline(always)]
const fn is_near(further: u64) -> bool {
    further & !((u8::MAX as u64) << 3) == 0
}

/// Whether a control byte's bits for the place are those of most rows: of the transaction before, and
/// [`NEXT`] or [`NEAR`].
#[inline(always)]
pub(super) const fn is_usual(place: u8) -> bool {
    place & !NEAR == 0
}

/// The transaction and the place of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    xid: u32,
    record_lsn: u64,
    row: u32,
}

impl Place {
    /// That of the event with this header.
    #[inline(always)]
    pub(super) fn of(raw: &[u8; HEADER_BYTES]) -> Self {
        let u32_at =
            |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        Self {
            xid: u32_at(8),
            record_lsn: u64::from(u32_at(16)) | u64::from(u32_at(20)) << 32,
            row: u32_at(24),
        }
    }

    /// How a row of the same transaction is behind this one, if it is in a usual place: the bits of the
    /// control byte, which are also the bytes of its place, and how many eighths its record is further.
    #[inline(always)]
    pub(super) fn usual(&self, raw: &[u8; HEADER_BYTES]) -> Option<(u8, u8)> {
        let now = Self::of(raw);
        let further = now.record_lsn.wrapping_sub(self.record_lsn);
        if further == 0 && now.row == self.row.wrapping_add(1) {
            return Some((NEXT, 0));
        }
        (is_near(further) && now.row == 0).then_some((NEAR, (further >> 3) as u8))
    }

    /// Goes on to a row that is behind this one so.
    #[inline(always)]
    pub(super) const fn go_on_usual(&mut self, control: u8, eighths: u8) {
        self.record_lsn = self.record_lsn.wrapping_add((eighths as u64) << 3);
        self.row = match control == NEAR {
            true => 0,
            false => self.row.wrapping_add(1),
        };
    }

    /// The header of an event here.
    #[inline(always)]
    pub(super) fn write_header(&self, size: u32, shape: &Shape, out: &mut [u8; HEADER_BYTES]) {
        // In whole words: whoever reads one put together from pieces has to wait for the pieces.
        let both = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        out[0..8].copy_from_slice(&both(size, shape.kind()).to_le_bytes());
        out[8..16].copy_from_slice(&both(self.xid, shape.relation()).to_le_bytes());
        out[16..24].copy_from_slice(&self.record_lsn.to_le_bytes());
        out[24..28].copy_from_slice(&self.row.to_le_bytes());
    }

    /// Writes the place of an event of this shape as difference to `before`, which becomes what the
    /// next one is a difference to. Gives its bits of the control byte and how many bytes were
    /// written.
    #[inline(always)]
    pub(super) fn write(self, shape: &Shape, before: &mut Self, out: &mut [u8]) -> (u8, usize) {
        let further = self.record_lsn.wrapping_sub(before.record_lsn);
        let written = if is_near(further) && self.row == usual_row(shape) && self.xid == before.xid
        {
            out[0] = (further >> 3) as u8;
            (NEAR, 1)
        } else {
            self.write_unusual(*shape, *before, out)
        };
        before.go_on(shape, self);
        written
    }

    /// Makes `now` what the next place is a difference to. Begins and commits leave it at the last
    /// row's, but for the xid.
    #[inline(always)]
    fn go_on(&mut self, shape: &Shape, now: Self) {
        self.xid = now.xid;
        if !is_aside(shape) {
            self.record_lsn = now.record_lsn;
            self.row = now.row;
        }
    }

    // All by value: what is passed by reference lives in memory, also where this is not called.
    #[inline(never)]
    fn write_unusual(self, shape: Shape, before: Self, out: &mut [u8]) -> (u8, usize) {
        let mut at = 0;
        let mut control = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        let later = self.xid.wrapping_sub(before.xid) as i32;
        if let Ok(later) = i8::try_from(later) {
            if later != 0 {
                control |= XID_NEAR;
                put(&later.to_le_bytes());
            }
        } else {
            control |= XID_GIVEN;
            put(&self.xid.to_le_bytes());
        }
        let further = self.record_lsn.wrapping_sub(before.record_lsn) as i64;
        let usual = further % 8 == 0 && self.row == usual_row(&shape);
        let eighths = usual.then_some(further / 8);
        if (self.record_lsn, self.row) == before.next(&shape) {
            control |= NEXT;
        } else if let Some(near) = eighths.and_then(|eighths| u8::try_from(eighths).ok()) {
            control |= NEAR;
            put(&[near]);
        } else if let Some(far) = eighths.and_then(|eighths| i32::try_from(eighths).ok()) {
            control |= FAR;
            put(&far.to_le_bytes());
        } else {
            control |= GIVEN;
            put(&self.record_lsn.to_le_bytes());
            put(&self.row.to_le_bytes());
        }
        (control, at)
    }

    /// Where an event of this shape is that needs no saying, after this one: its record and row.
    #[inline]
    fn next(&self, shape: &Shape) -> (u64, u32) {
        match is_aside(shape) {
            true => (0, 0),
            false => (self.record_lsn, self.row.wrapping_add(1)),
        }
    }

    /// The other way: reads a place from the beginning of `places`, and takes it away there; none if
    /// there is none. This becomes what the next one is a difference to.
    #[inline(always)]
    pub(super) fn read(&mut self, shape: &Shape, control: u8, places: &mut &[u8]) -> Option<Self> {
        let now = if control & (XID | PLACE) == NEAR {
            let (eighths, rest) = places.split_first()?;
            *places = rest;
            Self {
                record_lsn: self.record_lsn.wrapping_add(u64::from(*eighths) << 3),
                row: usual_row(shape),
                ..*self
            }
        } else {
            let (now, rest) = self.read_unusual(*shape, control, places)?;
            *places = rest;
            now
        };
        self.go_on(shape, now);
        Some(now)
    }

    #[inline(never)]
    fn read_unusual(
        mut self,
        shape: Shape,
        control: u8,
        mut places: &[u8],
    ) -> Option<(Self, &[u8])> {
        fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
            let (taken, rest) = from.split_first_chunk()?;
            *from = rest;
            Some(*taken)
        }
        match control & XID {
            0 => {}
            XID_NEAR => {
                let later = i8::from_le_bytes(take(&mut places)?);
                self.xid = self.xid.wrapping_add_signed(later.into());
            }
            XID_GIVEN => self.xid = u32::from_le_bytes(take(&mut places)?),
            _ => return None,
        }
        let eighths = match control & PLACE {
            NEXT => {
                (self.record_lsn, self.row) = self.next(&shape);
                return Some((self, places));
            }
            GIVEN => {
                self.record_lsn = u64::from_le_bytes(take(&mut places)?);
                self.row = u32::from_le_bytes(take(&mut places)?);
                return Some((self, places));
            }
            NEAR => i64::from(u8::from_le_bytes(take(&mut places)?)),
            _ => i64::from(i32::from_le_bytes(take(&mut places)?)),
        };
        self.record_lsn = self.record_lsn.wrapping_add_signed(8 * eighths);
        self.row = usual_row(&shape);
        Some((self, places))
    }
}
