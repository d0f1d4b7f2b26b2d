//! Which events a session wants: databases, table patterns, kinds; and which columns of its rows.
//!
//! Events without a table (messages, changes of types and schemas) pass table patterns only where
//! their kind is asked for by name, or where no table is asked for.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use redostream_engine::feed::block::Block;
use redostream_protocol::DatabaseOid;
use redostream_protocol::ddl::{DdlEvent, ObjectShape, Property};
use redostream_protocol::event::{Event, EventKind};
use redostream_protocol::schema::{Relation, RelationVersion};
use redostream_protocol::wire::{Fault, FaultCode};

use super::columns::{ColumnLists, Narrowed};
use super::limits::{FILTER_ITEM_BYTES_MAX, FILTER_ITEMS_MAX};
use super::provider::StreamProvider;

/// A table pattern: `schema.table` with `*` and `?`; without a dot any schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePattern {
    schema: Option<String>,
    table: String,
}

impl TablePattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let (schema, table) = match text.split_once('.') {
            Some((schema, table)) => (Some(schema), table),
            None => (None, text),
        };
        if table.is_empty() || schema == Some("") || text.len() > FILTER_ITEM_BYTES_MAX {
            let message = format!("`{text}` is not a table pattern; one looks like public.order_*");
            return Err(Fault::new(FaultCode::BadRequest, message));
        }
        Ok(Self {
            schema: schema.map(str::to_owned),
            table: table.to_owned(),
        })
    }

    /// Whether the table is one of those meant.
    #[must_use]
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        let in_schema = self.schema.as_ref().is_none_or(|glob| like(glob, schema));
        in_schema && like(&self.table, table)
    }

    pub(super) fn has_wildcards(&self) -> bool {
        let text = self.schema.iter().chain([&self.table]);
        text.flat_map(|part| part.chars())
            .any(|c| matches!(c, '*' | '?'))
    }
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{schema}.")?;
        }
        f.write_str(&self.table)
    }
}

/// Whether `text` is as `glob` says; `*` is any characters, `?` one.
fn like(glob: &str, text: &str) -> bool {
    let glob: Vec<char> = glob.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut g, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match glob.get(g) {
            Some('*') => {
                star = Some((g, t));
                g += 1;
            }
            Some(c) if *c == '?' || text.get(t) == Some(c) => {
                g += 1;
                t += 1;
            }
            _ => match star {
                // The star takes one character more.
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    g = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    glob.iter().skip(g).all(|c| *c == '*')
}

/// What was asked for, or what a token allows; empty lists allow all.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Databases by name.
    pub databases: Vec<String>,
    /// Tables wanted.
    pub tables: Vec<TablePattern>,
    /// Tables left out.
    pub exclude_tables: Vec<TablePattern>,
}

impl Rule {
    /// Reads what a request or a token says.
    pub fn parse(
        databases: &[String],
        tables: &[String],
        exclude: &[String],
    ) -> Result<Self, Fault> {
        if [databases, tables, exclude]
            .iter()
            .any(|items| items.len() > FILTER_ITEMS_MAX)
        {
            let message = format!("more than {FILTER_ITEMS_MAX} databases or patterns in a filter");
            return Err(Fault::new(FaultCode::BadRequest, message));
        }
        let patterns = |items: &[String]| -> Result<Vec<_>, Fault> {
            items.iter().map(|item| TablePattern::parse(item)).collect()
        };
        Ok(Self {
            databases: databases.to_vec(),
            tables: patterns(tables)?,
            exclude_tables: patterns(exclude)?,
        })
    }

    /// Refuses what names something that is not there.
    pub fn check_exists(&self, provider: &dyn StreamProvider) -> Result<(), Fault> {
        let missing = |what, name: &str| {
            let message = format!("there is no {what} {name}; to wait for it, allow missing ones");
            Err(Fault::new(FaultCode::NotFound, message))
        };
        for name in &self.databases {
            if !provider.database_exists(name) {
                return missing("database", name);
            }
        }
        for pattern in self
            .tables
            .iter()
            .filter(|pattern| !pattern.has_wildcards())
        {
            let schema = pattern.schema.as_deref();
            if !provider.table_exists(&self.databases, schema, &pattern.table) {
                return missing("table", &pattern.to_string());
            }
        }
        Ok(())
    }

    fn admits_database(&self, name: &str) -> bool {
        self.databases.is_empty() || self.databases.iter().any(|wanted| wanted == name)
    }

    fn admits_table(&self, schema: &str, table: &str) -> bool {
        let matches = |pattern: &TablePattern| pattern.matches(schema, table);
        (self.tables.is_empty() || self.tables.iter().any(matches))
            && !self.exclude_tables.iter().any(matches)
    }

    /// Whether a table, named `schema.table`, in this database may be looked at.
    #[must_use]
    pub(crate) fn allows(&self, database: &str, table: &str) -> bool {
        let (schema, name) = table.split_once('.').unwrap_or(("public", table));
        let database =
            database.is_empty() && self.databases.len() == 1 || self.admits_database(database);
        database && self.admits_table(schema, name)
    }

    /// Refuses a wish that names something outside of what this rule grants; what wildcards would
    /// find there is left out without a word.
    pub(super) fn check_granted(&self, wish: &Rule, columns: &ColumnLists) -> Result<(), Fault> {
        let refuse = |what: &str, name: &str| {
            let message = format!("the token does not cover {what} {name}");
            Err(Fault::new(FaultCode::Unauthorised, message))
        };
        for name in &wish.databases {
            if !self.admits_database(name) {
                return refuse("database", name);
            }
        }
        let named = wish.tables.iter().chain(columns.tables());
        let mut named = named.filter(|pattern| !pattern.has_wildcards());
        match named.find(|wanted| !self.covers(wanted)) {
            Some(wanted) => refuse("table", &wanted.to_string()),
            None => Ok(()),
        }
    }

    /// Whether a pattern without wildcards names what may be looked at.
    fn covers(&self, wanted: &TablePattern) -> bool {
        let granted = |rule: &TablePattern| like(&rule.table, &wanted.table);
        match &wanted.schema {
            Some(schema) => self.admits_table(schema, &wanted.table),
            // In some schema, perhaps.
            None => self.tables.is_empty() || self.tables.iter().any(granted),
        }
    }

    /// Whether a table, named `schema.table`, is one of those granted.
    #[cfg(any(test, fuzzing))]
    pub(super) fn covers_table(&self, table: &str) -> bool {
        let named = table.split_once('.');
        named.is_some_and(|(schema, table)| self.admits_table(schema, table))
    }

    fn names_tables(&self) -> bool {
        !self.tables.is_empty() || !self.exclude_tables.is_empty()
    }

    /// Whether it bounds nothing.
    pub(super) fn is_all(&self) -> bool {
        self.databases.is_empty() && self.tables.is_empty() && self.exclude_tables.is_empty()
    }
}

/// A set of event kinds; empty is all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds(u16);

impl Kinds {
    /// Reads kinds by name.
    pub(super) fn parse(names: &[String]) -> Result<Self, Fault> {
        let mut bits = 0;
        for name in names {
            let kind = match name.as_str() {
                "insert" => EventKind::Insert,
                "update" => EventKind::Update,
                "delete" => EventKind::Delete,
                "truncate" => EventKind::Truncate,
                "message" => EventKind::Message,
                "sequence" => EventKind::Sequence,
                "ddl" => EventKind::Ddl,
                _ => {
                    let message = format!(
                        "`{name}` is not a kind of event; there are insert, update, delete, \
                         truncate, ddl, message and sequence"
                    );
                    return Err(Fault::new(FaultCode::BadRequest, message));
                }
            };
            bits |= 1 << (kind as u8);
        }
        Ok(Self(bits))
    }

    const fn names(self, kind: EventKind) -> bool {
        (kind as u8) < 16 && self.0 & (1 << (kind as u8)) != 0
    }

    const fn admits(self, kind: EventKind) -> bool {
        self.0 == 0 || self.names(kind)
    }
}

/// What becomes of an event.
#[derive(Debug)]
pub(super) enum Verdict<'f> {
    Keep,
    Drop,
    /// These bytes instead.
    Replace(Bytes),
    /// Only these columns of it.
    Narrow(&'f Narrowed),
}

/// What a session wants of a block of rows alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    All,
    None,
    Some,
}

/// What a session wants of a relation's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Nothing,
    Whole,
    /// Some columns; the place among those that are narrowed.
    Narrowed(usize),
}

/// What a session asks for and is granted.
pub(super) struct Wish {
    pub(super) asked: Rule,
    pub(super) granted: Rule,
    pub(super) kinds: Kinds,
    pub(super) columns: ColumnLists,
}

/// A session's filter, with what it has decided so far.
pub(super) struct Filter {
    provider: Arc<dyn StreamProvider>,
    rules: Vec<Rule>,
    kinds: Kinds,
    columns: ColumnLists,
    /// Whether events without a table may be seen at all.
    others: bool,
    relations: HashMap<RelationVersion, Wanted>,
    last: Option<(RelationVersion, Wanted)>,
    narrowed: Vec<Narrowed>,
    databases: HashMap<DatabaseOid, bool>,
}

impl Filter {
    /// A filter that admits what was asked for as far as it is granted; none if that is
    /// everything.
    #[must_use]
    pub(super) fn new(provider: Arc<dyn StreamProvider>, wish: Wish) -> Option<Self> {
        // A message may tell of any table.
        let others = !wish.granted.names_tables();
        let rules = [wish.asked, wish.granted].into_iter();
        let rules: Vec<Rule> = rules.filter(|rule| !rule.is_all()).collect();
        let (kinds, columns) = (wish.kinds, wish.columns);
        let bounds = !rules.is_empty() || kinds != Kinds::default() || !columns.is_empty();
        bounds.then(|| Self {
            provider,
            rules,
            kinds,
            columns,
            others,
            relations: HashMap::new(),
            last: None,
            narrowed: Vec::new(),
            databases: HashMap::new(),
        })
    }

    /// A relation as the session is sent it.
    pub(super) fn relation(&mut self, version: RelationVersion) -> Result<Arc<Relation>, Fault> {
        match self.wanted(version)? {
            Wanted::Narrowed(place) => Ok(Arc::clone(&self.narrowed_at(place)?.relation)),
            Wanted::Whole | Wanted::Nothing => known_relation(&*self.provider, version),
        }
    }

    fn narrowed_at(&self, place: usize) -> Result<&Narrowed, Fault> {
        let found = self.narrowed.get(place);
        found.ok_or_else(|| Fault::new(FaultCode::Internal, "a column list was lost"))
    }

    /// What is wanted of a block that holds rows of its relations and nothing else.
    pub(super) fn share(&mut self, block: &Block) -> Result<Share, Fault> {
        let (mut whole, mut nothing) = (true, true);
        for version in &block.relations {
            let wanted = self.wanted(*version)?;
            whole &= wanted == Wanted::Whole;
            nothing &= wanted == Wanted::Nothing;
        }
        Ok(match (nothing, whole && self.kinds == Kinds::default()) {
            (true, _) => Share::None,
            (false, true) => Share::All,
            (false, false) => Share::Some,
        })
    }

    /// Judges an event; `bytes` is all of it, `database` where its transaction ran.
    pub(super) fn judge(
        &mut self,
        event: &Event<'_>,
        database: Option<DatabaseOid>,
        block: &Block,
    ) -> Result<Verdict<'_>, Fault> {
        let keep = |admitted| {
            if admitted {
                Verdict::Keep
            } else {
                Verdict::Drop
            }
        };
        if !self.kinds.admits(event.header.kind) {
            return Ok(Verdict::Drop);
        }
        match event.header.kind {
            EventKind::Truncate => self.judge_truncate(event),
            EventKind::Ddl => Ok(keep(
                self.admits_place(database, block) && self.admits_ddl(event)?,
            )),
            _ if event.header.relation.0 != 0 => match self.wanted(event.header.relation)? {
                Wanted::Nothing => Ok(Verdict::Drop),
                Wanted::Whole => Ok(Verdict::Keep),
                Wanted::Narrowed(place) => Ok(Verdict::Narrow(self.narrowed_at(place)?)),
            },
            kind => {
                let asked =
                    self.kinds.names(kind) || self.rules.iter().all(|r| r.tables.is_empty());
                let admitted = self.others && asked;
                let place = database.or_else(|| event.database());
                Ok(keep(admitted && self.admits_place(place, block)))
            }
        }
    }

    /// Whether rows of a relation are wanted, were they rows.
    pub(super) fn admits_undecodable(&mut self, version: RelationVersion) -> Result<bool, Fault> {
        let rows = [EventKind::Insert, EventKind::Update, EventKind::Delete];
        let any = rows.into_iter().any(|kind| self.kinds.admits(kind));
        Ok(any && self.wanted(version)? != Wanted::Nothing)
    }

    fn judge_truncate(&mut self, event: &Event<'_>) -> Result<Verdict<'static>, Fault> {
        let versions = event.payload.as_chunks::<4>().0;
        let mut kept = Vec::with_capacity(versions.len());
        for version in versions {
            let version = RelationVersion(u32::from_le_bytes(*version));
            if self.wanted(version)? != Wanted::Nothing {
                kept.push(version);
            }
        }
        if kept.is_empty() {
            return Ok(Verdict::Drop);
        }
        if kept.len() == versions.len() {
            return Ok(Verdict::Keep);
        }
        let mut header = event.header;
        header.count = kept.len() as u16;
        if header.relation.0 != 0 {
            header.relation = kept.first().copied().unwrap_or_default();
        }
        header.size = (redostream_protocol::event::HEADER_BYTES + kept.len() * 4) as u32;
        let mut bytes = header.to_bytes().to_vec();
        for version in kept {
            bytes.extend_from_slice(&version.0.to_le_bytes());
        }
        Ok(Verdict::Replace(Bytes::from(bytes)))
    }

    fn wanted(&mut self, version: RelationVersion) -> Result<Wanted, Fault> {
        if let Some((last, wanted)) = self.last
            && last == version
        {
            return Ok(wanted);
        }
        let wanted = match self.relations.get(&version) {
            Some(wanted) => *wanted,
            None => {
                let wanted = self.decide(version)?;
                self.relations.insert(version, wanted);
                wanted
            }
        };
        self.last = Some((version, wanted));
        Ok(wanted)
    }

    fn decide(&mut self, version: RelationVersion) -> Result<Wanted, Fault> {
        let relation = known_relation(&*self.provider, version)?;
        let (schema, table) = (relation.schema.lossy(), relation.name.lossy());
        let database = relation.database.name.lossy();
        let admits =
            |rule: &Rule| rule.admits_database(&database) && rule.admits_table(&schema, &table);
        if !self.rules.iter().all(admits) {
            return Ok(Wanted::Nothing);
        }
        Ok(match self.columns.narrow(&relation) {
            Some(narrowed) => {
                self.narrowed.push(narrowed);
                Wanted::Narrowed(self.narrowed.len() - 1)
            }
            None => Wanted::Whole,
        })
    }

    /// Whether an event without a relation is in a database that is wanted.
    fn admits_place(&mut self, database: Option<DatabaseOid>, block: &Block) -> bool {
        if self.rules.iter().all(|rule| rule.databases.is_empty()) {
            return true;
        }
        match database.filter(|oid| oid.0 != 0) {
            Some(oid) => self.admits_database(oid),
            // It does not say where it is from: from one of those of its block.
            None => block.databases.iter().any(|oid| self.admits_database(*oid)),
        }
    }

    fn admits_database(&mut self, oid: DatabaseOid) -> bool {
        if let Some(admitted) = self.databases.get(&oid) {
            return *admitted;
        }
        let Some(database) = self.provider.database(oid) else {
            return false;
        };
        let name = database.name.lossy();
        let admitted = self.rules.iter().all(|rule| rule.admits_database(&name));
        self.databases.insert(oid, admitted);
        admitted
    }

    fn admits_ddl(&self, event: &Event<'_>) -> Result<bool, Fault> {
        if !self.rules.iter().any(Rule::names_tables) {
            return Ok(true);
        }
        let ddl: DdlEvent = postcard::from_bytes(event.payload).map_err(|error| {
            let message = format!("a DDL event does not decode: {error}");
            Fault::new(FaultCode::Internal, message).at(event.header.record_lsn)
        })?;
        let schema = ddl
            .schema
            .as_ref()
            .map(|name| name.lossy())
            .unwrap_or_default();
        let old_schema = ddl
            .old_schema
            .as_ref()
            .map_or(schema.clone(), |name| name.lossy());
        let name = ddl.name.lossy();
        let old_name = ddl
            .old_name
            .as_ref()
            .map_or(name.clone(), |name| name.lossy());
        let table = ddl.after.as_ref().or(ddl.before.as_ref()).and_then(owner);
        Ok(self.rules.iter().all(|rule| {
            rule.admits_table(&schema, &name)
                || rule.admits_table(&old_schema, &old_name)
                || table
                    .as_ref()
                    .is_some_and(|table| rule.admits_table(&schema, table))
        }))
    }
}

/// The table that an index, trigger or the like belongs to.
fn owner(shape: &ObjectShape) -> Option<String> {
    let properties = match shape {
        ObjectShape::Table(table) => return Some(table.name.lossy().into_owned()),
        ObjectShape::Other(properties) => properties,
    };
    properties.iter().find_map(|(key, value)| match value {
        Property::Text(name) if key == "table" => {
            let text = name.lossy().into_owned();
            Some(text.rsplit('.').next().unwrap_or_default().to_owned())
        }
        _ => None,
    })
}

/// The relation of this version, which must be known since an event names it.
pub(super) fn known_relation(
    provider: &dyn StreamProvider,
    version: RelationVersion,
) -> Result<Arc<Relation>, Fault> {
    provider.relation(version).ok_or_else(|| {
        let message = format!(
            "an event names relation version {}, which is not known",
            version.0
        );
        Fault::new(FaultCode::Internal, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check = |pattern: &str, schema, table| {
            TablePattern::parse(pattern).unwrap().matches(schema, table)
        };
        assert!(check("public.t", "public", "t"));
        assert!(!check("public.t", "public", "tt"));
        assert!(check("t", "other", "t"));
        assert!(check("*.t?", "other", "t1"));
        assert!(check("pub*.a*b*c", "public", "aXbYbZc"));
        assert!(!check("pub*.a*b*c", "public", "aXbYbZ"));
        assert!(check("*", "x", ""));
        assert!(TablePattern::parse("").is_err());
        assert!(TablePattern::parse(".t").is_err());
        assert!(Kinds::parse(&["insert".into(), "begin".into()]).is_err());
    }
}
