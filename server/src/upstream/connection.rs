//! One connection to a server: getting there, TLS, start-up, messages.
//!
//! Messages are read and written by postgres-protocol; the one it does not know, the server's
//! "copy in both directions", is taken here.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, Header, Message};
use postgres_protocol::message::frontend;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::authentication::{self, Channel};
use super::conninfo::{Conninfo, Host, SslMode, TargetSession};
use super::error::{ServerError, UpstreamError};
use super::tls;

/// The largest message taken; WAL comes in pieces of 128 KiB, a history file may be larger.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The largest message taken from a server that is not authenticated.
const STARTUP_BYTES_MAX: usize = 64 * 1024;
/// Rows taken from one query.
const ROWS_MAX: usize = 1000;
/// Room made for each read.
const READ_BYTES: usize = 256 * 1024;
/// How long a connection may take to come about if the connection string does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Physical replication.
    Replication,
    /// Ordinary queries in the connection string's database.
    Queries,
}

pub(super) trait Link: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Link for T {}

/// A connection on which commands can be given.
pub(crate) struct Connection {
    link: Box<dyn Link>,
    input: BytesMut,
    output: BytesMut,
    parameters: BTreeMap<String, String>,
    message_bytes_max: usize,
    host: String,
    user: String,
}

/// What came.
pub(super) enum Incoming {
    Message(Message),
    /// The server begins to copy in both directions.
    CopyBoth,
}

/// One row of an answer, as text.
pub(super) type Row = Vec<Option<Bytes>>;

impl Connection {
    /// Connects to the first host that will do.
    pub(crate) async fn open(info: &Conninfo, purpose: Purpose) -> Result<Self, UpstreamError> {
        let passes: &[TargetSession] = match info.target_session {
            TargetSession::PreferStandby => &[TargetSession::Standby, TargetSession::Any],
            TargetSession::Primary => &[TargetSession::Primary],
            TargetSession::Standby => &[TargetSession::Standby],
            TargetSession::Any => &[TargetSession::Any],
        };
        let mut last = None;
        for target in passes {
            for host in &info.hosts {
                match Self::open_host(info, host, purpose).await {
                    Ok(connection) if connection.fits(*target) => return Ok(connection),
                    Ok(_) => {
                        let error = io::Error::other(
                            "not the kind of server asked for by target_session_attrs",
                        );
                        last = Some(UpstreamError::CannotConnect {
                            host: host.to_string(),
                            error,
                        });
                    }
                    // Somewhere else it may work; what is wrong with user or password is not
                    // tried elsewhere.
                    Err(error) if error.may_pass() => last = Some(error),
                    Err(error) => return Err(error),
                }
            }
        }
        Err(last.unwrap_or_else(|| UpstreamError::CannotConnect {
            host: info.hosts_in_words(),
            error: io::Error::other("no host"),
        }))
    }

    fn fits(&self, target: TargetSession) -> bool {
        match target {
            TargetSession::Primary => !self.in_recovery(),
            TargetSession::Standby => self.in_recovery(),
            TargetSession::Any | TargetSession::PreferStandby => true,
        }
    }

    async fn open_host(
        info: &Conninfo,
        host: &Host,
        purpose: Purpose,
    ) -> Result<Self, UpstreamError> {
        let timeout = info.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        let connecting = Self::negotiate(info, host, purpose);
        match tokio::time::timeout(timeout, connecting).await {
            Ok(result) => result,
            Err(_) => Err(UpstreamError::CannotConnect {
                host: host.to_string(),
                error: io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no answer within {} s", timeout.as_secs()),
                ),
            }),
        }
    }

    /// Tries with and without TLS in the order that `sslmode` asks for.
    // pg: libpq documentation, "SSL Mode Descriptions" [14-18]
    async fn negotiate(
        info: &Conninfo,
        host: &Host,
        purpose: Purpose,
    ) -> Result<Self, UpstreamError> {
        let refused = |error: &UpstreamError| matches!(error, UpstreamError::Refused { answer, .. } if answer.sqlstate.starts_with("28"));
        let attempt = |tls| Self::attempt(info, host, purpose, tls);
        match info.ssl_mode {
            _ if host.is_socket() => attempt(Tls::Never).await,
            SslMode::Disable => attempt(Tls::Never).await,
            SslMode::Allow => match attempt(Tls::Never).await {
                Err(error) if refused(&error) => {
                    let second = attempt(Tls::Must).await;
                    second.map_err(|second| {
                        if matches!(second, UpstreamError::Tls { .. }) {
                            error
                        } else {
                            second
                        }
                    })
                }
                other => other,
            },
            SslMode::Prefer => match attempt(Tls::IfOffered).await {
                Err(error) if refused(&error) || matches!(error, UpstreamError::Tls { .. }) => {
                    attempt(Tls::Never).await
                }
                other => other,
            },
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => attempt(Tls::Must).await,
        }
    }

    async fn attempt(
        info: &Conninfo,
        host: &Host,
        purpose: Purpose,
        tls: Tls,
    ) -> Result<Self, UpstreamError> {
        let (link, channel) = link(info, host, tls).await?;
        let mut connection = Self {
            link,
            input: BytesMut::new(),
            output: BytesMut::new(),
            parameters: BTreeMap::new(),
            message_bytes_max: STARTUP_BYTES_MAX,
            host: host.to_string(),
            user: info.user.clone(),
        };
        let mut parameters = vec![
            ("user", info.user.as_str()),
            ("application_name", info.application_name.as_str()),
            ("client_encoding", "UTF8"),
        ];
        match purpose {
            Purpose::Replication => parameters.push(("replication", "true")),
            Purpose::Queries => parameters.push(("database", &info.database)),
        }
        if let Some(options) = &info.options {
            parameters.push(("options", options));
        }
        frontend::startup_message(parameters, &mut connection.output)
            .map_err(|error| UpstreamError::Protocol(error.to_string()))?;
        connection.flush().await?;
        let database = match purpose {
            Purpose::Replication => "replication",
            Purpose::Queries => &info.database,
        };
        authentication::authenticate(&mut connection, info, host, database, channel).await?;
        connection.message_bytes_max = MESSAGE_BYTES_MAX;
        connection.until_ready().await?;
        Ok(connection)
    }

    /// Waits for the end of the start-up.
    async fn until_ready(&mut self) -> Result<(), UpstreamError> {
        loop {
            match self.next_message().await? {
                Incoming::Message(Message::ReadyForQuery(_)) => return Ok(()),
                Incoming::Message(Message::BackendKeyData(_)) => {}
                Incoming::Message(Message::ErrorResponse(body)) => {
                    let answer = ServerError::read(body.fields()).map_err(broken)?;
                    return Err(self.refused_connection(answer));
                }
                _ => {
                    return Err(UpstreamError::Protocol(
                        "unexpected message at start-up".into(),
                    ));
                }
            }
        }
    }

    /// What a refusal during start-up means.
    pub(super) fn refused_connection(&self, answer: ServerError) -> UpstreamError {
        if answer.sqlstate == "42501" {
            return UpstreamError::NoPrivilege {
                user: self.user.clone(),
                answer,
            };
        }
        UpstreamError::Refused {
            during: format!("the connection of user {} to {}", self.user, self.host),
            answer,
        }
    }

    /// A setting that the server reported by itself, such as `server_version`.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// Whether the server is a standby.
    pub(crate) fn in_recovery(&self) -> bool {
        self.parameter("in_hot_standby") == Some("on")
    }

    /// Where we are connected to.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Sends what was written to the output.
    pub(super) async fn flush(&mut self) -> Result<(), UpstreamError> {
        let sent = async {
            self.link.write_all(&self.output).await?;
            self.link.flush().await
        };
        sent.await.map_err(|error| UpstreamError::lost(&error))?;
        self.output.clear();
        Ok(())
    }

    /// The next message that says something to us. Nothing is lost if this is cancelled.
    pub(super) async fn next_message(&mut self) -> Result<Incoming, UpstreamError> {
        loop {
            if let Some(incoming) = self.take_message()? {
                return Ok(incoming);
            }
            // Pieces given out keep the buffer they came in: a new one is begun when it is full.
            if self.input.capacity() - self.input.len() < READ_BYTES / 4 {
                self.input.reserve(READ_BYTES);
            }
            let read = self.link.read_buf(&mut self.input).await;
            match read {
                Ok(0) => return Err(UpstreamError::lost(&io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) => return Err(UpstreamError::lost(&error)),
            }
        }
    }

    fn take_message(&mut self) -> Result<Option<Incoming>, UpstreamError> {
        loop {
            let Some(header) = Header::parse(&self.input).map_err(broken)? else {
                return Ok(None);
            };
            let length = usize::try_from(header.len()).unwrap_or(usize::MAX);
            if length > self.message_bytes_max {
                return Err(UpstreamError::Protocol(format!(
                    "a message of {length} bytes, more than {}; is this PostgreSQL?",
                    self.message_bytes_max
                )));
            }
            if header.tag() == b'W' {
                if self.input.len() <= length {
                    return Ok(None);
                }
                drop(self.input.split_to(length + 1));
                return Ok(Some(Incoming::CopyBoth));
            }
            match Message::parse(&mut self.input).map_err(broken)? {
                None => return Ok(None),
                Some(Message::ParameterStatus(body)) => {
                    let name = body.name().map_err(broken)?.to_owned();
                    let value = body.value().map_err(broken)?.to_owned();
                    self.parameters.insert(name, value);
                }
                Some(Message::NoticeResponse(body)) => {
                    let notice = ServerError::read(body.fields()).map_err(broken)?;
                    tracing::info!(host = %self.host, %notice, "the upstream says");
                }
                Some(Message::NotificationResponse(_)) => {}
                Some(message) => return Ok(Some(Incoming::Message(message))),
            }
        }
    }

    /// Gives one command and takes its rows; a refusal is given as the server's answer.
    pub(super) async fn query(
        &mut self,
        command: &str,
    ) -> Result<Result<Vec<Row>, ServerError>, UpstreamError> {
        frontend::query(command, &mut self.output).map_err(broken)?;
        self.flush().await?;
        let mut rows = Vec::new();
        let mut refused = None;
        loop {
            match self.next_message().await? {
                Incoming::Message(Message::DataRow(body)) => {
                    if rows.len() >= ROWS_MAX {
                        return Err(UpstreamError::Protocol(format!(
                            "more than {ROWS_MAX} rows"
                        )));
                    }
                    rows.push(row(&body)?);
                }
                Incoming::Message(Message::ErrorResponse(body)) => {
                    refused = Some(ServerError::read(body.fields()).map_err(broken)?);
                }
                Incoming::Message(Message::ReadyForQuery(_)) => {
                    return Ok(refused.map_or(Ok(rows), Err));
                }
                Incoming::Message(
                    Message::RowDescription(_)
                    | Message::CommandComplete(_)
                    | Message::EmptyQueryResponse,
                ) => {}
                _ => {
                    return Err(UpstreamError::Protocol(format!(
                        "unexpected answer to {command}"
                    )));
                }
            }
        }
    }

    /// Ends the connection as the protocol wants it.
    pub(crate) async fn close(mut self) {
        frontend::terminate(&mut self.output);
        let _ = tokio::time::timeout(Duration::from_secs(1), async {
            self.flush().await?;
            self.link
                .shutdown()
                .await
                .map_err(|error| UpstreamError::lost(&error))
        })
        .await;
    }
}

/// A message that does not read.
pub(super) fn broken(error: io::Error) -> UpstreamError {
    UpstreamError::Protocol(error.to_string())
}

/// The columns of a row.
pub(super) fn row(body: &DataRowBody) -> Result<Row, UpstreamError> {
    let bytes = body.buffer_bytes();
    body.ranges()
        .map(|range| {
            Ok(range
                .filter(|range| range.end <= bytes.len())
                .map(|range| bytes.slice(range)))
        })
        .collect()
        .map_err(broken)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    Never,
    IfOffered,
    Must,
}

/// Opens the socket, with TLS on it if that is wanted.
async fn link(
    info: &Conninfo,
    host: &Host,
    tls: Tls,
) -> Result<(Box<dyn Link>, Channel), UpstreamError> {
    let cannot = |error| UpstreamError::CannotConnect {
        host: host.to_string(),
        error,
    };
    if host.is_socket() {
        let link = UnixStream::connect(host.socket_path())
            .await
            .map_err(cannot)?;
        return Ok((Box::new(link), Channel::Local));
    }
    let address = (host.address.as_deref().unwrap_or(&host.name), host.port);
    let mut link = TcpStream::connect(address).await.map_err(cannot)?;
    link.set_nodelay(true).map_err(cannot)?;
    if tls == Tls::Never {
        return Ok((Box::new(link), Channel::Open));
    }
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    link.write_all(&request).await.map_err(cannot)?;
    // Exactly one byte: whatever somebody put behind it in the clear must not be read as if it
    // had come through TLS.
    match link.read_u8().await.map_err(cannot)? {
        b'S' => secured(info, host, link).await,
        b'N' if tls == Tls::IfOffered => Ok((Box::new(link), Channel::Open)),
        b'N' => Err(UpstreamError::Tls {
            host: host.to_string(),
            problem: "the server does not offer it (ssl = off); set it up there, \
                      or choose another sslmode"
                .to_owned(),
        }),
        _ => Err(cannot(io::Error::other(
            "it answered a request for TLS with something else",
        ))),
    }
}

async fn secured(
    info: &Conninfo,
    host: &Host,
    link: TcpStream,
) -> Result<(Box<dyn Link>, Channel), UpstreamError> {
    let failed = |problem: String| UpstreamError::Tls {
        host: host.to_string(),
        problem,
    };
    let config = tls::client_config(info).map_err(failed)?;
    let name = ServerName::try_from(host.name.clone()).map_err(|_| {
        failed(format!(
            "{} is not a host name that can be checked",
            host.name
        ))
    })?;
    let link = TlsConnector::from(Arc::new(config))
        .connect(name, link)
        .await
        .map_err(|error| failed(tls::in_words(&error.to_string())))?;
    let certificate = link.get_ref().1.peer_certificates();
    let end_point = certificate
        .and_then(|chain| chain.first())
        .and_then(|certificate| tls::end_point_hash(certificate));
    Ok((Box::new(link), Channel::Tls { end_point }))
}
