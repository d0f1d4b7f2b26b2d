//! One comparison with a real server, from an empty cluster to the verdict.
//!
//! ```text
//! create, start, prepare, stop      -> base: a copy of the data directory, stopped cleanly
//! start, slot, SQL                  -> expected: what the slot has to tell, end: the LSN
//! stop                              -> wal: a copy of pg_wal
//! decode base + wal up to end       =  expected?
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use tempfile::TempDir;

use crate::cluster::{Cluster, ClusterOptions, Stop};
use crate::compare::compare;
use crate::decoder::Decode;
use crate::files::{copy_tree, copy_wal};
use crate::server::Server;
use crate::slot::printed;

/// The slot of a scenario.
const SLOT: &str = "judge";

/// A running cluster whose base is kept.
#[derive(Debug)]
pub struct Scenario {
    /// The server, for whatever the test does with it.
    pub cluster: Cluster,
    /// The database that is compared.
    pub database: String,
    kept: TempDir,
}

/// What a scenario leaves: all that a decoder needs, and what it must print.
#[derive(Debug)]
pub struct Recording {
    /// The data directory as it was before the SQL.
    pub base: PathBuf,
    /// The WAL from the base on.
    pub wal: PathBuf,
    /// The database.
    pub database: String,
    /// Where the comparison ends, as PostgreSQL prints LSNs.
    pub end: String,
    /// What the server printed.
    pub expected: Vec<u8>,
    dir: TempDir,
}

impl Scenario {
    /// A fresh cluster with one database `app`, its base kept, running, with its slot.
    ///
    /// # Errors
    /// When the server cannot be started.
    pub fn start(server: Server, options: &ClusterOptions) -> Result<Self> {
        Self::start_prepared(server, options, "")
    }

    /// As [`start`](Self::start); `before` runs in the database before the base is taken.
    ///
    /// # Errors
    /// When the server cannot be started or the SQL fails.
    pub fn start_prepared(server: Server, options: &ClusterOptions, before: &str) -> Result<Self> {
        let mut cluster = Cluster::create(server, options)?;
        cluster.start()?;
        cluster.sql("postgres", "create database app template template0")?;
        cluster.sql("app", before)?;
        let mut scenario = Self::take_base(cluster)?;
        scenario.judge("app")?;
        Ok(scenario)
    }

    /// Goes on from a data directory that was stopped cleanly; [`judge`](Self::judge) comes next.
    ///
    /// # Errors
    /// When the server cannot be started.
    pub fn from_directory(server: Server, data: &Path, options: &ClusterOptions) -> Result<Self> {
        let cluster = Cluster::from_directory(server, data, options)?;
        Self::take_base(cluster)
    }

    /// The server decodes this database from now on.
    ///
    /// # Errors
    /// When the slot cannot be made.
    pub fn judge(&mut self, database: &str) -> Result<()> {
        database.clone_into(&mut self.database);
        self.cluster.create_slot(database, SLOT)
    }

    fn take_base(mut cluster: Cluster) -> Result<Self> {
        cluster.stop(Stop::Fast)?;
        let kept = tempfile::Builder::new()
            .prefix("redostream-case-")
            .tempdir()?;
        copy_tree(cluster.data(), &kept.path().join("base"), &|_| true)?;
        cluster.start()?;
        Ok(Self {
            cluster,
            database: String::new(),
            kept,
        })
    }

    /// Runs SQL that must succeed in the scenario's database.
    ///
    /// # Errors
    /// When a statement fails.
    pub fn sql(&self, sql: &str) -> Result<String> {
        self.cluster.sql(&self.database, sql)
    }

    /// Asks the server what it decoded, stops it and keeps its WAL.
    ///
    /// # Errors
    /// When the server does not answer or stop, or files cannot be copied.
    pub fn finish(mut self) -> Result<Recording> {
        let end = self.cluster.flushed_lsn()?;
        let expected = printed(&self.cluster.peek(&self.database, SLOT)?);
        self.cluster.stop(Stop::Fast)?;
        let wal = self.kept.path().join("wal");
        copy_wal(&self.cluster.data().join("pg_wal"), &wal)?;
        Ok(Recording {
            base: self.kept.path().join("base"),
            wal,
            database: self.database,
            end,
            expected,
            dir: self.kept,
        })
    }
}

impl Recording {
    /// The decoder's run for this recording.
    pub fn decode(&self, program: &Path) -> Decode {
        Decode::new(program, &self.base)
            .wal(&self.wal)
            .database(&self.database)
            .with("--end", &self.end)
    }

    /// Decodes with each number of decoders and compares; gives the lines compared.
    ///
    /// # Errors
    /// The first difference, or why the decoder ended.
    pub fn check(&self, program: &Path, decoders: &[u32]) -> Result<usize> {
        let mut lines = 0;
        for count in decoders {
            let run = self.decode(program).with("--decoders", count.to_string());
            let decoded = run.run()?;
            lines = compare(&self.expected, &decoded.printed).map_err(|difference| {
                anyhow!("{}\n{difference}\n{}", run.command_line(), decoded.errors)
            })?;
        }
        Ok(lines)
    }

    /// Leaves base and WAL where they are instead of removing them, with what was expected,
    /// for a look by hand.
    ///
    /// # Errors
    /// When what was expected cannot be written.
    pub fn keep(self) -> Result<PathBuf> {
        std::fs::write(self.dir.path().join("expected.txt"), &self.expected)?;
        Ok(self.dir.keep())
    }
}
