//! One decode task: the rows of one partition of one part.

use std::sync::Arc;

use redostream_protocol::event::{EventHeader, EventKind, HEADER_BYTES};
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::{Lsn, Xid};

use super::{DecodeError, TupleError, heap, undecodable};
use crate::catalog::CatalogSnapshot;
use crate::catalog::relation::{Layout, Target};
use crate::framing::chunk::FramedChunk;
use crate::framing::format::WalFormat;
use crate::framing::page::u32_at;
use crate::framing::partition::{RowEntry, RowKind};
use crate::framing::walk;

/// What the rows of a part are rows of.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// For each group of the chunk, the view its rows are seen in; empty if all are view 0.
    pub views: Vec<u16>,
    /// For each view, the target of each of the chunk's files; none where the view has no rows.
    pub by_view: Vec<Vec<Option<Arc<Target>>>>,
    /// For each view, the transaction whose it is; none for everybody's.
    pub viewers: Vec<Option<Xid>>,
    /// The catalogs here, if the text of some column depends on them.
    pub snapshot: Option<Arc<CatalogSnapshot>>,
}

/// The view of rows that are passed over: their transaction will not be released.
pub const VIEW_SKIP: u16 = u16::MAX;

impl Targets {
    /// The target of a row, or none if it is passed over.
    #[inline]
    pub(super) fn of(&self, entry: &RowEntry) -> Option<&Target> {
        let view = self.view(entry);
        if view == VIEW_SKIP {
            return None;
        }
        let target = self.by_view[usize::from(view)][usize::from(entry.file)].as_deref()?;
        let passed_over = matches!(target, Target::Ignore(_) | Target::Sequence(_));
        (!passed_over).then_some(target)
    }

    #[inline]
    fn view(&self, entry: &RowEntry) -> u16 {
        self.views
            .get(usize::from(entry.group))
            .copied()
            .unwrap_or(0)
    }

    /// What the names in a row's columns are looked up in.
    #[inline]
    pub(super) fn names(&self, entry: &RowEntry) -> Option<Names<'_>> {
        let snapshot = self.snapshot.as_ref()?;
        let viewer = self
            .viewers
            .get(usize::from(self.view(entry)))
            .copied()
            .flatten();
        Some(Names { snapshot, viewer })
    }
}

/// The catalogs in the eyes of a row's transaction.
#[derive(Clone, Copy)]
pub(crate) struct Names<'a> {
    pub(crate) snapshot: &'a Arc<CatalogSnapshot>,
    pub(crate) viewer: Option<Xid>,
}

/// The events of one record, contiguous in the task's arena.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    /// The record's number within its chunk.
    pub number: u32,
    /// Offset in the arena.
    pub offset: u32,
    /// Bytes.
    pub bytes: u32,
    /// Offset in the arena of its last event.
    pub last: u32,
    /// Events.
    pub events: u32,
    /// Inserts, updates and deletes among them.
    pub rows: u32,
    /// The relation version, 0 if none.
    pub relation: RelationVersion,
    /// The chunk's group.
    pub group: u16,
    /// Bits of [`crate::assembly::part::segment_flags`].
    pub flags: u8,
}

/// What a task gives.
#[derive(Debug, Default)]
pub struct TaskOutput {
    /// Encoded events.
    pub arena: Vec<u8>,
    /// One entry per record that gave events, ascending.
    pub items: Vec<Item>,
}

/// Decodes `entries` of `chunk`, appending to `out`.
pub fn decode(
    chunk: &FramedChunk,
    entries: &[RowEntry],
    targets: &Targets,
    format: &WalFormat,
    out: &mut TaskOutput,
) -> Result<(), DecodeError> {
    for entry in entries {
        let Some(target) = targets.of(entry) else {
            continue;
        };
        let offset = out.arena.len();
        let names = targets.names(entry);
        let written = write_record(chunk, entry, target, names, format, &mut out.arena)?;
        if written.bytes == 0 {
            continue;
        }
        out.items.push(Item {
            number: entry.number,
            offset: offset as u32,
            bytes: written.bytes,
            last: written.last,
            events: written.events,
            rows: written.rows,
            relation: written.relation,
            group: entry.group,
            flags: written.flags,
        });
    }
    Ok(())
}

/// What one record gave.
pub(super) struct Written {
    pub(super) bytes: u32,
    /// Offset in the arena of its last event.
    pub(super) last: u32,
    pub(super) events: u32,
    pub(super) rows: u32,
    pub(super) relation: RelationVersion,
    pub(super) flags: u8,
}

/// Appends the events of one record to `arena`.
#[inline(always)]
pub(super) fn write_record(
    chunk: &FramedChunk,
    entry: &RowEntry,
    target: &Target,
    names: Option<Names<'_>>,
    format: &WalFormat,
    arena: &mut Vec<u8>,
) -> Result<Written, DecodeError> {
    let record = chunk.record(entry.place);
    let offset = arena.len();
    let mut row = RowWriter {
        xid: chunk.groups[usize::from(entry.group)].xid,
        lsn: chunk.lsn(entry.lsn_offset),
        arena,
        relation: RelationVersion(0),
        row: 0,
        rows: 0,
        last: 0,
        flags: 0,
        names,
    };
    let parts = walk::parts(record, format);
    let result = match parts {
        None => Err(TupleError::Short("headers")),
        Some(parts) if matches!(target, Target::Undecodable { .. }) => {
            undecodable::decode(entry.kind, parts, target, &mut row)
        }
        Some(parts) => match entry.kind {
            RowKind::Insert => heap::insert::decode(parts, target, &mut row),
            RowKind::MultiInsert => heap::multi_insert::decode(parts, target, &mut row),
            RowKind::Update => heap::update::decode(parts, target, &mut row),
            RowKind::Delete => heap::delete::decode(parts, target, &mut row),
            RowKind::Confirm => heap::confirm::decode(target, &mut row),
            // Of an index, or of what a heap does not use.
            RowKind::Foreign => Ok(()),
        },
    };
    if let Err(problem) = result {
        give_up(entry, target, parts, problem, offset, &mut row)?;
    }
    Ok(Written {
        bytes: (row.arena.len() - offset) as u32,
        last: row.last as u32,
        events: row.row,
        rows: row.rows,
        relation: row.relation,
        flags: row.flags,
    })
}

/// A record contradicts its table: whole rows before the bad one stay, and the rest is left out in
/// the sight of those who want the table. What assembly would wait for in vain stops everybody.
#[cold]
fn give_up(
    entry: &RowEntry,
    target: &Target,
    parts: Option<walk::Parts<'_>>,
    problem: TupleError,
    offset: usize,
    row: &mut RowWriter<'_>,
) -> Result<(), DecodeError> {
    let error = DecodeError {
        lsn: row.lsn,
        row: row.row,
        relation: describe(target),
        problem,
    };
    let (Target::Table(layout), Some(parts)) = (target, parts) else {
        return Err(error);
    };
    if entry.kind == RowKind::Confirm {
        return Err(error);
    }
    let whole = match row.row {
        0 => offset,
        _ => {
            let size = row.arena.get(row.last..row.last + 4);
            row.last + size.map_or(0, |size| u32_at(size, 0) as usize)
        }
    };
    row.arena.truncate(whole);
    let rows = undecodable::rows(entry.kind, parts).saturating_sub(row.row as u16);
    let reason = error.to_string();
    undecodable::give_up(&layout.relation, &reason, entry.kind, parts, rows, row).map_err(|_| error)
}

fn describe(target: &Target) -> String {
    match target {
        Target::Table(layout) | Target::Sequence(layout) => {
            format!("{}.{}", layout.relation.schema, layout.relation.name)
        }
        Target::Undecodable { relation, .. } => format!("{}.{}", relation.schema, relation.name),
        Target::Toast { oid } => format!("TOAST table {oid}"),
        Target::Ignore(reason) => format!("{reason:?}"),
    }
}

/// Writes the events of one record.
pub(crate) struct RowWriter<'a> {
    arena: &'a mut Vec<u8>,
    xid: Xid,
    lsn: Lsn,
    /// Relation version that the record's main rows carry.
    relation: RelationVersion,
    /// Number of the next event within the record.
    row: u32,
    rows: u32,
    last: usize,
    flags: u8,
    /// Where names in columns are looked up, if any column needs it.
    names: Option<Names<'a>>,
}

impl<'a> RowWriter<'a> {
    /// Names the relation of the events that follow, and reserves room for a row of `bytes`.
    #[inline]
    pub(crate) fn begin(&mut self, relation: RelationVersion, columns: usize, bytes: usize) {
        self.relation = relation;
        self.arena.reserve(HEADER_BYTES + 10 * columns + bytes);
    }

    /// Where names in the columns of a relation are looked up, if it has such columns.
    #[inline]
    pub(crate) fn names(&self, layout: &Layout) -> Option<Names<'a>> {
        if layout.needs_catalog {
            self.names
        } else {
            None
        }
    }

    /// Marks the record's segment.
    #[inline]
    pub(crate) fn mark(&mut self, segment_flags: u8) {
        self.flags |= segment_flags;
    }

    /// Writes one event; `payload` appends what follows the header and returns the flags.
    #[inline(always)]
    pub(crate) fn event(
        &mut self,
        kind: EventKind,
        count: usize,
        payload: impl FnOnce(&mut Vec<u8>) -> Result<u8, TupleError>,
    ) -> Result<(), TupleError> {
        let start = self.arena.len();
        self.arena.extend_from_slice(&[0; HEADER_BYTES]);
        let flags = payload(self.arena)?;
        let header = EventHeader {
            // An event holds one record's rows at most, and a record has less than 1 GiB.
            size: (self.arena.len() - start) as u32,
            kind,
            flags,
            count: count as u16,
            xid: self.xid,
            relation: self.relation,
            record_lsn: self.lsn,
            row: self.row,
        };
        self.arena[start..start + HEADER_BYTES].copy_from_slice(&header.to_bytes());
        self.last = start;
        self.row += 1;
        if matches!(
            kind,
            EventKind::Insert | EventKind::Update | EventKind::Delete
        ) {
            self.rows += 1;
        }
        Ok(())
    }
}
