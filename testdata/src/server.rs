//! Where the programs of PostgreSQL 14 to 18 are.
//!
//! 15 is the distribution's own (`/usr/lib/postgresql/15/bin`, or `REDOSTREAM_PG15_BIN`) and
//! brings the client programs for all. The others hold only `initdb`, `pg_ctl` and `postgres`
//! and stand in `$REDOSTREAM_PG_DIR/<major>/package/native/bin`, where
//! `testdata/fetch-servers.sh` puts them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The supported major versions.
pub const MAJORS: [u32; 5] = [14, 15, 16, 17, 18];

/// The programs of one major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// 14 to 18.
    pub major: u32,
    bin: PathBuf,
}

impl Server {
    /// Finds a version.
    ///
    /// # Errors
    /// When it is not installed; the text says how to get it.
    pub fn find(major: u32) -> Result<Self> {
        let bin = if major == 15 {
            debian_bin()
        } else {
            servers_dir()
                .join(major.to_string())
                .join("package/native/bin")
        };
        if !bin.join("postgres").is_file() {
            bail!(
                "PostgreSQL {major} is not in {}: {}",
                bin.display(),
                if major == 15 {
                    "install the package postgresql-15, or set REDOSTREAM_PG15_BIN"
                } else {
                    "run testdata/fetch-servers.sh, or set REDOSTREAM_PG_DIR"
                }
            );
        }
        if !client("psql").is_file() {
            bail!(
                "psql of PostgreSQL 15 is not in {}: install the package postgresql-15, or set REDOSTREAM_PG15_BIN",
                debian_bin().display()
            );
        }
        Ok(Self { major, bin })
    }

    /// Finds a version for a test: where it is missing the test is skipped, aloud, except
    /// under continuous integration, where it fails.
    ///
    /// # Panics
    /// When the version is missing and the environment has `CI=true`.
    pub fn for_test(major: u32) -> Option<Self> {
        match Self::find(major) {
            Ok(server) => Some(server),
            Err(missing) => {
                let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
                assert!(!ci, "{missing:#}");
                eprintln!("SKIPPED: {missing:#}");
                None
            }
        }
    }

    /// One of this version's programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The version as the server prints it, which names cached directories.
    ///
    /// # Errors
    /// When `postgres` cannot be run.
    pub fn version_text(&self) -> Result<String> {
        let output = Command::new(self.program("postgres"))
            .arg("--version")
            .output()
            .with_context(|| format!("cannot run {}", self.program("postgres").display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text
            .split_whitespace()
            .nth(2)
            .unwrap_or("unknown")
            .to_owned())
    }
}

/// A client program (psql, pgbench, pg_recvlogical, pg_waldump), which 15 brings for all.
pub fn client(name: &str) -> PathBuf {
    debian_bin().join(name)
}

fn debian_bin() -> PathBuf {
    std::env::var_os("REDOSTREAM_PG15_BIN").map_or_else(
        || PathBuf::from("/usr/lib/postgresql/15/bin"),
        PathBuf::from,
    )
}

/// The directory that holds one folder for each fetched major version.
pub fn servers_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("REDOSTREAM_PG_DIR") {
        return PathBuf::from(dir);
    }
    // Root's own cache cannot be read by the account that runs the server.
    match std::env::var_os("HOME") {
        Some(home) if Path::new(&home) != Path::new("/root") => {
            PathBuf::from(home).join(".cache/redostream/pg")
        }
        _ => PathBuf::from("/var/cache/redostream/pg"),
    }
}
