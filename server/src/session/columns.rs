//! Column lists: which columns of which tables a session wants.
//!
//! A table that no list names comes whole; of one that several name, what any of them names comes.
//! The key columns of the replica identity always come along, since without them nobody could tell
//! which row was updated or deleted. The relation that a session is sent has the columns that its
//! rows have, under the numbers they have in the table.

use std::sync::Arc;

use redostream_protocol::control::v1;
use redostream_protocol::event::{Event, EventError, EventKind, HEADER_BYTES};
use redostream_protocol::schema::Relation;
use redostream_protocol::wire::{Fault, FaultCode};

use super::filter::TablePattern;
use super::limits::{FILTER_ITEM_BYTES_MAX, FILTER_ITEMS_MAX};
use super::provider::StreamProvider;

/// One list: the tables it is for, the columns wanted of them.
#[derive(Clone, Debug)]
struct ColumnList {
    tables: TablePattern,
    columns: Vec<String>,
}

/// All lists of a session; without any, every table comes whole.
#[derive(Clone, Debug, Default)]
pub(super) struct ColumnLists(Vec<ColumnList>);

/// A relation of which not all columns are sent.
#[derive(Clone, Debug)]
pub(super) struct Narrowed {
    /// The relation as the session is sent it.
    pub(super) relation: Arc<Relation>,
    /// For each column of the whole relation, whether it is sent.
    pub(super) kept: Box<[bool]>,
}

impl ColumnLists {
    /// Reads what a request says.
    pub(super) fn parse(asked: &[v1::ColumnList]) -> Result<Self, Fault> {
        let bad = |message: String| Err(Fault::new(FaultCode::BadRequest, message));
        let columns: usize = asked.iter().map(|list| list.columns.len()).sum();
        if asked.len() > FILTER_ITEMS_MAX || columns > FILTER_ITEMS_MAX {
            return bad(format!("more than {FILTER_ITEMS_MAX} columns or lists"));
        }
        let mut lists = Vec::with_capacity(asked.len());
        for list in asked {
            let fits = |name: &String| !name.is_empty() && name.len() <= FILTER_ITEM_BYTES_MAX;
            if list.columns.is_empty() || !list.columns.iter().all(fits) {
                let table = &list.table;
                return bad(format!("the column list of {table} names no column"));
            }
            lists.push(ColumnList {
                tables: TablePattern::parse(&list.table)?,
                columns: list.columns.clone(),
            });
        }
        Ok(Self(lists))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tables that the lists are for.
    pub(super) fn tables(&self) -> impl Iterator<Item = &TablePattern> {
        self.0.iter().map(|list| &list.tables)
    }

    /// Refuses a list of which a table or a column is not there.
    pub(super) fn check_exists(
        &self,
        databases: &[String],
        provider: &dyn StreamProvider,
    ) -> Result<(), Fault> {
        let missing = |what: String| {
            let message = format!("there is no {what}; to wait for it, allow missing ones");
            Err(Fault::new(FaultCode::NotFound, message))
        };
        for list in &self.0 {
            let matches = |schema: &str, table: &str| list.tables.matches(schema, table);
            let Some(tables) = provider.columns_of(databases, &matches) else {
                continue;
            };
            if tables.is_empty() {
                // Of what wildcards find there may be none.
                if list.tables.has_wildcards() {
                    continue;
                }
                return missing(format!("table {}", list.tables));
            }
            let has = |wanted: &String| tables.iter().any(|columns| columns.contains(wanted));
            if let Some(column) = list.columns.iter().find(|column| !has(column)) {
                return missing(format!("column {column} in {}", list.tables));
            }
        }
        Ok(())
    }

    /// What is sent of a relation; none if that is all of it.
    pub(super) fn narrow(&self, relation: &Relation) -> Option<Narrowed> {
        let (schema, table) = (relation.schema.lossy(), relation.name.lossy());
        let mut lists = self
            .0
            .iter()
            .filter(|list| list.tables.matches(&schema, &table));
        let lists: Vec<_> = lists.by_ref().collect();
        // A sequence's columns are not what its events carry.
        if lists.is_empty() || relation.kind == b'S' {
            return None;
        }
        let kept: Box<[bool]> = relation
            .columns
            .iter()
            .map(|column| {
                let name = column.name.lossy();
                let mut named = lists.iter().flat_map(|list| &list.columns);
                column.key || named.any(|wanted| *wanted == name)
            })
            .collect();
        if kept.iter().all(|kept| *kept) {
            return None;
        }
        let mut relation = relation.clone();
        let mut wanted = kept.iter();
        relation
            .columns
            .retain(|_| wanted.next().copied().unwrap_or(true));
        Some(Narrowed {
            relation: Arc::new(relation),
            kept,
        })
    }
}

impl Narrowed {
    /// Appends a row's event with the columns that are sent.
    pub(super) fn push(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), EventError> {
        let start = out.len();
        let mut header = event.header;
        header.count = self.relation.columns.len() as u16;
        out.extend_from_slice(&header.to_bytes());
        let tuples = usize::from(event.has_old()) + usize::from(header.kind != EventKind::Delete);
        let mut columns = event.columns();
        for _ in 0..tuples {
            let mut kept_from = None;
            for kept in &self.kept {
                let at = columns.offset();
                if *kept {
                    kept_from.get_or_insert(at);
                } else if let Some(from) = kept_from.take() {
                    out.extend_from_slice(event.payload.get(from..at).unwrap_or_default());
                }
                columns.read()?;
            }
            if let Some(from) = kept_from {
                let to = columns.offset();
                out.extend_from_slice(event.payload.get(from..to).unwrap_or_default());
            }
        }
        columns.finish()?;
        let size = (out.len() - start) as u32;
        if let Some(field) = out.get_mut(start..start + 4) {
            field.copy_from_slice(&size.to_le_bytes());
        }
        debug_assert!(out.len() - start >= HEADER_BYTES);
        Ok(())
    }
}
