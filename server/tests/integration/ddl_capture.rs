//! The optional capture of statements, on real servers: the script that `ddl-capture` prints is
//! installed by a superuser, and owners without privileges go on as before.

use std::process::Command;

use redostream_testdata::cluster::ClusterOptions;
use redostream_testdata::scenario::Scenario;
use redostream_testdata::server::{MAJORS, Server};

use crate::ddl_told::decoded;
use crate::programs;

#[test]
fn statements_stand_in_the_events_they_cause() {
    let printed = Command::new(programs::server())
        .args(["ddl-capture", "--print-sql"])
        .output()
        .unwrap();
    assert!(printed.status.success());
    let script = String::from_utf8(printed.stdout).unwrap();
    for major in MAJORS {
        let Some(server) = Server::for_test(major) else {
            continue;
        };
        let scenario = Scenario::start(server, &ClusterOptions::default()).unwrap();
        scenario.sql(&script).unwrap();
        scenario.sql(&script).unwrap();
        scenario
            .sql("create role plain; create schema s authorization plain;")
            .unwrap();
        for statement in [
            "set role plain; create table s.one (a serial primary key)",
            "set role plain; begin; alter table s.one add b int; alter table s.one add c int; insert into s.one (b) values (1); create index on s.one (b); commit",
            "set role plain; create table s.two as select 1 as x",
            "insert into s.one (b) values (2)",
            "begin; alter table s.one drop b; rollback",
            "set role plain; drop table s.one, s.two",
            // Sent as one string.
            r"create table s.three (a int)\; alter table s.three add d int\; alter table s.three add e int",
            r"select 1\; drop table s.three",
        ] {
            scenario.sql(statement).unwrap();
        }
        let recording = scenario.finish().unwrap();
        recording.check(&programs::server(), &[1]).unwrap();
        let events = decoded(recording.decode(&programs::server()));
        let told: Vec<(String, String, Option<String>)> = events
            .iter()
            .filter(|line| {
                line["kind"] == "ddl" && line["schema"] == "s" && line["object"] != "schema"
            })
            .map(|line| {
                let of = |key: &str| line[key].as_str().map(str::to_owned);
                (of("command").unwrap(), of("name").unwrap(), of("sql"))
            })
            .collect();
        // Of a string of several statements each event has its own.
        let expected = [
            (
                "CREATE TABLE",
                "one",
                "create table s.one (a serial primary key)",
            ),
            ("ALTER TABLE", "one", "alter table s.one add b int"),
            ("ALTER TABLE", "one", "alter table s.one add c int"),
            ("CREATE INDEX", "one_b_idx", "create index on s.one (b)"),
            ("CREATE TABLE", "two", "create table s.two as select 1 as x"),
            ("DROP TABLE", "two", "drop table s.one, s.two"),
            ("DROP TABLE", "one", "drop table s.one, s.two"),
            ("CREATE TABLE", "three", "create table s.three (a int)"),
            ("ALTER TABLE", "three", "alter table s.three add d int"),
            ("ALTER TABLE", "three", "alter table s.three add e int"),
            // What is selected could have dropped it.
            ("DROP TABLE", "three", "select 1; drop table s.three"),
        ];
        assert_eq!(told.len(), expected.len(), "{major}: {told:#?}");
        for ((command, name, sql), (wanted, of, part)) in told.iter().zip(expected) {
            assert_eq!(
                (command.as_str(), name.as_str()),
                (wanted, of),
                "{major}: {told:#?}"
            );
            let sql = sql.as_deref().unwrap_or_default();
            // psql sends a single statement with its end.
            assert_eq!(sql.trim_end_matches(';'), part, "{major}");
        }
        let messages = events.iter().filter(|line| line["kind"] == "message");
        let messages = messages.count();
        assert_eq!(messages, 0, "{major}: the messages are left out");
    }
}
