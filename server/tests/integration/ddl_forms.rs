//! Every form of `ALTER TABLE`, and of what renames, attaches, links and drops: which events each
//! causes, in which order, and what of the structure is another in them, on servers of every
//! version. That the structures are the server's own is held by the engine's tests, with the same
//! statements.

use std::collections::{BTreeMap, BTreeSet};

use redostream_testdata::cluster::ClusterOptions;
use redostream_testdata::scenario::Scenario;
use redostream_testdata::server::{MAJORS, Server};
use redostream_testdata::statements;
use serde_json::{Map, Value};

use crate::programs;

/// One event in a line: what is done to what, and how its structure changes.
fn told(event: &Value) -> String {
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

fn every_form_is_told(major: u32) {
    let Some(server) = Server::for_test(major) else {
        return;
    };
    let statements = statements::tables(major);
    let scenario = Scenario::start(server, &ClusterOptions::default()).unwrap();
    let mut session = scenario.cluster.session("app").unwrap();
    let mut failed = String::new();
    for (number, statement) in statements.iter().enumerate() {
        let mark = format!("select pg_logical_emit_message(false, 'step', '{number}')");
        let sql = format!("{};\n\\echo :ERROR\n{mark} \\g /dev/null", statement.sql);
        let said = session.run(&sql).unwrap();
        if !said.ends_with("false") {
            failed.push_str(&format!("{}: {said}\n", statement.sql));
        }
    }
    drop(session);
    assert!(failed.is_empty(), "PostgreSQL {major}\n{failed}");
    let recording = scenario.finish().unwrap();
    recording.check(&programs::server(), &[1]).unwrap();
    let decode = recording.decode(&programs::server());
    let decoded = decode.with("--format", "json").try_run().unwrap();
    assert_eq!(decoded.status, Some(0), "{}", decoded.errors);
    let mut found = vec![Vec::new()];
    for line in std::str::from_utf8(&decoded.printed).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        match event["kind"].as_str().unwrap() {
            "ddl" => found.last_mut().unwrap().push(told(&event)),
            "message" if event["prefix"] == "step" => found.push(Vec::new()),
            _ => {}
        }
    }
    assert_eq!(found.len(), statements.len() + 1);
    let mut wrong = String::new();
    for (statement, found) in statements.iter().zip(&found) {
        if *found != statement.told {
            let (sql, told) = (&statement.sql, statement.told.join("\n       "));
            let found = found.join("\n       ");
            wrong.push_str(&format!("{sql}\n  said {found}\n  not  {told}\n"));
        }
    }
    assert!(wrong.is_empty(), "PostgreSQL {major}\n{wrong}");
}

#[test]
fn every_form_is_told_by_every_version() {
    for major in MAJORS {
        every_form_is_told(major);
    }
}
