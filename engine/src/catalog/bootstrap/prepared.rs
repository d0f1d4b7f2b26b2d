//! `pg_twophase`: transactions that were prepared before the checkpoint and wait for their end.
//!
//! ```text
//! name: xid in 8 hex digits (14-16), or epoch and xid in 16 (17 on)
//! content: what the prepare record had, then its CRC-32C
//! ```
// pg: access/transam/twophase.c TwoPhaseFilePath, ReadTwoPhaseFile, xl_xact_prepare [14-18]

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use redostream_protocol::{DatabaseOid, Xid};

use super::error::BootstrapError;
use crate::catalog::filenodes::crc32c;
use crate::framing::format::WalFormat;
use crate::framing::xact;
use crate::limits::STATE_FILE_BYTES_MAX;

/// A transaction that was prepared and had not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedTransaction {
    /// The transaction.
    pub xid: Xid,
    /// The name it was prepared under.
    pub gid: Vec<u8>,
    /// Its database.
    pub database: DatabaseOid,
    /// Its committed subtransactions.
    pub subxacts: Vec<Xid>,
}

/// Reads the directory `pg_twophase` below `root`. Files that vanish meanwhile belong to
/// transactions whose end the log brings.
pub(crate) fn read_all(
    root: &Path,
    format: &WalFormat,
) -> Result<Vec<PreparedTransaction>, BootstrapError> {
    let directory = root.join("pg_twophase");
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(BootstrapError::io(&directory, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| BootstrapError::io(&directory, error))?;
        let name = entry.file_name();
        let Some(xid) = name.to_str().and_then(xid_of_name) else {
            continue;
        };
        if let Some(bytes) = read_file(&entry.path())? {
            let parsed = parse(&bytes, xid, format);
            found.push(parsed.map_err(|problem| BootstrapError::Prepared {
                path: entry.path(),
                problem,
            })?);
        }
    }
    found.sort_unstable_by_key(|prepared| prepared.xid.0);
    Ok(found)
}

fn xid_of_name(name: &str) -> Option<Xid> {
    let hexadecimal = name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hexadecimal || !matches!(name.len(), 8 | 16) {
        return None;
    }
    let low = name.get(name.len() - 8..)?;
    u32::from_str_radix(low, 16).ok().map(Xid)
}

fn read_file(path: &Path) -> Result<Option<Vec<u8>>, BootstrapError> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BootstrapError::io(path, error)),
        Ok(file) => {
            file.take(STATE_FILE_BYTES_MAX)
                .read_to_end(&mut bytes)
                .map_err(|error| BootstrapError::io(path, error))?;
            Ok(Some(bytes))
        }
    }
}

fn parse(bytes: &[u8], xid: Xid, format: &WalFormat) -> Result<PreparedTransaction, String> {
    let (content, crc) = bytes
        .split_last_chunk::<4>()
        .ok_or("the state file of a prepared transaction is empty")?;
    let (stored, computed) = (u32::from_le_bytes(*crc), crc32c(content));
    if stored != computed {
        return Err(format!(
            "the CRC of the prepared transaction is {stored:#010x}, its content gives {computed:#010x}"
        ));
    }
    let prepare = xact::parse_prepare(content, format).map_err(|error| error.to_string())?;
    if prepare.prepared_xid != Some(xid) {
        return Err("the state file is of another transaction than its name says".to_owned());
    }
    Ok(PreparedTransaction {
        xid,
        gid: prepare.gid.unwrap_or_default(),
        database: prepare.database,
        subxacts: prepare.subxacts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn craft(xid: u32, gid: &[u8], subxacts: &[u32], major: u16) -> Vec<u8> {
        let mut out = Vec::new();
        let word = |out: &mut Vec<u8>, n: u32| out.extend_from_slice(&n.to_le_bytes());
        for n in [0x57F9_4534, 0, xid, 5] {
            word(&mut out, n);
        }
        out.extend_from_slice(&1_i64.to_le_bytes());
        word(&mut out, 10);
        word(&mut out, u32::try_from(subxacts.len()).unwrap());
        let counts = if major == 14 { 3 } else { 5 };
        for _ in 0..counts {
            word(&mut out, 0);
        }
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&u16::try_from(gid.len() + 1).unwrap().to_le_bytes());
        out.resize(out.len().next_multiple_of(8), 0);
        out.extend_from_slice(&[0; 16]);
        out.extend_from_slice(gid);
        out.push(0);
        out.resize(out.len().next_multiple_of(8), 0);
        for xid in subxacts {
            word(&mut out, *xid);
        }
        out.resize(out.len().next_multiple_of(8), 0);
        let crc = crc32c(&out);
        word(&mut out, crc);
        out
    }

    #[test]
    fn both_kinds_of_names_are_read() {
        for (major, name) in [(14, "000002BC"), (16, "000002BC"), (17, "00000001000002BC")] {
            let directory = tempfile::tempdir().unwrap();
            let format = WalFormat::of_major(major).unwrap();
            assert!(read_all(directory.path(), format).unwrap().is_empty());
            let twophase = directory.path().join("pg_twophase");
            std::fs::create_dir(&twophase).unwrap();
            std::fs::write(twophase.join("readme"), "x").unwrap();
            std::fs::write(twophase.join(name), craft(700, b"pay 7", &[701], major)).unwrap();
            let found = read_all(directory.path(), format).unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].xid, Xid(700));
            assert_eq!(found[0].gid, b"pay 7");
            assert_eq!(found[0].subxacts, [Xid(701)]);
            std::fs::write(twophase.join(name), craft(701, b"pay 7", &[], major)).unwrap();
            assert!(read_all(directory.path(), format).is_err());
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_noticed(bit in any::<prop::sample::Index>()) {
            let format = WalFormat::of_major(16).unwrap();
            let mut bytes = craft(700, b"gid", &[701, 702], 16);
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(parse(&bytes, Xid(700), format).is_err());
        }
    }
}
