//! Sessions against a naive model: what is sent must be what the model says, whatever the cut into
//! blocks, the number of connections, the window and the filter.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "session/client.rs"]
mod client;
#[path = "session/secure.rs"]
mod secure;
#[path = "session/strangers.rs"]
mod strangers;
#[path = "session/stream.rs"]
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redostream_protocol::control::{Start, Until, fault_of, v1};
use redostream_protocol::event::{Event, EventHeader, EventKind, HEADER_BYTES};
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::wire::header::VERSION;
use redostream_protocol::wire::{EndReason, FaultCode, Hello};
use redostream_protocol::{Cursor, Lsn, Position, Xid};
use redostream_server::session::{
    FileStore, Listeners, SessionOptions, SessionServer, TablePattern,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use client::{Control, Over, Subscriber, control, hello, open};
use stream::{
    CLUSTER, Change, Fixed, Random, TABLES, Unit, blocks, database_of, enlarge, expected, units,
};

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

/// The filter as simply as it can be said.
fn model(asked: &v1::OpenSessionRequest, change: &Change, unit: &Unit) -> Option<Vec<u8>> {
    let kind = match change.kind {
        EventKind::Insert => "insert",
        EventKind::Update => "update",
        EventKind::Delete => "delete",
        EventKind::Truncate => "truncate",
        _ => "message",
    };
    let named = asked.kinds.iter().any(|wanted| wanted == kind);
    if !asked.kinds.is_empty() && !named {
        return None;
    }
    let any = |patterns: &[String], schema: &str, table: &str| {
        let mut patterns = patterns.iter();
        patterns.any(|text| TablePattern::parse(text).unwrap().matches(schema, table))
    };
    let in_database =
        |name: &str| asked.databases.is_empty() || asked.databases.iter().any(|d| d == name);
    let table = |number: u32| {
        let (database, schema, table) = TABLES[number as usize - 1];
        in_database(database)
            && (asked.tables.is_empty() || any(&asked.tables, schema, table))
            && !any(&asked.exclude_tables, schema, table)
    };
    match change.kind {
        EventKind::Message => {
            let header = unit.header.as_ref().map(|header| header.database);
            let database = header.or_else(|| database_of(&change.bytes)).unwrap();
            let here = in_database(if database.0 == 1 { "one" } else { "two" });
            ((asked.tables.is_empty() || named) && here).then(|| change.bytes.clone())
        }
        EventKind::Truncate => {
            let raw = change.bytes[HEADER_BYTES..].as_chunks::<4>().0;
            let all = raw.iter().map(|raw| u32::from_le_bytes(*raw));
            let kept: Vec<u32> = all.filter(|number| table(*number)).collect();
            let header = EventHeader {
                size: (HEADER_BYTES + kept.len() * 4) as u32,
                kind: EventKind::Truncate,
                flags: 0,
                count: kept.len() as u16,
                xid: Xid(700),
                relation: RelationVersion(0),
                record_lsn: change.position.record_lsn,
                row: 0,
            };
            let payload: Vec<u8> = kept
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect();
            (!kept.is_empty()).then(|| [&header.to_bytes()[..], &payload].concat())
        }
        _ => table(change.relation).then(|| narrowed(asked, change)),
    }
}

/// The row with the columns that its lists name, and the key.
fn narrowed(asked: &v1::OpenSessionRequest, change: &Change) -> Vec<u8> {
    let (_, schema, table) = TABLES[change.relation as usize - 1];
    let matches = |list: &&v1::ColumnList| {
        let pattern = TablePattern::parse(&list.table).unwrap();
        pattern.matches(schema, table)
    };
    let lists: Vec<_> = asked.columns.iter().filter(matches).collect();
    let wanted = |number: usize| {
        let name = ["k", "v", "w"][number % 3];
        let named = |list: &&v1::ColumnList| list.columns.iter().any(|column| column == name);
        lists.is_empty() || (name == "k" && table != "b") || lists.iter().any(named)
    };
    let event = Event::read(&mut Cursor::new(&change.bytes)).unwrap();
    let mut columns = event.columns();
    let mut payload = Vec::new();
    let mut number = 0;
    while columns.offset() < event.payload.len() {
        let start = columns.offset();
        columns.read().unwrap();
        if wanted(number) {
            payload.extend_from_slice(&event.payload[start..columns.offset()]);
        }
        number += 1;
    }
    let header = EventHeader {
        size: (HEADER_BYTES + payload.len()) as u32,
        count: (0..3).filter(|number| wanted(*number)).count() as u16,
        ..event.header
    };
    [&header.to_bytes()[..], &payload].concat()
}

fn any_filter(random: &mut Random, asked: &mut v1::OpenSessionRequest) {
    let mut pick = |from: &[&str], chance: u64| -> Vec<String> {
        let picked = from.iter().filter(|_| random.below(chance) == 0);
        picked.map(|text| (*text).to_owned()).collect()
    };
    asked.tables = pick(&["public.a", "b", "other.*", "*.?"], 4);
    asked.exclude_tables = pick(&["public.b", "o*.c"], 5);
    asked.kinds = pick(&["insert", "update", "delete", "truncate", "message"], 6);
    asked.databases = pick(&["one", "two"], 3);
    // Not every table is in every database.
    asked.allow_missing = true;
    for table in pick(&["public.a", "b", "*.?"], 4) {
        let columns = pick(&["k", "v", "w"], 2);
        if !columns.is_empty() {
            asked.columns.push(v1::ColumnList { table, columns });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_do_as_the_model_does() {
    let mut random = Random(29);
    for round in 0..12 {
        let units = units(&mut random, 12, 6);
        let events_max = [1, 3, 8, 60][round % 4];
        let cut = blocks(&mut random, &units, events_max);
        let end = Until::Lsn(cut.last().unwrap().block.wal_end);
        let all = expected(&units, ALL, None, None);
        let mut bench = serve(fixed(cut)).await;
        for _ in 0..12 {
            let place = all[random.below(all.len() as u64) as usize].0;
            let (start, from) = match random.below(3) {
                0 => (Start::After(place), place.to_string()),
                _ => (ALL, "earliest".to_owned()),
            };
            let other = all[random.below(all.len() as u64) as usize].0;
            let until = match random.below(3) {
                0 if other > place => Until::Position(other),
                _ => end,
            };
            let mut asked = request(&from, &until.to_string(), 1 + random.below(3) as u32);
            any_filter(&mut random, &mut asked);
            let plain = [
                &asked.tables,
                &asked.exclude_tables,
                &asked.kinds,
                &asked.databases,
            ];
            let filter = |change: &Change, unit: &Unit| model(&asked, change, unit);
            let plain = plain.iter().all(|list| list.is_empty()) && asked.columns.is_empty();
            let wanted = match plain {
                true => expected(&units, start, Some(until), None),
                false => expected(&units, start, Some(until), Some(&filter)),
            };
            let found = bench.all(asked.clone()).await;
            same(
                &found,
                &wanted,
                &format!("seed 29, round {round}: {asked:?}"),
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn column_lists_that_name_what_is_not_there_are_refused() {
    let mut bench = serve(long_stream()).await;
    for (table, columns, database, refused) in [
        ("public.nope", &["k"][..], "", Some(FaultCode::NotFound)),
        ("public.a", &["k", "z"], "", Some(FaultCode::NotFound)),
        ("*.c", &["z"], "", Some(FaultCode::NotFound)),
        ("other.c", &["k"], "two", Some(FaultCode::NotFound)),
        ("public.a", &[], "", Some(FaultCode::BadRequest)),
        ("public.a", &[""], "", Some(FaultCode::BadRequest)),
        ("public.", &["k"], "", Some(FaultCode::BadRequest)),
        ("public.no*", &["k"], "", None),
        ("*", &["v", "w"], "", None),
    ] {
        let mut asked = request("earliest", "0/1", 1);
        asked.columns.push(v1::ColumnList {
            table: table.to_owned(),
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        });
        asked
            .databases
            .extend(Some(database.to_owned()).filter(|name| !name.is_empty()));
        let opened = open(&mut bench.control, asked.clone()).await;
        let code = opened.err().map(|fault| fault.code);
        assert_eq!(code, refused, "{table} {columns:?}");
        asked.allow_missing = true;
        let opened = open(&mut bench.control, asked).await;
        let code = opened.err().map(|fault| fault.code);
        let malformed = refused.filter(|code| *code == FaultCode::BadRequest);
        assert_eq!(code, malformed, "{table} {columns:?}, missing allowed");
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

async fn named(
    bench: &mut Bench,
    instance: &[u8],
) -> Result<Subscriber, redostream_protocol::wire::Fault> {
    let asked = v1::OpenSessionRequest {
        name: "cdc".to_owned(),
        from: String::new(),
        instance: instance.to_vec(),
        streams: 2,
        system_identifier: CLUSTER,
        ..Default::default()
    };
    let data = bench.data;
    Subscriber::connect(&mut bench.control, data, asked, 1 << 20).await
}

#[tokio::test(flavor = "multi_thread")]
async fn names_remember_what_was_acknowledged() {
    let mut bench = serve(long_stream()).await;
    let mut first = request("earliest", "", 1);
    first.name = "cdc".to_owned();
    first.instance = vec![1];
    let mut subscriber = bench.connect(first).await;
    assert!(subscriber.run(50).await.is_none());
    let (position, _) = subscriber.events[20];
    subscriber.acknowledge(position, Lsn(0)).await;
    assert_eq!(
        named(&mut bench, &[2]).await.err().unwrap().code,
        FaultCode::NameInUse
    );
    tokio::time::sleep(Duration::from_millis(600)).await;
    // The same client again takes over.
    let again = named(&mut bench, &[1]).await.unwrap();
    assert_eq!(again.start, Start::After(position));
    match subscriber.run(usize::MAX).await {
        Some(Over::Fault(fault)) => assert_eq!(fault.code, FaultCode::NameInUse),
        other => panic!("{other:?}"),
    }
    again.bye().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Another server over the same files.
    let Bench {
        server, directory, ..
    } = bench;
    server.stop(Duration::from_secs(5)).await;
    let mut bench = serve_in(long_stream(), directory, SessionOptions::default()).await;
    let mut subscriber = named(&mut bench, &[3]).await.unwrap();
    assert_eq!(subscriber.start, Start::After(position));
    let listed = bench
        .control
        .list_subscriptions(v1::ListSubscriptionsRequest {})
        .await
        .unwrap();
    let listed = &listed.get_ref().subscriptions[0];
    assert_eq!(
        (listed.position.as_str(), listed.connected),
        (position.to_string().as_str(), true)
    );
    let status = bench.control.status(v1::StatusRequest {}).await.unwrap();
    assert_eq!(status.get_ref().subscribers[0].name, "cdc");
    let drop = v1::DropSubscriptionRequest {
        name: "cdc".to_owned(),
    };
    bench.control.drop_subscription(drop.clone()).await.unwrap();
    match subscriber.run(usize::MAX).await {
        Some(Over::End(end)) => assert_eq!(end.reason, EndReason::Dropped),
        other => panic!("{other:?}"),
    }
    let gone = bench.control.drop_subscription(drop).await.unwrap_err();
    assert_eq!(fault_of(&gone).unwrap().code, FaultCode::NotFound);
}

/// A subscriber goes on from where it stood; gives the new session.
async fn back(bench: &mut Bench, from: &str, goes_on: bool) -> Subscriber {
    let mut asked = request(from, "", 1);
    asked.name = "cdc".to_owned();
    asked.instance = vec![1];
    asked.goes_on = goes_on;
    bench.connect(asked).await
}

/// A heartbeat says that more is here than the last event. After a break the stream begins at that
/// LSN, and the last event, which lies before it, is acknowledged as it was.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_had_before_a_break_is_acknowledged_after_it() {
    let mut random = Random(10);
    let units = units(&mut random, 10, 5);
    let cut = blocks(&mut random, &units, 5);
    let end = cut.last().unwrap().block.wal_end.add(100);
    let mut bench = serve(fixed(cut.clone())).await;
    let mut subscriber = back(&mut bench, "earliest", false).await;
    let heard = async |subscriber: &mut Subscriber| {
        let wait = Duration::from_millis(1500);
        let over = tokio::time::timeout(wait, subscriber.run(usize::MAX)).await;
        assert!(over.is_err(), "{:?}", over.unwrap());
    };
    heard(&mut subscriber).await;
    assert_eq!(subscriber.released, end);
    let (last, _) = *subscriber.events.last().unwrap();
    let Bench {
        server, directory, ..
    } = bench;
    server.stop(Duration::from_secs(5)).await;

    let mut bench = serve_in(fixed(cut), directory, SessionOptions::default()).await;
    let mut subscriber = back(&mut bench, &end.to_string(), true).await;
    assert_eq!(subscriber.start, Start::At(end));
    subscriber.acknowledge(last, end).await;
    heard(&mut subscriber).await;
    subscriber.acknowledge(last, end).await;
    heard(&mut subscriber).await;
    let list = v1::ListSubscriptionsRequest {};
    let listed = bench.control.list_subscriptions(list).await.unwrap();
    let listed = &listed.get_ref().subscriptions[0];
    assert_eq!(listed.lsn, end.to_string());
    // What nobody was ever sent is refused as before.
    let beyond = Position::commit(last.timeline, end);
    subscriber.acknowledge(beyond, Lsn(0)).await;
    match subscriber.run(usize::MAX).await {
        Some(Over::Fault(fault)) => assert_eq!(fault.code, FaultCode::BadRequest),
        other => panic!("{other:?}"),
    }
}

/// What was received before a break and not acknowledged comes again to who begins afresh.
#[tokio::test(flavor = "multi_thread")]
async fn going_on_acknowledges_nothing() {
    let mut bench = serve(long_stream()).await;
    let mut subscriber = back(&mut bench, "earliest", false).await;
    assert!(subscriber.run(50).await.is_none());
    let (safe, received) = (subscriber.events[20].0, subscriber.events[40].0);
    subscriber.acknowledge(safe, Lsn(0)).await;
    // Read before it breaks.
    let listed = async |bench: &mut Bench| {
        let list = v1::ListSubscriptionsRequest {};
        let listed = bench.control.list_subscriptions(list).await.unwrap();
        listed.get_ref().subscriptions[0].position.clone()
    };
    while listed(&mut bench).await != safe.to_string() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let subscriber = back(&mut bench, &received.to_string(), true).await;
    assert_eq!(subscriber.start, Start::After(received));
    assert_eq!(listed(&mut bench).await, safe.to_string());
    subscriber.bye().await;
    let subscriber = back(&mut bench, "", false).await;
    assert_eq!(subscriber.start, Start::After(safe));
    subscriber.bye().await;
    // A place that somebody chose replaces it.
    let subscriber = back(&mut bench, &received.to_string(), false).await;
    subscriber.bye().await;
    let subscriber = back(&mut bench, "", true).await;
    assert_eq!(subscriber.start, Start::After(received));
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

#[tokio::test(flavor = "multi_thread")]
async fn the_released_lsn_of_the_last_word_can_be_acknowledged() {
    let mut random = Random(9);
    let units = units(&mut random, 3, 5);
    let cut = blocks(&mut random, &units, 5);
    // Beyond every block, before what is released.
    let until = cut.last().unwrap().block.wal_end.add(50);
    let mut bench = serve(fixed(cut)).await;
    let mut asked = request("earliest", &until.to_string(), 1);
    asked.name = "once".to_owned();
    let mut subscriber = bench.connect(asked).await;
    let Some(Over::End(end)) = subscriber.run(usize::MAX).await else {
        panic!("no end");
    };
    assert_eq!(end.released, until);
    subscriber.acknowledge(end.position, end.released).await;
    subscriber.bye().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let list = v1::ListSubscriptionsRequest {};
    let listed = bench.control.list_subscriptions(list).await.unwrap();
    let listed = &listed.get_ref().subscriptions[0];
    assert_eq!(
        (listed.lsn.as_str(), listed.connected),
        (until.to_string().as_str(), false)
    );
}
