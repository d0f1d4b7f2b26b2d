//! How long a commit takes to reach a client, beside `pg_recvlogical` on the same primary, and through
//! a standby.
//!
//! `cargo build --release --bins && target/release/latency --server target/release/redostream-server`.
//! Lone commits first, then pgbench at half of the rate that `pg_recvlogical` still keeps up with. A
//! time begins with the commit's own, as the log has it. Both clients read by TCP on the loopback
//! interface; `--unix-socket` gives `pg_recvlogical` a Unix socket instead. Prints Markdown tables; takes
//! two minutes.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use redostream_benches::load::pgbench;
use redostream_benches::serving::Serving;
use redostream_client::protocol::control::From as Place;
use redostream_client::{Options, Subscription};
use redostream_testdata::cluster::{Cluster, ClusterOptions};
use redostream_testdata::server::Server;

/// Microseconds between 1970 and 2000.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;
const DAY_US: i64 = 86_400_000_000;
const DATABASE: &str = "app";
const LONE_COMMITS: usize = 1000;
/// A receiver to which nothing came for so long has everything.
const QUIET: Duration = Duration::from_secs(2);

/// Commit to client, beside `pg_recvlogical`.
#[derive(Parser)]
struct Arguments {
    /// The server under test.
    #[arg(long)]
    server: PathBuf,
    /// Seconds of pgbench at each rate.
    #[arg(long, default_value_t = 15)]
    seconds: u32,
    /// `pg_recvlogical` reads by a Unix socket, not by TCP as our client does.
    #[arg(long)]
    unix_socket: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for through_standby in [false, true] {
            lone(&arguments, through_standby).await?;
            loaded(&arguments, through_standby).await?;
        }
        Ok(())
    })
}

/// A primary, the server that reads it or its standby, and both receivers.
struct Setting {
    primary: Cluster,
    _standby: Option<Cluster>,
    _serving: Serving,
    ours: tokio::task::JoinHandle<Vec<i64>>,
    judge: Child,
    theirs: JoinHandle<Vec<i64>>,
    /// When `pg_recvlogical` last gave a commit, microseconds since 2000.
    told_at: Arc<AtomicI64>,
}

impl Setting {
    async fn new(arguments: &Arguments, through_standby: bool) -> Result<Self> {
        let server = Server::for_test(15).context("PostgreSQL 15 is not here")?;
        let listening = ClusterOptions {
            tcp: true,
            ..ClusterOptions::default()
        };
        let mut primary = Cluster::create(server, &listening)?;
        primary.start()?;
        primary.sql("postgres", &format!("create database {DATABASE}"))?;
        primary.sql(DATABASE, "create table t (id int primary key, v text)")?;
        pgbench(&primary, DATABASE, &["-i", "-s", "10", "-q"])?;
        primary.create_slot(DATABASE, "judge")?;
        let standby = match through_standby {
            true => Some(primary.standby(&ClusterOptions::default())?),
            false => None,
        };
        let read = standby.as_ref().unwrap_or(&primary);
        let serving = Serving::beside(&arguments.server, read, "redostream", &[])?;
        let ours = subscribe(&serving).await?;
        let told_at = Arc::new(AtomicI64::new(0));
        let (judge, theirs) = receive(&primary, arguments.unix_socket, Arc::clone(&told_at))?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(Setting {
            _standby: standby,
            primary,
            _serving: serving,
            ours,
            judge,
            theirs,
            told_at,
        })
    }

    /// Waits for the receivers; gives the times of ours and of `pg_recvlogical`, microseconds.
    async fn end(mut self) -> Result<(Vec<i64>, Vec<i64>)> {
        let ours = self.ours.await?;
        while now_us() - self.told_at.load(Ordering::Relaxed) < QUIET.as_micros() as i64 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.judge.kill()?;
        self.judge.wait()?;
        let theirs = self.theirs.join().ok().context("the reader panicked")?;
        ensure!(!ours.is_empty() && !theirs.is_empty(), "nothing arrived");
        Ok((ours, theirs))
    }
}

fn place(through_standby: bool) -> &'static str {
    match through_standby {
        true => "through a standby (pg_recvlogical from the primary)",
        false => "both from the primary",
    }
}

/// Small commits one by one.
async fn lone(arguments: &Arguments, through_standby: bool) -> Result<()> {
    let setting = Setting::new(arguments, through_standby).await?;
    let mut session = setting.primary.session(DATABASE)?;
    for number in 0..LONE_COMMITS {
        session.run(&format!("insert into t values ({number}, 'value');"))?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let title = format!("Lone commits, {}", place(through_standby));
    print(&title, setting.end().await?);
    Ok(())
}

/// pgbench at half of the rate that `pg_recvlogical` still keeps up with.
async fn loaded(arguments: &Arguments, through_standby: bool) -> Result<()> {
    let setting = Setting::new(arguments, through_standby).await?;
    let most = kept_up(&setting)?;
    setting
        .end()
        .await
        .context("while the rate was looked for")?;
    let setting = Setting::new(arguments, through_standby).await?;
    let (rate, seconds) = ((most / 2.0).to_string(), arguments.seconds.to_string());
    let load = ["-n", "-c", "4", "-j", "1", "-T", &seconds, "--rate", &rate];
    pgbench(&setting.primary, DATABASE, &load)?;
    let title = format!(
        "pgbench at {:.0} of {most:.0} transactions a second, {}",
        most / 2.0,
        place(through_standby)
    );
    print(&title, setting.end().await?);
    Ok(())
}

fn print(title: &str, (ours, theirs): (Vec<i64>, Vec<i64>)) {
    println!("\n### {title}\n");
    println!("| receiver | commits | p50 ms | p99 ms | most ms |");
    println!("|---|---:|---:|---:|---:|");
    percentiles("redostream", ours);
    percentiles("pg_recvlogical", theirs);
}

/// Transactions a second that `pg_recvlogical` keeps up with: it has everything within a second after
/// the end. Begins with what the cluster can do at all.
fn kept_up(setting: &Setting) -> Result<f64> {
    let mut rate: Option<f64> = None;
    loop {
        let limit = rate.map(|rate| rate.to_string());
        let mut load = vec!["-n", "-c", "4", "-j", "1", "-T", "5"];
        load.extend(limit.iter().flat_map(|rate| ["--rate", rate.as_str()]));
        let done = pgbench(&setting.primary, DATABASE, &load)?;
        let (ended, since) = (now_us(), Instant::now());
        let mut last = -1;
        while last != setting.told_at.load(Ordering::Relaxed) {
            last = setting.told_at.load(Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(500));
            ensure!(since.elapsed() < Duration::from_secs(60), "it never ends");
        }
        if last - ended < 1_000_000 {
            return Ok(done);
        }
        rate = Some(done * 0.7);
    }
}

async fn subscribe(serving: &Serving) -> Result<tokio::task::JoinHandle<Vec<i64>>> {
    let mut options = Options::new([serving.control().to_owned()]);
    options.from = Some(Place::Latest);
    options.reconnect = false;
    let mut subscription = Subscription::open(options).await?;
    Ok(tokio::spawn(async move {
        let mut times = Vec::new();
        loop {
            // The first may take as long as it likes.
            let patience = if times.is_empty() {
                Duration::MAX
            } else {
                QUIET
            };
            let next = tokio::time::timeout(patience, subscription.next_transaction()).await;
            match next {
                Ok(Ok(Some(transaction))) if !transaction.events.is_empty() => {
                    times.push(now_us() - transaction.header.commit_time_us);
                }
                Ok(Ok(Some(_))) => {}
                Ok(Ok(None) | Err(_)) | Err(_) => return times,
            }
        }
    }))
}

/// Starts `pg_recvlogical`; the thread gives its times once it is ended.
fn receive(
    primary: &Cluster,
    unix_socket: bool,
    told_at: Arc<AtomicI64>,
) -> Result<(Child, JoinHandle<Vec<i64>>)> {
    let options = ["skip-empty-xacts=1", "-o", "include-timestamp=1", "-F", "0"];
    let mut command = primary.client("pg_recvlogical", DATABASE);
    if !unix_socket {
        command.env("PGHOST", "127.0.0.1");
    }
    let mut judge = command
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
            DATABASE,
            "-o",
        ])
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let output = judge.stdout.take().context("no output")?;
    let reader = std::thread::spawn(move || {
        let mut times = Vec::new();
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let Some((_, at)) = line.split_once("(at ") else {
                continue;
            };
            let now = now_us();
            if let Some(at) = time_of_day_us(at.trim_end_matches(')')) {
                told_at.store(now, Ordering::Relaxed);
                times.push((now - at).rem_euclid(DAY_US));
            }
        }
        times
    });
    Ok((judge, reader))
}

fn now_us() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX) - POSTGRES_EPOCH_US
}

/// Microseconds from `2024-02-29 10:00:00.123456+00` since the day began.
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
