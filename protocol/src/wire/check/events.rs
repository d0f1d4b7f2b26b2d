//! What can be said of one event alone: whether its payload is what its header asks for.

use crate::event::{
    EventHeader, EventKind, TAG_COMPRESSED, TAG_INLINE_MAX, TAG_LONG, TAG_NULL, TAG_TEXT,
    TAG_UNCHANGED, flags,
};

/// Checks a row's columns, its old tuple's and its new one's.
#[inline]
pub(super) fn check_row(header: &EventHeader, payload: &[u8]) -> Result<(), &'static str> {
    if header.flags & flags::HAS_EXTERNAL != 0 {
        return Err("flags that never leave the server");
    }
    if has_old(header) && header.kind == EventKind::Insert {
        return Err("an insert with an old tuple");
    }
    has_columns(payload, columns_of(header))
}

const fn has_old(header: &EventHeader) -> bool {
    header.flags & (flags::OLD_KEY | flags::OLD_FULL) != 0
}

/// The columns of a row's tuples together.
pub(super) fn columns_of(header: &EventHeader) -> u32 {
    let new = header.kind != EventKind::Delete;
    (u32::from(has_old(header)) + u32::from(new)) * u32::from(header.count)
}

/// Checks that a payload is so many columns.
#[inline]
pub(super) fn has_columns(payload: &[u8], columns: u32) -> Result<(), &'static str> {
    let mut at = 0;
    for _ in 0..columns {
        at = match payload.get(at) {
            Some(tag) if *tag <= TAG_INLINE_MAX => at + 1 + usize::from(*tag),
            _ => skip_column(payload, at)?,
        };
    }
    match at == payload.len() {
        true => Ok(()),
        false => Err("bytes after its last column"),
    }
}

/// The offset after the column at `at`, whose tag is not a length; it may lie beyond the payload's end
/// if that is the last.
fn skip_column(payload: &[u8], at: usize) -> Result<usize, &'static str> {
    let tag = *payload.get(at).ok_or("fewer columns than it says")?;
    let long = |offset: usize| {
        payload
            .get(at + offset..)
            .and_then(<[u8]>::first_chunk)
            .map(|raw| u32::from_le_bytes(*raw) as usize)
            .ok_or("a column without its length")
    };
    match tag {
        TAG_NULL | TAG_UNCHANGED => Ok(at + 1),
        TAG_LONG | TAG_TEXT => Ok(at + 5 + long(1)?),
        TAG_COMPRESSED => match payload.get(at + 1) {
            Some(0 | 1) => Ok(at + 10 + long(6)?),
            _ => Err("an unknown compression method"),
        },
        _ => Err("an unknown column tag"),
    }
}

/// Checks the payload of what is not a row.
pub(super) fn check_other(header: &EventHeader, payload: &[u8]) -> Result<(), &'static str> {
    match header.kind {
        EventKind::Truncate => match payload.len() == usize::from(header.count) * 4 {
            true => Ok(()),
            false => Err("a truncate of another size than its relations"),
        },
        EventKind::Message => {
            let given = header.flags & flags::DATABASE != 0;
            let text = payload.get(if given { 4 } else { 0 }..).unwrap_or_default();
            text.first_chunk()
                .map(|raw| u32::from_le_bytes(*raw) as usize)
                .filter(|prefix| *prefix <= text.len() - 4)
                .map(drop)
                .ok_or("a message shorter than its prefix")
        }
        EventKind::Sequence => match payload.len() {
            9 => Ok(()),
            _ => Err("a sequence of another size"),
        },
        EventKind::Ddl => Ok(()),
        _ => Err("a kind that never leaves the server"),
    }
}
