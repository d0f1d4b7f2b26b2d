//! `XLOG_HEAP2_MULTI_INSERT`: several new tuples of one page.
//!
//! ```text
//! main: flags u8, pad, ntuples u16, offsets ntuples x u16 (absent if the page is made anew)
//! block 0, each aligned to 2 bytes: length u16, infomask2 u16, infomask u16, hoff u8, data
//! ```
// pg: access/heapam_xlog.h xl_heap_multi_insert, xl_multi_insert_tuple [14-18]

use redostream_protocol::{Cursor, Xid};

use super::insert::logged_header;
use super::{Replay, offsets};
use crate::catalog::CatalogError;
use crate::catalog::tuple;
use crate::framing::rmgr::heap::INIT_PAGE;

const NAME: &str = "multi-insert";

pub(super) fn apply(replay: &mut Replay<'_, '_, '_>) -> Result<(), CatalogError> {
    let record = replay.record;
    let block = *record
        .block(0)
        .ok_or_else(|| replay.malformed(NAME, "it lacks its block"))?;
    let error = replay.cursor_error(NAME);
    let mut main = Cursor::new(record.main);
    main.take(2, "flags").map_err(&error)?;
    let count = main.u16("number of tuples").map_err(&error)?;
    let places = if record.info & INIT_PAGE != 0 {
        (1..=count).collect()
    } else {
        offsets(&mut main, usize::from(count)).map_err(&error)?
    };
    replay.redo_with(0, NAME, |page| {
        let mut data = Cursor::new(block.data);
        for offset in &places {
            data.align(2, "padding")?;
            let length = data.u16("tuple length")?;
            let header = logged_header(&mut data)?;
            let body = data.take(usize::from(length), "tuple")?;
            let tid = (block.block, *offset);
            let bytes = tuple::build(header, record.xid, Xid::INVALID, tid, &[body]);
            page.add(*offset, &bytes)?;
        }
        Ok(())
    })?;
    for offset in places {
        replay.wrote(block, offset);
    }
    Ok(())
}
