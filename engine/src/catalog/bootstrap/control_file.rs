//! `pg_control`: the state of a cluster and its last checkpoint.
//!
//! PostgreSQL overwrites the file in place, so a copy whose CRC is wrong is read again a few times
//! before it counts as damaged.
//!
//! ```text
//!   0 system identifier u64      128 unlogged LSN u64
//!   8 version of the file u32    136 minRecoveryPoint u64, 144 its timeline u32
//!  12 version of catalogs u32    152 backupStartPoint, 160 backupEndPoint, 168 backupEndRequired
//!  16 state u32                  172 wal_level, ... six settings ..., 204 alignment, 208 1234567.0
//!  24 time i64                   216 block bytes, file blocks, WAL page bytes, segment bytes, ...
//!  32 checkpoint LSN u64         252 checksum version; char signedness (18); 32 random bytes
//!  40 copy of the checkpoint     288 (14-17) or 292 (18) CRC-32C of all before
//!
//! checkpoint, from 40: redo u64, timeline, previous timeline, full_page_writes u8 (at 56),
//!   wal_level i32 (at 60; 17 on), next xid u64, next oid, next multixact and its member,
//!   oldest xid and its database, oldest multixact and its database, time i64 (at 104),
//!   oldest and newest xid with a commit timestamp, oldest active xid
//! ```
// pg: catalog/pg_control.h ControlFileData, CheckPoint [14-18]

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use redostream_protocol::cursor::{Cursor, ShortInput};
use redostream_protocol::{Lsn, Oid, TimelineId, Xid};
use serde::{Deserialize, Serialize};

use super::error::BootstrapError;
use crate::catalog::filenodes::crc32c;
use crate::catalog::multixact::MultixactRange;
use crate::limits::{
    CONTROL_FILE_BYTES, HEAP_PAGE_BYTES, REREAD_COUNT_MAX, REREAD_PAUSE_MS, WAL_PAGE_BYTES,
};

/// Where the file is, below the data directory.
pub const FILE_NAME: &str = "global/pg_control";

/// What differs between versions.
struct Release {
    major: u16,
    control_version: u32,
    catalog_version: u32,
    crc_offset: usize,
    checkpoint_has_wal_level: bool,
}

// pg: catalog/catversion.h [14-18]: fixed once a major version is released
const RELEASES: [Release; 5] = [
    Release {
        major: 14,
        control_version: 1300,
        catalog_version: 202_107_181,
        crc_offset: 288,
        checkpoint_has_wal_level: false,
    },
    Release {
        major: 15,
        control_version: 1300,
        catalog_version: 202_209_061,
        crc_offset: 288,
        checkpoint_has_wal_level: false,
    },
    Release {
        major: 16,
        control_version: 1300,
        catalog_version: 202_307_071,
        crc_offset: 288,
        checkpoint_has_wal_level: false,
    },
    Release {
        major: 17,
        control_version: 1700,
        catalog_version: 202_406_281,
        crc_offset: 288,
        checkpoint_has_wal_level: true,
    },
    Release {
        major: 18,
        control_version: 1800,
        catalog_version: 202_506_291,
        crc_offset: 292,
        checkpoint_has_wal_level: true,
    },
];

const MAXIMUM_ALIGNMENT: u32 = 8;
const FLOAT_SAMPLE: f64 = 1_234_567.0;

/// What the server was doing when it last wrote the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterState {
    /// Starting up.
    StartingUp,
    /// Shut down cleanly, as a primary.
    ShutDown,
    /// Shut down cleanly, as a standby.
    ShutDownInRecovery,
    /// Shutting down.
    ShuttingDown,
    /// Recovering from a crash.
    CrashRecovery,
    /// A standby, or recovering from an archive.
    ArchiveRecovery,
    /// A primary.
    Production,
}

/// `wal_level`, ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WalLevel {
    /// `minimal`.
    Minimal,
    /// `replica`.
    Replica,
    /// `logical`.
    Logical,
}

impl WalLevel {
    /// The setting's value as PostgreSQL writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Replica => "replica",
            Self::Logical => "logical",
        }
    }

    fn of_number(number: i32) -> Option<Self> {
        // pg: access/xlog.h WalLevel [14-18]
        match number {
            0 => Some(Self::Minimal),
            1 => Some(Self::Replica),
            2 => Some(Self::Logical),
            _ => None,
        }
    }
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Where replay starts.
    pub redo: Lsn,
    /// The timeline of its record.
    pub timeline: TimelineId,
    /// The timeline before, if the record begins one; else the same.
    pub previous_timeline: TimelineId,
    /// `full_page_writes` at the primary.
    pub full_page_writes: bool,
    /// `wal_level` at the primary, where the record says it (17 on).
    pub wal_level: Option<WalLevel>,
    /// The next transaction id, with its epoch in the upper half.
    pub next_xid: u64,
    /// The next object id.
    pub next_oid: Oid,
    /// The next multixact.
    pub next_multixact: u32,
    /// Its first member.
    pub next_multixact_offset: u32,
    /// The oldest xid that may stand in a tuple unfrozen.
    pub oldest_xid: Xid,
    /// The oldest multixact that may stand in a tuple.
    pub oldest_multixact: u32,
    /// Seconds since 1970.
    pub time_s: i64,
    /// The oldest transaction running then; none for a checkpoint at shutdown.
    pub oldest_active_xid: Xid,
}

impl Checkpoint {
    /// The next transaction id as tuples hold it.
    #[must_use]
    pub const fn next_xid_32(&self) -> Xid {
        Xid(self.next_xid as u32)
    }

    /// The multixacts that existed then.
    #[must_use]
    pub const fn multixacts(&self) -> MultixactRange {
        MultixactRange {
            oldest: self.oldest_multixact,
            next: self.next_multixact,
            next_offset: self.next_multixact_offset,
        }
    }
}

/// What `pg_control` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlFile {
    /// Names the cluster.
    pub system_identifier: u64,
    /// Major version of the server.
    pub major: u16,
    /// Layout of the catalogs; part of the directory names of tablespaces.
    pub catalog_version: u32,
    /// What the server was doing.
    pub state: ClusterState,
    /// The last checkpoint's (or restartpoint's) record.
    pub checkpoint_lsn: Lsn,
    /// What that record says.
    pub checkpoint: Checkpoint,
    /// A standby's files may hold changes up to here; invalid on a primary.
    pub min_recovery: Lsn,
    /// Its timeline.
    pub min_recovery_timeline: TimelineId,
    /// The redo LSN of the base backup that is being recovered from and not yet complete.
    pub backup_start: Lsn,
    /// Where a base backup taken from a standby is complete.
    pub backup_end: Lsn,
    /// Whether the end-of-backup record must be reached first.
    pub backup_end_required: bool,
    /// `wal_level` of the WAL this server writes or replays.
    pub wal_level: WalLevel,
    /// Bytes of a WAL segment.
    pub segment_bytes: u32,
    /// Blocks of a relation's file, beyond which the next (`.1`) begins.
    pub file_blocks: u32,
    /// Whether pages carry checksums.
    pub data_checksums: bool,
}

impl ControlFile {
    /// Reads the file below `root`; PG_VERSION has said `major`.
    pub fn read(root: &Path, major: u16) -> Result<Self, BootstrapError> {
        let path = root.join(FILE_NAME);
        let mut tries = 0;
        loop {
            let bytes = fs::read(&path).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => BootstrapError::NotADataDirectory {
                    path: root.to_owned(),
                    missing: FILE_NAME,
                },
                _ => BootstrapError::io(&path, error),
            })?;
            match Self::parse(&bytes, major, &path) {
                Err(BootstrapError::ControlCrc { .. }) if tries < REREAD_COUNT_MAX => {
                    tries += 1;
                    sleep(Duration::from_millis(REREAD_PAUSE_MS));
                }
                other => return other,
            }
        }
    }

    /// Reads the file's bytes; `path` is for messages.
    pub fn parse(bytes: &[u8], major: u16, path: &Path) -> Result<Self, BootstrapError> {
        let bytes = bytes.get(..CONTROL_FILE_BYTES).unwrap_or(bytes);
        let release = release(bytes, major, path)?;
        let short = |error: ShortInput| BootstrapError::Control {
            path: path.to_owned(),
            problem: error.to_string(),
        };
        let mut cursor = Cursor::new(bytes);
        let covered = cursor
            .take(release.crc_offset, "pg_control")
            .map_err(short)?;
        let stored = cursor.u32("CRC of pg_control").map_err(short)?;
        let computed = crc32c(covered);
        if stored != computed {
            return Err(BootstrapError::ControlCrc {
                path: path.to_owned(),
                stored,
                computed,
            });
        }
        let raw = RawControl::read(covered).map_err(short)?;
        raw.check(release, path)
    }
}

/// Finds out how to read the file: before its CRC, which stands at a place of the version's own.
fn release(bytes: &[u8], major: u16, path: &Path) -> Result<&'static Release, BootstrapError> {
    let mut cursor = Cursor::new(bytes);
    let versions = cursor.u64("system identifier").and_then(|_| {
        Ok((
            cursor.u32("control version")?,
            cursor.u32("catalog version")?,
        ))
    });
    let (control_version, catalog_version) = versions.map_err(|error| BootstrapError::Control {
        path: path.to_owned(),
        problem: format!("{error}; take a new base backup"),
    })?;
    // pg: access/transam/xlog.c ReadControlFile [14-18]
    if control_version % 65536 == 0 && control_version != 0 {
        return Err(BootstrapError::Machine {
            path: path.to_owned(),
            what: "a machine of the other byte order".to_owned(),
        });
    }
    let found = RELEASES.iter().find(|release| {
        release.major == major
            && release.control_version == control_version
            && release.catalog_version == catalog_version
    });
    found.ok_or_else(|| BootstrapError::Version {
        path: path.to_owned(),
        found: format!(
            "{major} with control version {control_version}, catalog version {catalog_version}"
        ),
    })
}

/// The file's fields before any has been judged.
struct RawControl {
    control: ControlFile,
    state: u32,
    wal_level: i32,
    checkpoint_wal_level: i32,
    maximum_alignment: u32,
    float_sample: f64,
    block_bytes: u32,
    wal_page_bytes: u32,
}

impl RawControl {
    fn read(bytes: &[u8]) -> Result<Self, ShortInput> {
        let mut cursor = Cursor::new(bytes);
        let system_identifier = cursor.u64("system identifier")?;
        cursor.u32("control version")?;
        let catalog_version = cursor.u32("catalog version")?;
        let state = cursor.u32("state")?;
        cursor.align(8, "state")?;
        cursor.i64("time")?;
        let checkpoint_lsn = Lsn(cursor.u64("checkpoint LSN")?);
        let (checkpoint, checkpoint_wal_level) = read_checkpoint(&mut cursor)?;
        cursor.u64("unlogged LSN")?;
        let min_recovery = Lsn(cursor.u64("minRecoveryPoint")?);
        let min_recovery_timeline = TimelineId(cursor.u32("minRecoveryPoint timeline")?);
        cursor.align(8, "minRecoveryPoint timeline")?;
        let backup_start = Lsn(cursor.u64("backupStartPoint")?);
        let backup_end = Lsn(cursor.u64("backupEndPoint")?);
        let backup_end_required = cursor.u8("backupEndRequired")? != 0;
        cursor.align(4, "backupEndRequired")?;
        let wal_level = cursor.i32("wal_level")?;
        // wal_log_hints, five limits of the primary, track_commit_timestamp
        cursor.take(7 * 4, "settings")?;
        let maximum_alignment = cursor.u32("maximum alignment")?;
        let float_sample = f64::from_bits(cursor.u64("float format")?);
        let block_bytes = cursor.u32("block size")?;
        let file_blocks = cursor.u32("blocks of a file")?;
        let wal_page_bytes = cursor.u32("WAL block size")?;
        let segment_bytes = cursor.u32("WAL segment size")?;
        // name length, index columns, TOAST chunk, large object block, float8 by value
        cursor.take(5 * 4, "sizes")?;
        let data_checksums = cursor.u32("checksum version")? != 0;
        Ok(Self {
            control: ControlFile {
                system_identifier,
                major: 0,
                catalog_version,
                state: ClusterState::StartingUp,
                checkpoint_lsn,
                checkpoint,
                min_recovery,
                min_recovery_timeline,
                backup_start,
                backup_end,
                backup_end_required,
                wal_level: WalLevel::Minimal,
                segment_bytes,
                file_blocks,
                data_checksums,
            },
            state,
            wal_level,
            checkpoint_wal_level,
            maximum_alignment,
            float_sample,
            block_bytes,
            wal_page_bytes,
        })
    }

    fn check(self, release: &Release, path: &Path) -> Result<ControlFile, BootstrapError> {
        let wrong = |problem: String| BootstrapError::Control {
            path: path.to_owned(),
            problem,
        };
        let machine = |what: &str| BootstrapError::Machine {
            path: path.to_owned(),
            what: what.to_owned(),
        };
        if self.maximum_alignment != MAXIMUM_ALIGNMENT {
            return Err(machine("a machine that aligns tuples otherwise"));
        }
        if self.float_sample.to_bits() != FLOAT_SAMPLE.to_bits() {
            return Err(machine(
                "a machine whose floating-point numbers are not IEEE 754",
            ));
        }
        for (what, found, expected) in [
            ("the block size", self.block_bytes, HEAP_PAGE_BYTES),
            ("the WAL block size", self.wal_page_bytes, WAL_PAGE_BYTES),
        ] {
            if found as usize != expected {
                return Err(BootstrapError::BlockSize {
                    path: path.to_owned(),
                    what,
                    found,
                    expected: expected as u32,
                });
            }
        }
        let mut control = self.control;
        let segment = control.segment_bytes;
        // pg: access/xlog_internal.h IsValidWalSegSize [14-18]
        if !segment.is_power_of_two() || !(1 << 20..=1 << 30).contains(&segment) {
            return Err(wrong(format!("a WAL segment cannot have {segment} bytes")));
        }
        if control.file_blocks == 0 {
            return Err(wrong("a relation's file cannot have 0 blocks".to_owned()));
        }
        if !control.checkpoint.redo.is_valid() {
            return Err(wrong("the last checkpoint has no redo LSN".to_owned()));
        }
        control.major = release.major;
        control.state = state(self.state)
            .ok_or_else(|| wrong(format!("the cluster's state cannot be {}", self.state)))?;
        control.wal_level = WalLevel::of_number(self.wal_level)
            .ok_or_else(|| wrong(format!("wal_level cannot be {}", self.wal_level)))?;
        if release.checkpoint_has_wal_level {
            control.checkpoint.wal_level = WalLevel::of_number(self.checkpoint_wal_level);
        }
        Ok(control)
    }
}

fn state(number: u32) -> Option<ClusterState> {
    // pg: catalog/pg_control.h DBState [14-18]
    match number {
        0 => Some(ClusterState::StartingUp),
        1 => Some(ClusterState::ShutDown),
        2 => Some(ClusterState::ShutDownInRecovery),
        3 => Some(ClusterState::ShuttingDown),
        4 => Some(ClusterState::CrashRecovery),
        5 => Some(ClusterState::ArchiveRecovery),
        6 => Some(ClusterState::Production),
        _ => None,
    }
}

/// Reads a checkpoint and, beside it, the word that is `wal_level` from 17 on.
fn read_checkpoint(cursor: &mut Cursor<'_>) -> Result<(Checkpoint, i32), ShortInput> {
    let redo = Lsn(cursor.u64("redo LSN")?);
    let timeline = TimelineId(cursor.u32("timeline")?);
    let previous_timeline = TimelineId(cursor.u32("previous timeline")?);
    let full_page_writes = cursor.u8("full_page_writes")? != 0;
    cursor.align(4, "full_page_writes")?;
    let wal_level = cursor.i32("wal_level of the checkpoint")?;
    let next_xid = cursor.u64("next xid")?;
    let next_oid = Oid(cursor.u32("next oid")?);
    let next_multixact = cursor.u32("next multixact")?;
    let next_multixact_offset = cursor.u32("next multixact member")?;
    let oldest_xid = Xid(cursor.u32("oldest xid")?);
    cursor.u32("database of the oldest xid")?;
    let oldest_multixact = cursor.u32("oldest multixact")?;
    cursor.u32("database of the oldest multixact")?;
    cursor.align(8, "checkpoint time")?;
    let time_s = cursor.i64("checkpoint time")?;
    cursor.take(8, "commit timestamp xids")?;
    let oldest_active_xid = Xid(cursor.u32("oldest active xid")?);
    cursor.align(8, "checkpoint")?;
    let checkpoint = Checkpoint {
        redo,
        timeline,
        previous_timeline,
        full_page_writes,
        wal_level: None,
        next_xid,
        next_oid,
        next_multixact,
        next_multixact_offset,
        oldest_xid,
        oldest_multixact,
        time_s,
        oldest_active_xid,
    };
    Ok((checkpoint, wal_level))
}

/// Bytes of a `pg_control` of the major version, for tests: everything as on a primary in
/// production whose last checkpoint is at 0/3000000.
#[cfg(test)]
pub(crate) fn craft_control(major: u16, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let release = RELEASES
        .iter()
        .find(|release| release.major == major)
        .unwrap();
    let mut bytes = vec![0_u8; CONTROL_FILE_BYTES];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &7_u64.to_le_bytes());
    put(8, &release.control_version.to_le_bytes());
    put(12, &release.catalog_version.to_le_bytes());
    for (at, word) in [
        (16, 6),
        (48, 1),
        (52, 1),
        (56, 1),
        (64, 700),
        (72, 16_400),
        (76, 1),
        (84, 3),
        (92, 1),
        (120, 690),
        (172, 2),
        (204, 8),
        (216, 8192),
        (220, 131_072),
        (224, 8192),
        (228, 1 << 24),
    ] {
        put(at, &u32::to_le_bytes(word));
    }
    put(32, &0x300_0060_u64.to_le_bytes());
    put(40, &0x300_0028_u64.to_le_bytes());
    put(208, &FLOAT_SAMPLE.to_le_bytes());
    change(&mut bytes);
    let crc = crc32c(&bytes[..release.crc_offset]);
    bytes[release.crc_offset..release.crc_offset + 4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8], major: u16) -> Result<ControlFile, BootstrapError> {
        ControlFile::parse(bytes, major, Path::new("pg_control"))
    }

    fn refused(change: impl FnOnce(&mut [u8])) -> String {
        parse(&craft_control(15, change), 15)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn every_version_is_read() {
        for release in &RELEASES {
            let control = parse(&craft_control(release.major, |_| ()), release.major).unwrap();
            assert_eq!(control.system_identifier, 7);
            assert_eq!(control.state, ClusterState::Production);
            assert_eq!(control.checkpoint_lsn, Lsn(0x300_0060));
            assert_eq!(control.checkpoint.redo, Lsn(0x300_0028));
            assert_eq!(control.checkpoint.next_xid_32(), Xid(700));
            assert_eq!(control.checkpoint.oldest_active_xid, Xid(690));
            assert!(control.checkpoint.full_page_writes);
            assert_eq!(control.wal_level, WalLevel::Logical);
            assert_eq!(control.segment_bytes, 1 << 24);
            let has = control.checkpoint.wal_level.is_some();
            assert_eq!(has, release.major >= 17);
        }
    }

    #[test]
    fn refusals_say_what_and_where() {
        for (message, part) in [
            (refused(|bytes| bytes[217] = 0x40), "block size is 16384"),
            (
                refused(|bytes| bytes[225] = 0x40),
                "WAL block size is 16384",
            ),
            (refused(|bytes| bytes[228] = 1), "segment cannot have"),
            (refused(|bytes| bytes[208] = 1), "IEEE 754"),
            (refused(|bytes| bytes[204] = 4), "aligns"),
            (refused(|bytes| bytes[16] = 9), "state cannot be 9"),
            (refused(|bytes| bytes[172] = 9), "wal_level cannot be 9"),
            (refused(|bytes| bytes[40..48].fill(0)), "no redo LSN"),
            (refused(|bytes| bytes[12] = 0), "betas"),
            (
                refused(|bytes| bytes[8..12].copy_from_slice(&1300_u32.to_be_bytes())),
                "byte order",
            ),
        ] {
            assert!(message.contains(part), "{message}");
            assert!(message.contains("pg_control"), "{message}");
        }
        assert!(parse(&craft_control(17, |_| ()), 18).is_err());
        assert!(parse(&craft_control(17, |_| ())[..200], 17).is_err());
        assert!(parse(&[], 17).is_err());
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_noticed(bit in 0_usize..296 * 8) {
            let mut bytes = craft_control(18, |_| ());
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(parse(&bytes, 18).is_err());
        }
    }
}
