//! Spills as files of one directory, one file a transaction.
//!
//! The files mean nothing to another process: those found at the start are removed, and those left
//! are removed on drop. A file is opened for each operation, so thousands of spilled transactions
//! need no file descriptors; an operation moves hundreds of kilobytes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use redostream_protocol::Xid;
use rustc_hash::FxHashMap;

use super::{KeptFile, SpillCopy, SpillError, SpillId, SpillStore};

const EXTENSION: &str = "spill";
/// Of further names of spill files.
const KEPT_EXTENSION: &str = "kept";

/// Spills in files.
#[derive(Debug)]
pub struct FileSpill {
    directory: PathBuf,
    bytes_max: u64,
    bytes: u64,
    next: u64,
    files: FxHashMap<SpillId, SpillFile>,
}

#[derive(Debug)]
struct SpillFile {
    path: PathBuf,
    bytes: u64,
}

impl FileSpill {
    /// Spills into `directory`, which is made if it is missing and belongs to this store alone:
    /// spill files found there are removed. At most `bytes_max` bytes are held at any time.
    pub fn new(directory: impl Into<PathBuf>, bytes_max: u64) -> Result<Self, SpillError> {
        let directory = directory.into();
        fs::create_dir_all(&directory).map_err(at(&directory))?;
        for entry in fs::read_dir(&directory).map_err(at(&directory))? {
            let path = entry.map_err(at(&directory))?.path();
            let ours = |found| found == EXTENSION || found == KEPT_EXTENSION;
            if path.extension().is_some_and(ours) {
                fs::remove_file(&path).map_err(at(&path))?;
            }
        }
        Ok(Self {
            directory,
            bytes_max,
            bytes: 0,
            next: 0,
            files: FxHashMap::default(),
        })
    }

    fn file(&self, id: SpillId) -> Result<&SpillFile, SpillError> {
        self.files.get(&id).ok_or(SpillError::Unknown(id))
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SpillError {
    let path = path.to_owned();
    move |source| SpillError::Io { path, source }
}

fn write_parts(file: &File, mut offset: u64, parts: &[&[u8]]) -> io::Result<()> {
    for part in parts {
        file.write_all_at(part, offset)?;
        offset += part.len() as u64;
    }
    Ok(())
}

impl SpillStore for FileSpill {
    fn create(&mut self, top: Xid) -> Result<SpillId, SpillError> {
        let id = SpillId(self.next);
        let path = self.directory.join(format!("{}-{top}.{EXTENSION}", id.0));
        File::create(&path).map_err(at(&path))?;
        self.next += 1;
        self.files.insert(id, SpillFile { path, bytes: 0 });
        Ok(id)
    }

    fn append(&mut self, id: SpillId, parts: &[&[u8]]) -> Result<(), SpillError> {
        let wanted = parts.iter().map(|part| part.len() as u64).sum::<u64>();
        if self.bytes.saturating_add(wanted) > self.bytes_max {
            return Err(SpillError::Full {
                used: self.bytes,
                wanted,
                max: self.bytes_max,
            });
        }
        let spill = self.file(id)?;
        let file = OpenOptions::new()
            .write(true)
            .open(&spill.path)
            .map_err(at(&spill.path))?;
        if let Err(error) = write_parts(&file, spill.bytes, parts) {
            // What is beyond our length is never read; giving the space back is all that matters.
            if let Err(error) = file.set_len(spill.bytes) {
                tracing::warn!(path = %spill.path.display(), %error, "cannot shorten a spill file");
            }
            return Err(at(&spill.path)(error));
        }
        if let Some(spill) = self.files.get_mut(&id) {
            spill.bytes += wanted;
        }
        self.bytes += wanted;
        Ok(())
    }

    fn read(&mut self, id: SpillId, offset: u64, out: &mut [u8]) -> Result<(), SpillError> {
        let spill = self.file(id)?;
        let file = File::open(&spill.path).map_err(at(&spill.path))?;
        file.read_exact_at(out, offset).map_err(at(&spill.path))
    }

    fn copy(&mut self, id: SpillId) -> Result<SpillCopy, SpillError> {
        let name = self.next;
        self.next += 1;
        let spill = self.file(id)?;
        let file = File::open(&spill.path).map_err(at(&spill.path))?;
        // Bytes are only ever appended, so a further name is as good as a copy. Where the file
        // system has none, the bytes are copied.
        let kept = self.directory.join(format!("{name}.{KEPT_EXTENSION}"));
        Ok(SpillCopy {
            reader: Box::new(file.take(spill.bytes)),
            kept: KeptFile::link(&spill.path, kept).ok(),
        })
    }

    fn remove(&mut self, id: SpillId) {
        let Some(spill) = self.files.remove(&id) else {
            return;
        };
        self.bytes -= spill.bytes;
        if let Err(error) = fs::remove_file(&spill.path) {
            tracing::warn!(path = %spill.path.display(), %error, "cannot remove a spill file");
        }
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for FileSpill {
    fn drop(&mut self) {
        let left: Vec<SpillId> = self.files.keys().copied().collect();
        for id in left {
            self.remove(id);
        }
        // It stays if a restart point still keeps a file in it; the next store here tidies up.
        let _ = fs::remove_dir(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn spills_are_kept_apart_bounded_and_cleaned_up() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("0-7.spill"), b"left by a crash").unwrap();
        let mut store = FileSpill::new(directory.path(), 20).unwrap();
        assert_eq!(count(directory.path()), 0);
        let one = store.create(Xid(1)).unwrap();
        let two = store.create(Xid(2)).unwrap();
        store.append(one, &[b"ab", b"cd"]).unwrap();
        store.append(two, &[b"0123456789"]).unwrap();
        store.append(one, &[b"ef"]).unwrap();
        let error = store.append(one, &[b"12345"]).unwrap_err();
        assert!(error.is_no_space());
        assert_eq!(store.bytes(), 16);

        let mut out = [0; 4];
        store.read(one, 2, &mut out).unwrap();
        assert_eq!(&out, b"cdef");
        assert!(store.read(one, 3, &mut out).is_err());

        let mut copy = store.copy(one).unwrap().reader;
        store.append(one, &[b"zz"]).unwrap();
        store.remove(one);
        let mut copied = Vec::new();
        copy.read_to_end(&mut copied).unwrap();
        assert_eq!(copied, b"abcdef");

        assert!(store.read(one, 0, &mut out).is_err());
        assert_eq!(store.bytes(), 10);
        drop(store);
        assert!(!directory.path().exists(), "an empty directory goes too");
    }
}
