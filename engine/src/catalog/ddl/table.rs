//! The whole structure of a table, or of anything else with columns.

use redostream_protocol::Oid;
use redostream_protocol::ddl::{ColumnShape, Expression, TableName, TableShape};
use redostream_protocol::schema::Name;

use super::super::CatalogError;
use super::super::layout::oid;
use super::super::view::{Row, View};
use super::constraint::{Constraints, constraints};
use super::expression::Printer;
use super::index::indexes;
use super::names::{collation_text, schema_name, table_name, type_text};
use super::partition;
use super::privileges::Privileges;
use super::state::TableState;
use super::values::texts;
use crate::catalog::resolve::foreign_access_method;
use crate::limits::CATALOG_OID_END;

/// `heap`, whose rows can be decoded.
// pg: catalog/pg_am.dat HEAP_TABLE_AM_OID [14-18]
const HEAP: Oid = Oid(2);

/// Describes a relation that has columns of its own.
pub(crate) fn describe(view: &View<'_>, class: &Row<'_>) -> Result<TableState, CatalogError> {
    let relation = class.oid("oid")?;
    let attributes = attributes(view, relation)?;
    let names: Vec<(i16, Name)> = attributes
        .iter()
        .map(|attribute| Ok((attribute.i16("attnum")?, attribute.name("attname")?)))
        .collect::<Result<_, CatalogError>>()?;
    let printer = Printer::new(*view, encoding(view)?, &names);
    let sequences = owned_sequences(view, relation)?;
    let defaults = defaults(view, relation, &printer)?;
    let mut state = TableState {
        privileges: Privileges::of(class, Some("relacl"), "table")?,
        ..TableState::default()
    };
    for (row, (number, name)) in attributes.iter().zip(&names) {
        let of_column = Privileges::of(row, Some("attacl"), "column")?;
        state.privileges.add(*number, of_column);
        let find = |list: &[(i16, Expression)]| {
            let found = list.iter().find(|(of, _)| of == number);
            found.map_or(Expression::None, |(_, expression)| expression.clone())
        };
        let sequence = sequences.iter().find(|(of, _)| of == number);
        let mut column = column(view, row, name.clone())?;
        column.default = find(&defaults);
        column.sequence = sequence.map(|(_, name)| name.clone());
        state.numbers.push(*number);
        state.types.push(row.oid("atttypid")?);
        state.shape.columns.push(column);
    }
    let found = constraints(view, relation, &printer)?;
    let found_indexes = indexes(view, relation, &printer, &found)?;
    fill(view, class, &printer, &mut state)?;
    let Constraints {
        primary, others, ..
    } = found;
    if let Some((oid, key)) = primary {
        state.primary = oid;
        state.shape.primary_key = Some(key);
    }
    for other in others {
        state.constraints.push(other.oid);
        state.references.extend(other.references);
        state.shape.constraints.push(other.shape);
    }
    for index in found_indexes {
        state.indexes.push((index.oid, index.of_constraint));
        state.shape.indexes.push(index.shape);
    }
    Ok(state)
}

/// What stands in the relation's own row.
fn fill(
    view: &View<'_>,
    class: &Row<'_>,
    printer: &Printer<'_, '_>,
    state: &mut TableState,
) -> Result<(), CatalogError> {
    let shape: &mut TableShape = &mut state.shape;
    let relation = class.oid("oid")?;
    let kind = class.byte("relkind")?;
    state.kind = kind;
    state.namespace = class.oid("relnamespace")?;
    state.rest = rest(view, class)?;
    shape.oid = relation;
    shape.schema = schema_name(view, state.namespace)?;
    shape.name = class.name("relname")?;
    shape.kind = kind_name(kind).to_owned();
    shape.replica_identity = match class.byte("relreplident")? {
        b'n' => "nothing",
        b'f' => "full",
        b'i' => "index",
        _ => "default",
    }
    .to_owned();
    shape.persistence = persistence(class.byte("relpersistence")?).to_owned();
    shape.tablespace = tablespace(view, class.oid("reltablespace")?)?;
    shape.options = texts(&class.value("reloptions")?.unwrap_or_default());
    shape.options.sort();
    if kind == b'p' {
        shape.partition_key = partition::key(view, relation, printer)?;
    }
    let method = class.oid("relam")?;
    if method.is_valid() && method != HEAP {
        let row = view.row_of(oid::AM, "oid", method)?;
        shape.access_method = row.map(|row| row.name("amname")).transpose()?;
        shape.undecodable = foreign_access_method(view, class)?.is_some();
    }
    let mut parents = Vec::new();
    for row in view.rows(oid::INHERITS, "inhrelid", relation.0)? {
        parents.push((row.i32("inhseqno")?, row.oid("inhparent")?));
    }
    parents.sort_unstable();
    let is_partition = class.flag("relispartition")?;
    for (_, parent) in parents {
        let Some(name) = table_name(view, parent)? else {
            continue;
        };
        state.references.push(parent);
        state.parents.push(parent);
        if is_partition {
            let bound = class.value("relpartbound")?;
            let bound = bound.map_or(Expression::Unknown, |bound| {
                partition::bound(&bound, printer)
            });
            shape.partition_of = Some((name, bound));
        } else {
            shape.inherits.push(name);
        }
    }
    Ok(())
}

/// Checksum of what is told of a relation and not described: its owner, row security, what a view
/// selects, and where a foreign table lies.
fn rest(view: &View<'_>, class: &Row<'_>) -> Result<u32, CatalogError> {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&class.oid("relowner")?.0.to_le_bytes());
    for flag in ["relrowsecurity", "relforcerowsecurity"] {
        sum.update(&[class.byte(flag)?]);
    }
    if matches!(class.byte("relkind")?, b'v' | b'm') {
        for rule in view.rows(oid::REWRITE, "ev_class", class.oid("oid")?.0)? {
            if rule.name("rulename")?.as_bytes() == b"_RETURN" {
                sum.update(&rule.value("ev_action")?.unwrap_or_default());
            }
        }
    }
    if class.byte("relkind")? == b'f' {
        foreign(view, class.oid("oid")?, &mut sum)?;
    }
    Ok(sum.finalize())
}

/// The server of a foreign table, and the options of it and of its columns.
fn foreign(view: &View<'_>, table: Oid, sum: &mut crc32fast::Hasher) -> Result<(), CatalogError> {
    if let Some(row) = view.row_of(oid::FOREIGN_TABLE, "ftrelid", table)? {
        sum.update(&row.checksum(None).to_le_bytes());
    }
    let mut options = Vec::new();
    for column in view.rows(oid::ATTRIBUTE, "attrelid", table.0)? {
        if let Some(set) = column.value("attfdwoptions")? {
            options.push((column.i16("attnum")?, set.to_vec()));
        }
    }
    options.sort_unstable();
    for (number, set) in options {
        sum.update(&number.to_le_bytes());
        sum.update(&set);
    }
    Ok(())
}

/// The name of a tablespace, if it is not the database's.
pub(crate) fn tablespace(view: &View<'_>, oid: Oid) -> Result<Option<Name>, CatalogError> {
    if !oid.is_valid() {
        return Ok(None);
    }
    let row = view.row_of(oid::TABLESPACE, "oid", oid)?;
    row.map(|row| row.name("spcname")).transpose()
}

// pg: catalog/pg_class.h RELPERSISTENCE_* [14-18]
pub(crate) const fn persistence(letter: u8) -> &'static str {
    match letter {
        b'u' => "unlogged",
        b't' => "temporary",
        _ => "permanent",
    }
}

// pg: catalog/pg_class.h RELKIND_* [14-18]
const fn kind_name(kind: u8) -> &'static str {
    match kind {
        b'p' => "partitioned_table",
        b'v' => "view",
        b'm' => "materialized_view",
        b'f' => "foreign_table",
        b'c' => "composite_type",
        _ => "table",
    }
}

/// The encoding of the view's database.
pub(crate) fn encoding(view: &View<'_>) -> Result<i32, CatalogError> {
    let row = view.row_of(oid::DATABASE, "oid", view.database)?;
    row.map_or(Ok(6), |row| row.i32("encoding"))
}

/// The rows of a relation's live attributes, in order.
pub(crate) fn attributes<'a>(view: &View<'a>, relation: Oid) -> Result<Vec<Row<'a>>, CatalogError> {
    let mut rows = Vec::new();
    for row in view.rows(oid::ATTRIBUTE, "attrelid", relation.0)? {
        let number = row.i16("attnum")?;
        if number > 0 && !row.flag("attisdropped")? {
            rows.push((number, row));
        }
    }
    rows.sort_by_key(|(number, _)| *number);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

fn column(view: &View<'_>, row: &Row<'_>, name: Name) -> Result<ColumnShape, CatalogError> {
    let data_type = row.oid("atttypid")?;
    let (text, modifier_unknown) = type_text(view, data_type, row.i32("atttypmod")?)?;
    Ok(ColumnShape {
        name,
        data_type: text,
        modifier_unknown,
        nullable: !row.flag("attnotnull")?,
        default: Expression::None,
        generated: row.byte("attgenerated")?,
        identity: row.byte("attidentity")?,
        collation: collation(view, data_type, row.oid("attcollation")?)?,
        sequence: None,
    })
}

/// A collation's name, if it is not the type's own.
pub(crate) fn collation(
    view: &View<'_>,
    data_type: Oid,
    collation: Oid,
) -> Result<Option<Name>, CatalogError> {
    if !collation.is_valid() {
        return Ok(None);
    }
    let of_type = match view.row_of(oid::TYPE, "oid", data_type)? {
        Some(row) => row.oid("typcollation")?,
        None => Oid::INVALID,
    };
    if of_type == collation {
        return Ok(None);
    }
    collation_text(view, collation)
}

fn defaults(
    view: &View<'_>,
    relation: Oid,
    printer: &Printer<'_, '_>,
) -> Result<Vec<(i16, Expression)>, CatalogError> {
    let mut defaults = Vec::new();
    for row in view.rows(oid::ATTRDEF, "adrelid", relation.0)? {
        let stored = row.value("adbin")?.unwrap_or_default();
        defaults.push((row.i16("adnum")?, printer.text(&stored)));
    }
    Ok(defaults)
}

/// The sequences that belong to columns.
// pg: catalog/dependency.h DEPENDENCY_AUTO, DEPENDENCY_INTERNAL [14-18]
fn owned_sequences(view: &View<'_>, relation: Oid) -> Result<Vec<(i16, TableName)>, CatalogError> {
    let mut sequences = Vec::new();
    if relation.0 < CATALOG_OID_END {
        return Ok(sequences);
    }
    for row in view.rows(oid::DEPEND, "refobjid", relation.0)? {
        let column = row.i32("refobjsubid")?;
        let belongs = matches!(row.byte("deptype")?, b'a' | b'i')
            && row.oid("refclassid")? == oid::CLASS
            && row.oid("classid")? == oid::CLASS
            && column > 0;
        if !belongs {
            continue;
        }
        let sequence = row.oid("objid")?;
        let Some(class) = view.row_of(oid::CLASS, "oid", sequence)? else {
            continue;
        };
        if class.byte("relkind")? == b'S'
            && let (Ok(column), Some(name)) = (i16::try_from(column), table_name(view, sequence)?)
        {
            sequences.push((column, name));
        }
    }
    sequences.sort_by(|one, other| (one.0, &one.1.table).cmp(&(other.0, &other.1.table)));
    Ok(sequences)
}
