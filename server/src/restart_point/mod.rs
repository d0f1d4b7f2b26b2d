//! Restart points on disk: the state from which decoding can begin at an LSN.
//!
//! ```text
//! restart-<LSN>        where decoding goes on, so names sort by LSN      (file.rs)
//! pages-<number>       catalog pages that several of them share          (pages.rs)
//! rows-<LSN>-<xid>     spilled rows of a transaction that was open there
//! ```
//! What a restart point needs is on disk before its own file is, which is written under another
//! name, synced, and renamed: so it is whole or not there. What nothing needs is swept away.

mod file;
mod pages;
mod thinning;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use parking_lot::Mutex;
use redostream_engine::assembly::{AssemblerState, SpilledCopy};
use redostream_engine::catalog::SharedPage;
use redostream_engine::gate::GateState;
use redostream_engine::pipeline::RestartPoint;
use redostream_protocol::{Lsn, Xid};

use crate::session::limits::{FIRST_RESTART_POINT_PAUSE, FIRST_RESTART_POINT_WAIT};
pub(crate) use file::Head;
use file::{Body, BodyRef, Fault};
use pages::Known;
use thinning::Kept;

/// Why a restart point cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestartError {
    /// The file system said no.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// The file is damaged or not a restart point.
    #[error("{path} is damaged: {problem}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file belongs to another cluster.
    #[error(
        "{path} belongs to cluster {found}, not to {wanted}; give each cluster a state directory of its own"
    )]
    OtherCluster {
        /// The file.
        path: PathBuf,
        /// The cluster in it.
        found: u64,
        /// The cluster served.
        wanted: u64,
    },
    /// Other databases were decoded when it was written.
    #[error(
        "{path} was written while {found} decoded, and now it is {wanted}; serve the same databases, or begin with an empty state directory"
    )]
    OtherDatabases {
        /// The file.
        path: PathBuf,
        /// What was decoded.
        found: String,
        /// What is to be.
        wanted: String,
    },
}

/// A restart point that is to be stored: where there is no room it can be tried again.
pub(crate) struct Draft {
    pub(crate) gate: GateState,
    pub(crate) assembly: AssemblerState,
    pages: Vec<SharedPage>,
    /// Spilled rows that are not in their place yet.
    spilled: Vec<SpilledCopy>,
    /// Those that are.
    rows: Vec<(Xid, u64)>,
}

impl Draft {
    pub(crate) fn new(point: RestartPoint) -> Self {
        let RestartPoint {
            mut gate,
            assembly,
            spilled,
        } = point;
        Draft {
            pages: gate.take_pages(),
            gate,
            assembly,
            spilled,
            rows: Vec::new(),
        }
    }

    /// Whether all of it is still there, so that it can be tried again after a failure.
    pub(crate) fn is_whole(&self) -> bool {
        let mut left = self.spilled.iter();
        left.all(|copy| copy.copy.kept.is_some())
    }
}

/// A restart point as it is read.
pub(crate) struct Stored {
    pub(crate) head: Head,
    pub(crate) gate: GateState,
    pub(crate) assembly: AssemblerState,
}

/// A directory with restart points of one cluster.
pub(crate) struct RestartPoints {
    directory: PathBuf,
    system_identifier: u64,
    databases: Vec<String>,
    bytes_max: u64,
    heads: Mutex<BTreeMap<Lsn, (Head, u64)>>,
    known: Mutex<Known>,
}

impl RestartPoints {
    /// Uses `directory`, which must exist and belong to this process alone. Damaged files are set
    /// aside.
    pub(crate) fn open(
        directory: &Path,
        system_identifier: u64,
        databases: &[String],
        bytes_max: u64,
    ) -> Result<Self, RestartError> {
        let mut databases = databases.to_vec();
        databases.sort_unstable();
        databases.dedup();
        let points = RestartPoints {
            directory: directory.to_owned(),
            system_identifier,
            databases,
            bytes_max,
            heads: Mutex::default(),
            known: Mutex::default(),
        };
        for lsn in points.files()? {
            let path = points.path(lsn);
            let head = match file::read_head(&path) {
                Ok(head) => head,
                Err(fault) => {
                    points.set_aside(lsn, &points.error(path, fault));
                    continue;
                }
            };
            points.check(&head)?;
            let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            points.heads.lock().insert(lsn, (head, bytes));
        }
        points.sweep()?;
        Ok(points)
    }

    fn check(&self, head: &Head) -> Result<(), RestartError> {
        let path = self.path(head.next);
        let (found, wanted) = (head.system_identifier, self.system_identifier);
        if found != wanted {
            return Err(RestartError::OtherCluster {
                path,
                found,
                wanted,
            });
        }
        if head.databases != self.databases {
            let told = |names: &[String]| match names {
                [] => "all databases".to_owned(),
                names => names.join(", "),
            };
            return Err(RestartError::OtherDatabases {
                path,
                found: told(&head.databases),
                wanted: told(&self.databases),
            });
        }
        Ok(())
    }

    /// Stores a restart point, and lets go of those that are not worth their place any more.
    /// `is_at_hand` says whether WAL at an LSN can still be read.
    pub(crate) fn store(
        &self,
        draft: &mut Draft,
        is_at_hand: impl Fn(Lsn) -> bool,
    ) -> Result<Head, RestartError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            |error| RestartError::Io { path, error }
        };
        let next = draft.gate.next;
        let placed = self
            .known
            .lock()
            .place(&self.directory, draft.pages.clone())
            .map_err(|(path, error)| RestartError::Io { path, error })?;
        while let Some(copy) = draft.spilled.last_mut() {
            let path = self.rows_path(next, copy.top);
            match &copy.copy.kept {
                Some(kept) => kept.store_as(&path).map_err(at(&path))?,
                None => {
                    let reader = &mut copy.copy.reader;
                    let copied = File::create(&path).and_then(|mut file| {
                        io::copy(reader, &mut file)?;
                        file.sync_all()
                    });
                    copied.map_err(at(&path))?;
                }
            }
            draft.rows.push((copy.top, copy.bytes));
            draft.spilled.pop();
        }
        let gate = &draft.gate;
        let mut rows = draft.rows.clone();
        rows.sort_unstable();
        let head = Head {
            system_identifier: self.system_identifier,
            next,
            covers: gate.covers,
            timeline: gate.timeline,
            databases: self.databases.clone(),
            packs: placed.1,
            rows,
        };
        let body = BodyRef {
            gate,
            assembly: &draft.assembly,
            pages: &placed.0,
        };
        let path = self.path(next);
        let temporary = path.with_extension("new");
        let bytes = file::write(&temporary, &head, &body).map_err(at(&temporary))?;
        self.sync()?;
        fs::rename(&temporary, &path).map_err(at(&path))?;
        self.sync()?;
        self.heads.lock().insert(next, (head.clone(), bytes));
        self.thin(is_at_hand)?;
        Ok(head)
    }

    /// Whether there are restart points, good or damaged: then serving has begun before.
    pub(crate) fn has_any(&self) -> bool {
        let damaged = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("restart-") && name.ends_with(".damaged")
        };
        !self.heads.lock().is_empty() || self.entries().is_ok_and(|all| all.iter().any(damaged))
    }

    /// Waits for the first restart point to be stored: serving begins, and may be asked for the past or
    /// be led to another history, a moment before. Returns at once where there is one.
    pub(crate) fn wait_for_first(&self) {
        let since = Instant::now();
        while self.heads.lock().is_empty() && since.elapsed() < FIRST_RESTART_POINT_WAIT {
            std::thread::sleep(FIRST_RESTART_POINT_PAUSE);
        }
    }

    /// The restart points that are there, rising by LSN.
    pub(crate) fn heads(&self) -> Vec<Head> {
        let heads = self.heads.lock();
        heads.values().map(|(head, _)| head.clone()).collect()
    }

    /// The newest restart point from which everything from `lsn` on can be had.
    pub(crate) fn newest_before(&self, lsn: Lsn) -> Option<Head> {
        let heads = self.heads.lock();
        let mut newest_first = heads.values().rev();
        newest_first
            .find(|(head, _)| head.covers <= lsn)
            .map(|(head, _)| head.clone())
    }

    /// Reads a restart point, for a pipeline of its own.
    pub(crate) fn read(&self, lsn: Lsn) -> Result<Stored, RestartError> {
        self.read_placed(lsn).map(|(stored, _)| stored)
    }

    /// Reads the restart point from which the live pipeline goes on: what comes after it is not
    /// true any more.
    pub(crate) fn go_on_from(&self, lsn: Lsn) -> Result<Stored, RestartError> {
        let (stored, pages) = self.read_placed(lsn)?;
        let newer: Vec<Lsn> = {
            let heads = self.heads.lock();
            let newer = heads.range((std::ops::Bound::Excluded(lsn), std::ops::Bound::Unbounded));
            newer.map(|(lsn, _)| *lsn).collect()
        };
        self.remove(&newer)?;
        let next_pack = self.packs_on_disk()?.into_iter().max().unwrap_or(0) + 1;
        self.known.lock().learn(pages, next_pack);
        Ok(stored)
    }

    /// A restart point turned out to be no good.
    pub(crate) fn set_aside(&self, lsn: Lsn, error: &RestartError) {
        tracing::error!(%error, %lsn, "a restart point cannot be used; the one before it is taken");
        self.heads.lock().remove(&lsn);
        let path = self.path(lsn);
        if let Err(error) = fs::rename(&path, path.with_extension("damaged")) {
            tracing::warn!(path = %path.display(), %error, "cannot set a restart point aside");
        }
    }

    /// The spilled rows of a transaction that was open at a restart point.
    pub(crate) fn rows(&self, head: &Head, top: Xid) -> Option<File> {
        let path = self.rows_path(head.next, top);
        match File::open(&path) {
            Ok(file) => Some(file),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "spilled rows cannot be read");
                None
            }
        }
    }

    fn read_placed(
        &self,
        lsn: Lsn,
    ) -> Result<
        (
            Stored,
            Vec<(redostream_engine::catalog::SharedPage, pages::Place)>,
        ),
        RestartError,
    > {
        let path = self.path(lsn);
        let (head, body) = file::read(&path).map_err(|fault| self.error(path.clone(), fault))?;
        let Body {
            mut gate,
            assembly,
            pages,
        } = body;
        // Nobody waits here for a restart point that is being written.
        let known = self.known.try_lock();
        let pages = pages::read(&self.directory, pages, known.as_deref())
            .map_err(|(path, fault)| self.error(path, fault))?;
        drop(known);
        let shared: Vec<_> = pages.iter().map(|(page, _)| page.clone()).collect();
        if !gate.give_pages(&shared) {
            let problem = "a catalog file in it is larger than is believed".to_owned();
            return Err(RestartError::Damaged { path, problem });
        }
        for (top, bytes) in &head.rows {
            let path = self.rows_path(lsn, *top);
            let found = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            if found < *bytes {
                let problem = format!("it has {found} bytes of {bytes}");
                return Err(RestartError::Damaged { path, problem });
            }
        }
        let stored = Stored {
            head,
            gate,
            assembly,
        };
        Ok((stored, pages))
    }

    fn error(&self, path: PathBuf, fault: Fault) -> RestartError {
        match fault {
            Fault::Io(error) => RestartError::Io { path, error },
            Fault::Damaged(problem) => RestartError::Damaged { path, problem },
        }
    }

    fn thin(&self, is_at_hand: impl Fn(Lsn) -> bool) -> Result<(), RestartError> {
        let kept: Vec<Kept> = {
            let heads = self.heads.lock();
            let kept = heads.values().map(|(head, bytes)| Kept {
                next: head.next,
                bytes: bytes + head.rows.iter().map(|(_, bytes)| bytes).sum::<u64>(),
            });
            kept.collect()
        };
        // Page files are shared, and bounded by what one restart point may need of them.
        let surplus = thinning::surplus(&kept, is_at_hand, self.bytes_max);
        self.remove(&surplus)
    }

    fn remove(&self, points: &[Lsn]) -> Result<(), RestartError> {
        if points.is_empty() {
            return Ok(());
        }
        for lsn in points {
            self.heads.lock().remove(lsn);
            remove(&self.path(*lsn))?;
        }
        self.sync()?;
        self.sweep()
    }

    /// Removes what no restart point needs.
    fn sweep(&self) -> Result<(), RestartError> {
        let (mut packs, mut rows) = (HashSet::new(), HashSet::new());
        for (head, _) in self.heads.lock().values() {
            packs.extend(head.packs.iter().copied());
            rows.extend(
                head.rows
                    .iter()
                    .map(|(top, _)| self.rows_path(head.next, *top)),
            );
        }
        for path in self.entries()? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let stays = if let Some(number) = hex_after(&name, "pages-") {
                packs.contains(&number)
            } else if name.starts_with("rows-") {
                rows.contains(&path)
            } else {
                !(name.starts_with("restart-") && name.ends_with(".new"))
            };
            if !stays {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn packs_on_disk(&self) -> Result<Vec<u64>, RestartError> {
        let entries = self.entries()?;
        let names = entries.iter().filter_map(|path| path.file_name()?.to_str());
        Ok(names.filter_map(|name| hex_after(name, "pages-")).collect())
    }

    /// LSNs of the restart points on disk, rising.
    fn files(&self) -> Result<Vec<Lsn>, RestartError> {
        let entries = self.entries()?;
        let names = entries.iter().filter_map(|path| path.file_name()?.to_str());
        let mut found: Vec<Lsn> = names
            .filter_map(|name| hex_after(name, "restart-").map(Lsn))
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    fn entries(&self) -> Result<Vec<PathBuf>, RestartError> {
        let entries = fs::read_dir(&self.directory).and_then(|entries| {
            let paths = entries.map(|entry| Ok(entry?.path()));
            paths.collect::<io::Result<Vec<PathBuf>>>()
        });
        entries.map_err(|error| RestartError::Io {
            path: self.directory.clone(),
            error,
        })
    }

    fn sync(&self) -> Result<(), RestartError> {
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(|error| RestartError::Io {
            path: self.directory.clone(),
            error,
        })
    }

    fn path(&self, lsn: Lsn) -> PathBuf {
        self.directory.join(format!("restart-{:016X}", lsn.0))
    }

    fn rows_path(&self, lsn: Lsn, top: Xid) -> PathBuf {
        self.directory.join(format!("rows-{:016X}-{top}", lsn.0))
    }
}

fn hex_after(name: &str, prefix: &str) -> Option<u64> {
    let hex = name.strip_prefix(prefix).filter(|hex| hex.len() == 16)?;
    u64::from_str_radix(hex, 16).ok()
}

fn remove(path: &Path) -> Result<(), RestartError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RestartError::Io {
            path: path.to_owned(),
            error,
        }),
        _ => Ok(()),
    }
}
