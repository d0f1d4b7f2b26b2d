//! TCP connections, encrypted or not.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::ClientError;
use crate::options::Tls;

/// A server that has not answered by then counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection, whatever is below it.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Connects to `address`, with TLS if asked.
pub(crate) async fn connect(
    address: &str,
    tls: Option<&Arc<rustls::ClientConfig>>,
) -> Result<Box<dyn Socket>, ClientError> {
    let failed = |error: io::Error| ClientError::Connect {
        server: address.to_owned(),
        problem: error.to_string(),
    };
    let slow = |_| {
        failed(io::Error::other(format!(
            "no answer within {CONNECT_TIMEOUT:?}"
        )))
    };
    let connecting = TcpStream::connect(address);
    let stream = timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(slow)?
        .map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let Some(config) = tls else {
        return Ok(Box::new(stream));
    };
    let host = host_of(address).to_owned();
    let name = ServerName::try_from(host).map_err(|error| failed(io::Error::other(error)))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
    let greeting = connector.connect(name, stream);
    let encrypted = timeout(CONNECT_TIMEOUT, greeting)
        .await
        .map_err(slow)?
        .map_err(failed)?;
    Ok(Box::new(encrypted))
}

/// The host of `host:port`.
pub(crate) fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The TLS settings of the data plane.
pub(crate) fn tls_config(tls: &Tls) -> Result<Arc<rustls::ClientConfig>, ClientError> {
    let usage = |path: &Path, error: &dyn std::fmt::Display| {
        ClientError::Usage(format!("{}: {error}", path.display()))
    };
    let mut roots = rustls::RootCertStore::empty();
    let authorities = CertificateDer::pem_file_iter(&tls.authorities)
        .map_err(|error| usage(&tls.authorities, &error))?;
    for certificate in authorities {
        let certificate = certificate.map_err(|error| usage(&tls.authorities, &error))?;
        roots
            .add(certificate)
            .map_err(|error| usage(&tls.authorities, &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| ClientError::Usage(error.to_string()))?
        .with_root_certificates(roots);
    let config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate)
                .map_err(|error| usage(certificate, &error))?
                .collect();
            let chain = chain.map_err(|error| usage(certificate, &error))?;
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| usage(key, &error))?;
            builder
                .with_client_auth_cert(chain, key_der)
                .map_err(|error| usage(certificate, &error))?
        }
    };
    Ok(Arc::new(config))
}
