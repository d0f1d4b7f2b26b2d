//! A hot standby made from a running primary.
//!
//! pg_basebackup is not used: the versions fetched from npm do not bring it and that of 15
//! does not fit all of them. The low-level backup functions and a copy do.

use std::fs;

use anyhow::{Context, Result};

use crate::cluster::{Cluster, ClusterOptions};
use crate::files::copy_tree;

impl Cluster {
    /// Takes a base backup of this running server into a new cluster's data directory. It has
    /// a `backup_label` and no WAL, and is neither a standby nor started.
    ///
    /// # Errors
    /// When the backup functions fail or files cannot be copied.
    pub fn base_backup(&self, options: &ClusterOptions) -> Result<Cluster> {
        let old = self.server.major < 15;
        let (begin, end) = if old {
            (
                "pg_start_backup('test', true, false)",
                "pg_stop_backup(false, false)",
            )
        } else {
            ("pg_backup_start('test', true)", "pg_backup_stop(false)")
        };
        let copy = Cluster::empty(self.server.clone())?;
        let mut session = self.session("postgres")?;
        session.run(&format!("select {begin};"))?;
        copy_tree(self.data(), copy.data(), &|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let inside = path
                .components()
                .next()
                .map(|first| first.as_os_str().to_owned());
            let skipped = [
                "pg_wal",
                "pg_replslot",
                "pg_dynshmem",
                "pg_notify",
                "pg_stat_tmp",
            ];
            let below = inside.is_some_and(|first| skipped.iter().any(|dir| first == *dir));
            !(below && path.components().count() > 1)
                && name != "postmaster.pid"
                && name != "postmaster.opts"
        })?;
        for dir in ["pg_wal", "pg_wal/archive_status"] {
            fs::create_dir_all(copy.data().join(dir))?;
        }
        // One field a query: the label has several lines.
        let label = session.run(&format!("select labelfile from {end};"))?;
        fs::write(copy.data().join("backup_label"), format!("{label}\n"))
            .context("cannot write backup_label")?;
        copy.take_over()?;
        copy.configure_for(options)?;
        Ok(copy)
    }

    /// A hot standby of this running server, started and connected.
    ///
    /// # Errors
    /// When the backup fails or the standby does not start.
    pub fn standby(&self, options: &ClusterOptions) -> Result<Cluster> {
        let mut standby = self.base_backup(options)?;
        fs::write(standby.data().join("standby.signal"), "")?;
        standby.take_over()?;
        standby.configure(&format!(
            "hot_standby = on\nprimary_conninfo = '{} application_name=standby'\n",
            self.conninfo("postgres")
        ))?;
        standby.start()?;
        Ok(standby)
    }
}
