//! A spill's frames: one stretch of a transaction's events each.
//!
//! ```text
//! 0        8      12     16
//! | length | crc | head | events ...
//!
//! length  u64  bytes after the first 12
//! crc     u32  CRC-32 of those bytes
//! head    u32 bytes of the postcard that follows, then the postcard of FrameHead
//! events  the rest: encoded events
//! ```

use bytes::Bytes;
use redostream_protocol::Cursor;
use redostream_protocol::schema::RelationVersion;

use super::super::part::Segment;
use super::super::transaction::StoredRun;
use super::{SpillError, SpillId, SpillStore};

const PREFIX_BYTES: usize = 12;

/// What stands before a frame's events.
#[derive(serde::Serialize, serde::Deserialize)]
struct FrameHead {
    segments: Vec<Segment>,
    relations: Vec<RelationVersion>,
    last: u32,
    events: u32,
    rows: u32,
    crc: Option<u32>,
    flags: u8,
}

/// Why a frame cannot be read.
pub(in super::super) enum FrameError {
    /// The store failed.
    Store(SpillError),
    /// The bytes are not what was written.
    Damaged(&'static str),
}

/// Appends `run` as one frame and says how long it is.
pub(in super::super) fn append(
    store: &mut dyn SpillStore,
    id: SpillId,
    run: &StoredRun,
) -> Result<u64, SpillError> {
    let head = FrameHead {
        segments: run.segments.clone(),
        relations: run.relations.clone(),
        last: run.last,
        events: run.events,
        rows: run.rows,
        crc: run.crc,
        flags: run.flags,
    };
    // Encoding numbers into memory cannot fail; an empty head would be caught when read back.
    let head = postcard::to_allocvec(&head).unwrap_or_default();
    let head_bytes = (head.len() as u32).to_le_bytes();
    let mut crc = crc32fast::Hasher::new();
    for part in [&head_bytes[..], &head, &run.data] {
        crc.update(part);
    }
    let length = (head_bytes.len() + head.len() + run.data.len()) as u64;
    let mut prefix = [0; PREFIX_BYTES];
    prefix[..8].copy_from_slice(&length.to_le_bytes());
    prefix[8..].copy_from_slice(&crc.finalize().to_le_bytes());
    store.append(id, &[&prefix, &head_bytes, &head, &run.data])?;
    Ok(PREFIX_BYTES as u64 + length)
}

/// Reads the frame at `offset` of a spill of `total` bytes; gives it and the offset of the next.
pub(in super::super) fn read(
    store: &mut dyn SpillStore,
    id: SpillId,
    offset: u64,
    total: u64,
) -> Result<(StoredRun, u64), FrameError> {
    let mut prefix = [0; PREFIX_BYTES];
    let left = total.saturating_sub(offset);
    if left < PREFIX_BYTES as u64 {
        return Err(FrameError::Damaged("the frame ends early"));
    }
    store
        .read(id, offset, &mut prefix)
        .map_err(FrameError::Store)?;
    let mut cursor = Cursor::new(&prefix);
    let short = |_| FrameError::Damaged("the frame ends early");
    let length = cursor.u64("frame length").map_err(short)?;
    let crc = cursor.u32("frame CRC").map_err(short)?;
    if length > left - PREFIX_BYTES as u64 {
        return Err(FrameError::Damaged("the frame is longer than its spill"));
    }
    let mut body = vec![0; length as usize];
    store
        .read(id, offset + PREFIX_BYTES as u64, &mut body)
        .map_err(FrameError::Store)?;
    if crc32fast::hash(&body) != crc {
        return Err(FrameError::Damaged("the checksum does not match"));
    }
    let run = parse(Bytes::from(body)).ok_or(FrameError::Damaged("the head is malformed"))?;
    Ok((run, offset + PREFIX_BYTES as u64 + length))
}

fn parse(body: Bytes) -> Option<StoredRun> {
    let mut cursor = Cursor::new(&body);
    let head_bytes = cursor.u32("frame head length").ok()?;
    let head = cursor.take(head_bytes as usize, "frame head").ok()?;
    let head: FrameHead = postcard::from_bytes(head).ok()?;
    let data = body.slice(cursor.offset()..);
    Some(StoredRun {
        data,
        segments: head.segments,
        relations: head.relations,
        last: head.last,
        events: head.events,
        rows: head.rows,
        finished: None,
        crc: head.crc,
        flags: head.flags,
        charge: 0,
    })
}
