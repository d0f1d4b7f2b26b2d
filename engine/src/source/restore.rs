//! Files that only a restore command can give, such as those of a compressed or remote archive.
//!
//! Fetched files stand in a directory of our own; the oldest are removed as new ones come.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};

use parking_lot::Mutex;
use redostream_protocol::TimelineId;

use super::directories::absent;
use super::timelines::history_file_name;
use crate::limits::RESTORED_SEGMENTS_MAX;

/// How soon a file that was not to be had is asked for again.
// pg: wal_retrieve_retry_interval [14-18]
const RETRY: Duration = Duration::from_secs(5);

/// Fetches a WAL file by name, as `restore_command` does.
pub trait Restore: Send + Sync {
    /// Puts the file `name` (a segment, or a timeline history) at `to`; `false` if there is none.
    fn fetch(&self, name: &str, to: &Path) -> io::Result<bool>;
}

pub(super) struct Restored {
    restore: Arc<dyn Restore>,
    directory: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    fetched: VecDeque<String>,
    absent: VecDeque<(String, Instant)>,
}

impl Restored {
    pub(super) fn new(restore: Arc<dyn Restore>, directory: PathBuf) -> Self {
        Self {
            restore,
            directory,
            state: Mutex::default(),
        }
    }

    /// Fetches one file, unless that failed just now. The lock is held meanwhile, so that the
    /// command runs once at a time.
    pub(super) fn fetch(&self, name: &str) -> io::Result<bool> {
        let mut state = self.state.lock();
        let path = self.directory.join(name);
        if path.exists() {
            return Ok(true);
        }
        state.absent.retain(|(_, at)| at.elapsed() < RETRY);
        if state.absent.iter().any(|(absent, _)| absent == name) {
            return Ok(false);
        }
        // Under another name until it is whole: the command may be interrupted.
        let unfinished = self.directory.join(format!("{name}.fetching"));
        if !self.restore.fetch(name, &unfinished)? {
            state.absent.push_back((name.to_owned(), Instant::now()));
            return Ok(false);
        }
        fs::rename(&unfinished, &path)?;
        if !name.ends_with(".history") {
            state.fetched.push_back(name.to_owned());
        }
        while state.fetched.len() > RESTORED_SEGMENTS_MAX {
            let Some(oldest) = state.fetched.pop_front() else {
                break;
            };
            match fs::remove_file(self.directory.join(oldest)) {
                Err(error) if !absent(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(true)
    }

    /// Fetches the history files from `of` on, up to the first that does not exist.
    // pg: access/transam/timeline.c findNewestTimeLine [14-18]
    pub(super) fn fetch_histories(&self, of: TimelineId) {
        if of.0 > 1 {
            self.fetch_history(of);
        }
        let mut next = TimelineId(of.0.saturating_add(1));
        while self.fetch_history(next) {
            next.0 = next.0.saturating_add(1);
        }
    }

    fn fetch_history(&self, timeline: TimelineId) -> bool {
        let name = history_file_name(timeline);
        match self.fetch(&name) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%name, %error, "the restore command could not be run");
                false
            }
        }
    }
}
