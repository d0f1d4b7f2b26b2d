//! DDL events as tests hold them: one in a line, and those of each step of a test apart.

use std::collections::{BTreeMap, BTreeSet};

use redostream_testdata::decoder::Decode;
use redostream_testdata::scenario::Recording;
use serde_json::{Map, Value};

use crate::programs;

/// What is run after a step, so that its events can be told from those of the next.
pub(crate) fn mark(step: usize) -> String {
    format!("select pg_logical_emit_message(false, 'step', '{step}')")
}

/// What is decoded, as JSON.
pub(crate) fn decoded(decode: Decode) -> Vec<Value> {
    let decoded = decode.with("--format", "json").try_run().unwrap();
    assert_eq!(decoded.status, Some(0), "{}", decoded.errors);
    let text = String::from_utf8(decoded.printed).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

/// The DDL events of each step, and of what came after the last one, each as `line` writes it.
pub(crate) fn by_step(recording: &Recording, line: fn(&Value) -> String) -> Vec<Vec<String>> {
    let mut found = vec![Vec::new()];
    for event in decoded(recording.decode(&programs::server())) {
        match event["kind"].as_str().unwrap() {
            "ddl" => found.last_mut().unwrap().push(line(&event)),
            "message" if event["prefix"] == "step" => found.push(Vec::new()),
            _ => {}
        }
    }
    found
}

/// One event in a line: what is done to what, and how its structure changes.
pub(crate) fn told(event: &Value) -> String {
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    let qualified = |schema: &str, name: &str| match schema {
        "" => name.to_owned(),
        // Which of the temporary schemas it is depends on the session.
        temporary if temporary.starts_with("pg_temp_") => format!("pg_temp_N.{name}"),
        schema => format!("{schema}.{name}"),
    };
    let name = qualified(text("schema"), text("name"));
    let mut line = format!("{} {} {name}", text("command"), text("object"));
    let was = (text("old_schema"), text("old_name"));
    if was != ("", "") {
        let name = if was.1.is_empty() {
            text("name")
        } else {
            was.1
        };
        line.push_str(&format!(" (was {})", qualified(was.0, name)));
    }
    if let Some(after) = event["after"].as_object() {
        let mut parts = columns(event);
        parts.extend(members(event["before"].as_object(), after, text("object")));
        if !parts.is_empty() {
            line.push_str(&format!(": {}", parts.join(", ")));
        }
    }
    line
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The columns that are others; all of a new table are new, and not listed.
fn columns(event: &Value) -> Vec<String> {
    if event["before"].is_null() {
        return Vec::new();
    }
    let name = |column: &Value| column["name"].as_str().unwrap().to_owned();
    let added = list(&event["columns_added"]).map(|column| format!("+{}", name(column)));
    let dropped = list(&event["columns_dropped"]).map(|column| format!("-{}", name(column)));
    let altered = list(&event["columns_altered"]).map(|change| {
        let (before, after) = (&change["before"], &change["after"]);
        let keys = [before, after].map(|column| column.as_object().unwrap().keys());
        let keys: BTreeSet<&String> = keys.into_iter().flatten().collect();
        let others = keys.iter().filter(|key| before[**key] != after[**key]);
        let others: Vec<&str> = others.map(|key| key.as_str()).collect();
        format!("~{}({})", name(after), others.join(" "))
    });
    added.chain(dropped).chain(altered).collect()
}

/// The members that are others, but for columns and the name.
fn members(
    before: Option<&Map<String, Value>>,
    after: &Map<String, Value>,
    object: &str,
) -> Vec<String> {
    let nothing = Map::new();
    let is_new = before.is_none();
    let before = before.unwrap_or(&nothing);
    let is_table = after.contains_key("columns");
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut parts = Vec::new();
    for key in keys {
        let value = |state: &Map<String, Value>| state.get(key).cloned().unwrap_or_default();
        let (old, new) = (value(before), value(after));
        let named = ["columns", "name", "schema", "oid", "kind"];
        if old == new || named.contains(&key.as_str()) {
            continue;
        }
        let is_empty =
            |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        let usual = key == "replica_identity" || (key == "persistence" && new == "permanent");
        match key.as_str() {
            "constraints" if object != "domain" => parts.extend(by_name("constraint", &old, &new)),
            "indexes" => parts.extend(by_name("index", &old, &new)),
            "primary_key" if new.is_null() => parts.push("no primary key".to_owned()),
            "primary_key" => {
                parts.push(format!("primary key {}", new["name"].as_str().unwrap()));
            }
            _ if is_table && is_empty(&old) && is_empty(&new) => {}
            _ if is_table && is_new && usual => {}
            _ if is_table => {
                let text = new.as_str().map_or_else(|| new.to_string(), str::to_owned);
                parts.push(format!("{key}={text}"));
            }
            _ if is_new => {}
            _ => parts.push(key.clone()),
        }
    }
    parts
}

/// The constraints or indexes that come, go or are others.
fn by_name(what: &str, before: &Value, after: &Value) -> Vec<String> {
    let named = |value: &Value| -> BTreeMap<String, Value> {
        let all = list(value).map(|one| (one["name"].as_str().unwrap().to_owned(), one.clone()));
        all.collect()
    };
    let (before, after) = (named(before), named(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name));
    changed
        .map(|name| {
            let sign = match (before.contains_key(name), after.contains_key(name)) {
                (false, _) => '+',
                (true, false) => '-',
                (true, true) => '~',
            };
            format!("{sign}{what} {name}")
        })
        .collect()
}
