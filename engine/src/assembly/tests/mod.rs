//! Assembly against a naive model, on logs written by hand and at random.

mod cases;
mod large;
mod log;
mod model;
mod random;
pub(crate) mod store;

use redostream_protocol::event::{Event, EventKind};
use redostream_protocol::{Cursor, Position};

use super::{Assembler, AssemblerState, AssemblyError, Output};
use crate::feed::block::Block;
use log::Log;
use model::released;
use store::MemorySpill;

/// How a log is fed to an assembler.
#[derive(Clone, Copy, Debug)]
struct Feeding {
    seed: u64,
    /// Items in a part, at most.
    part_items: usize,
    memory_bytes_max: usize,
    /// Whether some parts end with a checkpoint from which a new assembler goes on.
    checkpoints: bool,
}

/// Takes all outputs of the part in work.
fn drain(assembler: &mut Assembler, out: &mut Vec<Output>) -> Result<(), AssemblyError> {
    while let Some(output) = assembler.next_output()? {
        out.push(output);
    }
    Ok(())
}

/// Feeds the log and gives all blocks.
fn feed(log: &Log, feeding: Feeding) -> Result<Vec<Block>, AssemblyError> {
    let store = || Box::new(MemorySpill::default());
    // Whether small stretches are copied or passed on must not be seen.
    let set = |assembler: Assembler| match feeding.seed % 2 {
        0 => assembler,
        _ => assembler.for_one_reader(),
    };
    let mut assembler = set(Assembler::new(feeding.memory_bytes_max, store()));
    let mut blocks = Vec::new();
    for part in log.parts(feeding.seed, feeding.part_items, feeding.checkpoints) {
        let end = part.end;
        assembler.push(part)?;
        let mut outputs = Vec::new();
        let result = drain(&mut assembler, &mut outputs);
        for output in outputs {
            match output {
                Output::Block(block) => blocks.push(block),
                Output::Checkpoint { state, spilled, .. } => {
                    let stored = postcard::to_allocvec(&state).unwrap();
                    let state: AssemblerState = postcard::from_bytes(&stored).unwrap();
                    let mut copies: Vec<_> = spilled
                        .into_iter()
                        .map(|copy| (copy.top, Some(copy.copy.reader)))
                        .collect();
                    let restored = Assembler::restore(
                        feeding.memory_bytes_max,
                        store(),
                        state.clone(),
                        |top| {
                            let mut copies = copies.iter_mut();
                            copies.find(|copy| copy.0 == top)?.1.take()
                        },
                    );
                    assembler = set(restored.unwrap());
                }
            }
        }
        result?;
        let block = blocks.last().unwrap();
        assert!(block.wal_end >= end, "the news of the part's end is given");
    }
    Ok(blocks)
}

/// Checks what every block promises, and gives all their events.
fn check_blocks(blocks: &[Block]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut last = Position::default();
    let mut wal_end = redostream_protocol::Lsn(0);
    let mut header: Option<redostream_protocol::event::TransactionHeader> = None;
    for block in blocks {
        assert!(block.wal_end >= wal_end);
        wal_end = block.wal_end;
        let joined = block.pieces.concat();
        assert_eq!(joined.len(), block.bytes());
        bytes.extend_from_slice(&joined);
        if block.events == 0 {
            assert_eq!((block.first, block.last), (last, last));
            continue;
        }
        assert_eq!(block.continues.as_deref(), header.as_ref());
        assert!(
            joined.len() <= 330_000 || block.events == 1,
            "a large event is alone"
        );
        let mut cursor = Cursor::new(&joined);
        let (mut events, mut rows, mut commits) = (0, 0, 0);
        let mut first = None;
        while cursor.remaining() > 0 {
            let event = Event::read(&mut cursor).unwrap();
            let at = event.header;
            events += 1;
            if at.kind == EventKind::Begin {
                assert!(header.is_none());
                header = Some(postcard::from_bytes(event.payload).unwrap());
            }
            let position = match &header {
                Some(header) => Position {
                    timeline: header.timeline,
                    commit_lsn: header.commit_lsn,
                    record_lsn: at.record_lsn,
                    row: at.row,
                },
                None => Position {
                    timeline: block.first.timeline,
                    commit_lsn: at.record_lsn,
                    record_lsn: at.record_lsn,
                    row: 0,
                },
            };
            assert!(position > last, "{position} after {last}");
            last = position;
            first.get_or_insert(position);
            if (1..=3).contains(&(at.kind as u8)) {
                rows += 1;
                assert!(block.relations.contains(&at.relation));
            }
            if at.kind == EventKind::Commit {
                commits += 1;
                header = None;
            }
        }
        assert_eq!(
            (block.events, block.rows, block.transactions),
            (events, rows, commits)
        );
        assert_eq!((Some(block.first), block.last), (first, last));
        let mut distinct = block.relations.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), block.relations.len());
        assert!(!block.databases.is_empty());
    }
    bytes
}

/// Says where two streams of events differ.
fn assert_same(found: &[u8], wanted: &[u8], context: &str) {
    if found == wanted {
        return;
    }
    let (mut a, mut b) = (Cursor::new(found), Cursor::new(wanted));
    for number in 0.. {
        let (x, y) = (Event::read(&mut a), Event::read(&mut b));
        match (x, y) {
            (Ok(x), Ok(y)) if x.header == y.header && x.payload == y.payload => {}
            (x, y) => panic!(
                "{context}: event {number} differs:\nfound  {:?}\nwanted {:?}",
                x.map(|event| event.header),
                y.map(|event| event.header)
            ),
        }
    }
}

/// Feeds a log in several ways; each must give what the model gives.
fn check(log: &Log, seed: u64) {
    let wanted = released(log);
    let mut number = seed;
    for part_items in [1, 7, 60, 100_000] {
        for memory_bytes_max in [usize::MAX, 20_000, 0] {
            for checkpoints in [false, true] {
                number += 1;
                let feeding = Feeding {
                    seed: number,
                    part_items,
                    memory_bytes_max,
                    checkpoints,
                };
                let context = format!("seed {seed}, {feeding:?}");
                let blocks = feed(log, feeding);
                let blocks = blocks.unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_same(&check_blocks(&blocks), &wanted, &context);
            }
        }
    }
}
