//! The commonest rows of all, many in one go: single tuples inserted into one table by one
//! transaction, whose columns are null, of a fixed size, or short. [`super::task::write_record`]
//! writes the same bytes, by way of a writer that can do everything else; what is not plain here,
//! or not right, is left to it.

use redostream_protocol::event::{EventHeader, EventKind, HEADER_BYTES};

use redostream_protocol::schema::RelationVersion;

use super::row_bytes::RowBytes;
use super::task::Written;
use super::tuple::LoggedTuple;
use crate::catalog::relation::Layout;
use crate::framing::chunk::FramedChunk;
use crate::framing::format::WalFormat;
use crate::framing::partition::{RowEntry, RowKind};
use crate::framing::walk;

/// Rows that were written one behind the other.
pub(super) struct Stretch {
    /// How many.
    pub(super) rows: u32,
    /// Bytes of them all.
    pub(super) bytes: u32,
    /// Offset in the arena of the last one.
    pub(super) last: u32,
}

impl Stretch {
    /// As if it were of one record.
    pub(super) const fn written(&self, relation: RelationVersion) -> Written {
        Written {
            bytes: self.bytes,
            last: self.last,
            events: self.rows,
            rows: self.rows,
            relation,
            flags: 0,
        }
    }
}

/// Appends the events of the first of `order`'s entries, as many as are plain inserts into one file
/// in one group, like the first.
pub(super) fn inserts(
    chunk: &FramedChunk,
    entries: &[RowEntry],
    order: &[u32],
    layout: &Layout,
    format: &WalFormat,
    arena: &mut Vec<u8>,
) -> Stretch {
    let start = arena.len();
    let mut stretch = Stretch {
        rows: 0,
        bytes: 0,
        last: 0,
    };
    let first = order.first().map(|index| &entries[*index as usize]);
    let Some(&RowEntry { group, file, .. }) = first else {
        return stretch;
    };
    let mut header = EventHeader {
        size: 0,
        kind: EventKind::Insert,
        flags: 0,
        count: layout.relation.columns.len() as u16,
        xid: chunk.groups[usize::from(group)].xid,
        relation: layout.relation.version,
        record_lsn: chunk.lsn(0),
        row: 0,
    };
    for index in order {
        let entry = &entries[*index as usize];
        if entry.kind != RowKind::Insert || entry.group != group || entry.file != file {
            break;
        }
        header.record_lsn = chunk.lsn(entry.lsn_offset);
        let at = arena.len();
        if insert(chunk.record(entry.place), format, layout, header, arena).is_none() {
            break;
        }
        stretch.last = at as u32;
        stretch.rows += 1;
    }
    stretch.bytes = (arena.len() - start) as u32;
    stretch
}

/// Appends the event of an `XLOG_HEAP_INSERT` record, or nothing if the row is not plain.
#[inline(always)]
fn insert(
    record: &[u8],
    format: &WalFormat,
    layout: &Layout,
    mut header: EventHeader,
    arena: &mut Vec<u8>,
) -> Option<()> {
    let parts = walk::parts(record, format)?;
    if !super::heap::insert::is_ordinary(parts.main) {
        return None;
    }
    let tuple = LoggedTuple::parse(parts.block_data).ok()?;
    let (count, bitmap, values) = tuple.split().ok()?;
    let attributes = &layout.attributes[..];
    if count != attributes.len() {
        return None;
    }
    let mut out = RowBytes::with_header::<HEADER_BYTES>(arena, count, values.len());
    let end = if bitmap.is_empty() {
        out.plain::<false>(attributes, bitmap, values, (0, 0))
    } else {
        out.plain::<true>(attributes, bitmap, values, (0, 0))
    };
    if end != (count, values.len()) {
        return None;
    }
    // A record's row has less than 1 GiB.
    header.size = out.written() as u32;
    out.settle_with_header(&header.to_bytes());
    Some(())
}
