//! Walks the control records of parts and decides what is released, kept, or dropped.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

use redostream_protocol::event::{Event, TransactionHeader};
use redostream_protocol::{Cursor, Lsn, TimelineId, Xid};

use super::builder::BlockBuilder;
use super::checkpoint::{AssemblerState, OpenTransaction, SpilledCopy, no_copy, restore_spill};

use super::error::AssemblyError;
use super::kept::Kept;
use super::local::LocalRuns;
use super::open::OpenTransactions;
use super::output::{AssemblyCounters, Output};
use super::part::{Commit, Control, ControlKind, Part, Particulars, Run};
use super::plain::{is_plain, release_plain};
use super::release::{Release, Step};
use super::spill::{SpillError, SpillStore};
use super::transaction::{Spilled, StoredRun};
use super::walk::place_at;
use crate::decoding::names::LateNames;
use crate::limits::BLOCK_BYTES;

/// Puts transactions together and releases each at its commit record.
///
/// Push a part, then call [`Assembler::next_output`] until it gives none, then push the next.
pub struct Assembler {
    memory_bytes_max: usize,
    store: Box<dyn SpillStore>,
    builder: BlockBuilder,
    open: OpenTransactions,
    ready: VecDeque<Output>,
    release: Option<Box<Release>>,
    work: Option<Work>,
    /// Which runs of the part in work belong to transactions that have not ended.
    local: LocalRuns,
    /// Every record that starts before this LSN has been taken in, and released if it can be.
    wal_end: Lsn,
    /// The `wal_end` of the last block given.
    told: Lsn,
    /// What comes next starts here or later.
    input_end: Lsn,
    /// An error that is reported once what precedes it has been given.
    failed: Option<AssemblyError>,
    stopped: bool,
    counters: AssemblyCounters,
}

/// The part in work.
struct Work {
    part: Part,
    controls: std::vec::IntoIter<Control>,
    checkpoint: Option<u64>,
    /// Whether its controls are done and its leftovers kept.
    ended: bool,
}

impl Assembler {
    /// An assembler that has seen nothing. Rows of open transactions take `memory_bytes_max` bytes
    /// of memory (and those of one part more), the rest go to `store`.
    #[must_use]
    pub fn new(memory_bytes_max: usize, store: Box<dyn SpillStore>) -> Self {
        Self {
            memory_bytes_max,
            store,
            builder: BlockBuilder::default(),
            open: OpenTransactions::default(),
            ready: VecDeque::new(),
            release: None,
            work: None,
            local: LocalRuns::default(),
            wal_end: Lsn(0),
            told: Lsn(0),
            input_end: Lsn(0),
            failed: None,
            stopped: false,
            counters: AssemblyCounters::default(),
        }
    }

    /// An assembler that goes on from a restart point. `spilled` gives the stored
    /// [`SpilledCopy`] of a transaction.
    pub fn restore<R: Read>(
        memory_bytes_max: usize,
        store: Box<dyn SpillStore>,
        state: AssemblerState,
        mut spilled: impl FnMut(Xid) -> Option<R>,
    ) -> Result<Self, AssemblyError> {
        let mut assembler = Self::new(memory_bytes_max, store);
        assembler.builder = BlockBuilder::after(state.last);
        assembler.wal_end = state.wal_end;
        assembler.input_end = state.input_end;
        for open in state.open {
            let (top, bytes) = (open.top, open.spilled_bytes);
            let mut transaction = open.restore();
            if bytes > 0 {
                let store = &mut *assembler.store;
                let restored = match spilled(top) {
                    Some(reader) => restore_spill(store, top, bytes, reader),
                    None => Err(SpillError::Io {
                        path: "a restart point".into(),
                        source: no_copy(top),
                    }),
                };
                transaction.spilled = Some(restored.map_err(|source| AssemblyError::Spill {
                    top,
                    doing: "written to",
                    source,
                })?);
            }
            assembler.open.insert(top, transaction);
        }
        Ok(assembler)
    }

    /// Says what names in TOASTed values of the transactions from a restart point are looked up in.
    /// Only the catalogs as of the restart point are known then, not those of each row.
    #[must_use]
    pub fn with_names(mut self, names: &Arc<LateNames>) -> Self {
        self.open.restore_names(self.input_end, names);
        self
    }

    /// Says that blocks are for one reader and soon gone, so that less has to be copied for them: a
    /// block may then keep far more memory alive than it has bytes.
    #[must_use]
    pub fn for_one_reader(mut self) -> Self {
        self.builder.pass_on();
        self
    }

    /// Takes the next part.
    ///
    /// # Panics
    /// If outputs of the part before are still to be taken: a mistake of the caller.
    pub fn push(&mut self, part: Part) -> Result<(), AssemblyError> {
        assert!(
            self.work.is_none() && self.ready.is_empty(),
            "all outputs of a part are taken before the next is pushed"
        );
        if part.end < self.input_end {
            return Err(AssemblyError::OutOfOrder {
                what: "the end of a part",
                found: part.end,
                before: self.input_end,
            });
        }
        self.builder
            .expect(part.arena.len() + part.controls.len() * 128 + 256);
        self.local.start(&part.runs);
        let mut part = part;
        let controls = std::mem::take(&mut part.controls).into_iter();
        self.work = Some(Work {
            part,
            controls,
            checkpoint: None,
            ended: false,
        });
        Ok(())
    }

    /// The next output, or none when the part is done. After an error that
    /// [`AssemblyError::is_retryable`], the same call tries again. Another error comes after
    /// everything that precedes it, and nothing comes after it.
    pub fn next_output(&mut self) -> Result<Option<Output>, AssemblyError> {
        loop {
            if let Some(output) = self.ready.pop_front() {
                return Ok(Some(output));
            }
            if let Some(error) = self.failed.take() {
                self.stopped = true;
                return Err(error);
            }
            if self.stopped {
                return Err(AssemblyError::Stopped);
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => {
                    if !self.builder.is_empty() {
                        self.close_block(self.wal_end);
                    }
                    self.failed = Some(error);
                }
            }
        }
    }

    /// Goes on with what is in work; false if there is nothing.
    fn advance(&mut self) -> Result<bool, AssemblyError> {
        if self.release.is_some() {
            self.step_release()?;
            return Ok(true);
        }
        let Some(mut work) = self.work.take() else {
            return Ok(false);
        };
        let done = self.work_on(&mut work);
        if !matches!(done, Ok(true)) {
            self.work = Some(work);
        }
        done.map(|_| true)
    }

    /// What has been counted.
    #[must_use]
    pub fn counters(&self) -> AssemblyCounters {
        AssemblyCounters {
            spilled_bytes: self.store.bytes(),
            open_transactions: self.open.len() as u64,
            open_bytes: self.open.memory() as u64,
            ..self.counters
        }
    }

    /// Does some of the part's work; true when it is done.
    fn work_on(&mut self, work: &mut Work) -> Result<bool, AssemblyError> {
        if work.ended {
            let written = &mut self.counters.spilled_bytes_total;
            let store = &mut *self.store;
            self.open
                .keep_budget(self.memory_bytes_max, store, written)?;
            return Ok(true);
        }
        while self.release.is_none() && self.ready.is_empty() {
            let Some(control) = work.controls.next() else {
                self.end_part(work)?;
                return Ok(false);
            };
            if control.lsn < self.input_end {
                return Err(AssemblyError::OutOfOrder {
                    what: "a record",
                    found: control.lsn,
                    before: self.input_end,
                });
            }
            self.input_end = control.lsn;
            self.control(work, control)?;
        }
        Ok(false)
    }

    fn control(&mut self, work: &mut Work, control: Control) -> Result<(), AssemblyError> {
        let part = &work.part;
        match control.kind {
            ControlKind::Commit(commit) => {
                self.commit(part, control.lsn, control.end_lsn, commit)?;
            }
            ControlKind::Abort { top } => self.drop_transaction(part, top),
            ControlKind::AbortSubtransactions { top, subs } => {
                if self.is_known(part, top) {
                    self.open.entry(top).aborted.extend(subs);
                }
            }
            ControlKind::Prepare { top } => {
                if self.is_known(part, top) {
                    self.open.entry(top).prepared = true;
                }
            }
            ControlKind::GoneBefore(xid) => {
                self.drop_unprepared(part, |top, _| top.precedes(xid));
            }
            ControlKind::AllGone => {
                // A run of this part may belong to a transaction that began afterwards.
                let lsn = control.lsn;
                let began_before = |run: &Run| {
                    let first = place_at(&part.arena, run.bytes.start as usize);
                    first.is_ok_and(|(at, _)| at < lsn)
                };
                self.drop_unprepared(part, |_, run| run.is_none_or(began_before));
            }
            ControlKind::Standalone {
                timeline,
                database,
                event,
            } => self.standalone(control.lsn, control.end_lsn, timeline, database, &event)?,
            ControlKind::Checkpoint(id) => {
                assert!(
                    work.controls.as_slice().is_empty(),
                    "a part ends with its checkpoint"
                );
                work.checkpoint = Some(id);
            }
        }
        Ok(())
    }

    fn commit(
        &mut self,
        part: &Part,
        lsn: Lsn,
        end_lsn: Lsn,
        commit: Commit,
    ) -> Result<(), AssemblyError> {
        let top = commit.top;
        if commit.skip {
            self.drop_transaction(part, top);
            self.wal_end = end_lsn;
            return Ok(());
        }
        let run = self.local.find(&part.runs, top).map(|index| {
            self.local.end(index);
            &part.runs[index]
        });
        let open = self.open.remove(top);
        if run.is_none() && open.is_none() {
            self.wal_end = end_lsn;
            return Ok(());
        }
        if self.builder.is_other_timeline(commit.timeline) {
            self.close_block(lsn);
        }
        let bytes = open.as_ref().map_or(0, |open| open.bytes) + run.map_or(0, |r| r.bytes.len());
        if bytes <= BLOCK_BYTES && is_plain(part, run, open.as_deref(), &commit) {
            if !self.builder.fits(bytes) {
                self.close_block(lsn);
            }
            let out = &mut self.builder;
            release_plain(out, part, run, open.as_deref(), &commit, lsn, end_lsn)?;
            if let Some(open) = open {
                self.open.recycle(open, &mut *self.store);
            }
            self.wal_end = end_lsn;
            return Ok(());
        }
        let particulars = commit
            .particulars
            .map_or_else(Particulars::default, |boxed| *boxed);
        let header = TransactionHeader {
            timeline: commit.timeline,
            commit_lsn: lsn,
            end_lsn,
            xid: top,
            database: commit.database,
            commit_time_us: commit.commit_time_us,
            origin: particulars.origin,
            gid: particulars.gid,
        };
        let mut transaction = match open {
            Some(open) => open,
            None => self.open.spare(),
        };
        if let Some(run) = run {
            transaction.note_names(part, run);
            transaction.freeze_tail();
            transaction.stored.push_back(StoredRun::of(part, run));
        }
        let aborted = std::mem::take(&mut transaction.aborted);
        let kept = Kept::new(top, particulars.subs, aborted);
        self.release = Some(Box::new(Release::new(header, kept, transaction)));
        Ok(())
    }

    fn standalone(
        &mut self,
        lsn: Lsn,
        end_lsn: Lsn,
        timeline: TimelineId,
        database: redostream_protocol::DatabaseOid,
        event: &bytes::Bytes,
    ) -> Result<(), AssemblyError> {
        let header =
            Event::read(&mut Cursor::new(event)).map_err(|source| AssemblyError::Malformed {
                lsn,
                top: Xid::INVALID,
                source,
            })?;
        let relation = header.header.relation;
        if self.builder.is_other_timeline(timeline) || !self.builder.fits(event.len()) {
            self.close_block(lsn);
        }
        self.builder
            .standalone(timeline, lsn, database, relation, event)?;
        self.wal_end = end_lsn;
        Ok(())
    }

    fn step_release(&mut self) -> Result<(), AssemblyError> {
        let Some(mut release) = self.release.take() else {
            return Ok(());
        };
        match release.step(&mut self.builder, &mut *self.store)? {
            Step::BlockFull => {
                let wal_end = release.header().commit_lsn;
                let continues = release.continues();
                self.close_block_in(wal_end, continues);
                self.release = Some(release);
            }
            Step::Done => {
                self.wal_end = release.header().end_lsn;
                let transaction = release.into_transaction();
                self.open.recycle(transaction, &mut *self.store);
            }
        }
        Ok(())
    }

    /// Keeps what is still open, and gives the part's last block.
    fn end_part(&mut self, work: &mut Work) -> Result<(), AssemblyError> {
        for run in self.local.open(&work.part.runs) {
            self.open.keep(&work.part, run);
        }
        self.local.start(&[]);
        // What pins the arena from here on is accounted.
        work.part.arena = bytes::Bytes::new();
        self.wal_end = self.wal_end.max(work.part.end);
        self.input_end = work.part.end;
        if self.wal_end > self.told || !self.builder.is_empty() {
            self.close_block(self.wal_end);
        }
        if let Some(id) = work.checkpoint {
            self.checkpoint(id)?;
            work.checkpoint = None;
        }
        work.ended = true;
        Ok(())
    }

    fn checkpoint(&mut self, id: u64) -> Result<(), AssemblyError> {
        let mut spilled = Vec::new();
        let mut open: Vec<OpenTransaction> = Vec::with_capacity(self.open.len());
        for (top, transaction) in self.open.iter_mut() {
            if let Some(Spilled { id, bytes }) = transaction.spilled {
                let copy = self.store.copy(id).map_err(|source| AssemblyError::Spill {
                    top,
                    doing: "read back from",
                    source,
                })?;
                spilled.push(SpilledCopy { top, bytes, copy });
            }
            open.push(OpenTransaction::of(top, transaction));
        }
        open.sort_unstable_by_key(|open| open.top);
        spilled.sort_unstable_by_key(|copy| copy.top);
        let state = AssemblerState {
            last: self.builder.last(),
            wal_end: self.wal_end,
            input_end: self.input_end,
            open,
        };
        self.ready
            .push_back(Output::Checkpoint { id, state, spilled });
        Ok(())
    }

    /// Whether there are rows of this transaction.
    fn is_known(&mut self, part: &Part, top: Xid) -> bool {
        self.open.contains(top) || self.local.find(&part.runs, top).is_some()
    }

    fn drop_transaction(&mut self, part: &Part, top: Xid) {
        let local = self.local.find(&part.runs, top);
        if let Some(index) = local {
            self.local.end(index);
        }
        let open = self.open.remove(top);
        if local.is_some() || open.is_some() {
            self.counters.dropped_transactions += 1;
        }
        if let Some(transaction) = open {
            self.open.recycle(transaction, &mut *self.store);
        }
    }

    /// Drops the open transactions, but prepared ones, of which `gone` says so; it is given the run
    /// of the part in work of those that have no other rows.
    fn drop_unprepared(&mut self, part: &Part, gone: impl Fn(Xid, Option<&Run>) -> bool) {
        let open = self.open.iter();
        let mut dropped: Vec<Xid> = open
            .filter(|(top, open)| !open.prepared && gone(*top, None))
            .map(|(top, _)| top)
            .collect();
        let local = self.local.open(&part.runs);
        dropped.extend(
            local
                .filter(|run| !self.open.contains(run.top) && gone(run.top, Some(run)))
                .map(|run| run.top),
        );
        for top in dropped {
            self.drop_transaction(part, top);
        }
    }

    fn close_block(&mut self, wal_end: Lsn) {
        self.close_block_in(wal_end, None);
    }

    fn close_block_in(
        &mut self,
        wal_end: Lsn,
        continues: Option<std::sync::Arc<TransactionHeader>>,
    ) {
        let block = self.builder.close(wal_end, continues);
        self.told = wal_end;
        self.counters.transactions += block.transactions;
        self.counters.rows += block.rows;
        self.counters.events += block.events;
        self.counters.event_bytes += block.bytes() as u64;
        self.ready.push_back(Output::Block(block));
    }
}
