//! JSON of structures: what DDL events and `describe` show of tables and other objects.

use super::object::{Object, push_object};
use crate::ddl::{
    ColumnShape, ConstraintShape, DdlEvent, Expression, IndexShape, ObjectShape, Property,
    TableName, TableShape,
};
use crate::value::digits::push_i64;
use crate::value::push_json_text;

/// Appends a table's structure as a JSON object; names are in `encoding`.
pub fn push_table_json(out: &mut Vec<u8>, encoding: i32, table: &TableShape) {
    push_object(out, encoding, |object| table_members(object, table));
}

/// Writes the members of a DDL event.
pub(super) fn ddl_members(object: &mut Object<'_>, ddl: &DdlEvent) {
    object.string("command", &ddl.command);
    object.string("object", &ddl.object);
    object.text_or_null("schema", ddl.schema.as_ref());
    object.text("name", ddl.name.as_bytes());
    if ddl.old_schema.is_some() {
        object.text_or_null("old_schema", ddl.old_schema.as_ref());
    }
    if ddl.old_name.is_some() {
        object.text_or_null("old_name", ddl.old_name.as_ref());
    }
    object.text_or_null("sql", ddl.sql.as_ref());
    object.list("columns_added", &ddl.columns_added, push_column);
    object.list("columns_dropped", &ddl.columns_dropped, push_column);
    object.list(
        "columns_altered",
        &ddl.columns_altered,
        |(before, after), encoding, out| {
            push_object(out, encoding, |object| {
                object.object("before", |object| column_members(object, before));
                object.object("after", |object| column_members(object, after));
            });
        },
    );
    for (key, shape) in [("before", &ddl.before), ("after", &ddl.after)] {
        match shape {
            None => object.null(key),
            Some(ObjectShape::Table(table)) => {
                object.object(key, |object| table_members(object, table));
            }
            Some(ObjectShape::Other(properties)) => {
                object.object(key, |object| property_members(object, properties));
            }
        }
    }
}

fn property_members(object: &mut Object<'_>, properties: &[(String, Property)]) {
    for (key, property) in properties {
        object.value(key, |encoding, out| push_property(property, encoding, out));
    }
}

fn push_property(property: &Property, encoding: i32, out: &mut Vec<u8>) {
    match property {
        Property::Null => out.extend_from_slice(b"null"),
        Property::Bool(true) => out.extend_from_slice(b"true"),
        Property::Bool(false) => out.extend_from_slice(b"false"),
        Property::Number(number) => push_i64(out, *number),
        Property::Text(text) => push_json_text(out, encoding, text.as_bytes()),
        Property::List(items) => {
            out.push(b'[');
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                push_property(item, encoding, out);
            }
            out.push(b']');
        }
        Property::Parts(parts) => {
            push_object(out, encoding, |object| property_members(object, parts));
        }
    }
}

fn table_members(object: &mut Object<'_>, table: &TableShape) {
    object.text("schema", table.schema.as_bytes());
    object.text("name", table.name.as_bytes());
    object.number("oid", table.oid.0.into());
    object.string("kind", &table.kind);
    object.list("columns", &table.columns, push_column);
    match &table.primary_key {
        None => object.null("primary_key"),
        Some(key) => object.object("primary_key", |object| {
            object.text("name", key.name.as_bytes());
            object.names("columns", &key.columns);
            definition_members(object, &key.definition);
        }),
    }
    object.list("constraints", &table.constraints, push_constraint);
    object.list("indexes", &table.indexes, push_index);
    object.string("replica_identity", &table.replica_identity);
    expression_members(
        object,
        "partition_key",
        &table.partition_key,
        "expression_unknown",
    );
    match &table.partition_of {
        None => object.null("partition_of"),
        Some((parent, bound)) => object.object("partition_of", |object| {
            table_name_members(object, parent);
            expression_members(object, "bound", bound, "expression_unknown");
        }),
    }
    object.list("inherits", &table.inherits, |parent, encoding, out| {
        push_object(out, encoding, |object| table_name_members(object, parent));
    });
    object.string("persistence", &table.persistence);
    object.text_or_null("tablespace", table.tablespace.as_ref());
    object.names("options", &table.options);
    if let Some(method) = &table.access_method {
        object.text("access_method", method.as_bytes());
        object.bool("undecodable", table.undecodable);
    }
}

/// The whole definition as the server writes it; left out where it cannot be given.
fn definition_members(object: &mut Object<'_>, definition: &Expression) {
    if let Expression::Sql(sql) = definition {
        object.text("definition", sql.as_bytes());
    }
}

fn table_name_members(object: &mut Object<'_>, name: &TableName) {
    object.text("schema", name.schema.as_bytes());
    object.text("table", name.table.as_bytes());
}

fn push_column(column: &ColumnShape, encoding: i32, out: &mut Vec<u8>) {
    push_object(out, encoding, |object| column_members(object, column));
}

fn column_members(object: &mut Object<'_>, column: &ColumnShape) {
    object.text("name", column.name.as_bytes());
    object.text("type", column.data_type.as_bytes());
    if column.modifier_unknown {
        object.bool("type_modifier_unknown", true);
    }
    object.bool("nullable", column.nullable);
    expression_members(object, "default", &column.default, "default_unknown");
    word_or_null(
        object,
        "generated",
        column.generated,
        [(b's', "stored"), (b'v', "virtual")],
    );
    word_or_null(
        object,
        "identity",
        column.identity,
        [(b'a', "always"), (b'd', "by default")],
    );
    object.text_or_null("collation", column.collation.as_ref());
    if let Some(sequence) = &column.sequence {
        object.object("sequence", |object| {
            object.text("schema", sequence.schema.as_bytes());
            object.text("name", sequence.table.as_bytes());
        });
    }
}

fn word_or_null(object: &mut Object<'_>, key: &str, letter: u8, words: [(u8, &str); 2]) {
    match words.iter().find(|(known, _)| *known == letter) {
        Some((_, word)) => object.string(key, word),
        None => object.null(key),
    }
}

fn push_constraint(constraint: &ConstraintShape, encoding: i32, out: &mut Vec<u8>) {
    push_object(out, encoding, |object| {
        object.text("name", constraint.name.as_bytes());
        object.string("kind", &constraint.kind);
        object.names("columns", &constraint.columns);
        match &constraint.references {
            None => object.null("references"),
            Some((table, columns)) => object.object("references", |object| {
                table_name_members(object, table);
                object.names("columns", columns);
            }),
        }
        if constraint.expression != Expression::None {
            expression_members(
                object,
                "expression",
                &constraint.expression,
                "expression_unknown",
            );
        }
        definition_members(object, &constraint.definition);
        if constraint.inherited {
            object.bool("inherited", true);
        }
    });
}

fn push_index(index: &IndexShape, encoding: i32, out: &mut Vec<u8>) {
    push_object(out, encoding, |object| {
        object.text("name", index.name.as_bytes());
        object.bool("unique", index.unique);
        object.list(
            "columns",
            &index.columns,
            |column, encoding, out| match column {
                Some(column) => push_json_text(out, encoding, column.as_bytes()),
                None => out.extend_from_slice(b"null"),
            },
        );
        if index.columns.contains(&None) {
            object.bool("expression_unknown", true);
        }
        definition_members(object, &index.definition);
        if let Some(parent) = &index.part_of {
            object.object("part_of", |object| {
                object.text("schema", parent.schema.as_bytes());
                object.text("name", parent.table.as_bytes());
            });
        }
    });
}

fn expression_members(
    object: &mut Object<'_>,
    key: &str,
    expression: &Expression,
    unknown_key: &str,
) {
    match expression {
        Expression::None => object.null(key),
        Expression::Sql(sql) => object.text(key, sql.as_bytes()),
        Expression::Unknown => {
            object.null(key);
            object.bool(unknown_key, true);
        }
    }
}
