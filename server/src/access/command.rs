//! Access as the command line has it: settings for sessions out of files, and new tokens.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::{
    Attempts, AttemptsOptions, NewToken, Reload, Shared, TlsFiles, TokenError, Tokens,
    authorise_by, read_token_file, server_config,
};
use crate::cli::{AccessArguments, TokenArguments};
use crate::exit::Failure;
use crate::session::Authorise;

/// What sessions are served with.
pub(crate) struct Access {
    pub(crate) authorise: Option<Authorise>,
    pub(crate) data_tls: Option<Shared<rustls::ServerConfig>>,
    pub(crate) control_tls: Option<Shared<rustls::ServerConfig>>,
}

/// What the files say.
pub(super) struct Read {
    pub(super) tokens: Tokens,
    pub(super) data_tls: Option<Arc<rustls::ServerConfig>>,
    pub(super) control_tls: Option<Arc<rustls::ServerConfig>>,
}

impl Read {
    /// Reads them all.
    pub(super) fn all(arguments: &AccessArguments) -> Result<Self, Failure> {
        let usage = |error: TokenError| Failure::Usage(error.to_string());
        let mut entries = arguments.token.clone();
        if let Some(path) = &arguments.token_file {
            entries.extend(read_token_file(path).map_err(usage)?);
        }
        let files = tls_files(arguments);
        let tls = |protocols: &[&str]| {
            let files = files.as_ref();
            let config = files
                .map(|files| server_config(files, protocols))
                .transpose();
            config.map_err(|error| Failure::Usage(error.to_string()))
        };
        Ok(Self {
            tokens: Tokens::new(&entries).map_err(usage)?,
            data_tls: tls(&[])?,
            control_tls: tls(&["h2"])?,
        })
    }
}

fn tls_files(arguments: &AccessArguments) -> Option<TlsFiles> {
    let files = arguments.tls_cert.as_ref().zip(arguments.tls_key.as_ref());
    files.map(|(certificate, key)| TlsFiles {
        certificate: certificate.clone(),
        key: key.clone(),
        client_authorities: arguments.tls_client_ca.clone(),
    })
}

impl Access {
    /// Reads the files; refuses to listen beyond loopback with open doors. What is given beside it
    /// keeps them up to date; `config` is the file that `[[token]]` sections stand in.
    pub(crate) fn new(
        arguments: &AccessArguments,
        config: Option<PathBuf>,
        listen: &[SocketAddr],
    ) -> Result<(Self, Reload), Failure> {
        let read = Read::all(arguments)?;
        if !arguments.insecure {
            refuse_open_doors(listen, tls_files(arguments).as_ref(), &read.tokens)?;
        }
        // Once tokens are wanted, they stay wanted, whatever the files say later.
        let wanted = arguments.token_file.is_some() || !read.tokens.is_empty();
        let tokens = Shared::new(Arc::new(read.tokens));
        let attempts = || Attempts::new(AttemptsOptions::default());
        let access = Self {
            data_tls: read.data_tls.map(Shared::new),
            control_tls: read.control_tls.map(Shared::new),
            authorise: wanted.then(|| authorise_by(tokens.clone(), attempts())),
        };
        let reload = Reload::new(arguments, config, &access, tokens);
        Ok((access, reload))
    }
}

/// Not beyond loopback without TLS and authentication.
fn refuse_open_doors(
    listen: &[SocketAddr],
    files: Option<&TlsFiles>,
    tokens: &Tokens,
) -> Result<(), Failure> {
    let Some(address) = listen.iter().find(|address| !address.ip().is_loopback()) else {
        return Ok(());
    };
    let with_certificates = files.is_some_and(|files| files.client_authorities.is_some());
    let lacks = match (files, tokens.is_empty() && !with_certificates) {
        (None, true) => {
            "neither encrypted nor authenticated; give --tls-cert and --tls-key, and \
                         --token-file or --tls-client-ca"
        }
        (None, false) => "not encrypted; give --tls-cert and --tls-key",
        (Some(_), true) => "not authenticated; give --token-file or --tls-client-ca",
        (Some(_), false) => return Ok(()),
    };
    Err(Failure::Usage(format!(
        "{address} is not loopback and connections would be {lacks}; or listen on loopback, or \
         say --insecure if the network is trusted"
    )))
}

/// `redostream-server token`.
pub(crate) fn run(arguments: &TokenArguments) -> Result<(), Failure> {
    let made = NewToken::make(
        arguments.name.clone(),
        arguments.database.clone(),
        arguments.table.clone(),
    );
    let made = made.map_err(|error| match error {
        TokenError::Random => Failure::Runtime(error.to_string()),
        error => Failure::Usage(error.to_string()),
    })?;
    let Some(path) = &arguments.out else {
        println!("{}", made.token);
        eprintln!(
            "The token is above, for the client's --token-file or REDOSTREAM_TOKEN; it is kept \
             nowhere. For the server's configuration, or its --token-file:\n"
        );
        eprint!("{}", made.entry.to_toml());
        return Ok(());
    };
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut file| {
        writeln!(file, "{}", made.token)?;
        file.sync_all()
    });
    written.map_err(|error| Failure::Runtime(format!("{}: {error}", path.display())))?;
    print!("{}", made.entry.to_toml());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_beyond_loopback_are_closed_unless_said_otherwise() {
        let far: Vec<SocketAddr> = ["127.0.0.1:1", "0.0.0.0:2"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        let tls = |client: bool| TlsFiles {
            certificate: "c".into(),
            key: "k".into(),
            client_authorities: client.then(|| "a".into()),
        };
        let some = NewToken::make("x".into(), vec![], vec![]).unwrap().entry;
        let (none, some) = (Tokens::default(), Tokens::new(&[some]).unwrap());
        let refused = |files: Option<TlsFiles>, tokens: &Tokens| {
            refuse_open_doors(&far, files.as_ref(), tokens)
                .err()
                .map(|error| error.to_string())
        };
        assert!(refuse_open_doors(&far[..1], None, &none).is_ok());
        assert!(
            refused(None, &none)
                .unwrap()
                .contains("neither encrypted nor")
        );
        assert!(refused(None, &some).unwrap().contains("not encrypted"));
        assert!(
            refused(Some(tls(false)), &none)
                .unwrap()
                .contains("not authenticated")
        );
        assert_eq!(refused(Some(tls(false)), &some), None);
        assert_eq!(refused(Some(tls(true)), &none), None);
    }
}
