//! Joins chunks without a seam: the first record of each must stand where the last chunk ended,
//! and link back to its last record.

use redostream_protocol::Lsn;

use super::GateError;
use crate::framing::chunk::{FramedChunk, Stop};

/// Where the log is expected to go on.
#[derive(Clone, Copy, Debug)]
pub struct Join {
    expected: Lsn,
    last: Lsn,
}

impl Join {
    /// Nothing is known yet but where the first record stands.
    #[must_use]
    pub const fn at(start: Lsn) -> Self {
        Join {
            expected: start,
            last: Lsn::INVALID,
        }
    }

    /// Where the next record is expected.
    #[must_use]
    pub const fn expected(&self) -> Lsn {
        self.expected
    }

    /// The last record that went through; invalid if none.
    #[must_use]
    pub const fn last(&self) -> Lsn {
        self.last
    }

    /// Whether a chunk begins where the log goes on.
    pub fn check(&self, chunk: &FramedChunk) -> Result<(), GateError> {
        let Some(first) = chunk.first else {
            return Ok(());
        };
        let linked = !self.last.is_valid() || first.prev == self.last;
        if self.expected == first.lsn && linked {
            return Ok(());
        }
        let (found, expected, last) = (first.lsn, self.expected, self.last);
        Err(GateError::Seam {
            found,
            expected,
            last,
        })
    }

    /// A chunk went through.
    pub(super) fn passed(&mut self, chunk: &FramedChunk) {
        if chunk.first.is_some() {
            self.go_on(chunk.last, chunk.next);
        } else if chunk.stop == Stop::Switch {
            self.expected = chunk.next;
        }
    }

    /// The record at `last` was the last one; the next stands at `next`.
    pub(super) const fn go_on(&mut self, last: Lsn, next: Lsn) {
        self.last = last;
        self.expected = next;
    }
}
