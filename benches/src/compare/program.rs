//! Runs a program and says what it took.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// What one run took.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// From its start to its end, in seconds.
    pub wall: f64,
    /// Processor seconds, user and system; counted in hundredths.
    pub cpu: f64,
    /// Standard output.
    pub printed: String,
    /// Standard error.
    pub errors: String,
}

/// Runs a program to its end.
///
/// # Errors
/// When it cannot be run, or ends with anything but 0.
pub fn run(command: &mut Command) -> Result<Run> {
    let text = || format!("{command:?}");
    let shown = text();
    let (mut out, mut err) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let before = children_seconds()?;
    let since = Instant::now();
    let status = command
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(err.try_clone()?)
        .status()
        .with_context(|| format!("cannot run {shown}"))?;
    let wall = since.elapsed().as_secs_f64();
    let cpu = children_seconds()? - before;
    let run = Run {
        wall,
        cpu,
        printed: whole(&mut out)?,
        errors: whole(&mut err)?,
    };
    ensure!(
        status.success(),
        "{shown} ended with {status}: {}",
        run.errors
    );
    Ok(run)
}

fn whole(file: &mut fs::File) -> Result<String> {
    use std::io::Seek;
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The most memory a program has had in use, in MiB, by looking again and again.
///
/// # Errors
/// When it cannot be run, or ends with anything but 0.
pub fn peak_memory(command: &mut Command) -> Result<f64> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut peak = 0.0;
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "{command:?} ended with {status}");
            return Ok(peak);
        }
        peak = resident_peak(child.id()).unwrap_or(peak).max(peak);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The most memory that a running process has had in use, in MiB.
#[must_use]
pub fn resident_peak(process: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

/// Processor seconds of the children that have ended.
fn children_seconds() -> Result<f64> {
    ticks("self", 15, 16)
}

/// Processor seconds of a running process, its threads included.
///
/// # Errors
/// When there is none.
pub fn process_seconds(process: u32) -> Result<f64> {
    ticks(&process.to_string(), 13, 14)
}

/// Processor seconds of the children of a running process that have ended.
///
/// # Errors
/// When there is none.
pub fn ended_children_seconds(process: u32) -> Result<f64> {
    ticks(&process.to_string(), 15, 16)
}

fn ticks(process: &str, user: usize, system: usize) -> Result<f64> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name in parentheses may hold spaces.
    let rest = text.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| -> Result<f64> {
        let text = fields
            .get(number - 2)
            .context("a shorter line than expected")?;
        Ok(text.parse()?)
    };
    // Linux counts in hundredths whatever the kernel's own clock does.
    Ok((field(user)? + field(system)?) / 100.0)
}

/// A program in the background, killed when dropped.
#[derive(Debug)]
pub struct Background {
    child: Child,
    errors: PathBuf,
}

impl Background {
    /// Starts it, its standard error in a file of `directory`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command, directory: &Path) -> Result<Self> {
        let errors = directory.join("errors");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&errors)?)
            .spawn()
            .with_context(|| format!("cannot run {command:?}"))?;
        Ok(Background { child, errors })
    }

    /// Its process number.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Waits until its standard error has this text.
    ///
    /// # Errors
    /// When it ends before, or that takes two minutes.
    pub fn wait_for(&mut self, text: &str) -> Result<()> {
        let since = Instant::now();
        loop {
            let errors = fs::read_to_string(&self.errors).unwrap_or_default();
            if errors.contains(text) {
                return Ok(());
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || since.elapsed() > Duration::from_secs(120) {
                bail!("no \"{text}\" from it ({ended:?}): {errors}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
