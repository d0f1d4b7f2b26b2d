//! Streams of events, right and wrong.

use super::*;
use crate::event::{EventHeader, EventKind, HEADER_BYTES, TAG_NULL, push_value};
use crate::{Lsn, TimelineId, Xid};
use proptest::prelude::*;

pub(crate) fn event(
    kind: EventKind,
    event_flags: u8,
    count: u16,
    record: u64,
    row: u32,
    payload: &[u8],
) -> Vec<u8> {
    let relation = match kind {
        EventKind::Insert | EventKind::Update | EventKind::Delete => RelationVersion(1),
        _ => RelationVersion(0),
    };
    let header = EventHeader {
        size: (HEADER_BYTES + payload.len()) as u32,
        kind,
        flags: event_flags,
        count,
        xid: Xid(700),
        relation,
        record_lsn: Lsn(record),
        row,
    };
    [&header.to_bytes()[..], payload].concat()
}

fn header(commit: u64) -> TransactionHeader {
    TransactionHeader {
        timeline: TimelineId(1),
        commit_lsn: Lsn(commit),
        end_lsn: Lsn(commit + 8),
        xid: Xid(700),
        database: crate::Oid(5),
        commit_time_us: 1,
        origin: None,
        gid: None,
    }
}

fn begin(commit: u64) -> Vec<u8> {
    let payload = postcard::to_stdvec(&header(commit)).unwrap();
    event(EventKind::Begin, 0, 0, 0, 0, &payload)
}

fn insert(record: u64, row: u32) -> Vec<u8> {
    let mut payload = Vec::new();
    push_value(&mut payload, &record.to_le_bytes());
    push_value(&mut payload, &[9; 300]);
    payload.push(TAG_NULL);
    event(EventKind::Insert, 0, 3, record, row, &payload)
}

fn commit(commit: u64, events: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = (events.len() as u64).to_le_bytes().to_vec();
    payload.extend_from_slice(&crc32fast::hash(&events.concat()).to_le_bytes());
    event(EventKind::Commit, 0, 0, commit, u32::MAX, &payload)
}

/// Two transactions and a message of its own, as separate events.
fn events() -> Vec<Vec<u8>> {
    let rows: Vec<_> = (0..5).map(|row| insert(10, row)).collect();
    let message = event(EventKind::Message, 0, 0, 150, 0, b"\x02\0\0\0abcontent");
    let mut out = vec![begin(100)];
    out.extend(rows.clone());
    out.push(commit(100, &rows));
    out.push(message);
    out.push(begin(200));
    out.push(insert(160, 0));
    out.push(commit(200, &[insert(160, 0)]));
    out
}

fn check_cut(events: &[Vec<u8>], cuts: &[usize]) -> Result<(), CheckError> {
    let mut ordered = OrderedCheck::new(None);
    let mut start = 0;
    for end in cuts.iter().copied().chain([events.len()]) {
        let open = ordered.open().cloned();
        let block = scan(&events[start..end].concat(), TimelineId(1), open.as_ref())?;
        if block.events > 0 {
            ordered.push(&block, |_| Some(3))?;
        }
        start = end;
    }
    assert!(ordered.open().is_none());
    Ok(())
}

#[test]
fn every_cut_into_blocks_passes() {
    let events = events();
    for first in 0..events.len() {
        for second in first..events.len() {
            check_cut(&events, &[first, second]).unwrap();
        }
    }
}

#[test]
fn a_missing_row_is_found_wherever_it_is() {
    for missing in 1..6 {
        for cut in 1..10 {
            let mut events = events();
            events.remove(missing);
            assert!(check_cut(&events, &[cut]).is_err());
        }
    }
}

#[test]
fn every_flipped_bit_that_changes_structure_or_sums_is_found_or_harmless() {
    let bytes = events().concat();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // Inside a transaction the checksum finds all; elsewhere it must not panic.
        let _ = scan(&flipped, TimelineId(1), None);
    }
}

#[test]
fn engine_only_things_are_refused() {
    let external = event(EventKind::Insert, 0, 1, 10, 0, &[0xF4; 17]);
    let chunk = event(EventKind::ToastChunk, 0, 0, 10, 0, &[0; 12]);
    for bad in [external, chunk] {
        let events = [begin(100), bad].concat();
        assert!(scan(&events, TimelineId(1), None).is_err());
    }
}

#[test]
fn an_unknown_relation_is_refused() {
    let block = scan(&events().concat(), TimelineId(1), None).unwrap();
    assert_eq!((block.rows, block.transactions, block.events), (6, 2, 11));
    let mut check = OrderedCheck::new(None);
    assert!(check.push(&block, |_| None).is_err());
    assert!(check.push(&block, |_| Some(2)).is_err());
    let mut late = OrderedCheck::new(Some(Position::begin(TimelineId(1), Lsn(100))));
    assert!(matches!(
        late.push(&block, |_| Some(3)),
        Err(CheckError::OutOfOrder { .. })
    ));
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = scan(&bytes, TimelineId(1), None);
        let _ = scan(&bytes, TimelineId(1), Some(&Arc::new(header(100))));
    }

    #[test]
    fn any_size_in_a_header(size in any::<u32>(), at in 0usize..3) {
        let mut bytes = events()[..3].concat();
        let offset: usize = events()[..at].iter().map(Vec::len).sum();
        bytes[offset..offset + 4].copy_from_slice(&size.to_le_bytes());
        let _ = scan(&bytes, TimelineId(1), None);
    }
}
