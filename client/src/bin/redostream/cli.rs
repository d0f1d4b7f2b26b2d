//! The command line of `redostream`. Says what can be asked, and turns it into the library's
//! options; does nothing itself.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use redostream_client::protocol::control::{From, Until};
use redostream_client::{Compression, Control, Options, Tls};

use crate::failure::Failure;

/// Follow the committed changes of a PostgreSQL cluster through a Redostream server.
#[derive(Debug, Parser)]
#[command(name = "redostream", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print committed changes as they happen.
    Subscribe(Box<Subscribe>),
    /// Show how far the server is.
    Status(Status),
    /// Say whether a place in the log can be served; exit status 4 if not.
    Probe(Probe),
    /// Show the structure of a table as of a place in the log.
    Describe(Describe),
    /// List or drop the durable names that the server keeps.
    #[command(subcommand)]
    Subscriptions(Subscriptions),
}

/// How to reach the server.
#[derive(Args, Clone, Debug)]
pub(crate) struct Connection {
    /// Control addresses, host:port; each is tried in turn.
    #[arg(long, value_name = "ADDR", value_delimiter = ',', required = true)]
    pub(crate) server: Vec<String>,
    /// PEM file with the authorities that vouch for the server; turns encryption on.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// PEM file with this client's certificate.
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_ca"])]
    tls_cert: Option<PathBuf>,
    /// PEM file with this client's key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// File with the token; else the environment's REDOSTREAM_TOKEN.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Send a token unencrypted over a network.
    #[arg(long)]
    insecure: bool,
}

impl Connection {
    fn tls(&self) -> Option<Tls> {
        let identity = self.tls_cert.clone().zip(self.tls_key.clone());
        let authorities = self.tls_ca.clone()?;
        Some(Tls {
            authorities,
            identity,
        })
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        let token = match &self.token_file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?,
            None => std::env::var("REDOSTREAM_TOKEN").unwrap_or_default(),
        };
        let token = token.trim();
        if token.is_empty() {
            return Ok(None);
        }
        let far = self.server.iter().find(|server| !is_local(server));
        match far {
            Some(server) if self.tls_ca.is_none() && !self.insecure => {
                Err(Failure::usage(format!(
                    "the token would travel unencrypted to {server}; give --tls-ca or --insecure"
                )))
            }
            _ => Ok(Some(token.to_owned())),
        }
    }

    /// Connects to the first server that answers.
    pub(crate) async fn control(&self) -> Result<Control, Failure> {
        let (tls, token) = (self.tls(), self.token()?);
        let mut failure = Failure::usage("no server is given".to_owned());
        for server in &self.server {
            match Control::connect(server, token.as_deref(), tls.as_ref()).await {
                Ok(control) => return Ok(control),
                Err(error) => failure = error.into(),
            }
        }
        Err(failure)
    }
}

/// Whether what is sent to `server` stays on this machine.
fn is_local(server: &str) -> bool {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[derive(Args, Debug)]
pub(crate) struct Subscribe {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Durable name: the server remembers what was printed.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Where to begin: earliest, latest, a position or an LSN. Default: what the name has
    /// acknowledged, else latest.
    #[arg(long, value_name = "PLACE")]
    pub(crate) from: Option<From>,
    /// Where to end: a position or an LSN. Default: never.
    #[arg(long, value_name = "PLACE")]
    pub(crate) until: Option<Until>,
    /// Only this database; may be given again.
    #[arg(long, value_name = "NAME")]
    database: Vec<String>,
    /// Only tables that match schema.table, with * and ?; may be given again.
    #[arg(long, value_name = "PATTERN")]
    table: Vec<String>,
    /// No tables that match; may be given again.
    #[arg(long, value_name = "PATTERN")]
    exclude_table: Vec<String>,
    /// Only this kind of event: insert, update, delete, truncate, ddl, message, sequence.
    #[arg(long, value_name = "KIND", value_delimiter = ',',
        value_parser = ["insert", "update", "delete", "truncate", "ddl", "message", "sequence"])]
    kind: Vec<String>,
    /// Of tables that match, only these columns: 'schema.table=column,column'; may be given again.
    /// The replica identity's key columns always come along.
    #[arg(long, value_name = "PATTERN=COLUMN,...", value_parser = column_list)]
    columns: Vec<(String, Vec<String>)>,
    /// A pattern without wildcards may match nothing, a column list may name what is not there.
    #[arg(long)]
    allow_missing: bool,
    /// Data connections.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=32))]
    streams: u16,
    /// How data travels.
    #[arg(long, value_enum, default_value_t = CompressionChoice::Auto)]
    compression: CompressionChoice,
    /// What to print. Default: pretty on a terminal, else json.
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Print a line for every structure that events use (json).
    #[arg(long)]
    pub(crate) relations: bool,
    /// Time zone of timestamps.
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub(crate) timezone: String,
    /// Print counts as one JSON object on standard error at the end.
    #[arg(long)]
    pub(crate) stats: bool,
    /// Exit with status 1 instead of connecting again.
    #[arg(long)]
    no_reconnect: bool,
    /// The cluster that --from belongs to.
    #[arg(long, value_name = "NUMBER")]
    system_identifier: Option<u64>,
    /// The largest value that is taken: a row with a larger one ends the subscription.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1GiB")]
    pub(crate) value_max: u64,
}

impl Subscribe {
    pub(crate) fn options(&self) -> Result<Options, Failure> {
        let mut options = Options::new(self.connection.server.iter().cloned());
        options.name.clone_from(&self.name);
        options.from = self.from;
        options.until = self.until;
        options.databases.clone_from(&self.database);
        options.tables.clone_from(&self.table);
        options.exclude_tables.clone_from(&self.exclude_table);
        options.columns.clone_from(&self.columns);
        options.kinds.clone_from(&self.kind);
        options.allow_missing = self.allow_missing;
        options.streams = self.streams;
        options.compression = self.compression.into();
        options.system_identifier = self.system_identifier;
        options.token = self.connection.token()?;
        options.tls = self.connection.tls();
        options.reconnect = !self.no_reconnect;
        options.value_bytes_max = self.value_max;
        Ok(options)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CompressionChoice {
    /// LZ4 while the network is the limit; never over loopback.
    Auto,
    /// LZ4.
    Lz4,
    /// As it is.
    None,
}

impl std::convert::From<CompressionChoice> for Compression {
    fn from(choice: CompressionChoice) -> Self {
        match choice {
            CompressionChoice::Auto => Compression::Auto,
            CompressionChoice::Lz4 => Compression::Lz4,
            CompressionChoice::None => Compression::None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
    /// As PostgreSQL's plugin of that name.
    #[value(name = "test_decoding")]
    TestDecoding,
    /// Nothing; everything is received and checked.
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

#[derive(Args, Debug)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// What to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Shape,
}

#[derive(Args, Debug)]
pub(crate) struct Probe {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// The place: earliest, latest, a position or an LSN.
    #[arg(long, value_name = "PLACE")]
    pub(crate) from: From,
    /// The cluster that the place belongs to.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) system_identifier: Option<u64>,
    /// What to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Shape,
}

#[derive(Args, Debug)]
pub(crate) struct Describe {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// The table, schema.table.
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: String,
    /// A position or an LSN. Default: now.
    #[arg(long, value_name = "PLACE")]
    pub(crate) at: Option<Until>,
    /// The database; needed if the server decodes several.
    #[arg(long, value_name = "NAME")]
    pub(crate) database: Option<String>,
    /// What to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Shape,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Subscriptions {
    /// List the names and what they have acknowledged.
    List(Status),
    /// Forget a name; a session that uses it ends.
    Drop {
        /// The name.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
}

/// Reads a column list such as `public.orders=id,total`.
fn column_list(text: &str) -> Result<(String, Vec<String>), String> {
    let wanted = "a column list looks like public.orders=id,total";
    let (table, columns) = text.split_once('=').ok_or(wanted)?;
    let columns: Vec<String> = columns
        .split(',')
        .map(|name| name.trim().to_owned())
        .collect();
    if table.trim().is_empty() || columns.iter().any(String::is_empty) {
        return Err(wanted.to_owned());
    }
    Ok((table.trim().to_owned(), columns))
}

/// Reads a size such as `64MiB`.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        unit => return Err(format!("`{unit}` is none of B, KiB, MiB, GiB, kB, MB, GB")),
    };
    let number = digits
        .trim()
        .parse::<u64>()
        .map_err(|error| error.to_string())?;
    number
        .checked_mul(unit)
        .ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn subscribe(line: &str) -> Result<Box<Subscribe>, clap::Error> {
        let words = ["redostream", "subscribe"]
            .into_iter()
            .chain(line.split_whitespace());
        match Cli::try_parse_from(words)?.command {
            Command::Subscribe(subscribe) => Ok(subscribe),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn subscribe_options_arrive() {
        let line = "--server a:1,b:2 --name n --from 0/10 --until 1:0/20:0/20:FFFFFFFF --database d \
            --database e --table public.* --exclude-table x --columns public.t=a,b --columns *.u=c --kind insert --kind ddl --streams 7 \
            --compression lz4 --format test_decoding --system-identifier 77 --allow-missing \
            --value-max 64MiB --no-reconnect --stats";
        let subscribe = subscribe(line).unwrap();
        assert_eq!(subscribe.format, Some(Format::TestDecoding));
        let options = subscribe.options().unwrap();
        assert_eq!(options.servers, ["a:1", "b:2"]);
        assert_eq!(options.from.unwrap().to_string(), "0/10");
        assert_eq!(options.until.unwrap().to_string(), "1:0/20:0/20:FFFFFFFF");
        assert_eq!(options.databases, ["d", "e"]);
        assert_eq!(options.kinds, ["insert", "ddl"]);
        let list = |table: &str, columns: &[&str]| {
            let columns = columns.iter().map(|name| (*name).to_owned());
            (table.to_owned(), columns.collect::<Vec<_>>())
        };
        let lists = [list("public.t", &["a", "b"]), list("*.u", &["c"])];
        assert_eq!(options.columns, lists);
        assert_eq!(
            (options.streams, options.compression),
            (7, Compression::Lz4)
        );
        assert_eq!(options.value_bytes_max, 64 << 20);
        assert!(options.allow_missing && !options.reconnect);
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for line in [
            "",
            "--server a:1 --from yesterday",
            "--server a:1 --until earliest",
            "--server a:1 --streams 0",
            "--server a:1 --streams 33",
            "--server a:1 --kind rows",
            "--server a:1 --columns t",
            "--server a:1 --columns =a",
            "--server a:1 --columns t=a,,b",
            "--server a:1 --tls-cert x",
            "--server a:1 --value-max 5TB",
        ] {
            let error = subscribe(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn loopback_is_known() {
        assert!(is_local("127.0.0.1:7600") && is_local("[::1]:7600") && is_local("localhost:1"));
        assert!(!is_local("10.0.0.1:7600") && !is_local("db.example:7600"));
    }
}
