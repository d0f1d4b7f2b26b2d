//! Values whose text depends on catalog rows (reg* types, access rights): written as text, looked
//! up in the catalogs as the row's transaction sees them. Rare, so nothing here is quick.

use redostream_protocol::cursor::{Cursor, ShortInput};
use redostream_protocol::event::{ColumnValue, Columns, push_text};
use redostream_protocol::schema::{Name, OutputFunction, TypeDesc, TypeShape};
use redostream_protocol::value::{TextContext, TypeRenderer};
use redostream_protocol::{DatabaseOid, Oid};

use super::TupleError;
use super::task::Names;
use crate::catalog::relation::Layout;

/// Copies columns, with text in place of values that name catalog rows.
#[cold]
pub(crate) fn push_named(
    layout: &Layout,
    stored: &[u8],
    names: Names<'_>,
    out: &mut Vec<u8>,
) -> Result<(), TupleError> {
    let mut columns = Columns::new(stored);
    let live = layout
        .attributes
        .iter()
        .filter(|attribute| attribute.column.is_some());
    for (attribute, column) in live.zip(&layout.relation.columns) {
        let start = columns.offset();
        let own = |_| TupleError::Contradiction("columns just written cannot be read");
        let value = columns.read().map_err(own)?;
        let text = match value {
            ColumnValue::Bytes(bytes) if attribute.needs_catalog => {
                text_of(&column.data_type, bytes, names, layout)?
            }
            _ => None,
        };
        match text {
            Some(text) => push_text(out, &text),
            None => out.extend_from_slice(&stored[start..columns.offset()]),
        }
    }
    Ok(())
}

/// The text of a value; none for shapes that are left to the receiver.
fn text_of(
    data_type: &TypeDesc,
    value: &[u8],
    names: Names<'_>,
    layout: &Layout,
) -> Result<Option<Vec<u8>>, TupleError> {
    let database = &layout.relation.database;
    let unreadable = TupleError::Contradiction("a value names a catalog row wrongly");
    match &data_type.base().shape {
        TypeShape::Base(function) => {
            let text = element_text(function, value, names, database.oid)?;
            Ok(Some(text))
        }
        TypeShape::Array { element, delimiter } => {
            let TypeShape::Base(function) = &element.base().shape else {
                return Ok(None);
            };
            let length = usize::try_from(element.length).map_err(|_| unreadable)?;
            let as_text = array_of_text(value, length, |item| {
                element_text(function, item, names, database.oid)
            })?;
            let renderer = TypeRenderer::new(&text_array(*delimiter));
            let context = TextContext::new(database.major, database.encoding);
            let mut out = Vec::new();
            renderer
                .text(&as_text, &context, &mut out)
                .map_err(|_| unreadable)?;
            Ok(Some(out))
        }
        _ => Ok(None),
    }
}

fn element_text(
    function: &OutputFunction,
    value: &[u8],
    names: Names<'_>,
    database: DatabaseOid,
) -> Result<Vec<u8>, TupleError> {
    let mut text = Vec::new();
    names
        .snapshot
        .reg_text(&function.symbol, value, database, names.viewer, &mut text)
        .map_err(|_| TupleError::Contradiction("a value names a catalog row wrongly"))?;
    Ok(text)
}

/// `text[]`, as far as printing needs it.
fn text_array(delimiter: u8) -> TypeDesc {
    let output = OutputFunction {
        symbol: "textout".to_owned(),
        library: String::new(),
    };
    let element = TypeDesc {
        oid: TEXT,
        schema: Name::from("pg_catalog"),
        name: Name::from("text"),
        formatted: Name::from("text"),
        length: -1,
        align: b'i',
        shape: TypeShape::Base(output),
    };
    TypeDesc {
        oid: Oid(1009),
        name: Name::from("_text"),
        formatted: Name::from("text[]"),
        shape: TypeShape::Array {
            element: element.clone().into(),
            delimiter,
        },
        ..element
    }
}

/// `TEXTOID`.
// pg: catalog/pg_type.dat [14-18]
const TEXT: Oid = Oid(25);

/// Makes an array of fixed-length elements into one of texts of the same shape.
///
/// ```text
/// ndim i32 | dataoffset i32, 0 without nulls | elemtype u32 | dims i32 ... | lower bounds i32 ... |
/// [null bitmap, padding] | elements
/// ```
// pg: utils/array.h ArrayType [14-18]; offsets count from the varlena header, which is not here
fn array_of_text(
    value: &[u8],
    length: usize,
    mut text: impl FnMut(&[u8]) -> Result<Vec<u8>, TupleError>,
) -> Result<Vec<u8>, TupleError> {
    let short = |_: ShortInput| TupleError::Short("array");
    let mut cursor = Cursor::new(value);
    let dimensions = cursor.u32("dimensions").map_err(short)? as usize;
    let offset = cursor.u32("data offset").map_err(short)? as usize;
    cursor.u32("element type").map_err(short)?;
    let bounds = cursor
        .take(dimensions.saturating_mul(8), "bounds")
        .map_err(short)?;
    let sizes = bounds.as_chunks::<4>().0.iter().take(dimensions);
    let count = sizes
        .map(|size| u32::from_le_bytes(*size) as usize)
        .try_fold(1_usize, usize::checked_mul);
    let count = if dimensions == 0 {
        0
    } else {
        count.ok_or(TupleError::Short("array"))?
    };
    let bitmap = match offset {
        0 => &[],
        _ => cursor
            .take(count.div_ceil(8), "null bitmap")
            .map_err(short)?,
    };
    // Offsets include the 4-byte header, and elements begin aligned to 8 bytes.
    let data_at = (12 + 4 + bounds.len() + bitmap.len()).next_multiple_of(8) - 4;
    let mut elements = value.get(data_at.min(value.len())..).unwrap_or_default();
    let mut out = value[..12 + bounds.len() + bitmap.len()].to_vec();
    out[8..12].copy_from_slice(&TEXT.0.to_le_bytes());
    out.resize(data_at, 0);
    for index in 0..count {
        let null = bitmap
            .get(index / 8)
            .is_some_and(|byte| byte & (1 << (index % 8)) == 0);
        if null {
            continue;
        }
        let (item, rest) = elements
            .split_at_checked(length)
            .ok_or(TupleError::Short("array element"))?;
        elements = rest;
        let text = text(item)?;
        let padded = (out.len() + 4).next_multiple_of(4) - 4;
        out.resize(padded, 0);
        out.extend_from_slice(&(((text.len() + 4) as u32) << 2).to_le_bytes());
        out.extend_from_slice(&text);
    }
    Ok(out)
}
