//! Runs random SQL on a real server and holds the decoder's output against the server's.
//!
//! ```text
//! cargo run -p redostream-testdata --bin random-sql -- --version 15 --seeds 1..500
//! ```

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;
use redostream_testdata::batch::{BaseKind, draw_options, run};
use redostream_testdata::generator::random::Random;
use redostream_testdata::generator::{Size, generate};
use redostream_testdata::server::Server;

/// Random SQL, decoded by the server and by Redostream, compared line by line.
#[derive(Debug, Parser)]
struct Arguments {
    /// Major version of the server.
    #[arg(long, default_value_t = 15)]
    version: u32,
    /// Seeds: one number, or first..last, both included.
    #[arg(long, default_value = "1..20")]
    seeds: String,
    /// Seeds that share a cluster.
    #[arg(long, default_value_t = 12)]
    batch: usize,
    /// The decoder; by default redostream-server beside this program.
    #[arg(long)]
    server_bin: Option<PathBuf>,
    /// Numbers of decoders to try.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4")]
    decoders: Vec<u32>,
    /// Concurrent sessions of a seed.
    #[arg(long, default_value_t = Size::default().sessions)]
    sessions: usize,
    /// Transactions of each session.
    #[arg(long, default_value_t = Size::default().transactions)]
    transactions: usize,
    /// Kind of data directory to start from: clean, crashed, backup; by default drawn.
    #[arg(long)]
    base: Option<String>,
    /// Keep base and WAL of a batch that differs, and say where.
    #[arg(long)]
    keep: bool,
    /// Print the SQL instead of running it.
    #[arg(long)]
    print: bool,
    /// Leave out the types whose text depends on other catalog rows (regclass, aclitem).
    #[arg(long)]
    without_object_names: bool,
    /// Run the SQL and the server only, without a decoder.
    #[arg(long)]
    no_decoder: bool,
}

#[derive(Debug, Default)]
struct Totals {
    seeds: usize,
    unjudged: usize,
    seeds_that_differ: usize,
    lines: usize,
    lines_that_differ: usize,
    failed_statements: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let size = Size {
        sessions: arguments.sessions,
        transactions: arguments.transactions,
        object_names: !arguments.without_object_names,
        ..Size::default()
    };
    let seeds = parse_seeds(&arguments.seeds)?;
    if arguments.print {
        for seed in seeds {
            print_script(seed, arguments.version, size);
        }
        return Ok(());
    }
    let server = Server::find(arguments.version)?;
    let program = match &arguments.server_bin {
        Some(program) => program
            .canonicalize()
            .with_context(|| program.display().to_string())?,
        None => std::env::current_exe()?.with_file_name("redostream-server"),
    };
    let mut totals = Totals::default();
    for batch in seeds.chunks(arguments.batch.max(1)) {
        run_batch(&arguments, &server, &program, batch, size, &mut totals)?;
    }
    println!(
        "PostgreSQL {}: seeds {}, seeds the server cannot judge {}, seeds that differ {}, lines compared {}, lines that differ {}, failed statements {}",
        arguments.version,
        totals.seeds,
        totals.unjudged,
        totals.seeds_that_differ,
        totals.lines,
        totals.lines_that_differ,
        totals.failed_statements
    );
    if totals.lines_that_differ > 0 {
        bail!("the decoder and the server differ");
    }
    Ok(())
}

fn run_batch(
    arguments: &Arguments,
    server: &Server,
    program: &std::path::Path,
    seeds: &[u64],
    size: Size,
    totals: &mut Totals,
) -> Result<()> {
    let mut random = Random::new(seeds[0] ^ 0x5EED);
    let options = draw_options(&mut random, arguments.version);
    let base = match arguments.base.as_deref() {
        Some("clean") => BaseKind::Clean,
        Some("crashed") => BaseKind::Crashed,
        Some("backup") => BaseKind::Backup,
        Some(other) => bail!("unknown kind of base: {other}"),
        None => [BaseKind::Clean, BaseKind::Crashed, BaseKind::Backup][random.below(3)],
    };
    let batch = run(server, &options, base, seeds, size)?;
    totals.seeds += batch.ran.len();
    totals.unjudged += batch.unjudged.len();
    for (seed, said) in &batch.unjudged {
        println!("seed {seed}: the server cannot judge it: {}", said.trim());
    }
    totals.failed_statements += batch.ran.iter().map(|ran| ran.failed).sum::<usize>();
    let before = totals.lines_that_differ;
    if arguments.no_decoder {
        totals.lines += batch
            .ran
            .iter()
            .map(|ran| ran.expected.split(|byte| *byte == b'\n').count() - 1)
            .sum::<usize>();
    } else {
        for verdict in batch.check(program, &arguments.decoders)? {
            totals.lines += verdict.lines;
            totals.lines_that_differ += verdict.differing;
            totals.seeds_that_differ += usize::from(verdict.differing > 0);
            print!("{}", verdict.told);
        }
    }
    println!(
        "seeds {}..{} from a {base:?} base: lines so far {}, differing {}",
        seeds[0],
        seeds[seeds.len() - 1],
        totals.lines,
        totals.lines_that_differ
    );
    if totals.lines_that_differ > before {
        println!(
            "settings: {:?} {:?} checksums={}",
            options.settings, options.segment_mib, options.checksums
        );
        if arguments.keep {
            println!("kept in {}", batch.keep()?.display());
        }
    }
    Ok(())
}

fn print_script(seed: u64, version: u32, size: Size) {
    let script = generate(seed, version, size);
    println!("-- seed {seed}: setup\n{}", script.setup);
    for (number, session) in script.sessions.iter().enumerate() {
        println!("-- seed {seed}: session {number}\n{session}");
    }
    println!("-- seed {seed}: finish\n{}", script.finish);
}

fn parse_seeds(text: &str) -> Result<Vec<u64>> {
    let number = |text: &str| {
        text.parse::<u64>()
            .with_context(|| format!("not a seed: {text}"))
    };
    Ok(match text.split_once("..") {
        Some((first, last)) => (number(first)?..=number(last)?).collect(),
        None => vec![number(text)?],
    })
}
