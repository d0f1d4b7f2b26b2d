//! The open transactions that have rows, what memory they keep, and what of them goes to the spill
//! store when that is too much.

use std::sync::Arc;

use redostream_protocol::{Lsn, Xid};
use rustc_hash::FxHashMap;

use super::error::AssemblyError;
use super::part::{Part, Run};
use super::spill::{SpillStore, frame};
use super::transaction::{Spilled, Transaction};
use crate::decoding::names::LateNames;
use crate::limits::{SPILL_SHARE, TRANSACTION_POOL};

/// Open transactions by top-level xid.
#[derive(Debug, Default)]
#[expect(
    clippy::vec_box,
    reason = "a transaction moves between table, pool and release by its pointer"
)]
pub(super) struct OpenTransactions {
    by_top: FxHashMap<Xid, Box<Transaction>>,
    /// Ended transactions whose buffers wait for the next ones.
    pool: Vec<Box<Transaction>>,
    /// Sum of the open transactions' charges.
    memory: usize,
}

impl OpenTransactions {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_top.len()
    }

    /// Bytes of memory that they keep.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// Whether there are rows of this transaction.
    pub(super) fn contains(&self, top: Xid) -> bool {
        self.by_top.contains_key(&top)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Xid, &Transaction)> {
        self.by_top.iter().map(|(top, open)| (*top, &**open))
    }

    /// All of them, to be changed without changing what they cost.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Xid, &mut Transaction)> {
        self.by_top
            .iter_mut()
            .map(|(top, open)| (*top, &mut **open))
    }

    /// The entry of a transaction, made if it is new.
    pub(super) fn entry(&mut self, top: Xid) -> &mut Transaction {
        let pool = &mut self.pool;
        self.by_top
            .entry(top)
            .or_insert_with(|| pool.pop().unwrap_or_default())
    }

    /// Adds a transaction from a restart point.
    pub(super) fn insert(&mut self, top: Xid, transaction: Transaction) {
        self.memory += transaction.charge;
        self.by_top.insert(top, Box::new(transaction));
    }

    /// Tells every transaction what names in its TOASTed values are looked up in.
    pub(super) fn restore_names(&mut self, end: Lsn, names: &Arc<LateNames>) {
        for transaction in self.by_top.values_mut() {
            transaction.restore_names(end, names);
        }
    }

    /// Takes over a run of a part that ends while its transaction goes on.
    pub(super) fn keep(&mut self, part: &Part, run: &Run) {
        let transaction = self.entry(run.top);
        let before = transaction.charge;
        transaction.keep(part, run);
        let more = transaction.charge - before;
        self.memory += more;
    }

    /// Takes a transaction out.
    pub(super) fn remove(&mut self, top: Xid) -> Option<Box<Transaction>> {
        if self.by_top.is_empty() {
            return None;
        }
        let transaction = self.by_top.remove(&top)?;
        self.memory -= transaction.charge;
        Some(transaction)
    }

    /// A transaction that is in no table, empty.
    pub(super) fn spare(&mut self) -> Box<Transaction> {
        self.pool.pop().unwrap_or_default()
    }

    /// Ends a transaction that was taken out: its spill is removed, its buffers are kept.
    pub(super) fn recycle(
        &mut self,
        mut transaction: Box<Transaction>,
        store: &mut dyn SpillStore,
    ) {
        if let Some(spilled) = transaction.spilled {
            store.remove(spilled.id);
        }
        if self.pool.len() < TRANSACTION_POOL {
            transaction.reset();
            self.pool.push(transaction);
        }
    }

    /// Moves the oldest rows of the largest transactions to the spill store, if all keep more than
    /// `memory_bytes_max`, until they keep a little less: what need not be written is neither written
    /// nor read back, and the largest is not looked for each time. Bytes written are added to
    /// `written`, also when the store fails on the way; what was written stays written.
    pub(super) fn keep_budget(
        &mut self,
        memory_bytes_max: usize,
        store: &mut dyn SpillStore,
        written: &mut u64,
    ) -> Result<(), AssemblyError> {
        if self.memory <= memory_bytes_max {
            return Ok(());
        }
        let enough = memory_bytes_max - memory_bytes_max / SPILL_SHARE;
        while self.memory > enough {
            let by_charge = |open: &(&Xid, &mut Box<Transaction>)| (open.1.charge, *open.0);
            let Some((top, transaction)) = self.by_top.iter_mut().max_by_key(by_charge) else {
                return Ok(());
            };
            let before = transaction.charge;
            let spilled = spill(*top, transaction, self.memory - enough, store, written);
            self.memory -= before - transaction.charge;
            spilled?;
        }
        Ok(())
    }
}

/// Spills the oldest rows of a transaction, until it keeps `surplus` bytes less or has none left.
fn spill(
    top: Xid,
    transaction: &mut Transaction,
    surplus: usize,
    store: &mut dyn SpillStore,
    written: &mut u64,
) -> Result<(), AssemblyError> {
    let failed = |source| AssemblyError::Spill {
        top,
        doing: "written to",
        source,
    };
    transaction.freeze_tail();
    let enough = transaction.charge.saturating_sub(surplus);
    while transaction.charge > enough
        && let Some(run) = transaction.stored.front()
    {
        let spilled = match transaction.spilled {
            Some(spilled) => spilled,
            None => Spilled {
                id: store.create(top).map_err(failed)?,
                bytes: 0,
            },
        };
        transaction.spilled = Some(spilled);
        let bytes = frame::append(store, spilled.id, run).map_err(failed)?;
        transaction.spilled = Some(Spilled {
            bytes: spilled.bytes + bytes,
            ..spilled
        });
        transaction.drop_spilled_run();
        *written += bytes;
    }
    Ok(())
}
