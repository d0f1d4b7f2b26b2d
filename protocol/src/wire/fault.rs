//! Error: why a session, a connection or a request was refused or ended.
//!
//! ```text
//! 0      2       4        28    36                  44               46
//! | code | flags | oldest | lsn | system identifier | message length | message |
//!
//! flags  1 oldest is given, 2 lsn is given, 4 system identifier is given
//! ```
//!
//! The control plane carries the same fields as a protobuf detail.

use std::fmt;

use super::error::WireError;
use super::header::{FrameKind, Payload};
use super::notice::{push_text, take_text};
use crate::{Cursor, Lsn, Position};

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum FaultCode {
    /// The server cannot serve yet; ask again.
    NotReady = 1,
    /// WAL and restart points before this position are gone.
    PositionTooOld = 2,
    /// The position lies on a timeline that is not in this server's history.
    Diverged = 3,
    /// The position is from another cluster.
    OtherCluster = 4,
    /// No token, or not a good one, or not for this.
    Unauthorised = 5,
    /// Another session uses this name.
    NameInUse = 6,
    /// Something that was named does not exist.
    NotFound = 7,
    /// The request contradicts itself or the protocol.
    BadRequest = 8,
    /// The log is damaged; everything before it was sent.
    LogDamaged = 9,
    /// The log holds something that cannot be decoded; everything before it was sent.
    Undecodable = 10,
    /// The server failed.
    Internal = 11,
    /// The server stops.
    Stopping = 12,
    /// The server has as many sessions as it can.
    Overloaded = 13,
    /// The peer said nothing for too long.
    PeerTimeout = 14,
    /// WAL that is needed cannot be had from the source any more.
    SourceLost = 15,
}

impl FaultCode {
    /// The code with this number.
    #[must_use]
    pub const fn from_u16(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::NotReady,
            2 => Self::PositionTooOld,
            3 => Self::Diverged,
            4 => Self::OtherCluster,
            5 => Self::Unauthorised,
            6 => Self::NameInUse,
            7 => Self::NotFound,
            8 => Self::BadRequest,
            9 => Self::LogDamaged,
            10 => Self::Undecodable,
            11 => Self::Internal,
            12 => Self::Stopping,
            13 => Self::Overloaded,
            14 => Self::PeerTimeout,
            15 => Self::SourceLost,
            _ => return None,
        })
    }

    /// Whether the same request may succeed later, or at another server, unchanged.
    #[must_use]
    pub const fn is_temporary(self) -> bool {
        matches!(
            self,
            Self::NotReady
                | Self::Stopping
                | Self::Overloaded
                | Self::PeerTimeout
                | Self::Internal
                | Self::SourceLost
        )
    }

    /// The exit status a program ends with when this stops it.
    #[must_use]
    pub const fn exit_status(self) -> u8 {
        match self {
            Self::PositionTooOld | Self::Diverged | Self::OtherCluster => 4,
            Self::Unauthorised => 5,
            Self::LogDamaged | Self::Undecodable => 3,
            Self::BadRequest | Self::NotFound => 2,
            _ => 1,
        }
    }
}

/// A refusal or an end, with what is needed to understand it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// For programs.
    pub code: FaultCode,
    /// For people: what happened, where, what to do.
    pub message: String,
    /// The oldest position that can be served, if that matters.
    pub oldest: Option<Position>,
    /// The place in the log: of the fork, of the damage.
    pub lsn: Option<Lsn>,
    /// The cluster that this server is beside, if that matters.
    pub system_identifier: Option<u64>,
}

impl Fault {
    /// A fault with a message only.
    pub fn new(code: FaultCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            oldest: None,
            lsn: None,
            system_identifier: None,
        }
    }

    /// With the oldest position that can be served.
    #[must_use]
    pub const fn oldest(mut self, oldest: Option<Position>) -> Self {
        self.oldest = oldest;
        self
    }

    /// With the place in the log.
    #[must_use]
    pub const fn at(mut self, lsn: Lsn) -> Self {
        self.lsn = Some(lsn);
        self
    }

    /// With the server's own cluster.
    #[must_use]
    pub const fn cluster(mut self, system_identifier: u64) -> Self {
        self.system_identifier = Some(system_identifier);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(oldest) = self.oldest {
            write!(f, " (oldest position: {oldest})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

impl Payload for Fault {
    const KIND: FrameKind = FrameKind::Error;
    const NAME: &'static str = "error";

    fn encode(&self, out: &mut Vec<u8>) {
        let flags = u16::from(self.oldest.is_some())
            | u16::from(self.lsn.is_some()) << 1
            | u16::from(self.system_identifier.is_some()) << 2;
        out.extend_from_slice(&(self.code as u16).to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&self.oldest.unwrap_or_default().to_bytes());
        out.extend_from_slice(&self.lsn.unwrap_or_default().0.to_le_bytes());
        out.extend_from_slice(&self.system_identifier.unwrap_or_default().to_le_bytes());
        push_text(out, &self.message);
    }

    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(payload);
        let code = FaultCode::from_u16(cursor.u16("error code")?)
            .ok_or(WireError::Invalid("unknown error code"))?;
        let flags = cursor.u16("error flags")?;
        let oldest = Position::from_bytes(&cursor.array("oldest position")?);
        let lsn = Lsn(cursor.u64("error LSN")?);
        let system_identifier = cursor.u64("system identifier")?;
        let message = take_text(&mut cursor, "error message")?;
        cursor.finish("error")?;
        if flags > 7 {
            return Err(WireError::Invalid("unknown flags in an error frame"));
        }
        Ok(Self {
            code,
            message,
            oldest: (flags & 1 != 0).then_some(oldest),
            lsn: (flags & 2 != 0).then_some(lsn),
            system_identifier: (flags & 4 != 0).then_some(system_identifier),
        })
    }
}
