//! Sessions: one per subscriber, over one or several data connections.
//!
//! Takes: blocks from a [`StreamProvider`], requests from the control plane. Gives: numbered frames
//! on data connections, as `redostream_protocol::wire` draws them. Keeps: who is connected, and the
//! durable names with what they have acknowledged. Never: an unbounded queue, and never does a slow
//! subscriber hold up another.
//!
//! ```text
//!  BlockReader -> pump (a thread per session): selection, relations, numbering
//!                   | outgoing: a bounded queue, opened by the client's credit
//!                   v
//!              connections (tasks): whichever is free takes the next frame
//! ```
//!
//! A session whose connection breaks is over: the client resumes after its last event, in a new
//! session. An error frame with a number comes after everything before it; one without concerns the
//! connection, or a session that cannot go on, and is said at once.

mod acknowledge;
mod asked;
mod columns;
mod connection;
mod door;
mod filter;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod limits;
mod outgoing;
mod provider;
mod pump;
mod registry;
mod selection;
mod subscriptions;
mod undecodable;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use redostream_protocol::wire::Fault;
use redostream_protocol::wire::limits::PEER_TIMEOUT_MS;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::access::Shared;

pub use filter::{Rule, TablePattern};
pub use provider::{
    BlockEntry, BlockReader, BoxFuture, Opened, StartRequest, StatusSnapshot, StreamProvider,
};
pub use subscriptions::{FileStore, StoreError, Subscription, SubscriptionStore};
pub use undecodable::OnUndecodable;

pub(crate) use asked::check_cluster;
pub(crate) use door::{Accepted, Door, Guard};
pub(crate) use registry::Registry;

/// What somebody who has shown a token may do.
#[derive(Clone, Debug, Default)]
pub struct Grant {
    /// The token's name; empty where none is wanted.
    pub token: String,
    /// What they may see, whatever they ask for.
    pub rule: Rule,
}

impl Grant {
    /// Whether what was made with the token `owner` is its holder's to see and to use: its own, and
    /// everybody's where the token is without bounds.
    fn covers(&self, owner: &str) -> bool {
        self.token == owner || self.rule.is_all()
    }
}

/// Decides by the bearer token of a control request and where it comes from; without one, nobody
/// is refused.
pub type Authorise =
    Arc<dyn Fn(Option<&str>, Option<IpAddr>) -> Result<Grant, Fault> + Send + Sync>;

/// How sessions are served.
#[derive(Clone)]
pub struct SessionOptions {
    /// Sessions at a time.
    pub sessions_max: usize,
    /// How long a peer may be silent.
    pub peer_timeout: Duration,
    /// Data addresses as clients are told them; empty for the port that is listened on.
    pub advertise_data: Vec<String>,
    /// Checks tokens; none to let everybody in.
    pub authorise: Option<Authorise>,
    /// TLS of data connections.
    pub data_tls: Option<Shared<rustls::ServerConfig>>,
    /// TLS of the control plane.
    pub control_tls: Option<Shared<rustls::ServerConfig>>,
    /// What becomes of a subscriber whose table cannot be decoded.
    pub on_undecodable: OnUndecodable,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            sessions_max: limits::SESSIONS_MAX,
            peer_timeout: Duration::from_millis(u64::from(PEER_TIMEOUT_MS)),
            advertise_data: Vec::new(),
            authorise: None,
            data_tls: None,
            control_tls: None,
            on_undecodable: OnUndecodable::default(),
        }
    }
}

impl SessionOptions {
    fn peer_timeout_ms(&self) -> u32 {
        u32::try_from(self.peer_timeout.as_millis()).unwrap_or(u32::MAX)
    }
}

/// The sockets that are listened on.
pub struct Listeners {
    /// The control plane's.
    pub control: TcpListener,
    /// The data connections'.
    pub data: TcpListener,
}

/// Why sessions cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A socket or thread is refused.
    #[error("serving sessions: {0}")]
    Io(#[from] io::Error),
    /// The durable names cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The control plane cannot be set up.
    #[error("control plane: {0}")]
    Control(String),
}

/// Serves sessions until it is stopped.
pub struct SessionServer {
    registry: Arc<Registry>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    control_address: SocketAddr,
    data_address: SocketAddr,
}

impl SessionServer {
    /// Starts serving; must be called inside a tokio runtime.
    pub fn start(
        provider: Arc<dyn StreamProvider>,
        store: Box<dyn SubscriptionStore>,
        listeners: Listeners,
        options: SessionOptions,
    ) -> Result<Self, SessionError> {
        let control_address = listeners.control.local_addr()?;
        let data_address = listeners.data.local_addr()?;
        let mut data_addresses = options.advertise_data.clone();
        if data_addresses.is_empty() {
            data_addresses.push(format!(":{}", data_address.port()));
        }
        let registry = Registry::new(provider, store, options)?;
        let (stop, stopped) = watch::channel(false);
        let flusher = Arc::clone(&registry);
        let thread = std::thread::Builder::new().name("subscriptions".to_owned());
        thread.spawn(move || flusher.flush_until_stopped())?;
        let control = crate::control::serve(
            listeners.control,
            Arc::clone(&registry),
            data_addresses,
            stopped.clone(),
        )?;
        let data = accept(listeners.data, Arc::clone(&registry), stopped);
        Ok(Self {
            registry,
            stop,
            tasks: vec![tokio::spawn(control), tokio::spawn(data)],
            control_address,
            data_address,
        })
    }

    /// Where the control plane listens.
    #[must_use]
    pub fn control_address(&self) -> SocketAddr {
        self.control_address
    }

    /// Where data connections are taken.
    #[must_use]
    pub fn data_address(&self) -> SocketAddr {
        self.data_address
    }

    /// The connected subscribers, as the control plane gives them.
    #[must_use]
    pub fn subscribers(&self) -> Vec<redostream_protocol::control::v1::Subscriber> {
        self.registry.subscribers(&Grant::default())
    }

    /// Who is here.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    /// Takes sessions for so long (`open`), then no more, and lets those that are here come to
    /// their own end, for up to `timeout`: an error that ended decoding reaches each after
    /// everything before it.
    pub async fn drain(&self, open: Duration, timeout: Duration) {
        let registry = Arc::clone(&self.registry);
        let drained = tokio::task::spawn_blocking(move || registry.drain(open, timeout));
        if let Err(error) = drained.await {
            tracing::error!(%error, "waiting for sessions failed");
        }
    }

    /// Ends all sessions in order, writes what was acknowledged, and stops; waits up to `timeout`
    /// for clients that are slow to take their last frames.
    pub async fn stop(self, timeout: Duration) {
        self.registry.begin_stop();
        let registry = Arc::clone(&self.registry);
        let finished = tokio::task::spawn_blocking(move || registry.finish_stop(timeout));
        if let Err(error) = finished.await {
            tracing::error!(%error, "ending sessions failed");
        }
        // Fails only if nobody listens any more.
        let _ = self.stop.send(true);
        for mut task in self.tasks {
            if tokio::time::timeout(limits::FAREWELL_WAIT, &mut task)
                .await
                .is_err()
            {
                task.abort();
            }
        }
    }
}

/// Takes data connections.
async fn accept(
    listener: TcpListener,
    registry: Arc<Registry>,
    mut stopped: watch::Receiver<bool>,
) {
    let door = Door::new(listener);
    let tls = registry.options.data_tls.clone();
    loop {
        let stream = tokio::select! {
            stream = door.next() => stream,
            _ = stopped.changed() => return,
        };
        // As it is now: certificates may have been read anew.
        let tls = tls.as_ref().map(|tls| TlsAcceptor::from(tls.get()));
        let (registry, guard) = (Arc::clone(&registry), stream.guard());
        tokio::spawn(async move {
            match Accepted::greet(stream, tls.as_ref()).await {
                Ok(stream) => connection::serve(stream, registry, guard).await,
                Err(error) => {
                    tracing::debug!(%error, peer = %guard.peer(), "no TLS on a data connection");
                }
            }
        });
    }
}
