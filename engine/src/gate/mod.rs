//! Gate: the one ordered step before decoding.
//!
//! Takes: framed chunks, in log order. Gives: parts of chunks whose rows know their relation.
//! Keeps: who runs, the catalog, the expected next record. Never: looks at a row's data, or lets
//! a task go on a guess.
//!
//! A chunk is one part unless something in it changes what a row's relation is: it is cut there,
//! so that every part sees one version of everything.

mod checkpoint;
mod controls;
mod ddl;
pub mod join;
mod messages;
mod resolve;
pub mod transactions;

pub use checkpoint::GateState;

use std::ops::Range;
use std::sync::Arc;

use bytes::BytesMut;
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::{DatabaseOid, Lsn, TimelineId, Xid};
use rustc_hash::FxHashSet;

use crate::assembly::part::{Control, ControlKind};
use crate::catalog::bootstrap::readiness::{ConsistencyError, Readiness};
use crate::catalog::{Catalog, CatalogError, CatalogSnapshot};
use crate::decoding::merge::Tops;
use crate::decoding::names::LateNames;
use crate::decoding::task::{Targets, TaskOutput};
use crate::framing::chunk::{FramedChunk, FramingRules};
use crate::framing::error::FrameError;
use crate::framing::format::WalFormat;
use crate::framing::partition::{Group, OrderedEntry, OrderedKind};
use crate::framing::record::{Record, RecordError};
use crate::framing::xact::{self, XactError};
use transactions::Transactions;

/// What stops the gate.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The catalog could not follow the log.
    #[error("catalog: {error} (record at {lsn})")]
    Catalog {
        /// The record.
        lsn: Lsn,
        /// What went wrong.
        error: CatalogError,
    },
    /// A row's relation cannot be told.
    #[error("rows before {lsn} cannot be given a relation: {error}")]
    Resolve {
        /// An LSN behind the rows.
        lsn: Lsn,
        /// What went wrong.
        error: CatalogError,
    },
    /// A record whose CRC is right contradicts itself.
    #[error("malformed record at {lsn}: {problem}")]
    Malformed {
        /// The record.
        lsn: Lsn,
        /// What is wrong.
        problem: String,
    },
    /// The server no longer logs what logical decoding needs.
    #[error(
        "wal_level was lowered below logical at {lsn}: what follows cannot be decoded; set wal_level = logical and begin again from a new copy"
    )]
    WalLevelLowered {
        /// The record.
        lsn: Lsn,
    },
    /// The copied catalog cannot be made whole.
    #[error(transparent)]
    Consistency(#[from] ConsistencyError),
    /// Records do not join.
    #[error("the record at {found} does not follow the one at {last}: {expected} was expected")]
    Seam {
        /// Where a chunk's first record stands.
        found: Lsn,
        /// Where it was expected.
        expected: Lsn,
        /// The record before.
        last: Lsn,
    },
}

/// A stretch of a chunk, ready to be decoded.
#[derive(Debug)]
pub struct GatedPart {
    /// The chunk.
    pub chunk: Arc<FramedChunk>,
    /// For each partition, the entries that belong to the part.
    pub ranges: Vec<Range<usize>>,
    /// What the rows are rows of.
    pub targets: Arc<Targets>,
    /// The top-level transactions of the chunk's groups.
    pub tops: Arc<Tops>,
    /// Events that the gate itself made.
    pub own: TaskOutput,
    /// Transactions of events of `own` that have no record in the chunk; their numbers follow those
    /// of the chunk's groups.
    pub own_groups: Vec<Group>,
    /// Relations that events of `own` name besides their first.
    pub own_relations: Vec<(u32, redostream_protocol::schema::RelationVersion)>,
    /// What is not a row.
    pub controls: Vec<Control>,
    /// Every record that starts before this is in this part or an earlier one.
    pub end: Lsn,
}

impl GatedPart {
    /// Whether any row is to be decoded.
    #[must_use]
    pub fn has_rows(&self) -> bool {
        self.ranges.iter().any(|range| !range.is_empty())
    }
}

/// What the gate makes of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub enum Passed {
    /// All of it went through.
    Whole,
    /// It went through up to here; what follows has to be framed again from this record, because
    /// more files have become catalog files.
    Again(Lsn),
}

/// Which transactions are let through.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Names of the databases, all if empty.
    pub databases: Vec<String>,
    /// Transactions that commit before this are left out.
    pub start: Lsn,
}

/// The timeline of the history at an LSN.
pub type TimelineAt = Arc<dyn Fn(Lsn) -> TimelineId + Send + Sync>;

/// The gate.
pub struct Gate {
    format: &'static WalFormat,
    catalog: Catalog,
    transactions: Transactions,
    /// Until C is reached.
    readiness: Option<Readiness>,
    selection: Selection,
    selected: rustc_hash::FxHashMap<DatabaseOid, bool>,
    timeline_at: TimelineAt,
    prepared: FxHashSet<Xid>,
    join: join::Join,
    checkpoints: u64,
    ready: Option<Lsn>,
    /// Whether a restart point at or after C was taken or gone on from.
    restored: bool,
    consistent_at: Option<Lsn>,
    checkpoint_wanted: bool,
    states: Vec<(u64, GateState)>,
    segment_bytes: u64,
    /// Where events are written that are units of their own.
    standalone_room: BytesMut,
}

/// One chunk on its way through the gate.
struct Passage<'a> {
    chunk: &'a Arc<FramedChunk>,
    tops: Arc<Tops>,
    taken: Vec<usize>,
    /// Groups of the chunk whose first record was reached.
    seen: usize,
    own: TaskOutput,
    own_groups: Vec<Group>,
    own_relations: Vec<(u32, redostream_protocol::schema::RelationVersion)>,
    controls: Vec<Control>,
    parts: &'a mut Vec<GatedPart>,
    /// The timeline of all its records, if they have only one.
    timeline: Option<TimelineId>,
}

impl Passage<'_> {
    fn lsn(&self, entry: &OrderedEntry) -> Lsn {
        self.chunk.lsn(entry.lsn_offset)
    }

    fn control(&mut self, entry: &OrderedEntry, kind: ControlKind) {
        let lsn = self.chunk.lsn(entry.lsn_offset);
        let end_lsn = self.chunk.lsn(entry.end_offset);
        self.controls.push(Control { lsn, end_lsn, kind });
    }
}

impl Gate {
    /// An unchanging copy of the catalogs as they are now.
    #[must_use]
    pub fn current_catalog(&mut self) -> Arc<CatalogSnapshot> {
        self.catalog.snapshot(&self.transactions)
    }

    /// What names in TOASTed values of rows from before this point are looked up in, if the rows
    /// have any; they are of these structures.
    #[must_use]
    pub fn late_names(
        &mut self,
        versions: impl IntoIterator<Item = RelationVersion>,
    ) -> Option<Arc<LateNames>> {
        let registry = self.catalog.registry();
        let layouts = versions
            .into_iter()
            .filter_map(|version| registry.layout(version))
            .filter(|layout| layout.needs_catalog);
        let layouts: Vec<_> = layouts.collect();
        (!layouts.is_empty()).then(|| Arc::new(LateNames::new(self.current_catalog(), layouts)))
    }

    /// A gate over a bootstrapped catalog; the first record is expected at `start`.
    #[must_use]
    pub fn new(
        catalog: Catalog,
        readiness: Readiness,
        format: &'static WalFormat,
        selection: Selection,
        timeline_at: TimelineAt,
        segment_bytes: u64,
        start: Lsn,
    ) -> Self {
        Gate {
            format,
            catalog,
            transactions: Transactions::default(),
            readiness: Some(readiness),
            selection,
            selected: rustc_hash::FxHashMap::default(),
            timeline_at,
            prepared: FxHashSet::default(),
            join: join::Join::at(start),
            checkpoints: 0,
            ready: None,
            restored: false,
            consistent_at: None,
            checkpoint_wanted: true,
            states: Vec::new(),
            segment_bytes,
            standalone_room: BytesMut::new(),
        }
    }

    /// Where the next record is expected.
    #[must_use]
    pub const fn expected(&self) -> Lsn {
        self.join.expected()
    }

    /// The seam between chunks.
    pub const fn join_mut(&mut self) -> &mut join::Join {
        &mut self.join
    }

    /// What framing has to know, with one partition.
    #[must_use]
    pub const fn rules(&self) -> FramingRules {
        FramingRules {
            format: self.format,
            segment_bytes: self.segment_bytes,
            partitions: 1,
            timelines: None,
        }
    }

    /// The catalog.
    #[must_use]
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// From here on nothing is missing, once known.
    #[must_use]
    pub const fn ready(&self) -> Option<Lsn> {
        self.ready
    }

    /// Takes the next chunk, which has been joined; appends the parts it makes.
    pub fn push(
        &mut self,
        chunk: &Arc<FramedChunk>,
        generation: u64,
        parts: &mut Vec<GatedPart>,
    ) -> Result<Passed, GateError> {
        if self.catalog.generation() != generation {
            return Ok(Passed::Again(self.join.expected()));
        }
        if chunk.first.is_none() {
            // No record starts here: all of it belongs to one that began in an earlier chunk, and
            // the log has been taken up to that one's end already.
            self.join.passed(chunk);
            return Ok(Passed::Whole);
        }
        let tops = Tops::of(&chunk.groups, |group| match group.top {
            Xid::INVALID => self.transactions.top_of(group.xid),
            top => top,
        });
        let mut passage = Passage {
            chunk,
            tops: Arc::new(tops),
            taken: vec![0; chunk.partitions.len()],
            seen: 0,
            own: TaskOutput::default(),
            own_groups: Vec::new(),
            own_relations: Vec::new(),
            controls: Vec::with_capacity(chunk.ordered.len()),
            parts,
            timeline: self.only_timeline(chunk),
        };
        self.begin_with_checkpoint(&mut passage);
        for entry in &chunk.ordered {
            self.note_transactions(&mut passage, chunk.lsn(entry.lsn_offset))?;
            self.take_first_checkpoint(entry, &mut passage)?;
            self.take(entry, &mut passage)?;
            if self.catalog.generation() != generation {
                let next = self.normalised(chunk.lsn(entry.end_offset));
                self.cut(&mut passage, entry.number, next)?;
                self.emit(&mut passage, next, Targets::default(), None);
                self.join.go_on(chunk.lsn(entry.lsn_offset), next);
                return Ok(Passed::Again(self.join.expected()));
            }
        }
        // A chunk that only goes on with a record ends before that record does.
        let end = chunk.next.max(self.join.expected());
        self.note_transactions(&mut passage, end)?;
        self.cut(&mut passage, u32::MAX, end)?;
        self.emit(&mut passage, end, Targets::default(), None);
        self.join.passed(chunk);
        Ok(Passed::Whole)
    }

    fn take(&mut self, entry: &OrderedEntry, passage: &mut Passage<'_>) -> Result<(), GateError> {
        let lsn = passage.lsn(entry);
        let bytes = passage.chunk.record(entry.place);
        if entry.kind == OrderedKind::Transaction
            && let Some((xid, commit)) = xact::plain_commit(bytes)
        {
            return self.take_commit((xid, 0), &commit, entry, passage);
        }
        let end = passage.chunk.lsn(entry.end_offset);
        let record =
            Record::parse(bytes, lsn, end, self.format).map_err(|error| malformed(lsn, &error))?;
        match entry.kind {
            OrderedKind::Transaction => self.take_transaction(&record, entry, passage),
            OrderedKind::CatalogPage | OrderedKind::Replay => {
                self.cut(passage, entry.number, lsn)?;
                self.tell_of_others(&record, passage)?;
                self.replay(&record)
            }
            OrderedKind::RunningTransactions => self.take_running(&record, entry, passage),
            OrderedKind::Log => self.take_log(&record, entry, passage),
            OrderedKind::Truncate => self.take_truncate(&record, entry, passage),
            OrderedKind::Message => self.take_message(&record, entry, passage),
            OrderedKind::Sequence => self.take_sequence(&record, entry, passage),
        }
    }

    /// The timeline of all records of a chunk, unless one ends in it.
    fn only_timeline(&self, chunk: &FramedChunk) -> Option<TimelineId> {
        let first = (self.timeline_at)(chunk.base);
        (first == (self.timeline_at)(chunk.next)).then_some(first)
    }

    /// The timeline of a record.
    fn timeline(&self, passage: &Passage<'_>, lsn: Lsn) -> TimelineId {
        let only = passage.timeline;
        only.unwrap_or_else(|| (self.timeline_at)(lsn))
    }

    fn replay(&mut self, record: &Record<'_>) -> Result<(), GateError> {
        let replayed = self.catalog.replay(record, &self.transactions);
        replayed.map(drop).map_err(|error| GateError::Catalog {
            lsn: record.lsn,
            error,
        })
    }

    /// Whether the catalog can be trusted here.
    fn is_consistent(&self) -> bool {
        self.readiness.as_ref().is_none_or(Readiness::is_consistent)
    }

    /// Whether a transaction is passed over because it began before the catalog could be trusted.
    fn skips(&self, top: Xid) -> bool {
        self.readiness
            .as_ref()
            .is_some_and(|readiness| readiness.skips(top))
    }

    /// Where the catalog became trustworthy, as far as that is still remembered.
    #[must_use]
    pub fn consistent_at(&self) -> Option<Lsn> {
        self.consistent_at
    }

    /// What C waits for, in one line; none once it is reached.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        self.readiness.as_ref().and_then(Readiness::waits_for)
    }

    /// Transactions that were open when the catalog became whole, and are skipped.
    #[must_use]
    pub fn skipped(&self) -> Vec<Xid> {
        self.readiness
            .as_ref()
            .map(Readiness::skipped)
            .unwrap_or_default()
    }

    /// Whether rows of a database are let through.
    fn is_selected(&mut self, database: DatabaseOid) -> bool {
        if self.selection.databases.is_empty() {
            return true;
        }
        if let Some(known) = self.selected.get(&database) {
            return *known;
        }
        let name = self
            .catalog
            .database(database)
            .map(|database| database.name.clone());
        let Some(name) = name else {
            return false;
        };
        let wanted = self
            .selection
            .databases
            .iter()
            .any(|wanted| wanted.as_bytes() == name.as_bytes());
        self.selected.insert(database, wanted);
        wanted
    }
}

fn malformed(lsn: Lsn, problem: &impl ToString) -> GateError {
    GateError::Malformed {
        lsn,
        problem: problem.to_string(),
    }
}

impl From<(Lsn, RecordError)> for GateError {
    fn from((lsn, error): (Lsn, RecordError)) -> Self {
        malformed(lsn, &error)
    }
}

impl From<(Lsn, XactError)> for GateError {
    fn from((lsn, error): (Lsn, XactError)) -> Self {
        malformed(lsn, &error)
    }
}

impl From<(Lsn, FrameError)> for GateError {
    fn from((lsn, error): (Lsn, FrameError)) -> Self {
        malformed(lsn, &error)
    }
}
