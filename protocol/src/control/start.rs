//! Places in a stream, as they are asked for and as they are resolved.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Lsn, Position, TimelineId};

/// A text that names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {wanted}")]
pub struct ParsePlaceError {
    text: String,
    wanted: &'static str,
}

/// Where a subscriber wants to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The oldest position that can be served.
    Earliest,
    /// After everything that is released now.
    Latest,
    /// After this position.
    Position(Position),
    /// Everything whose commit record starts at or after this LSN.
    Lsn(Lsn),
}

impl FromStr for From {
    type Err = ParsePlaceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        let position = text.parse().map(Self::Position);
        let lsn = || text.parse().map(Self::Lsn);
        position.or_else(|_| lsn()).map_err(|_| ParsePlaceError {
            text: text.to_owned(),
            wanted: "earliest, latest, a position (1:0/16B3748:0/16B3700:2) or an LSN (0/16B3748)",
        })
    }
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Position(position) => position.fmt(f),
            Self::Lsn(lsn) => lsn.fmt(f),
        }
    }
}

/// Where a stream does begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// Everything after this position; it may lie inside a transaction.
    After(Position),
    /// Everything whose commit record (or own record, without a commit) starts at or after this.
    At(Lsn),
}

impl Start {
    /// Whether the event at `position` is part of the stream.
    #[must_use]
    #[inline]
    pub fn admits(&self, position: &Position) -> bool {
        match self {
            Self::After(after) => position > after,
            Self::At(lsn) => position.commit_lsn >= *lsn,
        }
    }

    /// The LSN of the first commit record of which the stream may hold something.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        match self {
            Self::After(position) => position.commit_lsn,
            Self::At(lsn) => *lsn,
        }
    }

    /// Whether a stream from here holds all that one from `other` does.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::After(a), Self::After(b)) => a <= b,
            (Self::At(a), Self::At(b)) => a <= b,
            (Self::After(a), Self::At(b)) => a.commit_lsn < *b,
            (Self::At(a), Self::After(b)) => *a <= b.commit_lsn,
        }
    }

    /// The request that begins here again.
    #[must_use]
    pub const fn request(&self) -> From {
        match self {
            Self::After(position) => From::Position(*position),
            Self::At(lsn) => From::Lsn(*lsn),
        }
    }

    /// The later of an acknowledged event and an acknowledged heartbeat; none if both are zero.
    #[must_use]
    pub fn resume(position: Position, released: Lsn) -> Option<Self> {
        if released > position.commit_lsn {
            return Some(Self::At(released));
        }
        (position.timeline != TimelineId(0)).then_some(Self::After(position))
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.request().fmt(f)
    }
}

/// Where a subscriber wants to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After the last event whose position is at or before this one.
    Position(Position),
    /// After every transaction whose commit record starts before this.
    Lsn(Lsn),
}

impl Until {
    /// Whether the event at `position` still belongs to the stream.
    #[must_use]
    #[inline]
    pub fn admits(&self, position: &Position) -> bool {
        match self {
            Self::Position(last) => position <= last,
            Self::Lsn(lsn) => position.commit_lsn < *lsn,
        }
    }

    /// Whether nothing more can come once everything that starts before `released` has been
    /// released.
    #[must_use]
    pub fn is_reached(&self, released: Lsn) -> bool {
        match self {
            Self::Position(last) => released > last.commit_lsn,
            Self::Lsn(lsn) => released >= *lsn,
        }
    }

    /// Whether nothing lies between `start` and here.
    #[must_use]
    pub fn is_before(&self, start: &Start) -> bool {
        match (self, start) {
            (Self::Position(last), Start::After(after)) => last <= after,
            (Self::Position(last), Start::At(lsn)) => last.commit_lsn < *lsn,
            (Self::Lsn(until), Start::At(lsn)) => until <= lsn,
            // A transaction that was begun before is finished only if it starts before the end.
            (Self::Lsn(until), Start::After(after)) => *until <= after.commit_lsn,
        }
    }
}

impl FromStr for Until {
    type Err = ParsePlaceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let position = text.parse().map(Self::Position);
        let lsn = || text.parse().map(Self::Lsn);
        position.or_else(|_| lsn()).map_err(|_| ParsePlaceError {
            text: text.to_owned(),
            wanted: "a position (1:0/16B3748:0/16B3700:2) or an LSN (0/16B3748)",
        })
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position(position) => position.fmt(f),
            Self::Lsn(lsn) => lsn.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_round_trip() {
        for text in ["earliest", "latest", "1:0/16B3748:0/16B3700:2", "0/16B3748"] {
            assert_eq!(text.parse::<From>().unwrap().to_string(), text);
        }
        assert!("yesterday".parse::<From>().is_err());
        assert!("earliest".parse::<Until>().is_err());
    }

    /// By what they admit of the events at and around them.
    #[test]
    fn who_begins_earlier_covers_the_rest() {
        let commit = |lsn| Position::commit(TimelineId(1), Lsn(lsn));
        let begin = |lsn| Position::begin(TimelineId(1), Lsn(lsn));
        let events: Vec<Position> = (49..53).flat_map(|lsn| [begin(lsn), commit(lsn)]).collect();
        let after = events.iter().map(|event| Start::After(*event));
        let starts: Vec<Start> = after
            .chain((49..53).map(|lsn| Start::At(Lsn(lsn))))
            .collect();
        for a in &starts {
            for b in &starts {
                let admitted = |start: &Start| events.iter().filter(|at| start.admits(at)).count();
                if a.covers(b) {
                    assert!(admitted(a) >= admitted(b), "{a} {b}");
                } else {
                    assert!(admitted(a) <= admitted(b) && b.covers(a), "{a} {b}");
                }
            }
        }
    }

    #[test]
    fn resume_takes_the_later() {
        let position = Position::commit(TimelineId(1), Lsn(50));
        assert_eq!(Start::resume(Position::default(), Lsn(0)), None);
        assert_eq!(
            Start::resume(position, Lsn(50)),
            Some(Start::After(position))
        );
        assert_eq!(Start::resume(position, Lsn(51)), Some(Start::At(Lsn(51))));
    }
}
