//! What subscribers cost and get: CPU of a server with 1, 10 and 100 of them, and throughput over bad
//! links.
//!
//! `cargo build --release --bins && target/release/subscribers --server
//! target/release/redostream-server all`. Prints Markdown tables, each section in less than three
//! minutes; the machine's load is part of every figure.

use std::any::Any;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use redostream_benches::large_log::LargeLog;
use redostream_benches::serving::{Serving, free_address};
use redostream_client::protocol::Lsn;
use redostream_client::protocol::control::{From as Place, Until};
use redostream_client::{Compression, Control, Options, Subscription};
use redostream_testdata::link::{Link, LinkOptions};
use redostream_testdata::recorded;
use tempfile::TempDir;

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
            let large = match arguments.base {
                None => Log::large()
                    .inspect_err(|error| eprintln!("{error:#}"))
                    .ok(),
                Some(_) => None,
            };
            links(&arguments.server, large.as_ref().unwrap_or(&log)).await?;
        }
        Ok(())
    })
}

/// A log to serve.
struct Log {
    base: PathBuf,
    wal: PathBuf,
    end: Until,
    /// Where rows of one size begin, if it is made of those.
    start: Option<Lsn>,
    _directory: Box<dyn Any>,
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
                start: None,
                _directory: Box::new(unpacked),
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
            start: None,
            _directory: Box::new(unpacked),
        })
    }

    /// One that lasts a while over the fastest of links, where a server is at hand to write it.
    fn large() -> Result<Self> {
        let streams = LINK_STREAMS.into_iter().max().unwrap_or(1);
        let made = LargeLog::write(LINK_BYTES * u64::from(streams))?;
        Ok(Self {
            base: made.log.base.clone(),
            wal: made.log.wal.clone(),
            end: Until::Lsn(made.log.end),
            start: Some(made.start),
            _directory: Box::new(made),
        })
    }
}

/// A server of the log's files.
fn serve(program: &Path, log: &Log, data: SocketAddr, more: &[&str]) -> Result<Serving> {
    let base = log.base.to_string_lossy();
    let wal = log.wal.to_string_lossy();
    let mut words = vec!["--pgdata", &*base, "--wal", &*wal, "--buffer", "1GiB"];
    words.extend(more);
    Serving::start(program, data, &words)
}

fn options(serving: &Serving, log: &Log, streams: u16) -> Options {
    let mut options = Options::new([serving.control().to_owned()]);
    options.from = Some(Place::Earliest);
    options.until = Some(log.end);
    options.streams = streams;
    options.reconnect = false;
    options
}

/// Waits until everything up to the log's end is in the feed, so that decoding is not measured.
async fn wait_decoded(serving: &Serving, log: &Log) -> Result<()> {
    let mut control = Control::connect(serving.control(), None, None).await?;
    loop {
        let released: Lsn = control.status().await?.released.parse()?;
        if log.end.is_reached(released) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
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

/// What a server costs by the number of its subscribers: all of it, from its start on, and what comes
/// after decoding alone.
async fn curve(program: &Path, log: &Log) -> Result<()> {
    /// Subscriptions of one measurement, together or one after another: processor time is counted in
    /// hundredths of a second.
    const SUBSCRIPTIONS: u32 = 100;
    println!("\n### Subscribers of one decode\n");
    println!(
        "| compression | subscribers | server CPU s, decoding too | times one | sending alone s | \
         times one | MB/s in all |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (name, compression) in [("none", Compression::None), ("lz4", Compression::Lz4)] {
        let mut one = None;
        for count in [1, 10, SUBSCRIPTIONS] {
            let serving = serve(program, log, free_address()?, &[])?;
            wait_decoded(&serving, log).await?;
            let (decoded, began) = (serving.cpu_seconds()?, Instant::now());
            let (mut bytes, rounds) = (0, SUBSCRIPTIONS / count);
            for _ in 0..rounds {
                let subscriptions: Vec<_> = (0..count)
                    .map(|_| {
                        let mut options = options(&serving, log, 1);
                        options.compression = compression;
                        tokio::spawn(drain(options))
                    })
                    .collect();
                for subscription in subscriptions {
                    bytes += subscription.await??.0;
                }
            }
            let wall = began.elapsed().as_secs_f64();
            let sending = (serving.cpu_seconds()? - decoded) / f64::from(rounds);
            let all = decoded + sending;
            let (all_of_one, sending_of_one) = *one.get_or_insert((all, sending));
            println!(
                "| {name} | {count} | {all:.2} | {:.1} | {sending:.4} | {:.1} | {:.0} |",
                all / all_of_one,
                sending / sending_of_one,
                bytes as f64 / wall / 1e6
            );
        }
    }
    Ok(())
}

async fn compression(program: &Path, log: &Log) -> Result<()> {
    const ROUNDS: usize = 15;
    println!("\n### Compression over loopback, {ROUNDS} rounds in turn\n");
    println!("| compression | median s | least s | least, against none | wire MB | raw MB |");
    println!("|---|---:|---:|---:|---:|---:|");
    let serving = serve(program, log, free_address()?, &[])?;
    drain(options(&serving, log, 4)).await?;
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
            let mut options = self::options(&serving, log, 4);
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

/// Bytes of WAL that one connection gets to carry; more of them carry as much more, so that all take
/// about as long.
const LINK_BYTES: u64 = 16 << 20;
const LINK_STREAMS: [u16; 4] = [1, 2, 4, 8];

/// Where `streams` connections end: with a large log, each has as much to carry.
fn end_for(log: &Log, streams: u16) -> Until {
    match log.start {
        Some(start) => Until::Lsn(start.add(LINK_BYTES * u64::from(streams))),
        None => log.end,
    }
}

/// Takes everything; gives MB/s of events from the first delivery to the last, so that the round
/// trips of opening a session are not in it.
async fn rate(options: Options) -> Result<f64> {
    let mut subscription = Subscription::open(options).await?;
    let mut began = None;
    while subscription.next_delivery().await?.is_some() {
        let raw = subscription.totals().raw_bytes;
        if began.is_none() && raw > 0 {
            began = Some((Instant::now(), raw));
        }
    }
    let (since, first) = began.context("nothing came")?;
    let seconds = since.elapsed().as_secs_f64();
    let raw = subscription.totals().raw_bytes - first;
    subscription.close().await;
    Ok(raw as f64 / seconds / 1e6)
}

async fn links(program: &Path, log: &Log) -> Result<()> {
    println!("\n### MB/s of events over a link, by connections\n");
    println!("Each connection has a window of 1 MiB, as TCP would; no compression.");
    println!("Counted from the first delivery to the last.\n");
    if log.start.is_none() {
        println!(
            "The log is small: where links are fast, its beginning and end are all there is.\n"
        );
    }
    println!("| delay each way | limit | 1 | 2 | 4 | 8 |");
    println!("|---:|---|---:|---:|---:|---:|");
    for (delay_ms, limit) in [(0, 0), (50, 0), (200, 0), (50, 2_000_000), (200, 2_000_000)] {
        let limited = if limit == 0 {
            "no limit"
        } else {
            "2 MB/s each"
        };
        print!("| {delay_ms} ms | {limited} |");
        for streams in LINK_STREAMS {
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
            let more = ["--advertise-data", &*advertised, "--feed", "1GiB"];
            let serving = serve(program, log, data, &more)?;
            wait_decoded(&serving, log).await?;
            let mut options = self::options(&serving, log, streams);
            options.compression = Compression::None;
            options.until = Some(end_for(log, streams));
            print!(" {:.1} |", rate(options).await?);
        }
        println!();
    }
    Ok(())
}
