//! The structure of a relation as rows carry it: columns, and for each column everything that is
//! needed to turn its bytes into text or JSON.
//!
//! A [`Relation`] is one *version*: it changes when the table, or a type one of its columns uses,
//! changes. Events name it by a number that is local to the stream; a receiver is given the
//! relation before the first event that names it.
//!
//! Names are bytes in the database's own encoding, as PostgreSQL stores them.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ddl::TableShape;
use crate::ids::{DatabaseOid, Oid};
use crate::limits::TYPE_NESTING_MAX;

/// An identifier or label, in the encoding of its database.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name(pub Vec<u8>);

impl Name {
    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name for people: bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn lossy(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Name(text.as_bytes().to_vec())
    }
}

impl From<&[u8]> for Name {
    fn from(bytes: &[u8]) -> Self {
        Name(bytes.to_vec())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.lossy())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lossy())
    }
}

/// The number of a relation version within one stream of events.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RelationVersion(pub u32);

/// One version of a relation's structure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    /// The number events name this version by.
    pub version: RelationVersion,
    /// The database the relation is in.
    pub database: Arc<Database>,
    /// `pg_class.oid`.
    pub oid: Oid,
    /// Schema name.
    pub schema: Name,
    /// Relation name.
    pub name: Name,
    /// `pg_class.relkind`: `r` table, `p` partitioned, `m` materialised view, `S` sequence, ...
    pub kind: u8,
    /// `pg_class.relreplident`: `d` default, `n` nothing, `f` full, `i` index.
    pub replica_identity: u8,
    /// The live (not dropped) columns, in order.
    pub columns: Vec<Column>,
    /// The whole structure, as the `after` of a DDL event gives it: keys, constraints, indexes,
    /// defaults. None for a sequence, and where it cannot be given.
    pub structure: Option<Arc<TableShape>>,
}

/// What rendering needs to know of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// `pg_database.oid`.
    pub oid: DatabaseOid,
    /// `pg_database.datname`.
    pub name: Name,
    /// `pg_database.encoding`, PostgreSQL's number for it (6 is UTF8, 0 SQL_ASCII).
    // pg: mb/pg_wchar.h pg_enc [14-18]
    pub encoding: i32,
    /// Major version of the server, 14 to 18.
    pub major: u16,
}

/// One live column of a relation version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// `pg_attribute.attnum`, from 1.
    pub number: i16,
    /// Column name.
    pub name: Name,
    /// Its type.
    pub data_type: Arc<TypeDesc>,
    /// `pg_attribute.atttypmod`, -1 for none.
    pub modifier: i32,
    /// Whether nulls are refused.
    pub not_null: bool,
    /// Whether the column belongs to the replica identity's key.
    pub key: bool,
    /// `pg_attribute.attgenerated`: 0 none, `s` stored, `v` virtual.
    pub generated: u8,
}

/// A data type, with everything its text depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeDesc {
    /// `pg_type.oid`.
    pub oid: Oid,
    /// Schema name.
    pub schema: Name,
    /// `pg_type.typname`.
    pub name: Name,
    /// What `format_type(oid, null)` prints with an empty `search_path`: `integer`,
    /// `character varying`, `public.pen`, `public.pen[]`.
    // pg: utils/adt/format_type.c format_type_be [14-18]
    pub formatted: Name,
    /// `pg_type.typlen`: bytes, -1 varlena, -2 C string.
    pub length: i16,
    /// `pg_type.typalign`: `c`, `s`, `i` or `d`.
    pub align: u8,
    /// What kind of type it is, and what it is made of.
    #[serde(deserialize_with = "bounded_shape")]
    pub shape: TypeShape,
}

/// What a type is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TypeShape {
    /// A base type, known by its output function.
    Base(OutputFunction),
    /// An enum: its labels, by label OID.
    Enum(Vec<EnumLabel>),
    /// A true array type.
    Array {
        /// Element type.
        element: Arc<TypeDesc>,
        /// `pg_type.typdelim` of the element (a comma, but `;` for `box`).
        delimiter: u8,
    },
    /// A range over another type.
    Range(Arc<TypeDesc>),
    /// A multirange; the field is its range type.
    Multirange(Arc<TypeDesc>),
    /// A row type.
    Composite(Vec<CompositeField>),
    /// A domain; the field is the type below it and below all domains under it.
    Domain(Arc<TypeDesc>),
}

/// A base type's output function, by the names PostgreSQL finds its code with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OutputFunction {
    /// `pg_proc.prosrc`: the C symbol, such as `int4out` or `hstore_out`.
    pub symbol: String,
    /// `pg_proc.probin`: the library, such as `$libdir/hstore`; empty for PostgreSQL's own.
    pub library: String,
}

/// One label of an enum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnumLabel {
    /// `pg_enum.oid`, the number a value holds.
    pub oid: Oid,
    /// `pg_enum.enumsortorder` as its IEEE bits, so that structures can be compared.
    pub sort_bits: u32,
    /// The label.
    pub label: Name,
}

/// One attribute of a row type, dropped ones included: stored values still hold them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompositeField {
    /// Attribute name.
    pub name: Name,
    /// Its type; none if the attribute was dropped.
    pub data_type: Option<Arc<TypeDesc>>,
    /// `pg_attribute.attlen`.
    pub length: i16,
    /// `pg_attribute.attalign`.
    pub align: u8,
}

/// Reads a type's shape, and refuses types nested so deeply that reading them would exhaust the
/// stack: structures arrive over the network.
fn bounded_shape<'de, D: serde::Deserializer<'de>>(from: D) -> Result<TypeShape, D::Error> {
    thread_local! {
        static DEPTH: Cell<usize> = const { Cell::new(0) };
    }
    /// Leaves a level, also where reading it failed.
    struct Level;
    impl Drop for Level {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    let _level = Level;
    if DEPTH.get() > TYPE_NESTING_MAX {
        return Err(serde::de::Error::custom("types nested too deeply"));
    }
    TypeShape::deserialize(from)
}

impl TypeDesc {
    /// The type below all domains.
    #[must_use]
    pub fn base(&self) -> &TypeDesc {
        let mut at = self;
        while let TypeShape::Domain(below) = &at.shape {
            at = below;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{Known, TextContext, TypeRenderer};

    fn nested(depth: usize) -> TypeDesc {
        let mut shape = TypeShape::Enum(Vec::new());
        for _ in 1..depth {
            shape = TypeShape::Domain(Arc::new(TypeDesc { shape, ..plain() }));
        }
        TypeDesc { shape, ..plain() }
    }

    fn plain() -> TypeDesc {
        TypeDesc {
            oid: Oid(1),
            schema: Name::default(),
            name: Name::default(),
            formatted: Name::default(),
            length: -1,
            align: b'i',
            shape: TypeShape::Enum(Vec::new()),
        }
    }

    /// Everything that follows a type to its end has room on half of a thread's usual stack.
    #[test]
    fn the_deepest_type_needs_little_stack() {
        let on_thread = || {
            let mut deepest = plain();
            for _ in 1..TYPE_NESTING_MAX {
                let field = CompositeField {
                    name: Name::from("v"),
                    data_type: Some(Arc::new(deepest)),
                    length: -1,
                    align: b'd',
                };
                deepest = TypeDesc {
                    shape: TypeShape::Composite(vec![field]),
                    ..plain()
                };
            }
            let bytes = postcard::to_stdvec(&deepest).expect("it encodes");
            assert_eq!(
                postcard::from_bytes::<TypeDesc>(&bytes),
                Ok(deepest.clone())
            );
            // A row, its only field null, in as many rows as there are levels.
            let mut value = vec![0; 14];
            value.extend([1, 0, 1, 0, 24, 0]);
            for _ in 2..TYPE_NESTING_MAX {
                let mut outer = vec![0; 14];
                outer.extend([1, 0, 0, 0, 24, 0]);
                outer.extend((((value.len() + 4) << 2) as u32).to_le_bytes());
                outer.extend(value);
                value = outer;
            }
            let renderer = TypeRenderer::new(&deepest).clone();
            let (mut scratch, mut out) = (Vec::new(), Vec::new());
            let context = TextContext::new(15, 6);
            let json = renderer.json(&value, &context, &mut scratch, &mut out);
            assert_eq!(json, Ok(Known::Yes));
            let inner = "{\"v\":".repeat(TYPE_NESTING_MAX - 1);
            assert!(out.starts_with(inner.as_bytes()) && out[inner.len()..].starts_with(b"null}"));
        };
        let thread = std::thread::Builder::new().stack_size(1024 * 1024);
        thread.spawn(on_thread).unwrap().join().unwrap();
    }

    #[test]
    fn nesting_is_bounded_when_read() {
        let deepest = nested(TYPE_NESTING_MAX);
        let bytes = postcard::to_stdvec(&deepest).expect("it encodes");
        assert_eq!(postcard::from_bytes::<TypeDesc>(&bytes), Ok(deepest));
        for _ in 0..2 {
            let bytes = postcard::to_stdvec(&nested(TYPE_NESTING_MAX + 1)).expect("it encodes");
            assert!(postcard::from_bytes::<TypeDesc>(&bytes).is_err());
        }
    }
}
