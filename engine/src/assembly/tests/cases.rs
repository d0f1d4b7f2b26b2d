//! Logs written by hand: one thing each.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use redostream_protocol::event::{Event, EventKind, ToastPointer, flags};
use redostream_protocol::{Cursor, Xid};

use super::log::{Column, Log, header, part_of, payload};
use super::store::{Faults, MemorySpill};
use super::{Feeding, check, check_blocks, drain, feed};
use crate::assembly::part::ControlKind;
use crate::assembly::{Assembler, AssemblyError, Output};
use crate::limits::BLOCK_BYTES;

const ALL_AT_ONCE: Feeding = Feeding {
    seed: 1,
    part_items: 1_000_000,
    memory_bytes_max: usize::MAX,
    checkpoints: false,
};

fn pointer(value: u32, length: usize) -> ToastPointer {
    ToastPointer {
        relation: 900,
        value,
        raw_size: length as u32 + 4,
        stored: length as u32,
    }
}

fn toasted(log: &mut Log, top: u32, kind: EventKind, pointer: ToastPointer) {
    let new = payload(&[Column::External(pointer)]);
    log.event(top, header(kind, top, 1, flags::HAS_EXTERNAL), &new);
}

fn error_of(log: &Log) -> AssemblyError {
    feed(log, ALL_AT_ONCE).unwrap_err()
}

#[test]
fn small_transactions_of_a_part_share_a_block() {
    let mut log = Log::default();
    for top in 700..710 {
        log.insert(top, top, b"a row");
        log.commit(top, &[]);
    }
    let blocks = feed(&log, ALL_AT_ONCE).unwrap();
    assert_eq!(blocks.len(), 1);
    assert_eq!(blocks[0].pieces.len(), 1);
    assert_eq!(blocks[0].transactions, 10);
    check(&log, 1);
}

#[test]
fn large_runs_are_passed_by_reference() {
    let mut log = Log::default();
    for _ in 0..100 {
        log.insert(700, 700, &[7; 1000]);
    }
    log.commit(700, &[]);
    let part = part_of(&log.items);
    let arena = part.arena.as_ptr_range();
    let mut assembler = Assembler::new(usize::MAX, Box::new(MemorySpill::default()));
    assembler.push(part.clone()).unwrap();
    let Some(Output::Block(block)) = assembler.next_output().unwrap() else {
        panic!("a block");
    };
    assert!(arena.contains(&block.pieces[1].as_ptr()));
    check_blocks(&[block]);
    check(&log, 2);
}

#[test]
fn huge_transactions_are_cut_into_blocks() {
    let mut log = Log::default();
    for number in 0..5000u32 {
        log.insert(700, 700, &vec![number as u8; 400]);
    }
    log.commit(700, &[]);
    let blocks = feed(&log, ALL_AT_ONCE).unwrap();
    assert!(blocks.len() > 5);
    assert!(blocks[0].bytes() >= BLOCK_BYTES / 2);
    assert!(blocks.iter().all(|block| block.bytes() <= 2 * BLOCK_BYTES));
    assert!(blocks[1].continues.is_some());
    check(&log, 3);
}

#[test]
fn events_larger_than_a_block_stand_alone() {
    let mut log = Log::default();
    let values: [Vec<u8>; 3] = [vec![1; 3000], vec![2; 900_000], vec![3; 400_000]];
    for number in [0, 1, 0, 0, 2, 1] {
        log.insert(700, 700, &values[number]);
        log.event(700, header(EventKind::Skipped, 700, 0, 0), &[]);
    }
    for number in [0, 1, 0, 2] {
        let length = values[number].len();
        for (sequence, chunk) in values[number].chunks(2000).enumerate() {
            log.chunk(700, 700, (900, 5), sequence as u32, chunk);
        }
        toasted(&mut log, 700, EventKind::Insert, pointer(5, length));
    }
    log.commit(700, &[]);
    let blocks = feed(&log, ALL_AT_ONCE).unwrap();
    let sizes: Vec<_> = blocks.iter().map(|b| (b.events, b.bytes())).collect();
    assert!(
        blocks.iter().filter(|block| block.events == 1).count() >= 5,
        "{sizes:?}"
    );
    check(&log, 10);
}

#[test]
fn unknown_transactions_only_move_the_end() {
    let mut log = Log::default();
    log.commit(700, &[701]);
    let blocks = feed(&log, ALL_AT_ONCE).unwrap();
    assert_eq!((blocks.len(), blocks[0].events), (1, 0));
    assert!(blocks[0].wal_end.is_valid());
}

#[test]
fn rolled_back_subtransactions_are_cut_at_any_level() {
    let mut log = Log::default();
    log.insert(700, 700, b"kept");
    log.insert(700, 701, b"rolled back by name");
    log.insert(700, 702, b"its child");
    let top = Xid(700);
    let subs = vec![Xid(702), Xid(701)];
    log.control(ControlKind::AbortSubtransactions { top, subs });
    log.insert(700, 703, b"kept, a child");
    log.insert(700, 704, b"not in the commit's list");
    log.commit(700, &[703]);
    // A transaction of which nothing is left is not sent.
    log.insert(800, 801, b"rolled back");
    log.commit(800, &[]);
    let blocks = feed(&log, ALL_AT_ONCE).unwrap();
    assert_eq!((blocks[0].rows, blocks[0].transactions), (2, 1));
    check(&log, 4);
}

#[test]
fn an_insert_clears_chunks_so_that_an_update_is_unchanged() {
    let mut log = Log::default();
    let big = pointer(5, 3000);
    log.chunk(700, 700, (900, 5), 0, &[1; 2000]);
    log.chunk(700, 700, (900, 5), 1, &[2; 1000]);
    toasted(&mut log, 700, EventKind::Insert, big);
    toasted(&mut log, 700, EventKind::Update, big);
    log.commit(700, &[]);
    check(&log, 5);
    let bytes = check_blocks(&feed(&log, ALL_AT_ONCE).unwrap());
    let mut cursor = Cursor::new(&bytes);
    Event::read(&mut cursor).unwrap();
    let insert = Event::read(&mut cursor).unwrap();
    assert_eq!(
        (insert.header.size, insert.header.flags),
        (28 + 5 + 3000, 0)
    );
    let update = Event::read(&mut cursor).unwrap();
    assert_eq!(update.payload, [redostream_protocol::event::TAG_UNCHANGED]);
}

#[test]
fn skipped_rows_do_not_clear_chunks() {
    let mut log = Log::default();
    log.chunk(700, 700, (900, 5), 0, &[1; 2000]);
    log.event(700, header(EventKind::Skipped, 700, 0, 0), &[]);
    toasted(&mut log, 700, EventKind::Insert, pointer(5, 2000));
    log.commit(700, &[]);
    check(&log, 6);
    let blocks = feed(&log, ALL_AT_ONCE).unwrap();
    assert!(blocks[0].bytes() > 2000);
}

#[test]
fn chunks_out_of_order_are_an_error() {
    let mut log = Log::default();
    log.insert(600, 600, b"before");
    log.commit(600, &[]);
    log.chunk(700, 700, (900, 5), 0, &[1; 2000]);
    log.chunk(700, 700, (900, 5), 2, &[1; 2000]);
    toasted(&mut log, 700, EventKind::Insert, pointer(5, 4000));
    log.commit(700, &[]);
    log.insert(800, 800, b"after");
    log.commit(800, &[]);
    assert!(matches!(
        error_of(&log),
        AssemblyError::ToastGap {
            wanted: 1,
            found: 2,
            ..
        }
    ));

    // What precedes the error is given, nothing after it.
    let mut assembler = Assembler::new(usize::MAX, Box::new(MemorySpill::default()));
    assembler.push(part_of(&log.items)).unwrap();
    let mut outputs = Vec::new();
    drain(&mut assembler, &mut outputs).unwrap_err();
    let [Output::Block(block)] = &outputs[..] else {
        panic!("{outputs:?}");
    };
    assert_eq!(block.transactions, 1);
    assert!(matches!(
        assembler.next_output(),
        Err(AssemblyError::Stopped)
    ));
}

#[test]
fn chunks_of_another_length_are_an_error() {
    for length in [1999, 2001] {
        let mut log = Log::default();
        log.chunk(700, 700, (900, 5), 0, &vec![1; length]);
        toasted(&mut log, 700, EventKind::Insert, pointer(5, 2000));
        log.commit(700, &[]);
        assert!(matches!(
            error_of(&log),
            AssemblyError::ToastSize { wanted: 2000, .. }
        ));
    }
}

#[test]
fn pointers_that_contradict_their_value_are_an_error() {
    let head = 996u32 | 1 << 30;
    let good = ToastPointer {
        relation: 900,
        value: 5,
        raw_size: 1000,
        stored: 504 | 1 << 30,
    };
    let raw = ToastPointer {
        raw_size: 1001,
        ..good
    };
    let method = ToastPointer {
        stored: 504,
        ..good
    };
    let unknown = ToastPointer {
        stored: 504 | 2 << 30,
        ..good
    };
    let tiny = ToastPointer {
        raw_size: 3,
        ..good
    };
    let larger = ToastPointer {
        raw_size: 100,
        ..good
    };
    for (pointer, is_good) in [
        (good, true),
        (raw, false),
        (method, false),
        (unknown, false),
        (tiny, false),
        (larger, false),
    ] {
        let mut log = Log::default();
        let mut value = head.to_le_bytes().to_vec();
        value.extend_from_slice(&[3; 500]);
        log.chunk(700, 700, (900, 5), 0, &value);
        toasted(&mut log, 700, EventKind::Insert, pointer);
        log.commit(700, &[]);
        if is_good {
            check(&log, 7);
        } else {
            assert!(matches!(error_of(&log), AssemblyError::ToastPointer { .. }));
        }
    }
}

#[test]
fn speculative_inserts_wait_for_their_confirmation() {
    let mut log = Log::default();
    let mark = |log: &mut Log, kind| log.event(700, header(kind, 700, 0, 0), &[]);
    let insert = |log: &mut Log, value: &[u8]| {
        let new = payload(&[Column::Value(value)]);
        log.event(700, header(EventKind::SpeculativeInsert, 700, 1, 0), &new);
    };
    insert(&mut log, b"withdrawn");
    mark(&mut log, EventKind::SpeculativeAbort);
    mark(&mut log, EventKind::SpeculativeAbort);
    insert(&mut log, b"left over");
    insert(&mut log, b"confirmed");
    mark(&mut log, EventKind::SpeculativeConfirm);
    insert(&mut log, b"left over at the end");
    log.commit(700, &[]);
    check(&log, 8);
    let blocks = feed(&log, ALL_AT_ONCE).unwrap();
    assert_eq!((blocks[0].rows, blocks[0].events), (1, 3));

    let mut log = Log::default();
    let undecodable = |log: &mut Log| {
        let why = header(EventKind::SpeculativeInsert, 700, 1, flags::UNDECODABLE);
        log.event(700, why, b"why");
    };
    undecodable(&mut log);
    mark(&mut log, EventKind::SpeculativeAbort);
    insert(&mut log, b"confirmed");
    mark(&mut log, EventKind::SpeculativeConfirm);
    undecodable(&mut log);
    mark(&mut log, EventKind::SpeculativeConfirm);
    log.commit(700, &[]);
    let blocks = feed(&log, ALL_AT_ONCE).unwrap();
    assert_eq!((blocks[0].rows, blocks[0].events), (1, 4));

    let mut log = Log::default();
    mark(&mut log, EventKind::SpeculativeConfirm);
    log.commit(700, &[]);
    assert!(matches!(
        error_of(&log),
        AssemblyError::ConfirmWithoutInsert { .. }
    ));
}

#[test]
fn a_crash_ends_all_but_prepared_transactions() {
    let mut log = Log::default();
    log.insert(700, 700, b"prepared");
    log.control(ControlKind::Prepare { top: Xid(700) });
    log.insert(701, 701, b"lost");
    log.control(ControlKind::AllGone);
    log.insert(702, 702, b"after the crash");
    log.commit(702, &[]);
    log.commit(700, &[]);
    log.commit(701, &[]);
    let blocks = feed(&log, ALL_AT_ONCE).unwrap();
    assert_eq!(blocks[0].transactions, 2);
    check(&log, 9);
}

fn with_faults(memory_bytes_max: usize) -> (Assembler, Arc<Faults>) {
    let store = MemorySpill::default();
    let faults = Arc::clone(&store.faults);
    (Assembler::new(memory_bytes_max, Box::new(store)), faults)
}

/// The outputs are blocks, and what the model gives for the log.
fn assert_released(log: &Log, outputs: Vec<Output>, what: &str) {
    let blocks: Vec<_> = outputs
        .into_iter()
        .map(|output| match output {
            Output::Block(block) => block,
            other => panic!("{other:?}"),
        })
        .collect();
    let wanted = super::model::released(log);
    super::assert_same(&check_blocks(&blocks), &wanted, what);
}

fn long_log() -> Log {
    let mut log = Log::default();
    for number in 0..300u32 {
        log.insert(700, 700, &vec![number as u8; 4000]);
    }
    log.commit(700, &[]);
    log
}

#[test]
fn memory_stays_within_its_bound() {
    let (mut assembler, faults) = with_faults(100_000);
    for part in long_log().parts(1, 10, false) {
        assembler.push(part).unwrap();
        drain(&mut assembler, &mut Vec::new()).unwrap();
        assert!(assembler.counters().open_bytes <= 100_000);
    }
    assert!(assembler.counters().spilled_bytes_total > 1_000_000);
    assert_eq!(assembler.counters().spilled_bytes, 0);
    assert_eq!(faults.bytes.load(Ordering::Relaxed), 0);
}

/// A transaction that is a little too large is not written whole.
#[test]
fn only_what_is_too_much_is_spilled() {
    const BOUND: usize = 1_000_000;
    let mut log = Log::default();
    for number in 0..55u32 {
        log.insert(700, 700, &vec![number as u8; 20_000]);
    }
    log.commit(700, &[]);
    let (mut assembler, _) = with_faults(BOUND);
    let mut outputs = Vec::new();
    for part in log.parts(1, 1, false) {
        assembler.push(part).unwrap();
        drain(&mut assembler, &mut outputs).unwrap();
        assert!(assembler.counters().open_bytes <= BOUND as u64);
    }
    let written = assembler.counters().spilled_bytes_total;
    assert!((100_000..250_000).contains(&written), "{written}");
    assert_released(&log, outputs, "spilled in part");
}

#[test]
fn no_space_for_spilling_can_be_tried_again() {
    let log = long_log();
    let (mut assembler, faults) = with_faults(100_000);
    let mut outputs = Vec::new();
    let mut failures = 0;
    for part in log.parts(1, 50, false) {
        assembler.push(part).unwrap();
        faults.full.store(true, Ordering::Relaxed);
        if let Err(error) = drain(&mut assembler, &mut outputs) {
            assert!(error.is_retryable(), "{error}");
            assert!(drain(&mut assembler, &mut outputs).is_err());
            faults.full.store(false, Ordering::Relaxed);
            drain(&mut assembler, &mut outputs).unwrap();
            failures += 1;
        }
    }
    assert!(failures > 2);
    assert_released(&log, outputs, "after retries");
}

#[test]
fn faults_of_the_spill_store_are_typed_errors() {
    for damaged in [false, true] {
        let (mut assembler, faults) = with_faults(100_000);
        let parts = long_log().parts(1, 50, false);
        let fault = if damaged {
            &faults.damaged
        } else {
            &faults.unreadable
        };
        fault.store(true, Ordering::Relaxed);
        let mut error = None;
        for part in parts {
            assembler.push(part).unwrap();
            if let Err(found) = drain(&mut assembler, &mut Vec::new()) {
                error = Some(found);
            }
        }
        match error.unwrap() {
            AssemblyError::Spill { .. } if !damaged => {}
            AssemblyError::SpillDamaged { .. } if damaged => {}
            other => panic!("{other}"),
        }
    }
}

#[test]
fn an_error_tells_the_operator_what_and_where() {
    let mut log = Log::default();
    log.chunk(700, 700, (900, 5), 1, b"x");
    log.commit(700, &[]);
    assert_eq!(
        error_of(&log).to_string(),
        "at 0/1040: chunk 1 of TOASTed value 5 (TOAST table 900) where chunk 0 is due; the log \
         cannot be decoded here"
    );
}
