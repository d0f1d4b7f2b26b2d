//! The redo buffer first, files otherwise.
//!
//! A reader that is older than the buffer's tail reads files, and is back in the buffer as soon as
//! its LSN is there again: each read decides anew. Files may hold more than the upstream has
//! reported (a primary's WAL that is not flushed, stale pages): nothing beyond that is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use redostream_protocol::{Lsn, TimelineId};

use super::timelines::TimelineHistory;
use super::{Available, FileSource, Origin, RedoBuffer, Source, SourceError};
use crate::framing::page::LONG_HEADER_BYTES;

/// How often files are looked at while waiting for more.
const POLL: Duration = Duration::from_millis(20);

/// What is known of the log through replication; written by the replication client.
#[derive(Debug)]
pub struct Upstream {
    reported_end: AtomicU64,
    history: RwLock<Arc<TimelineHistory>>,
    forks: Mutex<Vec<Lsn>>,
}

impl Upstream {
    /// Nothing reported yet.
    #[must_use]
    pub fn new(history: TimelineHistory) -> Self {
        Self {
            reported_end: AtomicU64::new(0),
            history: RwLock::new(Arc::new(history)),
            forks: Mutex::default(),
        }
    }

    /// The upstream said that its log is flushed up to `end`.
    pub fn report(&self, end: Lsn) {
        self.reported_end.fetch_max(end.0, Ordering::AcqRel);
    }

    /// The upstream's history left what was reported at `switch`, and goes on by `history`.
    pub fn follow(&self, switch: Lsn, history: TimelineHistory) {
        self.reported_end.fetch_min(switch.0, Ordering::AcqRel);
        *self.history.write() = Arc::new(history);
        self.forks.lock().push(switch);
    }

    /// More became known of the same history (its ancestors): nothing forks.
    pub fn learn(&self, history: TimelineHistory) {
        *self.history.write() = Arc::new(history);
    }

    /// How often the history changed so far, and the lowest LSN at which it did after the first
    /// `seen` times. Who has read beyond that must go back to before it: those bytes, and the
    /// transactions that began in them, belong to another history.
    #[must_use]
    pub fn forks_after(&self, seen: usize) -> (usize, Option<Lsn>) {
        let forks = self.forks.lock();
        let lowest = forks.get(seen..).unwrap_or_default().iter().min();
        (forks.len(), lowest.copied())
    }

    /// The furthest end reported.
    #[must_use]
    pub fn reported_end(&self) -> Lsn {
        Lsn(self.reported_end.load(Ordering::Acquire))
    }

    /// The upstream's history.
    #[must_use]
    pub fn history(&self) -> Arc<TimelineHistory> {
        Arc::clone(&self.history.read())
    }
}

/// What sources have given, by where it came from. Shared by all sources of a process.
#[derive(Debug, Default)]
pub struct SourceMetrics {
    buffer_bytes: AtomicU64,
    file_bytes: AtomicU64,
    to_buffer: AtomicU64,
    to_file: AtomicU64,
}

impl SourceMetrics {
    /// Bytes given from `origin`.
    #[must_use]
    pub fn bytes_from(&self, origin: Origin) -> u64 {
        match origin {
            Origin::Buffer => self.buffer_bytes.load(Ordering::Relaxed),
            Origin::File => self.file_bytes.load(Ordering::Relaxed),
        }
    }

    /// How often a reader went over to `origin`.
    #[must_use]
    pub fn switches_to(&self, origin: Origin) -> u64 {
        match origin {
            Origin::Buffer => self.to_buffer.load(Ordering::Relaxed),
            Origin::File => self.to_file.load(Ordering::Relaxed),
        }
    }

    fn count(&self, origin: Origin, bytes: usize) {
        let counter = match origin {
            Origin::Buffer => &self.buffer_bytes,
            Origin::File => &self.file_bytes,
        };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// One pipeline's source: the shared buffer, else files.
pub struct SwitchingSource {
    buffer: Arc<RedoBuffer>,
    upstream: Arc<Upstream>,
    files: Option<Arc<FileSource>>,
    /// Whether the files are the upstream's own, so that all it reported stands in them.
    files_of_upstream: bool,
    segment_bytes: u64,
    metrics: Arc<SourceMetrics>,
    /// The furthest LSN read and where it came from (the lowest bit), for counting switches.
    furthest: AtomicU64,
}

impl SwitchingSource {
    /// A source over `buffer`, and over `files` for what is older. `files_of_upstream` says that
    /// the files are those of the server that fills the buffer, so that whatever it has reported
    /// is in them.
    #[must_use]
    pub fn new(
        buffer: Arc<RedoBuffer>,
        upstream: Arc<Upstream>,
        files: Option<Arc<FileSource>>,
        files_of_upstream: bool,
        segment_bytes: u64,
        metrics: Arc<SourceMetrics>,
    ) -> Self {
        Self {
            buffer,
            upstream,
            files,
            files_of_upstream,
            segment_bytes,
            metrics,
            furthest: AtomicU64::new(0),
        }
    }

    /// Bytes and switches.
    #[must_use]
    pub fn metrics(&self) -> &SourceMetrics {
        &self.metrics
    }

    fn count(&self, from: Lsn, count: usize, origin: Origin) {
        self.metrics.count(origin, count);
        // Threads read chunks side by side: only who is in front decides where the reader is.
        let end = from.add(count as u64);
        let mark = end.0 << 1 | u64::from(origin == Origin::Buffer);
        let before = self.furthest.load(Ordering::Relaxed);
        if mark >> 1 <= before >> 1 {
            return;
        }
        let before = self.furthest.fetch_max(mark, Ordering::Relaxed);
        if mark >> 1 > before >> 1 && before != 0 && (mark ^ before) & 1 == 1 {
            match origin {
                Origin::Buffer => &self.metrics.to_buffer,
                Origin::File => &self.metrics.to_file,
            }
            .fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether what comes at `lsn` will come into the buffer. Where the last record ended with its page
    /// the next one starts behind the header of a page of which nothing is there yet.
    pub(super) fn is_next_in_buffer(&self, lsn: Lsn) -> bool {
        let range = self.buffer.range();
        range.is_some_and(|(tail, head)| tail <= lsn && lsn <= head.add(LONG_HEADER_BYTES as u64))
    }

    /// What files may give, cut at what the upstream has reported.
    fn files_available(&self, from: Lsn) -> Result<Available, SourceError> {
        let nothing = Available {
            end: from,
            closed: false,
            trusted: true,
        };
        let reported = self.upstream.reported_end();
        let Some(files) = &self.files else {
            return self.gone(from).map(|()| nothing);
        };
        if reported <= from {
            return Ok(nothing);
        }
        files.follow_if_changed(&self.upstream.history());
        let available = files.available(from)?;
        Ok(Available {
            end: available.end.min(reported),
            closed: false,
            trusted: self.files_of_upstream,
        })
    }

    /// Without files, what has left the buffer cannot be had any more.
    fn gone(&self, lsn: Lsn) -> Result<(), SourceError> {
        match self.buffer.range() {
            Some((tail, _)) if lsn < tail => Err(SourceError::Missing {
                lsn,
                segment: self.locate(lsn),
                searched: format!("the redo buffer, which now begins at {tail}"),
            }),
            _ => Ok(()),
        }
    }
}

impl Source for SwitchingSource {
    fn available(&self, from: Lsn) -> Result<Available, SourceError> {
        let Some((tail, head)) = self.buffer.range() else {
            return self.files_available(from);
        };
        if tail <= from && from <= head {
            return Ok(Available {
                end: head,
                closed: false,
                trusted: true,
            });
        }
        let mut available = self.files_available(from)?;
        // Once the files reach into the buffer, the rest is there.
        if from < tail && available.end >= tail {
            available.end = if available.trusted { head } else { tail };
        }
        Ok(available)
    }

    fn read(&self, from: Lsn, out: &mut [u8]) -> Result<(usize, Origin), SourceError> {
        let count = self.buffer.read(from, out);
        if count > 0 {
            self.count(from, count, Origin::Buffer);
            return Ok((count, Origin::Buffer));
        }
        let room = self.upstream.reported_end().bytes_since(from);
        let wanted = out.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let out = out.get_mut(..wanted).unwrap_or_default();
        let Some(files) = &self.files else {
            self.gone(from)?;
            return Err(SourceError::NotYet(from));
        };
        if out.is_empty() {
            return Err(SourceError::NotYet(from));
        }
        files.follow_if_changed(&self.upstream.history());
        let (count, origin) = files.read(from, out)?;
        self.count(from, count, origin);
        Ok((count, origin))
    }

    fn wait(&self, beyond: Lsn, timeout: Duration) {
        let until = Instant::now() + timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // In the buffer a push wakes; files have to be looked at.
            if self.is_next_in_buffer(beyond) {
                self.buffer.wait(beyond, left);
            } else {
                thread::sleep(left.min(POLL));
            }
            let more = self.available(beyond);
            if left <= POLL || more.is_ok_and(|more| more.end > beyond) {
                return;
            }
        }
    }

    fn timeline_at(&self, lsn: Lsn) -> TimelineId {
        self.upstream.history().timeline_at(lsn)
    }

    fn page_timelines(&self, begin: Lsn, end: Lsn) -> (TimelineId, TimelineId) {
        self.upstream.history().of_pages(begin, end)
    }

    fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    fn locate(&self, lsn: Lsn) -> String {
        let in_buffer = self
            .buffer
            .range()
            .is_some_and(|(tail, head)| tail <= lsn && lsn < head);
        match &self.files {
            Some(files) if !in_buffer => files.locate(lsn),
            _ => format!("the redo buffer at {lsn}"),
        }
    }
}
