//! The gate in small: replays a log into a catalog, and prints what it holds.

use std::path::{Path, PathBuf};

use redostream_protocol::{Lsn, Oid, RelFileNode, Xid};
use redostream_testdata::cluster::{Cluster, ClusterOptions, Stop};
use redostream_testdata::files::copy_tree;
use redostream_testdata::server::Server;
use rustc_hash::FxHashSet;

use super::said::{COLUMNS, hash};
use super::wal::Wal;
use crate::catalog::bootstrap::{DataDirectory, Upstream, load};
use crate::catalog::layout::oid;
use crate::catalog::view::View;
use crate::catalog::{Catalog, Target};
use crate::framing::record::Record;
use crate::framing::rmgr::id;
use crate::framing::xact::{self, op};
use crate::gate::transactions::Transactions;

/// A running server with a database `d` in which `before` was run, and the copy of its directory
/// that is followed from there.
pub(super) fn with_copy(
    server: Server,
    options: &ClusterOptions,
    before: &str,
) -> (Cluster, PathBuf) {
    let mut cluster = Cluster::create(server, options).unwrap();
    cluster.start().unwrap();
    cluster.sql("postgres", "create database d").unwrap();
    cluster.sql("d", before).unwrap();
    cluster.stop(Stop::Fast).unwrap();
    let copy = cluster.root().join("copy");
    copy_tree(cluster.data(), &copy, &|_| true).unwrap();
    cluster.start().unwrap();
    (cluster, copy)
}

/// The gate in small.
pub(super) struct Follower {
    pub(super) catalog: Catalog,
    pub(super) transactions: Transactions,
    pub(super) prepared: FxHashSet<Xid>,
    pub(super) wal: Wal,
}

impl Follower {
    /// Loads a data directory and replays up to where its catalog can be trusted.
    pub(super) fn new(data: &Path, pg_wal: &Path, upstream: Option<&dyn Upstream>) -> Follower {
        let directory = DataDirectory::open(data).unwrap();
        let format = directory.format();
        let mut catalog = Catalog::new(format);
        let bootstrap = load(&directory, upstream, &mut catalog).unwrap();
        let wal = Wal::open(pg_wal, format, bootstrap.segment_bytes, bootstrap.redo);
        let prepared = bootstrap.prepared.iter();
        let mut follower = Follower {
            catalog,
            transactions: Transactions::default(),
            prepared: prepared.map(|prepared| prepared.xid).collect(),
            wal,
        };
        follower.follow(bootstrap.rule.at_least);
        if !bootstrap.rule.end_of_wal {
            follower.catalog.consistent().unwrap();
        }
        follower
    }

    /// Replays what starts before `lsn`.
    pub(super) fn follow(&mut self, lsn: Lsn) -> u64 {
        let mut records = 0;
        while self.wal.settle() < lsn.0 {
            let Some((start, end, bytes)) = self.wal.next() else {
                break;
            };
            records += 1;
            let record = Record::parse(&bytes, start, end, self.wal.format).unwrap();
            if record.top_xid.is_valid() {
                self.transactions.assign(record.xid, record.top_xid);
            }
            if record.rmgr == id::TRANSACTION {
                self.transaction(&record);
            } else if record.rmgr == id::XLOG && matches!(record.op(), 0x00 | 0x90) {
                let tops: Vec<Xid> = self.transactions.tops().collect();
                for top in tops.into_iter().filter(|top| !self.prepared.contains(top)) {
                    self.transactions.end(top);
                }
                self.catalog.all_gone(&self.prepared);
            } else if record.rmgr == id::STANDBY && record.op() == 0x10 {
                let word =
                    |at: usize| u32::from_le_bytes(record.main[at..at + 4].try_into().unwrap());
                let running: Vec<Xid> = (0..word(0))
                    .map(|n| Xid(word(24 + n as usize * 4)))
                    .collect();
                self.catalog
                    .running_transactions(Xid(word(12)), Xid(word(16)), &running);
            } else {
                let replayed = self.catalog.replay(&record, &self.transactions);
                replayed.unwrap_or_else(|error| panic!("{start}: {error}"));
            }
        }
        records
    }

    fn transaction(&mut self, record: &Record<'_>) {
        let format = self.wal.format;
        let end = || xact::parse_end(record.info, record.main, format).unwrap();
        match record.op() & op::MASK {
            op::COMMIT | op::COMMIT_PREPARED => {
                let end = end();
                let top = end.prepared_xid.unwrap_or(record.xid);
                for sub in &end.subxacts {
                    self.transactions.assign(*sub, top);
                }
                let catalog = &mut self.catalog;
                catalog
                    .commit(top, &end, record.end_lsn, &self.transactions)
                    .unwrap();
                self.transactions.end(top);
            }
            op::ABORT | op::ABORT_PREPARED => {
                let end = end();
                let xid = end.prepared_xid.unwrap_or(record.xid);
                let top = self.transactions.top_of_aborted(xid, &end.subxacts);
                self.transactions.assign(xid, top);
                for sub in &end.subxacts {
                    self.transactions.assign(*sub, top);
                }
                let catalog = &mut self.catalog;
                catalog
                    .abort(xid, &end, record.end_lsn, &self.transactions)
                    .unwrap();
                if top == xid {
                    self.prepared.remove(&top);
                    self.transactions.end(top);
                } else {
                    let subs = std::iter::once(xid).chain(end.subxacts.iter().copied());
                    self.transactions.abort_subtransactions(subs);
                }
            }
            op::PREPARE => {
                let end = xact::parse_prepare(record.main, format).unwrap();
                self.prepared.extend(end.prepared_xid);
                for sub in &end.subxacts {
                    self.transactions.assign(*sub, end.prepared_xid.unwrap());
                }
            }
            op::ASSIGNMENT => {
                let (top, subs) = xact::parse_assignment(record.main).unwrap();
                for sub in subs {
                    self.transactions.assign(sub, top);
                    self.catalog.assigned(sub, top);
                }
            }
            _ => {}
        }
    }

    pub(super) fn database_oid(&self, name: &str) -> Oid {
        let all = self.catalog.databases().unwrap();
        let found = all.iter().find(|database| database.name.lossy() == name);
        found.unwrap_or_else(|| panic!("no database {name}")).oid
    }

    /// Our rows, as `QUERY` prints the server's.
    pub(super) fn rows(&self, database: Oid, viewer: Option<Xid>) -> String {
        let view = self.view(database, viewer);
        let mut lines = Vec::new();
        for (name, catalog, columns) in COLUMNS {
            for row in view.scan(catalog).unwrap() {
                let mut line = name.to_owned();
                for (column, kind) in columns {
                    line.push(' ');
                    line.push_str(&match kind {
                        'o' => row.u32(column).unwrap().to_string(),
                        's' => row.i16(column).unwrap().to_string(),
                        'n' => row.name(column).unwrap().lossy().into_owned(),
                        'c' => match row.byte(column).unwrap() {
                            0 => String::new(),
                            byte => char::from(byte).to_string(),
                        },
                        'b' => if row.flag(column).unwrap() { "t" } else { "f" }.to_owned(),
                        'h' => hash(row.value(column).unwrap().as_deref()),
                        other => panic!("{other}"),
                    });
                }
                lines.push(line);
            }
        }
        lines.sort_unstable();
        lines.join("\n")
    }

    /// Formatted types and key columns of every table, as `TABLES` prints them.
    pub(super) fn tables(&mut self, database: Oid) -> String {
        let view = self.view(database, None);
        let mut oids = Vec::new();
        for row in view.scan(oid::CLASS).unwrap() {
            let oid = row.oid("oid").unwrap();
            if oid.0 >= 16384 && matches!(row.byte("relkind").unwrap(), b'r' | b'm' | b'p') {
                oids.push((oid, row.oid("relfilenode").unwrap()));
            }
        }
        let mut lines = Vec::new();
        for (oid, file) in oids {
            let by_oid = self
                .catalog
                .resolve_oid(database, oid, None, &self.transactions)
                .unwrap();
            if file.is_valid() {
                let node = RelFileNode {
                    tablespace: Oid(1663),
                    database,
                    relation: file,
                };
                let by_file = self.catalog.resolve(node, None, &self.transactions);
                assert_eq!(by_file.as_ref(), Ok(&by_oid));
            }
            let Target::Table(layout) = &*by_oid else {
                panic!("{oid}: {by_oid:?}");
            };
            let relation = &layout.relation;
            for column in &relation.columns {
                lines.push(format!(
                    "{}.{}.{} {} {}",
                    relation.schema,
                    relation.name,
                    column.name,
                    column.data_type.formatted,
                    if column.key { "t" } else { "f" }
                ));
            }
        }
        lines.sort_unstable();
        lines.join("\n")
    }

    /// Cached relations are what they would be if they were looked up anew.
    pub(super) fn assert_cache(&mut self, database: Oid, viewer: Option<Xid>) {
        let mut oids = Vec::new();
        for row in self.view(database, viewer).scan(oid::CLASS).unwrap() {
            let oid = row.oid("oid").unwrap();
            if oid.0 >= 16384 {
                oids.push((oid, row.oid("relfilenode").unwrap()));
            }
        }
        let mut fresh = self.catalog.clone();
        for (oid, file) in oids {
            let node = RelFileNode {
                tablespace: Oid(1663),
                database,
                relation: file,
            };
            for viewer in [None, viewer] {
                let cached = self
                    .catalog
                    .resolve_oid(database, oid, viewer, &self.transactions);
                let anew = fresh.resolve_oid(database, oid, viewer, &self.transactions);
                assert_eq!(cached, anew);
                let cached = self.catalog.resolve(node, viewer, &self.transactions);
                let anew = fresh.resolve(node, viewer, &self.transactions);
                assert_eq!(cached, anew);
            }
        }
    }

    /// The catalogs of a database as a transaction sees them.
    pub(super) fn view(&self, database: Oid, viewer: Option<Xid>) -> View<'_> {
        View {
            store: &self.catalog.store,
            database,
            viewer,
            transactions: &self.transactions,
        }
    }
}
