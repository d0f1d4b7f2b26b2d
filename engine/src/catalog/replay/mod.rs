//! Replay: does to catalog pages what recovery does, one file per kind of record.
//!
//! Every record, whatever its resource manager, first puts its page images in place: those of
//! main forks of catalog files that are marked for replay, without asking the page's LSN. Then the
//! resource manager's own change is made to each page that is older than the record's end and was
//! not just restored.
// pg: access/transam/xlogutils.c XLogReadBufferForRedoExtended [14-18]

mod confirm;
mod dbase;
mod delete;
mod freeze;
mod image;
mod inplace;
mod insert;
mod lock;
mod multi_insert;
mod prune;
mod smgr;
mod update;
mod vacuum;

#[cfg(test)]
mod tests;

use redostream_protocol::cursor::{Cursor, ShortInput};
use redostream_protocol::{Lsn, Oid, RelFileNode, Xid};

use super::CatalogError;
use super::ddl::{Written, concerns, objects_of};
use super::filenodes::{RelationMapError, RelationMapUpdate};
use super::index::Tid;
use super::layout::{CatalogLayout, GLOBAL_TABLESPACE, oid};
use super::pages::{Page, PageError};
use super::store::Store;
use super::tuple::{fixed_u32, xmax};
use super::writer::{KEYS, Object, ObjectKind};
use crate::framing::record::{BlockRef, MAIN_FORK, Record};
use crate::framing::rmgr::{heap, id};
use crate::limits::ENDED_TUPLES_MAX;
use std::sync::Arc;

const RELMAP_UPDATE: u8 = 0x00;

/// What a record did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Its transaction wrote catalog rows: what that transaction sees is another from here on.
    pub own: bool,
    /// What everybody sees may be another from here on.
    pub everyone: bool,
}

/// Replays one record; `top` is the top-level transaction of its xid.
pub(crate) fn replay(
    store: &mut Store,
    record: &Record<'_>,
    top: Xid,
) -> Result<Effect, CatalogError> {
    let mut replay = Replay {
        end: Lsn(record.end_lsn.0.next_multiple_of(8)),
        store,
        record,
        top,
        restored: 0,
        written: Vec::new(),
        effect: Effect::default(),
    };
    image::restore(&mut replay)?;
    match record.rmgr {
        id::HEAP => replay.heap()?,
        id::HEAP2 => replay.heap2()?,
        id::STORAGE => smgr::apply(&mut replay)?,
        id::DATABASE => dbase::apply(&mut replay)?,
        id::RELMAP => replay.relation_map()?,
        id::MULTIXACT => {
            let multixacts = Arc::make_mut(&mut replay.store.multixacts);
            let replayed = multixacts.replay(record.info, record.main);
            replayed.map_err(|error| replay.other("multixact", &error))?;
        }
        id::CLOG => {
            let commit_log = Arc::make_mut(&mut replay.store.commit_log);
            let replayed = commit_log.replay(record.info, record.main);
            replayed.map_err(|error| replay.other("commit log", &error))?;
        }
        _ => {}
    }
    replay.finish()?;
    Ok(replay.effect)
}

/// One record on its way into the store.
struct Replay<'s, 'r, 'a> {
    store: &'s mut Store,
    record: &'r Record<'a>,
    /// The LSN it leaves on pages: its end, aligned as the server counts it.
    end: Lsn,
    top: Xid,
    /// Bit by block id: the page was restored from an image.
    restored: u64,
    /// Tuples that the record's transaction inserted, changed or deleted.
    written: Vec<(RelFileNode, Tid)>,
    effect: Effect,
}

impl<'a> Replay<'_, '_, 'a> {
    fn heap(&mut self) -> Result<(), CatalogError> {
        if !self.concerns_catalog(0) {
            return Ok(());
        }
        match self.record.op() & heap::OP_MASK {
            heap::INSERT => insert::apply(self),
            heap::DELETE => delete::apply(self),
            heap::UPDATE | heap::HOT_UPDATE => update::apply(self),
            heap::CONFIRM => confirm::apply(self),
            heap::LOCK => lock::apply(self, lock::Kind::Latest),
            heap::INPLACE => inplace::apply(self),
            // TRUNCATE changes no page.
            _ => Ok(()),
        }
    }

    fn heap2(&mut self) -> Result<(), CatalogError> {
        if !self.concerns_catalog(0) {
            // VISIBLE has the heap page in block 1, but only marks it.
            return Ok(());
        }
        let unified = self.store.format.unified_prune;
        match self.record.op() & heap::OP_MASK {
            heap::MULTI_INSERT => multi_insert::apply(self),
            LOCK_UPDATED => lock::apply(self, lock::Kind::Older),
            0x10..=0x30 if unified => prune::apply_unified(self),
            0x10 => prune::apply(self),
            0x20 => vacuum::apply(self),
            0x30 => freeze::apply(self),
            _ => Ok(()),
        }
    }

    fn relation_map(&mut self) -> Result<(), CatalogError> {
        if self.record.op() != RELMAP_UPDATE {
            return Err(self.malformed("relation map", "unknown operation"));
        }
        let update = RelationMapUpdate::parse(self.record.main);
        let update =
            update.map_err(|error: RelationMapError| self.other("relation map", &error))?;
        let tablespace = if update.database.is_valid() {
            update.tablespace
        } else {
            GLOBAL_TABLESPACE
        };
        self.store.set_map(update.database, tablespace, update.map);
        self.effect.everyone = true;
        Ok(())
    }

    /// Whether block reference `id` is a page that is kept.
    fn concerns_catalog(&self, id: u8) -> bool {
        let block = self.record.block(id);
        block.is_some_and(|block| block.fork == MAIN_FORK && self.store.keeps(block.node))
    }

    /// The block reference `id`, which the record must have.
    fn block(&self, id: u8, record: &'static str) -> Result<BlockRef<'a>, CatalogError> {
        let block = self.record.block(id).copied();
        block.ok_or_else(|| self.malformed(record, "it lacks a block reference"))
    }

    /// Changes the page of block reference `id`, unless it is as new as the record or was just
    /// restored from an image.
    fn redo_with(
        &mut self,
        id: u8,
        name: &'static str,
        change: impl FnOnce(&mut Page) -> Result<(), ApplyError>,
    ) -> Result<(), CatalogError> {
        let block = self.block(id, name)?;
        if self.restored & 1 << id != 0 {
            return Ok(());
        }
        let (node, end, lsn) = (block.node, self.end, self.record.lsn);
        if block.will_init {
            if !self.store.file_mut(node).put(block.block, Page::empty()) {
                return Err(self.malformed(name, "its block number is beyond any catalog's"));
            }
            self.store.found(node, block.block);
        }
        let mut page_lsn = Lsn::INVALID;
        let changed = if self.store.files.contains_key(&node) {
            self.store.file_mut(node).change(block.block, |page| {
                page_lsn = page.lsn();
                if page_lsn >= end {
                    return Ok(());
                }
                if page.is_new() {
                    page.init();
                }
                change(page)?;
                page.set_lsn(end);
                Ok(())
            })
        } else {
            None
        };
        match changed {
            None => self.store.miss(node, block.block, lsn),
            Some(Ok(())) => Ok(()),
            Some(Err(ApplyError::Short(short))) => Err(self.cursor_error(name)(short)),
            Some(Err(ApplyError::Page(error))) => Err(CatalogError::Replay {
                lsn,
                node,
                block: block.block,
                page_lsn,
                error,
            }),
        }
    }

    /// A catalog tuple may name this multixact.
    fn pin(&mut self, multixact: Xid) {
        if self.store.multixacts.updater(multixact.0).is_some() {
            Arc::make_mut(&mut self.store.multixacts).pin(multixact.0);
        }
    }

    /// Notes a tuple that the record's transaction wrote.
    fn wrote(&mut self, block: BlockRef<'_>, offset: u16) {
        let tid = Tid {
            block: block.block,
            offset,
        };
        self.written.push((block.node, tid));
    }

    /// After the pages: notes what was written, for caches and for the set of files.
    fn finish(&mut self) -> Result<(), CatalogError> {
        let Some((first, _)) = self.written.first().copied() else {
            return Ok(());
        };
        if self.store.owner(first) == Some(oid::CLASS) {
            let tids: Vec<_> = self.written.iter().map(|(_, tid)| *tid).collect();
            self.store.learn_tuples(first, &tids);
        }
        if !self.record.xid.is_normal() {
            return Ok(());
        }
        let touched = self.touched();
        let consistent = self.store.consistent;
        if consistent {
            self.note_objects();
        }
        let ended = if consistent { self.ended() } else { Vec::new() };
        let pending = self.pending_map(first);
        let writer = self.store.writers.entry(self.top).or_default();
        let writer = Arc::make_mut(writer);
        writer.changes += 1;
        match touched.filter(|_| consistent) {
            Some(objects) => writer.touched.extend(objects),
            None => writer.everything = true,
        }
        if let Some(entry) = pending
            && !writer.mapped.contains(&entry)
        {
            writer.mapped.push(entry);
        }
        let room = ENDED_TUPLES_MAX.saturating_sub(writer.ended.len());
        writer.ended.extend(ended.into_iter().take(room));
        self.effect.own = true;
        Ok(())
    }

    /// The written tuples that were ended. Those of other catalogs, TOAST above all, stay until the
    /// server removes them.
    fn ended(&self) -> Vec<(RelFileNode, Tid)> {
        let is_ended = |(node, tid): &&(RelFileNode, Tid)| {
            let page = self.store.file(*node).and_then(|file| file.page(tid.block));
            let tuple = page.and_then(|page| page.tuple(tid.offset).ok());
            self.store.owner(*node).is_some_and(concerns)
                && tuple.is_some_and(|tuple| xmax(tuple).is_normal())
        };
        self.written.iter().filter(is_ended).copied().collect()
    }

    /// Notes the objects that the written tuples belong to, for DDL events.
    fn note_objects(&mut self) {
        let mut written = Written::default();
        for (node, tid) in &self.written {
            let Some(catalog) = self.store.owner(*node) else {
                continue;
            };
            if !concerns(catalog) {
                continue;
            }
            let page = self.store.file(*node).and_then(|file| file.page(tid.block));
            let Some(tuple) = page.and_then(|page| page.tuple(tid.offset).ok()) else {
                continue;
            };
            let database = match catalog {
                // Its second column, in every version, is the database it is of.
                // pg: catalog/pg_subscription.h subdbid [14-18]
                oid::SUBSCRIPTION => fixed_u32(tuple, 4).map_or(node.database, Oid),
                _ => node.database,
            };
            if !database.is_valid() {
                continue;
            }
            if let Some(layout) = super::view::layout_of(self.store, database, catalog) {
                written.database = database;
                let objects = &mut written.objects;
                objects_of(catalog, &layout, tuple, |object| objects.push(object));
            }
        }
        self.store.written = written;
    }

    /// What the written tuples describe; `None` if it cannot be told.
    fn touched(&self) -> Option<Vec<Object>> {
        let mut objects = Vec::new();
        let mut layout_of: Option<(RelFileNode, Arc<CatalogLayout>)> = None;
        for (node, tid) in &self.written {
            let Some(catalog) = self.store.owner(*node) else {
                continue;
            };
            if !KEYS.iter().any(|(keyed, _, _)| *keyed == catalog) {
                continue;
            }
            if layout_of.as_ref().is_none_or(|(known, _)| known != node) {
                let layout = super::view::layout_of(self.store, node.database, catalog)?;
                layout_of = Some((*node, layout));
            }
            let (_, layout) = layout_of.as_ref()?;
            let tuple = self
                .store
                .file(*node)?
                .page(tid.block)?
                .tuple(tid.offset)
                .ok()?;
            for (at, kind) in &layout.keys {
                let oid = Oid(super::tuple::fixed_u32(tuple, *at)?);
                let (database, kind) = match kind {
                    ObjectKind::Database => (Oid::INVALID, *kind),
                    _ => (node.database, *kind),
                };
                objects.push(Object {
                    database,
                    kind,
                    oid,
                });
            }
        }
        Some(objects)
    }

    /// The new file of a mapped catalog that the transaction has begun to write to: from here on
    /// it reads the catalog there, while the map still says otherwise.
    fn pending_map(&self, node: RelFileNode) -> Option<(Oid, Oid, RelFileNode)> {
        let catalog = self.store.owner(node)?;
        if !self.store.is_mapped(node.database, catalog) {
            return None;
        }
        let current = if node.database.is_valid() {
            self.store
                .mapped_file(node.database, node.tablespace, catalog)
        } else {
            self.store.shared_file(catalog)
        };
        (current != Some(node)).then_some((node.database, catalog, node))
    }

    fn cursor_error(&self, record: &'static str) -> impl Fn(ShortInput) -> CatalogError + use<> {
        let lsn = self.record.lsn;
        move |short| CatalogError::Record { lsn, record, short }
    }

    fn malformed(&self, record: &'static str, problem: &'static str) -> CatalogError {
        CatalogError::Malformed {
            lsn: self.record.lsn,
            record,
            problem: problem.to_owned(),
        }
    }

    fn other(&self, record: &'static str, problem: &dyn ToString) -> CatalogError {
        CatalogError::Malformed {
            lsn: self.record.lsn,
            record,
            problem: problem.to_string(),
        }
    }
}

/// Why a change cannot be made to a page.
#[derive(Debug)]
enum ApplyError {
    /// The record is too short.
    Short(ShortInput),
    /// The page does not fit.
    Page(PageError),
}

impl From<ShortInput> for ApplyError {
    fn from(short: ShortInput) -> Self {
        ApplyError::Short(short)
    }
}

impl From<PageError> for ApplyError {
    fn from(error: PageError) -> Self {
        ApplyError::Page(error)
    }
}

/// `XLOG_HEAP2_LOCK_UPDATED`.
const LOCK_UPDATED: u8 = 0x60;

/// `count` line pointer numbers.
fn offsets(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<u16>, ShortInput> {
    let bytes = cursor.take(count * 2, "line pointers")?;
    let pairs = bytes.chunks_exact(2);
    Ok(pairs
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect())
}
