//! Load on a cluster.

use anyhow::{Context, Result, ensure};
use redostream_testdata::cluster::Cluster;

/// Runs pgbench on `database`; gives its transactions a second, 0 where it ran none.
///
/// # Errors
/// When it cannot be run or fails.
pub fn pgbench(cluster: &Cluster, database: &str, arguments: &[&str]) -> Result<f64> {
    let mut command = cluster.client("pgbench", database);
    let output = command
        .args(arguments)
        .output()
        .context("cannot run pgbench")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = "));
    let number = rate.and_then(|rate| rate.split(' ').next()?.parse().ok());
    Ok(number.unwrap_or_default())
}
