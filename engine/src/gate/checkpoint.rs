//! The gate's share of a restart point: what decoding needs to begin again at an LSN.

use redostream_protocol::{Lsn, TimelineId, Xid};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use super::transactions::Transactions;
use super::{Gate, Passage, Selection, TimelineAt, join};
use crate::assembly::part::{Control, ControlKind};
use crate::catalog::{Catalog, RelationRegistry, SharedPage};
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
    /// Every transaction whose commit record starts here or later can be had from here.
    pub covers: Lsn,
    /// The timeline of the history just before `next`.
    pub timeline: TimelineId,
    catalog: Catalog,
    transactions: Transactions,
    prepared: FxHashSet<Xid>,
}

impl GateState {
    /// Takes the catalog's pages out, to be stored apart; they have to be given back before
    /// decoding goes on from here.
    pub fn take_pages(&mut self) -> Vec<SharedPage> {
        self.catalog.take_pages()
    }

    /// Gives pages back. False if one lies beyond what is believed.
    pub fn give_pages(&mut self, pages: &[SharedPage]) -> bool {
        self.catalog.give_pages(pages)
    }

    /// Every relation version resolved so far.
    #[must_use]
    pub fn relations(&self) -> &RelationRegistry {
        self.catalog.registry()
    }
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
            restored: true,
            consistent_at: None,
            checkpoint_wanted: false,
            states: Vec::new(),
            segment_bytes,
            standalone_room: bytes::BytesMut::new(),
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

    /// Takes a restart point before the first record of a chunk, if one is wanted.
    pub(super) fn begin_with_checkpoint(&mut self, passage: &mut Passage<'_>) {
        if let Some(first) = passage.chunk.first {
            self.checkpoint_at(first.lsn, passage);
        }
    }

    /// Ends the part before a record and takes the first restart point there, once it can be taken:
    /// later ones wait for the next chunk.
    pub(super) fn take_first_checkpoint(
        &mut self,
        entry: &OrderedEntry,
        passage: &mut Passage<'_>,
    ) -> Result<(), super::GateError> {
        if self.checkpoints > 0 || !self.checkpoint_wanted || self.ready.is_none() {
            return Ok(());
        }
        let next = passage.chunk.lsn(entry.lsn_offset);
        self.cut(passage, entry.number, next)?;
        self.checkpoint_at(next, passage);
        Ok(())
    }

    /// A restart point where the log has been taken up to, for who goes no further; none before C.
    pub fn final_state(&mut self) -> Option<(u64, GateState)> {
        let ready = self.ready?;
        Some(self.state_at(ready, self.join.expected()))
    }

    fn checkpoint_at(&mut self, next: Lsn, passage: &mut Passage<'_>) {
        let (Some(ready), true) = (self.ready, self.checkpoint_wanted) else {
            return;
        };
        let (id, state) = self.state_at(ready, next);
        let kind = ControlKind::Checkpoint(id);
        passage.controls.push(Control {
            lsn: next,
            end_lsn: next,
            kind,
        });
        self.emit(passage, next, Targets::default(), None);
        self.states.push((id, state));
    }

    fn state_at(&mut self, ready: Lsn, next: Lsn) -> (u64, GateState) {
        self.checkpoint_wanted = false;
        self.checkpoints += 1;
        // Between C and the first record that ends anything no transaction commits.
        let covers = if self.restored { next } else { ready.min(next) };
        self.restored = true;
        let state = GateState {
            next,
            ready,
            covers,
            timeline: (self.timeline_at)(Lsn(next.0.saturating_sub(1))),
            catalog: self.catalog.clone(),
            transactions: self.transactions.clone(),
            prepared: self.prepared.clone(),
        };
        (self.checkpoints, state)
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
