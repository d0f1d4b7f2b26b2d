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

/// Bytes of each value, as it is stored: many times what is under way between the stages, which
/// takes its memory whatever is decoded.
const VALUE_BYTES: usize = 200 * 1024 * 1024;
/// In chunks, and in one record, as a part of [`VALUE_BYTES`].
const IN_CHUNKS_MAX: f64 = 1.25;
const IN_ONE_RECORD_MAX: f64 = 2.25;

/// Types, and an expression of a value of so many bytes.
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

fn decode(recording: &Recording, format: &str) -> Ended {
    let mut out = tempfile::tempfile().unwrap();
    let mut command = Command::new(programs::server());
    command.arg("decode").arg("--pgdata").arg(&recording.base);
    command.arg("--wal").arg(&recording.wal);
    command.args(["--end", &recording.end, "--decoders", "2"]);
    command.args(["--database", &recording.database, "--format", format]);
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

/// A log of its own for one value, so that nothing else takes memory while it is decoded: the value
/// stood in a table before the log begins, and is copied in it or deleted with its old row.
struct Alone {
    recording: Recording,
    /// What the server's `to_json()` makes of the value.
    json: String,
}

fn alone(server: Server, data_type: &str, value: &str, one_record: bool) -> Alone {
    let table = |name: &str| {
        // Stored as it is, so that its size is known.
        format!(
            "create table {name} (v {data_type}); alter table {name} alter v set storage external;"
        )
    };
    let before = format!(
        "create table small (v text); {} {} insert into kept values ({value});
         alter table kept replica identity full;",
        table("kept"),
        table("t")
    );
    let scenario = Scenario::start_prepared(server, &ClusterOptions::default(), &before).unwrap();
    let json = scenario.sql("select to_json(v) from kept").unwrap();
    let change = if one_record {
        "delete from kept"
    } else {
        "insert into t select v from kept"
    };
    scenario.sql(change).unwrap();
    Alone {
        recording: scenario.finish().unwrap(),
        json: json.trim_end().to_owned(),
    }
}

fn nothing_large(server: Server) -> Recording {
    let before = "create table small (v text)";
    let scenario = Scenario::start_prepared(server, &ClusterOptions::default(), before).unwrap();
    scenario.sql("insert into small values ('small')").unwrap();
    scenario.finish().unwrap()
}

#[test]
#[ignore = "takes minutes: the server makes and prints ten values of 200 MiB"]
fn one_large_value_takes_little_more_than_itself() {
    let server = || Server::for_test(15);
    let Some(small) = server().map(nothing_large) else {
        return;
    };
    let mut wrong = Vec::new();
    for (data_type, value) in values() {
        for (how, one_record, most) in [
            ("in chunks", false, IN_CHUNKS_MAX),
            ("in one record", true, IN_ONE_RECORD_MAX),
        ] {
            let Some(case) = server().map(|it| alone(it, data_type, &value, one_record)) else {
                return;
            };
            for format in ["test_decoding", "json"] {
                let least = decode(&small, format).peak;
                let ended = decode(&case.recording, format);
                let right = match format {
                    "test_decoding" => ended.printed == case.recording.expected,
                    _ => contains(longest_line(&ended.printed), case.json.as_bytes()),
                };
                assert!(right, "{data_type} {how} as {format}");
                let times = (ended.peak - least) / VALUE_BYTES as f64;
                let said = format!("{data_type} {how} as {format}: {times:.2} times its size");
                println!("{said}");
                if times > most {
                    wrong.push(said);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "more than allowed: {wrong:#?}");
}

fn longest_line(printed: &[u8]) -> &[u8] {
    printed
        .split(|byte| *byte == b'\n')
        .max_by_key(|line| line.len())
        .unwrap_or_default()
}
