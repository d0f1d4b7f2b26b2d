//! What is wrong with a data directory, for `check`: everything at once, with its remedy.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::consistency::DirectoryKind;
use super::control_file::WalLevel;
use super::data_directory::{DataDirectory, Usage};
use super::error::BootstrapError;
use super::prepared;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know; nothing is wrong.
    Note,
    /// Works, but not as one would want.
    Warning,
    /// Does not work.
    Error,
}

/// Something found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// A short name that never changes.
    pub id: String,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, and where.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    fn new(id: &str, severity: Severity, what: String, remedy: &str) -> Self {
        Self {
            id: id.to_owned(),
            severity,
            what,
            remedy: remedy.to_owned(),
        }
    }
}

/// Looks at the data directory `root`. `has_upstream` says that a server is to be asked for WAL.
#[must_use]
pub fn findings(root: &Path, has_upstream: bool) -> Vec<Finding> {
    let directory = match DataDirectory::open(root) {
        Ok(directory) => directory,
        Err(error) => return vec![of_error(&error)],
    };
    let mut found = Vec::new();
    settings(&directory, &mut found);
    match directory.usage() {
        Ok(usage) => use_of(&directory, usage, has_upstream, &mut found),
        Err(error) => found.push(of_error(&error)),
    }
    files(&directory, &mut found);
    wal(&directory, has_upstream, &mut found);
    found
}

/// An error as a finding: its text says what and where, then, after the semicolon, what to do.
fn of_error(error: &BootstrapError) -> Finding {
    let text = error.to_string();
    let (what, remedy) = text.rsplit_once("; ").unwrap_or((&text, ""));
    let id = match error {
        BootstrapError::NoDirectory(_) | BootstrapError::NotADataDirectory { .. } => "pgdata",
        BootstrapError::Permission(_) => "pgdata-permission",
        BootstrapError::Version { .. } => "version",
        BootstrapError::Machine { .. } => "machine",
        BootstrapError::BlockSize { .. } => "block-size",
        BootstrapError::Incremental(_) => "incremental-backup",
        BootstrapError::BackupLabel { .. } => "backup-label",
        _ => "pgdata-damaged",
    };
    Finding::new(id, Severity::Error, what.to_owned(), remedy)
}

fn settings(directory: &DataDirectory, found: &mut Vec<Finding>) {
    let control = directory.control();
    if control.wal_level < WalLevel::Logical {
        let what = format!("wal_level is {}", control.wal_level.name());
        let remedy = "set wal_level = logical on the primary, restart it, and let the standby replay past the restart";
        found.push(Finding::new("wal-level", Severity::Error, what, remedy));
    }
    if !control.checkpoint.full_page_writes {
        let what = format!(
            "full_page_writes was off at the checkpoint at {}",
            control.checkpoint_lsn
        );
        let remedy = "turn it on at the primary and run CHECKPOINT: pages copied from a running server are mended by full-page images only";
        found.push(Finding::new(
            "full-page-writes",
            Severity::Error,
            what,
            remedy,
        ));
    }
}

fn use_of(directory: &DataDirectory, usage: Usage, has_upstream: bool, found: &mut Vec<Finding>) {
    let control = directory.control();
    let kind = DirectoryKind::of(control, directory.backup_label(), usage, has_upstream);
    let what = format!("{} is the directory of {kind}", directory.root().display());
    match (kind, usage) {
        (DirectoryKind::Live, Usage::Running(_)) if !has_upstream => found.push(Finding::new(
            "running",
            Severity::Error,
            what,
            "name the server with --upstream, or stop it, or use a base backup",
        )),
        (DirectoryKind::Crashed, _) => found.push(Finding::new(
            "not-shut-down",
            Severity::Warning,
            what,
            "its catalog is known only from the end of its own WAL; start and stop the server once, or name it with --upstream if it runs where its processes cannot be seen",
        )),
        _ => found.push(Finding::new("kind", Severity::Note, what, "nothing to do")),
    }
}

fn files(directory: &DataDirectory, found: &mut Vec<Finding>) {
    match directory.tablespaces() {
        Err(error) => found.push(of_error(&error)),
        Ok(tablespaces) => {
            for tablespace in tablespaces {
                let path = directory.tablespace_directory(tablespace);
                if !path.exists() {
                    let what = format!("{} cannot be reached", path.display());
                    let remedy = "make the tablespace's directory available under the same path; databases in it cannot be decoded otherwise";
                    found.push(Finding::new("tablespace", Severity::Error, what, remedy));
                }
            }
        }
    }
    match directory.databases() {
        Err(error) => found.push(of_error(&error)),
        Ok(homes) => {
            for home in homes {
                if let Err(error) = directory.relation_map(home) {
                    found.push(of_error(&error));
                }
            }
        }
    }
    match prepared::read_all(directory.root(), directory.format()) {
        Err(error) => found.push(of_error(&error)),
        Ok(prepared) => {
            for transaction in prepared {
                let gid = String::from_utf8_lossy(&transaction.gid);
                let what = format!("prepared transaction '{gid}' ({})", transaction.xid);
                let remedy = "the stream begins only after its COMMIT PREPARED or ROLLBACK PREPARED; end it if it was forgotten";
                found.push(Finding::new("prepared", Severity::Warning, what, remedy));
            }
        }
    }
}

fn wal(directory: &DataDirectory, has_upstream: bool, found: &mut Vec<Finding>) {
    let control = directory.control();
    let (lsn, timeline) = match directory.backup_label() {
        Some(label) => (label.start, label.timeline),
        None => (control.checkpoint.redo, control.checkpoint.timeline),
    };
    let name = segment_name(timeline.0, lsn.0, u64::from(control.segment_bytes));
    let path = directory.root().join("pg_wal").join(&name);
    if !path.exists() && !has_upstream {
        let what = format!("WAL segment {name}, in which replay starts, is not in pg_wal");
        let remedy = "give the directory that has it with --wal";
        found.push(Finding::new("wal-missing", Severity::Warning, what, remedy));
    }
}

// pg: access/xlog_internal.h XLogFileName [14-18]
fn segment_name(timeline: u32, lsn: u64, segment_bytes: u64) -> String {
    let number = lsn / segment_bytes;
    let of_id = (1 << 32) / segment_bytes;
    format!("{timeline:08X}{:08X}{:08X}", number / of_id, number % of_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::bootstrap::control_file::craft_control;
    use std::fs;

    fn ids(found: &[Finding]) -> Vec<&str> {
        found.iter().map(|finding| finding.id.as_str()).collect()
    }

    #[test]
    fn names_follow_postgresql() {
        assert_eq!(
            segment_name(1, 0x300_0028, 1 << 24),
            "000000010000000000000003"
        );
        assert_eq!(
            segment_name(18, 0xA_C000_0000, 1 << 30),
            "000000120000000A00000003"
        );
    }

    #[test]
    fn everything_wrong_is_found_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        assert_eq!(ids(&findings(root, false)), ["pgdata"]);
        assert_eq!(ids(&findings(&root.join("none"), false)), ["pgdata"]);
        for sub in ["global", "base/5", "pg_tblspc/16500", "pg_twophase"] {
            fs::create_dir_all(root.join(sub)).unwrap();
        }
        fs::write(root.join("PG_VERSION"), "18\n").unwrap();
        let control = craft_control(18, |bytes| {
            bytes[172] = 1;
            bytes[56] = 0;
        });
        fs::write(root.join("global/pg_control"), control).unwrap();
        fs::write(root.join("base/5/pg_filenode.map"), [0; 524]).unwrap();
        fs::write(root.join("pg_twophase/00000000000002BC"), "x").unwrap();
        let found = findings(root, false);
        let expected = [
            "wal-level",
            "full-page-writes",
            "not-shut-down",
            "tablespace",
            "pgdata-damaged",
            "pgdata-damaged",
            "wal-missing",
        ];
        assert_eq!(ids(&found), expected, "{found:#?}");
        for finding in &found {
            assert!(!finding.what.is_empty() && !finding.remedy.is_empty());
        }
        fs::write(root.join("PG_VERSION"), "13\n").unwrap();
        assert_eq!(ids(&findings(root, false)), ["version"]);
    }
}
