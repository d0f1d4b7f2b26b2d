//! Databases whose text is not UTF-8, in JSON and in other encodings. As it is stored, the text
//! of these cases is compared with the other recorded ones.

use redostream_testdata::decoder::{Decode, Decoded};
use redostream_testdata::recorded::{Case, case, unpack_base};
use serde_json::Value;
use tempfile::TempDir;

use crate::programs;

struct Laid {
    case: Case,
    base: TempDir,
    wal: TempDir,
}

fn lay_out(version: u32, name: &str) -> Laid {
    let case = case(version, name).unwrap();
    let (base, wal) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    unpack_base(version, base.path()).unwrap();
    case.unpack_wal(wal.path()).unwrap();
    Laid { case, base, wal }
}

impl Laid {
    fn decode(&self) -> Decode {
        Decode::new(&programs::server(), self.base.path())
            .wal(self.wal.path())
            .database(&self.case.facts.database)
            .with("--end", &self.case.facts.end)
    }

    fn in_encoding(&self, encoding: &str) -> Decoded {
        self.decode()
            .with("--encoding", encoding)
            .try_run()
            .unwrap()
    }

    fn json(&self) -> Vec<Value> {
        let decoded = self.decode().with("--format", "json").run().unwrap();
        let text = String::from_utf8(decoded.printed).unwrap();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

#[test]
fn text_is_given_in_the_encoding_asked_for() {
    for version in [14, 18] {
        let laid = lay_out(version, "encoding-latin1");
        let expected = laid.case.expected().unwrap();
        // Bytes of LATIN1 are the characters of those numbers.
        let utf8: String = expected.iter().map(|byte| char::from(*byte)).collect();
        let decoded = laid.in_encoding("utf-8");
        assert_eq!(String::from_utf8(decoded.printed).unwrap(), utf8);
        assert_eq!(laid.in_encoding("LATIN1").printed, expected);
        assert_eq!(laid.in_encoding("SQL_ASCII").printed, expected);
        let refused = laid.in_encoding("KOI8R");
        assert_eq!(refused.status, Some(1), "{}", refused.errors);
        assert!(refused.errors.contains("KOI8R"), "{}", refused.errors);
        assert!(expected.starts_with(&refused.printed));
    }
    let laid = lay_out(15, "encoding-latin1");
    let unknown = laid.in_encoding("EBCDIC");
    assert_eq!(unknown.status, Some(2), "{}", unknown.errors);
}

#[test]
fn json_is_utf8_whatever_the_database_is() {
    for version in [14, 18] {
        let events = lay_out(version, "encoding-latin1").json();
        let insert = events
            .iter()
            .find(|event| event["kind"] == "insert")
            .unwrap();
        assert_eq!(
            (&insert["schema"], &insert["table"]),
            (&"schéma".into(), &"Élève".into())
        );
        let new = &insert["new"];
        assert_eq!(
            (&new["prénom"], &new["h"]),
            (&"Zoë".into(), &"très bien".into())
        );
        assert_eq!(new["j"]["clé"], "à");
        assert_eq!(new["a"], serde_json::json!(["é", "ß ö", null]));
        let events = lay_out(version, "encoding-euc-jp").json();
        let names: Vec<&Value> = events
            .iter()
            .filter(|event| event["kind"] == "insert")
            .map(|event| &event["new"]["値"])
            .collect();
        assert_eq!(names, [&Value::from("ｶﾅ"), &"～∥￤".into(), &"".into()]);
        let events = lay_out(version, "encoding-sql-ascii").json();
        let values: Vec<&Value> = events
            .iter()
            .filter(|event| event["kind"] == "insert")
            .map(|event| &event["new"]["v"])
            .collect();
        let bytes = |base64: &str| serde_json::json!({ "base64": base64 });
        assert_eq!(values[0], "UTF-8: é");
        assert_eq!(values[1], &bytes("TEFUSU4xOiDp"));
        assert_eq!(values[2], &bytes("//6A"));
    }
}
