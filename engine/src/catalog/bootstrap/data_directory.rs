//! A PostgreSQL data directory: is it one, which version, which databases, who uses it.
//!
//! Opening reads and judges the few files that say what the rest is; nothing is ever written.
//! Which databases exist is asked of directories, since no catalog can be trusted yet.
//!
//! ```text
//! PG_VERSION, backup_label, postmaster.pid, global/{pg_control, pg_filenode.map, files}
//! base/<database>/{PG_VERSION, pg_filenode.map, files}
//! pg_tblspc/<tablespace>/PG_<major>_<catalog version>/<database>/...
//! ```
// pg: common/relpath.c GetDatabasePath, GetRelationPath [14-18]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use redostream_protocol::{DatabaseOid, Oid, RelFileNode};

use super::backup_label::BackupLabel;
use super::class_rows::GLOBAL_TABLESPACE;
use super::control_file::ControlFile;
use super::error::BootstrapError;
use crate::catalog::filenodes::{self, RelationMap, RelationMapError};
use crate::framing::format::{FORMATS, WalFormat};
use crate::limits::{REREAD_COUNT_MAX, REREAD_PAUSE_MS};

/// The tablespace of `base/`.
pub const DEFAULT_TABLESPACE: Oid = Oid(1663);

/// A data directory that can be read.
#[derive(Clone, Debug)]
pub struct DataDirectory {
    root: PathBuf,
    format: &'static WalFormat,
    control: ControlFile,
    backup_label: Option<BackupLabel>,
}

/// Where a database's own catalogs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DatabaseHome {
    /// The database.
    pub database: DatabaseOid,
    /// Its default tablespace.
    pub tablespace: Oid,
}

/// Whether a server uses a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// It left no `postmaster.pid`, or has never been started.
    Stopped,
    /// `postmaster.pid` names a process that is not there: it was killed, or this is a snapshot
    /// of a running server's files, or it runs where its processes cannot be seen.
    NotSeen(u32),
    /// The process is there.
    Running(u32),
}

impl DataDirectory {
    /// Opens the directory: it is PostgreSQL's, of a supported version, and of this machine's kind.
    pub fn open(root: &Path) -> Result<Self, BootstrapError> {
        let metadata = fs::metadata(root).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => BootstrapError::NoDirectory(root.to_owned()),
            _ => BootstrapError::io(root, error),
        })?;
        if !metadata.is_dir() {
            return Err(not_one(root, "PG_VERSION (it is a file itself)"));
        }
        let format = read_version(root)?;
        let control = ControlFile::read(root, format.major)?;
        let backup_label = BackupLabel::read(root)?;
        Ok(Self {
            root: root.to_owned(),
            format,
            control,
            backup_label,
        })
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its WAL's format.
    #[must_use]
    pub fn format(&self) -> &'static WalFormat {
        self.format
    }

    /// `pg_control` as of opening.
    #[must_use]
    pub fn control(&self) -> &ControlFile {
        &self.control
    }

    /// `backup_label`, if this is a base backup.
    #[must_use]
    pub fn backup_label(&self) -> Option<&BackupLabel> {
        self.backup_label.as_ref()
    }

    /// Reads `pg_control` again: a running server changes it.
    pub fn read_control(&self) -> Result<ControlFile, BootstrapError> {
        ControlFile::read(&self.root, self.format.major)
    }

    /// Whether a server uses the directory.
    pub fn usage(&self) -> Result<Usage, BootstrapError> {
        let path = self.root.join("postmaster.pid");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Usage::Stopped),
            Err(error) => return Err(BootstrapError::io(&path, error)),
        };
        let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let pid = std::str::from_utf8(first).ok().map(str::trim);
        // A standalone backend writes its pid with a minus.
        // pg: utils/init/miscinit.c CreateLockFile [14-18]
        let pid = pid.and_then(|pid| pid.trim_start_matches('-').parse::<u32>().ok());
        Ok(match pid {
            None | Some(0) => Usage::NotSeen(0),
            Some(pid) if is_running(pid) => Usage::Running(pid),
            Some(pid) => Usage::NotSeen(pid),
        })
    }

    /// The databases whose own directory is there, in order.
    pub fn databases(&self) -> Result<Vec<DatabaseHome>, BootstrapError> {
        let mut homes = Vec::new();
        self.databases_in(&self.root.join("base"), DEFAULT_TABLESPACE, &mut homes)?;
        for tablespace in self.tablespaces()? {
            let directory = self.tablespace_directory(tablespace);
            self.databases_in(&directory, tablespace, &mut homes)?;
        }
        homes.sort_unstable();
        Ok(homes)
    }

    /// The tablespaces linked from `pg_tblspc`.
    pub fn tablespaces(&self) -> Result<Vec<Oid>, BootstrapError> {
        numbered_entries(&self.root.join("pg_tblspc"))
    }

    /// Where a tablespace keeps the databases of this version.
    // pg: common/relpath.h TABLESPACE_VERSION_DIRECTORY [14-18]
    #[must_use]
    pub fn tablespace_directory(&self, tablespace: Oid) -> PathBuf {
        let version = format!("PG_{}_{}", self.format.major, self.control.catalog_version);
        let links = self.root.join("pg_tblspc");
        links.join(tablespace.to_string()).join(version)
    }

    /// The first segment of a relation's file.
    #[must_use]
    pub fn file_path(&self, node: RelFileNode) -> PathBuf {
        let home = DatabaseHome {
            database: node.database,
            tablespace: node.tablespace,
        };
        self.database_directory(home)
            .join(node.relation.to_string())
    }

    /// Reads the relation map of a database, or (database 0) the shared one; `None` if the
    /// database is being made or dropped.
    pub fn relation_map(&self, home: DatabaseHome) -> Result<Option<RelationMap>, BootstrapError> {
        let path = self.database_directory(home).join(filenodes::FILE_NAME);
        let mut tries = 0;
        loop {
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(BootstrapError::io(&path, error)),
            };
            match RelationMap::parse(&bytes) {
                Ok(map) => return Ok(Some(map)),
                // Up to 15 the file is overwritten in place, and every new one begins empty.
                Err(RelationMapError::Crc { .. } | RelationMapError::Size(_))
                    if tries < REREAD_COUNT_MAX =>
                {
                    tries += 1;
                    sleep(Duration::from_millis(REREAD_PAUSE_MS));
                }
                Err(error) => return Err(BootstrapError::RelationMap { path, error }),
            }
        }
    }

    fn database_directory(&self, home: DatabaseHome) -> PathBuf {
        match home.tablespace {
            GLOBAL_TABLESPACE => self.root.join("global"),
            DEFAULT_TABLESPACE => self.root.join("base").join(home.database.to_string()),
            other => self
                .tablespace_directory(other)
                .join(home.database.to_string()),
        }
    }

    fn databases_in(
        &self,
        directory: &Path,
        tablespace: Oid,
        homes: &mut Vec<DatabaseHome>,
    ) -> Result<(), BootstrapError> {
        for database in numbered_entries(directory)? {
            let path = directory.join(database.to_string());
            // Other tablespaces hold parts of databases whose home is elsewhere.
            if path.join(filenodes::FILE_NAME).exists() {
                homes.push(DatabaseHome {
                    database,
                    tablespace,
                });
            }
        }
        Ok(())
    }
}

fn not_one(path: &Path, missing: &'static str) -> BootstrapError {
    BootstrapError::NotADataDirectory {
        path: path.to_owned(),
        missing,
    }
}

fn read_version(root: &Path) -> Result<&'static WalFormat, BootstrapError> {
    let path = root.join("PG_VERSION");
    let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => not_one(root, "PG_VERSION"),
        _ => BootstrapError::io(&path, error),
    })?;
    let found = text.trim();
    let format = FORMATS
        .iter()
        .find(|format| found == format.major.to_string());
    format.ok_or_else(|| BootstrapError::Version {
        path,
        found: found.chars().take(20).collect(),
    })
}

/// The entries of a directory whose names are numbers; none if it does not exist.
fn numbered_entries(directory: &Path) -> Result<Vec<Oid>, BootstrapError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(BootstrapError::io(directory, error)),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| BootstrapError::io(directory, error))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        numbers.extend(number.map(Oid));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Whether a PostgreSQL process of this id runs here. Where that cannot be seen, it does.
fn is_running(pid: u32) -> bool {
    let processes = Path::new("/proc");
    if !processes.join("self").exists() {
        return true;
    }
    let process = processes.join(pid.to_string());
    if !process.exists() {
        return false;
    }
    // After a crash the id may have gone to something else.
    match fs::read_to_string(process.join("comm")) {
        Ok(name) => ["postgres", "postmaster"]
            .iter()
            .any(|server| name.starts_with(server)),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::bootstrap::control_file::craft_control;
    use crate::catalog::filenodes::craft_map;

    fn craft(major: u16) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir(root.join("global")).unwrap();
        fs::write(root.join("PG_VERSION"), format!("{major}\n")).unwrap();
        fs::write(root.join("global/pg_control"), craft_control(major, |_| ())).unwrap();
        directory
    }

    fn refusal(root: &Path) -> String {
        DataDirectory::open(root).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_data_directory_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let message = refusal(&empty.path().join("none"));
        assert!(message.contains("does not exist"), "{message}");
        let message = refusal(empty.path());
        assert!(message.contains("has no PG_VERSION"), "{message}");
        fs::write(empty.path().join("PG_VERSION"), "13\n").unwrap();
        let message = refusal(empty.path());
        assert!(
            message.contains("PostgreSQL 13; versions 14 to 18"),
            "{message}"
        );
        let message = refusal(&empty.path().join("PG_VERSION"));
        assert!(message.contains("is a file"), "{message}");
        fs::write(empty.path().join("PG_VERSION"), "16\n").unwrap();
        let message = refusal(empty.path());
        assert!(message.contains("has no global/pg_control"), "{message}");
        let mixed = craft(15);
        fs::write(mixed.path().join("PG_VERSION"), "16\n").unwrap();
        let message = refusal(mixed.path());
        assert!(message.contains("catalog version"), "{message}");
    }

    #[test]
    fn databases_are_found_in_every_tablespace() {
        let directory = craft(16);
        let root = directory.path();
        let version = root.join("pg_tblspc/16500/PG_16_202307071");
        for path in [
            root.join("base/1"),
            root.join("base/5"),
            root.join("base/pgsql_tmp"),
            root.join("base/99"),
            version.join("16600"),
            version.join("5"),
            root.join("pg_tblspc/16500/PG_15_202209061/7"),
        ] {
            fs::create_dir_all(path).unwrap();
        }
        let map = craft_map(&[(1259, 16_700)], 524);
        for home in [
            root.join("base/1"),
            root.join("base/5"),
            version.join("16600"),
        ] {
            fs::write(home.join(filenodes::FILE_NAME), &map).unwrap();
        }
        let directory = DataDirectory::open(root).unwrap();
        let home = |database, tablespace| DatabaseHome {
            database: Oid(database),
            tablespace: Oid(tablespace),
        };
        let expected = [home(1, 1663), home(5, 1663), home(16_600, 16_500)];
        assert_eq!(directory.databases().unwrap(), expected);
        let map = directory.relation_map(expected[2]).unwrap().unwrap();
        assert_eq!(map.file_of(Oid(1259)), Some(Oid(16_700)));
        assert!(directory.relation_map(home(99, 1663)).unwrap().is_none());
        let node = RelFileNode {
            tablespace: Oid(1664),
            database: Oid(0),
            relation: Oid(1262),
        };
        assert_eq!(directory.file_path(node), root.join("global/1262"));
    }

    #[test]
    fn a_server_is_seen_by_its_process() {
        let directory = craft(17);
        let opened = DataDirectory::open(directory.path()).unwrap();
        assert_eq!(opened.usage().unwrap(), Usage::Stopped);
        let path = directory.path().join("postmaster.pid");
        fs::write(&path, "4294967294\n/data\n").unwrap();
        assert_eq!(opened.usage().unwrap(), Usage::NotSeen(4_294_967_294));
        fs::write(&path, "\u{fffd}").unwrap();
        assert_eq!(opened.usage().unwrap(), Usage::NotSeen(0));
    }
}
