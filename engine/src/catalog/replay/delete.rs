//! `XLOG_HEAP_DELETE`: a tuple gets its deleter.
//!
//! ```text
//! main: xmax u32, offnum u16, infobits u8, flags u8
//! ```
// pg: access/heapam_xlog.h xl_heap_delete; heap_xlog_delete [14-18]

use redostream_protocol::{Cursor, Xid};

use super::{Replay, lock};
use crate::catalog::CatalogError;
use crate::catalog::tuple::{self, infomask2};

const NAME: &str = "delete";
const IS_SUPER: u8 = 0x08;

pub(super) fn apply(replay: &mut Replay<'_, '_, '_>) -> Result<(), CatalogError> {
    let record = replay.record;
    let block = *record
        .block(0)
        .ok_or_else(|| replay.malformed(NAME, "it lacks its block"))?;
    let error = replay.cursor_error(NAME);
    let mut main = Cursor::new(record.main);
    let xmax = Xid(main.u32("xmax").map_err(&error)?);
    let offset = main.u16("offset").map_err(&error)?;
    let infobits = main.u8("infobits").map_err(&error)?;
    let flags = main.u8("flags").map_err(&error)?;
    let withdrawn = flags & IS_SUPER != 0;
    replay.redo_with(0, NAME, |page| {
        let tuple = page.tuple_mut(offset)?;
        let old_xmax = tuple::xmax(tuple);
        tuple::set_deleter(tuple, xmax, infobits);
        tuple::set_mask2(tuple, tuple::mask2(tuple) & !infomask2::HOT_UPDATED);
        if withdrawn {
            tuple::set_xmin(tuple, Xid::INVALID);
            tuple::set_xmax(tuple, old_xmax);
        }
        tuple::set_ctid(tuple, block.block, offset);
        Ok(())
    })?;
    if infobits & lock::IS_MULTI != 0 {
        replay.pin(xmax);
    }
    replay.wrote(block, offset);
    Ok(())
}
