//! Catalog: the schema as a function of the log.
//!
//! Takes: copied catalog files, then every record that may change one, in log order. Gives: the
//! relation of a file as of that place in the log, in a given transaction's eyes. Keeps: catalog
//! pages, relation maps, who committed, what open transactions changed. Never: asks a server, or
//! guesses: what cannot be followed is an error.
//!
//! ```text
//! bootstrap ──► store: pages by file (file, pages, index), maps, commit log
//!                 ▲ replay (a file per kind of record)
//! gate ───────────┤
//!                 ▼ view (rows by key; visibility, detoast, layout)
//!               resolve, type_desc ──► registry: numbered relation versions
//! ```

pub mod bootstrap;
mod cache;
pub mod commit_log;
mod current;
pub mod ddl;
mod detoast;
mod error;
mod file;
pub mod filenodes;
mod gone;
mod index;
mod layout;
pub mod multixact;
mod pages;
mod reg_text;
pub mod registry;
pub mod relation;
mod replay;
mod resolve;
mod sharing;
pub mod slru;
mod store;
pub mod tracked;
mod tuple;
mod type_desc;
mod view;
mod visibility;
mod writer;

#[cfg(test)]
mod live_tests;

use std::sync::Arc;

use redostream_protocol::schema::{Database, Name};
use redostream_protocol::{DatabaseOid, Lsn, Oid, RelFileNode, Xid};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

pub use current::CurrentCatalog;
pub use error::CatalogError;
pub use pages::PageError;
pub use reg_text::CatalogSnapshot;
pub use registry::RelationRegistry;
pub use relation::{Attribute, IgnoreReason, Layout, Target};
pub use replay::Effect;
pub use sharing::SharedPage;
pub use tracked::TrackedFiles;
pub use writer::{Object, ObjectKind};

use bootstrap::CatalogSink;
use cache::{Cache, Key};
use commit_log::{CommitLog, XidStatus};
use filenodes::RelationMap;
use multixact::Multixacts;
use store::Store;
use type_desc::Describer;
use view::View;
use writer::Writer;

use crate::framing::format::WalFormat;
use crate::framing::record::Record;
use crate::framing::xact::XactEnd;
use crate::gate::transactions::Transactions;

/// The catalogs of a cluster at one point of its log.
///
/// A clone shares pages with the original until either changes them, and nothing else: it goes its
/// own way from here, also in numbering relation versions.
#[derive(Debug, Serialize, Deserialize)]
pub struct Catalog {
    store: Store,
    registry: RelationRegistry,
    ddl: ddl::Tracker,
    #[serde(skip)]
    cache: Cache,
    /// The last snapshot, while it still holds.
    #[serde(skip)]
    snapshot: Option<Arc<CatalogSnapshot>>,
}

impl Clone for Catalog {
    fn clone(&self) -> Self {
        Catalog {
            store: self.store.clone(),
            registry: self.registry.detached(),
            ddl: self.ddl.clone(),
            cache: Cache::default(),
            snapshot: None,
        }
    }
}

impl Catalog {
    /// An empty catalog of a version.
    #[must_use]
    pub fn new(format: &'static WalFormat) -> Catalog {
        Catalog {
            store: Store::new(format),
            registry: RelationRegistry::default(),
            ddl: ddl::Tracker::default(),
            cache: Cache::default(),
            snapshot: None,
        }
    }

    /// Puts pages (8192 bytes each) of a copied file of `catalog` in place. False if they lie beyond
    /// what a catalog can be.
    pub fn load_file(
        &mut self,
        node: RelFileNode,
        catalog: Oid,
        first_block: u32,
        pages: &[u8],
    ) -> bool {
        self.store.load(node, catalog, first_block, pages)
    }

    /// Puts a copied relation map in force; `database` is 0 for the shared one.
    pub fn load_map(&mut self, database: DatabaseOid, tablespace: Oid, map: RelationMap) {
        self.store.set_map(database, tablespace, map);
    }

    /// Puts the copied commit log in place.
    pub fn set_commit_log(&mut self, commit_log: CommitLog) {
        self.store.commit_log = Arc::new(commit_log);
    }

    /// Puts the copied multixacts in place.
    pub fn set_multixacts(&mut self, multixacts: Multixacts) {
        self.store.multixacts = Arc::new(multixacts);
    }

    /// Transactions from this one on begin after replay does. Older ones may have changed catalogs
    /// without the replayed log telling.
    pub fn set_next_xid(&mut self, next: Xid) {
        self.store.replayed_from = Some(next);
    }

    /// Catalog files of a database (0: shared ones) as far as known.
    #[must_use]
    pub fn files_of(&self, database: DatabaseOid) -> Vec<RelFileNode> {
        self.store.files_of(database)
    }

    /// The generation of [`Self::tracked`].
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.store.generation()
    }

    /// The files whose records have to be replayed. Its generation rises when the set grows.
    #[must_use]
    pub fn tracked(&self) -> Arc<TrackedFiles> {
        self.store.named()
    }

    /// Every relation version resolved so far, by number.
    #[must_use]
    pub fn registry(&self) -> &RelationRegistry {
        &self.registry
    }

    /// From here on the catalog is trusted: a missing file or block is an error. Blocks that were
    /// missing so far and were not truncated or dropped since are one now.
    pub fn consistent(&mut self) -> Result<(), CatalogError> {
        // The row of a database commits after its last page was logged.
        let homes: FxHashSet<DatabaseOid> = self.store.homes().map(|home| home.0).collect();
        self.store.consistent = true;
        let filling = homes
            .into_iter()
            .filter(|home| !self.has_row(*home))
            .collect();
        self.store.set_consistent(filling);
        self.store.first_missing().map_or(Ok(()), Err)
    }

    /// Replays a record: page images and changes of catalog files, storage, databases, relation
    /// maps, multixacts, commit log. Ends of transactions go to [`Catalog::commit`] and
    /// [`Catalog::abort`] instead.
    pub fn replay(
        &mut self,
        record: &Record<'_>,
        transactions: &Transactions,
    ) -> Result<Effect, CatalogError> {
        let top = if record.top_xid.is_normal() {
            record.top_xid
        } else {
            transactions.top_of(record.xid)
        };
        self.snapshot = None;
        let effect = replay::replay(&mut self.store, record, top)?;
        let written = std::mem::take(&mut self.store.written);
        self.ddl.wrote(top, record.xid, record.lsn, written);
        if effect.everyone {
            self.cache.databases_changed();
        }
        Ok(effect)
    }

    /// A transaction committed (also at COMMIT PREPARED), with the children that `end` lists.
    /// Returns whether what everybody sees may have changed.
    pub fn commit(
        &mut self,
        top: Xid,
        end: &XactEnd,
        _end_lsn: Lsn,
        _transactions: &Transactions,
    ) -> Result<bool, CatalogError> {
        let log = Arc::make_mut(&mut self.store.commit_log);
        log.set(top, XidStatus::Committed);
        log.set_all(end.subxacts.iter().copied(), XidStatus::Committed);
        self.drop_files(end);
        self.ddl.ended(top);
        let known = self.store.writers.remove(&top);
        if let Some(writer) = &known {
            self.store.let_go(&writer.ended);
        }
        if self.began_before_replay(top) {
            self.snapshot = None;
            self.cache.committed(top, &Writer::unknown());
            self.settle_databases();
            return Ok(true);
        }
        match known {
            Some(writer) => {
                self.snapshot = None;
                self.cache.committed(top, &writer);
                self.settle_databases();
                Ok(true)
            }
            None => Ok(!end.dropped.is_empty()),
        }
    }

    /// A transaction was rolled back, or a subtransaction with its own children. Returns whether
    /// what its top-level transaction sees may have changed.
    pub fn abort(
        &mut self,
        xid: Xid,
        end: &XactEnd,
        _end_lsn: Lsn,
        transactions: &Transactions,
    ) -> Result<bool, CatalogError> {
        let log = Arc::make_mut(&mut self.store.commit_log);
        log.set(xid, XidStatus::Aborted);
        log.set_all(end.subxacts.iter().copied(), XidStatus::Aborted);
        self.drop_files(end);
        let top = transactions.top_of(xid);
        self.snapshot = None;
        if top == xid {
            self.ddl.ended(top);
            self.cache.aborted(top);
            return Ok(self.store.writers.remove(&top).is_some());
        }
        let mut gone = end.subxacts.clone();
        gone.push(xid);
        self.ddl.rolled_back(top, &gone);
        if let Some(writer) = self.store.writers.get_mut(&top) {
            Arc::make_mut(writer).changes += 1;
            return Ok(true);
        }
        Ok(false)
    }

    /// A subtransaction turned out to belong to `top`: what it wrote before is `top`'s.
    pub fn assigned(&mut self, sub: Xid, top: Xid) {
        if sub == top {
            return;
        }
        self.ddl.assigned(sub, top);
        if self.store.writers.is_empty() {
            return;
        }
        if let Some(writer) = self.store.writers.remove(&sub) {
            self.snapshot = None;
            self.cache.aborted(sub);
            let into = Arc::make_mut(self.store.writers.entry(top).or_default());
            into.touched.extend(writer.touched.iter().copied());
            into.everything |= writer.everything;
            into.mapped.extend(writer.mapped.iter().copied());
            into.changes += writer.changes;
            into.ended.extend(writer.ended.iter().copied());
        }
    }

    /// The server said which transactions run: those before `oldest` that have not ended in the
    /// log never will.
    pub fn running_transactions(&mut self, _next: Xid, oldest: Xid, running: &[Xid]) {
        let gone = |top: &Xid| top.precedes(oldest) && !running.contains(top);
        let tops: Vec<Xid> = self.store.writers.keys().copied().filter(gone).collect();
        for top in tops {
            self.forget(top);
        }
        self.ddl.retain(|top| !gone(&top));
        let from = self.store.replayed_from;
        if from.is_some_and(|from| !oldest.precedes(from)) {
            self.store.replayed_from = None;
        }
        if !self.store.multixacts.is_empty() {
            Arc::make_mut(&mut self.store.multixacts).forget_ended(oldest);
        }
    }

    /// The server stopped: only prepared transactions are still open.
    pub fn all_gone(&mut self, prepared: &FxHashSet<Xid>) {
        let tops: Vec<Xid> = self.store.writers.keys().copied().collect();
        for top in tops.into_iter().filter(|top| !prepared.contains(top)) {
            self.forget(top);
        }
        self.ddl.retain(|top| prepared.contains(&top));
    }

    /// Whether a transaction has written catalog rows (or may have, before replay began), so that
    /// it may see other relations than everybody does.
    #[must_use]
    #[inline]
    pub fn has_changes(&self, top: Xid) -> bool {
        (!self.store.writers.is_empty() && self.store.writers.contains_key(&top))
            || self.began_before_replay(top)
    }

    /// Whether any open transaction has written catalog rows.
    #[must_use]
    #[inline]
    pub fn has_any_changes(&self) -> bool {
        !self.store.writers.is_empty()
    }

    /// Whether it is known how a transaction ended.
    #[must_use]
    pub fn has_ended(&self, xid: Xid) -> bool {
        let status = self.store.commit_log.get(xid);
        matches!(status, XidStatus::Committed | XidStatus::Aborted)
    }

    /// What an open transaction's catalog rows describe, in no order.
    pub fn touched(&self, top: Xid) -> impl Iterator<Item = Object> + '_ {
        let writer = self.store.writers.get(&top);
        writer
            .into_iter()
            .flat_map(|writer| writer.touched.iter().copied())
    }

    /// The relation of a file, as transaction `viewer` (a top-level xid; none for who has changed
    /// nothing) sees it here.
    pub fn resolve(
        &mut self,
        node: RelFileNode,
        viewer: Option<Xid>,
        transactions: &Transactions,
    ) -> Result<Arc<Target>, CatalogError> {
        self.resolve_key(Key::File(node), node.database, viewer, transactions)
    }

    /// The relation with an OID, as above.
    pub fn resolve_oid(
        &mut self,
        database: DatabaseOid,
        relation: Oid,
        viewer: Option<Xid>,
        transactions: &Transactions,
    ) -> Result<Arc<Target>, CatalogError> {
        let key = Key::Relation(database, relation);
        self.resolve_key(key, database, viewer, transactions)
    }

    fn resolve_key(
        &mut self,
        key: Key,
        database: DatabaseOid,
        viewer: Option<Xid>,
        transactions: &Transactions,
    ) -> Result<Arc<Target>, CatalogError> {
        let viewer = viewer.filter(|top| self.store.writers.contains_key(top));
        let writer = viewer.and_then(|top| Some((top, self.store.writers.get(&top)?)));
        let known = match writer {
            Some((top, writer)) => self.cache.own_target(top, writer, key),
            None => self.cache.target(key),
        };
        if let Some(target) = known {
            return Ok(target);
        }
        let mut describer = Describer {
            view: View {
                store: &self.store,
                database,
                viewer,
                transactions,
            },
            cache: &mut self.cache,
            depends_on: Vec::new(),
        };
        let target = match key {
            Key::File(node) => describer.target_of_file(node, &self.registry)?,
            Key::Relation(_, oid) => describer.target_of_oid(oid, &self.registry)?,
        };
        let depends_on = describer.depends_on;
        let target = Arc::new(target);
        match writer {
            Some((top, writer)) => self.cache.put_own(top, writer, key, Arc::clone(&target)),
            None => self.cache.put_target(key, Arc::clone(&target), depends_on),
        }
        Ok(target)
    }

    /// A database, as committed.
    pub fn database(&mut self, oid: DatabaseOid) -> Option<Arc<Database>> {
        if let Some(known) = self.cache.databases.get(&oid) {
            return Some(Arc::clone(known));
        }
        let transactions = Transactions::default();
        let view = self.committed(oid, &transactions);
        let database = Arc::new(resolve::read_database(&view, oid).ok()??);
        if self.store.consistent {
            self.cache.databases.insert(oid, Arc::clone(&database));
        }
        Some(database)
    }

    /// Every database, as committed, by OID.
    pub fn databases(&self) -> Result<Vec<Database>, CatalogError> {
        let transactions = Transactions::default();
        let view = self.committed(Oid::INVALID, &transactions);
        let rows = view.scan(layout::oid::DATABASE)?;
        let major = self.store.format.major;
        let mut databases = Vec::with_capacity(rows.len());
        for row in &rows {
            databases.push(resolve::database_of(row, major)?);
        }
        databases.sort_unstable_by_key(|database| database.oid);
        Ok(databases)
    }

    /// The name of a replication origin, as committed.
    #[must_use]
    pub fn origin_name(&self, id: u16) -> Option<Name> {
        let transactions = Transactions::default();
        let view = self.committed(Oid::INVALID, &transactions);
        let origin = layout::oid::REPLICATION_ORIGIN;
        let row = view.row_of(origin, "roident", Oid(u32::from(id))).ok()??;
        Some(Name(row.value("roname").ok()??.into_owned()))
    }

    /// The catalogs as of now, for decoders whose columns' text depends on them.
    #[must_use]
    pub fn snapshot(&mut self, transactions: &Transactions) -> Arc<CatalogSnapshot> {
        // Who looks matters only while somebody's own changes are there to be seen.
        let lasting = self.store.writers.is_empty();
        if let Some(known) = self.snapshot.as_ref().filter(|_| lasting) {
            return Arc::clone(known);
        }
        let snapshot = CatalogSnapshot::new(self.store.clone(), transactions.clone());
        let snapshot = Arc::new(snapshot);
        self.snapshot = lasting.then(|| Arc::clone(&snapshot));
        snapshot
    }

    /// Whether a transaction may have changed catalogs before replay began.
    fn began_before_replay(&self, top: Xid) -> bool {
        let from = self.store.replayed_from;
        from.is_some_and(|from| top.precedes(from))
    }

    fn committed<'a>(&'a self, database: DatabaseOid, transactions: &'a Transactions) -> View<'a> {
        View {
            store: &self.store,
            database,
            viewer: None,
            transactions,
        }
    }

    /// Looks which databases that are being filled have been committed.
    fn settle_databases(&mut self) {
        let filling: Vec<_> = self.store.filling.iter().copied().collect();
        for database in filling {
            if self.has_row(database) {
                self.store.filled(database);
            }
        }
    }

    fn has_row(&self, database: DatabaseOid) -> bool {
        let transactions = Transactions::default();
        let view = self.committed(Oid::INVALID, &transactions);
        let row = view.row_of(layout::oid::DATABASE, "oid", database);
        matches!(row, Ok(Some(_)))
    }

    fn drop_files(&mut self, end: &XactEnd) {
        for node in &end.dropped {
            self.store.drop_file(*node);
        }
    }

    fn forget(&mut self, top: Xid) {
        self.snapshot = None;
        self.store.writers.remove(&top);
        self.ddl.ended(top);
        self.cache.aborted(top);
    }
}

impl CatalogSink for Catalog {
    fn database(&mut self, _database: DatabaseOid, _tablespace: Oid) {
        // Its relation map, which follows, says the same.
    }

    fn map(&mut self, database: DatabaseOid, tablespace: Oid, map: &RelationMap) {
        self.load_map(database, tablespace, map.clone());
    }

    fn file(&mut self, node: RelFileNode, catalog: Oid, first_block: u32, pages: &[u8]) {
        // Bootstrap has refused what is too large; by what a file has grown since, the log tells.
        let _ = self.load_file(node, catalog, first_block, pages);
    }

    fn next_xid(&mut self, next: Xid) {
        self.set_next_xid(next);
    }

    fn multixacts(&mut self, multixacts: Multixacts) {
        self.set_multixacts(multixacts);
    }

    fn commit_log(&mut self, commit_log: CommitLog) {
        self.set_commit_log(commit_log);
    }
}
