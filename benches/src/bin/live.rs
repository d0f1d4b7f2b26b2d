//! What a server takes at the live end, by its number of decoders: with nothing to do, and beside
//! pgbench on the primary that it reads.
//!
//! `cargo build --release --bins && target/release/live --server target/release/redostream-server`.
//! More decoders than cores show what the defaults of a larger machine cost where there is little to
//! do, not how fast they are. Prints a Markdown table; takes a minute and a half.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use redostream_benches::load::pgbench;
use redostream_benches::serving::Serving;
use redostream_client::protocol::control::From as Place;
use redostream_client::{Options, Subscription};
use redostream_testdata::cluster::{Cluster, ClusterOptions};
use redostream_testdata::server::Server;

const DATABASE: &str = "postgres";
/// How long it has nothing to do.
const IDLE: Duration = Duration::from_secs(5);
/// After it was started or loaded.
const REST: Duration = Duration::from_secs(2);

/// Processor time and wake-ups at the live end, by decoders.
#[derive(Parser)]
struct Arguments {
    /// The server under test.
    #[arg(long)]
    server: PathBuf,
    /// Numbers of decoders.
    #[arg(long, value_delimiter = ',', default_value = "1,2,8,64")]
    decoders: Vec<usize>,
    /// Transactions of pgbench a second.
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// Seconds of pgbench.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let server = Server::for_test(15).context("PostgreSQL 15 is not here")?;
    let mut primary = Cluster::create(server, &ClusterOptions::default())?;
    primary.start()?;
    pgbench(&primary, DATABASE, &["-i", "-s", "10", "-q"])?;
    println!(
        "| decoders | idle: CPU ms a second | wake-ups a second | loaded: transactions a second | CPU us a transaction | wake-ups |"
    );
    println!("|---:|---:|---:|---:|---:|---:|");
    for decoders in &arguments.decoders {
        measure(&arguments, *decoders, &primary).await?;
    }
    Ok(())
}

/// Processor seconds and wake-ups so far.
fn taken(serving: &Serving) -> Result<(f64, f64)> {
    Ok((serving.cpu_seconds()?, serving.wake_ups()? as f64))
}

async fn measure(arguments: &Arguments, decoders: usize, primary: &Cluster) -> Result<()> {
    let (count, slot) = (decoders.to_string(), format!("decoders_{decoders}"));
    let serving = Serving::beside(&arguments.server, primary, &slot, &["--decoders", &count])?;
    let subscription = subscribe(&serving).await?;
    tokio::time::sleep(REST).await;
    let before = taken(&serving)?;
    tokio::time::sleep(IDLE).await;
    let after = taken(&serving)?;
    let idle = ((after.0 - before.0) * 1e3, after.1 - before.1);
    let (rate, seconds) = (arguments.rate.to_string(), arguments.seconds.to_string());
    let load = ["-n", "-c", "4", "-j", "1", "-T", &seconds, "--rate", &rate];
    let before = taken(&serving)?;
    let done = tokio::task::block_in_place(|| pgbench(primary, DATABASE, &load))?;
    let after = taken(&serving)?;
    let transactions = done * f64::from(arguments.seconds);
    println!(
        "| {decoders} | {:.1} | {:.0} | {done:.0} | {:.0} | {:.1} |",
        idle.0 / IDLE.as_secs_f64(),
        idle.1 / IDLE.as_secs_f64(),
        (after.0 - before.0) * 1e6 / transactions,
        (after.1 - before.1) / transactions,
    );
    subscription.abort();
    Ok(())
}

/// A subscriber that takes everything.
async fn subscribe(serving: &Serving) -> Result<tokio::task::JoinHandle<()>> {
    let mut options = Options::new([serving.control().to_owned()]);
    options.from = Some(Place::Latest);
    options.reconnect = false;
    let mut subscription = Subscription::open(options).await?;
    Ok(tokio::spawn(async move {
        while let Ok(Some(_)) = subscription.next_transaction().await {}
    }))
}
