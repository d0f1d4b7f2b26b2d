//! Who is here: sessions by id, durable names and who holds them.

mod names;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex};
use redostream_protocol::control::{From as Place, Start, v1};
use redostream_protocol::wire::{EndReason, Fault, FaultCode};

use super::asked::Asked;
use super::filter::{Filter, Wish};
use super::limits::{LINGER, SUBSCRIPTIONS_MAX};
use super::outgoing::Outgoing;
use super::provider::{StartRequest, StreamProvider};
use super::pump::{Compress, Pump, Wanted};
use super::subscriptions::{StoreError, Subscription, SubscriptionStore};
use super::{Grant, SessionOptions};

/// One connected subscriber.
pub(super) struct Session {
    pub(super) id: [u8; 16],
    token: [u8; 32],
    pub(super) streams: u16,
    name: String,
    /// Name of the token that it was opened with.
    owner: String,
    instance: Vec<u8>,
    peer: Option<SocketAddr>,
    pub(super) out: Outgoing,
    /// Where it begins, once that is known.
    start: OnceLock<Start>,
    pub(super) sent_bytes: AtomicU64,
}

impl Session {
    fn peer_text(&self) -> String {
        self.peer.map(|peer| peer.to_string()).unwrap_or_default()
    }

    /// Compares tokens in a time that does not depend on where they differ.
    pub(super) fn has_token(&self, token: &[u8; 32]) -> bool {
        let differing = self
            .token
            .iter()
            .zip(token)
            .fold(0, |sum, (a, b)| sum | (a ^ b));
        differing == 0
    }
}

#[derive(Default)]
struct Inner {
    sessions: HashMap<[u8; 16], Arc<Session>>,
    names: HashMap<String, Subscription>,
    holders: HashMap<String, [u8; 16]>,
    dirty: HashSet<String>,
    stopping: bool,
    flushed: bool,
}

/// See the file's head.
pub(crate) struct Registry {
    pub(crate) provider: Arc<dyn StreamProvider>,
    store: Box<dyn SubscriptionStore>,
    pub(crate) options: SessionOptions,
    inner: Mutex<Inner>,
    changed: Condvar,
    /// Held while a name's file is written or removed, so that one cannot undo the other.
    writing: Mutex<()>,
}

impl Registry {
    pub(super) fn new(
        provider: Arc<dyn StreamProvider>,
        store: Box<dyn SubscriptionStore>,
        options: SessionOptions,
    ) -> Result<Arc<Self>, StoreError> {
        let names = store
            .load()?
            .into_iter()
            .map(|found| (found.name.clone(), found));
        let inner = Inner {
            names: names.collect(),
            ..Inner::default()
        };
        Ok(Arc::new(Self {
            provider,
            store,
            options,
            inner: Mutex::new(inner),
            changed: Condvar::new(),
            writing: Mutex::new(()),
        }))
    }

    pub(super) fn session(&self, id: &[u8; 16]) -> Option<Arc<Session>> {
        self.inner.lock().sessions.get(id).cloned()
    }

    /// Opens a session and starts its thread. May block.
    pub(crate) fn open(
        self: &Arc<Self>,
        request: &v1::OpenSessionRequest,
        grant: &Grant,
        peer: Option<SocketAddr>,
        data_addresses: Vec<String>,
    ) -> Result<v1::OpenSessionReply, Fault> {
        let asked = Asked::parse(request, grant, &*self.provider)?;
        let session = self.register(request, grant, peer)?;
        let opened = self.start(&session, request, asked, grant, peer);
        let start = match opened {
            Ok(start) => start,
            Err(fault) => {
                self.unregister(&session);
                return Err(fault);
            }
        };
        let (start_position, start_lsn) = match start {
            Start::After(position) => (position.to_string(), String::new()),
            Start::At(lsn) => (String::new(), lsn.to_string()),
        };
        tracing::info!(
            name = request.name, peer = session.peer_text(), start = %start,
            streams = session.streams, client = request.client_version, token = grant.token,
            "session opened"
        );
        Ok(v1::OpenSessionReply {
            session: session.id.to_vec(),
            token: session.token.to_vec(),
            data_addresses,
            start_position,
            start_lsn,
            system_identifier: self.provider.system_identifier(),
            timeline: self.provider.timeline().0,
            streams: u32::from(session.streams),
            peer_timeout_ms: self.options.peer_timeout_ms(),
            data_tls: self.options.data_tls.is_some(),
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    fn register(
        &self,
        request: &v1::OpenSessionRequest,
        grant: &Grant,
        peer: Option<SocketAddr>,
    ) -> Result<Arc<Session>, Fault> {
        let streams = request.streams.max(1) as u16;
        let session = Arc::new(Session {
            id: random()?,
            token: random()?,
            streams,
            name: request.name.clone(),
            owner: grant.token.clone(),
            instance: request.instance.clone(),
            peer,
            out: Outgoing::new(streams),
            start: OnceLock::new(),
            sent_bytes: AtomicU64::new(0),
        });
        let mut inner = self.inner.lock();
        if inner.stopping {
            return Err(Fault::new(FaultCode::Stopping, "the server stops"));
        }
        let name = &session.name;
        if !name.is_empty() {
            inner.check_owner(name, grant)?;
            let holder = inner
                .holders
                .get(name)
                .and_then(|id| inner.sessions.get(id));
            if let Some(holder) = holder {
                if holder.instance.is_empty() || holder.instance != session.instance {
                    let peer = holder
                        .peer
                        .map(|peer| format!(" at {peer}"))
                        .unwrap_or_default();
                    let message = format!("the name {name} is in use by a client{peer}");
                    return Err(Fault::new(FaultCode::NameInUse, message));
                }
                let message = format!("the client of {name} has connected again");
                holder.out.fail(Fault::new(FaultCode::NameInUse, message));
            } else if !inner.names.contains_key(name) && inner.names.len() >= SUBSCRIPTIONS_MAX {
                let message = format!("there are {SUBSCRIPTIONS_MAX} durable names; drop some");
                return Err(Fault::new(FaultCode::Overloaded, message));
            }
        }
        if inner.sessions.len() >= self.options.sessions_max {
            let message = format!(
                "{} sessions are open, no more are taken",
                inner.sessions.len()
            );
            return Err(Fault::new(FaultCode::Overloaded, message));
        }
        if !session.name.is_empty() {
            inner.holders.insert(session.name.clone(), session.id);
        }
        inner.sessions.insert(session.id, Arc::clone(&session));
        Ok(session)
    }

    fn start(
        self: &Arc<Self>,
        session: &Arc<Session>,
        request: &v1::OpenSessionRequest,
        asked: Asked,
        grant: &Grant,
        peer: Option<SocketAddr>,
    ) -> Result<Start, Fault> {
        let known = self.inner.lock().names.get(&session.name).cloned();
        let system_identifier = self.provider.system_identifier();
        let place = match (asked.place, &known) {
            (Some(place), _) => place,
            (None, Some(known)) if known.system_identifier != system_identifier => {
                let (name, theirs) = (&known.name, known.system_identifier);
                let message = format!("the name {name} belongs to cluster {theirs}");
                let fault = Fault::new(FaultCode::OtherCluster, message);
                return Err(fault.cluster(system_identifier));
            }
            (None, Some(known)) => known.resume().request(),
            (None, None) => Place::Latest,
        };
        let opened = self.provider.open(&StartRequest {
            place,
            system_identifier: Some(request.system_identifier).filter(|id| *id != 0),
        })?;
        let start = opened.start;
        let _ = session.start.set(start);
        // Who goes on from what it has received has not acknowledged it by that.
        let moves = asked.place.is_some() && !request.goes_on;
        let ours = |known: &Subscription| known.system_identifier == system_identifier;
        if !session.name.is_empty() && (moves || !known.as_ref().is_some_and(ours)) {
            // What was received and not acknowledged must come again, also from a server that the
            // client has gone over to and that has never heard of the name.
            let safe = asked.acknowledged.filter(|safe| safe.covers(&start));
            self.write(Subscription {
                name: session.name.clone(),
                system_identifier,
                owner: known.map_or_else(|| grant.token.clone(), |known| known.owner),
                start: safe.unwrap_or(start),
                position: Default::default(),
                released: Default::default(),
                acknowledged_at_us: 0,
            })?;
        }
        let loopback = peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback());
        let wanted = Wanted {
            start,
            until: asked.until,
            filter: Filter::new(
                Arc::clone(&self.provider),
                Wish {
                    asked: asked.rule,
                    granted: grant.rule.clone(),
                    kinds: asked.kinds,
                    columns: asked.columns,
                },
            ),
            compression: match v1::Compression::try_from(request.compression) {
                Ok(v1::Compression::None) => Compress::Never,
                Ok(v1::Compression::Lz4) => Compress::Always,
                _ if loopback => Compress::Never,
                _ => Compress::Behind,
            },
            on_undecodable: self.options.on_undecodable,
        };
        let pump = Pump::new(Arc::clone(&self.provider), opened.reader, wanted);
        let (registry, session) = (Arc::clone(self), Arc::clone(session));
        let thread = std::thread::Builder::new().name("session".to_owned());
        let started = thread.spawn(move || {
            // Also after a bug of ours in the stream: the session must not stay for ever.
            let _leaving = Leaving(&registry, &session);
            pump.run(&session.out);
            session.out.wait_drained(LINGER);
        });
        started.map(|_| start).map_err(|error| {
            Fault::new(
                FaultCode::Overloaded,
                format!("no thread for a session: {error}"),
            )
        })
    }

    fn unregister(&self, session: &Session) {
        let mut inner = self.inner.lock();
        inner.sessions.remove(&session.id);
        if inner.holders.get(&session.name) == Some(&session.id) {
            inner.holders.remove(&session.name);
        }
        drop(inner);
        self.changed.notify_all();
        tracing::info!(
            name = session.name,
            peer = session.peer_text(),
            "session closed"
        );
    }

    /// The connected subscribers that the holder of a token may know of.
    pub(crate) fn subscribers(&self, grant: &Grant) -> Vec<v1::Subscriber> {
        let released = self.provider.status().released;
        let inner = self.inner.lock();
        let mut list: Vec<_> = inner
            .sessions
            .values()
            .filter(|session| grant.covers(&session.owner))
            .map(|session| {
                let (sent, state) = session.out.progress();
                let known = inner.names.get(&session.name);
                let acknowledged = known.map(|known| known.position).unwrap_or_default();
                let at = sent.released.max(sent.position.commit_lsn);
                v1::Subscriber {
                    name: session.name.clone(),
                    peer: session.peer_text(),
                    position: given(sent.position, sent.position.timeline.0 != 0),
                    acknowledged: given(acknowledged, acknowledged.timeline.0 != 0),
                    // Before anything was sent nothing is known.
                    lag_bytes: if at.0 == 0 {
                        0
                    } else {
                        released.0.saturating_sub(at.0)
                    },
                    sent_bytes: session.sent_bytes.load(Ordering::Relaxed),
                    streams: u32::from(session.streams),
                    state: state.to_owned(),
                }
            })
            .collect();
        list.sort_by(|a, b| (&a.name, &a.peer).cmp(&(&b.name, &b.peer)));
        list
    }

    /// Takes sessions for so long (`open`), then no more, and waits up to `timeout` for those that
    /// are here to end by themselves; may block.
    pub(super) fn drain(&self, open: std::time::Duration, timeout: std::time::Duration) {
        let closing = std::time::Instant::now() + open;
        let mut inner = self.inner.lock();
        while !self.changed.wait_until(&mut inner, closing).timed_out() {}
        inner.stopping = true;
        while !inner.sessions.is_empty() {
            if self
                .changed
                .wait_until(&mut inner, closing + timeout)
                .timed_out()
            {
                return;
            }
        }
    }

    /// Takes no more sessions and asks those that are here to end.
    pub(super) fn begin_stop(&self) {
        let mut inner = self.inner.lock();
        inner.stopping = true;
        for session in inner.sessions.values() {
            session.out.end(EndReason::ServerStopping);
        }
    }

    /// Waits until all sessions are over and all acknowledgements are written; may block.
    pub(super) fn finish_stop(&self, timeout: std::time::Duration) {
        let until = std::time::Instant::now() + timeout;
        let mut inner = self.inner.lock();
        while !inner.flushed {
            if self.changed.wait_until(&mut inner, until).timed_out() {
                break;
            }
        }
        let late: Vec<_> = inner.sessions.values().cloned().collect();
        inner.flushed = true;
        let dirty: Vec<String> = inner.dirty.drain().collect();
        drop(inner);
        for name in dirty {
            self.flush(&name);
        }
        for session in late {
            session
                .out
                .fail(Fault::new(FaultCode::Stopping, "the server stops"));
        }
    }
}

/// Takes a session off the registry when its thread ends, however it ends.
struct Leaving<'a>(&'a Registry, &'a Session);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let fault = Fault::new(
                FaultCode::Internal,
                "the session failed; see the server's log",
            );
            self.1.out.fail(fault);
        }
        self.0.unregister(self.1);
    }
}

/// A text, or nothing where there is nothing to say.
fn given(what: impl std::fmt::Display, there: bool) -> String {
    if there {
        what.to_string()
    } else {
        String::new()
    }
}

/// Random bytes that cannot be guessed.
fn random<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    let source = rustls::crypto::ring::default_provider().secure_random;
    match source.fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(Fault::new(
            FaultCode::Internal,
            "the system gives no random bytes",
        )),
    }
}
