//! Compressed values: whatever they say of their size, nothing but an error comes of what is wrong.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redostream_fuzz::Input;
use redostream_protocol::event::CompressionMethod;
use redostream_protocol::value::decompress::decompress;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let method = match input.byte() % 2 {
        0 => CompressionMethod::Pglz,
        _ => CompressionMethod::Lz4,
    };
    let size = u32::from_le_bytes([input.byte(), input.byte(), input.byte(), 0]);
    let mut out = b"before".to_vec();
    match decompress(method, size, input.0, &mut out) {
        Ok(()) => assert_eq!(out.len(), 6 + size as usize),
        Err(_) => assert_eq!(out, b"before"),
    }
});
