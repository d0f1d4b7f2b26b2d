//! Where an event stands in the log, for every server and client alike.
//!
//! ```text
//! binary, 24 bytes, big-endian, so byte order is position order:
//! 0        4            12           20     24
//! | timeline | commit_lsn | record_lsn | row |
//! text: 1:0/16B3748:0/16B3700:2
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{Lsn, TimelineId};

/// The place of one event. Ordered by field.
///
/// LSNs are record *starts*. Begin is `(commit, 0, 0)`; a row is `(commit, its record, its number
/// in the record)`; a DDL event found at the commit record is `(commit, commit, n)`; the commit
/// event is `(commit, commit, 0xFFFF_FFFF)`; a unit without a commit is `(lsn, lsn, 0)`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// Timeline of the history file at `commit_lsn`.
    pub timeline: TimelineId,
    /// Start of the commit record that releases the event.
    pub commit_lsn: Lsn,
    /// Start of the record the event comes from; 0 for begin.
    pub record_lsn: Lsn,
    /// Number of the row within its record, before any filter.
    pub row: u32,
}

impl Position {
    /// Bytes of the binary form.
    pub const BYTES: usize = 24;
    /// Row number of a commit event.
    pub const COMMIT_ROW: u32 = u32::MAX;

    /// The position of a transaction's begin event.
    #[must_use]
    pub const fn begin(timeline: TimelineId, commit_lsn: Lsn) -> Self {
        Self {
            timeline,
            commit_lsn,
            record_lsn: Lsn(0),
            row: 0,
        }
    }

    /// The position of a transaction's commit event.
    #[must_use]
    pub const fn commit(timeline: TimelineId, commit_lsn: Lsn) -> Self {
        Self {
            timeline,
            commit_lsn,
            record_lsn: commit_lsn,
            row: Self::COMMIT_ROW,
        }
    }

    /// The binary form.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[..4].copy_from_slice(&self.timeline.0.to_be_bytes());
        out[4..12].copy_from_slice(&self.commit_lsn.0.to_be_bytes());
        out[12..20].copy_from_slice(&self.record_lsn.0.to_be_bytes());
        out[20..].copy_from_slice(&self.row.to_be_bytes());
        out
    }

    /// Reads the binary form; any 24 bytes are a position.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let u32_at = |at: usize| {
            let mut raw = [0; 4];
            raw.copy_from_slice(&bytes[at..at + 4]);
            u32::from_be_bytes(raw)
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
        Self {
            timeline: TimelineId(u32_at(0)),
            commit_lsn: Lsn(u64_at(4)),
            record_lsn: Lsn(u64_at(12)),
            row: u32_at(20),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:X}:{}:{}:{:X}",
            self.timeline.0, self.commit_lsn, self.record_lsn, self.row
        )
    }
}

/// A text that is not a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a position; one looks like 1:0/16B3748:0/16B3700:2")]
pub struct ParsePositionError(pub String);

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParsePositionError(text.to_owned());
        let parts: Vec<&str> = text.split(':').collect();
        let [timeline, commit, record, row] = parts[..] else {
            return Err(bad());
        };
        let hex = |part: &str| {
            let digits =
                (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
            if digits {
                u32::from_str_radix(part, 16).ok()
            } else {
                None
            }
        };
        Ok(Self {
            timeline: TimelineId(hex(timeline).ok_or_else(bad)?),
            commit_lsn: commit.parse().map_err(|_| bad())?,
            record_lsn: record.parse().map_err(|_| bad())?,
            row: hex(row).ok_or_else(bad)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_position() -> impl Strategy<Value = Position> {
        (any::<u32>(), any::<u64>(), any::<u64>(), any::<u32>()).prop_map(|(t, c, r, row)| {
            Position {
                timeline: TimelineId(t),
                commit_lsn: Lsn(c),
                record_lsn: Lsn(r),
                row,
            }
        })
    }

    #[test]
    fn text_is_as_documented() {
        let position = Position {
            timeline: TimelineId(1),
            commit_lsn: Lsn(0x16B_3748),
            record_lsn: Lsn(0x16B_3700),
            row: 2,
        };
        assert_eq!(position.to_string(), "1:0/16B3748:0/16B3700:2");
    }

    proptest! {
        #[test]
        fn forms_round_trip(position in any_position()) {
            prop_assert_eq!(Position::from_bytes(&position.to_bytes()), position);
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn byte_order_is_position_order(a in any_position(), b in any_position()) {
            prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
        }
    }
}
