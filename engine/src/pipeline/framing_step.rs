//! Reading a chunk and framing it: any worker, each chunk by itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use redostream_protocol::Lsn;

use super::worker::Worker;
use super::{Framed, Stage};
use crate::catalog::tracked::TrackedFiles;
use crate::error::EngineError;
use crate::framing::chunk::{FramedChunk, FramingRules};
use crate::framing::framer::{Framer, Progress};
use crate::framing::wal_bytes::WalBytes;
use crate::limits::WAL_PAGE_BYTES;
use crate::source::chunk::Plan;
use crate::source::{Origin, SourceError};

impl Worker<'_, '_> {
    /// Reads and frames a chunk, and brings it to the gate.
    pub(super) fn frame(
        &mut self,
        plan: Plan,
        tracked: &Arc<TrackedFiles>,
    ) -> Result<(), EngineError> {
        let (chunk, tried) = match self.framed(plan, tracked) {
            Ok((chunk, tried)) => (Ok(chunk), tried),
            Err(error) => (Err(error), Lsn::INVALID),
        };
        let framed = Framed {
            plan,
            tried,
            worker: self.number,
            generation: tracked.generation(),
            chunk,
            since: Instant::now(),
        };
        let planning = self.shared.planning.lock();
        if planning.planner.round() != plan.round {
            return Ok(());
        }
        self.shared.framed.lock().insert(plan.number, framed);
        drop(planning);
        self.drain_gate()
    }

    /// The chunk, and up to where there were bytes for it.
    pub(super) fn framed(
        &mut self,
        plan: Plan,
        tracked: &Arc<TrackedFiles>,
    ) -> Result<(FramedChunk, Lsn), EngineError> {
        let since = Instant::now();
        let mut buffers = self.shared.chunks.pop().unwrap_or_default();
        let base = Lsn(plan.span.start.0 / WAL_PAGE_BYTES as u64 * WAL_PAGE_BYTES as u64);
        let want = plan.span.end.add(WAL_PAGE_BYTES as u64).min(plan.available);
        self.read(base, want, &mut buffers.bytes, 0)?;
        self.shared.busy(Stage::Source, since);
        let since = Instant::now();
        let source = self.shared.source;
        // Asked after the bytes were read: the source may have gone over to another history
        // meanwhile, and they are then of one that is not followed any more.
        let rules = FramingRules {
            timelines: Some(source.page_timelines(base, plan.span.end)),
            ..self.shared.rules
        };
        let mut framer = Framer::new(rules, tracked, plan.span, buffers);
        while let Progress::NeedsUpTo(lsn) = framer.run() {
            let from = framer.available_end();
            let available = match self.shared.source.available(from) {
                Ok(available) => available.end,
                Err(SourceError::NotYet(_)) => from,
                Err(error) => return Err(error.into()),
            };
            let to = lsn.min(available);
            if to <= from {
                break;
            }
            let bytes = framer.bytes_mut();
            let start = bytes.len();
            self.read(from, to, bytes, start)?;
            framer.set_timelines(source.page_timelines(base, to));
        }
        let tried = framer.available_end();
        let chunk = framer.finish();
        self.shared.busy(Stage::Framing, since);
        Ok((chunk, tried))
    }

    /// Reads WAL to `bytes[start..]`, over what stood there, as long as that is.
    pub(super) fn read(
        &self,
        from: Lsn,
        to: Lsn,
        bytes: &mut WalBytes,
        start: usize,
    ) -> Result<(), EngineError> {
        let mut at = from;
        bytes.set_len(start + to.bytes_since(from) as usize);
        while at < to {
            let offset = start + at.bytes_since(from) as usize;
            match self.shared.source.read(at, &mut bytes[offset..]) {
                Ok((read, origin)) => {
                    if origin == Origin::Buffer {
                        self.shared
                            .counters
                            .buffer_bytes
                            .fetch_add(read as u64, Ordering::Relaxed);
                    }
                    at = at.add(read as u64);
                }
                // Less is there than was said; framing will find the chunk short.
                Err(SourceError::NotYet(_)) => {
                    bytes.set_len(offset);
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
