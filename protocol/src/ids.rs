//! The small numbers PostgreSQL names things by, each with a type of its own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A byte address in the write-ahead log. Printed as PostgreSQL prints it: `16/B3748`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The LSN that means "none".
    pub const INVALID: Lsn = Lsn(0);
    /// The largest LSN: after everything.
    pub const MAX: Lsn = Lsn(u64::MAX);

    /// Whether this is a real place in the log.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 != 0
    }

    /// This LSN moved forward by `bytes`, stopping at the largest one.
    #[must_use]
    pub const fn add(self, bytes: u64) -> Lsn {
        Lsn(self.0.saturating_add(bytes))
    }

    /// Bytes from `earlier` to here; 0 if it is not earlier.
    #[must_use]
    pub const fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A text that is not an LSN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an LSN; write it as PostgreSQL does, for example 0/16B3748")]
pub struct ParseLsnError(pub String);

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseLsnError(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(bad)?;
        let half = |part: &str| {
            let digits =
                (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
            if digits {
                u32::from_str_radix(part, 16).ok()
            } else {
                None
            }
        };
        let high = half(high).ok_or_else(bad)?;
        let low = half(low).ok_or_else(bad)?;
        Ok(Lsn(u64::from(high) << 32 | u64::from(low)))
    }
}

/// A 32-bit transaction id, as the log holds it. 0 means none, 1 bootstrap, 2 frozen.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Xid(pub u32);

impl Xid {
    /// No transaction.
    pub const INVALID: Xid = Xid(0);
    /// The transaction of `initdb`'s bootstrap.
    pub const BOOTSTRAP: Xid = Xid(1);
    /// The mark of an old tuple whose inserter no longer matters.
    pub const FROZEN: Xid = Xid(2);
    /// The first id an ordinary transaction can have.
    pub const FIRST_NORMAL: Xid = Xid(3);

    /// Whether this names a transaction.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 != 0
    }

    /// Whether this names an ordinary transaction (not bootstrap, not frozen).
    #[must_use]
    pub const fn is_normal(self) -> bool {
        self.0 >= Self::FIRST_NORMAL.0
    }

    /// Whether this id comes before `other` on the circle of ids.
    // pg: access/transam/transam.c TransactionIdPrecedes [14-18]
    #[must_use]
    pub const fn precedes(self, other: Xid) -> bool {
        if !self.is_normal() || !other.is_normal() {
            return self.0 < other.0;
        }
        (self.0.wrapping_sub(other.0) as i32) < 0
    }
}

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An object id.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Oid(pub u32);

impl Oid {
    /// No object.
    pub const INVALID: Oid = Oid(0);
    /// The first id that `initdb` does not give out itself: objects below are PostgreSQL's own.
    // pg: access/transam.h FirstNormalObjectId [14-18]
    pub const FIRST_NORMAL: Oid = Oid(16384);

    /// Whether this names an object.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The id of a database; 0 stands for the catalogs that all databases share.
pub type DatabaseOid = Oid;

/// Where a relation's file is: tablespace, database, file number.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RelFileNode {
    /// Tablespace (1663 `pg_default`, 1664 `pg_global`).
    pub tablespace: Oid,
    /// Database, 0 in `pg_global`.
    pub database: DatabaseOid,
    /// File number.
    pub relation: Oid,
}

impl fmt::Display for RelFileNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tablespace, self.database, self.relation)
    }
}

/// A timeline of the cluster.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct TimelineId(pub u32);

impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsn_text_round_trips() {
        for (value, text) in [
            (0, "0/0"),
            (0x16_000B_3748, "16/B3748"),
            (u64::MAX, "FFFFFFFF/FFFFFFFF"),
        ] {
            assert_eq!(Lsn(value).to_string(), text);
            assert_eq!(text.parse(), Ok(Lsn(value)));
        }
        for bad in [
            "",
            "/",
            "1",
            "1/",
            "/1",
            "1/2/3",
            "+1/2",
            "1/123456789",
            "g/1",
        ] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn xid_order_is_circular() {
        assert!(Xid(10).precedes(Xid(11)));
        assert!(Xid(u32::MAX).precedes(Xid(5)));
        assert!(Xid::FROZEN.precedes(Xid(5)));
        assert!(!Xid(5).precedes(Xid(u32::MAX)));
    }
}
