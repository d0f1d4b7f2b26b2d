//! The receiver: keeps WAL flowing into the redo buffer, through broken connections, restarts
//! and timeline switches of the upstream.
//!
//! Before it streams it compares histories: a client ahead of its upstream, or on another fork,
//! would otherwise be fed bytes that do not belong to what it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use redostream_engine::source::{RedoBuffer, TimelineHistory, Upstream};
use redostream_protocol::{Lsn, TimelineId};
use tokio::sync::watch;

use super::backoff::Backoff;
use super::commands::SystemIdentity;
use super::connection::{Connection, Purpose};
use super::conninfo::Conninfo;
use super::error::UpstreamError;
use super::streaming::{Progress, StreamStart, Timing, WalSink, stopped};

/// What a receiver needs to know.
pub(crate) struct ReceiverOptions {
    pub(crate) conninfo: Arc<Conninfo>,
    /// Made if missing. Without one the upstream keeps WAL as it likes.
    pub(crate) slot: Option<String>,
    /// The cluster that is expected.
    pub(crate) system_identifier: u64,
    /// Where to begin.
    pub(crate) start: Lsn,
    /// Between status messages.
    pub(crate) status_interval: Duration,
    /// Without a word for so long the connection counts as broken.
    pub(crate) silence_max: Duration,
    /// Between attempts to connect, at first and at most.
    pub(crate) backoff: (Duration, Duration),
}

impl ReceiverOptions {
    /// The usual times.
    pub(crate) fn new(conninfo: Arc<Conninfo>, system_identifier: u64, start: Lsn) -> Self {
        Self {
            conninfo,
            slot: None,
            system_identifier,
            start,
            status_interval: Duration::from_secs(1),
            silence_max: Duration::from_secs(60),
            backoff: (Duration::from_millis(200), Duration::from_secs(10)),
        }
    }
}

/// What has been received; written by the receiver, read by everybody. The two LSNs to tell the
/// upstream come from the others.
#[derive(Debug, Default)]
pub(crate) struct ReceivedState {
    received: AtomicU64,
    server_end: AtomicU64,
    timeline: AtomicU32,
    last_message_us: AtomicI64,
    reconnects: AtomicU64,
    connected: AtomicBool,
    applied: AtomicU64,
    not_needed_before: AtomicU64,
}

impl ReceivedState {
    /// WAL before this has been received.
    pub(crate) fn received(&self) -> Lsn {
        Lsn(self.received.load(Ordering::Acquire))
    }

    /// Where the upstream's log ended when it last said so.
    pub(crate) fn server_end(&self) -> Lsn {
        Lsn(self.server_end.load(Ordering::Acquire))
    }

    /// The timeline that is streamed.
    pub(crate) fn timeline(&self) -> TimelineId {
        TimelineId(self.timeline.load(Ordering::Acquire))
    }

    /// When the upstream was last heard, in microseconds since 1970; 0 is never.
    pub(crate) fn last_message_us(&self) -> i64 {
        self.last_message_us.load(Ordering::Acquire)
    }

    /// How often a connection broke and was to be made again.
    pub(crate) fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Acquire)
    }

    /// Whether WAL is being streamed now.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// Everything before `lsn` is released to subscribers: shown by the upstream as replayed.
    pub(crate) fn set_applied(&self, lsn: Lsn) {
        self.applied.store(lsn.0, Ordering::Release);
    }

    /// WAL before `lsn` will never be asked for again: the slot moves there. It never moves back:
    /// the server would take a slot at WAL that it has removed for lost.
    // pg: replication/walsender.c PhysicalConfirmReceivedLocation takes any LSN [14-18]
    pub(crate) fn set_not_needed_before(&self, lsn: Lsn) {
        self.not_needed_before.fetch_max(lsn.0, Ordering::AcqRel);
    }

    fn heard(&self, server_end: Lsn) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        self.last_message_us.store(now, Ordering::Release);
        self.server_end.store(server_end.0, Ordering::Release);
    }
}

/// Receives for as long as it runs.
pub(crate) struct Receiver {
    options: ReceiverOptions,
    buffer: Arc<RedoBuffer>,
    upstream: Arc<Upstream>,
    state: Arc<ReceivedState>,
}

impl Receiver {
    /// A receiver that fills `buffer` and tells `upstream` what it learns.
    pub(crate) fn new(
        options: ReceiverOptions,
        buffer: Arc<RedoBuffer>,
        upstream: Arc<Upstream>,
    ) -> Self {
        let state = ReceivedState::default();
        state.received.store(options.start.0, Ordering::Release);
        Self {
            options,
            buffer,
            upstream,
            state: Arc::new(state),
        }
    }

    /// What has been received.
    pub(crate) fn state(&self) -> Arc<ReceivedState> {
        Arc::clone(&self.state)
    }

    /// Receives until told to stop, or until something happens that waiting does not mend.
    pub(crate) async fn run(
        self,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<(), UpstreamError> {
        let (least, most) = self.options.backoff;
        let mut backoff = Backoff::new(least, most);
        let mut was_in = false;
        loop {
            let before = self.state.received();
            let ended = self.session(&mut shutdown).await;
            was_in |= self.state.connected.swap(false, Ordering::AcqRel);
            let error = match ended {
                Err(UpstreamError::Stopped) => return Ok(()),
                Err(error) if error.may_pass() => error,
                Err(error) if was_in && error.concerns_access() => error,
                Err(error) => return Err(error),
                Ok(never) => match never {},
            };
            if self.state.received() > before {
                backoff.reset();
            }
            let pause = backoff.take();
            tracing::warn!(%error, again_in_ms = pause.as_millis(), "the upstream is away");
            self.state.reconnects.fetch_add(1, Ordering::AcqRel);
            tokio::select! {
                () = stopped(&mut shutdown) => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One connection, timeline after timeline, until it breaks.
    async fn session(
        &self,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<std::convert::Infallible, UpstreamError> {
        let mut connection = or_stopped(self.open(), shutdown).await?;
        let timing = Timing {
            status: self.options.status_interval,
            silence_max: self.options.silence_max,
        };
        let mut sink = Sink {
            buffer: &self.buffer,
            upstream: &self.upstream,
            state: &self.state,
        };
        loop {
            let (from, timeline) = or_stopped(self.agree(&mut connection), shutdown).await?;
            self.state.timeline.store(timeline.0, Ordering::Release);
            self.state.connected.store(true, Ordering::Release);
            tracing::info!(host = connection.host(), %from, %timeline, "streaming WAL");
            let start = StreamStart {
                slot: self.options.slot.as_deref(),
                from,
                timeline,
            };
            let streamed = connection.stream(start, &mut sink, timing, shutdown).await;
            match streamed {
                Ok(next) => tracing::info!(
                    %timeline,
                    next = %next.timeline,
                    at = %next.at,
                    "the upstream went over to another timeline"
                ),
                Err(error @ UpstreamError::Stopped) => {
                    connection.close().await;
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn open(&self) -> Result<Connection, UpstreamError> {
        let info = &self.options.conninfo;
        let mut connection = Connection::open(info, Purpose::Replication).await?;
        connection.major_version()?;
        let identity = connection.identify_system().await?;
        if identity.system_identifier != self.options.system_identifier {
            return Err(UpstreamError::OtherCluster {
                expected: self.options.system_identifier,
                found: identity.system_identifier,
            });
        }
        connection.check_wal_level().await?;
        if let Some(slot) = &self.options.slot {
            connection.ensure_slot(slot, info).await?;
        }
        Ok(connection)
    }

    /// Compares histories; gives where to begin, and on which timeline.
    async fn agree(&self, connection: &mut Connection) -> Result<(Lsn, TimelineId), UpstreamError> {
        let identity = connection.identify_system().await?;
        let ours = self.upstream.history();
        let theirs = match identity.timeline {
            TimelineId(1) => TimelineHistory::single(TimelineId(1)),
            timeline => match connection.timeline_history(timeline).await? {
                Some(history) => history,
                None if timeline == ours.timeline() => (*ours).clone(),
                None => TimelineHistory::single(timeline),
            },
        };
        let received = self.state.received();
        let from = match agreement(&ours, received, &theirs, identity)? {
            Agreement::Same => received,
            Agreement::Learned => {
                self.upstream.learn(theirs);
                received
            }
            Agreement::Forked(at) => {
                if at < received {
                    tracing::warn!(
                        %received,
                        %at,
                        timeline = %identity.timeline,
                        "WAL was received beyond the place where the history went on; it is taken back"
                    );
                }
                self.upstream.follow(at, theirs);
                self.buffer.truncate_after(at);
                self.state.received.fetch_min(at.0, Ordering::AcqRel);
                received.min(at)
            }
        };
        self.state.heard(identity.flushed);
        self.upstream.report(identity.flushed);
        Ok((from, self.upstream.history().timeline_at(from)))
    }
}

/// How the upstream's history goes with ours.
#[derive(Debug, PartialEq, Eq)]
enum Agreement {
    Same,
    /// It is ours, and says more of our ancestors.
    Learned,
    /// It left ours at this LSN.
    Forked(Lsn),
}

fn agreement(
    ours: &TimelineHistory,
    received: Lsn,
    theirs: &TimelineHistory,
    identity: SystemIdentity,
) -> Result<Agreement, UpstreamError> {
    let behind = || UpstreamError::Behind {
        ours: received,
        our_timeline: ours.timeline(),
        theirs: identity.flushed,
        their_timeline: identity.timeline,
    };
    // A single timeline may be one of which the ancestors are not known.
    let left_at = theirs.end_of(ours.timeline());
    let common = match left_at {
        Some(left_at) if ours.ranges().len() == 1 => left_at,
        _ => ours.common_until(theirs),
    };
    if common == Lsn::MAX {
        return match (received <= identity.flushed, ours == theirs) {
            (false, _) => Err(behind()),
            (true, true) => Ok(Agreement::Same),
            (true, false) => Ok(Agreement::Learned),
        };
    }
    if ours.end_of(theirs.timeline()) == Some(common) {
        return Err(behind());
    }
    if left_at == Some(common) {
        return Ok(Agreement::Forked(common));
    }
    Err(UpstreamError::NotInHistory {
        timeline: ours.timeline_at(received),
        lsn: received,
        theirs: theirs.timeline(),
    })
}

async fn or_stopped<T>(
    work: impl Future<Output = Result<T, UpstreamError>>,
    shutdown: &mut watch::Receiver<bool>,
) -> Result<T, UpstreamError> {
    tokio::select! {
        () = stopped(shutdown) => Err(UpstreamError::Stopped),
        result = work => result,
    }
}

struct Sink<'a> {
    buffer: &'a RedoBuffer,
    upstream: &'a Upstream,
    state: &'a ReceivedState,
}

impl WalSink for Sink<'_> {
    fn wal(&mut self, lsn: Lsn, bytes: Bytes, server_end: Lsn) -> Result<(), UpstreamError> {
        let end = lsn.add(bytes.len() as u64);
        self.buffer.push(lsn, bytes)?;
        self.state.received.store(end.0, Ordering::Release);
        self.state.heard(server_end);
        self.upstream.report(end);
        Ok(())
    }

    fn keepalive(&mut self, server_end: Lsn) {
        self.state.heard(server_end);
    }

    fn progress(&self) -> Progress {
        Progress {
            received: self.state.received(),
            applied: Lsn(self.state.applied.load(Ordering::Acquire)),
            not_needed_before: Lsn(self.state.not_needed_before.load(Ordering::Acquire)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(timeline: u32, switches: &[(u32, u64)]) -> TimelineHistory {
        let switches: Vec<(TimelineId, Lsn)> = switches
            .iter()
            .map(|(parent, at)| (TimelineId(*parent), Lsn(*at)))
            .collect();
        TimelineHistory::from_switches(TimelineId(timeline), &switches)
    }

    fn at(timeline: u32, flushed: u64) -> SystemIdentity {
        SystemIdentity {
            system_identifier: 1,
            timeline: TimelineId(timeline),
            flushed: Lsn(flushed),
        }
    }

    #[test]
    fn histories_are_compared_before_streaming() {
        let one = history(1, &[]);
        let two = history(2, &[(1, 500)]);
        let other_two = history(2, &[(1, 400)]);
        let three = history(3, &[(1, 500), (2, 700)]);
        let agree = |ours: &TimelineHistory, received, theirs: &TimelineHistory, flushed| {
            let identity = at(theirs.timeline().0, flushed);
            agreement(ours, Lsn(received), theirs, identity)
        };
        assert_eq!(agree(&one, 300, &one, 300).unwrap(), Agreement::Same);
        assert!(agree(&one, 301, &one, 300).unwrap_err().may_pass());
        assert_eq!(
            agree(&one, 300, &two, 600).unwrap(),
            Agreement::Forked(Lsn(500))
        );
        assert_eq!(
            agree(&one, 550, &two, 600).unwrap(),
            Agreement::Forked(Lsn(500))
        );
        assert_eq!(
            agree(&two, 650, &three, 900).unwrap(),
            Agreement::Forked(Lsn(700))
        );
        // Ancestors unknown.
        let bare = history(2, &[]);
        assert_eq!(agree(&bare, 600, &two, 600).unwrap(), Agreement::Learned);
        assert_eq!(
            agree(&bare, 600, &three, 900).unwrap(),
            Agreement::Forked(Lsn(700))
        );
        // The old primary, which went on by itself.
        assert!(agree(&two, 600, &one, 800).unwrap_err().may_pass());
        // Two servers that were promoted apart.
        let error = agree(&two, 600, &other_two, 900).unwrap_err();
        assert!(matches!(error, UpstreamError::NotInHistory { .. }) && !error.may_pass());
        // Even where nothing was received beyond the fork: our data directory is not theirs.
        assert!(agree(&two, 400, &other_two, 900).is_err());
        assert!(agree(&two, 400, &one, 800).unwrap_err().may_pass());
    }
}
