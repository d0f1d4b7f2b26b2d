//! A session's frames over several connections, whole and damaged, through reader, joiner and
//! checks together.

use bytes::Bytes;
use proptest::prelude::*;

use super::check::scan;
use super::compress::{Compressor, Decompressor};
use super::data::DataBody;
use super::parts::{Part, PartCollector};
use super::*;
use crate::event::{
    EventHeader, EventKind, HEADER_BYTES as EVENT_HEADER, TransactionHeader, push_value,
};
use crate::ids::{Oid, TimelineId, Xid};
use crate::schema::RelationVersion;
use crate::{Lsn, Position};

const TIMELINE: TimelineId = TimelineId(1);

fn event(kind: EventKind, record: u64, row: u32, columns: u16, payload: &[u8]) -> Vec<u8> {
    let header = EventHeader {
        size: (EVENT_HEADER + payload.len()) as u32,
        kind,
        flags: 0,
        count: columns,
        xid: Xid(700),
        relation: RelationVersion(u32::from(columns > 0)),
        record_lsn: Lsn(record),
        row,
    };
    [&header.to_bytes()[..], payload].concat()
}

/// One transaction with a row of each of these sizes.
fn transaction(commit: u64, sizes: &[usize]) -> Vec<u8> {
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
    let rows: Vec<u8> = sizes
        .iter()
        .enumerate()
        .flat_map(|(row, size)| {
            let mut payload = Vec::new();
            push_value(&mut payload, &vec![row as u8; *size]);
            event(EventKind::Insert, commit - 1, row as u32, 1, &payload)
        })
        .collect();
    let begin = postcard::to_stdvec(&header).unwrap();
    let mut commit_payload = (sizes.len() as u64).to_le_bytes().to_vec();
    commit_payload.extend_from_slice(&crc32fast::hash(&rows).to_le_bytes());
    [
        event(EventKind::Begin, 0, 0, 0, &begin),
        rows,
        event(EventKind::Commit, commit, u32::MAX, 0, &commit_payload),
    ]
    .concat()
}

fn frame(sequence: u64, commit: u64, events: Vec<u8>, lz4: bool) -> Vec<u8> {
    let pieces = vec![Bytes::from(events)];
    let body = if lz4 {
        DataBody::lz4(pieces, &mut Compressor::default())
    } else {
        DataBody::raw(pieces)
    };
    let head = DataHead {
        first: Position::begin(TIMELINE, Lsn(commit)),
        last: Position::commit(TIMELINE, Lsn(commit)),
        wal_end: Lsn(commit + 8),
        raw_size: body.raw_size,
        part: Part {
            number: 0,
            count: 1,
            total: u64::from(body.raw_size),
        },
        continues: None,
    };
    let mut out = head.encode(sequence, &body).unwrap();
    for piece in &body.stored {
        out.extend_from_slice(piece);
    }
    out
}

/// Reads the connections as a client does; gives the events in order.
fn receive(connections: &[Vec<u8>], read_bytes: usize) -> Result<Vec<u8>, String> {
    let mut joiner = Joiner::new(1 << 24, 1000);
    let mut check = OrderedCheck::new(None);
    let mut out = Vec::new();
    for connection in connections {
        let mut reader = FrameReader::new(limits::FRAME_BYTES_MAX);
        for bytes in connection.chunks(read_bytes) {
            reader.push(bytes);
            while let Some(frame) = reader.pop().map_err(|error| error.to_string())? {
                let data = Data::decode(&frame, &mut Decompressor::default())
                    .map_err(|error| error.to_string())?;
                let cost = credit::cost(frame.payload.len(), data.events.len());
                joiner
                    .push(frame.header.sequence, data, cost)
                    .map_err(|error| error.to_string())?;
            }
        }
        if reader.inside_frame() {
            return Err("cut off".into());
        }
    }
    while let Some((data, _)) = joiner.pop() {
        let block = scan(&data.events, TIMELINE, None).map_err(|error| error.to_string())?;
        assert_eq!((block.first, block.last), (data.head.first, data.head.last));
        check
            .push(&block, |_| Some(1))
            .map_err(|error| error.to_string())?;
        out.extend_from_slice(&data.events);
    }
    Ok(out)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_striped_session_arrives_whole_or_is_refused(
        transactions in proptest::collection::vec(
            (proptest::collection::vec(0usize..2000, 1..6), any::<bool>(), 0usize..4),
            1..12,
        ),
        read_bytes in 1usize..5000,
        flip in any::<prop::sample::Index>(),
    ) {
        let mut connections = vec![Vec::new(); 4];
        let mut expected = Vec::new();
        for (number, (sizes, lz4, stripe)) in transactions.iter().enumerate() {
            let commit = 1000 + 100 * number as u64;
            let events = transaction(commit, sizes);
            expected.extend_from_slice(&events);
            connections[*stripe].extend(frame(number as u64 + 1, commit, events, *lz4));
        }
        let received = receive(&connections, read_bytes);
        prop_assert_eq!(received.as_deref(), Ok(&expected[..]));

        let bits: usize = connections.iter().map(|c| c.len() * 8).sum();
        let mut bit = flip.index(bits);
        for connection in &mut connections {
            if bit < connection.len() * 8 {
                connection[bit / 8] ^= 1 << (bit % 8);
                break;
            }
            bit -= connection.len() * 8;
        }
        prop_assert!(receive(&connections, read_bytes).is_err());
    }

    /// A peer whose checksums are right but whose numbers lie.
    #[test]
    fn lies_with_good_checksums_are_refused_or_harmless(
        at in 48usize..80,
        lie in any::<[u8; 4]>(),
        lz4 in any::<bool>(),
    ) {
        let honest = frame(1, 1000, transaction(1000, &[3000, 10]), lz4);
        let mut reader = FrameReader::new(limits::FRAME_BYTES_MAX);
        reader.push(&honest);
        let mut lying = reader.pop().unwrap().unwrap();
        let mut payload = lying.payload.to_vec();
        payload[at..at + 4].copy_from_slice(&lie);
        lying.payload = Bytes::from(payload);
        if let Ok(data) = Data::decode(&lying, &mut Decompressor::default()) {
            // Memory is bounded whatever the frame says.
            prop_assert!(data.events.len() <= limits::DATA_RAW_BYTES_MAX);
            let mut parts = PartCollector::new("event", 1 << 20);
            let _ = parts.push(data.head.part, &data.events);
        }
    }

    #[test]
    fn any_payload_of_any_kind(kind in 1u8..=12, flags in 0u16..16, payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        let header = FrameHeader {
            kind: FrameKind::from_u8(kind).unwrap(),
            flags,
            length: payload.len() as u32,
            sequence: 1,
            payload_crc: 0,
        };
        let frame = Frame { header, payload: Bytes::from(payload) };
        let _ = Data::decode(&frame, &mut Decompressor::default());
        let _ = frame.decode::<Hello>();
        let _ = frame.decode::<Welcome>();
        let _ = frame.decode::<Heartbeat>();
        let _ = frame.decode::<Notice>();
        let _ = frame.decode::<Fault>();
        let _ = frame.decode::<End>();
        let _ = frame.decode::<Credit>();
        let _ = frame.decode::<Ack>();
        let _ = frame.decode::<Ping>();
        let _ = frame.decode::<Bye>();
        if let Ok(part) = frame.decode::<RelationPart>() {
            let _ = RelationPart::decode_whole(&part.bytes);
        }
    }
}
