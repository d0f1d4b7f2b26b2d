//! Any bytes as packed events: refused, or exactly as many bytes of events as were asked for, which
//! arrive the same when they are packed again.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use redostream_fuzz::Input;
use redostream_protocol::wire::compress::{Compressor, Decompressor, Form};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let raw = u32::from(input.byte()) * 64 + u32::from(input.byte());
    let packed = input.0;
    let mut stored = (packed.len() as u32).to_le_bytes().to_vec();
    stored.extend(lz4_flex::block::compress(packed));
    let mut decompressor = Decompressor::default();
    let Ok(events) = decompressor.decompress(&stored, Form::Packed, raw) else {
        return;
    };
    assert_eq!(events.len(), raw as usize);
    let pieces = [Bytes::copy_from_slice(&events)];
    // Its buffer is taken again for what follows.
    drop(events);
    if let Some(again) = Compressor::default().compress(&pieces) {
        let events = decompressor.decompress(&again.stored, again.form, raw);
        assert_eq!(events.as_ref(), Ok(&pieces[0]));
    }
});
