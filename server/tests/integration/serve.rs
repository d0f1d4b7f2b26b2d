//! The server beside a standby: a client gets, over several connections, what `pg_recvlogical`
//! gets from the primary itself.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redostream_testdata::cluster::{Cluster, ClusterOptions};
use redostream_testdata::compare::compare;
use redostream_testdata::decoder::run_to_end;
use redostream_testdata::server::Server;
use tempfile::TempDir;

use crate::programs;

/// A program of ours in the background, its output in files; killed when dropped.
pub(crate) struct Background {
    pub(crate) child: Child,
    dir: TempDir,
}

impl Background {
    pub(crate) fn start(command: &mut Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(dir.path().join("out")).unwrap())
            .stderr(File::create(dir.path().join("err")).unwrap())
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    pub(crate) fn printed(&self) -> Vec<u8> {
        fs::read(self.dir.path().join("out")).unwrap()
    }

    pub(crate) fn errors(&self) -> String {
        fs::read_to_string(self.dir.path().join("err")).unwrap()
    }

    /// Waits until this holds of it, and fails with its errors if it ends or that takes a minute.
    pub(crate) fn wait_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let since = Instant::now();
        while !holds(self) {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "ended with {ended:?} before {what}: {}",
                self.errors()
            );
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "no {what}: {}",
                self.errors()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to end as an operator does, and gives its exit status.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let kill = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(kill.success());
        self.ended()
    }

    /// Ends it as an operator does; it has done well.
    pub(crate) fn ends_well(&mut self) {
        assert_eq!(self.terminate(), Some(0), "{}", self.errors());
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has printed as much as is expected, which is to be just that.
    pub(crate) fn prints(&mut self, what: &str, expected: &[u8]) {
        self.wait_until(what, |this| this.printed().len() >= expected.len());
        compare(expected, &self.printed()).unwrap();
    }

    /// Waits until it ends, and gives its exit status.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "does not end: {}",
                self.errors()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A free port whose successor is free too: the data address is the next one.
pub(crate) fn free_ports() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

fn serve(standby: &Cluster, state: &Path, port: u16) -> Background {
    let mut command = Command::new(programs::server());
    command
        .arg("serve")
        .arg("--pgdata")
        .arg(standby.data())
        .args([
            "--upstream",
            &standby.conninfo("postgres"),
            "--slot",
            "redostream",
            "--database",
            "app",
        ])
        .arg("--state")
        .arg(state)
        .args(["--listen", &format!("127.0.0.1:{port}")]);
    let mut server = Background::start(&mut command);
    server.wait_until("ready line", |server| {
        server.errors().contains("ready earliest=")
    });
    server
}

pub(crate) fn subscribe(port: u16) -> Command {
    let mut command = Command::new(programs::client());
    command.args([
        "subscribe",
        "--server",
        &format!("127.0.0.1:{port}"),
        "--database",
        "app",
    ]);
    command.args([
        "--from",
        "earliest",
        "--streams",
        "4",
        "--format",
        "test_decoding",
    ]);
    command
}

/// TPC-B with savepoints, deletes and rollbacks.
pub(crate) const WORKLOAD: &str = r"
\set aid random(1, 100000 * :scale)
\set bid random(1, 1 * :scale)
\set tid random(1, 10 * :scale)
\set delta random(-5000, 5000)
\set fate random(1, 10)
begin;
update pgbench_accounts set abalance = abalance + :delta where aid = :aid;
update pgbench_tellers set tbalance = tbalance + :delta where tid = :tid;
update pgbench_branches set bbalance = bbalance + :delta where bid = :bid;
savepoint a;
insert into pgbench_history (tid, bid, aid, delta, mtime) values (:tid, :bid, :aid, :delta, current_timestamp);
\if :fate <= 3
rollback to savepoint a;
insert into pgbench_history (tid, bid, aid, delta, filler) values (:tid, :bid, :aid, 0, 'instead');
\endif
\if :fate = 4
delete from pgbench_history where ctid = any (array(select ctid from pgbench_history limit 2));
\endif
\if :fate = 10
rollback;
\else
commit;
\endif
";

const MIDDLE: &str = "
select pg_sleep(0.5);
create table middle (id serial primary key, aid integer references pgbench_accounts, note text);
insert into middle (aid, note) select i, repeat('note ', i) from generate_series(1, 500) i;
alter table middle add column extra timestamptz default '2024-01-01 00:00:00+00';
begin; update middle set extra = null where id % 2 = 0; alter table middle rename column note to words; delete from middle where id % 5 = 0; commit;
";

fn run_workload(primary: &Cluster, script: &Path) {
    fs::write(script, WORKLOAD).unwrap();
    let mut pgbench = primary
        .client("pgbench", "app")
        .args(["-n", "-c", "8", "-j", "2", "-t", "250", "-f"])
        .arg(script)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    primary.run_scripts("app", &[MIDDLE.to_owned()]).unwrap();
    assert!(pgbench.wait().unwrap().success());
}

fn beside_a_standby(major: u32) {
    let Some(server) = Server::for_test(major) else {
        return;
    };
    let options = ClusterOptions::default();
    let mut primary = Cluster::create(server, &options).unwrap();
    primary.start().unwrap();
    primary.sql("postgres", "create database app").unwrap();
    let initialised = primary
        .client("pgbench", "app")
        .args(["-i", "-q", "-I", "dtGp"])
        .output()
        .unwrap();
    assert!(
        initialised.status.success(),
        "{}",
        String::from_utf8_lossy(&initialised.stderr)
    );
    let standby = primary.standby(&options).unwrap();
    // From here to the judge's first row nothing else is written.
    primary.create_slot("app", "judge").unwrap();
    standby
        .wait_for_replay(&primary.flushed_lsn().unwrap())
        .unwrap();

    let state = tempfile::tempdir().unwrap();
    let port = free_ports();
    let mut server = serve(&standby, state.path(), port);
    let mut live = Background::start(&mut subscribe(port));
    run_workload(&primary, &primary.root().join("workload.sql"));
    let end = primary.flushed_lsn().unwrap();
    let expected = primary.receive("app", "judge", &end).unwrap();
    assert!(expected.len() > 500_000, "the workload is too small");

    // The standby has everything at once, but nobody writes after the end: move the log on.
    standby
        .wait_for_replay(&primary.flushed_lsn().unwrap())
        .unwrap();
    let mut until = subscribe(port);
    until.args(["--until", &end]);
    let got = run_to_end(&mut until, Duration::from_secs(120)).unwrap();
    assert_eq!(got.status, Some(0), "{}\n{}", got.errors, server.errors());
    compare(&expected, &got.printed).unwrap();

    // The one that was there all the time has seen the same.
    live.wait_until("all lines", |live| live.printed().len() >= expected.len());
    live.ends_well();
    compare(&expected, &live.printed()).unwrap();
    server.ends_well();
}

#[test]
fn beside_a_standby_of_15() {
    beside_a_standby(15);
}

#[test]
fn beside_a_standby_of_14() {
    beside_a_standby(14);
}

#[test]
fn beside_a_standby_of_18() {
    beside_a_standby(18);
}
