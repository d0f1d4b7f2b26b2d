//! Records that decide about transactions, and checkpoints.

use redostream_protocol::cursor::Cursor;
use redostream_protocol::event::Origin;
use redostream_protocol::{Lsn, Xid};

use super::{Gate, GateError, Passage, malformed};
use crate::assembly::part::{Commit, ControlKind, Particulars};
use crate::catalog::bootstrap::readiness::{Readiness, RunningTransactions};
use crate::framing::partition::OrderedEntry;
use crate::framing::record::Record;
use crate::framing::rmgr::xlog;
use crate::framing::xact::{self, XactEnd, op};

impl Gate {
    /// Takes note of the transactions whose first record in the chunk stands at or before `lsn`.
    ///
    /// In log order: a record that says that everybody is gone must not wipe out who comes later.
    pub(super) fn note_transactions(
        &mut self,
        passage: &mut Passage<'_>,
        lsn: Lsn,
    ) -> Result<(), GateError> {
        let was_consistent = self.is_consistent();
        while let Some(group) = passage.chunk.groups.get(passage.seen)
            && group.first <= lsn
        {
            let (_, top) = passage.tops.by_group[passage.seen];
            passage.seen += 1;
            if group.top.is_valid() {
                self.transactions.assign(group.xid, group.top);
                self.catalog.assigned(group.xid, group.top);
            }
            if let Some(readiness) = &mut self.readiness {
                readiness.seen(group.first, top)?;
            }
        }
        let Some(readiness) = &mut self.readiness else {
            return Ok(());
        };
        readiness.reached(lsn)?;
        if !was_consistent && readiness.is_consistent() {
            self.consistent_at = readiness.consistent_at();
            let whole = self.catalog.consistent();
            whole.map_err(|error| GateError::Catalog { lsn, error })?;
        }
        self.look_ready();
        Ok(())
    }

    pub(super) fn take_transaction(
        &mut self,
        record: &Record<'_>,
        entry: &OrderedEntry,
        passage: &mut Passage<'_>,
    ) -> Result<(), GateError> {
        let lsn = record.lsn;
        match record.op() & op::MASK {
            op::COMMIT | op::COMMIT_PREPARED => {
                let end = xact::parse_end(record.info, record.main, self.format)
                    .map_err(|error| malformed(lsn, &error))?;
                self.take_commit((record.xid, record.origin), &end, entry, passage)
            }
            op::ABORT | op::ABORT_PREPARED => {
                let end = xact::parse_end(record.info, record.main, self.format)
                    .map_err(|error| malformed(lsn, &error))?;
                self.take_abort(record, &end, entry, passage)
            }
            op::PREPARE => {
                let end = xact::parse_prepare(record.main, self.format)
                    .map_err(|error| malformed(lsn, &error))?;
                let top = end.prepared_xid.unwrap_or(record.xid);
                for sub in &end.subxacts {
                    self.transactions.assign(*sub, top);
                }
                self.cut(passage, entry.number, lsn)?;
                self.tell_at_boundary(top, passage)?;
                self.prepared.insert(top);
                if let Some(readiness) = &mut self.readiness {
                    readiness.prepared(lsn, top, end.gid.as_deref().unwrap_or_default())?;
                }
                passage.control(entry, ControlKind::Prepare { top });
                Ok(())
            }
            op::ASSIGNMENT => {
                let (top, subs) =
                    xact::parse_assignment(record.main).map_err(|error| malformed(lsn, &error))?;
                for sub in subs {
                    self.transactions.assign(sub, top);
                }
                Ok(())
            }
            op::INVALIDATIONS => {
                let top = self.transactions.top_of(record.xid);
                self.catalog.command_boundary(top, lsn);
                Ok(())
            }
            other => Err(malformed(
                lsn,
                &format!("unknown transaction record {other:#04x}"),
            )),
        }
    }

    /// Takes what a commit record of this xid and origin says.
    pub(super) fn take_commit(
        &mut self,
        (xid, origin): (Xid, u16),
        end: &XactEnd,
        entry: &OrderedEntry,
        passage: &mut Passage<'_>,
    ) -> Result<(), GateError> {
        let lsn = passage.lsn(entry);
        let end_lsn = passage.chunk.lsn(entry.end_offset);
        let top = end.prepared_xid.unwrap_or(xid);
        for sub in &end.subxacts {
            self.transactions.assign(*sub, top);
        }
        if self.catalog.has_changes(top) || !end.dropped.is_empty() {
            self.cut(passage, entry.number, lsn)?;
        }
        let skip = self.skips(top)
            || lsn < self.selection.start
            || (end.database.is_valid() && !self.is_selected(end.database));
        if !skip {
            self.tell_at_commit(top, entry, passage)?;
        }
        let particulars = Particulars {
            subs: end.subxacts.clone(),
            origin: self.origin(origin, end),
            gid: end.gid.clone(),
        };
        let commit = Commit {
            timeline: self.timeline(passage, lsn),
            top,
            database: end.database,
            commit_time_us: end.time_us,
            skip,
            particulars: particulars.boxed(),
        };
        passage.control(entry, ControlKind::Commit(commit));
        self.catalog
            .commit(top, end, end_lsn, &self.transactions)
            .map_err(|error| GateError::Catalog { lsn, error })?;
        self.ended((lsn, end_lsn), top, &end.subxacts)
    }

    fn origin(&mut self, id: u16, end: &XactEnd) -> Option<Origin> {
        let (lsn, commit_time_us) = match (id, end.origin) {
            (0, _) => return None,
            (_, Some(origin)) => origin,
            (_, None) => (Lsn::INVALID, end.time_us),
        };
        Some(Origin {
            id,
            name: self.catalog.origin_name(id),
            lsn,
            commit_time_us,
        })
    }

    fn take_abort(
        &mut self,
        record: &Record<'_>,
        end: &XactEnd,
        entry: &OrderedEntry,
        passage: &mut Passage<'_>,
    ) -> Result<(), GateError> {
        let lsn = record.lsn;
        let xid = end.prepared_xid.unwrap_or(record.xid);
        let top = self.transactions.top_of_aborted(xid, &end.subxacts);
        self.transactions.assign(xid, top);
        let changed = self.catalog.has_changes(top);
        if changed || !end.dropped.is_empty() {
            self.cut(passage, entry.number, lsn)?;
        }
        let aborted = self
            .catalog
            .abort(xid, end, record.end_lsn, &self.transactions);
        aborted.map_err(|error| GateError::Catalog { lsn, error })?;
        if top == xid {
            passage.control(entry, ControlKind::Abort { top });
            return self.ended((lsn, record.end_lsn), top, &end.subxacts);
        }
        let mut subs = vec![xid];
        subs.extend_from_slice(&end.subxacts);
        for sub in &end.subxacts {
            self.transactions.assign(*sub, top);
        }
        self.transactions
            .abort_subtransactions(subs.iter().copied());
        passage.control(entry, ControlKind::AbortSubtransactions { top, subs });
        Ok(())
    }

    /// A transaction ended with the record that begins and ends there.
    fn ended(
        &mut self,
        (lsn, end_lsn): (Lsn, Lsn),
        top: Xid,
        subs: &[Xid],
    ) -> Result<(), GateError> {
        self.transactions.end(top);
        self.prepared.remove(&top);
        if let Some(readiness) = &mut self.readiness {
            readiness.ended(lsn, end_lsn, top, subs)?;
            self.look_ready();
        }
        Ok(())
    }

    fn look_ready(&mut self) {
        if let Some(ready) = self.readiness.as_ref().and_then(Readiness::ready_at) {
            self.ready = Some(ready);
            self.readiness = None;
        }
    }

    /// ```text
    /// xcnt u32 | subxcnt u32 | overflow u8 pad | nextXid u32 | oldestRunningXid u32 |
    /// latestCompletedXid u32 | xids
    /// ```
    // pg: storage/standbydefs.h xl_running_xacts [14-18]
    pub(super) fn take_running(
        &mut self,
        record: &Record<'_>,
        entry: &OrderedEntry,
        passage: &mut Passage<'_>,
    ) -> Result<(), GateError> {
        let lsn = record.lsn;
        let mut cursor = Cursor::new(record.main);
        let short = |error| malformed(lsn, &error);
        let count = cursor.u32("running count").map_err(short)?;
        cursor.take(8, "subtransactions").map_err(short)?;
        let next = Xid(cursor.u32("next xid").map_err(short)?);
        let oldest = Xid(cursor.u32("oldest running xid").map_err(short)?);
        cursor.take(4, "latest completed xid").map_err(short)?;
        let mut running = Vec::new();
        for _ in 0..count {
            running.push(Xid(cursor.u32("running xid").map_err(short)?));
        }
        if let Some(readiness) = &mut self.readiness {
            let told = RunningTransactions {
                tops: &running,
                oldest,
            };
            let catalog = &self.catalog;
            readiness.running(lsn, record.end_lsn, told, |xid| catalog.has_ended(xid))?;
            self.look_ready();
        }
        self.catalog.running_transactions(next, oldest, &running);
        passage.control(entry, ControlKind::GoneBefore(oldest));
        Ok(())
    }

    pub(super) fn take_log(
        &mut self,
        record: &Record<'_>,
        entry: &OrderedEntry,
        passage: &mut Passage<'_>,
    ) -> Result<(), GateError> {
        self.cut(passage, entry.number, record.lsn)?;
        self.replay(record)?;
        match record.op() {
            xlog::CHECKPOINT_SHUTDOWN | xlog::END_OF_RECOVERY => {
                if let Some(readiness) = &mut self.readiness {
                    readiness.restarted(record.lsn);
                    self.note_transactions(passage, record.lsn)?;
                }
                passage.control(entry, ControlKind::AllGone);
                self.all_gone(record)?;
            }
            xlog::BACKUP_END => {
                let raw = record.main.get(..8).and_then(|raw| raw.try_into().ok());
                let start = raw.map_or(Lsn::INVALID, |raw| Lsn(u64::from_le_bytes(raw)));
                if let Some(readiness) = &mut self.readiness {
                    readiness.backup_ended(record.end_lsn, start)?;
                }
            }
            xlog::FPW_CHANGE if record.main.first() == Some(&0) => {
                if let Some(readiness) = &mut self.readiness {
                    readiness.full_page_writes_off(record.lsn)?;
                }
            }
            xlog::PARAMETER_CHANGE => self.check_parameters(record)?,
            _ => {}
        }
        Ok(())
    }

    /// The server stopped: nothing runs any more but what was prepared.
    fn all_gone(&mut self, record: &Record<'_>) -> Result<(), GateError> {
        let tops: Vec<Xid> = self.transactions.tops().collect();
        for top in tops {
            if !self.prepared.contains(&top) {
                self.transactions.end(top);
            }
        }
        self.catalog.all_gone(&self.prepared);
        if let Some(readiness) = &mut self.readiness {
            readiness.only_prepared_run(record.lsn, record.end_lsn)?;
            self.look_ready();
        }
        Ok(())
    }

    /// ```text
    /// MaxConnections i32 | max_worker_processes i32 | max_wal_senders i32 |
    /// max_prepared_xacts i32 | max_locks_per_xact i32 | wal_level i32 | ...
    /// ```
    // pg: access/xlog_internal.h xl_parameter_change [14-18]
    fn check_parameters(&self, record: &Record<'_>) -> Result<(), GateError> {
        let raw = record.main.get(20..24).and_then(|raw| raw.try_into().ok());
        let level = raw.map_or(0, i32::from_le_bytes);
        if level < WAL_LEVEL_LOGICAL {
            return Err(GateError::WalLevelLowered { lsn: record.lsn });
        }
        Ok(())
    }
}

/// `WAL_LEVEL_LOGICAL`.
// pg: access/xlog.h WalLevel [14-18]
const WAL_LEVEL_LOGICAL: i32 = 2;
