//! Plans which chunk is read next.
//!
//! Far from the end of the log chunks are runs of whole pages and any number may be under way. At
//! the end a chunk begins where the last complete record ended, so it is planned only when nothing
//! else is under way.

use redostream_protocol::Lsn;

use super::{Source, SourceError};
use crate::framing::chunk::Span;
use crate::limits::{CHUNK_BYTES_MAX, WAL_PAGE_BYTES};

/// A chunk to read and frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its number; the gate takes chunks by it.
    pub number: u64,
    /// How often planning has begun anew; chunks of an older round are worthless.
    pub round: u64,
    /// What to frame.
    pub span: Span,
    /// Bytes behind `span.end` that could be read when planned.
    pub available: Lsn,
}

/// What the planner says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planned {
    /// Read this.
    Chunk(Plan),
    /// Nothing can be read before what is under way is through.
    Busy,
    /// Nothing beyond this LSN yet.
    Wait(Lsn),
    /// Everything up to the asked-for end, or to the end of what will ever be, is under way.
    End,
}

/// Where planning stands.
#[derive(Debug)]
pub struct Planner {
    next: Next,
    number: u64,
    round: u64,
    end: Lsn,
    /// Bytes before this have been tried and end inside a record.
    tried: Lsn,
    /// Whether the source said that nothing will be added.
    closed: bool,
    chunk_bytes: u64,
}

/// Where the next chunk begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At a record's start.
    Record(Lsn),
    /// At a page boundary.
    Page(Lsn),
    /// Where the gate will find the next record, once it has seen everything under way; nothing
    /// before this LSN is left to plan.
    Known(Lsn),
}

const PAGE: u64 = WAL_PAGE_BYTES as u64;

impl Planner {
    /// Plans from the record at `start`, up to records that start before `end`.
    #[must_use]
    pub fn new(start: Lsn, end: Lsn, chunk_bytes: usize) -> Self {
        let chunk_bytes = chunk_bytes.clamp(WAL_PAGE_BYTES, CHUNK_BYTES_MAX) as u64 / PAGE * PAGE;
        let next = Next::Record(start);
        Planner {
            next,
            number: 0,
            round: 0,
            end,
            tried: Lsn::INVALID,
            closed: false,
            chunk_bytes,
        }
    }

    /// Begins anew at `next`; the next chunk has `number`. Bytes before `tried` are known to end
    /// inside a record.
    pub fn restart(&mut self, next: Next, number: u64, tried: Lsn) {
        self.next = next;
        self.number = number;
        self.tried = tried;
        self.round += 1;
    }

    /// How often planning has begun anew.
    #[must_use]
    pub const fn round(&self) -> u64 {
        self.round
    }

    /// The LSN at which no more is planned.
    #[must_use]
    pub const fn end(&self) -> Lsn {
        self.end
    }

    /// Whether the next chunk can most likely be planned while this one is under way.
    #[must_use]
    pub const fn is_far_from_end(&self) -> bool {
        matches!(self.next, Next::Page(_))
    }

    /// Plans the next chunk. `idle` says that no chunk is under way and `expected` is where the
    /// next record starts.
    pub fn plan(
        &mut self,
        source: &dyn Source,
        idle: bool,
        expected: Lsn,
    ) -> Result<Planned, SourceError> {
        if let Next::Known(_) = self.next
            && idle
        {
            self.next = Next::Record(expected);
        }
        let (Next::Record(next) | Next::Page(next) | Next::Known(next)) = self.next;
        if next >= self.end {
            return Ok(Planned::End);
        }
        if matches!(self.next, Next::Known(_)) {
            return Ok(Planned::Busy);
        }
        let available = match source.available(next) {
            Ok(available) => available,
            Err(SourceError::NotYet(_)) if self.closed => return Ok(Planned::End),
            Err(SourceError::NotYet(_)) => return Ok(Planned::Wait(next)),
            Err(error) => return Err(error),
        };
        self.closed = available.closed;
        let target = Lsn(next.0 / PAGE * PAGE + self.chunk_bytes).min(self.end);
        // One page more, so that most records that run over the end are there too.
        if available.end >= target.add(PAGE) {
            return Ok(Planned::Chunk(self.take(next, target, available.end)));
        }
        let target = target.min(available.end);
        if available.closed {
            // A record that goes on beyond the end of files that nothing is added to is no record.
            if target <= next || available.end <= self.tried {
                return Ok(Planned::End);
            }
            return Ok(Planned::Chunk(self.take(next, target, available.end)));
        }
        if !idle {
            return Ok(Planned::Busy);
        }
        // At the live end the next record's start is known, and only there.
        self.next = Next::Record(expected);
        let known = expected.max(self.tried);
        if available.end <= known {
            let beyond = match known > expected {
                true => source.available(known),
                false => Ok(available),
            };
            match beyond {
                // Seen from `expected` files end before what the buffer has by now.
                Ok(beyond) if beyond.end > known => {
                    let target = Lsn(expected.0 / PAGE * PAGE + self.chunk_bytes);
                    let target = target.min(self.end).min(beyond.end);
                    return Ok(Planned::Chunk(self.take(expected, target, beyond.end)));
                }
                // The record may go on in a file that is missing while later ones are there.
                Err(error) if !matches!(error, SourceError::NotYet(_)) => return Err(error),
                _ => return Ok(Planned::Wait(known)),
            }
        }
        Ok(Planned::Chunk(self.take(expected, target, available.end)))
    }

    fn take(&mut self, start: Lsn, target: Lsn, available: Lsn) -> Plan {
        let exact = !matches!(self.next, Next::Page(_));
        let span = Span {
            start,
            exact,
            end: target,
        };
        let plan = Plan {
            number: self.number,
            round: self.round,
            span,
            available,
        };
        self.number += 1;
        self.next = if target.0.is_multiple_of(PAGE) && available >= target.add(PAGE) {
            Next::Page(target)
        } else {
            Next::Known(target)
        };
        plan
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use redostream_protocol::TimelineId;

    use super::super::{Available, Origin};
    use super::*;

    /// Files that end at a place, and a buffer that begins there.
    struct Seen {
        files_end: Lsn,
        head: Lsn,
    }

    impl Source for Seen {
        fn available(&self, from: Lsn) -> Result<Available, SourceError> {
            let in_files = from < self.files_end;
            Ok(Available {
                end: if in_files { self.files_end } else { self.head },
                closed: false,
                trusted: true,
            })
        }

        fn read(&self, from: Lsn, _: &mut [u8]) -> Result<(usize, Origin), SourceError> {
            Err(SourceError::NotYet(from))
        }

        fn wait(&self, _: Lsn, _: Duration) {}

        fn timeline_at(&self, _: Lsn) -> TimelineId {
            TimelineId(1)
        }

        fn segment_bytes(&self) -> u64 {
            1 << 20
        }

        fn locate(&self, lsn: Lsn) -> String {
            lsn.to_string()
        }
    }

    #[test]
    fn what_was_tried_is_planned_again_once_there_is_more_behind_it() {
        let (expected, files_end) = (Lsn(0x10_0100), Lsn(0x10_0800));
        let plan = |head| {
            let mut planner = Planner::new(expected, Lsn::MAX, 4 * WAL_PAGE_BYTES);
            planner.restart(Next::Record(expected), 7, files_end);
            let source = Seen { files_end, head };
            planner.plan(&source, true, expected).unwrap()
        };
        assert_eq!(plan(files_end), Planned::Wait(files_end));
        let Planned::Chunk(planned) = plan(Lsn(0x10_1000)) else {
            panic!("there is more");
        };
        assert_eq!(planned.span.start, expected);
        assert_eq!(planned.available, Lsn(0x10_1000));
    }
}
