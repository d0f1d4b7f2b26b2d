//! Many seeds on one cluster: a database each, one base and one WAL for all.
//!
//! Starting a cluster costs seconds and a seed's SQL about one, so the seeds of a batch share
//! a cluster. They run one after the other; what the decoder must print for all databases
//! together is therefore what the server printed for each, put end to end.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::cluster::{Cluster, ClusterOptions, Stop};
use crate::compare::{compare, lines_that_differ};
use crate::decoder::Decode;
use crate::files::{copy_tree, copy_wal};
use crate::generator::random::Random;
use crate::generator::{Size, generate, generate_named};
use crate::server::Server;
use crate::slot::printed;

/// A database with content, copied for some of the seeds.
const PATTERN: &str = "pattern";

/// What kind of data directory the decoder starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseKind {
    /// Stopped cleanly.
    Clean,
    /// Stopped as in a crash, while some work was not yet at rest.
    Crashed,
    /// Taken from the running server, with its `backup_label`.
    Backup,
}

/// Settings drawn for a batch: what changes the form of the WAL but not what it says.
pub fn draw_options(random: &mut Random, major: u32) -> ClusterOptions {
    let mut options = ClusterOptions {
        segment_mib: [1, 16, 16, 4][random.below(4)],
        checksums: random.chance(30),
        ..ClusterOptions::default()
    };
    options = options
        .with("full_page_writes", random.pick(&["on", "on", "off"]))
        .with("wal_log_hints", random.pick(&["on", "off"]))
        .with("autovacuum_naptime", random.pick(&["1s", "1min"]))
        .with("checkpoint_timeout", random.pick(&["30s", "30min"]))
        .with("shared_buffers", random.pick(&["2MB", "32MB"]))
        .with("wal_recycle", random.pick(&["on", "off"]));
    if random.chance(30) {
        // The smallest that is allowed: checkpoints and recycled segments all the time.
        options = options
            .with("max_wal_size", "64MB")
            .with("min_wal_size", "32MB");
    }
    // The servers from npm are built without lz4 and zstd.
    let methods: &[&str] = if major == 15 {
        &["off", "pglz", "lz4", "zstd"]
    } else {
        &["off", "on"]
    };
    options.with("wal_compression", random.pick(methods))
}

/// A seed that was run.
#[derive(Debug)]
pub struct Ran {
    /// The seed.
    pub seed: u64,
    /// Its database.
    pub database: String,
    /// The end of its WAL, as PostgreSQL prints LSNs.
    pub end: String,
    /// What the server printed for it.
    pub expected: Vec<u8>,
    /// Statements that failed, which is part of the point.
    pub failed: usize,
}

/// A batch that was run: base, WAL, and what to expect.
#[derive(Debug)]
pub struct Batch {
    /// The data directory to start from.
    pub base: PathBuf,
    /// The WAL since.
    pub wal: PathBuf,
    /// The seeds in order.
    pub ran: Vec<Ran>,
    /// Seeds whose WAL the server itself could not decode or decodes in two ways, and what it said:
    /// nobody judges there.
    /// Seen on 14 ("pg_attribute catalog is missing 1 attribute(s)").
    pub unjudged: Vec<(u64, String)>,
    dir: TempDir,
}

/// The verdict on one seed.
#[derive(Debug)]
pub struct Verdict {
    /// Lines the server printed.
    pub lines: usize,
    /// Lines on one side only; 0 where all is well.
    pub differing: usize,
    /// What to show a person; empty where all is well.
    pub told: String,
}

/// Runs seeds on a fresh cluster.
///
/// # Errors
/// When the server fails; not when statements do.
pub fn run(
    server: &Server,
    options: &ClusterOptions,
    base: BaseKind,
    seeds: &[u64],
    size: Size,
) -> Result<Batch> {
    let mut cluster = Cluster::create(server.clone(), options)?;
    let dir = tempfile::Builder::new()
        .prefix("redostream-batch-")
        .tempdir()?;
    let base_dir = dir.path().join("base");
    cluster.start()?;
    take_base(&mut cluster, base, options, &base_dir)?;
    furnish(&cluster, seeds, size)?;
    let (mut ran, mut unjudged) = (Vec::new(), Vec::new());
    for seed in seeds {
        let result = run_seed(&cluster, *seed, size).with_context(|| format!("seed {seed}"))?;
        match result {
            Ok(judged) => ran.push(judged),
            Err(said) => unjudged.push((*seed, said)),
        }
    }
    cluster.stop(Stop::Fast)?;
    let wal = dir.path().join("wal");
    copy_wal(&cluster.data().join("pg_wal"), &wal)?;
    Ok(Batch {
        base: base_dir,
        wal,
        ran,
        unjudged,
        dir,
    })
}

fn take_base(
    cluster: &mut Cluster,
    base: BaseKind,
    options: &ClusterOptions,
    to: &Path,
) -> Result<()> {
    if base == BaseKind::Backup {
        cluster.sql("postgres", "checkpoint")?;
        let copy = cluster.base_backup(options)?;
        return copy_tree(copy.data(), to, &|_| true);
    }
    if base == BaseKind::Crashed {
        cluster.sql("postgres", "checkpoint; create table before_the_crash as select * from generate_series(1, 500) i; vacuum full pg_attrdef; create table and_another(a serial primary key)")?;
    }
    cluster.stop(if base == BaseKind::Clean {
        Stop::Fast
    } else {
        Stop::Immediate
    })?;
    copy_tree(cluster.data(), to, &|path| {
        !path.ends_with("postmaster.pid")
    })?;
    cluster.start()
}

/// What the seeds share: a tablespace, and a database with content to be copied.
fn furnish(cluster: &Cluster, seeds: &[u64], size: Size) -> Result<()> {
    let room = cluster.directory("room")?;
    cluster.sql(
        "postgres",
        &format!(
            "create tablespace room location '{}'; create database {PATTERN} template template0",
            room.display()
        ),
    )?;
    let script = generate_named(seeds[0], cluster.server.major, size, "p");
    cluster.run_scripts(PATTERN, &[script.setup]).map(drop)
}

/// Makes a seed's database in one of the ways there are.
fn make_database(cluster: &Cluster, database: &str, seed: u64) -> Result<()> {
    // The two ways to copy a template leave different WAL; 14 has only one.
    let strategy = match (cluster.server.major, seed % 3) {
        (14, _) | (_, 0) => "",
        (_, 1) => " strategy file_copy",
        _ => " strategy wal_log",
    };
    let template = if seed.is_multiple_of(5) {
        PATTERN
    } else {
        "template0"
    };
    let encoding = match seed % 16 {
        // A template with content gives its encoding.
        _ if template == PATTERN => "",
        1 => " encoding 'WIN1252' locale 'C'",
        4 => " encoding 'EUC_JP' locale 'C'",
        7 => " encoding 'SQL_ASCII' locale 'C'",
        11 => " encoding 'LATIN9' locale 'C'",
        _ => "",
    };
    let tablespace = if seed.is_multiple_of(7) {
        " tablespace room"
    } else {
        ""
    };
    cluster.sql(
        "postgres",
        &format!("create database {database} template {template}{strategy}{encoding}{tablespace}"),
    )?;
    if seed % 7 == 1 {
        cluster.sql(
            "postgres",
            &format!("alter database {database} set tablespace room"),
        )?;
    }
    Ok(())
}

/// Changes of the rows that came with a template.
const TOUCH_THE_COPIED: &str = "
do $block$ declare t regclass; begin
  for t in select oid from pg_class where relkind = 'r' and relname like 'p%' and relnamespace <> 'pg_catalog'::regnamespace order by oid loop
    begin
      execute format('delete from %s where ctid = any (array(select ctid from %s limit 2))', t, t);
      execute format('alter table %s replica identity full', t);
      execute format('delete from %s where ctid = any (array(select ctid from %s limit 2))', t, t);
    exception when others then null;
    end;
  end loop;
end $block$;
";

/// The seed, or what the server said where it could not decode its own WAL.
fn run_seed(cluster: &Cluster, seed: u64, size: Size) -> Result<Result<Ran, String>> {
    let script = generate(seed, cluster.server.major, size);
    let database = format!("seed_{seed}");
    let slot = format!("judge_{seed}");
    make_database(cluster, &database, seed)?;
    cluster.create_slot(&database, &slot)?;
    let mut failed = cluster.run_scripts(&database, &[TOUCH_THE_COPIED.to_owned()])?;
    failed += cluster.run_scripts(&database, &[script.setup])?;
    failed += cluster.run_scripts(&database, &script.sessions)?;
    failed += cluster.run_scripts(&database, &[script.finish])?;
    let end = cluster.flushed_lsn()?;
    let expected = judged(cluster, &database, &slot);
    cluster.drop_slot(&slot)?;
    if seed.is_multiple_of(2) {
        cluster.sql("postgres", &format!("drop database {database}"))?;
    } else {
        cluster.sql("postgres", "vacuum")?;
    }
    Ok(expected.map(|expected| Ran {
        seed,
        database,
        end,
        expected,
        failed,
    }))
}

/// What the server prints, if it prints the same when it is asked again: what sessions do meanwhile
/// has left a column out of a row (15, seed 11450362, once in many runs).
fn judged(cluster: &Cluster, database: &str, slot: &str) -> Result<Vec<u8>, String> {
    let ask = || match cluster.peek(database, slot) {
        Ok(changes) => Ok(printed(&changes)),
        Err(said) => Err(said.to_string()),
    };
    let (once, again) = (ask()?, ask()?);
    match once == again {
        true => Ok(once),
        false => Err("it printed something else when it was asked again".to_owned()),
    }
}

impl Batch {
    /// The decoder's run for one seed.
    pub fn decode_one(&self, program: &Path, ran: &Ran) -> Decode {
        Decode::new(program, &self.base)
            .wal(&self.wal)
            .database(&ran.database)
            .with("--end", &ran.end)
    }

    /// The decoder's run for all of them together.
    pub fn decode_all(&self, program: &Path) -> Decode {
        let mut run = Decode::new(program, &self.base).wal(&self.wal);
        for ran in &self.ran {
            run = run.database(&ran.database);
        }
        match self.ran.last() {
            Some(last) => run.with("--end", &last.end),
            None => run,
        }
    }

    /// Decodes everything at once, with each number of decoders, and where that is not as
    /// expected each seed by itself. Gives a verdict for each seed.
    ///
    /// # Errors
    /// When the decoder cannot be run at all.
    pub fn check(&self, program: &Path, decoders: &[u32]) -> Result<Vec<Verdict>> {
        let expected: Vec<u8> = self
            .ran
            .iter()
            .flat_map(|ran| ran.expected.iter().copied())
            .collect();
        let mut wrong = None;
        for count in decoders {
            let decoded = self
                .decode_all(program)
                .with("--decoders", count.to_string())
                .try_run()?;
            if decoded.status != Some(0) || decoded.printed != expected {
                wrong = Some(*count);
                break;
            }
        }
        self.ran
            .iter()
            .enumerate()
            .map(|(index, ran)| match wrong {
                Some(count) => self.check_one(program, ran, count),
                // One by itself all the same: its end lies in the middle of the WAL.
                None if index == self.ran.len() / 2 => self.check_one(program, ran, 2),
                None => Ok(Verdict {
                    lines: count_lines(&ran.expected),
                    differing: 0,
                    told: String::new(),
                }),
            })
            .collect()
    }

    fn check_one(&self, program: &Path, ran: &Ran, decoders: u32) -> Result<Verdict> {
        let run = self
            .decode_one(program, ran)
            .with("--decoders", decoders.to_string());
        let decoded = run.try_run()?;
        let mut told = String::new();
        if let Err(difference) = compare(&ran.expected, &decoded.printed) {
            told = format!("seed {}: {}\n{difference}\n", ran.seed, run.command_line());
        }
        if decoded.status != Some(0) {
            told.push_str(&format!(
                "seed {}: {}\nended with {:?}: {}\n",
                ran.seed,
                run.command_line(),
                decoded.status,
                decoded.errors.trim_end()
            ));
        }
        let differing =
            lines_that_differ(&ran.expected, &decoded.printed).max(usize::from(!told.is_empty()));
        Ok(Verdict {
            lines: count_lines(&ran.expected),
            differing: if told.is_empty() { 0 } else { differing },
            told,
        })
    }

    /// Leaves everything where it is, with what was expected of each seed, for a look by hand.
    ///
    /// # Errors
    /// When what was expected cannot be written.
    pub fn keep(self) -> Result<PathBuf> {
        for ran in &self.ran {
            let name = format!("expected-{}.txt", ran.seed);
            std::fs::write(self.dir.path().join(name), &ran.expected)?;
        }
        Ok(self.dir.keep())
    }
}

fn count_lines(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count()
}
