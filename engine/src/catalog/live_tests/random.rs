//! Random statements of several sessions at once; the directory is read again and again in the
//! middle of it, or after a crash.

use redostream_protocol::Lsn;
use redostream_protocol::ids::ParseLsnError;
use redostream_testdata::cluster::{Cluster, ClusterOptions, Stop};
use redostream_testdata::files::copy_tree;
use redostream_testdata::generator::{Size, generate};
use redostream_testdata::server::{MAJORS, Server};

use super::follower::Follower;
use super::said::{SESSION, Said, TABLES, ask, assert_same, check};
use super::steps::BEFORE;
use super::wal::Wal;
use crate::catalog::Catalog;
use crate::catalog::bootstrap::{DataDirectory, Upstream, load};
use crate::gate::transactions::Transactions;

/// A server as the upstream of the directory it writes to.
struct Running<'a>(&'a Cluster);

impl Upstream for Running<'_> {
    fn flushed_or_replayed(&self) -> Result<Lsn, String> {
        let lsn = self.0.flushed_lsn().map_err(|error| error.to_string())?;
        lsn.parse()
            .map_err(|error: ParseLsnError| error.to_string())
    }
}

/// How the directory is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// While its server writes to it.
    Live,
    /// After a crash.
    Crashed,
}

/// Random SQL of several sessions at once; the directory is read in the middle of it.
fn run_random(major: u32, seed: u64, how: How) {
    let Some(server) = Server::for_test(major) else {
        return;
    };
    eprintln!("major {major}, seed {seed}");
    let options = ClusterOptions::default()
        .with("autovacuum_naptime", "1s")
        .with("full_page_writes", "on");
    let mut cluster = Cluster::create(server, &options).unwrap();
    cluster.start().unwrap();
    cluster.sql("postgres", "create database d").unwrap();
    cluster.sql("d", BEFORE).unwrap();
    let script = generate(seed, major, Size::default());
    cluster
        .run_scripts("d", std::slice::from_ref(&script.setup))
        .unwrap();
    let wal = cluster.data().join("pg_wal");
    let copy = cluster.root().join("copy");
    let mut loaded = Vec::new();
    if how == How::Live {
        let upkeep = UPKEEP.repeat(6);
        let mut sessions = script.sessions.clone();
        sessions.push(upkeep);
        std::thread::scope(|scope| {
            let cluster = &cluster;
            let running = scope.spawn(move || cluster.run_scripts("d", &sessions).unwrap());
            while loaded.len() < LOADS_MAX && !running.is_finished() {
                std::thread::sleep(std::time::Duration::from_millis(100 + seed % 100));
                // The log up to M is there only once it is written; followed below.
                let directory = DataDirectory::open(cluster.data()).unwrap();
                let mut catalog = Catalog::new(directory.format());
                let upstream = Running(cluster);
                let bootstrap = load(&directory, Some(&upstream), &mut catalog).unwrap();
                loaded.push((catalog, bootstrap, directory.format()));
            }
            running.join().unwrap();
        });
    } else {
        cluster.run_scripts("d", &script.sessions).unwrap();
        let mut open = cluster.session("d").unwrap();
        open.run("begin; create table never (a int); select pg_switch_wal();")
            .unwrap();
        // Nothing waits for these, so they are written by the page: the crash cuts a record off
        // in its middle, and the log goes on over it.
        open.run("do $d$ begin for i in 1..40 loop execute format('create table cut_off_%s (a int, b text)', i); end loop; end $d$;")
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(500));
        cluster.stop(Stop::Immediate).unwrap();
        copy_tree(cluster.data(), &copy, &|_| true).unwrap();
        cluster.start().unwrap();
    }
    cluster
        .run_scripts("d", std::slice::from_ref(&script.finish))
        .unwrap();
    let mut session = cluster.session("d").unwrap();
    session.run(SESSION).unwrap();
    let mut all = vec![ask(&mut session, "d")];
    session
        .run("vacuum full pg_catalog.pg_class; create table public.last_one (a int);")
        .unwrap();
    all.push(ask(&mut session, "d"));
    let tables = session.run(TABLES).unwrap();
    drop(session);
    cluster.flushed_lsn().unwrap();

    if how == How::Crashed {
        let mut follower = Follower::new(&copy, &wal, None);
        follower.follow(all[0].lsn);
        follower.catalog.consistent().unwrap();
        compare(&mut follower, &all, &tables);
    }
    for (catalog, bootstrap, format) in loaded {
        let prepared = bootstrap.prepared.iter();
        let mut follower = Follower {
            catalog,
            transactions: Transactions::default(),
            prepared: prepared.map(|prepared| prepared.xid).collect(),
            wal: Wal::open(&wal, format, bootstrap.segment_bytes, bootstrap.redo),
        };
        let (from, to) = (bootstrap.redo, bootstrap.rule.at_least);
        let records = follower.follow(to);
        eprintln!("{records} records from {from} to {to}");
        follower.catalog.consistent().unwrap();
        compare(&mut follower, &all, &tables);
    }
}

/// What is followed from here on is what the server said.
fn compare(follower: &mut Follower, all: &[Said], tables: &str) {
    for said in all {
        check(follower, said);
    }
    let database = follower.database_oid("d");
    assert_same(&follower.tables(database), tables, "tables");
}

/// How often a directory is read while its server writes to it.
const LOADS_MAX: usize = 12;

const UPKEEP: &str = "
vacuum full pg_class; create table up (a serial primary key, b text); checkpoint; vacuum pg_attribute;
begin; create table up_lost (a int); rollback; alter table up add column c int default 5;
vacuum full pg_attribute; vacuum full pg_index; drop table up; vacuum pg_class; vacuum full pg_type;
vacuum full pg_proc; vacuum full pg_enum; vacuum freeze pg_attribute; create database other; drop database other;
";

/// A seed that can be given to run one case again.
pub(super) fn seed() -> u64 {
    let given = std::env::var("REDOSTREAM_SEED").ok();
    given.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(since.subsec_nanos())
    })
}

#[test]
fn random_live() {
    for major in MAJORS {
        run_random(major, seed(), How::Live);
    }
}

#[test]
fn random_crashed() {
    for major in MAJORS {
        run_random(major, seed(), How::Crashed);
    }
}
