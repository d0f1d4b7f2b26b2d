//! What can go wrong while transactions are put together.

use redostream_protocol::event::EventError;
use redostream_protocol::{Lsn, Position, Xid};

use super::spill::SpillError;

/// An error of assembly. Nothing of the failing transaction beyond the blocks already handed out
/// has been released.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssemblyError {
    /// The stages before handed over something that does not come later in the log. A mistake of
    /// this program: stop, and report it.
    #[error(
        "{what} at {found} does not come after {before}: the log's order was lost inside the program; please report this"
    )]
    OutOfOrder {
        /// What was handed over.
        what: &'static str,
        /// Where it is.
        found: Lsn,
        /// What it should come after.
        before: Lsn,
    },
    /// An event would be released at a position that is not after the one before. A mistake of
    /// this program: stop, and report it.
    #[error(
        "an event at position {found} does not come after {before}: the log's order was lost inside the program; please report this"
    )]
    PositionOutOfOrder {
        /// The event's position.
        found: Position,
        /// The position before.
        before: Position,
    },
    /// The bytes of a transaction's events are no events. A mistake of this program, or damaged
    /// memory: stop, and report it.
    #[error(
        "events of transaction {top}, released at {lsn}, are malformed: {source}; please report this"
    )]
    Malformed {
        /// The transaction's commit record.
        lsn: Lsn,
        /// Its xid.
        top: Xid,
        /// What is wrong with them.
        source: EventError,
    },
    /// A chunk of a TOASTed value is missing in the log. The log is damaged or incomplete, or the
    /// table was written by something that PostgreSQL's own decoding would refuse too: stop.
    #[error(
        "at {lsn}: chunk {found} of TOASTed value {value} (TOAST table {relation}) where chunk {wanted} is due; the log cannot be decoded here"
    )]
    ToastGap {
        /// The chunk's record.
        lsn: Lsn,
        /// OID of the TOAST table.
        relation: u32,
        /// `chunk_id`.
        value: u32,
        /// The `chunk_seq` that comes next.
        wanted: u32,
        /// The `chunk_seq` that is there.
        found: u32,
    },
    /// The chunks of a TOASTed value are not as long together as the row's pointer says: stop.
    #[error(
        "at {lsn}: chunks of TOASTed value {value} (TOAST table {relation}) hold {found} bytes, its row says {wanted}; the log cannot be decoded here"
    )]
    ToastSize {
        /// The row's record.
        lsn: Lsn,
        /// OID of the TOAST table.
        relation: u32,
        /// `chunk_id`.
        value: u32,
        /// Bytes that the pointer says.
        wanted: u64,
        /// Bytes in the chunks.
        found: u64,
    },
    /// A TOAST pointer says something that cannot be, or its value's own head contradicts it: stop.
    #[error(
        "at {lsn}: the pointer to TOASTed value {value} (TOAST table {relation}) is not to be believed: {why}; the log cannot be decoded here"
    )]
    ToastPointer {
        /// The row's record.
        lsn: Lsn,
        /// OID of the TOAST table.
        relation: u32,
        /// `chunk_id`.
        value: u32,
        /// What is wrong.
        why: &'static str,
    },
    /// A row with its TOASTed values is larger than an event can be (4 GiB): stop, or leave the
    /// table out.
    #[error(
        "at {lsn}: the row has {bytes} bytes with its TOASTed values, more than an event can hold; leave its table out"
    )]
    EventTooLarge {
        /// The row's record.
        lsn: Lsn,
        /// Bytes it would have.
        bytes: u64,
    },
    /// A speculative insert is confirmed that was not seen; PostgreSQL's own decoding stops here
    /// too.
    #[error(
        "at {lsn}: transaction {xid} confirms a speculative insert that the log does not hold; the log cannot be decoded here"
    )]
    ConfirmWithoutInsert {
        /// The confirmation's record.
        lsn: Lsn,
        /// The (sub)transaction.
        xid: Xid,
    },
    /// A transaction's header cannot be encoded. A mistake of this program: stop, and report it.
    #[error(
        "the header of the transaction that commits at {lsn} cannot be encoded: {source}; please report this"
    )]
    Header {
        /// The commit record.
        lsn: Lsn,
        /// The encoder's words.
        source: postcard::Error,
    },
    /// Something is asked of an assembler that has failed before.
    #[error("transactions are no longer put together after an earlier error")]
    Stopped,
    /// The spill store failed. With no space, calling again tries again: see
    /// [`AssemblyError::is_retryable`].
    #[error("rows of open transaction {top} cannot be {doing} spill storage: {source}")]
    Spill {
        /// The transaction.
        top: Xid,
        /// `written to` or `read back from`.
        doing: &'static str,
        /// The store's words.
        source: SpillError,
    },
    /// What was read back from the spill store is not what was written: the disk is failing. Start
    /// again from the last restart point, with another spill directory.
    #[error(
        "spilled rows of transaction {top} are damaged at byte {offset}: {what}; check the disk that holds the spill directory"
    )]
    SpillDamaged {
        /// The transaction.
        top: Xid,
        /// Offset of the frame in the transaction's spill.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
}

impl AssemblyError {
    /// Whether the same call can succeed later with nothing lost: no space for spilling.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Spill { source, .. } if source.is_no_space())
    }

    /// Whether the log is at fault, and not the disk that spilled rows are on, or this program.
    #[must_use]
    pub const fn is_log_fault(&self) -> bool {
        matches!(
            self,
            Self::ToastGap { .. }
                | Self::ToastSize { .. }
                | Self::ToastPointer { .. }
                | Self::EventTooLarge { .. }
                | Self::ConfirmWithoutInsert { .. }
        )
    }
}
