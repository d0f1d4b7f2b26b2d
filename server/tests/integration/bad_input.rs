//! Damaged, missing and foreign files: an error that says what is wrong, never a panic, never
//! a wrong line. What was printed before the damage is always a beginning of the truth.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use redostream_testdata::cluster::{Cluster, ClusterOptions, Stop};
use redostream_testdata::decoder::{Decode, Decoded};
use redostream_testdata::generator::random::Random;
use redostream_testdata::recorded::{case, unpack_base};
use redostream_testdata::server::Server;
use tempfile::TempDir;

use crate::programs;

/// A recorded case laid out on disk, to be damaged.
struct Laid {
    base: TempDir,
    wal: TempDir,
    end: String,
    expected: Vec<u8>,
}

fn lay_out(version: u32, name: &str) -> Laid {
    let recorded = case(version, name).unwrap();
    let (base, wal) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    unpack_base(version, base.path()).unwrap();
    recorded.unpack_wal(wal.path()).unwrap();
    Laid {
        base,
        wal,
        end: recorded.facts.end.clone(),
        expected: recorded.expected().unwrap(),
    }
}

impl Laid {
    fn run(&self) -> Decoded {
        let run = Decode::new(&programs::server(), self.base.path())
            .wal(self.wal.path())
            .database("app")
            .with("--end", &self.end);
        let decoded = run.try_run().unwrap();
        assert!(
            programs::ended_well(decoded.status, &decoded.errors),
            "{}\nended with {:?}: {}",
            run.command_line(),
            decoded.status,
            decoded.errors
        );
        decoded
    }

    /// Runs, and expects one of these statuses, these words, and no wrong line.
    fn refused(&self, statuses: &[i32], words: &[&str]) -> Decoded {
        let decoded = self.run();
        assert!(
            decoded
                .status
                .is_some_and(|status| statuses.contains(&status)),
            "ended with {:?} instead of {statuses:?}: {}",
            decoded.status,
            decoded.errors
        );
        for word in words {
            assert!(
                decoded.errors.contains(word),
                "`{word}` is not said: {}",
                decoded.errors
            );
        }
        assert!(
            self.expected.starts_with(&decoded.printed),
            "printed what is not so"
        );
        decoded
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = fs::read_dir(self.wal.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths
    }
}

fn flip(path: &Path, offset: u64, bit: u8) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << bit], offset).unwrap();
}

#[test]
fn a_missing_data_directory_is_named() {
    let decoded = Decode::new(&programs::server(), Path::new("/nonexistent/data"))
        .database("app")
        .try_run()
        .unwrap();
    assert!(matches!(decoded.status, Some(1 | 2)), "{decoded:?}");
    assert!(
        decoded.errors.contains("/nonexistent/data"),
        "{}",
        decoded.errors
    );
}

#[test]
fn a_directory_that_is_no_data_directory_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    let decoded = Decode::new(&programs::server(), empty.path())
        .database("app")
        .try_run()
        .unwrap();
    assert!(matches!(decoded.status, Some(1 | 2)), "{decoded:?}");
    assert!(!decoded.errors.contains("panicked") && !decoded.errors.is_empty());
}

#[test]
fn an_unsupported_version_is_refused() {
    for version in ["13", "19", "words", ""] {
        let laid = lay_out(15, "truncate");
        fs::write(laid.base.path().join("PG_VERSION"), version).unwrap();
        laid.refused(&[1, 2], &["PG_VERSION"]);
    }
}

#[test]
fn a_missing_segment_is_named() {
    let laid = lay_out(14, "tpcb");
    let segments = laid.segments();
    assert!(segments.len() >= 3);
    let missing = &segments[segments.len() / 2];
    fs::remove_file(missing).unwrap();
    laid.refused(&[1, 3], &[missing.file_name().unwrap().to_str().unwrap()]);
}

#[test]
fn a_truncated_segment_is_an_error() {
    let laid = lay_out(14, "tpcb");
    let segments = laid.segments();
    let cut = &segments[segments.len() / 2];
    fs::OpenOptions::new()
        .write(true)
        .open(cut)
        .unwrap()
        .set_len(100_000)
        .unwrap();
    laid.refused(&[1, 3], &[cut.file_name().unwrap().to_str().unwrap()]);
}

#[test]
fn wal_that_ends_before_the_end_asked_for_is_an_error() {
    let mut laid = lay_out(15, "savepoints");
    laid.end = "0/7F000000".to_owned();
    let decoded = laid.run();
    assert_eq!(decoded.status, Some(1), "{}", decoded.errors);
    assert!(
        decoded.printed == laid.expected,
        "what the WAL holds must be printed all the same"
    );
}

#[test]
fn two_different_files_for_one_segment_are_an_error() {
    let laid = lay_out(15, "savepoints");
    let other = lay_out(15, "truncate");
    let run = Decode::new(&programs::server(), laid.base.path())
        .wal(laid.wal.path())
        .wal(other.wal.path())
        .database("app")
        .with("--end", &laid.end)
        .try_run()
        .unwrap();
    assert!(
        programs::ended_well(run.status, &run.errors),
        "{}",
        run.errors
    );
    assert_ne!(run.status, Some(0), "took one of two different files");
}

#[test]
fn wal_of_another_version_is_refused() {
    let laid = lay_out(15, "savepoints");
    let other = lay_out(16, "savepoints");
    let swapped = Laid {
        base: laid.base,
        wal: other.wal,
        end: laid.end,
        expected: laid.expected,
    };
    swapped.refused(&[1, 3, 4], &[]);
}

#[test]
fn flipped_bits_in_the_log_never_give_a_wrong_line() {
    let seed = std::process::id().into();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let laid = lay_out(14, "savepoints");
    let segment = laid.segments()[0].clone();
    let used = fs::read(&segment)
        .unwrap()
        .iter()
        .rposition(|byte| *byte != 0)
        .unwrap();
    for _ in 0..40 {
        let (offset, bit) = (random.below(used) as u64, random.below(8) as u8);
        flip(&segment, offset, bit);
        let decoded = laid.run();
        if decoded.status == Some(0) {
            // Padding and the rest after a switch mean nothing.
            assert!(
                decoded.printed == laid.expected,
                "seed {seed}, offset {offset}, bit {bit}"
            );
        } else {
            assert!(
                laid.expected.starts_with(&decoded.printed),
                "seed {seed}, offset {offset}, bit {bit}"
            );
            assert!(!decoded.errors.is_empty());
        }
        flip(&segment, offset, bit);
    }
}

#[test]
fn flipped_bits_in_pg_control_are_found() {
    let seed = std::process::id().into();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let laid = lay_out(15, "truncate");
    let control = laid.base.path().join("global/pg_control");
    for _ in 0..15 {
        let (offset, bit) = (random.below(290) as u64, random.below(8) as u8);
        flip(&control, offset, bit);
        laid.refused(&[1, 2, 3], &["pg_control"]);
        flip(&control, offset, bit);
    }
    fs::write(&control, b"short").unwrap();
    laid.refused(&[1, 2, 3], &["pg_control"]);
}

#[test]
fn damaged_catalog_files_never_panic() {
    let seed = std::process::id().into();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let laid = lay_out(15, "truncate");
    let database = fs::read_dir(laid.base.path().join("base"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .parse::<u32>()
                .unwrap()
        })
        .unwrap();
    // pg_class, pg_attribute and pg_type have these file numbers until they are rewritten.
    for name in ["1259", "1249", "1247", "pg_filenode.map"] {
        let path = database.join(name);
        let whole = fs::read(&path).unwrap();
        for _ in 0..4 {
            let mut bytes = whole.clone();
            for _ in 0..30 {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            fs::write(&path, &bytes).unwrap();
            laid.run();
        }
        let cut = random.below(whole.len());
        fs::write(&path, &whole[..cut]).unwrap();
        laid.run();
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_running_servers_directory_is_refused() {
    let Some(server) = Server::for_test(15) else {
        return;
    };
    let mut cluster = Cluster::create(server, &ClusterOptions::default()).unwrap();
    cluster.start().unwrap();
    let decoded = Decode::new(&programs::server(), cluster.data())
        .database("postgres")
        .try_run()
        .unwrap();
    assert!(matches!(decoded.status, Some(1 | 2)), "{decoded:?}");
    assert!(decoded.printed.is_empty());
}

#[test]
fn wal_level_below_logical_is_refused() {
    let Some(server) = Server::for_test(15) else {
        return;
    };
    let options = ClusterOptions::default().with("wal_level", "replica");
    let mut cluster = Cluster::create(server, &options).unwrap();
    cluster.start().unwrap();
    cluster
        .sql("postgres", "create table t as select 1")
        .unwrap();
    cluster.stop(Stop::Fast).unwrap();
    let decoded = Decode::new(&programs::server(), cluster.data())
        .database("postgres")
        .try_run()
        .unwrap();
    assert!(matches!(decoded.status, Some(1..=3)), "{decoded:?}");
    assert!(decoded.errors.contains("wal_level"), "{}", decoded.errors);
}

#[test]
fn wal_of_another_cluster_is_refused() {
    let Some(server) = Server::for_test(15) else {
        return;
    };
    let options = ClusterOptions {
        own_identity: true,
        ..ClusterOptions::default()
    };
    let mut other = Cluster::create(server, &options).unwrap();
    other.start().unwrap();
    other
        .sql(
            "postgres",
            "create table t as select i from generate_series(1, 300000) i",
        )
        .unwrap();
    other.stop(Stop::Fast).unwrap();
    let mut laid = lay_out(15, "savepoints");
    laid.wal = tempfile::tempdir().unwrap();
    redostream_testdata::files::copy_wal(&other.data().join("pg_wal"), laid.wal.path()).unwrap();
    let decoded = laid.refused(&[1, 3, 4], &["system identifier"]);
    assert!(decoded.printed.is_empty());
}
