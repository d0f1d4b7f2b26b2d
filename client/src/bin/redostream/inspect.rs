//! What can be asked of a server besides its events: status, probe, describe, subscriptions.

use std::io::Write;

use comfy_table::{Table, presets};
use redostream_client::protocol::control::v1::{StatusReply, SubscriptionInfo};
use serde_json::{Value, json};

use crate::cli::{Connection, Describe, Probe, Shape, Status};
use crate::failure::Failure;

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush());
    written.map_err(Failure::Output)
}

/// Empty text means none.
fn text(value: &str) -> Value {
    if value.is_empty() {
        Value::Null
    } else {
        Value::from(value)
    }
}

fn table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_HORIZONTAL_ONLY)
        .set_header(head);
    table
}

/// `redostream status`.
pub(crate) async fn status(command: &Status) -> Result<(), Failure> {
    let status = command.connection.control().await?.status().await?;
    match command.format {
        Shape::Json => print(&status_json(&status).to_string()),
        Shape::Text => print(&status_text(&status)),
    }
}

fn status_json(status: &StatusReply) -> Value {
    let stages = status.stages.iter().map(|stage| {
        json!({
            "name": stage.name,
            "busy_seconds": stage.busy_seconds,
            "waiting_seconds": stage.waiting_seconds,
        })
    });
    let subscribers = status.subscribers.iter().map(|subscriber| {
        json!({
            "name": text(&subscriber.name),
            "peer": subscriber.peer,
            "position": text(&subscriber.position),
            "acknowledged": text(&subscriber.acknowledged),
            "lag_bytes": subscriber.lag_bytes,
            "sent_bytes": subscriber.sent_bytes,
            "streams": subscriber.streams,
            "state": subscriber.state,
        })
    });
    json!({
        "state": status.state,
        "system_identifier": status.system_identifier,
        "timeline": status.timeline,
        "earliest": text(&status.earliest),
        "received": text(&status.received),
        "decoded": text(&status.decoded),
        "released": text(&status.released),
        "lag_bytes": status.lag_bytes,
        "lag_seconds": status.lag_seconds,
        "waiting_for": status.waiting_for,
        "stages": stages.collect::<Vec<_>>(),
        "subscribers": subscribers.collect::<Vec<_>>(),
        "server_version": status.server_version,
        "open_transactions": status.open_transactions,
        "open_transaction_bytes": status.open_transaction_bytes,
        "spilled_bytes": status.spilled_bytes,
    })
}

fn status_text(status: &StatusReply) -> String {
    let mut facts = table(["what", "value"]);
    let lag = format!("{} bytes, {:.1} s", status.lag_bytes, status.lag_seconds);
    let open = format!(
        "{} ({} bytes, {} spilled)",
        status.open_transactions, status.open_transaction_bytes, status.spilled_bytes
    );
    for (name, value) in [
        ("state", status.state.clone()),
        ("cluster", status.system_identifier.to_string()),
        ("timeline", status.timeline.to_string()),
        ("earliest", status.earliest.clone()),
        ("received", status.received.clone()),
        ("decoded", status.decoded.clone()),
        ("released", status.released.clone()),
        ("lag", lag),
        ("waiting for", status.waiting_for.join(", ")),
        ("open transactions", open),
    ] {
        facts.add_row([name, &value]);
    }
    let mut stages = table(["stage", "busy s", "waiting s"]);
    for stage in &status.stages {
        let (busy, waiting) = (stage.busy_seconds, stage.waiting_seconds);
        stages.add_row([
            stage.name.clone(),
            format!("{busy:.1}"),
            format!("{waiting:.1}"),
        ]);
    }
    let mut subscribers = table(["subscriber", "peer", "state", "position", "lag bytes"]);
    for subscriber in &status.subscribers {
        subscribers.add_row([
            subscriber.name.clone(),
            subscriber.peer.clone(),
            subscriber.state.clone(),
            subscriber.position.clone(),
            subscriber.lag_bytes.to_string(),
        ]);
    }
    let mut out = facts.to_string();
    for more in [stages, subscribers]
        .iter()
        .filter(|table| table.row_count() > 0)
    {
        out.push_str("\n\n");
        out.push_str(&more.to_string());
    }
    out
}

/// `redostream probe`.
pub(crate) async fn probe(command: &Probe) -> Result<(), Failure> {
    let mut control = command.connection.control().await?;
    let from = command.from.to_string();
    let reply = control.probe(&from, command.system_identifier).await?;
    let oldest = if reply.oldest.is_empty() {
        "unknown"
    } else {
        &reply.oldest
    };
    match command.format {
        Shape::Json => print(
            &json!({
                "servable": reply.servable,
                "reason": text(&reply.reason),
                "oldest": text(&reply.oldest),
                "from": text(&reply.from),
            })
            .to_string(),
        )?,
        Shape::Text if reply.servable => {
            print(&format!("{from} can be served, from {}", reply.from))?;
        }
        Shape::Text => {}
    }
    if reply.servable {
        return Ok(());
    }
    let reason = &reply.reason;
    Err(Failure::NotServable(format!(
        "{from} cannot be served: {reason} (oldest position: {oldest})"
    )))
}

/// `redostream describe`.
pub(crate) async fn describe(command: &Describe) -> Result<(), Failure> {
    let mut control = command.connection.control().await?;
    let at = command.at.map(|at| at.to_string()).unwrap_or_default();
    let database = command.database.as_deref().unwrap_or_default();
    let described = control.describe(&command.table, &at, database).await?;
    match (command.format, serde_json::from_str::<Value>(&described)) {
        (Shape::Text, Ok(shape)) => print(&table_text(&shape)),
        _ => print(&described),
    }
}

/// Stands where there is a default whose text cannot be given.
const NOT_KNOWN: &str = "(not known)";

fn table_text(shape: &Value) -> String {
    let plain = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut out = format!("{}.{}", plain(&shape["schema"]), plain(&shape["name"]));
    let mut columns = table([
        "column",
        "type",
        "nullable",
        "default",
        "generated",
        "identity",
    ]);
    for column in shape["columns"].as_array().into_iter().flatten() {
        let parts = [
            "name",
            "type",
            "nullable",
            "default",
            "generated",
            "identity",
        ];
        let unknown = column["default_unknown"] == true;
        columns.add_row(parts.map(|part| match part {
            "default" if unknown => NOT_KNOWN.to_owned(),
            _ => plain(&column[part]),
        }));
    }
    out.push('\n');
    out.push_str(&columns.to_string());
    for part in [
        "primary_key",
        "constraints",
        "indexes",
        "replica_identity",
        "partition_key",
        "partition_of",
        "inherits",
        "persistence",
        "tablespace",
        "options",
        "access_method",
    ] {
        let value = &shape[part];
        let empty = value.is_null()
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(serde_json::Map::is_empty);
        // What nearly every table is goes without saying.
        let usual = part == "persistence" && value == "permanent";
        if !empty && !usual {
            out.push_str(&format!("\n{}: {}", part.replace('_', " "), plain(value)));
        }
    }
    if shape["undecodable"] == true {
        out.push_str(" (its rows cannot be decoded)");
    }
    out
}

/// `redostream subscriptions list`.
pub(crate) async fn list(command: &Status) -> Result<(), Failure> {
    let names = command.connection.control().await?.subscriptions().await?;
    if command.format == Shape::Json {
        let names = names.iter().map(subscription_json).collect::<Vec<_>>();
        return print(&Value::from(names).to_string());
    }
    let mut rows = table(["name", "position", "lsn", "connected"]);
    for info in names {
        let connected = if info.connected { "yes" } else { "no" };
        rows.add_row([info.name, info.position, info.lsn, connected.to_owned()]);
    }
    print(&rows.to_string())
}

fn subscription_json(info: &SubscriptionInfo) -> Value {
    json!({
        "name": info.name,
        "position": text(&info.position),
        "lsn": text(&info.lsn),
        "connected": info.connected,
        "acknowledged_at_us": info.acknowledged_at_us,
    })
}

/// `redostream subscriptions drop`.
pub(crate) async fn forget(name: &str, connection: &Connection) -> Result<(), Failure> {
    connection.control().await?.drop_subscription(name).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_as_text_says_what_is_unusual_and_what_is_not_known() {
        let column = |name: &str| {
            json!({
                "name": name, "type": "integer", "nullable": true, "default": null,
                "generated": null, "identity": null,
            })
        };
        let mut shape = json!({
            "schema": "public", "name": "t", "columns": [column("a"), column("b")],
            "primary_key": null, "constraints": [], "indexes": [], "replica_identity": "default",
            "persistence": "permanent", "options": [],
        });
        let usual = table_text(&shape);
        assert!(usual.ends_with("\nreplica identity: default"), "{usual}");
        assert!(!usual.contains(NOT_KNOWN), "{usual}");
        shape["columns"][1]["default_unknown"] = true.into();
        shape["persistence"] = "unlogged".into();
        shape["tablespace"] = "fast".into();
        shape["access_method"] = "columns".into();
        shape["undecodable"] = true.into();
        let unusual = table_text(&shape);
        assert_eq!(unusual.matches(NOT_KNOWN).count(), 1, "{unusual}");
        let end = "\npersistence: unlogged\ntablespace: fast\n\
                   access method: columns (its rows cannot be decoded)";
        assert!(unusual.ends_with(end), "{unusual}");
    }
}
