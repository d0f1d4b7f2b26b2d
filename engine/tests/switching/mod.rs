//! A pipeline that falls behind the redo buffer and catches up, again and again: what it releases
//! is, to the byte, what it releases over the files alone.
//!
//! A real server writes the log. Whoever takes what is released stands still, as a full disk or a
//! slow consumer makes it, while the buffer (of 1 MiB, the smallest) goes on without the reader;
//! then it goes on too, over files, until it is back in the buffer.
//!
//! `cargo test --release -p redostream-engine --test main a_thousand_switches -- --ignored
//! --nocapture` makes a thousand of each way; `REDOSTREAM_SEED` repeats a run.

mod late;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use redostream_engine::arena::Arenas;
use redostream_engine::assembly::{Assembler, FileSpill};
use redostream_engine::catalog::Catalog;
use redostream_engine::catalog::bootstrap::{DataDirectory, load};
use redostream_engine::error::EngineError;
use redostream_engine::feed::block::Block;
use redostream_engine::gate::{Gate, Selection};
use redostream_engine::pipeline::{self, Counters, PipelineOptions, Sink, StopToken};
use redostream_engine::source::{
    FileSource, FileSourceOptions, Origin, RedoBuffer, Restore, SegmentSize, Source, SourceMetrics,
    SwitchingSource, TimelineChoice, TimelineHistory, Upstream,
};
use redostream_protocol::{Lsn, TimelineId};
use redostream_testdata::cluster::{Cluster, ClusterOptions, Stop};
use redostream_testdata::files::{copy_tree, copy_wal};
use redostream_testdata::generator::random::Random;
use redostream_testdata::server::Server;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const CHUNK_BYTES: usize = 64 << 10;
const BUFFER_BYTES: usize = 1 << 20;
/// What goes into the buffer while the reader stands: more than the buffer and all chunks that may
/// be under way.
const ROUND_BYTES: u64 = (BUFFER_BYTES + 12 * CHUNK_BYTES) as u64;

/// A stopped cluster as it was before the log, and the log.
struct Log {
    base: TempDir,
    wal: TempDir,
    end: Lsn,
    beyond: Lsn,
}

impl Log {
    fn of(server: Server, rounds: u64) -> Log {
        let options = ClusterOptions {
            segment_mib: 1,
            ..ClusterOptions::default()
        };
        let mut cluster = Cluster::create(server, &options).unwrap();
        cluster.start().unwrap();
        cluster
            .sql("postgres", "create table t (id int primary key, v text)")
            .unwrap();
        cluster.stop(Stop::Fast).unwrap();
        let base = tempfile::tempdir().unwrap();
        copy_tree(cluster.data(), base.path(), &|_| true).unwrap();
        cluster.start().unwrap();
        let lsn = |cluster: &Cluster| -> Lsn { cluster.flushed_lsn().unwrap().parse().unwrap() };
        let wanted = lsn(&cluster).add((rounds + 3) * (ROUND_BYTES + ROUND_BYTES / 8));
        let mut from = 0;
        while lsn(&cluster) < wanted {
            let to = from + 1000;
            let sql = format!(
                "do $$ begin for i in {from}..{to} - 1 loop \
                 insert into t select 100 * i + g, repeat('v', g) from generate_series(1, 100) g; \
                 if i % 3 = 0 then update t set v = 'new' where id = 100 * i + 7; end if; \
                 commit; end loop; end $$"
            );
            cluster.sql("postgres", &sql).unwrap();
            from = to;
        }
        let end = lsn(&cluster);
        cluster.sql("postgres", "create table beyond ()").unwrap();
        let beyond = lsn(&cluster);
        cluster.stop(Stop::Immediate).unwrap();
        let wal = tempfile::tempdir().unwrap();
        copy_wal(&cluster.data().join("pg_wal"), wal.path()).unwrap();
        Log {
            base,
            wal,
            end,
            beyond,
        }
    }

    fn files(&self, closed: bool, restore: Option<(Arc<dyn Restore>, PathBuf)>) -> Arc<FileSource> {
        let directory = DataDirectory::open(self.base.path()).unwrap();
        let control = directory.control();
        let options = FileSourceOptions {
            directories: match restore {
                Some(_) => Vec::new(),
                None => vec![self.wal.path().to_owned()],
            },
            system_identifier: control.system_identifier,
            segment_size: SegmentSize::new(u64::from(control.segment_bytes)).unwrap(),
            page_magic: directory.format().page_magic,
            closed,
            restore,
        };
        let choice = TimelineChoice::Newest {
            of: control.checkpoint.timeline,
            at: control.checkpoint.redo,
        };
        Arc::new(FileSource::open(options, choice).unwrap())
    }

    /// Decodes up to the end; gives where it began.
    fn decode(&self, source: &dyn Source, counters: &Counters, sink: &mut Released) -> Lsn {
        let directory = DataDirectory::open(self.base.path()).unwrap();
        let mut catalog = Catalog::new(directory.format());
        let loaded = load(&directory, None, &mut catalog).unwrap();
        let gate = Gate::new(
            catalog,
            loaded.readiness(),
            directory.format(),
            Selection::default(),
            Arc::new(|_| TimelineId(1)),
            loaded.segment_bytes,
            loaded.redo,
        );
        let spill = tempfile::tempdir().unwrap();
        let store = FileSpill::new(spill.path().join("spill"), u64::MAX).unwrap();
        let assembler = Assembler::new(64 << 20, Box::new(store));
        let options = PipelineOptions {
            restart_points: pipeline::RestartRequest::default(),
            room_wait: pipeline::ROOM_WAIT,
            arenas: Arenas::new(),
            decoders: 2,
            partitions: 0,
            chunk_bytes: CHUNK_BYTES,
            end: self.end,
        };
        let stop = StopToken::default();
        pipeline::run(source, gate, assembler, &options, sink, counters, &stop)
            .0
            .unwrap();
        loaded.redo
    }
}

/// Where what is released stands still.
#[derive(Default)]
struct Barrier {
    down: Mutex<bool>,
    moved: Condvar,
}

impl Barrier {
    fn set(&self, down: bool) {
        *self.down.lock() = down;
        self.moved.notify_all();
    }

    fn pass(&self) {
        let mut down = self.down.lock();
        while *down {
            self.moved.wait(&mut down);
        }
    }
}

#[derive(Default)]
struct Released {
    barrier: Arc<Barrier>,
    sum: Sha256,
    bytes: u64,
    transactions: u64,
}

impl Released {
    fn told(self) -> (Vec<u8>, u64, u64) {
        (self.sum.finalize().to_vec(), self.bytes, self.transactions)
    }
}

impl Sink for Released {
    fn block(&mut self, block: Block) -> Result<(), EngineError> {
        self.barrier.pass();
        for piece in &block.pieces {
            self.sum.update(piece);
            self.bytes += piece.len() as u64;
        }
        self.transactions += block.transactions;
        Ok(())
    }
}

struct Copying(PathBuf);

impl Restore for Copying {
    fn fetch(&self, name: &str, to: &Path) -> io::Result<bool> {
        let from = self.0.join(name);
        if !from.exists() {
            return Ok(false);
        }
        std::fs::copy(from, to).map(|_| true)
    }
}

/// Sends the log into the buffer, as an upstream does, up to `to`.
fn send(from: &mut Lsn, to: Lsn, wire: &FileSource, buffer: &RedoBuffer, upstream: &Upstream) {
    while *from < to {
        let left = to.bytes_since(*from).min(128 << 10) as usize;
        let mut bytes = vec![0; left];
        let (count, _) = wire.read(*from, &mut bytes).unwrap();
        bytes.truncate(count);
        buffer.push(*from, Bytes::from(bytes)).unwrap();
        *from = from.add(count as u64);
        upstream.report(*from);
    }
}

/// `rounds` times behind and back.
fn switches(log: &Log, rounds: u64, restore: bool, random: &mut Random) {
    let mut undisturbed = Released::default();
    let counters = Counters::default();
    let start = log.decode(&*log.files(true, None), &counters, &mut undisturbed);
    let expected = undisturbed.told();
    assert!(
        expected.2 > rounds,
        "{} transactions are too few",
        expected.2
    );

    let fetched = tempfile::tempdir().unwrap();
    let restore = restore.then(|| {
        let copying: Arc<dyn Restore> = Arc::new(Copying(log.wal.path().to_owned()));
        (copying, fetched.path().to_owned())
    });
    let files = log.files(false, restore);
    let segment_bytes = files.segment_bytes();
    let buffer = Arc::new(RedoBuffer::new(BUFFER_BYTES));
    let upstream = Arc::new(Upstream::new(TimelineHistory::single(TimelineId(1))));
    let metrics = Arc::new(SourceMetrics::default());
    let source = SwitchingSource::new(
        Arc::clone(&buffer),
        Arc::clone(&upstream),
        Some(files),
        false,
        segment_bytes,
        Arc::clone(&metrics),
    );
    let (counters, barrier) = (Counters::default(), Arc::new(Barrier::default()));
    let mut sink = Released {
        barrier: Arc::clone(&barrier),
        ..Released::default()
    };
    let wire = log.files(true, None);
    let mut at = Lsn(start.0 / segment_bytes * segment_bytes);
    std::thread::scope(|scope| {
        let pipeline = scope.spawn(|| log.decode(&source, &counters, &mut sink));
        for round in 0..rounds {
            let back = metrics.switches_to(Origin::Buffer);
            barrier.set(true);
            let to = at.add(ROUND_BYTES + random.below(ROUND_BYTES as usize / 8) as u64);
            send(&mut at, to, &wire, &buffer, &upstream);
            barrier.set(false);
            let since = Instant::now();
            // The first round begins in files.
            while metrics.switches_to(Origin::Buffer) == back {
                let stuck = since.elapsed() > Duration::from_secs(60) || pipeline.is_finished();
                let decoded = counters.decoded_lsn.load(Ordering::Relaxed);
                assert!(!stuck, "round {round}: decoded {}, sent {at}", Lsn(decoded));
                std::thread::yield_now();
            }
        }
        send(&mut at, log.beyond, &wire, &buffer, &upstream);
    });
    let (to_file, to_buffer) = (
        metrics.switches_to(Origin::File),
        metrics.switches_to(Origin::Buffer),
    );
    let (file, memory) = (
        metrics.bytes_from(Origin::File),
        metrics.bytes_from(Origin::Buffer),
    );
    println!(
        "{to_file} switches to files ({file} bytes), {to_buffer} to the buffer ({memory} bytes), \
         {} transactions, {} bytes released",
        expected.2, expected.1
    );
    assert!(to_buffer >= rounds && to_file + 1 >= rounds);
    assert!(to_buffer.abs_diff(to_file) <= 1, "they take turns");
    assert!(sink.told() == expected, "not what the files alone give");
}

fn seed() -> u64 {
    let given = std::env::var("REDOSTREAM_SEED").ok();
    let given = given.and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| std::process::id().into());
    println!("REDOSTREAM_SEED={seed}");
    seed
}

#[test]
fn behind_the_buffer_and_back() {
    let Some(server) = Server::for_test(15) else {
        return;
    };
    let mut random = Random::new(seed());
    let log = Log::of(server, 20);
    switches(&log, 20, false, &mut random);
    switches(&log, 20, true, &mut random);
}

#[test]
#[ignore = "writes 2 GB of WAL; takes minutes"]
fn a_thousand_switches() {
    let Some(server) = Server::for_test(15) else {
        return;
    };
    let mut random = Random::new(seed());
    let log = Log::of(server, 1000);
    switches(&log, 1000, false, &mut random);
    switches(&log, 200, true, &mut random);
}
