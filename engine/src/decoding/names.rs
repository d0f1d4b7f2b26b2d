//! Values whose text depends on catalog rows (reg* types, access rights), also inside arrays and row
//! types: written as text, looked up in the catalogs as the row's transaction sees them. Rare, so
//! nothing here is quick.

use std::sync::Arc;

use redostream_protocol::event::{
    ColumnValue, Columns, Event, EventError, EventKind, HEADER_BYTES, push_text,
};
use redostream_protocol::value::decompress::decompress;
use redostream_protocol::value::{CatalogNames, TextContext, TypeRenderer};
use redostream_protocol::{Cursor, DatabaseOid, Xid};

use super::TupleError;
use super::task::{Names, Targets};
use crate::catalog::CatalogSnapshot;
use crate::catalog::relation::{Layout, Target};

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

impl Lookup {
    fn context(self, layout: &Layout) -> TextContext {
        let database = &layout.relation.database;
        let mut context = TextContext::new(database.major, database.encoding);
        context.names = Some(Arc::new(self));
        context
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
    let lookup = Lookup {
        snapshot: Arc::clone(names.snapshot),
        viewer: names.viewer,
        database: layout.relation.database.oid,
    };
    let context = lookup.context(layout);
    push_tuple(layout, stored, &mut Columns::new(stored), &context, out)
}

/// Copies the columns of the next tuple that `columns` reads of `stored`.
fn push_tuple(
    layout: &Layout,
    stored: &[u8],
    columns: &mut Columns<'_>,
    context: &TextContext,
    out: &mut Vec<u8>,
) -> Result<(), TupleError> {
    let live = layout
        .attributes
        .iter()
        .filter(|attribute| attribute.column.is_some());
    let mut raw = Vec::new();
    for (attribute, column) in live.zip(&layout.relation.columns) {
        let start = columns.offset();
        let own = |_| TupleError::Contradiction("columns just written cannot be read");
        let wrong = |_| TupleError::Contradiction("a value names a catalog row wrongly");
        let bytes = match columns.read().map_err(own)? {
            ColumnValue::Bytes(bytes) if attribute.needs_catalog => bytes,
            ColumnValue::Compressed {
                method,
                raw_size,
                stored,
            } if attribute.needs_catalog => {
                raw.clear();
                decompress(method, raw_size, stored, &mut raw).map_err(wrong)?;
                &raw
            }
            _ => {
                let value = stored.get(start..columns.offset());
                out.extend_from_slice(value.unwrap_or_default());
                continue;
            }
        };
        let mut text = Vec::new();
        TypeRenderer::new(&column.data_type)
            .text(bytes, context, &mut text)
            .map_err(wrong)?;
        push_text(out, &text);
    }
    Ok(())
}

/// The catalogs as of one part of the log, for its values that come together only when their
/// transaction commits: those that are TOASTed.
#[derive(Debug)]
pub struct LateNames {
    snapshot: Arc<CatalogSnapshot>,
    /// Those with columns whose text depends on the catalogs.
    layouts: Vec<Arc<Layout>>,
}

impl LateNames {
    /// For rows of these structures.
    #[must_use]
    pub fn new(
        snapshot: Arc<CatalogSnapshot>,
        layouts: impl IntoIterator<Item = Arc<Layout>>,
    ) -> Self {
        let layouts = layouts.into_iter().filter(|layout| layout.needs_catalog);
        Self {
            snapshot,
            layouts: layouts.collect(),
        }
    }

    /// Those of a part, if some of its rows name catalog rows.
    #[must_use]
    pub fn of(targets: &Targets) -> Option<Arc<Self>> {
        let snapshot = targets.snapshot.as_ref()?;
        let layouts = targets.by_view.iter().flatten().flatten();
        let layouts = layouts.filter_map(|target| match &**target {
            Target::Table(layout) => Some(Arc::clone(layout)),
            _ => None,
        });
        Some(Arc::new(Self::new(Arc::clone(snapshot), layouts)))
    }

    /// Whether these are the catalogs at the same place of the log.
    pub(crate) fn is_as_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.snapshot, &other.snapshot)
    }

    /// Takes over rows of `other`'s structures too.
    pub(crate) fn cover(self: &mut Arc<Self>, other: &Self) {
        let is_new =
            |layout: &&Arc<Layout>| !self.layouts.iter().any(|own| Arc::ptr_eq(own, layout));
        let mut more = other.layouts.iter().filter(is_new).peekable();
        if more.peek().is_some() {
            let all = self.layouts.iter().chain(more).cloned();
            *self = Arc::new(Self::new(Arc::clone(&self.snapshot), all));
        }
    }

    /// Puts text in place of the values of `event`, a row of the transaction `top`, that name
    /// catalog rows and are not text yet. A value that cannot be read stays as it is: whoever makes
    /// text of it will say so.
    pub(crate) fn write(&self, top: Xid, event: &mut Vec<u8>) -> Result<(), EventError> {
        let row = Event::read(&mut Cursor::new(event))?;
        let version = row.header.relation;
        let mut layouts = self.layouts.iter();
        let Some(layout) = layouts.find(|layout| layout.relation.version == version) else {
            return Ok(());
        };
        let tuples = usize::from(row.has_old()) + usize::from(row.header.kind != EventKind::Delete);
        if !has_unnamed(layout, &row, tuples)? {
            return Ok(());
        }
        let lookup = Lookup {
            snapshot: Arc::clone(&self.snapshot),
            viewer: Some(top),
            database: layout.relation.database.oid,
        };
        let context = lookup.context(layout);
        let mut named = Vec::with_capacity(event.len());
        named.extend_from_slice(&event[..HEADER_BYTES]);
        let mut columns = row.columns();
        for _ in 0..tuples {
            if push_tuple(layout, row.payload, &mut columns, &context, &mut named).is_err() {
                return Ok(());
            }
        }
        columns.finish()?;
        if let Ok(size) = u32::try_from(named.len()) {
            named[..4].copy_from_slice(&size.to_le_bytes());
            *event = named;
        }
        Ok(())
    }
}

/// Whether a value is not text that should be: most large values are of other columns, and need not
/// be copied once more.
fn has_unnamed(layout: &Layout, row: &Event<'_>, tuples: usize) -> Result<bool, EventError> {
    if usize::from(row.header.count) != layout.relation.columns.len() {
        return Ok(false);
    }
    let mut columns = row.columns();
    for _ in 0..tuples {
        for attribute in &layout.attributes {
            if attribute.column.is_none() {
                continue;
            }
            let value = columns.read()?;
            let stored = matches!(
                value,
                ColumnValue::Bytes(_) | ColumnValue::Compressed { .. }
            );
            if stored && attribute.needs_catalog {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
