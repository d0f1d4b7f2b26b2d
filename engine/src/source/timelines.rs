//! Timeline histories: which timeline the cluster was on at an LSN.
//!
//! A history file lists, for one timeline, its ancestors and where each was left:
//! `<parent timeline> TAB <switch LSN> TAB <reason>`, `#` begins a comment. The timeline of a
//! record is that of the history at its LSN; the page that holds a switch point still carries the
//! old number.

use nom::Parser;
use nom::bytes::complete::take_while1;
use nom::character::complete::{char, digit1, space0, space1};
use nom::combinator::{map_res, rest};
use redostream_protocol::{Lsn, TimelineId};
use serde::{Deserialize, Serialize};

/// A stretch of the log that was written on one timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineRange {
    /// The timeline.
    pub timeline: TimelineId,
    /// First LSN on it: where its parent was left.
    pub begin: Lsn,
    /// First LSN after it; [`Lsn::MAX`] for the newest.
    pub end: Lsn,
}

/// A timeline and its ancestors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineHistory {
    /// By LSN, without gaps, none empty; the last is the timeline itself.
    ranges: Vec<TimelineRange>,
}

/// A history file that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the timeline history: {problem}")]
pub struct ParseHistoryError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

impl TimelineHistory {
    /// A timeline of which no ancestors are known.
    #[must_use]
    pub fn single(timeline: TimelineId) -> Self {
        Self::from_switches(timeline, &[])
    }

    /// A timeline and where each of its ancestors was left, oldest first.
    ///
    /// A timeline may be left before its own beginning (point-in-time recovery that stopped
    /// early); such ancestors hold nothing of this history.
    // pg: access/transam/timeline.c tliOfPointInHistory [14-18] searches from the newest on
    #[must_use]
    pub fn from_switches(timeline: TimelineId, switches: &[(TimelineId, Lsn)]) -> Self {
        let mut ranges = Vec::with_capacity(switches.len() + 1);
        let mut end = Lsn::MAX;
        let mut newer = timeline;
        for (parent, left_at) in switches.iter().rev() {
            if *left_at < end {
                ranges.push(TimelineRange {
                    timeline: newer,
                    begin: *left_at,
                    end,
                });
                end = *left_at;
            }
            newer = *parent;
        }
        ranges.push(TimelineRange {
            timeline: newer,
            begin: Lsn(0),
            end,
        });
        ranges.reverse();
        Self { ranges }
    }

    /// Reads the history file of `timeline`.
    // pg: access/transam/timeline.c readTimeLineHistory [14-18]
    pub fn parse(timeline: TimelineId, text: &str) -> Result<Self, ParseHistoryError> {
        let mut switches: Vec<(TimelineId, Lsn)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let bad = |problem: String| ParseHistoryError {
                line: index + 1,
                problem,
            };
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (_, (parent, left_at)) = switch_line(line).map_err(|_| {
                bad("expected a timeline number, a tab and an LSN such as 0/3000000".to_owned())
            })?;
            if switches.last().is_some_and(|(last, _)| *last >= parent) {
                return Err(bad("timeline numbers must rise".to_owned()));
            }
            if parent >= timeline {
                return Err(bad(format!(
                    "timeline {parent} cannot be an ancestor of timeline {timeline}"
                )));
            }
            switches.push((parent, left_at));
        }
        Ok(Self::from_switches(timeline, &switches))
    }

    /// The timeline whose history this is.
    #[must_use]
    pub fn timeline(&self) -> TimelineId {
        self.ranges
            .last()
            .map_or(TimelineId::default(), |range| range.timeline)
    }

    /// The ranges by LSN, oldest first.
    #[must_use]
    pub fn ranges(&self) -> &[TimelineRange] {
        &self.ranges
    }

    /// The timeline at `lsn`.
    #[must_use]
    pub fn timeline_at(&self, lsn: Lsn) -> TimelineId {
        let index = self.ranges.partition_point(|range| range.end <= lsn);
        self.ranges
            .get(index)
            .map_or_else(|| self.timeline(), |range| range.timeline)
    }

    /// The timelines that pages from the one at `begin` to before `end` may be of: a page keeps
    /// the number of its beginning, and numbers never fall.
    // pg: access/transam/xlogreader.c XLogReaderValidatePageHeader [14-18]
    #[must_use]
    pub fn of_pages(&self, begin: Lsn, end: Lsn) -> (TimelineId, TimelineId) {
        let first = match self.ranges() {
            // Its ancestors are not known.
            [_] => TimelineId(1),
            _ => self.timeline_at(begin),
        };
        (first, self.timeline_at(end))
    }

    /// Where `timeline` was left in this history: [`Lsn::MAX`] for the newest, `None` if it is not
    /// part of it.
    #[must_use]
    pub fn end_of(&self, timeline: TimelineId) -> Option<Lsn> {
        self.ranges
            .iter()
            .find(|range| range.timeline == timeline)
            .map(|range| range.end)
    }

    /// Whether the byte at `lsn` of `timeline` belongs to this history.
    #[must_use]
    pub fn contains(&self, timeline: TimelineId, lsn: Lsn) -> bool {
        self.timeline_at(lsn) == timeline
    }

    /// The first LSN at which two histories differ; [`Lsn::MAX`] if they never do.
    #[must_use]
    pub fn common_until(&self, other: &Self) -> Lsn {
        for (ours, theirs) in self.ranges.iter().zip(&other.ranges) {
            if ours.timeline != theirs.timeline {
                return ours.begin.max(theirs.begin);
            }
            if ours.end != theirs.end {
                return ours.end.min(theirs.end);
            }
        }
        Lsn::MAX
    }
}

/// The name of a timeline's history file.
// pg: access/xlog_internal.h TLHistoryFileName [14-18]
#[must_use]
pub fn history_file_name(timeline: TimelineId) -> String {
    format!("{:08X}.history", timeline.0)
}

/// Reads a history file's name; other names are `None`.
#[must_use]
pub fn parse_history_name(name: &str) -> Option<TimelineId> {
    let digits = name.strip_suffix(".history")?;
    if digits.len() != 8 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, 16).ok().map(TimelineId)
}

fn switch_line(line: &str) -> nom::IResult<&str, (TimelineId, Lsn)> {
    let hex = || {
        map_res(
            take_while1(|c: char| c.is_ascii_hexdigit()),
            |digits: &str| u32::from_str_radix(digits, 16),
        )
    };
    let (input, timeline) = map_res(digit1, str::parse::<u32>).parse(line)?;
    let (input, _) = space1(input)?;
    let (input, (high, _, low)) = (hex(), char('/'), hex()).parse(input)?;
    let (input, _) = (space0, rest).parse(input)?;
    let lsn = Lsn(u64::from(high) << 32 | u64::from(low));
    Ok((input, (TimelineId(timeline), lsn)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "1\t0/3000100\tno recovery target specified\n\n# a comment\n2\t0/50000A0\tbefore 2026-01-01\n";

    #[test]
    fn a_timeline_is_found_by_lsn() {
        let history = TimelineHistory::parse(TimelineId(3), FILE).unwrap();
        for (lsn, timeline) in [
            (0, 1),
            (0x300_00FF, 1),
            (0x300_0100, 2),
            (0x500_009F, 2),
            (0x500_00A0, 3),
            (u64::MAX, 3),
        ] {
            assert_eq!(
                history.timeline_at(Lsn(lsn)),
                TimelineId(timeline),
                "{lsn:X}"
            );
            assert!(history.contains(TimelineId(timeline), Lsn(lsn)));
        }
        assert_eq!(history.timeline(), TimelineId(3));
        assert_eq!(history.end_of(TimelineId(1)), Some(Lsn(0x300_0100)));
        assert_eq!(history.end_of(TimelineId(3)), Some(Lsn::MAX));
        assert_eq!(history.end_of(TimelineId(4)), None);
    }

    #[test]
    fn a_timeline_left_before_its_beginning_holds_nothing() {
        let history = TimelineHistory::from_switches(
            TimelineId(3),
            &[(TimelineId(1), Lsn(500)), (TimelineId(2), Lsn(300))],
        );
        assert_eq!(history.timeline_at(Lsn(299)), TimelineId(1));
        assert_eq!(history.timeline_at(Lsn(300)), TimelineId(3));
        assert_eq!(history.end_of(TimelineId(1)), Some(Lsn(300)));
        assert_eq!(history.end_of(TimelineId(2)), None);
    }

    #[test]
    fn histories_differ_from_the_fork_on() {
        let one = TimelineHistory::single(TimelineId(1));
        let two = TimelineHistory::from_switches(TimelineId(2), &[(TimelineId(1), Lsn(500))]);
        let three = TimelineHistory::from_switches(TimelineId(3), &[(TimelineId(1), Lsn(400))]);
        assert_eq!(one.common_until(&two), Lsn(500));
        assert_eq!(two.common_until(&three), Lsn(400));
        assert_eq!(two.common_until(&two), Lsn::MAX);
    }

    #[test]
    fn bad_files_are_refused_with_their_line() {
        for (text, line) in [
            ("x\n", 1),
            ("1\n", 1),
            ("1\t0-3000\n", 1),
            ("1\t0/3000\n1\t0/4000\n", 2),
            ("1\t0/3000\n3\t0/4000\n", 2),
            ("99999999999\t0/4000\n", 1),
        ] {
            let error = TimelineHistory::parse(TimelineId(3), text).unwrap_err();
            assert_eq!(error.line, line, "{text:?}");
        }
    }

    #[test]
    fn history_names() {
        assert_eq!(history_file_name(TimelineId(26)), "0000001A.history");
        assert_eq!(
            parse_history_name("0000001A.history"),
            Some(TimelineId(0x1A))
        );
        assert_eq!(parse_history_name("1A.history"), None);
        assert_eq!(parse_history_name("0000001A.history.tmp"), None);
    }
}
