//! What others have committed to an object since a transaction told of it. They have told that
//! themselves; the transaction's next change leads from both together.
//!
//! Locks leave little that two open transactions can change of one table: each may give privileges,
//! which takes none, while the other changes anything else, and both may make indexes.

use redostream_protocol::Oid;
use redostream_protocol::ddl::{IndexShape, TableShape};

use super::privileges::Privileges;
use super::state::{State, TableState};

/// A state as it was told, with what was committed since: `then` is the object as committed when it
/// was told, `now` as committed now.
pub(crate) fn merged(told: &State, then: Option<&State>, now: Option<&State>) -> State {
    let (Some(then), Some(now)) = (then, now) else {
        return told.clone();
    };
    if then == now {
        return told.clone();
    }
    if told == then {
        return now.clone();
    }
    match (told, then, now) {
        (State::Table(told), State::Table(then), State::Table(now)) => {
            State::Table(Box::new(of_table(told, then, now)))
        }
        _ => told.clone(),
    }
}

fn of_table(told: &TableState, then: &TableState, now: &TableState) -> TableState {
    let mut state = if rest(told) == rest(then) {
        now.clone()
    } else {
        told.clone()
    };
    state.privileges = privileges(told.privileges, then.privileges, now.privileges);
    let has = |of: &TableState, index: &Index| of.indexes.iter().any(|(oid, _)| *oid == index.0.0);
    let all = indexes(told).chain(indexes(now).filter(|index| !has(told, index)));
    let mut kept: Vec<Index> = all
        .filter(|index| {
            // What was there then is gone as soon as either has dropped it.
            !has(then, index) || (has(told, index) && has(now, index))
        })
        .collect();
    // By name, as a whole description has them.
    kept.sort_by(|one, other| one.1.name.cmp(&other.1.name));
    (state.indexes, state.shape.indexes) = kept.into_iter().unzip();
    state
}

/// OID, whether a constraint stands for it, and what is told of it.
type Index = ((Oid, bool), IndexShape);

fn indexes(of: &TableState) -> impl Iterator<Item = Index> {
    let oids = of.indexes.iter().copied();
    oids.zip(of.shape.indexes.iter().cloned())
}

/// The state without what two transactions can change at once.
fn rest(of: &TableState) -> TableState {
    TableState {
        indexes: Vec::new(),
        privileges: Privileges::default(),
        shape: TableShape {
            indexes: Vec::new(),
            ..of.shape.clone()
        },
        ..of.clone()
    }
}

fn privileges(told: Privileges, then: Privileges, now: Privileges) -> Privileges {
    Privileges {
        list: told.list ^ then.list ^ now.list,
        count: (told.count + now.count).saturating_sub(then.count),
    }
}

#[cfg(test)]
mod tests {
    use redostream_protocol::schema::Name;

    use super::*;

    fn table(indexes: &[u32], granted: u32, columns: usize) -> State {
        let shapes = indexes.iter().map(|oid| IndexShape {
            name: Name(format!("i{oid}").into_bytes()),
            ..IndexShape::default()
        });
        State::Table(Box::new(TableState {
            indexes: indexes.iter().map(|oid| (Oid(*oid), false)).collect(),
            privileges: Privileges {
                list: granted,
                count: granted.count_ones(),
            },
            shape: TableShape {
                indexes: shapes.collect(),
                columns: vec![Default::default(); columns],
                ..TableShape::default()
            },
            ..TableState::default()
        }))
    }

    fn of(told: &State, then: &State, now: &State) -> State {
        merged(told, Some(then), Some(now))
    }

    #[test]
    fn both_have_made_indexes() {
        let (then, now) = (table(&[1, 2], 0, 1), table(&[1, 2, 4], 0, 1));
        let told = table(&[1, 2, 3], 0, 1);
        assert_eq!(of(&told, &then, &now), table(&[1, 2, 3, 4], 0, 1));
        // One dropped by either is gone.
        let (told, now) = (table(&[2, 3], 0, 1), table(&[1, 4], 0, 1));
        assert_eq!(of(&told, &then, &now), table(&[3, 4], 0, 1));
    }

    #[test]
    fn one_gives_privileges_and_another_changes_the_rest() {
        let then = table(&[], 1, 1);
        let (granted, altered) = (table(&[], 3, 1), table(&[], 1, 2));
        assert_eq!(of(&granted, &then, &altered), table(&[], 3, 2));
        assert_eq!(of(&altered, &then, &granted), table(&[], 3, 2));
        let other = table(&[], 5, 1);
        assert_eq!(of(&granted, &then, &other), table(&[], 7, 1));
    }

    #[test]
    fn nothing_was_committed_since() {
        let (told, then) = (table(&[1], 1, 2), table(&[], 0, 1));
        assert_eq!(of(&told, &then, &then), told);
        assert_eq!(merged(&told, None, None), told);
    }
}
