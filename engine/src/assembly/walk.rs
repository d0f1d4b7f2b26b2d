//! Walks encoded events by their headers alone.

use redostream_protocol::event::{EventError, EventKind, HEADER_BYTES};
use redostream_protocol::{Cursor, Lsn};

use super::transaction::Place;

/// Whether an event of this kind is an insert, update or delete.
pub(super) fn is_row(kind: u8) -> bool {
    (EventKind::Insert as u8..=EventKind::Delete as u8).contains(&kind)
}

/// What a stretch of events holds, and where it ends.
pub(super) struct Measured {
    pub(super) end: usize,
    pub(super) last: usize,
    pub(super) events: u32,
    pub(super) rows: u32,
}

/// Walks events from `start`, up to `end` and about `room` bytes, at least one.
pub(super) fn measure(
    data: &[u8],
    start: usize,
    end: usize,
    room: usize,
) -> Result<Measured, EventError> {
    let mut measured = Measured {
        end: start,
        last: start,
        events: 0,
        rows: 0,
    };
    while measured.end < end {
        let at = measured.end;
        let mut cursor = Cursor::new(data.get(at..end).unwrap_or_default());
        let size = cursor.u32("event size")?;
        let kind = cursor.u8("event kind")?;
        if (size as usize) < HEADER_BYTES || size as usize > end - at {
            return Err(EventError::BadSize(size));
        }
        if measured.events > 0 && at + size as usize - start > room {
            break;
        }
        measured.last = at;
        measured.end = at + size as usize;
        measured.events += 1;
        measured.rows += u32::from(is_row(kind));
    }
    Ok(measured)
}

/// The place of the event at `offset`.
#[inline]
pub(super) fn place_at(data: &[u8], offset: usize) -> Result<Place, EventError> {
    let header = data
        .get(offset..)
        .and_then(<[u8]>::first_chunk::<HEADER_BYTES>);
    let Some(header) = header else {
        // Says in the checked reader's words what is missing.
        Cursor::new(data.get(offset..).unwrap_or_default()).take(HEADER_BYTES, "event")?;
        return Ok((Lsn(0), 0));
    };
    let [.., a, b, c, d, e, f, g, h, i, j, k, l] = *header;
    Ok((
        Lsn(u64::from_le_bytes([a, b, c, d, e, f, g, h])),
        u32::from_le_bytes([i, j, k, l]),
    ))
}
