//! What events have in common that are alike: everything of a header but whose and where it is.

use crate::event::HEADER_BYTES;

/// Shapes that are remembered.
pub(super) const SLOTS: usize = 64;
/// Bytes of a shape that is given.
pub(super) const BYTES: usize = 12;

/// A shape of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Kind, flags and count as in a header, in the lower half; relation above.
    names: u64,
    /// Bytes of the payload.
    pub(super) payload: u32,
}

impl Shape {
    /// That of the event with this header.
    #[inline(always)]
    pub(super) fn of(raw: &[u8; HEADER_BYTES], payload: u32) -> Self {
        let kind = u32::from_le_bytes([raw[4], raw[5], raw[6], raw[7]]);
        let relation = u32::from_le_bytes([raw[12], raw[13], raw[14], raw[15]]);
        Self {
            names: u64::from(kind) | u64::from(relation) << 32,
            payload,
        }
    }

    /// Whether it is of no event: no kind has number 0.
    #[inline(always)]
    pub(super) const fn is_none(&self) -> bool {
        self.names as u8 == 0
    }

    /// Kind, flags and count as in a header.
    #[inline(always)]
    pub(super) const fn kind(&self) -> u32 {
        self.names as u32
    }

    /// Relation version.
    #[inline(always)]
    pub(super) const fn relation(&self) -> u32 {
        (self.names >> 32) as u32
    }

    /// Where it is remembered: below [`SLOTS`]. Part of the format: both sides must agree.
    #[inline(always)]
    pub(super) const fn slot(&self) -> usize {
        // Knuth's multiplicative hash: the product's upper bits depend on all of the factor's.
        let mixed = (self.names ^ (self.payload as u64) << 8).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> (u64::BITS - SLOTS.ilog2())) as usize
    }

    #[inline]
    pub(super) fn to_bytes(self) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        out[..8].copy_from_slice(&self.names.to_le_bytes());
        out[8..].copy_from_slice(&self.payload.to_le_bytes());
        out
    }

    #[inline]
    pub(super) fn from_bytes(bytes: &[u8; BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
        Self {
            names: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            payload: u32::from_le_bytes([i, j, k, l]),
        }
    }
}
