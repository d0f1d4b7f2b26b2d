//! Finds the run of a transaction in the part in work.
//!
//! Commits come in nearly the order of the runs, so a short look ahead of the first run that has
//! not ended finds most of them; only for the others a table is made, once per part.

use redostream_protocol::Xid;
use rustc_hash::FxHashMap;

use super::part::Run;

/// Runs looked at before the table is made.
const LOOK_AHEAD: usize = 16;

/// The runs of one part, and which of them have ended.
#[derive(Debug, Default)]
pub(super) struct LocalRuns {
    ended: Vec<bool>,
    /// Before this one all have ended.
    first: usize,
    /// How many have not.
    open: usize,
    table: FxHashMap<Xid, u32>,
    is_table_made: bool,
}

impl LocalRuns {
    /// Takes the runs of the next part; none has ended.
    pub(super) fn start(&mut self, runs: &[Run]) {
        self.ended.clear();
        self.ended.resize(runs.len(), false);
        self.first = 0;
        self.open = runs.len();
        self.table.clear();
        self.is_table_made = false;
    }

    /// The index of the run of `top`, unless it has ended or there is none.
    pub(super) fn find(&mut self, runs: &[Run], top: Xid) -> Option<usize> {
        if self.open == 0 {
            return None;
        }
        let ahead = runs.iter().enumerate().skip(self.first).take(LOOK_AHEAD);
        for (index, run) in ahead {
            if run.top == top {
                return (!self.ended[index]).then_some(index);
            }
        }
        if runs.len() - self.first <= LOOK_AHEAD {
            return None;
        }
        if !self.is_table_made {
            self.is_table_made = true;
            let further = runs.iter().enumerate().skip(self.first);
            self.table
                .extend(further.map(|(index, run)| (run.top, index as u32)));
        }
        let index = *self.table.get(&top)? as usize;
        (!self.ended[index]).then_some(index)
    }

    /// The run has ended.
    pub(super) fn end(&mut self, index: usize) {
        debug_assert!(!self.ended[index]);
        self.ended[index] = true;
        self.open -= 1;
        while self.ended.get(self.first) == Some(&true) {
            self.first += 1;
        }
    }

    /// The runs that have not ended.
    pub(super) fn open<'a>(&'a self, runs: &'a [Run]) -> impl Iterator<Item = &'a Run> + 'a {
        let all = if self.open == 0 { &[] } else { runs };
        all.iter()
            .zip(&self.ended)
            .filter(|(_, ended)| !**ended)
            .map(|(run, _)| run)
    }
}
