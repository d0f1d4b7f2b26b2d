//! Memory taken by a large value. Run alone, since it looks at the whole process:
//! `cargo test -p redostream-engine --lib large_value -- --ignored --test-threads 1`.

use redostream_protocol::event::{EventKind, ToastPointer, flags};

use super::log::{Column, Log, header, part_of, payload};
use crate::assembly::{Assembler, FileSpill, Output};

const VALUE_BYTES: usize = 400 << 20;
const CHUNK_BYTES: usize = 1996;

/// Most memory the process has had, reset to what it has now.
fn peak_bytes(reset: bool) -> usize {
    if reset {
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        * 1024
}

fn check_peak(memory_bytes_max: usize) {
    let directory = tempfile::tempdir().unwrap();
    let store = FileSpill::new(directory.path(), u64::MAX).unwrap();
    let mut assembler = Assembler::new(memory_bytes_max, Box::new(store));
    let before = peak_bytes(true);
    let mut log = Log::default();
    let mut take = |log: &mut Log| {
        assembler.push(part_of(&log.items)).unwrap();
        log.items.clear();
        let mut largest = 0;
        while let Some(output) = assembler.next_output().unwrap() {
            if let Output::Block(block) = output {
                largest = largest.max(block.bytes());
            }
        }
        largest
    };
    let chunk = [7; CHUNK_BYTES];
    let mut written = 0;
    for sequence in 0.. {
        let length = CHUNK_BYTES.min(VALUE_BYTES - written);
        log.chunk(700, 700, (900, 5), sequence, &chunk[..length]);
        written += length;
        if sequence % 128 == 127 {
            take(&mut log);
        }
        if written == VALUE_BYTES {
            break;
        }
    }
    let pointer = ToastPointer {
        relation: 900,
        value: 5,
        raw_size: VALUE_BYTES as u32 + 4,
        stored: VALUE_BYTES as u32,
    };
    let row = payload(&[Column::External(pointer)]);
    log.event(
        700,
        header(EventKind::Insert, 700, 1, flags::HAS_EXTERNAL),
        &row,
    );
    log.commit(700, &[]);
    assert_eq!(take(&mut log), VALUE_BYTES + 28 + 5);
    let taken = peak_bytes(false) - before;
    println!(
        "memory bound {memory_bytes_max}: {} MiB for {} MiB",
        taken >> 20,
        VALUE_BYTES >> 20
    );
    assert!(taken < VALUE_BYTES + VALUE_BYTES / 4);
}

#[test]
#[ignore = "looks at the memory of the whole process"]
fn a_large_value_is_in_memory_once() {
    // What the bound allows to stay in memory comes on top.
    check_peak(VALUE_BYTES / 8);
}
