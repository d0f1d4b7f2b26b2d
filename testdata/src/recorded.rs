//! What `recorded/` holds: real WAL of every supported version, with what the server itself
//! decoded from it. Reading it needs no server and nothing installed.
//!
//! ```text
//! recorded/<version>/base.tar.zst           a data directory, stopped cleanly, database `app`
//! recorded/<version>/<case>/wal.tar.zst     the WAL from there on, zero tails cut
//! recorded/<version>/<case>/expected.txt.zst  what the server printed (test_decoding)
//! recorded/<version>/<case>/events.json.zst   what we print of it as JSON, where that is recorded
//! recorded/<version>/<case>/case.json       database, end, settings
//! ```

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use crate::files::is_wal_file;

/// The facts of a case, as `case.json` holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The database that was compared.
    pub database: String,
    /// Where the comparison ends, as PostgreSQL prints LSNs.
    pub end: String,
    /// Bytes of a WAL segment.
    pub segment_bytes: u64,
    /// The server's version as it prints it.
    pub server_version: String,
    /// Settings that the case was recorded with, beside the usual ones.
    pub settings: Vec<(String, String)>,
    /// Lines of the expected output.
    pub lines: usize,
}

/// One recorded case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Major version of the server.
    pub version: u32,
    /// The name: the SQL stands in `cases/<name>.sql`.
    pub name: String,
    /// Its facts.
    pub facts: Facts,
    dir: PathBuf,
}

/// Where everything recorded is.
pub fn recorded_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded")
}

/// All cases of all versions, in order.
///
/// # Errors
/// When the directory cannot be read.
pub fn cases() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for version_dir in subdirectories(&recorded_dir())? {
        let Some(version) = file_name(&version_dir).and_then(|name| name.parse().ok()) else {
            continue;
        };
        for dir in subdirectories(&version_dir)? {
            let Some(name) = file_name(&dir) else {
                continue;
            };
            cases.push(Case {
                version,
                name,
                facts: read_facts(&dir)?,
                dir,
            });
        }
    }
    cases.sort_by(|a, b| (a.version, &a.name).cmp(&(b.version, &b.name)));
    Ok(cases)
}

/// One case.
///
/// # Errors
/// When there is none of that name.
pub fn case(version: u32, name: &str) -> Result<Case> {
    let dir = recorded_dir().join(version.to_string()).join(name);
    Ok(Case {
        version,
        name: name.to_owned(),
        facts: read_facts(&dir)?,
        dir,
    })
}

impl Case {
    /// Writes the case's WAL segments into a directory, at their whole length.
    ///
    /// # Errors
    /// When the archive cannot be read or the files not written.
    pub fn unpack_wal(&self, to: &Path) -> Result<()> {
        unpack(&self.dir.join("wal.tar.zst"), to)?;
        for entry in fs::read_dir(to)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.len() == 24 && is_wal_file(&name) {
                fs::OpenOptions::new()
                    .write(true)
                    .open(entry.path())?
                    .set_len(self.facts.segment_bytes)?;
            }
        }
        Ok(())
    }

    /// What the server printed.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn expected(&self) -> Result<Vec<u8>> {
        self.file("expected.txt.zst")
    }

    /// A compressed file of the case, unpacked.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn file(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name);
        let packed = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut text = Vec::new();
        decompressor(&packed[..])?
            .read_to_end(&mut text)
            .with_context(|| path.display().to_string())?;
        Ok(text)
    }

    /// Where a file of the case is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Writes a version's base, a data directory that was stopped cleanly, into a directory.
///
/// # Errors
/// When the archive cannot be read or the files not written.
pub fn unpack_base(version: u32, to: &Path) -> Result<()> {
    unpack(&base_path(version), to)
}

/// Where a version's base is.
pub fn base_path(version: u32) -> PathBuf {
    recorded_dir()
        .join(version.to_string())
        .join("base.tar.zst")
}

/// Unpacks a tar file compressed with zstd.
///
/// # Errors
/// When it cannot be read or the files not written.
pub fn unpack(archive: &Path, to: &Path) -> Result<()> {
    let packed = fs::read(archive).with_context(|| format!("cannot read {}", archive.display()))?;
    let mut files = tar::Archive::new(decompressor(&packed[..])?);
    files.set_preserve_mtime(false);
    fs::create_dir_all(to)?;
    files
        .unpack(to)
        .with_context(|| format!("cannot unpack {}", archive.display()))
}

fn decompressor(packed: &[u8]) -> Result<impl Read + '_> {
    ruzstd::decoding::StreamingDecoder::new(packed)
        .map_err(|error| anyhow!("not a zstd file: {error}"))
}

fn read_facts(dir: &Path) -> Result<Facts> {
    let path = dir.join("case.json");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

fn subdirectories(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    Ok(found)
}

fn file_name(path: &Path) -> Option<String> {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_its_base_and_whole_segments() {
        let cases = cases().unwrap();
        assert!(!cases.is_empty(), "nothing is recorded");
        for case in &cases {
            assert!(
                base_path(case.version).is_file(),
                "no base for {}",
                case.version
            );
            let wal = tempfile::tempdir().unwrap();
            case.unpack_wal(wal.path()).unwrap();
            let segments: Vec<u64> = fs::read_dir(wal.path())
                .unwrap()
                .map(|entry| entry.unwrap().metadata().unwrap().len())
                .collect();
            assert!(
                !segments.is_empty() && segments.iter().all(|len| *len == case.facts.segment_bytes)
            );
            let expected = case.expected().unwrap();
            let lines = expected.iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(lines, case.facts.lines, "{} {}", case.version, case.name);
        }
    }

    #[test]
    fn a_base_is_a_data_directory() {
        let base = tempfile::tempdir().unwrap();
        unpack_base(15, base.path()).unwrap();
        assert_eq!(
            fs::read_to_string(base.path().join("PG_VERSION"))
                .unwrap()
                .trim(),
            "15"
        );
        assert_eq!(
            fs::metadata(base.path().join("global/pg_control"))
                .unwrap()
                .len(),
            8192
        );
        assert!(!base.path().join("postmaster.pid").exists());
    }
}
