//! The workloads: what is made before the log begins, and what writes the log.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use redostream_testdata::cluster::{Cluster, ClusterOptions, Stop};
use redostream_testdata::files::copy_tree;
use redostream_testdata::server::Server;

/// The database that everything happens in.
pub const DATABASE: &str = "bench";
/// The slot that PostgreSQL's own tools decode from; it stands before the log.
pub const SLOT: &str = "bench";
/// The publication that pgoutput needs.
pub const PUBLICATION: &str = "bench";

/// One workload and the bars for it, as multiples of `pg_waldump --stats`.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Its letter.
    pub letter: char,
    /// What it is.
    pub name: &'static str,
    /// Decoding: must and aim; none where it is only reported.
    pub decode: Option<(f64, f64)>,
    /// Delivery: must and aim.
    pub delivered: Option<(f64, f64)>,
    /// Delivery, as a multiple of `pg_recvlogical`: must and aim.
    pub received: (f64, f64),
}

const fn workload(
    letter: char,
    name: &'static str,
    decode: (f64, f64),
    delivered: (f64, f64),
    received: (f64, f64),
) -> Workload {
    Workload {
        letter,
        name,
        decode: Some(decode),
        delivered: Some(delivered),
        received,
    }
}

/// All of them.
pub const WORKLOADS: [Workload; 8] = [
    workload(
        'a',
        "pgbench TPC-B, 8 clients",
        (1.0, 1.7),
        (0.6, 1.1),
        (20.0, 40.0),
    ),
    workload(
        'b',
        "one transaction, millions of narrow inserts",
        (1.5, 3.0),
        (0.8, 1.4),
        (20.0, 40.0),
    ),
    workload(
        'c',
        "one transaction, a million updates, full identity",
        (1.2, 2.5),
        (0.8, 1.4),
        (20.0, 40.0),
    ),
    workload(
        'd',
        "TOASTed text and jsonb, then updates of other columns",
        (0.7, 1.0),
        (0.3, 0.6),
        (10.0, 20.0),
    ),
    workload(
        'e',
        "10,000 savepoints per transaction",
        (1.0, 2.0),
        (0.6, 1.2),
        (20.0, 40.0),
    ),
    workload(
        'f',
        "100-row transactions, 8 sessions",
        (1.5, 3.0),
        (0.9, 1.5),
        (20.0, 40.0),
    ),
    workload(
        'g',
        "a table with 8 indexes",
        (2.0, 3.5),
        (1.1, 1.9),
        (20.0, 40.0),
    ),
    Workload {
        letter: 'h',
        name: "rows of 60 columns of mixed types",
        decode: None,
        delivered: None,
        received: (20.0, 40.0),
    },
];

/// A workload's log on disk.
#[derive(Clone, Debug)]
pub struct Log {
    /// The data directory from before it.
    pub base: PathBuf,
    /// Its segments.
    pub wal: PathBuf,
    /// Where it begins, as PostgreSQL prints it.
    pub start: String,
    /// Where it ends.
    pub end: String,
}

impl Log {
    /// A log that was made before, in the layout that [`make`] leaves.
    ///
    /// # Errors
    /// When it is not there.
    pub fn open(directory: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = directory.join(name);
            let text = fs::read_to_string(&path);
            text.map(|text| text.trim().to_owned())
                .with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(Log {
            base: directory.join("base"),
            wal: directory.join("wal"),
            start: read("startlsn")?,
            end: read("endlsn")?,
        })
    }

    /// Bytes from start to end.
    ///
    /// # Errors
    /// When the places are not LSNs.
    pub fn bytes(&self) -> Result<u64> {
        use redostream_testdata::slot::parse_lsn;
        Ok(parse_lsn(&self.end)?.saturating_sub(parse_lsn(&self.start)?))
    }
}

/// Makes a workload in `directory`; gives its log, and the server that wrote it, stopped.
///
/// # Errors
/// When the server or one of its programs fails.
pub fn make(workload: &Workload, scale: f64, directory: &Path) -> Result<(Log, Cluster)> {
    let server = Server::find(15)?;
    let options = ClusterOptions {
        own_identity: true,
        tcp: true,
        ..ClusterOptions::default()
    }
    .with("synchronous_commit", "off")
    .with("autovacuum", "off")
    .with("max_wal_size", "32GB")
    .with("wal_keep_size", "40GB")
    .with("checkpoint_timeout", "1h")
    .with("shared_buffers", "512MB");
    let mut cluster = Cluster::create(server, &options)?;
    cluster.start()?;
    cluster.sql("postgres", &format!("create database {DATABASE}"))?;
    prepare(&cluster, workload.letter, scale)?;
    cluster.sql(
        DATABASE,
        &format!("create publication {PUBLICATION} for all tables"),
    )?;
    cluster.sql(
        DATABASE,
        &format!("select pg_create_logical_replication_slot('{SLOT}', 'pgoutput')"),
    )?;
    cluster.stop(Stop::Fast)?;
    let log = Log {
        base: directory.join("base"),
        wal: directory.join("wal"),
        start: String::new(),
        end: String::new(),
    };
    fs::create_dir_all(&log.wal)?;
    copy_tree(cluster.data(), &log.base, &|path| {
        !path.ends_with("postmaster.pid") && !is_segment(path)
    })?;
    cluster.start()?;
    let first = cluster.sql("postgres", "select pg_walfile_name(pg_current_wal_lsn())")?;
    let start = cluster.sql("postgres", "select pg_current_wal_lsn()")?;
    run(&cluster, workload.letter, scale)?;
    // A unit of its own behind the rest: the newest unit stays in a server's feed whatever its
    // bound, and would be sent without being decoded anew.
    cluster.sql(
        DATABASE,
        "select pg_logical_emit_message(true, 'bench', 'end')",
    )?;
    let end = cluster.flushed_lsn()?;
    cluster.stop(Stop::Fast)?;
    for entry in fs::read_dir(cluster.data().join("pg_wal"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_owned();
        if is_segment(&path) && *name.to_string_lossy() >= *first.as_str() {
            fs::copy(&path, log.wal.join(name))?;
        }
    }
    fs::write(directory.join("startlsn"), &start)?;
    fs::write(directory.join("endlsn"), &end)?;
    Ok((Log { start, end, ..log }, cluster))
}

fn is_segment(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let in_wal = path
        .parent()
        .is_some_and(|parent| parent.ends_with("pg_wal"));
    in_wal && name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn scaled(number: u64, scale: f64) -> u64 {
    (number as f64 * scale) as u64
}

/// What stands before the log begins.
fn prepare(cluster: &Cluster, letter: char, scale: f64) -> Result<()> {
    let sql = match letter {
        'a' => return pgbench(cluster, &["-i", "-s", "20", "-q"]),
        'b' => "create table t(a int, b int)".to_owned(),
        'c' => {
            let rows = scaled(1_000_000, scale);
            format!(
                "create table t(id int primary key, a int, b text, c timestamptz);
                 insert into t select i, i, 'row ' || i, now() from generate_series(1, {rows}) i;
                 alter table t replica identity full;
                 vacuum t"
            )
        }
        'd' => "create table t(id int primary key, n int, a text, j jsonb);
                alter table t alter a set storage external"
            .to_owned(),
        'e' => "create table t(id int, a text)".to_owned(),
        'f' => "create table t(id bigserial, a int, b text)".to_owned(),
        'g' => {
            let index = |column: char| format!("create index on t({column});");
            let columns = "a int, b int, c int, d int, e text, f text, g int";
            let indexes: String = "abcdefg".chars().map(index).collect();
            format!("create table t(id int, {columns}); create index on t(id); {indexes}")
        }
        _ => {
            let columns: Vec<String> = (1..=60)
                .map(|number| format!("c{number} {}", WIDE[number % WIDE.len()].0))
                .collect();
            format!("create table t(id int, {})", columns.join(", "))
        }
    };
    cluster.sql(DATABASE, &sql).map(drop)
}

/// The columns' types of the widest workload, and a value of each for row `i`.
const WIDE: [(&str, &str); 8] = [
    ("int", "i + {}"),
    ("text", "'text {} ' || i"),
    ("numeric", "i * 1.25"),
    ("timestamptz", "now() + i * interval '1 second'"),
    ("bool", "i % 2 = 0"),
    ("uuid", "md5(i::text)::uuid"),
    ("float8", "i * 0.5"),
    ("date", "current_date + i % 1000"),
];

/// Writes the log.
fn run(cluster: &Cluster, letter: char, scale: f64) -> Result<()> {
    let rows = |number| scaled(number, scale);
    let each = |number| scaled(number, scale).to_string();
    let sql = match letter {
        // So many that page images, of which there is one for each page, are the smaller part.
        'a' => return pgbench(cluster, &["-c", "8", "-j", "2", "-n", "-t", &each(125_000)]),
        'b' => format!(
            "insert into t select i, i * 7 from generate_series(1, {}) i",
            rows(5_000_000)
        ),
        'c' => "update t set a = a + 1, b = b || 'x'".to_owned(),
        'd' => format!(
            "insert into t select i, i,
                 (select string_agg(md5((i * 1000 + k)::text), '') from generate_series(1, 90) k),
                 jsonb_build_object('a',
                     (select string_agg(md5((i * 7 + k)::text), '') from generate_series(1, 70) k))
             from generate_series(1, {}) i;
             update t set n = n + 1",
            rows(50_000)
        ),
        'e' => {
            let transaction = "do $$ begin for i in 1..10000 loop begin
                insert into t values (i, 'row ' || i); insert into t values (i, 'two ' || i);
                exception when others then null; end; end loop; end $$;\n";
            transaction.repeat(rows(200) as usize)
        }
        'f' => {
            let script = cluster.root().join("f.sql");
            fs::write(
                &script,
                "insert into t(a, b) select i, 'value ' || i from generate_series(1, 100) i",
            )?;
            let script = script.to_string_lossy().into_owned();
            let count = each(5_000);
            return pgbench(
                cluster,
                &["-c", "8", "-j", "2", "-n", "-t", &count, "-f", &script],
            );
        }
        'g' => format!(
            "insert into t select i, i * 7 % 1000003, i * 11 % 1000003, i * 13 % 100003,
                 i * 17 % 10007, 'text ' || i, 'other ' || (i % 5000), i % 100
             from generate_series(1, {}) i",
            rows(450_000)
        ),
        _ => {
            let values: Vec<String> = (1..=60_usize)
                .map(|number| {
                    WIDE[number % WIDE.len()]
                        .1
                        .replace("{}", &number.to_string())
                })
                .collect();
            format!(
                "insert into t select i, {} from generate_series(1, {}) i",
                values.join(", "),
                rows(500_000)
            )
        }
    };
    cluster.sql(DATABASE, &sql).map(drop)
}

fn pgbench(cluster: &Cluster, arguments: &[&str]) -> Result<()> {
    let status = cluster
        .client("pgbench", DATABASE)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("cannot run pgbench")?;
    ensure!(status.success(), "pgbench {} failed", arguments.join(" "));
    Ok(())
}
