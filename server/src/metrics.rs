//! Prometheus metrics over HTTP: what a server does, in numbers.
//!
//! One page, made anew for each request from the counters that everybody keeps anyway.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redostream_engine::pipeline::STAGES;
use redostream_engine::source::Origin;
use redostream_protocol::{Lsn, Position};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::live::Live;
use crate::session::{Grant, OnUndecodable, Registry};

/// Bytes of a request's head that are read.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// How long a request may take.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);
/// Requests answered at a time.
const REQUESTS_MAX: usize = 8;

/// Serves the page until `stopped` says so.
pub(crate) async fn serve(
    listener: TcpListener,
    live: Arc<Live>,
    registry: Arc<Registry>,
    mut stopped: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(REQUESTS_MAX));
    loop {
        let accepted = tokio::select! {
            _ = stopped.changed() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let (live, registry) = (Arc::clone(&live), Arc::clone(&registry));
        tokio::spawn(async move {
            // Who asks and then goes away, or is too slow, gets nothing.
            let _ = tokio::time::timeout(REQUEST_TIME_MAX, answer(stream, &live, &registry)).await;
            drop(permit);
        });
    }
}

async fn answer(mut stream: TcpStream, live: &Live, registry: &Registry) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut piece).await?;
        if count == 0 || request.len() + count > REQUEST_BYTES_MAX {
            return Ok(());
        }
        request.extend_from_slice(piece.get(..count).unwrap_or_default());
    }
    let (status, body) = match target(&request) {
        Some("/metrics" | "/") => ("200 OK", page(live, registry)),
        Some(_) => ("404 Not Found", "metrics are at /metrics\n".to_owned()),
        None => ("405 Method Not Allowed", "only GET\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// The path that is asked for, if anything is got.
fn target(request: &[u8]) -> Option<&str> {
    let line = request.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let target = (words.next()? == "GET").then(|| words.next())??;
    target.split('?').next()
}

/// The page.
pub(crate) fn page(live: &Live, registry: &Registry) -> String {
    let mut page = Page::default();
    source(&mut page, live);
    progress(&mut page, live, registry);
    transactions(&mut page, live, registry);
    stages(&mut page, live);
    subscribers(&mut page, registry);
    page.0
}

fn source(page: &mut Page, live: &Live) {
    let metrics = &live.setting.source_metrics;
    let decoded = live.counters.wal_bytes.load(Ordering::Relaxed);
    // Without an upstream files are all there is.
    let file = match live.setting.received {
        Some(_) => metrics.bytes_from(Origin::File),
        None => decoded,
    };
    page.head(
        "source_bytes_total",
        "counter",
        "WAL read, by where it came from.",
    );
    let buffer = metrics.bytes_from(Origin::Buffer);
    page.labelled("source_bytes_total", "origin", "buffer", buffer);
    page.labelled("source_bytes_total", "origin", "file", file);
    page.head(
        "source_switches_total",
        "counter",
        "How often reading went over to the redo buffer or to files.",
    );
    for (to, origin) in [("buffer", Origin::Buffer), ("file", Origin::File)] {
        let count = metrics.switches_to(origin);
        page.labelled("source_switches_total", "to", to, count);
    }
    page.head("decoded_bytes_total", "counter", "WAL decoded.");
    page.labelled("decoded_bytes_total", "pipeline", "live", decoded);
    let catch_up = live.gauges.catch_up_bytes.load(Ordering::Relaxed);
    page.labelled("decoded_bytes_total", "pipeline", "catchup", catch_up);
    let reconnects = live.setting.received.as_ref();
    let reconnects = reconnects.map_or(0, |received| received.reconnects());
    page.one(
        "reconnects_total",
        "counter",
        "How often the upstream was lost.",
        reconnects,
    );
}

fn progress(page: &mut Page, live: &Live, registry: &Registry) {
    let reached = live.reached();
    for (name, help, lsn) in [
        (
            "received_lsn",
            "End of the WAL that is here.",
            reached.received,
        ),
        ("decoded_lsn", "End of what is decoded.", reached.decoded),
        ("released_lsn", "End of what is released.", reached.released),
    ] {
        page.one(name, "gauge", help, lsn.0);
    }
    let places = registry.places();
    let least = places.iter().map(|(_, lsn)| *lsn).min();
    // Without any, nothing is left to acknowledge.
    let least = least.unwrap_or(reached.released);
    let help = "What every named subscriber has acknowledged.";
    page.one("acknowledged_lsn", "gauge", help, least.0);
    let help = "WAL of the source that is not released.";
    page.one("lag_bytes", "gauge", help, reached.lag_bytes());
    let lag = live.gauges.lag(reached.released, Instant::now());
    let help = "How long ago the oldest WAL came that is not released.";
    page.one("lag_seconds", "gauge", help, lag.as_secs_f64());
}

fn transactions(page: &mut Page, live: &Live, registry: &Registry) {
    let counters = &live.counters;
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    for (name, kind, help, value) in [
        (
            "open_transactions",
            "gauge",
            "Transactions that have rows and have not ended.",
            get(&counters.open_transactions),
        ),
        (
            "open_transaction_bytes",
            "gauge",
            "Memory that they take.",
            get(&counters.open_bytes),
        ),
        (
            "spilled_bytes_total",
            "counter",
            "Bytes of rows that went to files.",
            get(&counters.spilled_bytes),
        ),
        (
            "rows_total",
            "counter",
            "Rows released.",
            get(&counters.rows),
        ),
        (
            "transactions_total",
            "counter",
            "Transactions released.",
            get(&counters.transactions),
        ),
    ] {
        page.one(name, kind, help, value);
    }
    let help = "Rows of tables that could not be decoded and were left out.";
    page.head("skipped_rows_total", "counter", help);
    if registry.options.on_undecodable == OnUndecodable::Skip {
        for (table, rows) in &*live.gauges.undecodable.lock() {
            page.labelled("skipped_rows_total", "table", table, rows);
        }
    }
}

fn stages(page: &mut Page, live: &Live) {
    let (counters, gauges) = (&live.counters, &live.gauges);
    let seconds =
        |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64 / 1e9;
    let feed = seconds(&gauges.feed_ns);
    let [session, idle] = &gauges.session_ns;
    page.head("stage_busy_seconds_total", "counter", "Time spent working.");
    for (stage, busy) in STAGES.iter().zip(&counters.busy_ns) {
        let busy = seconds(busy) - if *stage == "assembly" { feed } else { 0.0 };
        page.labelled("stage_busy_seconds_total", "stage", stage, busy.max(0.0));
    }
    page.labelled("stage_busy_seconds_total", "stage", "feed", feed);
    page.labelled(
        "stage_busy_seconds_total",
        "stage",
        "session",
        seconds(session),
    );
    let help = "Time waited: source for WAL, framing for room behind it, gate and assembly for their \
                turn, decoding for a thread, feed never, session for blocks.";
    page.head("stage_waiting_seconds_total", "counter", help);
    let waiting = counters.waiting_ns.iter().map(seconds);
    let waiting = STAGES.iter().copied().zip(waiting);
    for (stage, waiting) in waiting.chain([("feed", 0.0), ("session", seconds(idle))]) {
        page.labelled("stage_waiting_seconds_total", "stage", stage, waiting);
    }
}

fn subscribers(page: &mut Page, registry: &Registry) {
    let subscribers = registry.subscribers(&Grant::default());
    let named = |name: &str, peer: &str| match name {
        "" => peer.to_owned(),
        name => name.to_owned(),
    };
    let help = "Commit LSN of the last event sent.";
    page.head("subscriber_position_lsn", "gauge", help);
    for one in &subscribers {
        let position: Option<Position> = one.position.parse().ok();
        let lsn = position.map_or(Lsn::INVALID, |position| position.commit_lsn);
        let name = named(&one.name, &one.peer);
        page.labelled("subscriber_position_lsn", "name", &name, lsn.0);
    }
    let help = "Released WAL that was not sent.";
    page.head("subscriber_lag_bytes", "gauge", help);
    for one in &subscribers {
        let name = named(&one.name, &one.peer);
        page.labelled("subscriber_lag_bytes", "name", &name, one.lag_bytes);
    }
    page.head("subscriber_sent_bytes_total", "counter", "Bytes sent.");
    for one in &subscribers {
        let name = named(&one.name, &one.peer);
        page.labelled("subscriber_sent_bytes_total", "name", &name, one.sent_bytes);
    }
}

/// Prometheus' text form.
#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP redostream_{name} {help}");
        let _ = writeln!(self.0, "# TYPE redostream_{name} {kind}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "redostream_{name} {value}");
    }

    fn labelled(&mut self, name: &str, key: &str, label: &str, value: impl std::fmt::Display) {
        let mut escaped = String::with_capacity(label.len());
        for c in label.chars() {
            match c {
                '\\' => escaped.push_str("\\\\"),
                '"' => escaped.push_str("\\\""),
                '\n' => escaped.push_str("\\n"),
                c => escaped.push(c),
            }
        }
        let _ = writeln!(self.0, "redostream_{name}{{{key}=\"{escaped}\"}} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_understood() {
        assert_eq!(
            target(b"GET /metrics?x=1 HTTP/1.1\r\n\r\n"),
            Some("/metrics")
        );
        assert_eq!(target(b"POST /metrics HTTP/1.1\r\n\r\n"), None);
        assert_eq!(target(b"\xff\r\n\r\n"), None);
    }

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.labelled("x", "name", "a\"b\\c\nd", 1);
        assert_eq!(page.0, "redostream_x{name=\"a\\\"b\\\\c\\nd\"} 1\n");
    }
}
