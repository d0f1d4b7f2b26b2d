//! A log of made-up transactions.

use redostream_client::protocol::control::Start;
use redostream_client::protocol::event::{
    EventHeader, EventKind, HEADER_BYTES, TransactionHeader, push_value,
};
use redostream_client::protocol::schema::{
    Column, Database, Name, OutputFunction, Relation, RelationVersion, TypeDesc, TypeShape,
};
use redostream_client::protocol::{Lsn, Oid, Position, TimelineId, Xid};
use std::sync::Arc;

/// One event, with its place and the transaction it is in.
#[derive(Clone)]
pub(crate) struct Placed {
    pub(crate) position: Position,
    pub(crate) header: Arc<TransactionHeader>,
    pub(crate) bytes: Vec<u8>,
}

/// `public.t (id integer)`.
pub(crate) fn relation() -> Relation {
    let data_type = TypeDesc {
        oid: Oid(23),
        schema: Name::from("pg_catalog"),
        name: Name::from("int4"),
        formatted: Name::from("integer"),
        length: 4,
        align: b'i',
        shape: TypeShape::Base(OutputFunction {
            symbol: "int4out".to_owned(),
            library: String::new(),
        }),
    };
    Relation {
        version: RelationVersion(1),
        database: Arc::new(Database {
            oid: Oid(5),
            name: Name::from("postgres"),
            encoding: 6,
            major: 15,
        }),
        oid: Oid(16_400),
        schema: Name::from("public"),
        name: Name::from("t"),
        kind: b'r',
        replica_identity: b'd',
        structure: None,
        columns: vec![Column {
            number: 1,
            name: Name::from("id"),
            data_type: Arc::new(data_type),
            modifier: -1,
            not_null: true,
            key: true,
            generated: 0,
        }],
    }
}

fn event(kind: EventKind, xid: u32, record: u64, row: u32, payload: &[u8]) -> Vec<u8> {
    let is_row = kind == EventKind::Insert;
    let header = EventHeader {
        size: (HEADER_BYTES + payload.len()) as u32,
        kind,
        flags: 0,
        count: u16::from(is_row),
        xid: Xid(xid),
        relation: RelationVersion(u32::from(is_row)),
        record_lsn: Lsn(record),
        row,
    };
    [&header.to_bytes()[..], payload].concat()
}

/// Start of the commit record of transaction `number`, from 0.
pub(crate) const fn commit_lsn(number: u64) -> u64 {
    0x1000 + number * 0x100
}

/// The events of `transactions` transactions of `rows` rows each that come after `start`, counted
/// as a session counts them: from its own beginning.
pub(crate) fn log(transactions: u64, rows: u64, start: Start) -> Vec<Placed> {
    let mut out = Vec::new();
    for number in 0..transactions {
        let lsn = commit_lsn(number);
        let xid = 700 + number as u32;
        let header = Arc::new(TransactionHeader {
            timeline: TimelineId(1),
            commit_lsn: Lsn(lsn),
            end_lsn: Lsn(lsn + 8),
            xid: Xid(xid),
            database: Oid(5),
            commit_time_us: 0,
            origin: None,
            gid: None,
        });
        let mut add = |position: Position, bytes: &[u8]| {
            let admitted = start.admits(&position);
            if admitted {
                let (header, bytes) = (Arc::clone(&header), bytes.to_vec());
                out.push(Placed {
                    position,
                    header,
                    bytes,
                });
            }
            admitted
        };
        let begin = postcard::to_stdvec(&*header).unwrap();
        add(
            Position::begin(TimelineId(1), Lsn(lsn)),
            &event(EventKind::Begin, xid, 0, 0, &begin),
        );
        let (mut sent, mut crc) = (0_u64, crc32fast::Hasher::new());
        for row in 0..rows {
            let mut value = Vec::new();
            push_value(&mut value, &((number * rows + row) as u32).to_le_bytes());
            let record = lsn - 0x80 + row;
            let bytes = event(EventKind::Insert, xid, record, 0, &value);
            let record_lsn = Lsn(record);
            let (timeline, commit_lsn) = (TimelineId(1), Lsn(lsn));
            if add(
                Position {
                    timeline,
                    commit_lsn,
                    record_lsn,
                    row: 0,
                },
                &bytes,
            ) {
                sent += 1;
                crc.update(&bytes);
            }
        }
        let mut claim = sent.to_le_bytes().to_vec();
        claim.extend_from_slice(&crc.finalize().to_le_bytes());
        add(
            Position::commit(TimelineId(1), Lsn(lsn)),
            &event(EventKind::Commit, xid, lsn, u32::MAX, &claim),
        );
    }
    out
}
