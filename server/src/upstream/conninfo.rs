//! Connection strings as libpq reads them: what each key means, and what the environment adds.
//!
//! A key that libpq knows and that would change how we connect is refused if we cannot honour
//! it; nothing is left out in silence. Secrets are never printed, not even by `Debug`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::conninfo_text;

/// A connection string that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ConninfoError {
    /// It does not read.
    #[error("the connection string does not read: {0}")]
    Syntax(String),
    /// A key nobody knows.
    #[error("the connection string has an unknown key {0}")]
    Unknown(String),
    /// A key that is known and not offered here.
    #[error("{0} in the connection string is not supported here; remove it")]
    Unsupported(String),
    /// A value that its key cannot have.
    #[error("{key} in the connection string must be {must_be}")]
    Value { key: String, must_be: String },
    /// No user.
    #[error("the connection string names no user; add user=NAME or set PGUSER")]
    NoUser,
}

/// When to use TLS, and what to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Whether SCRAM must be bound to the TLS channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

/// Which of several hosts will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetSession {
    Any,
    /// One that is not in recovery.
    Primary,
    /// One that is in recovery.
    Standby,
    /// One that is in recovery, or else any.
    PreferStandby,
}

/// A word that is not printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// One place to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// A host name or address, or the directory of a socket.
    pub(crate) name: String,
    /// Address to use instead of asking for the name's.
    pub(crate) address: Option<String>,
    pub(crate) port: u16,
}

impl Host {
    /// Whether this is a socket in the file system (or an abstract one).
    pub(crate) fn is_socket(&self) -> bool {
        self.address.is_none() && self.name.starts_with(['/', '@'])
    }

    /// The socket's path.
    // pg: libpq/pqcomm.h UNIXSOCK_PATH [14-18]
    pub(crate) fn socket_path(&self) -> PathBuf {
        PathBuf::from(format!("{}/.s.PGSQL.{}", self.name, self.port))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_socket() {
            return write!(f, "{}", self.socket_path().display());
        }
        write!(f, "{}:{}", self.name, self.port)
    }
}

/// Where and how to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conninfo {
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: String,
    /// Only for the few questions that replication connections cannot answer.
    pub(crate) database: String,
    pub(crate) password: Option<Secret>,
    pub(crate) passfile: Option<PathBuf>,
    pub(crate) ssl_mode: SslMode,
    pub(crate) ssl_root_cert: Option<PathBuf>,
    /// Whether the system's certificates are trusted (`sslrootcert=system`).
    pub(crate) ssl_system_roots: bool,
    pub(crate) ssl_cert: Option<PathBuf>,
    pub(crate) ssl_key: Option<PathBuf>,
    pub(crate) channel_binding: ChannelBinding,
    pub(crate) target_session: TargetSession,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) application_name: String,
    /// Server settings for the session (`options`).
    pub(crate) options: Option<String>,
}

/// Keys, and the environment variable that gives each where the string does not.
// pg: interfaces/libpq/fe-connect.c PQconninfoOptions [14-18]
const KEYS: &[(&str, &str)] = &[
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("dbname", "PGDATABASE"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("application_name", "PGAPPNAME"),
    ("options", "PGOPTIONS"),
];

/// Keys that are accepted with the values that ask for nothing we do not do; no value listed
/// means any, as the key cannot matter to us.
const HARMLESS: &[(&str, &[&str])] = &[
    ("replication", &["true", "on", "yes", "1"]),
    ("fallback_application_name", &[]),
    ("client_encoding", &[]),
    ("keepalives", &[]),
    ("keepalives_idle", &[]),
    ("keepalives_interval", &[]),
    ("keepalives_count", &[]),
    ("tcp_user_timeout", &[]),
    ("sslcompression", &["0"]),
    ("sslcertmode", &["allow"]),
    ("sslsni", &["1"]),
    (
        "ssl_min_protocol_version",
        &["", "TLSv1", "TLSv1.1", "TLSv1.2"],
    ),
    ("ssl_max_protocol_version", &["", "TLSv1.3"]),
    ("sslnegotiation", &["postgres"]),
    ("gssencmode", &["disable", "prefer"]),
    ("gssdelegation", &["0"]),
    ("krbsrvname", &[]),
    ("gsslib", &[]),
    ("load_balance_hosts", &["disable"]),
    ("min_protocol_version", &["3.0"]),
    ("max_protocol_version", &["3.0", "latest"]),
];

/// Keys that libpq has and that are not offered here.
const UNSUPPORTED: &[&str] = &[
    "service",
    "servicefile",
    "sslcrl",
    "sslcrldir",
    "sslpassword",
    "requiressl",
    "requirepeer",
    "require_auth",
    "scram_client_key",
    "scram_server_key",
    "sslkeylogfile",
    "oauth_issuer",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_scope",
];

impl Conninfo {
    /// Reads a connection string, with the process's environment for what it does not say.
    pub(crate) fn parse(text: &str) -> Result<Self, ConninfoError> {
        Self::parse_with(text, &|name| std::env::var(name).ok())
    }

    /// As [`Self::parse`], with `environment` in the environment's place.
    pub(crate) fn parse_with(
        text: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConninfoError> {
        let pairs = conninfo_text::pairs(text)?;
        for (key, value) in &pairs {
            check_key(key, value)?;
        }
        let settings = Settings { pairs, environment };
        settings.conninfo()
    }

    /// The hosts in words.
    pub(crate) fn hosts_in_words(&self) -> String {
        let names: Vec<String> = self.hosts.iter().map(Host::to_string).collect();
        names.join(", ")
    }
}

fn check_key(key: &str, value: &str) -> Result<(), ConninfoError> {
    if KEYS.iter().any(|(known, _)| *known == key) {
        return Ok(());
    }
    if UNSUPPORTED.contains(&key) {
        return Err(ConninfoError::Unsupported(key.to_owned()));
    }
    match HARMLESS.iter().find(|(known, _)| *known == key) {
        Some((_, values)) if values.is_empty() || values.contains(&value) => Ok(()),
        Some((_, values)) => Err(one_of(key, values)),
        None => Err(ConninfoError::Unknown(key.to_owned())),
    }
}

fn one_of(key: &str, values: &[&str]) -> ConninfoError {
    ConninfoError::Value {
        key: key.to_owned(),
        must_be: values.join(" or "),
    }
}

struct Settings<'a> {
    pairs: conninfo_text::Pairs,
    environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Settings<'_> {
    /// The last value given for a key, or the environment's; empty values count as none.
    fn get(&self, key: &str) -> Option<String> {
        let given = self.pairs.iter().rev().find(|(name, _)| name == key);
        let variable = KEYS.iter().find(|(name, _)| *name == key);
        given
            .map(|(_, value)| value.clone())
            .or_else(|| (self.environment)(variable?.1))
            .filter(|value| !value.is_empty())
    }

    fn choice<T: Copy>(
        &self,
        key: &str,
        default: T,
        choices: &[(&str, T)],
    ) -> Result<T, ConninfoError> {
        let Some(value) = self.get(key) else {
            return Ok(default);
        };
        match choices.iter().find(|(name, _)| *name == value) {
            Some((_, choice)) => Ok(*choice),
            None => {
                let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
                Err(one_of(key, &names))
            }
        }
    }

    fn path(&self, key: &str, under_home: &str) -> Option<PathBuf> {
        self.get(key).map(PathBuf::from).or_else(|| {
            let home = (self.environment)("HOME").filter(|home| !home.is_empty())?;
            Some(PathBuf::from(home).join(under_home)).filter(|path| path.exists())
        })
    }

    fn conninfo(&self) -> Result<Conninfo, ConninfoError> {
        let user = self
            .get("user")
            .or_else(|| (self.environment)("USER"))
            .or_else(|| (self.environment)("LOGNAME"))
            .filter(|user| !user.is_empty())
            .ok_or(ConninfoError::NoUser)?;
        let system = self.get("sslrootcert").as_deref() == Some("system");
        let default_mode = if system {
            SslMode::VerifyFull
        } else {
            SslMode::Prefer
        };
        let ssl_mode = self.choice(
            "sslmode",
            default_mode,
            &[
                ("disable", SslMode::Disable),
                ("allow", SslMode::Allow),
                ("prefer", SslMode::Prefer),
                ("require", SslMode::Require),
                ("verify-ca", SslMode::VerifyCa),
                ("verify-full", SslMode::VerifyFull),
            ],
        )?;
        if system && ssl_mode != SslMode::VerifyFull {
            return Err(one_of(
                "sslmode",
                &["verify-full, as sslrootcert=system is given"],
            ));
        }
        Ok(Conninfo {
            hosts: self.hosts()?,
            database: self.get("dbname").unwrap_or_else(|| "postgres".to_owned()),
            password: self.get("password").map(Secret::new),
            passfile: self.path("passfile", ".pgpass"),
            ssl_mode,
            ssl_root_cert: self
                .path("sslrootcert", ".postgresql/root.crt")
                .filter(|_| !system),
            ssl_system_roots: system,
            ssl_cert: self.path("sslcert", ".postgresql/postgresql.crt"),
            ssl_key: self.path("sslkey", ".postgresql/postgresql.key"),
            channel_binding: self.choice(
                "channel_binding",
                ChannelBinding::Prefer,
                &[
                    ("disable", ChannelBinding::Disable),
                    ("prefer", ChannelBinding::Prefer),
                    ("require", ChannelBinding::Require),
                ],
            )?,
            target_session: self.choice(
                "target_session_attrs",
                TargetSession::Any,
                &[
                    ("any", TargetSession::Any),
                    ("primary", TargetSession::Primary),
                    ("read-write", TargetSession::Primary),
                    ("standby", TargetSession::Standby),
                    ("read-only", TargetSession::Standby),
                    ("prefer-standby", TargetSession::PreferStandby),
                ],
            )?,
            connect_timeout: self.connect_timeout()?,
            application_name: self
                .get("application_name")
                .unwrap_or_else(|| "redostream".to_owned()),
            options: self.get("options"),
            user,
        })
    }

    // pg: interfaces/libpq/fe-connect.c connectDBComplete [14-18]: 0 and less wait for ever, 1 is 2
    fn connect_timeout(&self) -> Result<Option<Duration>, ConninfoError> {
        let Some(text) = self.get("connect_timeout") else {
            return Ok(None);
        };
        let seconds: i32 = text
            .trim()
            .parse()
            .map_err(|_| one_of("connect_timeout", &["a number of seconds"]))?;
        Ok(u64::try_from(seconds)
            .ok()
            .filter(|seconds| *seconds > 0)
            .map(|seconds| Duration::from_secs(seconds.max(2))))
    }

    fn hosts(&self) -> Result<Vec<Host>, ConninfoError> {
        let list = |key| -> Vec<String> {
            let split = |text: String| text.split(',').map(str::to_owned).collect();
            self.get(key).map(split).unwrap_or_default()
        };
        let (names, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
        let count = names.len().max(addresses.len()).max(1);
        let fits = |given: &[String]| given.is_empty() || given.len() == count;
        if !fits(&names) || !fits(&addresses) {
            return Err(one_of("hostaddr", &["as many as there are in host"]));
        }
        if ports.len() > 1 && ports.len() != count {
            return Err(one_of("port", &["one, or as many as there are hosts"]));
        }
        (0..count)
            .map(|index| {
                let given =
                    |list: &[String]| list.get(index).filter(|text| !text.is_empty()).cloned();
                let port =
                    given(&ports).or_else(|| ports.first().filter(|_| ports.len() == 1).cloned());
                let port = match port.filter(|port| !port.is_empty()) {
                    None => 5432,
                    Some(port) => port
                        .trim()
                        .parse()
                        .ok()
                        .filter(|port| *port > 0)
                        .ok_or_else(|| one_of("port", &["a number from 1 to 65535"]))?,
                };
                let address = given(&addresses);
                Ok(Host {
                    name: given(&names)
                        .or_else(|| address.clone())
                        .unwrap_or_else(|| default_host(port)),
                    address,
                    port,
                })
            })
            .collect()
    }
}

/// Where libpq looks when no host is given: the distribution's socket directory, PostgreSQL's
/// own, or else this machine by TCP.
fn default_host(port: u16) -> String {
    ["/var/run/postgresql", "/tmp"]
        .into_iter()
        .find(|directory| PathBuf::from(format!("{directory}/.s.PGSQL.{port}")).exists())
        .unwrap_or("localhost")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Conninfo, ConninfoError> {
        Conninfo::parse_with(text, &|name| (name == "USER").then(|| "me".to_owned()))
    }

    #[test]
    fn what_is_not_said_has_libpqs_defaults() {
        let info = parse("host=a").unwrap();
        assert_eq!(info.hosts_in_words(), "a:5432");
        assert_eq!(info.user, "me");
        assert_eq!(info.ssl_mode, SslMode::Prefer);
        assert_eq!(info.application_name, "redostream");
        assert_eq!(info.connect_timeout, None);
        assert_eq!(
            Conninfo::parse_with("host=a", &|_| None),
            Err(ConninfoError::NoUser)
        );
    }

    #[test]
    fn the_environment_stands_back() {
        let environment = |name: &str| {
            let value = match name {
                "PGHOST" => "there",
                "PGPORT" => "6000",
                "PGUSER" => "other",
                "PGPASSWORD" => "hush",
                "PGSSLMODE" => "disable",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let info = Conninfo::parse_with("user=me", &environment).unwrap();
        assert_eq!(info.hosts_in_words(), "there:6000");
        assert_eq!(
            (info.user.as_str(), info.ssl_mode),
            ("me", SslMode::Disable)
        );
        assert_eq!(info.password.unwrap().reveal(), "hush");
    }

    #[test]
    fn several_hosts() {
        let hosts = |text| parse(text).unwrap().hosts_in_words();
        assert_eq!(hosts("host=a,b port=1,2"), "a:1, b:2");
        assert_eq!(hosts("host=a,b port=7"), "a:7, b:7");
        assert_eq!(hosts("host=a,/tmp port=,7"), "a:5432, /tmp/.s.PGSQL.7");
        assert_eq!(hosts("postgresql://h1:1,h2/?user=x"), "h1:1, h2:5432");
        assert_eq!(hosts("hostaddr=127.0.0.1"), "127.0.0.1:5432");
        assert!(parse("host=a,b port=1,2,3").is_err());
        assert!(parse("host=a,b,c hostaddr=1.1.1.1,2.2.2.2").is_err());
    }

    #[test]
    fn a_standbys_primary_conninfo_is_accepted() {
        parse(
            "user=postgres passfile='/var/lib/postgresql/.pgpass' channel_binding=prefer \
             host=127.0.0.1 port=5432 sslmode=prefer sslnegotiation=postgres sslcompression=0 \
             sslcertmode=allow sslsni=1 ssl_min_protocol_version=TLSv1.2 gssencmode=prefer \
             krbsrvname=postgres gssdelegation=0 target_session_attrs=any \
             load_balance_hosts=disable dbname=replication",
        )
        .unwrap();
    }

    #[test]
    fn errors_name_the_key() {
        for (text, said) in [
            ("hots=a", "unknown key hots"),
            ("service=x", "service"),
            ("sslmode=yes", "sslmode"),
            ("port=0", "port"),
            ("port=x", "port"),
            ("connect_timeout=soon", "connect_timeout"),
            ("gssencmode=require", "gssencmode"),
            ("sslrootcert=system sslmode=require", "sslmode"),
            ("target_session_attrs=all", "target_session_attrs"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let info = parse("host=a password=hush").unwrap();
        assert!(!format!("{info:?}").contains("hush"));
    }
}
