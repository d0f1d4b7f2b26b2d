//! One JSON object a line: `position` and `kind` first, then what the kind has. Values are what
//! `to_json()` gives for them, only `numeric` is always a string. UTF-8, whatever the database's
//! encoding.
//!
//! A transaction's begin line is printed before its first other line, so a transaction in which
//! nothing remains prints nothing. What a line says of its transaction stands in [`transaction`],
//! rows in [`rows`], lines that are no events in [`notes`].

mod notes;
mod rows;
mod transaction;

use super::large::LargeValue;
use super::object::Object;
use super::relations::Compiled;
use super::structure::ddl_members;
use super::{Message, Relations, RenderError, SessionSettings};
use crate::cursor::{Cursor, ShortInput};
use crate::ddl::DdlEvent;
use crate::event::{Event, EventKind, TransactionHeader, flags};
use crate::ids::Lsn;
use crate::limits::LARGE_EVENT_BYTES;
use crate::position::Position;

pub use notes::{push_notice_line, push_relation_line};
use rows::{Part, RelationLines, Scratch, Tuples};
use transaction::Transaction;

/// PostgreSQL's number for UTF8, which our own texts are in.
const UTF8: i32 = 6;
/// Prefix of the messages that `ddl-capture` writes; they show up in DDL events instead.
const DDL_PREFIX: &[u8] = b"redostream.ddl";

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
    /// Where large values are left out, those of the event.
    large: Option<Vec<LargeValue>>,
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
            large: None,
        }
    }

    /// Goes on inside a transaction whose begin event is not in this stream, or announces a unit
    /// without a commit, whose place in the log only its header says.
    pub fn set_transaction(&mut self, header: &TransactionHeader) {
        self.transaction = Some(Transaction {
            begun: true,
            ..Transaction::new(header.clone(), None)
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

    /// As [`Self::event`], but the text of large values may be left out of the lines: those are to be
    /// written with [`super::write_around`].
    pub fn event_around(
        &mut self,
        event: &Event<'_>,
        relations: &dyn Relations,
        out: &mut Vec<u8>,
    ) -> Result<Vec<LargeValue>, RenderError> {
        if event.header.size >= LARGE_EVENT_BYTES {
            self.large = Some(Vec::new());
        }
        let result = self.event(event, relations, out);
        let large = self.large.take().unwrap_or_default();
        result.map(|()| large)
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
                let database = relations.database(header.database);
                self.transaction = Some(Transaction::new(header, database));
                return Ok(());
            }
            EventKind::Commit => return self.push_commit(lsn, relations, out),
            EventKind::Message if Message::read(event)?.prefix == DDL_PREFIX => return Ok(()),
            EventKind::ToastChunk
            | EventKind::SpeculativeInsert
            | EventKind::SpeculativeConfirm
            | EventKind::SpeculativeAbort
            | EventKind::Skipped
            | EventKind::Undecodable => {
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
        let mut tuples = Tuples::new(relation, event, &mut self.scratch, self.large.as_mut());
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

#[cfg(test)]
mod tests;
