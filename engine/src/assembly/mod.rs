//! Assembly: rows to transactions, in commit order.
//!
//! Takes: parts, in log order. Gives: blocks of released events. Keeps: the rows of open
//! transactions, by reference, in bounded memory. Never: decodes a tuple, looks at the catalog, or
//! releases an event before its commit record.
//!
//! [`Assembler`] walks a part's control records. A small transaction that needs nothing done to it
//! is written straight into the block; every other one is published by a `Release`, piece by
//! piece, which also joins TOASTed values and holds back speculative inserts. What is open at a
//! part's end is kept in a `Transaction`, or in the [`SpillStore`] when memory runs short.

mod assembler;
mod builder;
mod checkpoint;
mod error;
mod kept;
mod local;
mod open;
mod output;
pub mod part;
mod plain;
mod reading;
mod release;
pub mod spill;
mod toast;
mod transaction;
mod walk;

#[cfg(test)]
pub(crate) mod tests;

pub use assembler::Assembler;
pub use checkpoint::{AssemblerState, SpilledCopy};
pub use error::AssemblyError;
pub use output::{AssemblyCounters, Output};
pub use spill::{FileSpill, KeptFile, SpillCopy, SpillError, SpillId, SpillStore};
