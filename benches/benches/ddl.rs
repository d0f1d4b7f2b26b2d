//! What a DDL statement costs, in a small database and in one with many tables, alone and with many
//! transactions open that have changed catalogs too.
//!
//! `cargo bench -p redostream-benches --bench ddl` starts real servers (PostgreSQL 15) and prints a
//! line for each: the gate's time, which replays catalogs and makes the events, per statement, and how
//! many times that of the smallest database it is; it must not grow with the number of tables. The
//! first look-up of each catalog goes over it once; that is in the figures, shared by 1,000.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use anyhow::Result;
use redostream_benches::Recording;
use redostream_engine::pipeline::Stage;
use redostream_testdata::cluster::{Cluster, ClusterOptions, Stop};
use redostream_testdata::files::{copy_tree, copy_wal};
use redostream_testdata::server::Server;
use tempfile::TempDir;

const STATEMENTS: usize = 1000;

fn main() -> Result<()> {
    let mut smallest = None;
    for (tables, open) in [(100, 0), (1000, 0), (10_000, 0), (10_000, 50)] {
        let (directory, end) = record(tables, open)?;
        let recording = Recording::of(directory, end.parse()?);
        let mut best = u64::MAX;
        for _ in 0..3 {
            let counters = recording.decode(1)?;
            best = best.min(counters.busy_ns[Stage::Gate as usize].load(Ordering::Relaxed));
        }
        let each = best as f64 / STATEMENTS as f64 / 1000.0;
        let times = each / *smallest.get_or_insert(each);
        println!(
            "{tables} tables, {open} open transactions: {each:.0} us in the gate per ALTER TABLE, {times:.2} times that of the first"
        );
    }
    Ok(())
}

/// A database of so many tables, and the log of the statements that follow.
fn record(tables: usize, open: usize) -> Result<(TempDir, String)> {
    let options = ClusterOptions::default().with("autovacuum", "off");
    let mut cluster = Cluster::create(Server::find(15)?, &options)?;
    cluster.start()?;
    cluster.sql("postgres", "create database app")?;
    let make = format!(
        "do $$ begin for i in 1..{tables} loop execute \
         format('create table t%s (id int primary key, a text default ''x'')', i); \
         if i % 200 = 0 then commit; end if; end loop; end $$"
    );
    cluster.sql("app", &make)?;
    cluster.stop(Stop::Fast)?;
    let directory = TempDir::new()?;
    copy_tree(cluster.data(), &directory.path().join("base"), &|_| true)?;
    cluster.start()?;
    let mut sessions = Vec::new();
    for number in 0..open {
        let mut session = cluster.session("app")?;
        session.run(&format!("begin; create table open_{number} (a int);"))?;
        sessions.push(session);
    }
    let mut statements = String::new();
    for number in 0..STATEMENTS {
        let table = 1 + number * 7919 % tables;
        writeln!(
            statements,
            "alter table t{table} add column c{number} int default {number};"
        )?;
    }
    cluster.sql("app", &statements)?;
    let end = cluster.flushed_lsn()?;
    copy_wal(
        &cluster.data().join("pg_wal"),
        &directory.path().join("wal"),
    )?;
    drop(sessions);
    cluster.stop(Stop::Fast)?;
    Ok((directory, end))
}
