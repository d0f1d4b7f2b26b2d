//! A server over recorded files, and what the client library gets from it.

use std::path::Path;
use std::process::Command;

use redostream_client::protocol::Position;
use redostream_client::protocol::control::{From as Place, Until};
use redostream_client::protocol::event::EventKind;
use redostream_client::{ClientError, Options, Subscription};
use redostream_testdata::recorded::{case, unpack_base};
use tempfile::TempDir;

use crate::programs;
use crate::serve::Background;

/// A base and the WAL after it, with where it ends.
pub(crate) struct Recorded {
    pub(crate) base: TempDir,
    pub(crate) wal: TempDir,
    pub(crate) end: String,
}

impl Recorded {
    pub(crate) fn of(version: u32, name: &str) -> Self {
        let case = case(version, name).unwrap();
        let (base, wal) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        unpack_base(version, base.path()).unwrap();
        case.unpack_wal(wal.path()).unwrap();
        Self {
            base,
            wal,
            end: case.facts.end.clone(),
        }
    }

    pub(crate) fn serve(&self, state: &Path, more: &[&str]) -> FileServer {
        FileServer::start(self.base.path(), self.wal.path(), state, more)
    }

    /// Everything up to the end.
    pub(crate) fn options(&self, servers: &[&FileServer]) -> Options {
        let mut options = Options::new(servers.iter().map(|server| server.control.clone()));
        options.from = Some(Place::Earliest);
        options.until = Some(Until::Lsn(self.end.parse().unwrap()));
        options.reconnect = false;
        options
    }
}

/// `redostream-server serve` without an upstream.
pub(crate) struct FileServer {
    pub(crate) process: Background,
    /// Address of its control plane.
    pub(crate) control: String,
}

impl FileServer {
    pub(crate) fn start(base: &Path, wal: &Path, state: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(programs::server());
        command.args(["--log-format", "json", "serve"]);
        command.arg("--pgdata").arg(base).arg("--wal").arg(wal);
        command.arg("--state").arg(state);
        if !more.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0", "--listen-data", "127.0.0.1:0"]);
        }
        let mut process = Background::start(command.args(more));
        process.wait_until("ready line", |server| {
            server.errors().contains("ready earliest=")
        });
        let errors = process.errors();
        let lines = errors.lines().filter(|line| line.starts_with('{'));
        let mut lines = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let listening = lines.find(|line| line["fields"]["message"] == "listening");
        let control = listening.unwrap()["fields"]["control"]
            .as_str()
            .unwrap()
            .to_owned();
        Self { process, control }
    }
}

/// An event as two servers must give it alike: relations are numbered by each for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) position: Position,
    kind: EventKind,
    /// Checksum of its bytes; 0 for a commit, which counts what its session was sent.
    content: u32,
}

/// The next event.
pub(crate) async fn next(subscription: &mut Subscription) -> Result<Option<Seen>, ClientError> {
    let Some(change) = subscription.next_event().await? else {
        return Ok(None);
    };
    let event = change.event()?;
    let content = match event.header.kind {
        EventKind::Commit => 0,
        _ => crc32fast::hash(event.payload),
    };
    Ok(Some(Seen {
        position: change.position,
        kind: event.header.kind,
        content,
    }))
}

/// Everything that is asked for.
pub(crate) async fn all(options: Options) -> Result<Vec<Seen>, ClientError> {
    let mut subscription = Subscription::open(options).await?;
    let mut events = Vec::new();
    while let Some(event) = next(&mut subscription).await? {
        events.push(event);
    }
    Ok(events)
}
