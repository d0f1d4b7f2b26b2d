//! DDL: changes of structure, told from what transactions write to catalogs.
//!
//! Takes: the objects that each catalog record wrote, command boundaries, and the places at which a
//! transaction's changes are to be told. Gives: DDL events. Keeps: for each open transaction that
//! changes catalogs, the objects it has touched and not told, and what it has told. Never: scans a
//! catalog, or looks at an object that nobody touched.
//!
//! One statement writes many rows and passes many command boundaries, between which catalogs make
//! no sense to anybody. So a transaction's changes are gathered until its next row, truncate or
//! message, until another of its subtransactions writes, or until it is prepared or commits; then
//! each touched object is described twice, before (as last told, else as committed) and after (as
//! the transaction sees it), and what differs is told. What was only passed through, such as the
//! transient table of a rewrite, is in neither description and never told. The places are places of
//! the log, so events are the same wherever decoding began.
//!
//! ```text
//! touched ─► tracker ─(flush)─► before, after: table (constraint, index, partition), other
//!                                    │ names, expression (node)
//!                                    ▼
//!                             order ─► events
//! ```

mod beside;
mod comment;
mod constraint;
mod data_type;
mod depends;
mod events;
mod expression;
mod index;
mod linked;
mod names;
mod node;
mod order;
mod other;
mod partition;
mod privileges;
mod renamed;
mod sequence;
mod state;
mod statement;
mod table;
mod touched;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use redostream_protocol::ddl::{DdlEvent, TableShape};
use redostream_protocol::schema::Name;
use redostream_protocol::{DatabaseOid, Lsn, Oid, Xid};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::layout::oid;
use super::view::{Row, View};
use super::{Catalog, CatalogError};
use crate::gate::transactions::Transactions;
use crate::limits::{CATALOG_OID_END, INITDB_FILE_NUMBER_END};
use depends::{Needs, needed};
use order::{Change, ordered};
use state::State;
pub(crate) use touched::{Touched, Written, concerns, objects_of};

/// What open transactions have changed and told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tracker {
    open: FxHashMap<Xid, Progress>,
}

/// One transaction.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Progress {
    database: DatabaseOid,
    /// The (sub)transaction that wrote what has not been told.
    writer: Xid,
    /// Objects touched since.
    touched: BTreeSet<Touched>,
    /// The last catalog record.
    written: Lsn,
    /// The last command boundary.
    boundary: Lsn,
    /// What was told of objects, latest last.
    told: ToldOf,
    /// The statement in work, if the capture trigger gave it.
    statement: Option<Sent>,
}

/// What a transaction has told of objects, by each of its (sub)transactions.
type ToldOf = BTreeMap<Touched, Vec<Latest>>;

/// An object as it was last told.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Latest {
    /// The (sub)transaction that told it.
    xid: Xid,
    state: Option<State>,
    /// As it was committed then.
    committed: Option<State>,
    /// What it needed then: later no view has it, since it was never committed so.
    needs: Vec<Oid>,
}

/// A string of statements of which one is in work.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sent {
    /// The (sub)transaction that sent it.
    xid: Xid,
    text: Name,
    /// How often the same string was named before, for earlier statements of it.
    number: usize,
}

/// Changes to be told at one place.
#[derive(Debug)]
pub struct Told {
    /// The (sub)transaction that made them.
    pub xid: Xid,
    /// Its database.
    pub database: DatabaseOid,
    /// The last command boundary that it passed.
    pub boundary: Lsn,
    /// The changes, in an order in which they can be applied.
    pub events: Vec<DdlEvent>,
}

impl Tracker {
    /// A record of `xid` wrote these objects.
    pub(crate) fn wrote(&mut self, top: Xid, xid: Xid, lsn: Lsn, written: Written) {
        if written.objects.is_empty() {
            return;
        }
        let progress = self.open.entry(top).or_default();
        progress.database = written.database;
        progress.writer = xid;
        progress.written = lsn;
        progress.touched.extend(written.objects);
    }

    /// A transaction passed a command boundary.
    pub(crate) fn boundary(&mut self, top: Xid, lsn: Lsn) {
        if let Some(progress) = self.open.get_mut(&top) {
            progress.boundary = lsn;
        }
    }

    /// A statement that is about to be executed.
    pub(crate) fn statement(&mut self, top: Xid, xid: Xid, text: Name) {
        let statement = &mut self.open.entry(top).or_default().statement;
        let again = statement.as_ref().filter(|sent| sent.text == text);
        let number = again.map_or(0, |sent| sent.number + 1);
        *statement = Some(Sent { xid, text, number });
    }

    /// Whether a transaction has changes that are not told; if `xid` is given, made by another
    /// of its (sub)transactions than that.
    #[inline]
    pub(crate) fn is_pending(&self, top: Xid, but: Option<Xid>) -> bool {
        if self.open.is_empty() {
            return false;
        }
        self.open.get(&top).is_some_and(|progress| {
            !progress.touched.is_empty() && but.is_none_or(|xid| xid != progress.writer)
        })
    }

    /// A transaction ended.
    pub(crate) fn ended(&mut self, top: Xid) {
        if !self.open.is_empty() {
            self.open.remove(&top);
        }
    }

    /// Of the transactions known here only these are still open.
    pub(crate) fn retain(&mut self, is_open: impl Fn(Xid) -> bool) {
        self.open.retain(|top, _| is_open(*top));
    }

    /// Subtransactions were rolled back: what they changed and told is forgotten.
    pub(crate) fn rolled_back(&mut self, top: Xid, subs: &[Xid]) {
        let Some(progress) = self.open.get_mut(&top) else {
            return;
        };
        if subs.contains(&progress.writer) {
            progress.touched.clear();
        }
        for told in progress.told.values_mut() {
            told.retain(|latest| !subs.contains(&latest.xid));
        }
        progress.told.retain(|_, told| !told.is_empty());
        progress.statement = progress
            .statement
            .take()
            .filter(|sent| !subs.contains(&sent.xid));
    }

    /// A subtransaction turned out to belong to `top`.
    pub(crate) fn assigned(&mut self, sub: Xid, top: Xid) {
        if self.open.is_empty() {
            return;
        }
        if let Some(of_sub) = self.open.remove(&sub) {
            self.open.insert(top, of_sub);
        }
    }
}

/// The structure of a table, as DDL events give it, and the OIDs of the tables it names.
pub(crate) fn structure(
    view: &View<'_>,
    class: &Row<'_>,
) -> Result<(TableShape, Vec<Oid>), CatalogError> {
    let state = table::describe(view, class)?;
    Ok((state.shape, state.references))
}

impl Catalog {
    /// Whether a transaction has changes of structure that are not told yet.
    #[must_use]
    #[inline]
    pub fn has_untold(&self, top: Xid) -> bool {
        self.ddl.is_pending(top, None)
    }

    /// As above, by another of its (sub)transactions than `xid`.
    #[must_use]
    #[inline]
    pub fn has_untold_of_others(&self, top: Xid, xid: Xid) -> bool {
        self.ddl.is_pending(top, Some(xid))
    }

    /// A transaction passed a command boundary.
    pub fn command_boundary(&mut self, top: Xid, lsn: Lsn) {
        self.ddl.boundary(top, lsn);
    }

    /// The capture trigger named the statement that a transaction is about to execute.
    pub fn statement_begins(&mut self, top: Xid, xid: Xid, text: Name) {
        self.ddl.statement(top, xid, text);
    }

    /// Tells what a transaction has changed since it was last asked.
    pub fn tell(
        &mut self,
        top: Xid,
        transactions: &Transactions,
    ) -> Result<Option<Told>, CatalogError> {
        let Some(progress) = self.ddl.open.get_mut(&top) else {
            return Ok(None);
        };
        let touched = std::mem::take(&mut progress.touched);
        if touched.is_empty() {
            return Ok(None);
        }
        let mut told = std::mem::take(&mut progress.told);
        let (xid, database) = (progress.writer, progress.database);
        let boundary = progress.boundary.max(progress.written);
        let sent = progress.statement.clone();
        let view = |viewer| View {
            store: &self.store,
            database,
            viewer,
            transactions,
        };
        let stage = Comparison {
            committed: view(None),
            own: view(Some(top)),
            told: &told,
        };
        let mut events = Vec::new();
        let changes = stage.changes(&touched)?;
        for change in ordered(changes) {
            if !change.hidden {
                let (before, after) = (change.before.as_ref(), change.after.as_ref());
                events::of_change(before, after, change.key.catalog, &mut events);
            }
            let latest = told.entry(change.key).or_default();
            latest.retain(|other| other.xid != xid);
            latest.push(Latest {
                xid,
                state: change.after,
                committed: change.committed,
                needs: change.needs.after,
            });
        }
        if let Some(sent) = sent {
            let cause = statement::cause(&sent.text, sent.number, &events);
            for event in &mut events {
                event.sql = Some(cause.clone());
            }
        }
        if let Some(progress) = self.ddl.open.get_mut(&top) {
            progress.told = told;
        }
        Ok(Some(Told {
            xid,
            database,
            boundary,
            events,
        }))
    }

    /// The structure of a table as committed, by its name; none if there is none.
    pub fn describe_table(
        &self,
        database: DatabaseOid,
        schema: &Name,
        table: &Name,
    ) -> Result<Option<TableShape>, CatalogError> {
        let transactions = Transactions::default();
        let view = self.committed(database, &transactions);
        for row in view.scan(oid::CLASS)? {
            let kind = row.byte("relkind")?;
            if row.name("relname")? == *table
                && matches!(kind, b'r' | b'p' | b'v' | b'm' | b'f')
                && names::schema_name(&view, row.oid("relnamespace")?)? == *schema
            {
                return Ok(Some(table::describe(&view, &row)?.shape));
            }
        }
        Ok(None)
    }

    /// Every table of a database but those of the system, by name, as a transaction sees them here;
    /// as committed, if none is given.
    pub fn describe_tables(
        &self,
        database: DatabaseOid,
        viewer: Option<Xid>,
        transactions: &Transactions,
    ) -> Result<Vec<TableShape>, CatalogError> {
        let view = View {
            store: &self.store,
            database,
            viewer,
            transactions,
        };
        let mut tables = Vec::new();
        for row in view.scan(oid::CLASS)? {
            let oid = row.oid("oid")?;
            if oid.0 < INITDB_FILE_NUMBER_END {
                continue;
            }
            if let Some(State::Table(state)) = read(&view, &Touched::new(oid::CLASS, oid))? {
                tables.push(state.shape);
            }
        }
        tables.sort_by(|one, other| (&one.schema, &one.name).cmp(&(&other.schema, &other.name)));
        Ok(tables)
    }
}

/// An object in one view.
fn read(view: &View<'_>, key: &Touched) -> Result<Option<State>, CatalogError> {
    if key.catalog != oid::CLASS {
        let other = other::describe(view, key)?;
        return Ok(other.map(|other| State::Other(Box::new(other))));
    }
    let Some(class) = view.row_of(oid::CLASS, "oid", key.oid)? else {
        return Ok(None);
    };
    // A transient heap takes its table's place and goes.
    if class.oid("relrewrite")?.is_valid() {
        return Ok(None);
    }
    match class.byte("relkind")? {
        b'r' | b'p' | b'v' | b'm' | b'f' => {
            let state = table::describe(view, &class)?;
            Ok(Some(State::Table(Box::new(state))))
        }
        b'S' => {
            let sequence = sequence::sequence(view, &class)?;
            Ok(sequence.map(|sequence| State::Other(Box::new(sequence))))
        }
        _ => Ok(None),
    }
}

/// Two views of the same objects.
struct Comparison<'a> {
    committed: View<'a>,
    own: View<'a>,
    told: &'a ToldOf,
}

impl Comparison<'_> {
    fn changes(&self, touched: &BTreeSet<Touched>) -> Result<Vec<Change>, CatalogError> {
        let mut keys = BTreeSet::new();
        for key in touched {
            if key.oid.0 >= CATALOG_OID_END {
                self.add_key(*key, &mut keys)?;
            }
        }
        let mut changes = Vec::new();
        for key in keys {
            let latest = self.told.get(&key).and_then(|told| told.last());
            let committed = read(&self.committed, &key)?;
            let mut before = match latest {
                Some(latest) => latest.state.as_ref().map(|told| {
                    beside::merged(told, latest.committed.as_ref(), committed.as_ref())
                }),
                None => committed.clone(),
            };
            let after = read(&self.own, &key)?;
            if let (Some(before), Some(after)) = (&mut before, &after) {
                renamed::follow(before, after, self.own.store.format.major);
            }
            if before != after {
                let needs = Needs {
                    before: match latest {
                        Some(latest) => latest.needs.clone(),
                        None => needed(&self.committed, key, before.as_ref())?,
                    },
                    after: needed(&self.own, key, after.as_ref())?,
                };
                let hidden = false;
                changes.push(Change {
                    key,
                    before,
                    after,
                    committed,
                    hidden,
                    needs,
                });
            }
        }
        let hidden: Vec<bool> = changes
            .iter()
            .map(|change| self.is_hidden(change, &changes))
            .collect::<Result<_, _>>()?;
        for (change, hidden) in changes.iter_mut().zip(hidden) {
            change.hidden = hidden;
        }
        Ok(changes)
    }

    /// Adds the object that a touched row is about: an index is a part of its table, the columns of
    /// a composite type are its own.
    fn add_key(&self, key: Touched, keys: &mut BTreeSet<Touched>) -> Result<(), CatalogError> {
        if key.catalog != oid::CLASS {
            keys.insert(key);
            return Ok(());
        }
        for view in [&self.committed, &self.own] {
            let Some(class) = view.row_of(oid::CLASS, "oid", key.oid)? else {
                continue;
            };
            match class.byte("relkind")? {
                b'i' | b'I' => {
                    if let Some(row) = view.row_of(oid::INDEX, "indexrelid", key.oid)? {
                        keys.insert(Touched::new(oid::CLASS, row.oid("indrelid")?));
                    }
                }
                b'c' => {
                    keys.insert(Touched::new(oid::TYPE, class.oid("reltype")?));
                }
                b't' => {}
                _ => {
                    keys.insert(key);
                }
            }
        }
        // An object whose row is gone in both views may have been told of in between.
        if self.told.contains_key(&key) {
            keys.insert(key);
        }
        Ok(())
    }

    /// Whether a change is a part of another one that is told.
    fn is_hidden(&self, change: &Change, all: &[Change]) -> Result<bool, CatalogError> {
        if self.is_extension_member(change, all)? {
            return Ok(true);
        }
        let state = change.after.as_ref().or(change.before.as_ref());
        let Some(State::Other(other)) = state else {
            return Ok(false);
        };
        let by_itself = change.before.is_some() && change.after.is_some();
        let of_table = |oid: Oid| {
            let key = Touched::new(oid::CLASS, oid);
            all.iter().find(|change| change.key == key)
        };
        if change.key.class.is_valid() {
            // A comment or label goes with its object.
            let subject = Touched::new(change.key.class, change.key.oid);
            let gone = |change: &&Change| change.key == subject && change.after.is_none();
            return Ok(change.after.is_none() && all.iter().any(|change| gone(&change)));
        }
        match other.object.as_str() {
            "sequence" => {
                let table = match (&change.before, &change.after) {
                    (Some(State::Other(before)), None) => before.table,
                    _ => other.table,
                };
                // It follows its table to another schema, and to another owner.
                let follows = match &change.before {
                    Some(State::Other(before)) if by_itself => {
                        before.schema != other.schema || before.rest != other.rest
                    }
                    _ => true,
                };
                Ok(follows && of_table(table).is_some())
            }
            "trigger" | "policy" | "rule" | "statistics" => {
                Ok(of_table(other.table).is_some_and(|table| table.after.is_none()))
            }
            // Nothing is left that they could be of.
            "default acl" => Ok(other.references.iter().any(|schema| {
                let key = Touched::new(oid::NAMESPACE, *schema);
                all.iter()
                    .any(|change| change.key == key && change.after.is_none())
            })),
            "function" | "type" | "cast" => self.is_internal(change),
            _ => Ok(false),
        }
    }

    /// Whether an object belongs to an extension that is itself made, changed or dropped here.
    fn is_extension_member(&self, change: &Change, all: &[Change]) -> Result<bool, CatalogError> {
        let of_extension = |change: &Change| change.key.catalog == oid::EXTENSION;
        if of_extension(change) || !all.iter().any(of_extension) {
            return Ok(false);
        }
        self.depends(change, touched::MEMBER)
    }

    /// Whether an object was made as a part of another one, as the functions of a range type are.
    fn is_internal(&self, change: &Change) -> Result<bool, CatalogError> {
        self.depends(change, b'i')
    }

    /// Whether an object depends on another one in this way, in either view.
    // pg: catalog/dependency.h DependencyType [14-18]
    fn depends(&self, change: &Change, how: u8) -> Result<bool, CatalogError> {
        let class = if change.key.class.is_valid() {
            change.key.class
        } else {
            change.key.catalog
        };
        for view in [&self.committed, &self.own] {
            for row in view.rows(oid::DEPEND, "objid", change.key.oid.0)? {
                if row.oid("classid")? == class && row.byte("deptype")? == how {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
