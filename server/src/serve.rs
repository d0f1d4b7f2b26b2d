//! `redostream-server serve`: beside a standby, for as long as it is wanted.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redostream_engine::catalog::Catalog;
use redostream_engine::catalog::bootstrap::{self, Bootstrap, BootstrapError, DataDirectory};
use redostream_engine::gate::Gate;
use redostream_engine::source::{
    FileSource, FileSourceOptions, RedoBuffer, SegmentSize, Source, SourceMetrics, SwitchingSource,
    TimelineChoice, Upstream,
};
use redostream_protocol::Lsn;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::access::Access;
use crate::cli::{DecommissionArguments, ServeArguments};
use crate::exit::Failure;
use crate::live::{Live, LiveProvider, Setting};
use crate::session::{FileStore, Listeners, SessionOptions, SessionServer};
use crate::upstream::{
    Connection, Conninfo, Purpose, Receiver, ReceiverOptions, SystemIdentity, UpstreamError,
};

/// How long clients get to take their last frames.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often the copy of the catalog is tried when its WAL is not at hand yet.
const LOAD_ATTEMPTS: u32 = 30;

/// Runs the command.
pub(crate) fn run(arguments: &ServeArguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Runtime(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(serve(arguments));
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

/// Drops the slot of a server that is no longer wanted.
pub(crate) fn decommission(arguments: &DecommissionArguments) -> Result<(), Failure> {
    let conninfo =
        Conninfo::parse(&arguments.upstream).map_err(|error| Failure::Usage(error.to_string()))?;
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    tokio.map_err(runtime)?.block_on(async {
        let mut connection = Connection::open(&conninfo, Purpose::Replication)
            .await
            .map_err(runtime)?;
        connection
            .drop_slot(&arguments.slot)
            .await
            .map_err(runtime)?;
        connection.close().await;
        println!("replication slot \"{}\" dropped", arguments.slot);
        Ok(())
    })
}

fn runtime(error: impl ToString) -> Failure {
    Failure::Runtime(error.to_string())
}

async fn serve(arguments: &ServeArguments) -> Result<(), Failure> {
    let access = Access::new(
        &arguments.access,
        &[arguments.listen, arguments.data_address()],
    )?;
    let _lock = lock_state(&arguments.state)?;
    let control = listen(arguments.listen).await?;
    let data_address = arguments.data_address();
    let data = listen(data_address).await?;
    let directory = DataDirectory::open(&arguments.pgdata).map_err(runtime)?;
    let prepared = prepare(arguments, directory).await?;
    let Prepared {
        catalog,
        directory,
        loaded,
        source,
        receiver,
    } = prepared;
    let relations = catalog.registry().clone();
    let setting = Setting {
        system_identifier: loaded.system_identifier,
        format: directory.format(),
        segment_bytes: loaded.segment_bytes,
        source,
        databases: arguments.database.clone(),
        state: arguments.state.clone(),
        decoders: arguments.decoders,
        memory_bytes: usize::try_from(arguments.memory).unwrap_or(usize::MAX),
        spill_bytes: arguments.spill_max,
        feed_bytes: arguments.buffer,
        received: receiver.as_ref().map(Receiver::state),
    };
    let gate = Gate::new(
        catalog,
        loaded.readiness(),
        directory.format(),
        setting.selection(Lsn::INVALID),
        setting.timeline_at(),
        loaded.segment_bytes,
        loaded.redo,
    );
    run_live(
        arguments,
        setting,
        relations,
        gate,
        receiver,
        Listeners { control, data },
        access,
    )
    .await
}

async fn run_live(
    arguments: &ServeArguments,
    setting: Setting,
    relations: redostream_engine::catalog::RelationRegistry,
    gate: Gate,
    receiver: Option<Receiver>,
    listeners: Listeners,
    access: Access,
) -> Result<(), Failure> {
    let live = Arc::new(Live::new(setting, relations));
    let store = FileStore::open(arguments.state.join("subscriptions")).map_err(runtime)?;
    let provider = Arc::new(LiveProvider(Arc::clone(&live)));
    let options = SessionOptions {
        peer_timeout: Duration::from_millis(arguments.peer_timeout_ms),
        advertise_data: arguments.advertise_data.clone().into_iter().collect(),
        authorise: access.authorise,
        data_tls: access.data_tls,
        control_tls: access.control_tls,
        ..SessionOptions::default()
    };
    let sessions =
        SessionServer::start(provider, Box::new(store), listeners, options).map_err(runtime)?;
    tracing::info!(
        control = %sessions.control_address(),
        data = %sessions.data_address(),
        "listening"
    );
    let (shutdown, stopped) = watch::channel(false);
    let receiving = receiver.map(|receiver| tokio::spawn(receiver.run(stopped)));
    let pipeline = {
        let live = Arc::clone(&live);
        tokio::task::spawn_blocking(move || live.run(gate))
    };
    let announcing = tokio::spawn(announce(live.ready()));
    let result = wait_for_end(pipeline, receiving, &live).await;
    announcing.abort();
    sessions.stop(FAREWELL).await;
    live.stop.stop();
    // Nobody listens if there is no upstream.
    let _ = shutdown.send(true);
    result
}

/// Waits for a signal, the end of decoding, or an upstream that waiting does not mend.
async fn wait_for_end(
    mut pipeline: tokio::task::JoinHandle<Result<(), redostream_engine::error::EngineError>>,
    receiving: Option<tokio::task::JoinHandle<Result<(), UpstreamError>>>,
    live: &Live,
) -> Result<(), Failure> {
    let upstream = async {
        match receiving {
            Some(receiving) => receiving.await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = &mut pipeline => match ended {
            Ok(result) => result.map_err(Failure::from),
            Err(error) => Err(runtime(error)),
        },
        ended = upstream => {
            live.stop.stop();
            match ended {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(runtime(error)),
                Err(error) => Err(runtime(error)),
            }
        }
        signal = signalled() => {
            tracing::info!(signal, "stopping");
            live.stop.stop();
            Ok(())
        }
    }
}

async fn signalled() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return "SIGINT";
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

/// Says once that everything from C on can be served.
async fn announce(mut ready: watch::Receiver<Option<redostream_protocol::Position>>) {
    if let Ok(position) = ready.wait_for(Option::is_some).await
        && let Some(position) = *position
    {
        eprintln!("ready earliest={position}");
    }
}

/// Takes the state directory for this process alone.
fn lock_state(state: &Path) -> Result<File, Failure> {
    let failed = |error: std::io::Error| {
        Failure::Runtime(format!("state directory {}: {error}", state.display()))
    };
    fs::create_dir_all(state).map_err(failed)?;
    let lock = File::create(state.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(Failure::Runtime(format!(
            "state directory {} is in use by another server; give each its own",
            state.display()
        ))),
        Err(fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| Failure::Runtime(format!("cannot listen on {address}: {error}")))
}

/// What serving begins from.
struct Prepared {
    catalog: Catalog,
    directory: DataDirectory,
    loaded: Bootstrap,
    source: Arc<dyn Source>,
    receiver: Option<Receiver>,
}

async fn prepare(
    arguments: &ServeArguments,
    directory: DataDirectory,
) -> Result<Prepared, Failure> {
    let Some(conninfo) = &arguments.upstream else {
        return prepare_files(arguments, directory);
    };
    let conninfo = Arc::new(Conninfo::parse(conninfo).map_err(|e| Failure::Usage(e.to_string()))?);
    let mut connection = Connection::open(&conninfo, Purpose::Replication)
        .await
        .map_err(runtime)?;
    connection.major_version().map_err(runtime)?;
    let identity = connection.identify_system().await.map_err(runtime)?;
    check_cluster(&directory, &identity)?;
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
    if let Some(slot) = &arguments.slot {
        let made = connection
            .ensure_slot(slot, &conninfo)
            .await
            .map_err(runtime)?;
        if made.created {
            eprintln!("replication slot \"{slot}\" created");
        }
    }
    let (catalog, loaded) = load(&directory, &mut connection).await?;
    let segment = loaded.segment_bytes;
    let identity = connection.identify_system().await.map_err(runtime)?;
    connection.close().await;
    let files = Arc::new(file_source(arguments, &directory, &loaded)?);
    let upstream = Arc::new(Upstream::new((*files.history()).clone()));
    upstream.report(identity.flushed);
    let buffer_bytes = usize::try_from(arguments.buffer).unwrap_or(usize::MAX);
    let buffer = Arc::new(RedoBuffer::new(buffer_bytes));
    let start = Lsn(identity.flushed.0 / segment * segment);
    let mut options = ReceiverOptions::new(Arc::clone(&conninfo), loaded.system_identifier, start);
    options.slot.clone_from(&arguments.slot);
    let receiver = Receiver::new(options, Arc::clone(&buffer), Arc::clone(&upstream));
    receiver.state().set_not_needed_before(loaded.redo);
    let metrics = Arc::new(SourceMetrics::default());
    let source = SwitchingSource::new(buffer, upstream, Some(files), false, segment, metrics);
    let source: Arc<dyn Source> = Arc::new(source);
    Ok(Prepared {
        catalog,
        directory,
        loaded,
        source,
        receiver: Some(receiver),
    })
}

/// Without an upstream only files are served, as they appear.
fn prepare_files(
    arguments: &ServeArguments,
    directory: DataDirectory,
) -> Result<Prepared, Failure> {
    let mut catalog = Catalog::new(directory.format());
    let loaded = bootstrap::load(&directory, None, &mut catalog).map_err(runtime)?;
    let source: Arc<dyn Source> = Arc::new(file_source(arguments, &directory, &loaded)?);
    Ok(Prepared {
        catalog,
        directory,
        loaded,
        source,
        receiver: None,
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

/// Copies the catalog beside a running server. A copy that is ahead of what the upstream reports
/// is tried again.
async fn load(
    directory: &DataDirectory,
    connection: &mut Connection,
) -> Result<(Catalog, Bootstrap), Failure> {
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
struct Asked(std::sync::atomic::AtomicU64);

impl Asked {
    fn set(&self, lsn: Lsn) {
        self.0.store(lsn.0, std::sync::atomic::Ordering::Release);
    }
}

impl bootstrap::Upstream for Asked {
    fn flushed_or_replayed(&self) -> Result<Lsn, String> {
        Ok(Lsn(self.0.load(std::sync::atomic::Ordering::Acquire)))
    }
}

fn file_source(
    arguments: &ServeArguments,
    directory: &DataDirectory,
    loaded: &Bootstrap,
) -> Result<FileSource, Failure> {
    let mut directories = vec![arguments.pgdata.join("pg_wal")];
    if !arguments.wal.is_empty() && arguments.upstream.is_none() {
        directories.clear();
    }
    directories.extend(arguments.wal.iter().cloned());
    directories.extend(arguments.archive.iter().cloned());
    let segment_size = SegmentSize::new(loaded.segment_bytes)
        .ok_or_else(|| Failure::Runtime("no size of WAL segments".to_owned()))?;
    let options = FileSourceOptions {
        directories,
        system_identifier: loaded.system_identifier,
        segment_size,
        page_magic: directory.format().page_magic,
        closed: false,
        restore: None,
    };
    let choice = TimelineChoice::Newest {
        of: loaded.timeline,
        at: loaded.redo,
    };
    FileSource::open(options, choice).map_err(runtime)
}
