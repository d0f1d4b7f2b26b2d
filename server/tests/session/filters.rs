//! Filters and column lists against a model of them.

use redostream_protocol::control::{Start, Until, v1};
use redostream_protocol::event::{Event, EventHeader, EventKind, HEADER_BYTES};
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::wire::FaultCode;
use redostream_protocol::{Cursor, Xid};
use redostream_server::session::TablePattern;

use crate::client::open;
use crate::stream::{Change, Random, TABLES, Unit, blocks, database_of, expected, units};
use crate::{ALL, fixed, long_stream, request, same, serve};

/// The filter as simply as it can be said.
fn model(asked: &v1::OpenSessionRequest, change: &Change, unit: &Unit) -> Option<Vec<u8>> {
    let kind = match change.kind {
        EventKind::Insert => "insert",
        EventKind::Update => "update",
        EventKind::Delete => "delete",
        EventKind::Truncate => "truncate",
        _ => "message",
    };
    let named = asked.kinds.iter().any(|wanted| wanted == kind);
    if !asked.kinds.is_empty() && !named {
        return None;
    }
    let any = |patterns: &[String], schema: &str, table: &str| {
        let mut patterns = patterns.iter();
        patterns.any(|text| TablePattern::parse(text).unwrap().matches(schema, table))
    };
    let in_database =
        |name: &str| asked.databases.is_empty() || asked.databases.iter().any(|d| d == name);
    let table = |number: u32| {
        let (database, schema, table) = TABLES[number as usize - 1];
        in_database(database)
            && (asked.tables.is_empty() || any(&asked.tables, schema, table))
            && !any(&asked.exclude_tables, schema, table)
    };
    match change.kind {
        EventKind::Message => {
            let header = unit.header.as_ref().map(|header| header.database);
            let database = header.or_else(|| database_of(&change.bytes)).unwrap();
            let here = in_database(if database.0 == 1 { "one" } else { "two" });
            ((asked.tables.is_empty() || named) && here).then(|| change.bytes.clone())
        }
        EventKind::Truncate => {
            let raw = change.bytes[HEADER_BYTES..].as_chunks::<4>().0;
            let all = raw.iter().map(|raw| u32::from_le_bytes(*raw));
            let kept: Vec<u32> = all.filter(|number| table(*number)).collect();
            let header = EventHeader {
                size: (HEADER_BYTES + kept.len() * 4) as u32,
                kind: EventKind::Truncate,
                flags: 0,
                count: kept.len() as u16,
                xid: Xid(700),
                relation: RelationVersion(0),
                record_lsn: change.position.record_lsn,
                row: 0,
            };
            let payload: Vec<u8> = kept
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect();
            (!kept.is_empty()).then(|| [&header.to_bytes()[..], &payload].concat())
        }
        _ => table(change.relation).then(|| narrowed(asked, change)),
    }
}

/// The row with the columns that its lists name, and the key.
fn narrowed(asked: &v1::OpenSessionRequest, change: &Change) -> Vec<u8> {
    let (_, schema, table) = TABLES[change.relation as usize - 1];
    let matches = |list: &&v1::ColumnList| {
        let pattern = TablePattern::parse(&list.table).unwrap();
        pattern.matches(schema, table)
    };
    let lists: Vec<_> = asked.columns.iter().filter(matches).collect();
    let wanted = |number: usize| {
        let name = ["k", "v", "w"][number % 3];
        let named = |list: &&v1::ColumnList| list.columns.iter().any(|column| column == name);
        lists.is_empty() || (name == "k" && table != "b") || lists.iter().any(named)
    };
    let event = Event::read(&mut Cursor::new(&change.bytes)).unwrap();
    let mut columns = event.columns();
    let mut payload = Vec::new();
    let mut number = 0;
    while columns.offset() < event.payload.len() {
        let start = columns.offset();
        columns.read().unwrap();
        if wanted(number) {
            payload.extend_from_slice(&event.payload[start..columns.offset()]);
        }
        number += 1;
    }
    let header = EventHeader {
        size: (HEADER_BYTES + payload.len()) as u32,
        count: (0..3).filter(|number| wanted(*number)).count() as u16,
        ..event.header
    };
    [&header.to_bytes()[..], &payload].concat()
}

fn any_filter(random: &mut Random, asked: &mut v1::OpenSessionRequest) {
    let mut pick = |from: &[&str], chance: u64| -> Vec<String> {
        let picked = from.iter().filter(|_| random.below(chance) == 0);
        picked.map(|text| (*text).to_owned()).collect()
    };
    asked.tables = pick(&["public.a", "b", "other.*", "*.?"], 4);
    asked.exclude_tables = pick(&["public.b", "o*.c"], 5);
    asked.kinds = pick(&["insert", "update", "delete", "truncate", "message"], 6);
    asked.databases = pick(&["one", "two"], 3);
    // Not every table is in every database.
    asked.allow_missing = true;
    for table in pick(&["public.a", "b", "*.?"], 4) {
        let columns = pick(&["k", "v", "w"], 2);
        if !columns.is_empty() {
            asked.columns.push(v1::ColumnList { table, columns });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_do_as_the_model_does() {
    let mut random = Random(29);
    for round in 0..12 {
        let units = units(&mut random, 12, 6);
        let events_max = [1, 3, 8, 60][round % 4];
        let cut = blocks(&mut random, &units, events_max);
        let end = Until::Lsn(cut.last().unwrap().block.wal_end);
        let all = expected(&units, ALL, None, None);
        let mut bench = serve(fixed(cut)).await;
        for _ in 0..12 {
            let place = all[random.below(all.len() as u64) as usize].0;
            let (start, from) = match random.below(3) {
                0 => (Start::After(place), place.to_string()),
                _ => (ALL, "earliest".to_owned()),
            };
            let other = all[random.below(all.len() as u64) as usize].0;
            let until = match random.below(3) {
                0 if other > place => Until::Position(other),
                _ => end,
            };
            let mut asked = request(&from, &until.to_string(), 1 + random.below(3) as u32);
            any_filter(&mut random, &mut asked);
            let plain = [
                &asked.tables,
                &asked.exclude_tables,
                &asked.kinds,
                &asked.databases,
            ];
            let filter = |change: &Change, unit: &Unit| model(&asked, change, unit);
            let plain = plain.iter().all(|list| list.is_empty()) && asked.columns.is_empty();
            let wanted = match plain {
                true => expected(&units, start, Some(until), None),
                false => expected(&units, start, Some(until), Some(&filter)),
            };
            let found = bench.all(asked.clone()).await;
            same(
                &found,
                &wanted,
                &format!("seed 29, round {round}: {asked:?}"),
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn column_lists_that_name_what_is_not_there_are_refused() {
    let mut bench = serve(long_stream()).await;
    for (table, columns, database, refused) in [
        ("public.nope", &["k"][..], "", Some(FaultCode::NotFound)),
        ("public.a", &["k", "z"], "", Some(FaultCode::NotFound)),
        ("*.c", &["z"], "", Some(FaultCode::NotFound)),
        ("other.c", &["k"], "two", Some(FaultCode::NotFound)),
        ("public.a", &[], "", Some(FaultCode::BadRequest)),
        ("public.a", &[""], "", Some(FaultCode::BadRequest)),
        ("public.", &["k"], "", Some(FaultCode::BadRequest)),
        ("public.no*", &["k"], "", None),
        ("*", &["v", "w"], "", None),
    ] {
        let mut asked = request("earliest", "0/1", 1);
        asked.columns.push(v1::ColumnList {
            table: table.to_owned(),
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        });
        asked
            .databases
            .extend(Some(database.to_owned()).filter(|name| !name.is_empty()));
        let opened = open(&mut bench.control, asked.clone()).await;
        let code = opened.err().map(|fault| fault.code);
        assert_eq!(code, refused, "{table} {columns:?}");
        asked.allow_missing = true;
        let opened = open(&mut bench.control, asked).await;
        let code = opened.err().map(|fault| fault.code);
        let malformed = refused.filter(|code| *code == FaultCode::BadRequest);
        assert_eq!(code, malformed, "{table} {columns:?}, missing allowed");
    }
}
