//! Rows that cannot be decoded: that they are there is said, in their place, and why.
//!
//! Whoever wants the table is told, and nobody else is concerned. What follows a row that
//! contradicts its table is decoded as ever. A speculative insert waits for its confirmation like
//! any other, and is nothing if it is withdrawn.

use redostream_protocol::event::{EventKind, flags};
use redostream_protocol::schema::Relation;

use super::TupleError;
use super::heap::{delete, insert};
use super::task::RowWriter;
use crate::assembly::part::segment_flags;
use crate::catalog::relation::Target;
use crate::framing::page::u16_at;
use crate::framing::partition::RowKind;
use crate::framing::walk::Parts;
use crate::limits::REASON_BYTES_MAX;

/// The rows of one record of a table that cannot be decoded at all.
#[cold]
pub(super) fn decode(
    kind: RowKind,
    parts: Parts<'_>,
    target: &Target,
    row: &mut RowWriter<'_>,
) -> Result<(), TupleError> {
    let Target::Undecodable { relation, reason } = target else {
        return Ok(());
    };
    let event = match kind {
        RowKind::Confirm => EventKind::SpeculativeConfirm,
        RowKind::Delete if delete::is_withdrawal(parts.main) => EventKind::SpeculativeAbort,
        _ => {
            return match rows(kind, parts) {
                0 => Ok(()),
                rows => give_up(relation, reason, kind, parts, rows, row),
            };
        }
    };
    row.begin(relation.version, 0, 0);
    row.mark(segment_flags::SPECULATIVE);
    row.event(event, 0, |_| Ok(0))
}

/// How many rows a record holds.
pub(super) fn rows(kind: RowKind, parts: Parts<'_>) -> u16 {
    match kind {
        // How many a foreign page change holds, only the extension knows.
        RowKind::Insert | RowKind::Update | RowKind::Delete | RowKind::Foreign => 1,
        RowKind::MultiInsert => parts.main.get(..4).map_or(1, |fixed| u16_at(fixed, 2)),
        // The insert has been counted.
        RowKind::Confirm => 0,
    }
}

/// Says that so many rows are left out, and why.
#[cold]
pub(super) fn give_up(
    relation: &Relation,
    reason: &str,
    kind: RowKind,
    parts: Parts<'_>,
    rows: u16,
    row: &mut RowWriter<'_>,
) -> Result<(), TupleError> {
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    row.begin(relation.version, 0, reason.len());
    if kind == RowKind::Insert && insert::is_speculative(parts.main) {
        row.mark(segment_flags::SPECULATIVE);
        return row.event(EventKind::SpeculativeInsert, usize::from(rows), |out| {
            out.extend_from_slice(reason.as_bytes());
            Ok(flags::UNDECODABLE)
        });
    }
    row.mark(segment_flags::UNDECODABLE);
    row.event(EventKind::Undecodable, usize::from(rows), |out| {
        out.extend_from_slice(reason.as_bytes());
        // Rows of the same batch may still need the chunks that came before.
        Ok(match kind {
            RowKind::MultiInsert => flags::KEEPS_TOAST,
            _ => 0,
        })
    })
}
