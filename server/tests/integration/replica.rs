//! A copy kept in step by events alone: DDL as the client library writes it in SQL, rows as they
//! come, applied to an empty database. At the end both servers say the same of their tables and of
//! what is in them.

use std::sync::Arc;

use redostream_client::ddl::statements;
use redostream_client::protocol::cursor::Cursor;
use redostream_client::protocol::ddl::DdlEvent;
use redostream_client::protocol::event::{ColumnValue, Columns, Event, EventKind, flags};
use redostream_client::protocol::schema::{Column, Relation};
use redostream_client::protocol::value::{TextContext, TypeRenderer};
use redostream_client::protocol::{Lsn, Position};
use redostream_engine::arena::Arenas;
use redostream_engine::assembly::{Assembler, FileSpill};
use redostream_engine::catalog::bootstrap::{DataDirectory, load};
use redostream_engine::catalog::{Catalog, RelationRegistry};
use redostream_engine::error::EngineError;
use redostream_engine::feed::block::Block;
use redostream_engine::gate::{Gate, Selection};
use redostream_engine::pipeline::{
    self, Counters, PipelineOptions, RestartRequest, Sink, StopToken,
};
use redostream_engine::source::{
    FileSource, FileSourceOptions, SegmentSize, Source, TimelineChoice,
};
use redostream_testdata::cluster::{Cluster, ClusterOptions, Stop};
use redostream_testdata::files::copy_tree;
use redostream_testdata::server::{MAJORS, Server};
use redostream_testdata::structures::STRUCTURES;

/// Makes SQL of what is released.
struct Applier {
    relations: RelationRegistry,
    script: String,
    unsupported: Vec<String>,
    last: Position,
}

impl Applier {
    fn event(&mut self, event: &Event<'_>) {
        match event.header.kind {
            EventKind::Begin => self.script.push_str("begin;\n"),
            EventKind::Commit => self.script.push_str("commit;\n"),
            EventKind::Ddl => {
                let ddl: DdlEvent = postcard::from_bytes(event.payload).unwrap();
                match statements(&ddl) {
                    Ok(all) => {
                        for statement in all {
                            self.script.push_str(&format!("{statement};\n"));
                        }
                    }
                    Err(error) => self.unsupported.push(error.to_string()),
                }
            }
            EventKind::Insert | EventKind::Update | EventKind::Delete => self.row(event),
            EventKind::Truncate => {
                let mut versions = Cursor::new(event.payload);
                while versions.remaining() > 0 {
                    let version = versions.u32("relation").unwrap();
                    let relation = self.relations.relation(
                        redostream_client::protocol::schema::RelationVersion(version),
                    );
                    let table = name(&relation.unwrap());
                    self.script
                        .push_str(&format!("truncate {table} cascade;\n"));
                }
            }
            _ => {}
        }
    }

    fn row(&mut self, event: &Event<'_>) {
        let relation = self.relations.relation(event.header.relation).unwrap();
        let table = name(&relation);
        let mut columns = event.columns();
        let old = event.has_old().then(|| values(&relation, &mut columns));
        let new = (event.header.kind != EventKind::Delete).then(|| values(&relation, &mut columns));
        let quoted = |column: &Column| format!("\"{}\"", column.name.lossy().replace('"', "\"\""));
        let stored: Vec<usize> = (0..relation.columns.len())
            .filter(|at| relation.columns[*at].generated == 0)
            .collect();
        let key = || {
            let from = old.as_ref().or(new.as_ref()).unwrap();
            let full = event.header.flags & flags::OLD_FULL != 0;
            let parts = relation.columns.iter().zip(from);
            let parts: Vec<String> = parts
                .filter(|(column, _)| column.key || full)
                .map(|(column, value)| match value {
                    Some(Some(value)) => format!("{} = {value}", quoted(column)),
                    _ => format!("{} is null", quoted(column)),
                })
                .collect();
            parts.join(" and ")
        };
        let statement = match event.header.kind {
            EventKind::Insert => {
                let new = new.as_ref().unwrap();
                let names: Vec<_> = stored
                    .iter()
                    .map(|at| quoted(&relation.columns[*at]))
                    .collect();
                let texts = stored.iter().map(|at| match &new[*at] {
                    Some(Some(value)) => value.clone(),
                    _ => "null".to_owned(),
                });
                let texts: Vec<_> = texts.collect();
                if names.is_empty() {
                    format!("insert into {table} default values")
                } else {
                    format!(
                        "insert into {table} ({}) overriding system value values ({})",
                        names.join(", "),
                        texts.join(", ")
                    )
                }
            }
            EventKind::Update => {
                let new = new.as_ref().unwrap();
                let sets = stored.iter().filter_map(|at| {
                    let value = new[*at].as_ref()?.clone().unwrap_or("null".to_owned());
                    Some(format!("{} = {value}", quoted(&relation.columns[*at])))
                });
                let sets: Vec<_> = sets.collect();
                format!("update {table} set {} where {}", sets.join(", "), key())
            }
            _ => format!("delete from {table} where {}", key()),
        };
        self.script.push_str(&statement);
        self.script.push_str(";\n");
    }
}

fn name(relation: &Arc<Relation>) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    format!(
        "{}.{}",
        quoted(&relation.schema.lossy()),
        quoted(&relation.name.lossy())
    )
}

/// A tuple's values as literals; the outer option is none for values that are not in the log.
fn values(relation: &Relation, columns: &mut Columns<'_>) -> Vec<Option<Option<String>>> {
    let context = TextContext::new(relation.database.major, relation.database.encoding);
    let all = relation.columns.iter().map(|column| {
        let bytes = match columns.read().unwrap() {
            ColumnValue::Null => return Some(None),
            ColumnValue::Unchanged => return None,
            ColumnValue::Bytes(bytes) => bytes,
            other => panic!("{other:?}"),
        };
        let mut text = Vec::new();
        TypeRenderer::new(&column.data_type)
            .text(bytes, &context, &mut text)
            .unwrap();
        let text = String::from_utf8(text).unwrap().replace('\'', "''");
        Some(Some(format!("'{text}'")))
    });
    all.collect()
}

impl Sink for Applier {
    fn block(&mut self, block: Block) -> Result<(), EngineError> {
        let bytes = block.pieces.concat();
        let mut cursor = Cursor::new(&bytes);
        while cursor.remaining() > 0 {
            let event = Event::read(&mut cursor).unwrap();
            self.event(&event);
        }
        if block.events > 0 {
            assert!(block.first >= self.last, "positions rise");
            self.last = block.last;
        }
        Ok(())
    }
}

/// The SQL of everything that happened after `data` was copied.
fn script(
    data: &std::path::Path,
    wal: &std::path::Path,
    spill: &std::path::Path,
    end: Lsn,
) -> Applier {
    let directory = DataDirectory::open(data).unwrap();
    let mut catalog = Catalog::new(directory.format());
    let loaded = load(&directory, None, &mut catalog).unwrap();
    let options = FileSourceOptions {
        directories: vec![wal.to_owned()],
        system_identifier: loaded.system_identifier,
        segment_size: SegmentSize::new(loaded.segment_bytes).unwrap(),
        page_magic: directory.format().page_magic,
        closed: true,
        restore: None,
    };
    let choice = TimelineChoice::Newest {
        of: loaded.timeline,
        at: loaded.redo,
    };
    let source = Arc::new(FileSource::open(options, choice).unwrap());
    let mut applier = Applier {
        relations: catalog.registry().clone(),
        script: String::new(),
        unsupported: Vec::new(),
        last: Position::default(),
    };
    let history = Arc::clone(&source);
    let selection = Selection {
        databases: vec!["d".to_owned()],
        start: Lsn::INVALID,
    };
    let gate = Gate::new(
        catalog,
        loaded.readiness(),
        directory.format(),
        selection,
        Arc::new(move |lsn| history.timeline_at(lsn)),
        loaded.segment_bytes,
        loaded.redo,
    );
    let store = FileSpill::new(spill.to_owned(), u64::MAX).unwrap();
    let options = PipelineOptions {
        restart_points: RestartRequest::default(),
        room_wait: pipeline::ROOM_WAIT,
        arenas: Arenas::new(),
        decoders: 2,
        partitions: 0,
        chunk_bytes: 64 * 1024,
        end,
    };
    let (result, _) = pipeline::run(
        &*source,
        gate,
        Assembler::new(1 << 26, Box::new(store)),
        &options,
        &mut applier,
        &Counters::default(),
        &StopToken::default(),
    );
    result.unwrap();
    applier
}

/// What the source does: everything that events describe in depth, one statement a transaction
/// unless it says otherwise.
fn source_statements() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/replica.sql");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("--"));
    lines.map(str::to_owned).collect()
}

/// Every table's rows, as text.
const ROWS: &str = "select coalesce(string_agg(t || ': ' || coalesce(rows, ''), E'\\n' order by t), '') from (
    select c.oid::regclass::text as t, (xpath('/row/x/text()', query_to_xml('select string_agg(r, '','' order by r) as x
    from (select row_to_json(whole_row)::text as r from only ' || c.oid::regclass || ' whole_row) as x', false, true, '')))[1]::text as rows
    from pg_class c where c.oid >= 16384 and c.relkind = 'r') as all_rows;";

fn run(major: u32) {
    let Some(server) = Server::for_test(major) else {
        return;
    };
    let options = ClusterOptions::default().with("autovacuum", "off");
    let mut cluster = Cluster::create(server, &options).unwrap();
    cluster.start().unwrap();
    cluster.sql("postgres", "create database d").unwrap();
    cluster.sql("postgres", "create database target").unwrap();
    cluster.stop(Stop::Fast).unwrap();
    let copy = cluster.root().join("copy");
    copy_tree(cluster.data(), &copy, &|_| true).unwrap();
    cluster.start().unwrap();
    for statement in source_statements() {
        cluster.sql("d", &statement).unwrap();
    }
    let end: Lsn = cluster.flushed_lsn().unwrap().parse().unwrap();
    let spill = cluster.root().join("spill");
    let applier = script(&copy, &cluster.data().join("pg_wal"), &spill, end);
    assert_eq!(
        applier.unsupported,
        Vec::<String>::new(),
        "PostgreSQL {major}"
    );
    let applied = cluster.sql(
        "target",
        &format!(
            "set session_replication_role = replica;\n{}",
            applier.script
        ),
    );
    if let Err(error) = applied {
        panic!("PostgreSQL {major}: {error:#}\n{}", applier.script);
    }
    for (what, question) in [("structures", STRUCTURES), ("rows", ROWS)] {
        let question = format!("set search_path = ''; {}", question);
        let [source, target] =
            ["d", "target"].map(|database| cluster.sql(database, &question).unwrap());
        let (source, target): (Vec<&str>, Vec<&str>) =
            (source.lines().collect(), target.lines().collect());
        for (one, other) in source.iter().zip(&target) {
            assert_eq!(one, other, "PostgreSQL {major}, {what}\n{}", applier.script);
        }
        assert_eq!(
            source.len(),
            target.len(),
            "PostgreSQL {major}, {what}\n{}",
            applier.script
        );
        println!(
            "PostgreSQL {major}: {} lines of {what} the same",
            source.len()
        );
        assert!(source.len() > 10, "too little to compare");
    }
}

#[test]
fn a_copy_kept_in_step_by_events() {
    for major in MAJORS {
        run(major);
    }
}
