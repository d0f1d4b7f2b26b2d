//! One JSON object a line: `position` and `kind` first, then what the kind has. Values are what
//! `to_json()` gives for them, only `numeric` is always a string. UTF-8, whatever the database's
//! encoding.
//!
//! A transaction's begin line is printed before its first other line, so a transaction in which
//! nothing remains prints nothing.

use std::sync::Arc;

use super::object::{Object, push_object};
use super::relations::Compiled;
use super::structure::ddl_members;
use super::{
    ColumnError, Content, Message, Relations, RenderError, SessionSettings, column_content,
};
use crate::cursor::{Cursor, ShortInput};
use crate::ddl::DdlEvent;
use crate::event::{Columns, Event, EventKind, TransactionHeader, flags};
use crate::ids::{DatabaseOid, Lsn};
use crate::position::Position;
use crate::schema::{Column, Database, Name, Relation};
use crate::value::datetime::push_utc;
use crate::value::json::push_json_name;
use crate::value::{Known, TextContext, TypeRenderer, ValueError};

/// PostgreSQL's number for UTF8, which our own texts are in.
const UTF8: i32 = 6;
/// Prefix of the messages that `ddl-capture` writes; they show up in DDL events instead.
const DDL_PREFIX: &[u8] = b"redostream.ddl";

/// Appends the line that shows a relation as events name it; it has no position.
pub fn push_relation_line(out: &mut Vec<u8>, relation: &Relation) {
    let encoding = relation.database.encoding;
    push_object(out, encoding, |object| {
        object.string("kind", "relation");
        object.text("database", relation.database.name.as_bytes());
        object.text("schema", relation.schema.as_bytes());
        object.text("table", relation.name.as_bytes());
        object.number("oid", relation.oid.0.into());
        object.string(
            "replica_identity",
            replica_identity(relation.replica_identity),
        );
        object.list("columns", &relation.columns, |column, encoding, out| {
            push_object(out, encoding, |object| {
                object.text("name", column.name.as_bytes());
                object.text("type", column.data_type.formatted.as_bytes());
                object.bool("nullable", !column.not_null);
                object.bool("key", column.key);
            });
        });
    });
    out.push(b'\n');
}

// pg: catalog/pg_class.h REPLICA_IDENTITY_DEFAULT and others [14-18]
const fn replica_identity(letter: u8) -> &'static str {
    match letter {
        b'n' => "nothing",
        b'f' => "full",
        b'i' => "index",
        _ => "default",
    }
}

/// Appends the line of a notice: something that a reader should know and that is no event.
pub fn push_notice_line(out: &mut Vec<u8>, code: &str, lsn: Lsn, detail: &str) {
    push_object(out, UTF8, |object| {
        object.string("kind", "notice");
        object.string("code", code);
        object.string("lsn", &lsn.to_string());
        object.string("detail", detail);
    });
    out.push(b'\n');
}

/// What the lines depend on besides the events.
#[derive(Clone, Debug, Default)]
pub struct JsonOptions {
    /// What values depend on.
    pub settings: SessionSettings,
    /// The cluster's system identifier, given on begin lines.
    pub system_identifier: Option<u64>,
}

/// The renderer.
#[derive(Debug)]
pub struct Json {
    options: JsonOptions,
    transaction: Option<Transaction>,
    relations: Compiled<RelationLines>,
    scratch: Scratch,
}

#[derive(Debug)]
struct Transaction {
    header: TransactionHeader,
    database: Option<Arc<Database>>,
    /// Whether the begin line has been printed, here or before the place where this stream resumed.
    begun: bool,
}

/// Buffers that keep their memory from row to row.
#[derive(Debug, Default)]
struct Scratch {
    /// A decompressed value.
    raw: Vec<u8>,
    /// The text of a value before it is made a string.
    text: Vec<u8>,
    /// Numbers of columns.
    unchanged: Vec<usize>,
    undecoded: Vec<usize>,
}

impl Json {
    /// A renderer at the start of a stream.
    #[must_use]
    pub fn new(options: JsonOptions) -> Self {
        Self {
            options,
            transaction: None,
            relations: Compiled::default(),
            scratch: Scratch::default(),
        }
    }

    /// Goes on inside a transaction whose begin event is not in this stream, or announces a unit
    /// without a commit, whose place in the log only its header says.
    pub fn set_transaction(&mut self, header: &TransactionHeader) {
        self.transaction = Some(Transaction {
            header: header.clone(),
            database: None,
            begun: true,
        });
    }

    /// Forgets relations and transaction: another stream begins, which numbers its relations anew.
    pub fn reset(&mut self) {
        self.transaction = None;
        self.relations.clear();
    }

    /// Appends the lines of one event, each with its line feed; nothing of it on an error.
    pub fn event(
        &mut self,
        event: &Event<'_>,
        relations: &dyn Relations,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        let start = out.len();
        let result = self.append(event, relations, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn append(
        &mut self,
        event: &Event<'_>,
        relations: &dyn Relations,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        let lsn = event.header.record_lsn;
        match event.header.kind {
            EventKind::Begin => {
                let header = super::transaction_header(event)?;
                self.transaction = Some(Transaction {
                    database: relations.database(header.database),
                    header,
                    begun: false,
                });
                return Ok(());
            }
            EventKind::Commit => return self.push_commit(lsn, relations, out),
            EventKind::Message if Message::read(event)?.prefix == DDL_PREFIX => return Ok(()),
            EventKind::ToastChunk
            | EventKind::SpeculativeInsert
            | EventKind::SpeculativeConfirm
            | EventKind::SpeculativeAbort
            | EventKind::Skipped => {
                let what = "an event of unfinished assembly";
                return Err(RenderError::Internal { what, lsn });
            }
            _ => {}
        }
        self.push_begin(lsn, relations, out)?;
        match event.header.kind {
            EventKind::Truncate => self.push_truncate(event, relations, out)?,
            EventKind::Message => self.push_message(event, out)?,
            EventKind::Sequence => self.push_sequence(event, relations, out)?,
            EventKind::Ddl => self.push_ddl(event, out)?,
            _ => self.push_row(event, relations, out)?,
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.begun = true;
        }
        Ok(())
    }

    fn transaction(&self, lsn: Lsn) -> Result<&Transaction, RenderError> {
        self.transaction
            .as_ref()
            .ok_or(RenderError::NoTransaction { lsn })
    }

    fn push_begin(
        &mut self,
        lsn: Lsn,
        relations: &dyn Relations,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        let Some(transaction) = &mut self.transaction else {
            return Err(RenderError::NoTransaction { lsn });
        };
        transaction.find_database(relations);
        if transaction.begun {
            return Ok(());
        }
        let header = &transaction.header;
        let position = Position::begin(header.timeline, header.commit_lsn);
        let mut object = transaction.open("begin", position, out);
        transaction.push_database(&mut object);
        transaction.push_time_and_origin(&mut object)?;
        if let Some(identifier) = self.options.system_identifier {
            object.number("system_identifier", identifier);
        }
        object.close();
        out.push(b'\n');
        Ok(())
    }

    fn push_commit(
        &mut self,
        lsn: Lsn,
        relations: &dyn Relations,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        let Some(transaction) = &mut self.transaction else {
            return Err(RenderError::NoTransaction { lsn });
        };
        if transaction.begun {
            transaction.find_database(relations);
            let header = &transaction.header;
            let position = Position::commit(header.timeline, header.commit_lsn);
            let mut object = transaction.open("commit", position, out);
            transaction.push_database(&mut object);
            transaction.push_time_and_origin(&mut object)?;
            object.close();
            out.push(b'\n');
        }
        self.transaction = None;
        Ok(())
    }

    fn push_row(
        &mut self,
        event: &Event<'_>,
        relations: &dyn Relations,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        let header = &event.header;
        let lsn = header.record_lsn;
        let settings = &self.options.settings;
        let kind = match header.kind {
            EventKind::Insert => "insert",
            EventKind::Update => "update",
            _ => "delete",
        };
        let transaction = self.transaction.as_ref();
        let transaction = transaction.ok_or(RenderError::NoTransaction { lsn })?;
        let relation = self
            .relations
            .get(header.relation, lsn, relations, |relation| {
                RelationLines::new(relation, settings)
            })?;
        super::check_count(event, relation.columns.len(), &relation.qualified)?;
        let mut object = transaction.open(kind, transaction.position(event), out);
        object.raw(&relation.members);
        self.scratch.unchanged.clear();
        self.scratch.undecoded.clear();
        let mut tuples = Tuples {
            relation,
            columns: event.columns(),
            lsn,
            scratch: &mut self.scratch,
        };
        if event.has_old() {
            let full = header.flags & flags::OLD_FULL != 0;
            let part = if full { Part::OldFull } else { Part::OldKey };
            tuples.push(part, object.key("old"))?;
            object.string("old_kind", if full { "full" } else { "key" });
        }
        if header.kind != EventKind::Delete {
            tuples.push(Part::New, object.key("new"))?;
        }
        tuples.finish(&mut object)?;
        object.close();
        out.push(b'\n');
        Ok(())
    }

    fn push_truncate(
        &mut self,
        event: &Event<'_>,
        relations: &dyn Relations,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        let lsn = event.header.record_lsn;
        let versions = super::truncated(event)?;
        let transaction = self.transaction(lsn)?;
        let mut object = transaction.open("truncate", transaction.position(event), out);
        transaction.push_database(&mut object);
        let list = object.key("tables");
        list.push(b'[');
        for (number, version) in versions.into_iter().enumerate() {
            if number > 0 {
                list.push(b',');
            }
            let Some(relation) = relations.relation(version) else {
                let version = version.0;
                return Err(RenderError::UnknownRelation { version, lsn });
            };
            let mut table = Object::open(list, relation.database.encoding);
            table.text("schema", relation.schema.as_bytes());
            table.text("table", relation.name.as_bytes());
            table.close();
        }
        list.push(b']');
        let has = |flag| event.header.flags & flag != 0;
        object.bool("cascade", has(flags::CASCADE));
        object.bool("restart_identity", has(flags::RESTART_IDENTITY));
        object.close();
        out.push(b'\n');
        Ok(())
    }

    fn push_message(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), RenderError> {
        let message = Message::read(event)?;
        let transaction = self.transaction(event.header.record_lsn)?;
        let mut object = transaction.open("message", transaction.position(event), out);
        transaction.push_database(&mut object);
        object.text("prefix", message.prefix);
        object.text("content", message.content);
        object.bool("transactional", message.transactional);
        object.close();
        out.push(b'\n');
        Ok(())
    }

    fn push_sequence(
        &mut self,
        event: &Event<'_>,
        relations: &dyn Relations,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        let header = &event.header;
        let lsn = header.record_lsn;
        let read = || -> Result<(i64, bool), ShortInput> {
            let mut cursor = Cursor::new(event.payload);
            let last_value = cursor.i64("sequence value")?;
            let is_called = cursor.u8("sequence is_called")? != 0;
            cursor.finish("sequence")?;
            Ok((last_value, is_called))
        };
        let (last_value, is_called) = read().map_err(|source| RenderError::Event {
            lsn,
            source: source.into(),
        })?;
        let settings = &self.options.settings;
        let transaction = self.transaction.as_ref();
        let transaction = transaction.ok_or(RenderError::NoTransaction { lsn })?;
        let relation = self
            .relations
            .get(header.relation, lsn, relations, |relation| {
                RelationLines::new(relation, settings)
            })?;
        let mut object = transaction.open("sequence", transaction.position(event), out);
        object.raw(&relation.members);
        object.signed("last_value", last_value);
        object.bool("is_called", is_called);
        object.bool("transactional", header.flags & flags::TRANSACTIONAL != 0);
        object.close();
        out.push(b'\n');
        Ok(())
    }

    fn push_ddl(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), RenderError> {
        let lsn = event.header.record_lsn;
        let ddl: DdlEvent =
            postcard::from_bytes(event.payload).map_err(|error| RenderError::Payload {
                kind: EventKind::Ddl,
                lsn,
                problem: error.to_string(),
            })?;
        let transaction = self.transaction(lsn)?;
        let mut object = transaction.open("ddl", transaction.position(event), out);
        transaction.push_database(&mut object);
        ddl_members(&mut object, &ddl);
        object.close();
        out.push(b'\n');
        Ok(())
    }
}

impl Transaction {
    /// Looks the database up, if that has not succeeded yet.
    fn find_database(&mut self, relations: &dyn Relations) {
        if self.database.is_none() && self.header.database != DatabaseOid::INVALID {
            self.database = relations.database(self.header.database);
        }
    }

    fn encoding(&self) -> i32 {
        self.database
            .as_ref()
            .map_or(UTF8, |database| database.encoding)
    }

    fn position(&self, event: &Event<'_>) -> Position {
        Position {
            timeline: self.header.timeline,
            commit_lsn: self.header.commit_lsn,
            record_lsn: event.header.record_lsn,
            row: event.header.row,
        }
    }

    /// Opens a line.
    fn open<'a>(&self, kind: &str, position: Position, out: &'a mut Vec<u8>) -> Object<'a> {
        let mut object = Object::open(out, self.encoding());
        let text = object.key("position");
        text.push(b'"');
        super::push_position(text, position);
        text.push(b'"');
        object.string("kind", kind);
        if self.header.xid.is_valid() {
            object.number("xid", self.header.xid.0.into());
        }
        object
    }

    fn push_database(&self, object: &mut Object<'_>) {
        if let Some(database) = &self.database {
            object.text("database", database.name.as_bytes());
        }
    }

    fn push_time_and_origin(&self, object: &mut Object<'_>) -> Result<(), RenderError> {
        let header = &self.header;
        let bad_time = |error: ValueError| RenderError::Payload {
            kind: EventKind::Begin,
            lsn: header.commit_lsn,
            problem: error.to_string(),
        };
        push_time(object, header.commit_time_us).map_err(bad_time)?;
        if let Some(gid) = &header.gid {
            object.text("gid", gid);
        }
        let Some(origin) = &header.origin else {
            return Ok(());
        };
        let mut result = Ok(());
        object.object("origin", |object| {
            object.number("id", origin.id.into());
            object.text_or_null("name", origin.name.as_ref());
            object.string("lsn", &origin.lsn.to_string());
            result = push_time(object, origin.commit_time_us).map_err(bad_time);
        });
        result
    }
}

fn push_time(object: &mut Object<'_>, time_us: i64) -> Result<(), ValueError> {
    let text = object.key("commit_time");
    text.push(b'"');
    push_utc(text, time_us)?;
    text.push(b'"');
    Ok(())
}

/// A relation's part of its lines.
#[derive(Debug)]
struct RelationLines {
    /// `,"database":..,"schema":..,"table":..`
    members: Vec<u8>,
    columns: Vec<ColumnJson>,
    context: TextContext,
    value_bytes_max: u64,
    /// `schema.table`, for errors.
    qualified: String,
}

#[derive(Debug)]
struct ColumnJson {
    /// `"name"`
    key_text: Vec<u8>,
    renderer: TypeRenderer,
    /// Whether it belongs to the replica identity's key.
    key: bool,
    name: Name,
}

impl RelationLines {
    fn new(relation: &Relation, settings: &SessionSettings) -> Self {
        let encoding = relation.database.encoding;
        let mut members = Vec::new();
        let mut object = Object::resume(&mut members, encoding);
        object.text("database", relation.database.name.as_bytes());
        object.text("schema", relation.schema.as_bytes());
        object.text("table", relation.name.as_bytes());
        let columns = relation
            .columns
            .iter()
            .map(|column| ColumnJson::new(column, encoding))
            .collect();
        RelationLines {
            members,
            columns,
            context: settings.context(&relation.database),
            value_bytes_max: settings.value_bytes_max,
            qualified: super::qualified(relation),
        }
    }
}

impl ColumnJson {
    fn new(column: &Column, encoding: i32) -> Self {
        let mut key_text = Vec::new();
        push_json_name(&mut key_text, encoding, column.name.as_bytes());
        ColumnJson {
            key_text,
            renderer: TypeRenderer::new(&column.data_type),
            key: column.key,
            name: column.name.clone(),
        }
    }
}

/// Which tuple of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    OldKey,
    OldFull,
    New,
}

/// The tuples of one row event, printed one after the other.
struct Tuples<'a> {
    relation: &'a RelationLines,
    columns: Columns<'a>,
    lsn: Lsn,
    scratch: &'a mut Scratch,
}

impl Tuples<'_> {
    fn push(&mut self, part: Part, out: &mut Vec<u8>) -> Result<(), RenderError> {
        let lsn = self.lsn;
        let relation = self.relation;
        let mut separator = b'{';
        for (number, column) in relation.columns.iter().enumerate() {
            let fail = |error: ColumnError| error.at(lsn, &relation.qualified, &column.name);
            let value = self.columns.read();
            let value = value.map_err(|source| RenderError::Event { lsn, source })?;
            let content = column_content(value, relation.value_bytes_max, &mut self.scratch.raw)
                .map_err(fail)?;
            match content {
                // With a key identity every other column is null in the log.
                Content::Null if part == Part::OldKey && !column.key => continue,
                Content::Unchanged => {
                    self.scratch.unchanged.push(number);
                    continue;
                }
                _ => {}
            }
            out.push(separator);
            separator = b',';
            out.extend_from_slice(&column.key_text);
            out.push(b':');
            let known = column
                .push(content, &relation.context, &mut self.scratch.text, out)
                .map_err(|error| fail(ColumnError::Value(error)))?;
            if known == Known::No && !self.scratch.undecoded.contains(&number) {
                self.scratch.undecoded.push(number);
            }
        }
        if separator == b'{' {
            out.push(b'{');
        }
        out.push(b'}');
        Ok(())
    }

    /// Says what the tuples could not give.
    fn finish(self, object: &mut Object<'_>) -> Result<(), RenderError> {
        let lsn = self.lsn;
        let columns = &self.relation.columns;
        for (key, numbers) in [
            ("unchanged", &self.scratch.unchanged),
            ("undecoded", &self.scratch.undecoded),
        ] {
            if !numbers.is_empty() {
                let listed = numbers.iter().filter_map(|number| columns.get(*number));
                object.list(key, listed, |column, _, out| {
                    out.extend_from_slice(&column.key_text);
                });
            }
        }
        self.columns
            .finish()
            .map_err(|source| RenderError::Event { lsn, source })
    }
}

impl ColumnJson {
    fn push(
        &self,
        content: Content<'_>,
        context: &TextContext,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Known, ValueError> {
        match content {
            Content::Bytes(bytes) => return self.renderer.json(bytes, context, scratch, out),
            Content::Text(text) => self.renderer.json_of_text(text, context, out),
            Content::Null | Content::Unchanged => out.extend_from_slice(b"null"),
        }
        Ok(Known::Yes)
    }
}

#[cfg(test)]
mod tests;
