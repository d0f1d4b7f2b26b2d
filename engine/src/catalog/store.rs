//! Everything that replay keeps: catalog files, relation maps, who committed, who has written.
//!
//! Which files are catalogs' is found by looking at every version of every `pg_class` tuple,
//! visible or not: a file is wanted if a tuple names it whose relation, or whose relation's
//! original during a rewrite, was made by `initdb`; and if a relation map names it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use redostream_protocol::{DatabaseOid, Lsn, Oid, RelFileNode, Xid};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

use super::CatalogError;
use super::bootstrap::class_rows::{catalog_of, is_tracked};
use super::commit_log::CommitLog;
use super::ddl::Written;
use super::file::File;
use super::filenodes::RelationMap;
use super::index::Tid;
use super::layout::{self, CatalogLayout, GLOBAL_TABLESPACE};
use super::multixact::Multixacts;
use super::pages::Page;
use super::tracked::TrackedFiles;
use super::tuple;
use super::writer::Writer;
use crate::framing::format::WalFormat;
use crate::limits::HEAP_PAGE_BYTES;

/// The state of the catalogs at one point of the log.
///
/// A clone shares pages, indexes and maps with the original until either changes them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Store {
    #[serde(with = "by_major")]
    pub(crate) format: &'static WalFormat,
    pub(crate) files: FxHashMap<RelFileNode, Arc<File>>,
    /// By database (0 for the shared one) and tablespace. Two of one database stand side by side
    /// only while it moves.
    maps: BTreeMap<(DatabaseOid, Oid), Arc<RelationMap>>,
    /// Catalogs' files, with the catalog each belongs to (also while it is being rewritten).
    tracked: FxHashMap<RelFileNode, Oid>,
    /// Files that are gone; a stale tuple that still names one does not bring it back.
    dropped: FxHashSet<RelFileNode>,
    /// Mapped relations that are indexes: their files are not kept.
    mapped_indexes: FxHashSet<Oid>,
    named: Arc<TrackedFiles>,
    pub(crate) commit_log: Arc<CommitLog>,
    pub(crate) multixacts: Arc<Multixacts>,
    /// Open transactions that have written catalog tuples, by top-level xid.
    pub(crate) writers: FxHashMap<Xid, Arc<Writer>>,
    /// Databases whose files are being logged page by page. What is a catalog among them cannot be
    /// told before their `pg_class` is whole.
    pub(crate) filling: FxHashSet<DatabaseOid>,
    /// Blocks that records wanted to change and that were not there, before the consistency point.
    missing: FxHashMap<RelFileNode, BTreeMap<u32, Lsn>>,
    pub(crate) consistent: bool,
    /// Transactions below this one may have changed catalogs before replay began.
    pub(crate) replayed_from: Option<Xid>,
    #[serde(skip)]
    pub(crate) layouts: Layouts,
    /// Objects that the record just replayed wrote, for DDL events.
    #[serde(skip)]
    pub(crate) written: Written,
}

/// Layouts of catalogs as read from `pg_attribute`, by database and catalog. They never change
/// while a cluster lives.
#[derive(Debug, Default)]
pub(crate) struct Layouts {
    read: RwLock<FxHashMap<(DatabaseOid, Oid), Arc<CatalogLayout>>>,
    built_in: std::sync::OnceLock<BuiltIn>,
}

#[derive(Debug)]
struct BuiltIn {
    class: Arc<CatalogLayout>,
    attribute: Arc<CatalogLayout>,
    class_columns: ClassColumns,
}

/// Where the columns of `pg_class` that name files are.
#[derive(Clone, Copy, Debug, Default)]
struct ClassColumns {
    relfilenode: usize,
    reltablespace: usize,
    relkind: usize,
    relrewrite: usize,
}

impl Clone for Layouts {
    fn clone(&self) -> Self {
        Layouts {
            read: RwLock::new(self.read.read().clone()),
            built_in: std::sync::OnceLock::new(),
        }
    }
}

impl Layouts {
    fn built_in(&self, major: u16) -> &BuiltIn {
        self.built_in.get_or_init(|| {
            let class = layout::pg_class(major);
            let at = |name| class.fixed_offset(name).unwrap_or(0);
            let class_columns = ClassColumns {
                relfilenode: at("relfilenode"),
                reltablespace: at("reltablespace"),
                relkind: at("relkind"),
                relrewrite: at("relrewrite"),
            };
            BuiltIn {
                class: Arc::new(class),
                attribute: Arc::new(layout::pg_attribute(major)),
                class_columns,
            }
        })
    }

    pub(crate) fn get(
        &self,
        major: u16,
        database: DatabaseOid,
        catalog: Oid,
    ) -> Option<Arc<CatalogLayout>> {
        match catalog {
            layout::oid::CLASS => Some(Arc::clone(&self.built_in(major).class)),
            layout::oid::ATTRIBUTE => Some(Arc::clone(&self.built_in(major).attribute)),
            _ => self.read.read().get(&(database, catalog)).cloned(),
        }
    }

    pub(crate) fn put(&self, database: DatabaseOid, catalog: Oid, layout: Arc<CatalogLayout>) {
        self.read.write().insert((database, catalog), layout);
    }
}

impl Store {
    pub(crate) fn new(format: &'static WalFormat) -> Store {
        Store {
            format,
            files: FxHashMap::default(),
            maps: BTreeMap::new(),
            tracked: FxHashMap::default(),
            dropped: FxHashSet::default(),
            mapped_indexes: FxHashSet::default(),
            named: Arc::default(),
            commit_log: Arc::default(),
            multixacts: Arc::default(),
            writers: FxHashMap::default(),
            filling: FxHashSet::default(),
            missing: FxHashMap::default(),
            consistent: false,
            replayed_from: None,
            layouts: Layouts::default(),
            written: Written::default(),
        }
    }

    /// The generation of the set that framing consults.
    pub(crate) fn generation(&self) -> u64 {
        self.named.generation()
    }

    /// The set that framing consults.
    pub(crate) fn named(&self) -> Arc<TrackedFiles> {
        Arc::clone(&self.named)
    }

    /// The catalog a file belongs to, if it is a catalog's.
    pub(crate) fn owner(&self, node: RelFileNode) -> Option<Oid> {
        self.tracked.get(&node).copied()
    }

    /// Catalogs' files of a database (0: the shared ones), in order.
    pub(crate) fn files_of(&self, database: DatabaseOid) -> Vec<RelFileNode> {
        let all = self.tracked.keys().copied();
        let mut files: Vec<_> = all.filter(|node| node.database == database).collect();
        files.sort_unstable();
        files
    }

    /// Whether pages of the file are kept.
    pub(crate) fn keeps(&self, node: RelFileNode) -> bool {
        // A database may have begun to be filled before replay did.
        let open = !self.consistent || self.filling.contains(&node.database);
        self.tracked.contains_key(&node) || (open && self.named.contains(node))
    }

    /// The catalogs can be trusted from here on, except those of databases in `filling`.
    pub(crate) fn set_consistent(&mut self, filling: FxHashSet<DatabaseOid>) {
        self.consistent = true;
        self.filling.extend(filling);
        let (tracked, filling) = (&self.tracked, &self.filling);
        let kept =
            |node: &RelFileNode| tracked.contains_key(node) || filling.contains(&node.database);
        self.files.retain(|node, _| kept(node));
        self.missing.retain(|node, _| kept(node));
    }

    // ---- relation maps ----

    /// Puts a map in force.
    pub(crate) fn set_map(&mut self, database: DatabaseOid, tablespace: Oid, map: RelationMap) {
        let place = if database.is_valid() {
            tablespace
        } else {
            GLOBAL_TABLESPACE
        };
        let map = Arc::new(map);
        self.maps.insert((database, place), Arc::clone(&map));
        for (catalog, number) in map.entries() {
            if !self.mapped_indexes.contains(catalog) {
                let node = RelFileNode {
                    tablespace: place,
                    database,
                    relation: *number,
                };
                self.dropped.remove(&node);
                self.track(node, *catalog);
            }
        }
    }

    /// The map of a database in a tablespace.
    pub(crate) fn map_at(
        &self,
        database: DatabaseOid,
        tablespace: Oid,
    ) -> Option<Arc<RelationMap>> {
        self.maps.get(&(database, tablespace)).cloned()
    }

    /// Databases that have a relation map, with the tablespaces these are in.
    pub(crate) fn homes(&self) -> impl Iterator<Item = (DatabaseOid, Oid)> + '_ {
        let databases = self.maps.keys().copied();
        databases.filter(|(database, _)| database.is_valid())
    }

    /// Tablespaces that hold a relation map of the database: one, or two while it moves.
    pub(crate) fn homes_of(&self, database: DatabaseOid) -> impl Iterator<Item = Oid> + '_ {
        let range = (database, Oid(0))..=(database, Oid(u32::MAX));
        self.maps
            .range(range)
            .map(|((_, tablespace), _)| *tablespace)
    }

    /// The file of a mapped catalog, in the map of the database in this tablespace.
    pub(crate) fn mapped_file(
        &self,
        database: DatabaseOid,
        tablespace: Oid,
        catalog: Oid,
    ) -> Option<RelFileNode> {
        let number = self.maps.get(&(database, tablespace))?.file_of(catalog)?;
        Some(RelFileNode {
            tablespace,
            database,
            relation: number,
        })
    }

    /// The file of a shared catalog; shared catalogs are all mapped.
    pub(crate) fn shared_file(&self, catalog: Oid) -> Option<RelFileNode> {
        self.mapped_file(Oid::INVALID, GLOBAL_TABLESPACE, catalog)
    }

    /// Whether the catalog's file is found through a map, not through `pg_class`.
    pub(crate) fn is_mapped(&self, database: DatabaseOid, catalog: Oid) -> bool {
        self.shared_file(catalog).is_some()
            || self
                .homes_of(database)
                .any(|home| self.mapped_file(database, home, catalog).is_some())
    }

    // ---- files ----

    /// Puts pages of a copied file of `catalog` in place.
    pub(crate) fn load(
        &mut self,
        node: RelFileNode,
        catalog: Oid,
        first_block: u32,
        bytes: &[u8],
    ) -> bool {
        self.track(node, catalog);
        let file = Arc::make_mut(self.files.entry(node).or_default());
        let mut fits = true;
        for (block, bytes) in (first_block..).zip(bytes.chunks_exact(HEAP_PAGE_BYTES)) {
            if let Some(page) = Page::from_bytes(bytes) {
                fits &= file.put(block, page);
            }
        }
        if self.owner(node) == Some(layout::oid::CLASS) {
            self.learn_files(node);
        }
        fits
    }

    pub(crate) fn file(&self, node: RelFileNode) -> Option<&File> {
        self.files.get(&node).map(Arc::as_ref)
    }

    /// The file, to be changed; made if it is not there.
    pub(crate) fn file_mut(&mut self, node: RelFileNode) -> &mut File {
        Arc::make_mut(self.files.entry(node).or_default())
    }

    /// A file was made: it is empty, whatever was there under its number.
    pub(crate) fn create_file(&mut self, node: RelFileNode) {
        self.missing.remove(&node);
        if self.files.remove(&node).is_some() || self.tracked.contains_key(&node) {
            self.files.insert(node, Arc::default());
        }
    }

    /// A file is gone.
    pub(crate) fn drop_file(&mut self, node: RelFileNode) {
        self.missing.remove(&node);
        self.files.remove(&node);
        if self.tracked.remove(&node).is_some() {
            self.dropped.insert(node);
        }
    }

    /// A file was cut to `blocks`.
    pub(crate) fn truncate_file(&mut self, node: RelFileNode, blocks: u32) {
        if let Some(file) = self.files.get_mut(&node) {
            Arc::make_mut(file).truncate(blocks);
        }
        if let Some(missing) = self.missing.get_mut(&node) {
            missing.split_off(&blocks);
            if missing.is_empty() {
                self.missing.remove(&node);
            }
        }
    }

    /// A database's directory in a tablespace is gone, with everything in it.
    pub(crate) fn drop_directory(&mut self, database: DatabaseOid, tablespace: Oid) {
        let inside =
            |node: &RelFileNode| node.database == database && node.tablespace == tablespace;
        self.files.retain(|node, _| !inside(node));
        self.tracked.retain(|node, _| !inside(node));
        self.missing.retain(|node, _| !inside(node));
        self.dropped.retain(|node| !inside(node));
        self.filling.remove(&database);
        self.maps.remove(&(database, tablespace));
    }

    /// A database's directory was copied, file by file.
    pub(crate) fn copy_directory(&mut self, from: (DatabaseOid, Oid), to: (DatabaseOid, Oid)) {
        // Before the consistency point the copied data directory may hold the new database
        // already, and the old one as it became later: then only what is missing is taken.
        if self.consistent {
            self.drop_directory(to.0, to.1);
        }
        let moved = |node: &RelFileNode| RelFileNode {
            tablespace: to.1,
            database: to.0,
            relation: node.relation,
        };
        let inside = |node: &RelFileNode| node.database == from.0 && node.tablespace == from.1;
        let tracked: Vec<_> = self
            .tracked
            .iter()
            .map(|(node, oid)| (*node, *oid))
            .collect();
        for (node, catalog) in tracked.into_iter().filter(|(node, _)| inside(node)) {
            self.track(moved(&node), catalog);
        }
        let files: Vec<_> = self.files.keys().copied().filter(inside).collect();
        for node in files {
            if let Some(source) = self.files.get(&node).cloned() {
                let file = self.file_mut(moved(&node));
                file.fill_from(&source);
            }
        }
        if let Some(map) = self.map_at(from.0, from.1)
            && self.map_at(to.0, to.1).is_none()
        {
            self.set_map(to.0, to.1, RelationMap::clone(&map));
        }
    }

    /// Every page of a database that was logged page by page is there: what turned out to be no
    /// catalog is let go.
    pub(crate) fn filled(&mut self, database: DatabaseOid) {
        if self.filling.remove(&database) {
            let tracked = &self.tracked;
            self.files
                .retain(|node, _| node.database != database || tracked.contains_key(node));
        }
    }

    // ---- missing blocks ----

    /// A record changes a block that is not there.
    pub(crate) fn miss(
        &mut self,
        node: RelFileNode,
        block: u32,
        lsn: Lsn,
    ) -> Result<(), CatalogError> {
        if self.consistent {
            return Err(CatalogError::MissingBlock { lsn, node, block });
        }
        let blocks = self.missing.entry(node).or_default();
        blocks.entry(block).or_insert(lsn);
        Ok(())
    }

    /// A block was written whole.
    pub(crate) fn found(&mut self, node: RelFileNode, block: u32) {
        if let Some(blocks) = self.missing.get_mut(&node) {
            blocks.remove(&block);
            if blocks.is_empty() {
                self.missing.remove(&node);
            }
        }
    }

    /// The first block still missing.
    pub(crate) fn first_missing(&self) -> Option<CatalogError> {
        let all = self.missing.iter().filter_map(|(node, blocks)| {
            let (block, lsn) = blocks.first_key_value()?;
            Some((*lsn, *node, *block))
        });
        let (lsn, node, block) = all.min()?;
        Some(CatalogError::MissingBlock { lsn, node, block })
    }

    // ---- which files are catalogs' ----

    /// Looks for files that tuples of this `pg_class` file name.
    fn learn_files(&mut self, node: RelFileNode) {
        let blocks = self.file(node).map_or(0, File::blocks);
        for block in 0..blocks {
            self.learn_block(node, block);
        }
    }

    /// As above, for one block.
    pub(crate) fn learn_block(&mut self, node: RelFileNode, block: u32) {
        let Some(page) = self.file(node).and_then(|file| file.page(block)) else {
            return;
        };
        let names: Vec<_> = page
            .tuples()
            .filter_map(|(_, tuple)| self.named_by(node, tuple))
            .collect();
        for name in names {
            self.learn(name, false);
        }
    }

    /// As above, for tuples that were just written.
    pub(crate) fn learn_tuples(&mut self, node: RelFileNode, tids: &[Tid]) {
        let Some(file) = self.file(node) else {
            return;
        };
        let names: Vec<_> = tids
            .iter()
            .filter_map(|tid| {
                let tuple = file.page(tid.block)?.tuple(tid.offset).ok()?;
                self.named_by(node, tuple)
            })
            .collect();
        for name in names {
            self.learn(name, true);
        }
    }

    fn learn(&mut self, name: Named, fresh: bool) {
        match name {
            Named::Index(oid) => {
                if self.mapped_indexes.insert(oid) {
                    let all = self.tracked.iter().filter(|(_, catalog)| **catalog == oid);
                    let gone: Vec<_> = all.map(|(node, _)| *node).collect();
                    for node in gone {
                        self.tracked.remove(&node);
                        self.files.remove(&node);
                        self.missing.remove(&node);
                    }
                }
            }
            Named::File { node, catalog } => {
                if fresh {
                    self.dropped.remove(&node);
                }
                self.track(node, catalog);
            }
        }
    }

    /// What a tuple of a `pg_class` file says of files.
    fn named_by(&self, class: RelFileNode, tuple: &[u8]) -> Option<Named> {
        let at = self.layouts.built_in(self.format.major).class_columns;
        let oid = tuple::fixed_u32(tuple, 0)?;
        let rewrite = tuple::fixed_u32(tuple, at.relrewrite)?;
        let catalog = catalog_of(Oid(oid), Oid(rewrite));
        if !is_tracked(Oid(oid), Oid(rewrite)) {
            return None;
        }
        let kind = *tuple.get(tuple::hoff(tuple) + at.relkind)?;
        let number = tuple::fixed_u32(tuple, at.relfilenode)?;
        if !matches!(kind, b'r' | b't' | b'm') {
            return (kind == b'i' && number == 0).then_some(Named::Index(catalog));
        }
        let number = match (number, rewrite) {
            // Mapped: the relation map says where.
            (0, 0) => return None,
            // A mapped catalog's transient heap lies in a file of its own OID.
            (0, _) => oid,
            (number, _) => number,
        };
        let tablespace = match tuple::fixed_u32(tuple, at.reltablespace)? {
            // The database's own, which pg_class is always in.
            0 => class.tablespace,
            given => Oid(given),
        };
        let database = if tablespace == GLOBAL_TABLESPACE {
            Oid::INVALID
        } else {
            class.database
        };
        let node = RelFileNode {
            tablespace,
            database,
            relation: Oid(number),
        };
        Some(Named::File { node, catalog })
    }

    fn track(&mut self, node: RelFileNode, catalog: Oid) {
        if self.dropped.contains(&node) || self.tracked.insert(node, catalog) == Some(catalog) {
            return;
        }
        if let Some(grown) = self.named.with(node.relation.0) {
            self.named = Arc::new(grown);
        }
        if catalog == layout::oid::CLASS {
            self.learn_files(node);
        }
    }
}

/// What a `pg_class` tuple names.
enum Named {
    /// A mapped index.
    Index(Oid),
    /// A catalog's file.
    File { node: RelFileNode, catalog: Oid },
}

/// A format is stored as its major version.
mod by_major {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::framing::format::WalFormat;

    pub(super) fn serialize<S: Serializer>(
        format: &&'static WalFormat,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(format.major)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<&'static WalFormat, D::Error> {
        let major = u16::deserialize(deserializer)?;
        WalFormat::of_major(major)
            .ok_or_else(|| serde::de::Error::custom(format!("unknown major version {major}")))
    }
}
