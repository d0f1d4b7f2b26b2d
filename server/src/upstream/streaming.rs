//! Physical streaming: WAL in, status out, until the timeline ends or the connection breaks.
//!
//! Status messages name how far WAL was *written* (received) but, as a rule, no *flush* LSN: so we
//! are never taken for a synchronous standby, and a server that shuts down waits only for what it
//! has sent to arrive, not for our retention. The slot moves by a flush LSN that is sent once and
//! taken back by the next message at once.
// pg: replication/walsender.c WalSndDone, ProcessStandbyReplyMessage [14-18]
// pg: replication/syncrep.c SyncRepGetCandidateStandbys [14-18]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use redostream_protocol::{Lsn, TimelineId};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::commands::stream_error;
use super::connection::{Connection, Incoming, Row, broken, row};
use super::error::{ServerError, UpstreamError};

/// Bytes before the WAL in a message: `w`, start, server's end, time.
const WAL_HEADER_BYTES: usize = 25;
/// Seconds from 1970 to 2000, where PostgreSQL's clock begins.
const POSTGRES_EPOCH_S: u64 = 946_684_800;

/// Takes what is streamed.
pub(super) trait WalSink: Send {
    /// WAL at `lsn`; the server's log ends at `server_end`.
    fn wal(&mut self, lsn: Lsn, bytes: Bytes, server_end: Lsn) -> Result<(), UpstreamError>;
    /// A sign of life.
    fn keepalive(&mut self, server_end: Lsn);
    /// What to tell the server.
    fn progress(&self) -> Progress;
}

/// What the server is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Received up to here.
    pub(super) received: Lsn,
    /// Released up to here.
    pub(super) applied: Lsn,
    /// WAL before this is not needed any more; 0 leaves the slot where it is.
    pub(super) not_needed_before: Lsn,
}

/// Where to begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamStart<'a> {
    pub(super) slot: Option<&'a str>,
    pub(super) from: Lsn,
    pub(super) timeline: TimelineId,
}

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Between status messages.
    pub(super) status: Duration,
    /// Without a word from the server the connection counts as broken.
    pub(super) silence_max: Duration,
}

/// The timeline streamed has ended: where the history goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NextTimeline {
    pub(super) timeline: TimelineId,
    pub(super) at: Lsn,
}

impl Connection {
    /// Streams until the timeline ends.
    pub(super) async fn stream(
        &mut self,
        start: StreamStart<'_>,
        sink: &mut dyn WalSink,
        timing: Timing,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<NextTimeline, UpstreamError> {
        let slot = start.slot.map(|slot| format!("SLOT \"{slot}\" "));
        let command = format!(
            "START_REPLICATION {}PHYSICAL {} TIMELINE {}",
            slot.unwrap_or_default(),
            start.from,
            start.timeline
        );
        frontend::query(&command, self.output()).map_err(broken)?;
        self.flush().await?;
        let mut at = start.from;
        let failed = |at, answer| stream_error(start.slot, at, command.clone(), answer);
        let mut rows = Vec::new();
        loop {
            match self.next_message().await? {
                Incoming::CopyBoth => {
                    self.copy(&mut at, sink, timing, shutdown, &failed).await?;
                }
                // Where there is nothing to stream, the answer comes without any copying.
                Incoming::Message(Message::DataRow(body)) => rows.push(row(&body)?),
                Incoming::Message(Message::RowDescription(_) | Message::CommandComplete(_)) => {}
                Incoming::Message(Message::ErrorResponse(body)) => {
                    let answer = ServerError::read(body.fields()).map_err(broken)?;
                    return Err(failed(at, answer));
                }
                Incoming::Message(Message::ReadyForQuery(_)) => return next_timeline(&rows),
                Incoming::Message(Message::CopyData(_)) => {}
                Incoming::Message(_) => {
                    return Err(UpstreamError::Protocol(format!(
                        "unexpected answer to {command}"
                    )));
                }
            }
        }
    }

    async fn copy(
        &mut self,
        at: &mut Lsn,
        sink: &mut dyn WalSink,
        timing: Timing,
        shutdown: &mut watch::Receiver<bool>,
        failed: &(dyn Fn(Lsn, ServerError) -> UpstreamError + Sync),
    ) -> Result<(), UpstreamError> {
        let mut ticks = interval(timing.status);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut status = Status::default();
        let mut heard = Instant::now();
        loop {
            let message = tokio::select! {
                biased;
                () = stopped(shutdown) => {
                    status.write(self, sink.progress(), false)?;
                    frontend::copy_done(self.output());
                    // The connection is closed next, whether or not this still arrives.
                    let _ = self.flush().await;
                    return Err(UpstreamError::Stopped);
                }
                _ = ticks.tick() => {
                    let silence = heard.elapsed();
                    if silence > timing.silence_max {
                        return Err(UpstreamError::Lost(format!(
                            "nothing was heard for {} s", silence.as_secs()
                        )));
                    }
                    status.write(self, sink.progress(), silence > timing.silence_max / 2)?;
                    self.flush().await?;
                    continue;
                }
                message = self.next_message() => message?,
            };
            heard = Instant::now();
            match message {
                Incoming::Message(Message::CopyData(body)) => {
                    if take(body.into_bytes(), at, sink)? {
                        status.write(self, sink.progress(), false)?;
                        self.flush().await?;
                    }
                }
                Incoming::Message(Message::CopyDone) => {
                    frontend::copy_done(self.output());
                    return self.flush().await;
                }
                Incoming::Message(Message::ErrorResponse(body)) => {
                    let answer = ServerError::read(body.fields()).map_err(broken)?;
                    return Err(failed(*at, answer));
                }
                Incoming::Message(Message::CommandComplete(_)) => {
                    return Err(UpstreamError::Lost(
                        "the server is shutting down".to_owned(),
                    ));
                }
                _ => {
                    return Err(UpstreamError::Protocol(
                        "unexpected message in a stream".into(),
                    ));
                }
            }
        }
    }
}

/// Takes one message of the stream; whether it wants an answer.
fn take(mut bytes: Bytes, at: &mut Lsn, sink: &mut dyn WalSink) -> Result<bool, UpstreamError> {
    let u64_at = |offset: usize| {
        let raw = bytes.get(offset..offset + 8)?;
        Some(u64::from_be_bytes(raw.try_into().ok()?))
    };
    let short = || UpstreamError::Protocol("a short message in a stream".to_owned());
    match bytes.first() {
        Some(b'w') => {
            let lsn = Lsn(u64_at(1).ok_or_else(short)?);
            let server_end = Lsn(u64_at(9).ok_or_else(short)?);
            if bytes.len() < WAL_HEADER_BYTES {
                return Err(short());
            }
            let wal = bytes.split_off(WAL_HEADER_BYTES);
            if lsn != *at {
                return Err(UpstreamError::Protocol(format!(
                    "WAL at {lsn} where {at} was due"
                )));
            }
            *at = lsn.add(wal.len() as u64);
            sink.wal(lsn, wal, server_end)?;
            Ok(false)
        }
        Some(b'k') => {
            let server_end = Lsn(u64_at(1).ok_or_else(short)?);
            let reply = bytes.get(17).ok_or_else(short)?;
            sink.keepalive(server_end);
            Ok(*reply != 0)
        }
        // Kinds that later versions may add say nothing to us.
        _ => Ok(false),
    }
}

/// Writes status messages.
#[derive(Default)]
struct Status {
    slot_at: Lsn,
}

impl Status {
    fn write(
        &mut self,
        connection: &mut Connection,
        progress: Progress,
        want_reply: bool,
    ) -> Result<(), UpstreamError> {
        let wanted = progress.not_needed_before;
        if wanted.is_valid() && wanted != self.slot_at {
            message(connection, progress, wanted, false)?;
            self.slot_at = wanted;
        }
        message(connection, progress, Lsn::INVALID, want_reply)
    }
}

/// `r`, written, flushed, applied, time, whether an answer is wanted.
fn message(
    connection: &mut Connection,
    progress: Progress,
    flushed: Lsn,
    want_reply: bool,
) -> Result<(), UpstreamError> {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let since_2000 = since_1970.saturating_sub(Duration::from_secs(POSTGRES_EPOCH_S));
    let mut body = Vec::with_capacity(34);
    body.push(b'r');
    for value in [
        progress.received.0,
        flushed.0,
        progress.applied.0,
        u64::try_from(since_2000.as_micros()).unwrap_or(0),
    ] {
        body.extend_from_slice(&value.to_be_bytes());
    }
    body.push(u8::from(want_reply));
    frontend::CopyData::new(&body[..])
        .map_err(broken)?
        .write(connection.output());
    Ok(())
}

fn next_timeline(rows: &[Row]) -> Result<NextTimeline, UpstreamError> {
    let column = |index: usize| -> Option<&str> {
        std::str::from_utf8(rows.first()?.get(index)?.as_deref()?).ok()
    };
    let read = || {
        Some(NextTimeline {
            timeline: TimelineId(column(0)?.parse().ok()?),
            at: column(1)?.parse().ok()?,
        })
    };
    read().ok_or_else(|| {
        UpstreamError::Lost("the server ended the stream without naming a next timeline".to_owned())
    })
}

/// Completes when we are to stop, or nobody is left who could tell us.
pub(super) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}
