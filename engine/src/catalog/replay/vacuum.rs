//! `XLOG_HEAP2_VACUUM` (14 to 16): dead line pointers are freed.
//!
//! ```text
//! main: nunused u16
//! block 0: nunused x u16
//! ```
// pg: access/heapam_xlog.h xl_heap_vacuum; heap_xlog_vacuum [14-16]

use redostream_protocol::Cursor;

use super::{Replay, offsets};
use crate::catalog::CatalogError;

const NAME: &str = "vacuum";

pub(super) fn apply(replay: &mut Replay<'_, '_, '_>) -> Result<(), CatalogError> {
    let record = replay.record;
    let block = replay.block(0, NAME)?;
    let error = replay.cursor_error(NAME);
    let count = Cursor::new(record.main).u16("number").map_err(&error)?;
    replay.redo_with(0, NAME, |page| {
        for offset in offsets(&mut Cursor::new(block.data), usize::from(count))? {
            page.set_unused(offset)?;
        }
        Ok(page.compact()?)
    })
}
