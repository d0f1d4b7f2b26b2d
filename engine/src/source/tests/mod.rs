//! The source as a whole, over crafted files.

mod files;
mod forks;
mod switching;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redostream_protocol::{Lsn, TimelineId};

use super::*;

const MIB: u64 = 1024 * 1024;
const PAGE: u64 = 8192;
const SYSTEM: u64 = 7_312_345_678_901_234_567;
const MAGIC: u16 = 0xD110;

fn size() -> SegmentSize {
    SegmentSize::new(MIB).unwrap()
}

/// The byte at `lsn` of timeline `tli`: page headers where they belong, else a mix of the LSN.
fn segment(tli: u32, number: u64) -> Vec<u8> {
    let start = size().start(number).0;
    let mut bytes = vec![0; MIB as usize];
    for (index, word) in bytes.chunks_exact_mut(8).enumerate() {
        let mixed = (start / 8 + index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(tli);
        word.copy_from_slice(&(mixed | 1).to_le_bytes());
    }
    for page in 0..MIB / PAGE {
        let at = (page * PAGE) as usize;
        let info: u16 = if page == 0 { 2 } else { 0 };
        bytes[at..at + 2].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[at + 2..at + 4].copy_from_slice(&info.to_le_bytes());
        bytes[at + 4..at + 8].copy_from_slice(&tli.to_le_bytes());
        bytes[at + 8..at + 16].copy_from_slice(&(start + page * PAGE).to_le_bytes());
    }
    bytes[24..32].copy_from_slice(&SYSTEM.to_le_bytes());
    bytes[32..36].copy_from_slice(&(MIB as u32).to_le_bytes());
    bytes[36..40].copy_from_slice(&(PAGE as u32).to_le_bytes());
    bytes
}

fn name(tli: u32, number: u64) -> String {
    size().file_name(TimelineId(tli), number)
}

fn put(directory: &Path, tli: u32, number: u64) -> PathBuf {
    let path = directory.join(name(tli, number));
    fs::write(&path, segment(tli, number)).unwrap();
    path
}

fn options(directories: &[&Path], closed: bool) -> FileSourceOptions {
    FileSourceOptions {
        directories: directories.iter().map(|path| path.to_path_buf()).collect(),
        system_identifier: SYSTEM,
        segment_size: size(),
        page_magic: MAGIC,
        closed,
        restore: None,
    }
}

fn files(directories: &[&Path], closed: bool) -> FileSource {
    FileSource::with_history(
        options(directories, closed),
        TimelineHistory::single(TimelineId(1)),
    )
}

fn lsn(number: u64) -> Lsn {
    size().start(number)
}

fn read_all(source: &dyn Source, from: Lsn, to: Lsn) -> Result<Vec<u8>, SourceError> {
    let mut out = Vec::new();
    let mut buffer = vec![0; 300_000];
    while from.0 + (out.len() as u64) < to.0 {
        let at = from.add(out.len() as u64);
        let wanted = buffer.len().min((to.0 - at.0) as usize);
        let (count, _) = source.read(at, &mut buffer[..wanted])?;
        assert!(count > 0);
        out.extend_from_slice(&buffer[..count]);
    }
    Ok(out)
}
