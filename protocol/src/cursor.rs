//! The one checked reader for bytes that come from outside.
//!
//! Every take is checked; a failure says what was wanted and what was there; [`Cursor::finish`]
//! rejects leftovers. Numbers are little-endian, as on every machine PostgreSQL's files and our
//! frames are exchanged between.

/// Input that ends, or is larger, than its own structure says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {wanted} bytes wanted at offset {offset}, {available} there")]
pub struct ShortInput {
    /// What was being read.
    pub what: &'static str,
    /// Offset within the input.
    pub offset: usize,
    /// Bytes asked for.
    pub wanted: usize,
    /// Bytes that were left.
    pub available: usize,
}

/// A checked reader over a byte slice.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    input: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    /// Reads `input` from its beginning.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self { input, offset: 0 }
    }

    /// Bytes read so far.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.input.len() - self.offset
    }

    /// Everything not read yet, without reading it.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.input.get(self.offset..).unwrap_or_default()
    }

    /// Takes the next `wanted` bytes.
    pub fn take(&mut self, wanted: usize, what: &'static str) -> Result<&'a [u8], ShortInput> {
        match self.rest().get(..wanted) {
            Some(bytes) => {
                self.offset += wanted;
                Ok(bytes)
            }
            None => Err(ShortInput {
                what,
                offset: self.offset,
                wanted,
                available: self.remaining(),
            }),
        }
    }

    /// Takes exactly `N` bytes as an array.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ShortInput> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, what)?);
        Ok(out)
    }

    /// Takes a `u8`.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, ShortInput> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    /// Takes a little-endian `u16`.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, ShortInput> {
        self.array(what).map(u16::from_le_bytes)
    }

    /// Takes a little-endian `u32`.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, ShortInput> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// Takes a little-endian `i32`.
    pub fn i32(&mut self, what: &'static str) -> Result<i32, ShortInput> {
        self.array(what).map(i32::from_le_bytes)
    }

    /// Takes a little-endian `u64`.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, ShortInput> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Takes a little-endian `i64`.
    pub fn i64(&mut self, what: &'static str) -> Result<i64, ShortInput> {
        self.array(what).map(i64::from_le_bytes)
    }

    /// Takes bytes up to the next NUL, and the NUL.
    pub fn c_string(&mut self, what: &'static str) -> Result<&'a [u8], ShortInput> {
        let rest = self.rest();
        let Some(end) = rest.iter().position(|byte| *byte == 0) else {
            return Err(ShortInput {
                what,
                offset: self.offset,
                wanted: rest.len() + 1,
                available: rest.len(),
            });
        };
        self.offset += end + 1;
        Ok(&rest[..end])
    }

    /// Skips padding so that the offset becomes a multiple of `alignment` (a power of two).
    pub fn align(&mut self, alignment: usize, what: &'static str) -> Result<(), ShortInput> {
        let padding = self.offset.wrapping_neg() & (alignment - 1);
        self.take(padding, what).map(drop)
    }

    /// Ends reading; leftovers are an error (reported as 0 bytes wanted).
    pub fn finish(self, what: &'static str) -> Result<(), ShortInput> {
        if self.remaining() == 0 {
            return Ok(());
        }
        Err(ShortInput {
            what,
            offset: self.offset,
            wanted: 0,
            available: self.remaining(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_are_checked() {
        let mut cursor = Cursor::new(&[1, 2, 0, 3, 0, 0, 0]);
        assert_eq!(cursor.u8("a"), Ok(1));
        assert_eq!(cursor.u16("b"), Ok(2));
        let short = cursor.u64("c").unwrap_err();
        assert_eq!((short.offset, short.wanted, short.available), (3, 8, 4));
        assert!(cursor.finish("d").is_err());
        assert_eq!(cursor.c_string("e"), Ok(&[3][..]));
        cursor.align(2, "f").unwrap();
        assert_eq!(cursor.offset(), 6);
        assert!(Cursor::new(b"abc").c_string("g").is_err());
    }
}
