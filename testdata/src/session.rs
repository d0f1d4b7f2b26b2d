//! One `psql` that stays open, so that a test can hold transactions open and interleave them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

/// An open session. Statements sent run one after the other; failed ones are passed over.
#[derive(Debug)]
pub struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    sent: u64,
}

impl Session {
    pub(crate) fn open(mut psql: Command) -> Result<Self> {
        let mut child = psql
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run psql")?;
        let stdin = child.stdin.take();
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| anyhow!("psql has no output"))?;
        Ok(Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
            sent: 0,
        })
    }

    /// Sends statements without waiting for them (they may block on a lock).
    ///
    /// # Errors
    /// When psql is gone.
    pub fn send(&mut self, sql: &str) -> Result<()> {
        let stdin = self
            .stdin
            .as_mut()
            .ok_or_else(|| anyhow!("the session is closed"))?;
        stdin.write_all(sql.as_bytes())?;
        stdin.write_all(b"\n")?;
        stdin.flush().context("psql is gone")
    }

    /// Sends statements, waits for all that were sent, and gives what they printed.
    ///
    /// # Errors
    /// When psql is gone.
    pub fn run(&mut self, sql: &str) -> Result<String> {
        self.sent += 1;
        let mark = format!("-- answered {} --", self.sent);
        self.send(sql)?;
        self.send(&format!("\\echo '{mark}'"))?;
        let mut printed = String::new();
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line)? == 0 {
                bail!("psql ended while running: {sql}");
            }
            if line.trim_end() == mark {
                return Ok(printed.trim_end_matches('\n').to_owned());
            }
            printed.push_str(&line);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
