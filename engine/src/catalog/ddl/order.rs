//! An order in which changes can be applied: what is used is made before, and dropped after, what
//! uses it; a name is free before it is taken.

use std::collections::{BTreeMap, BTreeSet};

use redostream_protocol::Oid;
use redostream_protocol::ddl::TableName;
use redostream_protocol::schema::Name;
use rustc_hash::FxHashMap;

use super::depends::Needs;
use super::state::State;
use super::touched::Touched;

/// A change of one object.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) key: Touched,
    pub(crate) before: Option<State>,
    pub(crate) after: Option<State>,
    /// As committed to everybody.
    pub(crate) committed: Option<State>,
    /// It is a part of another change, and not told by itself.
    pub(crate) hidden: bool,
    /// What it needs beside what its states name.
    pub(crate) needs: Needs,
}

/// Brings changes into order. Deterministic; where there is a circle, it is cut by rank, and foreign
/// keys of which it is made are told apart from their tables.
pub(crate) fn ordered(changes: Vec<Change>) -> Vec<Change> {
    if changes.len() < 2 {
        return changes;
    }
    let edges = edges(&changes);
    let mut waits = vec![0_usize; changes.len()];
    for (_, later) in &edges {
        waits[*later] += 1;
    }
    let mut follow: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut needs: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (earlier, later) in edges {
        follow.entry(earlier).or_default().push(later);
        needs.entry(later).or_default().push(earlier);
    }
    let ranks: Vec<_> = changes.iter().map(rank).collect();
    let mut ready: BTreeSet<((u8, u32), usize)> = BTreeSet::new();
    let mut left: BTreeSet<((u8, u32), usize)> = BTreeSet::new();
    for (number, rank) in ranks.iter().enumerate() {
        let place = (*rank, number);
        left.insert(place);
        if waits[number] == 0 {
            ready.insert(place);
        }
    }
    let mut changes: Vec<_> = changes.into_iter().map(Some).collect();
    let mut order = Vec::with_capacity(changes.len());
    // Foreign keys of tables that were made without them, until what they name is there.
    let mut owed: Vec<Change> = Vec::new();
    while let Some(next) = ready.pop_first().or_else(|| left.first().copied()) {
        if !left.contains(&next) {
            continue;
        }
        if waits[next.1] > 0
            && let Some(mut change) = changes[next.1].take()
        {
            // A circle. Tables that name each other are told with their foreign keys apart.
            let used = match change.after {
                Some(_) => needs.get(&next.1),
                None => follow.get(&next.1),
            };
            let used = used
                .into_iter()
                .flatten()
                .filter_map(|other| changes[*other].as_ref());
            let apart = split(&mut change, &used.collect::<Vec<_>>());
            let gone = change.after.is_none();
            changes[next.1] = Some(change);
            match apart {
                // The keys go first, and the table when nobody uses it any more.
                Some(apart) if gone => {
                    order.push(apart);
                    for later in follow.remove(&next.1).into_iter().flatten() {
                        waits[later] = waits[later].saturating_sub(1);
                        let place = (ranks[later], later);
                        if waits[later] == 0 && left.contains(&place) {
                            ready.insert(place);
                        }
                    }
                    continue;
                }
                apart => owed.extend(apart),
            }
        }
        left.remove(&next);
        order.extend(changes[next.1].take());
        for later in follow.remove(&next.1).into_iter().flatten() {
            waits[later] = waits[later].saturating_sub(1);
            let place = (ranks[later], later);
            if waits[later] == 0 && left.contains(&place) {
                ready.insert(place);
            }
        }
    }
    order.extend(owed);
    order
}

/// Takes out of a table that is made or dropped its foreign keys to `others`; what it takes to add
/// them once those are made, or to drop them before those are dropped.
fn split(change: &mut Change, others: &[&Change]) -> Option<Change> {
    let made = change.before.is_none();
    let whole = match (&change.before, &change.after) {
        (None, Some(State::Table(table))) | (Some(State::Table(table)), None) => table,
        _ => return None,
    };
    let named = |reference: &TableName| {
        let states = others.iter().filter_map(|other| match made {
            true => other.after.as_ref(),
            false => other.before.as_ref(),
        });
        let mut names = states.map(|state| (state.schema(), state.name()));
        names.any(|name| name == (Some(&reference.schema), &reference.table))
    };
    let (mut rest, whole) = (whole.clone(), whole.clone());
    let all = whole.constraints.iter().zip(&whole.shape.constraints);
    let kept = all.filter(|(_, shape)| {
        let references = shape.references.as_ref();
        !references.is_some_and(|(table, _)| named(table))
    });
    (rest.constraints, rest.shape.constraints) =
        kept.map(|(oid, shape)| (*oid, shape.clone())).unzip();
    if rest == whole {
        return None;
    }
    let (rest, whole) = (Some(State::Table(rest)), Some(State::Table(whole)));
    let (before, after) = if made {
        change.after.clone_from(&rest);
        (rest, whole)
    } else {
        change.before.clone_from(&rest);
        (whole, rest)
    };
    Some(Change {
        key: change.key,
        before,
        after,
        committed: change.committed.clone(),
        hidden: change.hidden,
        needs: change.needs.clone(),
    })
}

/// Drops go from what uses to what is used, newest first; everything else the other way round.
fn rank(change: &Change) -> (u8, u32) {
    let (oid, state) = (
        change.key.oid.0,
        change.after.as_ref().or(change.before.as_ref()),
    );
    let object = state.map_or("", State::object);
    if change.after.is_none() {
        let rank = match object {
            "trigger" | "policy" | "rule" | "statistics" => 0,
            "view" | "materialized view" => 1,
            "table" | "foreign table" => 2,
            "function" | "procedure" | "aggregate" | "operator" => 3,
            "sequence" => 4,
            "type" | "domain" => 5,
            "schema" => 7,
            _ => 6,
        };
        return (rank, u32::MAX - oid);
    }
    let comment = change.key.class.is_valid();
    let rank = match object {
        _ if comment => 20,
        "schema" => 10,
        "extension" => 11,
        "type" | "domain" => 12,
        "sequence" => 13,
        "function" | "procedure" | "aggregate" | "operator" => 14,
        "table" | "foreign table" => 15,
        "view" | "materialized view" => 16,
        "trigger" | "policy" | "rule" | "statistics" => 18,
        _ => 17,
    };
    (rank, oid)
}

/// Pairs of changes of which the first must come before the second.
fn edges(changes: &[Change]) -> BTreeSet<(usize, usize)> {
    // What comes to be and what ceases to be: objects, and constraints and indexes of tables.
    let mut made: FxHashMap<Oid, Vec<usize>> = FxHashMap::default();
    let mut gone: FxHashMap<Oid, Vec<usize>> = FxHashMap::default();
    let mut freed: FxHashMap<(Oid, Option<Name>, Name), usize> = FxHashMap::default();
    for (number, change) in changes.iter().enumerate() {
        let (before, after) = (
            parts(change, change.before.as_ref()),
            parts(change, change.after.as_ref()),
        );
        for oid in after.difference(&before) {
            made.entry(*oid).or_default().push(number);
        }
        for oid in before.difference(&after) {
            gone.entry(*oid).or_default().push(number);
        }
        if let Some(before) = &change.before
            && name_of(change, Some(before)) != name_of(change, change.after.as_ref())
            && let Some(name) = name_of(change, Some(before))
        {
            freed.insert(name, number);
        }
    }
    let mut edges = BTreeSet::new();
    for (number, change) in changes.iter().enumerate() {
        let uses = |state: &Option<State>, needs: &[Oid]| {
            let named = state.as_ref().map(State::references).unwrap_or_default();
            named
                .iter()
                .chain(needs)
                .copied()
                .collect::<BTreeSet<Oid>>()
        };
        let before = uses(&change.before, &change.needs.before);
        let after = uses(&change.after, &change.needs.after);
        for oid in &after {
            let others = made.get(oid).into_iter().flatten();
            edges.extend(others.map(|other| (*other, number)));
        }
        for oid in before.difference(&after) {
            let others = gone.get(oid).into_iter().flatten();
            edges.extend(others.map(|other| (number, *other)));
        }
        edges.remove(&(number, number));
        if let Some(name) = name_of(change, change.after.as_ref())
            && let Some(other) = freed.get(&name)
            && *other != number
        {
            edges.insert((*other, number));
        }
    }
    edges
}

/// An object, and the constraints and indexes of a table, in one of its states.
fn parts(change: &Change, state: Option<&State>) -> BTreeSet<Oid> {
    let mut parts = BTreeSet::new();
    if let Some(state) = state {
        parts.insert(change.key.oid);
        if let State::Table(table) = state {
            parts.extend(&table.constraints);
            parts.extend(table.indexes.iter().map(|(index, _)| *index));
            parts.extend(Some(table.primary).filter(|oid| oid.is_valid()));
        }
    }
    parts
}

/// The name that an object takes up among those of its catalog.
fn name_of(change: &Change, state: Option<&State>) -> Option<(Oid, Option<Name>, Name)> {
    let state = state.filter(|_| !change.key.class.is_valid())?;
    Some((
        change.key.catalog,
        state.schema().cloned(),
        state.name().clone(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ddl::state::OtherState;

    fn change(oid: u32, name: &str, before: Option<&[u32]>, after: Option<&[u32]>) -> Change {
        let state = |uses: &[u32]| {
            State::Other(Box::new(OtherState {
                oid: Oid(oid),
                object: "table".to_owned(),
                name: Name::from(name),
                references: uses.iter().map(|oid| Oid(*oid)).collect(),
                ..OtherState::default()
            }))
        };
        Change {
            key: Touched::new(Oid(1259), Oid(oid)),
            before: before.map(state),
            after: after.map(state),
            committed: None,
            hidden: false,
            needs: Needs::default(),
        }
    }

    fn order(changes: Vec<Change>) -> Vec<u32> {
        ordered(changes)
            .iter()
            .map(|change| change.key.oid.0)
            .collect()
    }

    #[test]
    fn what_is_used_is_made_before_and_dropped_after() {
        // 1 uses 2, which is made later.
        assert_eq!(
            order(vec![
                change(1, "a", None, Some(&[2])),
                change(2, "b", None, Some(&[]))
            ]),
            [2, 1]
        );
        // 1 uses 2; both go. 3 stops using 2 before that, and stays.
        assert_eq!(
            order(vec![
                change(1, "a", Some(&[2]), None),
                change(2, "b", Some(&[]), None),
                change(3, "c", Some(&[2]), Some(&[])),
            ]),
            [1, 3, 2],
        );
    }

    #[test]
    fn a_table_stops_needing_what_is_dropped_before_it_is() {
        // 1 stays, and loses the default for which it needed the sequence 2.
        let mut table = change(1, "a", Some(&[]), Some(&[]));
        table.needs.before = vec![Oid(2)];
        let mut sequence = change(2, "b", Some(&[]), None);
        if let Some(State::Other(other)) = &mut sequence.before {
            other.object = "sequence".to_owned();
        }
        assert_eq!(order(vec![sequence, table]), [1, 2]);
    }

    #[test]
    fn a_key_is_there_as_long_as_another_table_needs_it() {
        use crate::catalog::ddl::state::TableState;

        let table = |key: u32| {
            State::Table(Box::new(TableState {
                primary: Oid(key),
                indexes: if key == 0 {
                    Vec::new()
                } else {
                    vec![(Oid(key + 1), true)]
                },
                ..TableState::default()
            }))
        };
        // 5 has the primary key 11 with the index 12, which foreign keys of 4 and 6 need.
        let changes = |with: bool| {
            let mut keyed = change(5, "a", Some(&[]), Some(&[]));
            let (bare, full) = (Some(table(0)), Some(table(11)));
            (keyed.before, keyed.after) = if with { (bare, full) } else { (full, bare) };
            let mut naming = [
                change(4, "b", Some(&[]), Some(&[])),
                change(6, "c", Some(&[]), Some(&[])),
            ];
            for one in &mut naming {
                let needs = &mut one.needs;
                let list = if with {
                    &mut needs.after
                } else {
                    &mut needs.before
                };
                list.push(Oid(12));
            }
            let [one, other] = naming;
            vec![one, keyed, other]
        };
        assert_eq!(order(changes(true)), [5, 4, 6]);
        assert_eq!(order(changes(false)), [4, 6, 5]);
    }

    #[test]
    fn a_name_is_free_before_it_is_taken() {
        let changes = vec![
            change(1, "b", None, Some(&[])),
            change(9, "b", Some(&[]), None),
        ];
        assert_eq!(order(changes), [9, 1]);
    }

    #[test]
    fn a_circle_is_cut() {
        let circle = vec![
            change(1, "a", None, Some(&[2])),
            change(2, "b", None, Some(&[1])),
        ];
        assert_eq!(order(circle), [1, 2]);
    }

    #[test]
    fn tables_that_name_each_other_get_their_keys_apart() {
        use redostream_protocol::ddl::{ConstraintShape, TableShape};

        use crate::catalog::ddl::state::TableState;

        let table = |oid: u32, name: &str, names: u32, other: &str| {
            let reference = TableName {
                schema: Name::from("s"),
                table: Name::from(other),
            };
            State::Table(Box::new(TableState {
                kind: b'r',
                constraints: vec![Oid(oid + 100)],
                references: vec![Oid(names)],
                shape: TableShape {
                    schema: Name::from("s"),
                    name: Name::from(name),
                    constraints: vec![ConstraintShape {
                        references: Some((reference, Vec::new())),
                        ..ConstraintShape::default()
                    }],
                    ..TableShape::default()
                },
                ..TableState::default()
            }))
        };
        let both = || [table(1, "a", 2, "b"), table(2, "b", 1, "a")];
        let keys = |state: &Option<State>| match state {
            Some(State::Table(table)) => Some(table.shape.constraints.len()),
            _ => None,
        };
        let told = |made: bool| {
            let changes = both().into_iter().zip(1..).map(|(state, oid)| Change {
                key: Touched::new(Oid(1259), Oid(oid)),
                before: (!made).then(|| state.clone()),
                after: made.then_some(state),
                committed: None,
                hidden: false,
                needs: Needs::default(),
            });
            let ordered = ordered(changes.collect());
            let told = ordered
                .iter()
                .map(|change| (change.key.oid.0, keys(&change.before), keys(&change.after)));
            told.collect::<Vec<_>>()
        };
        let made = [
            (1, None, Some(0)),
            (2, None, Some(1)),
            (1, Some(0), Some(1)),
        ];
        assert_eq!(told(true), made);
        let dropped = [
            (2, Some(1), Some(0)),
            (1, Some(1), None),
            (2, Some(0), None),
        ];
        assert_eq!(told(false), dropped);
    }
}
