//! `redostream-server decode`: WAL files to standard output, offline.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use redostream_engine::arena::Arenas;
use redostream_engine::assembly::{Assembler, FileSpill};
use redostream_engine::catalog::bootstrap::{self, Bootstrap, DataDirectory, Readiness};
use redostream_engine::catalog::{Catalog, RelationRegistry};
use redostream_engine::error::EngineError;
use redostream_engine::framing::chunk::FramingRules;
use redostream_engine::framing::end::end_of_log;
use redostream_engine::gate::{Gate, Selection};
use redostream_engine::pipeline::{self, Counters, PipelineOptions, StopToken};
use redostream_engine::source::{
    FileSource, FileSourceOptions, SegmentSize, Source, TimelineChoice,
};
use redostream_protocol::render::SessionSettings;
use redostream_protocol::schema::Database;
use redostream_protocol::value::{ClientEncoding, Monetary, TimeZone};
use redostream_protocol::{Lsn, TimelineId};

use crate::cli::DecodeArguments;
use crate::exit::Failure;
use crate::print::{Printer, PrinterOptions};
use crate::session::TablePattern;

/// Runs the command.
pub(crate) fn run(arguments: &DecodeArguments) -> Result<(), Failure> {
    let begun = Instant::now();
    let directory = DataDirectory::open(&arguments.pgdata).map_err(runtime)?;
    let mut catalog = Catalog::new(directory.format());
    let loaded = bootstrap::load(&directory, None, &mut catalog).map_err(runtime)?;
    let directories = if arguments.wal.is_empty() {
        vec![arguments.pgdata.join("pg_wal")]
    } else {
        arguments.wal.clone()
    };
    let source = Arc::new(open_source(arguments, directories, &directory, &loaded)?);
    let bootstrap_seconds = begun.elapsed().as_secs_f64();

    let relations = catalog.registry().clone();
    let databases = catalog.databases().unwrap_or_default();
    let readiness = readiness(arguments, &directory, &loaded)?;
    let gate = gate(arguments, catalog, readiness, &directory, &loaded, &source);
    let spill = FileSpill::new(spill_directory(arguments), u64::MAX).map_err(runtime)?;
    let memory = usize::try_from(arguments.memory).unwrap_or(usize::MAX);
    let assembler = Assembler::new(memory, Box::new(spill)).for_one_reader();
    let stop = StopToken::default();
    let counters = Counters::default();
    let out = std::io::stdout();
    let options = printer_options(arguments, &loaded, relations, databases)?;
    let mut printer = Printer::new(options, out);
    let options = PipelineOptions {
        decoders: arguments.decoders,
        partitions: arguments.partitions,
        chunk_bytes: usize::try_from(arguments.chunk).unwrap_or(usize::MAX),
        end: arguments.end.unwrap_or(Lsn::MAX),
        restart_points: pipeline::RestartRequest::default(),
        room_wait: pipeline::ROOM_WAIT,
        arenas: Arenas::new(),
    };
    let since = Instant::now();
    let (result, gate) = pipeline::run(
        &*source,
        gate,
        assembler,
        &options,
        &mut printer,
        &counters,
        &stop,
    );
    let seconds = since.elapsed().as_secs_f64();
    let flushed = printer.finish();
    if arguments.stats {
        print_stats(&counters, seconds, bootstrap_seconds, arguments.decoders);
    }
    result?;
    flushed?;
    refuse_early_start(arguments, &gate)?;
    if let Some(waits) = gate.waits_for() {
        return Err(not_ready(&gate, &waits));
    }
    Ok(())
}

fn printer_options(
    arguments: &DecodeArguments,
    loaded: &Bootstrap,
    relations: RelationRegistry,
    databases: Vec<Database>,
) -> Result<PrinterOptions, Failure> {
    let usage = |error: &dyn ToString| Failure::Usage(error.to_string());
    let zone = TimeZone::named(&arguments.timezone).map_err(|error| usage(&error))?;
    let monetary = Monetary::named(&arguments.lc_monetary).map_err(|error| usage(&error))?;
    let encoding = arguments.encoding.as_deref().map(ClientEncoding::named);
    let encoding = encoding.transpose().map_err(|error| usage(&error))?;
    let patterns = arguments.table.iter().map(|text| TablePattern::parse(text));
    let tables: Result<Vec<_>, _> = patterns.collect();
    Ok(PrinterOptions {
        format: arguments.format,
        major: loaded.major,
        system_identifier: loaded.system_identifier,
        settings: SessionSettings {
            zone: Arc::new(zone),
            monetary: Arc::new(monetary),
            ..SessionSettings::default()
        },
        encoding: encoding.map(Arc::new),
        relations,
        databases,
        tables: tables.map_err(|fault| Failure::Usage(fault.message))?,
    })
}

fn runtime(error: impl ToString) -> Failure {
    Failure::Runtime(error.to_string())
}

/// A start before the catalog could be trusted cannot be served.
fn refuse_early_start(arguments: &DecodeArguments, gate: &Gate) -> Result<(), Failure> {
    match (arguments.start, gate.consistent_at()) {
        (Some(start), Some(earliest)) if start < earliest => Err(Failure::Position(format!(
            "--start {start} lies before {earliest}, where the copied catalog becomes consistent; \
             everything from there on was printed"
        ))),
        _ => Ok(()),
    }
}

fn not_ready(gate: &Gate, waits: &str) -> Failure {
    Failure::Runtime(format!(
        "the WAL ends at {}, before decoding could begin: it waits for {waits}; give later WAL with --wal",
        gate.expected()
    ))
}

fn gate(
    arguments: &DecodeArguments,
    catalog: Catalog,
    readiness: Readiness,
    directory: &DataDirectory,
    loaded: &Bootstrap,
    source: &Arc<FileSource>,
) -> Gate {
    let selection = Selection {
        databases: arguments.database.clone(),
        start: arguments.start.unwrap_or_default(),
    };
    let history = Arc::clone(source);
    Gate::new(
        catalog,
        readiness,
        directory.format(),
        selection,
        Arc::new(move |lsn| history.timeline_at(lsn)),
        loaded.segment_bytes,
        loaded.redo,
    )
}

/// The tracker of readiness. A server that crashed is consistent where its own WAL ends.
fn readiness(
    arguments: &DecodeArguments,
    directory: &DataDirectory,
    loaded: &Bootstrap,
) -> Result<Readiness, Failure> {
    let mut readiness = loaded.readiness();
    if loaded.rule.end_of_wal {
        let own = vec![arguments.pgdata.join("pg_wal")];
        let source = open_source(arguments, own, directory, loaded)?;
        let rules = FramingRules {
            format: directory.format(),
            segment_bytes: loaded.segment_bytes,
            partitions: 1,
            timelines: None,
        };
        let end = end_of_log(&source, rules, loaded.redo).map_err(runtime)?;
        readiness.wal_ends(end);
    }
    Ok(readiness)
}

fn open_source(
    arguments: &DecodeArguments,
    directories: Vec<PathBuf>,
    directory: &DataDirectory,
    loaded: &Bootstrap,
) -> Result<FileSource, Failure> {
    let segment_size = SegmentSize::new(loaded.segment_bytes).ok_or_else(|| {
        Failure::Runtime(format!(
            "{} bytes is no size of WAL segments",
            loaded.segment_bytes
        ))
    })?;
    let options = FileSourceOptions {
        directories,
        system_identifier: loaded.system_identifier,
        segment_size,
        page_magic: directory.format().page_magic,
        closed: true,
        restore: None,
    };
    let (of, at) = (loaded.timeline, loaded.redo);
    let choice = match arguments.timeline {
        Some(timeline) => TimelineChoice::Exactly {
            timeline: TimelineId(timeline),
            of,
            at,
        },
        None => TimelineChoice::Newest { of, at },
    };
    FileSource::open(options, choice).map_err(|error| EngineError::from(error).into())
}

/// A directory of this process's own.
fn spill_directory(arguments: &DecodeArguments) -> PathBuf {
    let parent = arguments
        .spill_dir
        .clone()
        .unwrap_or_else(std::env::temp_dir);
    parent.join(format!("redostream-decode-{}", std::process::id()))
}

fn print_stats(counters: &Counters, seconds: f64, bootstrap_seconds: f64, decoders: usize) {
    let decoders = pipeline::workers(decoders);
    let busy: serde_json::Map<String, serde_json::Value> = pipeline::STAGES
        .iter()
        .zip(&counters.busy_ns)
        .map(|(stage, ns)| {
            (
                (*stage).to_owned(),
                (ns.load(Ordering::Relaxed) as f64 / 1e9).into(),
            )
        })
        .collect();
    let stats = serde_json::json!({
        "wal_bytes": counters.wal_bytes.load(Ordering::Relaxed),
        "records": counters.records.load(Ordering::Relaxed),
        "rows": counters.rows.load(Ordering::Relaxed),
        "transactions": counters.transactions.load(Ordering::Relaxed),
        "seconds": seconds,
        "bootstrap_seconds": bootstrap_seconds,
        "decoders": decoders,
        "stage_busy_seconds": busy,
    });
    eprintln!("{stats}");
}
