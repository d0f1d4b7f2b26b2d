//! Values of every type, whatever their bytes, as text and as JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redostream_fuzz::{Input, data_type};
use redostream_protocol::value::{TextContext, TypeRenderer};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let major = 14 + u16::from(input.byte() % 5);
    let encoding = i32::from(input.byte() % 35);
    let renderer = TypeRenderer::new(&data_type(&mut input, 0));
    let context = TextContext::new(major, encoding);
    let (mut text, mut json, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
    let _ = renderer.text(input.0, &context, &mut text);
    let _ = renderer.json(input.0, &context, &mut scratch, &mut json);
    renderer.json_of_text(input.0, &context, &mut json);
});
