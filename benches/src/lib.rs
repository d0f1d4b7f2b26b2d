//! What the benches share: a recorded log, decoded to nothing.
//!
//! `cargo bench -p redostream-benches` measures on the recorded demo case (22 MB of WAL), so it
//! needs no server. Its size says little about throughput on large logs: the figures compare one
//! change of the code with the next, not Redostream with anything else.

pub mod compare;
pub mod large_log;
pub mod load;
pub mod serving;
pub mod synthetic;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use redostream_engine::arena::Arenas;
use redostream_engine::assembly::{Assembler, FileSpill};
use redostream_engine::catalog::Catalog;
use redostream_engine::catalog::bootstrap::{self, DataDirectory};
use redostream_engine::error::EngineError;
use redostream_engine::feed::block::Block;
use redostream_engine::gate::{Gate, Selection};
use redostream_engine::pipeline::{self, Counters, PipelineOptions, Sink, StopToken};
use redostream_engine::source::{
    FileSource, FileSourceOptions, SegmentSize, Source, TimelineChoice,
};
use redostream_protocol::Lsn;
use redostream_testdata::recorded;
use tempfile::TempDir;

/// A recorded case, unpacked.
pub struct Recording {
    directory: TempDir,
    end: Lsn,
}

/// A sink that takes everything and keeps nothing.
struct Nothing;

impl Sink for Nothing {
    fn block(&mut self, _block: Block) -> Result<(), EngineError> {
        Ok(())
    }
}

impl Recording {
    /// What stands in a directory: a data directory `base`, and the log after it in `wal`.
    #[must_use]
    pub fn of(directory: TempDir, end: Lsn) -> Self {
        Recording { directory, end }
    }

    /// Unpacks a case of PostgreSQL 15.
    ///
    /// # Errors
    /// When it is not there or cannot be written.
    pub fn unpack(name: &str) -> Result<Self> {
        let directory = TempDir::new()?;
        let case = recorded::case(15, name)?;
        recorded::unpack_base(15, &directory.path().join("base"))?;
        case.unpack_wal(&directory.path().join("wal"))?;
        let end = case.facts.end.parse()?;
        Ok(Recording { directory, end })
    }

    /// Decodes all of it; gives the bytes of WAL and the rows.
    ///
    /// # Errors
    /// When it cannot be decoded.
    pub fn decode(&self, decoders: usize) -> Result<Counters> {
        let root = self.directory.path();
        let log = Log {
            base: root.join("base"),
            wal: root.join("wal"),
            end: self.end,
        };
        Ok(log.decode(&Settings::with_decoders(decoders))?.counters)
    }
}

/// WAL on disk, and the data directory from before it.
#[derive(Clone, Debug)]
pub struct Log {
    /// The data directory.
    pub base: PathBuf,
    /// The directory with the segments.
    pub wal: PathBuf,
    /// First LSN that is not wanted.
    pub end: Lsn,
}

/// How a log is decoded.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Workers; 0 takes the machine's cores.
    pub decoders: usize,
    /// Partitions of a chunk; 0 for the engine's choice.
    pub partitions: usize,
    /// Bytes of WAL in a chunk.
    pub chunk_bytes: usize,
    /// Memory for open transactions.
    pub memory_bytes: usize,
}

impl Settings {
    /// As `decode` is run by default, with so many workers.
    #[must_use]
    pub const fn with_decoders(decoders: usize) -> Self {
        Self {
            decoders,
            partitions: 0,
            chunk_bytes: redostream_engine::limits::CHUNK_BYTES,
            memory_bytes: 256 << 20,
        }
    }
}

/// What decoding a log gave.
#[derive(Debug)]
pub struct Decoded {
    /// What was counted.
    pub counters: Counters,
    /// From the first byte read to the last transaction released.
    pub seconds: f64,
    /// Reading the catalogs before that.
    pub bootstrap_seconds: f64,
}

impl Log {
    /// Decodes all of it to nothing.
    ///
    /// # Errors
    /// When it cannot be decoded.
    pub fn decode(&self, settings: &Settings) -> Result<Decoded> {
        let begun = Instant::now();
        let data = DataDirectory::open(&self.base)?;
        let mut catalog = Catalog::new(data.format());
        let loaded = bootstrap::load(&data, None, &mut catalog)?;
        let options = FileSourceOptions {
            directories: vec![self.wal.clone()],
            system_identifier: loaded.system_identifier,
            segment_size: SegmentSize::new(loaded.segment_bytes).context("segment size")?,
            page_magic: data.format().page_magic,
            closed: true,
            restore: None,
        };
        let choice = TimelineChoice::Newest {
            of: loaded.timeline,
            at: loaded.redo,
        };
        let source = Arc::new(FileSource::open(options, choice)?);
        let history = Arc::clone(&source);
        let gate = Gate::new(
            catalog,
            loaded.readiness(),
            data.format(),
            Selection::default(),
            Arc::new(move |lsn| history.timeline_at(lsn)),
            loaded.segment_bytes,
            loaded.redo,
        );
        let spill_directory = TempDir::new()?;
        let spill = FileSpill::new(spill_directory.path().join("spill"), u64::MAX)?;
        let assembler = Assembler::new(settings.memory_bytes, Box::new(spill)).for_one_reader();
        let options = PipelineOptions {
            decoders: settings.decoders,
            partitions: settings.partitions,
            chunk_bytes: settings.chunk_bytes,
            end: self.end,
            restart_points: pipeline::RestartRequest::default(),
            room_wait: pipeline::ROOM_WAIT,
            arenas: Arenas::new(),
        };
        let counters = Counters::default();
        let stop = StopToken::default();
        let bootstrap_seconds = begun.elapsed().as_secs_f64();
        let since = Instant::now();
        pipeline::run(
            &*source,
            gate,
            assembler,
            &options,
            &mut Nothing,
            &counters,
            &stop,
        )
        .0?;
        Ok(Decoded {
            counters,
            seconds: since.elapsed().as_secs_f64(),
            bootstrap_seconds,
        })
    }
}
