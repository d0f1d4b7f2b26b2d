//! Types that somebody made: enums, domains, row types, ranges, base types.

use redostream_protocol::Oid;
use redostream_protocol::ddl::{Expression, Property};
use redostream_protocol::schema::Name;

use super::super::CatalogError;
use super::super::layout::oid;
use super::super::view::{Row, View};
use super::constraint::of_domain;
use super::expression::Printer;
use super::names::{schema_name, type_text};
use super::privileges::Privileges;
use super::state::OtherState;
use super::table::{attributes, collation, encoding};

/// A type that somebody made by name: no array, no row type of a table, no multirange.
pub(crate) fn describe(view: &View<'_>, oid: Oid) -> Result<Option<OtherState>, CatalogError> {
    let Some(row) = view.row_of(oid::TYPE, "oid", oid)? else {
        return Ok(None);
    };
    let namespace = row.oid("typnamespace")?;
    let mut state = OtherState {
        oid,
        object: "type".to_owned(),
        schema: Some(schema_name(view, namespace)?),
        namespace,
        name: row.name("typname")?,
        references: vec![namespace],
        privileges: Privileges::of(&row, Some("typacl"), "type")?,
        rest: row.oid("typowner")?.0,
        ..OtherState::default()
    };
    let kind = match row.byte("typtype")? {
        b'e' => {
            state.set("labels", labels(view, oid)?);
            "enum"
        }
        b'd' => {
            domain(view, &row, &mut state)?;
            "domain"
        }
        b'c' => {
            let relation = row.oid("typrelid")?;
            let class = view.row_of(oid::CLASS, "oid", relation)?;
            match class {
                Some(class) if class.byte("relkind")? == b'c' => {}
                _ => return Ok(None),
            }
            fields(view, relation, &mut state)?;
            "composite"
        }
        b'r' => {
            let range = view.row_of(oid::RANGE, "rngtypid", oid)?;
            if let Some(range) = range {
                let subtype = range.oid("rngsubtype")?;
                state.references.push(subtype);
                let (text, _) = type_text(view, subtype, -1)?;
                state.set("subtype", Property::Text(text));
                let multirange = range.oid("rngmultitypid")?;
                let (text, _) = type_text(view, multirange, -1)?;
                state.set("multirange", Property::Text(text));
            }
            "range"
        }
        b'b' if !row.oid("typelem")?.is_valid() => {
            state.rest = row.checksum(Some("typacl"));
            "base"
        }
        _ => return Ok(None),
    };
    state.set("kind", Property::Text(Name::from(kind)));
    if kind == "domain" {
        state.object = "domain".to_owned();
    }
    Ok(Some(state))
}

fn labels(view: &View<'_>, oid: Oid) -> Result<Property, CatalogError> {
    let mut labels = Vec::new();
    for row in view.rows(oid::ENUM, "enumtypid", oid.0)? {
        let order = f32::from_bits(row.u32("enumsortorder")?);
        labels.push((order, row.name("enumlabel")?));
    }
    labels.sort_by(|one, other| one.0.total_cmp(&other.0));
    let labels = labels.into_iter().map(|(_, label)| Property::Text(label));
    Ok(Property::List(labels.collect()))
}

fn fields(view: &View<'_>, relation: Oid, state: &mut OtherState) -> Result<(), CatalogError> {
    let mut fields = Vec::new();
    for row in attributes(view, relation)? {
        let data_type = row.oid("atttypid")?;
        state.references.push(data_type);
        let (text, _) = type_text(view, data_type, row.i32("atttypmod")?)?;
        let collation = collation(view, data_type, row.oid("attcollation")?)?;
        fields.push(Property::Parts(vec![
            ("name".to_owned(), Property::Text(row.name("attname")?)),
            ("type".to_owned(), Property::Text(text)),
            (
                "collation".to_owned(),
                collation.map_or(Property::Null, Property::Text),
            ),
        ]));
    }
    state.set("attributes", Property::List(fields));
    Ok(())
}

fn domain(view: &View<'_>, row: &Row<'_>, state: &mut OtherState) -> Result<(), CatalogError> {
    let base = row.oid("typbasetype")?;
    state.references.push(base);
    let (text, _) = type_text(view, base, row.i32("typtypmod")?)?;
    state.set("base_type", Property::Text(text));
    state.set("nullable", Property::Bool(!row.flag("typnotnull")?));
    let printer = Printer::new(*view, encoding(view)?, &[]);
    let default = row.value("typdefaultbin")?;
    let default = default.map_or(Expression::None, |stored| printer.text(&stored));
    state.set_expression("default", "default_unknown", default);
    let collation = collation(view, base, row.oid("typcollation")?)?;
    state.set(
        "collation",
        collation.map_or(Property::Null, Property::Text),
    );
    let mut constraints = Vec::new();
    for constraint in of_domain(view, state.oid, &printer)? {
        let mut parts = OtherState::default();
        parts.set("name", Property::Text(constraint.name));
        parts.set("kind", Property::Text(Name::from(constraint.kind.as_str())));
        parts.set_expression("definition", "expression_unknown", constraint.definition);
        constraints.push(Property::Parts(parts.properties));
    }
    state.set("constraints", Property::List(constraints));
    Ok(())
}
