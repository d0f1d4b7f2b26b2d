//! Records values from a real server: their bytes as `pageinspect` shows them on a heap page, and
//! what the server itself prints for them. Nothing of this project takes part.
//!
//! `cargo test -p redostream-protocol --test main record -- --ignored` records anew; the binaries
//! are found in `REDOSTREAM_PG14_BIN` to `REDOSTREAM_PG18_BIN`, `psql` beside those of 15.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where recorded cases are kept.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/values")
}

fn binaries(major: u16) -> Option<PathBuf> {
    let folder = std::env::var_os(format!("REDOSTREAM_PG{major}_BIN")).map_or_else(
        || format!("/usr/lib/postgresql/{major}/bin").into(),
        PathBuf::from,
    );
    folder.join("postgres").exists().then_some(folder)
}

/// A server in a folder of its own, stopped when this goes away.
struct Server {
    binaries: PathBuf,
    folder: PathBuf,
}

/// A program that PostgreSQL refuses to run as root, run as `postgres` if that is who we are.
fn unprivileged(program: &Path) -> Command {
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|id| id.stdout == b"0\n");
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}

fn run(command: &mut Command) {
    let status = command
        .current_dir("/")
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

impl Server {
    fn start(binaries: PathBuf, major: u16) -> Self {
        let folder = PathBuf::from(format!(
            "/tmp/redostream-record-{major}-{}",
            std::process::id()
        ));
        let server = Server { binaries, folder };
        let program = |name: &str| unprivileged(&server.binaries.join(name));
        let data = server.folder.join("data");
        run(unprivileged(Path::new("mkdir")).arg(&server.folder));
        run(program("initdb").arg("-D").arg(&data).args([
            "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8", "-N",
        ]));
        let options = format!(
            "-c listen_addresses= -c fsync=off -k {}",
            server.folder.display()
        );
        run(program("pg_ctl")
            .args(["-w", "-o", &options, "-l"])
            .arg(server.folder.join("log"))
            .arg("-D")
            .arg(&data)
            .arg("start"));
        server
    }

    fn query(&self, sql: &str) -> String {
        let psql = binaries(15).expect("psql of 15").join("psql");
        let mut child = Command::new(psql)
            .args(["-X", "-At", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(&self.folder)
            .env("PGOPTIONS", "-c search_path= -c client_min_messages=notice")
            .env("PGCLIENTENCODING", "UTF8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(sql.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{sql}");
        // 14 prints a "char" beyond ASCII as it is.
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = unprivileged(&self.binaries.join("pg_ctl"))
            .arg("-D")
            .arg(self.folder.join("data"))
            .args(["-m", "immediate", "stop"])
            .current_dir("/")
            .stdout(Stdio::null())
            .status();
        if stopped.is_ok_and(|status| status.success()) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// The statements that record every case, one line of output each.
fn statements() -> String {
    let cases = std::fs::read_to_string(folder().join("cases.txt")).unwrap();
    let mut sql = String::new();
    let (mut data_type, mut zone) = ("", "UTC");
    let literal = |text: &str| format!("$case${text}$case$");
    for line in cases.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("== ") {
            data_type = name;
        } else if let Some(name) = line.strip_prefix('@') {
            zone = name;
        } else if !line.is_empty() {
            let [data_type, expression, zone] = [data_type, line, zone].map(literal);
            sql.push_str(&format!(
                "select public.record({data_type}, {expression}, {zone});\n"
            ));
        }
    }
    sql
}

fn record(major: u16) {
    let Some(found) = binaries(major) else {
        println!("skipped: no PostgreSQL {major}; name its binaries in REDOSTREAM_PG{major}_BIN");
        return;
    };
    let server = Server::start(found, major);
    server.query(&std::fs::read_to_string(folder().join("setup.sql")).unwrap());
    let values: Vec<String> = server
        .query(&statements())
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    let types = server.query("select row_to_json(d) from public.described d order by oid");
    let types = super::recorded_values::reachable(&types, &values);
    let lines = |lines: &[String]| lines.join("\n") + "\n";
    let write = |name: String, lines: String| std::fs::write(folder().join(name), lines).unwrap();
    write(format!("{major}.types.jsonl"), lines(&types));
    write(format!("{major}.values.jsonl"), lines(&values));
    println!("{major}: {} values of {} types", values.len(), types.len());
}

#[test]
#[ignore = "starts servers and rewrites the recorded cases"]
fn record_values() {
    for major in 14..=18 {
        record(major);
    }
}
