//! How a chunk's records are dealt out.
//!
//! Row records go to `partition[hash(file number, block) % P]`, so that one huge transaction
//! spreads over all decoders and a page's rows meet in one task. Order survives because every
//! entry keeps its number within the chunk: partitions are ascending lists of it, and merging
//! them by it gives back log order whatever P is.

use redostream_protocol::{Lsn, RelFileNode, Xid};

/// Bytes of a record, in the chunk's own bytes or, if it crosses a page, in the side buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u32);

impl Place {
    const SIDE: u32 = 1 << 31;

    /// A record that lies in one page.
    #[must_use]
    pub(crate) const fn in_chunk(offset: u32) -> Self {
        Place(offset)
    }

    /// A record that was put together in the side buffer.
    #[must_use]
    pub(crate) const fn in_side(offset: u32) -> Self {
        Place(offset | Self::SIDE)
    }

    /// Whether it is in the side buffer, and the offset there.
    #[must_use]
    #[inline]
    pub const fn get(self) -> (bool, usize) {
        (self.0 & Self::SIDE != 0, (self.0 & !Self::SIDE) as usize)
    }
}

/// What kind of row record an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RowKind {
    /// `XLOG_HEAP_INSERT`.
    Insert,
    /// `XLOG_HEAP2_MULTI_INSERT`.
    MultiInsert,
    /// `XLOG_HEAP_UPDATE` and `XLOG_HEAP_HOT_UPDATE`.
    Update,
    /// `XLOG_HEAP_DELETE`.
    Delete,
    /// `XLOG_HEAP_CONFIRM`.
    Confirm,
    /// A change of a page that only an extension understands: rows, if the file is a table's.
    Foreign,
}

/// One row record of a partition: 20 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowEntry {
    /// Its bytes.
    pub place: Place,
    /// Its LSN, from the chunk's base.
    pub lsn_offset: u32,
    /// Its number among the chunk's records.
    pub number: u32,
    /// Index into the chunk's groups.
    pub group: u16,
    /// Index into the chunk's files.
    pub file: u16,
    /// What it is.
    pub kind: RowKind,
}

/// What kind of record the gate is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderedKind {
    /// Transaction resource manager, any operation.
    Transaction,
    /// Something that changes a page of a tracked file.
    CatalogPage,
    /// Any other record that the catalog's replay has to see.
    Replay,
    /// `XLOG_RUNNING_XACTS`.
    RunningTransactions,
    /// Checkpoints, end of recovery, backup end, parameter changes.
    Log,
    /// `XLOG_HEAP_TRUNCATE`.
    Truncate,
    /// A logical message.
    Message,
    /// A sequence change.
    Sequence,
}

/// One record that the gate takes in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderedEntry {
    /// Its bytes.
    pub place: Place,
    /// Its LSN, from the chunk's base.
    pub lsn_offset: u32,
    /// Where it ends, from the chunk's base.
    pub end_offset: u32,
    /// Its number among the chunk's records.
    pub number: u32,
    /// What it is.
    pub kind: OrderedKind,
}

/// A (sub)transaction with records in the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its xid.
    pub xid: Xid,
    /// Its top-level transaction, if its first record in the chunk says so.
    pub top: Xid,
    /// Its first record here.
    pub first: Lsn,
}

/// The group number of records without a transaction.
pub const NO_GROUP: u16 = u16::MAX;

/// The partition of a page.
#[must_use]
#[inline]
pub fn partition_of(node: &RelFileNode, block: u32, partitions: u32) -> usize {
    let mut hash = node.relation.0.wrapping_mul(0x9E37_79B1) ^ block.wrapping_mul(0x85EB_CA77);
    hash ^= hash >> 15;
    hash = hash.wrapping_mul(0xC2B2_AE3D);
    ((u64::from(hash) * u64::from(partitions)) >> 32) as usize
}
