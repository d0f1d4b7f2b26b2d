//! A server under test, and what it uses.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use redostream_testdata::cluster::Cluster;
use tempfile::TempDir;

/// Kernel clock ticks in a second, in which processor time is given.
// proc(5): sysconf(_SC_CLK_TCK), 100 on every machine this runs on
const TICKS: f64 = 100.0;

/// A running server; ended when dropped.
pub struct Serving {
    child: Child,
    control: String,
    _state: TempDir,
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address of this machine that nobody listens on.
///
/// # Errors
/// When there is none.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Serving {
    /// Starts `program` with a state of its own and waits until it is ready. `data` is where it
    /// listens for data connections; `more` are further arguments of `serve`.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(program: &Path, data: SocketAddr, more: &[&str]) -> Result<Self> {
        let state = TempDir::new()?;
        let control = free_address()?.to_string();
        let mut child = Command::new(program)
            .args(["--log-level", "warn", "serve", "--listen", &control])
            .args(["--listen-data", &data.to_string(), "--state"])
            .arg(state.path())
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
        let errors = child.stderr.take().context("no standard error")?;
        for line in BufReader::new(errors).lines() {
            let line = line?;
            if line.starts_with("ready earliest=") {
                return Ok(Self {
                    child,
                    control,
                    _state: state,
                });
            }
            eprintln!("{line}");
        }
        bail!("the server ended before it was ready")
    }

    /// As [`Self::start`], beside `cluster`, from which it streams by `slot`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn beside(program: &Path, cluster: &Cluster, slot: &str, more: &[&str]) -> Result<Self> {
        let (data, conninfo) = (
            cluster.data().to_string_lossy(),
            cluster.conninfo("postgres"),
        );
        let words = ["--pgdata", &*data, "--upstream", &conninfo, "--slot", slot];
        Self::start(program, free_address()?, &[&words[..], more].concat())
    }

    /// Where its control plane listens.
    #[must_use]
    pub fn control(&self) -> &str {
        &self.control
    }

    /// Processor seconds that it has used.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = text.rsplit_once(") ").context("no fields")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks = |at: usize| fields.get(at).context("too few fields");
        let ticks: u64 = ticks(11)?.parse::<u64>()? + ticks(12)?.parse::<u64>()?;
        Ok(ticks as f64 / TICKS)
    }

    /// How often its threads have gone to sleep and been woken: those that are there now.
    ///
    /// # Errors
    /// When it is gone.
    pub fn wake_ups(&self) -> Result<u64> {
        let mut count = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let Ok(status) = std::fs::read_to_string(task?.path().join("status")) else {
                continue; // It has ended meanwhile.
            };
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            count += line.context("no count")?.trim().parse::<u64>()?;
        }
        Ok(count)
    }
}
