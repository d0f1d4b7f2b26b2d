//! Reads everything that catalog replay starts from, in the order that makes it provable.
//!
//! `pg_control` first: its redo LSN is then not later than any page's copy needs. Then the commit
//! log and prepared transactions, then each database: its relation map, its `pg_class` by the map,
//! and by `pg_class` all other catalogs. The map is read again after `pg_class`: a rewrite of a
//! mapped catalog that happened in between is seen, and one that begins later is whole in the log.
//! Last, `pg_control` again and the upstream: nothing copied is newer than what they say.
//!
//! A file that vanishes meanwhile was dropped after the redo LSN, or replaced; the log tells.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use redostream_protocol::{DatabaseOid, Lsn, Oid, RelFileNode, TimelineId, Xid};

use super::class_rows::{self, ClassRow, GLOBAL_TABLESPACE, PG_CLASS};
use super::consistency::{ConsistencyRule, DirectoryKind};
use super::control_file::{Checkpoint, ControlFile, WalLevel};
use super::data_directory::{DataDirectory, DatabaseHome, Usage};
use super::error::BootstrapError;
use super::prepared::{self, PreparedTransaction};
use super::readiness::{NewestPage, Readiness};
use super::{CatalogSink, Upstream};
use crate::catalog::commit_log::{CommitLog, XidStatus};
use crate::catalog::filenodes::RelationMap;
use crate::catalog::multixact::Multixacts;
use crate::limits::{
    CATALOG_BLOCKS_MAX, HEAP_PAGE_BYTES, LOAD_TASK_BYTES, LOAD_TASKS_MAX, REREAD_COUNT_MAX,
};

/// What the pipeline has to know of the data directory that was loaded.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// Names the cluster.
    pub system_identifier: u64,
    /// Major version.
    pub major: u16,
    /// Bytes of a WAL segment.
    pub segment_bytes: u64,
    /// What the directory is.
    pub kind: DirectoryKind,
    /// Where replay starts.
    pub redo: Lsn,
    /// The timeline there.
    pub timeline: TimelineId,
    /// The checkpoint whose state was loaded.
    pub checkpoint: Checkpoint,
    /// Its record.
    pub checkpoint_lsn: Lsn,
    /// Transactions below this one may have begun before the redo LSN.
    pub next_xid: Xid,
    /// When the catalog can be trusted.
    pub rule: ConsistencyRule,
    /// Transactions that were prepared and had not ended.
    pub prepared: Vec<PreparedTransaction>,
    /// The databases that were there.
    pub databases: Vec<DatabaseHome>,
    /// The newest page of all that were copied.
    pub newest_page: Option<NewestPage>,
    /// Files of catalogs.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl Bootstrap {
    /// The tracker that finds M and C as replay goes on from the redo LSN.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        Readiness::new(
            self.rule,
            self.next_xid,
            &self.prepared,
            self.kind == DirectoryKind::ShutDown,
            self.newest_page,
        )
    }
}

/// Loads a data directory into `sink`. `upstream` is the server that uses it, if one does.
pub fn load(
    directory: &DataDirectory,
    upstream: Option<&dyn Upstream>,
    sink: &mut impl CatalogSink,
) -> Result<Bootstrap, BootstrapError> {
    let begun = Instant::now();
    let usage = directory.usage()?;
    if let (Usage::Running(pid), None) = (usage, upstream) {
        return Err(BootstrapError::Running {
            path: directory.root().to_owned(),
            pid,
        });
    }
    let control = directory.read_control()?;
    let label = directory.backup_label();
    let kind = DirectoryKind::of(&control, label, usage, upstream.is_some());
    refuse_unusable(directory, &control, kind)?;

    let commit_log = CommitLog::load(&directory.root().join("pg_xact"))?;
    let mut prepared = prepared::read_all(directory.root(), directory.format())?;
    // A crash between the record that ends one and the removal of its file leaves the file.
    prepared.retain(|prepared| commit_log.get(prepared.xid) == XidStatus::InProgress);

    let mut loader = Loader::new(directory, kind == DirectoryKind::Live);
    let databases = loader.load_databases(sink)?;
    let named = std::mem::take(&mut loader.multixacts);
    let pg_multixact = directory.root().join("pg_multixact");
    let range = control.checkpoint.multixacts();
    sink.multixacts(Multixacts::load(&pg_multixact, range, &named)?);
    sink.commit_log(commit_log);
    sink.next_xid(control.checkpoint.next_xid_32());

    let control_after = directory.read_control()?;
    let asked = ask_upstream(kind, upstream)?;
    let rule = ConsistencyRule::of(kind, &control_after, label, asked);
    if kind == DirectoryKind::Live {
        refuse_future(loader.newest_page, &rule)?;
    }
    Ok(Bootstrap {
        system_identifier: control.system_identifier,
        major: control.major,
        segment_bytes: u64::from(control.segment_bytes),
        kind,
        redo: label
            .filter(|_| matches!(kind, DirectoryKind::Backup(_)))
            .map_or(control.checkpoint.redo, |label| label.start),
        timeline: label
            .filter(|_| matches!(kind, DirectoryKind::Backup(_)))
            .map_or(control.checkpoint.timeline, |label| label.timeline),
        next_xid: control.checkpoint.next_xid_32(),
        checkpoint: control.checkpoint,
        checkpoint_lsn: control.checkpoint_lsn,
        rule,
        prepared,
        databases,
        newest_page: loader.newest_page,
        files: loader.files,
        bytes: loader.bytes,
        elapsed: begun.elapsed(),
    })
}

fn refuse_unusable(
    directory: &DataDirectory,
    control: &ControlFile,
    kind: DirectoryKind,
) -> Result<(), BootstrapError> {
    let path = directory.root().join(super::control_file::FILE_NAME);
    if control.wal_level < WalLevel::Logical {
        return Err(BootstrapError::WalLevel {
            path,
            found: control.wal_level.name(),
        });
    }
    if kind == DirectoryKind::Live && !control.checkpoint.full_page_writes {
        return Err(BootstrapError::FullPageWrites {
            checkpoint: control.checkpoint_lsn,
        });
    }
    Ok(())
}

fn ask_upstream(
    kind: DirectoryKind,
    upstream: Option<&dyn Upstream>,
) -> Result<Option<Lsn>, BootstrapError> {
    match (kind, upstream) {
        (DirectoryKind::Live, Some(upstream)) => {
            let asked = upstream.flushed_or_replayed();
            asked.map(Some).map_err(BootstrapError::Upstream)
        }
        _ => Ok(None),
    }
}

fn refuse_future(newest: Option<NewestPage>, rule: &ConsistencyRule) -> Result<(), BootstrapError> {
    match newest.filter(|page| rule.backup_end.is_none() && page.lsn > rule.at_least) {
        None => Ok(()),
        Some(page) => Err(BootstrapError::UpstreamBehind {
            node: page.node,
            block: page.block,
            page: page.lsn,
            upstream: rule.at_least,
        }),
    }
}

struct Loader<'a> {
    directory: &'a DataDirectory,
    live: bool,
    multixacts: BTreeSet<u32>,
    newest_page: Option<NewestPage>,
    files: u64,
    bytes: u64,
}

impl<'a> Loader<'a> {
    fn new(directory: &'a DataDirectory, live: bool) -> Self {
        Self {
            directory,
            live,
            multixacts: BTreeSet::new(),
            newest_page: None,
            files: 0,
            bytes: 0,
        }
    }

    fn load_databases(
        &mut self,
        sink: &mut impl CatalogSink,
    ) -> Result<Vec<DatabaseHome>, BootstrapError> {
        let global = DatabaseHome {
            database: DatabaseOid::INVALID,
            tablespace: GLOBAL_TABLESPACE,
        };
        let missing = || BootstrapError::NotADataDirectory {
            path: self.directory.root().to_owned(),
            missing: "global/pg_filenode.map",
        };
        let global_map = self.directory.relation_map(global)?.ok_or_else(missing)?;
        let mut shared = BTreeSet::new();
        let mut homes = Vec::new();
        for home in self.directory.databases()? {
            if let Some((map, rows)) = self.catalogs_of(home)? {
                homes.push(home);
                sink.database(home.database, home.tablespace);
                sink.map(home.database, home.tablespace, &map);
                shared.extend(rows.iter().filter(|row| is_shared(row)));
                let own = rows.iter().filter(|row| !is_shared(row));
                self.load_files(&nodes(home, &map, own), sink)?;
            }
        }
        // Shared catalogs are all mapped. Rewriting one between these two readings leaves a map
        // whose file did not exist before, so the newer map is the one to load by.
        let map = self.directory.relation_map(global)?.unwrap_or(global_map);
        sink.map(global.database, global.tablespace, &map);
        self.load_files(&nodes(global, &map, shared.iter()), sink)?;
        Ok(homes)
    }

    /// The relation map and the rows of tracked relations of one database; `None` if it is being
    /// made or dropped.
    fn catalogs_of(
        &self,
        home: DatabaseHome,
    ) -> Result<Option<(RelationMap, BTreeSet<ClassRow>)>, BootstrapError> {
        let mut rows = BTreeSet::new();
        let Some(mut map) = self.directory.relation_map(home)? else {
            return Ok(None);
        };
        // Twice while a server writes: a page torn in one reading is whole in the other.
        let readings = if self.live { 2 } else { 1 };
        let mut good = 0;
        for _ in 0..REREAD_COUNT_MAX {
            self.read_class_rows(home, &map, &mut rows)?;
            let Some(after) = self.directory.relation_map(home)? else {
                return Ok(None);
            };
            good = if after == map { good + 1 } else { 0 };
            map = after;
            if good == readings {
                return Ok(Some((map, rows)));
            }
        }
        Err(BootstrapError::Unstable(self.directory.file_path(
            RelFileNode {
                tablespace: home.tablespace,
                database: home.database,
                relation: PG_CLASS,
            },
        )))
    }

    fn read_class_rows(
        &self,
        home: DatabaseHome,
        map: &RelationMap,
        rows: &mut BTreeSet<ClassRow>,
    ) -> Result<(), BootstrapError> {
        let node = RelFileNode {
            tablespace: home.tablespace,
            database: home.database,
            relation: map.file_of(PG_CLASS).unwrap_or(PG_CLASS),
        };
        let major = self.directory.format().major;
        for task in self.tasks(node)? {
            let pages = task.read()?;
            class_rows::collect_rows(&pages, major, rows);
        }
        Ok(())
    }

    fn load_files(
        &mut self,
        nodes: &BTreeMap<NodeKey, Oid>,
        sink: &mut impl CatalogSink,
    ) -> Result<(), BootstrapError> {
        let mut tasks = Vec::new();
        for (key, catalog) in nodes {
            let of_node = self.tasks(key.node())?;
            self.files += u64::from(!of_node.is_empty());
            tasks.extend(of_node.into_iter().map(|task| (task, *catalog)));
        }
        for batch in tasks.chunks(LOAD_TASKS_MAX) {
            let loaded = batch
                .par_iter()
                .map(|(task, _)| task.load())
                .collect::<Result<Vec<_>, _>>()?;
            for ((task, catalog), loaded) in batch.iter().zip(loaded) {
                self.take(task, &loaded);
                sink.file(task.node, *catalog, task.first_block, &loaded.pages);
            }
        }
        Ok(())
    }

    /// Notes what was found in pages.
    fn take(&mut self, task: &Task, loaded: &Loaded) {
        self.bytes += loaded.pages.len() as u64;
        self.multixacts.extend(&loaded.multixacts);
        if let Some((lsn, at)) = loaded.highest
            && self.newest_page.is_none_or(|page| page.lsn < lsn)
        {
            self.newest_page = Some(NewestPage {
                lsn,
                node: task.node,
                block: task.first_block + at as u32,
            });
        }
    }

    /// The pieces of a relation's file, segment after segment; none if it does not exist.
    fn tasks(&self, node: RelFileNode) -> Result<Vec<Task>, BootstrapError> {
        let first = self.directory.file_path(node);
        let blocks_of_segment = self.directory.control().file_blocks;
        let mut tasks = Vec::new();
        for segment in 0_u32.. {
            let path = segment_path(&first, segment);
            let bytes = match std::fs::metadata(&path) {
                Ok(metadata) => metadata.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(BootstrapError::io(&path, error)),
            };
            let base = u64::from(segment) * u64::from(blocks_of_segment);
            let blocks = base + bytes / HEAP_PAGE_BYTES as u64;
            // An empty file may be left of a catalog that was larger once.
            if bytes > 0 && blocks > u64::from(CATALOG_BLOCKS_MAX) {
                return Err(BootstrapError::CatalogTooLarge { path: first });
            }
            let mut offset = 0;
            // An empty file is told, too: it is there.
            while offset < bytes || (offset == 0 && segment == 0) {
                tasks.push(Task {
                    node,
                    path: path.clone(),
                    offset,
                    first_block: (base + offset / HEAP_PAGE_BYTES as u64) as u32,
                });
                offset += LOAD_TASK_BYTES as u64;
            }
        }
        Ok(tasks)
    }
}

fn is_shared(row: &ClassRow) -> bool {
    row.tablespace == GLOBAL_TABLESPACE
}

/// A file, ordered so that loading goes through a directory in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NodeKey {
    tablespace: Oid,
    database: Oid,
    relation: Oid,
}

impl NodeKey {
    fn node(self) -> RelFileNode {
        RelFileNode {
            tablespace: self.tablespace,
            database: self.database,
            relation: self.relation,
        }
    }
}

/// The files that these rows name, each with its catalog. A row without a file number is of a
/// mapped relation, or of the transient by which one is rewritten: that has its own oid as its file.
fn nodes<'r>(
    home: DatabaseHome,
    map: &RelationMap,
    rows: impl Iterator<Item = &'r ClassRow>,
) -> BTreeMap<NodeKey, Oid> {
    let mut nodes = BTreeMap::new();
    for row in rows {
        let tablespace = if row.tablespace.is_valid() {
            row.tablespace
        } else {
            home.tablespace
        };
        let mut add = |relation: Oid| {
            let key = NodeKey {
                tablespace,
                database: home.database,
                relation,
            };
            nodes.insert(key, row.catalog());
        };
        if row.file.is_valid() {
            add(row.file);
        } else if row.rewrite_of.is_valid() {
            add(row.oid);
        }
        // A mapped catalog's row has no file number; ask the map for every row all the same.
        if let Some(file) = map.file_of(row.oid) {
            add(file);
        }
    }
    nodes
}

fn segment_path(first: &Path, segment: u32) -> PathBuf {
    if segment == 0 {
        return first.to_owned();
    }
    let mut name = first.as_os_str().to_owned();
    name.push(format!(".{segment}"));
    PathBuf::from(name)
}

/// A piece of a file.
struct Task {
    node: RelFileNode,
    path: PathBuf,
    offset: u64,
    first_block: u32,
}

struct Loaded {
    pages: Vec<u8>,
    multixacts: BTreeSet<u32>,
    highest: Option<(Lsn, usize)>,
}

impl Task {
    fn load(&self) -> Result<Loaded, BootstrapError> {
        let pages = self.read()?;
        let mut multixacts = BTreeSet::new();
        class_rows::collect_multixacts(&pages, &mut multixacts);
        Ok(Loaded {
            highest: class_rows::highest_lsn(&pages),
            multixacts,
            pages,
        })
    }

    /// Whole pages; nothing if the file has vanished or was truncated. A page that is only partly
    /// there is being added: the log has it.
    fn read(&self) -> Result<Vec<u8>, BootstrapError> {
        let mut pages = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.offset))?;
            file.take(LOAD_TASK_BYTES as u64).read_to_end(&mut pages)
        });
        match read {
            Ok(_) => {
                pages.truncate(pages.len() / HEAP_PAGE_BYTES * HEAP_PAGE_BYTES);
                Ok(pages)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(BootstrapError::io(&self.path, error)),
        }
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
