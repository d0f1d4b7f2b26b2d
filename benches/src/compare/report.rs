//! The table as Markdown, and everything as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::figures::{Spread, verdict};
use super::measure::Measured;
use super::workload::{WORKLOADS, Workload};

/// Where and how it was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Setting {
    /// The command that makes it again.
    pub command: String,
    /// Processor and cores.
    pub machine: String,
    /// Operating system.
    pub system: String,
    /// PostgreSQL and our commit.
    pub versions: String,
    /// Load average before the first run: near 0 on a quiet machine.
    pub load: String,
    /// Pairs of runs.
    pub pairs: usize,
    /// Runs of PostgreSQL's decoders.
    pub slow_runs: usize,
}

/// A plot that belongs to the report, and the numbers in it.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// File name.
    pub file: String,
    /// What it shows.
    pub title: String,
    /// Names of the places.
    pub places: Vec<String>,
    /// Name and value for each place.
    pub series: Vec<(String, Vec<Option<f64>>)>,
}

/// All of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Where and how.
    pub setting: Setting,
    /// By workload.
    pub workloads: Vec<Measured>,
    /// Plots.
    pub figures: Vec<Figure>,
}

fn bars_of(measured: &Measured) -> Option<&'static Workload> {
    let letter = measured.workload.chars().next()?;
    WORKLOADS.iter().find(|workload| workload.letter == letter)
}

fn rate(bytes: u64, seconds: Option<Spread>) -> String {
    seconds.map_or_else(
        || "-".to_owned(),
        |seconds| format!("{:.0}", bytes as f64 / 1e6 / seconds.median),
    )
}

fn ratio(spread: Option<Spread>, bar: Option<(f64, f64)>) -> String {
    let Some(spread) = spread else {
        return "- | - |".to_owned();
    };
    let (must, aim) = bar.unwrap_or_default();
    let bar_text = if bar.is_some() {
        format!("{must} / {aim}: {}", verdict(spread.median, bar))
    } else {
        "no bar".to_owned()
    };
    format!("{} | {bar_text} |", spread.shown(2))
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

impl Report {
    /// The page that is kept.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = String::from("# Results\n\n");
        let setting = &self.setting;
        let _ = writeln!(
            out,
            "Made by `{}`.\n\n- machine: {}\n- system: {}\n- versions: {}\n- load average at the start: {}\n- {} pairs of runs, taken in turn; {} runs of PostgreSQL's decoders\n",
            setting.command,
            setting.machine,
            setting.system,
            setting.versions,
            setting.load,
            setting.pairs,
            setting.slow_runs
        );
        self.ratios(&mut out);
        self.rates(&mut out);
        self.costs(&mut out);
        self.ordered(&mut out);
        out.push_str("## Plots\n\n");
        for figure in &self.figures {
            let _ = writeln!(out, "![{}]({})\n", figure.title, figure.file);
        }
        out
    }

    fn ratios(&self, out: &mut String) {
        out.push_str(
            "## As a multiple of `pg_waldump --stats` on the same log\n\n\
             Minimum / **median** / maximum over the pairs; the bars are must / aim. `pg_recvlogical` \
             reads pgoutput by TCP on the loopback interface, as our client does; beside it what it \
             is by a Unix socket, which has no bar.\n\n\
             | workload | decode | bar | delivered, LZ4, 4 connections | bar | times `pg_recvlogical` | bar | by a Unix socket |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        for measured in &self.workloads {
            let bars = bars_of(measured);
            let received = bars.map(|bars| bars.received);
            let bar = received.map_or_else(String::new, |(must, aim)| format!("{must} / {aim}"));
            let met = measured
                .received_ratio
                .map_or("", |ratio| verdict(ratio, received));
            let _ = writeln!(
                out,
                "| ({}) {} | {} {} {} | {bar}: {met} | {} |",
                measured.workload,
                measured.name,
                ratio(measured.decode_ratio, bars.and_then(|bars| bars.decode)),
                ratio(
                    measured.delivered_ratio,
                    bars.and_then(|bars| bars.delivered)
                ),
                number(measured.received_ratio, 1),
                number(measured.received_socket_ratio, 1),
            );
        }
        out.push('\n');
    }

    fn rates(&self, out: &mut String) {
        out.push_str(
            "## MB of WAL per second (medians)\n\n\
             | workload | WAL MB | rows | waldump | decode | delivered | peek | recvlogical, TCP | Unix socket | sent MB | before LZ4 |\n\
             |---|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for measured in &self.workloads {
            let bytes = measured.wal_bytes;
            let _ = writeln!(
                out,
                "| ({}) | {:.0} | {} | {} | {} | {} | {} | {} | {} | {:.0} | {:.0} |",
                measured.workload,
                bytes as f64 / 1e6,
                measured.rows,
                rate(bytes, measured.waldump_seconds),
                rate(bytes, measured.decode_seconds),
                rate(bytes, measured.delivered_seconds),
                rate(bytes, measured.peek_seconds),
                rate(bytes, measured.recvlogical_seconds),
                rate(bytes, measured.recvlogical_socket_seconds),
                measured.wire_bytes as f64 / 1e6,
                measured.raw_bytes as f64 / 1e6,
            );
        }
        out.push('\n');
    }

    fn ordered(&self, out: &mut String) {
        out.push_str(
            "## The steps that are done in order\n\n\
             Nanoseconds a record with one decoder, and the megabytes of WAL a second that the dearer of \
             the two leaves to any number of cores.\n\n\
             | workload | records | gate, ns | assembly, ns | ceiling, MB/s |\n\
             |---|---|---|---|---|\n",
        );
        for measured in &self.workloads {
            let each = |seconds: Option<Spread>| {
                seconds.map(|seconds| seconds.median / measured.records as f64 * 1e9)
            };
            let both = measured.gate_seconds.zip(measured.assembly_seconds);
            let dearer = both.map(|(gate, assembly)| gate.median.max(assembly.median));
            let _ = writeln!(
                out,
                "| ({}) | {} | {} | {} | {} |",
                measured.workload,
                measured.records,
                number(each(measured.gate_seconds), 1),
                number(each(measured.assembly_seconds), 1),
                number(dearer.map(|s| measured.wal_bytes as f64 / 1e6 / s), 0),
            );
        }
        out.push('\n');
    }

    fn costs(&self, out: &mut String) {
        out.push_str(
            "## Memory and processor time\n\n\
             Processor seconds per million rows: the server's with LZ4 and, as a walsender's, without.\n\n\
             | workload | decode, MiB | server, MiB | LZ4 | without | walsender, TCP | ratio, LZ4 | ratio | walsender, Unix socket |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for measured in &self.workloads {
            let share = |ours: Option<f64>| {
                let both = ours.zip(measured.walsender_cpu_per_million);
                both.map(|(ours, theirs)| ours / theirs)
            };
            let _ = writeln!(
                out,
                "| ({}) | {} | {} | {} | {} | {} | {} | {} | {} |",
                measured.workload,
                number(measured.decode_memory_mib, 0),
                number(measured.server_memory_mib, 0),
                number(measured.server_cpu_per_million, 3),
                number(measured.server_raw_cpu_per_million, 3),
                number(measured.walsender_cpu_per_million, 3),
                number(share(measured.server_cpu_per_million), 3),
                number(share(measured.server_raw_cpu_per_million), 3),
                number(measured.walsender_socket_cpu_per_million, 3),
            );
        }
        out.push('\n');
    }
}
