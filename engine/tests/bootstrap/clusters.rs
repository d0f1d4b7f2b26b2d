//! Clusters for the tests, and a sink that keeps what is loaded.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use redostream_engine::catalog::bootstrap::class_rows::LEFT_OUT;
use redostream_engine::catalog::bootstrap::data_directory::DatabaseHome;
use redostream_engine::catalog::bootstrap::{CatalogSink, Upstream};
use redostream_engine::catalog::commit_log::CommitLog;
use redostream_engine::catalog::filenodes::RelationMap;
use redostream_engine::catalog::multixact::Multixacts;
use redostream_protocol::{DatabaseOid, Lsn, Oid, RelFileNode};
use redostream_testdata::account::Account;
use redostream_testdata::cluster::{Cluster, ClusterOptions};
use redostream_testdata::server::{MAJORS, Server};

/// Where the shared catalogs are.
pub(crate) const GLOBAL: DatabaseHome = DatabaseHome {
    database: Oid(0),
    tablespace: Oid(1664),
};

/// Runs a test for each version that is there.
pub(crate) fn each_version(test: impl Fn(Server) -> Result<()>) {
    for major in MAJORS {
        if let Some(server) = Server::for_test(major)
            && let Err(error) = test(server)
        {
            panic!("PostgreSQL {major}: {error:?}");
        }
    }
}

/// A cluster, not started.
pub(crate) fn cluster(server: Server, options: &ClusterOptions) -> Result<Cluster> {
    Cluster::create(server, options)
}

/// Makes the server's user the owner of a path.
pub(crate) fn give(path: &Path) -> Result<()> {
    Account::find()?.give(path)
}

/// An LSN as a server prints it.
pub(crate) fn lsn(text: &str) -> Lsn {
    text.parse().expect("an LSN")
}

/// An upstream that stands still.
pub(crate) struct Position(pub(crate) Lsn);

impl Upstream for Position {
    fn flushed_or_replayed(&self) -> Result<Lsn, String> {
        Ok(self.0)
    }
}

/// An upstream that is asked.
pub(crate) struct Asked<'a>(pub(crate) &'a dyn Fn() -> Result<Lsn, String>);

impl Upstream for Asked<'_> {
    fn flushed_or_replayed(&self) -> Result<Lsn, String> {
        (self.0)()
    }
}

/// Keeps sizes of files, and the rest as it is.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) files: BTreeMap<(DatabaseHome, Oid), u64>,
    pub(crate) multixacts: Multixacts,
    pub(crate) commit_log: CommitLog,
}

impl Kept {
    pub(crate) fn bytes_of(&self, home: DatabaseHome, file: Oid) -> Option<u64> {
        self.files.get(&(home, file)).copied()
    }

    pub(crate) fn left_out(&self, file: Oid) -> bool {
        LEFT_OUT.contains(&file)
    }
}

impl CatalogSink for Kept {
    fn database(&mut self, _database: DatabaseOid, _tablespace: Oid) {}

    fn map(&mut self, _database: DatabaseOid, _tablespace: Oid, map: &RelationMap) {
        assert!(!map.entries().is_empty());
    }

    fn file(&mut self, node: RelFileNode, _catalog: Oid, first_block: u32, pages: &[u8]) {
        let home = DatabaseHome {
            database: node.database,
            tablespace: node.tablespace,
        };
        let bytes = self.files.entry((home, node.relation)).or_default();
        assert_eq!(*bytes, u64::from(first_block) * 8192, "{node}");
        *bytes += pages.len() as u64;
    }

    fn multixacts(&mut self, multixacts: Multixacts) {
        self.multixacts = multixacts;
    }

    fn commit_log(&mut self, commit_log: CommitLog) {
        self.commit_log = commit_log;
    }
}
