//! Each stage by itself, on logs made in memory: framing with its CRC, decoding by kinds of
//! columns, merging, assembly, and what happens to a block on its way over the wire. The gate, which
//! wants catalogs, takes the recorded demo.

use std::hint::black_box;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Bencher, BenchmarkId, Criterion, Throughput};
use redostream_benches::Recording;
use redostream_benches::synthetic::{
    LogBuilder, Transactions, format, push_insert, push_row, table, targets, tops,
};
use redostream_engine::arena::Arenas;
use redostream_engine::assembly::part::Part;
use redostream_engine::assembly::{Assembler, FileSpill, Output};
use redostream_engine::catalog::relation::Target;
use redostream_engine::decoding::merge::merge;
use redostream_engine::decoding::ordered::{Scratch, decode_ordered};
use redostream_engine::decoding::task::{Targets, TaskOutput, decode};
use redostream_engine::framing::chunk::{ChunkBuffers, FramedChunk};
use redostream_engine::pipeline::Stage;
use redostream_engine::pool::BufferPool;
use redostream_protocol::event::TransactionHeader;
use redostream_protocol::wire::check::scan;
use redostream_protocol::wire::compress::{Compressor, Decompressor};
use redostream_protocol::wire::data::DataBody;
use redostream_protocol::wire::parts::Part as FramePart;
use redostream_protocol::wire::{DataHead, Joiner};
use redostream_protocol::{Lsn, Oid, Position, TimelineId, Xid};

/// WAL in a chunk, about.
const CHUNK: usize = 256 * 1024;

fn log_of(record: impl Fn(&mut LogBuilder, u32)) -> LogBuilder {
    let mut log = LogBuilder::new();
    for number in 0.. {
        record(&mut log, number);
        if log.bytes().len() >= CHUNK {
            break;
        }
    }
    log
}

fn framing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("framing");
    let logs = [
        (
            "rows of 70 bytes",
            log_of(|log, n| log.insert(700, 16400, n / 100, 2, &[0; 16])),
        ),
        (
            "rows, 8 sessions",
            log_of(|log, n| log.insert(700 + n % 8, 16400 + n % 4, n / 100, 2, &[0; 16])),
        ),
        (
            "ignored index records",
            log_of(|log, _| log.push_main(11, 700, &[0; 40])),
        ),
        (
            "page images",
            log_of(|log, _| log.push_main(11, 700, &[1; 8200])),
        ),
    ];
    for (name, log) in &logs {
        let records = log.frame(1).records;
        group.throughput(Throughput::Elements(records));
        let mut buffers = ChunkBuffers::over(log.bytes());
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                let chunk = log.frame_in(1, std::mem::take(&mut buffers));
                buffers = black_box(chunk).into_buffers();
            });
        });
    }
    group.finish();
}

/// The gate's share of decoding the recorded demo, catalog changes and DDL events included.
fn gate(criterion: &mut Criterion) {
    let recording = Recording::unpack("demo").expect("the demo case is recorded");
    let decode = || recording.decode(1).expect("the demo case decodes");
    let mut group = criterion.benchmark_group("gate");
    let records = decode().records.load(Ordering::Relaxed);
    group.throughput(Throughput::Elements(records));
    group.sample_size(10);
    group.bench_function("records of the demo", |bencher| {
        bencher.iter_custom(|times| {
            let nanoseconds =
                (0..times).map(|_| decode().busy_ns[Stage::Gate as usize].load(Ordering::Relaxed));
            Duration::from_nanos(nanoseconds.sum())
        });
    });
    group.finish();
}

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decoding");
    let text = |length: usize| {
        let mut value = vec![((length + 1) << 1 | 1) as u8];
        value.resize(length + 1, b'x');
        value
    };
    let mixed = [
        &7_i32.to_le_bytes()[..],
        &text(11),
        &[0; 8],
        &9_i64.to_le_bytes(),
    ]
    .concat();
    let wide = (0..60_i32).flat_map(i32::to_le_bytes).collect::<Vec<u8>>();
    let families = [
        ("2 int4", vec![(4, 4); 2], vec![0; 8]),
        ("60 int4", vec![(4, 4); 60], wide),
        ("4 short texts", vec![(-1, 4); 4], text(11).repeat(4)),
        ("8 uuids", vec![(16, 1); 8], vec![3; 128]),
        (
            "int4, text, 2 int8",
            vec![(4, 4), (-1, 4), (8, 8), (8, 8)],
            {
                let mut values = mixed;
                values.truncate(16);
                values.extend_from_slice(&[0; 16]);
                values
            },
        ),
    ];
    for (name, attributes, values) in &families {
        let columns = attributes.len() as u16;
        let log = log_of(|log, n| log.insert(700, 16400, n / 100, columns, values));
        let chunk = log.frame(1);
        let targets = targets(&chunk, &table(1, attributes));
        group.throughput(Throughput::Elements(chunk.rows));
        group.bench_function(*name, |bencher| decode_again(bencher, &chunk, &targets));
    }
    group.finish();
}

/// Decodes a chunk, again and again.
fn decode_again(bencher: &mut Bencher<'_>, chunk: &FramedChunk, targets: &Targets) {
    let tops = tops(chunk);
    let (arenas, mut scratch) = (Arenas::new(), Scratch::default());
    bencher.iter(|| {
        let entries = &chunk.partitions[0];
        decode_ordered(
            chunk,
            entries,
            targets,
            &tops,
            format(),
            &arenas,
            &mut scratch,
        )
        .expect("the rows fit their table")
    });
}

/// Rows of a number and a text of 6,000 bytes, which is in four chunks of a TOAST table.
fn toasted(criterion: &mut Criterion) {
    const CHUNK_BYTES: [usize; 4] = [1996, 1996, 1996, 12];
    let stored: usize = CHUNK_BYTES.iter().sum();
    let log = log_of(|log, n| {
        for (sequence, length) in CHUNK_BYTES.iter().enumerate() {
            let mut chunk = n.to_le_bytes().to_vec();
            chunk.extend_from_slice(&(sequence as u32).to_le_bytes());
            chunk.extend_from_slice(&((*length as u32 + 4) << 2).to_le_bytes());
            chunk.resize(chunk.len() + length, b'x');
            log.insert(700, 16500, n * 4 + sequence as u32, 3, &chunk);
        }
        let mut row = n.to_le_bytes().to_vec();
        row.extend_from_slice(&[1, 18]);
        for number in [stored as u32 + 4, stored as u32, n, 16500] {
            row.extend_from_slice(&number.to_le_bytes());
        }
        log.insert(700, 16400, n / 100, 2, &row);
    });
    let chunk = log.frame(1);
    let mut targets = targets(&chunk, &table(1, &[(4, 4), (-1, 4)]));
    for (file, target) in chunk.files.iter().zip(&mut targets.by_view[0]) {
        if file.relation == Oid(16500) {
            *target = Some(std::sync::Arc::new(Target::Toast { oid: Oid(16500) }));
        }
    }
    let mut group = criterion.benchmark_group("TOAST");
    group.throughput(Throughput::Bytes(log.bytes().len() as u64));
    group.bench_function("texts of 6,000 bytes", |bencher| {
        decode_again(bencher, &chunk, &targets);
    });
    group.finish();
}

/// The rows of 8 sessions, in one partition and in several that are merged.
fn merging(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merging");
    let log = log_of(|log, n| log.insert(700 + n / 100 * 8 + n % 8, 16400, n / 50, 2, &[0; 8]));
    let pool = BufferPool::new(16);
    for partitions in [1, 2, 4] {
        let chunk = log.frame(partitions);
        let target = table(1, &[(4, 4), (4, 4)]);
        let (targets, tops) = (targets(&chunk, &target), tops(&chunk));
        group.throughput(Throughput::Elements(chunk.rows));
        let decoded = || -> Vec<TaskOutput> {
            let outputs = chunk.partitions.iter().map(|entries| {
                let mut output = TaskOutput::default();
                decode(&chunk, entries, &targets, format(), &mut output)
                    .expect("the rows fit their table");
                output
            });
            outputs.collect()
        };
        group.bench_function(BenchmarkId::from_parameter(partitions), |bencher| {
            bencher.iter_batched(
                decoded,
                |outputs| merge(outputs, &[], &chunk.groups, &tops, &pool),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn assembler() -> (Assembler, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spill =
        FileSpill::new(directory.path().join("spill"), u64::MAX).expect("a spill directory");
    (Assembler::new(1 << 30, Box::new(spill)), directory)
}

fn assemble(assembler: &mut Assembler, parts: Vec<Part>) {
    for part in parts {
        assembler.push(part).expect("parts in order");
        while let Some(output) = assembler.next_output().expect("nothing is wrong") {
            if let Output::Block(block) = output {
                black_box(block);
            }
        }
    }
}

fn assembly(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("assembly");
    let shapes = [
        ("many small", Transactions::new(400, 4, 0)),
        ("few large", Transactions::new(2, 2000, 0)),
        ("deep subtransactions", Transactions::new(2, 2000, 1000)),
    ];
    for (name, mut shape) in shapes {
        let rows = u64::from(shape.per_part * shape.rows);
        group.throughput(Throughput::Elements(rows * 8));
        let (mut assembler, _directory) = assembler();
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || (0..8).map(|_| shape.part(true)).collect(),
                |parts| assemble(&mut assembler, parts),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// A transaction's rows spread over so many subtransactions, all committed.
fn subtransactions(criterion: &mut Criterion) {
    const ROWS: u32 = 100_000;
    let mut group = criterion.benchmark_group("subtransactions");
    group.throughput(Throughput::Elements(u64::from(ROWS)));
    group.sample_size(20);
    for count in [1, 100, 10_000, 100_000] {
        let (mut assembler, _directory) = assembler();
        let mut shape = Transactions::new(1, ROWS, count);
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter_batched(
                || vec![shape.part(true)],
                |parts| assemble(&mut assembler, parts),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// What a part of small transactions costs while so many others are open.
fn open_transactions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open transactions");
    for open in [1_u32, 100, 10_000, 100_000] {
        let (mut assembler, _directory) = assembler();
        let mut shape = Transactions::new(400, 4, 0);
        for _ in 0..open.div_ceil(1000) {
            (shape.per_part, shape.rows) = (open.min(1000), 2);
            assemble(&mut assembler, vec![shape.part(false)]);
        }
        (shape.per_part, shape.rows) = (400, 4);
        group.throughput(Throughput::Elements(400));
        group.bench_function(BenchmarkId::from_parameter(open), |bencher| {
            bencher.iter_batched(
                || vec![shape.part(true)],
                |parts| assemble(&mut assembler, parts),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// What decoding a chunk costs when its rows are spread over so many relations.
fn relations(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("relations in a chunk");
    for relations in [1_u32, 10, 100, 1000, 3000] {
        let log = log_of(|log, n| log.insert(700, 16400 + n % relations, 0, 2, &[0; 8]));
        let chunk = log.frame(1);
        let mut targets = targets(&chunk, &table(1, &[(4, 4), (4, 4)]));
        for (number, target) in targets.by_view[0].iter_mut().enumerate() {
            *target = Some(std::sync::Arc::new(table(
                number as u32 + 1,
                &[(4, 4), (4, 4)],
            )));
        }
        let tops = tops(&chunk);
        let (arenas, mut scratch) = (Arenas::new(), Scratch::default());
        group.throughput(Throughput::Elements(chunk.rows));
        let mut buffers = ChunkBuffers::over(log.bytes());
        group.bench_function(BenchmarkId::from_parameter(relations), |bencher| {
            bencher.iter(|| {
                let chunk = log.frame_in(1, std::mem::take(&mut buffers));
                let entries = &chunk.partitions[0];
                let decoded = decode_ordered(
                    &chunk,
                    entries,
                    &targets,
                    &tops,
                    format(),
                    &arenas,
                    &mut scratch,
                );
                black_box(decoded.expect("the rows fit their tables"));
                buffers = chunk.into_buffers();
            });
        });
    }
    group.finish();
}

/// Rows of a value of hexadecimal digits, each another, and a value that all have.
fn large_values() -> Bytes {
    let mut state = 1_u64;
    let mut digits = |count: usize| -> Vec<u8> {
        let mut digit = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            b"0123456789abcdef"[(state >> 60) as usize]
        };
        (0..count).map(|_| digit()).collect()
    };
    let same = digits(2240);
    let mut events = Vec::new();
    let mut lsn = Lsn(64);
    while events.len() < CHUNK {
        push_insert(&mut events, Xid(700), lsn, &[&digits(2880), &same]);
        lsn.0 += 64;
    }
    Bytes::from(events)
}

/// One block of a large transaction on its way to a client.
fn wire(criterion: &mut Criterion) {
    let mut events = Vec::new();
    for number in 1.. {
        push_row(&mut events, Xid(700), Lsn(number * 64));
        if events.len() >= CHUNK {
            break;
        }
    }
    let events = Bytes::from(events);
    let header = std::sync::Arc::new(TransactionHeader {
        timeline: TimelineId(1),
        commit_lsn: Lsn(1 << 40),
        end_lsn: Lsn(1 << 40 | 64),
        xid: Xid(700),
        database: Oid(5),
        commit_time_us: 0,
        origin: None,
        gid: None,
    });
    let mut group = criterion.benchmark_group("wire");
    group.throughput(Throughput::Bytes(events.len() as u64));
    group.bench_function("LZ4", |bencher| {
        let mut compressor = Compressor::default();
        bencher.iter(|| DataBody::lz4(vec![events.clone()], &mut compressor));
    });
    let body = DataBody::lz4(vec![events.clone()], &mut Compressor::default());
    let form = body.form.expect("the events can be compressed");
    group.bench_function("LZ4 back", |bencher| {
        let mut decompressor = Decompressor::default();
        bencher.iter(|| {
            decompressor
                .decompress(&body.stored[0], form, body.raw_size)
                .expect("it was compressed")
        });
    });
    // Rows of a large value that LZ4 cannot shorten and one that it can.
    let values = large_values();
    group.throughput(Throughput::Bytes(values.len() as u64));
    group.bench_function("LZ4, large values", |bencher| {
        let mut compressor = Compressor::default();
        bencher.iter(|| DataBody::lz4(vec![values.clone()], &mut compressor));
    });
    group.throughput(Throughput::Bytes(events.len() as u64));
    group.bench_function("frame encoding", |bencher| {
        bencher.iter(|| {
            let body = DataBody::raw(vec![events.clone()]);
            let head = DataHead {
                first: Position::default(),
                last: Position::default(),
                wal_end: Lsn(0),
                raw_size: body.raw_size,
                part: FramePart {
                    number: 0,
                    count: 1,
                    total: u64::from(body.raw_size),
                },
                continues: Some(header.clone()),
            };
            head.encode(1, &body).expect("the frame is small")
        });
    });
    group.bench_function("checking", |bencher| {
        bencher.iter(|| scan(&events, TimelineId(1), Some(&header)).expect("the events are right"));
    });
    group.throughput(Throughput::Elements(64));
    group.bench_function("stripe joining", |bencher| {
        bencher.iter(|| {
            let mut joiner = Joiner::new(u64::MAX, 128);
            let mut joined = 0;
            for four in (1..=64_u64).collect::<Vec<_>>().chunks(4) {
                for sequence in four.iter().rev() {
                    joiner
                        .push(*sequence, events.clone(), 1)
                        .expect("each comes once");
                }
                while joiner.pop().is_some() {
                    joined += 1;
                }
            }
            joined
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    framing(&mut criterion);
    gate(&mut criterion);
    decoding(&mut criterion);
    toasted(&mut criterion);
    merging(&mut criterion);
    assembly(&mut criterion);
    open_transactions(&mut criterion);
    subtransactions(&mut criterion);
    relations(&mut criterion);
    wire(&mut criterion);
    criterion.final_summary();
}
