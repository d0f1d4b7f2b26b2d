//! What lines say of their transaction.

use std::sync::Arc;

use super::UTF8;
use crate::event::{Event, EventKind, TransactionHeader};
use crate::ids::DatabaseOid;
use crate::position::Position;
use crate::render::object::Object;
use crate::render::{Relations, RenderError, push_position};
use crate::schema::Database;
use crate::value::ValueError;
use crate::value::datetime::push_utc;

/// The transaction, or the unit without a commit, that lines belong to.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) header: TransactionHeader,
    pub(super) database: Option<Arc<Database>>,
    /// Whether the begin line has been printed, here or before the place where this stream resumed.
    pub(super) begun: bool,
}

impl Transaction {
    /// One of which nothing has been printed.
    pub(super) const fn new(header: TransactionHeader, database: Option<Arc<Database>>) -> Self {
        Self {
            header,
            database,
            begun: false,
        }
    }

    /// Looks the database up, if that has not succeeded yet.
    pub(super) fn find_database(&mut self, relations: &dyn Relations) {
        if self.database.is_none() && self.header.database != DatabaseOid::INVALID {
            self.database = relations.database(self.header.database);
        }
    }

    fn encoding(&self) -> i32 {
        self.database
            .as_ref()
            .map_or(UTF8, |database| database.encoding)
    }

    pub(super) fn position(&self, event: &Event<'_>) -> Position {
        Position {
            timeline: self.header.timeline,
            commit_lsn: self.header.commit_lsn,
            record_lsn: event.header.record_lsn,
            row: event.header.row,
        }
    }

    /// Opens a line.
    pub(super) fn open<'a>(
        &self,
        kind: &str,
        position: Position,
        out: &'a mut Vec<u8>,
    ) -> Object<'a> {
        let mut object = Object::open(out, self.encoding());
        let text = object.key("position");
        text.push(b'"');
        push_position(text, position);
        text.push(b'"');
        object.string("kind", kind);
        if self.header.xid.is_valid() {
            object.number("xid", self.header.xid.0.into());
        }
        object
    }

    pub(super) fn push_database(&self, object: &mut Object<'_>) {
        if let Some(database) = &self.database {
            object.text("database", database.name.as_bytes());
        }
    }

    pub(super) fn push_time_and_origin(&self, object: &mut Object<'_>) -> Result<(), RenderError> {
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
