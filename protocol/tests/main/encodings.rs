//! Text of every server encoding becomes the UTF-8 that PostgreSQL makes of it, and back.

use redostream_protocol::value::to_utf8;

/// An encoding, bytes, and the character that they are; none if the server refuses them.
type Reading = (i32, Vec<u8>, Option<char>);

fn recorded() -> Vec<Reading> {
    let folder = super::record_values::folder();
    let text = std::fs::read_to_string(folder.join("encodings.txt")).unwrap();
    let mut readings = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split('\t');
        let mut next = || fields.next().unwrap();
        let (encoding, lead, characters) = (next().parse().unwrap(), next(), next());
        let lead: Vec<u8> = (0..lead.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&lead[at..at + 2], 16).unwrap())
            .collect();
        let first = if lead.is_empty() { 0x80 } else { 0xA1 };
        let mut rest = characters.chars();
        let mut byte = first;
        while let Some(mut character) = rest.next() {
            if character == '\\' {
                let code: String = rest.by_ref().skip(1).take(4).collect();
                character = char::from_u32(u32::from_str_radix(&code, 16).unwrap()).unwrap();
            }
            let mut bytes = lead.clone();
            bytes.push(byte);
            readings.push((encoding, bytes, (character != ' ').then_some(character)));
            byte = byte.wrapping_add(1);
        }
        assert!(byte == 0 || byte == 0xFF, "{line}");
    }
    assert!(readings.len() > 32_000);
    readings
}

#[test]
fn text_is_read_as_the_server_reads_it() {
    let mut wrong = Vec::new();
    for (encoding, bytes, character) in recorded() {
        // The library's tables of several bytes know a few characters that the server refuses to
        // take in; a database can hardly hold them.
        if character.is_none() && bytes.len() > 1 {
            continue;
        }
        let expected = character.map(String::from);
        let found = to_utf8(encoding, &bytes).map(std::borrow::Cow::into_owned);
        if found != expected {
            wrong.push(format!(
                "{encoding} {bytes:02x?}: {found:?} not {expected:?}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
