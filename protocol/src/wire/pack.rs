//! Packing: the events of a data frame with their headers as differences, before LZ4.
//!
//! Of the 28 bytes of an event's header nearly all are those of the event before, or a little more.
//! Written as differences they are 3 bytes, which is fewer bytes to compress, to send and to
//! decompress. Payloads come first, heads after them, each in the order of the events:
//!
//! ```text
//! 0            4
//! | head bytes | payloads ... | heads ...
//!
//! a head: a control byte, then what it asks for, in this order
//!
//! bit 0      0: kind, flags and count as before   1: u8 kind, u8 flags, u16 count
//! bits 1-2   xid: 0 as before, 1 one more, 2 u32
//! bit 3      0: relation as before                1: u32 relation
//! bits 4-5   place: 0 same record LSN, row one more
//!                   1 record LSN 8 x u8 further, row 0
//!                   2 record LSN 8 x u16 further, row 0
//!                   3 u64 record LSN, u32 row
//! bit 6      0: u8 payload bytes                  1: u32 payload bytes
//! bit 7      1: of this event only the xid is what the next one's "before" means: begins and
//!            commits, which stand between rows and are unlike them
//! ```
//!
//! Before the first event everything is 0.

use bytes::Bytes;

use super::error::WireError;
use super::limits::PACKED_RATIO_MAX;
use crate::event::{EventKind, HEADER_BYTES};

/// Payloads up to this many bytes are copied as if they had so many.
const SHORT_BYTES: usize = 48;

/// Events of more than this many bytes on average are not packed: it would only copy them.
const LARGE_BYTES: usize = 512;
/// So many bytes decide whether events are large.
const SAMPLE_BYTES: usize = 8 * 1024;

/// Longer than any head: 1 + 4 + 4 + 4 + 12 + 4 bytes.
const HEAD_BYTES_MAX: usize = 32;

const KIND: u8 = 1;
const XID_NEXT: u8 = 1 << 1;
const XID_GIVEN: u8 = 2 << 1;
const XID: u8 = 3 << 1;
const RELATION: u8 = 1 << 3;
const PLACE_SHIFT: u8 = 4;
const PLACE_NEXT_ROW: u8 = 0;
const PLACE_NEAR: u8 = 1;
const PLACE_FAR: u8 = 2;
const PLACE_GIVEN: u8 = 3;
const LONG: u8 = 1 << 6;
const ASIDE: u8 = 1 << 7;
/// The control byte of a row after one like it.
const USUAL: u8 = PLACE_NEAR << PLACE_SHIFT;

/// Whether an event's first four bytes after its size say that it stands aside.
#[inline]
fn is_aside(kind: u32) -> bool {
    let kind = kind as u8;
    kind == EventKind::Begin as u8 || kind == EventKind::Commit as u8
}

#[inline]
const fn both(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

/// What a head is a difference to, in the words in which a header is written: put together from
/// pieces in memory they would have to wait for the pieces.
#[derive(Clone, Copy, Default)]
struct Before {
    /// The first 8 bytes of a header with 0 for its size: kind, flags, count.
    kind: u64,
    /// The next 8: xid, relation.
    names: u64,
    record_lsn: u64,
    /// A whole word too, though it is a u32.
    row: u64,
}

impl Before {
    /// Reads an event's header, without its size.
    #[inline]
    fn of(raw: &[u8; HEADER_BYTES]) -> Self {
        let u32_at =
            |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let u64_at = |at: usize| both(u32_at(at), u32_at(at + 4));
        Self {
            kind: both(0, u32_at(4)),
            names: u64_at(8),
            record_lsn: u64_at(16),
            row: u64::from(u32_at(24)),
        }
    }

    #[inline]
    fn write_header(&self, size: u32, out: &mut [u8; HEADER_BYTES]) {
        out[0..8].copy_from_slice(&(self.kind | u64::from(size)).to_le_bytes());
        out[8..16].copy_from_slice(&self.names.to_le_bytes());
        out[16..24].copy_from_slice(&self.record_lsn.to_le_bytes());
        out[24..28].copy_from_slice(&(self.row as u32).to_le_bytes());
    }

    const fn kind(&self) -> u32 {
        (self.kind >> 32) as u32
    }

    const fn xid(&self) -> u32 {
        self.names as u32
    }

    const fn relation(&self) -> u32 {
        (self.names >> 32) as u32
    }

    /// Writes the head of an event with this header, whose payload has so many bytes.
    #[inline]
    fn write_head(&mut self, now: Self, payload: u32, heads: &mut Vec<u8>) {
        let further = now.record_lsn.wrapping_sub(self.record_lsn);
        let alike = now.kind == self.kind && now.names == self.names;
        // Most events: a row after one like it. The first 3 bits are 0 and the LSN is a multiple of 8.
        if alike
            && now.row == 0
            && further != 0
            && further & !(u64::from(u8::MAX) << 3) == 0
            && payload <= u32::from(u8::MAX)
            && !is_aside(now.kind())
        {
            heads.extend_from_slice(&[USUAL, (further >> 3) as u8, payload as u8]);
            self.record_lsn = now.record_lsn;
            self.row = 0;
            return;
        }
        self.write_unusual(now, payload, heads);
    }

    #[inline(never)]
    fn write_unusual(&mut self, now: Self, payload: u32, heads: &mut Vec<u8>) {
        let mut head = [0; HEAD_BYTES_MAX];
        let mut at = 1;
        let mut control = 0;
        macro_rules! put {
            ($value:expr) => {{
                let bytes = $value.to_le_bytes();
                head[at..at + bytes.len()].copy_from_slice(&bytes);
                at += bytes.len();
            }};
        }
        if now.kind != self.kind {
            control |= KIND;
            put!(now.kind());
        }
        if now.xid() != self.xid() {
            if now.xid() == self.xid().wrapping_add(1) {
                control |= XID_NEXT;
            } else {
                control |= XID_GIVEN;
                put!(now.xid());
            }
        }
        if now.relation() != self.relation() {
            control |= RELATION;
            put!(now.relation());
        }
        let further = now.record_lsn.wrapping_sub(self.record_lsn);
        let near = now.row == 0 && further.is_multiple_of(8) && further > 0;
        control |= PLACE_GIVEN << PLACE_SHIFT;
        if near && further <= 8 * u64::from(u8::MAX) {
            control ^= (PLACE_GIVEN ^ PLACE_NEAR) << PLACE_SHIFT;
            put!((further / 8) as u8);
        } else if near && further <= 8 * u64::from(u16::MAX) {
            control ^= (PLACE_GIVEN ^ PLACE_FAR) << PLACE_SHIFT;
            put!((further / 8) as u16);
        } else if further == 0 && now.row as u32 == (self.row as u32).wrapping_add(1) {
            control ^= (PLACE_GIVEN ^ PLACE_NEXT_ROW) << PLACE_SHIFT;
        } else {
            put!(now.record_lsn);
            put!(now.row as u32);
        }
        match u8::try_from(payload) {
            Ok(short) => put!(short),
            Err(_) => {
                control |= LONG;
                put!(payload);
            }
        }
        if is_aside(now.kind()) {
            control |= ASIDE;
            self.names = both(now.xid(), self.relation());
        } else {
            *self = now;
        }
        head[0] = control;
        heads.extend_from_slice(&head[..at]);
    }

    /// Reads the head that `heads` begin with, of an event after this one; none if it is none. By value,
    /// so that the caller's loop keeps in registers what it knows.
    #[inline(never)]
    fn read_unusual(mut self, heads: &[u8]) -> Option<Head> {
        // A copy of fixed length, in which reading is cheap; what is beyond the heads' end is 0 and
        // not taken.
        let mut head = [0; HEAD_BYTES_MAX];
        let there = heads.len().min(HEAD_BYTES_MAX);
        head[..there].copy_from_slice(&heads[..there]);
        let mut at = 1;
        let u32_here = |at: &mut usize| -> Option<u32> {
            let bytes = head.get(*at..)?.first_chunk()?;
            *at += 4;
            Some(u32::from_le_bytes(*bytes))
        };
        let control = *heads.first()?;
        let mut now = self;
        if control & KIND != 0 {
            now.kind = both(0, u32_here(&mut at)?);
        }
        let xid = match control & XID {
            0 => now.xid(),
            XID_NEXT => now.xid().wrapping_add(1),
            XID_GIVEN => u32_here(&mut at)?,
            _ => return None,
        };
        let relation = match control & RELATION {
            0 => now.relation(),
            _ => u32_here(&mut at)?,
        };
        now.names = both(xid, relation);
        match control >> PLACE_SHIFT & 3 {
            PLACE_NEXT_ROW => now.row = u64::from((now.row as u32).wrapping_add(1)),
            PLACE_GIVEN => {
                now.record_lsn = both(u32_here(&mut at)?, u32_here(&mut at)?);
                now.row = u64::from(u32_here(&mut at)?);
            }
            place => {
                let low = *head.get(at)?;
                let high = match place {
                    PLACE_NEAR => 0,
                    _ => *head.get(at + 1)?,
                };
                at += usize::from(place);
                let eighths = u64::from(u16::from_le_bytes([low, high]));
                now.record_lsn = now.record_lsn.wrapping_add(8 * eighths);
                now.row = 0;
            }
        }
        let payload = match control & LONG {
            0 => {
                at += 1;
                u32::from(*head.get(at - 1)?)
            }
            _ => u32_here(&mut at)?,
        };
        match control & ASIDE {
            0 => self = now,
            _ => self.names = both(xid, self.relation()),
        }
        (at <= there).then_some(Head {
            now,
            before: self,
            payload: payload as usize,
            bytes: at,
        })
    }
}

/// A head as read.
struct Head {
    /// The header of its event.
    now: Before,
    /// What the next head is a difference to.
    before: Before,
    /// Bytes of the event's payload.
    payload: usize,
    /// Bytes of the head.
    bytes: usize,
}

/// Packs events into `packed`, which is emptied first; `heads` is room to work in. False, and of no
/// use, where it gains nothing and unless every piece is whole events.
pub(super) fn pack(pieces: &[Bytes], packed: &mut Vec<u8>, heads: &mut Vec<u8>) -> bool {
    packed.clear();
    heads.clear();
    packed.reserve(pieces.iter().map(Bytes::len).sum());
    packed.extend_from_slice(&[0; 4]);
    let mut before = Before::default();
    let mut bytes_max = SAMPLE_BYTES;
    for piece in pieces {
        let mut rest: &[u8] = piece;
        while !rest.is_empty() {
            let Some((raw, _)) = rest.split_first_chunk::<HEADER_BYTES>() else {
                return false;
            };
            let size = u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]) as usize;
            let Some(payload) = rest.get(HEADER_BYTES..size) else {
                return false;
            };
            before.write_head(Before::of(raw), payload.len() as u32, heads);
            bytes_max += LARGE_BYTES;
            if packed.len() + payload.len() > bytes_max {
                return false;
            }
            copy_first(packed, &rest[HEADER_BYTES..], payload.len());
            rest = &rest[size..];
        }
    }
    packed[..4].copy_from_slice(&(heads.len() as u32).to_le_bytes());
    packed.extend_from_slice(heads);
    true
}

/// Adds the first `bytes` of `from` to `out`.
///
/// Most payloads are short. Copying a fixed number of bytes and taking back those that are too many is
/// a few moves, where a copy of any length is a call.
#[inline]
fn copy_first(out: &mut Vec<u8>, from: &[u8], bytes: usize) {
    let end = out.len() + bytes;
    match from.first_chunk::<SHORT_BYTES>() {
        Some(chunk) if bytes <= SHORT_BYTES => out.extend_from_slice(chunk),
        _ => out.extend_from_slice(from.get(..bytes).unwrap_or_default()),
    }
    out.truncate(end);
}

/// Unpacks exactly `raw` bytes of events; the caller has bounded `raw`.
pub(super) fn unpack(packed: &[u8], raw: usize) -> Result<Bytes, WireError> {
    let bad = WireError::Invalid("packed events contradict their size");
    if raw > packed.len().saturating_mul(PACKED_RATIO_MAX) {
        return Err(bad);
    }
    let (head_bytes, body) = packed.split_first_chunk::<4>().ok_or(bad.clone())?;
    let head_bytes = u32::from_le_bytes(*head_bytes) as usize;
    let heads_at = body.len().checked_sub(head_bytes).ok_or(bad.clone())?;
    let (payloads, heads) = body.split_at(heads_at);
    let mut out = vec![0; raw + SHORT_BYTES];
    let (mut head_at, mut from, mut to) = (0, 0, 0);
    let mut before = Before::default();
    while let Some(head) = heads.get(head_at..).filter(|head| !head.is_empty()) {
        let now;
        let payload;
        if let Some([USUAL, eighths, short]) = head.first_chunk() {
            before.record_lsn = before.record_lsn.wrapping_add(u64::from(*eighths) << 3);
            before.row = 0;
            (now, payload) = (before, usize::from(*short));
            head_at += 3;
        } else {
            let read = before.read_unusual(head).ok_or(bad.clone())?;
            (now, before, payload) = (read.now, read.before, read.payload);
            head_at += read.bytes;
        }
        if payload > payloads.len() - from || HEADER_BYTES + payload > raw - to {
            return Err(bad);
        }
        let place = out.get_mut(to..).unwrap_or_default();
        let Some((header, rest)) = place.split_first_chunk_mut() else {
            return Err(bad);
        };
        now.write_header((HEADER_BYTES + payload) as u32, header);
        // A few moves of a fixed length, where that does: a copy of any length is a call.
        let source = body.get(from..).unwrap_or_default();
        match (source.first_chunk(), rest.first_chunk_mut::<SHORT_BYTES>()) {
            (Some(source), Some(rest)) if payload <= SHORT_BYTES => *rest = *source,
            _ => rest[..payload].copy_from_slice(&source[..payload]),
        }
        from += payload;
        to += HEADER_BYTES + payload;
    }
    out.truncate(raw);
    match from == payloads.len() && to == raw {
        true => Ok(Bytes::from(out)),
        false => Err(bad),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventHeader;
    use crate::ids::{Lsn, Xid};
    use crate::schema::RelationVersion;
    use proptest::prelude::*;

    fn event(header: EventHeader, payload: &[u8]) -> Vec<u8> {
        let size = (HEADER_BYTES + payload.len()) as u32;
        let mut bytes = EventHeader { size, ..header }.to_bytes().to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    fn row(record_lsn: u64, row: u32) -> EventHeader {
        EventHeader {
            size: 0,
            kind: EventKind::Insert,
            flags: 0,
            count: 2,
            xid: Xid(700),
            relation: RelationVersion(3),
            record_lsn: Lsn(record_lsn),
            row,
        }
    }

    fn packed(pieces: &[Bytes]) -> Vec<u8> {
        let (mut out, mut heads) = (Vec::new(), Vec::new());
        assert!(pack(pieces, &mut out, &mut heads));
        out
    }

    #[test]
    fn a_plain_insert_costs_three_bytes() {
        let one = event(row(0x0100_0000, 0), &[1, 7, 1, 8]);
        let next = event(row(0x0100_0040, 0), &[1, 7, 1, 9]);
        let first = packed(&[Bytes::from(one.clone())]).len();
        let both = packed(&[Bytes::from([one, next].concat())]).len();
        assert_eq!(both - first, 4 + 3);
    }

    #[test]
    fn pieces_of_events_are_not_packed() {
        let whole = Bytes::from(event(row(8, 0), &[0; 100]));
        let (mut out, mut heads) = (Vec::new(), Vec::new());
        for cut in [1, 27, 28, 29, 127] {
            let pieces = [whole.slice(..cut), whole.slice(cut..)];
            assert!(!pack(&pieces, &mut out, &mut heads), "{cut}");
        }
        let mut lying = whole.to_vec();
        lying[0] = 10;
        assert!(!pack(&[Bytes::from(lying)], &mut out, &mut heads));
    }

    #[test]
    fn large_events_are_not_packed() {
        let (mut out, mut heads) = (Vec::new(), Vec::new());
        for (size, packs) in [(100, true), (400, true), (600, false), (5000, false)] {
            let events: Vec<u8> = (0..200)
                .flat_map(|_| event(row(8, 0), &vec![7; size]))
                .collect();
            assert_eq!(
                pack(&[Bytes::from(events)], &mut out, &mut heads),
                packs,
                "{size}"
            );
        }
    }

    #[test]
    fn sizes_that_lie_are_refused() {
        let events = Bytes::from([event(row(8, 0), &[5; 300]), event(row(8, 1), b"x")].concat());
        let packed = packed(std::slice::from_ref(&events));
        assert_eq!(unpack(&packed, events.len()), Ok(events.clone()));
        for lie in [0, 1, events.len() - 1, events.len() + 1, 1 << 20] {
            assert!(unpack(&packed, lie).is_err(), "{lie}");
        }
        for end in 0..packed.len() {
            assert!(unpack(&packed[..end], events.len()).is_err(), "{end}");
        }
    }

    prop_compose! {
        fn any_event()(
            kind in prop_oneof![1u8..=9, Just(1), Just(1)],
            flags in prop_oneof![Just(0), any::<u8>()],
            count in prop_oneof![Just(2), any::<u16>()],
            xid in prop_oneof![700u32..704, any::<u32>()],
            relation in prop_oneof![1u32..3, any::<u32>()],
            lsn in prop_oneof![
                (0u64..5000).prop_map(|n| 0x0100_0000 + 8 * n),
                (0u64..200_000).prop_map(|n| 8 * n),
                any::<u64>(),
            ],
            row in prop_oneof![Just(0), 0u32..4, any::<u32>()],
            payload in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..40),
                proptest::collection::vec(any::<u8>(), 250..300),
            ],
        ) -> Vec<u8> {
            let header = EventHeader {
                size: 0,
                kind: EventKind::from_u8(kind).unwrap(),
                flags,
                count,
                xid: Xid(xid),
                relation: RelationVersion(relation),
                record_lsn: Lsn(lsn),
                row,
            };
            event(header, &payload)
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(events in proptest::collection::vec(any_event(), 0..30)) {
            let pieces: Vec<Bytes> = events.iter().cloned().map(Bytes::from).collect();
            let raw = events.concat();
            let packed = packed(&pieces);
            prop_assert_eq!(unpack(&packed, raw.len()), Ok(Bytes::from(raw)));
        }

        #[test]
        fn any_bytes(packed in proptest::collection::vec(any::<u8>(), 0..300), raw in 0usize..5000) {
            if let Ok(events) = unpack(&packed, raw) {
                prop_assert_eq!(events.len(), raw);
            }
        }
    }
}
