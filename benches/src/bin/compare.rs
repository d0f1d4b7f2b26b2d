//! Compares Redostream with PostgreSQL's own tools on the same logs, and writes down the result.
//!
//! `cargo run --release -p redostream-benches --bin compare` makes every workload on a server of
//! its own, runs `pg_waldump`, `pg_recvlogical` and ours in turn, and writes `RESULTS.md`,
//! `results.json` and plots. `--quick` makes smaller logs and takes a few minutes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use redostream_benches::compare::measure::{
    Measured, Plan, Serving, decode_command, measure, stat,
};
use redostream_benches::compare::program::run;
use redostream_benches::compare::report::{Figure, Report, Setting};
use redostream_benches::compare::workload::{Log, WORKLOADS, Workload, make};
use redostream_benches::compare::{figures::Spread, plot};
use redostream_testdata::cluster::Cluster;

/// Compares Redostream with PostgreSQL's own tools on the same logs.
#[derive(Debug, Parser)]
struct Arguments {
    /// Workloads, by letter.
    #[arg(long, default_value = "abcdefgh")]
    workloads: String,
    /// Pairs of runs for each figure.
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    /// Runs of PostgreSQL's own decoders; 0 leaves them out.
    #[arg(long, default_value_t = 3)]
    slow_runs: usize,
    /// Size of the logs, as a share of the full ones.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// A third of the size, 5 pairs, and each of PostgreSQL's decoders once: minutes instead of an
    /// hour.
    #[arg(long)]
    quick: bool,
    /// Logs that were made before: directories DIR/w_a to DIR/w_h, each with `base`, `wal`,
    /// `startlsn`, `endlsn`. PostgreSQL's decoders are left out.
    #[arg(long, value_name = "DIR")]
    existing: Option<PathBuf>,
    /// Keeps the logs that are made, for `--existing`.
    #[arg(long, value_name = "DIR", conflicts_with = "existing")]
    keep: Option<PathBuf>,
    /// Only the ratios, no plots over threads, chunks and connections.
    #[arg(long)]
    no_plots: bool,
    /// Decoder threads.
    #[arg(long, default_value_t = 2)]
    decoders: usize,
    /// Where the programs under test are. Default: beside this one.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Where the results go. Default: this crate's directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments.scale *= 0.35;
        arguments.pairs = arguments.pairs.min(5);
        arguments.slow_runs = arguments.slow_runs.min(1);
    }
    let plan = plan(&arguments)?;
    let mut report = Report {
        setting: setting(&arguments)?,
        ..Report::default()
    };
    for workload in WORKLOADS {
        if arguments.workloads.contains(workload.letter) {
            measure_one(&arguments, &plan, &workload, &mut report)?;
            // After each, so that a run that is cut short has left what it knows.
            write(&arguments, &report)?;
        }
    }
    println!("{}", report.markdown());
    Ok(())
}

fn measure_one(
    arguments: &Arguments,
    plan: &Plan,
    workload: &Workload,
    report: &mut Report,
) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let (log, mut cluster): (Log, Option<Cluster>) = match &arguments.existing {
        Some(existing) => {
            let directory = existing.join(format!("w_{}", workload.letter));
            (Log::open(&directory)?, None)
        }
        None => {
            eprintln!("({}) making {}", workload.letter, workload.name);
            let directory = match &arguments.keep {
                Some(kept) => kept.join(format!("w_{}", workload.letter)),
                None => scratch.path().to_owned(),
            };
            let (log, cluster) = make(workload, arguments.scale, &directory)?;
            (log, (plan.slow_runs > 0).then_some(cluster))
        }
    };
    eprintln!("({}) measuring", workload.letter);
    let measured = measure(plan, workload, &log, cluster.as_mut())?;
    tell(&measured);
    report.workloads.push(measured);
    if !arguments.no_plots {
        settings_of(plan, workload, &log, report)?;
    }
    Ok(())
}

fn tell(measured: &Measured) {
    let shown = |spread: Option<Spread>| {
        spread.map_or_else(|| "-".to_owned(), |spread| spread.shown(2).replace('*', ""))
    };
    eprintln!(
        "({}) decode {} x waldump, delivered {} x",
        measured.workload,
        shown(measured.decode_ratio),
        shown(measured.delivered_ratio),
    );
    if let (Some(tcp), Some(socket)) = (measured.received_ratio, measured.received_socket_ratio) {
        eprintln!("    {tcp:.1} x recvlogical by TCP, {socket:.1} x by a Unix socket");
    }
}

/// What each setting does to a workload's throughput.
fn settings_of(plan: &Plan, workload: &Workload, log: &Log, report: &mut Report) -> Result<()> {
    let megabytes = log.bytes()? as f64 / 1e6;
    let runs = plan.pairs.min(3);
    let best = |one: &mut dyn FnMut() -> Result<f64>| -> Result<Option<f64>> {
        let mut least = f64::MAX;
        for _ in 0..runs {
            least = least.min(one()?);
        }
        Ok(Some(megabytes / least))
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut threads: Vec<usize> = std::iter::successors(Some(1), |n| Some(n * 2))
        .take_while(|n| *n < cores)
        .collect();
    threads.extend([cores, 2 * cores]);
    let by_threads = threads.iter().map(|threads| {
        best(&mut || {
            let ran = run(&mut decode_command(&plan.server, log, *threads))?;
            stat(&ran, "/seconds")
        })
    });
    let by_threads: Result<Vec<_>> = by_threads.collect();
    add(
        report,
        "threads",
        "decode by decoder threads",
        workload,
        &threads,
        by_threads?,
    );
    let chunks = [32, 64, 128, 256, 512, 1024];
    let by_chunk = chunks.iter().map(|chunk| {
        best(&mut || {
            let mut command = decode_command(&plan.server, log, plan.decoders);
            let ran = run(command.args(["--chunk", &format!("{chunk}KiB")]))?;
            stat(&ran, "/seconds")
        })
    });
    let by_chunk: Result<Vec<_>> = by_chunk.collect();
    add(
        report,
        "chunks",
        "decode by KiB of WAL in a chunk",
        workload,
        &chunks,
        by_chunk?,
    );
    let serving = Serving::start(plan, log)?;
    let streams = [1, 2, 4, 8];
    for (name, title, lz4) in [
        ("connections", "delivered by connections, with LZ4", true),
        (
            "connections_raw",
            "delivered by connections, not compressed",
            false,
        ),
    ] {
        let rates = streams.iter().map(|streams| {
            best(&mut || stat(&serving.subscribe(plan, log, *streams, lz4)?, "/seconds"))
        });
        let rates: Result<Vec<_>> = rates.collect();
        add(report, name, title, workload, &streams, rates?);
    }
    Ok(())
}

fn add(
    report: &mut Report,
    name: &str,
    title: &str,
    workload: &Workload,
    places: &[usize],
    values: Vec<Option<f64>>,
) {
    let file = format!("plots/{name}.svg");
    let series = (format!("({})", workload.letter), values);
    match report.figures.iter_mut().find(|figure| figure.file == file) {
        Some(figure) => figure.series.push(series),
        None => report.figures.push(Figure {
            file,
            title: title.to_owned(),
            places: places.iter().map(ToString::to_string).collect(),
            series: vec![series],
        }),
    }
}

fn write(arguments: &Arguments, report: &Report) -> Result<()> {
    let own = || PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let out = arguments.out.clone().unwrap_or_else(own);
    fs::create_dir_all(out.join("plots"))?;
    let mut report = report.clone();
    report.figures.insert(0, ratios(&report));
    for figure in &report.figures {
        let draw = if figure.file == RATIOS {
            plot::bars
        } else {
            plot::lines
        };
        let unit = if figure.file == RATIOS {
            "times pg_waldump"
        } else {
            "MB of WAL per second"
        };
        let drawn = draw(&figure.title, unit, &figure.places, &figure.series);
        fs::write(out.join(&figure.file), drawn)?;
    }
    fs::write(out.join("RESULTS.md"), report.markdown())?;
    fs::write(
        out.join("results.json"),
        serde_json::to_string_pretty(&report)? + "\n",
    )?;
    Ok(())
}

const RATIOS: &str = "plots/ratios.svg";

/// The ratios of all workloads side by side.
fn ratios(report: &Report) -> Figure {
    let series = |name: &str, of: fn(&Measured) -> Option<Spread>| {
        let values = report.workloads.iter();
        let values = values.map(|measured| of(measured).map(|spread| spread.median));
        (name.to_owned(), values.collect())
    };
    Figure {
        file: RATIOS.to_owned(),
        title: "speed as a multiple of pg_waldump --stats".to_owned(),
        places: report
            .workloads
            .iter()
            .map(|m| format!("({})", m.workload))
            .collect(),
        series: vec![
            series("decode", |measured| measured.decode_ratio),
            series("delivered", |measured| measured.delivered_ratio),
        ],
    }
}

fn plan(arguments: &Arguments) -> Result<Plan> {
    let beside = || -> Result<PathBuf> {
        let own = std::env::current_exe()?;
        Ok(own.parent().unwrap_or(Path::new(".")).to_owned())
    };
    let programs = match &arguments.programs {
        Some(programs) => programs.clone(),
        None => beside()?,
    };
    let plan = Plan {
        server: programs.join("redostream-server"),
        client: programs.join("redostream"),
        pairs: arguments.pairs,
        slow_runs: arguments.slow_runs,
        decoders: arguments.decoders,
    };
    for program in [&plan.server, &plan.client] {
        ensure!(
            program.is_file(),
            "{} is not there; `cargo build --release` makes it",
            program.display()
        );
    }
    Ok(plan)
}

/// What becomes of memory that is let go, in words, where it matters: a guest may give it back to its
/// host, and has to ask for it page by page when it is taken again.
fn free_memory() -> String {
    let order = fs::read_to_string("/sys/module/page_reporting/parameters/page_reporting_order");
    let Some(order) = order
        .ok()
        .and_then(|order| order.trim().parse::<u32>().ok())
    else {
        return String::new();
    };
    match order {
        0..=10 => format!("; free memory goes back to the host (page_reporting_order {order})"),
        _ => "; free memory stays in the guest".to_owned(),
    }
}

fn setting(arguments: &Arguments) -> Result<Setting> {
    let first = |path: &str, start: &str| -> String {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text
            .lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_default();
        line.rsplit(": ")
            .next()
            .unwrap_or_default()
            .trim()
            .trim_matches('"')
            .to_owned()
    };
    let output = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.map_or_else(
            |_| String::new(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let waldump = redostream_testdata::server::client("pg_waldump");
    let own: Vec<String> = std::env::args().skip(1).collect();
    Ok(Setting {
        command: format!(
            "cargo run --release -p redostream-benches --bin compare -- {}",
            own.join(" ")
        ),
        machine: format!(
            "{}, {cores} cores, memory {}",
            first("/proc/cpuinfo", "model name"),
            first("/proc/meminfo", "MemTotal")
                .trim_start_matches("MemTotal:")
                .trim()
        ),
        system: format!("{}{}", output("uname", &["-sr"]), free_memory()),
        versions: format!(
            "{}; Redostream at {}",
            output(&waldump.to_string_lossy(), &["--version"]),
            output(
                "git",
                &[
                    "-C",
                    env!("CARGO_MANIFEST_DIR"),
                    "rev-parse",
                    "--short",
                    "HEAD"
                ]
            )
        ),
        load: fs::read_to_string("/proc/loadavg")
            .context("cannot read /proc/loadavg")?
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned(),
        pairs: arguments.pairs,
        slow_runs: arguments.slow_runs,
    })
}
