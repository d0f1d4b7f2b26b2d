//! Framing: pages to records.
//!
//! Takes: a chunk of WAL bytes. Gives: the records that start in it, checked and classified, row
//! records already dealt to partitions. Keeps: nothing from one chunk to the next. Never: looks at
//! another chunk's records, skips a record it does not know, or believes a length before the
//! prev-link and the CRC have passed.

pub mod chunk;
pub mod crc;
mod crossing;
mod deal;
pub mod end;
pub mod error;
pub mod format;
pub mod framer;
mod lookups;
pub mod page;
pub mod partition;
pub mod record;
pub mod rmgr;
#[cfg(test)]
mod tests;
pub mod wal_bytes;
pub(crate) mod walk;
pub mod xact;
