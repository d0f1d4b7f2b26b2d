//! `XLOG_HEAP_INSERT`: one new tuple.
//!
//! ```text
//! main: offnum u16, flags u8
//! block 0: infomask2 u16, infomask u16, hoff u8, the tuple behind its fixed header
//! ```
// pg: access/heapam_xlog.h xl_heap_insert, xl_heap_header; heap_xlog_insert [14-18]

use redostream_protocol::Cursor;
use redostream_protocol::cursor::ShortInput;

use super::Replay;
use crate::catalog::CatalogError;
use crate::catalog::tuple::{self, LoggedHeader};
use redostream_protocol::Xid;

const NAME: &str = "insert";

pub(super) fn apply(replay: &mut Replay<'_, '_, '_>) -> Result<(), CatalogError> {
    let record = replay.record;
    let block = *record
        .block(0)
        .ok_or_else(|| replay.malformed(NAME, "it lacks its block"))?;
    let error = replay.cursor_error(NAME);
    let mut main = Cursor::new(record.main);
    let offset = main.u16("offset").map_err(&error)?;
    replay.redo_with(0, NAME, |page| {
        let mut data = Cursor::new(block.data);
        let header = logged_header(&mut data)?;
        let tid = (block.block, offset);
        let bytes = tuple::build(header, record.xid, Xid::INVALID, tid, &[data.rest()]);
        Ok(page.add(offset, &bytes)?)
    })?;
    replay.wrote(block, offset);
    Ok(())
}

/// An `xl_heap_header`.
pub(super) fn logged_header(cursor: &mut Cursor<'_>) -> Result<LoggedHeader, ShortInput> {
    Ok(LoggedHeader {
        mask2: cursor.u16("infomask2")?,
        mask: cursor.u16("infomask")?,
        hoff: cursor.u8("header length")?,
    })
}
