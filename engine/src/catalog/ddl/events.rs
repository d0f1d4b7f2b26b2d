//! From two states of an object to the events that lead from one to the other.

use redostream_protocol::Oid;
use redostream_protocol::ddl::{DdlEvent, ObjectShape, Property, TableShape};
use redostream_protocol::schema::Name;

use super::super::layout::oid;
use super::state::{OtherState, State, TableState};

/// Appends the events of the change of one object, which is told of by its row in `catalog`.
pub(crate) fn of_change(
    before: Option<&State>,
    after: Option<&State>,
    catalog: Oid,
    events: &mut Vec<DdlEvent>,
) {
    match (before, after) {
        (Some(State::Table(before)), Some(State::Table(after))) => {
            of_table(before, after, events);
        }
        (before, after) => {
            if let (Some(State::Other(before)), Some(State::Other(after))) = (before, after) {
                privileges(
                    (before.privileges.list, before.privileges.count),
                    (after.privileges.list, after.privileges.count),
                    named_after(State::Other(after.clone())),
                    events,
                );
                if same_but_privileges(before, after) {
                    return;
                }
            }
            let Some(named) = after.or(before) else {
                return;
            };
            let verb = match (before, after) {
                (None, _) => "CREATE",
                (_, None) => "DROP",
                _ => "ALTER",
            };
            let mut event = named_after(named.clone());
            event.command = match catalog {
                oid::DESCRIPTION => "COMMENT".to_owned(),
                oid::SECURITY_LABEL => "SECURITY LABEL".to_owned(),
                oid::DEFAULT_ACL => "ALTER DEFAULT PRIVILEGES".to_owned(),
                _ => format!("{verb} {}", event.object.to_uppercase()),
            };
            event.before = before.map(shape);
            event.after = after.map(shape);
            note_old_names(before, after, &mut event);
            events.push(event);
        }
    }
}

fn same_but_privileges(before: &OtherState, after: &OtherState) -> bool {
    OtherState {
        privileges: after.privileges,
        ..before.clone()
    } == *after
}

fn named_after(state: State) -> DdlEvent {
    DdlEvent {
        object: state.object().to_owned(),
        schema: state.schema().cloned(),
        name: state.name().clone(),
        ..DdlEvent::default()
    }
}

fn shape(state: &State) -> ObjectShape {
    match state {
        State::Table(table) => ObjectShape::Table(Box::new(table.shape.clone())),
        State::Other(other) => {
            let mut properties = Vec::with_capacity(other.properties.len() + 3);
            if let Some(schema) = &other.schema {
                properties.push(("schema".to_owned(), Property::Text(schema.clone())));
            }
            properties.push(("name".to_owned(), Property::Text(other.name.clone())));
            properties.push(("oid".to_owned(), Property::Number(other.oid.0.into())));
            properties.extend(other.properties.iter().cloned());
            ObjectShape::Other(properties)
        }
    }
}

fn note_old_names(before: Option<&State>, after: Option<&State>, event: &mut DdlEvent) {
    let (Some(before), Some(after)) = (before, after) else {
        return;
    };
    if before.name() != after.name() {
        event.old_name = Some(before.name().clone());
    }
    if before.schema() != after.schema() {
        event.old_schema = before.schema().cloned();
    }
}

/// A grant or a revocation, if the list of privileges changed.
fn privileges(
    before: (u32, u32),
    after: (u32, u32),
    mut event: DdlEvent,
    events: &mut Vec<DdlEvent>,
) {
    if before.0 == after.0 {
        return;
    }
    let command = if after.1 >= before.1 {
        "GRANT"
    } else {
        "REVOKE"
    };
    command.clone_into(&mut event.command);
    events.push(event);
}

fn of_table(before: &TableState, after: &TableState, events: &mut Vec<DdlEvent>) {
    let state = State::Table(Box::new(after.clone()));
    privileges(
        (before.privileges.list, before.privileges.count),
        (after.privileges.list, after.privileges.count),
        named_after(state.clone()),
        events,
    );
    let same_rest = before.rest == after.rest;
    if before.shape == after.shape && same_rest {
        return;
    }
    if same_rest && same_but_indexes(before, after) {
        of_indexes(before, after, events);
        return;
    }
    let mut event = named_after(state.clone());
    event.command = format!("ALTER {}", event.object.to_uppercase());
    columns(before, after, &mut event);
    let old = State::Table(Box::new(before.clone()));
    note_old_names(Some(&old), Some(&state), &mut event);
    event.before = Some(shape(&old));
    event.after = Some(shape(&state));
    events.push(event);
}

/// Whether two states differ in nothing but indexes that no constraint stands for.
fn same_but_indexes(before: &TableState, after: &TableState) -> bool {
    let of_constraints = |state: &TableState| -> Vec<_> {
        let all = state.indexes.iter().zip(&state.shape.indexes);
        all.filter(|((_, of_constraint), _)| *of_constraint)
            .map(|(_, shape)| shape.clone())
            .collect()
    };
    let with_indexes = |state: &TableState| TableShape {
        indexes: of_constraints(state),
        ..state.shape.clone()
    };
    with_indexes(before) == with_indexes(after)
}

/// An event for each index that differs; each leads from the table as the last one left it.
fn of_indexes(before: &TableState, after: &TableState, events: &mut Vec<DdlEvent>) {
    let mut now = before.clone();
    let position = |state: &TableState, oid| state.indexes.iter().position(|(of, _)| *of == oid);
    let mut step = |now: &mut TableState,
                    command: &str,
                    name: &Name,
                    change: &mut dyn FnMut(&mut TableState)| {
        let was = now.shape.clone();
        change(now);
        events.push(DdlEvent {
            command: command.to_owned(),
            object: "index".to_owned(),
            schema: Some(after.shape.schema.clone()),
            name: name.clone(),
            before: Some(ObjectShape::Table(Box::new(was))),
            after: Some(ObjectShape::Table(Box::new(now.shape.clone()))),
            ..DdlEvent::default()
        });
    };
    for ((oid, _), shape) in before.indexes.iter().zip(&before.shape.indexes) {
        // REINDEX CONCURRENTLY puts an index with another OID in the same place.
        let replaced = after.shape.indexes.contains(shape);
        if position(after, *oid).is_none() && !replaced {
            step(&mut now, "DROP INDEX", &shape.name, &mut |now| {
                if let Some(at) = position(now, *oid) {
                    now.indexes.remove(at);
                    now.shape.indexes.remove(at);
                }
            });
        }
    }
    let mut renamed = Vec::new();
    for (index, shape) in after.indexes.iter().zip(&after.shape.indexes) {
        match position(&now, index.0) {
            Some(at) if now.shape.indexes.get(at) == Some(shape) => {}
            Some(at) => {
                let old = now.shape.indexes[at].name.clone();
                step(&mut now, "ALTER INDEX", &shape.name, &mut |now| {
                    now.shape.indexes[at] = shape.clone();
                });
                if old != shape.name {
                    renamed.push((shape.name.clone(), old));
                }
            }
            None if now.shape.indexes.contains(shape) => {}
            None => step(&mut now, "CREATE INDEX", &shape.name, &mut |now| {
                now.indexes.push(*index);
                now.shape.indexes.push(shape.clone());
                // Kept by name, as a whole description is.
                let mut both: Vec<_> = std::mem::take(&mut now.indexes)
                    .into_iter()
                    .zip(std::mem::take(&mut now.shape.indexes))
                    .collect();
                both.sort_by(|one, other| one.1.name.cmp(&other.1.name));
                (now.indexes, now.shape.indexes) = both.into_iter().unzip();
            }),
        }
    }
    for event in events.iter_mut() {
        let old = renamed.iter().find(|(name, _)| *name == event.name);
        if let (Some((_, old)), "ALTER INDEX") = (old, event.command.as_str()) {
            event.old_name = Some(old.clone());
        }
    }
}

/// The columns that a change concerns, told apart by number: a name may come again.
fn columns(before: &TableState, after: &TableState, event: &mut DdlEvent) {
    let numbered = |state: &TableState| -> Vec<_> {
        let all = state.numbers.iter().copied();
        all.zip(state.shape.columns.iter().cloned()).collect()
    };
    let (old, new) = (numbered(before), numbered(after));
    for (number, column) in &old {
        match new.iter().find(|(other, _)| other == number) {
            None => event.columns_dropped.push(column.clone()),
            Some((_, now)) if now != column => {
                event.columns_altered.push((column.clone(), now.clone()));
            }
            Some(_) => {}
        }
    }
    for (number, column) in new {
        if !old.iter().any(|(other, _)| *other == number) {
            event.columns_added.push(column);
        }
    }
}
