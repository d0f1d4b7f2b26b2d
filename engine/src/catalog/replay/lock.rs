//! `XLOG_HEAP_LOCK` and `XLOG_HEAP2_LOCK_UPDATED`: a tuple gets a locker.
//!
//! ```text
//! main: xmax u32, offnum u16, infobits u8, flags u8
//! ```
// pg: access/heapam_xlog.h xl_heap_lock, xl_heap_lock_updated [14-18]

use redostream_protocol::{Cursor, Xid};

use super::Replay;
use crate::catalog::CatalogError;
use crate::catalog::tuple::{self, infomask2};

const NAME: &str = "lock";
/// `XLHL_XMAX_IS_MULTI`.
pub(super) const IS_MULTI: u8 = 0x01;

/// Which version is locked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The latest: it has no newer version.
    Latest,
    /// One that was updated since; it goes on pointing at the newer one.
    Older,
}

pub(super) fn apply(replay: &mut Replay<'_, '_, '_>, kind: Kind) -> Result<(), CatalogError> {
    let record = replay.record;
    let block = *record
        .block(0)
        .ok_or_else(|| replay.malformed(NAME, "it lacks its block"))?;
    let error = replay.cursor_error(NAME);
    let mut main = Cursor::new(record.main);
    let xmax = Xid(main.u32("xmax").map_err(&error)?);
    let offset = main.u16("offset").map_err(&error)?;
    let infobits = main.u8("infobits").map_err(&error)?;
    replay.redo_with(0, NAME, |page| {
        let tuple = page.tuple_mut(offset)?;
        tuple::set_deleter(tuple, xmax, infobits);
        if kind == Kind::Latest && tuple::is_lock_only(tuple::mask(tuple)) {
            tuple::set_mask2(tuple, tuple::mask2(tuple) & !infomask2::HOT_UPDATED);
            tuple::set_ctid(tuple, block.block, offset);
        }
        Ok(())
    })?;
    if infobits & IS_MULTI != 0 {
        replay.pin(xmax);
    }
    Ok(())
}
