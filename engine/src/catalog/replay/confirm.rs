//! `XLOG_HEAP_CONFIRM`: a speculative insert becomes an ordinary one.
//!
//! ```text
//! main: offnum u16
//! ```
// pg: access/heapam_xlog.h xl_heap_confirm; heap_xlog_confirm [14-18]

use redostream_protocol::Cursor;

use super::Replay;
use crate::catalog::CatalogError;
use crate::catalog::tuple;

const NAME: &str = "confirm";

pub(super) fn apply(replay: &mut Replay<'_, '_, '_>) -> Result<(), CatalogError> {
    let record = replay.record;
    let block = *record
        .block(0)
        .ok_or_else(|| replay.malformed(NAME, "it lacks its block"))?;
    let error = replay.cursor_error(NAME);
    let offset = Cursor::new(record.main).u16("offset").map_err(&error)?;
    replay.redo_with(0, NAME, |page| {
        tuple::set_ctid(page.tuple_mut(offset)?, block.block, offset);
        Ok(())
    })
}
