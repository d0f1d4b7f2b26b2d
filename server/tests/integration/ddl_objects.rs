//! Objects that a DDL event does not describe in depth: each change of one is told, with command,
//! kind and name, on servers of every version.

use redostream_testdata::cluster::ClusterOptions;
use redostream_testdata::scenario::Scenario;
use redostream_testdata::server::{MAJORS, Server};
use serde_json::Value;

use crate::ddl_told::{by_step, mark};
use crate::programs;

/// Statements, each with the events it causes.
const STEPS: &[(&str, &[&str])] = &[
    ("create role other", &[]),
    ("create schema s", &["CREATE SCHEMA schema s"]),
    (
        "create table s.t (a int constraint positive check (a > 0), b text)",
        &["CREATE TABLE table s.t"],
    ),
    ("alter table s.t owner to other", &["ALTER TABLE table s.t"]),
    (
        "alter table s.t enable row level security",
        &["ALTER TABLE table s.t"],
    ),
    (
        "alter table s.t force row level security",
        &["ALTER TABLE table s.t"],
    ),
    (
        "create policy p on s.t using (a = 1)",
        &["CREATE POLICY policy s.p"],
    ),
    (
        "alter policy p on s.t using (a = 2)",
        &["ALTER POLICY policy s.p"],
    ),
    (
        "alter policy p on s.t rename to q",
        &["ALTER POLICY policy s.q"],
    ),
    ("drop policy q on s.t", &["DROP POLICY policy s.q"]),
    ("grant select (a) on s.t to other", &["GRANT table s.t"]),
    ("revoke select (a) on s.t from other", &["REVOKE table s.t"]),
    (
        "comment on constraint positive on s.t is 'x'",
        &["COMMENT constraint s.positive"],
    ),
    ("comment on column s.t.a is 'x'", &["COMMENT column s.t"]),
    ("comment on schema s is 'x'", &["COMMENT schema s"]),
    (
        "create view s.v as select a from s.t",
        &["CREATE VIEW view s.v"],
    ),
    (
        "create or replace view s.v as select a from s.t where a > 1",
        &["ALTER VIEW view s.v"],
    ),
    (
        "create or replace view s.v as select a from s.t where a > 1",
        &[],
    ),
    ("alter view s.v owner to other", &["ALTER VIEW view s.v"]),
    ("alter schema s owner to other", &["ALTER SCHEMA schema s"]),
    (
        "alter schema s owner to postgres",
        &["ALTER SCHEMA schema s"],
    ),
    (
        "create publication pub for table s.t",
        &["CREATE PUBLICATION publication pub"],
    ),
    (
        "create table s.u (id serial, c int)",
        &["CREATE TABLE table s.u"],
    ),
    (
        "alter publication pub add table s.u",
        &["ALTER PUBLICATION publication pub"],
    ),
    (
        "alter publication pub drop table s.t",
        &["ALTER PUBLICATION publication pub"],
    ),
    (
        "alter publication pub set (publish = 'insert')",
        &["ALTER PUBLICATION publication pub"],
    ),
    // Its sequence follows.
    ("alter table s.u owner to other", &["ALTER TABLE table s.u"]),
    (
        "create sequence s.free",
        &["CREATE SEQUENCE sequence s.free"],
    ),
    (
        "alter sequence s.free owner to other",
        &["ALTER SEQUENCE sequence s.free"],
    ),
    (
        "create function s.f(a int) returns int language sql as 'select 1'",
        &["CREATE FUNCTION function s.f"],
    ),
    (
        "create or replace function s.f(a int) returns int language sql as 'select 2'",
        &["ALTER FUNCTION function s.f"],
    ),
    (
        "alter function s.f owner to other",
        &["ALTER FUNCTION function s.f"],
    ),
    (
        "grant execute on function s.f to other",
        &["GRANT function s.f"],
    ),
    (
        "create procedure s.pr() language sql as 'select 1'",
        &["CREATE PROCEDURE procedure s.pr"],
    ),
    (
        "create aggregate s.agg(int) (sfunc = int4pl, stype = int)",
        &["CREATE AGGREGATE aggregate s.agg"],
    ),
    (
        "create function s.tr() returns trigger language plpgsql as 'begin return new; end'",
        &["CREATE FUNCTION function s.tr"],
    ),
    (
        "create trigger tg before insert on s.u for each row execute function s.tr()",
        &["CREATE TRIGGER trigger s.tg"],
    ),
    (
        "alter table s.u disable trigger tg",
        &["ALTER TRIGGER trigger s.tg"],
    ),
    (
        "alter trigger tg on s.u rename to tg2",
        &["ALTER TRIGGER trigger s.tg2"],
    ),
    ("drop trigger tg2 on s.u", &["DROP TRIGGER trigger s.tg2"]),
    (
        "create statistics s.st on a, b from s.t",
        &["CREATE STATISTICS statistics s.st"],
    ),
    (
        "alter statistics s.st rename to st2",
        &["ALTER STATISTICS statistics s.st2"],
    ),
    (
        "drop statistics s.st2",
        &["DROP STATISTICS statistics s.st2"],
    ),
    (
        "create rule r as on delete to s.t do instead nothing",
        &["CREATE RULE rule s.r"],
    ),
    ("drop rule r on s.t", &["DROP RULE rule s.r"]),
    ("create type s.c as (x int)", &["CREATE TYPE type s.c"]),
    ("alter type s.c owner to other", &["ALTER TYPE type s.c"]),
    (
        "create function s.to_int(s.c) returns int language sql as 'select 1'",
        &["CREATE FUNCTION function s.to_int"],
    ),
    (
        "create cast (s.c as int) with function s.to_int(s.c)",
        &["CREATE CAST cast (s.c AS integer)"],
    ),
    (
        "drop cast (s.c as int)",
        &["DROP CAST cast (s.c AS integer)"],
    ),
    (
        "create operator s.@+@ (leftarg = int, rightarg = int, function = int4pl)",
        &["CREATE OPERATOR operator s.@+@"],
    ),
    (
        "create operator family s.fam using btree",
        &["CREATE OPERATOR FAMILY operator family s.fam"],
    ),
    (
        "alter operator family s.fam using btree add operator 1 <(int4, int8)",
        &["ALTER OPERATOR FAMILY operator family s.fam"],
    ),
    (
        "create collation s.col from \"C\"",
        &["CREATE COLLATION collation s.col"],
    ),
    (
        "alter collation s.col rename to col2",
        &["ALTER COLLATION collation s.col2"],
    ),
    (
        "create conversion s.conv for 'UTF8' to 'LATIN1' from utf8_to_iso8859_1",
        &["CREATE CONVERSION conversion s.conv"],
    ),
    (
        "create text search configuration s.cfg (copy = simple)",
        &["CREATE TEXT SEARCH CONFIGURATION text search configuration s.cfg"],
    ),
    (
        "alter text search configuration s.cfg drop mapping for word",
        &["ALTER TEXT SEARCH CONFIGURATION text search configuration s.cfg"],
    ),
    (
        "create text search dictionary s.dict (template = simple)",
        &["CREATE TEXT SEARCH DICTIONARY text search dictionary s.dict"],
    ),
    (
        "create foreign data wrapper w",
        &["CREATE FOREIGN DATA WRAPPER foreign data wrapper w"],
    ),
    (
        "create server srv foreign data wrapper w",
        &["CREATE SERVER server srv"],
    ),
    (
        "alter server srv options (add host 'h')",
        &["ALTER SERVER server srv"],
    ),
    (
        "grant usage on foreign server srv to other",
        &["GRANT server srv"],
    ),
    (
        "create user mapping for other server srv",
        &["CREATE USER MAPPING user mapping other"],
    ),
    (
        "alter user mapping for other server srv options (add user 'x')",
        &["ALTER USER MAPPING user mapping other"],
    ),
    (
        "drop user mapping for other server srv",
        &["DROP USER MAPPING user mapping other"],
    ),
    (
        "create function s.et() returns event_trigger language plpgsql as 'begin end'",
        &["CREATE FUNCTION function s.et"],
    ),
    (
        "create event trigger et on ddl_command_end execute function s.et()",
        &["CREATE EVENT TRIGGER event trigger et"],
    ),
    (
        "alter event trigger et disable",
        &["ALTER EVENT TRIGGER event trigger et"],
    ),
    (
        "drop event trigger et",
        &["DROP EVENT TRIGGER event trigger et"],
    ),
    (
        "create extension hstore",
        // It says of itself what it is for.
        &[
            "CREATE EXTENSION extension hstore",
            "COMMENT extension hstore",
        ],
    ),
    (
        "drop extension hstore",
        &["DROP EXTENSION extension hstore"],
    ),
    (
        "create access method own type index handler bthandler",
        &["CREATE ACCESS METHOD access method own"],
    ),
    (
        "create extension citext",
        &[
            "CREATE EXTENSION extension citext",
            "COMMENT extension citext",
        ],
    ),
    (
        "alter extension citext add table s.u",
        &["ALTER EXTENSION extension citext"],
    ),
    (
        "alter extension citext drop table s.u",
        &["ALTER EXTENSION extension citext"],
    ),
    (
        "alter default privileges in schema s grant select on tables to other",
        &["ALTER DEFAULT PRIVILEGES default acl for role postgres in schema s on tables"],
    ),
    (
        "alter default privileges for role other revoke execute on functions from public",
        &["ALTER DEFAULT PRIVILEGES default acl for role other on functions"],
    ),
    (
        "alter default privileges for role other grant execute on functions to public",
        &["ALTER DEFAULT PRIVILEGES default acl for role other on functions"],
    ),
    (
        "create schema given; alter default privileges in schema given grant usage on types to other",
        &[
            "CREATE SCHEMA schema given",
            "ALTER DEFAULT PRIVILEGES default acl for role postgres in schema given on types",
        ],
    ),
    ("drop schema given", &["DROP SCHEMA schema given"]),
    (
        "create subscription sub connection 'dbname=nowhere' publication pub with (connect = false)",
        &["CREATE SUBSCRIPTION subscription sub"],
    ),
    (
        "alter subscription sub set (slot_name = none)",
        &["ALTER SUBSCRIPTION subscription sub"],
    ),
    (
        "alter subscription sub rename to sub2",
        &["ALTER SUBSCRIPTION subscription sub2"],
    ),
    (
        "drop subscription sub2",
        &["DROP SUBSCRIPTION subscription sub2"],
    ),
    // As SECURITY LABEL does, which needs a provider that no server here brings.
    (
        "set allow_system_table_mods = on; \
         insert into pg_seclabel values ('s.t'::regclass, 'pg_class'::regclass, 1, 'p', 'secret')",
        &["SECURITY LABEL column s.t"],
    ),
    (
        "set allow_system_table_mods = on; \
         update pg_seclabel set label = 'public' where provider = 'p'",
        &["SECURITY LABEL column s.t"],
    ),
    // Tables that name each other, made and dropped in one unit.
    (
        "begin; create table s.x (id int primary key, y int); \
         create table s.y (id int primary key, x int references s.x); \
         alter table s.x add foreign key (y) references s.y; commit",
        &[
            "CREATE TABLE table s.x",
            "CREATE TABLE table s.y",
            "ALTER TABLE table s.x",
        ],
    ),
    (
        "drop table s.x, s.y",
        &[
            "ALTER TABLE table s.y",
            "DROP TABLE table s.x",
            "DROP TABLE table s.y",
        ],
    ),
    // No events.
    ("analyze s.t", &[]),
    ("vacuum full s.t", &[]),
    ("alter table s.t alter a set statistics 10", &[]),
    ("create role third", &[]),
    ("drop role third", &[]),
];

fn told(event: &Value) -> String {
    let text = |key: &str| event[key].as_str().map(str::to_owned);
    let schema = text("schema").map(|schema| format!("{schema}."));
    let (command, object) = (text("command").unwrap(), text("object").unwrap());
    let schema = schema.unwrap_or_default();
    format!("{command} {object} {schema}{}", text("name").unwrap())
}

#[test]
fn every_change_is_told() {
    for major in MAJORS {
        let Some(server) = Server::for_test(major) else {
            continue;
        };
        let scenario = Scenario::start(server, &ClusterOptions::default()).unwrap();
        for (number, (statement, _)) in STEPS.iter().enumerate() {
            scenario.sql(statement).unwrap();
            scenario.sql(&mark(number)).unwrap();
        }
        let recording = scenario.finish().unwrap();
        recording.check(&programs::server(), &[1]).unwrap();
        let found = by_step(&recording, told);
        let mut wrong = String::new();
        for ((statement, expected), found) in STEPS.iter().zip(&found) {
            if found != expected {
                wrong.push_str(&format!(
                    "{statement}\n  said {found:?}\n  not  {expected:?}\n"
                ));
            }
        }
        assert!(wrong.is_empty(), "PostgreSQL {major}\n{wrong}");
        assert_eq!(found.len(), STEPS.len() + 1);
    }
}
