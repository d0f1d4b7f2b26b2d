//! The short way: a small transaction, all in memory, in which nothing is to be cut or joined.
//!
//! Most transactions are of this kind, so this path does a fixed amount of work for each run and
//! allocates nothing.

use redostream_protocol::Lsn;
use redostream_protocol::event::EventError;

use super::builder::{BlockBuilder, Stretch};
use super::error::AssemblyError;
use super::part::segment_flags::SPECIAL;
use super::part::{Commit, Part, Particulars, Run, Segment};
use super::transaction::{Transaction, byte_range, relations, segments};
use super::walk::place_at;

/// Up to so many committed subtransactions are looked up in the commit record's own list.
const PLAIN_SUBS: usize = 16;

/// Whether a transaction's rows can be passed on as they are. In doubt they cannot, and a release
/// sorts them out.
pub(super) fn is_plain(
    part: &Part,
    run: Option<&Run>,
    open: Option<&Transaction>,
    commit: &Commit,
) -> bool {
    let subs = commit.subs();
    let subs = subs.get(..PLAIN_SUBS).unwrap_or(subs);
    let kept = |segment: &Segment| segment.xid == commit.top || subs.contains(&segment.xid);
    let plain_run = |run: &Run| run.flags & SPECIAL == 0 && segments(part, run).iter().all(kept);
    let plain_open = |open: &Transaction| {
        let stored = open.stored.iter().flat_map(|stored| &stored.segments);
        open.spilled.is_none()
            && open.flags & SPECIAL == 0
            && open.aborted.is_empty()
            && stored.chain(&open.tail.segments).all(kept)
    };
    let particulars = commit.particulars.as_deref();
    particulars.is_none_or(Particulars::is_nameless)
        && run.is_none_or(plain_run)
        && open.is_none_or(plain_open)
}

/// Writes a small transaction in which nothing is to be cut or joined.
pub(super) fn release_plain(
    out: &mut BlockBuilder,
    part: &Part,
    run: Option<&Run>,
    open: Option<&Transaction>,
    commit: &Commit,
    lsn: Lsn,
    end_lsn: Lsn,
) -> Result<(), AssemblyError> {
    let malformed = |source: EventError| AssemblyError::Malformed {
        lsn,
        top: commit.top,
        source,
    };
    out.begin_plain(commit, lsn, end_lsn)?;
    let mut events = 0;
    // The only stretch's checksum is the transaction's.
    let mut stretches = 0;
    let mut crc = None;
    if let Some(open) = open {
        for stored in &open.stored {
            let stretch = Stretch {
                first: place_at(&stored.data, 0).map_err(malformed)?,
                last: place_at(&stored.data, stored.last as usize).map_err(malformed)?,
                events: stored.events,
                rows: stored.rows,
                relations: &stored.relations,
                undecodable: false,
            };
            out.shared(&stored.data, 0..stored.data.len(), stretch, stored.crc)?;
            events += u64::from(stored.events);
            stretches += 1;
            crc = stored.crc;
        }
        let tail = &open.tail;
        if !tail.data.is_empty() {
            let stretch = Stretch {
                first: place_at(&tail.data, 0).map_err(malformed)?,
                last: place_at(&tail.data, tail.last as usize).map_err(malformed)?,
                events: tail.events,
                rows: tail.rows,
                relations: &tail.relations,
                undecodable: false,
            };
            out.copied(&tail.data, stretch)?;
            events += u64::from(tail.events);
            stretches += 1;
            crc = tail.crc;
        }
    }
    if let Some(run) = run {
        let range = byte_range(run);
        let stretch = Stretch {
            first: place_at(&part.arena, range.start).map_err(malformed)?,
            last: place_at(&part.arena, run.last as usize).map_err(malformed)?,
            events: run.events,
            rows: run.rows,
            relations: relations(part, run),
            undecodable: false,
        };
        out.shared(&part.arena, range, stretch, Some(run.crc))?;
        events += u64::from(run.events);
        stretches += 1;
        crc = Some(run.crc);
    }
    out.commit(commit.top, events, crc.filter(|_| stretches == 1))
}
