//! Databases whose text is not UTF-8, in JSON and in other encodings. As it is stored, the text
//! of these cases is compared with the other recorded ones.

use std::collections::HashMap;

use redostream_protocol::value::ClientEncoding;
use redostream_testdata::cluster::ClusterOptions;
use redostream_testdata::decoder::{Decode, Decoded};
use redostream_testdata::recorded::{Case, case, unpack_base};
use redostream_testdata::scenario::Scenario;
use redostream_testdata::server::{MAJORS, Server};
use serde_json::Value;
use tempfile::TempDir;

use crate::programs;

struct Laid {
    case: Case,
    base: TempDir,
    wal: TempDir,
}

fn lay_out(version: u32, name: &str) -> Laid {
    let case = case(version, name).unwrap();
    let (base, wal) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    unpack_base(version, base.path()).unwrap();
    case.unpack_wal(wal.path()).unwrap();
    Laid { case, base, wal }
}

impl Laid {
    fn decode(&self) -> Decode {
        Decode::new(&programs::server(), self.base.path())
            .wal(self.wal.path())
            .database(&self.case.facts.database)
            .with("--end", &self.case.facts.end)
    }

    fn in_encoding(&self, encoding: &str) -> Decoded {
        self.decode()
            .with("--encoding", encoding)
            .try_run()
            .unwrap()
    }

    fn json(&self) -> Vec<Value> {
        let decoded = self.decode().with("--format", "json").run().unwrap();
        let text = String::from_utf8(decoded.printed).unwrap();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

#[test]
fn text_is_given_in_the_encoding_asked_for() {
    for version in [14, 18] {
        let laid = lay_out(version, "encoding-latin1");
        let expected = laid.case.expected().unwrap();
        // Bytes of LATIN1 are the characters of those numbers.
        let utf8: String = expected.iter().map(|byte| char::from(*byte)).collect();
        let decoded = laid.in_encoding("utf-8");
        assert_eq!(String::from_utf8(decoded.printed).unwrap(), utf8);
        assert_eq!(laid.in_encoding("LATIN1").printed, expected);
        assert_eq!(laid.in_encoding("SQL_ASCII").printed, expected);
        let refused = laid.in_encoding("KOI8R");
        assert_eq!(refused.status, Some(1), "{}", refused.errors);
        assert!(refused.errors.contains("KOI8R"), "{}", refused.errors);
        assert!(expected.starts_with(&refused.printed));
    }
    let laid = lay_out(15, "encoding-latin1");
    let unknown = laid.in_encoding("EBCDIC");
    assert_eq!(unknown.status, Some(2), "{}", unknown.errors);
}

#[test]
fn json_is_utf8_whatever_the_database_is() {
    for version in [14, 18] {
        let events = lay_out(version, "encoding-latin1").json();
        let insert = events
            .iter()
            .find(|event| event["kind"] == "insert")
            .unwrap();
        assert_eq!(
            (&insert["schema"], &insert["table"]),
            (&"schéma".into(), &"Élève".into())
        );
        let new = &insert["new"];
        assert_eq!(
            (&new["prénom"], &new["h"]),
            (&"Zoë".into(), &"très bien".into())
        );
        assert_eq!(new["j"]["clé"], "à");
        assert_eq!(new["a"], serde_json::json!(["é", "ß ö", null]));
        let events = lay_out(version, "encoding-euc-jp").json();
        let names: Vec<&Value> = events
            .iter()
            .filter(|event| event["kind"] == "insert")
            .map(|event| &event["new"]["値"])
            .collect();
        assert_eq!(names, [&Value::from("ｶﾅ"), &"～∥￤".into(), &"".into()]);
        let events = lay_out(version, "encoding-sql-ascii").json();
        let values: Vec<&Value> = events
            .iter()
            .filter(|event| event["kind"] == "insert")
            .map(|event| &event["new"]["v"])
            .collect();
        let bytes = |base64: &str| serde_json::json!({ "base64": base64 });
        assert_eq!(values[0], "UTF-8: é");
        assert_eq!(values[1], &bytes("TEFUSU4xOiDp"));
        assert_eq!(values[2], &bytes("//6A"));
    }
}

/// Every character that the encoding's form allows, whether or not it has a meaning, in a table;
/// and a function that says what it is in UTF-8, none if the server does not know.
const EVERY_CHARACTER: &str = r"
    create function utf8(value text) returns text language plpgsql as $$
    begin
      return encode(convert_to(to_json(value)::text, 'UTF8'), 'hex');
    exception when others then
      return 'none: ' || sqlerrm;
    end $$;
    create table c (id int generated always as identity, v text);
    create function add(bytes bytea) returns void language plpgsql as $$
    begin
      insert into c (v) values ('a' || convert_from(bytes, getdatabaseencoding()));
    exception when character_not_in_repertoire then
    end $$;
    create temp table high as select set_byte('\x00', 0, byte) as byte from generate_series(128, 255) byte;
    select count(add(byte)) from high;
    select count(add(a.byte || b.byte)) from high a, high b;
    select count(add('\x8f' || a.byte || b.byte)) from high a, high b where b.byte > '\xa0';
    select count(add('\x8e' || p.byte || a.byte || b.byte)) from high p, high a, high b
      where p.byte between '\xa0' and '\xb0' and a.byte > '\xa0' and b.byte > '\xa0'
        and getdatabaseencoding() = 'EUC_TW';";

#[test]
fn every_character_is_the_servers_in_json() {
    for major in MAJORS {
        let Some(server) = Server::for_test(major) else {
            continue;
        };
        let scenario = Scenario::start(server, &ClusterOptions::default()).unwrap();
        let mut answers = Vec::new();
        for (encoding, known) in [
            ("EUC_TW", 2 * 5864 + 7650),
            ("EUC_JIS_2004", 8797 + 2436 + 63),
            ("MULE_INTERNAL", 0),
        ] {
            let database = encoding.to_lowercase();
            let create = format!(
                "create database {database} encoding '{encoding}' locale 'C' template template0"
            );
            scenario.cluster.sql("postgres", &create).unwrap();
            scenario.cluster.sql(&database, EVERY_CHARACTER).unwrap();
            let servers: HashMap<i64, String> = scenario
                .cluster
                .sql(&database, "select id, utf8(v) from c")
                .unwrap()
                .lines()
                .map(|line| line.split_once('|').unwrap())
                .map(|(id, hex)| (id.parse().unwrap(), hex.to_owned()))
                .collect();
            let found = servers.values().filter(|hex| !hex.starts_with("none"));
            assert_eq!(found.count(), known, "{encoding} on {major}");
            answers.push((database, servers));
        }
        let recording = scenario.finish().unwrap();
        for (database, servers) in answers {
            let decode = Decode::new(&programs::server(), &recording.base)
                .wal(&recording.wal)
                .database(&database)
                .with("--end", &recording.end)
                .with("--format", "json");
            let (mut compared, mut refused) = (0, 0);
            let printed = String::from_utf8(decode.run().unwrap().printed).unwrap();
            for line in printed.lines() {
                let event: Value = serde_json::from_str(line).unwrap();
                if event["kind"] != "insert" {
                    continue;
                }
                let (ours, hex) = (
                    &event["new"]["v"],
                    &servers[&event["new"]["id"].as_i64().unwrap()],
                );
                compared += 1;
                if let Some(why) = hex.strip_prefix("none: ") {
                    assert!(ours["base64"].is_string(), "{database}: {ours}, not {why}");
                    refused += 1;
                    continue;
                }
                let servers: Value = serde_json::from_slice(&bytes_of(hex)).unwrap();
                assert_eq!(ours, &servers, "{database} on {major}");
            }
            assert_eq!(compared, servers.len());
            println!("PostgreSQL {major}, {database}: {compared} characters, {refused} unknown");
        }
    }
}

/// Bytes of a text in an encoding, as `convert_to` gives them; none if it has not all of it. And
/// whether the server itself reads them.
const GIVEN: &str = "
    create function given(value text, encoding name) returns text language plpgsql as $$
    begin
      return encode(convert_to(value, encoding), 'hex');
    exception when others then
      return null;
    end $$;
    create function read_again(hex text, encoding name) returns bool language plpgsql as $$
    begin
      return convert_from(decode(hex, 'hex'), encoding) is not null;
    exception when others then
      return false;
    end $$;";

/// Characters that are two in UTF-8 and may be one elsewhere: kana, and letters of phonetics.
const PAIRS: &str = "
    select codes, hex, read_again(hex, 'ENCODING') from (
    select array[a, b] as codes, given(chr(a) || chr(b), 'ENCODING') as hex from (select generate_series(12352, 12799) union all values (230), (596), (652), (601), (602), (741), (745))
      as first(a), (values (12442), (768), (769), (741), (745)) as second(b)) as pairs";

fn bytes_of(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

/// Every character of UTF-8 that could be in one of the encodings, given in each as the server
/// gives it, or refused as the server refuses it.
#[test]
fn every_character_is_given_as_the_server_gives_it() {
    for major in [15, 18] {
        let Some(server) = Server::for_test(major) else {
            continue;
        };
        let scenario = Scenario::start(server, &ClusterOptions::default()).unwrap();
        scenario.sql(GIVEN).unwrap();
        let named = "select pg_encoding_to_char(i) from generate_series(0, 34) i";
        let names = scenario.sql(named).unwrap();
        assert_eq!(names.lines().count(), 35);
        for name in names.lines() {
            let ours = ClientEncoding::named(&name.to_lowercase()).unwrap();
            assert_eq!(ours.name(), name);
            if ["SQL_ASCII", "UTF8", "MULE_INTERNAL"].contains(&name) {
                continue;
            }
            let many = name.starts_with("EUC");
            let last = if many { 0x2_FFFF } else { 0x26FF };
            let query = format!(
                "select array[i], hex, read_again(hex, '{name}') from (
                   select i, given(chr(i), '{name}') as hex from generate_series(128, {last}) i
                   where i not between 55296 and 57343) as singles"
            );
            let singles = scenario.sql(&query).unwrap();
            let pairs = scenario.sql(&PAIRS.replace("ENCODING", name)).unwrap();
            let (mut same, mut none, mut unreadable) = (0, 0, 0);
            for line in singles.lines().chain(pairs.lines()) {
                let mut parts = line.split('|');
                let [codes, hex, again] = [(); 3].map(|()| parts.next().unwrap());
                let codes = codes.trim_matches(['{', '}']).split(',');
                let text: String = codes
                    .map(|code| char::from_u32(code.parse().unwrap()).unwrap())
                    .collect();
                let servers = (!hex.is_empty()).then(|| bytes_of(hex));
                let given = ours.convert(6, text.as_bytes()).map(|bytes| bytes.to_vec());
                // Bytes that no server reads are refused here.
                if again == "f" && servers.is_some() && given.is_none() {
                    unreadable += 1;
                    continue;
                }
                assert_eq!(given, servers, "{name}, {text:?} on {major}");
                match servers {
                    Some(_) => same += 1,
                    None => none += 1,
                }
            }
            println!(
                "PostgreSQL {major}, {name}: {same} given alike, {none} refused alike, \
                 {unreadable} refused that the server writes and cannot read"
            );
        }
    }
}

#[test]
fn decode_gives_the_encodings_that_have_tables_of_their_own() {
    let Some(server) = Server::for_test(15) else {
        return;
    };
    let scenario = Scenario::start(server, &ClusterOptions::default()).unwrap();
    scenario.sql(GIVEN).unwrap();
    let mut expected = Vec::new();
    for (encoding, text) in [("EUC_TW", "一乂 a"), ("EUC_JIS_2004", "か\u{309A}𠂉 ｱ")] {
        let table = encoding.to_lowercase();
        scenario
            .sql(&format!("create table {table} (v text)"))
            .unwrap();
        let insert =
            format!("insert into {table} values ('{text}') returning given(v, '{encoding}')");
        let bytes = bytes_of(scenario.sql(&insert).unwrap().trim());
        assert!(bytes.len() > 5, "{encoding}");
        let line = format!("table public.{table}: INSERT: v[text]:'");
        expected.push((table, [line.as_bytes(), &bytes, b"'\n"].concat()));
    }
    let recording = scenario.finish().unwrap();
    for (encoding, line) in expected {
        let decode = recording.decode(&programs::server());
        let decode = decode.with("--encoding", &encoding);
        let decoded = decode.with("--table", &encoding).run().unwrap();
        let found = decoded.printed.windows(line.len()).any(|part| part == line);
        assert!(found, "{encoding}: {:?}", decoded.printed);
    }
}
