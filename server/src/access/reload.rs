//! Certificates, keys and tokens, read anew when their files change and at SIGHUP.
//!
//! Only connections and requests that come later see what is new: nobody's session ends. Files that
//! do not fit together, as while somebody is replacing them one by one, change nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};

use super::command::Read;
use super::{Access, Shared, Tokens};
use crate::cli::AccessArguments;

/// Between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What is read anew, and what it was read from.
pub(crate) struct Reload {
    arguments: AccessArguments,
    config: Option<PathBuf>,
    data_tls: Option<Shared<rustls::ServerConfig>>,
    control_tls: Option<Shared<rustls::ServerConfig>>,
    tokens: Shared<Tokens>,
    stamps: Vec<Stamp>,
}

/// What shows that a file has changed: its time and its size; nothing if it is not there.
type Stamp = Option<(SystemTime, u64)>;

impl Reload {
    pub(super) fn new(
        arguments: &AccessArguments,
        config: Option<PathBuf>,
        access: &Access,
        tokens: Shared<Tokens>,
    ) -> Self {
        let mut reload = Self {
            arguments: arguments.clone(),
            config,
            data_tls: access.data_tls.clone(),
            control_tls: access.control_tls.clone(),
            tokens,
            stamps: Vec::new(),
        };
        reload.stamps = reload.look();
        reload
    }

    /// Watches the files for as long as the server runs.
    pub(crate) async fn run(mut self) {
        // Without a handler SIGHUP would end the server.
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => Some(hangup),
            Err(error) => {
                tracing::warn!(%error, "SIGHUP cannot be awaited; files are still looked at");
                None
            }
        };
        loop {
            let asked = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            let asked = tokio::time::timeout(LOOK_INTERVAL, asked).await.is_ok();
            let stamps = self.look();
            if asked || stamps != self.stamps {
                self.stamps = stamps;
                self.read();
            }
        }
    }

    fn look(&self) -> Vec<Stamp> {
        let arguments = &self.arguments;
        let files = [
            &arguments.tls_cert,
            &arguments.tls_key,
            &arguments.tls_client_ca,
            &arguments.token_file,
            &self.config,
        ];
        let stamp = |path: &PathBuf| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.modified().ok()?, found.len()))
        };
        let named = files.into_iter().flatten();
        named.map(stamp).collect()
    }

    /// Reads everything, and puts it in place if all of it is usable.
    pub(crate) fn read(&mut self) {
        if let Some(config) = &self.config {
            match crate::config::tokens_of(config) {
                Ok(tokens) => self.arguments.token = tokens,
                Err(error) => return refused(&error),
            }
        }
        match Read::all(&self.arguments) {
            Ok(read) => self.put(read),
            Err(error) => refused(&error),
        }
    }

    fn put(&self, read: Read) {
        for (shared, new) in [
            (&self.data_tls, read.data_tls),
            (&self.control_tls, read.control_tls),
        ] {
            if let (Some(shared), Some(new)) = (shared, new) {
                shared.replace(new);
            }
        }
        self.tokens.replace(Arc::new(read.tokens));
        tracing::info!("certificates and tokens were read anew");
    }
}

fn refused(error: &crate::exit::Failure) {
    tracing::warn!(%error, "certificates and tokens stay as they were");
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::Path;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::access::NewToken;

    fn certify(directory: &Path) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let signed = parameters.self_signed(&key).unwrap();
        std::fs::write(directory.join("c.pem"), signed.pem()).unwrap();
        std::fs::write(directory.join("k.pem"), key.serialize_pem()).unwrap();
    }

    #[test]
    fn what_is_usable_takes_the_place_of_what_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let made = |name: &str| NewToken::make(name.into(), vec![], vec![]).unwrap();
        let (old, new) = (made("old"), made("new"));
        certify(directory.path());
        std::fs::write(path("tokens"), old.entry.to_toml()).unwrap();
        let arguments = AccessArguments {
            tls_cert: Some(path("c.pem")),
            tls_key: Some(path("k.pem")),
            token_file: Some(path("tokens")),
            ..AccessArguments::default()
        };
        let far: [SocketAddr; 1] = ["0.0.0.0:1".parse().unwrap()];
        let (access, mut reload) = Access::new(&arguments, None, &far).unwrap();
        let (authorise, tls) = (access.authorise.unwrap(), access.data_tls.unwrap());
        let lets_in = |token: &NewToken| authorise(Some(&token.token), None).is_ok();
        let first = tls.get();
        assert!(lets_in(&old) && !lets_in(&new));

        let before = reload.look();
        assert_eq!(before, reload.stamps);
        certify(directory.path());
        std::fs::write(
            path("tokens"),
            [&new, &old].map(|t| t.entry.to_toml()).concat(),
        )
        .unwrap();
        assert_ne!(before, reload.look());
        reload.read();
        assert!(lets_in(&old) && lets_in(&new));
        let second = tls.get();
        assert!(!Arc::ptr_eq(&first, &second));

        // A key of another certificate, or no token file, changes nothing.
        std::fs::write(path("tokens"), old.entry.to_toml()).unwrap();
        let other = KeyPair::generate().unwrap();
        std::fs::write(path("k.pem"), other.serialize_pem()).unwrap();
        reload.read();
        assert!(lets_in(&new) && Arc::ptr_eq(&second, &tls.get()));
        certify(directory.path());
        std::fs::remove_file(path("tokens")).unwrap();
        reload.read();
        assert!(lets_in(&new) && Arc::ptr_eq(&second, &tls.get()));

        // Nor does one without tokens; what is left of two counts.
        std::fs::write(path("tokens"), "").unwrap();
        reload.read();
        assert!(lets_in(&new));
        std::fs::write(path("tokens"), old.entry.to_toml()).unwrap();
        reload.read();
        assert!(lets_in(&old) && !lets_in(&new));
    }
}
