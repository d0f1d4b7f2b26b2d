//! Any stretches over any LZ4 block and any bytes beside it: refused, or exactly as many bytes of
//! events as were asked for. And any bytes as large values of rows, block after block, which arrive as
//! they were.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use redostream_fuzz::Input;
use redostream_protocol::event::{EventHeader, EventKind, HEADER_BYTES, push_value};
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::wire::compress::{Compressor, Decompressor, Form};
use redostream_protocol::{Lsn, Xid};

/// Stretches that fit what there is, or nearly so.
fn stretches(input: &mut Input<'_>) -> (Vec<u8>, u32) {
    let mut numbers = Vec::new();
    for _ in 0..input.byte() % 8 {
        numbers.extend([u32::from(input.byte()), u32::from(input.byte())]);
    }
    let sum = |from: usize| numbers.iter().skip(from).step_by(2).sum::<u32>();
    let (inner, beside) = (sum(0), sum(1) as usize);
    let off = u32::from(input.byte() % 3 / 2);
    // Now and then one says a little more or less than there is.
    let (which, more) = (usize::from(input.byte()), u32::from(input.byte() % 4));
    if let Some(number) = numbers.get_mut(which) {
        *number = (*number + more).saturating_sub(1);
    }
    let held: Vec<u8> = input
        .0
        .iter()
        .copied()
        .cycle()
        .take(inner as usize)
        .collect();
    let lz4 = lz4_flex::block::compress(&held);
    let head = [numbers.len() as u32 / 2, inner + off, lz4.len() as u32];
    let head = head.into_iter().chain(numbers);
    let mut stored: Vec<u8> = head.flat_map(u32::to_le_bytes).collect();
    stored.extend(lz4);
    stored.extend(input.take(beside));
    (stored, inner + beside as u32)
}

/// A row of values that are longer than what is there of them.
fn row(input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    let count = input.byte() % 4;
    for _ in 0..count {
        let (shown, more) = (usize::from(input.byte()), usize::from(input.byte()) * 16);
        let mut value = input.take(shown).to_vec();
        // Behind it, digits that nothing foretells, or always the same.
        let mut state = 1 + u32::from(input.byte());
        value.extend((0..more).map(|_| {
            if state > 128 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) | 1 << 31;
            }
            b"0123456789abcdef"[(state >> 24) as usize % 16]
        }));
        push_value(&mut bytes, &value);
    }
    let header = EventHeader {
        size: bytes.len() as u32,
        kind: EventKind::Insert,
        flags: 0,
        count: u16::from(count),
        xid: Xid(700),
        relation: RelationVersion(u32::from(input.byte() % 2)),
        record_lsn: Lsn(8),
        row: 0,
    };
    bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    bytes
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let mut decompressor = Decompressor::default();
    if input.byte() % 2 == 0 {
        let (stored, raw) = stretches(&mut input);
        if let Ok(events) = decompressor.decompress(&stored, Form::Split, raw) {
            assert_eq!(events.len(), raw as usize);
        }
        return;
    }
    let mut compressor = Compressor::default();
    let mut blocks = 0;
    while !input.0.is_empty() && blocks < 100 {
        blocks += 1;
        let pieces: Vec<Bytes> = (0..input.byte() % 4)
            .map(|_| row(&mut input).into())
            .collect();
        let raw = pieces.iter().map(Bytes::len).sum::<usize>() as u32;
        if let Some(made) = compressor.compress(&pieces) {
            let mut stored = made.stored.to_vec();
            made.beside
                .iter()
                .for_each(|piece| stored.extend_from_slice(piece));
            let events = decompressor.decompress(&stored, made.form, raw);
            assert_eq!(events, Ok(Bytes::from(pieces.concat())));
        }
    }
});
