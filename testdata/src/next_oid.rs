//! Turns a stopped cluster's counter of OIDs back, so that a case can use OIDs and file numbers a
//! second time. In real life that takes four thousand million of them.
//!
//! A server begins with what its last checkpoint record says, and `pg_control` repeats that
//! record; both are changed, with their checksums. Nobody else reads the counter from the log.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Offsets in `pg_control`: where the last checkpoint's record begins, and the copy of it.
// pg: catalog/pg_control.h ControlFileData [14-18]
const CHECKPOINT_LSN: usize = 32;
const CHECKPOINT_COPY: usize = 40;
/// Offset of the counter in a checkpoint.
// pg: catalog/pg_control.h CheckPoint [14-18]
const NEXT_OID: usize = 32;
/// A record's header, and where its CRC stands in it; main data follows behind a byte that says
/// so and a byte of length.
// pg: access/xlogrecord.h XLogRecord, XLogRecordDataHeaderShort [14-18]
const HEADER_BYTES: usize = 24;
const CRC: usize = 20;
const DATA: usize = HEADER_BYTES + 2;
/// Pages, and the header of those that are not the first of a segment.
const PAGE_BYTES: usize = 8192;
const PAGE_HEADER_BYTES: usize = 24;

/// Makes the next OID that a cleanly stopped cluster gives out this one.
///
/// # Errors
/// When files cannot be read or written, or are not as expected.
pub fn set_next_oid(data: &Path, segment_bytes: u64, oid: u32) -> Result<()> {
    let path = data.join("global/pg_control");
    let mut control = fs::read(&path).with_context(|| path.display().to_string())?;
    let crc_at = (CHECKPOINT_COPY + NEXT_OID..control.len() - 4)
        .step_by(4)
        .find(|at| control[*at..at + 4] == crc32c(&[&control[..*at]]).to_le_bytes())
        .context("pg_control has no CRC that fits")?;
    let number = |at: usize| -> u64 {
        let bytes: [u8; 8] = control[at..at + 8].try_into().unwrap_or_default();
        u64::from_le_bytes(bytes)
    };
    let lsn = number(CHECKPOINT_LSN);
    set_in_log(&data.join("pg_wal"), lsn, segment_bytes, oid)?;
    control[CHECKPOINT_COPY + NEXT_OID..][..4].copy_from_slice(&oid.to_le_bytes());
    let crc = crc32c(&[&control[..crc_at]]);
    control[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
    // In place: the file stays its server's.
    fs::write(&path, control).with_context(|| path.display().to_string())
}

fn set_in_log(pg_wal: &Path, lsn: u64, segment_bytes: u64, oid: u32) -> Result<()> {
    let per_log = 0x1_0000_0000 / segment_bytes;
    let segment = lsn / segment_bytes;
    let name = format!("00000001{:08X}{:08X}", segment / per_log, segment % per_log);
    let path = pg_wal.join(name);
    let mut bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    let start = (lsn % segment_bytes) as usize;
    let length = bytes
        .get(start..start + 4)
        .and_then(|length| length.try_into().ok())
        .map_or(0, u32::from_le_bytes) as usize;
    // A record may run into the next page, over its header.
    let places: Vec<usize> = (start..bytes.len())
        .filter(|at| at % PAGE_BYTES >= PAGE_HEADER_BYTES)
        .take(length)
        .collect();
    ensure!(
        length > DATA + NEXT_OID && places.len() == length,
        "no record at the checkpoint's place"
    );
    let mut record: Vec<u8> = places.iter().map(|at| bytes[*at]).collect();
    let sum = |record: &[u8]| crc32c(&[&record[HEADER_BYTES..], &record[..CRC]]).to_le_bytes();
    ensure!(
        sum(&record) == record[CRC..HEADER_BYTES],
        "the record at the checkpoint's place has a wrong CRC"
    );
    record[DATA + NEXT_OID..][..4].copy_from_slice(&oid.to_le_bytes());
    let crc = sum(&record);
    record[CRC..HEADER_BYTES].copy_from_slice(&crc);
    for (at, byte) in places.into_iter().zip(record) {
        bytes[at] = byte;
    }
    fs::write(&path, bytes).with_context(|| path.display().to_string())
}

/// CRC-32C, bit by bit: for two records it need not be fast.
fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut crc = !0_u32;
    for byte in parts.iter().copied().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_the_well_known_one() {
        assert_eq!(crc32c(&[b"1234", b"56789"]), 0xE306_9283);
    }
}
