//! Relations and types as resolved, until something they depend on changes.
//!
//! Committed ones are dropped by what the committing transaction touched, so a commit costs what
//! it changed. A transaction that has changed catalogs itself has its own, good until it or
//! anybody else changes something.

use std::sync::Arc;

use redostream_protocol::schema::Database;
use redostream_protocol::{DatabaseOid, Oid, RelFileNode, Xid};
use rustc_hash::{FxHashMap, FxHashSet};

use super::relation::Target;
use super::type_desc::Described;
use super::writer::{Object, ObjectKind, Writer};
use crate::limits::CATALOG_OID_END;

/// A type with what its description depends on.
#[derive(Clone, Debug)]
pub(crate) struct DescribedType {
    pub(crate) described: Described,
    pub(crate) depends_on: Arc<[Object]>,
}

/// Something that is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Entry {
    File(RelFileNode),
    Relation(DatabaseOid, Oid),
    Type(DatabaseOid, Oid),
}

/// What a relation is asked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// Its file.
    File(RelFileNode),
    /// Its OID.
    Relation(DatabaseOid, Oid),
}

#[derive(Clone, Debug)]
struct CachedTarget {
    target: Arc<Target>,
    depends_on: Arc<[Object]>,
}

#[derive(Clone, Debug)]
struct OwnTarget {
    epoch: u64,
    changes: u64,
    target: Arc<Target>,
}

/// Everything resolved.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cache {
    targets: FxHashMap<Key, CachedTarget>,
    types: FxHashMap<(DatabaseOid, Oid), DescribedType>,
    pub(crate) databases: FxHashMap<DatabaseOid, Arc<Database>>,
    dependents: FxHashMap<Object, FxHashSet<Entry>>,
    own: FxHashMap<Xid, FxHashMap<Key, OwnTarget>>,
    /// Rises whenever committed rows change.
    epoch: u64,
}

impl Cache {
    /// The committed relation.
    pub(crate) fn target(&self, key: Key) -> Option<Arc<Target>> {
        self.targets
            .get(&key)
            .map(|cached| Arc::clone(&cached.target))
    }

    /// Keeps a committed relation.
    pub(crate) fn put_target(&mut self, key: Key, target: Arc<Target>, depends_on: Vec<Object>) {
        let entry = key.entry();
        for object in &depends_on {
            self.dependents.entry(*object).or_default().insert(entry);
        }
        let depends_on = depends_on.into();
        self.targets
            .insert(key, CachedTarget { target, depends_on });
    }

    /// A relation as a transaction that changes catalogs sees it.
    pub(crate) fn own_target(&self, top: Xid, writer: &Writer, key: Key) -> Option<Arc<Target>> {
        let own = self.own.get(&top)?.get(&key)?;
        let fresh = own.epoch == self.epoch && own.changes == writer.changes;
        fresh.then(|| Arc::clone(&own.target))
    }

    /// Keeps a relation for a transaction that changes catalogs.
    pub(crate) fn put_own(&mut self, top: Xid, writer: &Writer, key: Key, target: Arc<Target>) {
        let (epoch, changes) = (self.epoch, writer.changes);
        let own = OwnTarget {
            epoch,
            changes,
            target,
        };
        self.own.entry(top).or_default().insert(key, own);
    }

    /// The committed type, unless `writer` has changed something it depends on.
    pub(crate) fn known_type(
        &self,
        database: DatabaseOid,
        oid: Oid,
        writer: Option<&Writer>,
    ) -> Option<&DescribedType> {
        let known = self.types.get(&(database, oid))?;
        let untouched = writer.is_none_or(|writer| {
            let mut all = known.depends_on.iter();
            !writer.everything && !all.any(|object| writer.touched.contains(object))
        });
        untouched.then_some(known)
    }

    /// Keeps a committed type.
    pub(crate) fn put_type(&mut self, database: DatabaseOid, oid: Oid, described: DescribedType) {
        let entry = Entry::Type(database, oid);
        for object in described.depends_on.iter() {
            self.dependents.entry(*object).or_default().insert(entry);
        }
        self.types.insert((database, oid), described);
    }

    /// A transaction that changed catalogs committed.
    pub(crate) fn committed(&mut self, top: Xid, writer: &Writer) {
        self.own.remove(&top);
        self.epoch += 1;
        if writer.everything {
            self.clear();
            return;
        }
        for object in &writer.touched {
            if object.oid.0 < CATALOG_OID_END && object.kind != ObjectKind::Database {
                if object.kind == ObjectKind::Relation || object.kind == ObjectKind::File {
                    // A catalog itself; its rows are never passed on.
                    continue;
                }
                self.clear();
                return;
            }
            if object.kind == ObjectKind::Database {
                self.databases.remove(&object.oid);
            }
            self.purge(*object);
        }
    }

    /// A transaction that changed catalogs was rolled back.
    pub(crate) fn aborted(&mut self, top: Xid) {
        self.own.remove(&top);
    }

    /// Databases were made, moved or dropped.
    pub(crate) fn databases_changed(&mut self) {
        self.epoch += 1;
        self.clear();
    }

    fn clear(&mut self) {
        self.targets.clear();
        self.types.clear();
        self.databases.clear();
        self.dependents.clear();
    }

    fn purge(&mut self, object: Object) {
        let Some(entries) = self.dependents.remove(&object) else {
            return;
        };
        for entry in entries {
            let depends_on = match entry {
                Entry::File(node) => {
                    let removed = self.targets.remove(&Key::File(node));
                    removed.map(|cached| cached.depends_on)
                }
                Entry::Relation(database, oid) => {
                    let removed = self.targets.remove(&Key::Relation(database, oid));
                    removed.map(|cached| cached.depends_on)
                }
                Entry::Type(database, oid) => {
                    let removed = self.types.remove(&(database, oid));
                    removed.map(|described| described.depends_on)
                }
            };
            for other in depends_on.iter().flat_map(|list| list.iter()) {
                if let Some(list) = self.dependents.get_mut(other) {
                    list.remove(&entry);
                    if list.is_empty() {
                        self.dependents.remove(other);
                    }
                }
            }
        }
    }
}

impl Key {
    const fn entry(self) -> Entry {
        match self {
            Key::File(node) => Entry::File(node),
            Key::Relation(database, oid) => Entry::Relation(database, oid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::relation::IgnoreReason;

    fn object(kind: ObjectKind, oid: u32) -> Object {
        Object {
            database: Oid(5),
            kind,
            oid: Oid(oid),
        }
    }

    fn touching(objects: &[Object]) -> Writer {
        Writer {
            touched: objects.iter().copied().collect(),
            ..Writer::default()
        }
    }

    #[test]
    fn a_commit_drops_what_it_touched_and_no_more() {
        let mut cache = Cache::default();
        let target = Arc::new(Target::Ignore(IgnoreReason::NotRows));
        let schema = object(ObjectKind::Schema, 20_000);
        for oid in [17_000, 17_001] {
            let depends_on = vec![object(ObjectKind::Relation, oid), schema];
            let key = Key::Relation(Oid(5), Oid(oid));
            cache.put_target(key, Arc::clone(&target), depends_on);
        }
        let key = |oid| Key::Relation(Oid(5), Oid(oid));
        cache.committed(Xid(9), &touching(&[object(ObjectKind::Relation, 17_000)]));
        assert!(cache.target(key(17_000)).is_none());
        assert!(cache.target(key(17_001)).is_some());
        assert_eq!(cache.dependents[&schema].len(), 1);
        cache.committed(Xid(9), &touching(&[schema]));
        assert!(cache.target(key(17_001)).is_none());
        assert!(cache.dependents.is_empty());
    }

    #[test]
    fn own_views_end_with_any_change() {
        let mut cache = Cache::default();
        let target = Arc::new(Target::Ignore(IgnoreReason::NotRows));
        let key = Key::Relation(Oid(5), Oid(17_000));
        let mut writer = Writer::default();
        cache.put_own(Xid(9), &writer, key, target);
        assert!(cache.own_target(Xid(9), &writer, key).is_some());
        assert!(cache.own_target(Xid(8), &writer, key).is_none());
        cache.committed(Xid(8), &touching(&[]));
        assert!(cache.own_target(Xid(9), &writer, key).is_none());
        let target = Arc::new(Target::Ignore(IgnoreReason::NotRows));
        cache.put_own(Xid(9), &writer, key, target);
        writer.changes += 1;
        assert!(cache.own_target(Xid(9), &writer, key).is_none());
        cache.aborted(Xid(9));
        assert!(cache.own.is_empty());
    }
}
