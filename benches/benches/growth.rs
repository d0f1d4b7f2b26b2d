//! How decoding grows with the number of relations, and of subtransactions.
//!
//! `cargo bench -p redostream-benches --bench growth` starts real servers (PostgreSQL 15), has them
//! insert as many rows each time, and prints a line for each: nanoseconds a row with two decoders, those
//! of the ordered steps alone, and how many times that of the first. Open transactions, of which a server
//! has no 100,000, are among the benches of the stages. Takes some minutes.

use std::sync::atomic::Ordering;

use anyhow::Result;
use redostream_benches::{Log, Settings};
use redostream_engine::pipeline::Stage;
use redostream_testdata::cluster::{Cluster, ClusterOptions, Stop};
use redostream_testdata::files::{copy_tree, copy_wal};
use redostream_testdata::server::Server;
use tempfile::TempDir;

const ROWS: usize = 400_000;
const RUNS: usize = 5;

fn main() -> Result<()> {
    let mut first = None;
    for tables in [10, 100, 1000, 10_000, 100_000] {
        let make = format!(
            "do $$ begin for i in 1..{tables} loop execute \
             format('create table t%s (id int, a text)', i); \
             if i % 100 = 0 then commit; end if; end loop; end $$"
        );
        // Neighbouring rows are of different tables; each 100 are a transaction.
        let insert = format!(
            "do $$ begin for i in 1..{ROWS} loop execute \
             format('insert into t%s values (%s, ''row %s'')', 1 + (i * 7919::bigint) % {tables}, i, i); \
             if i % 100 = 0 then commit; end if; end loop; end $$"
        );
        report(&format!("{tables} relations"), &make, &insert, &mut first)?;
    }
    let mut first = None;
    for subtransactions in [1, 100, 10_000, 100_000] {
        let insert = format!(
            "do $$ begin for s in 1..{subtransactions} loop begin \
             insert into t select i, 'row ' || i from generate_series(1, {ROWS} / {subtransactions}) i; \
             exception when division_by_zero then null; end; end loop; end $$"
        );
        let make = "create table t (id int, a text)";
        let name = format!("{subtransactions} subtransactions in a transaction");
        report(&name, make, &insert, &mut first)?;
    }
    Ok(())
}

/// Records what `insert` logs behind `make`, decodes it, and prints a line.
fn report(name: &str, make: &str, insert: &str, first: &mut Option<f64>) -> Result<()> {
    let (directory, end) = record(make, insert)?;
    let log = Log {
        base: directory.path().join("base"),
        wal: directory.path().join("wal"),
        end: end.parse()?,
    };
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let decoded = log.decode(&Settings::with_decoders(2))?;
        let rows = decoded.counters.rows.load(Ordering::Relaxed);
        anyhow::ensure!(rows == ROWS as u64, "{rows} rows of {ROWS}");
        let busy = |stage: Stage| decoded.counters.busy_ns[stage as usize].load(Ordering::Relaxed);
        runs.push((
            decoded.seconds * 1e9,
            busy(Stage::Gate),
            busy(Stage::Assembly),
        ));
    }
    runs.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (all, gate, assembly) = runs[RUNS / 2];
    let each = |nanoseconds: f64| nanoseconds / ROWS as f64;
    let times = each(all) / *first.get_or_insert(each(all));
    println!(
        "{name}: {:.0} ns a row, {times:.2} times that of the first; gate {:.0}, assembly {:.0}",
        each(all),
        each(gate as f64),
        each(assembly as f64)
    );
    Ok(())
}

fn record(make: &str, insert: &str) -> Result<(TempDir, String)> {
    let options = ClusterOptions::default()
        .with("autovacuum", "off")
        .with("shared_buffers", "1GB")
        .with("max_wal_size", "32GB")
        .with("wal_keep_size", "40GB")
        .with("synchronous_commit", "off");
    let mut cluster = Cluster::create(Server::find(15)?, &options)?;
    cluster.start()?;
    cluster.sql("postgres", "create database app")?;
    cluster.sql("app", make)?;
    cluster.stop(Stop::Fast)?;
    let directory = TempDir::new()?;
    copy_tree(cluster.data(), &directory.path().join("base"), &|_| true)?;
    cluster.start()?;
    cluster.sql("app", insert)?;
    let end = cluster.flushed_lsn()?;
    copy_wal(
        &cluster.data().join("pg_wal"),
        &directory.path().join("wal"),
    )?;
    cluster.stop(Stop::Fast)?;
    Ok((directory, end))
}
