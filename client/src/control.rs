//! The control plane: open a session, ask how things are.

use std::time::Duration;

use redostream_protocol::control::fault_of;
use redostream_protocol::control::v1::control_client::ControlClient;
use redostream_protocol::control::v1::{
    ColumnList, Compression as WireCompression, DescribeRequest, DropSubscriptionRequest,
    ListSubscriptionsRequest, OpenSessionReply, OpenSessionRequest, ProbeReply, ProbeRequest,
    StatusReply, StatusRequest, SubscriptionInfo,
};
use redostream_protocol::wire::{Fault, FaultCode};
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::connection::host_of;
use crate::error::ClientError;
use crate::options::{Compression, Options, Tls};
use crate::session::Beginning;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to one server's control plane.
pub struct Control {
    client: ControlClient<Channel>,
    server: String,
    token: Option<String>,
}

impl Control {
    /// Connects to `server`.
    pub async fn connect(
        server: &str,
        token: Option<&str>,
        tls: Option<&Tls>,
    ) -> Result<Self, ClientError> {
        let failed = |problem: String| ClientError::Connect {
            server: server.to_owned(),
            problem,
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{server}"))
            .map_err(|error| ClientError::Usage(format!("server address `{server}`: {error}")))?
            .connect_timeout(CONNECT_TIMEOUT);
        if let Some(tls) = tls {
            let config = tls_config(tls, server)?;
            endpoint = endpoint
                .tls_config(config)
                .map_err(|error| failed(cause(&error)))?;
        }
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| failed(cause(&error)))?;
        Ok(Control {
            client: ControlClient::new(channel),
            server: server.to_owned(),
            token: token.map(str::to_owned),
        })
    }

    /// The server's address.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    fn request<T>(&self, message: T) -> Result<tonic::Request<T>, ClientError> {
        let mut request = tonic::Request::new(message);
        if let Some(token) = &self.token {
            let value = MetadataValue::try_from(format!("Bearer {token}")).map_err(|_| {
                ClientError::Usage("the token has characters it cannot have".into())
            })?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }

    fn refused(&self, status: &tonic::Status) -> ClientError {
        if let Some(fault) = fault_of(status) {
            return ClientError::Fault(fault);
        }
        match status.code() {
            tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => {
                ClientError::Fault(Fault::new(FaultCode::Unauthorised, status.message()))
            }
            _ => ClientError::Lost {
                server: self.server.clone(),
                problem: status.message().to_owned(),
            },
        }
    }

    /// Opens a session.
    pub(crate) async fn open_session(
        &mut self,
        options: &Options,
        beginning: &Beginning,
    ) -> Result<OpenSessionReply, ClientError> {
        let compression = match options.compression {
            Compression::Auto => WireCompression::Auto,
            Compression::Lz4 => WireCompression::Lz4,
            Compression::None => WireCompression::None,
        };
        let lists = options.columns.iter();
        let columns = lists.map(|(table, columns)| ColumnList {
            table: table.clone(),
            columns: columns.clone(),
        });
        let request = self.request(OpenSessionRequest {
            name: options.name.clone().unwrap_or_default(),
            from: beginning.from.clone(),
            goes_on: beginning.goes_on,
            acknowledged: beginning.acknowledged.clone(),
            until: options
                .until
                .map(|until| until.to_string())
                .unwrap_or_default(),
            databases: options.databases.clone(),
            tables: options.tables.clone(),
            exclude_tables: options.exclude_tables.clone(),
            kinds: options.kinds.clone(),
            columns: columns.collect(),
            allow_missing: options.allow_missing,
            streams: u32::from(options.streams),
            compression: compression.into(),
            system_identifier: options.system_identifier.unwrap_or(0),
            instance: beginning.instance.to_vec(),
            client_version: env!("CARGO_PKG_VERSION").to_owned(),
        })?;
        let reply = self.client.open_session(request).await;
        reply
            .map(tonic::Response::into_inner)
            .map_err(|status| self.refused(&status))
    }

    /// How far everything is.
    pub async fn status(&mut self) -> Result<StatusReply, ClientError> {
        let request = self.request(StatusRequest {})?;
        let reply = self.client.status(request).await;
        reply
            .map(tonic::Response::into_inner)
            .map_err(|status| self.refused(&status))
    }

    /// Whether a place could be served.
    pub async fn probe(
        &mut self,
        from: &str,
        system_identifier: Option<u64>,
    ) -> Result<ProbeReply, ClientError> {
        let system_identifier = system_identifier.unwrap_or(0);
        let request = self.request(ProbeRequest {
            from: from.to_owned(),
            system_identifier,
        })?;
        let reply = self.client.probe(request).await;
        reply
            .map(tonic::Response::into_inner)
            .map_err(|status| self.refused(&status))
    }

    /// The structure of a table, as JSON.
    pub async fn describe(
        &mut self,
        table: &str,
        at: &str,
        database: &str,
    ) -> Result<String, ClientError> {
        let request = self.request(DescribeRequest {
            table: table.to_owned(),
            at: at.to_owned(),
            database: database.to_owned(),
        })?;
        let reply = self.client.describe(request).await;
        reply
            .map(|reply| reply.into_inner().table_json)
            .map_err(|status| self.refused(&status))
    }

    /// The durable names.
    pub async fn subscriptions(&mut self) -> Result<Vec<SubscriptionInfo>, ClientError> {
        let request = self.request(ListSubscriptionsRequest {})?;
        let reply = self.client.list_subscriptions(request).await;
        reply
            .map(|reply| reply.into_inner().subscriptions)
            .map_err(|status| self.refused(&status))
    }

    /// Forgets a durable name.
    pub async fn drop_subscription(&mut self, name: &str) -> Result<(), ClientError> {
        let request = self.request(DropSubscriptionRequest {
            name: name.to_owned(),
        })?;
        let reply = self.client.drop_subscription(request).await;
        reply.map(drop).map_err(|status| self.refused(&status))
    }
}

/// The innermost cause of an error, which is what people need.
fn cause(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

fn tls_config(tls: &Tls, server: &str) -> Result<ClientTlsConfig, ClientError> {
    let read = |path: &std::path::Path| {
        std::fs::read(path)
            .map_err(|error| ClientError::Usage(format!("{}: {error}", path.display())))
    };
    let mut config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(&tls.authorities)?))
        .domain_name(host_of(server));
    if let Some((certificate, key)) = &tls.identity {
        config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(config)
}
