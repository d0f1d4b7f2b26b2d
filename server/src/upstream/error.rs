//! What can go wrong with the upstream, in an operator's words, and whether to try again.

use std::fmt;
use std::io;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;
use redostream_protocol::{Lsn, TimelineId};

/// What the server answered to something it refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ServerError {
    /// SQLSTATE, five characters.
    pub(crate) sqlstate: String,
    /// Its message, in the server's language.
    pub(crate) message: String,
    /// Further lines, if any.
    pub(crate) detail: String,
}

impl ServerError {
    pub(crate) fn read(mut fields: ErrorFields<'_>) -> io::Result<Self> {
        let mut error = Self::default();
        while let Some(field) = fields.next()? {
            let value = || String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => error.sqlstate = value(),
                b'M' => error.message = value(),
                b'D' | b'H' if error.detail.is_empty() => error.detail = value(),
                b'D' | b'H' => error.detail = format!("{}; {}", error.detail, value()),
                _ => {}
            }
        }
        Ok(error)
    }

    /// What to do about it, in words that end a sentence; nothing where the answer says it.
    // pg: utils/errcodes.txt [14-18]
    fn remedy(&self) -> &'static str {
        match self.sqlstate.as_str() {
            "28000" => {
                "; see that the role exists and that pg_hba.conf has a line for it, for where it connects from, and for database replication (or the one asked for), and reload"
            }
            "28P01" => {
                "; mend the password in the connection string, PGPASSWORD or the password file"
            }
            "3D000" => "; name a database that exists in the connection string (dbname)",
            "53300" => "; raise max_wal_senders or max_connections there, or end what uses them up",
            "53400" => "; raise max_replication_slots there, or drop a slot nobody uses",
            _ => "",
        }
    }

    /// Whether it may go away by itself: the server starts or stops, or is short of something.
    // pg: utils/errcodes.txt [14-18]: classes 08 connection, 40 rollback, 53 resources,
    // 57 operator intervention
    fn is_passing(&self) -> bool {
        ["08", "40", "53", "57"]
            .iter()
            .any(|class| self.sqlstate.starts_with(class))
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.sqlstate)?;
        if !self.detail.is_empty() {
            write!(f, "; {}", self.detail)?;
        }
        Ok(())
    }
}

/// What keeps WAL from being received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum UpstreamError {
    /// Nobody answers there. Start the server, or mend the connection string.
    #[error(
        "cannot connect to the upstream at {host}: {error}; see that it runs and that the connection string names its host and port"
    )]
    CannotConnect { host: String, error: io::Error },
    /// No TLS where it is asked for, or a certificate that does not pass.
    #[error("no TLS with the upstream at {host}: {problem}")]
    Tls { host: String, problem: String },
    /// The server wants a password and none is known.
    #[error(
        "the upstream at {host} wants a password for user {user}; give it in the connection string, PGPASSWORD or the password file"
    )]
    NoPassword { host: String, user: String },
    /// The way the server wants to authenticate is not offered here, or would not be safe.
    #[error("cannot authenticate with the upstream at {host}: {problem}")]
    Authentication { host: String, problem: String },
    /// The server refused the connection or a command.
    #[error("the upstream refused {during}: {answer}{}", answer.remedy())]
    Refused { during: String, answer: ServerError },
    /// The user may not replicate.
    #[error(
        "user {user} may not replicate from the upstream: {answer}; ALTER ROLE {user} REPLICATION, and allow database \"replication\" in pg_hba.conf"
    )]
    NoPrivilege { user: String, answer: ServerError },
    /// The slot is not there.
    #[error("replication slot {slot} does not exist on the upstream: {answer}")]
    SlotMissing { slot: String, answer: ServerError },
    /// A name no slot can have.
    #[error(
        "{0:?} cannot be the name of a replication slot: lower-case letters, digits and underscores, at most 63"
    )]
    SlotName(String),
    /// Somebody else streams from the slot, or our own former connection is not gone yet.
    #[error("replication slot {slot} is in use: {answer}; give every instance a slot of its own")]
    SlotInUse { slot: String, answer: ServerError },
    /// The slot is for logical decoding: somebody else's. It must not be dropped for this.
    #[error(
        "replication slot {0} is a logical one, of somebody else; give a name that is free, or that of a physical slot"
    )]
    SlotLogical(String),
    /// The server has given the slot up (max_slot_wal_keep_size, idle_replication_slot_timeout).
    #[error(
        "replication slot {slot} cannot be used any more: {problem}{}; drop it, start again from a new one, and see max_slot_wal_keep_size and idle_replication_slot_timeout",
        needed.map(|lsn| format!(" (WAL from {lsn} on is needed)")).unwrap_or_default()
    )]
    SlotInvalidated {
        slot: String,
        problem: String,
        /// Where streaming was to begin.
        needed: Option<Lsn>,
    },
    /// The WAL asked for is gone.
    #[error(
        "WAL at {lsn} was removed from the upstream: {answer}; give a WAL archive that has it, or start again"
    )]
    WalRemoved { lsn: Lsn, answer: ServerError },
    /// The upstream's history does not contain what we have received.
    #[error(
        "timeline {timeline} at {lsn} is not in the history of the upstream, which is on timeline {theirs}; it is another fork of the cluster"
    )]
    NotInHistory {
        timeline: TimelineId,
        lsn: Lsn,
        theirs: TimelineId,
    },
    /// The upstream has not got as far as we have. It may be a standby that catches up.
    #[error(
        "the upstream is at {theirs} on timeline {their_timeline}, behind {ours} on timeline {our_timeline}, which was received already"
    )]
    Behind {
        ours: Lsn,
        our_timeline: TimelineId,
        theirs: Lsn,
        their_timeline: TimelineId,
    },
    /// The same LSN came twice with different bytes.
    #[error("{0}; the upstream is another fork of the cluster")]
    Diverged(#[from] redostream_engine::source::BufferError),
    /// Another cluster.
    #[error(
        "the upstream is another cluster: its system identifier is {found}, expected {expected}; mend the connection string"
    )]
    OtherCluster { expected: u64, found: u64 },
    /// The primary does not log what decoding needs.
    #[error(
        "wal_level on the upstream is {0}; set wal_level = logical in postgresql.conf and restart it"
    )]
    WalLevel(String),
    /// A version this program does not know.
    #[error("the upstream is PostgreSQL {0}; versions 14 to 18 are supported")]
    Version(String),
    /// The server said something that is not the protocol.
    #[error("the upstream broke the protocol: {0}")]
    Protocol(String),
    /// The connection ended.
    #[error("the connection to the upstream was lost: {0}")]
    Lost(String),
    /// We were told to stop.
    #[error("stopped")]
    Stopped,
}

impl UpstreamError {
    /// Whether trying again may help without anybody doing anything here.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::CannotConnect { .. }
            | Self::Lost(_)
            | Self::SlotInUse { .. }
            | Self::Behind { .. } => true,
            Self::Refused { answer, .. } => answer.is_passing(),
            _ => false,
        }
    }

    /// Whether it is about being let in: what worked before may well work again when whoever
    /// changed passwords, certificates or `pg_hba.conf` is done.
    pub(crate) fn concerns_access(&self) -> bool {
        match self {
            Self::Tls { .. }
            | Self::NoPassword { .. }
            | Self::Authentication { .. }
            | Self::NoPrivilege { .. } => true,
            Self::Refused { answer, .. } => answer.sqlstate.starts_with("28"),
            _ => false,
        }
    }

    pub(crate) fn lost(error: &io::Error) -> Self {
        Self::Lost(match error.kind() {
            io::ErrorKind::UnexpectedEof => "the server closed it".to_owned(),
            _ => error.to_string(),
        })
    }
}
