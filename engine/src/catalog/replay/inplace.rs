//! `XLOG_HEAP_INPLACE`: a tuple's data is overwritten where it is, outside of any transaction.
//!
//! ```text
//! main: offnum u16 (18: and invalidation messages)
//! block 0: the tuple's data, as long as before
//! ```
// pg: access/heapam_xlog.h xl_heap_inplace; heap_xlog_inplace [14-18]

use redostream_protocol::Cursor;

use super::Replay;
use crate::catalog::CatalogError;
use crate::catalog::pages::{PageError, TUPLE_HEADER_BYTES};
use crate::catalog::tuple;

const NAME: &str = "in-place update";

pub(super) fn apply(replay: &mut Replay<'_, '_, '_>) -> Result<(), CatalogError> {
    let record = replay.record;
    let block = *record
        .block(0)
        .ok_or_else(|| replay.malformed(NAME, "it lacks its block"))?;
    let error = replay.cursor_error(NAME);
    let mut main = Cursor::new(record.main);
    let offset = main.u16("offset").map_err(&error)?;
    replay.redo_with(0, NAME, |page| {
        let tuple = page.tuple_mut(offset)?;
        if tuple.len() == TUPLE_HEADER_BYTES {
            // It hits a version that another transaction has replaced meanwhile and that was let go:
            // older minor releases could lose in-place updates so.
            return Ok(());
        }
        let hoff = tuple::hoff(tuple);
        let data = tuple.get_mut(hoff..).ok_or(PageError::ShortTuple(offset))?;
        if data.len() != block.data.len() {
            return Err(PageError::OtherSize {
                found: data.len(),
                given: block.data.len(),
            }
            .into());
        }
        data.copy_from_slice(block.data);
        Ok(())
    })?;
    Ok(())
}
