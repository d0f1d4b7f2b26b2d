//! `redostream-server serve`: beside a standby, for as long as it is wanted.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redostream_protocol::wire::{Fault, FaultCode};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::access::Access;
use crate::cli::{DecommissionArguments, ServeArguments};
use crate::exit::Failure;
use crate::live::{Live, LiveProvider};
use crate::metrics;
use crate::session::{FileStore, Listeners, SessionOptions, SessionServer};
use crate::start::{Started, start};
use crate::upkeep::Upkeep;
use crate::upstream::{Connection, Conninfo, Purpose, UpstreamError};

/// How long decoding gets to end with a restart point.
const FINISH_MAX: Duration = Duration::from_secs(20);
/// How long subscribers get to take what comes before an error, and to hear of it.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How long clients get to take their last frames.
const FAREWELL: Duration = Duration::from_secs(2);

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
    let (access, reload) = Access::new(
        &arguments.access,
        arguments.config.clone(),
        &[arguments.listen, arguments.data_address()],
    )?;
    let _lock = lock_state(&arguments.state)?;
    let control = listen(arguments.listen).await?;
    let data_address = arguments.data_address();
    let data = listen(data_address).await?;
    let metrics = match arguments.metrics {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let started = start(arguments).await?;
    let listeners = Listeners { control, data };
    tokio::spawn(reload.run());
    run_live(arguments, started, listeners, metrics, access).await
}

async fn run_live(
    arguments: &ServeArguments,
    started: Started,
    listeners: Listeners,
    metrics_listener: Option<TcpListener>,
    access: Access,
) -> Result<(), Failure> {
    let Started {
        setting,
        begin,
        points,
        receiver,
        files,
    } = started;
    let live = Arc::new(Live::new(setting, points, &begin));
    let store = FileStore::open(arguments.state.join("subscriptions")).map_err(runtime)?;
    let provider = Arc::new(LiveProvider(Arc::clone(&live)));
    let options = SessionOptions {
        peer_timeout: Duration::from_millis(arguments.peer_timeout_ms),
        advertise_data: arguments.advertise_data.clone().into_iter().collect(),
        authorise: access.authorise,
        data_tls: access.data_tls,
        control_tls: access.control_tls,
        on_undecodable: arguments.on_undecodable,
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
    let receiving = receiver.map(|receiver| tokio::spawn(receiver.run(stopped.clone())));
    let pipeline = {
        let live = Arc::clone(&live);
        tokio::task::spawn_blocking(move || live.run(begin))
    };
    let upkeep = Upkeep {
        live: Arc::clone(&live),
        registry: sessions.registry(),
        files,
        retain_bytes: arguments.retain,
        max_retained_bytes: arguments.max_retained_wal,
    };
    tokio::task::spawn_blocking(move || upkeep.run());
    if let Some(listener) = metrics_listener {
        let (live, registry) = (Arc::clone(&live), sessions.registry());
        tokio::spawn(metrics::serve(listener, live, registry, stopped.clone()));
    }
    let announcing = tokio::spawn(announce(live.ready()));
    let result = wait_for_end(pipeline, receiving, &live).await;
    announcing.abort();
    if let Err(failure) = &result {
        // What went wrong is told in order, after everything that comes before it; of a log that
        // is damaged also to those who come for the part before.
        let open = match failure {
            Failure::Log(_) => LAST_WORDS,
            _ => Duration::ZERO,
        };
        tokio::select! {
            () = sessions.drain(open, LAST_WORDS) => {}
            signal = signalled() => tracing::info!(signal, "stopping"),
        }
    }
    sessions.stop(FAREWELL).await;
    live.shut_down();
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
            let result = match ended {
                Ok(result) => result.map_err(runtime),
                Err(error) => Err(runtime(error)),
            };
            match &result {
                Ok(()) => live.shut_down(),
                Err(error) => {
                    let message = format!("the server has lost its source: {error}");
                    live.fail(Fault::new(FaultCode::SourceLost, message));
                }
            }
            result
        }
        signal = signalled() => {
            tracing::info!(signal, "stopping");
            live.finish();
            // What has been read is released, and a restart point written behind it.
            match tokio::time::timeout(FINISH_MAX, pipeline).await {
                Ok(Ok(Err(error))) => tracing::warn!(%error, "decoding ended early"),
                Ok(_) => {}
                Err(_) => tracing::warn!("decoding does not end; the last restart point stands"),
            }
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
