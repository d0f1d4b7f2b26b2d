use std::sync::Arc;

use super::*;
use crate::event::Origin;
use crate::ids::DatabaseOid;
use crate::render::samples::{self, Sample};
use crate::schema::{Database, Name, Relation, RelationVersion};

struct Known {
    relation: Arc<Relation>,
}

impl Relations for Known {
    fn relation(&self, version: RelationVersion) -> Option<Arc<Relation>> {
        (version == self.relation.version).then(|| Arc::clone(&self.relation))
    }

    fn database(&self, oid: DatabaseOid) -> Option<Arc<Database>> {
        let database = &self.relation.database;
        (database.oid == oid).then(|| Arc::clone(database))
    }
}

fn lines(json: &mut Json, events: &[Vec<u8>]) -> String {
    let relations = Known {
        relation: Arc::new(samples::relation(15)),
    };
    let mut out = Vec::new();
    for event in events {
        json.event(&samples::read(event), &relations, &mut out)
            .unwrap();
    }
    let text = String::from_utf8(out).unwrap();
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    text
}

#[test]
fn rows_become_objects() {
    let key = [Sample::Int(1), Sample::Null, Sample::Null];
    let mut json = Json::new(JsonOptions {
        system_identifier: Some(7_654_321),
        ..JsonOptions::default()
    });
    let events = [
        samples::begin(699),
        samples::commit(),
        samples::begin(700),
        samples::row(
            EventKind::Insert,
            0,
            &[&[Sample::Int(1), Sample::Text("it's\n"), Sample::Bool(true)]],
        ),
        samples::row(
            EventKind::Update,
            flags::OLD_KEY,
            &[&key, &[Sample::Int(2), Sample::Unchanged, Sample::Null]],
        ),
        samples::row(EventKind::Delete, flags::OLD_FULL, &[&key]),
        samples::row(EventKind::Delete, 0, &[]),
        samples::truncate(flags::CASCADE),
        samples::message(true),
        samples::commit(),
    ];
    let head = |kind: &str, place: &str| {
        format!(
            "{{\"position\":\"1:0/16B3748:{place}\",\"kind\":\"{kind}\",\"xid\":700,\
             \"database\":\"postgres\""
        )
    };
    let row = "0/16B3700:2";
    let table = ",\"schema\":\"public\",\"table\":\"T\"";
    let time = ",\"commit_time\":\"2000-01-01T00:00:00.000000Z\"";
    let expected = [
        format!(
            "{}{time},\"system_identifier\":7654321}}\n",
            head("begin", "0/0:0")
        ),
        format!(
            "{}{table},\"new\":{{\"a\":1,\"b\":\"it's\\n\",\"user\":true}}}}\n",
            head("insert", row)
        ),
        format!(
            "{}{table},\"old\":{{\"a\":1}},\"old_kind\":\"key\",\
             \"new\":{{\"a\":2,\"user\":null}},\"unchanged\":[\"b\"]}}\n",
            head("update", row)
        ),
        format!(
            "{}{table},\"old\":{{\"a\":1,\"b\":null,\"user\":null}},\"old_kind\":\"full\"}}\n",
            head("delete", row)
        ),
        format!("{}{table}}}\n", head("delete", row)),
        format!(
            "{},\"tables\":[{{\"schema\":\"public\",\"table\":\"T\"}}],\"cascade\":true,\
             \"restart_identity\":false}}\n",
            head("truncate", row)
        ),
        format!(
            "{},\"prefix\":\"p\",\"content\":\"xyz\",\"transactional\":true}}\n",
            head("message", row)
        ),
        format!("{}{time}}}\n", head("commit", "0/16B3748:FFFFFFFF")),
    ];
    assert_eq!(lines(&mut json, &events), expected.concat());
}

#[test]
fn units_and_resumed_transactions_have_no_begin() {
    let mut json = Json::new(JsonOptions::default());
    let mut header = samples::header(0);
    header.database = DatabaseOid::INVALID;
    json.set_transaction(&header);
    assert_eq!(
        lines(&mut json, &[samples::message(false)]),
        "{\"position\":\"1:0/16B3748:0/16B3700:2\",\"kind\":\"message\",\"prefix\":\"p\",\
         \"content\":\"xyz\",\"transactional\":false}\n"
    );
    let mut header = samples::header(700);
    header.origin = Some(Origin {
        id: 1,
        name: Some(Name::from("o")),
        lsn: Lsn(16),
        commit_time_us: -1,
    });
    json.set_transaction(&header);
    let text = lines(&mut json, &[samples::commit()]);
    assert!(
        text.ends_with(
            "\"origin\":{\"id\":1,\"name\":\"o\",\"lsn\":\"0/10\",\
             \"commit_time\":\"1999-12-31T23:59:59.999999Z\"}}\n"
        ),
        "{text}"
    );
}

#[test]
fn structures_and_notices_are_lines() {
    use crate::ddl::{ColumnShape, Expression, ObjectShape};
    let ddl = DdlEvent {
        command: "ALTER TABLE".to_owned(),
        object: "table".to_owned(),
        schema: Some(Name::from("public")),
        name: Name::from("T"),
        columns_added: vec![ColumnShape {
            name: Name::from("c"),
            data_type: Name::from("integer"),
            nullable: true,
            default: Expression::Unknown,
            ..ColumnShape::default()
        }],
        after: Some(ObjectShape::Table(Box::default())),
        ..DdlEvent::default()
    };
    let payload = postcard::to_stdvec(&ddl).unwrap();
    let mut json = Json::new(JsonOptions::default());
    let text = lines(&mut json, &[samples::begin(700), samples::ddl(&payload)]);
    let line: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    assert_eq!(line["kind"], "ddl");
    assert_eq!(line["command"], "ALTER TABLE");
    assert_eq!(line["columns_added"][0]["default_unknown"], true);
    assert_eq!(line["before"], serde_json::Value::Null);
    assert_eq!(line["after"]["columns"], serde_json::json!([]));
    let mut out = Vec::new();
    push_notice_line(&mut out, "skipped", Lsn(16), "why");
    push_relation_line(&mut out, &samples::relation(15));
    for line in std::str::from_utf8(&out).unwrap().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}
