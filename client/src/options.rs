//! What a subscriber asks for.

use std::path::PathBuf;
use std::time::Duration;

use redostream_protocol::control::{From, Until};
use redostream_protocol::wire::limits::{VALUE_BYTES_MAX, WINDOW_BYTES};

/// How blocks travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// LZ4 while the network is the limit; never over loopback.
    #[default]
    Auto,
    /// LZ4.
    Lz4,
    /// As they are.
    None,
}

/// Encryption of both planes.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// PEM file with the authorities that the server's certificate is checked against.
    pub authorities: PathBuf,
    /// PEM files with this client's certificate and key, for mutual TLS.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Everything a [`Subscription`](crate::Subscription) can be asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Control addresses, `host:port`; each is tried in turn.
    pub servers: Vec<String>,
    /// Durable name: the server remembers what it has acknowledged.
    pub name: Option<String>,
    /// Where to begin; without it, what the name has acknowledged, else the latest.
    pub from: Option<From>,
    /// Where to end; never, without it.
    pub until: Option<Until>,
    /// Databases; all, if empty.
    pub databases: Vec<String>,
    /// Table patterns (`schema.table` with `*` and `?`); all, if empty.
    pub tables: Vec<String>,
    /// Table patterns to leave out.
    pub exclude_tables: Vec<String>,
    /// Columns wanted, by table pattern; a table that no list names comes whole. The key columns of
    /// the replica identity always come along.
    pub columns: Vec<(String, Vec<String>)>,
    /// Event kinds; all, if empty.
    pub kinds: Vec<String>,
    /// Whether a pattern without wildcards may match nothing.
    pub allow_missing: bool,
    /// Connections, 1 to 32.
    pub streams: u16,
    /// How blocks travel.
    pub compression: Compression,
    /// The cluster that `from` belongs to, if known.
    pub system_identifier: Option<u64>,
    /// Bearer token.
    pub token: Option<String>,
    /// Encryption; none, without it.
    pub tls: Option<Tls>,
    /// Whether to connect again when a connection breaks or cannot be made.
    pub reconnect: bool,
    /// The longest wait between two attempts.
    pub backoff_max: Duration,
    /// Bytes the server may have under way.
    pub window_bytes: u64,
    /// Bytes of the largest value that is taken, also decompressed: an event may be longer by what
    /// stands around it ([`EVENT_REST_BYTES_MAX`](redostream_protocol::wire::limits::EVENT_REST_BYTES_MAX)).
    pub value_bytes_max: u64,
    /// Bytes of the largest transaction that `next_transaction` gathers.
    pub transaction_bytes_max: usize,
}

impl Options {
    /// The defaults, for these servers.
    #[must_use]
    pub fn new<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> Self {
        Options {
            servers: servers.into_iter().map(Into::into).collect(),
            name: None,
            from: None,
            until: None,
            databases: Vec::new(),
            tables: Vec::new(),
            exclude_tables: Vec::new(),
            columns: Vec::new(),
            kinds: Vec::new(),
            allow_missing: false,
            streams: 4,
            compression: Compression::Auto,
            system_identifier: None,
            token: None,
            tls: None,
            reconnect: true,
            backoff_max: Duration::from_secs(10),
            window_bytes: WINDOW_BYTES,
            value_bytes_max: VALUE_BYTES_MAX as u64,
            transaction_bytes_max: 256 << 20,
        }
    }
}
