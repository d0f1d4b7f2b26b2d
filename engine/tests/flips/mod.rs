//! A bit flipped anywhere in the log is found, or lies in bytes that mean nothing.
//!
//! Recorded logs are decoded in this process, again and again with one bit another way. What was
//! released before the damage must be a beginning of the truth, to the byte, and the error must
//! name file, offset and LSN. Which bytes mean something, [`meaning`] says by itself.
//!
//! `REDOSTREAM_FLIPS=10000 cargo test -p redostream-engine --test main many_flips -- --ignored
//! --nocapture` tries many and prints the outcomes; `REDOSTREAM_SEED` repeats a run.

mod cut;
mod meaning;
mod refused;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use meaning::Meaning;
use redostream_engine::arena::Arenas;
use redostream_engine::assembly::{Assembler, FileSpill};
use redostream_engine::catalog::Catalog;
use redostream_engine::catalog::bootstrap::{Bootstrap, DataDirectory, load};
use redostream_engine::error::EngineError;
use redostream_engine::feed::block::Block;
use redostream_engine::framing::format::WalFormat;
use redostream_engine::gate::{Gate, Selection};
use redostream_engine::pipeline::{self, Counters, PipelineOptions, Sink, StopToken};
use redostream_engine::source::{
    FileSource, FileSourceOptions, SegmentSize, Source, TimelineChoice,
};
use redostream_protocol::Lsn;
use redostream_testdata::generator::random::Random;
use redostream_testdata::recorded::{case, unpack_base};
use tempfile::TempDir;

/// A recorded case, ready to be decoded many times.
pub(crate) struct Laid {
    name: String,
    wal: TempDir,
    spill: TempDir,
    _base: TempDir,
    format: &'static WalFormat,
    bootstrap: Bootstrap,
    catalog: Catalog,
    decoders: usize,
    end: Lsn,
    stop: StopToken,
    pub(crate) segments: Vec<Segment>,
    /// The events of the log as it is.
    pub(crate) truth: Vec<u8>,
}

pub(crate) struct Segment {
    path: PathBuf,
    pub(crate) file: File,
    pub(crate) meaning: Meaning,
}

/// Keeps the events.
#[derive(Default)]
pub(crate) struct Events(pub(crate) Vec<u8>);

impl Sink for Events {
    fn block(&mut self, block: Block) -> Result<(), EngineError> {
        for piece in &block.pieces {
            self.0.extend_from_slice(piece);
        }
        Ok(())
    }
}

impl Laid {
    pub(crate) fn new(version: u32, name: &str) -> Self {
        let recorded = case(version, name).unwrap();
        let (base, wal) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        unpack_base(version, base.path()).unwrap();
        recorded.unpack_wal(wal.path()).unwrap();
        let directory = DataDirectory::open(base.path()).unwrap();
        let format = directory.format();
        let mut catalog = Catalog::new(format);
        let bootstrap = load(&directory, None, &mut catalog).unwrap();
        let end: Lsn = recorded.facts.end.parse().unwrap();
        let mut laid = Laid {
            name: format!("{version} {name}"),
            wal,
            spill: tempfile::tempdir().unwrap(),
            _base: base,
            format,
            bootstrap,
            catalog,
            decoders: 1,
            end,
            stop: StopToken::default(),
            segments: Vec::new(),
            truth: Vec::new(),
        };
        laid.segments = laid.segments();
        let (events, result) = laid.decode();
        result.unwrap();
        assert!(events.len() > 1000, "{} says too little", laid.name);
        laid.truth = events;
        laid
    }

    pub(crate) fn segment_bytes(&self) -> usize {
        self.bootstrap.segment_bytes as usize
    }

    fn segments(&self) -> Vec<Segment> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(self.wal.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        let files: Vec<Vec<u8>> = paths
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect();
        let meanings = meaning::of(&files, self.bootstrap.redo, self.end);
        paths
            .into_iter()
            .zip(meanings)
            .map(|(path, meaning)| Segment {
                file: OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(&path)
                    .unwrap(),
                path,
                meaning,
            })
            .collect()
    }

    fn decode(&self) -> (Vec<u8>, Result<(), EngineError>) {
        let mut events = Events::default();
        let result = self.run(&mut events, true, &Counters::default());
        (events.0, result)
    }

    /// Decodes to the end; if the directory is not `closed`, more may come and is waited for.
    pub(crate) fn run(
        &self,
        events: &mut dyn Sink,
        closed: bool,
        counters: &Counters,
    ) -> Result<(), EngineError> {
        let bootstrap = &self.bootstrap;
        let options = FileSourceOptions {
            directories: vec![self.wal.path().to_owned()],
            system_identifier: bootstrap.system_identifier,
            segment_size: SegmentSize::new(bootstrap.segment_bytes).unwrap(),
            page_magic: self.format.page_magic,
            closed,
            restore: None,
        };
        let choice = TimelineChoice::Newest {
            of: bootstrap.timeline,
            at: bootstrap.redo,
        };
        let source = Arc::new(FileSource::open(options, choice)?);
        let history = Arc::clone(&source);
        let gate = Gate::new(
            self.catalog.clone(),
            bootstrap.readiness(),
            self.format,
            Selection::default(),
            Arc::new(move |lsn| history.timeline_at(lsn)),
            bootstrap.segment_bytes,
            bootstrap.redo,
        );
        let spill = FileSpill::new(self.spill.path().join("spill"), u64::MAX).unwrap();
        let options = PipelineOptions {
            restart_points: pipeline::RestartRequest::default(),
            room_wait: pipeline::ROOM_WAIT,
            arenas: Arenas::new(),
            decoders: self.decoders,
            partitions: 1,
            chunk_bytes: 256 * 1024,
            end: self.end,
        };
        let assembler = Assembler::new(64 << 20, Box::new(spill));
        let stop = &self.stop;
        pipeline::run(&*source, gate, assembler, &options, events, counters, stop).0
    }

    /// Flips one bit, decodes, flips it back. Says what came of it.
    fn flip(&self, segment: &Segment, offset: usize, bit: u8) -> &'static str {
        let mut byte = [0];
        segment
            .file
            .read_exact_at(&mut byte, offset as u64)
            .unwrap();
        let flipped = [byte[0] ^ 1 << bit];
        segment.file.write_all_at(&flipped, offset as u64).unwrap();
        let (events, result) = self.decode();
        segment.file.write_all_at(&byte, offset as u64).unwrap();
        let name = segment.path.file_name().unwrap().to_str().unwrap();
        let place = format!("{}, {name} at {offset}, bit {bit}", self.name);
        let means = segment.meaning.of(offset, bit);
        match result {
            Ok(()) => {
                assert!(events == self.truth, "{place}: other events, no error");
                assert!(means.is_none(), "{place}: not found; it is {means:?}");
                "means nothing"
            }
            Err(error) => {
                assert!(
                    self.truth.starts_with(&events),
                    "{place}: released what is not so, then {error}"
                );
                let told = error.to_string();
                assert!(means.is_some(), "{place}: means nothing, but {told}");
                let says_where = told.contains(name) && told.contains("offset");
                assert!(says_where, "{place}: does not say where: {told}");
                match error {
                    EngineError::Damaged { .. } => "damaged",
                    EngineError::EndsEarly { .. } => "ends early",
                    EngineError::Source(_) => "the file is not what its name says",
                    other => panic!("{place}: {other}"),
                }
            }
        }
    }
}

/// Tries so many flips in each of these cases; nine of ten lie where the log is read.
fn try_flips(cases: &[(u32, &str)], each: usize) {
    let seed = std::env::var("REDOSTREAM_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| std::process::id().into());
    println!("REDOSTREAM_SEED={seed}");
    let mut random = Random::new(seed);
    for (version, name) in cases {
        let laid = Laid::new(*version, name);
        let mut outcomes = BTreeMap::<&str, usize>::new();
        for _ in 0..each {
            let segment = &laid.segments[random.below(laid.segments.len())];
            let whole = random.chance(10);
            let range = if whole {
                0..segment.meaning.len()
            } else {
                segment.meaning.read.clone()
            };
            if range.is_empty() {
                continue;
            }
            let offset = range.start + random.below(range.len());
            let outcome = laid.flip(segment, offset, random.below(8) as u8);
            *outcomes.entry(outcome).or_default() += 1;
        }
        println!("{}: {outcomes:?}", laid.name);
    }
}

#[test]
fn a_flipped_bit_is_found() {
    try_flips(
        &[(14, "savepoints"), (17, "prepared"), (18, "truncate")],
        60,
    );
}

#[test]
#[ignore = "takes minutes; REDOSTREAM_FLIPS says how many"]
fn many_flips() {
    const CASES: &[(u32, &str)] = &[
        (14, "crash"),
        (14, "schema"),
        (14, "toast"),
        (15, "savepoints"),
        (15, "types"),
        (16, "crash"),
        (16, "prepared"),
        (17, "identity"),
        (17, "speculative"),
        (18, "messages"),
        (18, "partitions"),
    ];
    let flips = std::env::var("REDOSTREAM_FLIPS").ok();
    let flips = flips.and_then(|flips| flips.parse().ok()).unwrap_or(11_000);
    try_flips(CASES, flips / CASES.len() + 1);
}
