//! Durable names: what they remember over breaks, over other sessions and over other servers.

use std::time::Duration;

use redostream_client::protocol::control::From as Place;
use redostream_client::{Options, Subscription};
use redostream_protocol::control::{Start, fault_of, v1};
use redostream_protocol::wire::{EndReason, FaultCode};
use redostream_protocol::{Lsn, Position};
use redostream_server::session::SessionOptions;

use crate::client::{Over, Subscriber, open};
use crate::stream::{CLUSTER, Random, blocks, units};
use crate::{Bench, fixed, long_stream, request, serve, serve_in};

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

/// Another server has never heard of the name: there it begins at what its client has acknowledged,
/// which the client says, and not at what it has received.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_begins_anew_where_its_client_says_that_it_is_safe() {
    let mut bench = serve(long_stream()).await;
    let mut subscriber = back(&mut bench, "earliest", false).await;
    assert!(subscriber.run(50).await.is_none());
    let (safe, received) = (subscriber.events[20].0, subscriber.events[40].0);
    let later = subscriber.events[45].0;
    for (acknowledged, goes_on, kept) in [
        (safe.to_string(), true, Start::After(safe)),
        (
            safe.commit_lsn.to_string(),
            true,
            Start::At(safe.commit_lsn),
        ),
        // Who begins chooses the place, and nobody has acknowledged what was not received.
        (safe.to_string(), false, Start::After(received)),
        (later.to_string(), true, Start::After(received)),
        (String::new(), true, Start::After(received)),
    ] {
        let mut bench = serve(long_stream()).await;
        let mut asked = request(&received.to_string(), "", 1);
        asked.name = "cdc".to_owned();
        asked.goes_on = goes_on;
        asked.acknowledged = acknowledged;
        let subscriber = bench.connect(asked.clone()).await;
        assert_eq!(subscriber.start, Start::After(received));
        subscriber.bye().await;
        let again = again(&mut bench).await;
        assert_eq!(again.start, kept, "{asked:?}");
    }
    let mut asked = request("earliest", "", 1);
    asked.acknowledged = "latest".to_owned();
    let refused = open(&mut bench.control, asked).await.unwrap_err();
    assert_eq!(refused.code, FaultCode::BadRequest);
}

/// A new client of the name, once the one before is gone.
async fn again(bench: &mut Bench) -> Subscriber {
    loop {
        match named(bench, &[9]).await {
            Ok(subscriber) => return subscriber,
            Err(fault) => assert_eq!(fault.code, FaultCode::NameInUse),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The client library goes over to the second server, is killed there, and gets again what it had
/// received and not acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_takes_what_is_safe_along_to_another_server() {
    for acknowledges in [true, false] {
        let (one, mut other) = (serve(long_stream()).await, serve(long_stream()).await);
        let addresses = [&one, &other].map(|bench| bench.server.control_address().to_string());
        let mut options = Options::new(addresses);
        options.name = Some("cdc".to_owned());
        options.from = Some(Place::Earliest);
        options.backoff_max = Duration::from_millis(100);
        let mut subscription = Subscription::open(options).await.unwrap();
        let mut safe = subscription.start().unwrap();
        for number in 0..60 {
            let position = subscription.next_event().await.unwrap().unwrap().position;
            if acknowledges && number == 20 {
                subscription.acknowledge(position).await.unwrap();
                safe = Start::After(position);
            }
        }
        one.server.stop(Duration::from_secs(5)).await;
        while subscription.sessions() == 1 {
            subscription.next_event().await.unwrap().unwrap();
        }
        drop(subscription);
        let again = again(&mut other).await;
        assert_eq!(again.start, safe, "acknowledges: {acknowledges}");
    }
}
