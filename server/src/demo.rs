//! `redostream-server demo`: recorded WAL, served on loopback to a subscription of its own.
//!
//! The recording is part of the program: the catalog of a stopped PostgreSQL 15 cluster, and the
//! WAL it wrote afterwards for a mix of eight clients with a table made in the middle.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redostream_client::protocol::control::{From as Place, Until};
use redostream_client::protocol::event::EventKind;
use redostream_client::{Compression, Options, Subscription, Totals, Transaction};
use redostream_engine::catalog::Catalog;
use redostream_engine::catalog::bootstrap::{self, DataDirectory};
use redostream_engine::gate::Gate;
use redostream_engine::source::{
    FileSource, FileSourceOptions, SegmentSize, TimelineChoice, Upstream,
};
use redostream_protocol::Lsn;
use tokio::net::TcpListener;

use crate::cli::DemoArguments;
use crate::exit::Failure;
use crate::live::{Begin, Live, LiveProvider, RESTART_POINT_BYTES, Setting};
use crate::restart_point::RestartPoints;
use crate::session::{FileStore, Listeners, SessionOptions, SessionServer};

const BASE: &[u8] = include_bytes!("../../testdata/recorded/15/base.tar.zst");
const WAL: &[u8] = include_bytes!("../../testdata/recorded/15/demo/wal.tar.zst");
const FACTS: &str = include_str!("../../testdata/recorded/15/demo/case.json");

/// What is known of the recording.
#[derive(serde::Deserialize)]
struct Facts {
    database: String,
    end: String,
    segment_bytes: u64,
    server_version: String,
}

/// A directory that goes away with the demo.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing is lost if it stays.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &DemoArguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Runtime(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(demo(arguments));
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

fn runtime(error: impl ToString) -> Failure {
    Failure::Runtime(error.to_string())
}

async fn demo(arguments: &DemoArguments) -> Result<(), Failure> {
    let facts: Facts = serde_json::from_str(FACTS).map_err(runtime)?;
    let end: Lsn = facts.end.parse().map_err(runtime)?;
    let name = format!("redostream-demo-{}", std::process::id());
    let scratch = Scratch(std::env::temp_dir().join(name));
    println!(
        "Recorded from PostgreSQL {}: unpacking.",
        facts.server_version
    );
    unpack(BASE, &scratch.0.join("base"))?;
    unpack(WAL, &scratch.0.join("wal"))?;
    restore_lengths(&scratch.0.join("wal"), facts.segment_bytes)?;
    let (setting, points, begin) = prepare(arguments, &scratch.0, &facts.database)?;
    let live = Arc::new(Live::new(setting, points, &begin));
    let listener = || TcpListener::bind(("127.0.0.1", 0));
    let listeners = Listeners {
        control: listener().await.map_err(runtime)?,
        data: listener().await.map_err(runtime)?,
    };
    let provider = Arc::new(LiveProvider(Arc::clone(&live)));
    let store = FileStore::open(scratch.0.join("subscriptions")).map_err(runtime)?;
    let options = SessionOptions::default();
    let sessions =
        SessionServer::start(provider, Box::new(store), listeners, options).map_err(runtime)?;
    let server = sessions.control_address().to_string();
    println!(
        "Serving on {server}; subscribing with {} connections.\n",
        arguments.streams
    );
    let since = Instant::now();
    let pipeline = {
        let live = Arc::clone(&live);
        tokio::task::spawn_blocking(move || live.run(begin))
    };
    let totals = tokio::select! {
        totals = subscribe(arguments, &server, end) => totals?,
        _ = tokio::signal::ctrl_c() => return Ok(()),
    };
    let elapsed = since.elapsed();
    live.shut_down();
    sessions.stop(Duration::from_secs(2)).await;
    pipeline.await.map_err(runtime)?.map_err(Failure::from)?;
    summary(arguments, &live, totals, elapsed);
    Ok(())
}

fn prepare(
    arguments: &DemoArguments,
    scratch: &Path,
    database: &str,
) -> Result<(Setting, RestartPoints, Begin), Failure> {
    let directory = DataDirectory::open(&scratch.join("base")).map_err(runtime)?;
    let mut catalog = Catalog::new(directory.format());
    let loaded = bootstrap::load(&directory, None, &mut catalog).map_err(runtime)?;
    let segment_size = SegmentSize::new(loaded.segment_bytes)
        .ok_or_else(|| Failure::Runtime("no size of WAL segments".to_owned()))?;
    let options = FileSourceOptions {
        directories: vec![scratch.join("wal")],
        system_identifier: loaded.system_identifier,
        segment_size,
        page_magic: directory.format().page_magic,
        closed: false,
        restore: None,
    };
    let choice = TimelineChoice::Newest {
        of: loaded.timeline,
        at: loaded.redo,
    };
    let source = FileSource::open(options, choice).map_err(runtime)?;
    let state = scratch.join("state");
    fs::create_dir_all(&state).map_err(runtime)?;
    let databases = vec![database.to_owned()];
    let points = RestartPoints::open(&state, loaded.system_identifier, &databases, u64::MAX)
        .map_err(runtime)?;
    let upstream = Arc::new(Upstream::new((*source.history()).clone()));
    let setting = Setting {
        system_identifier: loaded.system_identifier,
        format: directory.format(),
        segment_bytes: loaded.segment_bytes,
        source: Arc::new(source),
        databases,
        state,
        decoders: arguments.decoders,
        memory_bytes: 256 << 20,
        spill_bytes: 1 << 30,
        room_wait: redostream_engine::pipeline::ROOM_WAIT,
        feed_bytes: 256 << 20,
        restart_point_bytes: RESTART_POINT_BYTES,
        upstream,
        source_metrics: Arc::default(),
        received: None,
    };
    let gate = Gate::new(
        catalog,
        loaded.readiness(),
        directory.format(),
        setting.selection(Lsn::INVALID),
        setting.timeline_at(),
        loaded.segment_bytes,
        loaded.redo,
    );
    Ok((setting, points, Begin::Fresh(Box::new(gate))))
}

async fn subscribe(arguments: &DemoArguments, server: &str, end: Lsn) -> Result<Totals, Failure> {
    let mut options = Options::new([server]);
    options.from = Some(Place::Earliest);
    options.until = Some(Until::Lsn(end));
    options.streams = arguments.streams;
    options.compression = Compression::Lz4;
    let mut subscription = Subscription::open(options).await.map_err(runtime)?;
    for _ in 0..arguments.show {
        let Some(transaction) = subscription.next_transaction().await.map_err(runtime)? else {
            break;
        };
        show(&transaction)?;
    }
    println!("... and so on");
    while subscription
        .next_delivery()
        .await
        .map_err(runtime)?
        .is_some()
    {}
    let totals = subscription.totals();
    subscription.close().await;
    Ok(totals)
}

/// One line for a transaction: how many of what.
fn show(transaction: &Transaction) -> Result<(), Failure> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for change in &transaction.events {
        let kind = change.event().map_err(runtime)?.header.kind;
        let word = match kind {
            EventKind::Insert => "insert",
            EventKind::Update => "update",
            EventKind::Delete => "delete",
            EventKind::Truncate => "truncate",
            _ => "message",
        };
        let table = change
            .relation
            .as_ref()
            .map(|relation| relation.name.to_string());
        *counts
            .entry(format!("{word} {}", table.unwrap_or_default()))
            .or_default() += 1;
    }
    let parts: Vec<String> = counts
        .into_iter()
        .map(|(what, count)| {
            if count == 1 {
                what
            } else {
                format!("{count} x {what}")
            }
        })
        .collect();
    println!(
        "{}  xid {}: {}",
        transaction.position(),
        transaction.header.xid,
        parts.join(", ")
    );
    Ok(())
}

fn summary(arguments: &DemoArguments, live: &Live, totals: Totals, elapsed: Duration) {
    let decoders = redostream_engine::pipeline::workers(arguments.decoders);
    let wal_bytes = live.wal_bytes();
    let seconds = elapsed.as_secs_f64();
    println!();
    println!("transactions       {}", totals.transactions);
    println!("rows               {}", totals.rows);
    println!("WAL bytes          {wal_bytes}");
    println!("seconds            {seconds:.3}  (decoded, sent, received and checked)");
    println!("MB/s of WAL        {:.0}", wal_bytes as f64 / 1e6 / seconds);
    println!("decoder threads    {decoders}");
    println!("connections        {}", arguments.streams);
    let ratio = totals.raw_bytes as f64 / totals.wire_bytes.max(1) as f64;
    println!(
        "compression ratio  {ratio:.2}  ({} bytes sent)",
        totals.wire_bytes
    );
}

fn unpack(archive: &[u8], to: &Path) -> Result<(), Failure> {
    let decoder = ruzstd::decoding::StreamingDecoder::new(archive).map_err(runtime)?;
    let mut files = tar::Archive::new(decoder);
    files.set_preserve_mtime(false);
    fs::create_dir_all(to).map_err(runtime)?;
    files.unpack(to).map_err(runtime)
}

/// Zero tails of segments were cut off; the log ends in zeros again.
fn restore_lengths(directory: &Path, segment_bytes: u64) -> Result<(), Failure> {
    for entry in fs::read_dir(directory).map_err(runtime)? {
        let entry = entry.map_err(runtime)?;
        if entry.file_name().len() == 24 {
            let file = fs::OpenOptions::new()
                .write(true)
                .open(entry.path())
                .map_err(runtime)?;
            file.set_len(segment_bytes).map_err(runtime)?;
        }
    }
    Ok(())
}
