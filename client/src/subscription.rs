//! A subscription: sessions one after another, as if they were one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redostream_protocol::control::Start;
use redostream_protocol::cursor::Cursor;
use redostream_protocol::event::{Event, EventKind, TransactionHeader};
use redostream_protocol::schema::{Relation, RelationVersion};
use redostream_protocol::wire::{End, EndReason, Fault, FaultCode, Notice, WireError};
use redostream_protocol::{Lsn, Position, TimelineId};

use crate::change::{Change, position_of};
use crate::error::ClientError;
use crate::options::Options;
use crate::session::{Beginning, Delivery, Session};

/// The first wait between two attempts.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Is told of every failed attempt and the wait that follows.
pub type OnTrouble = Box<dyn FnMut(&ClientError, Duration) + Send>;

/// Is told of every notice that comes while events or transactions are asked for.
pub type OnNotice = Box<dyn FnMut(&Notice) + Send>;

/// What has been counted since the subscription was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Commits.
    pub transactions: u64,
    /// Events, begins and commits included.
    pub events: u64,
    /// Inserts, updates, deletes.
    pub rows: u64,
    /// Bytes of events.
    pub raw_bytes: u64,
    /// Bytes of frames.
    pub wire_bytes: u64,
    /// Sessions after the first.
    pub reconnects: u64,
}

/// A running subscription.
pub struct Subscription {
    pub(crate) options: Options,
    session: Option<Session>,
    instance: [u8; 16],
    /// Where to begin when nothing has been received yet.
    from: String,
    last: Option<Position>,
    /// Everything before this is safe, as far as anybody has said so.
    safe: Option<Start>,
    released: Lsn,
    received: Lsn,
    ended: Option<End>,
    totals: Totals,
    /// Split off blocks and not asked for yet.
    pub(crate) queue: VecDeque<Change>,
    open: Option<Arc<TransactionHeader>>,
    attempts: u32,
    sessions: u64,
    server: usize,
    on_trouble: Option<OnTrouble>,
    on_notice: Option<OnNotice>,
}

impl Subscription {
    /// Opens a subscription. With `reconnect` set this waits until a server can be reached, or
    /// one refuses.
    pub async fn open(options: Options) -> Result<Self, ClientError> {
        Self::open_with(options, None).await
    }

    /// As [`Subscription::open`]; `on_trouble` is told of every failed attempt and the wait that
    /// follows.
    pub async fn open_with(
        options: Options,
        on_trouble: Option<OnTrouble>,
    ) -> Result<Self, ClientError> {
        if options.servers.is_empty() {
            return Err(ClientError::Usage("no server is given".to_owned()));
        }
        if !(1..=32).contains(&options.streams) {
            return Err(ClientError::Usage("streams must be 1 to 32".to_owned()));
        }
        let from = options
            .from
            .map(|from| from.to_string())
            .unwrap_or_default();
        let mut subscription = Subscription {
            options,
            session: None,
            instance: instance(),
            from,
            last: None,
            safe: None,
            released: Lsn::INVALID,
            received: Lsn::INVALID,
            ended: None,
            totals: Totals::default(),
            queue: VecDeque::new(),
            open: None,
            attempts: 0,
            sessions: 0,
            server: 0,
            on_trouble,
            on_notice: None,
        };
        subscription.connect().await?;
        Ok(subscription)
    }

    /// Has `tell` told of notices, such as that a table's rows are left out, at their places among
    /// the events. Without it they are passed over; [`Subscription::next_delivery`] gives them too.
    pub fn on_notice(&mut self, tell: OnNotice) {
        self.on_notice = Some(tell);
    }

    /// The last event received; none before the first.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        self.last
    }

    /// Everything before this LSN has been received or was filtered out.
    #[must_use]
    pub const fn released(&self) -> Lsn {
        self.released
    }

    /// End of the WAL that the server has, as it last said.
    #[must_use]
    pub const fn received(&self) -> Lsn {
        self.received
    }

    /// How the stream ended, once it has.
    #[must_use]
    pub const fn ended(&self) -> Option<&End> {
        self.ended.as_ref()
    }

    /// What has been counted.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let under_way = self
            .session
            .as_ref()
            .map_or(0, |session| session.wire_bytes);
        Totals {
            wire_bytes: self.totals.wire_bytes + under_way,
            ..self.totals
        }
    }

    /// The cluster that is subscribed to.
    #[must_use]
    pub const fn system_identifier(&self) -> Option<u64> {
        self.options.system_identifier
    }

    /// Where the stream began, as the server resolved it.
    #[must_use]
    pub fn start(&self) -> Option<Start> {
        self.session.as_ref().and_then(|session| session.start)
    }

    /// The relation with this version, if it was sent.
    #[must_use]
    pub fn relation(&self, version: RelationVersion) -> Option<Arc<Relation>> {
        self.session.as_ref()?.relation(version).cloned()
    }

    /// Whether something can be had without waiting.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.queue.is_empty() || self.session.as_ref().is_some_and(Session::has_more)
    }

    /// The next checked block, or other news; none once everything asked for has arrived. A call
    /// that is given up half-way may lose what it was about to give.
    pub async fn next_delivery(&mut self) -> Result<Option<Delivery>, ClientError> {
        loop {
            if self.ended.is_some() {
                return Ok(None);
            }
            if self.session.is_none() {
                self.connect().await?;
            }
            let Some(session) = &mut self.session else {
                continue;
            };
            match session.next().await {
                Ok(Delivery::End(End {
                    reason: EndReason::ServerStopping,
                    ..
                })) => {
                    let fault = Fault::new(FaultCode::Stopping, "the server stops");
                    self.recover(ClientError::Fault(fault)).await?;
                }
                Ok(delivery) => {
                    self.note(&delivery);
                    return Ok(Some(delivery));
                }
                Err(error) => self.recover(error).await?,
            }
        }
    }

    /// Notes that everything before `released` is here, the open transaction's rest aside.
    fn release(&mut self, released: Lsn) {
        let open = self.session.as_ref().and_then(Session::open_transaction);
        let bound = open.map_or(Lsn::MAX, |open| open.commit_lsn);
        self.released = self.released.max(released.min(bound));
    }

    fn note(&mut self, delivery: &Delivery) {
        self.attempts = 0;
        match delivery {
            Delivery::Block {
                head,
                events,
                summary,
            } => {
                self.totals.transactions += summary.transactions;
                self.totals.events += summary.events;
                self.totals.rows += summary.rows;
                self.totals.raw_bytes += events.len() as u64;
                if summary.events > 0 {
                    self.last = Some(summary.last);
                }
                // What is released may still be under way; only a heartbeat says that it is here.
                self.received = self.received.max(head.wal_end);
            }
            Delivery::Heartbeat(heartbeat) => {
                self.release(heartbeat.released);
                self.received = self.received.max(heartbeat.received);
            }
            Delivery::End(end) => {
                self.release(end.released);
                self.ended = Some(*end);
            }
            Delivery::Notice(_) | Delivery::Relation(_) | Delivery::Database(_) => {}
        }
    }

    /// The next event; none once everything asked for has arrived.
    pub async fn next_event(&mut self) -> Result<Option<Change>, ClientError> {
        loop {
            if let Some(change) = self.queue.pop_front() {
                return Ok(Some(change));
            }
            match self.next_delivery().await? {
                None => return Ok(None),
                Some(Delivery::Block { head, events, .. }) => {
                    if let Some(header) = &head.continues {
                        self.open = Some(Arc::clone(header));
                    }
                    self.split(head.first.timeline, &events)?;
                }
                Some(Delivery::Notice(notice)) => {
                    if let Some(tell) = &mut self.on_notice {
                        tell(&notice);
                    }
                }
                Some(_) => {}
            }
        }
    }

    /// Splits a block into events.
    fn split(&mut self, timeline: TimelineId, events: &Bytes) -> Result<(), ClientError> {
        let mut cursor = Cursor::new(events);
        while cursor.remaining() > 0 {
            let start = cursor.offset();
            let event = Event::read(&mut cursor)?;
            if event.header.kind == EventKind::Begin {
                let header = header_of(event.payload)?;
                self.open = Some(Arc::new(header));
            }
            let position = position_of(&event, timeline, self.open.as_deref());
            let session = self.session.as_ref();
            let shape = session
                .and_then(|session| session.shape(event.header.relation))
                .cloned();
            let change = Change {
                position,
                transaction: self.open.clone(),
                relation: shape.as_ref().map(|shape| Arc::clone(&shape.relation)),
                shape,
                bytes: events.slice(start..cursor.offset()),
            };
            if event.header.kind == EventKind::Commit {
                self.open = None;
            }
            self.queue.push_back(change);
        }
        Ok(())
    }

    /// Tells the server that everything up to `position` is safe; a named subscription begins
    /// after it next time.
    pub async fn acknowledge(&mut self, position: Position) -> Result<(), ClientError> {
        let caught_up = self.last.is_none_or(|last| position >= last);
        let released = if caught_up {
            self.released
        } else {
            Lsn::INVALID
        };
        self.tell_safe(position, released).await;
        Ok(())
    }

    /// Remembers what is safe, for the server that may follow this one, and tells this one.
    async fn tell_safe(&mut self, position: Position, released: Lsn) {
        if let Some(said) = Start::resume(position, released)
            && self.safe.is_none_or(|safe| safe.covers(&said))
        {
            self.safe = Some(said);
        }
        if let Some(session) = &self.session {
            session.acknowledge(position, released).await;
        }
    }

    /// Tells the server that everything received so far is safe.
    pub async fn acknowledge_received(&mut self) {
        let position = self.last.unwrap_or_default();
        self.tell_safe(position, self.released).await;
    }

    /// Sessions opened so far. Each numbers its relations anew, and its first block may begin
    /// inside a transaction.
    #[must_use]
    pub const fn sessions(&self) -> u64 {
        self.sessions
    }

    /// Ends the subscription; the server keeps a name's acknowledged position.
    pub async fn close(mut self) {
        if let Some(session) = self.session.take() {
            session.close(self.ended.is_some()).await;
        }
    }

    /// Where a new session has to begin.
    fn resume(&self) -> String {
        let position = self.last.unwrap_or_default();
        match Start::resume(position, self.released) {
            Some(start) if self.last.is_some() || self.released.is_valid() => start.to_string(),
            _ => self.from.clone(),
        }
    }

    async fn recover(&mut self, error: ClientError) -> Result<(), ClientError> {
        if let Some(session) = self.session.take() {
            self.totals.wire_bytes += session.wire_bytes;
        }
        if !self.options.reconnect || !error.is_temporary() {
            return Err(error);
        }
        self.totals.reconnects += 1;
        self.wait(&error, true).await;
        Ok(())
    }

    async fn wait(&mut self, error: &ClientError, pausing: bool) {
        let factor = 1_u32 << self.attempts.min(10);
        self.attempts += 1;
        let pause = (BACKOFF_MIN * factor).min(self.options.backoff_max);
        let pause = if pausing { pause } else { Duration::ZERO };
        if let Some(tell) = &mut self.on_trouble {
            tell(error, pause);
        }
        tokio::time::sleep(pause).await;
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        loop {
            let beginning = Beginning {
                from: self.resume(),
                after: self.last,
                goes_on: self.sessions > 0,
                acknowledged: self.safe.map(|safe| safe.to_string()).unwrap_or_default(),
                instance: self.instance,
            };
            let server = self.options.servers[self.server].clone();
            match Session::open(&self.options, &server, &beginning).await {
                Ok(session) => {
                    // "latest" means the same place after a break.
                    if self.last.is_none()
                        && !self.released.is_valid()
                        && let Some(start) = session.start
                    {
                        self.from = start.to_string();
                    }
                    // Nothing that comes from there on is safe yet.
                    self.safe = self.safe.or(session.start);
                    self.options.system_identifier = Some(session.system_identifier);
                    self.session = Some(session);
                    self.sessions += 1;
                    return Ok(());
                }
                Err(error) => {
                    self.server = (self.server + 1) % self.options.servers.len();
                    let not_ready = matches!(&error, ClientError::Fault(fault) if fault.code == FaultCode::NotReady);
                    if !not_ready && (!self.options.reconnect || !error.is_temporary()) {
                        return Err(error);
                    }
                    // Another server is tried at once; only a full round waits.
                    let round = self.server == 0;
                    self.wait(&error, round).await;
                }
            }
        }
    }
}

fn header_of(payload: &[u8]) -> Result<TransactionHeader, ClientError> {
    let bad = || WireError::Structure("a transaction header").into();
    TransactionHeader::read(payload).ok_or_else(bad)
}

/// Bytes that no other subscription is likely to have.
fn instance() -> [u8; 16] {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut out = [0; 16];
    for half in out.chunks_mut(8) {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u128(Instant::now().elapsed().as_nanos());
        hasher.write_u32(std::process::id());
        half.copy_from_slice(&hasher.finish().to_le_bytes());
    }
    out
}
