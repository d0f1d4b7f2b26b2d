//! What fuzz targets and random tests reach into; not there otherwise.

use std::collections::HashMap;
use std::sync::Arc;

use redostream_protocol::control::fault_of;
use redostream_protocol::cursor::Cursor;
use redostream_protocol::event::Event;
use redostream_protocol::schema::Relation;
use redostream_protocol::wire::Fault;
use redostream_protocol::wire::limits::VALUE_BYTES_MAX;

use crate::row::{self, Row, Shape, Value};

/// Does with the rows of events, one after another, whatever can be done with rows.
pub fn read_rows(events: &[u8], relation: &Arc<Relation>) {
    let shape = Shape::new(Arc::clone(relation), VALUE_BYTES_MAX as u64);
    let mut cursor = Cursor::new(events);
    while cursor.remaining() > 0 {
        let Ok(event) = Event::read(&mut cursor) else {
            return;
        };
        if let Ok((old, new)) = row::rows(&event, &shape) {
            old.iter().chain(&new).for_each(read_row);
        }
    }
}

/// What can be had of a value in one way can be had in the others, or is refused with a word.
fn read_row(row: &Row<'_>) {
    let names: Vec<&str> = row.columns().collect();
    let unchanged: Vec<&str> = row.unchanged().collect();
    assert!(unchanged.len() <= names.len());
    for (number, name) in names.iter().enumerate() {
        let (value, text) = (row.value(number), row.text(name));
        if let (Ok(Value::Printed(printed)), Ok(Some(text))) = (&value, &text) {
            assert_eq!(printed, text);
        }
        if let Ok(Value::Null | Value::Unchanged) = value {
            assert!(matches!(text, Ok(None)));
        }
    }
    assert!(row.value(names.len()).is_err());
    let json = row.to_json();
    let map = row.deserialize::<HashMap<String, serde_json::Value>>();
    assert_eq!(json.is_ok(), map.is_ok());
}

/// Reads the details of a refusal as a client does.
pub fn read_refusal(details: &[u8]) -> Option<Fault> {
    let details = bytes::Bytes::copy_from_slice(details);
    fault_of(&tonic::Status::with_details(
        tonic::Code::Internal,
        "",
        details,
    ))
}

#[cfg(test)]
mod tests {
    use redostream_protocol::event::{EventHeader, EventKind, HEADER_BYTES};
    use redostream_protocol::schema::{
        Column, Database, Name, OutputFunction, RelationVersion, TypeDesc, TypeShape,
    };
    use redostream_protocol::{Lsn, Oid, Xid};

    use super::*;

    const TYPES: [(u32, &str, i16); 9] = [
        (23, "int4out", 4),
        (25, "textout", -1),
        (16, "boolout", 1),
        (1700, "numeric_out", -1),
        (3802, "jsonb_out", -1),
        (114, "json_out", -1),
        (1184, "timestamptz_out", 8),
        (17, "byteaout", -1),
        (2950, "uuid_out", 16),
    ];

    fn relation() -> Arc<Relation> {
        let columns = TYPES
            .iter()
            .enumerate()
            .map(|(number, (oid, symbol, length))| Column {
                number: number as i16 + 1,
                name: Name::from(*symbol),
                data_type: Arc::new(TypeDesc {
                    oid: Oid(*oid),
                    schema: Name::from("pg_catalog"),
                    name: Name::from(*symbol),
                    formatted: Name::from(*symbol),
                    length: *length,
                    align: b'i',
                    shape: TypeShape::Base(OutputFunction {
                        symbol: (*symbol).to_owned(),
                        library: String::new(),
                    }),
                }),
                modifier: -1,
                not_null: false,
                key: number == 0,
                generated: 0,
            });
        Arc::new(Relation {
            version: RelationVersion(1),
            database: Arc::new(Database {
                major: 15,
                encoding: 6,
                ..Database::default()
            }),
            oid: Oid(20_000),
            schema: Name::from("public"),
            name: Name::from("t"),
            kind: b'r',
            replica_identity: b'd',
            structure: None,
            columns: columns.collect(),
        })
    }

    /// Any bytes as rows, most of them columns that can be read: nothing panics, and what is given
    /// in several ways is the same in each.
    #[test]
    fn any_bytes_are_rows_or_are_refused() {
        let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        println!("seed {seed}");
        let mut state = seed | 1;
        let mut below = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % bound
        };
        let relation = relation();
        for _ in 0..20_000 {
            let count = match below(4) {
                0 => below(14) as u16,
                _ => TYPES.len() as u16,
            };
            let mut payload = Vec::new();
            for _ in 0..2 * count {
                let value: Vec<u8> = match below(6) {
                    0 => b"{\"a\": [1, null]}".to_vec(),
                    _ => (0..below(20)).map(|_| below(256) as u8).collect(),
                };
                match below(8) {
                    0 => payload.extend(value),
                    1 => payload.push(redostream_protocol::event::TAG_NULL),
                    _ => redostream_protocol::event::push_value(&mut payload, &value),
                }
            }
            let kinds = [EventKind::Insert, EventKind::Update, EventKind::Delete];
            let header = EventHeader {
                size: (HEADER_BYTES + payload.len()) as u32,
                kind: kinds[below(3) as usize],
                flags: below(256) as u8,
                count,
                xid: Xid(700),
                relation: RelationVersion(1),
                record_lsn: Lsn(1),
                row: 0,
            };
            read_rows(&[&header.to_bytes()[..], &payload].concat(), &relation);
        }
    }
}
