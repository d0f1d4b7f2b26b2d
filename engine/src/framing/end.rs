//! Finds where a log ends, by framing it: the consistency point of a server that crashed.

use redostream_protocol::Lsn;

use super::chunk::{ChunkBuffers, FramedChunk, FramingRules, Span, Stop};
use super::framer::{Framer, Progress};
use super::wal_bytes::WalBytes;
use crate::catalog::tracked::TrackedFiles;
use crate::limits::{CHUNK_BYTES, WAL_PAGE_BYTES};
use crate::source::{Source, SourceError};

const PAGE: u64 = WAL_PAGE_BYTES as u64;

/// The end of the last good record in an unbroken row from the record at `start`.
pub fn end_of_log(
    source: &dyn Source,
    rules: FramingRules,
    start: Lsn,
) -> Result<Lsn, SourceError> {
    let (mut at, mut last) = (start, Lsn::INVALID);
    loop {
        let available = match source.available(at) {
            Ok(available) => available.end,
            Err(SourceError::NotYet(_) | SourceError::Missing { .. }) => return Ok(at),
            Err(error) => return Err(error),
        };
        let end = Lsn(at.0 / PAGE * PAGE + CHUNK_BYTES as u64).min(available);
        if end <= at {
            return Ok(at);
        }
        let span = Span {
            start: at,
            exact: true,
            end,
        };
        let chunk = frame(source, rules, span, available)?;
        let Some(first) = chunk.first else {
            return Ok(at);
        };
        if last.is_valid() && first.prev != last {
            return Ok(at);
        }
        (at, last) = (chunk.next, chunk.last);
        if !matches!(chunk.stop, Stop::End | Stop::Switch) {
            return Ok(at);
        }
    }
}

fn frame(
    source: &dyn Source,
    rules: FramingRules,
    span: Span,
    available: Lsn,
) -> Result<FramedChunk, SourceError> {
    let tracked = TrackedFiles::default();
    let base = Lsn(span.start.0 / PAGE * PAGE);
    let mut buffers = ChunkBuffers::default();
    let want = span.end.add(PAGE).min(available);
    read(source, base, want, &mut buffers.bytes)?;
    let mut framer = Framer::new(rules, &tracked, span, buffers);
    while let Progress::NeedsUpTo(lsn) = framer.run() {
        let (from, to) = (framer.available_end(), lsn.min(available));
        if to <= from {
            break;
        }
        read(source, from, to, framer.bytes_mut())?;
        if framer.available_end() == from {
            break;
        }
    }
    Ok(framer.finish())
}

fn read(source: &dyn Source, from: Lsn, to: Lsn, bytes: &mut WalBytes) -> Result<(), SourceError> {
    let mut at = from;
    while at < to {
        let start = bytes.len();
        bytes.set_len(start + to.bytes_since(at) as usize);
        match source.read(at, &mut bytes[start..]) {
            Ok((count, _)) => {
                bytes.set_len(start + count);
                at = at.add(count as u64);
            }
            Err(SourceError::NotYet(_)) => {
                bytes.set_len(start);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
