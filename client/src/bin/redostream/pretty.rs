//! The form for people: a line for each transaction, below it a line for each change.
//!
//! Takes the JSON lines of `--format json`, so both say the same.

use std::fmt::{self, Write};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// Characters of a value that are shown.
const VALUE_CHARS_MAX: usize = 60;

/// Members of an object, in their order.
#[derive(Default)]
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or null")
            }

            fn visit_unit<E>(self) -> Result<Members, E> {
                Ok(Members::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_any(InOrder)
    }
}

/// What is shown of a line.
#[derive(Deserialize)]
struct Line {
    kind: String,
    #[serde(default)]
    position: String,
    #[serde(default)]
    xid: Value,
    #[serde(default)]
    commit_time: Option<String>,
    #[serde(default)]
    database: Option<String>,
    #[serde(default)]
    schema: Option<Value>,
    #[serde(default)]
    table: Option<Value>,
    #[serde(default)]
    name: Option<Value>,
    #[serde(default)]
    new: Members,
    #[serde(default)]
    old: Members,
    #[serde(default)]
    tables: Vec<Table>,
    #[serde(default)]
    command: Option<String>,
    #[serde(default)]
    prefix: Option<Value>,
    #[serde(default)]
    content: Option<Value>,
    #[serde(default)]
    last_value: Option<Value>,
}

#[derive(Deserialize)]
struct Table {
    schema: Value,
    table: Value,
}

/// The renderer.
pub(crate) struct Pretty {
    colours: bool,
}

impl Pretty {
    pub(crate) const fn new(colours: bool) -> Self {
        Pretty { colours }
    }

    /// Appends what `text`, JSON lines, says.
    pub(crate) fn lines(&self, text: &[u8], out: &mut Vec<u8>) {
        for line in text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            match serde_json::from_slice::<Line>(line) {
                Ok(parsed) => out.extend_from_slice(self.line(&parsed).as_bytes()),
                // Nothing is left out for being strange.
                Err(_) => out.extend_from_slice(line),
            }
            out.push(b'\n');
        }
    }

    fn line(&self, line: &Line) -> String {
        let name = |schema: &Option<Value>, name: &Option<Value>| {
            let parts = [schema, name].map(|part| part.as_ref().map(plain));
            parts.into_iter().flatten().collect::<Vec<_>>().join(".")
        };
        match line.kind.as_str() {
            "begin" => {
                let time = line.commit_time.as_deref().unwrap_or_default();
                let database = line.database.as_deref().unwrap_or_default();
                let title = self.paint("1", &format!("transaction {}", line.xid));
                format!(
                    "{title} {database} {time} {}",
                    self.paint("2", &line.position)
                )
            }
            "commit" => self.paint("2", &format!("commit {} {}", line.xid, line.position)),
            "truncate" => {
                let tables = line
                    .tables
                    .iter()
                    .map(|table| format!("{}.{}", plain(&table.schema), plain(&table.table)));
                let tables = tables.collect::<Vec<_>>().join(", ");
                format!("  {} {tables}", self.paint("35", "truncate"))
            }
            "ddl" => {
                let command = line.command.as_deref().unwrap_or("ddl");
                format!(
                    "  {} {}",
                    self.paint("36", command),
                    name(&line.schema, &line.name)
                )
            }
            "message" => {
                let shown = |value: &Option<Value>| value.as_ref().map(value_text);
                let prefix = shown(&line.prefix).unwrap_or_default();
                let content = shown(&line.content).unwrap_or_default();
                format!("  {} {prefix} {content}", self.paint("36", "message"))
            }
            "sequence" => {
                let table = line.table.clone().or_else(|| line.name.clone());
                let value = line.last_value.as_ref().map(value_text).unwrap_or_default();
                format!(
                    "  {} {} {value}",
                    self.paint("36", "sequence"),
                    name(&line.schema, &table)
                )
            }
            kind => self.row(kind, &name(&line.schema, &line.table), line),
        }
    }

    fn row(&self, kind: &str, table: &str, line: &Line) -> String {
        let colour = match kind {
            "insert" => "32",
            "update" => "33",
            _ => "31",
        };
        let mut out = format!("  {} {}", self.paint(colour, kind), self.paint("1", table));
        let mut members = |members: &Members| {
            for (name, value) in &members.0 {
                // Writing to a string cannot fail.
                let _ = write!(
                    out,
                    " {}{}",
                    self.paint("2", &format!("{name}=")),
                    value_text(value)
                );
            }
        };
        if line.new.0.is_empty() {
            members(&line.old);
        } else {
            members(&line.new);
        }
        out
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A name without quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        other => other.to_string(),
    }
}

/// A value, shortened.
fn value_text(value: &Value) -> String {
    let text = match value {
        Value::String(text) => format!("'{}'", printable(text)),
        other => other.to_string(),
    };
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Data must not steer the terminal.
fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    let escape = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(line: &str) -> String {
        let mut out = Vec::new();
        Pretty::new(false).lines(line.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rows_are_one_line_in_column_order() {
        let line = r#"{"position":"1:0/1:0/1:0","kind":"insert","xid":7,"schema":"public","table":"t","new":{"b":1,"a":"x\u001b[2J","c":null}}"#;
        assert_eq!(show(line), "  insert public.t b=1 a='x\\u{1b}[2J' c=null\n");
    }

    #[test]
    fn transactions_have_a_header() {
        let line = r#"{"position":"1:0/1:0/0:0","kind":"begin","xid":7,"database":"d","commit_time":"2026-01-01T00:00:00.000000Z"}"#;
        assert_eq!(
            show(line),
            "transaction 7 d 2026-01-01T00:00:00.000000Z 1:0/1:0/0:0\n"
        );
    }

    #[test]
    fn colours_are_asked_for() {
        let mut out = Vec::new();
        let line = br#"{"kind":"delete","schema":"s","table":"t","old":{"id":1}}"#;
        Pretty::new(true).lines(line, &mut out);
        assert!(out.starts_with(b"  \x1b[31mdelete\x1b[0m "));
    }
}
