//! Cuts a block so that it begins after a position: two pipelines over the same log cut their
//! blocks at different places.

use std::sync::Arc;

use bytes::Bytes;
use redostream_engine::feed::block::Block;
use redostream_protocol::cursor::Cursor;
use redostream_protocol::event::{Event, EventError, EventKind, TransactionHeader};
use redostream_protocol::{Position, TimelineId};

/// The events of `block` after `position`; none if there are none.
pub(super) fn after(block: &Block, position: Position) -> Result<Option<Block>, EventError> {
    if block.events == 0 || block.first > position {
        return Ok(Some(block.clone()));
    }
    if block.last <= position {
        return Ok(None);
    }
    let joined = match &block.pieces[..] {
        [one] => one.clone(),
        many => Bytes::from(many.concat()),
    };
    let timeline = block.first.timeline;
    let mut open = block.continues.clone();
    let mut cut: Option<Block> = None;
    let mut cursor = Cursor::new(&joined);
    while cursor.remaining() > 0 {
        let start = cursor.offset();
        let event = Event::read(&mut cursor)?;
        let inside = open.clone();
        if event.header.kind == EventKind::Begin {
            open = TransactionHeader::read(event.payload).map(Arc::new);
        }
        let place = position_of(&event, timeline, open.as_deref());
        if cut.is_none() && place > position {
            let begins = event.header.kind == EventKind::Begin;
            cut = Some(Block {
                first: place,
                last: block.last,
                wal_end: block.wal_end,
                continues: if begins { None } else { inside },
                pieces: vec![joined.slice(start..)],
                events: 0,
                rows: 0,
                transactions: 0,
                databases: block.databases.clone(),
                relations: block.relations.clone(),
                undecodable: block.undecodable,
            });
        }
        if let Some(cut) = &mut cut {
            cut.events += 1;
            cut.rows += u64::from(is_row(event.header.kind));
            cut.transactions += u64::from(event.header.kind == EventKind::Commit);
        }
        if event.header.kind == EventKind::Commit {
            open = None;
        }
    }
    Ok(cut)
}

const fn is_row(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Insert | EventKind::Update | EventKind::Delete
    )
}

fn position_of(
    event: &Event<'_>,
    timeline: TimelineId,
    open: Option<&TransactionHeader>,
) -> Position {
    let header = &event.header;
    let commit_lsn = open.map_or(header.record_lsn, |open| open.commit_lsn);
    match header.kind {
        EventKind::Begin => Position::begin(timeline, commit_lsn),
        EventKind::Commit => Position::commit(timeline, commit_lsn),
        _ => Position {
            timeline,
            commit_lsn,
            record_lsn: header.record_lsn,
            row: header.row,
        },
    }
}
