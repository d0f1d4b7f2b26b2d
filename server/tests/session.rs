//! Sessions against a naive model: what is sent must be what the model says, whatever the cut into
//! blocks, the number of connections, the window and the filter.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "session/authority.rs"]
mod authority;
#[path = "session/client.rs"]
mod client;
#[path = "session/filters.rs"]
mod filters;
#[path = "session/names.rs"]
mod names;
#[path = "session/secure.rs"]
mod secure;
#[path = "session/strangers.rs"]
mod strangers;
#[path = "session/stream.rs"]
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redostream_protocol::control::{Start, Until, v1};
use redostream_protocol::wire::header::VERSION;
use redostream_protocol::wire::{EndReason, FaultCode, Hello};
use redostream_protocol::{Lsn, Position};
use redostream_server::session::{FileStore, Listeners, SessionOptions, SessionServer};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use client::{Control, Over, Subscriber, control, hello, open};
use stream::{Fixed, Random, Unit, blocks, enlarge, expected, units};

struct Bench {
    server: SessionServer,
    control: Control,
    data: SocketAddr,
    directory: tempfile::TempDir,
}

async fn serve_in(provider: Fixed, directory: tempfile::TempDir, options: SessionOptions) -> Bench {
    let any = "127.0.0.1:0".parse().unwrap();
    serve_at(provider, directory, options, any).await
}

async fn serve_at(
    provider: Fixed,
    directory: tempfile::TempDir,
    options: SessionOptions,
    data: SocketAddr,
) -> Bench {
    let listeners = Listeners {
        control: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        data: TcpListener::bind(data).await.unwrap(),
    };
    let store = Box::new(FileStore::open(directory.path()).unwrap());
    let server = SessionServer::start(Arc::new(provider), store, listeners, options).unwrap();
    let control = control(server.control_address()).await;
    let data = server.data_address();
    Bench {
        server,
        control,
        data,
        directory,
    }
}

async fn serve(provider: Fixed) -> Bench {
    serve_in(
        provider,
        tempfile::tempdir().unwrap(),
        SessionOptions::default(),
    )
    .await
}

fn fixed(blocks: Vec<Arc<redostream_server::session::BlockEntry>>) -> Fixed {
    Fixed {
        blocks,
        pause_ms: 0,
    }
}

fn request(from: &str, until: &str, streams: u32) -> v1::OpenSessionRequest {
    v1::OpenSessionRequest {
        from: from.to_owned(),
        until: until.to_owned(),
        streams,
        ..Default::default()
    }
}

impl Bench {
    async fn connect(&mut self, request: v1::OpenSessionRequest) -> Subscriber {
        let data = self.data;
        Subscriber::connect(&mut self.control, data, request, 1 << 20)
            .await
            .unwrap()
    }

    async fn all(&mut self, request: v1::OpenSessionRequest) -> Vec<(Position, Vec<u8>)> {
        let mut subscriber = self.connect(request).await;
        match subscriber.run(usize::MAX).await {
            Some(Over::End(end)) => {
                assert_eq!(end.reason, EndReason::Until);
                let last = subscriber
                    .events
                    .last()
                    .map(|(at, _)| *at)
                    .unwrap_or_default();
                assert_eq!(end.position, last);
            }
            other => panic!("{other:?}"),
        }
        let events = std::mem::take(&mut subscriber.events);
        subscriber.bye().await;
        events
    }
}

fn same(found: &[(Position, Vec<u8>)], wanted: &[(Position, Vec<u8>)], what: &str) {
    let places = |events: &[(Position, Vec<u8>)]| {
        events
            .iter()
            .map(|(at, bytes)| format!("{at} {}", bytes[4]))
            .collect::<Vec<_>>()
    };
    assert_eq!(places(found), places(wanted), "{what}");
    assert!(found == wanted, "{what}: other bytes");
}

const ALL: Start = Start::At(Lsn(0));

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_once_and_in_order() {
    let mut random = Random(11);
    let mut units = units(&mut random, 120, 40);
    let large = units
        .iter()
        .position(|unit| unit.changes.len() > 10)
        .unwrap();
    enlarge(&mut units[large], 2_600_000);
    let cut = blocks(&mut random, &units, 30);
    let end = cut.last().unwrap().block.wal_end.to_string();
    let wanted = expected(&units, ALL, None, None);
    let mut bench = serve(fixed(cut)).await;
    for (streams, compression, window) in
        [(1, 1, 1), (2, 2, 40_000), (5, 2, 1 << 22), (8, 0, 1 << 22)]
    {
        let mut asked = request("earliest", &end, streams);
        asked.compression = compression;
        let data = bench.data;
        let mut subscriber = Subscriber::connect(&mut bench.control, data, asked, window)
            .await
            .unwrap();
        let over = subscriber.run(usize::MAX).await;
        assert!(matches!(over, Some(Over::End(_))), "{over:?}");
        same(
            &subscriber.events,
            &wanted,
            &format!("{streams} connections"),
        );
        assert_eq!(subscriber.lz4_frames > 0, compression == 2);
        subscriber.bye().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_a_place_to_start_and_to_end() {
    for (seed, events_max) in [(3, 4), (4, 100)] {
        let mut random = Random(seed);
        let units = units(&mut random, 5, 4);
        let cut = blocks(&mut random, &units, events_max);
        let end = Until::Lsn(cut.last().unwrap().block.wal_end);
        let mut bench = serve(fixed(cut)).await;
        for (position, _) in expected(&units, ALL, None, None) {
            let start = Start::After(position);
            let found = bench
                .all(request(&position.to_string(), &end.to_string(), 2))
                .await;
            same(
                &found,
                &expected(&units, start, Some(end), None),
                &format!("from {position}"),
            );
            let until = Until::Position(position);
            let found = bench.all(request("earliest", &until.to_string(), 1)).await;
            same(
                &found,
                &expected(&units, ALL, Some(until), None),
                &format!("until {position}"),
            );
        }
        for lsn in units.iter().map(Unit::commit_lsn) {
            for lsn in [lsn, lsn.add(1)] {
                let found = bench
                    .all(request(&lsn.to_string(), &end.to_string(), 1))
                    .await;
                let wanted = expected(&units, Start::At(lsn), Some(end), None);
                same(&found, &wanted, &format!("from {lsn}"));
                let until = Until::Lsn(lsn);
                let found = bench.all(request("earliest", &until.to_string(), 1)).await;
                same(
                    &found,
                    &expected(&units, ALL, Some(until), None),
                    &format!("until {lsn}"),
                );
            }
        }
    }
}

fn long_stream() -> Fixed {
    let mut random = Random(5);
    let units = units(&mut random, 400, 40);
    Fixed {
        blocks: blocks(&mut random, &units, 20),
        pause_ms: 1,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_ends_the_session_with_its_reason() {
    let mut bench = serve(long_stream()).await;
    let mut subscriber = bench.connect(request("earliest", "", 3)).await;
    assert!(subscriber.run(100).await.is_none());
    drop(subscriber.writers.pop());
    match subscriber.run(usize::MAX).await {
        Some(Over::Fault(fault)) => assert_eq!(fault.code, FaultCode::PeerTimeout),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_peers_and_strangers_are_shown_out() {
    let options = SessionOptions {
        peer_timeout: Duration::from_millis(600),
        ..SessionOptions::default()
    };
    let mut bench = serve_in(long_stream(), tempfile::tempdir().unwrap(), options).await;
    let reply = open(&mut bench.control, request("earliest", "", 1))
        .await
        .unwrap();
    let mut greeting = Hello {
        version_min: VERSION,
        version_max: VERSION,
        stripe: 0,
        session: reply.session[..].try_into().unwrap(),
        token: [0; 32],
    };
    let mut refused = Vec::new();
    hello(bench.data, &greeting)
        .await
        .read_to_end(&mut refused)
        .await
        .unwrap();
    assert_eq!(refused[5], 7, "an error frame");
    greeting.token = reply.token[..].try_into().unwrap();
    // Says hello and nothing more: given up, in time.
    let began = Instant::now();
    let mut said = Vec::new();
    hello(bench.data, &greeting)
        .await
        .read_to_end(&mut said)
        .await
        .unwrap();
    assert_eq!(said[5], 2, "a welcome frame");
    assert!(began.elapsed() < Duration::from_secs(5));
    let mut noise = hello(bench.data, &greeting).await;
    let mut refused = Vec::new();
    noise.read_to_end(&mut refused).await.unwrap();
    assert_eq!(refused[5], 7, "a stripe is taken once");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_be_are_refused() {
    let mut bench = serve(long_stream()).await;
    let mut refusal = async |change: &dyn Fn(&mut v1::OpenSessionRequest)| {
        let mut asked = request("earliest", "", 1);
        change(&mut asked);
        open(&mut bench.control, asked).await.unwrap_err().code
    };
    assert_eq!(
        refusal(&|r| r.system_identifier = 5).await,
        FaultCode::OtherCluster
    );
    assert_eq!(refusal(&|r| r.streams = 33).await, FaultCode::BadRequest);
    assert_eq!(
        refusal(&|r| r.from = "yesterday".into()).await,
        FaultCode::BadRequest
    );
    assert_eq!(
        refusal(&|r| r.kinds = vec!["begin".into()]).await,
        FaultCode::BadRequest
    );
    assert_eq!(
        refusal(&|r| r.tables = vec![".".into()]).await,
        FaultCode::BadRequest
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_says_so_and_idle_streams_hear_heartbeats() {
    let mut random = Random(8);
    let units = units(&mut random, 10, 5);
    let cut = blocks(&mut random, &units, 5);
    let end = cut.last().unwrap().block.wal_end.add(100);
    let mut bench = serve(fixed(cut)).await;
    let mut subscriber = bench.connect(request("earliest", "", 2)).await;
    let stop = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        bench.server.stop(Duration::from_secs(5)).await;
    };
    let run = async {
        let over = subscriber.run(usize::MAX).await;
        (over, subscriber)
    };
    let ((over, subscriber), ()) = tokio::join!(
        async {
            let (over, subscriber) = run.await;
            // Both sides close: this one first.
            let released = subscriber.released;
            let events = subscriber.events.len();
            subscriber.bye().await;
            ((over), (released, events))
        },
        stop
    );
    assert!(matches!(over, Some(Over::End(end)) if end.reason == EndReason::ServerStopping));
    assert_eq!(subscriber, (end, expected(&units, ALL, None, None).len()));
}
