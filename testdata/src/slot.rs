//! What the server itself decodes, through a logical slot with `test_decoding`.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use crate::cluster::Cluster;

/// The plugin's options that the contract names.
const OPTIONS: &str = "'skip-empty-xacts', '1', 'include-timestamp', '0'";

/// One line group that the server printed: a line of `test_decoding`, which may itself hold
/// line ends, with the position the server gives for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The LSN the server names beside it.
    pub lsn: u64,
    /// The transaction.
    pub xid: u32,
    /// The text.
    pub data: Vec<u8>,
}

/// Joins changes as `pg_recvlogical` prints them.
pub fn printed(changes: &[Change]) -> Vec<u8> {
    let mut text = Vec::new();
    for change in changes {
        text.extend_from_slice(&change.data);
        text.push(b'\n');
    }
    text
}

impl Cluster {
    /// Creates a logical slot with `test_decoding` in a database.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_slot(&self, database: &str, slot: &str) -> Result<()> {
        self.sql(
            database,
            &format!("select pg_create_logical_replication_slot('{slot}', 'test_decoding')"),
        )
        .map(drop)
    }

    /// Drops a slot.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn drop_slot(&self, slot: &str) -> Result<()> {
        self.sql(
            "postgres",
            &format!("select pg_drop_replication_slot('{slot}')"),
        )
        .map(drop)
    }

    /// Everything a slot has to tell up to now, without moving it.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn peek(&self, database: &str, slot: &str) -> Result<Vec<Change>> {
        // The binary form gives the plugin's bytes as they are, also those that are not valid
        // in any encoding; hexadecimal takes them through psql unharmed.
        let sql = format!(
            "select lsn, xid, encode(data, 'hex')
             from pg_logical_slot_peek_binary_changes('{slot}', null, null, {OPTIONS})"
        );
        let output = self
            .psql(database)
            .env(
                "PGOPTIONS",
                "-c search_path= -c timezone=UTC -c lc_monetary=C -c datestyle=ISO -c intervalstyle=postgres -c bytea_output=hex -c extra_float_digits=1",
            )
            .args(["-F", " ", "-v", "ON_ERROR_STOP=1", "-c", &sql])
            .output()
            .context("cannot run psql")?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output
            .stdout
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(change)
            .collect()
    }

    /// What `pg_recvlogical` prints from a slot up to an LSN. The slot moves on.
    ///
    /// # Errors
    /// When the program fails.
    pub fn receive(&self, database: &str, slot: &str, end: &str) -> Result<Vec<u8>> {
        let output = self
            .client("pg_recvlogical", database)
            .args(["--start", "--no-loop", "-f", "-", "-S", slot, "-E", end])
            .args(["-o", "skip-empty-xacts=1", "-o", "include-timestamp=0"])
            .args(["-d", database, "-s", "1", "-F", "0"])
            .stderr(Stdio::piped())
            .output()
            .context("cannot run pg_recvlogical")?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output.stdout)
    }

    /// Waits until a slot could start from a consistent point.
    ///
    /// # Errors
    /// After half a minute.
    pub fn wait_for_slot(&self, slot: &str) -> Result<()> {
        self.wait_for(
            &format!("select count(*) = 1 from pg_replication_slots where slot_name = '{slot}' and (slot_type = 'physical' or confirmed_flush_lsn is not null)"),
            Duration::from_secs(30),
        )
    }
}

fn change(line: &[u8]) -> Result<Change> {
    let text = std::str::from_utf8(line).context("psql printed what is not text")?;
    let mut fields = text.split(' ');
    let mut next = || {
        fields
            .next()
            .ok_or_else(|| anyhow!("psql printed too few fields: {text}"))
    };
    let lsn = parse_lsn(next()?)?;
    let xid = next()?.parse()?;
    let data = unhex(next()?)?;
    Ok(Change { lsn, xid, data })
}

/// Reads an LSN as PostgreSQL prints it.
///
/// # Errors
/// When it is none.
pub fn parse_lsn(text: &str) -> Result<u64> {
    let (high, low) = text
        .split_once('/')
        .ok_or_else(|| anyhow!("not an LSN: {text}"))?;
    let high = u32::from_str_radix(high, 16).with_context(|| format!("not an LSN: {text}"))?;
    let low = u32::from_str_radix(low, 16).with_context(|| format!("not an LSN: {text}"))?;
    Ok(u64::from(high) << 32 | u64::from(low))
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    ensure!(
        text.len().is_multiple_of(2),
        "odd number of hexadecimal digits"
    );
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| {
            let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
            match (digit(pair[0]), digit(pair[1])) {
                (Some(high), Some(low)) => Ok(high << 4 | low),
                _ => Err(anyhow!("not hexadecimal")),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line_of_psql() {
        let change = change(b"16/B374D848 731 424547494e").unwrap();
        assert_eq!(
            change,
            Change {
                lsn: 0x16_B374_D848,
                xid: 731,
                data: b"BEGIN".to_vec()
            }
        );
    }
}
