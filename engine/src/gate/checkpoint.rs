//! The gate's share of a restart point: what decoding needs to begin again at an LSN.

use redostream_protocol::{Lsn, Xid};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use super::transactions::Transactions;
use super::{Gate, Passage, Selection, TimelineAt, join};
use crate::assembly::part::{Control, ControlKind};
use crate::catalog::Catalog;
use crate::decoding::task::Targets;
use crate::framing::format::WalFormat;
use crate::framing::partition::OrderedEntry;

/// What the gate knew at an LSN from which nothing is missing.
#[derive(Clone, Serialize, Deserialize)]
pub struct GateState {
    /// Where the next record stands.
    pub next: Lsn,
    /// C: from here on nothing is missing.
    pub ready: Lsn,
    catalog: Catalog,
    transactions: Transactions,
    prepared: FxHashSet<Xid>,
}

impl Gate {
    /// Goes on from a restart point.
    #[must_use]
    pub fn restore(
        state: GateState,
        format: &'static WalFormat,
        selection: Selection,
        timeline_at: TimelineAt,
        segment_bytes: u64,
    ) -> Self {
        let join = join::Join::at(state.next);
        Gate {
            format,
            catalog: state.catalog,
            transactions: state.transactions,
            readiness: None,
            selection,
            selected: rustc_hash::FxHashMap::default(),
            timeline_at,
            prepared: state.prepared,
            join,
            checkpoints: 0,
            ready: Some(state.ready),
            consistent_at: None,
            checkpoint_wanted: false,
            states: Vec::new(),
            segment_bytes,
        }
    }

    /// Asks for a restart point as soon as one can be taken.
    pub const fn want_checkpoint(&mut self) {
        self.checkpoint_wanted = true;
    }

    /// The gate's shares of restart points whose control is on its way, by number.
    pub fn take_states(&mut self) -> Vec<(u64, GateState)> {
        std::mem::take(&mut self.states)
    }

    /// Ends the part before a record and takes a restart point there, if one is wanted.
    pub(super) fn take_checkpoint(
        &mut self,
        entry: &OrderedEntry,
        passage: &mut Passage<'_>,
    ) -> Result<(), super::GateError> {
        let (Some(ready), true) = (self.ready, self.checkpoint_wanted) else {
            return Ok(());
        };
        self.checkpoint_wanted = false;
        let next = passage.chunk.lsn(entry.lsn_offset);
        self.cut(passage, entry.number, next)?;
        self.checkpoints += 1;
        let id = self.checkpoints;
        let kind = ControlKind::Checkpoint(id);
        passage.controls.push(Control {
            lsn: next,
            end_lsn: next,
            kind,
        });
        self.emit(passage, next, Targets::default(), None);
        self.states.push((
            id,
            GateState {
                next,
                ready,
                catalog: self.catalog.clone(),
                transactions: self.transactions.clone(),
                prepared: self.prepared.clone(),
            },
        ));
        Ok(())
    }

    /// Where a record that would start at `next` really starts: behind a page's header.
    pub(super) fn normalised(&self, next: Lsn) -> Lsn {
        if next.0.is_multiple_of(crate::limits::WAL_PAGE_BYTES as u64) {
            next.add(crate::framing::chunk::header_bytes(next, self.segment_bytes) as u64)
        } else {
            next
        }
    }
}
