//! A server that is killed again and again: its subscriber, which lives on, gets every line once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redostream_testdata::cluster::{Cluster, ClusterOptions};
use redostream_testdata::compare::compare;
use redostream_testdata::decoder::run_to_end;
use redostream_testdata::generator::random::Random;
use redostream_testdata::server::Server;

use crate::programs;
use crate::serve::{Background, WORKLOAD, free_ports, subscribe};

/// A primary with pgbench's tables in `app`, and what a server beside it needs.
pub(crate) struct Scene {
    pub(crate) primary: Cluster,
    pub(crate) state: tempfile::TempDir,
    pub(crate) port: u16,
    /// What the judge has printed so far.
    judged: Vec<u8>,
}

impl Scene {
    pub(crate) fn new(major: u32) -> Option<Self> {
        Self::with(major, &ClusterOptions::default())
    }

    pub(crate) fn with(major: u32, options: &ClusterOptions) -> Option<Self> {
        let server = Server::for_test(major)?;
        let mut primary = Cluster::create(server, options).unwrap();
        primary.start().unwrap();
        primary.sql("postgres", "create database app").unwrap();
        let pgbench = primary
            .client("pgbench", "app")
            .args(["-i", "-q", "-I", "dtGp"])
            .output()
            .unwrap();
        assert!(pgbench.status.success(), "{pgbench:?}");
        primary.create_slot("app", "judge").unwrap();
        Some(Self {
            primary,
            state: tempfile::tempdir().unwrap(),
            port: free_ports(),
            judged: Vec::new(),
        })
    }

    pub(crate) fn command(&self, beside: &Cluster) -> Command {
        let mut command = Command::new(programs::server());
        command
            .args(["serve", "--database", "app", "--slot", "redostream"])
            .arg("--pgdata")
            .arg(beside.data())
            .args(["--upstream", &beside.conninfo("postgres")])
            .arg("--state")
            .arg(self.state.path())
            .args(["--listen", &format!("127.0.0.1:{}", self.port)]);
        command
    }

    /// A server that keeps little WAL, on a cluster with [`small_segments`], and gives metrics.
    pub(crate) fn frugal(&self, metrics: u16) -> Command {
        let mut command = self.command(&self.primary);
        command.args(["--restart-point-wal", "256KiB", "--retain", "1MiB"]);
        command.args(["--metrics", &format!("127.0.0.1:{metrics}")]);
        command
    }

    /// Where the server's slot keeps WAL from.
    pub(crate) fn slot_at(&self) -> u64 {
        let question =
            "select restart_lsn - '0/0' from pg_replication_slots where slot_name = 'redostream'";
        let text = self.primary.sql("postgres", question).unwrap();
        text.trim().parse().unwrap()
    }

    /// Writes rows, all in one transaction.
    pub(crate) fn insert(&self, rows: u32) {
        let sql = format!(
            "insert into pgbench_history (tid, bid, aid, delta, filler) \
             select 1, 1, i, i, 'more' from generate_series(1, {rows}) i"
        );
        self.primary.sql("app", &sql).unwrap();
    }

    /// A server with little memory and many restart points.
    pub(crate) fn serve(&self) -> Background {
        let mut command = self.command(&self.primary);
        command.args(["--restart-point-wal", "256KiB", "--memory", "64KiB"]);
        Background::start(&mut command)
    }

    pub(crate) fn points(&self) -> Vec<PathBuf> {
        files(self.state.path(), "restart-")
    }

    /// What the judge prints from the beginning up to `end`.
    pub(crate) fn expected(&mut self, end: &str) -> Vec<u8> {
        let more = self.primary.receive("app", "judge", end).unwrap();
        self.judged.extend(more);
        self.judged.clone()
    }

    /// The last of a test: whoever comes now gets what was expected so far, and both end well.
    pub(crate) fn closes(
        &self,
        expected: &[u8],
        end: &str,
        live: &mut Background,
        server: &mut Background,
    ) {
        compare(expected, &self.everything(end)).unwrap();
        live.ends_well();
        server.ends_well();
    }

    /// A server beside this cluster that is ready.
    pub(crate) fn begin(&self, beside: &Cluster) -> Background {
        let mut server = Background::start(&mut self.command(beside));
        ready(&mut server);
        server
    }

    /// What a subscriber gets from the beginning.
    pub(crate) fn everything(&self, end: &str) -> Vec<u8> {
        let mut until = subscribe(self.port);
        until.args(["--until", end]);
        let got = run_to_end(&mut until, Duration::from_secs(120)).unwrap();
        assert_eq!(got.status, Some(0), "{}", got.errors);
        got.printed
    }
}

/// Segments of 1 MiB that go as soon as nobody holds them.
pub(crate) fn small_segments() -> ClusterOptions {
    let options = ClusterOptions {
        segment_mib: 1,
        ..ClusterOptions::default()
    };
    options
        .with("min_wal_size", "2MB")
        .with("max_wal_size", "4MB")
        .with("wal_keep_size", "0")
}

/// What a server says of itself.
pub(crate) fn status(port: u16) -> serde_json::Value {
    let mut status = Command::new(programs::client());
    status.args(["status", "--server", &format!("127.0.0.1:{port}")]);
    let output = status.args(["--format", "json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn files(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = paths
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(prefix) && !name.contains('.')
        })
        .collect();
    found.sort();
    found
}

pub(crate) fn ready(server: &mut Background) {
    server.wait_until("ready line", |server| {
        server.errors().contains("ready earliest=")
    });
}

/// A transaction that stays open through everything, with values that need TOAST, rolled back
/// parts, and far more rows than are kept in memory.
const LONG: &str = "
begin;
create table long (id integer, v text);
insert into long select i, repeat(md5(i::text), 5) from generate_series(1, 2000) i;
savepoint a;
insert into long select i, (select string_agg(md5((i * j)::text), '') from generate_series(1, 200) j) from generate_series(1, 20) i;
savepoint b;
insert into long select i, 'never' from generate_series(1, 1000) i;
rollback to b;
";

fn kills() -> usize {
    let asked = std::env::var("REDOSTREAM_KILLS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(6)
}

#[test]
fn a_killed_server_loses_and_repeats_nothing() {
    let Some(mut scene) = Scene::new(15) else {
        return;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = now.as_millis() as u64 % 1_000_000_000;
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut server = scene.serve();
    ready(&mut server);
    let mut command = subscribe(scene.port);
    command.args(["--name", "durable"]);
    let mut live = Background::start(&mut command);
    let mut long = scene.primary.session("app").unwrap();
    long.run(LONG).unwrap();
    let script = scene.primary.root().join("workload.sql");
    fs::write(&script, WORKLOAD).unwrap();
    let kills = kills();
    let mut pgbench = scene
        .primary
        .client("pgbench", "app")
        .args(["-n", "-c", "4", "-R", "300", "-T"])
        .arg((kills * 2 + 2).to_string())
        .arg("-f")
        .arg(&script)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut slowest = Duration::ZERO;
    let mut begun_from = Vec::new();
    for kill in 0..kills {
        std::thread::sleep(Duration::from_millis(500 + random.below(2000) as u64));
        server.kill();
        let since = Instant::now();
        server = scene.serve();
        ready(&mut server);
        slowest = slowest.max(since.elapsed());
        begun_from.extend(begun(&server.errors()));
        if kill == kills / 2 {
            long.run("insert into long values (-1, 'in the middle');")
                .unwrap();
        }
    }
    assert_eq!(begun_from.len(), kills, "{}", server.errors());
    assert!(begun_from.is_sorted() && begun_from[0] < begun_from[kills - 1]);
    assert!(pgbench.wait().unwrap().success());
    long.run("commit;").unwrap();
    scene.primary.sql("app", "create table after ()").unwrap();
    let end = scene.primary.flushed_lsn().unwrap();
    let expected = scene.expected(&end);
    live.prints("all lines", &expected);
    let lines = expected.iter().filter(|byte| **byte == b'\n').count();
    println!("{kills} kills, {lines} lines, slowest ready {slowest:?}");
    // One that was not there at all gets the same, from the first restart point.
    scene.closes(&expected, &end, &mut live, &mut server);
}

/// Where a server went on from, as it says.
pub(crate) fn begun(errors: &str) -> Option<u64> {
    let line = errors
        .lines()
        .find(|line| line.contains("going on from a restart point"))?;
    let lsn = line.split("from=").nth(1)?.split_whitespace().next()?;
    redostream_testdata::slot::parse_lsn(lsn).ok()
}

/// Bytes go wrong in the newest restart point: the one before it does as well.
#[test]
fn a_damaged_restart_point_is_passed_over() {
    let Some(mut scene) = Scene::new(15) else {
        return;
    };
    let mut server = scene.serve();
    ready(&mut server);
    fn write(primary: &Cluster, n: u32) {
        let sql = format!(
            "create table t{n} as select i, repeat('x', 50) v from generate_series(1, 5000) i"
        );
        primary.sql("app", &sql).unwrap();
        let sql = format!("insert into t{n} values ({n}, 'y')");
        primary.sql("app", &sql).unwrap();
    }
    let mut tables = 0;
    while scene.points().len() < 2 {
        tables += 1;
        assert!(tables < 60, "no second restart point: {}", server.errors());
        write(&scene.primary, tables);
        std::thread::sleep(Duration::from_millis(500));
    }
    server.kill();

    // Only one server at a time has the directory.
    let mut first = scene.serve();
    ready(&mut first);
    let second = run_to_end(&mut scene.command(&scene.primary), Duration::from_secs(20)).unwrap();
    assert_eq!(second.status, Some(1));
    first.kill();

    for harm in 0..3 {
        let points = scene.points();
        let newest = points.last().unwrap();
        let mut bytes = fs::read(newest).unwrap();
        let middle = bytes.len() / 2;
        match harm {
            0 => bytes[middle] ^= 1,
            1 => bytes[30] ^= 1,
            _ => bytes.truncate(middle),
        }
        fs::write(newest, bytes).unwrap();
        // A half-written one, as a kill leaves it.
        fs::write(newest.with_extension("new"), b"RDSTREAM").unwrap();
        let mut server = scene.serve();
        ready(&mut server);
        assert!(
            server.errors().contains("is damaged"),
            "{}",
            server.errors()
        );
        tables += 1;
        write(&scene.primary, tables);
        let end = scene.primary.flushed_lsn().unwrap();
        compare(&scene.expected(&end), &scene.everything(&end)).unwrap();
        while scene.points().len() < 2 {
            tables += 1;
            write(&scene.primary, tables);
            std::thread::sleep(Duration::from_millis(300));
        }
        server.kill();
    }

    // All of them: nothing is begun behind anybody's back.
    for point in scene.points() {
        fs::write(point, b"RDSTREAM, but not really").unwrap();
    }
    let refused = run_to_end(&mut scene.command(&scene.primary), Duration::from_secs(20)).unwrap();
    assert_eq!(refused.status, Some(1), "{}", refused.errors);
    assert!(
        refused.errors.contains("none of the restart points"),
        "{}",
        refused.errors
    );
}
