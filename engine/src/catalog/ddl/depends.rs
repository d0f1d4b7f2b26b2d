//! What an object needs to be there, by the catalog of dependencies: as long as it does, what it
//! needs cannot be dropped.

use redostream_protocol::Oid;

use super::super::CatalogError;
use super::super::layout::oid;
use super::super::view::View;
use super::state::State;
use super::touched::Touched;

/// A dependency that keeps what is depended on from being dropped.
// pg: catalog/dependency.h DEPENDENCY_NORMAL [14-18]
const NORMAL: u8 = b'n';

/// What a change's object needs before it and after it, by OID.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    pub(crate) before: Vec<Oid>,
    pub(crate) after: Vec<Oid>,
}

/// What an object needs in this view: also its defaults, constraints and indexes, and what a view
/// selects.
pub(crate) fn needed(
    view: &View<'_>,
    key: Touched,
    state: Option<&State>,
) -> Result<Vec<Oid>, CatalogError> {
    let mut needed = Vec::new();
    // A comment needs its object and nothing else.
    if state.is_none() || key.class.is_valid() {
        return Ok(needed);
    }
    for (catalog, object) in members(view, key, state)? {
        for row in view.rows(oid::DEPEND, "objid", object.0)? {
            if row.oid("classid")? != catalog || row.byte("deptype")? != NORMAL {
                continue;
            }
            let other = row.oid("refobjid")?;
            needed.push(other);
            if row.oid("refclassid")? == oid::TYPE {
                needed.extend(behind_type(view, other)?);
            }
        }
    }
    needed.sort_unstable();
    needed.dedup();
    Ok(needed)
}

/// The object and its parts that have dependencies of their own, each with its catalog.
fn members(
    view: &View<'_>,
    key: Touched,
    state: Option<&State>,
) -> Result<Vec<(Oid, Oid)>, CatalogError> {
    let mut members = vec![(key.catalog, key.oid)];
    let mut add = |catalog, parent| -> Result<(), CatalogError> {
        for row in view.rows(catalog, parent, key.oid.0)? {
            members.push((catalog, row.oid("oid")?));
        }
        Ok(())
    };
    if let Some(State::Table(table)) = state {
        add(oid::ATTRDEF, "adrelid")?;
        add(oid::CONSTRAINT, "conrelid")?;
        add(oid::REWRITE, "ev_class")?;
        let indexes = table.indexes.iter();
        members.extend(indexes.map(|(index, _)| (oid::CLASS, *index)));
    } else if key.catalog == oid::TYPE {
        add(oid::CONSTRAINT, "contypid")?;
    }
    Ok(members)
}

/// The table whose rows a type is, and the element of an array type.
fn behind_type(view: &View<'_>, data_type: Oid) -> Result<Vec<Oid>, CatalogError> {
    let mut found = Vec::new();
    let mut next = Some(data_type);
    // An array type leads to its element, and no further.
    for _ in 0..2 {
        let Some(row) = next
            .map(|of| view.row_of(oid::TYPE, "oid", of))
            .transpose()?
        else {
            break;
        };
        let Some(row) = row else { break };
        let (table, element) = (row.oid("typrelid")?, row.oid("typelem")?);
        found.extend([table, element].into_iter().filter(|oid| oid.is_valid()));
        next = element.is_valid().then_some(element);
    }
    Ok(found)
}
