//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use redostream_protocol::Lsn;

use crate::session::OnUndecodable;
use crate::size;

/// Turns PostgreSQL's write-ahead log into an ordered stream of committed changes, outside the
/// database.
///
/// Exit status: 0 done as asked; 1 cannot connect, source or runtime error; 2 usage or
/// configuration; 3 log damaged or undecodable; 4 position cannot be served; 5 not authorised.
#[derive(Debug, Parser)]
#[command(name = "redostream-server", version)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) log: LogArguments,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Replay recorded WAL, serve it on loopback, subscribe to it, show what goes by.
    Demo(DemoArguments),
    /// Serve the changes of a cluster, beside one of its standbys.
    Serve(Box<ServeArguments>),
    /// Say what is wrong with a data directory and its upstream, before anything is started.
    Check(CheckArguments),
    /// Drop the replication slot of a server that is no longer wanted.
    Decommission(DecommissionArguments),
    /// Make a bearer token: prints it, and the section for the configuration that lets it in.
    Token(TokenArguments),
    /// Decode WAL files offline, from a data directory or base backup, to standard output.
    Decode(DecodeArguments),
    /// Show how to put the text of DDL statements into the log, so that events carry it (optional).
    DdlCapture(DdlCaptureArguments),
}

/// How to log.
#[derive(Debug, Args)]
pub(crate) struct LogArguments {
    /// Form of log lines on standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Least level of log lines: error, warn, info, debug or trace.
    #[arg(long, global = true, default_value = "info", value_name = "LEVEL")]
    pub(crate) log_level: tracing::Level,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is printed of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One JSON object a line.
    Json,
    /// What PostgreSQL's `test_decoding` prints.
    #[value(name = "test_decoding")]
    TestDecoding,
    /// Nothing: decode only.
    None,
}

/// `ddl-capture`.
#[derive(Debug, Args)]
pub(crate) struct DdlCaptureArguments {
    /// Print the SQL that installs the event trigger; run it with psql as a superuser.
    #[arg(long)]
    pub(crate) print_sql: bool,
}

/// `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Connections of the subscription.
    #[arg(long, value_name = "K", default_value_t = 4)]
    pub(crate) streams: u16,
    /// Decoder threads. Default: the machine's cores.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) decoders: usize,
    /// Transactions to show before going on in silence.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) show: u64,
}

/// `decommission`.
#[derive(Debug, Args)]
pub(crate) struct DecommissionArguments {
    /// Where the slot is, as libpq has it.
    #[arg(long, value_name = "CONNINFO")]
    pub(crate) upstream: String,
    /// The slot to drop.
    #[arg(long, value_name = "NAME")]
    pub(crate) slot: String,
}

/// `token`.
#[derive(Debug, Args)]
pub(crate) struct TokenArguments {
    /// Who it is for; names the token in logs and owns the subscriptions made with it.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// Database that it allows; repeatable. Default: all.
    #[arg(long, value_name = "NAME")]
    pub(crate) database: Vec<String>,
    /// Table that it allows, as schema.table with * and ?; repeatable. Default: all.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) table: Vec<String>,
    /// Write the token into this new file, readable by its owner alone, instead of printing it.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Encryption and authentication of both planes.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct AccessArguments {
    /// PEM file with the server's certificate chain; turns TLS 1.3 on, on both planes.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// PEM file with its key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// PEM file with the authorities of clients: a client must show a certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// File of tokens that are let in: `[[token]]` sections as `token` prints them, or plain
    /// tokens, one a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Listen beyond loopback without TLS and authentication.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// The `[[token]]` sections of the configuration.
    #[arg(skip)]
    pub(crate) token: Vec<crate::access::TokenEntry>,
}

/// Form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// For people.
    Text,
    /// One JSON value.
    Json,
}

/// `check`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct CheckArguments {
    /// Configuration file of the server, as for `serve`.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data directory, as for `serve`.
    #[arg(long, value_name = "DIR")]
    pub(crate) pgdata: PathBuf,
    /// Where WAL is streamed from, as libpq has it.
    #[arg(long, value_name = "CONNINFO")]
    pub(crate) upstream: Option<String>,
    /// Physical replication slot.
    #[arg(long, value_name = "NAME")]
    pub(crate) slot: Option<String>,
    /// Directory for restart points and subscriptions.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// WAL archive directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) archive: Option<PathBuf>,
    /// Command that fetches a WAL file.
    #[arg(long, value_name = "CMD")]
    pub(crate) restore_command: Option<String>,
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t = Shape::Text)]
    pub(crate) format: Shape,
}

/// `serve`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct ServeArguments {
    /// Configuration file: TOML whose keys are these flags, with _ for -. Flags win.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data directory of a standby (or primary) of the cluster, readable by this process.
    #[arg(long, value_name = "DIR")]
    pub(crate) pgdata: PathBuf,
    /// Where WAL is streamed from, as libpq has it; without it only files are served.
    #[arg(long, value_name = "CONNINFO")]
    pub(crate) upstream: Option<String>,
    /// Physical replication slot; made if missing, never dropped.
    #[arg(long, value_name = "NAME")]
    pub(crate) slot: Option<String>,
    /// Database to serve; repeatable. Default: all.
    #[arg(long, value_name = "NAME")]
    pub(crate) database: Vec<String>,
    /// Directory for restart points, subscriptions and spilled transactions.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// Further directories with WAL segments; repeatable.
    #[arg(long, value_name = "DIR")]
    pub(crate) wal: Vec<PathBuf>,
    /// WAL archive directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) archive: Option<PathBuf>,
    /// Address of the control plane.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7600")]
    pub(crate) listen: std::net::SocketAddr,
    /// Address for data connections. Default: the same host, port + 1.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen_data: Option<std::net::SocketAddr>,
    /// Data address as clients are told it. Default: where they reached the control plane.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise_data: Option<String>,
    /// Decoder threads. Default: the machine's cores. A subscriber that catches up takes at most 8
    /// of its own.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) decoders: usize,
    /// Address of Prometheus metrics, at /metrics. Default: none.
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<std::net::SocketAddr>,
    /// Command that fetches a WAL file, as restore_command: %f is the file, %p where to put it.
    #[arg(long, value_name = "CMD")]
    pub(crate) restore_command: Option<String>,
    /// Most bytes of restart points; the last two always stay.
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "16GiB")]
    pub(crate) state_max: u64,
    /// WAL after which the state is saved; at the latest after 30 s.
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value_t = crate::live::RESTART_POINT_BYTES, hide_default_value = true, hide = true)]
    pub(crate) restart_point_wal: u64,
    /// WAL kept for subscribers to come, by the slot.
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "1GiB")]
    pub(crate) retain: u64,
    /// Most WAL kept for named subscribers that do not come. Default: no bound.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) max_retained_wal: Option<u64>,
    /// Decoded changes kept in memory for subscribers; who is behind them decodes for itself.
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "64MiB")]
    pub(crate) feed: u64,
    /// Redo kept in memory; at least 1 MiB.
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "64MiB")]
    pub(crate) buffer: u64,
    /// Memory for open transactions; beyond it they go to files.
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "256MiB")]
    pub(crate) memory: u64,
    /// Most bytes of those files.
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "64GiB")]
    pub(crate) spill_max: u64,
    /// Milliseconds to wait for room for those files and the state, before giving up.
    #[arg(long, value_name = "N", default_value_t = 60_000, hide = true)]
    pub(crate) room_wait_ms: u64,
    /// Milliseconds of silence after which a client counts as gone.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) peer_timeout_ms: u64,
    /// What to do where rows of a table cannot be decoded: end the subscribers that want it, or
    /// leave its rows out, count them and send a notice.
    #[arg(long, value_enum, value_name = "stop|skip", default_value_t)]
    pub(crate) on_undecodable: OnUndecodable,
    #[command(flatten)]
    pub(crate) access: AccessArguments,
}

impl ServeArguments {
    /// Where data connections are taken.
    pub(crate) fn data_address(&self) -> std::net::SocketAddr {
        self.listen_data.unwrap_or_else(|| {
            let port = self.listen.port();
            let next = if port == 0 { 0 } else { port.saturating_add(1) };
            std::net::SocketAddr::new(self.listen.ip(), next)
        })
    }
}

/// `decode`.
#[derive(Debug, Args)]
pub(crate) struct DecodeArguments {
    /// Data directory or base backup to take the catalog from; not in use by a running server.
    #[arg(long, value_name = "DIR")]
    pub(crate) pgdata: PathBuf,
    /// Directory with WAL segments; repeatable. Default: pg_wal of the data directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) wal: Vec<PathBuf>,
    /// Database to decode; repeatable. Default: all.
    #[arg(long, value_name = "NAME")]
    pub(crate) database: Vec<String>,
    /// Table to decode, as schema.table with * and ?; repeatable. Default: all.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) table: Vec<String>,
    /// First LSN: transactions that commit before it are left out. Default: as early as possible.
    #[arg(long, value_name = "LSN")]
    pub(crate) start: Option<Lsn>,
    /// LSN to stop at: transactions that commit at or after it are left out. Default: the end of
    /// the WAL.
    #[arg(long, value_name = "LSN")]
    pub(crate) end: Option<Lsn>,
    /// Timeline to follow. Default: the newest that descends from the data directory's.
    #[arg(long, value_name = "N")]
    pub(crate) timeline: Option<u32>,
    /// Decoder threads. Default: the machine's cores.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) decoders: usize,
    /// Memory for open transactions; beyond it they go to files.
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "256MiB")]
    pub(crate) memory: u64,
    /// Directory for those files. Default: the system's directory for temporary files.
    #[arg(long, value_name = "DIR")]
    pub(crate) spill_dir: Option<PathBuf>,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub(crate) format: Format,
    /// Time zone of timestamptz in test_decoding format.
    #[arg(long, value_name = "TZ", default_value = "UTC")]
    pub(crate) timezone: String,
    /// Locale of money.
    #[arg(long, value_name = "L", default_value = "C")]
    pub(crate) lc_monetary: String,
    /// Encoding of the text printed in test_decoding format. Default: the database's own.
    #[arg(long, value_name = "E")]
    pub(crate) encoding: Option<String>,
    /// Print one JSON object with figures on standard error.
    #[arg(long)]
    pub(crate) stats: bool,
    /// Bytes of WAL per chunk, for measurements.
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "256KiB", hide = true)]
    pub(crate) chunk: u64,
    /// Partitions per chunk, for measurements; 0 takes one.
    #[arg(long, value_name = "N", default_value_t = 0, hide = true)]
    pub(crate) partitions: usize,
}

/// Starts logging to standard error.
pub(crate) fn start_log(arguments: &LogArguments) {
    let builder = tracing_subscriber::fmt()
        .with_max_level(arguments.log_level)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}
