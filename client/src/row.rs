//! Rows with their values, as Rust types.
//!
//! A [`Row`] belongs to a change and knows its columns by name. Values come one by one, as
//! [`Value`]s, or all at once into a struct of yours that serde can fill.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use redostream_protocol::event::{ColumnValue, Columns, Event, EventKind, flags};
use redostream_protocol::schema::{Relation, TypeShape};
use redostream_protocol::value::decompress::decompress_within;
use redostream_protocol::value::{TextContext, TypeRenderer, ValueError, to_utf8};
use serde::de::DeserializeOwned;

use crate::error::ClientError;

const JSON: u32 = 114;
const JSONB: u32 = 3802;

/// What is worked out once for all rows of a relation version.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) relation: Arc<Relation>,
    /// Bytes of the largest value that is decompressed.
    value_bytes_max: u64,
    columns: OnceLock<ShapeColumns>,
}

#[derive(Debug)]
struct ShapeColumns {
    names: HashMap<String, usize>,
    listed: Vec<(String, TypeRenderer)>,
    context: TextContext,
}

impl Shape {
    pub(crate) fn new(relation: Arc<Relation>, value_bytes_max: u64) -> Self {
        Self {
            relation,
            value_bytes_max,
            columns: OnceLock::new(),
        }
    }

    fn columns(&self) -> &ShapeColumns {
        self.columns.get_or_init(|| {
            let database = &self.relation.database;
            let columns = self.relation.columns.iter();
            let listed: Vec<_> = columns
                .map(|column| {
                    let name = to_utf8(database.encoding, column.name.as_bytes());
                    let name =
                        name.map_or_else(|| column.name.lossy().into_owned(), Cow::into_owned);
                    (name, TypeRenderer::new(&column.data_type))
                })
                .collect();
            let names = listed.iter().enumerate();
            ShapeColumns {
                names: names.map(|(at, (name, _))| (name.clone(), at)).collect(),
                listed,
                context: TextContext {
                    value_bytes_max: self.value_bytes_max,
                    ..TextContext::new(database.major, database.encoding)
                },
            }
        })
    }
}

/// Which tuple of a change a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The row after the change.
    New,
    /// The row before it, whole: the table's replica identity is FULL.
    OldFull,
    /// The key of the row before it; its other columns are null.
    OldKey,
}

/// One tuple of a change.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    shape: &'a Shape,
    side: Side,
    values: Vec<ColumnValue<'a>>,
}

/// A value in a Rust type, where there is one for it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// SQL null.
    Null,
    /// A large value that did not change and that the log does not hold.
    Unchanged,
    /// `boolean`.
    Bool(bool),
    /// `smallint`, `integer`, `bigint`.
    Int(i64),
    /// `oid`, `xid`.
    Id(u32),
    /// `real`, `double precision`.
    Float(f64),
    /// `text`, `varchar`, `character`, in UTF-8.
    Text(Cow<'a, str>),
    /// `bytea`; also text that is not valid in its database's encoding.
    Bytes(Cow<'a, [u8]>),
    /// `uuid`.
    Uuid([u8; 16]),
    /// `date`: days since 2000-01-01. The smallest and the largest number are the infinities.
    Date(i32),
    /// `time`: microseconds since midnight.
    Time(i64),
    /// `timestamp`: microseconds since 2000-01-01 00:00 in no time zone. The smallest and the
    /// largest number are the infinities.
    Timestamp(i64),
    /// `timestamptz`: the same, in UTC.
    TimestampTz(i64),
    /// `json`, `jsonb`.
    Json(serde_json::Value),
    /// Any other type, as the text that PostgreSQL prints: `numeric`, `interval`, enums, arrays...
    Printed(String),
}

fn fail(shape: &Shape, name: &str, problem: impl ToString) -> ClientError {
    let relation = &shape.relation;
    ClientError::Value {
        table: format!("{}.{}", relation.schema, relation.name),
        column: name.to_owned(),
        problem: problem.to_string(),
    }
}

/// Why a value cannot be had.
fn unreadable(shape: &Shape, name: &str, error: ValueError) -> ClientError {
    match error {
        ValueError::TooLarge { bytes, limit } => ClientError::ColumnTooLarge {
            table: format!("{}.{}", shape.relation.schema, shape.relation.name),
            column: name.to_owned(),
            bytes,
            value_bytes_max: limit,
        },
        error => fail(shape, name, error),
    }
}

/// The tuples of a row event: old and new.
pub(crate) fn rows<'a>(
    event: &Event<'a>,
    shape: &'a Shape,
) -> Result<(Option<Row<'a>>, Option<Row<'a>>), ClientError> {
    let mut columns = event.columns();
    let mut read = |side| -> Result<Row<'a>, ClientError> {
        Ok(Row {
            shape,
            side,
            values: read_columns(&mut columns, event.header.count)?,
        })
    };
    let old = match (event.has_old(), event.header.flags & flags::OLD_KEY != 0) {
        (false, _) => None,
        (true, true) => Some(read(Side::OldKey)?),
        (true, false) => Some(read(Side::OldFull)?),
    };
    let new = match event.header.kind {
        EventKind::Insert | EventKind::Update => Some(read(Side::New)?),
        _ => None,
    };
    Ok((old, new))
}

fn read_columns<'a>(
    columns: &mut Columns<'a>,
    count: u16,
) -> Result<Vec<ColumnValue<'a>>, ClientError> {
    let mut values = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        values.push(columns.read()?);
    }
    Ok(values)
}

/// A column's bytes, decompressed; or its text.
enum Content<'a> {
    Bytes(Cow<'a, [u8]>),
    Text(&'a [u8]),
}

impl<'a> Row<'a> {
    /// Which tuple of the change it is.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.side
    }

    /// The structure of the row's table.
    #[must_use]
    pub fn relation(&self) -> &'a Arc<Relation> {
        &self.shape.relation
    }

    /// Names of the columns, in order.
    pub fn columns(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.shape
            .columns()
            .listed
            .iter()
            .map(|(name, _)| name.as_str())
    }

    /// Names of the columns whose values the log does not hold since they did not change.
    pub fn unchanged(&self) -> impl Iterator<Item = &'a str> {
        let values = self.values.iter().zip(self.columns());
        values
            .filter(|(value, _)| **value == ColumnValue::Unchanged)
            .map(|(_, name)| name)
    }

    /// The value of a column; an error if the table has no such column.
    pub fn get(&self, name: &str) -> Result<Value<'a>, ClientError> {
        let found = self.shape.columns().names.get(name).copied();
        found
            .ok_or_else(|| fail(self.shape, name, "there is no such column"))
            .and_then(|number| self.value(number))
    }

    /// The value of a column by its place, from 0.
    pub fn value(&self, number: usize) -> Result<Value<'a>, ClientError> {
        let columns = self.shape.columns();
        let (Some((name, renderer)), Some(value)) =
            (columns.listed.get(number), self.values.get(number))
        else {
            return Err(fail(
                self.shape,
                &number.to_string(),
                "there is no such column",
            ));
        };
        let wrong = |error| unreadable(self.shape, name, error);
        Ok(
            match content(value, columns.context.value_bytes_max).map_err(wrong)? {
                Err(value) => value,
                Ok(Content::Text(text)) => {
                    Value::Printed(String::from_utf8_lossy(text).into_owned())
                }
                Ok(Content::Bytes(bytes)) => {
                    let data_type = &self.shape.relation.columns[number].data_type;
                    let plain = matches!(data_type.base().shape, TypeShape::Base(_));
                    let oid = if plain { data_type.base().oid.0 } else { 0 };
                    match typed(oid, bytes, &columns.context).map_err(wrong)? {
                        Ok(value) => value,
                        Err(bytes) => {
                            let mut text = Vec::new();
                            renderer
                                .text(&bytes, &columns.context, &mut text)
                                .map_err(wrong)?;
                            match (oid, serde_json::from_slice(&text)) {
                                (JSON | JSONB, Ok(json)) => Value::Json(json),
                                _ => text_value(text, columns.context.encoding, Value::Printed),
                            }
                        }
                    }
                }
            },
        )
    }

    /// The text that PostgreSQL prints for a column, in UTF-8; none for null and for unchanged
    /// values.
    pub fn text(&self, name: &str) -> Result<Option<String>, ClientError> {
        let columns = self.shape.columns();
        let found = columns.names.get(name).copied();
        let number = found.ok_or_else(|| fail(self.shape, name, "there is no such column"))?;
        let wrong = |error| unreadable(self.shape, name, error);
        let (Some((_, renderer)), Some(value)) =
            (columns.listed.get(number), self.values.get(number))
        else {
            return Err(fail(self.shape, name, "the row has no such column"));
        };
        let text = match content(value, columns.context.value_bytes_max).map_err(wrong)? {
            Err(_) => return Ok(None),
            Ok(Content::Text(text)) => text.to_vec(),
            Ok(Content::Bytes(bytes)) => {
                let mut text = Vec::new();
                renderer
                    .text(&bytes, &columns.context, &mut text)
                    .map_err(wrong)?;
                text
            }
        };
        let utf8 = to_utf8(columns.context.encoding, &text).map(Cow::into_owned);
        utf8.map(Some)
            .ok_or_else(|| fail(self.shape, name, "it is not valid text"))
    }

    /// The row as a JSON object, as `to_json()` prints its values. Unchanged ones are left out, and
    /// so is what does not belong to the key of a row of which the log holds only that.
    pub fn to_json(&self) -> Result<serde_json::Map<String, serde_json::Value>, ClientError> {
        let columns = self.shape.columns();
        let (mut object, mut scratch, mut out) = (serde_json::Map::new(), Vec::new(), Vec::new());
        let described = self.shape.relation.columns.iter();
        let listed = columns.listed.iter().zip(described).zip(&self.values);
        for (((name, renderer), column), value) in listed {
            let wrong = |error| unreadable(self.shape, name, error);
            out.clear();
            match content(value, columns.context.value_bytes_max).map_err(wrong)? {
                Err(Value::Unchanged) => continue,
                Err(_) if self.side == Side::OldKey && !column.key => continue,
                Err(_) => out.extend_from_slice(b"null"),
                Ok(Content::Text(text)) => renderer.json_of_text(text, &columns.context, &mut out),
                Ok(Content::Bytes(bytes)) => {
                    let written = renderer.json(&bytes, &columns.context, &mut scratch, &mut out);
                    written.map_err(wrong)?;
                }
            }
            let value =
                serde_json::from_slice(&out).map_err(|error| fail(self.shape, name, error))?;
            object.insert(name.clone(), value);
        }
        Ok(object)
    }

    /// The row as a struct of yours whose fields are named as the columns. Values come as in
    /// [`Row::to_json`]: `numeric` as a string, timestamps in ISO form, `bytea` as `\x` and
    /// hexadecimal digits. Unchanged values are left out, so give such fields a default.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        let object = serde_json::Value::Object(self.to_json()?);
        serde_json::from_value(object).map_err(|error| fail(self.shape, "*", error))
    }
}

/// What a column holds; null and unchanged are values already.
fn content<'a>(
    value: &ColumnValue<'a>,
    value_bytes_max: u64,
) -> Result<Result<Content<'a>, Value<'a>>, ValueError> {
    Ok(match value {
        ColumnValue::Null => Err(Value::Null),
        // A pointer never leaves the server.
        ColumnValue::Unchanged | ColumnValue::External(_) => Err(Value::Unchanged),
        ColumnValue::Bytes(bytes) => Ok(Content::Bytes(Cow::Borrowed(bytes))),
        ColumnValue::Text(text) => Ok(Content::Text(text)),
        ColumnValue::Compressed {
            method,
            raw_size,
            stored,
        } => {
            let mut raw = Vec::new();
            decompress_within(value_bytes_max, *method, *raw_size, stored, &mut raw)?;
            Ok(Content::Bytes(Cow::Owned(raw)))
        }
    })
}

fn text_value<'a>(
    text: Vec<u8>,
    encoding: i32,
    make: impl FnOnce(String) -> Value<'a>,
) -> Value<'a> {
    match to_utf8(encoding, &text).map(Cow::into_owned) {
        Some(text) => make(text),
        None => Value::Bytes(Cow::Owned(text)),
    }
}

/// A value of a type that Rust has too; the bytes back for any other.
// pg: catalog/pg_type.dat [14-18]
fn typed<'a>(
    oid: u32,
    bytes: Cow<'a, [u8]>,
    context: &TextContext,
) -> Result<Result<Value<'a>, Cow<'a, [u8]>>, ValueError> {
    fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], ValueError> {
        bytes.try_into().map_err(|_| ValueError::Invalid {
            type_name: "value",
            problem: "its size is not that of its type",
        })
    }
    Ok(Ok(match oid {
        16 => Value::Bool(fixed::<1>(&bytes)? != [0]),
        17 => Value::Bytes(bytes),
        20 => Value::Int(i64::from_le_bytes(fixed(&bytes)?)),
        21 => Value::Int(i64::from(i16::from_le_bytes(fixed(&bytes)?))),
        23 => Value::Int(i64::from(i32::from_le_bytes(fixed(&bytes)?))),
        26 | 28 => Value::Id(u32::from_le_bytes(fixed(&bytes)?)),
        700 => Value::Float(f64::from(f32::from_le_bytes(fixed(&bytes)?))),
        701 => Value::Float(f64::from_le_bytes(fixed(&bytes)?)),
        25 | 1042 | 1043 => match bytes {
            Cow::Borrowed(bytes) => match to_utf8(context.encoding, bytes) {
                Some(text) => Value::Text(text),
                None => Value::Bytes(Cow::Borrowed(bytes)),
            },
            Cow::Owned(bytes) => text_value(bytes, context.encoding, |text| {
                Value::Text(Cow::Owned(text))
            }),
        },
        1082 => Value::Date(i32::from_le_bytes(fixed(&bytes)?)),
        1083 => Value::Time(i64::from_le_bytes(fixed(&bytes)?)),
        1114 => Value::Timestamp(i64::from_le_bytes(fixed(&bytes)?)),
        1184 => Value::TimestampTz(i64::from_le_bytes(fixed(&bytes)?)),
        2950 => Value::Uuid(fixed(&bytes)?),
        _ => return Ok(Err(bytes)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use redostream_protocol::Oid;
    use redostream_protocol::event::{
        CompressionMethod, TAG_NULL, TAG_TEXT, TAG_UNCHANGED, push_compressed, push_value,
    };
    use redostream_protocol::schema::{
        Column, Database, OutputFunction, RelationVersion, TypeDesc,
    };

    /// The largest value that the rows here take.
    const BYTES_MAX: u64 = 1000;

    fn shape(types: &[(u32, &str, i16)]) -> Shape {
        let column = |(number, (oid, function, length)): (usize, &(u32, &str, i16))| Column {
            number: number as i16 + 1,
            name: format!("c{number}").as_str().into(),
            data_type: Arc::new(TypeDesc {
                oid: Oid(*oid),
                schema: "pg_catalog".into(),
                name: "x".into(),
                formatted: "x".into(),
                length: *length,
                align: b'i',
                shape: TypeShape::Base(OutputFunction {
                    symbol: (*function).to_owned(),
                    library: String::new(),
                }),
            }),
            modifier: -1,
            not_null: false,
            key: number == 0,
            generated: 0,
        };
        let relation = Arc::new(Relation {
            version: RelationVersion(1),
            database: Arc::new(Database {
                oid: Oid(5),
                name: "app".into(),
                encoding: 6,
                major: 15,
            }),
            oid: Oid(16_400),
            schema: "public".into(),
            name: "t".into(),
            kind: b'r',
            replica_identity: b'd',
            structure: None,
            columns: types.iter().enumerate().map(column).collect(),
        });
        Shape::new(relation, BYTES_MAX)
    }

    fn row<'a>(shape: &'a Shape, side: Side, bytes: &'a [u8]) -> Row<'a> {
        let count = shape.relation.columns.len() as u16;
        let mut columns = Columns::new(bytes);
        let values = read_columns(&mut columns, count).unwrap();
        Row {
            shape,
            side,
            values,
        }
    }

    #[test]
    fn values_have_their_types() {
        let shape = shape(&[
            (20, "int8out", 8),
            (16, "boolout", 1),
            (701, "float8out", 8),
            (25, "textout", -1),
            (17, "byteaout", -1),
            (1184, "timestamptz_out", 8),
            (114, "json_out", -1),
            (1082, "date_out", 4),
            (25, "textout", -1),
            (25, "textout", -1),
            (2205, "regclassout", 4),
        ]);
        let mut bytes = Vec::new();
        push_value(&mut bytes, &(-7_i64).to_le_bytes());
        push_value(&mut bytes, &[1]);
        push_value(&mut bytes, &2.5_f64.to_le_bytes());
        push_value(&mut bytes, "grüß".as_bytes());
        push_value(&mut bytes, b"\xff");
        push_value(&mut bytes, &1_000_000_i64.to_le_bytes());
        push_value(&mut bytes, b"{\"a\": [1]}");
        push_value(&mut bytes, &366_i32.to_le_bytes());
        bytes.extend([TAG_NULL, TAG_UNCHANGED, TAG_TEXT, 3, 0, 0, 0]);
        bytes.extend(b"s.t");
        let row = row(&shape, Side::New, &bytes);
        for (name, wanted) in [
            ("c0", Value::Int(-7)),
            ("c1", Value::Bool(true)),
            ("c2", Value::Float(2.5)),
            ("c3", Value::Text("grüß".into())),
            ("c4", Value::Bytes((&[0xff][..]).into())),
            ("c5", Value::TimestampTz(1_000_000)),
            ("c6", Value::Json(serde_json::json!({"a": [1]}))),
            ("c7", Value::Date(366)),
            ("c8", Value::Null),
            ("c9", Value::Unchanged),
            ("c10", Value::Printed("s.t".into())),
        ] {
            assert_eq!(row.get(name).unwrap(), wanted, "{name}");
        }
        assert!(row.get("c11").is_err());
        assert_eq!(row.unchanged().collect::<Vec<_>>(), ["c9"]);
        let text = row.text("c5").unwrap().unwrap();
        assert_eq!(text, "2000-01-01 00:00:01+00");

        #[derive(serde::Deserialize, Debug, PartialEq)]
        struct Mine {
            c0: i64,
            c3: String,
            c5: String,
            c8: Option<String>,
            #[serde(default)]
            c9: Option<String>,
        }
        let mine: Mine = row.deserialize().unwrap();
        assert_eq!(
            (mine.c0, mine.c3.as_str(), mine.c8, mine.c9),
            (-7, "grüß", None, None)
        );
        assert_eq!(mine.c5, "2000-01-01T00:00:01+00:00");
        #[derive(serde::Deserialize, Debug)]
        struct Wrong {
            #[expect(dead_code)]
            c3: i64,
        }
        let error = row.deserialize::<Wrong>().unwrap_err().to_string();
        assert!(error.contains("public.t"), "{error}");
    }

    #[test]
    fn a_key_is_no_row() {
        let shape = shape(&[(23, "int4out", 4), (25, "textout", -1)]);
        let mut bytes = Vec::new();
        push_value(&mut bytes, &5_i32.to_le_bytes());
        bytes.push(TAG_NULL);
        let row = row(&shape, Side::OldKey, &bytes);
        let object = serde_json::Value::Object(row.to_json().unwrap());
        assert_eq!(object, serde_json::json!({"c0": 5}));
    }

    #[test]
    fn values_that_do_not_fit_their_type_are_errors() {
        let shape = shape(&[(23, "int4out", 4)]);
        let mut bytes = Vec::new();
        push_value(&mut bytes, &[1, 2]);
        let row = row(&shape, Side::New, &bytes);
        assert!(row.get("c0").is_err() && row.to_json().is_err());
    }

    #[test]
    fn a_value_beyond_the_bound_is_refused_before_it_is_decompressed() {
        let shape = shape(&[(25, "textout", -1), (25, "textout", -1), (23, "int4out", 4)]);
        let mut bytes = Vec::new();
        for size in [1000, 1001] {
            let stored = lz4_flex::block::compress(&vec![b'x'; size]);
            push_compressed(&mut bytes, CompressionMethod::Lz4, size as u32, &stored);
        }
        push_value(&mut bytes, &5_i32.to_le_bytes());
        let row = row(&shape, Side::New, &bytes);
        let x = "x".repeat(1000);
        assert_eq!(row.get("c0").unwrap(), Value::Text(x.clone().into()));
        assert_eq!(row.text("c0").unwrap(), Some(x));
        assert_eq!(row.get("c2").unwrap(), Value::Int(5));
        let refused = |error: ClientError| match error {
            ClientError::ColumnTooLarge {
                table,
                column,
                bytes,
                value_bytes_max,
            } => {
                assert_eq!((table.as_str(), column.as_str()), ("public.t", "c1"));
                assert_eq!((bytes, value_bytes_max), (1001, BYTES_MAX));
            }
            other => panic!("{other}"),
        };
        refused(row.get("c1").unwrap_err());
        refused(row.text("c1").unwrap_err());
        refused(row.to_json().unwrap_err());
    }
}
