//! How a TOASTed value stands in its row's event, once its chunks are there.

use redostream_protocol::event::{
    CompressionMethod, Event, EventKind, TAG_COMPRESSED, TAG_INLINE_MAX, TAG_LONG, ToastPointer,
};

use crate::limits::VALUE_BYTES_MAX;

/// Why a pointer, or the value it leads to, is not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Untrue(pub(crate) &'static str);

/// Whether a value can be what its pointer says.
// pg: varatt.h varatt_external; access/common/toast_internals.c toast_save_datum [14-18]
pub(crate) fn check(pointer: ToastPointer) -> Result<(), Untrue> {
    if pointer.raw_size < 4 || pointer.raw_size as usize - 4 > VALUE_BYTES_MAX {
        return Err(Untrue("its size is impossible"));
    }
    if pointer.is_compressed() {
        if pointer.stored_size() < 4 {
            return Err(Untrue("it is compressed to less than its own head"));
        }
    } else if pointer.stored_size() != pointer.raw_size - 4 {
        return Err(Untrue("more is stored than the value has"));
    }
    Ok(())
}

/// Columns of an event's old tuple, which come first. The server detoasts old tuples before it logs
/// them: a pointer in one leads nowhere.
// pg: access/heap/heapam.c ExtractReplicaIdentity [14-18]
pub(crate) fn old_columns(event: &Event<'_>) -> usize {
    if event.has_old() {
        usize::from(event.header.count)
    } else {
        0
    }
}

/// Columns of an event's tuples together.
pub(crate) fn all_columns(event: &Event<'_>) -> usize {
    let new = event.header.kind != EventKind::Delete;
    old_columns(event) + usize::from(new) * usize::from(event.header.count)
}

/// Bytes of a joined value with its tag.
pub(crate) fn joined_bytes(pointer: ToastPointer) -> u64 {
    let stored = u64::from(pointer.stored_size());
    if pointer.is_compressed() {
        // Tag, method, two sizes; the stored bytes without the four that hold the raw size.
        10 + stored - 4
    } else if stored <= u64::from(TAG_INLINE_MAX) {
        1 + stored
    } else {
        5 + stored
    }
}

/// Appends a value with its tag. `fill` appends what its chunks hold. After an error part of it is
/// written.
pub(crate) fn push<E: From<Untrue>>(
    pointer: ToastPointer,
    out: &mut Vec<u8>,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let stored = pointer.stored_size();
    if !pointer.is_compressed() {
        match u8::try_from(stored) {
            Ok(short) if short <= TAG_INLINE_MAX => out.push(short),
            _ => {
                out.push(TAG_LONG);
                out.extend_from_slice(&stored.to_le_bytes());
            }
        }
        return fill(out);
    }
    let method = match pointer.stored >> 30 {
        0 => CompressionMethod::Pglz,
        1 => CompressionMethod::Lz4,
        _ => return Err(Untrue("its compression method is unknown").into()),
    };
    let raw_size = pointer.raw_size - 4;
    out.push(TAG_COMPRESSED);
    out.push(method as u8);
    out.extend_from_slice(&raw_size.to_le_bytes());
    // The value begins with four bytes that say its raw size and method again. They come to lie
    // where the stored size belongs, are checked there, and overwritten.
    // pg: varatt.h va_compressed [14-18]
    let slot = out.len();
    fill(out)?;
    let Some(head) = out.get_mut(slot..).and_then(<[u8]>::first_chunk_mut) else {
        return Err(Untrue("its value is shorter than its own head").into());
    };
    let found = u32::from_le_bytes(*head);
    if found & 0x3FFF_FFFF != raw_size || found >> 30 != method as u32 {
        return Err(Untrue("the value's own head says another size or method").into());
    }
    *head = (stored - 4).to_le_bytes();
    Ok(())
}
