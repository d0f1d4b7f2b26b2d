//! The lines of PostgreSQL's own output plugin `test_decoding` with `skip-empty-xacts=1,
//! include-timestamp=0`, byte for byte, in the database's encoding.
//!
//! BEGIN is printed before the first change of a transaction, so a transaction without changes
//! prints nothing. A sequence's or a structure's change prints nothing either: the plugin knows
//! neither.

mod column;

use std::borrow::Cow;
use std::sync::Arc;

use column::{ColumnText, Literal};

use super::identifier::push_identifier;
use super::large::{Form, LargeValue, Stored};
use super::relations::Compiled;
use super::{ColumnError, Relations, RenderError, SessionSettings, UndecodedType, column_content};
use crate::event::{ColumnValue, Columns, Event, EventKind, TransactionHeader, flags};
use crate::ids::{DatabaseOid, Lsn, Xid};
use crate::limits::{LARGE_EVENT_BYTES, LARGE_VALUE_BYTES};
use crate::schema::Relation;
use crate::value::digits::push_u64;
use crate::value::{ClientEncoding, Known, TextContext};

/// What the lines depend on besides the events.
#[derive(Clone, Debug)]
pub struct TestDecodingOptions {
    /// Major version of the server, 14 to 18: from 17 on a transactional message opens its
    /// transaction.
    pub major: u16,
    /// What values depend on.
    pub settings: SessionSettings,
    /// The encoding that lines are given in; each database's own, if none.
    pub encoding: Option<Arc<ClientEncoding>>,
}

/// The renderer.
#[derive(Debug)]
pub struct TestDecoding {
    options: TestDecodingOptions,
    transaction: Option<Transaction>,
    /// Where the transaction, or the unit without a commit, belongs.
    database: DatabaseOid,
    relations: Compiled<RelationLines>,
    undecoded: Vec<UndecodedType>,
    scratch: Vec<u8>,
    /// Where large values are left out, those of the event.
    large: Option<Vec<LargeValue>>,
}

#[derive(Clone, Copy, Debug)]
struct Transaction {
    xid: Xid,
    /// Whether BEGIN has been printed, here or before the place where this stream resumed.
    begun: bool,
}

impl TestDecoding {
    /// A renderer at the start of a stream.
    #[must_use]
    pub fn new(options: TestDecodingOptions) -> Self {
        Self {
            options,
            transaction: None,
            database: DatabaseOid::INVALID,
            relations: Compiled::default(),
            undecoded: Vec::new(),
            scratch: Vec::new(),
            large: None,
        }
    }

    /// Goes on inside a transaction whose begin event is not in this stream: no BEGIN is printed,
    /// its COMMIT is.
    pub fn set_transaction(&mut self, header: &TransactionHeader) {
        self.database = header.database;
        // A unit without a commit has no transaction.
        self.transaction = header.xid.is_valid().then_some(Transaction {
            xid: header.xid,
            begun: true,
        });
    }

    /// Forgets relations and transaction: another stream begins, which numbers its relations anew.
    pub fn reset(&mut self) {
        self.transaction = None;
        self.relations.clear();
    }

    /// The types met since the last call whose values cannot be printed as PostgreSQL does; each
    /// column of a relation version is named once.
    pub fn take_undecoded(&mut self) -> Vec<UndecodedType> {
        std::mem::take(&mut self.undecoded)
    }

    /// Appends the lines of one event, each with its line feed; nothing of it on an error.
    pub fn event(
        &mut self,
        event: &Event<'_>,
        relations: &dyn Relations,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        let start = out.len();
        let mut result = self.append(event, relations, out);
        if let (Ok(()), Some(encoding)) = (&result, &self.options.encoding) {
            result = self.convert(encoding, event, relations, start, out);
        }
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
        // Lines are converted as a whole.
        if event.header.size >= LARGE_EVENT_BYTES && self.options.encoding.is_none() {
            self.large = Some(Vec::new());
        }
        let result = self.event(event, relations, out);
        let large = self.large.take().unwrap_or_default();
        result.map(|()| large)
    }

    /// Turns the lines from `start` on into the encoding asked for.
    fn convert(
        &self,
        to: &ClientEncoding,
        event: &Event<'_>,
        relations: &dyn Relations,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        let database = match relations.relation(event.header.relation) {
            Some(relation) => Some(Arc::clone(&relation.database)),
            None => relations.database(self.database),
        };
        let Some(from) = database.map(|database| database.encoding) else {
            return Ok(());
        };
        let text = out.get(start..).unwrap_or_default();
        let converted = to.convert(from, text).ok_or(RenderError::Encoding {
            encoding: to.name(),
            lsn: event.header.record_lsn,
        })?;
        if let Cow::Owned(text) = converted {
            out.truncate(start);
            out.extend_from_slice(&text);
        }
        Ok(())
    }

    fn append(
        &mut self,
        event: &Event<'_>,
        relations: &dyn Relations,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        let lsn = event.header.record_lsn;
        match event.header.kind {
            EventKind::Insert | EventKind::Update | EventKind::Delete => {
                let began = self.push_begin(lsn, out)?;
                self.push_row(event, relations, out)?;
                self.keep_begin(began);
            }
            EventKind::Truncate => {
                let began = self.push_begin(lsn, out)?;
                self.push_truncate(event, relations, out)?;
                self.keep_begin(began);
            }
            EventKind::Message => self.push_message(event, out)?,
            EventKind::Begin => self.begin(event)?,
            EventKind::Commit => self.push_commit(lsn, out)?,
            EventKind::Sequence | EventKind::Ddl => {}
            EventKind::ToastChunk
            | EventKind::SpeculativeInsert
            | EventKind::SpeculativeConfirm
            | EventKind::SpeculativeAbort
            | EventKind::Skipped
            | EventKind::Undecodable => {
                let what = "an event of unfinished assembly";
                return Err(RenderError::Internal { what, lsn });
            }
        }
        Ok(())
    }

    fn begin(&mut self, event: &Event<'_>) -> Result<(), RenderError> {
        let header = super::transaction_header(event)?;
        self.database = header.database;
        self.transaction = Some(Transaction {
            xid: header.xid,
            begun: false,
        });
        Ok(())
    }

    /// Appends BEGIN if the transaction has not got it; says whether it did.
    #[inline]
    fn push_begin(&mut self, lsn: Lsn, out: &mut Vec<u8>) -> Result<bool, RenderError> {
        let transaction = self.transaction.ok_or(RenderError::NoTransaction { lsn })?;
        if transaction.begun {
            return Ok(false);
        }
        out.extend_from_slice(b"BEGIN ");
        push_u64(out, transaction.xid.0.into());
        out.push(b'\n');
        Ok(true)
    }

    fn keep_begin(&mut self, began: bool) {
        if began && let Some(transaction) = &mut self.transaction {
            transaction.begun = true;
        }
    }

    // pg: contrib/test_decoding.c pg_decode_commit_txn [14-18]
    fn push_commit(&mut self, lsn: Lsn, out: &mut Vec<u8>) -> Result<(), RenderError> {
        let transaction = self.transaction.take();
        let transaction = transaction.ok_or(RenderError::NoTransaction { lsn })?;
        if transaction.begun {
            out.extend_from_slice(b"COMMIT ");
            push_u64(out, transaction.xid.0.into());
            out.push(b'\n');
        }
        Ok(())
    }

    // pg: contrib/test_decoding.c pg_decode_change [14-18]
    fn push_row(
        &mut self,
        event: &Event<'_>,
        relations: &dyn Relations,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        let header = &event.header;
        let settings = &self.options.settings;
        let relation =
            self.relations
                .get(header.relation, header.record_lsn, relations, |relation| {
                    RelationLines::new(relation, settings)
                })?;
        super::check_count(event, relation.columns.len(), &relation.qualified)?;
        let mut tuples = Tuples {
            relation,
            columns: event.columns(),
            lsn: header.record_lsn,
            scratch: &mut self.scratch,
            undecoded: &mut self.undecoded,
            large: self.large.as_mut(),
            payload: event.payload,
        };
        out.extend_from_slice(b"table ");
        out.extend_from_slice(&tuples.relation.name);
        match header.kind {
            EventKind::Insert => {
                out.extend_from_slice(b": INSERT:");
                tuples.push(false, out)?;
            }
            EventKind::Update => {
                out.extend_from_slice(b": UPDATE:");
                if event.has_old() {
                    out.extend_from_slice(b" old-key:");
                    tuples.push(true, out)?;
                    out.extend_from_slice(b" new-tuple:");
                }
                tuples.push(false, out)?;
            }
            _ => {
                out.extend_from_slice(b": DELETE:");
                if event.has_old() {
                    tuples.push(true, out)?;
                } else {
                    out.extend_from_slice(b" (no-tuple-data)");
                }
            }
        }
        out.push(b'\n');
        let lsn = header.record_lsn;
        let columns = tuples.columns;
        columns
            .finish()
            .map_err(|source| RenderError::Event { lsn, source })
    }

    // pg: contrib/test_decoding.c pg_decode_truncate [14-18]
    fn push_truncate(
        &mut self,
        event: &Event<'_>,
        relations: &dyn Relations,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        let lsn = event.header.record_lsn;
        let settings = &self.options.settings;
        out.extend_from_slice(b"table ");
        for (number, version) in super::truncated(event)?.into_iter().enumerate() {
            if number > 0 {
                out.extend_from_slice(b", ");
            }
            let relation = self.relations.get(version, lsn, relations, |relation| {
                RelationLines::new(relation, settings)
            })?;
            out.extend_from_slice(&relation.name);
        }
        out.extend_from_slice(b": TRUNCATE:");
        let has = |flag| event.header.flags & flag != 0;
        if has(flags::RESTART_IDENTITY) {
            out.extend_from_slice(b" restart_seqs");
        }
        if has(flags::CASCADE) {
            out.extend_from_slice(b" cascade");
        }
        if !has(flags::RESTART_IDENTITY | flags::CASCADE) {
            out.extend_from_slice(b" (no-flags)");
        }
        out.push(b'\n');
        Ok(())
    }

    // pg: contrib/test_decoding.c pg_decode_message [14-16], [17-18]
    fn push_message(&mut self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), RenderError> {
        let message = super::Message::read(event)?;
        if message.transactional && self.options.major >= 17 {
            let began = self.push_begin(event.header.record_lsn, out)?;
            self.keep_begin(began);
        }
        out.extend_from_slice(b"message: transactional: ");
        out.push(b'0' + u8::from(message.transactional));
        out.extend_from_slice(b" prefix: ");
        out.extend_from_slice(message.prefix);
        out.extend_from_slice(b", sz: ");
        push_u64(out, message.content.len() as u64);
        out.extend_from_slice(b" content:");
        match &mut self.large {
            Some(large) if message.content.len() >= LARGE_VALUE_BYTES => {
                let end = event.payload.len();
                let stored = Stored::Payload(end - message.content.len()..end);
                large.push(LargeValue::new(out.len(), stored, Form::Verbatim));
            }
            _ => out.extend_from_slice(message.content),
        }
        out.push(b'\n');
        Ok(())
    }
}

/// A relation's part of its lines: all that does not change from row to row.
#[derive(Debug)]
struct RelationLines {
    /// `schema.table`, quoted where needed.
    name: Vec<u8>,
    columns: Vec<ColumnText>,
    context: TextContext,
    /// `schema.table`, for errors.
    qualified: String,
}

impl RelationLines {
    fn new(relation: &Relation, settings: &SessionSettings) -> Self {
        let major = relation.database.major;
        let mut name = Vec::new();
        // A schema that is gone has no name, and the server prints none.
        if !relation.schema.as_bytes().is_empty() {
            push_identifier(&mut name, relation.schema.as_bytes(), major);
            name.push(b'.');
        }
        push_identifier(&mut name, relation.name.as_bytes(), major);
        RelationLines {
            name,
            columns: relation
                .columns
                .iter()
                .map(|column| ColumnText::new(column, major))
                .collect(),
            context: settings.context(&relation.database),
            qualified: super::qualified(relation),
        }
    }
}

/// The tuples of one row event, printed one after the other.
struct Tuples<'a> {
    relation: &'a mut RelationLines,
    columns: Columns<'a>,
    lsn: Lsn,
    scratch: &'a mut Vec<u8>,
    undecoded: &'a mut Vec<UndecodedType>,
    large: Option<&'a mut Vec<LargeValue>>,
    payload: &'a [u8],
}

impl Tuples<'_> {
    // pg: contrib/test_decoding.c tuple_to_stringinfo [14-18]
    #[inline]
    fn push(&mut self, skip_nulls: bool, out: &mut Vec<u8>) -> Result<(), RenderError> {
        let lsn = self.lsn;
        let relation = &mut *self.relation;
        for column in &mut relation.columns {
            let value = self.columns.read();
            let value = value.map_err(|source| RenderError::Event { lsn, source })?;
            if value == ColumnValue::Null && skip_nulls {
                continue;
            }
            if let (Some(large), Some(piecewise)) = (&mut self.large, column.large)
                && column.literal == Literal::Quoted
            {
                let end = self.columns.offset();
                let stored = Stored::of(value, end, relation.context.value_bytes_max)
                    .map_err(|error| error.at(lsn, &relation.qualified, &column.name))?;
                if let Some(stored) = stored {
                    column
                        .leave_out(
                            stored,
                            piecewise,
                            self.payload,
                            &relation.context,
                            large,
                            out,
                        )
                        .map_err(|error| {
                            ColumnError::Value(error).at(lsn, &relation.qualified, &column.name)
                        })?;
                    continue;
                }
            }
            let known = column_content(value, relation.context.value_bytes_max, self.scratch)
                .and_then(|content| column.push(content, &relation.context, out))
                .map_err(|error| error.at(lsn, &relation.qualified, &column.name))?;
            if known == Known::No && !column.told {
                column.told = true;
                self.undecoded.push(UndecodedType {
                    data_type: column.data_type.clone(),
                    column: column.name.clone(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
