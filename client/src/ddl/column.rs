//! Columns as SQL.

use redostream_protocol::ddl::{ColumnShape, ConstraintShape};

use super::{ident, sql, table_name};

/// A column as CREATE TABLE and ADD COLUMN have it.
pub(super) fn definition(
    column: &ColumnShape,
    constraints: &[ConstraintShape],
) -> Result<String, String> {
    if column.modifier_unknown {
        return Err(format!(
            "the modifier of {}'s type is not known",
            column.name
        ));
    }
    let mut out = format!("{} {}", ident(&column.name), column.data_type);
    if let Some(collation) = &column.collation {
        out.push_str(&format!(" COLLATE {collation}"));
    }
    let default = sql(&column.default, &format!("the default of {}", column.name))?;
    match (column.generated, column.identity, default) {
        (b's', _, Some(text)) => out.push_str(&format!(" GENERATED ALWAYS AS ({text}) STORED")),
        (b'v', _, Some(text)) => out.push_str(&format!(" GENERATED ALWAYS AS ({text}) VIRTUAL")),
        (_, 0, Some(text)) => out.push_str(&format!(" DEFAULT {text}")),
        (_, 0, None) => {}
        (_, identity, _) => out.push_str(&format!(" {}", self::identity(column, identity))),
    }
    if !column.nullable && !has_constraint(column, constraints) {
        out.push_str(" NOT NULL");
    }
    Ok(out)
}

/// Whether a named constraint says that the column is not null.
fn has_constraint(column: &ColumnShape, constraints: &[ConstraintShape]) -> bool {
    let mut all = constraints.iter();
    all.any(|constraint| constraint.kind == "not_null" && constraint.columns.contains(&column.name))
}

fn identity(column: &ColumnShape, letter: u8) -> String {
    let how = if letter == b'a' {
        "ALWAYS"
    } else {
        "BY DEFAULT"
    };
    match &column.sequence {
        Some(sequence) => {
            let name = table_name(sequence);
            format!("GENERATED {how} AS IDENTITY (SEQUENCE NAME {name})")
        }
        None => format!("GENERATED {how} AS IDENTITY"),
    }
}

/// The sequence of a `serial` column has to be there before its default names it.
pub(super) fn sequence(column: &ColumnShape) -> Option<String> {
    let sequence = column.sequence.as_ref().filter(|_| column.identity == 0)?;
    let data_type = match column.data_type.lossy().as_ref() {
        "smallint" => " AS smallint",
        "integer" => " AS integer",
        _ => "",
    };
    let name = table_name(sequence);
    Some(format!("CREATE SEQUENCE IF NOT EXISTS {name}{data_type}"))
}

/// What makes the sequence the column's.
pub(super) fn sequence_owner(column: &ColumnShape, table: &str) -> Option<String> {
    let sequence = column.sequence.as_ref().filter(|_| column.identity == 0)?;
    let (name, column) = (table_name(sequence), ident(&column.name));
    Some(format!("ALTER SEQUENCE {name} OWNED BY {table}.{column}"))
}

/// Changes of a column that keeps its number, as actions of ALTER TABLE.
pub(super) fn changes(
    before: &ColumnShape,
    after: &ColumnShape,
    constraints: &[ConstraintShape],
) -> Result<Vec<String>, String> {
    let name = ident(&after.name);
    let alter = |action: String| format!("ALTER COLUMN {name} {action}");
    let mut actions = Vec::new();
    let retyped = before.data_type != after.data_type || before.collation != after.collation;
    let default = sql(&after.default, &format!("the default of {}", after.name))?;
    let redefaulted = before.default != after.default && after.generated == 0;
    if (retyped || redefaulted) && before.default != Default::default() && before.generated == 0 {
        actions.push(alter("DROP DEFAULT".to_owned()));
    }
    if before.generated != 0 && after.generated == 0 {
        actions.push(alter("DROP EXPRESSION".to_owned()));
    }
    if retyped {
        let collate = match &after.collation {
            Some(collation) => format!(" COLLATE {collation}"),
            None => String::new(),
        };
        let data_type = &after.data_type;
        actions.push(alter(format!(
            "TYPE {data_type}{collate} USING {name}::{data_type}"
        )));
    }
    if after.generated != 0 && before.default != after.default && !retyped {
        let text = default.clone().unwrap_or_default();
        actions.push(alter(format!("SET EXPRESSION AS ({text})")));
    }
    if (retyped || redefaulted) && after.generated == 0 && after.identity == 0 {
        actions.extend(default.map(|text| alter(format!("SET DEFAULT {text}"))));
    }
    if before.nullable != after.nullable && !has_constraint(after, constraints) {
        let action = if after.nullable {
            "DROP NOT NULL"
        } else {
            "SET NOT NULL"
        };
        actions.push(alter(action.to_owned()));
    }
    match (before.identity, after.identity) {
        (one, other) if one == other => {}
        (0, letter) => actions.push(alter(format!("ADD {}", identity(after, letter)))),
        (_, 0) => actions.push(alter("DROP IDENTITY".to_owned())),
        (_, b'a') => actions.push(alter("SET GENERATED ALWAYS".to_owned())),
        _ => actions.push(alter("SET GENERATED BY DEFAULT".to_owned())),
    }
    Ok(actions)
}
