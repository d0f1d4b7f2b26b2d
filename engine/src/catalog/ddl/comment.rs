//! What is said of an object and stands beside it: comments and security labels.

use redostream_protocol::ddl::Property;
use redostream_protocol::schema::Name;

use super::super::CatalogError;
use super::super::layout::oid;
use super::super::view::View;
use super::names::{column_name, schema_name, table_name};
use super::other;
use super::state::OtherState;
use super::touched::Touched;

/// A comment, by the object it is on.
pub(crate) fn comment(
    view: &View<'_>,
    touched: &Touched,
) -> Result<Option<OtherState>, CatalogError> {
    for row in view.rows(oid::DESCRIPTION, "objoid", touched.oid.0)? {
        if row.oid("classoid")? != touched.class || row.i32("objsubid")? != touched.sub {
            continue;
        }
        let Some(mut state) = subject(view, touched)? else {
            return Ok(None);
        };
        let text = row.value("description")?.unwrap_or_default().into_owned();
        state.set("comment", Property::Text(Name(text)));
        return Ok(Some(state));
    }
    Ok(None)
}

/// The security labels of an object, one for each provider that has one.
pub(crate) fn labels(
    view: &View<'_>,
    touched: &Touched,
) -> Result<Option<OtherState>, CatalogError> {
    let mut labels = Vec::new();
    for row in view.rows(oid::SECURITY_LABEL, "objoid", touched.oid.0)? {
        if row.oid("classoid")? == touched.class && row.i32("objsubid")? == touched.sub {
            let text = |column| -> Result<Name, CatalogError> {
                Ok(Name(row.value(column)?.unwrap_or_default().into_owned()))
            };
            labels.push((text("provider")?, text("label")?));
        }
    }
    if labels.is_empty() {
        return Ok(None);
    }
    labels.sort();
    let labels = labels.into_iter().map(|(provider, label)| {
        Property::Parts(vec![
            ("provider".to_owned(), Property::Text(provider)),
            ("label".to_owned(), Property::Text(label)),
        ])
    });
    let Some(mut state) = subject(view, touched)? else {
        return Ok(None);
    };
    state.set("labels", Property::List(labels.collect()));
    Ok(Some(state))
}

/// The object that a comment or label is on, named.
fn subject(view: &View<'_>, touched: &Touched) -> Result<Option<OtherState>, CatalogError> {
    let mut state = OtherState {
        oid: touched.oid,
        ..OtherState::default()
    };
    if touched.class == oid::CONSTRAINT {
        let Some(row) = view.row_of(oid::CONSTRAINT, "oid", touched.oid)? else {
            return Ok(None);
        };
        "constraint".clone_into(&mut state.object);
        state.schema = Some(schema_name(view, row.oid("connamespace")?)?);
        state.name = row.name("conname")?;
        state.table = row.oid("conrelid")?;
        if let Some(table) = table_name(view, state.table)? {
            state.set("table", Property::Text(table.table));
        }
        return Ok(Some(state));
    }
    if touched.class != oid::CLASS {
        let of = Touched::new(touched.class, touched.oid);
        let Some(other) = other::describe(view, &of)? else {
            return Ok(None);
        };
        state.object = other.object;
        state.schema = other.schema;
        state.name = other.name;
        return Ok(Some(state));
    }
    let Some(class) = view.row_of(oid::CLASS, "oid", touched.oid)? else {
        return Ok(None);
    };
    let kind = match class.byte("relkind")? {
        b'i' | b'I' => "index",
        kind => super::state::object_of_kind(kind),
    };
    kind.clone_into(&mut state.object);
    state.schema = Some(schema_name(view, class.oid("relnamespace")?)?);
    state.name = class.name("relname")?;
    state.table = touched.oid;
    if touched.sub > 0 {
        state.object = "column".to_owned();
        state.set("table", Property::Text(state.name.clone()));
        state.set("column", column_name(view, touched.oid, touched.sub)?);
    }
    Ok(Some(state))
}
