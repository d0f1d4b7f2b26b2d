//! Runs `redostream-server decode` and gives what it printed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long one run may take.
const TIMEOUT: Duration = Duration::from_secs(300);

/// One run of the decoder, set up step by step.
#[derive(Debug, Clone)]
pub struct Decode {
    program: PathBuf,
    arguments: Vec<OsString>,
    formatted: bool,
}

/// What a run gave.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// Exit status; none where a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub printed: Vec<u8>,
    /// Standard error.
    pub errors: String,
}

impl Decode {
    /// A run of this program over a data directory.
    pub fn new(program: &Path, pgdata: &Path) -> Self {
        Self {
            program: program.to_owned(),
            arguments: vec!["decode".into(), "--pgdata".into(), pgdata.into()],
            formatted: false,
        }
    }

    /// Adds an option with its value.
    #[must_use]
    pub fn with(mut self, option: &str, value: impl Into<OsString>) -> Self {
        self.formatted |= option == "--format";
        self.arguments.push(option.into());
        self.arguments.push(value.into());
        self
    }

    /// Adds an option without a value.
    #[must_use]
    pub fn flag(mut self, option: &str) -> Self {
        self.arguments.push(option.into());
        self
    }

    /// Adds a directory with WAL.
    #[must_use]
    pub fn wal(self, dir: &Path) -> Self {
        self.with("--wal", dir)
    }

    /// Adds a database.
    #[must_use]
    pub fn database(self, name: &str) -> Self {
        self.with("--database", name)
    }

    /// The command line, to be tried by hand.
    pub fn command_line(&self) -> String {
        let mut text = self.program.display().to_string();
        for argument in &self.arguments {
            text.push(' ');
            text.push_str(&argument.to_string_lossy());
        }
        text
    }

    /// Runs, whatever the exit status; without a format of its own in `test_decoding`'s.
    ///
    /// # Errors
    /// When the program cannot be run or does not end.
    pub fn try_run(&self) -> Result<Decoded> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        if !self.formatted {
            command.args(["--format", "test_decoding"]);
        }
        run_to_end(&mut command, TIMEOUT).with_context(|| self.command_line())
    }

    /// Runs and gives what was printed; anything but exit status 0 is an error.
    ///
    /// # Errors
    /// As [`try_run`](Self::try_run), and for any other exit status.
    pub fn run(&self) -> Result<Decoded> {
        let decoded = self.try_run()?;
        if decoded.status != Some(0) {
            bail!(
                "{}\nended with {:?} after {} bytes of output: {}",
                self.command_line(),
                decoded.status,
                decoded.printed.len(),
                decoded.errors.trim_end()
            );
        }
        Ok(decoded)
    }
}

/// Runs a program to its end, both outputs going to files so that neither can block it.
///
/// # Errors
/// When it cannot be started, or has not ended in time; then it is killed.
pub fn run_to_end(command: &mut Command, timeout: Duration) -> Result<Decoded> {
    let (mut out, mut err) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(err.try_clone()?)
        .spawn()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let since = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if since.elapsed() > timeout {
            child.kill()?;
            child.wait()?;
            bail!(
                "not ended after {timeout:?}: {}",
                String::from_utf8_lossy(&whole(&mut err)?)
            );
        }
        let nap = if since.elapsed() < Duration::from_millis(200) {
            2
        } else {
            20
        };
        std::thread::sleep(Duration::from_millis(nap));
    };
    Ok(Decoded {
        status: status.code(),
        printed: whole(&mut out)?,
        errors: String::from_utf8_lossy(&whole(&mut err)?).into_owned(),
    })
}

fn whole(file: &mut File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let mut sleep = Command::new("sleep");
        sleep.arg("60");
        assert!(run_to_end(&mut sleep, Duration::from_millis(50)).is_err());
    }

    #[test]
    fn both_outputs_and_the_status_are_kept() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo out; echo err >&2; exit 3"]);
        let ended = run_to_end(&mut shell, Duration::from_secs(10)).unwrap();
        assert_eq!(
            (ended.status, &ended.printed[..], &*ended.errors),
            (Some(3), &b"out\n"[..], "err\n")
        );
    }
}
