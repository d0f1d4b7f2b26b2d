//! Every recorded case, with one, two and four decoders, whole and split chunks, large and small
//! ones: the same bytes as the server's.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use redostream_testdata::compare::compare;
use redostream_testdata::decoder::Decode;
use redostream_testdata::recorded::{Case, case, cases, unpack_base};
use redostream_testdata::server::MAJORS;

use crate::programs;

/// Decoders, partitions and sizes of a chunk.
const WAYS: [(&str, &str, &str); 3] = [
    ("1", "1", "256KiB"),
    ("2", "3", "32KiB"),
    ("4", "1", "8KiB"),
];

fn decode(case: &Case, base: &std::path::Path, wal: &std::path::Path) -> Decode {
    Decode::new(&programs::server(), base)
        .wal(wal)
        .database(&case.facts.database)
        .with("--end", &case.facts.end)
}

/// Compares all cases of a version and tells all that differ, not only the first.
fn check_version(version: u32) {
    let base = tempfile::tempdir().unwrap();
    unpack_base(version, base.path()).unwrap();
    let mut told = String::new();
    let mut lines = 0;
    let cases: Vec<Case> = cases()
        .unwrap()
        .into_iter()
        .filter(|case| case.version == version)
        .collect();
    assert!(
        cases.len() >= 10,
        "too few cases are recorded for {version}"
    );
    for case in &cases {
        let wal = tempfile::tempdir().unwrap();
        case.unpack_wal(wal.path()).unwrap();
        let expected = case.expected().unwrap();
        for (decoders, partitions, chunk) in WAYS {
            let decoded = decode(case, base.path(), wal.path())
                .with("--decoders", decoders)
                .with("--partitions", partitions)
                .with("--chunk", chunk)
                .try_run()
                .unwrap();
            match compare(&expected, &decoded.printed) {
                Ok(count) if decoded.status == Some(0) => lines += count,
                verdict => {
                    let _ = writeln!(
                        told,
                        "{version} {} with {decoders} decoders, {partitions} partitions, chunks of {chunk}: exit status {:?}\n{}{}",
                        case.name,
                        decoded.status,
                        verdict.err().unwrap_or_default(),
                        decoded.errors
                    );
                }
            }
        }
    }
    assert!(told.is_empty(), "{told}");
    println!(
        "PostgreSQL {version}: {} cases, {lines} lines the same",
        cases.len()
    );
}

#[test]
fn cases_of_14() {
    check_version(14);
}

#[test]
fn cases_of_15() {
    check_version(15);
}

#[test]
fn cases_of_16() {
    check_version(16);
}

#[test]
fn cases_of_17() {
    check_version(17);
}

#[test]
fn cases_of_18() {
    check_version(18);
}

/// The events of the case with every kind of DDL, as JSON: the recorded bytes, whatever the number of
/// decoders and however the log is cut into chunks. `REDOSTREAM_RECORD=1` records them anew; what
/// they say is held against servers elsewhere.
#[test]
fn ddl_as_json() {
    for version in MAJORS {
        let case = case(version, "ddl").unwrap();
        let (base, wal) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        unpack_base(version, base.path()).unwrap();
        case.unpack_wal(wal.path()).unwrap();
        let mut printed = Vec::new();
        for (decoders, chunk) in [
            ("1", "256KiB"),
            ("2", "256KiB"),
            ("4", "64KiB"),
            ("3", "16KiB"),
        ] {
            let decoded = decode(&case, base.path(), wal.path())
                .with("--format", "json")
                .with("--decoders", decoders)
                .with("--chunk", chunk)
                .try_run()
                .unwrap();
            assert_eq!(
                decoded.status,
                Some(0),
                "{version} {decoders}: {}",
                decoded.errors
            );
            if printed.is_empty() {
                printed = decoded.printed;
            } else {
                let same = printed == decoded.printed;
                assert!(
                    same,
                    "{version}: other bytes with {decoders} decoders, {chunk}"
                );
            }
        }
        let path = case.path("events.json.zst");
        if std::env::var_os("REDOSTREAM_RECORD").is_some() {
            let mut zstd = Command::new("zstd")
                .args(["-19", "-q", "-f", "-o"])
                .arg(&path)
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            zstd.stdin.take().unwrap().write_all(&printed).unwrap();
            assert!(zstd.wait().unwrap().success());
        }
        let recorded = case.file("events.json.zst").unwrap();
        let lines = |bytes: &[u8]| -> Vec<String> {
            let text = String::from_utf8_lossy(bytes);
            text.lines().map(str::to_owned).collect()
        };
        for (number, (found, known)) in lines(&printed).iter().zip(lines(&recorded)).enumerate() {
            assert_eq!(*found, known, "{version}, line {}", number + 1);
        }
        assert_eq!(printed.len(), recorded.len(), "{version}");
        let ddl = lines(&printed);
        let ddl = ddl.iter().filter(|line| line.contains(r#""kind":"ddl""#));
        let count = ddl.count();
        println!("PostgreSQL {version}: {count} DDL events the same");
        assert!(count > 100, "{version}: {count}");
    }
}
