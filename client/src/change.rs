//! One event as a subscription gives it, with its place, transaction and relation.

use std::sync::Arc;

use bytes::Bytes;
use redostream_protocol::cursor::Cursor;
use redostream_protocol::event::{Event, EventKind, TransactionHeader};
use redostream_protocol::schema::Relation;
use redostream_protocol::{Position, TimelineId};
use serde::de::DeserializeOwned;

use crate::error::ClientError;
use crate::row::{self, Row, Shape};

/// One event with its place.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its position.
    pub position: Position,
    /// The transaction it belongs to; none for units without a commit.
    pub transaction: Option<Arc<TransactionHeader>>,
    /// Its relation, if it has one.
    pub relation: Option<Arc<Relation>>,
    pub(crate) shape: Option<Arc<Shape>>,
    pub(crate) bytes: Bytes,
}

impl Change {
    /// The event.
    pub fn event(&self) -> Result<Event<'_>, ClientError> {
        Ok(Event::read(&mut Cursor::new(&self.bytes))?)
    }

    /// What happened.
    pub fn kind(&self) -> Result<EventKind, ClientError> {
        Ok(self.event()?.header.kind)
    }

    /// The row before and the row after an insert, update or delete; none where the log does not
    /// hold it, and for every other kind.
    pub fn rows(&self) -> Result<(Option<Row<'_>>, Option<Row<'_>>), ClientError> {
        let event = self.event()?;
        match (&self.shape, event.header.kind) {
            (Some(shape), EventKind::Insert | EventKind::Update | EventKind::Delete) => {
                row::rows(&event, shape)
            }
            _ => Ok((None, None)),
        }
    }

    /// The row after an insert or update, as a struct of yours; see [`Row::deserialize`].
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<Option<T>, ClientError> {
        let (_, new) = self.rows()?;
        new.map(|row| row.deserialize()).transpose()
    }
}

/// The position of an event within its transaction.
pub(crate) fn position_of(
    event: &Event<'_>,
    timeline: TimelineId,
    open: Option<&TransactionHeader>,
) -> Position {
    let header = &event.header;
    match (header.kind, open) {
        (EventKind::Begin, Some(open)) => Position::begin(timeline, open.commit_lsn),
        (EventKind::Commit, Some(open)) => Position::commit(timeline, open.commit_lsn),
        (_, Some(open)) => Position {
            timeline,
            commit_lsn: open.commit_lsn,
            record_lsn: header.record_lsn,
            row: header.row,
        },
        (_, None) => Position {
            timeline,
            commit_lsn: header.record_lsn,
            record_lsn: header.record_lsn,
            row: header.row,
        },
    }
}
