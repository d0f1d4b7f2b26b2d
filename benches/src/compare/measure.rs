//! What is measured on one workload: PostgreSQL's tools and ours in turn, on the same log.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use redostream_testdata::cluster::{Cluster, Stop};
use redostream_testdata::server::client;
use serde::Serialize;

use super::figures::Spread;
use super::program::{
    Background, Run, ended_children_seconds, peak_memory, process_seconds, resident_peak, run,
};
use super::workload::{DATABASE, Log, PUBLICATION, SLOT, Workload};

/// The programs under test, and how often they run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `redostream-server`.
    pub server: PathBuf,
    /// `redostream`.
    pub client: PathBuf,
    /// Pairs of runs of the quick tools.
    pub pairs: usize,
    /// Runs of PostgreSQL's decoders, which take long.
    pub slow_runs: usize,
    /// Decoder threads.
    pub decoders: usize,
}

/// All that was measured on one workload.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Measured {
    /// The workload's letter.
    pub workload: String,
    /// What it is.
    pub name: String,
    /// Bytes of its log.
    pub wal_bytes: u64,
    /// Rows in it.
    pub rows: u64,
    /// Seconds of `pg_waldump --stats`.
    pub waldump_seconds: Option<Spread>,
    /// Seconds that `decode --stats` gives: from the first byte of WAL to the last transaction.
    pub decode_seconds: Option<Spread>,
    /// The same with the program's start and the reading of the catalogs.
    pub decode_whole_seconds: Option<Spread>,
    /// By pairs, how many times as fast decoding is as `pg_waldump`.
    pub decode_ratio: Option<Spread>,
    /// Records in the log.
    pub records: u64,
    /// Seconds that a decode with one thread spends in the gate: a step done in order, whatever the
    /// number of threads.
    pub gate_seconds: Option<Spread>,
    /// The same of assembly.
    pub assembly_seconds: Option<Spread>,
    /// Most memory of a decode, MiB.
    pub decode_memory_mib: Option<f64>,
    /// Seconds from a subscriber's request to its last event.
    pub delivered_seconds: Option<Spread>,
    /// By pairs, how many times as fast delivery is as `pg_waldump`.
    pub delivered_ratio: Option<Spread>,
    /// Bytes on the wire and before compression.
    pub wire_bytes: u64,
    /// As above.
    pub raw_bytes: u64,
    /// Most memory of the server while it delivers, MiB.
    pub server_memory_mib: Option<f64>,
    /// Seconds of `pg_logical_slot_peek_binary_changes` with pgoutput.
    pub peek_seconds: Option<Spread>,
    /// Seconds of `pg_recvlogical` with pgoutput to /dev/null, over TCP on the loopback interface, as
    /// ours is.
    pub recvlogical_seconds: Option<Spread>,
    /// The same over a Unix socket.
    pub recvlogical_socket_seconds: Option<Spread>,
    /// How many times as fast delivery is as `pg_recvlogical` over TCP, medians.
    pub received_ratio: Option<f64>,
    /// The same against `pg_recvlogical` over a Unix socket.
    pub received_socket_ratio: Option<f64>,
    /// Processor seconds of our whole server per million rows delivered.
    pub server_cpu_per_million: Option<f64>,
    /// The same where blocks are not compressed, as a walsender's are not: what loopback gets unless
    /// asked otherwise.
    pub server_raw_cpu_per_million: Option<f64>,
    /// Processor seconds of the walsender per million rows, over TCP.
    pub walsender_cpu_per_million: Option<f64>,
    /// The same over a Unix socket.
    pub walsender_socket_cpu_per_million: Option<f64>,
}

/// Measures a workload. Without `cluster` PostgreSQL's decoders are left out.
///
/// # Errors
/// When a program fails.
pub fn measure(
    plan: &Plan,
    workload: &Workload,
    log: &Log,
    cluster: Option<&mut Cluster>,
) -> Result<Measured> {
    let mut measured = Measured {
        workload: workload.letter.to_string(),
        name: workload.name.to_owned(),
        wal_bytes: log.bytes()?,
        ..Measured::default()
    };
    decode(plan, log, &mut measured)?;
    deliver(plan, log, &mut measured)?;
    if let Some(cluster) = cluster {
        postgres(plan, log, cluster, &mut measured)?;
    }
    let against = |theirs: Option<Spread>| {
        let both = measured.delivered_seconds.zip(theirs);
        both.map(|(ours, theirs)| theirs.median / ours.median)
    };
    measured.received_ratio = against(measured.recvlogical_seconds);
    measured.received_socket_ratio = against(measured.recvlogical_socket_seconds);
    Ok(measured)
}

/// `pg_waldump --stats` over the log.
///
/// # Errors
/// When it fails.
pub fn waldump(log: &Log) -> Result<Run> {
    run(Command::new(client("pg_waldump"))
        .args(["--stats", "-s", &log.start, "-e", &log.end, "-p"])
        .arg(&log.wal))
}

/// `redostream-server decode --format none` over the log.
#[must_use]
pub fn decode_command(server: &Path, log: &Log, decoders: usize) -> Command {
    let mut command = Command::new(server);
    command
        .arg("decode")
        .arg("--pgdata")
        .arg(&log.base)
        .arg("--wal")
        .arg(&log.wal)
        .args(["--format", "none", "--stats", "--end", &log.end])
        .args(["--decoders", &decoders.to_string()]);
    command
}

/// A number of the JSON object that `--stats` prints as the last line: `/seconds`, say.
///
/// # Errors
/// When it is not there.
pub fn stat(run: &Run, name: &str) -> Result<f64> {
    let texts = [&run.errors, &run.printed];
    let mut lines = texts.iter().flat_map(|text| text.lines().rev());
    let line = lines
        .find(|line| line.starts_with('{'))
        .with_context(|| format!("no figures in: {}", run.errors))?;
    let object: serde_json::Value = serde_json::from_str(line)?;
    let number = object.pointer(name).and_then(serde_json::Value::as_f64);
    number.with_context(|| format!("no {name} in {line}"))
}

fn decode(plan: &Plan, log: &Log, measured: &mut Measured) -> Result<()> {
    let ours = || run(&mut decode_command(&plan.server, log, plan.decoders));
    // Both once for nothing: files come into memory, the processor wakes up.
    waldump(log)?;
    measured.rows = stat(&ours()?, "/rows")? as u64;
    let mut pairs = Vec::new();
    for _ in 0..plan.pairs {
        let theirs = waldump(log)?.wall;
        let ours = ours()?;
        pairs.push((theirs, stat(&ours, "/seconds")?, ours.wall));
    }
    measured.waldump_seconds = Spread::of(pairs.iter().map(|pair| pair.0));
    measured.decode_seconds = Spread::of(pairs.iter().map(|pair| pair.1));
    measured.decode_whole_seconds = Spread::of(pairs.iter().map(|pair| pair.2));
    measured.decode_ratio = Spread::of(pairs.iter().map(|pair| pair.0 / pair.1));
    let mut ordered = Vec::new();
    for _ in 0..plan.pairs.min(3) {
        let alone = run(&mut decode_command(&plan.server, log, 1))?;
        measured.records = stat(&alone, "/records")? as u64;
        let busy = |stage| stat(&alone, &format!("/stage_busy_seconds/{stage}"));
        ordered.push((busy("gate")?, busy("assembly")?));
    }
    measured.gate_seconds = Spread::of(ordered.iter().map(|run| run.0));
    measured.assembly_seconds = Spread::of(ordered.iter().map(|run| run.1));
    let mut command = decode_command(&plan.server, log, plan.decoders);
    measured.decode_memory_mib = Some(peak_memory(&mut command)?);
    Ok(())
}

/// A server over the log's files, that keeps next to nothing of what it has decoded: a subscriber
/// from the beginning is decoded for anew.
pub struct Serving {
    process: Background,
    address: String,
    _state: tempfile::TempDir,
}

impl Serving {
    /// Starts one and waits until it has decoded everything.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(plan: &Plan, log: &Log) -> Result<Self> {
        let state = tempfile::tempdir()?;
        let port = free_ports()?;
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(&plan.server);
        command
            .arg("serve")
            .arg("--pgdata")
            .arg(&log.base)
            .arg("--wal")
            .arg(&log.wal)
            .arg("--state")
            .arg(state.path().join("state"))
            // The smallest feed: what it still holds would be sent without being decoded.
            .args(["--listen", &address, "--feed", "1"])
            .args(["--decoders", &plan.decoders.to_string()]);
        let mut process = Background::start(&mut command, state.path())?;
        process.wait_for("ready earliest=")?;
        let serving = Serving {
            process,
            address,
            _state: state,
        };
        // The live pipeline must be at its end, or it would take part in what is measured.
        serving.settle()?;
        Ok(serving)
    }

    /// Waits until it does nothing any more.
    ///
    /// # Errors
    /// When it is gone.
    pub fn settle(&self) -> Result<()> {
        let mut before = -1.0;
        loop {
            std::thread::sleep(Duration::from_millis(300));
            let now = process_seconds(self.process.process())?;
            if now - before < 0.03 {
                return Ok(());
            }
            before = now;
        }
    }

    /// The number of its process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.process.process()
    }

    /// One subscription to all of the log.
    ///
    /// # Errors
    /// When it fails.
    pub fn subscribe(&self, plan: &Plan, log: &Log, streams: usize, lz4: bool) -> Result<Run> {
        run(Command::new(&plan.client)
            .args(["subscribe", "--server", &self.address])
            .args(["--from", "earliest", "--until", &log.end])
            .args(["--format", "none", "--stats", "--no-reconnect"])
            .args(["--streams", &streams.to_string()])
            .args(["--compression", if lz4 { "lz4" } else { "none" }]))
    }
}

fn free_ports() -> Result<u16> {
    use std::net::TcpListener;
    loop {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return Ok(port);
        }
    }
}

fn deliver(plan: &Plan, log: &Log, measured: &mut Measured) -> Result<()> {
    let serving = Serving::start(plan, log)?;
    let ours = || serving.subscribe(plan, log, 4, true);
    waldump(log)?;
    let first = ours()?;
    measured.wire_bytes = stat(&first, "/wire_bytes")? as u64;
    measured.raw_bytes = stat(&first, "/raw_bytes")? as u64;
    let rows = stat(&first, "/rows")?;
    let mut pairs = Vec::new();
    let (mut cpu, mut raw_cpu) = (0.0, 0.0);
    for _ in 0..plan.pairs {
        let theirs = waldump(log)?.wall;
        let before = process_seconds(serving.process())?;
        pairs.push((theirs, stat(&ours()?, "/seconds")?));
        // A pipeline that has not ended yet would halve the next one's memory.
        serving.settle()?;
        let between = process_seconds(serving.process())?;
        serving.subscribe(plan, log, 4, false)?;
        cpu += between - before;
        raw_cpu += process_seconds(serving.process())? - between;
    }
    let per_million = |seconds: f64| seconds / plan.pairs as f64 / rows * 1e6;
    measured.server_cpu_per_million = Some(per_million(cpu));
    measured.server_raw_cpu_per_million = Some(per_million(raw_cpu));
    measured.server_memory_mib = resident_peak(serving.process());
    measured.delivered_seconds = Spread::of(pairs.iter().map(|pair| pair.1));
    measured.delivered_ratio = Spread::of(pairs.iter().map(|pair| pair.0 / pair.1));
    Ok(())
}

/// PostgreSQL's own decoders, from copies of one slot that stands before the log.
fn postgres(plan: &Plan, log: &Log, cluster: &mut Cluster, measured: &mut Measured) -> Result<()> {
    cluster.start()?;
    let mut peeks = Vec::new();
    let (mut tcp, mut socket) = (Vec::new(), Vec::new());
    for _ in 0..plan.slow_runs {
        let peek = format!(
            "select count(*) from pg_logical_slot_peek_binary_changes('{SLOT}', null, null,
                'proto_version', '1', 'publication_names', '{PUBLICATION}')"
        );
        let since = std::time::Instant::now();
        cluster.sql(DATABASE, &peek)?;
        peeks.push(since.elapsed().as_secs_f64());
        tcp.push(receive(log, cluster, Some("127.0.0.1"))?);
        socket.push(receive(log, cluster, None)?);
    }
    cluster.stop(Stop::Fast)?;
    let per_million = |runs: &[Received]| {
        let cpu: f64 = runs.iter().map(|run| run.walsender_cpu).sum();
        let rows = measured.rows as f64 * runs.len() as f64;
        (rows > 0.0).then(|| cpu / rows * 1e6)
    };
    measured.walsender_cpu_per_million = per_million(&tcp);
    measured.walsender_socket_cpu_per_million = per_million(&socket);
    measured.peek_seconds = Spread::of(peeks);
    measured.recvlogical_seconds = Spread::of(tcp.iter().map(|run| run.wall));
    measured.recvlogical_socket_seconds = Spread::of(socket.iter().map(|run| run.wall));
    Ok(())
}

/// What one run of `pg_recvlogical` took.
struct Received {
    /// Seconds from its start to its end.
    wall: f64,
    /// Processor seconds of its walsender.
    walsender_cpu: f64,
}

/// One run of `pg_recvlogical` from a copy of the slot, by TCP to `host`, else by a Unix socket.
fn receive(log: &Log, cluster: &mut Cluster, host: Option<&str>) -> Result<Received> {
    let slot = format!("{SLOT}_copy");
    cluster.sql(
        DATABASE,
        &format!("select pg_copy_logical_replication_slot('{SLOT}', '{slot}')"),
    )?;
    let postmaster = postmaster(cluster)?;
    let before = ended_children_seconds(postmaster)?;
    let mut command = cluster.client("pg_recvlogical", DATABASE);
    command
        .args(["--start", "--no-loop", "-f", "/dev/null", "-S", &slot])
        .args(["-E", &log.end, "-d", DATABASE, "-F", "0", "-s", "1"])
        .args(["-o", "proto_version=1", "-o"])
        .arg(format!("publication_names={PUBLICATION}"));
    if let Some(host) = host {
        command.env("PGHOST", host);
    }
    let wall = run(&mut command)?.wall;
    // The walsender ends a moment after its client.
    std::thread::sleep(Duration::from_millis(300));
    let walsender_cpu = ended_children_seconds(postmaster)? - before;
    cluster.drop_slot(&slot)?;
    Ok(Received {
        wall,
        walsender_cpu,
    })
}

fn postmaster(cluster: &Cluster) -> Result<u32> {
    let text = std::fs::read_to_string(cluster.data().join("postmaster.pid"))?;
    let line = text.lines().next().unwrap_or_default();
    line.parse().context("no process number in postmaster.pid")
}
