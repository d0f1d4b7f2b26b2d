//! DDL of several sessions at once, step by step so that it is always the same: what is told, in
//! which order, between which rows. The same transactions one after the other, as they committed,
//! are told alike in everything but numbers of the log and OIDs.

use std::collections::BTreeMap;

use redostream_testdata::cluster::{Cluster, ClusterOptions};
use redostream_testdata::scenario::{Recording, Scenario};
use redostream_testdata::server::{MAJORS, Server};
use redostream_testdata::session::Session;
use redostream_testdata::statements::for_version;
use serde_json::Value;

use crate::ddl_told::{decoded, told};
use crate::programs;

/// What is there before, and a database for the transactions one after the other.
const BEFORE: &str = "
create schema s;
create type s.kind as enum ('x', 'y');
create table s.base (id int primary key, k s.kind);
create table s.shared (id serial primary key, v text);
create table s.old (a int);
create table s.kid1 (more int) inherits (s.shared);
create table s.kid2 (more int) inherits (s.shared);
insert into s.base values (1, 'x');
";

/// Statements in the order in which they are run, each with the session that runs it. A session is
/// one transaction, which may be prepared.
const STEPS: &[(&str, &str)] = &[
    // The one that begins first commits last; one in between is rolled back.
    ("late", "begin"),
    (
        "late",
        "create table s.a (id serial primary key, k s.kind, base int references s.base)",
    ),
    ("late", "insert into s.a (k, base) values ('x', 1)"),
    ("early", "begin"),
    ("early", "create table s.b () inherits (s.shared)"),
    ("one", "insert into s.shared (v) values ('between')"),
    ("late", "savepoint one"),
    ("late", "alter table s.a add gone int"),
    ("late", "insert into s.a (k, gone) values ('y', 7)"),
    ("early", "insert into s.b (id, v) values (100, 'b')"),
    ("late", "rollback to one"),
    ("late", "alter table s.a add kept text default 'd'"),
    ("early", "alter table s.b add own int"),
    ("lost", "begin"),
    ("lost", "create table s.lost (a int)"),
    ("lost", "insert into s.lost values (1)"),
    ("late", "create view s.va as select v from s.shared"),
    (
        "early",
        "insert into s.b (id, v, own) values (101, 'bb', 1)",
    ),
    ("lost", "drop table s.old"),
    ("early", "commit"),
    ("lost", "rollback"),
    // A name that another takes over, while the first goes on.
    ("names", "begin"),
    ("names", "alter table s.old rename to older"),
    ("late", "insert into s.a (k) values ('y')"),
    ("names", "create table s.old (b text)"),
    ("names", "insert into s.old values ('new')"),
    ("late", "create table s.late_old (like s.shared)"),
    ("names", "alter table s.b add after int default 5"),
    ("names", "commit"),
    ("late", "drop view s.va"),
    ("late", "create index on s.a (k)"),
    ("late", "commit"),
    // Prepared before and committed after a change of the type that it uses.
    ("prepared", "begin"),
    ("prepared", "create table s.prepared (k s.kind)"),
    ("prepared", "insert into s.prepared values ('x')"),
    ("prepared", "alter table s.prepared add b int"),
    ("prepared", "prepare transaction 'one'"),
    ("value", "alter type s.kind add value 'z' before 'y'"),
    ("user", "create table s.uses (k s.kind default 'z')"),
    ("rows", "insert into s.uses default values"),
    ("prepared", "commit prepared 'one'"),
    // Savepoints of two sessions, released and rolled back by turns.
    ("inner", "begin"),
    ("other", "begin"),
    ("inner", "savepoint x; create table s.x1 (a int)"),
    ("inner", "savepoint y; create table s.y1 (a int)"),
    ("other", "savepoint x; create schema t"),
    (
        "other",
        "savepoint y; create table t.inside (a int primary key)",
    ),
    ("inner", "release y"),
    ("other", "release x"),
    ("inner", "rollback to x"),
    (
        "inner",
        "create sequence s.numbers; create table s.x2 (a int)",
    ),
    (
        "other",
        "insert into t.inside values (1); alter table t.inside add b int",
    ),
    (
        "inner",
        "alter table s.x2 add b int default nextval('s.numbers')",
    ),
    ("other", "insert into t.inside values (2, 2)"),
    ("inner", "insert into s.x2 values (1)"),
    ("inner", "commit"),
    ("other", "commit"),
    // Children leave a parent that they share, and privileges are given on it.
    ("kid2", "begin"),
    ("kid1", "begin"),
    ("kid1", "alter table s.kid1 no inherit s.shared"),
    ("grants", "begin"),
    ("grants", "grant select (v) on s.shared to public"),
    ("kid2", "alter table s.kid2 no inherit s.shared"),
    ("grants", "insert into s.base values (2, 'z')"),
    ("kid2", "insert into s.kid2 values (1, 'k', 1)"),
    ("kid1", "grant insert on s.shared to public"),
    ("kid1", "insert into s.kid1 values (1, 'k', 1)"),
    ("kid2", "alter table s.kid2 drop column v"),
    ("kid1", "commit"),
    ("grants", "grant select (id) on s.shared to public"),
    ("grants", "commit"),
    ("kid2", "commit"),
    // Dropped by one, made again under the same name by another that began before.
    ("again", "begin"),
    (
        "again",
        "create function s.f() returns int language sql as 'select 1'",
    ),
    ("gone", "begin"),
    ("gone", "drop table s.kid1"),
    ("again", "insert into s.shared (v) values ('again')"),
    ("gone", "commit"),
    ("again", "create table s.kid1 (new int)"),
    ("again", "insert into s.kid1 values (1)"),
    ("again", "truncate s.kid1"),
    ("again", "commit"),
];

/// All that is told of them.
const TOLD: &str = r#"
insert s.shared {"id":1,"v":"between"}
commit
[-17] CREATE TABLE table s.b: inherits=[{"schema":"s","table":"shared"}]
[18-] CREATE TABLE table s.b: +constraint shared_id_not_null, inherits=[{"schema":"s","table":"shared"}]
insert s.b {"id":100,"v":"b"}
ALTER TABLE table s.b: +own
insert s.b {"id":101,"own":1,"v":"bb"}
commit
ALTER TABLE table s.older (was old)
CREATE TABLE table s.old
insert s.old {"b":"new"}
ALTER TABLE table s.b: +after
commit
[-17] CREATE TABLE table s.a: +constraint a_base_fkey, +index a_pkey, primary key a_pkey
[18-] CREATE TABLE table s.a: +constraint a_base_fkey, +constraint a_id_not_null, +index a_pkey, primary key a_pkey
insert s.a {"base":1,"id":1,"k":"x"}
ALTER TABLE table s.a: +kept
CREATE VIEW view s.va
insert s.a {"base":null,"id":3,"k":"y","kept":"d"}
DROP VIEW view s.va
CREATE INDEX index s.a_k_idx: +index a_k_idx
[-17] CREATE TABLE table s.late_old
[18-] CREATE TABLE table s.late_old: +constraint shared_id_not_null
commit
ALTER TYPE type s.kind: labels
commit
CREATE TABLE table s.uses
commit
insert s.uses {"k":"z"}
commit
CREATE TABLE table s.prepared
insert s.prepared {"k":"x"}
ALTER TABLE table s.prepared: +b
commit
CREATE SEQUENCE sequence s.numbers
CREATE TABLE table s.x2
insert s.x2 {"a":1,"b":1}
commit
CREATE SCHEMA schema t
[-17] CREATE TABLE table t.inside: +index inside_pkey, primary key inside_pkey
[18-] CREATE TABLE table t.inside: +constraint inside_a_not_null, +index inside_pkey, primary key inside_pkey
insert t.inside {"a":1}
ALTER TABLE table t.inside: +b
insert t.inside {"a":2,"b":2}
commit
GRANT table s.shared
[-17] ALTER TABLE table s.kid1: inherits=[]
[18-] ALTER TABLE table s.kid1: ~constraint shared_id_not_null, inherits=[]
insert s.kid1 {"id":1,"more":1,"v":"k"}
commit
GRANT table s.shared
insert s.base {"id":2,"k":"z"}
GRANT table s.shared
commit
[-17] ALTER TABLE table s.kid2: inherits=[]
[18-] ALTER TABLE table s.kid2: ~constraint shared_id_not_null, inherits=[]
insert s.kid2 {"id":1,"more":1,"v":"k"}
ALTER TABLE table s.kid2: -v
commit
DROP TABLE table s.kid1
commit
CREATE FUNCTION function s.f
insert s.shared {"id":2,"v":"again"}
CREATE TABLE table s.kid1
insert s.kid1 {"new":1}
truncate
commit
"#;

/// What others change of the same objects while a transaction is open, without waiting for it. One
/// after the other some of it could not be run, and `before` would be another.
const BESIDE: &[(&str, &str)] = &[
    ("indexes", "begin"),
    ("indexes", "create index i1 on s.uses (k)"),
    ("indexes", "insert into s.x2 values (10, 10)"),
    ("index", "create index i2 on s.uses (k)"),
    ("indexes", "create index i3 on s.uses (k)"),
    ("indexes", "commit"),
    ("rights", "begin"),
    ("rights", "grant select (k) on s.uses to public"),
    ("rights", "insert into s.x2 values (11, 11)"),
    ("index2", "create index i4 on s.uses (k)"),
    ("revoke", "revoke insert on s.uses from postgres"),
    ("rights", "grant update (k) on s.uses to public"),
    ("rights", "commit"),
    ("holds", "begin"),
    ("holds", "alter table s.prepared add c s.kind"),
    ("holds", "insert into s.prepared values ('x', 1, 'y')"),
    ("schema", "alter schema s rename to r"),
    ("type", "alter type r.kind rename to sort"),
    ("holds", "alter table r.prepared add d int default 5"),
    ("holds", "insert into r.prepared values ('x', 2, 'y')"),
    ("holds", "commit"),
];

/// What is told of that: each change once; the table that is in another schema has not been moved,
/// and no column has another type.
const BESIDE_TOLD: &str = r#"
CREATE INDEX index s.i2: +index i2
commit
CREATE INDEX index s.i1: +index i1
insert s.x2 {"a":10,"b":10}
CREATE INDEX index s.i3: +index i3
commit
CREATE INDEX index s.i4: +index i4
commit
REVOKE table s.uses
commit
GRANT table s.uses
insert s.x2 {"a":11,"b":11}
GRANT table s.uses
commit
ALTER SCHEMA schema r (was s)
commit
ALTER TYPE type r.sort (was kind)
commit
ALTER TABLE table s.prepared: +c
insert s.prepared {"b":1,"c":"y","k":"x"}
ALTER TABLE table r.prepared: +d
insert r.prepared {"b":2,"c":"y","d":5,"k":"x"}
commit
"#;

/// Numbers that differ from one run to the next.
const NUMBERS: [&str; 5] = ["position", "xid", "oid", "commit_time", "lsn"];

/// Runs steps, of which each must succeed, in sessions of their own.
fn run<'a>(cluster: &Cluster, database: &str, steps: impl Iterator<Item = &'a (&'a str, &'a str)>) {
    let mut sessions: BTreeMap<&str, Session> = BTreeMap::new();
    for (name, sql) in steps {
        let session = sessions.entry(name).or_insert_with(|| {
            let mut session = cluster.session(database).unwrap();
            let settings = "\\set ON_ERROR_STOP on\nset lock_timeout = '5s';";
            session.run(settings).unwrap();
            session
        });
        let said = session.run(&format!("{sql};"));
        said.unwrap_or_else(|error| panic!("{name}, {sql}: {error}"));
    }
}

/// The sessions in the order in which they end.
fn by_end() -> Vec<&'static str> {
    let mut names = Vec::new();
    for (name, _) in STEPS.iter().rev() {
        if !names.contains(name) {
            names.push(*name);
        }
    }
    names.reverse();
    names
}

/// What was decoded of a database, but for sequences, whose values belong to no transaction.
fn events(recording: &Recording, database: &str) -> Vec<Value> {
    let decode = recording.decode(&programs::server()).database("serial");
    let mut inside = false;
    let mut events = Vec::new();
    for event in decoded(decode) {
        if event["kind"] == "begin" {
            inside = event["database"] == database;
        }
        if inside && event["kind"] != "sequence" {
            events.push(event);
        }
    }
    events
}

/// The value without what differs from one run to the next.
fn without_numbers(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.iter();
            let kept = kept.filter(|(key, _)| !NUMBERS.contains(&key.as_str()));
            let kept = kept.map(|(key, value)| (key.clone(), without_numbers(value)));
            Value::Object(kept.filter(|(key, _)| key != "database").collect())
        }
        Value::Array(items) => items.iter().map(without_numbers).collect(),
        other => other.clone(),
    }
}

/// Events as lines, with those of `BEFORE` left out.
fn lines(events: &[Value]) -> Vec<String> {
    let mut lines = Vec::new();
    for event in events {
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        match text("kind") {
            "ddl" => lines.push(told(event)),
            "begin" => {}
            kind @ ("insert" | "update" | "delete") => {
                let row = &event["new"];
                lines.push(format!("{kind} {}.{} {row}", text("schema"), text("table")));
            }
            kind => lines.push(kind.to_owned()),
        }
    }
    lines
}

/// The lines that are meant for a version.
fn lines_for(told: &'static str, major: u32) -> impl Iterator<Item = &'static str> {
    let lines = told
        .trim()
        .lines()
        .map(move |line| for_version(line, major));
    lines.filter_map(|(meant, line)| meant.then_some(line))
}

fn told_of_sessions(major: u32) {
    let Some(server) = Server::for_test(major) else {
        return;
    };
    let scenario = Scenario::start_prepared(server, &ClusterOptions::default(), BEFORE).unwrap();
    let cluster = &scenario.cluster;
    cluster.sql("postgres", "create database serial").unwrap();
    run(cluster, "app", STEPS.iter());
    run(cluster, "app", BESIDE.iter());
    cluster.sql("serial", BEFORE).unwrap();
    cluster
        .sql("serial", "create table begins_here ()")
        .unwrap();
    for name in by_end() {
        run(
            cluster,
            "serial",
            STEPS.iter().filter(|(of, _)| *of == name),
        );
    }
    let recording = scenario.finish().unwrap();
    recording.check(&programs::server(), &[1]).unwrap();

    let [together, serial] = ["app", "serial"].map(|name| events(&recording, name));
    let begins = serial
        .iter()
        .position(|event| event["name"] == "begins_here");
    let serial = &serial[begins.unwrap() + 2..];
    let found = lines(&together);
    let expected = [TOLD, BESIDE_TOLD].into_iter();
    let expected: Vec<&str> = expected.flat_map(|told| lines_for(told, major)).collect();
    assert_eq!(found, expected, "PostgreSQL {major}\n{}", found.join("\n"));
    let beside = lines_for(BESIDE_TOLD, major).count();
    for (one, other) in together.iter().zip(serial) {
        let (one, other) = (without_numbers(one), without_numbers(other));
        assert_eq!(one, other, "PostgreSQL {major}");
    }
    assert_eq!(lines(serial).len(), found.len() - beside);
}

#[test]
fn sessions_are_told_as_if_one_after_the_other() {
    for major in MAJORS {
        told_of_sessions(major);
    }
}
