//! What subscribers cost and get: CPU of a server with 1, 10 and 100 of them, throughput over bad
//! links, and how long a commit takes to reach a client beside `pg_recvlogical`.
//!
//! `cargo build --release --bins && target/release/subscribers --server
//! target/release/redostream-server all`. Prints Markdown tables, each section in less than three
//! minutes; the machine's load is part of every figure.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use redostream_client::protocol::control::{From as Place, Until};
use redostream_client::{Compression, Options, Subscription};
use redostream_testdata::cluster::{Cluster, ClusterOptions};
use redostream_testdata::link::{Link, LinkOptions};
use redostream_testdata::recorded;
use redostream_testdata::server::Server;
use tempfile::TempDir;

/// Microseconds between 1970 and 2000.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

#[derive(Parser)]
struct Arguments {
    /// The server under test.
    #[arg(long)]
    server: PathBuf,
    /// Data directory of another log than the recorded demo case.
    #[arg(long, requires_all = ["wal", "end"])]
    base: Option<PathBuf>,
    /// Its WAL.
    #[arg(long)]
    wal: Option<PathBuf>,
    /// Where to end in it.
    #[arg(long)]
    end: Option<String>,
    /// What to measure.
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// CPU of the server by number of subscribers.
    Curve,
    /// The same stream with each form of compression.
    Compression,
    /// Throughput over delayed and limited links.
    Links,
    /// Commit to client, beside `pg_recvlogical`.
    Latency,
    /// Everything.
    All,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let wants = |what| arguments.what == What::All || arguments.what == what;
    let log = Log::of(&arguments)?;
    runtime.block_on(async {
        if wants(What::Curve) {
            curve(&arguments.server, &log).await?;
        }
        if wants(What::Compression) {
            compression(&arguments.server, &log).await?;
        }
        if wants(What::Links) {
            links(&arguments.server, &log).await?;
        }
        if wants(What::Latency) {
            latency(&arguments.server).await?;
        }
        Ok(())
    })
}

/// A log to serve.
struct Log {
    base: PathBuf,
    wal: PathBuf,
    end: Until,
    _unpacked: TempDir,
}

impl Log {
    fn of(arguments: &Arguments) -> Result<Self> {
        let unpacked = TempDir::new()?;
        if let (Some(base), Some(wal), Some(end)) =
            (&arguments.base, &arguments.wal, &arguments.end)
        {
            return Ok(Self {
                base: base.clone(),
                wal: wal.clone(),
                end: end.parse()?,
                _unpacked: unpacked,
            });
        }
        let case = recorded::case(15, "demo")?;
        let (base, wal) = (unpacked.path().join("base"), unpacked.path().join("wal"));
        recorded::unpack_base(15, &base)?;
        case.unpack_wal(&wal)?;
        Ok(Self {
            base,
            wal,
            end: case.facts.end.parse()?,
            _unpacked: unpacked,
        })
    }
}

/// A running server; ended when dropped.
struct Serving {
    child: Child,
    control: String,
    _state: TempDir,
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Serving {
    fn start(program: &Path, data: SocketAddr, more: &[&str]) -> Result<Self> {
        let state = TempDir::new()?;
        let control = free_address()?.to_string();
        let mut child = Command::new(program)
            .args(["--log-level", "warn", "serve", "--listen", &control])
            .args(["--listen-data", &data.to_string(), "--state"])
            .arg(state.path())
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
        let errors = child.stderr.take().context("no standard error")?;
        for line in BufReader::new(errors).lines() {
            let line = line?;
            if line.starts_with("ready earliest=") {
                return Ok(Self {
                    child,
                    control,
                    _state: state,
                });
            }
            eprintln!("{line}");
        }
        bail!("the server ended before it was ready")
    }

    fn files(program: &Path, log: &Log, data: SocketAddr, more: &[&str]) -> Result<Self> {
        let base = log.base.to_string_lossy();
        let wal = log.wal.to_string_lossy();
        let mut words = vec!["--pgdata", &*base, "--wal", &*wal, "--buffer", "1GiB"];
        words.extend(more);
        Self::start(program, data, &words)
    }

    fn options(&self, log: &Log, streams: u16) -> Options {
        let mut options = Options::new([self.control.clone()]);
        options.from = Some(Place::Earliest);
        options.until = Some(log.end);
        options.streams = streams;
        options.reconnect = false;
        options
    }

    /// CPU seconds that the server has used.
    fn cpu_seconds(&self) -> Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = text.rsplit_once(") ").context("no fields")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(ticks as f64 / 100.0)
    }
}

/// Takes everything; gives bytes of events and bytes on the wire.
async fn drain(options: Options) -> Result<(u64, u64)> {
    let mut subscription = Subscription::open(options).await?;
    while subscription.next_delivery().await?.is_some() {}
    let totals = subscription.totals();
    subscription.close().await;
    Ok((totals.raw_bytes, totals.wire_bytes))
}

async fn curve(program: &Path, log: &Log) -> Result<()> {
    println!("\n### Subscribers of one decode\n");
    println!("| subscribers | server CPU s | CPU s each | times one | wall s | MB/s in all |");
    println!("|---:|---:|---:|---:|---:|---:|");
    let mut one = None;
    for count in [1, 10, 100] {
        let serving = Serving::files(program, log, free_address()?, &[])?;
        // Decoding is over, and everything is in the feed.
        drain(serving.options(log, 1)).await?;
        let (before, began) = (serving.cpu_seconds()?, Instant::now());
        let tasks: Vec<_> = (0..count)
            .map(|_| tokio::spawn(drain(serving.options(log, 1))))
            .collect();
        let mut bytes = 0;
        for task in tasks {
            bytes += task.await??.0;
        }
        let (wall, cpu) = (
            began.elapsed().as_secs_f64(),
            serving.cpu_seconds()? - before,
        );
        // Ticks are hundredths of a second.
        let one = *one.get_or_insert(cpu.max(0.01));
        println!(
            "| {count} | {cpu:.2} | {:.4} | {:.1} | {wall:.2} | {:.0} |",
            cpu / f64::from(count),
            cpu / one,
            bytes as f64 / wall / 1e6
        );
    }
    Ok(())
}

async fn compression(program: &Path, log: &Log) -> Result<()> {
    const ROUNDS: usize = 15;
    println!("\n### Compression over loopback, {ROUNDS} rounds in turn\n");
    println!("| compression | median s | least s | least, against none | wire MB | raw MB |");
    println!("|---|---:|---:|---:|---:|---:|");
    let serving = Serving::files(program, log, free_address()?, &[])?;
    drain(serving.options(log, 4)).await?;
    let forms = [
        ("none", Compression::None),
        ("auto", Compression::Auto),
        ("lz4", Compression::Lz4),
    ];
    let mut times = [const { Vec::new() }; 3];
    let mut bytes = [(0, 0); 3];
    // In turn, so that what else the machine does falls on all alike.
    for _ in 0..ROUNDS {
        for (at, (_, compression)) in forms.iter().enumerate() {
            let mut options = serving.options(log, 4);
            options.compression = *compression;
            let began = Instant::now();
            bytes[at] = drain(options).await?;
            times[at].push(began.elapsed().as_secs_f64());
        }
    }
    times
        .iter_mut()
        .for_each(|times| times.sort_by(f64::total_cmp));
    for (at, (name, _)) in forms.iter().enumerate() {
        let (median, least) = (times[at][ROUNDS / 2], times[at][0]);
        let against = (least / times[0][0] - 1.0) * 100.0;
        let (raw, wire) = (bytes[at].0 as f64 / 1e6, bytes[at].1 as f64 / 1e6);
        println!("| {name} | {median:.3} | {least:.3} | {against:+.1} % | {wire:.1} | {raw:.1} |");
    }
    Ok(())
}

async fn links(program: &Path, log: &Log) -> Result<()> {
    println!("\n### MB/s of events over a link, by connections\n");
    println!("Each connection has a window of 1 MiB, as TCP would; no compression.\n");
    println!("| delay each way | limit | 1 | 2 | 4 | 8 |");
    println!("|---:|---|---:|---:|---:|---:|");
    for (delay_ms, limit) in [(0, 0), (50, 0), (200, 0), (50, 2_000_000), (200, 2_000_000)] {
        let limited = if limit == 0 {
            "no limit"
        } else {
            "2 MB/s each"
        };
        print!("| {delay_ms} ms | {limited} |");
        for streams in [1, 2, 4, 8] {
            let data = free_address()?;
            let link = Link::start(
                data,
                LinkOptions {
                    delay: Duration::from_millis(delay_ms),
                    bytes_per_second: limit,
                    window_bytes: 1 << 20,
                    ..LinkOptions::default()
                },
            )?;
            let advertised = link.address().to_string();
            let more = ["--advertise-data", &*advertised];
            let serving = Serving::files(program, log, data, &more)?;
            let mut options = serving.options(log, streams);
            options.compression = Compression::None;
            let began = Instant::now();
            let (raw, _) = drain(options).await?;
            let seconds = began.elapsed().as_secs_f64();
            print!(" {:.1} |", raw as f64 / seconds / 1e6);
        }
        println!();
    }
    Ok(())
}

fn now_us() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX) - POSTGRES_EPOCH_US
}

/// Microseconds from `2024-02-29 10:00:00.123456+00` since 2000, the day left out.
fn time_of_day_us(text: &str) -> Option<i64> {
    let time = text.split_once(' ')?.1.split(['+', '-']).next()?;
    let mut parts = time.split(':');
    let (hours, minutes): (i64, i64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let seconds: f64 = parts.next()?.parse().ok()?;
    Some((hours * 3600 + minutes * 60) * 1_000_000 + (seconds * 1e6).round() as i64)
}

fn percentiles(name: &str, mut times_us: Vec<i64>) {
    times_us.sort_unstable();
    let at = |share: f64| times_us[((times_us.len() - 1) as f64 * share) as usize] as f64 / 1e3;
    println!(
        "| {name} | {} | {:.2} | {:.2} | {:.2} |",
        times_us.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// Small commits one by one; both receivers run all the time, and both take the commit's own time
/// as the beginning.
async fn latency(program: &Path) -> Result<()> {
    const COMMITS: usize = 1000;
    let Some(server) = Server::for_test(15) else {
        bail!("PostgreSQL 15 is not here");
    };
    let mut cluster = Cluster::create(server, &ClusterOptions::default())?;
    cluster.start()?;
    cluster.sql("postgres", "create database app")?;
    cluster.sql("app", "create table t (id int primary key, v text)")?;
    cluster.create_slot("app", "judge")?;
    let (data, conninfo) = (
        cluster.data().to_string_lossy().into_owned(),
        cluster.conninfo("postgres"),
    );
    let words = [
        "--pgdata",
        &*data,
        "--upstream",
        &*conninfo,
        "--slot",
        "redostream",
    ];
    let serving = Serving::start(program, free_address()?, &words)?;
    let mut options = Options::new([serving.control.clone()]);
    options.from = Some(Place::Latest);
    options.reconnect = false;
    let mut subscription = Subscription::open(options).await?;
    let ours = tokio::spawn(async move {
        let mut times = Vec::new();
        while times.len() < COMMITS {
            match subscription.next_transaction().await {
                Ok(Some(transaction)) if !transaction.events.is_empty() => {
                    times.push(now_us() - transaction.header.commit_time_us);
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        times
    });
    let mut judge = cluster
        .client("pg_recvlogical", "app")
        .env("TZ", "UTC")
        .env("PGTZ", "UTC")
        .args([
            "--start",
            "--no-loop",
            "-f",
            "-",
            "-S",
            "judge",
            "-d",
            "app",
        ])
        .args([
            "-o",
            "skip-empty-xacts=1",
            "-o",
            "include-timestamp=1",
            "-F",
            "0",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let output = judge.stdout.take().context("no output")?;
    let theirs = std::thread::spawn(move || {
        let mut times = Vec::new();
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let Some((_, at)) = line.split_once("(at ") else {
                continue;
            };
            let now = now_us().rem_euclid(86_400_000_000);
            if let Some(at) = time_of_day_us(at.trim_end_matches(')')) {
                times.push(now - at);
            }
            if times.len() == COMMITS {
                break;
            }
        }
        times
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut session = cluster.session("app")?;
    for number in 0..COMMITS {
        session.run(&format!("insert into t values ({number}, 'value');"))?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let ours = tokio::time::timeout(Duration::from_secs(20), ours).await??;
    let theirs = theirs.join().ok().context("the reader panicked")?;
    judge.kill()?;
    judge.wait()?;
    ensure!(!ours.is_empty() && !theirs.is_empty(), "nothing arrived");
    println!("\n### Commit to client on loopback\n");
    println!("| receiver | commits | p50 ms | p99 ms | most ms |");
    println!("|---|---:|---:|---:|---:|");
    percentiles("redostream", ours);
    percentiles("pg_recvlogical", theirs);
    Ok(())
}
