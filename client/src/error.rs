//! What can go wrong, by whose fault it is.

use redostream_protocol::event::EventError;
use redostream_protocol::wire::{CheckError, Fault, JoinError, WireError};

/// Why a subscription could not begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A server could not be reached. Check the address, and that it runs.
    #[error("cannot connect to {server}: {problem}")]
    Connect {
        /// The address.
        server: String,
        /// What the system said.
        problem: String,
    },
    /// A connection broke. Reconnecting resumes where it stopped.
    #[error("connection to {server} lost: {problem}")]
    Lost {
        /// The address.
        server: String,
        /// What happened.
        problem: String,
    },
    /// The server refused or ended the session.
    #[error("{0}")]
    Fault(Fault),
    /// What came over the wire is not the protocol.
    #[error("the server's data is damaged or not Redostream's: {0}")]
    Wire(#[from] WireError),
    /// Events contradict themselves or each other.
    #[error("the server's events fail their checks: {0}")]
    Check(#[from] CheckError),
    /// Frames contradict the order of their session.
    #[error("the server's frames are out of order: {0}")]
    Join(#[from] JoinError),
    /// An event that passed its checks cannot be taken apart: a mistake of this library.
    #[error("event: {0}")]
    Event(#[from] EventError),
    /// A row that is larger than this receiver takes. Allow larger values, or leave its table out.
    #[error(
        "a row of {bytes} bytes holds a value larger than the {value_bytes_max} bytes that are taken; allow more with --value-max, or leave its table out with --exclude-table"
    )]
    ValueTooLarge {
        /// Bytes of the row's event.
        bytes: u64,
        /// The bound on a value.
        value_bytes_max: u64,
    },
    /// A value that travelled compressed and is larger than this receiver takes. Its row's other
    /// columns can be had; allow larger values in the options to have this one.
    #[error(
        "{table}, column {column}: a value of {bytes} bytes, at most {value_bytes_max} are taken"
    )]
    ColumnTooLarge {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Bytes of the value, decompressed.
        bytes: u64,
        /// The bound on a value.
        value_bytes_max: u64,
    },
    /// A column that is not there, or a value that does not fit what was asked for.
    #[error("{table}, column {column}: {problem}")]
    Value {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// What is wrong.
        problem: String,
    },
    /// The options contradict themselves.
    #[error("{0}")]
    Usage(String),
    /// A transaction is larger than was allowed for one in memory.
    #[error("transaction {xid} is larger than {bytes_max} bytes; read it event by event")]
    TransactionTooLarge {
        /// Its xid.
        xid: u32,
        /// The bound.
        bytes_max: usize,
    },
}

impl ClientError {
    /// The exit status a program ends with.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            ClientError::Fault(fault) => fault.code.exit_status(),
            ClientError::Usage(_) => 2,
            _ => 1,
        }
    }

    /// Whether connecting again may help.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            ClientError::Fault(fault) => fault.code.is_temporary(),
            ClientError::Connect { .. }
            | ClientError::Lost { .. }
            | ClientError::Wire(_)
            | ClientError::Check(_)
            | ClientError::Join(_) => true,
            _ => false,
        }
    }
}
