//! `backup_label`: the file that makes a copied directory a base backup.
//!
//! ```text
//! START WAL LOCATION: 0/9000028 (file 000000010000000000000009)
//! CHECKPOINT LOCATION: 0/9000060
//! BACKUP METHOD: streamed
//! BACKUP FROM: primary
//! START TIME: ...
//! LABEL: ...
//! START TIMELINE: 1
//! INCREMENTAL FROM LSN: ...       (17 on, incremental backups)
//! ```
//! Later lines may be missing; the first two never are. `backup_label.old` is a left-over of a
//! finished recovery and is not looked at.
// pg: access/transam/xlogrecovery.c read_backup_label, xlogbackup.c build_backup_content [14-18]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use nom::bytes::complete::{tag, take_till, take_while_m_n};
use nom::character::complete::{char, hex_digit1};
use nom::combinator::{map_opt, rest};
use nom::sequence::{delimited, preceded, separated_pair};
use nom::{IResult, Parser};
use redostream_protocol::{Lsn, TimelineId};

use super::error::BootstrapError;
use crate::limits::LABEL_BYTES_MAX;

/// Name of the file.
pub const FILE_NAME: &str = "backup_label";

/// Where a base backup was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupFrom {
    /// From a primary: its end is a record in the log.
    Primary,
    /// From a standby (or made by `pg_rewind`): its end stands in `pg_control`.
    Standby,
}

/// What `backup_label` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupLabel {
    /// Where replay starts.
    pub start: Lsn,
    /// The timeline there.
    pub timeline: TimelineId,
    /// The record of the backup's checkpoint.
    pub checkpoint: Lsn,
    /// Where it was taken.
    pub from: BackupFrom,
    /// Whether the files are only what changed since another backup.
    pub incremental: bool,
}

impl BackupLabel {
    /// Reads the file below `root`, if there is one.
    pub fn read(root: &Path) -> Result<Option<Self>, BootstrapError> {
        let path = root.join(FILE_NAME);
        let mut text = Vec::new();
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BootstrapError::io(&path, error)),
            Ok(file) => file
                .take(LABEL_BYTES_MAX)
                .read_to_end(&mut text)
                .map_err(|error| BootstrapError::io(&path, error))?,
        };
        match Self::parse(&String::from_utf8_lossy(&text)) {
            Ok(label) if label.incremental => Err(BootstrapError::Incremental(path)),
            Ok(label) => Ok(Some(label)),
            Err(problem) => Err(BootstrapError::BackupLabel {
                path,
                problem: problem.to_owned(),
            }),
        }
    }

    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut start = None;
        let mut checkpoint = None;
        let mut from = BackupFrom::Primary;
        let mut incremental = false;
        let mut start_timeline = None;
        for line in text.lines() {
            let Some((name, value)) = line.split_once(": ") else {
                continue;
            };
            let value = value.trim_end();
            match name {
                "START WAL LOCATION" => {
                    let (_, parsed) =
                        start_location(value).map_err(|_| "malformed START WAL LOCATION")?;
                    start = Some(parsed);
                }
                "CHECKPOINT LOCATION" => {
                    let (_, parsed) = lsn(value).map_err(|_| "malformed CHECKPOINT LOCATION")?;
                    checkpoint = Some(parsed);
                }
                "BACKUP FROM" if value == "standby" => from = BackupFrom::Standby,
                "START TIMELINE" => {
                    let parsed = value.parse().map_err(|_| "malformed START TIMELINE")?;
                    start_timeline = Some(TimelineId(parsed));
                }
                "INCREMENTAL FROM LSN" | "INCREMENTAL FROM TLI" => incremental = true,
                _ => {}
            }
        }
        let (start, timeline) = start.ok_or("it has no START WAL LOCATION")?;
        if start_timeline.is_some_and(|said| said != timeline) {
            return Err("START TIMELINE is not that of the WAL file named in START WAL LOCATION");
        }
        Ok(Self {
            start,
            timeline,
            checkpoint: checkpoint.ok_or("it has no CHECKPOINT LOCATION")?,
            from,
            incremental,
        })
    }
}

fn lsn(input: &str) -> IResult<&str, Lsn> {
    let half = || map_opt(hex_digit1, |digits| u32::from_str_radix(digits, 16).ok());
    separated_pair(half(), char('/'), half())
        .map(|(high, low)| Lsn(u64::from(high) << 32 | u64::from(low)))
        .parse(input)
}

/// An LSN and the timeline that the file name beside it begins with.
fn start_location(input: &str) -> IResult<&str, (Lsn, TimelineId)> {
    let timeline = map_opt(
        take_while_m_n(8, 8, |c: char| c.is_ascii_hexdigit()),
        |digits| u32::from_str_radix(digits, 16).ok().map(TimelineId),
    );
    let file = delimited(
        tag("(file "),
        (timeline, take_till(|c| c == ')')),
        char(')'),
    );
    let (input, (start, (timeline, _))) = (lsn, preceded(char(' '), file)).parse(input)?;
    rest(input).map(|(input, _)| (input, (start, timeline)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LABEL: &str = "START WAL LOCATION: A/9000028 (file 000000020000000A00000009)\n\
        CHECKPOINT LOCATION: A/9000060\nBACKUP METHOD: streamed\nBACKUP FROM: standby\n\
        START TIME: 2024-05-01 10:00:00 UTC\nLABEL: nightly: full\nSTART TIMELINE: 2\n";

    #[test]
    fn a_label_is_read() {
        let label = BackupLabel::parse(LABEL).unwrap();
        assert_eq!(label.start, Lsn(0xA_0900_0028));
        assert_eq!(label.checkpoint, Lsn(0xA_0900_0060));
        assert_eq!(label.timeline, TimelineId(2));
        assert_eq!(label.from, BackupFrom::Standby);
        assert!(!label.incremental);
        let from_primary = LABEL.replace("FROM: standby", "FROM: primary");
        let label = BackupLabel::parse(&from_primary).unwrap();
        assert_eq!(label.from, BackupFrom::Primary);
    }

    #[test]
    fn bad_labels_say_why() {
        for (from, to, part) in [
            ("START WAL", "STOP WAL", "no START WAL LOCATION"),
            ("CHECKPOINT", "CHECK", "no CHECKPOINT LOCATION"),
            ("TIMELINE: 2", "TIMELINE: 3", "not that of the WAL file"),
            ("TIMELINE: 2", "TIMELINE: x", "START TIMELINE"),
            ("A/9000028", "A9000028", "malformed START WAL"),
            ("A/9000060", "A/", "malformed CHECKPOINT"),
        ] {
            let problem = BackupLabel::parse(&LABEL.replace(from, to)).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
    }

    #[test]
    fn incremental_backups_are_refused_by_file() {
        let directory = tempfile::tempdir().unwrap();
        assert!(BackupLabel::read(directory.path()).unwrap().is_none());
        std::fs::write(directory.path().join("backup_label.old"), "x").unwrap();
        assert!(BackupLabel::read(directory.path()).unwrap().is_none());
        let path = directory.path().join(FILE_NAME);
        std::fs::write(&path, LABEL).unwrap();
        assert!(BackupLabel::read(directory.path()).unwrap().is_some());
        let text = format!("{LABEL}INCREMENTAL FROM LSN: A/8000028\nINCREMENTAL FROM TLI: 2\n");
        std::fs::write(&path, text).unwrap();
        let error = BackupLabel::read(directory.path()).unwrap_err();
        assert!(matches!(error, BootstrapError::Incremental(_)));
        std::fs::write(&path, "garbage").unwrap();
        let error = BackupLabel::read(directory.path()).unwrap_err().to_string();
        assert!(error.contains("backup_label"), "{error}");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "(START WAL LOCATION: )?[0-9A-F/ ()file\n]{0,60}\\PC{0,20}") {
            let _ = BackupLabel::parse(&text);
        }
    }
}
