//! Records the cases of `cases/` on real servers into `recorded/`.
//!
//! One base per version is kept and every case is recorded from a fresh copy of it, so that a
//! case is only its WAL and the expected output. A new base makes every case of that version
//! worthless, so it is made only when there is none.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::case_file::{CaseFile, Part, Stage};
use crate::cluster::{Cluster, ClusterOptions, Stop, stdin_of};
use crate::files::is_wal_file;
use crate::next_oid::set_next_oid;
use crate::recorded::{Facts, base_path, recorded_dir, unpack_base};
use crate::scenario::{Recording, Scenario};
use crate::server::Server;

/// The database of all cases.
const DATABASE: &str = "app";

/// How each version's base is made: the forms that a directory can have are spread over them.
fn base_options(major: u32) -> ClusterOptions {
    let segment_mib = match major {
        14 => 1,
        17 => 4,
        _ => 16,
    };
    ClusterOptions {
        segment_mib,
        checksums: matches!(major, 16 | 18),
        ..ClusterOptions::default()
    }
}

/// Where the cases' SQL is.
pub fn cases_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

/// The names of all cases that are written, in order.
///
/// # Errors
/// When the directory cannot be read.
pub fn written_cases() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(cases_dir())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(stem) = name.strip_suffix(".sql") {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Reads a case.
///
/// # Errors
/// When there is none of that name or it cannot be understood.
pub fn read_case(name: &str) -> Result<CaseFile> {
    let path = cases_dir().join(format!("{name}.sql"));
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    CaseFile::parse(&text).with_context(|| path.display().to_string())
}

/// Makes and keeps a version's base, unless there is one.
///
/// # Errors
/// When the server fails or the archive cannot be written.
pub fn ensure_base(server: &Server) -> Result<()> {
    let path = base_path(server.major);
    if path.is_file() {
        return Ok(());
    }
    let options = base_options(server.major).with("wal_recycle", "off");
    let mut cluster = Cluster::create(server.clone(), &options)?;
    cluster.start()?;
    cluster.sql(
        "postgres",
        &format!("create database {DATABASE} template template0"),
    )?;
    // A case's first segment then begins almost empty.
    let segment = cluster.sql(
        "postgres",
        "vacuum; select pg_switch_wal() is null; checkpoint; select pg_walfile_name(pg_current_wal_insert_lsn())",
    )?;
    let segment = segment.lines().last().unwrap_or_default().to_owned();
    cluster.stop(Stop::Fast)?;
    // Settings of this machine are no part of it; a server started from it brings its own.
    fs::write(cluster.data().join("postgresql.conf"), "")?;
    let unwanted = ["postmaster.opts", "postmaster.pid"];
    let files = pack(cluster.data(), &|name| {
        !unwanted.contains(&name) && (!is_wal_file(name) || name == segment)
    })?;
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    compress(&files, &path)
}

/// Records one case on one version. Gives the bytes it takes.
///
/// # Errors
/// When the server or a part of the case fails, or the files cannot be written.
pub fn record(server: &Server, name: &str) -> Result<u64> {
    let case = read_case(name)?;
    let unpacked = tempfile::tempdir()?;
    unpack_base(server.major, unpacked.path())?;
    let base = base_options(server.major);
    let mut options = ClusterOptions::default()
        .with("wal_recycle", "off")
        .with("full_page_writes", "off")
        .with("autovacuum", "off");
    options.settings.extend(case.settings.clone());
    let mut scenario = Scenario::from_directory(server.clone(), unpacked.path(), &options)?;
    let database = match &case.database {
        None => DATABASE,
        Some((name, options)) => {
            make_database(&scenario.cluster, name, options)?;
            name
        }
    };
    scenario.judge(database)?;
    let segment_bytes = u64::from(base.segment_mib) << 20;
    let mut open = Vec::new();
    for stage in &case.stages {
        match stage {
            Stage::Parts(parts) => run_parts(&scenario, parts)?,
            Stage::Open(sql) => {
                let mut session = scenario.cluster.session(database)?;
                session.run(sql)?;
                open.push(session);
            }
            Stage::Crash => {
                scenario.cluster.restart(Stop::Immediate)?;
                open.clear();
            }
            Stage::NextOid(oid) => {
                open.clear();
                scenario.cluster.stop(Stop::Fast)?;
                set_next_oid(scenario.cluster.data(), segment_bytes, *oid)?;
                scenario.cluster.start()?;
            }
        }
    }
    drop(open);
    let recording = scenario.finish()?;
    let facts = Facts {
        database: database.to_owned(),
        end: recording.end.clone(),
        segment_bytes,
        server_version: server.version_text()?,
        settings: case.settings,
        lines: recording
            .expected
            .iter()
            .filter(|byte| **byte == b'\n')
            .count(),
    };
    keep(server.major, name, &recording, &facts)
}

/// Makes a case's own database. Its files are copied, since a copy through the log is large.
fn make_database(cluster: &Cluster, name: &str, options: &str) -> Result<()> {
    let strategy = match cluster.server.major {
        14 => "",
        _ => "strategy file_copy",
    };
    let sql = format!("create database {name} template template0 {options} {strategy}");
    cluster.sql("postgres", &sql).map(drop)
}

fn run_parts(scenario: &Scenario, parts: &[Part]) -> Result<()> {
    let database = &scenario.database;
    let mut running = Vec::new();
    for part in parts {
        let mut command = match part {
            Part::Session(sql) => {
                let mut psql = scenario.cluster.psql(database);
                psql.args(["-f", "-"]).stdin(stdin_of(sql)?);
                psql
            }
            Part::Pgbench { options, script } => {
                let mut pgbench = scenario.cluster.client("pgbench", database);
                pgbench.args(options);
                if !options.iter().any(|option| option == "-i") {
                    pgbench.args(["--random-seed", "1"]);
                }
                if !script.trim().is_empty() {
                    pgbench.args(["-f", "/dev/stdin"]);
                }
                pgbench.stdin(stdin_of(script)?);
                pgbench
            }
        };
        let errors = tempfile::NamedTempFile::new()?;
        command.stdout(Stdio::null()).stderr(errors.reopen()?);
        running.push((
            command.spawn().context("cannot run psql or pgbench")?,
            errors,
        ));
    }
    for (mut child, errors) in running {
        let status = child.wait()?;
        let errors = String::from_utf8_lossy(&fs::read(errors.path())?).into_owned();
        // Some statements are meant to fail; a person recording a new case wants to see which.
        for line in errors.lines().filter(|line| line.contains("ERROR:")) {
            eprintln!("{line}");
        }
        ensure!(
            status.success(),
            "a session of the case ended with {status}: {errors}\n{}",
            scenario.cluster.log_tail()
        );
    }
    Ok(())
}

fn keep(major: u32, name: &str, recording: &Recording, facts: &Facts) -> Result<u64> {
    let dir = recorded_dir().join(major.to_string()).join(name);
    fs::create_dir_all(&dir)?;
    for entry in fs::read_dir(&recording.wal)? {
        cut_zero_tail(&entry?.path())?;
    }
    let files = pack(&recording.wal, &|_| true)?;
    compress(&files, &dir.join("wal.tar.zst"))?;
    let expected = tempfile::NamedTempFile::new()?;
    fs::write(expected.path(), &recording.expected)?;
    compress(expected.path(), &dir.join("expected.txt.zst"))?;
    fs::write(
        dir.join("case.json"),
        serde_json::to_string_pretty(facts)? + "\n",
    )?;
    let mut bytes = 0;
    for entry in fs::read_dir(&dir)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

/// Cuts the zeros at a segment's end, which unpacking brings back.
fn cut_zero_tail(segment: &Path) -> Result<()> {
    let bytes = fs::read(segment)?;
    let used = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    if used == 0 {
        // Preallocated and never reached.
        return Ok(fs::remove_file(segment)?);
    }
    Ok(fs::OpenOptions::new()
        .write(true)
        .open(segment)?
        .set_len(used as u64)?)
}

/// Packs a directory into a tar file, without owners and times so that it depends on its
/// content alone.
fn pack(dir: &Path, keep: &dyn Fn(&str) -> bool) -> Result<tempfile::TempPath> {
    fn add(
        tar: &mut tar::Builder<&mut fs::File>,
        dir: &Path,
        below: &Path,
        keep: &dyn Fn(&str) -> bool,
    ) -> Result<()> {
        let mut entries: Vec<_> = fs::read_dir(dir.join(below))?.collect::<std::io::Result<_>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                tar.append_dir(&path, entry.path())?;
                add(tar, dir, &path, keep)?;
            } else if keep(&entry.file_name().to_string_lossy()) {
                tar.append_path_with_name(entry.path(), &path)?;
            }
        }
        Ok(())
    }
    let mut packed = tempfile::NamedTempFile::new()?;
    let mut tar = tar::Builder::new(packed.as_file_mut());
    tar.mode(tar::HeaderMode::Deterministic);
    add(&mut tar, dir, Path::new(""), keep)?;
    tar.into_inner()?.flush()?;
    Ok(packed.into_temp_path())
}

fn compress(from: &Path, to: &Path) -> Result<()> {
    // The window stays below what the decoder in Rust allows.
    let status = Command::new("zstd")
        .args(["-q", "-f", "-19", "--long=26", "-T1"])
        .arg(from)
        .arg("-o")
        .arg(to)
        .stdin(Stdio::null())
        .status()
        .context("cannot run zstd, which recording needs")?;
    ensure!(status.success(), "zstd failed for {}", to.display());
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(to, fs::Permissions::from_mode(0o644))?;
    Ok(())
}
