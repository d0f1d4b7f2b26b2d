//! `redostream-server check`: what is wrong before anything is started, and how to mend it.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use redostream_engine::catalog::bootstrap::{DataDirectory, Finding, Severity, findings};
use redostream_protocol::Lsn;

use crate::cli::{CheckArguments, Shape};
use crate::exit::Failure;
use crate::upstream::{Connection, Conninfo, Purpose, UpstreamError};

/// How far the upstream's clock may be from ours.
const CLOCK_SECONDS_MAX: f64 = 5.0;

/// Runs the command.
pub(crate) fn run(arguments: &CheckArguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Runtime(error.to_string()))?;
    let mut found = findings(&arguments.pgdata, arguments.upstream.is_some());
    let directory = DataDirectory::open(&arguments.pgdata).ok();
    if let Some(conninfo) = &arguments.upstream {
        runtime.block_on(upstream(
            arguments,
            conninfo,
            directory.as_ref(),
            &mut found,
        ));
    }
    state(arguments, &mut found);
    if let Some(directory) = &directory {
        wal_of_state(arguments, directory, &mut found);
    }
    match arguments.format {
        Shape::Json => {
            let text = serde_json::to_string(&found);
            println!(
                "{}",
                text.map_err(|error| Failure::Runtime(error.to_string()))?
            );
        }
        Shape::Text => print(&found),
    }
    let wrong = found.iter().filter(|one| one.severity > Severity::Note);
    match wrong.count() {
        0 => Ok(()),
        count => Err(Failure::Runtime(format!("{count} things to look at"))),
    }
}

fn print(found: &[Finding]) {
    for one in found {
        let severity = match one.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        println!("{severity}: {} [{}]", one.what, one.id);
        if one.severity > Severity::Note {
            println!("    {}", one.remedy);
        }
    }
}

fn finding(id: &str, severity: Severity, what: impl Into<String>, remedy: &str) -> Finding {
    Finding {
        id: id.to_owned(),
        severity,
        what: what.into(),
        remedy: remedy.to_owned(),
    }
}

/// An error says what, and, after the last semicolon, what to do.
fn of_error(id: &str, error: &UpstreamError) -> Finding {
    let text = error.to_string();
    let (what, remedy) = text.rsplit_once("; ").unwrap_or((&text, "see there"));
    finding(id, Severity::Error, what, remedy)
}

async fn upstream(
    arguments: &CheckArguments,
    conninfo: &str,
    directory: Option<&DataDirectory>,
    found: &mut Vec<Finding>,
) {
    let conninfo = match Conninfo::parse(conninfo) {
        Ok(conninfo) => conninfo,
        Err(error) => {
            let what = error.to_string();
            let remedy = "mend the connection string";
            found.push(finding("upstream", Severity::Error, what, remedy));
            return;
        }
    };
    let mut connection = match Connection::open(&conninfo, Purpose::Replication).await {
        Ok(connection) => connection,
        Err(error) => {
            let id = match error {
                UpstreamError::NoPrivilege { .. } => "upstream-privilege",
                _ => "upstream",
            };
            found.push(of_error(id, &error));
            return;
        }
    };
    if let Err(error) = ask(arguments, &mut connection, &conninfo, directory, found).await {
        found.push(of_error("upstream", &error));
    }
    connection.close().await;
    clock(&conninfo, found).await;
}

async fn ask(
    arguments: &CheckArguments,
    connection: &mut Connection,
    conninfo: &Conninfo,
    directory: Option<&DataDirectory>,
    found: &mut Vec<Finding>,
) -> Result<(), UpstreamError> {
    let major = connection.major_version()?;
    let identity = connection.identify_system().await?;
    if let Some(directory) = directory {
        let ours = directory.control().system_identifier;
        if ours != identity.system_identifier {
            let what = format!(
                "the upstream is cluster {}, {} belongs to cluster {ours}",
                identity.system_identifier,
                directory.root().display()
            );
            let remedy = "point --upstream and --pgdata at the same cluster";
            found.push(finding("upstream-cluster", Severity::Error, what, remedy));
        }
    }
    if let Err(error) = connection.check_wal_level().await
        && found.iter().all(|one| one.id != "wal-level")
    {
        found.push(of_error("wal-level", &error));
    }
    let synchronous = connection.show("synchronous_standby_names").await?;
    if synchronous.contains('*') {
        let what = format!("synchronous_standby_names is '{synchronous}' on the upstream");
        let remedy = "name the real standbys there: this server could be taken for one";
        found.push(finding("synchronous", Severity::Warning, what, remedy));
    }
    let Some(slot) = &arguments.slot else {
        let what = "no replication slot is named";
        let remedy = "give --slot, or an archive: the upstream removes WAL as it likes otherwise";
        let severity = if arguments.archive.is_some() || arguments.restore_command.is_some() {
            Severity::Note
        } else {
            Severity::Warning
        };
        found.push(finding("slot", severity, what, remedy));
        return Ok(());
    };
    match connection.read_slot(slot, conninfo).await {
        Ok(Some(Some(lsn))) => {
            let what = format!("replication slot {slot} keeps WAL from {lsn} on");
            found.push(finding("slot", Severity::Note, what, "nothing to do"));
        }
        Ok(Some(None)) => {
            let what = format!("replication slot {slot} keeps no WAL");
            let remedy = "drop it if it was invalidated; serve makes a new one";
            found.push(finding("slot", Severity::Warning, what, remedy));
        }
        Ok(None) => {
            let what = format!("replication slot {slot} does not exist yet");
            found.push(finding("slot", Severity::Note, what, "serve makes it"));
            if connection.show("max_replication_slots").await? == "0" {
                let what = "max_replication_slots is 0 on the upstream";
                let remedy = "raise it there and restart it";
                found.push(finding("max-slots", Severity::Error, what, remedy));
            }
        }
        Err(error) => found.push(of_error("slot", &error)),
    }
    if major >= 18 && connection.show("idle_replication_slot_timeout").await? != "0" {
        let what = "idle_replication_slot_timeout is set on the upstream";
        let remedy = "make it longer than this server may ever be down: the slot is given up then";
        found.push(finding("slot-timeout", Severity::Warning, what, remedy));
    }
    Ok(())
}

async fn clock(conninfo: &Conninfo, found: &mut Vec<Finding>) {
    // It takes an ordinary connection, which need not be allowed.
    let Ok(mut connection) = Connection::open(conninfo, Purpose::Queries).await else {
        return;
    };
    let theirs = connection.clock_seconds().await;
    connection.close().await;
    let ours = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    if let Ok(theirs) = theirs {
        let apart = (theirs - ours.as_secs_f64()).abs();
        if apart > CLOCK_SECONDS_MAX {
            let what = format!("the upstream's clock is {apart:.0} s away from this machine's");
            let remedy = "set both by NTP: lag in seconds is wrong otherwise";
            found.push(finding("clock", Severity::Warning, what, remedy));
        }
    }
}

/// Whether the state directory can be used.
fn state(arguments: &CheckArguments, found: &mut Vec<Finding>) {
    let Some(state) = &arguments.state else {
        return;
    };
    let remedy = "let the account that runs this program write there";
    if !state.exists() {
        let parent = state
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        if parent.is_some_and(|parent| !parent.is_dir()) {
            let what = format!("{} cannot be made: its parent is missing", state.display());
            found.push(finding("state", Severity::Error, what, "make it"));
        }
        return;
    }
    let probe = state.join(".check");
    let written = std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe));
    if let Err(error) = written {
        let what = format!("{} cannot be written to: {error}", state.display());
        found.push(finding("state", Severity::Error, what, remedy));
    }
}

/// Whether the WAL is at hand from which the last restart point goes on.
fn wal_of_state(arguments: &CheckArguments, directory: &DataDirectory, found: &mut Vec<Finding>) {
    let Some(state) = &arguments.state else {
        return;
    };
    let names = |directory: &Path| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.collect::<Vec<String>>()
    };
    let points = names(state);
    let points = points.iter().filter_map(|name| {
        let hex = name
            .strip_prefix("restart-")
            .filter(|hex| hex.len() == 16)?;
        u64::from_str_radix(hex, 16).ok()
    });
    let segment_bytes = u64::from(directory.control().segment_bytes);
    let (Some(lsn), Some(of_id)) = (points.max(), (1_u64 << 32).checked_div(segment_bytes)) else {
        return;
    };
    let number = lsn / segment_bytes;
    // Of whichever timeline.
    let ending = format!("{:08X}{:08X}", number / of_id, number % of_id);
    let mut places = vec![directory.root().join("pg_wal")];
    places.extend(arguments.archive.iter().cloned());
    let is_it = |name: &String| name.len() == 24 && name.ends_with(&ending);
    if places.iter().any(|place| names(place).iter().any(is_it)) {
        return;
    }
    let places: Vec<String> = places
        .iter()
        .map(|place| place.display().to_string())
        .collect();
    let what = format!(
        "the last restart point in {} goes on from {}, and its WAL segment (..{ending}) is not in {}",
        state.display(),
        Lsn(lsn),
        places.join(" or ")
    );
    let (severity, remedy) = match arguments.restore_command {
        Some(_) => (Severity::Note, "the restore command has to fetch it"),
        None => (
            Severity::Error,
            "give the archive that has it, or begin with an empty state directory, which loses the place of every subscriber",
        ),
    };
    found.push(finding("wal-missing", severity, what, remedy));
}
