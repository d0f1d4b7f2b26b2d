//! What a subscriber prints of recorded logs when it asks for less than all, or the log is damaged.

use std::io::{Read, Seek, SeekFrom, Write};
use std::process::{Command, Output};

use redostream_testdata::recorded::case;
use serde_json::Value;
use tempfile::tempdir;

use crate::files::{FileServer, Recorded};
use crate::programs;

/// The lines of `redostream subscribe --format json` from `from` to the log's end.
fn lines(log: &Recorded, server: &FileServer, from: &str, more: &[&str]) -> Vec<String> {
    let output = run(log, server, from, more);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn run(log: &Recorded, server: &FileServer, from: &str, more: &[&str]) -> Output {
    let mut command = Command::new(programs::client());
    command.args(["subscribe", "--server", &server.control, "--from", from]);
    command.args(["--until", &log.end, "--format", "json"]);
    command.args(more).output().unwrap()
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

/// `d` has the key (c, a), later none, later another; a list keeps what is key at the time.
#[test]
fn a_column_list_gives_its_columns_and_the_key() {
    let log = Recorded::of(15, "tpcb");
    let state = tempdir().unwrap();
    let server = log.serve(state.path(), &[]);
    let whole = lines(&log, &server, "earliest", &[]);
    let lists = [
        "--columns",
        "pgbench_tellers=tbalance",
        "--columns",
        "*.pgbench_b*=bbalance",
    ];
    let found = lines(&log, &server, "earliest", &lists);
    assert_eq!(found.len(), whole.len());
    let mut narrowed = 0;
    for (found, whole) in found.iter().zip(&whole) {
        let mut wanted = parsed(whole);
        let kept: &[&str] = match wanted["table"].as_str() {
            Some("pgbench_tellers") => &["tid", "tbalance"],
            Some("pgbench_branches") => &["bid", "bbalance"],
            _ => &[],
        };
        for tuple in ["old", "new"] {
            if let (Some(tuple), false) = (wanted[tuple].as_object_mut(), kept.is_empty()) {
                tuple.retain(|name, _| kept.contains(&name.as_str()));
                narrowed += 1;
            }
        }
        let mut found = parsed(found);
        // Indexing makes a member of what is not there.
        for line in [&mut found, &mut wanted] {
            line.as_object_mut()
                .unwrap()
                .retain(|_, value| !value.is_null());
        }
        // The table's key may not have been there when its first rows were written.
        let bare = found["new"].as_object().is_some_and(|new| new.len() == 1);
        if !bare {
            assert_eq!(found, wanted);
        }
    }
    assert!(narrowed > 20, "{narrowed} rows of these tables");
    for at in (0..found.len() - 1).step_by(found.len() / 12) {
        let from = parsed(&found[at])["position"].as_str().unwrap().to_owned();
        let rest = lines(&log, &server, &from, &lists);
        assert!(rest == found[at + 1..], "after line {at}, {from}");
    }
    for (list, status) in [
        ("pgbench_tellers=nope", 2),
        ("nope=tid", 2),
        ("nope*=tid", 0),
    ] {
        let output = run(&log, &server, "earliest", &["--columns", list]);
        assert_eq!(output.status.code(), Some(status), "{list}");
    }
}

#[test]
fn messages_say_their_database() {
    let log = Recorded::of(15, "messages");
    let state = tempdir().unwrap();
    let server = log.serve(state.path(), &[]);
    let database = case(15, "messages").unwrap().facts.database;
    let all = lines(&log, &server, "earliest", &["--kind", "message"]);
    let alone = |line: &&String| parsed(line)["transactional"] == false;
    assert!(all.iter().filter(alone).count() > 1);
    for line in &all {
        assert_eq!(
            parsed(line)["database"].as_str(),
            Some(&*database),
            "{line}"
        );
    }
    let filter = ["--kind", "message", "--database"];
    let same = lines(
        &log,
        &server,
        "earliest",
        &[&filter[..], &[&*database]].concat(),
    );
    assert_eq!(same, all);
    let other = lines(
        &log,
        &server,
        "earliest",
        &[&filter[..], &["postgres"]].concat(),
    );
    assert_eq!(other, [""; 0]);
}

/// Everything before the damage arrives, then what and where it is; exit status 3 on both sides.
#[test]
fn damage_is_told_after_everything_before_it() {
    let log = Recorded::of(15, "demo");
    let state = tempdir().unwrap();
    let server = log.serve(state.path(), &[]);
    let whole = lines(&log, &server, "earliest", &[]);
    drop(server);
    let end = u64::from_str_radix(log.end.split_once('/').unwrap().1, 16).unwrap();
    let segment = log.wal.path().join(format!("{:08X}{:016X}", 1, end >> 24));
    let mut file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(segment)
        .unwrap();
    let at = SeekFrom::Start((end & 0xFF_FFFF) - 400_000);
    let mut byte = [0];
    file.seek(at).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(at).unwrap();
    file.write_all(&[byte[0] ^ 4]).unwrap();
    drop(file);
    let state = tempdir().unwrap();
    let mut server = log.serve(state.path(), &["--buffer", "1GiB"]);
    let output = run(&log, &server, "earliest", &[]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(errors.contains("the log is damaged at 0/3"), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let found: Vec<&str> = text.lines().collect();
    assert!(found.len() > whole.len() / 2 && found[..] == whole[..found.len()]);
    let ended = server.process.child.wait().unwrap();
    assert_eq!(ended.code(), Some(3));
}
