//! TLS as libpq's `sslmode` asks for it.
//!
//! `require` encrypts and checks nothing, unless a root certificate is at hand, then it is as
//! `verify-ca`; `verify-ca` checks who signed the certificate, `verify-full` its host name too. A
//! certificate that is itself among the root certificates passes, whatever it says of itself:
//! that is how self-made ones are used. Two limits: host names are looked for in the
//! certificate's subjectAltName only, and version 1 certificates cannot be checked.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::conninfo::{Conninfo, SslMode};

/// Where distributions keep the certificates that everybody trusts.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// The client side of TLS for this connection string; the error is in words.
pub(super) fn client_config(info: &Conninfo) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let loader = provider.key_provider;
    let verifier = Verifier::new(info, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match (&info.ssl_cert, &info.ssl_key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let key_in_words = |error: String| format!("{}: {error}", key.display());
            let der = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| key_in_words(error.to_string()))?;
            let signing = loader
                .load_private_key(der)
                .map_err(|error| key_in_words(error.to_string()))?;
            let certified = CertifiedKey::new(chain, signing);
            Ok(builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified))))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// An error of the handshake, in words an operator can do something with.
pub(super) fn in_words(error: &str) -> String {
    if error.contains("UnsupportedCertVersion") {
        return "the server's certificate is of version 1, which cannot be checked; \
                issue it anew with a subjectAltName"
            .to_owned();
    }
    error.to_owned()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let in_words = |error| format!("{}: {error}", path.display());
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(in_words)?;
    if found.is_empty() {
        return Err(format!("{} holds no certificate", path.display()));
    }
    Ok(found)
}

/// Checks what the mode asks for.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// `None` checks nothing.
    roots: Option<Roots>,
    host_name: bool,
}

#[derive(Debug)]
struct Roots {
    certificates: Vec<CertificateDer<'static>>,
    webpki: Option<Arc<WebPkiServerVerifier>>,
}

impl Verifier {
    fn new(info: &Conninfo, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let verifies = info.ssl_mode >= SslMode::VerifyCa;
        let path = if info.ssl_system_roots {
            let found = SYSTEM_ROOTS
                .iter()
                .map(Path::new)
                .find(|path| path.exists());
            Some(
                found
                    .ok_or("this system has no list of root certificates where it is looked for")?,
            )
        } else {
            let given = info.ssl_root_cert.as_deref();
            given.filter(|path| verifies || path.exists())
        };
        let roots = match path {
            Some(path) if info.ssl_mode >= SslMode::Require => Some(Roots::read(path, provider)?),
            None if verifies => {
                return Err("no root certificate is known to check the server's by; \
                            give it as sslrootcert"
                    .to_owned());
            }
            _ => None,
        };
        Ok(Self {
            provider: Arc::clone(provider),
            roots,
            host_name: info.ssl_mode == SslMode::VerifyFull,
        })
    }
}

impl Roots {
    fn read(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let certificates = certificates(path)?;
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificates.iter().cloned());
        let webpki = if store.is_empty() {
            None
        } else {
            let builder =
                WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider));
            Some(builder.build().map_err(|error| error.to_string())?)
        };
        Ok(Self {
            certificates,
            webpki,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        let known = roots
            .certificates
            .iter()
            .any(|root| root.as_ref() == end_entity.as_ref());
        if known {
            if self.host_name {
                let parsed = ParsedCertificate::try_from(end_entity)?;
                rustls::client::verify_server_name(&parsed, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        let Some(webpki) = &roots.webpki else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        // The name is checked last, so an error about it says that the rest is good.
        let verified =
            webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.host_name => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // Without anything to check the certificate by, its key proves nothing; and old kinds of
        // certificate, which nobody checks, cannot even be read.
        if self.roots.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.roots.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The hash of a server's certificate that SCRAM is bound to; `None` for certificates signed in a
/// way for which none is defined, or whose hash is not at hand.
// RFC 5929, section 4.1: the hash of the signature, with SHA-256 for MD5 and SHA-1
pub(super) fn end_point_hash(certificate: &[u8]) -> Option<Vec<u8>> {
    use rustls::crypto::hash::HashAlgorithm;
    // SHA-1 and SHA-256 with RSA and with ECDSA; SHA-384 likewise.
    const SHA256: [&[u8]; 5] = [
        &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x04],
        &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x05],
        &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0B],
        &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x01],
        &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02],
    ];
    const SHA384: [&[u8]; 2] = [
        &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0C],
        &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x03],
    ];
    let oid = signature_algorithm(certificate)?;
    let wanted = if SHA256.contains(&oid) {
        HashAlgorithm::SHA256
    } else if SHA384.contains(&oid) {
        HashAlgorithm::SHA384
    } else {
        return None;
    };
    ring::ALL_CIPHER_SUITES
        .iter()
        .filter_map(|suite| suite.tls13())
        .map(|suite| suite.common.hash_provider)
        .find(|hash| hash.algorithm() == wanted)
        .map(|hash| hash.hash(certificate).as_ref().to_vec())
}

/// The object identifier of the algorithm that signed a certificate.
///
/// `SEQUENCE { the certificate proper, SEQUENCE { OBJECT IDENTIFIER, .. }, the signature }`
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (whole, _) = element(certificate, 0x30)?;
    let (_, rest) = element(whole, 0x30)?;
    let (algorithm, _) = element(rest, 0x30)?;
    let (oid, _) = element(algorithm, 0x06)?;
    Some(oid)
}

/// Takes one DER element with this tag: its content, and what follows it.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = input.split_first()?;
    let (length, rest) = rest.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, rest) = match *length {
        short @ 0..=0x7F => (usize::from(short), rest),
        long @ 0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7F))?;
            let length = digits
                .iter()
                .fold(0, |length, digit| length << 8 | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_cut_anywhere_has_no_hash() {
        let certificate = [
            0x30, 0x12, 0x30, 0x03, 0x02, 0x01, 0x00, 0x30, 0x0B, 0x06, 0x09, 0x2A, 0x86, 0x48,
            0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0B,
        ];
        assert_eq!(
            end_point_hash(&certificate).map(|hash| hash.len()),
            Some(32)
        );
        for end in 0..certificate.len() {
            assert_eq!(end_point_hash(&certificate[..end]), None, "{end}");
        }
        let huge = [0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF, 0x30];
        assert_eq!(end_point_hash(&huge), None);
    }
}
