//! One session: from opening it to its end or the first thing that goes wrong.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redostream_protocol::control::Start;
use redostream_protocol::event::TransactionHeader;
use redostream_protocol::schema::{Database, Relation, RelationVersion};
use redostream_protocol::wire::limits::{
    EVENT_REST_BYTES_MAX, JOINER_FRAMES_MAX, RELATION_BYTES_MAX,
};
use redostream_protocol::wire::parts::PartCollector;
use redostream_protocol::wire::{
    Ack, BlockSummary, Bye, CheckError, Credit, DataHead, End, Heartbeat, Hello, Joiner, Notice,
    OrderedCheck, RelationPart, WireError, check, header,
};
use redostream_protocol::{Lsn, Position};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::connection::{host_of, tls_config};
use crate::control::Control;
use crate::error::ClientError;
use crate::options::Options;
use crate::row::Shape;
use crate::stripe::{self, ARRIVALS_MAX, Arrival, Item, Join, Writer};

/// What a session gives, in order.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every delivery is a block"
)]
pub enum Delivery {
    /// Checked events.
    Block {
        /// What stood before them.
        head: DataHead,
        /// The events, whole ones.
        events: Bytes,
        /// What the checks counted.
        summary: BlockSummary,
    },
    /// How far everything is.
    Heartbeat(Heartbeat),
    /// Something to know.
    Notice(Notice),
    /// A relation that events will name.
    Relation(Arc<Relation>),
    /// A database that events will name, of which no relation has come.
    Database(Arc<Database>),
    /// Everything asked for was sent.
    End(End),
}

/// Where a session begins, and whose it is.
pub(crate) struct Beginning {
    /// Empty for the name's own place.
    pub(crate) from: String,
    /// The last event received.
    pub(crate) after: Option<Position>,
    /// Whether another session of the same subscription was before.
    pub(crate) goes_on: bool,
    /// What has been acknowledged; empty before the first session.
    pub(crate) acknowledged: String,
    /// The subscription's own bytes.
    pub(crate) instance: [u8; 16],
}

/// An open session.
pub(crate) struct Session {
    arrivals: mpsc::Receiver<Result<Arrival, ClientError>>,
    joiner: Joiner<Item>,
    writers: Vec<Writer>,
    relation_parts: PartCollector,
    event_parts: PartCollector,
    value_bytes_max: u64,
    check: OrderedCheck,
    shapes: Vec<Option<Arc<Shape>>>,
    window: u64,
    consumed: u64,
    granted: u64,
    pub(crate) start: Option<Start>,
    pub(crate) system_identifier: u64,
    pub(crate) server: String,
    pub(crate) wire_bytes: u64,
    /// Why a connection ended, and until when the others may go on.
    failure: Option<(ClientError, Instant)>,
    tasks: Vec<JoinSet<()>>,
}

/// One connection with its tasks, or why it was not made.
type Opened = Result<(Writer, JoinSet<()>), ClientError>;

/// Waits for all connections, which are made side by side: over a long way, one after the other
/// would take as many round trips as there are.
async fn gather(
    mut opening: JoinSet<(u16, Opened)>,
) -> Result<(Vec<Writer>, Vec<JoinSet<()>>), ClientError> {
    let mut opened = Vec::with_capacity(opening.len());
    while let Some(joined) = opening.join_next().await {
        // A task that panicked has no connection, and the server will miss it.
        if let Ok((stripe, started)) = joined {
            opened.push((stripe, started?));
        }
    }
    opened.sort_by_key(|(stripe, _)| *stripe);
    Ok(opened.into_iter().map(|(_, started)| started).unzip())
}

impl Session {
    /// Opens a session at `server`.
    pub(crate) async fn open(
        options: &Options,
        server: &str,
        beginning: &Beginning,
    ) -> Result<Self, ClientError> {
        let token = options.token.as_deref();
        let mut control = Control::connect(server, token, options.tls.as_ref()).await?;
        let reply = control.open_session(options, beginning).await?;
        let bad = |what: &'static str| ClientError::Wire(WireError::Invalid(what));
        let session = reply
            .session
            .as_slice()
            .try_into()
            .map_err(|_| bad("session id"))?;
        let token = reply
            .token
            .as_slice()
            .try_into()
            .map_err(|_| bad("session token"))?;
        let tls = match (&options.tls, reply.data_tls) {
            (Some(tls), true) => Some(tls_config(tls)?),
            (None, false) => None,
            (Some(_), false) => return Err(bad("unencrypted data connections")),
            (None, true) => {
                let problem = "its data connections are encrypted; give the authorities' file";
                return Err(ClientError::Usage(format!("{server}: {problem}")));
            }
        };
        if reply.data_addresses.is_empty() {
            return Err(bad("a session without data addresses"));
        }
        let (sender, arrivals) = mpsc::channel(ARRIVALS_MAX);
        let mut opening = JoinSet::new();
        for stripe in 0..reply.streams.max(1) as u16 {
            let address = &reply.data_addresses[usize::from(stripe) % reply.data_addresses.len()];
            let address = if address.starts_with(':') {
                format!("{}{address}", bracketed(host_of(server)))
            } else {
                address.clone()
            };
            let version = header::VERSION;
            let hello = Hello {
                version_min: version,
                version_max: version,
                stripe,
                session,
                token,
            };
            let join = Join {
                address,
                tls: tls.clone(),
                hello,
            };
            let sender = sender.clone();
            opening.spawn(async move { (stripe, stripe::start(join, sender).await) });
        }
        let (writers, tasks) = gather(opening).await?;
        let start = match (reply.start_position.parse(), reply.start_lsn.parse()) {
            (Ok(position), _) => Some(Start::After(position)),
            (_, Ok(lsn)) => Some(Start::At(lsn)),
            _ => None,
        };
        let mut session = Session {
            arrivals,
            joiner: Joiner::new(2 * options.window_bytes, JOINER_FRAMES_MAX),
            writers,
            relation_parts: PartCollector::new("relation", RELATION_BYTES_MAX as u64),
            event_parts: PartCollector::new(
                "event",
                options.value_bytes_max.saturating_add(EVENT_REST_BYTES_MAX),
            ),
            value_bytes_max: options.value_bytes_max,
            check: OrderedCheck::new(beginning.after),
            shapes: Vec::new(),
            window: options.window_bytes,
            consumed: 0,
            granted: 0,
            start,
            system_identifier: reply.system_identifier,
            server: server.to_owned(),
            wire_bytes: 0,
            failure: None,
            tasks,
        };
        session.grant().await;
        Ok(session)
    }

    /// The relation with this version, if it was sent.
    pub(crate) fn relation(&self, version: RelationVersion) -> Option<&Arc<Relation>> {
        self.shape(version).map(|shape| &shape.relation)
    }

    /// What is worked out for its rows.
    pub(crate) fn shape(&self, version: RelationVersion) -> Option<&Arc<Shape>> {
        self.shapes.get(version.0 as usize)?.as_ref()
    }

    /// Whether something can be had without waiting.
    pub(crate) fn has_more(&self) -> bool {
        self.joiner.held_bytes() > 0 || !self.arrivals.is_empty()
    }

    /// The next thing, in order.
    pub(crate) async fn next(&mut self) -> Result<Delivery, ClientError> {
        loop {
            if let Some((item, cost)) = self.joiner.pop() {
                self.consumed += cost;
                if self.granted.saturating_sub(self.consumed) < self.window / 2 {
                    self.grant().await;
                }
                if let Some(delivery) = self.take(item)? {
                    return Ok(delivery);
                }
                continue;
            }
            let closed = || ClientError::Lost {
                server: self.server.clone(),
                problem: "all connections are closed".to_owned(),
            };
            let arrival = match &self.failure {
                None => self.arrivals.recv().await,
                Some((_, deadline)) => {
                    let arrival = tokio::time::timeout_at(*deadline, self.arrivals.recv()).await;
                    arrival.unwrap_or_default()
                }
            };
            match arrival {
                Some(Ok(Arrival {
                    sequence,
                    cost,
                    wire_bytes,
                    item,
                })) => {
                    self.wire_bytes += wire_bytes;
                    self.joiner.push(sequence, item, cost)?;
                }
                Some(Err(error)) => self.fail(error),
                None => {
                    let failure = self.failure.take();
                    return Err(failure.map_or_else(closed, |(error, _)| error));
                }
            }
        }
    }

    /// Remembers why a connection ended. The others may still hold what comes before, or the
    /// session's end, or the reason that the server gave: they have a moment to bring it.
    fn fail(&mut self, error: ClientError) {
        let deadline = Instant::now() + LAST_WORDS;
        match &mut self.failure {
            None => self.failure = Some((error, deadline)),
            Some((held, _)) if matches!(held, ClientError::Lost { .. }) => *held = error,
            Some(_) => {}
        }
    }

    /// The transaction that is under way, if one is.
    pub(crate) fn open_transaction(&self) -> Option<&Arc<TransactionHeader>> {
        self.check.open()
    }

    fn take(&mut self, item: Item) -> Result<Option<Delivery>, ClientError> {
        Ok(Some(match item {
            Item::Data(data) => {
                let (data, summary) = *data;
                return self.take_data(data.head, data.events, summary);
            }
            Item::Relation(part) => return self.take_relation(&part),
            Item::Database(database) => Delivery::Database(Arc::new(database)),
            Item::Heartbeat(heartbeat) => Delivery::Heartbeat(heartbeat),
            Item::Notice(notice) => Delivery::Notice(notice),
            Item::End(end) => Delivery::End(end),
            Item::Fault(fault) => return Err(ClientError::Fault(fault)),
        }))
    }

    /// A row beyond the bound is no damage, and asking again does not make it smaller.
    fn too_large(&self, error: WireError) -> ClientError {
        match error {
            WireError::TooLarge { size, .. } => ClientError::ValueTooLarge {
                bytes: size,
                value_bytes_max: self.value_bytes_max,
            },
            error => error.into(),
        }
    }

    fn take_data(
        &mut self,
        head: DataHead,
        events: Bytes,
        summary: Option<BlockSummary>,
    ) -> Result<Option<Delivery>, ClientError> {
        let (events, summary) = match summary {
            Some(summary) if !self.event_parts.inside() => (events, summary),
            _ => {
                let pushed = self.event_parts.push(head.part, &events);
                let Some(whole) = pushed.map_err(|error| self.too_large(error))? else {
                    return Ok(None);
                };
                let continues = head.continues.as_ref();
                let summary = check::scan(&whole, head.first.timeline, continues)?;
                (whole, summary)
            }
        };
        if summary.events > 0 {
            if (head.first, head.last) != (summary.first, summary.last) {
                return Err(CheckError::Head {
                    first: head.first,
                    last: head.last,
                    problem: "its events stand at other positions",
                }
                .into());
            }
            let shapes = &self.shapes;
            self.check.push(&summary, |version| {
                let known = shapes.get(version.0 as usize)?.as_ref()?;
                Some(known.relation.columns.len())
            })?;
        }
        Ok(Some(Delivery::Block {
            head,
            events,
            summary,
        }))
    }

    fn take_relation(&mut self, part: &RelationPart) -> Result<Option<Delivery>, ClientError> {
        let Some(whole) = self.relation_parts.push(part.part, &part.bytes)? else {
            return Ok(None);
        };
        let relation = Arc::new(RelationPart::decode_whole(&whole)?);
        let slot = relation.version.0 as usize;
        if slot > RELATIONS_MAX {
            return Err(WireError::Invalid("a relation number beyond all bounds").into());
        }
        if self.shapes.len() <= slot {
            self.shapes.resize(slot + 1, None);
        }
        let shape = Shape::new(Arc::clone(&relation), self.value_bytes_max);
        self.shapes[slot] = Some(Arc::new(shape));
        Ok(Some(Delivery::Relation(relation)))
    }

    async fn grant(&mut self) {
        self.granted = self.consumed + self.window;
        let credit = Credit {
            granted: self.granted,
        };
        for writer in &self.writers {
            if writer.send(&credit).await {
                return;
            }
        }
    }

    /// Tells the server what is safe.
    pub(crate) async fn acknowledge(&self, position: Position, released: Lsn) {
        let ack = Ack { position, released };
        for writer in &self.writers {
            if writer.send(&ack).await {
                return;
            }
        }
    }

    /// Says goodbye; `ended` if the server has said that nothing more comes.
    pub(crate) async fn close(mut self, ended: bool) {
        // On the connection that acknowledgements took: it must not overtake the last of them.
        let mut writers = std::mem::take(&mut self.writers);
        for writer in &writers {
            if writer.send(&Bye).await {
                break;
            }
        }
        if ended {
            // Every connection's end is only waited for: half of each is closed at once.
            writers.clear();
        }
        // What still comes is taken off the connections until the server closes them: closing one
        // that holds unread bytes would reset it, and the server might never see the last
        // acknowledgement. Then writers end when their senders are gone.
        let done = async {
            while self.arrivals.recv().await.is_some() {}
            drop(writers);
            for tasks in &mut self.tasks {
                while tasks.join_next().await.is_some() {}
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(500), done).await;
    }
}

/// How long the other connections may go on after one has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Relation versions of one stream.
const RELATIONS_MAX: usize = 16 << 20;

fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}
