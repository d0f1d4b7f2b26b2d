//! Where segment files are: the directories in order, and what to do when two hold one name.
//!
//! Leaves opening and reading to `files.rs`. Nothing here is remembered about a file's content
//! but the verdict on files of one name.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;
use redostream_protocol::{Lsn, TimelineId};

use super::SourceError;
use super::segments::{LongPageHeader, PARTIAL_SUFFIX, SegmentSize};
use super::timelines::{TimelineHistory, history_file_name, parse_history_name};
use crate::limits::{HISTORY_BYTES_MAX, WAL_PAGE_BYTES};

/// A segment file that was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Device and inode: the file, whatever it is called later.
    pub(super) identity: (u64, u64),
    /// First LSN after what this file can give.
    pub(super) end: Lsn,
}

/// Device, inode and length of the two files, in the order of their directories.
type Pair = [(u64, u64, u64); 2];

/// The directories in which segments are looked for, first come first served.
pub(super) struct Directories {
    paths: Vec<PathBuf>,
    size: SegmentSize,
    /// Whether files of one name are compared whole, or only here and there.
    compare_whole: bool,
    verdicts: Mutex<HashMap<Pair, Verdict>>,
    listing: Mutex<Listing>,
}

/// Every segment name seen in the directories, as of their modification times.
#[derive(Default)]
struct Listing {
    modified: Vec<Option<SystemTime>>,
    segments: Vec<(u64, TimelineId)>,
}

/// What two files of one name are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    FirstGoesFurther,
    SecondGoesFurther,
    Different,
}

impl Directories {
    pub(super) fn new(paths: Vec<PathBuf>, size: SegmentSize, compare_whole: bool) -> Self {
        Self {
            paths,
            size,
            compare_whole,
            verdicts: Mutex::default(),
            listing: Mutex::default(),
        }
    }

    /// The directories' names, for messages.
    pub(super) fn searched(&self) -> String {
        let names: Vec<String> = self
            .paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        names.join(", ")
    }

    /// The timelines whose file may hold bytes of segment `number`, newest first, each with the
    /// end of what that file can give.
    ///
    /// The newest one's file begins with a copy of its parent's bytes, so it gives the whole
    /// segment; a parent's file, often only a `.partial` one, gives what was before the switch.
    // pg: access/transam/xlogrecovery.c XLogFileReadAnyTLI [14-18]
    pub(super) fn timelines(
        &self,
        number: u64,
        history: &TimelineHistory,
    ) -> impl Iterator<Item = (TimelineId, Lsn)> {
        let (start, end) = (self.size.start(number), self.size.end(number));
        let overlapping = history
            .ranges()
            .iter()
            .filter(move |range| range.begin < end && range.end > start);
        overlapping
            .rev()
            .map(move |range| (range.timeline, range.end.min(end)))
    }

    /// Looks for the file that holds segment `number`.
    pub(super) fn find(
        &self,
        number: u64,
        history: &TimelineHistory,
    ) -> Result<Option<Found>, SourceError> {
        for (timeline, end) in self.timelines(number, history) {
            let name = self.size.file_name(timeline, number);
            for suffix in ["", PARTIAL_SUFFIX] {
                let found = self.find_named(&format!("{name}{suffix}"), number)?;
                if let Some((path, metadata)) = found {
                    let written = self.size.start(number).add(metadata.len());
                    return Ok(Some(Found {
                        identity: (metadata.dev(), metadata.ino()),
                        path,
                        end: end.min(written),
                    }));
                }
            }
        }
        Ok(None)
    }

    fn find_named(
        &self,
        name: &str,
        number: u64,
    ) -> Result<Option<(PathBuf, Metadata)>, SourceError> {
        let mut best: Option<(PathBuf, Metadata)> = None;
        for directory in &self.paths {
            let path = directory.join(name);
            let metadata = match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => metadata,
                Ok(_) => continue,
                Err(error) if absent(&error) => continue,
                Err(error) => return Err(self.io(number, &path, error)),
            };
            if metadata.len() > self.size.bytes() {
                return Err(SourceError::Wrong {
                    file: path.display().to_string(),
                    problem: format!(
                        "{} bytes, but this cluster's WAL segments have {}; \
                         remove the file or give the directory of the right cluster",
                        metadata.len(),
                        self.size.bytes()
                    ),
                });
            }
            let candidate = (path, metadata);
            best = Some(match best.take() {
                None => candidate,
                Some(first) => self.better(name, number, first, candidate)?,
            });
        }
        Ok(best)
    }

    /// Of two files with one name, the one that goes further; an error if they contradict.
    fn better(
        &self,
        name: &str,
        number: u64,
        first: (PathBuf, Metadata),
        second: (PathBuf, Metadata),
    ) -> Result<(PathBuf, Metadata), SourceError> {
        let mark = |metadata: &Metadata| (metadata.dev(), metadata.ino(), metadata.len());
        let pair = [mark(&first.1), mark(&second.1)];
        let known = self.verdicts.lock().get(&pair).copied();
        let verdict = match known {
            _ if pair[0].0 == pair[1].0 && pair[0].1 == pair[1].1 => Verdict::Same,
            Some(verdict) => verdict,
            None => {
                let verdict = self
                    .compare(number, &first.0, &second.0)
                    .map_err(|error| self.io(number, &second.0, error))?;
                let mut verdicts = self.verdicts.lock();
                if verdicts.len() > 4096 {
                    verdicts.clear();
                }
                verdicts.insert(pair, verdict);
                verdict
            }
        };
        match verdict {
            Verdict::Same | Verdict::FirstGoesFurther => Ok(first),
            Verdict::SecondGoesFurther => Ok(second),
            Verdict::Different => Err(SourceError::Ambiguous {
                segment: name.to_owned(),
                first: first.0.display().to_string(),
                second: second.0.display().to_string(),
            }),
        }
    }

    fn compare(&self, number: u64, first: &Path, second: &Path) -> io::Result<Verdict> {
        let (first, second) = (File::open(first)?, File::open(second)?);
        let lengths = [first.metadata()?.len(), second.metadata()?.len()];
        let page_bytes = WAL_PAGE_BYTES as u64;
        let pages = lengths[0].min(lengths[1]) / page_bytes;
        let step = if self.compare_whole {
            1
        } else {
            (pages / 16).max(1)
        };
        let mut pair = PagePair::default();
        let mut pages_of = [[0; WAL_PAGE_BYTES]; 2];
        let probes = (0..pages).step_by(usize::try_from(step).unwrap_or(usize::MAX));
        for page in probes.chain(pages.checked_sub(1)) {
            let offset = page * page_bytes;
            let [one, two] = &mut pages_of;
            first.read_exact_at(one, offset)?;
            second.read_exact_at(two, offset)?;
            if !pair.agrees(one, two, self.size.start(number).add(offset)) {
                return Ok(Verdict::Different);
            }
        }
        Ok(match pair.ended {
            [true, true] => Verdict::Different,
            [true, false] => Verdict::SecondGoesFurther,
            [false, true] => Verdict::FirstGoesFurther,
            [false, false] if lengths[0] < lengths[1] => Verdict::SecondGoesFurther,
            [false, false] => Verdict::Same,
        })
    }

    /// Whether any directory holds an earlier or a later segment of this history than `number`.
    pub(super) fn neighbours(
        &self,
        number: u64,
        history: &TimelineHistory,
    ) -> Result<(bool, bool), SourceError> {
        let modified: Vec<Option<SystemTime>> = self
            .paths
            .iter()
            .map(|path| fs::metadata(path).and_then(|data| data.modified()).ok())
            .collect();
        let mut listing = self.listing.lock();
        // A directory changed within its clock's grain may change again unnoticed.
        let settled = modified.iter().flatten().all(|time| {
            time.elapsed()
                .is_ok_and(|age| age > std::time::Duration::from_millis(50))
        });
        if !settled || listing.modified != modified {
            listing.segments = self.list_segments()?;
            listing.modified = modified;
        }
        let fits = |(other, timeline): &&(u64, TimelineId)| {
            self.timelines(*other, history)
                .any(|(fits, _)| fits == *timeline)
        };
        let (mut earlier, mut later) = (false, false);
        for (other, _) in listing.segments.iter().filter(fits) {
            earlier |= *other < number;
            later |= *other > number;
        }
        Ok((earlier, later))
    }

    fn list_segments(&self) -> Result<Vec<(u64, TimelineId)>, SourceError> {
        let mut segments = Vec::new();
        self.each_name(|_, name| {
            if let Some(segment) = self.size.parse_name(name) {
                segments.push((segment.number, segment.timeline));
            }
        })?;
        Ok(segments)
    }

    /// Every history file of the directories whose timeline is at least `least`.
    pub(super) fn histories(
        &self,
        least: TimelineId,
    ) -> Result<Vec<(PathBuf, TimelineHistory)>, SourceError> {
        let mut files = Vec::new();
        self.each_name(|directory, name| {
            if let Some(timeline) = parse_history_name(name).filter(|found| *found >= least) {
                files.push((timeline, directory.join(name)));
            }
        })?;
        files.sort();
        let mut histories: Vec<(PathBuf, TimelineHistory)> = Vec::new();
        for (timeline, path) in files {
            let history = read_history(timeline, &path)?;
            match histories.last() {
                Some((first, known)) if known.timeline() == timeline => {
                    if *known != history {
                        return Err(SourceError::Ambiguous {
                            segment: history_file_name(timeline),
                            first: first.display().to_string(),
                            second: path.display().to_string(),
                        });
                    }
                }
                _ => histories.push((path, history)),
            }
        }
        Ok(histories)
    }

    fn each_name(&self, mut visit: impl FnMut(&Path, &str)) -> Result<(), SourceError> {
        for directory in &self.paths {
            let wrong = |error: io::Error| SourceError::Io {
                lsn: Lsn::INVALID,
                file: directory.display().to_string(),
                error,
            };
            for entry in fs::read_dir(directory).map_err(wrong)? {
                if let Some(name) = entry.map_err(wrong)?.file_name().to_str() {
                    visit(directory, name);
                }
            }
        }
        Ok(())
    }

    fn io(&self, number: u64, path: &Path, error: io::Error) -> SourceError {
        SourceError::Io {
            lsn: self.size.start(number),
            file: path.display().to_string(),
            error,
        }
    }
}

/// Whether the error only says that there is no such file.
pub(super) fn absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn read_history(timeline: TimelineId, path: &Path) -> Result<TimelineHistory, SourceError> {
    let wrong = |problem: String| SourceError::Wrong {
        file: path.display().to_string(),
        problem,
    };
    let io = |error| SourceError::Io {
        lsn: Lsn::INVALID,
        file: path.display().to_string(),
        error,
    };
    if fs::metadata(path).map_err(io)?.len() > HISTORY_BYTES_MAX {
        return Err(wrong("too large for a timeline history".to_owned()));
    }
    let text = fs::read(path).map_err(io)?;
    let text = String::from_utf8_lossy(&text);
    TimelineHistory::parse(timeline, &text).map_err(|error| wrong(error.to_string()))
}

/// Two files of one name, page by page: which of them has ended, being only a beginning of the
/// other.
#[derive(Default)]
struct PagePair {
    ended: [bool; 2],
}

impl PagePair {
    /// Whether the pages at `address` can be of one segment. A page that is no page of this place
    /// (zeros, or left over from a recycled segment) ends its file, and so does one that holds
    /// only the beginning of the other's.
    fn agrees(&mut self, first: &[u8], second: &[u8], address: Lsn) -> bool {
        let holds = [is_page_of(first, address), is_page_of(second, address)];
        if (holds[0] && self.ended[0]) || (holds[1] && self.ended[1]) {
            return false;
        }
        match holds {
            _ if first == second => true,
            [false, false] => true,
            [true, false] => {
                self.ended[1] = true;
                true
            }
            [false, true] => {
                self.ended[0] = true;
                true
            }
            [true, true] if second.starts_with(without_zeros(first)) => {
                self.ended[0] = true;
                true
            }
            [true, true] if first.starts_with(without_zeros(second)) => {
                self.ended[1] = true;
                true
            }
            [true, true] => false,
        }
    }
}

fn without_zeros(page: &[u8]) -> &[u8] {
    let zeros = page.iter().rev().take_while(|byte| **byte == 0).count();
    page.get(..page.len() - zeros).unwrap_or(page)
}

fn is_page_of(page: &[u8], address: Lsn) -> bool {
    LongPageHeader::parse(page)
        .is_ok_and(|header| header.magic != 0 && header.page_address == address)
}
