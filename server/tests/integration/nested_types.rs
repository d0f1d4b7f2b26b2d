//! Types nested as deeply as servers let them be: rows of rows, arrays of rows of arrays, domains
//! over domains.

use std::fmt::Write as _;

use redostream_testdata::cluster::ClusterOptions;
use redostream_testdata::decoder::Decode;
use redostream_testdata::scenario::Scenario;
use redostream_testdata::server::{MAJORS, Server};
use serde_json::Value;

use crate::programs;

const ROWS: usize = 120;
const ARRAYS: usize = 50;
const DOMAINS: usize = 200;

/// `c1` to `c120`, each a row with the one before in it; `a1` to `a50` with an array of the one
/// before; `d0` to `d199`, domains; `w1` to `w16` with two of the one before.
fn types() -> String {
    let mut sql = "create type c0 as (v int); create type a0 as (v int, t text);
        create type w0 as (v int); create domain d0 as int;\n"
        .to_owned();
    for level in 1..=ROWS {
        let _ = writeln!(sql, "create type c{level} as (v c{});", level - 1);
    }
    for level in 1..=ARRAYS {
        let _ = writeln!(sql, "create type a{level} as (v a{}[]);", level - 1);
    }
    for level in 1..DOMAINS {
        let _ = writeln!(sql, "create domain d{level} as d{};", level - 1);
    }
    for level in 1..=16 {
        let _ = writeln!(sql, "create type w{level} as (a w{0}, b w{0});", level - 1);
    }
    sql
}

/// A row of `c120` with something in its `full` outermost levels.
fn row(full: usize) -> String {
    format!("{}null{}::c{ROWS}", "row(".repeat(full), ")".repeat(full))
}

/// The same for `a50`.
fn array(full: usize) -> String {
    let mut value = format!("null::a{}", ARRAYS - full);
    for level in ARRAYS - full..ARRAYS {
        value = format!("row(array[{value}, null])::a{}", level + 1);
    }
    value
}

#[test]
fn deeply_nested_types_are_the_servers() {
    for major in MAJORS {
        let Some(server) = Server::for_test(major) else {
            continue;
        };
        let options = ClusterOptions::default().with("max_stack_depth", "6MB");
        let scenario = Scenario::start(server, &options).unwrap();
        scenario.sql(&types()).unwrap();
        let script = format!(
            "create table t (id int, c c{ROWS}, a a{ARRAYS}, d d{}, ds d{}[]);
             insert into t values (1, null, null, 7, '{{1,2,NULL}}'), (2, {}, {}, -1, '{{}}');
             begin;
             create type c as (v c{ROWS});
             create table own (c c, d d0);
             insert into own values (row({}), 3), (null, null);
             commit;
             alter type c add attribute w int cascade;
             insert into own values (row(null, 5), 3);
             update t set d = 8 where id = 1; delete from t;",
            DOMAINS - 1,
            DOMAINS - 2,
            row(16),
            array(7),
            row(15),
        );
        scenario.sql(&script).unwrap();
        let recording = scenario.finish().unwrap();
        let lines = recording.check(&programs::server(), &[1, 2]).unwrap();
        assert!(lines >= 12, "{lines}");
    }
}

/// What has no text, since every level doubles the quotes of the one below, has JSON.
#[test]
fn rows_that_no_server_could_print_have_json() {
    // Once: it takes a gigabyte, here as there.
    if let Some(server) = Server::for_test(15) {
        let options = ClusterOptions::default().with("max_stack_depth", "6MB");
        let scenario = Scenario::start(server, &options).unwrap();
        let create = "create database deep template template0";
        scenario.cluster.sql("postgres", create).unwrap();
        let sql = |sql: &str| scenario.cluster.sql("deep", sql);
        sql(&types()).unwrap();
        sql(&format!(
            "create table t (c c{ROWS}); insert into t values ({});",
            row(ROWS)
        ))
        .unwrap();
        let refused = sql("select length(c::text) from t").unwrap_err();
        // In its words out of memory, or of the length of a string buffer.
        assert!(
            refused.to_string().contains("1073741823")
                || refused.to_string().contains("1073741822"),
            "{refused}"
        );
        let expected = sql("select to_json(c) from t").unwrap();
        let recording = scenario.finish().unwrap();
        let decode = |format: &str| {
            Decode::new(&programs::server(), &recording.base)
                .wal(&recording.wal)
                .database("deep")
                .with("--end", &recording.end)
                .with("--format", format)
                .try_run()
                .unwrap()
        };
        let decoded = decode("json");
        assert_eq!(decoded.status, Some(0), "{}", decoded.errors);
        let printed = String::from_utf8(decoded.printed).unwrap();
        let inserted = printed
            .lines()
            .find(|line| line.contains(r#""kind":"insert""#));
        let json = format!(r#""new":{{"c":{}}}"#, expected.trim());
        assert!(
            inserted.unwrap().contains(&json),
            "{inserted:?} has not {json}"
        );
        // As text it is a typed error here as it is there.
        let decoded = decode("test_decoding");
        assert_eq!(decoded.status, Some(3), "{}", decoded.errors);
        assert!(decoded.errors.contains("public.t"), "{}", decoded.errors);
    }
}

/// A table of a type with more parts than are followed stops who reads it, nobody else.
#[test]
fn types_of_too_many_parts_are_undecodable() {
    let Some(server) = Server::for_test(15) else {
        return;
    };
    let scenario = Scenario::start(server, &ClusterOptions::default()).unwrap();
    scenario.sql(&types()).unwrap();
    scenario
        .sql(
            "create table wide (id int, v w16); create table t (id int, v w8);
              insert into t values (1, null); insert into wide values (1, null);
              begin; create type w as (a w15, b w15); create table own (v w);
              insert into own values (null); insert into t values (2, null); commit;",
        )
        .unwrap();
    let recording = scenario.finish().unwrap();
    let decode = recording
        .decode(&programs::server())
        .with("--format", "json");
    let decoded = decode.try_run().unwrap();
    assert_eq!(decoded.status, Some(3), "{}", decoded.errors);
    assert!(
        decoded.errors.contains("nested too deeply"),
        "{}",
        decoded.errors
    );
    let decoded = recording
        .decode(&programs::server())
        .with("--format", "json")
        .with("--table", "public.t")
        .try_run()
        .unwrap();
    assert_eq!(decoded.status, Some(0), "{}", decoded.errors);
    let printed = String::from_utf8(decoded.printed).unwrap();
    let rows = printed.lines().filter(|line| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["kind"] == "insert"
    });
    assert_eq!(rows.count(), 2, "{printed}");
}
