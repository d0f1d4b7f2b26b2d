//! Places at which changes of structure are told.
//!
//! An event stands at the last command boundary that its transaction passed, or at the commit
//! record. It must reach assembly before what its transaction does next, and after what it did
//! before: so it takes the boundary's number within the chunk, or, if the boundary lies in an earlier
//! chunk, goes ahead of all that this chunk holds.

use std::sync::Arc;

use redostream_protocol::event::EventKind;
use redostream_protocol::{Lsn, Xid};

use super::messages::Draft;
use super::{Gate, GateError, Passage};
use crate::catalog::Target;
use crate::catalog::ddl::Told;
use crate::decoding::task::{Item, Targets};
use crate::framing::partition::{Group, OrderedEntry};
use crate::framing::record::Record;
use crate::framing::rmgr::{heap, id};

impl Passage<'_> {
    /// The number of a transaction's group, made if it has no record in the chunk.
    fn group_of(&mut self, xid: Xid, top: Xid) -> u16 {
        let in_chunk = self.chunk.groups.len();
        let mut all = self.chunk.groups.iter().chain(&self.own_groups);
        if let Some(number) = all.position(|group| group.xid == xid) {
            return number as u16;
        }
        let number = (in_chunk + self.own_groups.len()) as u16;
        self.own_groups.push(Group {
            xid,
            top,
            first: Lsn::MAX,
        });
        let tops = Arc::make_mut(&mut self.tops);
        let mut leaders = tops.by_group.iter();
        let leader = leaders.find(|(_, other)| *other == top);
        let leader = leader.map_or(number, |(leader, _)| *leader);
        tops.by_group.push((leader, top));
        number
    }

    /// Puts events into the part that is being gathered, as if the record with this number had
    /// made them.
    fn put_told(&mut self, told: &Told, top: Xid, lsn: Lsn, number: u32) -> Result<(), GateError> {
        let group = self.group_of(told.xid, top);
        let offset = self.own.arena.len() as u32;
        let mut last = offset;
        for (row, event) in told.events.iter().enumerate() {
            let payload =
                postcard::to_stdvec(event).map_err(|error| super::malformed(lsn, &error))?;
            let draft = Draft {
                kind: EventKind::Ddl,
                flags: 0,
                count: 0,
                relations: &[],
                payload: &payload,
                content: &[],
            };
            last = self.own.arena.len() as u32;
            draft.append(told.xid, lsn, row as u32, &mut self.own.arena);
        }
        let item = Item {
            number,
            offset,
            bytes: self.own.arena.len() as u32 - offset,
            last,
            events: told.events.len() as u32,
            rows: 0,
            relation: redostream_protocol::schema::RelationVersion(0),
            group,
            flags: 0,
        };
        let at = self
            .own
            .items
            .partition_point(|other| other.number < number);
        self.own.items.insert(at, item);
        for (of, _) in &mut self.own_relations {
            if *of as usize >= at {
                *of += 1;
            }
        }
        Ok(())
    }

    /// The number of the record at `lsn`, if the chunk shows it to the gate.
    fn number_at(&self, lsn: Lsn) -> Option<u32> {
        let ordered = &self.chunk.ordered;
        let at = ordered.partition_point(|entry| self.chunk.lsn(entry.lsn_offset) < lsn);
        let entry = ordered.get(at)?;
        (self.chunk.lsn(entry.lsn_offset) == lsn).then_some(entry.number)
    }
}

impl Gate {
    /// Before the rows of a part: their transactions' changes so far.
    pub(super) fn tell_before_rows(
        &mut self,
        targets: &Targets,
        passage: &mut Passage<'_>,
    ) -> Result<(), GateError> {
        for (viewer, files) in targets.viewers.iter().zip(&targets.by_view) {
            let Some(top) = viewer.filter(|top| self.catalog.has_untold(*top)) else {
                continue;
            };
            let mut known = files.iter().flatten();
            let is_table =
                |target: &Target| matches!(target, Target::Table(_) | Target::Undecodable { .. });
            if known.any(|target| is_table(target)) {
                self.tell_at_boundary(top, passage)?;
            }
        }
        Ok(())
    }

    /// Before an event of the gate's own: the rows before it first, then what its transaction has
    /// changed.
    pub(super) fn tell_before_event(
        &mut self,
        top: Xid,
        entry: &OrderedEntry,
        passage: &mut Passage<'_>,
    ) -> Result<(), GateError> {
        if !self.catalog.has_untold(top) {
            return Ok(());
        }
        let lsn = passage.lsn(entry);
        self.cut(passage, entry.number, lsn)?;
        self.tell_at_boundary(top, passage)
    }

    /// Before a record that writes to a catalog: what other subtransactions of its transaction have
    /// changed.
    pub(super) fn tell_of_others(
        &mut self,
        record: &Record<'_>,
        passage: &mut Passage<'_>,
    ) -> Result<(), GateError> {
        let top = self.transactions.top_of(record.xid);
        if !self.catalog.has_untold_of_others(top, record.xid) {
            return Ok(());
        }
        let operation = record.op() & heap::OP_MASK;
        let writes = match record.rmgr {
            id::HEAP => matches!(
                operation,
                heap::INSERT | heap::DELETE | heap::UPDATE | heap::HOT_UPDATE
            ),
            id::HEAP2 => operation == heap::MULTI_INSERT,
            _ => false,
        };
        if writes {
            self.tell_at_boundary(top, passage)?;
        }
        Ok(())
    }

    /// Tells a transaction's changes at the last boundary that it passed.
    pub(super) fn tell_at_boundary(
        &mut self,
        top: Xid,
        passage: &mut Passage<'_>,
    ) -> Result<(), GateError> {
        let Some(told) = self.told(top, passage)? else {
            return Ok(());
        };
        let lsn = told.boundary;
        if let Some(number) = passage.number_at(lsn) {
            return passage.put_told(&told, top, lsn, number);
        }
        // Ahead of everything that is still to go from this chunk.
        let end = match (passage.parts.last(), passage.chunk.first) {
            (Some(part), _) => part.end,
            (None, Some(first)) => first.lsn,
            (None, None) => passage.chunk.next,
        };
        let own = std::mem::take(&mut passage.own);
        let own_relations = std::mem::take(&mut passage.own_relations);
        let controls = std::mem::take(&mut passage.controls);
        passage.put_told(&told, top, lsn, 0)?;
        self.emit(passage, end, Targets::default(), None);
        debug_assert!(passage.own.items.is_empty());
        passage.own = own;
        passage.own_relations = own_relations;
        passage.controls = controls;
        Ok(())
    }

    /// Tells a transaction's changes at its commit record.
    pub(super) fn tell_at_commit(
        &mut self,
        top: Xid,
        entry: &OrderedEntry,
        passage: &mut Passage<'_>,
    ) -> Result<(), GateError> {
        let lsn = passage.lsn(entry);
        match self.told(top, passage)? {
            Some(told) => passage.put_told(&told, top, lsn, entry.number),
            None => Ok(()),
        }
    }

    /// A transaction's changes, if they are asked for and there are any.
    fn told(&mut self, top: Xid, passage: &Passage<'_>) -> Result<Option<Told>, GateError> {
        if !self.catalog.has_untold(top) || !self.is_consistent() || self.skips(top) {
            return Ok(None);
        }
        let told = self.catalog.tell(top, &self.transactions);
        let told = told.map_err(|error| GateError::Catalog {
            lsn: passage.chunk.next,
            error,
        })?;
        let Some(told) = told else {
            return Ok(None);
        };
        let wanted = !told.events.is_empty() && self.is_selected(told.database);
        Ok(wanted.then_some(told))
    }
}
