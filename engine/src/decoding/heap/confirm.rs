//! `XLOG_HEAP_CONFIRM`: a speculative insert turned out to be wanted.
// pg: access/heapam_xlog.h xl_heap_confirm; replication/logical/decode.c DecodeSpecConfirm [14-18]

use redostream_protocol::event::EventKind;

use crate::assembly::part::segment_flags;
use crate::catalog::relation::Target;
use crate::decoding::TupleError;
use crate::decoding::task::RowWriter;

pub(crate) fn decode(target: &Target, row: &mut RowWriter<'_>) -> Result<(), TupleError> {
    let Target::Table(layout) = target else {
        return Ok(());
    };
    row.begin(layout.relation.version, 0, 0);
    row.mark(segment_flags::SPECULATIVE);
    row.event(EventKind::SpeculativeConfirm, 0, |_| Ok(0))
}
