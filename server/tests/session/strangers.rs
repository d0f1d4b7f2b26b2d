//! Bad networks and strangers: what is damaged is found, what is slow is shown out, and whoever
//! behaves does not notice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redostream_client::protocol::control::{From as Place, Until};
use redostream_client::{ClientError, Options, Subscription};
use redostream_protocol::Position;
use redostream_server::session::SessionOptions;
use redostream_testdata::link::{Link, LinkOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stream::{Fixed, Random, blocks, expected, units};
use crate::{ALL, Bench, serve, serve_in};

struct Made {
    blocks: Vec<Arc<redostream_server::session::BlockEntry>>,
    wanted: Vec<Position>,
    end: redostream_protocol::Lsn,
}

fn made(count: usize) -> Made {
    let mut random = Random(17);
    let units = units(&mut random, count, 30);
    let blocks = blocks(&mut random, &units, 40);
    let wanted = expected(&units, ALL, None, None);
    Made {
        end: blocks.last().unwrap().block.wal_end,
        wanted: wanted.into_iter().map(|(at, _)| at).collect(),
        blocks,
    }
}

/// A server whose data connections run over this link.
async fn over(made: &Made, trouble: LinkOptions) -> (Bench, Link, Options) {
    // The port has to be known before the server tells it to its clients.
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let data = reserved.local_addr().unwrap();
    let link = Link::start(data, trouble).unwrap();
    drop(reserved);
    let options = SessionOptions {
        advertise_data: vec![link.address().to_string()],
        peer_timeout: Duration::from_millis(900),
        ..SessionOptions::default()
    };
    let provider = crate::fixed(made.blocks.clone());
    let bench = crate::serve_at(provider, tempfile::tempdir().unwrap(), options, data).await;
    let mut options = Options::new([bench.server.control_address().to_string()]);
    options.from = Some(Place::Earliest);
    options.until = Some(Until::Lsn(made.end));
    options.backoff_max = Duration::from_millis(100);
    (bench, link, options)
}

async fn positions(options: Options) -> (Vec<Position>, u64) {
    let mut subscription = Subscription::open(options).await.unwrap();
    let mut found = Vec::new();
    while let Some(change) = subscription.next_event().await.unwrap() {
        found.push(change.position);
    }
    (found, subscription.totals().reconnects)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flipped_bit_is_found_and_the_stream_goes_on() {
    let made = made(300);
    let wanted = std::env::var("REDOSTREAM_FLIPS").ok();
    let wanted: u64 = wanted.map_or(60, |text| text.parse().unwrap());
    let trouble = LinkOptions {
        flip_every_bytes: 60_000,
        seed: 3,
        ..LinkOptions::default()
    };
    let (_bench, link, options) = over(&made, trouble).await;
    let flips = || link.counters().flips.load(Ordering::Relaxed);
    let mut resumed = 0;
    while flips() < wanted {
        let mut options = options.clone();
        options.streams = 1 + (flips() % 4) as u16;
        let (found, reconnects) = positions(options).await;
        assert!(
            found == made.wanted,
            "{} of {}",
            found.len(),
            made.wanted.len()
        );
        resumed += reconnects;
    }
    // Two flips may hit the connections of one session; what comes behind its end hurts nobody.
    assert!(resumed > 0 && resumed <= flips());
    println!("{} flips, {resumed} times resumed", flips());
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_stalled_and_reordered_connections_lose_nothing() {
    let made = made(200);
    for (trouble, what) in [
        (
            LinkOptions {
                cut_every_bytes: 150_000,
                ..LinkOptions::default()
            },
            "cut",
        ),
        (
            LinkOptions {
                stall_every_bytes: 300_000,
                ..LinkOptions::default()
            },
            "stalled",
        ),
        (
            LinkOptions {
                jitter: Duration::from_millis(4),
                lost_of_1000: 5,
                ..LinkOptions::default()
            },
            "reordered",
        ),
    ] {
        let (_bench, link, mut options) = over(&made, trouble).await;
        options.streams = 4;
        let (found, reconnects) = positions(options).await;
        assert!(
            found == made.wanted,
            "{what}: {} of {}",
            found.len(),
            made.wanted.len()
        );
        let counters = link.counters();
        let hurt = counters.cuts.load(Ordering::Relaxed) + counters.stalls.load(Ordering::Relaxed);
        assert_eq!(reconnects > 0, hurt > 0, "{what}");
        assert_eq!(hurt == 0, what == "reordered", "{what}");
    }
}

async fn half_open(address: SocketAddr, says: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(says).await.ok()?;
    Some(stream)
}

/// Bytes of memory that this process holds.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_half_open_connections_are_survived() {
    let made = made(60);
    let mut bench = serve(crate::fixed(made.blocks.clone())).await;
    let (control, data) = (bench.server.control_address(), bench.data);
    let before = memory();
    // As many as the system lets one process have are open at a time.
    let mut open = std::collections::VecDeque::new();
    let mut most = before;
    for number in 0..10_000 {
        let (address, says) = match number % 4 {
            0 => (control, &b""[..]),
            1 => (control, &b"PRI * HTTP/2.0\r\n"[..]),
            2 => (data, &b""[..]),
            _ => (data, &b"RDSW\x01\x01"[..]),
        };
        if let Some(stream) = half_open(address, says).await {
            open.push_back(stream);
        }
        if open.len() > 300 {
            open.pop_front();
        }
        if number % 1000 == 0 {
            most = most.max(memory());
            let mut options = Options::new([control.to_string()]);
            options.from = Some(Place::Earliest);
            options.until = Some(Until::Lsn(made.end));
            let (found, _) = positions(options).await;
            assert!(found == made.wanted);
        }
    }
    assert!(most - before < 64 << 20, "{} bytes more", most - before);
    // The server is as it was.
    bench
        .all(crate::request("earliest", &made.end.to_string(), 2))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dawdles_is_shown_out() {
    let bench = serve(crate::fixed(made(5).blocks)).await;
    let (control, data) = (bench.server.control_address(), bench.data);
    let mut waiting = Vec::new();
    for (address, bytes) in [
        (data, &b"RDSW\x01\x01\0\0"[..]),
        (control, &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]),
    ] {
        waiting.push(tokio::spawn(async move {
            let began = Instant::now();
            let mut stream = TcpStream::connect(address).await.unwrap();
            // A byte a second, and never enough of them.
            let mut bytes = bytes.iter().cycle();
            let mut heard = [0; 512];
            loop {
                let byte = *bytes.next().unwrap();
                if stream.write_all(&[byte]).await.is_err() {
                    break;
                }
                let read = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut heard));
                match read.await {
                    Ok(Ok(0) | Err(_)) => break,
                    _ => assert!(began.elapsed() < Duration::from_secs(30), "still there"),
                }
            }
        }));
    }
    for task in waiting {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_subscriber_keeps_to_its_bound_and_slows_nobody() {
    let made = made(1500);
    let bench = serve_in(
        Fixed {
            blocks: made.blocks.clone(),
            pause_ms: 0,
        },
        tempfile::tempdir().unwrap(),
        SessionOptions::default(),
    )
    .await;
    let mut options = Options::new([bench.server.control_address().to_string()]);
    options.from = Some(Place::Earliest);
    options.until = Some(Until::Lsn(made.end));
    options.window_bytes = 100_000;
    // It takes one event and then nothing more.
    let mut stopped = Subscription::open(options.clone()).await.unwrap();
    stopped.next_event().await.unwrap().unwrap();
    for _ in 0..3 {
        let (found, _) = positions(options.clone()).await;
        assert!(found == made.wanted);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let subscribers = bench.server.subscribers();
    let held = subscribers
        .iter()
        .find(|one| one.state == "waiting")
        .unwrap();
    // What was granted, and one frame beyond it.
    assert!(held.sent_bytes < 100_000 + (1 << 20), "{}", held.sent_bytes);
    let rest: Result<(), ClientError> = async {
        while stopped.next_event().await?.is_some() {}
        Ok(())
    }
    .await;
    rest.unwrap();
}
