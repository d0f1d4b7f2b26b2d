use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use redostream_protocol::{Lsn, Position, TimelineId};

use super::block::Block;
use super::{Feed, Next, Start};

fn place(commit: u64, record: u64) -> Position {
    Position {
        timeline: TimelineId(1),
        commit_lsn: Lsn(commit),
        record_lsn: Lsn(record),
        row: 0,
    }
}

fn block(first: Position, last: Position, bytes: usize) -> Block {
    Block {
        first,
        last,
        wal_end: last.commit_lsn.add(8),
        pieces: vec![Bytes::from(vec![0; bytes])],
        events: 3,
        transactions: 1,
        ..Block::default()
    }
}

/// Blocks of one transaction each, committed at 100, 200, ...
fn filled(bytes_max: u64, count: u64) -> Feed<Bytes> {
    let feed = Feed::new(bytes_max, place(50, 50), Lsn(60));
    for number in 1..=count {
        let commit = number * 100;
        feed.append(block(place(commit, 0), place(commit, commit), 1000));
    }
    feed
}

#[test]
fn places_are_found() {
    let feed = filled(u64::MAX, 5);
    assert_eq!(feed.after(place(49, 0)), Start::Behind);
    assert_eq!(feed.after(place(50, 50)), Start::At(0));
    assert_eq!(feed.after(place(100, 0)), Start::At(0));
    assert_eq!(feed.after(place(100, 99)), Start::At(0));
    assert_eq!(feed.after(place(100, 100)), Start::At(1));
    assert_eq!(feed.after(place(500, 499)), Start::At(4));
    assert_eq!(feed.after(place(500, 500)), Start::At(5));
    assert_eq!(feed.at_lsn(Lsn(59)), Start::Behind);
    assert_eq!(feed.at_lsn(Lsn(60)), Start::At(0));
    assert_eq!(feed.at_lsn(Lsn(200)), Start::At(1));
    assert_eq!(feed.at_lsn(Lsn(201)), Start::At(2));
    assert_eq!(feed.latest(), 5);
}

#[test]
fn who_is_slow_is_behind_and_blocks_nobody() {
    let feed = filled(5000, 3);
    let mut reader = feed.reader(0);
    assert!(matches!(reader.next(), Next::Entry(entry) if entry.sequence == 0));
    for number in 4..=20 {
        let commit = number * 100;
        feed.append(block(place(commit, 0), place(commit, commit), 1000));
    }
    let Next::Behind { oldest } = reader.next() else {
        panic!("its block is gone");
    };
    assert!(feed.counters().bytes <= 5000);
    assert_eq!(feed.counters().evicted, oldest);
    // What has been evicted cannot be started from, what follows it can.
    let gone = oldest * 100;
    assert_eq!(feed.after(place(gone, gone - 1)), Start::Behind);
    assert_eq!(feed.after(place(gone, gone)), Start::At(oldest));
    assert_eq!(feed.at_lsn(Lsn(gone)), Start::Behind);
    assert_eq!(feed.at_lsn(Lsn(gone + 1)), Start::At(oldest));
    let mut reader = feed.reader(oldest);
    assert!(matches!(reader.next(), Next::Entry(_)));
}

#[test]
fn the_newest_block_stays_however_large() {
    let feed = filled(10, 2);
    assert_eq!(feed.counters().entries, 1);
    assert!(matches!(feed.reader(1).next(), Next::Entry(_)));
}

#[test]
fn blocks_without_events_carry_the_news() {
    let feed = filled(u64::MAX, 1);
    let news = Block {
        first: place(100, 100),
        last: place(100, 100),
        wal_end: Lsn(5000),
        ..Block::default()
    };
    feed.append(news);
    assert_eq!(feed.counters().wal_end, Lsn(5000));
    feed.append(block(place(6000, 0), place(6000, 6000), 1));
    assert_eq!(feed.after(place(100, 100)), Start::At(2));
}

#[test]
fn a_block_is_encoded_once_and_charged() {
    let feed = filled(u64::MAX, 1);
    let Next::Entry(entry) = feed.reader(0).next() else {
        panic!("an entry");
    };
    let before = feed.counters().bytes;
    let made = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let encoded = feed.encoded(&entry, |block| {
                    made.fetch_add(1, Ordering::Relaxed);
                    (Bytes::from(vec![1; 300]), block.bytes() / 2)
                });
                assert_eq!(encoded.len(), 300);
            });
        }
    });
    assert_eq!(made.load(Ordering::Relaxed), 1);
    assert_eq!(feed.counters().bytes, before + 500);
}

#[test]
fn waiting_readers_are_woken() {
    let feed: Feed<Bytes> = Feed::new(u64::MAX, Position::default(), Lsn(0));
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let guard = feed.subscribe_wakeups(Box::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    }));
    let mut reader = feed.reader(0);
    assert!(matches!(reader.next(), Next::Wait));
    assert!(matches!(
        reader.next_within(Duration::from_millis(1)),
        Next::Wait
    ));
    let waiting = std::thread::spawn(move || {
        let mut seen = 0;
        loop {
            match reader.next_within(Duration::from_secs(20)) {
                Next::Entry(_) => seen += 1,
                Next::Closed => return seen,
                other => panic!("{other:?}"),
            }
        }
    });
    feed.append(block(place(100, 0), place(100, 100), 10));
    drop(guard);
    feed.append(block(place(200, 0), place(200, 200), 10));
    feed.close();
    assert_eq!(waiting.join().unwrap(), 2);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
#[should_panic(expected = "come after")]
fn blocks_out_of_order_are_our_own_mistake() {
    let feed = filled(u64::MAX, 3);
    feed.append(block(place(300, 0), place(300, 300), 1));
}
