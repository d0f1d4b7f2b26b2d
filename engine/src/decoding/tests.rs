//! Tuples that contradict their relation give errors, never panics; merging gives log order
//! whatever the partitions.

use std::sync::Arc;

use proptest::prelude::*;
use redostream_protocol::event::{ColumnValue, Columns, EventHeader, EventKind, HEADER_BYTES};
use redostream_protocol::schema::{
    Column, Database, Name, OutputFunction, Relation, RelationVersion, TypeDesc, TypeShape,
};
use redostream_protocol::{Lsn, Oid, RelFileNode, Xid};

use super::TupleError;
use super::merge::{Merged, Tops, merge};
use super::ordered::{Scratch, decode_ordered};
use super::task::{Item, Targets, TaskOutput, decode};
use super::tuple::{LoggedTuple, push_columns};
use crate::arena::Arenas;
use crate::assembly::part::Run;
use crate::catalog::relation::{Attribute, Layout, Target};
use crate::framing::chunk::ChunkBuffers;
use crate::framing::format::WalFormat;
use crate::framing::partition::{Group, Place, RowEntry, RowKind, partition_of};
use crate::pool::BufferPool;

fn data_type(length: i16) -> Arc<TypeDesc> {
    let output = OutputFunction {
        symbol: "textout".to_owned(),
        library: String::new(),
    };
    Arc::new(TypeDesc {
        oid: Oid(25),
        schema: Name::from("pg_catalog"),
        name: Name::from("text"),
        formatted: Name::from("text"),
        length,
        align: b'i',
        shape: TypeShape::Base(output),
    })
}

/// A relation of the given (length, alignment) attributes; a negative alignment is a dropped one.
pub(super) fn layout(attributes: &[(i16, i8)]) -> Layout {
    let mut columns = Vec::new();
    let mut stored = Vec::new();
    for (number, (length, align)) in attributes.iter().enumerate() {
        let dropped = *align < 0;
        let column = (!dropped).then_some(columns.len() as u16);
        if !dropped {
            columns.push(Column {
                number: number as i16 + 1,
                name: Name::from("c"),
                data_type: data_type(*length),
                modifier: -1,
                not_null: false,
                key: false,
                generated: 0,
            });
        }
        stored.push(Attribute {
            length: *length,
            align: align.unsigned_abs(),
            storage: b'x',
            by_value: false,
            not_null: false,
            dropped,
            virtual_generated: false,
            needs_catalog: false,
            offset: None,
            column,
            missing: None,
        });
    }
    let relation = Arc::new(Relation {
        version: RelationVersion(1),
        database: Arc::new(Database::default()),
        oid: Oid(20000),
        schema: Name::from("public"),
        name: Name::from("t"),
        kind: b'r',
        replica_identity: b'd',
        structure: None,
        columns,
    });
    Layout {
        relation,
        attributes: stored,
        fixed: 0,
        toast: Oid(0),
        needs_catalog: false,
    }
}

pub(super) fn logged(count: u16, bitmap: &[u8], values: &[u8]) -> Vec<u8> {
    let mut bytes = count.to_le_bytes().to_vec();
    bytes.extend_from_slice(&u16::from(!bitmap.is_empty()).to_le_bytes());
    let hoff = (23 + bitmap.len()).next_multiple_of(8);
    bytes.push(hoff as u8);
    bytes.extend_from_slice(bitmap);
    bytes.resize(5 + hoff - 23, 0);
    bytes.extend_from_slice(values);
    bytes
}

fn columns(layout: &Layout, bytes: &[u8]) -> Result<Vec<u8>, TupleError> {
    let mut out = Vec::new();
    push_columns(layout, LoggedTuple::parse(bytes)?, None, &mut out)?;
    Ok(out)
}

#[test]
fn walks_every_kind_of_attribute() {
    let relation = layout(&[(2, 2), (-1, 4), (4, -4), (-1, 4), (8, 8), (-2, 1), (4, 4)]);
    let mut values = 7_i16.to_le_bytes().to_vec();
    // A short varlena is not aligned.
    values.extend_from_slice(&[(1 + 3) << 1 | 1, b'a', b'b', b'c']);
    values.resize(8, 0);
    values.extend_from_slice(&9_i32.to_le_bytes());
    // A plain one is.
    values.extend_from_slice(&((4_u32 + 2) << 2).to_le_bytes());
    values.extend_from_slice(b"xy");
    values.resize(24, 0);
    values.extend_from_slice(&11_i64.to_le_bytes());
    values.extend_from_slice(b"cs\0");
    let bytes = logged(6, &[], &values);
    let out = columns(&relation, &bytes).unwrap();
    let mut read = Columns::new(&out);
    assert_eq!(read.read(), Ok(ColumnValue::Bytes(&7_i16.to_le_bytes())));
    assert_eq!(read.read(), Ok(ColumnValue::Bytes(b"abc")));
    assert_eq!(read.read(), Ok(ColumnValue::Bytes(b"xy")));
    assert_eq!(read.read(), Ok(ColumnValue::Bytes(&11_i64.to_le_bytes())));
    assert_eq!(read.read(), Ok(ColumnValue::Bytes(b"cs")));
    // The tuple is older than the last column.
    assert_eq!(read.read(), Ok(ColumnValue::Null));
    read.finish().unwrap();
    for end in 0..bytes.len() {
        assert!(columns(&relation, &bytes[..end]).is_err(), "cut at {end}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(columns(&relation, &longer), Err(TupleError::Leftover(1)));
}

#[test]
fn nulls_and_too_many_attributes() {
    let relation = layout(&[(4, 4), (4, 4), (4, 4)]);
    let bytes = logged(3, &[0b101], &[1, 0, 0, 0, 3, 0, 0, 0]);
    let out = columns(&relation, &bytes).unwrap();
    let mut read = Columns::new(&out);
    assert_eq!(read.read(), Ok(ColumnValue::Bytes(&1_i32.to_le_bytes())));
    assert_eq!(read.read(), Ok(ColumnValue::Null));
    assert_eq!(read.read(), Ok(ColumnValue::Bytes(&3_i32.to_le_bytes())));
    let many = TupleError::TooManyAttributes {
        tuple: 4,
        relation: 3,
    };
    assert_eq!(columns(&relation, &logged(4, &[], &[0; 16])), Err(many));
}

proptest! {
    #[test]
    fn random_tuples_never_panic(
        attributes in prop::collection::vec(
            (prop_oneof![Just(-1_i16), Just(-2), Just(1), Just(4), Just(16)], prop_oneof![Just(1_i8), Just(4), Just(8), Just(-4)]),
            1..12,
        ),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        count in 0_u16..14,
    ) {
        let relation = layout(&attributes);
        let _ = columns(&relation, &bytes);
        let _ = columns(&relation, &logged(count, &[], &bytes));
        let _ = columns(&relation, &logged(count, &[0xA5, 0x3C], &bytes));
    }

    #[test]
    fn merging_gives_log_order(
        records in prop::collection::vec((0_u16..6, 0_usize..5, 1_u32..4, 0_usize..40), 0..200),
        partitions in 1_usize..5,
    ) {
        let groups: Vec<Group> = (0..6)
            .map(|g| Group { xid: Xid(100 + g), top: Xid(0), first: Lsn(1) })
            .collect();
        // Groups 3 to 5 are subtransactions of the first three.
        let tops = Tops::of(&groups, |group| Xid(group.xid.0 - if group.xid.0 >= 103 { 3 } else { 0 }));
        let mut outputs: Vec<TaskOutput> = (0..partitions).map(|_| TaskOutput::default()).collect();
        let mut expected: Vec<(Xid, Vec<u8>)> = Vec::new();
        for (number, (group, partition, relation, extra)) in records.iter().enumerate() {
            let xid = groups[usize::from(*group)].xid;
            let event = event(xid, *relation, number as u64, *extra);
            let output = &mut outputs[partition % partitions];
            let offset = output.arena.len() as u32;
            output.items.push(Item {
                number: number as u32,
                offset,
                bytes: event.len() as u32,
                last: offset,
                events: 1,
                rows: 1,
                relation: RelationVersion(*relation),
                group: *group,
                flags: 0,
            });
            output.arena.extend_from_slice(&event);
            let top = tops.by_group[usize::from(*group)].1;
            match expected.iter_mut().find(|(of, _)| *of == top) {
                Some((_, bytes)) => bytes.extend_from_slice(&event),
                None => expected.push((top, event)),
            }
        }
        let merged = merge(outputs, &[], &groups, &tops, &BufferPool::new(4));
        prop_assert_eq!(merged.runs.len(), expected.len());
        for (run, (top, bytes)) in merged.runs.iter().zip(&expected) {
            let range = run.bytes.start as usize..run.bytes.end as usize;
            prop_assert_eq!(run.top, *top);
            prop_assert_eq!(&merged.arena[range.clone()], &bytes[..]);
            prop_assert_eq!(run.crc, crc32fast::hash(bytes));
            let segments = &merged.segments[run.segments.start as usize..run.segments.end as usize];
            prop_assert_eq!(segments.iter().map(|s| s.bytes).sum::<u32>() as usize, range.len());
            prop_assert_eq!(segments.iter().map(|s| s.events).sum::<u32>(), run.events);
            prop_assert!(segments.windows(2).all(|pair| pair[0].xid != pair[1].xid));
            let named = &merged.relations[run.relations.start as usize..run.relations.end as usize];
            let mut distinct = named.to_vec();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), named.len());
        }
    }
}

fn event(xid: Xid, relation: u32, lsn: u64, extra: usize) -> Vec<u8> {
    let header = EventHeader {
        size: (HEADER_BYTES + extra) as u32,
        kind: EventKind::Insert,
        flags: 0,
        count: 0,
        xid,
        relation: RelationVersion(relation),
        record_lsn: Lsn(lsn),
        row: 0,
    };
    let mut bytes = header.to_bytes().to_vec();
    bytes.resize(HEADER_BYTES + extra, 0xF0);
    bytes
}

/// An insert of `(record number, filler)` into a table of an int4 and a text.
fn insert_record(xid: u32, file: u32, block: u32, text: &[u8]) -> Vec<u8> {
    let mut values = xid.to_le_bytes().to_vec();
    values.push(((text.len() + 1) << 1 | 1) as u8);
    values.extend_from_slice(text);
    let tuple = logged(2, &[], &values);
    let mut record = vec![0; 24];
    record[4..8].copy_from_slice(&xid.to_le_bytes());
    record.extend_from_slice(&[0, 0x20]);
    record.extend_from_slice(&(tuple.len() as u16).to_le_bytes());
    for number in [1663, 5, file, block] {
        record.extend_from_slice(&number.to_le_bytes());
    }
    record.extend_from_slice(&[255, 3]);
    record.extend_from_slice(&tuple);
    // The offset, and that the tuple is there; or that it is not, so that nothing comes of it.
    record.extend_from_slice(&[1, 0, if text.is_empty() { 0 } else { 1 << 3 }]);
    let length = record.len() as u32;
    record[..4].copy_from_slice(&length.to_le_bytes());
    record
}

proptest! {
    /// Decoding a chunk at once, transaction by transaction, gives what merging the outputs of any
    /// number of partitions gives.
    #[test]
    fn whole_chunks_give_what_partitions_give(
        records in prop::collection::vec((0_u16..8, 0_u32..3, 0_u32..9, 0_usize..50), 0..120),
        partitions in 1_u32..5,
    ) {
        let chunk = |partitions: u32| {
            let mut chunk = ChunkBuffers::default().into_chunk(Lsn(8192), partitions);
            chunk.groups = (0..8)
                .map(|g| Group { xid: Xid(100 + g), top: Xid(0), first: Lsn(1) })
                .collect();
            chunk.files = (0..3)
                .map(|file| RelFileNode { tablespace: Oid(1663), database: Oid(5), relation: Oid(file) })
                .collect();
            for (number, (group, file, block, text)) in records.iter().enumerate() {
                let place = chunk.bytes.len() as u32;
                let record = insert_record(100 + u32::from(*group), *file, *block, &vec![b'x'; *text]);
                chunk.bytes.extend_from_slice(&record);
                let partition = partition_of(&chunk.files[*file as usize], *block, partitions);
                chunk.partitions[partition].push(RowEntry {
                    place: Place::in_chunk(place),
                    lsn_offset: place,
                    number: number as u32,
                    group: *group,
                    file: *file as u16,
                    kind: RowKind::Insert,
                });
            }
            chunk
        };
        let format = WalFormat::of_major(15).unwrap();
        let table = Arc::new(Target::Table(Arc::new(layout(&[(4, 4), (-1, 4)]))));
        // The last file's rows are passed over.
        let targets = Targets {
            by_view: vec![vec![Some(Arc::clone(&table)), Some(table), None]],
            ..Targets::default()
        };
        // Groups 4 to 7 are subtransactions of the first four.
        let tops = Tops::of(&chunk(1).groups, |group| Xid(if group.xid.0 >= 104 { group.xid.0 - 4 } else { group.xid.0 }));
        let split = chunk(partitions);
        let outputs = split.partitions.iter().map(|entries| {
            let mut output = TaskOutput::default();
            decode(&split, entries, &targets, format, &mut output).unwrap();
            output
        });
        let merged = merge(outputs.collect(), &[], &split.groups, &tops, &BufferPool::new(4));
        let whole = chunk(1);
        let (arenas, mut scratch) = (Arenas::new(), Scratch::default());
        let entries = &whole.partitions[0];
        let ordered = decode_ordered(&whole, entries, &targets, &tops, format, &arenas, &mut scratch).unwrap();
        prop_assert_eq!(merged.runs.len(), ordered.runs.len());
        let bytes = |of: &Merged, run: &Run| of.arena[run.bytes.start as usize..run.bytes.end as usize].to_vec();
        let segments = |of: &Merged, run: &Run| of.segments[run.segments.start as usize..run.segments.end as usize].to_vec();
        let named = |of: &Merged, run: &Run| of.relations[run.relations.start as usize..run.relations.end as usize].to_vec();
        for (one, other) in merged.runs.iter().zip(&ordered.runs) {
            prop_assert_eq!((one.top, one.events, one.rows, one.crc, one.flags), (other.top, other.events, other.rows, other.crc, other.flags));
            prop_assert_eq!(one.last - one.bytes.start, other.last - other.bytes.start);
            prop_assert_eq!(bytes(&merged, one), bytes(&ordered, other));
            prop_assert_eq!(segments(&merged, one), segments(&ordered, other));
            prop_assert_eq!(named(&merged, one), named(&ordered, other));
        }
    }
}
