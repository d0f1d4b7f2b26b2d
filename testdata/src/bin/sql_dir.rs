//! Runs every SQL file, or isolation spec, of a directory on a real server, in one database, and
//! holds the decoder's output against the server's.
//!
//! Meant for PostgreSQL's own regression tests: `--sql-dir src/test/regress/sql` of a source
//! tree. Where a `parallel_schedule` stands beside the directory its order is followed, one
//! file after the other; `PG_ABS_SRCDIR` and `PG_LIBDIR` are set as `pg_regress` sets them.
//! Errors are expected: what they leave must be decoded like anything else.
//!
//! Isolation specs (`--sql-dir src/test/isolation/specs --tester .../isolationtester`) run several
//! sessions against each other in every order that they name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Parser;
use redostream_testdata::cluster::ClusterOptions;
use redostream_testdata::compare::{compare, lines_that_differ};
use redostream_testdata::scenario::{Recording, Scenario};
use redostream_testdata::server::Server;

/// Runs a directory of SQL files and compares what is decoded.
#[derive(Debug, Parser)]
struct Arguments {
    /// Major version of the server.
    #[arg(long, default_value_t = 15)]
    version: u32,
    /// Directory with the SQL files; the server's user must be able to read it.
    #[arg(long)]
    sql_dir: PathBuf,
    /// Only these files, without .sql, in this order.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Files to leave out.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "tablespace,largeobject,create_function_c"
    )]
    skip: Vec<String>,
    /// Directory with the server's test library, where there is one.
    #[arg(long)]
    lib_dir: Option<PathBuf>,
    /// PostgreSQL's isolationtester; then the files are specs.
    #[arg(long)]
    tester: Option<PathBuf>,
    /// The decoder; by default redostream-server beside this program.
    #[arg(long)]
    server_bin: Option<PathBuf>,
    /// Numbers of decoders to try.
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    decoders: Vec<u32>,
    /// Keep base and WAL, and say where.
    #[arg(long)]
    keep: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let server = Server::find(arguments.version)?;
    let program = match &arguments.server_bin {
        Some(program) => program
            .canonicalize()
            .with_context(|| program.display().to_string())?,
        None => std::env::current_exe()?.with_file_name("redostream-server"),
    };
    let sql_dir = arguments
        .sql_dir
        .canonicalize()
        .with_context(|| arguments.sql_dir.display().to_string())?;
    let names = if arguments.only.is_empty() {
        let tester = arguments.tester.is_some();
        order(&sql_dir, if tester { ".spec" } else { ".sql" })?
    } else {
        arguments.only.clone()
    };
    let scenario = Scenario::start(server, &ClusterOptions::default())?;
    scenario.sql(SETUP)?;
    for name in names.iter().filter(|name| !arguments.skip.contains(name)) {
        match &arguments.tester {
            Some(tester) => run_spec(&scenario, tester, &sql_dir.join(format!("{name}.spec")))?,
            None => run_file(&scenario, &sql_dir, name, arguments.lib_dir.as_deref())?,
        }
    }
    let recording = scenario.finish()?;
    println!(
        "{} files, {} bytes expected",
        names.len(),
        recording.expected.len()
    );
    let mut differing = 0;
    for count in &arguments.decoders {
        differing += judge(&recording, &program, *count)?;
    }
    if arguments.keep {
        println!("kept in {}", recording.keep()?.display());
    }
    if differing > 0 {
        bail!("the decoder and the server differ");
    }
    Ok(())
}

/// Decodes with so many decoders, tells what came of it, and gives the server's lines that are not
/// ours.
fn judge(recording: &Recording, program: &Path, decoders: u32) -> Result<usize> {
    let run = recording
        .decode(program)
        .with("--decoders", decoders.to_string());
    let decoded = run.run()?;
    eprint!("{}", decoded.errors);
    let lines = recording.expected.split(|byte| *byte == b'\n').count() - 1;
    let differing = match compare(&recording.expected, &decoded.printed) {
        Ok(_) => 0,
        Err(difference) => {
            println!("{}\n{difference}", run.command_line());
            // A line of ours stands for one of the server's, unless there are more of one side.
            lines_that_differ(&recording.expected, &decoded.printed).div_ceil(2)
        }
    };
    println!("decoders {decoders}: lines compared {lines}, lines that differ {differing}");
    Ok(differing)
}

/// What pg_regress sets for the whole database.
const SETUP: &str = "
alter database app set lc_messages to 'C';
alter database app set lc_monetary to 'C';
alter database app set bytea_output to 'hex';
alter database app set timezone_abbreviations to 'Default';
alter database app set timezone to 'PST8PDT';
alter database app set datestyle to 'Postgres, MDY';
alter database app set intervalstyle to 'postgres_verbose';
alter database app set lock_timeout to '20s';
";

fn run_file(scenario: &Scenario, sql_dir: &Path, name: &str, lib_dir: Option<&Path>) -> Result<()> {
    let file = sql_dir.join(format!("{name}.sql"));
    if !file.is_file() {
        eprintln!("no such file: {}", file.display());
        return Ok(());
    }
    let source = sql_dir.parent().unwrap_or(sql_dir);
    let status = scenario
        .cluster
        .client("psql", &scenario.database)
        .args(["-X", "-q", "-a", "-f"])
        .arg(&file)
        .env("PG_ABS_SRCDIR", source)
        .env("PG_ABS_BUILDDIR", scenario.cluster.root())
        .env("PG_LIBDIR", lib_dir.unwrap_or(source))
        .env("PG_DLSUFFIX", ".so")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("cannot run psql")?;
    if !status.success() && status.code() != Some(3) {
        bail!(
            "{name}: psql ended with {status}: {}",
            scenario.cluster.log_tail()
        );
    }
    Ok(())
}

/// Runs a spec; permutations that the server's version does not know are no matter.
fn run_spec(scenario: &Scenario, tester: &Path, spec: &Path) -> Result<()> {
    let Ok(file) = fs::File::open(spec) else {
        eprintln!("no such file: {}", spec.display());
        return Ok(());
    };
    Command::new(tester)
        .arg(scenario.cluster.conninfo(&scenario.database))
        .env("PGISOLATIONTIMEOUT", "20")
        .stdin(file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {}", tester.display()))?;
    Ok(())
}

/// The files' names, by the schedule where there is one.
fn order(sql_dir: &Path, ending: &str) -> Result<Vec<String>> {
    let schedule = sql_dir
        .parent()
        .unwrap_or(sql_dir)
        .join("parallel_schedule");
    if let Ok(text) = fs::read_to_string(schedule) {
        return Ok(text
            .lines()
            .filter_map(|line| line.strip_prefix("test:"))
            .flat_map(str::split_whitespace)
            .map(str::to_owned)
            .collect());
    }
    let mut names: Vec<String> = fs::read_dir(sql_dir)?
        .filter_map(|entry| {
            entry
                .ok()?
                .file_name()
                .to_str()?
                .strip_suffix(ending)
                .map(str::to_owned)
        })
        .collect();
    names.sort();
    Ok(names)
}
