//! From where on a copied catalog can be trusted: the consistency point M, by kind of directory.
//!
//! Copied pages may be newer than the redo LSN from which replay starts, so between the two the
//! catalog is a mixture. M is the LSN at which replay has caught up with the newest thing copied.
//! It may be known at once or only when the log says so; here is what it will be, and
//! [`super::readiness`] finds it.

use std::fmt;

use redostream_protocol::Lsn;

use super::backup_label::{BackupFrom, BackupLabel};
use super::control_file::{ClusterState, ControlFile};
use super::data_directory::Usage;

/// What a data directory is, as far as it decides when it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryKind {
    /// Of a primary that was shut down cleanly.
    ShutDown,
    /// Of a standby that was shut down cleanly.
    ShutDownStandby,
    /// A base backup.
    Backup(BackupFrom),
    /// Of a server that runs.
    Live,
    /// Of a server that was killed, or a snapshot of a running server's files.
    Crashed,
}

impl DirectoryKind {
    /// Decides by the files, and by whether there is an upstream to ask how far a running server
    /// is.
    ///
    /// A `backup_label` beside a running server is one that an exclusive backup (14) put into the
    /// primary's own directory.
    #[must_use]
    pub fn of(
        control: &ControlFile,
        label: Option<&BackupLabel>,
        usage: Usage,
        has_upstream: bool,
    ) -> Self {
        match (label, usage) {
            (Some(label), Usage::Stopped | Usage::NotSeen(_)) => return Self::Backup(label.from),
            (_, Usage::Running(_)) => return Self::Live,
            (None, _) => {}
        }
        match (control.state, usage) {
            (ClusterState::ShutDown, Usage::Stopped) => Self::ShutDown,
            (ClusterState::ShutDownInRecovery, Usage::Stopped) => Self::ShutDownStandby,
            _ if has_upstream => Self::Live,
            // A process that was killed after it had written the clean state left it behind.
            (ClusterState::ShutDown, _) => Self::ShutDown,
            (ClusterState::ShutDownInRecovery, _) => Self::ShutDownStandby,
            _ => Self::Crashed,
        }
    }
}

impl fmt::Display for DirectoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ShutDown => "a cluster that was shut down",
            Self::ShutDownStandby => "a standby that was shut down",
            Self::Backup(BackupFrom::Primary) => "a base backup of a primary",
            Self::Backup(BackupFrom::Standby) => "a base backup of a standby",
            Self::Live => "a running server",
            Self::Crashed => "a server that was not shut down cleanly",
        })
    }
}

/// What M is: the latest of all that is asked for here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsistencyRule {
    /// Not before this.
    pub at_least: Lsn,
    /// Not before the end of the end-of-backup record that names this start LSN.
    pub backup_end: Option<Lsn>,
    /// Not before the end of the WAL that the directory itself had when its server stopped.
    pub end_of_wal: bool,
    /// Whether pages may be torn, so that `full_page_writes` has to be on until M.
    pub needs_full_page_writes: bool,
}

impl ConsistencyRule {
    /// The rule for a directory. `control` was read after the last of its other files, and
    /// `upstream` (for a running server) asked after that.
    #[must_use]
    pub fn of(
        kind: DirectoryKind,
        control: &ControlFile,
        label: Option<&BackupLabel>,
        upstream: Option<Lsn>,
    ) -> Self {
        let redo = control.checkpoint.redo;
        let plain = |at_least: Lsn| Self {
            at_least: at_least.max(redo),
            backup_end: None,
            end_of_wal: false,
            needs_full_page_writes: false,
        };
        match kind {
            DirectoryKind::ShutDown => plain(control.checkpoint_lsn),
            DirectoryKind::ShutDownStandby => plain(control.min_recovery).after_backup_of(control),
            DirectoryKind::Backup(BackupFrom::Primary) => Self {
                backup_end: label.map(|label| label.start),
                ..plain(label.map_or(redo, |label| label.checkpoint))
            },
            DirectoryKind::Backup(BackupFrom::Standby) => Self {
                needs_full_page_writes: true,
                ..plain(control.min_recovery)
            },
            DirectoryKind::Live => Self {
                needs_full_page_writes: true,
                ..plain(control.min_recovery.max(upstream.unwrap_or_default()))
            }
            .after_backup_of(control),
            DirectoryKind::Crashed => Self {
                end_of_wal: true,
                ..plain(control.min_recovery.max(control.checkpoint_lsn))
            }
            .after_backup_of(control),
        }
    }

    /// A standby may itself still be recovering from a base backup.
    // pg: access/transam/xlogrecovery.c CheckRecoveryConsistency [14-18]
    fn after_backup_of(mut self, control: &ControlFile) -> Self {
        if control.backup_end.is_valid() {
            self.at_least = self.at_least.max(control.backup_end);
        } else if control.backup_start.is_valid() {
            self.backup_end = Some(control.backup_start);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::bootstrap::control_file::craft_control;
    use redostream_protocol::TimelineId;
    use std::path::Path;

    const CHECKPOINT: Lsn = Lsn(0x300_0060);
    const REDO: Lsn = Lsn(0x300_0028);

    fn control(change: impl FnOnce(&mut ControlFile)) -> ControlFile {
        let bytes = craft_control(16, |_| ());
        let mut control = ControlFile::parse(&bytes, 16, Path::new("pg_control")).unwrap();
        change(&mut control);
        control
    }

    fn label(from: BackupFrom) -> BackupLabel {
        BackupLabel {
            start: REDO,
            timeline: TimelineId(1),
            checkpoint: CHECKPOINT,
            from,
            incremental: false,
        }
    }

    #[test]
    fn kinds_of_directories() {
        let production = control(|_| ());
        let clean = control(|control| control.state = ClusterState::ShutDown);
        let standby = control(|control| control.state = ClusterState::ShutDownInRecovery);
        let backup = label(BackupFrom::Standby);
        let kind = DirectoryKind::of;
        let gone = Usage::NotSeen(5);
        for (expected, found) in [
            (
                DirectoryKind::ShutDown,
                kind(&clean, None, Usage::Stopped, true),
            ),
            (DirectoryKind::ShutDown, kind(&clean, None, gone, false)),
            (DirectoryKind::Live, kind(&clean, None, gone, true)),
            (
                DirectoryKind::ShutDownStandby,
                kind(&standby, None, Usage::Stopped, false),
            ),
            (
                DirectoryKind::Live,
                kind(&production, None, Usage::Running(5), false),
            ),
            (DirectoryKind::Live, kind(&production, None, gone, true)),
            (DirectoryKind::Crashed, kind(&production, None, gone, false)),
            (
                DirectoryKind::Crashed,
                kind(&production, None, Usage::Stopped, false),
            ),
            (
                DirectoryKind::Backup(BackupFrom::Standby),
                kind(&production, Some(&backup), Usage::Stopped, true),
            ),
            (
                DirectoryKind::Live,
                kind(&production, Some(&backup), Usage::Running(5), true),
            ),
        ] {
            assert_eq!(expected, found);
        }
    }

    #[test]
    fn rules_by_kind() {
        let later = Lsn(0x500_0000);
        let standby = control(|control| control.min_recovery = Lsn(0x400_0000));
        let rule = ConsistencyRule::of;
        let clean = rule(DirectoryKind::ShutDown, &control(|_| ()), None, None);
        assert_eq!((clean.at_least, clean.end_of_wal), (CHECKPOINT, false));
        let stopped = rule(DirectoryKind::ShutDownStandby, &standby, None, None);
        assert_eq!(stopped.at_least, Lsn(0x400_0000));
        let live = rule(DirectoryKind::Live, &standby, None, Some(later));
        assert_eq!((live.at_least, live.needs_full_page_writes), (later, true));
        let crashed = rule(DirectoryKind::Crashed, &standby, None, None);
        assert!(crashed.end_of_wal && crashed.at_least == Lsn(0x400_0000));
        let primary = label(BackupFrom::Primary);
        let kind = DirectoryKind::Backup(BackupFrom::Primary);
        let backup = rule(kind, &control(|_| ()), Some(&primary), None);
        assert_eq!(backup.backup_end, Some(REDO));
        assert!(!backup.needs_full_page_writes);
        let kind = DirectoryKind::Backup(BackupFrom::Standby);
        let backup = rule(kind, &standby, Some(&label(BackupFrom::Standby)), None);
        assert_eq!(
            (backup.at_least, backup.backup_end),
            (Lsn(0x400_0000), None)
        );
    }

    #[test]
    fn an_unfinished_backup_is_waited_for() {
        let from_primary = control(|control| {
            control.backup_start = REDO;
            control.backup_end_required = true;
        });
        let rule = ConsistencyRule::of(DirectoryKind::Live, &from_primary, None, Some(CHECKPOINT));
        assert_eq!(rule.backup_end, Some(REDO));
        let from_standby = control(|control| {
            control.backup_start = REDO;
            control.backup_end = Lsn(0x600_0000);
        });
        let rule = ConsistencyRule::of(DirectoryKind::Crashed, &from_standby, None, None);
        assert_eq!((rule.at_least, rule.backup_end), (Lsn(0x600_0000), None));
    }
}
