//! Rows: a heap record with any inside, framed, decoded by a relation that need not fit, and
//! printed. Its CRC is right, so that what lies behind that check is reached.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use redostream_engine::catalog::relation::Target;
use redostream_engine::catalog::tracked::TrackedFiles;
use redostream_engine::decoding::task::{Targets, TaskOutput, decode};
use redostream_engine::framing::chunk::{ChunkBuffers, FramingRules, Span};
use redostream_engine::framing::crc::crc32c;
use redostream_engine::framing::format::WalFormat;
use redostream_engine::framing::framer::Framer;
use redostream_fuzz::{Input, target};
use redostream_protocol::Lsn;
use redostream_protocol::cursor::Cursor;
use redostream_protocol::event::{Event, TransactionHeader};
use redostream_protocol::render::{Json, JsonOptions, TestDecoding, TestDecodingOptions};
use redostream_protocol::schema::RelationVersion;

const SEGMENT: u64 = 16 << 20;
const HEADER: usize = 24;

/// A heap record of one or two blocks.
fn record(input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[4..8].copy_from_slice(&700_u32.to_le_bytes());
    bytes[16] = input.byte() & 0xF0;
    bytes[17] = if input.byte() % 4 == 0 { 9 } else { 10 };
    let main = input.take(usize::from(input.0.first().copied().unwrap_or(0) % 40));
    let blocks = 1 + usize::from(input.byte() % 2);
    let mut rest = input.0;
    let mut data = Vec::new();
    for id in 0..blocks {
        let half = if id + 1 == blocks {
            rest.len()
        } else {
            rest.len() / 2
        };
        let (here, after) = rest.split_at(half.min(4000));
        rest = after;
        bytes.extend_from_slice(&[id as u8, if here.is_empty() { 0 } else { 0x20 }]);
        bytes.extend_from_slice(&(here.len() as u16).to_le_bytes());
        if id == 0 {
            for number in [1663_u32, 5, 16_400] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        } else {
            bytes[HEADER + 16 + 5] |= 0x80;
        }
        bytes.extend_from_slice(&0_u32.to_le_bytes());
        data.extend_from_slice(here);
    }
    bytes.extend_from_slice(&[255, main.len() as u8]);
    bytes.extend_from_slice(&data);
    bytes.extend_from_slice(main);
    let length = (bytes.len() as u32).to_le_bytes();
    bytes[..4].copy_from_slice(&length);
    let summed = [&bytes[HEADER..], &bytes[..20]].concat();
    bytes[20..HEADER].copy_from_slice(&crc32c(&summed).to_le_bytes());
    bytes
}

/// Two pages with one record.
fn pages(record: &[u8], format: &WalFormat, base: Lsn) -> Vec<u8> {
    let mut bytes = vec![0; 16_384];
    for (page, header) in [(0, 40), (8192, 24)] {
        bytes[page..page + 2].copy_from_slice(&format.page_magic.to_le_bytes());
        bytes[page + 2] = if header == 40 { 2 } else { 0 };
        bytes[page + 4] = 1;
        let address = base.0 + page as u64;
        bytes[page + 8..page + 16].copy_from_slice(&address.to_le_bytes());
    }
    let first = record.len().min(8192 - 40);
    bytes[40..40 + first].copy_from_slice(&record[..first]);
    if first < record.len() {
        let left = record.len() - first;
        bytes[8192 + 2] |= 1;
        bytes[8192 + 16..8192 + 20].copy_from_slice(&(left as u32).to_le_bytes());
        bytes[8192 + 24..8192 + 24 + left].copy_from_slice(&record[first..]);
    }
    bytes
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let major = 14 + u16::from(input.byte() % 5);
    let Some(format) = WalFormat::of_major(major) else {
        return;
    };
    let target = target(&mut input, major);
    let base = Lsn(SEGMENT);
    let bytes = pages(&record(&mut input), format, base);
    let rules = FramingRules {
        format,
        segment_bytes: SEGMENT,
        partitions: 1,
        timelines: None,
    };
    let span = Span {
        start: base,
        exact: false,
        end: base.add(48),
    };
    let tracked = TrackedFiles::default();
    let mut framer = Framer::new(rules, &tracked, span, ChunkBuffers::over(&bytes));
    framer.run();
    let chunk = framer.finish();
    let targets = Targets {
        by_view: vec![vec![Some(Arc::clone(&target)); chunk.files.len()]],
        ..Targets::default()
    };
    let mut out = TaskOutput::default();
    let decoded = decode(&chunk, &chunk.partitions[0], &targets, format, &mut out);
    let Target::Table(layout) = &*target else {
        return;
    };
    let relations = |_: RelationVersion| Some(Arc::clone(&layout.relation));
    let header = TransactionHeader {
        timeline: redostream_protocol::TimelineId(1),
        commit_lsn: base,
        end_lsn: base,
        xid: redostream_protocol::Xid(700),
        database: redostream_protocol::Oid(5),
        commit_time_us: 0,
        origin: None,
        gid: None,
    };
    let mut text = TestDecoding::new(TestDecodingOptions {
        major,
        settings: Default::default(),
        encoding: None,
    });
    let mut json = Json::new(JsonOptions::default());
    text.set_transaction(&header);
    json.set_transaction(&header);
    if decoded.is_err() {
        return;
    }
    let mut cursor = Cursor::new(&out.arena);
    while cursor.remaining() > 0 {
        let event = Event::read(&mut cursor).expect("what decoding wrote can be read");
        let mut lines = Vec::new();
        let _ = text.event(&event, &relations, &mut lines);
        let _ = json.event(&event, &relations, &mut lines);
    }
});
