//! The assembler's share of a restart point: every open transaction with all that its assembly
//! needs.
//!
//! Rows in memory are handed over by reference and encoded by whoever stores them; rows in the
//! spill store are handed over as readers, so that memory stays flat. Both belong to the moment the
//! checkpoint was taken, whatever happens to the transactions afterwards.

use std::io::{self, Read};

use redostream_protocol::schema::RelationVersion;
use redostream_protocol::{Lsn, Position, Xid};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use super::part::Segment;
use super::spill::{SpillCopy, SpillError, SpillStore};
use super::transaction::{Spilled, StoredRun, Transaction};

/// What must be stored to go on from here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssemblerState {
    /// Position of the last event released.
    pub last: Position,
    /// Every record that starts before this LSN has been released if it can be.
    pub wal_end: Lsn,
    /// The end of the last part taken in.
    pub input_end: Lsn,
    /// Transactions, by xid.
    pub(super) open: Vec<OpenTransaction>,
}

impl AssemblerState {
    /// Xids of the open transactions.
    pub fn open(&self) -> impl Iterator<Item = Xid> + '_ {
        self.open.iter().map(|open| open.top)
    }

    /// Versions of relations that rows of open transactions name: they must be known again before
    /// those rows are released. In no order, each once.
    #[must_use]
    pub fn relations(&self) -> Vec<RelationVersion> {
        let mut seen = FxHashSet::default();
        for open in &self.open {
            seen.extend(open.spilled_relations.iter().copied());
            for run in &open.runs {
                seen.extend(run.relations.iter().copied());
            }
        }
        seen.into_iter().collect()
    }

    /// Bytes of rows that are in this state, spilled ones not counted.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let runs = self.open.iter().flat_map(|open| &open.runs);
        runs.map(|run| run.data.len()).sum()
    }
}

/// One open transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenTransaction {
    pub(super) top: Xid,
    pub(super) prepared: bool,
    pub(super) aborted: Vec<Xid>,
    pub(super) flags: u8,
    /// Bytes of its [`SpilledCopy`], 0 if it has none.
    pub(super) spilled_bytes: u64,
    pub(super) spilled_relations: Vec<RelationVersion>,
    pub(super) runs: Vec<StoredRun>,
}

/// The spilled rows of one open transaction, to be stored beside an [`AssemblerState`].
pub struct SpilledCopy {
    /// The transaction.
    pub top: Xid,
    /// How many bytes the reader gives.
    pub bytes: u64,
    /// The bytes; they stay readable when the transaction ends. A file may hold more.
    pub copy: SpillCopy,
}

impl std::fmt::Debug for SpilledCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpilledCopy")
            .field("top", &self.top)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl OpenTransaction {
    /// Takes the state of `transaction`.
    pub(super) fn of(top: Xid, transaction: &mut Transaction) -> Self {
        transaction.freeze_tail();
        let mut aborted: Vec<Xid> = transaction.aborted.iter().copied().collect();
        aborted.sort_unstable();
        let mut spilled_relations: Vec<_> = transaction.spilled_relations.iter().copied().collect();
        spilled_relations.sort_unstable();
        Self {
            top,
            prepared: transaction.prepared,
            aborted,
            flags: transaction.flags,
            spilled_bytes: transaction.spilled.map_or(0, |spilled| spilled.bytes),
            spilled_relations,
            runs: transaction.stored.iter().cloned().collect(),
        }
    }

    /// The transaction again, without its spilled rows.
    pub(super) fn restore(self) -> Transaction {
        let mut transaction = Transaction {
            spilled_relations: self.spilled_relations.into_iter().collect(),
            aborted: self.aborted.into_iter().collect(),
            prepared: self.prepared,
            flags: self.flags,
            ..Transaction::default()
        };
        for mut run in self.runs {
            run.charge = run.data.len() + run.segments.len() * size_of::<Segment>();
            transaction.bytes += run.data.len();
            transaction.charge += run.charge;
            transaction.stored.push_back(run);
        }
        transaction
    }
}

/// Copies `bytes` of a stored copy back into the spill store.
pub(super) fn restore_spill(
    store: &mut dyn SpillStore,
    top: Xid,
    bytes: u64,
    mut reader: impl Read,
) -> Result<Spilled, SpillError> {
    let id = store.create(top)?;
    let mut buffer = vec![0; crate::limits::BLOCK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let step = left.min(buffer.len() as u64) as usize;
        let filled = reader
            .read_exact(&mut buffer[..step])
            .map_err(|source| SpillError::Io {
                path: "a restart point's spilled rows".into(),
                source,
            });
        let written = filled.and_then(|()| store.append(id, &[&buffer[..step]]));
        if let Err(error) = written {
            store.remove(id);
            return Err(error);
        }
        left -= step as u64;
    }
    Ok(Spilled { id, bytes })
}

/// A source of stored copies that has none: for states without spilled rows.
pub(super) fn no_copy(top: Xid) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("the restart point holds no spilled rows of transaction {top}"),
    )
}
