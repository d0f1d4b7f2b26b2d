//! Values packed inside a container: arrays, row types, ranges. Alignment there counts from the
//! start of the container's varlena, whose 4-byte header the caller no longer has; the values keep
//! their own headers, which may be short, and may be compressed.

use super::decompress::decompress_within;
use super::{TextContext, ValueError};
use crate::cursor::{Cursor, ShortInput};
use crate::event::CompressionMethod;

/// Bytes of the header that the container's payload lacks.
pub(crate) const HEADER_BYTES: usize = 4;

/// One value of a container.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Packed<'a> {
    /// Its bytes without a header.
    Plain(&'a [u8]),
    /// Its bytes, still compressed.
    Compressed {
        method: CompressionMethod,
        raw_size: u32,
        stored: &'a [u8],
    },
}

impl Packed<'_> {
    /// Calls `with` with the value's plain bytes, if they are not more than the context takes.
    pub(crate) fn plain<T>(
        self,
        context: &TextContext,
        with: impl FnOnce(&[u8]) -> Result<T, ValueError>,
    ) -> Result<T, ValueError> {
        match self {
            Packed::Plain(bytes) => with(bytes),
            Packed::Compressed {
                method,
                raw_size,
                stored,
            } => {
                let mut raw = Vec::new();
                decompress_within(context.value_bytes_max, method, raw_size, stored, &mut raw)?;
                with(&raw)
            }
        }
    }
}

/// A reader over packed values. Offsets count from the start of the varlena.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackedValues<'a> {
    payload: &'a [u8],
    offset: usize,
}

impl<'a> PackedValues<'a> {
    /// Reads `payload` from `offset`, which counts the header that `payload` lacks.
    pub(crate) fn new(payload: &'a [u8], offset: usize) -> Self {
        Self {
            payload,
            offset: offset.max(HEADER_BYTES),
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.payload
            .get(self.offset - HEADER_BYTES..)
            .unwrap_or_default()
    }

    fn take(&mut self, wanted: usize, what: &'static str) -> Result<&'a [u8], ValueError> {
        let rest = self.rest();
        let taken = rest.get(..wanted).ok_or(ShortInput {
            what,
            offset: self.offset,
            wanted,
            available: rest.len(),
        })?;
        self.offset += wanted;
        Ok(taken)
    }

    /// Moves to the next multiple of what `align` (`c`, `s`, `i`, `d`) stands for.
    // pg: access/tupmacs.h att_align_nominal [14-18]
    pub(crate) fn align(&mut self, align: u8) {
        self.offset = self.offset.next_multiple_of(alignment(align));
    }

    /// As [`Self::align`], but a varlena with a short header is not aligned: padding is zero, and
    /// a short header never is.
    // pg: access/tupmacs.h att_align_pointer [14-18]
    pub(crate) fn align_stored(&mut self, align: u8, length: i16) {
        if length != -1 || self.rest().first() == Some(&0) {
            self.align(align);
        }
    }

    /// Takes a value of a type with this `typlen`.
    // pg: access/tupmacs.h att_addlength_pointer; varatt.h [14-18]
    pub(crate) fn read(&mut self, length: i16) -> Result<Packed<'a>, ValueError> {
        match length {
            -1 => self.read_varlena(),
            -2 => {
                let text = Cursor::new(self.rest()).c_string("C string in a container")?;
                self.take(text.len() + 1, "C string in a container")?;
                Ok(Packed::Plain(text))
            }
            _ => {
                let Ok(length) = usize::try_from(length) else {
                    return Err(ValueError::invalid(
                        "container",
                        "element of unknown length",
                    ));
                };
                Ok(Packed::Plain(self.take(length, "value in a container")?))
            }
        }
    }

    fn read_varlena(&mut self) -> Result<Packed<'a>, ValueError> {
        const WHAT: &str = "varlena in a container";
        let too_small = ValueError::invalid("container", "varlena smaller than its header");
        let first = Cursor::new(self.rest()).u8(WHAT)?;
        if first == 0x01 {
            return Err(ValueError::invalid("container", "TOAST pointer inside"));
        }
        if first & 0x01 != 0 {
            let bytes = self.take(usize::from(first >> 1), WHAT)?;
            return bytes.get(1..).map(Packed::Plain).ok_or(too_small);
        }
        let header = Cursor::new(self.rest()).u32(WHAT)?;
        let mut cursor = Cursor::new(self.take((header >> 2) as usize, WHAT)?);
        if cursor.take(4, WHAT).is_err() {
            return Err(too_small);
        }
        if header & 0x02 == 0 {
            return Ok(Packed::Plain(cursor.rest()));
        }
        let info = cursor.u32("compressed value")?;
        let method = match info >> 30 {
            0 => CompressionMethod::Pglz,
            1 => CompressionMethod::Lz4,
            _ => {
                return Err(ValueError::invalid(
                    "container",
                    "unknown compression method",
                ));
            }
        };
        Ok(Packed::Compressed {
            method,
            raw_size: info & 0x3FFF_FFFF,
            stored: cursor.rest(),
        })
    }
}

/// Bytes of an alignment letter; unknown letters align to 1, and what follows fails to read.
// pg: catalog/pg_type.h TYPALIGN_CHAR and others [14-18]
pub(crate) const fn alignment(align: u8) -> usize {
    match align {
        b's' => 2,
        b'i' => 4,
        b'd' => 8,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_inside_is_held_against_the_bound() {
        // A header, the raw size with the method, "aaa..." as pglz has it.
        let mut payload = (13 << 2 | 2_u32).to_le_bytes().to_vec();
        payload.extend(21_u32.to_le_bytes());
        payload.extend(b"\x02a\x0F\x01\x02");
        let value = PackedValues::new(&payload, 0).read(-1).unwrap();
        let mut context = TextContext::new(15, 6);
        context.value_bytes_max = 21;
        let read = |context: &TextContext| value.plain(context, |bytes| Ok(bytes.to_vec()));
        assert_eq!(read(&context).unwrap(), [b'a'; 21]);
        context.value_bytes_max = 20;
        let (bytes, limit) = (21, 20);
        assert_eq!(read(&context), Err(ValueError::TooLarge { bytes, limit }));
    }
}
