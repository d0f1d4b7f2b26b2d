//! The structure of a table as of a place in the log: decoding is gone over from the nearest
//! restart point up to there, with nothing released, and the catalog it ends with is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redostream_engine::catalog::Catalog;
use redostream_engine::error::EngineError;
use redostream_engine::feed::block::Block;
use redostream_engine::pipeline::{self, Counters, PipelineOptions, Sink, StopToken};
use redostream_protocol::ddl::TableShape;
use redostream_protocol::render::push_table_json;
use redostream_protocol::schema::{Database, Name};
use redostream_protocol::wire::{Fault, FaultCode};
use redostream_protocol::{Lsn, Position};

use super::{Live, fault_of};

/// Numbers the runs, so that each has a spill directory of its own.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// What comes out is not wanted.
struct Nowhere;

impl Sink for Nowhere {
    fn block(&mut self, _block: Block) -> Result<(), EngineError> {
        Ok(())
    }
}

/// A table's structure as JSON, as committed before `at`, by default before what is released.
pub(super) fn describe(
    live: &Arc<Live>,
    database: &str,
    table: &str,
    at: Option<&str>,
) -> Result<String, Fault> {
    let released = live.released();
    let at = at.map_or(Ok(released), place)?;
    if at > released {
        let message = format!("{at} lies ahead: everything up to {released} is decoded");
        return Err(Fault::new(FaultCode::NotReady, message));
    }
    let catalog = catalog_at(live, at)?;
    let (encoding, shape) = find(live, &catalog, database, table)?;
    let mut json = Vec::new();
    push_table_json(&mut json, encoding, &shape);
    String::from_utf8(json).map_err(|error| Fault::new(FaultCode::Internal, error.to_string()))
}

/// The LSN before which commits count. The end of a transaction is behind its commit record.
fn place(text: &str) -> Result<Lsn, Fault> {
    if let Ok(lsn) = text.parse::<Lsn>() {
        return Ok(lsn);
    }
    let position: Position = text.parse().map_err(|_| {
        let message = format!("{text} is neither a position nor an LSN");
        Fault::new(FaultCode::BadRequest, message)
    })?;
    let end = Position::commit(position.timeline, position.commit_lsn);
    let behind = if position == end { 1 } else { 0 };
    Ok(position.commit_lsn.add(behind))
}

fn internal(error: &dyn ToString) -> Fault {
    Fault::new(FaultCode::Internal, error.to_string())
}

/// The catalog after all commits that start before `at`.
fn catalog_at(live: &Arc<Live>, at: Lsn) -> Result<Catalog, Fault> {
    live.restart_points.wait_for_first();
    let heads = live.restart_points.heads();
    let Some(head) = heads.into_iter().rev().find(|head| head.next <= at) else {
        let message = format!("no restart point at or before {at} is left");
        let mut fault = Fault::new(FaultCode::PositionTooOld, message);
        fault.oldest = *live.ready.borrow();
        return Err(fault);
    };
    let from = head.next;
    let stored = live.restart_points.read(from);
    let stored = stored.map_err(|error| internal(&error))?;
    let name = format!("describe-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    // Nothing commits that late: rows are dropped as they come.
    let (gate, assembler) = live
        .stages(stored, Lsn::MAX, &name, live.setting.memory_bytes)
        .map_err(|error| internal(&error))?;
    let options = PipelineOptions {
        decoders: 1,
        partitions: 1,
        chunk_bytes: redostream_engine::limits::CHUNK_BYTES,
        end: at,
        restart_points: pipeline::RestartRequest::default(),
        room_wait: pipeline::ROOM_WAIT,
        arenas: live.arenas.clone(),
    };
    tracing::debug!(%from, %at, "going over the log for a structure");
    let (result, gate) = pipeline::run(
        &*live.setting.source,
        gate,
        assembler,
        &options,
        &mut Nowhere,
        &Counters::default(),
        &StopToken::default(),
    );
    result.map_err(|error| fault_of(&error))?;
    Ok(gate.catalog().clone())
}

/// The table, in the database of that name or, without one, in the only one that has it.
fn find(
    live: &Live,
    catalog: &Catalog,
    database: &str,
    table: &str,
) -> Result<(i32, TableShape), Fault> {
    let (schema, name) = match table.split_once('.') {
        Some((schema, name)) => (schema, name),
        None => ("public", table),
    };
    let (schema, name) = (Name::from(schema), Name::from(name));
    let all = catalog.databases().map_err(|error| internal(&error))?;
    let served = &live.setting.databases;
    let wanted = |of: &&Database| {
        let of = of.name.lossy();
        let asked = database.is_empty() || *of == *database;
        asked && (served.is_empty() || served.iter().any(|name| *name == *of))
    };
    if !all.iter().any(|of| wanted(&of)) {
        let message = format!("there is no database {database} there");
        return Err(Fault::new(FaultCode::NotFound, message));
    }
    let mut found: Vec<(&Database, TableShape)> = Vec::new();
    for of in all.iter().filter(wanted) {
        let shape = catalog.describe_table(of.oid, &schema, &name);
        found.extend(
            shape
                .map_err(|error| internal(&error))?
                .map(|shape| (of, shape)),
        );
    }
    match found.len() {
        1 => found
            .pop()
            .map(|(of, shape)| (of.encoding, shape))
            .ok_or_else(|| internal(&"a table was lost")),
        0 => {
            let message = format!("there is no table {schema}.{name} there");
            Err(Fault::new(FaultCode::NotFound, message))
        }
        _ => {
            let names: Vec<_> = found.iter().map(|(of, _)| of.name.to_string()).collect();
            let message = format!(
                "{schema}.{name} is in several databases ({}); name one with --database",
                names.join(", ")
            );
            Err(Fault::new(FaultCode::BadRequest, message))
        }
    }
}
