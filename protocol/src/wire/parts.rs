//! Joins what is too large for one frame.
//!
//! Parts are numbered from 0 and follow one another in the session's order; all say how many there
//! are and how many bytes they make together.

use bytes::{Bytes, BytesMut};

use super::error::WireError;

/// Where one part belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Number, from 0.
    pub number: u32,
    /// How many there are.
    pub count: u32,
    /// Bytes of all together.
    pub total: u64,
}

/// Collects the parts of one thing after another.
#[derive(Debug)]
pub struct PartCollector {
    what: &'static str,
    bytes_max: u64,
    under_way: Option<(Part, BytesMut)>,
}

impl PartCollector {
    /// A collector of things of at most `bytes_max` bytes; `what` names them in errors.
    #[must_use]
    pub const fn new(what: &'static str, bytes_max: u64) -> Self {
        Self {
            what,
            bytes_max,
            under_way: None,
        }
    }

    /// Whether a thing has begun and not ended.
    #[must_use]
    pub const fn inside(&self) -> bool {
        self.under_way.is_some()
    }

    /// Takes the next part; gives the whole with the last one.
    pub fn push(&mut self, part: Part, bytes: &Bytes) -> Result<Option<Bytes>, WireError> {
        if part.total > self.bytes_max {
            return Err(WireError::TooLarge {
                what: self.what,
                size: part.total,
                limit: self.bytes_max,
            });
        }
        let wanted = self
            .under_way
            .as_ref()
            .map_or(0, |(last, _)| last.number + 1);
        let same = self
            .under_way
            .as_ref()
            .is_none_or(|(last, _)| last.count == part.count && last.total == part.total);
        if !same || part.number != wanted || part.number >= part.count {
            return Err(WireError::Invalid("parts out of order"));
        }
        if part.count == 1 {
            return match bytes.len() as u64 == part.total {
                true => Ok(Some(bytes.clone())),
                false => Err(WireError::Invalid("a part's size contradicts its total")),
            };
        }
        let (mut last, mut held) = self
            .under_way
            .take()
            .unwrap_or_else(|| (part, BytesMut::new()));
        // Memory grows with what arrives, never by what a frame promises.
        if (held.len() + bytes.len()) as u64 > part.total {
            return Err(WireError::Invalid("parts larger than their total"));
        }
        held.extend_from_slice(bytes);
        last.number = part.number;
        if part.number + 1 < part.count {
            self.under_way = Some((last, held));
            return Ok(None);
        }
        match held.len() as u64 == part.total {
            true => Ok(Some(held.freeze())),
            false => Err(WireError::Invalid("parts smaller than their total")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u32, count: u32, total: u64) -> Part {
        Part {
            number,
            count,
            total,
        }
    }

    #[test]
    fn parts_join() {
        let mut parts = PartCollector::new("event", 10);
        let bytes = Bytes::from_static(b"abc");
        assert_eq!(parts.push(part(0, 2, 6), &bytes), Ok(None));
        assert!(parts.inside());
        let whole = parts.push(part(1, 2, 6), &bytes).unwrap().unwrap();
        assert_eq!(&whole[..], b"abcabc");
        assert!(!parts.inside());
        assert!(parts.push(part(0, 1, 3), &bytes).unwrap().is_some());
    }

    #[test]
    fn lies_are_refused() {
        let bytes = Bytes::from_static(b"abc");
        let mut parts = PartCollector::new("event", 10);
        assert!(parts.push(part(0, 2, 11), &bytes).is_err());
        assert!(parts.push(part(1, 2, 6), &bytes).is_err());
        assert!(parts.push(part(0, 0, 3), &bytes).is_err());
        assert!(parts.push(part(0, 1, 4), &bytes).is_err());
        parts.push(part(0, 2, 5), &bytes).unwrap();
        assert!(parts.push(part(1, 2, 5), &bytes).is_err());
    }
}
