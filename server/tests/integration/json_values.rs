//! Values in JSON are what the server's own `to_json()` gives, of every type; only `numeric` is a
//! string.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use redostream_testdata::cluster::ClusterOptions;
use redostream_testdata::generator::kinds::{BASES, EXTENSIONS, Kind};
use redostream_testdata::generator::model::{World, literal};
use redostream_testdata::generator::random::Random;
use redostream_testdata::generator::{tables, values};
use redostream_testdata::scenario::Scenario;
use redostream_testdata::server::{MAJORS, Server};
use serde_json::Value;

use crate::programs;

/// Values of each type.
const VALUES: usize = 10;

/// SQL that makes a table of every type, with values in it. Gives the number of tables.
fn script(random: &mut Random, major: u32) -> (String, usize) {
    let mut world = World::new(major, "v");
    let mut sql = "set timezone = 'UTC';\n".to_owned();
    for extension in EXTENSIONS {
        let _ = writeln!(sql, "create extension {extension} schema public;");
    }
    for _ in 0..12 {
        sql.push_str(&tables::create_type(random, &mut world));
    }
    let mut kinds: Vec<Kind> = BASES.iter().map(|base| Kind::Base(*base)).collect();
    let arrays = BASES.iter().filter(|base| !base.sql.ends_with("vector"));
    kinds.extend(arrays.map(|base| Kind::Array(Box::new(Kind::Base(*base)))));
    for own in 0..world.types.len() {
        kinds.push(Kind::Own(own));
        kinds.push(Kind::Array(Box::new(Kind::Own(own))));
    }
    for (number, kind) in kinds.iter().enumerate() {
        let _ = writeln!(
            sql,
            "create table t{number} (id int, v {});",
            kind.sql(&world)
        );
        for id in 0..VALUES {
            let text = literal(&values::text(random, &world, kind));
            let cast = kind.cast(&world);
            let _ = writeln!(sql, "insert into t{number} values ({id}, {text}::{cast});");
        }
    }
    (sql, kinds.len())
}

/// What the server says, by table and row.
fn servers(scenario: &Scenario, tables: usize) -> BTreeMap<(String, i64), (String, String)> {
    let mut all = BTreeMap::new();
    for table in 0..tables {
        let sql = format!(
            "set timezone = 'UTC'; set search_path = '';
             select id, pg_catalog.pg_typeof(v),
               pg_catalog.encode(pg_catalog.convert_to(coalesce(pg_catalog.to_json(v)::text, 'null'), 'UTF8'), 'hex')
             from public.t{table};"
        );
        // A type that this version does not have leaves no table.
        let Ok(answer) = scenario.cluster.sql("app", &sql) else {
            continue;
        };
        for line in answer.lines() {
            let mut fields = line.split('|');
            let id = fields.next().unwrap().parse().unwrap();
            let (kind, hex) = (fields.next().unwrap(), fields.next().unwrap());
            let bytes = (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect();
            let json = String::from_utf8(bytes).unwrap();
            all.insert((format!("t{table}"), id), (kind.to_owned(), json));
        }
    }
    all
}

/// Numbers may be of any size, so they are compared as they are written: each `1.5` becomes
/// `{"number":"1.5"}`.
fn parse(json: &str) -> Value {
    let (mut text, mut inside, mut escaped) = (String::new(), false, false);
    let mut rest = json.chars().peekable();
    while let Some(character) = rest.next() {
        if inside || !(character == '-' || character.is_ascii_digit()) {
            inside ^= character == '"' && !escaped;
            escaped = inside && character == '\\' && !escaped;
            text.push(character);
            continue;
        }
        let mut number = character.to_string();
        while let Some(next) = rest.next_if(|next| "0123456789.eE+-".contains(*next)) {
            number.push(next);
        }
        let _ = write!(text, "{{\"number\":\"{number}\"}}");
    }
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// Whether ours is the server's, numbers of type `numeric` being strings.
fn same(ours: &Value, servers: &Value) -> bool {
    match (ours, servers) {
        (Value::Array(ours), Value::Array(servers)) => {
            ours.len() == servers.len() && ours.iter().zip(servers).all(|(a, b)| same(a, b))
        }
        (Value::Object(ours), Value::Object(servers)) => {
            ours.len() == servers.len()
                && ours
                    .iter()
                    .zip(servers)
                    .all(|((name, a), (other, b))| name == other && same(a, b))
        }
        (Value::String(_), Value::Object(servers)) => servers.get("number") == Some(ours),
        _ => ours == servers,
    }
}

fn number(value: &Value) -> i64 {
    value["number"].as_str().unwrap().parse().unwrap()
}

#[test]
fn values_are_what_to_json_gives() {
    let seed = std::env::var("REDOSTREAM_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| std::process::id().into());
    println!("REDOSTREAM_SEED={seed}");
    for major in MAJORS {
        let Some(server) = Server::for_test(major) else {
            continue;
        };
        let mut random = Random::new(seed);
        let scenario = Scenario::start(server, &ClusterOptions::default()).unwrap();
        let (sql, tables) = script(&mut random, major);
        scenario.cluster.run_scripts("app", &[sql]).unwrap();
        let mut expected = servers(&scenario, tables);
        let recording = scenario.finish().unwrap();
        let decode = recording.decode(&programs::server());
        let decoded = decode.with("--format", "json").run().unwrap();
        let (mut compared, mut wrong) = (0, Vec::new());
        for line in decoded.printed.split(|byte| *byte == b'\n') {
            if !line.starts_with(b"{") {
                continue;
            }
            let event = parse(std::str::from_utf8(line).unwrap());
            if event["kind"] != "insert" {
                continue;
            }
            let table = event["table"].as_str().unwrap().to_owned();
            let row = (table, number(&event["new"]["id"]));
            let (kind, servers) = expected.remove(&row).unwrap();
            let ours = &event["new"]["v"];
            if !same(ours, &parse(&servers)) || kind == "numeric" && !ours.is_string() {
                wrong.push(format!("{kind}: {ours} not {servers}"));
            }
            compared += 1;
        }
        assert!(
            wrong.is_empty(),
            "PostgreSQL {major}, REDOSTREAM_SEED={seed}:\n{}",
            wrong.join("\n")
        );
        assert!(expected.is_empty(), "rows are missing: {expected:?}");
        assert!(compared > 1000, "only {compared} values for {major}");
        println!("PostgreSQL {major}: {compared} values the same");
    }
}
