//! Small pieces that several type families share: checked reads at an offset, and numbers as text.

use std::fmt::Display;
use std::io::Write;

use crate::cursor::ShortInput;

/// The `wanted` bytes at `offset`.
pub(super) fn bytes_at<'a>(
    value: &'a [u8],
    offset: usize,
    wanted: usize,
    what: &'static str,
) -> Result<&'a [u8], ShortInput> {
    let available = value.get(offset..).unwrap_or_default();
    available.get(..wanted).ok_or(ShortInput {
        what,
        offset,
        wanted,
        available: available.len(),
    })
}

/// The `N` bytes at `offset`.
pub(super) fn array_at<const N: usize>(
    value: &[u8],
    offset: usize,
    what: &'static str,
) -> Result<[u8; N], ShortInput> {
    let mut out = [0; N];
    out.copy_from_slice(bytes_at(value, offset, N, what)?);
    Ok(out)
}

/// The `u16` at `offset`.
pub(super) fn u16_at(value: &[u8], offset: usize, what: &'static str) -> Result<u16, ShortInput> {
    array_at(value, offset, what).map(u16::from_le_bytes)
}

/// The `u32` at `offset`.
pub(super) fn u32_at(value: &[u8], offset: usize, what: &'static str) -> Result<u32, ShortInput> {
    array_at(value, offset, what).map(u32::from_le_bytes)
}

/// Appends a number, as `Display` writes it.
pub(super) fn push_number(out: &mut Vec<u8>, number: impl Display) {
    // A vector takes whatever is written.
    let _infallible = write!(out, "{number}");
}

/// Appends `bytes` with each of the `special` ones preceded by `escape(byte)`.
pub(super) fn push_escaped(out: &mut Vec<u8>, bytes: &[u8], escape: impl Fn(u8) -> Option<u8>) {
    for &byte in bytes {
        out.extend(escape(byte));
        out.push(byte);
    }
}
