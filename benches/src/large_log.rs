//! A log of a given size, written by a real server: the recorded ones are over before a fast link
//! shows what it can.

use anyhow::Result;
use redostream_protocol::Lsn;
use redostream_testdata::cluster::{Cluster, ClusterOptions, Stop};
use redostream_testdata::files::{copy_tree, copy_wal};
use redostream_testdata::server::Server;
use tempfile::TempDir;

use crate::Log;

/// Rows of a transaction.
const ROWS: u32 = 500;
/// Bytes of a row's text.
const TEXT_BYTES: u32 = 500;

/// A log and what it lies in.
pub struct LargeLog {
    /// The log.
    pub log: Log,
    /// Where its rows begin.
    pub start: Lsn,
    _directory: TempDir,
}

impl LargeLog {
    /// Has a server of version 15 write at least so many bytes of WAL, all rows of like size.
    ///
    /// # Errors
    /// When there is no such server, or it does not do as it is told.
    pub fn write(bytes: u64) -> Result<Self> {
        let directory = TempDir::new()?;
        let (base, wal) = (directory.path().join("base"), directory.path().join("wal"));
        std::fs::create_dir(&wal)?;
        let options = ClusterOptions::default()
            .with("max_wal_size", "16GB")
            .with("checkpoint_timeout", "1h")
            // No image of a page comes between rows.
            .with("full_page_writes", "off");
        let mut cluster = Cluster::create(Server::find(15)?, &options)?;
        cluster.start()?;
        cluster.sql("postgres", "create table t (id bigint, v text)")?;
        cluster.stop(Stop::Fast)?;
        copy_tree(cluster.data(), &base, &|_| true)?;
        cluster.start()?;
        let flushed = |cluster: &Cluster| -> Result<Lsn> { Ok(cluster.flushed_lsn()?.parse()?) };
        let start = flushed(&cluster)?;
        while flushed(&cluster)?.bytes_since(start) < bytes {
            let sql = format!(
                "do $$ begin for i in 1..50 loop insert into t select g, \
                 repeat(md5(g::text), {TEXT_BYTES} / 32) from generate_series(1, {ROWS}) g; \
                 commit; end loop; end $$"
            );
            cluster.sql("postgres", &sql)?;
        }
        let end = flushed(&cluster)?;
        // A record behind the end, so that it is reached.
        cluster.sql("postgres", "create table beyond ()")?;
        cluster.stop(Stop::Immediate)?;
        copy_wal(&cluster.data().join("pg_wal"), &wal)?;
        Ok(Self {
            log: Log { base, wal, end },
            start,
            _directory: directory,
        })
    }
}
