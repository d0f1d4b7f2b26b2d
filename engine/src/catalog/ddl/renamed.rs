//! What others that an object names are called afterwards. Who renames a schema, a type or a parent
//! table has that told as a change of its own; an object that changes in the same transaction, or in
//! one during which it was renamed, is not moved by it, retyped or taken from its parent.

use redostream_protocol::Oid;
use redostream_protocol::ddl::{ConstraintShape, Expression, IndexShape, TableName};
use redostream_protocol::render::identifier::push_identifier;
use redostream_protocol::schema::Name;

use super::state::{State, TableState};
use crate::limits::CATALOG_OID_END;

/// Gives others in the state before a change the names that they have after it.
pub(crate) fn follow(before: &mut State, after: &State, major: u16) {
    match (before, after) {
        (State::Table(before), State::Table(after)) => {
            Names { major }.of_table(before, after);
        }
        (State::Other(before), State::Other(after)) => {
            // What is a part of a table stands in its schema.
            let of_table = before.table == after.table && before.table.is_valid();
            let same = if before.namespace.is_valid() || after.namespace.is_valid() {
                before.namespace == after.namespace
            } else {
                of_table
            };
            if same {
                before.schema.clone_from(&after.schema);
            }
        }
        _ => {}
    }
}

/// Names as definitions have them.
struct Names {
    major: u16,
}

impl Names {
    fn of_table(&self, before: &mut TableState, after: &TableState) {
        if before.namespace == after.namespace && before.shape.schema != after.shape.schema {
            let old = before.shape.schema.clone();
            let called = |schema: &Name| TableName {
                schema: schema.clone(),
                table: before.shape.name.clone(),
            };
            let (was, is) = (called(&old), called(&after.shape.schema));
            for index in &mut before.shape.indexes {
                self.reword(&mut index.definition, " ON ", &was, &is);
                self.reword(&mut index.definition, " ON ONLY ", &was, &is);
            }
            before.shape.schema.clone_from(&after.shape.schema);
        }
        parents(before, after);
        columns(before, after);
        let constraints = before.constraints.iter();
        for (oid, shape) in constraints.zip(&mut before.shape.constraints) {
            if let Some(other) = at(*oid, &after.constraints, &after.shape.constraints) {
                self.of_constraint(shape, other);
            }
        }
        if before.parents == after.parents {
            let wholes = |state: &TableState| -> Vec<Oid> {
                state.indexes.iter().map(|(oid, _)| *oid).collect()
            };
            let (old, new) = (wholes(before), wholes(after));
            for (oid, shape) in old.iter().zip(&mut before.shape.indexes) {
                if let Some(other) = at(*oid, &new, &after.shape.indexes) {
                    of_index(shape, other);
                }
            }
        }
    }

    /// A foreign key keeps the table that it names.
    fn of_constraint(&self, before: &mut ConstraintShape, after: &ConstraintShape) {
        let (Some((was, _)), Some((is, _))) = (&mut before.references, &after.references) else {
            return;
        };
        if was != is {
            self.reword(&mut before.definition, " REFERENCES ", was, is);
            was.clone_from(is);
        }
    }

    /// Another name for a table in a definition, behind the words that it follows.
    fn reword(&self, text: &mut Expression, words: &str, was: &TableName, is: &TableName) {
        let Expression::Sql(sql) = text else {
            return;
        };
        let named = |name: &TableName| {
            let mut out = words.as_bytes().to_vec();
            push_identifier(&mut out, name.schema.as_bytes(), self.major);
            out.push(b'.');
            push_identifier(&mut out, name.table.as_bytes(), self.major);
            out
        };
        let (was, is) = (named(was), named(is));
        let found = sql.0.windows(was.len()).position(|part| part == was);
        if let Some(start) = found {
            sql.0.splice(start..start + was.len(), is);
        }
    }
}

/// The shape of a part, by its OID.
fn at<'s, S>(oid: Oid, oids: &[Oid], shapes: &'s [S]) -> Option<&'s S> {
    let found = oids.iter().position(|other| *other == oid)?;
    shapes.get(found)
}

fn parents(before: &mut TableState, after: &TableState) {
    if let (Some((was, _)), Some((is, _))) =
        (&mut before.shape.partition_of, &after.shape.partition_of)
        && before.parents == after.parents
    {
        was.clone_from(is);
    }
    for (oid, name) in before.parents.iter().zip(&mut before.shape.inherits) {
        if let Some(other) = at(*oid, &after.parents, &after.shape.inherits) {
            name.clone_from(other);
        }
    }
}

/// The names of types that somebody made, and of the columns' own sequences, which go with a table
/// that is moved. Of a type with a modifier it is not known whether that is the change.
fn columns(before: &mut TableState, after: &TableState) {
    let old = before.numbers.iter().zip(&before.types);
    for ((number, data_type), column) in old.zip(&mut before.shape.columns) {
        let found = after.numbers.iter().position(|other| other == number);
        let Some((found, other)) = found.and_then(|at| Some((at, after.shape.columns.get(at)?)))
        else {
            continue;
        };
        let bare = |name: &Name| !name.as_bytes().ends_with(b")");
        if after.types.get(found) == Some(data_type)
            && data_type.0 >= CATALOG_OID_END
            && bare(&column.data_type)
            && bare(&other.data_type)
        {
            column.data_type.clone_from(&other.data_type);
        }
        if let (Some(was), Some(is)) = (&mut column.sequence, &other.sequence)
            && before.namespace == after.namespace
            && was.table == is.table
        {
            was.clone_from(is);
        }
    }
}

fn of_index(before: &mut IndexShape, after: &IndexShape) {
    if let (Some(was), Some(is)) = (&mut before.part_of, &after.part_of) {
        was.clone_from(is);
    }
}

#[cfg(test)]
mod tests {
    use redostream_protocol::ddl::{ColumnShape, TableShape};

    use super::*;

    fn table(schema: &str, data_type: (u32, &str), parent: (u32, &str)) -> State {
        let name = |table: &str| TableName {
            schema: Name::from(schema),
            table: Name::from(table),
        };
        let definition = |sql: String| Expression::Sql(Name(sql.into_bytes()));
        State::Table(Box::new(TableState {
            namespace: Oid(20000),
            numbers: vec![1],
            types: vec![Oid(data_type.0)],
            constraints: vec![Oid(20001)],
            indexes: vec![(Oid(20002), false)],
            parents: vec![Oid(parent.0)],
            shape: TableShape {
                schema: Name::from(schema),
                name: Name::from("t"),
                columns: vec![ColumnShape {
                    data_type: Name::from(data_type.1),
                    ..ColumnShape::default()
                }],
                constraints: vec![ConstraintShape {
                    references: Some((name(parent.1), Vec::new())),
                    definition: definition(format!(
                        "FOREIGN KEY (a) REFERENCES {schema}.{}(id)",
                        parent.1
                    )),
                    ..ConstraintShape::default()
                }],
                indexes: vec![IndexShape {
                    definition: definition(format!("CREATE INDEX i ON {schema}.t USING btree (a)")),
                    ..IndexShape::default()
                }],
                inherits: vec![name(parent.1)],
                ..TableShape::default()
            },
            ..TableState::default()
        }))
    }

    #[test]
    fn names_of_others_are_no_change() {
        let mut before = table("s", (30000, "s.kind"), (40000, "base"));
        let after = table("r", (30000, "r.sort"), (40000, "root"));
        follow(&mut before, &after, 18);
        assert_eq!(before, after);
    }

    #[test]
    fn others_are_a_change() {
        // Another type, another modifier of the same type, another parent, another schema.
        let kept = |before: State, after: &State| {
            let mut followed = before.clone();
            follow(&mut followed, after, 18);
            assert_eq!(followed, before);
        };
        let before = || table("s", (30000, "s.kind"), (40000, "base"));
        kept(before(), &table("s", (30001, "s.sort"), (40000, "base")));
        let modified = table("s", (30000, "s.kind(1)"), (40000, "base"));
        kept(modified, &table("s", (30000, "s.kind(2)"), (40000, "base")));
        let other = table("r", (30000, "s.kind"), (40001, "other"));
        let (State::Table(mut before), State::Table(mut after)) = (before(), other) else {
            panic!("both are tables");
        };
        after.namespace = Oid(20009);
        before.shape.constraints.clear();
        kept(State::Table(before), &State::Table(after));
    }
}
