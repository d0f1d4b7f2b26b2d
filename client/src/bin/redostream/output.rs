//! Events into lines, lines to standard output.
//!
//! Takes what a subscription delivers. Keeps the lines until they are flushed, and what the
//! renderers need to know of relations. Never speaks to the server.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use redostream_client::protocol::cursor::Cursor;
use redostream_client::protocol::event::{Event, EventKind, TransactionHeader, flags};
use redostream_client::protocol::ids::DatabaseOid;
use redostream_client::protocol::render::{
    Json, JsonOptions, Relations, SessionSettings, TestDecoding, TestDecodingOptions,
    push_notice_line, push_relation_line, write_around,
};
use redostream_client::protocol::schema::{Database, Relation, RelationVersion};
use redostream_client::protocol::wire::{DataHead, Notice};
use redostream_client::protocol::{Oid, TimelineId, Xid};
use redostream_client::{ClientError, Delivery};

use crate::cli::Format;
use crate::failure::Failure;
use crate::pretty::Pretty;

/// Lines are passed on when there are so many bytes of them.
const WRITE_BYTES: usize = 256 * 1024;
/// The renderer's server version before any relation has told it.
const MAJOR_UNKNOWN: u16 = 18;

/// What is known of relations and databases.
#[derive(Default)]
struct Known {
    relations: Vec<Option<Arc<Relation>>>,
    databases: HashMap<DatabaseOid, Arc<Database>>,
}

impl Known {
    fn add(&mut self, relation: &Arc<Relation>) {
        let slot = relation.version.0 as usize;
        // The library has checked that numbers stay small.
        if self.relations.len() <= slot {
            self.relations.resize(slot + 1, None);
        }
        self.relations[slot] = Some(Arc::clone(relation));
        let database = &relation.database;
        self.databases.insert(database.oid, Arc::clone(database));
    }
}

impl Relations for Known {
    fn relation(&self, version: RelationVersion) -> Option<Arc<Relation>> {
        self.relations.get(version.0 as usize)?.clone()
    }

    fn database(&self, oid: DatabaseOid) -> Option<Arc<Database>> {
        self.databases.get(&oid).cloned()
    }
}

enum Renderer {
    Json(Json),
    /// Made once the server's version is known.
    TestDecoding(Option<TestDecoding>),
    Pretty(Json, Pretty),
}

/// What happens to deliveries.
pub(crate) struct Output<W> {
    renderer: Option<Renderer>,
    relation_lines: bool,
    /// Relations whose lines stand before their first row, when that comes.
    untold: HashMap<RelationVersion, Arc<Relation>>,
    settings: SessionSettings,
    known: Known,
    lines: Vec<u8>,
    /// The begin event of the open transaction while nothing of it has been printed.
    unprinted_begin: Option<Bytes>,
    inside: bool,
    first_block: bool,
    warned: HashSet<String>,
    target: W,
    dirty: bool,
}

impl<W: Write> Output<W> {
    pub(crate) fn new(
        format: Format,
        relation_lines: bool,
        settings: SessionSettings,
        system_identifier: Option<u64>,
        colours: bool,
        target: W,
    ) -> Self {
        let json = || {
            let settings = settings.clone();
            Json::new(JsonOptions {
                settings,
                system_identifier,
            })
        };
        let renderer = match format {
            Format::None => None,
            Format::Json => Some(Renderer::Json(json())),
            Format::TestDecoding => Some(Renderer::TestDecoding(None)),
            Format::Pretty => Some(Renderer::Pretty(json(), Pretty::new(colours))),
        };
        Output {
            renderer,
            relation_lines,
            untold: HashMap::new(),
            settings,
            known: Known::default(),
            lines: Vec::new(),
            unprinted_begin: None,
            inside: false,
            first_block: true,
            warned: HashSet::new(),
            target,
            dirty: false,
        }
    }

    /// Another session begins: it numbers its relations anew and may begin inside a transaction.
    pub(crate) fn new_session(&mut self) {
        self.first_block = true;
        self.inside = false;
        self.known.relations.clear();
        self.untold.clear();
        match &mut self.renderer {
            None | Some(Renderer::TestDecoding(None)) => {}
            Some(Renderer::Json(json) | Renderer::Pretty(json, _)) => json.reset(),
            Some(Renderer::TestDecoding(Some(renderer))) => renderer.reset(),
        }
    }

    /// Takes what was delivered.
    pub(crate) fn take(&mut self, delivery: &Delivery) -> Result<(), Failure> {
        match delivery {
            Delivery::Block { head, events, .. } if self.renderer.is_some() => {
                self.block(head, events)?;
            }
            Delivery::Relation(relation) => self.relation(relation),
            Delivery::Database(database) => {
                let database = Arc::clone(database);
                self.known.databases.insert(database.oid, database);
            }
            Delivery::Notice(notice) => self.notice(notice),
            Delivery::Block { .. } | Delivery::Heartbeat(_) | Delivery::End(_) => {}
        }
        if self.lines.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn relation(&mut self, relation: &Arc<Relation>) {
        if self.renderer.is_none() {
            return;
        }
        self.known.add(relation);
        if self.relation_lines && matches!(self.renderer, Some(Renderer::Json(_))) {
            self.untold.insert(relation.version, Arc::clone(relation));
        }
    }

    fn notice(&mut self, notice: &Notice) {
        if matches!(self.renderer, Some(Renderer::Json(_))) {
            push_notice_line(&mut self.lines, &notice.code, notice.lsn, &notice.detail);
        } else {
            eprintln!("redostream: notice at {}: {}", notice.lsn, notice.detail);
        }
    }

    fn block(&mut self, head: &DataHead, events: &Bytes) -> Result<(), Failure> {
        if events.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.first_block)
            && let Some(header) = &head.continues
        {
            self.resume(header)?;
        }
        let mut cursor = Cursor::new(events);
        while cursor.remaining() > 0 {
            let start = cursor.offset();
            let event = Event::read(&mut cursor).map_err(ClientError::from)?;
            if event.header.kind == EventKind::Begin {
                self.unprinted_begin = Some(events.slice(start..cursor.offset()));
            }
            self.event(&event, head.first.timeline)?;
        }
        self.warn();
        Ok(())
    }

    /// Goes on inside a transaction whose begin came in an earlier session.
    fn resume(&mut self, header: &TransactionHeader) -> Result<(), Failure> {
        self.inside = true;
        if let Some(begin) = self.unprinted_begin.clone() {
            let event = Event::read(&mut Cursor::new(&begin)).map_err(ClientError::from)?;
            if begins(&event, header) {
                return self.event(&event, header.timeline);
            }
        }
        self.announce(header);
        Ok(())
    }

    fn announce(&mut self, header: &TransactionHeader) {
        match self.renderer_ready() {
            Some(Renderer::Json(json) | Renderer::Pretty(json, _)) => json.set_transaction(header),
            Some(Renderer::TestDecoding(Some(renderer))) => renderer.set_transaction(header),
            Some(Renderer::TestDecoding(None)) | None => {}
        }
    }

    /// The renderer, made now if it has not been.
    fn renderer_ready(&mut self) -> Option<&mut Renderer> {
        if let Some(Renderer::TestDecoding(renderer @ None)) = &mut self.renderer {
            let major = self
                .known
                .databases
                .values()
                .map(|database| database.major)
                .max();
            let options = TestDecodingOptions {
                major: major.unwrap_or(MAJOR_UNKNOWN),
                settings: self.settings.clone(),
                encoding: None,
            };
            *renderer = Some(TestDecoding::new(options));
        }
        self.renderer.as_mut()
    }

    fn event(&mut self, event: &Event<'_>, timeline: TimelineId) -> Result<(), Failure> {
        let header = &event.header;
        match header.kind {
            EventKind::Begin => self.inside = true,
            EventKind::Message | EventKind::Sequence
                if !self.inside && header.flags & flags::TRANSACTIONAL == 0 =>
            {
                self.announce(&unit_header(event, timeline));
            }
            _ => {}
        }
        if !self.untold.is_empty() {
            for version in named(event) {
                if let Some(relation) = self.untold.remove(&version) {
                    push_relation_line(&mut self.lines, &relation);
                }
            }
        }
        let before = self.lines.len();
        self.renderer_ready();
        let (known, lines) = (&self.known, &mut self.lines);
        let mut large = Vec::new();
        match &mut self.renderer {
            Some(Renderer::Json(json)) => large = json.event_around(event, known, lines)?,
            Some(Renderer::Pretty(json, pretty)) => {
                let mut text = Vec::new();
                json.event(event, known, &mut text)?;
                pretty.lines(&text, lines);
            }
            Some(Renderer::TestDecoding(Some(renderer))) => {
                large = renderer.event_around(event, known, lines)?;
            }
            Some(Renderer::TestDecoding(None)) | None => {}
        }
        if header.kind == EventKind::Commit {
            self.inside = false;
            self.unprinted_begin = None;
        } else if self.lines.len() > before {
            self.unprinted_begin = None;
        }
        if !large.is_empty() {
            self.dirty = true;
            let write = |text: &[u8]| self.target.write_all(text).map_err(Failure::Output);
            write_around(&self.lines, large, event.payload, write)?;
            self.lines.clear();
        }
        Ok(())
    }

    /// Says once of each type that its values are given as bytes.
    fn warn(&mut self) {
        let Some(Renderer::TestDecoding(Some(renderer))) = &mut self.renderer else {
            return;
        };
        for undecoded in renderer.take_undecoded() {
            let data_type = undecoded.data_type.to_string();
            if !self.warned.contains(&data_type) {
                eprintln!(
                    "redostream: values of type {data_type} (column {}) are given as \\x bytes: \
                     its output function is not known",
                    undecoded.column
                );
                self.warned.insert(data_type);
            }
        }
    }

    fn write(&mut self) -> Result<(), Failure> {
        if self.lines.is_empty() {
            return Ok(());
        }
        self.dirty = true;
        let result = self.target.write_all(&self.lines).map_err(Failure::Output);
        self.lines.clear();
        result
    }

    /// Passes everything on.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.write()?;
        if std::mem::take(&mut self.dirty) {
            self.target.flush().map_err(Failure::Output)?;
        }
        Ok(())
    }
}

/// The relation versions that an event names.
fn named(event: &Event<'_>) -> Vec<RelationVersion> {
    if event.header.kind != EventKind::Truncate {
        return vec![event.header.relation];
    }
    let mut versions = Cursor::new(event.payload);
    std::iter::from_fn(|| versions.u32("truncated relation").ok())
        .map(RelationVersion)
        .collect()
}

/// Whether `begin` is the begin event of `header`'s transaction.
fn begins(begin: &Event<'_>, header: &TransactionHeader) -> bool {
    begin.header.xid == header.xid
}

/// A unit without a commit stands at its own record.
fn unit_header(event: &Event<'_>, timeline: TimelineId) -> TransactionHeader {
    TransactionHeader {
        timeline,
        commit_lsn: event.header.record_lsn,
        end_lsn: event.header.record_lsn,
        xid: Xid::INVALID,
        database: event.database().unwrap_or(Oid::INVALID),
        commit_time_us: 0,
        origin: None,
        gid: None,
    }
}
