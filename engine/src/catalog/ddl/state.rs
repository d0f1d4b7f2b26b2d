//! An object as one transaction sees it at one place of the log.

use redostream_protocol::Oid;
use redostream_protocol::ddl::{Expression, Property, TableShape};
use redostream_protocol::schema::Name;
use serde::{Deserialize, Serialize};

use super::privileges::Privileges;

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// Something with columns.
    Table(Box<TableState>),
    /// Anything else.
    Other(Box<OtherState>),
}

/// A table with the OIDs that tell a change of name from a drop and an addition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableState {
    pub(crate) shape: TableShape,
    /// `relkind`.
    pub(crate) kind: u8,
    pub(crate) namespace: Oid,
    /// `attnum` of each column.
    pub(crate) numbers: Vec<i16>,
    /// `atttypid` of each column.
    pub(crate) types: Vec<Oid>,
    pub(crate) primary: Oid,
    /// OID of each constraint.
    pub(crate) constraints: Vec<Oid>,
    /// OID of each index, and whether a constraint stands for it.
    pub(crate) indexes: Vec<(Oid, bool)>,
    /// The tables that it inherits from or is a partition of.
    pub(crate) parents: Vec<Oid>,
    /// Tables that foreign keys, partitions and children name.
    pub(crate) references: Vec<Oid>,
    pub(crate) privileges: Privileges,
    /// Checksum of what is told and not described: owner, row security, what a view selects.
    pub(crate) rest: u32,
}

/// An object without columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OtherState {
    pub(crate) oid: Oid,
    /// Object type as events name it: `sequence`, `type`, `function`, ...
    pub(crate) object: String,
    pub(crate) schema: Option<Name>,
    /// The schema that it is in itself.
    pub(crate) namespace: Oid,
    pub(crate) name: Name,
    pub(crate) properties: Vec<(String, Property)>,
    /// The table it is a part of: a sequence's owner, a trigger's table.
    pub(crate) table: Oid,
    /// OIDs it names.
    pub(crate) references: Vec<Oid>,
    /// Checksum of what is not described.
    pub(crate) rest: u32,
    pub(crate) privileges: Privileges,
}

impl State {
    pub(crate) fn schema(&self) -> Option<&Name> {
        match self {
            State::Table(table) => Some(&table.shape.schema),
            State::Other(other) => other.schema.as_ref(),
        }
    }

    pub(crate) fn name(&self) -> &Name {
        match self {
            State::Table(table) => &table.shape.name,
            State::Other(other) => &other.name,
        }
    }

    /// The object type as events name it.
    pub(crate) fn object(&self) -> &str {
        match self {
            State::Table(table) => object_of_kind(table.kind),
            State::Other(other) => &other.object,
        }
    }

    pub(crate) fn references(&self) -> Vec<Oid> {
        match self {
            State::Table(table) => {
                let mut all = table.references.clone();
                all.extend_from_slice(&table.types);
                all.push(table.namespace);
                all
            }
            State::Other(other) => other.references.clone(),
        }
    }
}

// pg: catalog/pg_class.h RELKIND_* [14-18]
pub(crate) const fn object_of_kind(kind: u8) -> &'static str {
    match kind {
        b'v' => "view",
        b'm' => "materialized view",
        b'f' => "foreign table",
        b'c' => "type",
        b'S' => "sequence",
        _ => "table",
    }
}

impl OtherState {
    pub(crate) fn set(&mut self, key: &str, value: Property) {
        self.properties.push((key.to_owned(), value));
    }

    /// Sets an expression, and the flag if it is not known.
    pub(crate) fn set_expression(&mut self, key: &str, unknown: &str, expression: Expression) {
        let is_unknown = expression == Expression::Unknown;
        let value = match expression {
            Expression::Sql(text) => Property::Text(text),
            Expression::None | Expression::Unknown => Property::Null,
        };
        self.set(key, value);
        if is_unknown {
            self.set(unknown, Property::Bool(true));
        }
    }
}
