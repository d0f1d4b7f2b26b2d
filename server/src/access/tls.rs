//! TLS of both planes: one certificate, version 1.3 only, clients' certificates if an authority is
//! given.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The files.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// PEM file with the server's certificate and those between it and its authority.
    pub certificate: PathBuf,
    /// PEM file with its key.
    pub key: PathBuf,
    /// PEM file with the authorities of clients; with it a client must show a certificate.
    pub client_authorities: Option<PathBuf>,
}

/// Why TLS cannot be set up; mend the file that is named.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct TlsError {
    path: PathBuf,
    problem: String,
}

fn wrong<E: ToString>(path: &Path) -> impl Fn(E) -> TlsError + use<'_, E> {
    move |error| TlsError {
        path: path.to_owned(),
        problem: error.to_string(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(wrong(path))?
        .collect();
    let found = found.map_err(wrong(path))?;
    if found.is_empty() {
        return Err(wrong(path)("there is no certificate in it"));
    }
    Ok(found)
}

/// The settings for a plane that speaks `protocols` (none if it is not negotiated).
pub fn server_config(files: &TlsFiles, protocols: &[&str]) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(wrong(&files.certificate))?;
    let builder = match &files.client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(wrong(path))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(wrong(path))?)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(wrong(&files.key))?;
    let mut config = builder
        .with_single_cert(certificates(&files.certificate)?, key)
        .map_err(wrong(&files.certificate))?;
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    Ok(Arc::new(config))
}
