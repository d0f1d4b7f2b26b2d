use bytes::Bytes;
use proptest::prelude::*;

use super::super::compress::{Compressed, Compressor, Decompressor, Form};
use super::super::limits::DATA_RAW_BYTES_MAX;
use crate::event::{
    CompressionMethod, EventHeader, EventKind, HEADER_BYTES, push_compressed, push_text, push_value,
};
use crate::ids::{Lsn, Xid};
use crate::schema::RelationVersion;

/// Numbers that nobody foretells, but the same ones in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Text of hexadecimal digits.
    fn digits(&mut self, bytes: usize) -> Vec<u8> {
        (0..bytes)
            .map(|_| b"0123456789abcdef"[(self.next() >> 40) as usize % 16])
            .collect()
    }
}

/// A row of these values.
fn row(kind: EventKind, relation: u32, number: u32, values: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    for (at, value) in values.iter().enumerate() {
        match (at + number as usize) % 7 {
            0 => push_text(&mut bytes, value),
            1 => push_compressed(&mut bytes, CompressionMethod::Pglz, 1 << 20, value),
            _ => push_value(&mut bytes, value),
        }
    }
    let header = EventHeader {
        size: bytes.len() as u32,
        kind,
        flags: 0,
        count: values.len() as u16,
        xid: Xid(700),
        relation: RelationVersion(relation),
        record_lsn: Lsn(8 * u64::from(number)),
        row: 0,
    };
    bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    bytes
}

fn insert(number: u32, values: &[&[u8]]) -> Vec<u8> {
    row(EventKind::Insert, 3, number, values)
}

fn raw_bytes(pieces: &[Bytes]) -> usize {
    pieces.iter().map(Bytes::len).sum()
}

/// Everything after the head of a data frame.
fn sent(compressed: &Compressed) -> Vec<u8> {
    let mut sent = compressed.stored.to_vec();
    compressed
        .beside
        .iter()
        .for_each(|piece| sent.extend_from_slice(piece));
    sent
}

/// Compresses, decompresses, compares; gives what was made.
fn there_and_back(compressor: &mut Compressor, pieces: &[Bytes]) -> Option<Compressed> {
    through(compressor, &mut Decompressor::default(), pieces)
}

fn through(
    compressor: &mut Compressor,
    decompressor: &mut Decompressor,
    pieces: &[Bytes],
) -> Option<Compressed> {
    let compressed = compressor.compress(pieces)?;
    let raw = raw_bytes(pieces);
    let back = decompressor
        .decompress(&sent(&compressed), compressed.form, raw as u32)
        .unwrap();
    assert!(
        back[..] == pieces.concat()[..],
        "{raw} bytes came back otherwise"
    );
    Some(compressed)
}

/// Blocks of rows with a column of digits and one in which all rows are alike.
fn mixed(random: &mut Random) -> Vec<Bytes> {
    let alike = random.digits(2000);
    let rows = |random: &mut Random| {
        let rows = (0..10).flat_map(|number| {
            insert(number, &[b"id", &random.digits(3000), b"n", &alike, b"end"])
        });
        Bytes::from(rows.collect::<Vec<u8>>())
    };
    (0..3).map(|_| rows(random)).collect()
}

#[test]
fn digits_stand_beside_the_block_once_that_is_known() {
    let mut random = Random(1);
    let mut compressor = Compressor::default();
    let first = there_and_back(&mut compressor, &mixed(&mut random)).unwrap();
    assert_eq!(first.form, Form::Lz4);
    let pieces = mixed(&mut random);
    let second = there_and_back(&mut compressor, &pieces).unwrap();
    assert_eq!(second.form, Form::Split);
    assert_eq!(second.beside.len(), 30);
    assert!(second.stored.len() < 10_000, "{}", second.stored.len());
    // They are not copied.
    let piece = pieces[0].as_ptr_range();
    assert!(piece.contains(&second.beside[0].as_ptr()));
    let less = first.stored.len() as i64 - sent(&second).len() as i64;
    let most = first.stored.len() as i64 / 8;
    assert!(less.abs() < most, "{less} bytes less");
}

#[test]
fn what_others_are_like_stays_inside() {
    let mut random = Random(2);
    let mut compressor = Compressor::default();
    for block in 0..3 {
        let rows = (0..10).flat_map(|number| {
            let digits = random.digits(3000);
            insert(number, &[&digits, &digits])
        });
        let pieces = [Bytes::from(rows.collect::<Vec<u8>>())];
        let compressed = there_and_back(&mut compressor, &pieces).unwrap();
        assert_eq!(compressed.form, Form::Lz4, "block {block}");
        assert!(compressed.stored.len() < raw_bytes(&pieces) * 2 / 3);
    }
}

#[test]
fn a_column_is_tried_again() {
    let mut random = Random(3);
    let mut compressor = Compressor::default();
    let digits = mixed(&mut random);
    for _ in 0..2 {
        there_and_back(&mut compressor, &digits);
    }
    // The values that stood beside the block are all alike from here on.
    let value = random.digits(3000);
    let alike: Vec<u8> = (0..30)
        .flat_map(|number| insert(number, &[b"id", &value]))
        .collect();
    let alike = [Bytes::from(alike)];
    let forms: Vec<_> = (0..100)
        .map(|_| there_and_back(&mut compressor, &alike).map(|made| made.form))
        .collect();
    assert!(forms[0] != Some(Form::Lz4));
    assert_eq!(forms[99], Some(Form::Lz4));
}

#[test]
fn large_values_are_noticed_behind_small_ones() {
    let mut random = Random(5);
    let mut compressor = Compressor::default();
    let alike = random.digits(1000);
    // So many that they are not packed.
    let rows: Vec<u8> = (0..90)
        .flat_map(|number| insert(number, &[&alike]))
        .collect();
    let small = [Bytes::from(rows)];
    for _ in 0..21 {
        let made = there_and_back(&mut compressor, &small).unwrap();
        assert_eq!(made.form, Form::Lz4);
    }
    let forms: Vec<_> = (0..20)
        .map(|_| there_and_back(&mut compressor, &mixed(&mut random)).map(|made| made.form))
        .collect();
    // At first it is not looked whether there are any, then they are tried.
    assert_eq!(forms[0], Some(Form::Lz4));
    assert_eq!(forms[1], Some(Form::Lz4));
    assert_eq!(forms[19], Some(Form::Split));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let mut random = Random(4);
    let mut compressor = Compressor::default();
    let pieces = mixed(&mut random);
    compressor.compress(&pieces).unwrap();
    let split = compressor.compress(&pieces).unwrap();
    let (sent, raw) = (sent(&split), raw_bytes(&pieces) as u32);
    let mut decompressor = Decompressor::default();
    let mut decompress = |stored: &[u8], raw| decompressor.decompress(stored, Form::Split, raw);
    assert!(decompress(&sent, raw).is_ok());
    for lie in [0, raw - 1, raw + 1, DATA_RAW_BYTES_MAX as u32, u32::MAX] {
        assert!(decompress(&sent, lie).is_err(), "{lie}");
    }
    for end in (0..sent.len()).step_by(97).chain([sent.len() - 1]) {
        assert!(decompress(&sent[..end], raw).is_err(), "cut to {end}");
    }
    // Each of the numbers before the LZ4 block, made smaller, larger, and huge.
    let stretches = u32::from_le_bytes(sent[..4].try_into().unwrap()) as usize;
    assert_eq!(stretches, 31);
    for at in (0..12 + 8 * stretches).step_by(4) {
        let mut lie = sent.clone();
        let number = u32::from_le_bytes(lie[at..at + 4].try_into().unwrap());
        for other in [number.wrapping_sub(1), number + 1, u32::MAX] {
            lie[at..at + 4].copy_from_slice(&other.to_le_bytes());
            assert!(decompress(&lie, raw).is_err(), "{other} at {at}");
        }
    }
}

fn any_kind() -> impl Strategy<Value = EventKind> {
    prop_oneof![
        3 => Just(EventKind::Insert),
        1 => Just(EventKind::Update),
        1 => Just(EventKind::Message),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Rows of any sizes, of digits or not, in several relations, in pieces cut between rows or
    /// anywhere, block after block: what comes back is what went in.
    #[test]
    fn any_rows_come_back(
        seed in 1u64..,
        rows in proptest::collection::vec(
            (any_kind(), 1u32..4, proptest::collection::vec(0usize..4000, 1..5)),
            1..30,
        ),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        anywhere in any::<bool>(),
        lends in any::<bool>(),
    ) {
        let mut random = Random(seed);
        let mut compressor = Compressor::default();
        compressor.lend(lends);
        // What lies in its buffers is of the blocks before.
        let mut decompressor = Decompressor::default();
        let mut held = Vec::new();
        for block in 0..3 {
            let alike = random.digits(4000);
            let (mut events, mut ends) = (Vec::new(), vec![0]);
            for (number, (kind, relation, sizes)) in rows.iter().enumerate() {
                let values: Vec<Vec<u8>> = sizes
                    .iter()
                    .enumerate()
                    .map(|(column, size)| match (column + *relation as usize) % 2 {
                        0 => random.digits(*size),
                        _ => alike[..*size].to_vec(),
                    })
                    .collect();
                let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
                events.extend(row(*kind, *relation, number as u32 + block, &values));
                ends.push(events.len());
            }
            let mut cuts: Vec<usize> = cuts
                .iter()
                .map(|cut| if anywhere { cut.index(events.len()) } else { *cut.get(&ends) })
                .collect();
            cuts.extend([0, events.len()]);
            cuts.sort_unstable();
            let events = Bytes::from(events);
            let pieces: Vec<Bytes> =
                cuts.windows(2).map(|cut| events.slice(cut[0]..cut[1])).collect();
            let made = through(&mut compressor, &mut decompressor, &pieces);
            held.extend(made.map(|made| (made, events)));
        }
        // Nor has a later block changed what an earlier one became.
        for (made, events) in held {
            let back = decompressor.decompress(&sent(&made), made.form, events.len() as u32);
            prop_assert_eq!(back, Ok(events));
        }
    }

    #[test]
    fn any_bytes(stored in proptest::collection::vec(any::<u8>(), 0..300), raw in 0u32..100_000) {
        let _ = Decompressor::default().decompress(&stored, Form::Split, raw);
    }

    /// Stretches that fit what there is, or nearly: what fits comes back, and nothing else does.
    #[test]
    fn any_stretches(
        stretches in proptest::collection::vec((0u32..50, 0u32..50), 1..5),
        lie in proptest::option::of((any::<prop::sample::Index>(), -2i64..3)),
    ) {
        let sum = |from: fn(&(u32, u32)) -> u32| stretches.iter().map(from).sum::<u32>() as usize;
        let (inner, beside) = (sum(|stretch| stretch.0), sum(|stretch| stretch.1));
        let lz4 = lz4_flex::block::compress(&vec![1; inner]);
        let mut numbers = vec![stretches.len() as u32, inner as u32, lz4.len() as u32];
        numbers.extend(stretches.iter().flat_map(|(inner, beside)| [*inner, *beside]));
        let mut is_true = true;
        if let Some((at, more)) = lie {
            let number = &mut numbers[at.index(3 + 2 * stretches.len())];
            let other = (i64::from(*number) + more).max(0) as u32;
            is_true = other == *number;
            *number = other;
        }
        let mut stored: Vec<u8> = numbers.into_iter().flat_map(u32::to_le_bytes).collect();
        stored.extend(lz4);
        stored.extend(vec![2; beside]);
        let raw = inner + beside;
        let events = Decompressor::default().decompress(&stored, Form::Split, raw as u32);
        prop_assert_eq!(events.is_ok(), is_true);
        if let Ok(events) = events {
            let expected = stretches
                .iter()
                .flat_map(|(inner, beside)| [vec![1; *inner as usize], vec![2; *beside as usize]]);
            prop_assert_eq!(&events[..], &expected.collect::<Vec<_>>().concat()[..]);
        }
    }
}
