//! Prints released events on standard output, in the format asked for.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;

use redostream_engine::catalog::RelationRegistry;
use redostream_engine::error::EngineError;
use redostream_engine::feed::block::Block;
use redostream_engine::pipeline::Sink;
use redostream_protocol::cursor::Cursor;
use redostream_protocol::ddl::{DdlEvent, ObjectShape};
use redostream_protocol::event::{Event, EventKind, TransactionHeader, flags};
use redostream_protocol::render::{
    Json, JsonOptions, Relations, RenderError, SessionSettings, TestDecoding, TestDecodingOptions,
    write_around,
};
use redostream_protocol::schema::{Database, Name, Relation, RelationVersion};
use redostream_protocol::value::ClientEncoding;
use redostream_protocol::{DatabaseOid, Oid, Position, Xid};
use rustc_hash::FxHashMap;

use crate::cli::Format;
use crate::session::TablePattern;

/// Bytes of output that are gathered before they are written.
const OUTPUT_BYTES: usize = 256 * 1024;

/// How events are rendered.
enum Renderer {
    TestDecoding(Box<TestDecoding>),
    Json(Box<Json>),
    None,
}

/// What events are looked up in: relations as decoding registers them, databases as their
/// relations name them.
struct Known {
    relations: RelationRegistry,
    /// Those that were there at the start, and those of relations seen since.
    databases: RefCell<FxHashMap<DatabaseOid, Arc<Database>>>,
}

impl Relations for Known {
    fn relation(&self, version: RelationVersion) -> Option<Arc<Relation>> {
        let relation = self.relations.relation(version)?;
        let database = &relation.database;
        let mut databases = self.databases.borrow_mut();
        let known = databases.entry(database.oid);
        known.or_insert_with(|| Arc::clone(database));
        Some(relation)
    }

    fn database(&self, oid: DatabaseOid) -> Option<Arc<Database>> {
        self.databases.borrow().get(&oid).cloned()
    }
}

/// What a printer is made of.
pub(crate) struct PrinterOptions {
    pub(crate) format: Format,
    pub(crate) major: u16,
    pub(crate) system_identifier: u64,
    pub(crate) settings: SessionSettings,
    /// Of the lines in test_decoding format; the database's own, if none.
    pub(crate) encoding: Option<Arc<ClientEncoding>>,
    pub(crate) relations: RelationRegistry,
    pub(crate) databases: Vec<Database>,
    /// Tables to print; all, if empty.
    pub(crate) tables: Vec<TablePattern>,
}

/// A sink that prints.
pub(crate) struct Printer<W: Write> {
    renderer: Renderer,
    known: Known,
    tables: Vec<TablePattern>,
    admitted: FxHashMap<RelationVersion, bool>,
    warned: HashSet<String>,
    buffer: Vec<u8>,
    out: W,
}

impl<W: Write> Printer<W> {
    pub(crate) fn new(options: PrinterOptions, out: W) -> Self {
        let settings = options.settings;
        let renderer = match options.format {
            Format::TestDecoding => {
                let major = options.major;
                let options = TestDecodingOptions {
                    major,
                    settings,
                    encoding: options.encoding,
                };
                Renderer::TestDecoding(Box::new(TestDecoding::new(options)))
            }
            Format::Json => {
                let system_identifier = Some(options.system_identifier);
                Renderer::Json(Box::new(Json::new(JsonOptions {
                    settings,
                    system_identifier,
                })))
            }
            Format::None => Renderer::None,
        };
        let databases = options
            .databases
            .into_iter()
            .map(|d| (d.oid, Arc::new(d)))
            .collect();
        Printer {
            renderer,
            known: Known {
                relations: options.relations,
                databases: RefCell::new(databases),
            },
            tables: options.tables,
            admitted: FxHashMap::default(),
            warned: HashSet::new(),
            buffer: Vec::new(),
            out,
        }
    }

    /// Whether the event's table is asked for.
    fn admits(&mut self, event: &Event<'_>) -> bool {
        let version = event.header.relation;
        if self.tables.is_empty() {
            return true;
        }
        if event.header.kind == EventKind::Ddl {
            return self.admits_ddl(event);
        }
        if version.0 == 0 {
            return true;
        }
        if let Some(known) = self.admitted.get(&version) {
            return *known;
        }
        let admits = self
            .known
            .relations
            .relation(version)
            .is_none_or(|relation| {
                let (schema, name) = (relation.schema.lossy(), relation.name.lossy());
                self.tables
                    .iter()
                    .any(|pattern| pattern.matches(&schema, &name))
            });
        self.admitted.insert(version, admits);
        admits
    }

    /// Whether a change of structure concerns a table that is asked for, under its old name or its
    /// new one. One that cannot be read is let through, for the renderer to say what is wrong.
    fn admits_ddl(&self, event: &Event<'_>) -> bool {
        let Ok(ddl) = postcard::from_bytes::<DdlEvent>(event.payload) else {
            return true;
        };
        let text = |name: Option<&Name>| name.map(|name| name.lossy().into_owned());
        let (schema, name) = (text(ddl.schema.as_ref()), text(Some(&ddl.name)));
        let mut names = vec![
            (
                text(ddl.old_schema.as_ref()).or(schema.clone()),
                text(ddl.old_name.as_ref()).or(name.clone()),
            ),
            (schema, name),
        ];
        for shape in [&ddl.before, &ddl.after] {
            if let Some(ObjectShape::Table(table)) = shape {
                names.push((text(Some(&table.schema)), text(Some(&table.name))));
            }
        }
        names.iter().any(|(schema, name)| {
            let (schema, name) = (
                schema.as_deref().unwrap_or(""),
                name.as_deref().unwrap_or(""),
            );
            self.tables
                .iter()
                .any(|pattern| pattern.matches(schema, name))
        })
    }

    fn print(&mut self, bytes: &[u8], block: &Block) -> Result<(), EngineError> {
        if matches!(self.renderer, Renderer::None) && !block.undecodable {
            return Ok(());
        }
        let mut cursor = Cursor::new(bytes);
        while cursor.remaining() > 0 {
            let event = Event::read(&mut cursor).map_err(output)?;
            if !self.admits(&event) {
                continue;
            }
            if event.header.kind == EventKind::Undecodable {
                return Err(self.undecodable(&event));
            }
            let mut large = Vec::new();
            match &mut self.renderer {
                Renderer::TestDecoding(renderer) => {
                    if is_standalone(&event) {
                        // Its database says what encoding its text has.
                        renderer.set_transaction(&standalone_header(&event, block));
                    }
                    large = renderer
                        .event_around(&event, &self.known, &mut self.buffer)
                        .map_err(not_rendered)?;
                    for undecoded in renderer.take_undecoded() {
                        let name = undecoded.data_type.to_string();
                        if self.warned.insert(name.clone()) {
                            tracing::warn!("values of type {name} are given as \\x bytes");
                        }
                    }
                }
                Renderer::Json(renderer) => {
                    if is_standalone(&event) {
                        renderer.set_transaction(&standalone_header(&event, block));
                    }
                    large = renderer
                        .event_around(&event, &self.known, &mut self.buffer)
                        .map_err(not_rendered)?;
                }
                Renderer::None => {}
            }
            if !large.is_empty() {
                let write = |text: &[u8]| self.out.write_all(text).map_err(output);
                write_around(&self.buffer, large, event.payload, write)?;
                self.buffer.clear();
            } else if self.buffer.len() >= OUTPUT_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    #[cold]
    fn undecodable(&self, event: &Event<'_>) -> EngineError {
        let relation = self.known.relations.relation(event.header.relation);
        let name =
            |relation: &Relation| format!("{}.{}", relation.schema.lossy(), relation.name.lossy());
        EngineError::Undecodable {
            lsn: event.header.record_lsn,
            table: relation.as_deref().map(name).unwrap_or_default(),
            reason: String::from_utf8_lossy(event.payload).into_owned(),
        }
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.out.write_all(&self.buffer).map_err(output)?;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is left.
    pub(crate) fn finish(&mut self) -> Result<(), EngineError> {
        self.flush()?;
        self.out.flush().map_err(output)
    }
}

/// A unit without a commit: a message or sequence change that stands alone.
fn is_standalone(event: &Event<'_>) -> bool {
    let unit = matches!(event.header.kind, EventKind::Message | EventKind::Sequence);
    unit && event.header.flags & flags::TRANSACTIONAL == 0
}

fn standalone_header(event: &Event<'_>, block: &Block) -> TransactionHeader {
    let database = event.database().unwrap_or(Oid::INVALID);
    let Position { timeline, .. } = block.first;
    TransactionHeader {
        timeline,
        commit_lsn: event.header.record_lsn,
        end_lsn: event.header.record_lsn,
        xid: Xid::INVALID,
        database,
        commit_time_us: 0,
        origin: None,
        gid: None,
    }
}

/// A value without a text concerns its table, as a row that cannot be decoded does.
fn not_rendered(error: RenderError) -> EngineError {
    match error {
        RenderError::Value {
            table,
            column,
            lsn,
            source,
        } => EngineError::Undecodable {
            lsn,
            table,
            reason: format!("column {column}: {source}"),
        },
        error => output(error),
    }
}

fn output(error: impl ToString) -> EngineError {
    EngineError::Output(error.to_string())
}

impl<W: Write + Send> Sink for Printer<W> {
    fn block(&mut self, block: Block) -> Result<(), EngineError> {
        // An event that spans pieces is alone in its block.
        if block.events == 1 && block.pieces.len() > 1 {
            let whole = block.pieces.concat();
            return self.print(&whole, &block);
        }
        for piece in &block.pieces {
            self.print(piece, &block)?;
        }
        Ok(())
    }
}
