//! Values: from a column's on-disk bytes to the text PostgreSQL's own output function prints, and
//! to JSON as `to_json()` gives it.
//!
//! Takes a value without its varlena header and the [`TypeDesc`](crate::schema::TypeDesc) of its
//! column, compiled once into a [`TypeRenderer`]. Gives text in the database's own encoding, with
//! `DateStyle` ISO, `IntervalStyle` postgres, `extra_float_digits` 1, `bytea_output` hex. Keeps
//! nothing. Never looks anything up: what the text depends on is in the type or in the
//! [`TextContext`]. One file per type family.
//!
//! The renderer is chosen by the type's output *function*, so domains, arrays, ranges and types
//! that people made with built-in functions come out right.
//!
//! | type | text | JSON |
//! |---|---|---|
//! | `boolean` | `t`, `f` | `true`, `false` |
//! | `smallint`, `integer`, `bigint` | digits | number |
//! | `real`, `double precision` | shortest that reads back, `NaN`, `Infinity` | number; the special ones strings |
//! | `numeric` | all digits to its scale, `NaN`, `Infinity` | always a string |
//! | `money` | as `lc_monetary` says | string |
//! | `text`, `varchar`, `character` | as it is, padding included | string |
//! | `name`, `"char"` | up to the NUL; `\377` form from 15 | string |
//! | `bytea` | `\x` and hex | string |
//! | `bit`, `bit varying` | zeros and ones | string |
//! | `date`, `time`, `timetz` | `2024-02-29`, `24:00:00`, `10:00:00+02` | string |
//! | `timestamp`, `timestamptz` | `2024-02-29 10:00:00+00` | `2024-02-29T10:00:00+00:00` |
//! | `interval` | `1 year 2 mons -3 days +04:05:06.7` | string |
//! | `uuid` | lower case | string |
//! | `oid`, `xid`, `xid8`, `cid` | digits | string |
//! | `int2vector`, `oidvector` | numbers with spaces | array |
//! | `regclass` and such | comes as text from the server; digits, or `-` for 0, if it does not | string |
//! | `json`, `jsonb` | as it is; as `jsonb_out` spaces it | embedded, without line breaks |
//! | arrays | `[0:1]={a,"b c",NULL}` | nested arrays, lower bounds lost |
//! | enums | label | string |
//! | ranges, multiranges | `[1,5)`, `{[1,5),[7,8)}` | string |
//! | row types | `(1,"a b",)` | object |
//! | domains | as the type below | as the type below |
//! | `hstore` | `"a"=>"1"` | object |
//! | any other known type | as its output function | string |
//! | a type whose output function is unknown | `\x` and hex, said by [`Known::No`] | string |
//!
//! Bytes that are not valid in the database's encoding become `{"base64": ...}` in JSON. So does
//! every text with other than ASCII in a database in `MULE_INTERNAL`: PostgreSQL itself knows no way
//! from there to UTF-8 ("default conversion function for encoding "MULE_INTERNAL" to "UTF8" does not
//! exist"), and gives a client that asks for UTF-8 nothing at all. As text they are what the server
//! gives, as in any other encoding.

pub mod decompress;

mod array;
mod bits;
mod boolean;
mod boolean_query;
mod bytea;
mod client_encoding;
mod composite;
pub(crate) mod datetime;
pub(crate) mod digits;
mod encoding;
mod float;
mod functions;
mod geometric;
mod hstore;
mod hstore_json;
mod integer;
mod interval;
mod isn;
pub(crate) mod json;
mod jsonb;
mod jsonpath;
mod ltree;
mod money;
mod names;
mod network;
mod numeric;
mod other_families;
mod packed;
mod pieces;
pub(crate) mod quoting;
mod range;
mod renderer;
mod seg;
mod system;
mod text;
mod text_json;
mod text_search;
mod uuid;
mod vector;
pub(crate) mod xml;
mod zone;

use std::sync::Arc;

use crate::cursor::{Cursor, ShortInput};
use crate::wire::limits::VALUE_BYTES_MAX;

pub use client_encoding::{ClientEncoding, UnknownEncoding};
pub use encoding::to_utf8;
pub use json::{push_json_bytes, push_json_string, push_json_text};
pub use money::{Monetary, UnknownMonetary};
pub use names::CatalogNames;
pub use renderer::{Known, TypeRenderer};
pub use zone::{TimeZone, UnknownTimeZone};

/// What the text of a value depends on besides the value and its type: the settings of a session.
#[derive(Clone, Debug)]
pub struct TextContext {
    /// Major version of the server, 14 to 18.
    pub major: u16,
    /// The database's encoding, PostgreSQL's number for it (6 is UTF8, 0 SQL_ASCII).
    // pg: mb/pg_wchar.h pg_enc [14-18]
    pub encoding: i32,
    /// `TimeZone`, for `timestamptz`.
    pub zone: Arc<TimeZone>,
    /// `lc_monetary`, for `money`.
    pub monetary: Arc<Monetary>,
    /// Names of catalog rows, for reg* types and access rights; without it they print as numbers.
    pub names: Option<Arc<dyn CatalogNames>>,
    /// Bytes of the largest value that is decompressed, also inside of arrays and rows.
    pub value_bytes_max: u64,
}

impl TextContext {
    /// The context for a database of `major` version and `encoding`: UTC, money as in the C locale,
    /// and values as large as they can be.
    #[must_use]
    pub fn new(major: u16, encoding: i32) -> Self {
        Self {
            major,
            encoding,
            zone: Arc::new(TimeZone::utc()),
            monetary: Arc::new(Monetary::c()),
            names: None,
            value_bytes_max: VALUE_BYTES_MAX as u64,
        }
    }
}

/// Takes what was printed of a value out of the buffer, which it leaves empty.
pub(crate) type Flush<'f> = dyn FnMut(&mut Vec<u8>) + 'f;

/// Appends the text of one value, given without its varlena header.
pub(crate) type TextFn = fn(&[u8], &TextContext, &mut Vec<u8>) -> Result<(), ValueError>;

/// The value of a type of exactly `N` bytes.
pub(crate) fn fixed<const N: usize>(
    value: &[u8],
    what: &'static str,
) -> Result<[u8; N], ValueError> {
    if let Ok(array) = value.try_into() {
        return Ok(array);
    }
    let mut cursor = Cursor::new(value);
    let array = cursor.array(what)?;
    cursor.finish(what)?;
    Ok(array)
}

/// A value that contradicts its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The value ends before its own structure does.
    #[error(transparent)]
    Short(#[from] ShortInput),
    /// The value says something that its type cannot mean.
    #[error("not a valid {type_name}: {problem}")]
    Invalid {
        /// The type.
        type_name: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// A compressed value that is larger than its receiver takes.
    #[error("a value of {bytes} bytes, at most {limit} are taken")]
    TooLarge {
        /// Its size, decompressed, in bytes.
        bytes: u64,
        /// The bound, in bytes.
        limit: u64,
    },
    /// Nested deeper than any value the server accepts.
    #[error("{0} nested too deeply")]
    TooDeep(&'static str),
    /// Compressed data that does not decompress to what it says.
    #[error("bad {0} data")]
    BadCompression(&'static str),
    /// An enum value that is none of its type's labels.
    #[error("the enum has no label with OID {0}")]
    UnknownLabel(u32),
}

impl ValueError {
    pub(crate) const fn invalid(type_name: &'static str, problem: &'static str) -> Self {
        ValueError::Invalid { type_name, problem }
    }
}
