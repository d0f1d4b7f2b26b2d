//! Events that the gate makes itself: truncates, logical messages, sequence changes. They are
//! rare, and name relations by OID or none at all.

use bytes::{BufMut, Bytes};
use redostream_protocol::cursor::{Cursor, ShortInput};
use redostream_protocol::event::{EventHeader, EventKind, HEADER_BYTES, flags};
use redostream_protocol::schema::{Name, RelationVersion};
use redostream_protocol::{DatabaseOid, Lsn, Oid, RelFileNode, Xid};

use super::{Gate, GateError, Passage, malformed};
use crate::assembly::part::{ControlKind, segment_flags};
use crate::catalog::relation::Target;
use crate::decoding::task::Item;
use crate::framing::partition::OrderedEntry;
use crate::framing::record::Record;
use crate::limits::{CHUNK_BYTES_MAX, STANDALONE_ROOM_BYTES};

/// Prefix of the messages of the capture trigger.
const DDL_PREFIX: &[u8] = b"redostream.ddl";
const TRUNCATE_CASCADE: u8 = 1;
const TRUNCATE_RESTART: u8 = 2;

/// An event before it has its header.
pub(super) struct Draft<'a> {
    pub(super) kind: EventKind,
    pub(super) flags: u8,
    pub(super) count: u16,
    pub(super) relations: &'a [RelationVersion],
    pub(super) payload: &'a [u8],
    /// The rest of the payload, where it stands in its record: it may be large.
    pub(super) content: &'a [u8],
}

impl Draft<'_> {
    /// Bytes of the event.
    const fn bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len() + self.content.len()
    }

    /// Appends the event.
    pub(super) fn append(&self, xid: Xid, lsn: Lsn, row: u32, out: &mut impl BufMut) {
        let header = EventHeader {
            // A record has less than 1 GiB.
            size: self.bytes() as u32,
            kind: self.kind,
            flags: self.flags,
            count: self.count,
            xid,
            relation: self.relations.first().copied().unwrap_or_default(),
            record_lsn: lsn,
            row,
        };
        out.put_slice(&header.to_bytes());
        out.put_slice(self.payload);
        out.put_slice(self.content);
    }
}

impl Passage<'_> {
    /// Adds an event to its transaction, at its record's place.
    fn own_event(&mut self, entry: &OrderedEntry, xid: Xid, draft: &Draft<'_>) {
        let Some(group) = self.chunk.groups.iter().position(|group| group.xid == xid) else {
            return;
        };
        let offset = self.own.arena.len() as u32;
        draft.append(xid, self.lsn(entry), 0, &mut self.own.arena);
        let message = draft.kind == EventKind::Message;
        self.own.items.push(Item {
            number: entry.number,
            offset,
            bytes: self.own.arena.len() as u32 - offset,
            last: offset,
            events: 1,
            rows: 0,
            relation: draft.relations.first().copied().unwrap_or_default(),
            group: group as u16,
            flags: if message { segment_flags::MESSAGE } else { 0 },
        });
        let number = self.own.items.len() as u32 - 1;
        self.own_relations.extend(
            draft
                .relations
                .iter()
                .skip(1)
                .map(|version| (number, *version)),
        );
    }
}

impl Gate {
    /// ```text
    /// dbId u32 | nrelids u32 | flags u8 | pad | relids u32 ...
    /// ```
    // pg: access/heapam_xlog.h xl_heap_truncate [14-18]
    pub(super) fn take_truncate(
        &mut self,
        record: &Record<'_>,
        entry: &OrderedEntry,
        passage: &mut Passage<'_>,
    ) -> Result<(), GateError> {
        let lsn = record.lsn;
        let parsed = parse_truncate(record.main).map_err(|error| malformed(lsn, &error))?;
        let (database, record_flags, oids) = parsed;
        let top = self.transactions.top_of(record.xid);
        if self.is_passed_over(top, database) {
            return Ok(());
        }
        // Rows before it come first, also in the numbering of relations.
        self.cut(passage, entry.number, lsn)?;
        self.tell_before_event(top, entry, passage)?;
        let viewer = self.catalog.has_changes(top).then_some(top);
        let mut relations = Vec::new();
        for oid in oids {
            let target = self
                .catalog
                .resolve_oid(database, oid, viewer, &self.transactions)
                .map_err(|error| GateError::Catalog { lsn, error })?;
            match &*target {
                Target::Table(layout) => relations.push(layout.relation.version),
                Target::Undecodable { relation, .. } => relations.push(relation.version),
                _ => {}
            }
        }
        let mut event_flags = 0;
        if record_flags & TRUNCATE_CASCADE != 0 {
            event_flags |= flags::CASCADE;
        }
        if record_flags & TRUNCATE_RESTART != 0 {
            event_flags |= flags::RESTART_IDENTITY;
        }
        let payload: Vec<u8> = relations
            .iter()
            .flat_map(|version| version.0.to_le_bytes())
            .collect();
        let draft = Draft {
            kind: EventKind::Truncate,
            flags: event_flags,
            count: relations.len() as u16,
            relations: &relations,
            payload: &payload,
            content: &[],
        };
        passage.own_event(entry, record.xid, &draft);
        Ok(())
    }

    /// ```text
    /// dbId u32 | transactional u8 | pad | prefix_size u64 | message_size u64 | prefix NUL | message
    /// ```
    // pg: replication/message.h xl_logical_message [14-18]
    pub(super) fn take_message(
        &mut self,
        record: &Record<'_>,
        entry: &OrderedEntry,
        passage: &mut Passage<'_>,
    ) -> Result<(), GateError> {
        let lsn = record.lsn;
        let message = parse_message(record.main).map_err(|error| malformed(lsn, &error))?;
        let (database, transactional, prefix, content) = message;
        let top = self.transactions.top_of(record.xid);
        if self.is_passed_over(top, database) {
            return Ok(());
        }
        if transactional {
            self.tell_before_event(top, entry, passage)?;
            if prefix == DDL_PREFIX {
                let statement = Name::from(content);
                self.catalog.statement_begins(top, record.xid, statement);
            }
        }
        if content.len() > CHUNK_BYTES_MAX {
            // A part of its own: with rows it would be merged, and in memory once more.
            self.cut(passage, entry.number, lsn)?;
        }
        let mut payload = Vec::with_capacity(8 + prefix.len());
        if !transactional {
            payload.extend_from_slice(&database.0.to_le_bytes());
        }
        payload.extend_from_slice(&(prefix.len() as u32).to_le_bytes());
        payload.extend_from_slice(prefix);
        let draft = Draft {
            kind: EventKind::Message,
            flags: if transactional {
                flags::TRANSACTIONAL
            } else {
                flags::DATABASE
            },
            count: 0,
            relations: &[],
            payload: &payload,
            content,
        };
        if transactional {
            passage.own_event(entry, record.xid, &draft);
        } else {
            self.standalone(entry, database, record.xid, &draft, passage);
        }
        Ok(())
    }

    /// ```text
    /// relfilenode 12 bytes | tuple: header, last_value i64, log_cnt i64, is_called bool
    /// ```
    // pg: commands/sequence.h xl_seq_rec, FormData_pg_sequence_data [14-18]
    pub(super) fn take_sequence(
        &mut self,
        record: &Record<'_>,
        entry: &OrderedEntry,
        passage: &mut Passage<'_>,
    ) -> Result<(), GateError> {
        let lsn = record.lsn;
        let parsed = parse_sequence(record.main).map_err(|error| malformed(lsn, &error))?;
        let (node, last_value, is_called) = parsed;
        let top = self.transactions.top_of(record.xid);
        if self.is_passed_over(top, node.database) {
            return Ok(());
        }
        let own_view = self.catalog.has_changes(top).then_some(top);
        let own = own_view.map(|_| self.catalog.resolve(node, own_view, &self.transactions));
        let committed = self.catalog.resolve(node, None, &self.transactions);
        // Made in the same transaction: nobody else can see it yet.
        let transactional = own.is_some() && committed.is_err();
        let Some(target) = own.and_then(Result::ok).or_else(|| committed.ok()) else {
            return Ok(());
        };
        let Target::Sequence(layout) = &*target else {
            return Ok(());
        };
        let mut payload = [u8::from(is_called); 9];
        payload[..8].copy_from_slice(&last_value.to_le_bytes());
        let draft = Draft {
            kind: EventKind::Sequence,
            flags: if transactional {
                flags::TRANSACTIONAL
            } else {
                0
            },
            count: 0,
            relations: &[layout.relation.version],
            payload: &payload,
            content: &[],
        };
        if transactional {
            passage.own_event(entry, record.xid, &draft);
        } else {
            self.standalone(entry, node.database, record.xid, &draft, passage);
        }
        Ok(())
    }

    fn is_passed_over(&mut self, top: Xid, database: DatabaseOid) -> bool {
        !self.is_consistent() || self.skips(top) || !self.is_selected(database)
    }

    fn standalone(
        &mut self,
        entry: &OrderedEntry,
        database: DatabaseOid,
        xid: Xid,
        draft: &Draft<'_>,
        passage: &mut Passage<'_>,
    ) {
        let lsn = passage.lsn(entry);
        if lsn < self.selection.start {
            return;
        }
        let timeline = self.timeline(passage, lsn);
        let event = if draft.bytes() > STANDALONE_ROOM_BYTES {
            let mut event = Vec::with_capacity(draft.bytes());
            draft.append(xid, lsn, 0, &mut event);
            Bytes::from(event)
        } else {
            let room = &mut self.standalone_room;
            if room.capacity() < draft.bytes() {
                room.reserve(STANDALONE_ROOM_BYTES);
            }
            draft.append(xid, lsn, 0, room);
            room.split().freeze()
        };
        passage.control(
            entry,
            ControlKind::Standalone {
                timeline,
                database,
                event,
            },
        );
    }
}

fn parse_truncate(main: &[u8]) -> Result<(DatabaseOid, u8, Vec<Oid>), ShortInput> {
    let mut cursor = Cursor::new(main);
    let database = Oid(cursor.u32("database")?);
    let count = cursor.u32("relation count")?;
    let record_flags = cursor.u8("truncate flags")?;
    cursor.take(3, "padding")?;
    let mut oids = Vec::new();
    for _ in 0..count {
        oids.push(Oid(cursor.u32("relation")?));
    }
    Ok((database, record_flags, oids))
}

type Message<'a> = (DatabaseOid, bool, &'a [u8], &'a [u8]);

fn parse_message(main: &[u8]) -> Result<Message<'_>, ShortInput> {
    let mut cursor = Cursor::new(main);
    let database = Oid(cursor.u32("database")?);
    let transactional = cursor.u8("transactional")? != 0;
    cursor.take(3, "padding")?;
    let prefix_bytes = cursor.u64("prefix size")?;
    let content_bytes = cursor.u64("message size")?;
    let length = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let prefix = cursor.take(length(prefix_bytes), "prefix")?;
    let prefix = prefix.strip_suffix(&[0]).unwrap_or(prefix);
    let content = cursor.take(length(content_bytes), "message")?;
    Ok((database, transactional, prefix, content))
}

fn parse_sequence(main: &[u8]) -> Result<(RelFileNode, i64, bool), ShortInput> {
    let mut cursor = Cursor::new(main);
    let node = RelFileNode {
        tablespace: Oid(cursor.u32("tablespace")?),
        database: Oid(cursor.u32("database")?),
        relation: Oid(cursor.u32("file number")?),
    };
    let tuple = cursor.rest();
    cursor.take(22, "tuple header")?;
    let hoff = usize::from(cursor.u8("header offset")?);
    let mut values = Cursor::new(tuple);
    values.take(hoff, "tuple header")?;
    let last_value = values.i64("last value")?;
    values.take(8, "log count")?;
    let is_called = values.u8("is called")? != 0;
    Ok((node, last_value, is_called))
}
