//! `XLOG_HEAP_UPDATE` and `XLOG_HEAP_HOT_UPDATE`: an old version ends, a new one begins.
//!
//! ```text
//! main: old_xmax u32, old_offnum u16, old_infobits u8, flags u8, new_xmax u32, new_offnum u16
//! block 0, the new page: [prefix u16] [suffix u16] infomask2 u16, infomask u16, hoff u8,
//!                        null bitmap up to hoff, data without prefix and suffix
//! block 1: the old page, if it is another
//! ```
//!
//! Prefix and suffix are taken from the old version; they are used within one page only, and not
//! where the record has an image of it.
// pg: access/heapam_xlog.h xl_heap_update; heap_xlog_update [14-18]

use redostream_protocol::{Cursor, Xid};

use super::insert::logged_header;
use super::{ApplyError, Replay};
use crate::catalog::CatalogError;
use crate::catalog::pages::{Page, PageError, TUPLE_HEADER_BYTES};
use crate::catalog::tuple::{self, infomask2};
use crate::framing::record::{BlockRef, Record};
use crate::framing::rmgr::heap;

const NAME: &str = "update";
const PREFIX_FROM_OLD: u8 = 0x20;
const SUFFIX_FROM_OLD: u8 = 0x40;

#[derive(Clone, Copy)]
struct Update {
    old_xmax: Xid,
    old_offset: u16,
    old_infobits: u8,
    flags: u8,
    new_xmax: Xid,
    new_offset: u16,
}

pub(super) fn apply(replay: &mut Replay<'_, '_, '_>) -> Result<(), CatalogError> {
    let record = replay.record;
    let new = *record
        .block(0)
        .ok_or_else(|| replay.malformed(NAME, "it lacks its block"))?;
    let error = replay.cursor_error(NAME);
    let mut main = Cursor::new(record.main);
    let mut parse = || {
        Ok(Update {
            old_xmax: Xid(main.u32("old xmax")?),
            old_offset: main.u16("old offset")?,
            old_infobits: main.u8("old infobits")?,
            flags: main.u8("flags")?,
            new_xmax: Xid(main.u32("new xmax")?),
            new_offset: main.u16("new offset")?,
        })
    };
    let update = parse().map_err(error)?;
    let hot = record.op() & heap::OP_MASK == heap::HOT_UPDATE;
    let old_block = record.block(1).copied();
    match old_block {
        None => {
            replay.redo_with(0, NAME, |page| {
                let reused = shared(page, update, new)?;
                end_old(page, update, new, hot)?;
                begin_new(page, update, record, new, &reused)
            })?;
        }
        Some(_) => {
            replay.redo_with(1, NAME, |page| end_old(page, update, new, hot))?;
            replay.redo_with(0, NAME, |page| {
                begin_new(page, update, record, new, &(Vec::new(), Vec::new()))
            })?;
        }
    }
    pin_multixact(replay, update);
    replay.wrote(old_block.unwrap_or(new), update.old_offset);
    replay.wrote(new, update.new_offset);
    Ok(())
}

/// Prefix and suffix of the old version that the new one keeps.
fn shared(
    page: &Page,
    update: Update,
    new: BlockRef<'_>,
) -> Result<(Vec<u8>, Vec<u8>), ApplyError> {
    let (prefix, suffix) = shared_bytes(&mut Cursor::new(new.data), update)?;
    if prefix == 0 && suffix == 0 {
        return Ok((Vec::new(), Vec::new()));
    }
    let old = page.tuple(update.old_offset)?;
    let short = PageError::ShortTuple(update.old_offset);
    let data = old.get(tuple::hoff(old)..).ok_or(short)?;
    let head = data.get(..prefix).ok_or(short)?;
    let tail_at = data.len().checked_sub(suffix).ok_or(short)?;
    Ok((head.to_vec(), data[tail_at..].to_vec()))
}

fn shared_bytes(data: &mut Cursor<'_>, update: Update) -> Result<(usize, usize), ApplyError> {
    let mut length = |flag| {
        if update.flags & flag != 0 {
            data.u16("shared length").map(usize::from)
        } else {
            Ok(0)
        }
    };
    Ok((length(PREFIX_FROM_OLD)?, length(SUFFIX_FROM_OLD)?))
}

fn end_old(
    page: &mut Page,
    update: Update,
    new: BlockRef<'_>,
    hot: bool,
) -> Result<(), ApplyError> {
    let old = page.tuple_mut(update.old_offset)?;
    tuple::set_deleter(old, update.old_xmax, update.old_infobits);
    let mask2 = tuple::mask2(old) & !infomask2::HOT_UPDATED;
    let hot = if hot { infomask2::HOT_UPDATED } else { 0 };
    tuple::set_mask2(old, mask2 | hot);
    tuple::set_ctid(old, new.block, update.new_offset);
    Ok(())
}

fn begin_new(
    page: &mut Page,
    update: Update,
    record: &Record<'_>,
    new: BlockRef<'_>,
    (prefix, suffix): &(Vec<u8>, Vec<u8>),
) -> Result<(), ApplyError> {
    let mut data = Cursor::new(new.data);
    if shared_bytes(&mut data, update)? != (prefix.len(), suffix.len()) {
        // Only within one page does the old version stand at hand.
        return Err(PageError::NoTuple(update.old_offset).into());
    }
    let header = logged_header(&mut data)?;
    let bitmap = usize::from(header.hoff).saturating_sub(TUPLE_HEADER_BYTES);
    let bitmap = data.take(bitmap, "null bitmap")?;
    let tid = (new.block, update.new_offset);
    let body = [bitmap, prefix, data.rest(), suffix];
    let bytes = tuple::build(header, record.xid, update.new_xmax, tid, &body);
    Ok(page.add(update.new_offset, &bytes)?)
}

fn pin_multixact(replay: &mut Replay<'_, '_, '_>, update: Update) {
    if update.old_infobits & super::lock::IS_MULTI != 0 {
        replay.pin(update.old_xmax);
    }
    // A new version carries on who locks the old one.
    replay.pin(update.new_xmax);
}
