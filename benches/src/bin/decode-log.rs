//! Decodes a log on disk to nothing and prints what it cost: for profilers, and for comparing one
//! change of the engine with the next. `redostream-server decode --format none --stats` does the
//! same with everything around it.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use redostream_benches::{Log, Settings};
use redostream_engine::pipeline::STAGES;

const USAGE: &str = "decode-log BASE WAL END [DECODERS [TIMES [PARTITIONS [CHUNK_BYTES]]]]";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base, wal, end, numbers @ ..] = &arguments[..] else {
        anyhow::bail!(USAGE);
    };
    let number = |index: usize, default: usize| match numbers.get(index) {
        Some(text) => text.parse().context(USAGE),
        None => Ok(default),
    };
    let log = Log {
        base: base.into(),
        wal: wal.into(),
        end: end.parse()?,
    };
    let defaults = Settings::with_decoders(number(0, 2)?);
    let settings = Settings {
        partitions: number(2, 0)?,
        chunk_bytes: number(3, defaults.chunk_bytes)?,
        ..defaults
    };
    for _ in 0..number(1, 1)? {
        let decoded = log.decode(&settings)?;
        let counters = &decoded.counters;
        let busy = STAGES.iter().zip(&counters.busy_ns);
        let busy: Vec<String> = busy
            .map(|(stage, ns)| format!("{stage} {:.3}", ns.load(Ordering::Relaxed) as f64 / 1e9))
            .collect();
        println!(
            "{:.4} s ({:.3} s before), {} bytes, {} records, {} rows, {} transactions; busy: {}",
            decoded.seconds,
            decoded.bootstrap_seconds,
            counters.wal_bytes.load(Ordering::Relaxed),
            counters.records.load(Ordering::Relaxed),
            counters.rows.load(Ordering::Relaxed),
            counters.transactions.load(Ordering::Relaxed),
            busy.join(", "),
        );
    }
    Ok(())
}
