use super::*;
use crate::render::samples::{self, Sample};
use crate::schema::Name;

fn lines(major: u16, events: &[Vec<u8>]) -> String {
    let mut renderer = TestDecoding::new(TestDecodingOptions {
        major,
        settings: SessionSettings::default(),
        encoding: None,
    });
    let relation = Arc::new(samples::relation(major));
    let relations = |version| (version == relation.version).then(|| Arc::clone(&relation));
    let mut out = Vec::new();
    for event in events {
        let event = samples::read(event);
        renderer.event(&event, &relations, &mut out).unwrap();
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn rows_are_printed_as_the_plugin_prints_them() {
    let key = [Sample::Int(1), Sample::Null, Sample::Null];
    let events = [
        samples::begin(700),
        samples::row(
            EventKind::Insert,
            0,
            &[&[Sample::Int(1), Sample::Text("it's"), Sample::Bool(true)]],
        ),
        samples::row(
            EventKind::Update,
            flags::OLD_KEY,
            &[&key, &[Sample::Int(2), Sample::Unchanged, Sample::Null]],
        ),
        samples::row(EventKind::Delete, flags::OLD_KEY, &[&key]),
        samples::row(EventKind::Delete, 0, &[]),
        samples::truncate(flags::CASCADE | flags::RESTART_IDENTITY),
        samples::truncate(0),
        samples::commit(),
    ];
    assert_eq!(
        lines(15, &events),
        "BEGIN 700\n\
         table public.\"T\": INSERT: a[integer]:1 b[text]:'it''s' \"user\"[boolean]:true\n\
         table public.\"T\": UPDATE: old-key: a[integer]:1 new-tuple: a[integer]:2 \
         b[text]:unchanged-toast-datum \"user\"[boolean]:null\n\
         table public.\"T\": DELETE: a[integer]:1\n\
         table public.\"T\": DELETE: (no-tuple-data)\n\
         table public.\"T\": TRUNCATE: restart_seqs cascade\n\
         table public.\"T\": TRUNCATE: (no-flags)\n\
         COMMIT 700\n"
    );
}

#[test]
fn empty_transactions_and_messages_follow_the_version() {
    let events = [
        samples::begin(700),
        samples::commit(),
        samples::message(false),
        samples::begin(701),
        samples::message(true),
        samples::commit(),
    ];
    let message = |transactional| {
        format!("message: transactional: {transactional} prefix: p, sz: 3 content:xyz\n")
    };
    assert_eq!(lines(16, &events), [message(0), message(1)].concat());
    assert_eq!(
        lines(17, &events),
        format!("{}BEGIN 701\n{}COMMIT 701\n", message(0), message(1))
    );
}

#[test]
fn a_transaction_can_be_resumed() {
    let mut renderer = TestDecoding::new(TestDecodingOptions {
        major: 15,
        settings: SessionSettings::default(),
        encoding: None,
    });
    let none = |_| None;
    let commit = samples::commit();
    let commit = samples::read(&commit);
    let mut out = Vec::new();
    let outside = renderer.event(&commit, &none, &mut out);
    assert!(matches!(outside, Err(RenderError::NoTransaction { .. })));
    renderer.set_transaction(&samples::header(702));
    renderer.event(&commit, &none, &mut out).unwrap();
    assert_eq!(out, b"COMMIT 702\n");
}

#[test]
fn a_bad_row_prints_nothing() {
    let mut renderer = TestDecoding::new(TestDecodingOptions {
        major: 15,
        settings: SessionSettings::default(),
        encoding: None,
    });
    let relation = Arc::new(samples::relation(15));
    let relations = |_| Some(Arc::clone(&relation));
    renderer.set_transaction(&samples::header(702));
    let bad = samples::row(
        EventKind::Insert,
        0,
        &[&[Sample::Text("not four"), Sample::Null, Sample::Null]],
    );
    let bad = samples::read(&bad);
    let mut out = b"before".to_vec();
    let error = renderer.event(&bad, &relations, &mut out).unwrap_err();
    assert!(matches!(error, RenderError::Value { .. }), "{error}");
    assert_eq!(out, b"before");
}

#[test]
fn lines_can_be_given_in_another_encoding() {
    let mut latin1 = samples::relation(15);
    latin1.database = Arc::new(crate::schema::Database {
        encoding: 8,
        ..(*latin1.database).clone()
    });
    latin1.name = Name(b"t\xE9".to_vec());
    let latin1 = Arc::new(latin1);
    let relations = |_| Some(Arc::clone(&latin1));
    for (encoding, expected) in [
        (
            Some("utf8"),
            "table public.\"té\": DELETE: (no-tuple-data)\n".as_bytes(),
        ),
        (None, b"table public.\"t\xE9\": DELETE: (no-tuple-data)\n"),
    ] {
        let mut renderer = TestDecoding::new(TestDecodingOptions {
            major: 15,
            settings: SessionSettings::default(),
            encoding: encoding.map(|name| Arc::new(ClientEncoding::named(name).unwrap())),
        });
        renderer.set_transaction(&samples::header(702));
        let row = samples::row(EventKind::Delete, 0, &[]);
        let mut out = Vec::new();
        renderer
            .event(&samples::read(&row), &relations, &mut out)
            .unwrap();
        assert_eq!(out, expected);
    }
}
