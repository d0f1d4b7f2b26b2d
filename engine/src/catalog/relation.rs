//! The relation of a file: what decoders need to walk its tuples and to name its rows.

use std::sync::Arc;

use redostream_protocol::Oid;
use redostream_protocol::schema::Relation;
use serde::{Deserialize, Serialize};

/// What a file's rows are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Not passed on.
    Ignore(IgnoreReason),
    /// Chunks of TOASTed values.
    Toast {
        /// `pg_class.oid` of the TOAST table, which the pointers in main rows name.
        oid: Oid,
    },
    /// A sequence; its layout is that of the sequence's one row.
    Sequence(Arc<Layout>),
    /// A table (or materialised view) whose rows are passed on.
    Table(Arc<Layout>),
    /// A table whose rows cannot be decoded: that they are there is passed on, in their place.
    Undecodable {
        /// The table, with what is known of its columns.
        relation: Arc<Relation>,
        /// Why, for people.
        reason: Arc<str>,
    },
}

/// Why rows are not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IgnoreReason {
    /// A system catalog, or its TOAST table.
    Catalog,
    /// A transient heap of a rewrite (`relrewrite <> 0`), or its TOAST table. Such rows do not
    /// clear pending TOAST chunks.
    Rewrite,
    /// An index, a view, a foreign table: nothing whose tuples are rows.
    NotRows,
}

/// What it takes to walk a relation's tuples. Made once per relation version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The structure as receivers see it. Its version is this layout's number.
    pub relation: Arc<Relation>,
    /// Every attribute, dropped ones too, in order of `attnum`.
    pub attributes: Vec<Attribute>,
    /// How many leading attributes have a known [`Attribute::offset`].
    pub fixed: usize,
    /// `pg_class.reltoastrelid`, 0 for none.
    pub toast: Oid,
    /// Whether some column's text depends on other catalog rows (reg* and aclitem types, also
    /// inside arrays, composites, ranges and domains).
    pub needs_catalog: bool,
}

/// One attribute as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// `attlen`: bytes, -1 varlena, -2 C string.
    pub length: i16,
    /// Alignment in bytes: 1, 2, 4 or 8.
    pub align: u8,
    /// `attstorage`: `p`, `e`, `m` or `x`.
    pub storage: u8,
    /// `attbyval`.
    pub by_value: bool,
    /// `attnotnull`.
    pub not_null: bool,
    /// Whether the column was dropped: walk over it, print nothing.
    pub dropped: bool,
    /// Whether it is a virtual generated column (18): stored as null, printed as such in new
    /// tuples only.
    pub virtual_generated: bool,
    /// Whether its text depends on other catalog rows.
    pub needs_catalog: bool,
    /// Offset of the value from the start of the tuple's data if no attribute before it is null
    /// or of variable length.
    pub offset: Option<u32>,
    /// Index into the relation's live columns; none for dropped ones.
    pub column: Option<u16>,
    /// What tuples with fewer attributes have here (`attmissingval`), as stored but without a
    /// varlena header. Without it they have null.
    pub missing: Option<Vec<u8>>,
}
