//! What serving begins from: a restart point if there is one, else a copy of the catalog; and where
//! WAL comes from.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, io};

use redostream_engine::catalog::Catalog;
use redostream_engine::catalog::bootstrap::control_file::WalLevel;
use redostream_engine::catalog::bootstrap::{self, Bootstrap, BootstrapError, DataDirectory};
use redostream_engine::gate::Gate;
use redostream_engine::source::{
    FileSource, FileSourceOptions, RedoBuffer, Restore, SegmentSize, Source, SourceMetrics,
    SwitchingSource, TimelineChoice, Upstream,
};
use redostream_protocol::Lsn;

use crate::cli::ServeArguments;
use crate::exit::Failure;
use crate::live::{Begin, Setting, newest_usable};
use crate::restart_point::RestartPoints;
use crate::upstream::{Connection, Conninfo, Purpose, Receiver, ReceiverOptions, SystemIdentity};

/// How often the copy of the catalog is tried when its WAL is not at hand yet.
const LOAD_ATTEMPTS: u32 = 30;

/// What serving begins from.
pub(crate) struct Started {
    pub(crate) setting: Setting,
    pub(crate) begin: Begin,
    pub(crate) points: RestartPoints,
    pub(crate) receiver: Option<Receiver>,
    /// The files, if they are all there is.
    pub(crate) files: Option<Arc<FileSource>>,
}

fn runtime(error: impl ToString) -> Failure {
    Failure::Runtime(error.to_string())
}

/// Looks at everything and decides.
pub(crate) async fn start(arguments: &ServeArguments) -> Result<Started, Failure> {
    let directory = DataDirectory::open(&arguments.pgdata).map_err(runtime)?;
    let control = directory.control();
    let points = RestartPoints::open(
        &arguments.state,
        control.system_identifier,
        &arguments.database,
        arguments.state_max,
    )
    .map_err(runtime)?;
    let mut connected = match &arguments.upstream {
        Some(conninfo) => Some(connect(arguments, conninfo, &directory).await?),
        None => None,
    };
    let from = if points.has_any() {
        From::Point
    } else {
        let upstream = connected.as_mut().map(|all| &mut all.connection);
        From::Copy(Box::new(load(&directory, upstream).await?))
    };
    let choice = match &from {
        From::Copy(copied) => TimelineChoice::Newest {
            of: copied.1.timeline,
            at: copied.1.redo,
        },
        From::Point => TimelineChoice::Newest {
            of: control.checkpoint.timeline,
            at: control.checkpoint.redo,
        },
    };
    let files = Arc::new(file_source(arguments, &directory, choice)?);
    let upstream = Arc::new(Upstream::new((*files.history()).clone()));
    let metrics = Arc::new(SourceMetrics::default());
    let segment_bytes = u64::from(control.segment_bytes);
    let (mut receiver, mut slot_at) = (None, None);
    let mut source: Arc<dyn Source> = Arc::clone(&files) as Arc<dyn Source>;
    if let Some(Connected {
        conninfo,
        mut connection,
        slot_at: kept,
    }) = connected
    {
        slot_at = kept;
        let identity = connection.identify_system().await.map_err(runtime)?;
        connection.close().await;
        upstream.report(identity.flushed);
        let buffer_bytes = usize::try_from(arguments.buffer).unwrap_or(usize::MAX);
        let buffer = Arc::new(RedoBuffer::new(buffer_bytes));
        let start = Lsn(identity.flushed.0 / segment_bytes * segment_bytes);
        let mut options = ReceiverOptions::new(conninfo, control.system_identifier, start);
        options.slot.clone_from(&arguments.slot);
        receiver = Some(Receiver::new(
            options,
            Arc::clone(&buffer),
            Arc::clone(&upstream),
        ));
        source = Arc::new(SwitchingSource::new(
            buffer,
            Arc::clone(&upstream),
            Some(Arc::clone(&files)),
            false,
            segment_bytes,
            Arc::clone(&metrics),
        ));
    }
    let setting = Setting {
        system_identifier: control.system_identifier,
        format: directory.format(),
        segment_bytes,
        source,
        databases: arguments.database.clone(),
        state: arguments.state.clone(),
        decoders: arguments.decoders,
        memory_bytes: usize::try_from(arguments.memory).unwrap_or(usize::MAX),
        spill_bytes: arguments.spill_max,
        room_wait: Duration::from_millis(arguments.room_wait_ms),
        feed_bytes: arguments.feed,
        restart_point_bytes: arguments.restart_point_wal,
        upstream,
        source_metrics: metrics,
        received: receiver.as_ref().map(Receiver::state),
    };
    let begin = match from {
        From::Copy(copied) => {
            let (catalog, loaded) = *copied;
            fresh(catalog, &loaded, &directory, &setting)
        }
        From::Point => again(arguments, &points, &files, &directory)?,
    };
    if let (Some(received), Some(kept)) = (&setting.received, slot_at) {
        received.set_not_needed_before(kept);
    }
    Ok(Started {
        setting,
        begin,
        points,
        files: receiver.is_none().then_some(files),
        receiver,
    })
}

enum From {
    Copy(Box<(Catalog, Bootstrap)>),
    Point,
}

/// Begins with a copied catalog.
fn fresh(
    catalog: Catalog,
    loaded: &Bootstrap,
    directory: &DataDirectory,
    setting: &Setting,
) -> Begin {
    let gate = Gate::new(
        catalog,
        loaded.readiness(),
        directory.format(),
        setting.selection(Lsn::INVALID),
        setting.timeline_at(),
        loaded.segment_bytes,
        loaded.redo,
    );
    Begin::Fresh(Box::new(gate))
}

/// Goes on from the newest restart point that can be used.
fn again(
    arguments: &ServeArguments,
    points: &RestartPoints,
    files: &FileSource,
    directory: &DataDirectory,
) -> Result<Begin, Failure> {
    let state = arguments.state.display();
    let found = newest_usable(points, &files.history(), Lsn::MAX).map_err(runtime)?;
    let Some(stored) = found else {
        return Err(Failure::Runtime(format!(
            "none of the restart points in {state} can be used: they are damaged, or lie on a \
             timeline that is not in the history of {}; to begin afresh, which loses the place of \
             every subscriber, empty {state}",
            arguments.pgdata.display()
        )));
    };
    let next = stored.head.next;
    let wal_level = directory.control().wal_level;
    if wal_level != WalLevel::Logical {
        return Err(Failure::Runtime(format!(
            "wal_level of this cluster is now {}: what follows {next}, where decoding has to go \
             on, may not be decodable; set wal_level = logical on the primary, and begin again \
             with an empty {state}",
            wal_level.name()
        )));
    }
    if let Err(error) = files.available(next) {
        return Err(Failure::Runtime(format!(
            "WAL from {next} on is needed to go on from the last restart point, and it is gone: \
             {error}; give it with --archive, --restore-command or --wal, or begin afresh with an \
             empty {state}, which loses the place of every subscriber"
        )));
    }
    tracing::info!(
        from = %next, timeline = %stored.head.timeline, covers = %stored.head.covers,
        open_transactions = stored.assembly.open().count(),
        "going on from a restart point"
    );
    Ok(Begin::From(Box::new(stored)))
}

/// An upstream that was found fit.
struct Connected {
    conninfo: Arc<Conninfo>,
    connection: Connection,
    /// What the slot keeps.
    slot_at: Option<Lsn>,
}

async fn connect(
    arguments: &ServeArguments,
    conninfo: &str,
    directory: &DataDirectory,
) -> Result<Connected, Failure> {
    let conninfo = Arc::new(Conninfo::parse(conninfo).map_err(|e| Failure::Usage(e.to_string()))?);
    let mut connection = Connection::open(&conninfo, Purpose::Replication)
        .await
        .map_err(runtime)?;
    connection.major_version().map_err(runtime)?;
    let identity = connection.identify_system().await.map_err(runtime)?;
    check_cluster(directory, &identity)?;
    connection.check_wal_level().await.map_err(runtime)?;
    let streamed = connection.segment_size().await.map_err(runtime)?.bytes();
    let ours = u64::from(directory.control().segment_bytes);
    if streamed != ours {
        return Err(Failure::Runtime(format!(
            "the upstream's WAL segments have {streamed} bytes, those of {} {ours}",
            directory.root().display()
        )));
    }
    // The slot first: what it keeps is there when the files have been read.
    let mut slot_at = None;
    if let Some(slot) = &arguments.slot {
        let made = connection
            .ensure_slot(slot, &conninfo)
            .await
            .map_err(runtime)?;
        if made.created {
            eprintln!("replication slot \"{slot}\" created");
        }
        slot_at = made.restart_lsn;
    }
    Ok(Connected {
        conninfo,
        connection,
        slot_at,
    })
}

fn check_cluster(directory: &DataDirectory, identity: &SystemIdentity) -> Result<(), Failure> {
    let ours = directory.control().system_identifier;
    if ours == identity.system_identifier {
        return Ok(());
    }
    Err(Failure::Runtime(format!(
        "the upstream is cluster {}, but {} belongs to cluster {ours}; point --upstream and \
         --pgdata at the same cluster",
        identity.system_identifier,
        directory.root().display()
    )))
}

/// Copies the catalog, beside a running server if there is one. A copy that is ahead of what the
/// upstream reports is tried again.
async fn load(
    directory: &DataDirectory,
    connection: Option<&mut Connection>,
) -> Result<(Catalog, Bootstrap), Failure> {
    let Some(connection) = connection else {
        let mut catalog = Catalog::new(directory.format());
        let loaded = bootstrap::load(directory, None, &mut catalog).map_err(runtime)?;
        return Ok((catalog, loaded));
    };
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut catalog = Catalog::new(directory.format());
        let asked = Asked::default();
        // Asked before and after: the second answer is not before any file was read.
        let copied = {
            let flushed = connection.identify_system().await.map_err(runtime)?.flushed;
            asked.set(flushed);
            bootstrap::load(directory, Some(&asked), &mut catalog)
        };
        let after = connection.identify_system().await.map_err(runtime)?.flushed;
        match copied {
            Ok(mut loaded) => {
                loaded.rule.at_least = loaded.rule.at_least.max(after);
                return Ok((catalog, loaded));
            }
            Err(error @ BootstrapError::UpstreamBehind { .. }) if attempt < LOAD_ATTEMPTS => {
                tracing::info!(%error, attempt, "copying the catalog again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => return Err(runtime(error)),
        }
    }
}

/// What the upstream said before the files were read.
#[derive(Default)]
struct Asked(AtomicU64);

impl Asked {
    fn set(&self, lsn: Lsn) {
        self.0.store(lsn.0, Ordering::Release);
    }
}

impl bootstrap::Upstream for Asked {
    fn flushed_or_replayed(&self) -> Result<Lsn, String> {
        Ok(Lsn(self.0.load(Ordering::Acquire)))
    }
}

fn file_source(
    arguments: &ServeArguments,
    directory: &DataDirectory,
    choice: TimelineChoice,
) -> Result<FileSource, Failure> {
    let mut directories = vec![arguments.pgdata.join("pg_wal")];
    if !arguments.wal.is_empty() && arguments.upstream.is_none() {
        directories.clear();
    }
    directories.extend(arguments.wal.iter().cloned());
    directories.extend(arguments.archive.iter().cloned());
    let control = directory.control();
    let segment_size = SegmentSize::new(u64::from(control.segment_bytes))
        .ok_or_else(|| Failure::Runtime("no size of WAL segments".to_owned()))?;
    let restore = match &arguments.restore_command {
        Some(command) => {
            let fetched = arguments.state.join("restored");
            fs::create_dir_all(&fetched).map_err(|error| {
                Failure::Runtime(format!("directory {}: {error}", fetched.display()))
            })?;
            let command: Arc<dyn Restore> = Arc::new(RestoreCommand(command.clone()));
            Some((command, fetched))
        }
        None => None,
    };
    let options = FileSourceOptions {
        directories,
        system_identifier: control.system_identifier,
        segment_size,
        page_magic: directory.format().page_magic,
        closed: false,
        restore,
    };
    FileSource::open(options, choice).map_err(runtime)
}

/// A command as in `restore_command`: `%f` is the file wanted, `%p` where to put it.
// pg: access/transam/xlogarchive.c RestoreArchivedFile, common/archive.c BuildRestoreCommand [14-18]
struct RestoreCommand(String);

impl RestoreCommand {
    fn line(&self, name: &str, to: &Path) -> String {
        let mut line = String::new();
        let mut rest = self.0.chars();
        while let Some(c) = rest.next() {
            match (c, rest.clone().next()) {
                ('%', Some('f')) => line.push_str(name),
                ('%', Some('p')) => line.push_str(&to.to_string_lossy()),
                ('%', Some('%')) => line.push('%'),
                _ => {
                    line.push(c);
                    continue;
                }
            }
            rest.next();
        }
        line
    }
}

impl Restore for RestoreCommand {
    fn fetch(&self, name: &str, to: &Path) -> io::Result<bool> {
        let line = self.line(name, to);
        let status = Command::new("sh").arg("-c").arg(&line).status()?;
        match status.code() {
            Some(0) => Ok(to.exists()),
            // As for PostgreSQL, any other status says that there is no such file.
            Some(1..=125) => Ok(false),
            _ => Err(io::Error::other(format!(
                "the restore command ended with {status}: {line}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restore_commands_are_written_as_in_postgresql() {
        let command = RestoreCommand("cp /a/%f '%p' 50%% %x %".to_owned());
        let line = command.line("0000000100000000000000A1", Path::new("/s/x"));
        assert_eq!(line, "cp /a/0000000100000000000000A1 '/s/x' 50% %x %");
    }

    #[test]
    fn a_file_is_fetched_or_is_not_there() {
        let archive = tempfile::tempdir().unwrap();
        fs::write(archive.path().join("0001"), b"wal").unwrap();
        let command = RestoreCommand(format!("cp {}/%f %p", archive.path().display()));
        let to = archive.path().join("to");
        assert!(!command.fetch("0002", &to).unwrap());
        assert!(command.fetch("0001", &to).unwrap());
        assert_eq!(fs::read(&to).unwrap(), b"wal");
        let killed = RestoreCommand("kill -9 $$".to_owned());
        assert!(killed.fetch("0001", &to).is_err());
    }
}
