//! Every event once and in order, whatever happens on the way.

use std::sync::atomic::Ordering;
use std::time::Duration;

use redostream_client::blocking;
use redostream_client::protocol::control::{From, Start};
use redostream_client::protocol::wire::{Fault, FaultCode};
use redostream_client::protocol::{Lsn, Position, TimelineId};
use redostream_client::{ClientError, Options, Subscription, Unit, Value};

use crate::events::log;
use crate::server::{Script, Server};

fn expected(script: &Script) -> Vec<Position> {
    let events = log(script.transactions, script.rows, Start::At(Lsn(0)));
    events.into_iter().map(|event| event.position).collect()
}

async fn positions(subscription: &mut Subscription) -> Result<Vec<Position>, ClientError> {
    let mut positions = Vec::new();
    while let Some(change) = subscription.next_event().await? {
        positions.push(change.position);
    }
    Ok(positions)
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_connections_gives_the_same() {
    let script = Script::default();
    let server = Server::start(script.clone()).await;
    for streams in 1..=4 {
        let mut options = Options::new([&*server.address]);
        options.streams = streams;
        options.reconnect = false;
        let mut subscription = Subscription::open(options).await.unwrap();
        assert_eq!(
            positions(&mut subscription).await.unwrap(),
            expected(&script)
        );
        let totals = subscription.totals();
        assert_eq!(
            (totals.transactions, totals.rows, totals.events),
            (20, 140, 180)
        );
        assert!(totals.wire_bytes > 0 && totals.reconnects == 0);
        assert_eq!(subscription.system_identifier(), Some(77));
        assert_eq!(subscription.start(), Some(Start::At(Lsn(0x100))));
        subscription.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_anywhere_is_resumed_exactly_once() {
    for (cut, streams) in (0..38).zip([1, 3, 2, 4].into_iter().cycle()) {
        let script = Script {
            cut_after: Some(cut),
            ..Script::default()
        };
        let server = Server::start(script.clone()).await;
        let mut options = Options::new([&*server.address]);
        options.streams = streams;
        options.backoff_max = Duration::from_millis(1);
        let mut subscription = Subscription::open(options).await.unwrap();
        let found = positions(&mut subscription).await.unwrap();
        assert_eq!(found, expected(&script), "cut after frame {cut}");
        let froms = server.seen.froms.lock().unwrap().clone();
        assert!(froms.len() <= 2, "{froms:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_transactions_survive_a_cut() {
    let script = Script {
        cut_after: Some(4),
        ..Script::default()
    };
    let server = Server::start(script).await;
    let mut subscription = Subscription::open(Options::new([&*server.address]))
        .await
        .unwrap();
    let mut number = 0;
    while let Some(transaction) = subscription.next_transaction().await.unwrap() {
        assert_eq!(transaction.header.xid.0, 700 + number);
        assert_eq!(transaction.events.len(), 7);
        assert!(!transaction.resumed);
        number += 1;
    }
    assert_eq!(number, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_inside_a_transaction_repeats_nothing() {
    let script = Script::default();
    let server = Server::start(script.clone()).await;
    let all = expected(&script);
    let mut options = Options::new([&*server.address]);
    options.from = Some(From::Position(all[12]));
    let mut subscription = Subscription::open(options).await.unwrap();
    assert_eq!(positions(&mut subscription).await.unwrap(), all[13..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_under_way_than_was_granted() {
    let script = Script {
        transactions: 200,
        ..Script::default()
    };
    let server = Server::start(script.clone()).await;
    let mut options = Options::new([&*server.address]);
    options.window_bytes = 4096;
    let mut subscription = Subscription::open(options).await.unwrap();
    assert_eq!(
        positions(&mut subscription).await.unwrap(),
        expected(&script)
    );
    // One frame may go beyond what is left.
    assert!(server.seen.overdraft.load(Ordering::SeqCst) < 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_event_is_found() {
    let script = Script {
        spoil_count: true,
        ..Script::default()
    };
    let server = Server::start(script.clone()).await;
    let mut options = Options::new([&*server.address]);
    options.reconnect = false;
    let mut subscription = Subscription::open(options).await.unwrap();
    let error = positions(&mut subscription).await.unwrap_err();
    assert!(matches!(error, ClientError::Check(_)), "{error}");
    assert_eq!(error.exit_status(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_come_through_with_their_exit_status() {
    for (code, exit_status) in [
        (FaultCode::PositionTooOld, 4),
        (FaultCode::Diverged, 4),
        (FaultCode::OtherCluster, 4),
        (FaultCode::Unauthorised, 5),
        (FaultCode::NameInUse, 1),
        (FaultCode::BadRequest, 2),
    ] {
        let refuse = Some(Fault::new(code, "because"));
        let server = Server::start(Script {
            refuse,
            ..Script::default()
        })
        .await;
        let Err(error) = Subscription::open(Options::new([&*server.address])).await else {
            panic!("{code:?} was not told");
        };
        assert!(matches!(&error, ClientError::Fault(fault) if fault.code == code));
        assert_eq!(error.exit_status(), exit_status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_before_the_damage_is_delivered() {
    let fault = Some(Fault::new(FaultCode::LogDamaged, "bad checksum").at(Lsn(0x9000)));
    let script = Script {
        fault,
        ..Script::default()
    };
    let server = Server::start(script.clone()).await;
    let mut subscription = Subscription::open(Options::new([&*server.address]))
        .await
        .unwrap();
    let mut found = Vec::new();
    let error = loop {
        match subscription.next_event().await {
            Ok(Some(change)) => found.push(change.position),
            Ok(None) => panic!("the damage was not told"),
            Err(error) => break error,
        }
    };
    assert_eq!(found, expected(&script));
    assert_eq!(error.exit_status(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_arrive() {
    let server = Server::start(Script::default()).await;
    let mut subscription = Subscription::open(Options::new([&*server.address]))
        .await
        .unwrap();
    subscription.next_transaction().await.unwrap().unwrap();
    let position = Position::commit(TimelineId(1), Lsn(0x1000));
    subscription.acknowledge(position).await.unwrap();
    subscription.close().await;
    server.seen.acknowledgement(position).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_is_tried() {
    let server = Server::start(Script::default()).await;
    let options = Options::new(["127.0.0.1:1", &server.address]);
    let mut subscription = Subscription::open(options).await.unwrap();
    assert!(subscription.next_event().await.unwrap().is_some());
    let mut options = Options::new(["127.0.0.1:1"]);
    options.reconnect = false;
    let Err(error) = Subscription::open(options).await else {
        panic!("nothing listens there");
    };
    assert!(matches!(error, ClientError::Connect { .. }));
    assert_eq!(error.exit_status(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_become_structs() {
    #[derive(serde::Deserialize)]
    struct Row {
        id: i64,
    }
    let script = Script::default();
    let server = Server::start(script.clone()).await;
    let mut options = Options::new([&*server.address]);
    options.reconnect = false;
    let mut subscription = Subscription::open(options).await.unwrap();
    let mut rows = 0;
    while let Some(change) = subscription.next_event().await.unwrap() {
        let Some(row) = change.deserialize::<Row>().unwrap() else {
            continue;
        };
        let (old, new) = change.rows().unwrap();
        assert!(old.is_none());
        assert_eq!(new.unwrap().get("id").unwrap(), Value::Int(row.id));
        rows += 1;
    }
    assert_eq!(rows, script.transactions * script.rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_transactions_are_streamed() {
    let script = Script::default();
    let server = Server::start(script.clone()).await;
    let mut options = Options::new([&*server.address]);
    options.reconnect = false;
    // Two rows and a bit.
    options.transaction_bytes_max = 80;
    let mut subscription = Subscription::open(options).await.unwrap();
    let (mut rows, mut units, mut resumed) = (0, 0, 0);
    while let Some(unit) = subscription.next_unit().await.unwrap() {
        units += 1;
        match unit {
            Unit::Whole(whole) => {
                rows += whole.events.len();
                resumed += usize::from(whole.resumed);
            }
            Unit::Large(mut large) => {
                resumed += usize::from(large.resumed);
                // Every third is left in the middle; its rest is the next unit.
                while let Some(change) = large.next().await.unwrap() {
                    assert!(change.position < large.position());
                    rows += 1;
                    if units % 3 == 0 {
                        break;
                    }
                }
            }
        }
    }
    assert_eq!(rows as u64, script.transactions * script.rows);
    assert!(resumed > 0 && units == script.transactions + resumed as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_blocking_wrapper_does_the_same() {
    let script = Script::default();
    let server = Server::start(script.clone()).await;
    let mut options = Options::new([&*server.address]);
    options.name = Some("blocking".to_owned());
    options.reconnect = false;
    options.transaction_bytes_max = 80;
    let read = move || {
        let mut subscription = blocking::Subscription::open(options).unwrap();
        let (mut rows, mut large) = (0, 0);
        while let Some(unit) = subscription.next_unit().unwrap() {
            match unit {
                blocking::Unit::Whole(whole) => rows += whole.events.len(),
                blocking::Unit::Large(mut unit) => {
                    large += 1;
                    rows += unit.by_ref().map(Result::unwrap).count();
                    let position = unit.position();
                    unit.acknowledge(position).unwrap();
                }
            }
        }
        let last = subscription.position().unwrap();
        assert!(subscription.ended().is_some());
        subscription.close();
        (rows as u64, large, last)
    };
    let (rows, large, last) = tokio::task::spawn_blocking(read).await.unwrap();
    assert_eq!(rows, script.transactions * script.rows);
    assert_eq!(large, script.transactions);
    server.seen.acknowledgement(last).await;
}
