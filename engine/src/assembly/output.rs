//! What assembly gives, and what it counts.

use super::checkpoint::{AssemblerState, SpilledCopy};
use crate::feed::block::Block;

/// What assembly gives, in order.
#[derive(Debug)]
pub enum Output {
    /// Released events, or only the news of how far the log has been taken in.
    Block(Block),
    /// The assembler's share of a restart point: everything released before it has been given.
    Checkpoint {
        /// The number of [`ControlKind::Checkpoint`](super::part::ControlKind::Checkpoint).
        id: u64,
        /// Open transactions.
        state: AssemblerState,
        /// Their spilled rows.
        spilled: Vec<SpilledCopy>,
    },
}

/// What the assembler has counted, and holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AssemblyCounters {
    /// Transactions released.
    pub transactions: u64,
    /// Inserts, updates and deletes released.
    pub rows: u64,
    /// Events released, begins and commits included.
    pub events: u64,
    /// Bytes of them.
    pub event_bytes: u64,
    /// Transactions dropped: rolled back, gone, or to be left out.
    pub dropped_transactions: u64,
    /// Bytes ever written to the spill store.
    pub spilled_bytes_total: u64,
    /// Bytes in the spill store now.
    pub spilled_bytes: u64,
    /// Open transactions that have rows.
    pub open_transactions: u64,
    /// Bytes of memory that their rows keep.
    pub open_bytes: u64,
}
