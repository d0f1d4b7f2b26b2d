//! A heap tuple: its header's bits, and its attributes.
//!
//! ```text
//! 0      4      8          12         18          20         22     23
//! | xmin | xmax | cid/xvac | ctid (6) | infomask2 | infomask | hoff | null bitmap ... data at hoff
//! ```
//!
//! Functions that take a tuple want at least the fixed header, as [`super::pages::Page::tuple`]
//! gives it.
// pg: access/htup_details.h [14-18]

use redostream_protocol::Xid;

use super::pages::TUPLE_HEADER_BYTES;

/// Bits of `t_infomask`.
pub(crate) mod infomask {
    pub(crate) const HAS_NULL: u16 = 0x0001;
    pub(crate) const XMAX_KEYSHR_LOCK: u16 = 0x0010;
    pub(crate) const XMAX_EXCL_LOCK: u16 = 0x0040;
    pub(crate) const XMAX_LOCK_ONLY: u16 = 0x0080;
    pub(crate) const LOCK_MASK: u16 = XMAX_KEYSHR_LOCK | XMAX_EXCL_LOCK;
    pub(crate) const XMIN_COMMITTED: u16 = 0x0100;
    pub(crate) const XMIN_INVALID: u16 = 0x0200;
    pub(crate) const XMIN_FROZEN: u16 = XMIN_COMMITTED | XMIN_INVALID;
    pub(crate) const XMAX_COMMITTED: u16 = 0x0400;
    pub(crate) const XMAX_INVALID: u16 = 0x0800;
    pub(crate) const XMAX_IS_MULTI: u16 = 0x1000;
    pub(crate) const MOVED: u16 = 0xC000;
    /// Everything that speaks of xmax.
    pub(crate) const XMAX_BITS: u16 =
        XMAX_COMMITTED | XMAX_INVALID | XMAX_IS_MULTI | LOCK_MASK | XMAX_LOCK_ONLY;
}

/// Bits of `t_infomask2`.
pub(crate) mod infomask2 {
    pub(crate) const ATTRIBUTES: u16 = 0x07FF;
    pub(crate) const KEYS_UPDATED: u16 = 0x2000;
    pub(crate) const HOT_UPDATED: u16 = 0x4000;
}

fn u16_at(tuple: &[u8], at: usize) -> u16 {
    match tuple.get(at..at + 2) {
        Some(bytes) => u16::from_le_bytes([bytes[0], bytes[1]]),
        None => 0,
    }
}

fn u32_at(tuple: &[u8], at: usize) -> u32 {
    match tuple.get(at..at + 4) {
        Some(bytes) => u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        None => 0,
    }
}

fn put(tuple: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = tuple.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

pub(crate) fn xmin(tuple: &[u8]) -> Xid {
    Xid(u32_at(tuple, 0))
}

pub(crate) fn xmax(tuple: &[u8]) -> Xid {
    Xid(u32_at(tuple, 4))
}

pub(crate) fn mask2(tuple: &[u8]) -> u16 {
    u16_at(tuple, 18)
}

pub(crate) fn mask(tuple: &[u8]) -> u16 {
    u16_at(tuple, 20)
}

pub(crate) fn hoff(tuple: &[u8]) -> usize {
    usize::from(tuple.get(22).copied().unwrap_or(0))
}

/// The tuple's attributes, as many as it stores.
pub(crate) fn attributes(tuple: &[u8]) -> u16 {
    mask2(tuple) & infomask2::ATTRIBUTES
}

pub(crate) fn set_xmin(tuple: &mut [u8], xid: Xid) {
    put(tuple, 0, &xid.0.to_le_bytes());
}

pub(crate) fn set_xmax(tuple: &mut [u8], xid: Xid) {
    put(tuple, 4, &xid.0.to_le_bytes());
}

pub(crate) fn set_mask2(tuple: &mut [u8], bits: u16) {
    put(tuple, 18, &bits.to_le_bytes());
}

pub(crate) fn set_mask(tuple: &mut [u8], bits: u16) {
    put(tuple, 20, &bits.to_le_bytes());
}

/// Sets where the next version is (or, pointing at itself, that there is none).
pub(crate) fn set_ctid(tuple: &mut [u8], block: u32, offset: u16) {
    put(tuple, 12, &((block >> 16) as u16).to_le_bytes());
    put(tuple, 14, &(block as u16).to_le_bytes());
    put(tuple, 16, &offset.to_le_bytes());
}

/// Sets xmax, after the bits that a record says.
// pg: access/heap/heapam.c fix_infomask_from_infobits [14-18]
pub(crate) fn set_deleter(tuple: &mut [u8], xmax: Xid, infobits: u8) {
    let mut bits = mask(tuple) & !(infomask::XMAX_BITS | infomask::MOVED);
    let mut bits2 = mask2(tuple) & !infomask2::KEYS_UPDATED;
    for (infobit, maskbit) in [
        (0x01, infomask::XMAX_IS_MULTI),
        (0x02, infomask::XMAX_LOCK_ONLY),
        (0x04, infomask::XMAX_EXCL_LOCK),
        (0x08, infomask::XMAX_KEYSHR_LOCK),
    ] {
        if infobits & infobit != 0 {
            bits |= maskbit;
        }
    }
    if infobits & 0x10 != 0 {
        bits2 |= infomask2::KEYS_UPDATED;
    }
    set_mask(tuple, bits);
    set_mask2(tuple, bits2);
    set_xmax(tuple, xmax);
    put(tuple, 8, &0_u32.to_le_bytes());
}

/// Whether xmax only locks.
// pg: access/htup_details.h HEAP_XMAX_IS_LOCKED_ONLY [14-18]
pub(crate) fn is_lock_only(bits: u16) -> bool {
    bits & infomask::XMAX_LOCK_ONLY != 0
        || bits & (infomask::XMAX_IS_MULTI | infomask::LOCK_MASK) == infomask::XMAX_EXCL_LOCK
}

/// Builds a tuple as recovery does from what the log holds of it.
pub(crate) fn build(
    header: LoggedHeader,
    xmin: Xid,
    xmax: Xid,
    tid: (u32, u16),
    body: &[&[u8]],
) -> Vec<u8> {
    let length = TUPLE_HEADER_BYTES + body.iter().map(|part| part.len()).sum::<usize>();
    let mut tuple = Vec::with_capacity(length);
    tuple.resize(TUPLE_HEADER_BYTES, 0);
    set_xmin(&mut tuple, xmin);
    set_xmax(&mut tuple, xmax);
    set_ctid(&mut tuple, tid.0, tid.1);
    set_mask2(&mut tuple, header.mask2);
    set_mask(&mut tuple, header.mask);
    put(&mut tuple, 22, &[header.hoff]);
    for part in body {
        tuple.extend_from_slice(part);
    }
    tuple
}

/// What the log keeps of a tuple's header.
// pg: access/heapam_xlog.h xl_heap_header [14-18]
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoggedHeader {
    pub(crate) mask2: u16,
    pub(crate) mask: u16,
    pub(crate) hoff: u8,
}

/// A byte within the tuple's data, as [`fixed_u32`].
pub(crate) fn fixed_u8(tuple: &[u8], at: usize) -> Option<u8> {
    if hoff(tuple) < TUPLE_HEADER_BYTES {
        return None;
    }
    tuple.get(hoff(tuple).checked_add(at)?).copied()
}

/// A fixed-width u32 within the tuple's data; `None` if the tuple is shorter.
///
/// Right only for attributes that no null or variable-length attribute can stand before.
pub(crate) fn fixed_u32(tuple: &[u8], at: usize) -> Option<u32> {
    let at = hoff(tuple).checked_add(at)?;
    if hoff(tuple) < TUPLE_HEADER_BYTES {
        return None;
    }
    let bytes = tuple.get(at..at + 4)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// How one attribute is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Storage {
    /// `attlen`.
    pub(crate) length: i16,
    /// Alignment in bytes.
    pub(crate) align: u8,
}

/// The bytes of attribute `wanted` (from 0) as stored, varlena header included. `Ok(None)` for
/// null and for attributes that the tuple does not hold.
pub(crate) fn attribute(
    tuple: &[u8],
    storage: impl Iterator<Item = Storage>,
    wanted: usize,
) -> Result<Option<&[u8]>, &'static str> {
    let count = usize::from(attributes(tuple));
    if wanted >= count {
        return Ok(None);
    }
    let hoff = hoff(tuple);
    let has_nulls = mask(tuple) & infomask::HAS_NULL != 0;
    let bitmap_end = TUPLE_HEADER_BYTES + if has_nulls { count.div_ceil(8) } else { 0 };
    if hoff < bitmap_end || hoff > tuple.len() {
        return Err("header length is wrong");
    }
    let is_null =
        |index: usize| has_nulls && tuple[TUPLE_HEADER_BYTES + index / 8] & (1 << (index % 8)) == 0;
    let data = &tuple[hoff..];
    let mut at = 0;
    for (index, storage) in storage.enumerate() {
        if is_null(index) {
            if index == wanted {
                return Ok(None);
            }
            continue;
        }
        let (start, end) = stored_range(data, at, storage)?;
        if index == wanted {
            return Ok(Some(&data[start..end]));
        }
        at = end;
    }
    Err("more attributes than the catalog has")
}

/// Where a value at or behind `at` starts and ends.
// pg: access/tupmacs.h att_align_pointer, att_addlength_pointer [14-18]
pub(crate) fn stored_range(
    data: &[u8],
    at: usize,
    storage: Storage,
) -> Result<(usize, usize), &'static str> {
    const SHORT: &str = "ends within an attribute";
    let aligned = at.next_multiple_of(usize::from(storage.align.max(1)));
    let (start, length) = match storage.length {
        fixed @ 0.. => (aligned, fixed as usize),
        -1 => {
            // A short header is not aligned, and padding is always zero.
            let start = match data.get(at) {
                Some(0) => aligned,
                Some(_) => at,
                None => return Err(SHORT),
            };
            (
                start,
                varlena_bytes(data.get(start..).unwrap_or(&[])).ok_or(SHORT)?,
            )
        }
        _ => {
            let rest = data.get(at..).unwrap_or(&[]);
            let end = rest.iter().position(|byte| *byte == 0).ok_or(SHORT)?;
            (at, end + 1)
        }
    };
    let end = start.checked_add(length).ok_or(SHORT)?;
    if end > data.len() {
        return Err(SHORT);
    }
    Ok((start, end))
}

/// Bytes of the varlena value that `data` begins with, header included.
// pg: varatt.h VARSIZE_ANY [14-18]; little-endian
pub(crate) fn varlena_bytes(data: &[u8]) -> Option<usize> {
    let first = *data.first()?;
    if first == 1 {
        // A TOAST pointer on disk: header, tag 18, 16 bytes.
        return (*data.get(1)? == 18).then_some(18);
    }
    if first & 1 == 1 {
        return Some(usize::from(first >> 1));
    }
    let bytes = data.get(..4)?;
    let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let length = (word >> 2) as usize;
    (length >= 4).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INT: Storage = Storage {
        length: 4,
        align: 4,
    };
    const TEXT: Storage = Storage {
        length: -1,
        align: 4,
    };

    fn tuple(mask: u16, count: u16, hoff: u8, body: &[u8]) -> Vec<u8> {
        let header = LoggedHeader {
            mask2: count,
            mask,
            hoff,
        };
        build(header, Xid(7), Xid(0), (3, 4), &[body])
    }

    #[test]
    fn attributes_are_walked() {
        // int 5, short text "ab", int 6 (aligned)
        let body = [0, 5, 0, 0, 0, 7, b'a', b'b', 0, 6, 0, 0, 0];
        let bytes = tuple(0, 3, 24, &body);
        let columns = [INT, TEXT, INT];
        let get = |index| attribute(&bytes, columns.iter().copied(), index);
        assert_eq!(get(0), Ok(Some(&[5, 0, 0, 0][..])));
        assert_eq!(get(1), Ok(Some(&[7, b'a', b'b'][..])));
        assert_eq!(get(2), Ok(Some(&[6, 0, 0, 0][..])));
        assert_eq!(get(3), Ok(None));
        assert_eq!(fixed_u32(&bytes, 0), Some(5));
        for cut in TUPLE_HEADER_BYTES..bytes.len() {
            let _ = attribute(&bytes[..cut], columns.iter().copied(), 2).unwrap_err();
        }
    }

    #[test]
    fn nulls_take_no_room() {
        let bytes = tuple(infomask::HAS_NULL, 3, 24, &[0b101, 5, 0, 0, 0, 6, 0, 0, 0]);
        let columns = [INT, TEXT, INT];
        let get = |index| attribute(&bytes, columns.iter().copied(), index);
        assert_eq!(get(1), Ok(None));
        assert_eq!(get(2), Ok(Some(&[6, 0, 0, 0][..])));
    }

    #[test]
    fn deleter_bits() {
        let mut bytes = tuple(infomask::XMAX_INVALID, 3, 24, &[0; 13]);
        set_deleter(&mut bytes, Xid(9), 0x14);
        assert_eq!(mask(&bytes), infomask::XMAX_EXCL_LOCK);
        assert_eq!(mask2(&bytes), 3 | infomask2::KEYS_UPDATED);
        assert_eq!((xmin(&bytes), xmax(&bytes)), (Xid(7), Xid(9)));
        assert!(is_lock_only(infomask::XMAX_LOCK_ONLY));
        assert!(is_lock_only(infomask::XMAX_EXCL_LOCK));
        assert!(!is_lock_only(0));
    }
}
