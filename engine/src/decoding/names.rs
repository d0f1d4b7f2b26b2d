//! Values whose text depends on catalog rows (reg* types, access rights), also inside arrays and row
//! types: written as text, looked up in the catalogs as the row's transaction sees them. Rare, so
//! nothing here is quick.

use std::sync::Arc;

use redostream_protocol::event::{ColumnValue, Columns, push_text};
use redostream_protocol::value::{CatalogNames, TextContext, TypeRenderer};
use redostream_protocol::{DatabaseOid, Xid};

use super::TupleError;
use super::task::Names;
use crate::catalog::CatalogSnapshot;
use crate::catalog::relation::Layout;

/// A snapshot in the eyes of one transaction.
#[derive(Debug)]
struct Lookup {
    snapshot: Arc<CatalogSnapshot>,
    viewer: Option<Xid>,
    database: DatabaseOid,
}

impl CatalogNames for Lookup {
    fn push(&self, symbol: &str, value: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let written = self
            .snapshot
            .reg_text(symbol, value, self.database, self.viewer, out);
        if written.is_err() {
            out.truncate(start);
        }
        written.is_ok()
    }
}

/// Copies columns, with text in place of values that name catalog rows.
#[cold]
pub(crate) fn push_named(
    layout: &Layout,
    stored: &[u8],
    names: Names<'_>,
    out: &mut Vec<u8>,
) -> Result<(), TupleError> {
    let database = &layout.relation.database;
    let mut context = TextContext::new(database.major, database.encoding);
    context.names = Some(Arc::new(Lookup {
        snapshot: Arc::clone(names.snapshot),
        viewer: names.viewer,
        database: database.oid,
    }));
    let mut columns = Columns::new(stored);
    let live = layout
        .attributes
        .iter()
        .filter(|attribute| attribute.column.is_some());
    for (attribute, column) in live.zip(&layout.relation.columns) {
        let start = columns.offset();
        let own = |_| TupleError::Contradiction("columns just written cannot be read");
        let value = columns.read().map_err(own)?;
        let ColumnValue::Bytes(bytes) = value else {
            out.extend_from_slice(&stored[start..columns.offset()]);
            continue;
        };
        if !attribute.needs_catalog {
            out.extend_from_slice(&stored[start..columns.offset()]);
            continue;
        }
        let mut text = Vec::new();
        TypeRenderer::new(&column.data_type)
            .text(bytes, &context, &mut text)
            .map_err(|_| TupleError::Contradiction("a value names a catalog row wrongly"))?;
        push_text(out, &text);
    }
    Ok(())
}
