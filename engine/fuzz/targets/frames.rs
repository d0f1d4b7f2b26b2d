//! Frames both ways: bytes as they come off a connection; frames whose checksums are right and
//! whose payloads are anything; and transactions whose numbers are right and whose rows are
//! anything, through everything that a client does with them.
#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use redostream_engine::catalog::relation::Target;
use redostream_fuzz::{Input, target};
use redostream_protocol::cursor::Cursor;
use redostream_protocol::event::{Event, EventHeader, EventKind, HEADER_BYTES, TransactionHeader};
use redostream_protocol::render::{Json, JsonOptions, TestDecoding, TestDecodingOptions};
use redostream_protocol::schema::{Relation, RelationVersion};
use redostream_protocol::wire::compress::{Compressor, Decompressor};
use redostream_protocol::wire::data::DataBody;
use redostream_protocol::wire::header::Payload;
use redostream_protocol::wire::parts::{Part, PartCollector};
use redostream_protocol::wire::{
    Ack, Bye, Credit, Data, DataHead, End, Fault, Frame, FrameHeader, FrameKind, FrameReader,
    Heartbeat, Hello, Joiner, Notice, OrderedCheck, Ping, RelationPart, Welcome, check, credit,
    limits,
};
use redostream_protocol::{Lsn, Oid, Position, TimelineId, Xid};

const TIMELINE: TimelineId = TimelineId(1);
/// Bytes that a value may have here.
const VALUE_BYTES_MAX: u64 = 1 << 20;

/// What a client keeps of a session.
struct Client {
    major: u16,
    relation: Arc<Relation>,
    joiner: Joiner<Data>,
    parts: PartCollector,
    relation_parts: PartCollector,
    check: OrderedCheck,
}

impl Client {
    /// Takes a frame; none once the session is to be given up.
    fn take(&mut self, frame: &Frame) -> Option<()> {
        match frame.header.kind {
            FrameKind::Data => {
                let data = Data::decode(frame, &mut Decompressor::default()).ok()?;
                assert!(data.events.len() <= limits::FRAME_BYTES_MAX);
                let cost = credit::cost(frame.payload.len(), data.events.len());
                self.joiner.push(frame.header.sequence, data, cost).ok()?;
                while let Some((data, _)) = self.joiner.pop() {
                    self.block(data)?;
                }
            }
            FrameKind::Relation => {
                let part: RelationPart = frame.decode().ok()?;
                if let Some(whole) = self.relation_parts.push(part.part, &part.bytes).ok()? {
                    RelationPart::decode_whole(&whole).ok()?;
                }
            }
            _ => any_payload(frame),
        }
        Some(())
    }

    fn block(&mut self, data: Data) -> Option<()> {
        let Some(events) = self.parts.push(data.head.part, &data.events).ok()? else {
            return Some(());
        };
        assert!(events.len() as u64 <= VALUE_BYTES_MAX);
        let continues = data.head.continues.as_ref();
        let summary = check::scan(&events, data.head.first.timeline, continues).ok()?;
        if (data.head.first, data.head.last) != (summary.first, summary.last) {
            return None;
        }
        let columns = self.relation.columns.len();
        let known = |version| (version == RelationVersion(1)).then_some(columns);
        self.check.push(&summary, known).ok()?;
        self.print(&events);
        Some(())
    }

    /// What was checked can be read and printed, or is refused with a word.
    fn print(&self, events: &[u8]) {
        let relations = |_: RelationVersion| Some(Arc::clone(&self.relation));
        let mut text = TestDecoding::new(TestDecodingOptions {
            major: self.major,
            settings: Default::default(),
            encoding: None,
        });
        let mut json = Json::new(JsonOptions::default());
        let mut cursor = Cursor::new(events);
        let mut lines = Vec::new();
        while cursor.remaining() > 0 {
            let Ok(event) = Event::read(&mut cursor) else {
                return;
            };
            let _ = text.event(&event, &relations, &mut lines);
            let _ = json.event(&event, &relations, &mut lines);
        }
    }
}

/// A small payload is refused, or is what it becomes when it is encoded again.
fn again<P: Payload + PartialEq + std::fmt::Debug>(frame: &Frame) {
    if let Ok(payload) = frame.decode::<P>() {
        let mut bytes = Vec::new();
        payload.encode(&mut bytes);
        assert_eq!(P::decode(&bytes).as_ref(), Ok(&payload));
    }
}

fn any_payload(frame: &Frame) {
    again::<Hello>(frame);
    again::<Welcome>(frame);
    again::<Heartbeat>(frame);
    again::<Notice>(frame);
    again::<Fault>(frame);
    again::<End>(frame);
    again::<Credit>(frame);
    again::<Ack>(frame);
    again::<Ping>(frame);
    again::<Bye>(frame);
}

/// Pushes bytes in pieces, as a socket gives them, and takes the frames.
fn receive(
    bytes: &[u8],
    length_max: usize,
    piece: usize,
    mut take: impl FnMut(&Frame) -> Option<()>,
) {
    let mut reader = FrameReader::new(length_max);
    for piece in bytes.chunks(piece.max(1)) {
        reader.push(piece);
        while let Ok(Some(frame)) = reader.pop() {
            assert!(frame.payload.len() <= length_max);
            if take(&frame).is_none() {
                return;
            }
        }
    }
}

/// Frames of any kind with any payload and the right checksums.
fn made_frames(input: &mut Input<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut sequence = 0;
    while !input.0.is_empty() && out.len() < 16_384 {
        let kind = FrameKind::from_u8(1 + input.byte() % 12).unwrap_or(FrameKind::Ping);
        let flags = u16::from(input.byte() % 16);
        let length = usize::from(input.byte()) * 2;
        let payload = input.take(length);
        sequence += 1;
        let header = FrameHeader {
            kind,
            flags,
            length: payload.len() as u32,
            sequence,
            payload_crc: crc32fast::hash(payload),
        };
        out.extend_from_slice(&header.to_bytes());
        out.extend_from_slice(payload);
    }
    out
}

fn event(kind: EventKind, flags: u8, place: (u64, u32), columns: u16, payload: &[u8]) -> Vec<u8> {
    let header = EventHeader {
        size: (HEADER_BYTES + payload.len()) as u32,
        kind,
        flags,
        count: columns,
        xid: Xid(700),
        relation: RelationVersion(u32::from(columns > 0)),
        record_lsn: Lsn(place.0),
        row: place.1,
    };
    [&header.to_bytes()[..], payload].concat()
}

/// A transaction of events with any payload, its numbers and checksum right.
fn transaction(input: &mut Input<'_>, commit: u64, columns: u16) -> Vec<u8> {
    let header = TransactionHeader {
        timeline: TIMELINE,
        commit_lsn: Lsn(commit),
        end_lsn: Lsn(commit + 8),
        xid: Xid(700),
        database: Oid(5),
        commit_time_us: 0,
        origin: None,
        gid: None,
    };
    let mut events = Vec::new();
    let count = input.byte() % 6;
    for row in 0..count {
        let kind = EventKind::from_u8(input.byte() % 12).unwrap_or(EventKind::Insert);
        let flags = input.byte();
        let length = usize::from(input.byte()) * 4;
        let payload = input.take(length);
        let place = (commit - 1, u32::from(row));
        let columns = if input.byte() == 0 { 0 } else { columns };
        events.extend(event(kind, flags, place, columns, payload));
    }
    let mut claim = u64::from(count).to_le_bytes().to_vec();
    claim.extend_from_slice(&crc32fast::hash(&events).to_le_bytes());
    let begin = postcard::to_stdvec(&header).expect("a header is encoded");
    [
        event(EventKind::Begin, 0, (0, 0), 0, &begin),
        events,
        event(EventKind::Commit, 0, (commit, u32::MAX), 0, &claim),
    ]
    .concat()
}

/// Data frames with such transactions, some in parts.
fn made_data(input: &mut Input<'_>, columns: u16) -> Vec<u8> {
    let (mut out, mut sequence, mut commit) = (Vec::new(), 0, 1000);
    while !input.0.is_empty() && out.len() < 65_536 {
        let events = Bytes::from(transaction(input, commit, columns));
        let shape = input.byte();
        let count = u32::from(shape % 3) + 1;
        let size = events.len().div_ceil(count as usize);
        for number in 0..count {
            let from = (size * number as usize).min(events.len());
            let to = (from + size).min(events.len());
            let pieces = vec![events.slice(from..to)];
            let body = match shape & 0x40 {
                0 => DataBody::raw(pieces),
                _ => DataBody::lz4(pieces, &mut Compressor::default()),
            };
            let head = DataHead {
                first: Position::begin(TIMELINE, Lsn(commit)),
                last: Position::commit(TIMELINE, Lsn(commit)),
                wal_end: Lsn(commit + 8),
                raw_size: body.raw_size,
                part: Part {
                    number,
                    count,
                    total: events.len() as u64,
                },
                continues: None,
            };
            sequence += 1;
            out.extend(head.encode(sequence, &body).expect("a small head"));
            for piece in &body.stored {
                out.extend_from_slice(piece);
            }
        }
        commit += 100;
    }
    out
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let choice = input.byte() % 4;
    let piece = usize::from(input.byte()) * 8;
    if choice == 0 {
        for length_max in [
            limits::HELLO_BYTES_MAX,
            limits::CLIENT_FRAME_BYTES_MAX,
            limits::FRAME_BYTES_MAX,
        ] {
            receive(input.0, length_max, piece, |frame| {
                any_payload(frame);
                Some(())
            });
        }
        return;
    }
    if choice == 1 {
        let bytes = made_frames(&mut input);
        receive(&bytes, limits::CLIENT_FRAME_BYTES_MAX, piece, |frame| {
            any_payload(frame);
            Some(())
        });
        return;
    }
    let major = 14 + u16::from(input.byte() % 5);
    let target = target(&mut input, major);
    let Target::Table(layout) = &*target else {
        return;
    };
    let mut client = Client {
        major,
        relation: Arc::clone(&layout.relation),
        joiner: Joiner::new(1 << 22, 64),
        parts: PartCollector::new("event", VALUE_BYTES_MAX),
        relation_parts: PartCollector::new("relation", 1 << 20),
        check: OrderedCheck::new(None),
    };
    let bytes = match choice {
        2 => made_frames(&mut input),
        _ => made_data(&mut input, client.relation.columns.len() as u16),
    };
    receive(&bytes, limits::FRAME_BYTES_MAX, piece, |frame| {
        client.take(frame)
    });
});
