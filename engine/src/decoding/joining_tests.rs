//! Rows whose TOASTed values decoding joins are the rows that assembly would have made, wherever a
//! part begins.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use redostream_protocol::event::{Event, EventKind};
use redostream_protocol::{Cursor, Lsn, Oid, RelFileNode, TimelineId, Xid};

use super::merge::{Merged, Tops, merge};
use super::ordered::{Scratch, decode_ordered};
use super::task::{Targets, TaskOutput, decode};
use super::tests::{layout, logged};
use crate::arena::Arenas;
use crate::assembly::part::{Commit, Control, ControlKind, Part, Particulars};
use crate::assembly::tests::store::MemorySpill;
use crate::assembly::{Assembler, AssemblyError, Output};
use crate::catalog::relation::Target;
use crate::framing::chunk::{ChunkBuffers, FramedChunk};
use crate::framing::format::WalFormat;
use crate::framing::partition::{Group, Place, RowEntry, RowKind, partition_of};
use crate::pool::BufferPool;

const TABLE: u16 = 0;
const TOAST: u16 = 1;
const TOAST_OID: u32 = 777;
/// Groups 0 and 1 are transactions, 2 and 3 their subtransactions; that of 3 is rolled back.
const GROUPS: u16 = 4;

/// A toasted value: its number, and the bytes in each of its chunks.
#[derive(Clone, Debug)]
struct Value {
    number: u32,
    chunks: Vec<usize>,
    compressed: bool,
}

impl Value {
    fn stored(&self) -> u32 {
        self.chunks.iter().sum::<usize>() as u32
    }

    fn raw_size(&self) -> u32 {
        self.stored() + if self.compressed { 100 } else { 4 }
    }

    /// All of it: what it says of itself first, if it is compressed.
    fn bytes(&self) -> Vec<u8> {
        let stored = self.stored() as usize;
        let mut bytes: Vec<u8> = (0..stored)
            .map(|at| (at as u32 + self.number) as u8)
            .collect();
        if self.compressed {
            bytes[..4].copy_from_slice(&(self.raw_size() - 4).to_le_bytes());
        }
        bytes
    }

    /// As it stands in its row.
    // pg: varatt.h varatt_external, VARTAG_ONDISK [14-18]
    fn pointer(&self) -> Vec<u8> {
        let mut bytes = vec![1, 18];
        for number in [self.raw_size(), self.stored(), self.number, TOAST_OID] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }
}

/// What a transaction does.
#[derive(Clone, Debug)]
enum Act {
    /// A row without TOASTed values.
    Plain,
    /// A row whose values are written before it, as ever.
    Row(Vec<Value>),
    /// A row with a value that is not in the log.
    Unchanged(Value),
    /// Chunks whose row never comes.
    Stray(Value),
    /// Rows of records with so many rows, all chunks before them.
    Batch(Vec<Value>, usize),
    /// A row that is inserted on trial, and confirmed or not.
    Trial(Value, bool),
    /// A row of another subtransaction than its chunks.
    Apart(Value),
    /// A row whose value's last chunk is not in the log.
    Short(Value),
}

fn value() -> impl Strategy<Value = Value> {
    let chunks = prop::collection::vec(8_usize..200, 1..4);
    (chunks, any::<bool>()).prop_map(|(chunks, compressed)| Value {
        number: 0,
        chunks,
        compressed,
    })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => Just(Act::Plain),
        4 => prop::collection::vec(value(), 1..3).prop_map(Act::Row),
        1 => value().prop_map(Act::Unchanged),
        1 => value().prop_map(Act::Stray),
        2 => (prop::collection::vec(value(), 1..5), 1_usize..4)
            .prop_map(|(values, rows)| Act::Batch(values, rows)),
        1 => (value(), any::<bool>()).prop_map(|(value, confirmed)| Act::Trial(value, confirmed)),
        1 => value().prop_map(Act::Apart),
    ]
}

/// Writes records into a chunk.
struct Script {
    chunk: FramedChunk,
    numbers: u32,
    values: u32,
}

impl Script {
    fn new(partitions: u32) -> Self {
        let mut chunk = ChunkBuffers::default().into_chunk(Lsn(8192), partitions);
        let group = |group: u16| Group {
            xid: Xid(100 + u32::from(group)),
            top: Xid(0),
            first: Lsn(1),
        };
        chunk.groups = (0..GROUPS).map(group).collect();
        let file = |file: u16| RelFileNode {
            tablespace: Oid(1663),
            database: Oid(5),
            relation: Oid(u32::from(file)),
        };
        chunk.files = (0..2).map(file).collect();
        Script {
            chunk,
            numbers: 0,
            values: 0,
        }
    }

    fn record(&mut self, group: u16, file: u16, kind: RowKind, main: &[u8], block: &[u8]) {
        let mut record = vec![0; 24];
        record[4..8].copy_from_slice(&(100 + u32::from(group)).to_le_bytes());
        record.extend_from_slice(&[0, 0x20]);
        record.extend_from_slice(&(block.len() as u16).to_le_bytes());
        let page = self.numbers % 7;
        for number in [1663, 5, u32::from(file), page] {
            record.extend_from_slice(&number.to_le_bytes());
        }
        record.extend_from_slice(&[255, main.len() as u8]);
        record.extend_from_slice(block);
        record.extend_from_slice(main);
        let length = record.len() as u32;
        record[..4].copy_from_slice(&length.to_le_bytes());
        let place = self.chunk.bytes.len() as u32;
        self.chunk.bytes.extend_from_slice(&record);
        let partitions = self.chunk.partitions.len() as u32;
        let partition = partition_of(&self.chunk.files[usize::from(file)], page, partitions);
        self.chunk.partitions[partition].push(RowEntry {
            place: Place::in_chunk(place),
            lsn_offset: place,
            number: self.numbers,
            group,
            file,
            kind,
        });
        self.numbers += 1;
    }

    fn chunks(&mut self, group: u16, value: &mut Value) {
        self.values += 1;
        value.number = self.values;
        let bytes = value.bytes();
        let mut at = 0;
        for (sequence, length) in value.chunks.iter().enumerate() {
            let mut values = value.number.to_le_bytes().to_vec();
            values.extend_from_slice(&(sequence as u32).to_le_bytes());
            values.extend_from_slice(&((*length as u32 + 4) << 2).to_le_bytes());
            values.extend_from_slice(&bytes[at..at + length]);
            at += length;
            let tuple = logged(3, &[], &values);
            self.record(group, TOAST, RowKind::Insert, &[1, 0, 1 << 3], &tuple);
        }
    }

    /// A tuple of a number and two values.
    fn tuple(&self, values: &[Value]) -> Vec<u8> {
        let mut bytes = self.numbers.to_le_bytes().to_vec();
        for column in 0..2 {
            match values.get(column) {
                Some(value) => bytes.extend_from_slice(&value.pointer()),
                None => bytes.extend_from_slice(&[3 << 1 | 1, b'o', b'k']),
            }
        }
        bytes
    }

    fn row(&mut self, group: u16, values: &[Value], flags: u8) {
        let tuple = logged(3, &[], &self.tuple(values));
        self.record(
            group,
            TABLE,
            RowKind::Insert,
            &[1, 0, flags | 1 << 3],
            &tuple,
        );
    }

    fn multi_insert(&mut self, group: u16, values: &[Value], is_last: bool) {
        let mut block = Vec::new();
        for value in values {
            block.resize(block.len().next_multiple_of(2), 0);
            let tuple = logged(3, &[], &self.tuple(std::slice::from_ref(value)));
            block.extend_from_slice(&(tuple.len() as u16 - 5).to_le_bytes());
            block.extend_from_slice(&tuple);
        }
        let flags = 1 << 3 | if is_last { 1 << 1 } else { 0 };
        let main = [flags, 0, values.len() as u8, 0];
        self.record(group, TABLE, RowKind::MultiInsert, &main, &block);
    }

    fn act(&mut self, group: u16, act: &Act) {
        match act.clone() {
            Act::Plain => self.row(group, &[], 0),
            Act::Row(mut values) => {
                values
                    .iter_mut()
                    .for_each(|value| self.chunks(group, value));
                self.row(group, &values, 0);
            }
            Act::Unchanged(mut value) => {
                value.number = 1_000_000;
                self.row(group, &[value], 0);
            }
            Act::Stray(mut value) => self.chunks(group, &mut value),
            Act::Batch(mut values, rows) => {
                values
                    .iter_mut()
                    .for_each(|value| self.chunks(group, value));
                let records = values.chunks(rows);
                let count = records.len();
                for (number, values) in records.enumerate() {
                    self.multi_insert(group, values, number + 1 == count);
                }
            }
            Act::Apart(mut value) => {
                self.chunks(group, &mut value);
                self.row((group + 2) % GROUPS, &[value], 0);
            }
            Act::Short(mut value) => {
                let last = value.chunks.pop();
                self.chunks(group, &mut value);
                value.chunks.extend(last);
                self.row(group, &[value], 0);
            }
            Act::Trial(mut value, confirmed) => {
                self.chunks(group, &mut value);
                self.row(group, &[value], 1 << 2);
                if confirmed {
                    self.record(group, TABLE, RowKind::Confirm, &[1, 0], &[]);
                }
            }
        }
    }
}

fn targets() -> Targets {
    let table = Target::Table(Arc::new(layout(&[(4, 4), (-1, 4), (-1, 4)])));
    let toast = Target::Toast {
        oid: Oid(TOAST_OID),
    };
    Targets {
        by_view: vec![vec![Some(Arc::new(table)), Some(Arc::new(toast))]],
        ..Targets::default()
    }
}

fn tops(chunk: &FramedChunk) -> Tops {
    Tops::of(&chunk.groups, |group| match group.xid.0 {
        102 | 103 => Xid(group.xid.0 - 2),
        top => Xid(top),
    })
}

fn part(merged: Merged, end: Lsn) -> Part {
    Part {
        end,
        arena: merged.arena,
        runs: merged.runs,
        segments: merged.segments,
        relations: merged.relations,
        ..Part::default()
    }
}

/// What is released of these parts and the commits that end them.
fn released(mut parts: Vec<Part>) -> Result<Vec<u8>, String> {
    let last = parts.last_mut().unwrap();
    for (number, top) in [100, 101].into_iter().enumerate() {
        let lsn = last.end.add(0x100 * (number as u64 + 1));
        let subs = if top == 100 {
            vec![Xid(102)]
        } else {
            Vec::new()
        };
        let particulars = Particulars {
            subs,
            ..Particulars::default()
        };
        let commit = Commit {
            timeline: TimelineId(1),
            top: Xid(top),
            database: Oid(5),
            commit_time_us: 0,
            skip: false,
            particulars: particulars.boxed(),
        };
        last.controls.push(Control {
            lsn,
            end_lsn: lsn.add(8),
            kind: ControlKind::Commit(commit),
        });
    }
    last.end = last.end.add(0x400);
    let mut assembler = Assembler::new(1 << 30, Box::new(MemorySpill::default()));
    let mut bytes = Vec::new();
    let text = |error: AssemblyError| error.to_string();
    for part in parts {
        assembler.push(part).map_err(text)?;
        while let Some(output) = assembler.next_output().map_err(text)? {
            if let Output::Block(block) = output {
                block
                    .pieces
                    .iter()
                    .for_each(|piece| bytes.extend_from_slice(piece));
            }
        }
    }
    Ok(bytes)
}

/// Decodes the records in partitions, which join nothing.
fn apart(script: &Script) -> Vec<Part> {
    let (chunk, format) = (&script.chunk, WalFormat::of_major(15).unwrap());
    let outputs = chunk.partitions.iter().map(|entries| {
        let mut output = TaskOutput::default();
        decode(chunk, entries, &targets(), format, &mut output).unwrap();
        output
    });
    let pool = BufferPool::new(4);
    let merged = merge(outputs.collect(), &[], &chunk.groups, &tops(chunk), &pool);
    vec![part(merged, Lsn(1 << 20))]
}

/// Decodes the records at once, but cut into parts at these records.
fn together(script: &Script, cuts: &[usize]) -> Vec<Part> {
    let (chunk, format) = (&script.chunk, WalFormat::of_major(15).unwrap());
    let (arenas, mut scratch) = (Arenas::new(), Scratch::default());
    let (tops, targets) = (tops(chunk), targets());
    let mut rest = &chunk.partitions[0][..];
    let mut parts = Vec::new();
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (rest.len() + 1)).collect();
    cuts.sort_unstable();
    let (mut done, mut end) = (0, 0);
    for cut in cuts.into_iter().chain([rest.len()]) {
        let (entries, after) = rest.split_at((cut - done).min(rest.len()));
        (done, rest) = (cut.max(done), after);
        let merged = decode_ordered(
            chunk,
            entries,
            &targets,
            &tops,
            format,
            &arenas,
            &mut scratch,
        )
        .unwrap();
        end = entries.last().map_or(end, |entry| entry.lsn_offset);
        parts.push(part(merged, Lsn((1 << 14) + u64::from(end))));
    }
    parts.last_mut().unwrap().end = Lsn(1 << 20);
    parts
}

/// How many events of a kind there are.
fn count(arena: &Bytes, kind: EventKind) -> usize {
    let mut cursor = Cursor::new(arena);
    let mut found = 0;
    while cursor.remaining() > 0 {
        found += usize::from(Event::read(&mut cursor).unwrap().header.kind == kind);
    }
    found
}

proptest! {
    #[test]
    fn joined_rows_are_those_that_assembly_makes(
        acts in prop::collection::vec((0..GROUPS, act()), 1..30),
        partitions in 2_u32..5,
        cuts in prop::collection::vec(0_usize..200, 0..4),
    ) {
        let script = |partitions| {
            let mut script = Script::new(partitions);
            acts.iter().for_each(|(group, act)| script.act(*group, act));
            script
        };
        let wanted = released(apart(&script(partitions)));
        let whole = script(1);
        prop_assert_eq!(&released(together(&whole, &[])), &wanted);
        prop_assert_eq!(&released(together(&whole, &cuts)), &wanted);
    }
}

#[test]
fn nothing_is_left_for_assembly_where_all_is_there() {
    let value = |chunks: &[usize]| Value {
        number: 0,
        chunks: chunks.to_vec(),
        compressed: chunks.len() == 2,
    };
    let mut script = Script::new(1);
    for group in [0, 2, 1] {
        script.act(group, &Act::Row(vec![value(&[150]), value(&[100, 20])]));
        script.act(group, &Act::Plain);
        let values = vec![value(&[90, 40]), value(&[30]), value(&[33])];
        script.act(group, &Act::Batch(values, 2));
    }
    let parts = together(&script, &[]);
    assert_eq!(count(&parts[0].arena, EventKind::ToastChunk), 0);
    assert_eq!(count(&parts[0].arena, EventKind::Insert), 3 * 5);
    assert!(parts[0].runs.iter().all(|run| run.flags == 0));
    let wanted = released(apart(&script)).unwrap();
    assert_eq!(released(parts).unwrap(), wanted);
    // A row whose chunks began before it is left to assembly, and only that one.
    let parts = together(&script, &[1]);
    let chunks: usize = (parts.iter())
        .map(|part| count(&part.arena, EventKind::ToastChunk))
        .sum();
    assert_eq!(chunks, 3);
    assert_eq!(released(parts).unwrap(), wanted);
}

#[test]
fn a_value_that_is_not_all_there_is_an_error_wherever_parts_begin() {
    let value = |chunks: &[usize]| Value {
        number: 0,
        chunks: chunks.to_vec(),
        compressed: false,
    };
    let mut script = Script::new(1);
    script.act(0, &Act::Row(vec![value(&[50])]));
    script.act(0, &Act::Short(value(&[20, 30, 40])));
    let error = released(apart(&script)).unwrap_err();
    assert!(error.contains("hold 50 bytes, its row says 90"), "{error}");
    for cuts in [&[][..], &[3]] {
        assert_eq!(released(together(&script, cuts)), Err(error.clone()));
    }
}

/// Between a row whose chunks began in the part before and chunks whose row is in the next.
#[test]
fn rows_that_are_complete_are_passed_on_together() {
    let row = || {
        Act::Row(vec![Value {
            number: 0,
            chunks: vec![150, 150],
            compressed: false,
        }])
    };
    let mut script = Script::new(1);
    (0..62).for_each(|_| script.act(0, &row()));
    let parts = together(&script, &[1, 61 * 3 + 2]);
    let finished = parts[1].runs[0].finished.as_ref().unwrap();
    assert_eq!((finished.events, finished.rows), (60, 60));
    assert!(finished.bytes.len() > 60 * 300);
    let wanted = released(apart(&script)).unwrap();
    assert_eq!(released(parts).unwrap(), wanted);
}
