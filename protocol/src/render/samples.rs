//! Events for the renderers' tests.

use std::sync::Arc;

use crate::event::{
    self, Event, EventHeader, EventKind, HEADER_BYTES, TransactionHeader, flags, push_value,
};
use crate::ids::{Lsn, Oid, TimelineId, Xid};
use crate::schema::{
    Column, Database, Name, OutputFunction, Relation, RelationVersion, TypeDesc, TypeShape,
};

pub(super) enum Sample {
    Int(i32),
    Text(&'static str),
    Bool(bool),
    Null,
    Unchanged,
}

pub(super) fn base_type(oid: u32, formatted: &str, symbol: &str, length: i16) -> Arc<TypeDesc> {
    Arc::new(TypeDesc {
        oid: Oid(oid),
        schema: Name::from("pg_catalog"),
        name: Name::from(formatted),
        formatted: Name::from(formatted),
        length,
        align: b'i',
        shape: TypeShape::Base(OutputFunction {
            symbol: symbol.to_owned(),
            library: String::new(),
        }),
    })
}

/// `public."T" (a integer, b text, "user" boolean)`.
pub(super) fn relation(major: u16) -> Relation {
    let column = |number, name: &str, data_type| Column {
        number,
        name: Name::from(name),
        data_type,
        modifier: -1,
        not_null: false,
        key: number == 1,
        generated: 0,
    };
    Relation {
        version: RelationVersion(3),
        database: Arc::new(Database {
            oid: Oid(5),
            name: Name::from("postgres"),
            encoding: 6,
            major,
        }),
        oid: Oid(16_400),
        schema: Name::from("public"),
        name: Name::from("T"),
        kind: b'r',
        replica_identity: b'd',
        structure: None,
        columns: vec![
            column(1, "a", base_type(23, "integer", "int4out", 4)),
            column(2, "b", base_type(25, "text", "textout", -1)),
            column(3, "user", base_type(16, "boolean", "boolout", 1)),
        ],
    }
}

fn build(kind: EventKind, event_flags: u8, count: u16, payload: &[u8]) -> Vec<u8> {
    let header = EventHeader {
        size: (HEADER_BYTES + payload.len()) as u32,
        kind,
        flags: event_flags,
        count,
        xid: Xid(700),
        relation: RelationVersion(3),
        record_lsn: Lsn(0x16B_3700),
        row: 2,
    };
    [&header.to_bytes(), payload].concat()
}

pub(super) fn row(kind: EventKind, event_flags: u8, tuples: &[&[Sample]]) -> Vec<u8> {
    let mut payload = Vec::new();
    for value in tuples.iter().copied().flatten() {
        match value {
            Sample::Int(number) => push_value(&mut payload, &number.to_le_bytes()),
            Sample::Text(text) => push_value(&mut payload, text.as_bytes()),
            Sample::Bool(truth) => push_value(&mut payload, &[u8::from(*truth)]),
            Sample::Null => payload.push(event::TAG_NULL),
            Sample::Unchanged => payload.push(event::TAG_UNCHANGED),
        }
    }
    build(kind, event_flags, 3, &payload)
}

pub(super) fn truncate(event_flags: u8) -> Vec<u8> {
    build(EventKind::Truncate, event_flags, 1, &3_u32.to_le_bytes())
}

pub(super) fn message(transactional: bool) -> Vec<u8> {
    let event_flags = if transactional {
        flags::TRANSACTIONAL
    } else {
        0
    };
    build(EventKind::Message, event_flags, 0, b"\x01\0\0\0pxyz")
}

pub(super) fn header(xid: u32) -> TransactionHeader {
    TransactionHeader {
        timeline: TimelineId(1),
        commit_lsn: Lsn(0x16B_3748),
        end_lsn: Lsn(0x16B_3780),
        xid: Xid(xid),
        database: Oid(5),
        commit_time_us: 0,
        origin: None,
        gid: None,
    }
}

pub(super) fn begin(xid: u32) -> Vec<u8> {
    let payload = postcard::to_stdvec(&header(xid)).unwrap();
    build(EventKind::Begin, 0, 0, &payload)
}

pub(super) fn ddl(payload: &[u8]) -> Vec<u8> {
    build(EventKind::Ddl, 0, 0, payload)
}

pub(super) fn commit() -> Vec<u8> {
    build(EventKind::Commit, 0, 0, &[0; 12])
}

pub(super) fn read(bytes: &[u8]) -> Event<'_> {
    Event::read(&mut crate::cursor::Cursor::new(bytes)).unwrap()
}
