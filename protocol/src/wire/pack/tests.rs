//! What goes in comes out, and what does not is refused.

use super::*;
use crate::event::{EventHeader, EventKind, HEADER_BYTES};
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
    pack(pieces, &mut Room::default()).unwrap().to_vec()
}

fn unpack_all(packed: &[u8], raw: usize) -> Result<Bytes, WireError> {
    unpack(packed, raw, &Buffers::default())
}

fn packs(pieces: &[Bytes]) -> bool {
    pack(pieces, &mut Room::default()).is_some()
}

#[test]
fn a_row_like_the_one_before_costs_what_changes() {
    let whole: Vec<u8> = (0..100)
        .flat_map(|number| {
            let payload = [4, number, 0, 0, 0, 4, 8, 8, 8, 8];
            event(row(0x0100_0000 + 8 * u64::from(number), 0), &payload)
        })
        .collect();
    let cost =
        |rows: usize| packed(&[Bytes::copy_from_slice(&whole[..rows * (HEADER_BYTES + 10)])]).len();
    // Control byte; place; the byte that changed.
    assert_eq!(cost(100) - cost(50), 50 * (1 + 1 + 1));
}

#[test]
fn rows_that_are_the_same_cost_a_byte() {
    for size in [0, 1, 63, 64, 65, 300] {
        let rows: Vec<u8> = (0..2000)
            .flat_map(|number| event(row(0x0100_0000, number), &vec![7; size]))
            .collect();
        let rows = Bytes::from(rows);
        let packed = packed(std::slice::from_ref(&rows));
        if size <= BLOCK_BYTES {
            assert!(packed.len() < 2000 + 500, "{size}: {}", packed.len());
        }
        assert_eq!(unpack_all(&packed, rows.len()), Ok(rows), "{size}");
    }
}

/// Every row of random bytes: differences would be larger than the rows.
#[test]
fn rows_unlike_each_other_cost_two_bytes_more() {
    let mut state = 1u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8 | 1
    };
    let rows: Vec<u8> = (0..1000)
        .flat_map(|number| {
            let payload: Vec<u8> = (0..40).map(|_| random()).collect();
            event(row(0x0100_0000 + 8 * number, 0), &payload)
        })
        .collect();
    let bytes = packed(&[Bytes::from(rows)]).len();
    let least = 1000 * (40 + 2 + 1);
    assert!((least..least + least / 100).contains(&bytes), "{bytes}");
}

#[test]
fn pieces_of_events_are_not_packed() {
    let whole = Bytes::from(event(row(8, 0), &[0; 100]));
    for cut in [1, 27, 28, 29, 127] {
        let pieces = [whole.slice(..cut), whole.slice(cut..)];
        assert!(!packs(&pieces), "{cut}");
    }
    let mut lying = whole.to_vec();
    lying[0] = 10;
    assert!(!packs(&[Bytes::from(lying)]));
}

#[test]
fn large_events_are_not_packed() {
    for (size, small) in [
        (100, true),
        (600, true),
        (750, true),
        (850, false),
        (5000, false),
    ] {
        let events: Vec<u8> = (0..200)
            .flat_map(|_| event(row(8, 0), &vec![7; size]))
            .collect();
        assert_eq!(packs(&[Bytes::from(events)]), small, "{size}");
    }
}

#[test]
fn sizes_that_lie_are_refused() {
    let events = Bytes::from([event(row(8, 0), &[5; 300]), event(row(8, 1), b"x")].concat());
    let packed = packed(std::slice::from_ref(&events));
    assert_eq!(unpack_all(&packed, events.len()), Ok(events.clone()));
    for lie in [0, 1, events.len() - 1, events.len() + 1, 1 << 20] {
        assert!(unpack_all(&packed, lie).is_err(), "{lie}");
    }
    for end in 0..packed.len() {
        assert!(unpack_all(&packed[..end], events.len()).is_err(), "{end}");
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
            // Of few sizes, so that shapes come again; few bytes differ, or all.
            proptest::collection::vec(prop_oneof![Just(7u8), Just(7), any::<u8>()], 14..20),
            proptest::collection::vec(any::<u8>(), 0..10),
            proptest::collection::vec(prop_oneof![9 => Just(7u8), 1 => any::<u8>()], 250..254),
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
    fn what_goes_in_comes_out(events in proptest::collection::vec(any_event(), 0..60)) {
        // Rows that packing gains on, some of one record: it gives none of events that all have to be
        // given whole.
        let gaining = (0..60).map(|number: u32| {
            let payload = [7, (number / 3) as u8, 7, 7, 7, 7, 7, 7, (number % 10) as u8, 7];
            event(row(u64::from(number / 4 * 8), number % 4), &payload)
        });
        let events: Vec<Vec<u8>> = events.into_iter().chain(gaining).collect();
        let pieces: Vec<Bytes> = events.iter().cloned().map(Bytes::from).collect();
        let raw = events.concat();
        let packed = packed(&pieces);
        prop_assert_eq!(unpack_all(&packed, raw.len()), Ok(Bytes::from(raw)));
    }

    #[test]
    fn flipped_bytes_are_refused_or_harmless(
        events in proptest::collection::vec(any_event(), 20..60),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        raw in prop_oneof![Just(0), -100isize..100],
    ) {
        let gaining = (0..60).map(|number| event(row(8 * number, 0), &[7; 20]));
        let events: Vec<Vec<u8>> = gaining.chain(events).collect();
        let pieces: Vec<Bytes> = events.iter().cloned().map(Bytes::from).collect();
        let raw = events.concat().len().saturating_add_signed(raw);
        let mut packed = packed(&pieces);
        for (at, byte) in flips {
            let at = at.index(packed.len());
            packed[at] = byte;
        }
        if let Ok(events) = unpack_all(&packed, raw) {
            prop_assert_eq!(events.len(), raw);
        }
    }

    #[test]
    fn any_bytes(packed in proptest::collection::vec(any::<u8>(), 0..300), raw in 0usize..5000) {
        if let Ok(events) = unpack_all(&packed, raw) {
            prop_assert_eq!(events.len(), raw);
        }
    }
}
