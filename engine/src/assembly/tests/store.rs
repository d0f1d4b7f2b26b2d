//! A spill store in memory, that can be told to fail.

use std::io::{self, Cursor};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redostream_protocol::Xid;

use crate::assembly::spill::{SpillCopy, SpillError, SpillId, SpillStore};

/// What a test makes go wrong, and sees.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) full: AtomicBool,
    pub(super) unreadable: AtomicBool,
    /// Flips a bit of the byte read at this offset.
    pub(super) damaged: AtomicBool,
    /// Bytes held now.
    pub(super) bytes: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct MemorySpill {
    spills: Vec<Option<Vec<u8>>>,
    pub(super) faults: Arc<Faults>,
}

fn io_error(kind: io::ErrorKind) -> SpillError {
    SpillError::Io {
        path: "memory".into(),
        source: kind.into(),
    }
}

impl MemorySpill {
    fn get(&mut self, id: SpillId) -> Result<&mut Vec<u8>, SpillError> {
        let spill = self.spills.get_mut(id.0 as usize);
        spill
            .and_then(Option::as_mut)
            .ok_or(SpillError::Unknown(id))
    }
}

impl SpillStore for MemorySpill {
    fn create(&mut self, _: Xid) -> Result<SpillId, SpillError> {
        self.spills.push(Some(Vec::new()));
        Ok(SpillId(self.spills.len() as u64 - 1))
    }

    fn append(&mut self, id: SpillId, parts: &[&[u8]]) -> Result<(), SpillError> {
        if self.faults.full.load(Ordering::Relaxed) {
            return Err(io_error(io::ErrorKind::StorageFull));
        }
        for part in parts {
            self.get(id)?.extend_from_slice(part);
        }
        self.faults.bytes.store(self.bytes(), Ordering::Relaxed);
        Ok(())
    }

    fn read(&mut self, id: SpillId, offset: u64, out: &mut [u8]) -> Result<(), SpillError> {
        if self.faults.unreadable.load(Ordering::Relaxed) {
            return Err(io_error(io::ErrorKind::InvalidData));
        }
        let damaged = self.faults.damaged.load(Ordering::Relaxed);
        let start = offset as usize;
        let found = self.get(id)?.get(start..start + out.len());
        let found = found.ok_or_else(|| io_error(io::ErrorKind::UnexpectedEof))?;
        out.copy_from_slice(found);
        if damaged && let Some(last) = out.last_mut() {
            *last ^= 4;
        }
        Ok(())
    }

    fn copy(&mut self, id: SpillId) -> Result<SpillCopy, SpillError> {
        Ok(SpillCopy {
            reader: Box::new(Cursor::new(self.get(id)?.clone())),
            kept: None,
        })
    }

    fn remove(&mut self, id: SpillId) {
        self.spills[id.0 as usize] = None;
        self.faults.bytes.store(self.bytes(), Ordering::Relaxed);
    }

    fn bytes(&self) -> u64 {
        self.spills
            .iter()
            .flatten()
            .map(|spill| spill.len() as u64)
            .sum()
    }
}
