//! Rows and events as a server sends them, through the checks that a client makes of a block and
//! through everything that its library does with rows and DDL events.
//!
//! The checks take events that are alike many at a time. What they say must be what they say of the
//! same events one at a time.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use redostream_client::{ddl, fuzzing};
use redostream_engine::catalog::relation::Target;
use redostream_fuzz::{Input, target};
use redostream_protocol::ddl::DdlEvent;
use redostream_protocol::event::{
    EventHeader, EventKind, HEADER_BYTES, TAG_NULL, TAG_UNCHANGED, TransactionHeader, push_value,
};
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::wire::{OrderedCheck, check};
use redostream_protocol::{Lsn, Oid, TimelineId, Xid};

const TIMELINE: TimelineId = TimelineId(1);

/// What a check counts.
type Counts = (u64, u64, u64);

fn header(commit: u64) -> TransactionHeader {
    TransactionHeader {
        timeline: TIMELINE,
        commit_lsn: Lsn(commit),
        end_lsn: Lsn(commit + 8),
        xid: Xid(700),
        database: Oid(5),
        commit_time_us: 0,
        origin: None,
        gid: None,
    }
}

/// Takes the events between these offsets as one block.
fn block(events: &[u8], ordered: &mut OrderedCheck, columns: usize) -> Option<Counts> {
    let open = ordered.open().cloned();
    let summary = check::scan(events, TIMELINE, open.as_ref()).ok()?;
    let known = |version| (version == RelationVersion(1)).then_some(columns);
    ordered.push(&summary, known).ok()?;
    Some((summary.events, summary.rows, summary.transactions))
}

/// The same, an event in each block.
fn one_by_one(events: &[u8], columns: usize) -> Option<Counts> {
    let mut ordered = OrderedCheck::new(None);
    let (mut rest, mut all) = (events, (0, 0, 0));
    while !rest.is_empty() {
        let size = u32::from_le_bytes(*rest.first_chunk()?) as usize;
        let (event, after) = rest.split_at_checked(size.max(1))?;
        let counts = block(event, &mut ordered, columns)?;
        all = (all.0 + counts.0, all.1 + counts.1, all.2 + counts.2);
        rest = after;
    }
    Some(all)
}

fn event(kind: EventKind, flags: u8, count: u16, place: (u64, u32), payload: &[u8]) -> Vec<u8> {
    let has_relation = matches!(
        kind,
        EventKind::Insert | EventKind::Update | EventKind::Delete
    );
    let header = EventHeader {
        size: (HEADER_BYTES + payload.len()) as u32,
        kind,
        flags,
        count,
        xid: Xid(700),
        relation: RelationVersion(u32::from(has_relation)),
        record_lsn: Lsn(place.0),
        row: place.1,
    };
    [&header.to_bytes()[..], payload].concat()
}

/// Columns, most of them well formed.
fn tuple(input: &mut Input<'_>, columns: u16) -> Vec<u8> {
    let mut payload = Vec::new();
    for _ in 0..columns {
        match input.byte() {
            0 => payload.push(TAG_NULL),
            1 => payload.push(TAG_UNCHANGED),
            // Whatever tag comes.
            2 => payload.extend_from_slice(input.take(7)),
            3 => push_value(&mut payload, &[b'7'; 300]),
            length => push_value(&mut payload, input.take(usize::from(length) % 24)),
        }
    }
    payload
}

/// A transaction of rows, many of them alike.
fn transaction(input: &mut Input<'_>, commit: u64, columns: u16) -> Vec<u8> {
    let (mut events, mut count) = (Vec::new(), 0_u64);
    let mut record = commit - 90;
    for _ in 0..input.byte() % 4 {
        let shape = input.byte();
        let kind = match shape & 7 {
            0..=3 => EventKind::Insert,
            4 => EventKind::Update,
            5 => EventKind::Delete,
            _ => EventKind::from_u8(input.byte()).unwrap_or(EventKind::Message),
        };
        let flags = if shape & 8 == 0 { 0 } else { input.byte() };
        let tuples = 1 + u16::from(flags & 3 != 0 && kind != EventKind::Delete);
        let payload = match shape & 0x30 {
            0x30 => input.take(usize::from(shape)).to_vec(),
            _ => tuple(input, columns * tuples),
        };
        let columns = if shape & 0xC0 == 0xC0 {
            u16::from(input.byte())
        } else {
            columns
        };
        for row in 0..1 + u32::from(input.byte() % 9) {
            let mut made = event(kind, flags, columns, (record, row), &payload);
            // One of them is not alike.
            if row == 4 && shape & 0x40 != 0 {
                let at = usize::from(input.byte()) % made.len();
                made[at] ^= 1 << (input.byte() % 8);
            }
            events.extend(made);
            count += 1;
        }
        record += 8;
    }
    let mut claim = count.to_le_bytes().to_vec();
    claim.extend_from_slice(&crc32fast::hash(&events).to_le_bytes());
    let begin = postcard::to_stdvec(&header(commit)).expect("a header is encoded");
    [
        event(EventKind::Begin, 0, 0, (0, 0), &begin),
        events,
        event(EventKind::Commit, 0, 0, (commit, u32::MAX), &claim),
    ]
    .concat()
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let choice = input.byte() % 4;
    if choice == 0 {
        if let Ok(event) = postcard::from_bytes::<DdlEvent>(input.0) {
            let _ = ddl::statements(&event);
        }
        let _ = fuzzing::read_refusal(input.0);
        return;
    }
    let major = 14 + u16::from(input.byte() % 5);
    let target = target(&mut input, major);
    let Target::Table(layout) = &*target else {
        return;
    };
    let columns = layout.relation.columns.len();
    let events = match choice {
        1 => input.0.to_vec(),
        _ => {
            let (mut events, mut commit) = (Vec::new(), 1000);
            while !input.0.is_empty() && events.len() < 65_536 {
                events.extend(transaction(&mut input, commit, columns as u16));
                commit += 100;
            }
            events
        }
    };
    let together = block(&events, &mut OrderedCheck::new(None), columns);
    let alone = one_by_one(&events, columns);
    if !events.is_empty() {
        assert_eq!(
            together, alone,
            "what events are does not hang on their neighbours"
        );
    }
    fuzzing::read_rows(&events, &Arc::clone(&layout.relation));
});
