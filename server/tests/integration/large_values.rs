//! How much memory one large value takes, by the peak of the process that decodes it: little more
//! than the value where it arrives in chunks, twice of it where it is one record. And that what is
//! written in pieces is what the server says.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::time::Duration;

use redostream_testdata::cluster::ClusterOptions;
use redostream_testdata::scenario::{Recording, Scenario};
use redostream_testdata::server::Server;

use crate::programs;

/// Bytes of each value, as it is stored.
const VALUE_BYTES: usize = 48 * 1024 * 1024;
/// In chunks, and in one record, as a part of [`VALUE_BYTES`].
const IN_CHUNKS_MAX: f64 = 1.25;
const IN_ONE_RECORD_MAX: f64 = 2.25;

/// A database for each type, and an expression of a value of so many bytes.
fn values() -> [(&'static str, String); 5] {
    // Strings of 32 characters, each with 4 bytes around it.
    let parts = VALUE_BYTES / 36;
    let md5 = "md5(i::text) || case when i % 1000 = 0 then '''\"\\é' else '' end";
    [
        (
            "text",
            format!("repeat('it''s \"text\".', {})", VALUE_BYTES / 12),
        ),
        (
            "bytea",
            format!("decode(repeat('00ff41', {}), 'hex')", VALUE_BYTES / 3),
        ),
        (
            "jsonb",
            format!("(select jsonb_agg({md5}) from generate_series(1, {parts}) i)"),
        ),
        (
            "text[]",
            format!("(select array_agg({md5}) from generate_series(1, {parts}) i)"),
        ),
        (
            "xml",
            format!(
                "('<?xml version=\"1.0\" standalone=\"yes\"?><x>' || repeat('<a>it''s</a>', {}) || '</x>')::xml",
                VALUE_BYTES / 11
            ),
        ),
    ]
}

struct Ended {
    printed: Vec<u8>,
    /// The most memory that was in use, in bytes.
    peak: f64,
}

fn decode(recording: &Recording, database: &str, format: &str) -> Ended {
    let mut out = tempfile::tempfile().unwrap();
    let mut command = Command::new(programs::server());
    command.arg("decode").arg("--pgdata").arg(&recording.base);
    command.arg("--wal").arg(&recording.wal);
    command.args(["--end", &recording.end, "--decoders", "2"]);
    command.args(["--database", database, "--format", format]);
    command
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    let mut peak = 0.0;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        peak = resident_peak(child.id()).unwrap_or(peak).max(peak);
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(status.success(), "{command:?}: {status}");
    Ended {
        printed: whole(&mut out),
        peak,
    }
}

fn whole(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

/// What the kernel has counted: it only rises, so nothing is missed between two looks.
fn resident_peak(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0)
}

fn contains(whole: &[u8], part: &[u8]) -> bool {
    // The value is nearly all of its line: few places have to be looked at.
    let begin = &part[..part.len().min(8)];
    let ends = whole.len().saturating_sub(part.len());
    (0..=ends.min(whole.len()))
        .any(|at| whole[at..].starts_with(begin) && whole[at..].starts_with(part))
}

#[test]
#[ignore = "takes minutes: the server makes and prints ten values of 48 MiB"]
fn one_large_value_takes_little_more_than_itself() {
    let Some(server) = Server::for_test(15) else {
        return;
    };
    let scenario = Scenario::start(server, &ClusterOptions::default()).unwrap();
    let sql = |database: &str, sql: &str| scenario.cluster.sql(database, sql).unwrap();
    let mut expected = Vec::new();
    for (number, (data_type, value)) in values().iter().enumerate() {
        for one_record in [false, true] {
            let database = format!("v{number}_{one_record}");
            sql(
                "postgres",
                &format!("create database {database} template template0"),
            );
            // Stored as it is, so that its size is known.
            sql(
                &database,
                &format!(
                    "create table t (v {data_type}); alter table t alter v set storage external;
                     insert into t values ({value});"
                ),
            );
            let text = sql(&database, "select v from t")
                .trim_end()
                .replace('\'', "''");
            let json = sql(&database, "select to_json(v) from t");
            if one_record {
                sql(
                    &database,
                    "alter table t replica identity full; delete from t;",
                );
            }
            let texts = [
                ("test_decoding", format!("'{text}'")),
                ("json", json.trim_end().to_owned()),
            ];
            expected.push((database, *data_type, one_record, texts));
        }
    }
    sql("postgres", "create database small template template0");
    sql(
        "small",
        "create table t (v text); insert into t values ('small')",
    );
    let recording = scenario.finish().unwrap();
    let mut wrong = Vec::new();
    for (database, data_type, one_record, texts) in expected {
        for (format, text) in texts {
            let least = decode(&recording, "small", format).peak;
            let ended = decode(&recording, &database, format);
            let lines: Vec<&[u8]> = ended
                .printed
                .split(|byte| *byte == b'\n')
                .filter(|line| line.len() > VALUE_BYTES / 2)
                .collect();
            assert_eq!(
                lines.len(),
                1 + usize::from(one_record),
                "{database} {format}"
            );
            for line in lines {
                assert!(contains(line, text.as_bytes()), "{data_type} as {format}");
            }
            let times = (ended.peak - least) / VALUE_BYTES as f64;
            let most = if one_record {
                IN_ONE_RECORD_MAX
            } else {
                IN_CHUNKS_MAX
            };
            let how = if one_record { "one record" } else { "chunks" };
            println!("{data_type} in {how} as {format}: {times:.2} times its size");
            if times > most {
                wrong.push(format!(
                    "{data_type} in {how} as {format}: {times:.2} times"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "more than allowed: {wrong:#?}");
}
