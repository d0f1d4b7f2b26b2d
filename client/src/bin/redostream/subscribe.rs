//! `redostream subscribe`: follows a stream until it ends, fails, or somebody stops it.

use std::io::{IsTerminal, StdoutLock};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redostream_client::protocol::control::Start;
use redostream_client::protocol::render::SessionSettings;
use redostream_client::protocol::value::TimeZone;
use redostream_client::protocol::wire::{End, EndReason};
use redostream_client::{ClientError, Delivery, Subscription};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{Format, Subscribe};
use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;

/// Lines stay unflushed no longer than this.
const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// SIGINT and SIGTERM.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::Ended(format!("cannot await signals: {error}")))
        };
        let interrupt = listen(SignalKind::interrupt())?;
        Ok(Stop {
            interrupt,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Runs the command.
pub(crate) async fn run(command: &Subscribe) -> Result<(), Failure> {
    let zone =
        TimeZone::named(&command.timezone).map_err(|error| Failure::usage(error.to_string()))?;
    let settings = SessionSettings {
        zone: Arc::new(zone),
        // A value may be small on its way, and large once it is decompressed.
        value_bytes_max: command.value_max,
        ..SessionSettings::default()
    };
    let options = command.options()?;
    let mut stop = Stop::new()?;
    let began = Instant::now();
    let opened = tokio::select! {
        opened = Subscription::open_with(options, Some(Box::new(tell_trouble))) => Some(opened?),
        () = stop.wait() => None,
    };
    let Some(subscription) = opened else {
        eprintln!("redostream: stopped before the first event");
        return Ok(());
    };
    let terminal = std::io::stdout().is_terminal();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let format = command.format.unwrap_or(if terminal {
        Format::Pretty
    } else {
        Format::Json
    });
    let output = Output::new(
        format,
        command.relations,
        settings,
        subscription.system_identifier(),
        terminal && !plain,
        std::io::stdout().lock(),
    );
    let mut following = Following {
        started_at: subscription.start(),
        sessions: subscription.sessions(),
        subscription,
        output,
        named: command.name.is_some(),
        progress: Progress::new(),
        flushed: Instant::now(),
        unacknowledged: false,
        last_event: began,
    };
    let result = following.follow(&mut stop).await;
    following.end(result, command, began).await
}

fn tell_trouble(error: &ClientError, pause: Duration) {
    if pause.is_zero() {
        eprintln!("redostream: {error}; trying the next server");
    } else {
        eprintln!("redostream: {error}; trying again in {pause:?}");
    }
}

/// How following ended without a failure.
enum Ending {
    Finished(End),
    Stopped,
}

struct Following<'a> {
    subscription: Subscription,
    output: Output<StdoutLock<'a>>,
    started_at: Option<Start>,
    sessions: u64,
    named: bool,
    progress: Progress,
    flushed: Instant,
    unacknowledged: bool,
    last_event: Instant,
}

impl Following<'_> {
    async fn follow(&mut self, stop: &mut Stop) -> Result<Ending, Failure> {
        loop {
            if !self.subscription.has_more() || self.flushed.elapsed() >= FLUSH_EVERY {
                self.flush().await?;
            }
            let Some(delivery) = self.next(stop).await? else {
                return Ok(Ending::Stopped);
            };
            let Some(delivery) = delivery else {
                break;
            };
            if self.sessions != self.subscription.sessions() {
                self.sessions = self.subscription.sessions();
                self.output.new_session();
            }
            match &delivery {
                Delivery::Block { summary, .. } if summary.events > 0 => {
                    self.last_event = Instant::now();
                    self.unacknowledged = true;
                }
                Delivery::Heartbeat(_) => self.unacknowledged = true,
                _ => {}
            }
            self.output.take(&delivery)?;
            self.progress.show(&self.subscription);
        }
        let end = self.subscription.ended().copied();
        end.map(Ending::Finished)
            .ok_or_else(|| Failure::Ended("the stream ended without saying why".to_owned()))
    }

    /// The next delivery; nothing if somebody stops the command. Lines do not wait for it.
    async fn next(&mut self, stop: &mut Stop) -> Result<Option<Option<Delivery>>, Failure> {
        let output = &mut self.output;
        let mut next = pin!(self.subscription.next_delivery());
        loop {
            tokio::select! {
                biased;
                () = stop.wait() => return Ok(None),
                delivery = &mut next => return Ok(Some(delivery?)),
                () = tokio::time::sleep(FLUSH_EVERY) => output.flush()?,
            }
        }
    }

    /// Passes on all lines, then tells the server so.
    async fn flush(&mut self) -> Result<(), Failure> {
        self.output.flush()?;
        self.flushed = Instant::now();
        if self.named && std::mem::take(&mut self.unacknowledged) {
            self.subscription.acknowledge_received().await;
        }
        Ok(())
    }

    async fn end(
        mut self,
        result: Result<Ending, Failure>,
        command: &Subscribe,
        began: Instant,
    ) -> Result<(), Failure> {
        self.progress.finish();
        // What came before a failure is printed; the first failure is the one to tell. What could
        // not be printed is not acknowledged.
        let flushed = match &result {
            Err(Failure::Output(_) | Failure::Render(_)) => self.output.flush(),
            _ => self.flush().await,
        };
        if command.stats {
            self.print_stats(began);
        }
        let result = result.and_then(|ending| flushed.map(|()| ending));
        if matches!(result, Ok(Ending::Stopped)) {
            match self.subscription.position() {
                Some(position) => eprintln!("redostream: stopped after {position}"),
                None => eprintln!("redostream: stopped before the first event"),
            }
        }
        self.subscription.close().await;
        match result? {
            Ending::Stopped => Ok(()),
            Ending::Finished(end) => judge(&end),
        }
    }

    fn print_stats(&self, began: Instant) {
        let totals = self.subscription.totals();
        let start = self.started_at.map(|start| start.lsn()).unwrap_or_default();
        let stats = json!({
            "transactions": totals.transactions,
            "events": totals.events,
            "rows": totals.rows,
            "raw_bytes": totals.raw_bytes,
            "wire_bytes": totals.wire_bytes,
            "wal_bytes": self.subscription.released().bytes_since(start),
            "seconds": (self.last_event - began).as_secs_f64(),
        });
        eprintln!("{stats}");
    }
}

/// Whether the end is the one that was asked for.
fn judge(end: &End) -> Result<(), Failure> {
    match end.reason {
        EndReason::Dropped => Err(Failure::Ended("the subscription was dropped".to_owned())),
        EndReason::ServerStopping => Err(Failure::Ended("the server stops".to_owned())),
        EndReason::Until => Ok(()),
    }
}
