//! Records as they come: headers, block references, images, and the ends of transactions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redostream_engine::framing::record::Record;
use redostream_engine::framing::xact;
use redostream_fuzz::Input;
use redostream_protocol::Lsn;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let format = input.format();
    let info = input.byte();
    let _ = xact::parse_end(info, input.0, format);
    let _ = xact::parse_prepare(input.0, format);
    let _ = xact::parse_assignment(input.0);
    if let Ok(record) = Record::parse(input.0, Lsn(0x100_0028), Lsn(0x100_0028 + 8192), format) {
        for block in &record.blocks {
            assert!(block.data.len() <= input.0.len());
        }
        let _ = xact::parse_end(record.info, record.main, format);
    }
});
