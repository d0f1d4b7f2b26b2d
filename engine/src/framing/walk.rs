//! Looks into a record's headers without taking them all apart: the hot path needs the first
//! block's page, the top-level xid, and where the data of block 0 and the main data lie.
//!
//! The layout is drawn in `record.rs`. `None` always means that the headers do not fit.

use redostream_protocol::{Oid, RelFileNode, Xid};

use super::format::WalFormat;
use super::page::{u16_at, u32_at};
use super::record::{BLOCK_ID_MAX, RECORD_HEADER_BYTES};

const MAIN_SHORT: u8 = 255;
const TOP_XID: u8 = 252;
const HAS_IMAGE: u8 = 0x10;
const SAME_REL: u8 = 0x80;

/// Bytes of a block header up to and with its fork flags and data length.
const BLOCK_FIXED: usize = 4;

/// File and block number of the first block reference, which always comes first in a record.
#[inline]
pub(crate) fn first_block(record: &[u8], format: &WalFormat) -> Option<(RelFileNode, u32)> {
    let mut at = RECORD_HEADER_BYTES;
    let fixed = record.get(at..at + BLOCK_FIXED)?;
    let (id, flags) = (fixed[0], fixed[1]);
    if id > BLOCK_ID_MAX || flags & SAME_REL != 0 {
        return None;
    }
    at += BLOCK_FIXED;
    if flags & HAS_IMAGE != 0 {
        at += image_header_bytes(record.get(at..at + 5)?[4], format);
    }
    let page = record.get(at..at + 16)?;
    let node = RelFileNode {
        tablespace: Oid(u32_at(page, 0)),
        database: Oid(u32_at(page, 4)),
        relation: Oid(u32_at(page, 8)),
    };
    Some((node, u32_at(page, 12)))
}

#[inline]
fn image_header_bytes(info: u8, format: &WalFormat) -> usize {
    let bits = &format.image;
    let compressed = info & (bits.pglz | bits.lz4 | bits.zstd) != 0;
    if compressed && info & bits.has_hole != 0 {
        7
    } else {
        5
    }
}

/// The data of a record: block 0's, and the resource manager's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) block_data: &'a [u8],
    pub(crate) main: &'a [u8],
    pub(crate) top: Xid,
}

/// Bytes of a record's headers up to and with those of one block without an image.
const ONE_BLOCK_BYTES: usize = RECORD_HEADER_BYTES + BLOCK_FIXED + 16;
/// The commonest record: one block without an image, short main data.
const COMMON_BYTES: usize = ONE_BLOCK_BYTES + 2;
/// The same as a subtransaction's first record, with the top-level xid.
const WITH_TOP_BYTES: usize = ONE_BLOCK_BYTES + 5 + 2;

/// Takes a record's headers apart.
#[inline]
pub(crate) fn parts<'a>(record: &'a [u8], format: &WalFormat) -> Option<Parts<'a>> {
    if let Some((headers, payload)) = record.split_first_chunk::<COMMON_BYTES>()
        && headers[24] == 0
        && headers[25] & (HAS_IMAGE | SAME_REL) == 0
        && headers[44] == MAIN_SHORT
    {
        return one_block(headers, payload, headers[45], Xid::INVALID);
    }
    rarer_parts(record, format)
}

/// The block's data and the main data, `main_bytes` of it, of a record with one block.
#[inline(always)]
fn one_block<'a>(headers: &[u8], payload: &'a [u8], main_bytes: u8, top: Xid) -> Option<Parts<'a>> {
    let block_bytes = usize::from(u16_at(headers, 26));
    let (block_data, main) = payload.split_at_checked(block_bytes)?;
    (main.len() == usize::from(main_bytes)).then_some(Parts {
        block_data,
        main,
        top,
    })
}

#[inline(never)]
fn rarer_parts<'a>(record: &'a [u8], format: &WalFormat) -> Option<Parts<'a>> {
    if let Some((headers, payload)) = record.split_first_chunk::<WITH_TOP_BYTES>()
        && headers[24] == 0
        && headers[25] & (HAS_IMAGE | SAME_REL) == 0
        && headers[44] == TOP_XID
        && headers[49] == MAIN_SHORT
    {
        return one_block(headers, payload, headers[50], Xid(u32_at(headers, 45)));
    }
    any_parts(record, format)
}

fn any_parts<'a>(record: &'a [u8], format: &WalFormat) -> Option<Parts<'a>> {
    let mut at = RECORD_HEADER_BYTES;
    let mut payload = 0;
    let mut block_at = 0;
    let mut block_bytes = 0;
    let mut main_bytes = 0;
    let mut top = Xid::INVALID;
    while record.len() - at > payload {
        match *record.get(at)? {
            MAIN_SHORT => {
                main_bytes = usize::from(*record.get(at + 1)?);
                at += 2;
                break;
            }
            254 => {
                main_bytes = u32_at(record.get(at + 1..at + 5)?, 0) as usize;
                at += 5;
                break;
            }
            253 => at += 3,
            TOP_XID => {
                top = Xid(u32_at(record.get(at + 1..at + 5)?, 0));
                at += 5;
            }
            id @ 0..=BLOCK_ID_MAX => {
                let fixed = record.get(at..at + BLOCK_FIXED)?;
                let flags = fixed[1];
                let data = usize::from(u16_at(fixed, 2));
                at += BLOCK_FIXED;
                if flags & HAS_IMAGE != 0 {
                    let image = record.get(at..at + 5)?;
                    payload += usize::from(u16_at(image, 0));
                    at += image_header_bytes(image[4], format);
                }
                if id == 0 {
                    block_at = payload;
                    block_bytes = data;
                }
                payload += data;
                at += if flags & SAME_REL != 0 { 4 } else { 16 };
            }
            _ => return None,
        }
        if at > record.len() {
            return None;
        }
    }
    let block_at = at + block_at;
    let main_at = at + payload;
    if main_at + main_bytes != record.len() {
        return None;
    }
    Some(Parts {
        block_data: record.get(block_at..block_at + block_bytes)?,
        main: record.get(main_at..)?,
        top,
    })
}

/// The top-level xid that a record names, or none.
pub(crate) fn top_xid(record: &[u8], format: &WalFormat) -> Option<Xid> {
    parts(record, format).map(|parts| parts.top)
}
