//! Finds M, from where the catalog can be trusted, and C, from where on nothing is missing.
//!
//! A transaction is emitted only if its first record lies at or after M and its xid is not below
//! the checkpoint's next one: of any other, something may lie before what was read, or be decoded
//! with a catalog that was not yet whole. Those that were open at M are skipped by name, and C is
//! the first LSN at which all of them, prepared ones too, have ended.
//!
//! Which old transactions run is not in the data directory. It comes from the first record of
//! running transactions after the redo LSN, less what is known to have ended: a transaction that
//! waits for a synchronous standby is listed there although its commit is long in the log. A
//! checkpoint at shutdown says that none runs.
//!
//! Fed in log order with what the gate sees; once C is known nothing more needs to be told.

use std::collections::BTreeMap;

use redostream_protocol::{Lsn, RelFileNode, Xid};
use rustc_hash::FxHashSet;

use super::consistency::ConsistencyRule;
use super::prepared::PreparedTransaction;

/// The newest page among those copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewestPage {
    /// Its LSN.
    pub lsn: Lsn,
    /// Its file.
    pub node: RelFileNode,
    /// Its block.
    pub block: u32,
}

/// What a record of running transactions says.
// pg: storage/standbydefs.h xl_running_xacts [14-18]
#[derive(Clone, Copy, Debug)]
pub struct RunningTransactions<'a> {
    /// The transactions, of which `subxid_overflow` leaves out subtransactions only.
    pub tops: &'a [Xid],
    /// The oldest of all that run.
    pub oldest: Xid,
}

/// A transaction that C waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The transaction.
    pub xid: Xid,
    /// The name it is prepared under, if it is.
    pub gid: Option<String>,
}

/// A copy that cannot be made whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConsistencyError {
    /// Pages may be torn and nothing mends them. Take a base backup with `pg_basebackup`.
    #[error(
        "full_page_writes was turned off at {lsn}, before the catalog could be trusted; turn it on at the primary and start again"
    )]
    FullPageWritesOff {
        /// The record that says so.
        lsn: Lsn,
    },
    /// A page of the copy is newer than the log that was to make it whole.
    #[error(
        "block {block} of {node} is at {page}, but the data directory should be consistent at {m}; the files were copied while a server changed them: take a base backup with pg_basebackup"
    )]
    PageFromTheFuture {
        /// The file.
        node: RelFileNode,
        /// The block.
        block: u32,
        /// Its LSN.
        page: Lsn,
        /// M.
        m: Lsn,
    },
}

/// The tracker. See the head of this file.
#[derive(Clone, Debug)]
pub struct Readiness {
    rule: ConsistencyRule,
    next_xid: Xid,
    newest_page: Option<NewestPage>,
    backup_end_at: Option<Lsn>,
    wal_end_at: Option<Lsn>,
    /// M was passed.
    crossed: Option<Lsn>,
    /// It is known which transactions older than the redo LSN still run.
    snapshot_known: bool,
    ready: Option<Lsn>,
    /// Older than M and not ended.
    open: FxHashSet<Xid>,
    /// Was open at M, or turned out so later.
    skipped: FxHashSet<Xid>,
    /// Ended while it was not known who runs.
    ended: FxHashSet<Xid>,
    /// Prepared and not ended: number and name.
    prepared: BTreeMap<u32, Vec<u8>>,
}

impl Readiness {
    /// Starts at the redo LSN. `prepared` are the transactions prepared before it that have not
    /// ended; `none_running` says that no other older one runs (a clean shutdown).
    #[must_use]
    pub fn new(
        rule: ConsistencyRule,
        next_xid: Xid,
        prepared: &[PreparedTransaction],
        none_running: bool,
        newest_page: Option<NewestPage>,
    ) -> Self {
        Self {
            rule,
            next_xid,
            newest_page,
            backup_end_at: None,
            wal_end_at: None,
            crossed: None,
            snapshot_known: none_running,
            ready: None,
            open: prepared.iter().map(|prepared| prepared.xid).collect(),
            skipped: FxHashSet::default(),
            ended: FxHashSet::default(),
            prepared: prepared
                .iter()
                .map(|prepared| (prepared.xid.0, prepared.gid.clone()))
                .collect(),
        }
    }

    /// M, as soon as it is known; replay may not have reached it.
    #[must_use]
    pub fn consistent_at(&self) -> Option<Lsn> {
        let backup_end = match self.rule.backup_end {
            Some(_) => self.backup_end_at?,
            None => Lsn::INVALID,
        };
        let wal_end = if self.rule.end_of_wal {
            self.wal_end_at?
        } else {
            Lsn::INVALID
        };
        Some(self.rule.at_least.max(backup_end).max(wal_end))
    }

    /// Whether replay has reached M: the catalog can be trusted.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.crossed.is_some()
    }

    /// C, once it is reached.
    #[must_use]
    pub fn ready_at(&self) -> Option<Lsn> {
        self.ready
    }

    /// Whether a transaction must not be emitted. Asked before its end is told here, by its top
    /// xid; after C the answer is always no.
    #[must_use]
    pub fn skips(&self, top: Xid) -> bool {
        if self.crossed.is_none() {
            return true;
        }
        self.skipped.contains(&top) || (self.ready.is_none() && top.precedes(self.next_xid))
    }

    /// The transactions that C waits for, in order of xid.
    #[must_use]
    pub fn waiting(&self) -> Vec<Waiting> {
        let mut waiting: Vec<_> = self
            .open
            .iter()
            .map(|xid| Waiting {
                xid: *xid,
                gid: self.gid(*xid),
            })
            .collect();
        waiting.sort_unstable_by_key(|waiting| waiting.xid.0);
        waiting
    }

    /// The transactions that are or were skipped though they ended after M, in order of xid.
    #[must_use]
    pub fn skipped(&self) -> Vec<Xid> {
        let mut skipped: Vec<_> = self.skipped.iter().copied().collect();
        skipped.sort_unstable_by_key(|xid| xid.0);
        skipped
    }

    /// What C waits for, in one line for people; `None` once it is reached.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        if self.ready.is_some() {
            return None;
        }
        Some(match (self.consistent_at(), self.crossed) {
            (None, _) if self.rule.end_of_wal && self.wal_end_at.is_none() => {
                "the end of the WAL that the server had written when it stopped".to_owned()
            }
            (None, _) => "the end of the base backup in the WAL".to_owned(),
            (Some(m), None) => format!("WAL up to {m}, where the copied catalog is consistent"),
            (Some(_), Some(_)) if !self.snapshot_known => {
                "a record of running transactions (the server writes one every 15 seconds, or at a CHECKPOINT)".to_owned()
            }
            _ => {
                let names: Vec<_> = self.waiting().iter().map(Waiting::to_string).collect();
                format!("the end of {}", names.join(", "))
            }
        })
    }

    /// Replay has come to `lsn`; a record that starts here or later is next.
    pub fn reached(&mut self, lsn: Lsn) -> Result<(), ConsistencyError> {
        if self.crossed.is_some() {
            return Ok(());
        }
        let Some(m) = self.consistent_at().filter(|m| lsn >= *m) else {
            return Ok(());
        };
        if let Some(page) = self.newest_page.filter(|page| page.lsn > m) {
            return Err(ConsistencyError::PageFromTheFuture {
                node: page.node,
                block: page.block,
                page: page.lsn,
                m,
            });
        }
        self.crossed = Some(m);
        self.skipped.clone_from(&self.open);
        self.settle(m);
        Ok(())
    }

    /// A record at `lsn` belongs to the transaction `top`. A transaction's first record in each
    /// chunk is enough.
    pub fn seen(&mut self, lsn: Lsn, top: Xid) -> Result<(), ConsistencyError> {
        self.reached(lsn)?;
        if self.ready.is_some() || !top.is_normal() {
            return Ok(());
        }
        if self.crossed.is_none() {
            self.open.insert(top);
        } else if top.precedes(self.next_xid) {
            self.open.insert(top);
            self.skipped.insert(top);
        }
        Ok(())
    }

    /// A transaction was prepared at `lsn` under the name `gid`.
    pub fn prepared(&mut self, lsn: Lsn, xid: Xid, gid: &[u8]) -> Result<(), ConsistencyError> {
        self.seen(lsn, xid)?;
        if self.ready.is_none() {
            self.prepared.insert(xid.0, gid.to_vec());
        }
        Ok(())
    }

    /// A record from `lsn` to `end_lsn` ended `xid` (committed or rolled back, prepared or not)
    /// and the subtransactions it lists.
    pub fn ended(
        &mut self,
        lsn: Lsn,
        end_lsn: Lsn,
        xid: Xid,
        subxacts: &[Xid],
    ) -> Result<(), ConsistencyError> {
        self.reached(lsn)?;
        if self.ready.is_some() {
            return Ok(());
        }
        for xid in subxacts.iter().chain([&xid]) {
            self.open.remove(xid);
            if !self.snapshot_known && xid.precedes(self.next_xid) {
                self.ended.insert(*xid);
            }
        }
        self.prepared.remove(&xid.0);
        self.settle(end_lsn);
        Ok(())
    }

    /// A record from `lsn` to `end_lsn` tells which transactions run. `has_ended` is what the
    /// commit log knows.
    pub fn running(
        &mut self,
        lsn: Lsn,
        end_lsn: Lsn,
        running: RunningTransactions<'_>,
        has_ended: impl Fn(Xid) -> bool,
    ) -> Result<(), ConsistencyError> {
        self.reached(lsn)?;
        if self.ready.is_some() {
            return Ok(());
        }
        if !self.snapshot_known {
            self.snapshot_known = true;
            let ended = std::mem::take(&mut self.ended);
            for xid in running.tops {
                let older = xid.precedes(self.next_xid);
                if older && !ended.contains(xid) && !has_ended(*xid) {
                    self.open.insert(*xid);
                    if self.crossed.is_some() {
                        self.skipped.insert(*xid);
                    }
                }
            }
        }
        // Whoever is older and did not say so ended without a record: its server crashed.
        self.open.retain(|xid| !xid.precedes(running.oldest));
        self.settle(end_lsn);
        Ok(())
    }

    /// A record from `lsn` to `end_lsn` says that nothing runs but prepared transactions: a
    /// checkpoint at shutdown, or the end of a recovery.
    pub fn only_prepared_run(&mut self, lsn: Lsn, end_lsn: Lsn) -> Result<(), ConsistencyError> {
        self.reached(lsn)?;
        if self.ready.is_some() {
            return Ok(());
        }
        self.snapshot_known = true;
        self.ended.clear();
        let prepared = &self.prepared;
        self.open.retain(|xid| prepared.contains_key(&xid.0));
        self.settle(end_lsn);
        Ok(())
    }

    /// A record that ends at `end_lsn` says that the backup begun at `start` is complete.
    pub fn backup_ended(&mut self, end_lsn: Lsn, start: Lsn) -> Result<(), ConsistencyError> {
        if self.crossed.is_none() && self.rule.backup_end == Some(start) {
            self.backup_end_at = Some(end_lsn);
        }
        self.reached(end_lsn)
    }

    /// The directory's own WAL ends at `lsn`. Told before any record at or after it.
    pub fn wal_ends(&mut self, lsn: Lsn) {
        self.wal_end_at.get_or_insert(lsn);
    }

    /// The record at `lsn` was written by a server that stopped cleanly or has just recovered. If
    /// the directory was left by a crash, its own WAL ended before: a server that had got as far
    /// as this record would have left it in `pg_control`.
    pub fn restarted(&mut self, lsn: Lsn) {
        if lsn > self.rule.at_least {
            self.wal_ends(lsn);
        }
    }

    /// The record at `lsn` says that `full_page_writes` is off.
    pub fn full_page_writes_off(&mut self, lsn: Lsn) -> Result<(), ConsistencyError> {
        self.reached(lsn)?;
        if self.crossed.is_none() && self.rule.needs_full_page_writes {
            return Err(ConsistencyError::FullPageWritesOff { lsn });
        }
        Ok(())
    }

    fn settle(&mut self, at: Lsn) {
        if let Some(m) = self.crossed
            && self.snapshot_known
            && self.open.is_empty()
            && self.ready.is_none()
        {
            self.ready = Some(m.max(at));
        }
    }

    fn gid(&self, xid: Xid) -> Option<String> {
        let gid = self.prepared.get(&xid.0)?;
        Some(String::from_utf8_lossy(gid).into_owned())
    }
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.gid {
            Some(gid) => write!(f, "prepared transaction '{gid}' ({})", self.xid),
            None => write!(f, "transaction {}", self.xid),
        }
    }
}

#[cfg(test)]
#[path = "readiness_tests.rs"]
mod tests;
