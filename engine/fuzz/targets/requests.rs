//! What strangers ask of the control plane, and what subscribers acknowledge: refused with a word,
//! or within the bounds and within what they may see.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use prost::Message;
use redostream_fuzz::Input;
use redostream_protocol::control::{Start, v1};
use redostream_protocol::wire::Ack;
use redostream_protocol::{Lsn, Position, TimelineId};
use redostream_server::session::{Grant, Rule, StreamProvider, fuzzing};

/// One of these words, or anything.
fn text(input: &mut Input<'_>, words: &[&str]) -> String {
    let choice = usize::from(input.byte());
    match words.get(choice) {
        Some(word) => (*word).to_owned(),
        None if choice < 128 => String::new(),
        None => {
            let length = usize::from(input.byte());
            String::from_utf8_lossy(input.take(length)).into_owned()
        }
    }
}

fn texts(input: &mut Input<'_>, words: &[&str]) -> Vec<String> {
    let count = match input.byte() {
        // More than any filter may have.
        255 => 2000_u16,
        count => u16::from(count % 4),
    };
    (0..count).map(|_| text(input, words)).collect()
}

const PLACES: &[&str] = &[
    "",
    "earliest",
    "latest",
    "0/16B3748",
    "1:0/16B3748:0/16B3700:2",
];
const DATABASES: &[&str] = &["one", "two"];
const TABLES: &[&str] = &[
    "public.a", "a", "public.*", "p*.?", "public.b", ".", "*.*.*",
];

fn request(input: &mut Input<'_>) -> v1::OpenSessionRequest {
    v1::OpenSessionRequest {
        name: text(input, &["", "cdc"]),
        from: text(input, PLACES),
        until: text(input, PLACES),
        databases: texts(input, DATABASES),
        tables: texts(input, TABLES),
        exclude_tables: texts(input, TABLES),
        kinds: texts(input, &["insert", "ddl", "begin", "sequence"]),
        allow_missing: input.byte() % 2 == 0,
        streams: u32::from(input.byte()),
        compression: i32::from(input.byte()) - 3,
        system_identifier: u64::from(input.byte() % 9),
        instance: text(input, &["", "bytes"]).into_bytes(),
        client_version: text(input, &["1"]),
        columns: (0..input.byte() % 4)
            .map(|_| v1::ColumnList {
                table: text(input, TABLES),
                columns: texts(input, &["k", "v", "none"]),
            })
            .collect(),
        goes_on: input.byte() % 2 == 0,
        acknowledged: text(input, PLACES),
    }
}

fn number(input: &mut Input<'_>) -> u64 {
    let mut bytes = [0; 8];
    let given = input.take(8);
    bytes[..given.len()].copy_from_slice(given);
    u64::from_le_bytes(bytes)
}

fn position(input: &mut Input<'_>) -> Position {
    Position {
        timeline: TimelineId(number(input) as u32),
        commit_lsn: Lsn(number(input)),
        record_lsn: Lsn(number(input)),
        row: number(input) as u32,
    }
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let choice = input.byte() % 3;
    if choice == 2 {
        let ack = Ack {
            position: position(&mut input),
            released: Lsn(number(&mut input)),
        };
        let start = match input.byte() % 2 {
            0 => Start::At(Lsn(number(&mut input))),
            _ => Start::After(position(&mut input)),
        };
        let sent = (position(&mut input), Lsn(number(&mut input)));
        return fuzzing::take_ack(&ack, start, sent);
    }
    let (databases, tables) = (texts(&mut input, DATABASES), texts(&mut input, TABLES));
    let Ok(rule) = Rule::parse(&databases, &tables, &[]) else {
        return;
    };
    let grant = Grant {
        token: "token".to_owned(),
        rule,
    };
    let request = match choice {
        0 => v1::OpenSessionRequest::decode(input.0).ok(),
        _ => Some(request(&mut input)),
    };
    let provider: Arc<dyn StreamProvider> = Arc::new(fuzzing::Empty);
    if let Some(request) = request
        && let Err(fault) = fuzzing::read_request(&request, &grant, &provider)
    {
        assert!(!fault.message.is_empty());
    }
});
