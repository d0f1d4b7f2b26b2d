//! Questions and orders to the upstream: who it is, its settings, slots, timelines.
//!
//! Errors are told apart by SQLSTATE, never by text, which is in the server's language.

use redostream_engine::source::{SegmentSize, TimelineHistory};
use redostream_protocol::{Lsn, TimelineId};

use super::connection::{Connection, Purpose, Row};
use super::conninfo::Conninfo;
use super::error::{ServerError, UpstreamError};

const UNDEFINED_OBJECT: &str = "42704";
const DUPLICATE_OBJECT: &str = "42710";
const OBJECT_IN_USE: &str = "55006";
const NOT_IN_PREREQUISITE_STATE: &str = "55000";
const UNDEFINED_FILE: &str = "58P01";
const FEATURE_NOT_SUPPORTED: &str = "0A000";
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// What `IDENTIFY_SYSTEM` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SystemIdentity {
    /// The cluster.
    pub(crate) system_identifier: u64,
    /// The timeline it is on.
    pub(crate) timeline: TimelineId,
    /// How far its WAL is flushed.
    pub(crate) flushed: Lsn,
}

/// A slot that is there now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EnsuredSlot {
    /// Whether it was made just now.
    pub(crate) created: bool,
    /// The oldest WAL it keeps; `None` if it keeps none, or if that could not be found out.
    pub(crate) restart_lsn: Option<Lsn>,
}

impl Connection {
    async fn ask(&mut self, command: &str) -> Result<Vec<Row>, UpstreamError> {
        let answer = self.query(command).await?;
        answer.map_err(|answer| UpstreamError::Refused {
            during: command.to_owned(),
            answer,
        })
    }

    /// Who the upstream is and how far it is.
    pub(crate) async fn identify_system(&mut self) -> Result<SystemIdentity, UpstreamError> {
        let command = "IDENTIFY_SYSTEM";
        let rows = self.ask(command).await?;
        let timeline = number(&rows, 1, command)?;
        Ok(SystemIdentity {
            system_identifier: number(&rows, 0, command)?,
            timeline: TimelineId(timeline),
            flushed: number(&rows, 2, command)?,
        })
    }

    /// A setting of the server.
    pub(crate) async fn show(&mut self, setting: &str) -> Result<String, UpstreamError> {
        let command = format!("SHOW {setting}");
        let rows = self.ask(&command).await?;
        Ok(text(&rows, 0, &command)?.to_owned())
    }

    /// The server's clock, in seconds since 1970; on an ordinary connection.
    pub(crate) async fn clock_seconds(&mut self) -> Result<f64, UpstreamError> {
        let command = "SELECT extract(epoch FROM pg_catalog.clock_timestamp())";
        let rows = self.ask(command).await?;
        number(&rows, 0, command)
    }

    /// Bytes of a WAL segment.
    pub(crate) async fn segment_size(&mut self) -> Result<SegmentSize, UpstreamError> {
        let shown = self.show("wal_segment_size").await?;
        parse_size(&shown)
            .and_then(SegmentSize::new)
            .ok_or_else(|| UpstreamError::Protocol(format!("wal_segment_size is {shown}")))
    }

    /// The server's major version, if it is one that is supported.
    pub(crate) fn major_version(&self) -> Result<u16, UpstreamError> {
        let version = self.parameter("server_version").unwrap_or("unknown");
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        match digits.parse() {
            Ok(major @ 14..=18) => Ok(major),
            _ => Err(UpstreamError::Version(version.to_owned())),
        }
    }

    /// Fails if the server is a primary that does not log for decoding. A standby's own setting
    /// says nothing: what counts is its primary's, which the WAL tells.
    pub(crate) async fn check_wal_level(&mut self) -> Result<(), UpstreamError> {
        if self.in_recovery() {
            return Ok(());
        }
        match self.show("wal_level").await?.as_str() {
            "logical" => Ok(()),
            other => Err(UpstreamError::WalLevel(other.to_owned())),
        }
    }

    /// Sees to it that a physical slot is there, and says so if it had to be made.
    ///
    /// 14 cannot tell about slots on a replication connection: there `info` is used for a second,
    /// ordinary one.
    pub(crate) async fn ensure_slot(
        &mut self,
        slot: &str,
        info: &Conninfo,
    ) -> Result<EnsuredSlot, UpstreamError> {
        check_slot_name(slot)?;
        if let Some(restart_lsn) = self.read_slot(slot, info).await? {
            return Ok(EnsuredSlot {
                created: false,
                restart_lsn,
            });
        }
        let command = format!("CREATE_REPLICATION_SLOT \"{slot}\" PHYSICAL RESERVE_WAL");
        let created = match self.query(&command).await? {
            Ok(_) => true,
            Err(answer) if answer.sqlstate == DUPLICATE_OBJECT => false,
            Err(answer) if answer.sqlstate == INSUFFICIENT_PRIVILEGE => {
                return Err(UpstreamError::NoPrivilege {
                    user: info.user.clone(),
                    answer,
                });
            }
            Err(answer) => {
                return Err(UpstreamError::Refused {
                    during: command,
                    answer,
                });
            }
        };
        if created {
            tracing::info!(slot, host = self.host(), "replication slot created");
        }
        let restart_lsn = self.read_slot(slot, info).await?.flatten();
        Ok(EnsuredSlot {
            created,
            restart_lsn,
        })
    }

    /// The slot's restart LSN, if there is such a slot (and, inside, if it has one).
    pub(crate) async fn read_slot(
        &mut self,
        slot: &str,
        info: &Conninfo,
    ) -> Result<Option<Option<Lsn>>, UpstreamError> {
        check_slot_name(slot)?;
        if self.major_version()? < 15 {
            return read_slot_by_query(slot, info).await;
        }
        let command = format!("READ_REPLICATION_SLOT \"{slot}\"");
        let rows = match self.query(&command).await? {
            Ok(rows) => rows,
            Err(answer) if answer.sqlstate == FEATURE_NOT_SUPPORTED => {
                return Err(UpstreamError::SlotLogical(slot.to_owned()));
            }
            Err(answer) => {
                return Err(UpstreamError::Refused {
                    during: command,
                    answer,
                });
            }
        };
        let column = |index: usize| rows.first().and_then(|row| row.get(index)?.as_ref());
        if column(0).is_none() {
            return Ok(None);
        }
        match column(1) {
            None => Ok(Some(None)),
            Some(_) => Ok(Some(Some(number(&rows, 1, &command)?))),
        }
    }

    /// Drops a slot.
    pub(crate) async fn drop_slot(&mut self, slot: &str) -> Result<(), UpstreamError> {
        check_slot_name(slot)?;
        let command = format!("DROP_REPLICATION_SLOT \"{slot}\"");
        match self.query(&command).await? {
            Ok(_) => Ok(()),
            Err(answer) => Err(slot_error(slot, command, answer)),
        }
    }

    /// The history of a timeline; `None` if the server has no file of it.
    pub(crate) async fn timeline_history(
        &mut self,
        timeline: TimelineId,
    ) -> Result<Option<TimelineHistory>, UpstreamError> {
        let command = format!("TIMELINE_HISTORY {timeline}");
        let rows = match self.query(&command).await? {
            Ok(rows) => rows,
            Err(answer) if answer.sqlstate == UNDEFINED_FILE => return Ok(None),
            Err(answer) => {
                return Err(UpstreamError::Refused {
                    during: command,
                    answer,
                });
            }
        };
        let content = rows.first().and_then(|row| row.get(1)?.as_ref());
        let content = content
            .map(|bytes| String::from_utf8_lossy(bytes))
            .unwrap_or_default();
        TimelineHistory::parse(timeline, &content)
            .map(Some)
            .map_err(|error| UpstreamError::Protocol(format!("{command}: {error}")))
    }
}

/// What a refusal that concerns a slot means.
pub(super) fn slot_error(slot: &str, during: String, answer: ServerError) -> UpstreamError {
    let slot = slot.to_owned();
    match answer.sqlstate.as_str() {
        UNDEFINED_OBJECT => UpstreamError::SlotMissing { slot, answer },
        OBJECT_IN_USE => UpstreamError::SlotInUse { slot, answer },
        NOT_IN_PREREQUISITE_STATE => UpstreamError::SlotInvalidated {
            slot,
            problem: answer.to_string(),
            needed: None,
        },
        _ => UpstreamError::Refused { during, answer },
    }
}

/// What a refusal to stream from `lsn` means.
pub(super) fn stream_error(
    slot: Option<&str>,
    lsn: Lsn,
    during: String,
    answer: ServerError,
) -> UpstreamError {
    match slot {
        _ if answer.sqlstate == UNDEFINED_FILE => UpstreamError::WalRemoved { lsn, answer },
        Some(slot) => match slot_error(slot, during, answer) {
            UpstreamError::SlotInvalidated { slot, problem, .. } => {
                UpstreamError::SlotInvalidated {
                    slot,
                    problem,
                    needed: Some(lsn),
                }
            }
            other => other,
        },
        None => UpstreamError::Refused { during, answer },
    }
}

/// A name that the server takes and that needs no care in a command.
// pg: replication/slot.c ReplicationSlotValidateName [14-18]
fn check_slot_name(slot: &str) -> Result<(), UpstreamError> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=63).contains(&slot.len()) && slot.bytes().all(fits) {
        return Ok(());
    }
    Err(UpstreamError::SlotName(slot.to_owned()))
}

async fn read_slot_by_query(
    slot: &str,
    info: &Conninfo,
) -> Result<Option<Option<Lsn>>, UpstreamError> {
    let mut connection = match Connection::open(info, Purpose::Queries).await {
        Ok(connection) => connection,
        Err(error) => {
            tracing::warn!(
                %error,
                database = info.database,
                "PostgreSQL 14 tells about replication slots only on an ordinary connection, \
                 which cannot be had; what the slot keeps is not known"
            );
            return Ok(None);
        }
    };
    let command = format!(
        "SELECT slot_type, restart_lsn FROM pg_catalog.pg_replication_slots \
         WHERE slot_name = '{slot}'"
    );
    let rows = connection.ask(&command).await?;
    connection.close().await;
    if rows.is_empty() {
        return Ok(None);
    }
    if text(&rows, 0, &command)? != "physical" {
        return Err(UpstreamError::SlotLogical(slot.to_owned()));
    }
    let column = |index: usize| rows.first().and_then(|row| row.get(index)?.as_ref());
    // A slot that was given up has none: whether what is needed is at hand is asked elsewhere.
    match column(1) {
        None => Ok(Some(None)),
        Some(_) => Ok(Some(Some(number(&rows, 1, &command)?))),
    }
}

fn text<'a>(rows: &'a [Row], column: usize, command: &str) -> Result<&'a str, UpstreamError> {
    rows.first()
        .and_then(|row| row.get(column)?.as_deref())
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .ok_or_else(|| {
            UpstreamError::Protocol(format!("{command} gave nothing in column {}", column + 1))
        })
}

fn number<T: std::str::FromStr>(
    rows: &[Row],
    column: usize,
    command: &str,
) -> Result<T, UpstreamError> {
    let text = text(rows, column, command)?;
    text.parse().map_err(|_| {
        UpstreamError::Protocol(format!("{command} gave {text} in column {}", column + 1))
    })
}

/// A size as `SHOW` prints it: `16MB`.
fn parse_size(shown: &str) -> Option<u64> {
    let digits = shown.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = shown.split_at_checked(digits)?;
    let unit = match unit {
        "kB" => 1024,
        "MB" => 1024 * 1024,
        "GB" => 1024 * 1024 * 1024,
        "B" => 1,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read() {
        assert_eq!(parse_size("16MB"), Some(16 * 1024 * 1024));
        assert_eq!(parse_size("1GB"), Some(1024 * 1024 * 1024));
        for bad in ["", "16", "MB", "16mb", "99999999999999999999GB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn slot_names_need_no_care() {
        assert!(check_slot_name("redo_1").is_ok());
        for bad in ["", "Redo", "a-b", "a\"b", &"x".repeat(64)] {
            assert!(check_slot_name(bad).is_err(), "{bad}");
        }
    }
}
