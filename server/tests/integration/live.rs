//! Real servers of every version: SQL is run, the server says what it decodes, and so do we.
//!
//! The random part takes a new seed each time and prints it; `REDOSTREAM_SEED` repeats one,
//! `REDOSTREAM_SEEDS` says how many follow each other.

use std::time::{SystemTime, UNIX_EPOCH};

use redostream_testdata::batch::{BaseKind, draw_options, run};
use redostream_testdata::cluster::{ClusterOptions, Stop};
use redostream_testdata::compare::compare;
use redostream_testdata::decoder::Decode;
use redostream_testdata::files::{copy_tree, copy_wal};
use redostream_testdata::generator::Size;
use redostream_testdata::generator::random::Random;
use redostream_testdata::scenario::Scenario;
use redostream_testdata::server::{MAJORS, Server};
use redostream_testdata::slot::printed;

use crate::programs;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Random SQL on a fresh cluster with random settings.
fn random(major: u32) {
    let Some(server) = Server::for_test(major) else {
        return;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let first = number("REDOSTREAM_SEED").unwrap_or(now.as_millis() as u64 % 1_000_000_000);
    let seeds: Vec<u64> = (first..first + number("REDOSTREAM_SEEDS").unwrap_or(4)).collect();
    println!("PostgreSQL {major}: REDOSTREAM_SEED={first}");
    let mut random = Random::new(first);
    let options = draw_options(&mut random, major);
    let base = [BaseKind::Clean, BaseKind::Crashed, BaseKind::Backup][random.below(3)];
    let batch = run(&server, &options, base, &seeds, Size::default()).unwrap();
    let verdicts = batch.check(&programs::server(), &[1, 2, 4]).unwrap();
    let told: String = verdicts
        .iter()
        .map(|verdict| verdict.told.as_str())
        .collect();
    let lines: usize = verdicts.iter().map(|verdict| verdict.lines).sum();
    assert!(
        told.is_empty(),
        "REDOSTREAM_SEED={first} {base:?} {options:?}\n{told}"
    );
    for (seed, said) in &batch.unjudged {
        println!("PostgreSQL {major}: seed {seed}: the server cannot judge it: {said}");
    }
    assert!(!batch.ran.is_empty(), "no seed was judged");
    println!(
        "PostgreSQL {major}: {} seeds, {lines} lines the same",
        batch.ran.len()
    );
}

#[test]
fn random_sql_on_14() {
    random(14);
}

#[test]
fn random_sql_on_15() {
    random(15);
}

#[test]
fn random_sql_on_16() {
    random(16);
}

#[test]
fn random_sql_on_17() {
    random(17);
}

#[test]
fn random_sql_on_18() {
    random(18);
}

const LIFE: &str = "
create table if not exists life (id serial primary key, v text);
insert into life (v) select repeat('value ', i) from generate_series(1, 400) i;
begin; update life set v = v || '!' where id % 3 = 0; savepoint s; delete from life where id % 5 = 0; rollback to s; commit;
alter table life add column w int default 7;
update life set w = id where id % 4 = 0;
";

#[test]
fn a_scenario_on_every_version() {
    for major in MAJORS {
        let Some(server) = Server::for_test(major) else {
            continue;
        };
        let options = ClusterOptions {
            segment_mib: 1,
            ..ClusterOptions::default()
        };
        let scenario = Scenario::start_prepared(server, &options, LIFE).unwrap();
        scenario
            .sql(LIFE.replace("add column w", "add column w2").as_str())
            .unwrap();
        let lines = scenario
            .finish()
            .unwrap()
            .check(&programs::server(), &[1, 2, 4])
            .unwrap();
        assert!(lines > 500, "only {lines} lines for {major}");
    }
}

/// The data directory of a stopped standby, and the WAL that the primary wrote afterwards.
#[test]
fn a_stopped_standby_is_a_base() {
    for major in MAJORS {
        let Some(server) = Server::for_test(major) else {
            continue;
        };
        let options = ClusterOptions::default();
        let scenario = Scenario::start_prepared(server, &options, LIFE).unwrap();
        let mut standby = scenario.cluster.standby(&options).unwrap();
        scenario
            .sql(LIFE.replace("add column w", "add column w2").as_str())
            .unwrap();
        standby
            .wait_for_replay(&scenario.cluster.flushed_lsn().unwrap())
            .unwrap();
        standby.stop(Stop::Fast).unwrap();
        // What the standby has seen is not asked for again: a slot from here on is the judge.
        scenario.cluster.create_slot("app", "later").unwrap();
        scenario
            .sql(LIFE.replace("add column w", "add column w3").as_str())
            .unwrap();
        let end = scenario.cluster.flushed_lsn().unwrap();
        let expected = printed(&scenario.cluster.peek("app", "later").unwrap());
        let recording = scenario.finish().unwrap();
        let decoded = Decode::new(&programs::server(), standby.data())
            .wal(&recording.wal)
            .database("app")
            .with("--end", &end)
            .run()
            .unwrap();
        // It begins where the standby's catalog can be trusted, which lies before the slot.
        assert!(
            decoded.printed.ends_with(&expected),
            "{major}: {}",
            compare(&expected, &decoded.printed).unwrap_err()
        );
    }
}

/// WAL of a timeline that ends and of the one that goes on from it.
#[test]
fn a_promotion_is_followed() {
    let Some(server) = Server::for_test(15) else {
        return;
    };
    let options = ClusterOptions::default();
    let scenario = Scenario::start(server, &options).unwrap();
    let mut standby = scenario.cluster.standby(&options).unwrap();
    scenario.sql(LIFE).unwrap();
    let switched = scenario.cluster.flushed_lsn().unwrap();
    standby.wait_for_replay(&switched).unwrap();
    let recording = scenario.finish().unwrap();
    standby.promote().unwrap();
    standby.create_slot("app", "promoted").unwrap();
    standby
        .sql("app", &LIFE.replace("add column w", "add column w2"))
        .unwrap();
    let end = standby.flushed_lsn().unwrap();
    let mut expected = recording.expected.clone();
    expected.extend(printed(&standby.peek("app", "promoted").unwrap()));
    standby.stop(Stop::Fast).unwrap();
    let wal = tempfile::tempdir().unwrap();
    copy_wal(&standby.data().join("pg_wal"), wal.path()).unwrap();
    // The standby's backup begins later than the base: the first segments are the primary's.
    copy_tree(&recording.wal, wal.path(), &|path| {
        !wal.path().join(path).exists()
    })
    .unwrap();
    let decoded = Decode::new(&programs::server(), &recording.base)
        .wal(wal.path())
        .database("app")
        .with("--end", &end)
        .run()
        .unwrap();
    compare(&expected, &decoded.printed).unwrap();
}
