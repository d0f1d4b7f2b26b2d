//! Golden frames: one file per version and kind in `testdata/golden/`, so that a change of the
//! format is seen. Those of earlier versions are kept, and are refused by their version.
//!
//! `REDOSTREAM_BLESS=1 cargo test -p redostream-protocol golden` writes those of a new version.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::compress::{Compressor, Decompressor, Form};
use super::data::DataBody;
use super::parts::Part;
use super::*;
use crate::event::{
    EventHeader, EventKind, HEADER_BYTES as EVENT_HEADER_BYTES, TransactionHeader, push_value,
};
use crate::ids::{Oid, TimelineId, Xid};
use crate::schema::{
    Column, Database, OutputFunction, Relation, RelationVersion, TypeDesc, TypeShape,
};
use crate::{Lsn, Position};

fn check(name: &str, bytes: &[u8]) -> Frame {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata/golden")
        .join(format!("{}/{name}.frame", header::VERSION));
    if std::env::var_os("REDOSTREAM_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }
    let golden = std::fs::read(&path).unwrap();
    assert_eq!(
        bytes, golden,
        "{name} is written in another form than before"
    );
    let mut reader = FrameReader::new(limits::FRAME_BYTES_MAX);
    reader.push(&golden);
    let frame = reader.pop().unwrap().unwrap();
    assert!(!reader.inside_frame());
    frame
}

fn check_payload<P: Payload + PartialEq + std::fmt::Debug>(name: &str, sequence: u64, payload: P) {
    let mut bytes = Vec::new();
    push_frame(&mut bytes, sequence, &payload);
    let frame = check(name, &bytes);
    assert_eq!(frame.header.sequence, sequence);
    assert_eq!(frame.decode::<P>().unwrap(), payload);
    for end in 0..frame.payload.len() {
        let _ = P::decode(&frame.payload[..end]);
    }
}

fn position() -> Position {
    Position {
        timeline: TimelineId(1),
        commit_lsn: Lsn(0x16B_3748),
        record_lsn: Lsn(0x16B_3700),
        row: 2,
    }
}

fn relation() -> Relation {
    let integer = TypeDesc {
        oid: Oid(23),
        schema: "pg_catalog".into(),
        name: "int4".into(),
        formatted: "integer".into(),
        length: 4,
        align: b'i',
        shape: TypeShape::Base(OutputFunction {
            symbol: "int4out".into(),
            library: String::new(),
        }),
    };
    Relation {
        version: RelationVersion(3),
        database: Arc::new(Database {
            oid: Oid(5),
            name: "postgres".into(),
            encoding: 6,
            major: 15,
        }),
        oid: Oid(16384),
        schema: "public".into(),
        name: "t".into(),
        kind: b'r',
        replica_identity: b'd',
        structure: None,
        columns: vec![Column {
            number: 1,
            name: "id".into(),
            data_type: Arc::new(integer),
            modifier: -1,
            not_null: true,
            key: true,
            generated: 0,
        }],
    }
}

#[test]
fn golden_frames() {
    check_payload(
        "hello",
        0,
        Hello {
            version_min: header::VERSION,
            version_max: header::VERSION,
            stripe: 2,
            session: [7; 16],
            token: [9; 32],
        },
    );
    check_payload(
        "welcome",
        0,
        Welcome {
            version: header::VERSION,
            streams: 4,
            peer_timeout_ms: 10_000,
            frame_bytes_max: 4 << 20,
        },
    );
    check_payload(
        "heartbeat",
        8,
        Heartbeat {
            released: Lsn(77),
            received: Lsn(99),
            source_time_us: -5,
        },
    );
    check_payload("credit", 0, Credit { granted: 1 << 40 });
    check_payload(
        "ack",
        0,
        Ack {
            position: position(),
            released: Lsn(1),
        },
    );
    check_payload(
        "database",
        14,
        Database {
            oid: Oid(5),
            name: "postgres".into(),
            encoding: 6,
            major: 15,
        },
    );
    check_payload("ping", 0, Ping);
    check_payload("bye", 0, Bye);
    check_payload(
        "end",
        9,
        End {
            reason: EndReason::Until,
            position: position(),
            released: Lsn(2),
        },
    );
    check_payload(
        "notice",
        10,
        Notice {
            lsn: Lsn(4),
            code: "skipped_rows".into(),
            detail: "public.t".into(),
        },
    );
    check_payload(
        "error",
        11,
        Fault::new(FaultCode::PositionTooOld, "gone")
            .oldest(Some(position()))
            .at(Lsn(3))
            .cluster(7),
    );
}

#[test]
fn frames_of_earlier_versions_are_refused_by_their_version() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/golden");
    for version in 1..header::VERSION {
        let frames = std::fs::read_dir(golden.join(version.to_string())).unwrap();
        let mut count = 0;
        for frame in frames {
            let mut reader = FrameReader::new(limits::FRAME_BYTES_MAX);
            reader.push(&std::fs::read(frame.unwrap().path()).unwrap());
            assert!(matches!(reader.pop(), Err(WireError::BadVersion(found)) if found == version));
            count += 1;
        }
        assert!(count > 10);
    }
}

#[test]
fn golden_relation() {
    let mut parts = RelationPart::split(&relation()).unwrap();
    assert_eq!(parts.len(), 1);
    let part = parts.remove(0);
    assert_eq!(RelationPart::decode_whole(&part.bytes), Ok(relation()));
    check_payload("relation", 12, part);
}

#[test]
fn golden_data() {
    let text = Bytes::from(b"events, events, events, events, events, events, ".repeat(4));
    let header = TransactionHeader {
        timeline: TimelineId(1),
        commit_lsn: Lsn(0x16B_3748),
        end_lsn: Lsn(0x16B_3790),
        xid: Xid(700),
        database: Oid(5),
        commit_time_us: 123,
        origin: None,
        gid: None,
    };
    let rows: Vec<u8> = (0..10).flat_map(golden_row).collect();
    let rows = Bytes::from(rows);
    let values = Bytes::from(golden_values());
    for (name, events, continues) in [
        ("data", &text, None),
        ("data-lz4", &text, Some(Arc::new(header))),
        ("data-packed", &rows, None),
        ("data-split", &values, None),
    ] {
        let pieces = vec![events.clone()];
        let body = match name {
            "data" => DataBody::raw(vec![events.slice(..10), events.slice(10..)]),
            "data-split" => {
                let mut compressor = Compressor::default();
                // What LZ4 gains in a column is known after the first block.
                compressor.compress(&pieces);
                DataBody::lz4(pieces, &mut compressor)
            }
            _ => DataBody::lz4(pieces, &mut Compressor::default()),
        };
        let head = DataHead {
            first: position(),
            last: position(),
            wal_end: Lsn(5),
            raw_size: body.raw_size,
            part: Part {
                number: 0,
                count: 1,
                total: u64::from(body.raw_size),
            },
            continues,
        };
        let mut bytes = head.encode(13, &body).unwrap();
        for piece in &body.stored {
            bytes.extend_from_slice(piece);
        }
        let form = match name {
            "data" => None,
            "data-packed" => Some(Form::Packed),
            "data-split" => Some(Form::Split),
            _ => Some(Form::Lz4),
        };
        assert_eq!(body.form, form);
        let frame = check(name, &bytes);
        let data = Data::decode(&frame, &mut Decompressor::default()).unwrap();
        assert_eq!(data.head, head);
        assert_eq!(data.events, events);
    }
}

/// An insert of one column, in records of different lengths.
fn golden_row(number: u64) -> Vec<u8> {
    golden_insert(number, 1, &[2, number as u8, 0])
}

/// Rows of two large values, one of digits and one of few letters.
fn golden_values() -> Vec<u8> {
    let mut state = 1u32;
    let mut rows = Vec::new();
    for number in 0..5 {
        let mut columns = Vec::new();
        let digits: Vec<u8> = (0..1100)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                b"0123456789abcdef"[(state >> 28) as usize]
            })
            .collect();
        push_value(&mut columns, &digits);
        push_value(&mut columns, &b"letters and ".repeat(100));
        rows.extend(golden_insert(number, 2, &columns));
    }
    rows
}

fn golden_insert(number: u64, count: u16, columns: &[u8]) -> Vec<u8> {
    let header = EventHeader {
        size: (EVENT_HEADER_BYTES + columns.len()) as u32,
        kind: EventKind::Insert,
        flags: 0,
        count,
        xid: Xid(700),
        relation: RelationVersion(3),
        record_lsn: Lsn(0x16B_3000 + number * number * 0x200),
        row: 0,
    };
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend_from_slice(columns);
    bytes
}
