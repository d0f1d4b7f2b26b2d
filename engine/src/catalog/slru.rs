//! Files of PostgreSQL's simple page logs (`pg_xact`, `pg_multixact`): names and pages.
//!
//! ```text
//! directory/0000, 0001, ...   a segment: 32 pages of 8192 bytes, named by its number in hex
//! ```
// pg: access/transam/slru.c SLRU_PAGES_PER_SEGMENT, SlruFileName [14-18]; the long names of 17 on
// are for pg_notify and pg_serial only

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::limits::HEAP_PAGE_BYTES;

/// Pages of a segment file.
pub(crate) const PAGES_PER_SEGMENT: u32 = 32;

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {error}; the data directory must be readable to this user", path.display())]
pub struct SlruError {
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub error: io::Error,
}

/// The segments of a directory: number and path, in order of number.
pub(crate) fn segments(directory: &Path) -> Result<Vec<(u32, PathBuf)>, SlruError> {
    let failed = |error| SlruError {
        path: directory.to_owned(),
        error,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if let Some(number) = name.to_str().and_then(segment_number) {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn segment_number(name: &str) -> Option<u32> {
    let hexadecimal = name
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    if (4..=6).contains(&name.len()) && hexadecimal {
        u32::from_str_radix(name, 16).ok()
    } else {
        None
    }
}

/// Reads a segment file whole, at most its 32 pages; `None` if it has vanished meanwhile.
pub(crate) fn read_segment(path: &Path) -> Result<Option<Vec<u8>>, SlruError> {
    let failed = |error| SlruError {
        path: path.to_owned(),
        error,
    };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(u64::from(PAGES_PER_SEGMENT) * HEAP_PAGE_BYTES as u64)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(Some(bytes))
}

/// Single pages of a directory, with the page last read kept.
pub(crate) struct PageReader {
    directory: PathBuf,
    current: Option<(u32, Option<Vec<u8>>)>,
}

impl PageReader {
    /// Reads from `directory`.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            current: None,
        }
    }

    /// The page, or `None` if the file has no such page.
    pub(crate) fn page(&mut self, number: u32) -> Result<Option<&[u8]>, SlruError> {
        if self.current.as_ref().is_none_or(|(at, _)| *at != number) {
            self.current = Some((number, self.read(number)?));
        }
        let page = self.current.as_ref().and_then(|(_, page)| page.as_deref());
        Ok(page)
    }

    fn read(&self, number: u32) -> Result<Option<Vec<u8>>, SlruError> {
        let segment = number / PAGES_PER_SEGMENT;
        let path = self.directory.join(format!("{segment:04X}"));
        let within = u64::from(number % PAGES_PER_SEGMENT) * HEAP_PAGE_BYTES as u64;
        let mut page = vec![0; HEAP_PAGE_BYTES];
        let read = fs::File::open(&path).and_then(|mut file| {
            file.seek(SeekFrom::Start(within))?;
            file.read_exact(&mut page)
        });
        match read {
            Ok(()) => Ok(Some(page)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(SlruError { path, error }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_segment_names_count() {
        assert_eq!(segment_number("0000"), Some(0));
        assert_eq!(segment_number("1FFFF"), Some(0x1FFFF));
        for other in ["", "000", "0000000", "00ag", "abcd", "0000.tmp"] {
            assert_eq!(segment_number(other), None, "{other}");
        }
    }
}
