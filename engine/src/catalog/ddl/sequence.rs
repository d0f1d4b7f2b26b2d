//! Sequences.

use redostream_protocol::ddl::Property;
use redostream_protocol::schema::Name;

use super::super::CatalogError;
use super::super::layout::oid;
use super::super::view::{Row, View};
use super::names::{column_name, schema_name, table_name, type_text};
use super::privileges::Privileges;
use super::state::OtherState;
use super::table::persistence;

/// A sequence, by its row in `pg_class`.
pub(crate) fn sequence(
    view: &View<'_>,
    class: &Row<'_>,
) -> Result<Option<OtherState>, CatalogError> {
    let relation = class.oid("oid")?;
    let Some(row) = view.row_of(oid::SEQUENCE, "seqrelid", relation)? else {
        return Ok(None);
    };
    let mut state = OtherState {
        oid: relation,
        object: "sequence".to_owned(),
        schema: Some(schema_name(view, class.oid("relnamespace")?)?),
        namespace: class.oid("relnamespace")?,
        name: class.name("relname")?,
        references: vec![class.oid("relnamespace")?],
        privileges: Privileges::of(class, Some("relacl"), "sequence")?,
        rest: class.oid("relowner")?.0,
        ..OtherState::default()
    };
    let (data_type, _) = type_text(view, row.oid("seqtypid")?, -1)?;
    state.set("data_type", Property::Text(data_type));
    for (key, column) in [
        ("start", "seqstart"),
        ("increment", "seqincrement"),
        ("minimum", "seqmin"),
        ("maximum", "seqmax"),
        ("cache", "seqcache"),
    ] {
        state.set(key, Property::Number(row.whole(column)?));
    }
    state.set("cycle", Property::Bool(row.flag("seqcycle")?));
    let persistence = persistence(class.byte("relpersistence")?);
    state.set("persistence", Property::Text(Name::from(persistence)));
    let mut owned_by = Property::Null;
    for depend in view.rows(oid::DEPEND, "objid", relation.0)? {
        let (column, kind) = (depend.i32("refobjsubid")?, depend.byte("deptype")?);
        let of_column = matches!(kind, b'a' | b'i')
            && depend.oid("classid")? == oid::CLASS
            && depend.oid("refclassid")? == oid::CLASS
            && column > 0;
        if !of_column {
            continue;
        }
        state.table = depend.oid("refobjid")?;
        if let Some(table) = table_name(view, state.table)? {
            owned_by = Property::Parts(vec![
                ("schema".to_owned(), Property::Text(table.schema)),
                ("table".to_owned(), Property::Text(table.table)),
                ("column".to_owned(), column_name(view, state.table, column)?),
                ("identity".to_owned(), Property::Bool(kind == b'i')),
            ]);
        }
    }
    state.set("owned_by", owned_by);
    Ok(Some(state))
}
