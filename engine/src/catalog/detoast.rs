//! Variable-length values of catalog rows, whole: short headers, compression, TOAST.
//!
//! ```text
//! bits of the first byte   form
//! xxxxxxx1 (not 1)         1-byte header, length in the upper seven bits
//! 00000001                 TOAST pointer: tag 18, raw size i32, size and method u32, value, table
//! xxxxxx00                 4-byte header, length in the upper thirty bits
//! xxxxxx10                 the same, compressed: raw size and method u32, data
//! ```
// pg: varatt.h, access/toast_compression.h [14-18]

use std::borrow::Cow;

use redostream_protocol::Cursor;
use redostream_protocol::Oid;
use redostream_protocol::value::decompress::{decompress_lz4, decompress_pglz};

use super::tuple;
use super::view::{TOAST_COLUMNS, View, toast_chunks};
use crate::limits::VALUE_BYTES_MAX;

/// The payload of a stored varlena value (header included in `stored`).
pub(crate) fn payload<'a>(
    view: &View<'a>,
    stored: &'a [u8],
) -> Result<Cow<'a, [u8]>, &'static str> {
    match stored.first() {
        None => Err("empty"),
        Some(1) => external(view, stored).map(Cow::Owned),
        Some(first) if first & 1 == 1 => Ok(Cow::Borrowed(&stored[1..])),
        Some(first) if first & 3 == 0 => stored.get(4..).map(Cow::Borrowed).ok_or("too short"),
        Some(_) => {
            let body = stored.get(4..).ok_or("too short")?;
            let (info, data) = body.split_at_checked(4).ok_or("too short")?;
            let info = u32::from_le_bytes([info[0], info[1], info[2], info[3]]);
            let mut out = Vec::new();
            inflate(info, data, &mut out)?;
            Ok(Cow::Owned(out))
        }
    }
}

/// Decompresses what an info word (size below, method in the upper two bits) describes.
fn inflate(info: u32, data: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    let raw = (info & 0x3FFF_FFFF) as usize;
    if raw > VALUE_BYTES_MAX {
        return Err("compressed value says it is too large");
    }
    let result = match info >> 30 {
        0 => decompress_pglz(data, raw, out),
        1 => decompress_lz4(data, raw, out),
        _ => return Err("unknown compression method"),
    };
    result.map_err(|_| "compressed value does not decompress")
}

fn external(view: &View<'_>, stored: &[u8]) -> Result<Vec<u8>, &'static str> {
    const SHORT: &str = "TOAST pointer is too short";
    let mut cursor = Cursor::new(stored);
    if cursor.array::<2>("tag").map_err(|_| SHORT)? != [1, 18] {
        return Err("unknown kind of TOAST pointer");
    }
    let raw = cursor.u32("raw size").map_err(|_| SHORT)?;
    let info = cursor.u32("stored size").map_err(|_| SHORT)?;
    let value = cursor.u32("value").map_err(|_| SHORT)?;
    let toast = Oid(cursor.u32("table").map_err(|_| SHORT)?);
    let wanted = (info & 0x3FFF_FFFF) as usize;
    let data = join(view, toast, value, wanted)?;
    // The raw size counts a header of four bytes, the stored size none.
    if wanted + 4 >= raw as usize {
        return Ok(data);
    }
    let tagged = data.get(..4).ok_or("compressed value is too short")?;
    let size = u32::from_le_bytes([tagged[0], tagged[1], tagged[2], tagged[3]]);
    let mut out = Vec::new();
    inflate(
        size & 0x3FFF_FFFF | info & 0xC000_0000,
        &data[4..],
        &mut out,
    )?;
    Ok(out)
}

/// Joins the chunks of a value.
fn join(view: &View<'_>, toast: Oid, value: u32, wanted: usize) -> Result<Vec<u8>, &'static str> {
    let mut chunks = Vec::new();
    for tuple in toast_chunks(view, toast, value)? {
        let column = |index| tuple::attribute(tuple, TOAST_COLUMNS.into_iter(), index);
        let number = column(1)?.and_then(|bytes| bytes.try_into().ok());
        let number = u32::from_le_bytes(number.ok_or("chunk without a number")?);
        let data = column(2)?.ok_or("chunk without data")?;
        let data = match data.first() {
            Some(1) | None => return Err("chunk is itself a pointer"),
            Some(first) if first & 1 == 1 => &data[1..],
            Some(first) if first & 3 == 0 => data.get(4..).unwrap_or(&[]),
            Some(_) => return Err("chunk is compressed"),
        };
        chunks.push((number, data));
    }
    // A value id may have been used before: later places win.
    chunks.sort_by_key(|(number, _)| *number);
    let mut out = Vec::new();
    let mut expected = 0;
    for (index, (number, data)) in chunks.iter().enumerate() {
        if chunks
            .get(index + 1)
            .is_some_and(|(next, _)| next == number)
        {
            continue;
        }
        if *number != expected {
            break;
        }
        expected += 1;
        out.extend_from_slice(data);
    }
    if out.len() == wanted {
        Ok(out)
    } else {
        Err("TOASTed value is not complete")
    }
}
