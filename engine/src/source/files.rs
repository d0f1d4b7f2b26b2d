//! WAL from segment files.
//!
//! Reads with pread into the caller's buffer. A file may appear, grow, be truncated, renamed or
//! recycled at any moment: after each read the file is asked whether it still has its name, and
//! what was read under a lost name is thrown away. What the bytes say is left to framing, but for
//! the first page header, which tells whether the file belongs to this cluster at all.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use redostream_protocol::{Lsn, TimelineId};

use super::directories::{Directories, Found};
use super::restore::Restored;
use super::segments::{LongPageHeader, SegmentSize};
use super::timelines::{TimelineHistory, history_file_name};
use super::{Available, Origin, Restore, Source, SourceError};
use crate::framing::format::WalFormat;
use crate::limits::{OPEN_SEGMENTS_MAX, SEGMENTS_AHEAD_MAX, WAL_PAGE_BYTES};

/// How often files are looked at while waiting for more.
const POLL: Duration = Duration::from_millis(20);
/// How long a hole may stand among files that still come in, before it is an error: copies of
/// several segments may finish in any order.
const HOLE_GRACE: Duration = Duration::from_secs(10);
/// How often a read is tried again when its file was renamed meanwhile.
const READ_ATTEMPTS: u32 = 4;

/// What a [`FileSource`] reads.
pub struct FileSourceOptions {
    /// Directories with segment files, in the order in which they are searched.
    pub directories: Vec<PathBuf>,
    /// The cluster's system identifier, from `pg_control`.
    pub system_identifier: u64,
    /// Bytes of a segment.
    pub segment_size: SegmentSize,
    /// `XLOG_PAGE_MAGIC` of the cluster's major version.
    pub page_magic: u16,
    /// Whether nothing will be added: the end of the files is the end.
    pub closed: bool,
    /// Fetches what the directories do not have, and the directory it may put files into.
    pub restore: Option<(Arc<dyn Restore>, PathBuf)>,
}

/// Which timeline's files are read. Both name an LSN that is known to be on the timeline given,
/// such as `pg_control`'s redo LSN.
#[derive(Clone, Copy, Debug)]
pub enum TimelineChoice {
    /// The newest one found that descends from `of`.
    Newest {
        /// The timeline known.
        of: TimelineId,
        /// An LSN on it.
        at: Lsn,
    },
    /// A given one; it must descend from `of`.
    Exactly {
        /// The timeline wanted.
        timeline: TimelineId,
        /// The timeline known.
        of: TimelineId,
        /// An LSN on it.
        at: Lsn,
    },
}

/// WAL from segment files in a list of directories.
pub struct FileSource {
    directories: Directories,
    restored: Option<Restored>,
    system_identifier: u64,
    size: SegmentSize,
    page_magic: u16,
    closed: bool,
    history: RwLock<Arc<TimelineHistory>>,
    /// Most recently used last.
    open: Mutex<Vec<Arc<OpenSegment>>>,
    /// The last unbroken row that was seen.
    row: Mutex<Row>,
    /// The hole at whose edge a reader stands, and since when.
    hole: Mutex<Option<(u64, Instant)>>,
}

struct OpenSegment {
    number: u64,
    file: File,
    found: Found,
    belongs: AtomicBool,
}

/// Whole segments `first..next` that stand in a row.
#[derive(Clone, Copy, Default)]
struct Row {
    first: u64,
    next: u64,
    /// Where files end that nothing is added to, and whether that is the end of all.
    last: Option<(Lsn, bool)>,
}

impl FileSource {
    /// Looks at the directories and chooses the timeline to follow.
    pub fn open(options: FileSourceOptions, choice: TimelineChoice) -> Result<Self, SourceError> {
        let (TimelineChoice::Newest { of, .. } | TimelineChoice::Exactly { of, .. }) = choice;
        let source = Self::with_history(options, TimelineHistory::single(of));
        if let Some(restored) = &source.restored {
            restored.fetch_histories(of);
        }
        let history = source.choose(choice)?;
        *source.history.write() = Arc::new(history);
        Ok(source)
    }

    /// As [`Self::open`], with a history that is known already.
    #[must_use]
    pub fn with_history(options: FileSourceOptions, history: TimelineHistory) -> Self {
        let mut paths = options.directories;
        let restored = options.restore.map(|(restore, directory)| {
            paths.push(directory.clone());
            Restored::new(restore, directory)
        });
        Self {
            directories: Directories::new(paths, options.segment_size, options.closed),
            restored,
            system_identifier: options.system_identifier,
            size: options.segment_size,
            page_magic: options.page_magic,
            closed: options.closed,
            history: RwLock::new(Arc::new(history)),
            open: Mutex::default(),
            row: Mutex::default(),
            hole: Mutex::default(),
        }
    }

    /// The history that is followed.
    #[must_use]
    pub fn history(&self) -> Arc<TimelineHistory> {
        Arc::clone(&self.history.read())
    }

    /// Follows another history from now on. Whoever reads must have gone back to before the place
    /// where the two part.
    pub fn follow(&self, history: TimelineHistory) {
        *self.history.write() = Arc::new(history);
        self.open.lock().clear();
        *self.row.lock() = Row::default();
    }

    /// As [`Self::follow`], if it is not followed yet.
    pub(super) fn follow_if_changed(&self, history: &Arc<TimelineHistory>) {
        if !Arc::ptr_eq(&self.history.read(), history) {
            if **self.history.read() == **history {
                *self.history.write() = Arc::clone(history);
                return;
            }
            *self.history.write() = Arc::clone(history);
            self.open.lock().clear();
            *self.row.lock() = Row::default();
        }
    }

    /// The newest timeline found that descends from the one followed and was begun at or after
    /// `at`, if it is not followed yet.
    pub fn newer_timeline(&self, at: Lsn) -> Result<Option<TimelineHistory>, SourceError> {
        let current = self.history();
        let of = current.timeline();
        if let Some(restored) = &self.restored {
            restored.fetch_histories(of);
        }
        let found = self.choose(TimelineChoice::Newest { of, at })?;
        Ok((found.timeline() != of).then_some(found))
    }

    fn choose(&self, choice: TimelineChoice) -> Result<TimelineHistory, SourceError> {
        let descends = |history: &TimelineHistory, of, at: Lsn| {
            // The switch itself is the first LSN that is not on the parent any more.
            history.contains(of, at) || history.end_of(of) == Some(at) || history.timeline() == of
        };
        match choice {
            TimelineChoice::Newest { of, at } => {
                let mut histories = self.directories.histories(of)?;
                histories.retain(|(_, history)| descends(history, of, at));
                Ok(histories
                    .pop()
                    .map_or_else(|| TimelineHistory::single(of), |(_, history)| history))
            }
            TimelineChoice::Exactly { timeline, of, at } => {
                let histories = self.directories.histories(timeline)?;
                let found = histories
                    .into_iter()
                    .find(|(_, history)| history.timeline() == timeline);
                match found {
                    Some((_, history)) if descends(&history, of, at) => Ok(history),
                    Some((path, _)) => Err(SourceError::Wrong {
                        file: path.display().to_string(),
                        problem: format!(
                            "timeline {timeline} does not descend from timeline {of} at {at}, \
                             where this cluster stands; choose another timeline"
                        ),
                    }),
                    None if timeline == of => Ok(TimelineHistory::single(of)),
                    None => Err(SourceError::Missing {
                        lsn: at,
                        segment: history_file_name(timeline),
                        searched: self.directories.searched(),
                    }),
                }
            }
        }
    }

    /// The open file of segment `number`, opened if need be; `None` where there is none.
    fn segment(&self, number: u64) -> Result<Option<Arc<OpenSegment>>, SourceError> {
        let mut open = self.open.lock();
        if let Some(index) = open.iter().position(|segment| segment.number == number) {
            let segment = open.remove(index);
            open.push(Arc::clone(&segment));
            return Ok(Some(segment));
        }
        let history = self.history();
        let Some(found) = self.directories.find(number, &history)? else {
            return Ok(None);
        };
        let file = match File::open(&found.path) {
            Ok(file) => file,
            Err(error) if super::directories::absent(&error) => return Ok(None),
            Err(error) => return Err(self.io(self.size.start(number), &found.path, error)),
        };
        let segment = Arc::new(OpenSegment {
            number,
            file,
            found,
            belongs: AtomicBool::new(false),
        });
        if open.len() >= OPEN_SEGMENTS_MAX {
            open.remove(0);
        }
        open.push(Arc::clone(&segment));
        Ok(Some(segment))
    }

    fn forget(&self, number: u64) {
        self.open.lock().retain(|segment| segment.number != number);
        *self.row.lock() = Row::default();
    }

    /// Checks once that the file belongs to this cluster. A page that is not written yet, or is
    /// damaged, is left to framing.
    fn check_belongs(&self, segment: &OpenSegment) -> Result<(), SourceError> {
        if segment.belongs.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut bytes = [0; LongPageHeader::BYTES];
        if segment.file.read_exact_at(&mut bytes, 0).is_err() {
            return Ok(());
        }
        let Ok(header) = LongPageHeader::parse(&bytes) else {
            return Ok(());
        };
        let wrong = |problem| SourceError::Wrong {
            file: segment.found.path.display().to_string(),
            problem,
        };
        if header.magic != self.page_magic {
            return match WalFormat::of_magic(header.magic) {
                Some(other) if header.is_long() => Err(wrong(format!(
                    "WAL of PostgreSQL {}, but this cluster is of version {}; give the directory of the right cluster",
                    other.major,
                    WalFormat::of_magic(self.page_magic).map_or(0, |format| format.major)
                ))),
                _ => Ok(()),
            };
        }
        if !header.is_long() {
            return Ok(());
        }
        if header.system_identifier != self.system_identifier {
            return Err(wrong(format!(
                "WAL of another cluster: its system identifier is {}, this cluster's is {}; give the directory of the right cluster",
                header.system_identifier, self.system_identifier
            )));
        }
        if u64::from(header.segment_bytes) != self.size.bytes() {
            return Err(wrong(format!(
                "written with segments of {} bytes, this cluster has segments of {}",
                header.segment_bytes,
                self.size.bytes()
            )));
        }
        if header.page_bytes as usize != WAL_PAGE_BYTES {
            return Err(wrong(format!(
                "written with WAL pages of {} bytes; only {WAL_PAGE_BYTES} are supported",
                header.page_bytes
            )));
        }
        if header.page_address == self.size.start(segment.number) {
            segment.belongs.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What to say about `lsn`, where no file gives anything.
    fn nothing_at(&self, lsn: Lsn) -> Result<(), SourceError> {
        let number = self.size.number(lsn);
        let history = self.history();
        let (earlier, later) = self.directories.neighbours(number, &history)?;
        if !later {
            *self.hole.lock() = None;
            return Ok(());
        }
        let found = self.directories.find(number, &history)?;
        if found.as_ref().is_some_and(|found| found.end > lsn) {
            return Ok(());
        }
        // Where the directories begin later, WAL was removed and does not come back.
        if !self.closed && earlier {
            let mut hole = self.hole.lock();
            match *hole {
                Some((at, since)) if at == number && since.elapsed() >= HOLE_GRACE => {}
                Some((at, _)) if at == number => return Ok(()),
                _ => {
                    *hole = Some((number, Instant::now()));
                    return Ok(());
                }
            }
        }
        let name = self
            .size
            .file_name(history.timeline_at(self.last_of(number)), number);
        Err(match found {
            Some(short) => SourceError::Wrong {
                file: short.path.display().to_string(),
                problem: format!(
                    "ends at {}, before the end of the segment, though later segments exist; \
                     put the whole segment {name} in its place",
                    short.end
                ),
            },
            None => SourceError::Missing {
                lsn,
                segment: name,
                searched: self.directories.searched(),
            },
        })
    }

    fn last_of(&self, number: u64) -> Lsn {
        Lsn(self.size.end(number).0.saturating_sub(1))
    }

    /// Extends the row of segments from the one of `from` on; returns its end, and whether
    /// nothing will ever stand there.
    fn row_end(&self, from: Lsn) -> Result<(Lsn, bool), SourceError> {
        let first = self.size.number(from);
        let history = self.history();
        let mut row = *self.row.lock();
        let known = row.first <= first && first < row.next;
        // What stood there may have been removed since.
        if !known || (!self.closed && self.directories.find(first, &history)?.is_none()) {
            row = Row {
                first,
                next: first,
                last: None,
            };
        }
        if let Some(last) = row.last.filter(|(end, _)| from < *end) {
            return Ok(last);
        }
        let mut end = self.size.start(row.next);
        let mut ends_here = false;
        while row.next <= first.saturating_add(SEGMENTS_AHEAD_MAX) {
            let mut found = self.directories.find(row.next, &history)?;
            if found.is_none() && row.next == first {
                found = self.restore(first, &history)?;
            }
            let Some(found) = found else {
                ends_here = true;
                break;
            };
            end = found.end;
            if end < self.size.end(row.next) {
                ends_here = true;
                break;
            }
            row.next += 1;
        }
        let mut closed = false;
        if self.closed && ends_here && end > from {
            let last = self.size.number(Lsn(end.0.saturating_sub(1)));
            closed = !self.directories.neighbours(last, &history)?.1;
            row.last = Some((end, closed));
        }
        *self.row.lock() = row;
        Ok((end, closed))
    }

    fn restore(
        &self,
        number: u64,
        history: &TimelineHistory,
    ) -> Result<Option<Found>, SourceError> {
        let Some(restored) = &self.restored else {
            return Ok(None);
        };
        let timelines = self.directories.timelines(number, history);
        for (timeline, _) in timelines {
            let name = self.size.file_name(timeline, number);
            let fetched = restored.fetch(&name).map_err(|error| SourceError::Io {
                lsn: self.size.start(number),
                file: format!("{name} (restore command)"),
                error,
            })?;
            if fetched {
                return self.directories.find(number, history);
            }
        }
        Ok(None)
    }

    fn io(&self, lsn: Lsn, path: &Path, error: io::Error) -> SourceError {
        SourceError::Io {
            lsn,
            file: format!("{} at offset {}", path.display(), self.size.offset(lsn)),
            error,
        }
    }
}

impl OpenSegment {
    /// Whether the file still has the name under which it was opened: if not, it may have been
    /// recycled and what was read may be of another place.
    fn still_named(&self) -> bool {
        std::fs::metadata(&self.found.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.found.identity)
    }

    /// Reads as much as there is at `offset`, at most `out`.
    fn read(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

impl Source for FileSource {
    fn available(&self, from: Lsn) -> Result<Available, SourceError> {
        let (end, closed) = self.row_end(from)?;
        if end <= from {
            self.nothing_at(from)?;
        }
        Ok(Available {
            end: end.max(from),
            closed: closed || (self.closed && end <= from),
            trusted: false,
        })
    }

    fn read(&self, from: Lsn, out: &mut [u8]) -> Result<(usize, Origin), SourceError> {
        let number = self.size.number(from);
        for _ in 0..READ_ATTEMPTS {
            let Some(segment) = self.segment(number)? else {
                self.nothing_at(from)?;
                return Err(SourceError::NotYet(from));
            };
            let room = usize::try_from(segment.found.end.bytes_since(from)).unwrap_or(usize::MAX);
            let wanted = out.len().min(room);
            let Some(out) = out.get_mut(..wanted).filter(|out| !out.is_empty()) else {
                // It may have grown, or a newer timeline's file may have come.
                self.forget(number);
                let found = self.directories.find(number, &self.history())?;
                if found.is_none_or(|found| found.end <= from) {
                    self.nothing_at(from)?;
                    return Err(SourceError::NotYet(from));
                }
                continue;
            };
            self.check_belongs(&segment)?;
            let count = segment
                .read(out, self.size.offset(from))
                .map_err(|error| self.io(from, &segment.found.path, error))?;
            // Nothing is renamed where nothing is added.
            if count == 0 || !(self.closed || segment.still_named()) {
                self.forget(number);
                continue;
            }
            return Ok((count, Origin::File));
        }
        Err(self.io(
            from,
            Path::new(&self.locate(from)),
            io::Error::other("the file changes its name again and again while it is read"),
        ))
    }

    fn wait(&self, beyond: Lsn, timeout: Duration) {
        let until = Instant::now() + timeout;
        let has_more = || {
            self.available(beyond)
                .is_ok_and(|available| available.end > beyond)
        };
        // Bytes may be there and be stale: look again soon, but never at once.
        loop {
            let left = until.saturating_duration_since(Instant::now());
            thread::sleep(left.min(POLL));
            if left <= POLL || has_more() {
                return;
            }
        }
    }

    fn timeline_at(&self, lsn: Lsn) -> TimelineId {
        self.history.read().timeline_at(lsn)
    }

    fn page_timelines(&self, begin: Lsn, end: Lsn) -> (TimelineId, TimelineId) {
        self.history.read().of_pages(begin, end)
    }

    fn segment_bytes(&self) -> u64 {
        self.size.bytes()
    }

    fn locate(&self, lsn: Lsn) -> String {
        let number = self.size.number(lsn);
        let history = self.history();
        let file = match self.directories.find(number, &history) {
            Ok(Some(found)) => found.path.display().to_string(),
            _ => self
                .size
                .file_name(history.timeline_at(self.last_of(number)), number),
        };
        format!("{file} at offset {}", self.size.offset(lsn))
    }
}
