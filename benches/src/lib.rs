//! What the benches share: a recorded log, decoded to nothing.
//!
//! `cargo bench -p redostream-benches` measures on the recorded demo case (22 MB of WAL), so it
//! needs no server. Its size says little about throughput on large logs: the figures compare one
//! change of the code with the next, not Redostream with anything else.

use std::sync::Arc;

use anyhow::{Context, Result};
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
        let data = DataDirectory::open(&root.join("base"))?;
        let mut catalog = Catalog::new(data.format());
        let loaded = bootstrap::load(&data, None, &mut catalog)?;
        let options = FileSourceOptions {
            directories: vec![root.join("wal")],
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
        let spill = FileSpill::new(root.join("spill"), u64::MAX)?;
        let assembler = Assembler::new(256 << 20, Box::new(spill));
        let options = PipelineOptions {
            decoders,
            partitions: 0,
            chunk_bytes: redostream_engine::limits::CHUNK_BYTES,
            end: self.end,
            restart_points: pipeline::RestartRequest::default(),
        };
        let counters = Counters::default();
        let stop = StopToken::default();
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
        Ok(counters)
    }
}
