//! Every relation version that was ever resolved, by number; the structures of those that may still
//! be asked for.

use std::sync::Arc;

use parking_lot::RwLock;
use redostream_protocol::Lsn;
use redostream_protocol::schema::{Relation, RelationVersion};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::relation::{Attribute, Layout};

/// Relation versions by number. Shared: the gate adds, everyone looks up.
///
/// Numbers go from 1 in order of first resolve, so they depend on the log alone. A structure that
/// was seen before keeps its number, for ever: of each a fingerprint stays. The structure itself
/// is let go by [`RelationRegistry::let_go`] when nobody can name it any more, and comes back under
/// its number should it be resolved again; so letting go changes no number.
#[derive(Clone, Debug, Default)]
pub struct RelationRegistry {
    inner: Arc<RwLock<Versions>>,
}

/// What makes two structures one version: the first half of a SHA-256. It is stored, so it has to
/// be the same in every build.
type Fingerprint = [u8; 16];

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Versions {
    numbers: FxHashMap<Fingerprint, u32>,
    kept: FxHashMap<u32, Kept>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    layout: Arc<Layout>,
    /// No row before this LSN was given this version since it was last resolved, and no later one
    /// will be before it is resolved again.
    #[serde(skip)]
    idle_since: Option<Lsn>,
}

impl RelationRegistry {
    /// The layout with this number.
    #[must_use]
    pub fn layout(&self, version: RelationVersion) -> Option<Arc<Layout>> {
        let inner = self.inner.read();
        inner
            .kept
            .get(&version.0)
            .map(|kept| Arc::clone(&kept.layout))
    }

    /// The relation with this number.
    #[must_use]
    pub fn relation(&self, version: RelationVersion) -> Option<Arc<Relation>> {
        self.layout(version)
            .map(|layout| Arc::clone(&layout.relation))
    }

    /// How many versions there are; the highest number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.read().numbers.len()
    }

    /// Whether nothing was resolved yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many structures are at hand.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.inner.read().kept.len()
    }

    /// Gives a layout its number (whatever number it has), or the equal one seen before.
    pub(crate) fn register(&self, mut relation: Relation, mut layout: Layout) -> Arc<Layout> {
        relation.version = RelationVersion(0);
        let fingerprint = fingerprint(&relation, &layout);
        let mut inner = self.inner.write();
        let next = inner.numbers.len() as u32 + 1;
        let number = *inner.numbers.entry(fingerprint).or_insert(next);
        if let Some(kept) = inner.kept.get_mut(&number) {
            kept.idle_since = None;
            return Arc::clone(&kept.layout);
        }
        relation.version = RelationVersion(number);
        layout.relation = Arc::new(relation);
        let layout = Arc::new(layout);
        let kept = Kept {
            layout: Arc::clone(&layout),
            idle_since: None,
        };
        inner.kept.insert(number, kept);
        layout
    }

    /// Lets go of structures that nobody can name any more: those that nobody resolved or held
    /// (the catalog's cache, rows on their way) since before `settled`, and that are not in
    /// `needed`. Everything before `settled` has left the pipeline, or belongs to transactions
    /// whose versions are in `needed`. `reached` says up to where rows may have been given a
    /// version by now.
    pub fn let_go(
        &self,
        settled: Lsn,
        reached: impl Fn() -> Lsn,
        needed: &FxHashSet<RelationVersion>,
    ) {
        let mut inner = self.inner.write();
        inner.kept.retain(|number, kept| {
            if Arc::strong_count(&kept.layout) > 1 {
                kept.idle_since = None;
                return true;
            }
            let since = *kept.idle_since.get_or_insert_with(&reached);
            since > settled || needed.contains(&RelationVersion(*number))
        });
        if inner.kept.capacity() > 4 * inner.kept.len() {
            inner.kept.shrink_to_fit();
        }
    }

    /// A copy that no longer shares with this one, for a restart point.
    #[must_use]
    pub fn detached(&self) -> RelationRegistry {
        RelationRegistry {
            inner: Arc::new(RwLock::new(self.inner.read().clone())),
        }
    }
}

/// What `relation`, whose version is 0, and `layout` have in them; the rest follows from it.
fn fingerprint(relation: &Relation, layout: &Layout) -> Fingerprint {
    /// Takes what is written into the sum.
    struct Sum(Sha256);

    impl std::io::Write for Sum {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let content: (&Relation, &[Attribute], u32) = (relation, &layout.attributes, layout.toast.0);
    let mut sum = Sum(Sha256::new());
    // Neither writing into a sum nor the form of a relation can fail.
    let _ = postcard::to_io(&content, &mut sum);
    let digest = sum.0.finalize();
    let mut half = Fingerprint::default();
    for (to, from) in half.iter_mut().zip(digest) {
        *to = from;
    }
    half
}

impl Serialize for RelationRegistry {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.inner.read().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RelationRegistry {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let versions = Versions::deserialize(deserializer)?;
        Ok(RelationRegistry {
            inner: Arc::new(RwLock::new(versions)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redostream_protocol::Oid;
    use redostream_protocol::schema::{Database, Name};

    fn name(text: &str) -> Name {
        Name::from(text)
    }

    fn resolve(registry: &RelationRegistry, called: &str) -> Arc<Layout> {
        let relation = Relation {
            version: RelationVersion(0),
            database: Arc::new(Database {
                oid: Oid(5),
                name: name("app"),
                encoding: 6,
                major: 15,
            }),
            oid: Oid(17_000),
            schema: name("public"),
            name: name(called),
            kind: b'r',
            replica_identity: b'd',
            structure: None,
            columns: Vec::new(),
        };
        let layout = Layout {
            relation: Arc::new(relation.clone()),
            attributes: Vec::new(),
            fixed: 0,
            toast: Oid(0),
            needs_catalog: false,
        };
        registry.register(relation, layout)
    }

    #[test]
    fn a_structure_keeps_its_number_though_it_was_let_go() {
        let registry = RelationRegistry::default();
        let number = |called| resolve(&registry, called).relation.version;
        let (a, b) = (number("a"), number("b"));
        assert_eq!((a, b), (RelationVersion(1), RelationVersion(2)));
        assert_eq!(number("a"), a);
        let held = resolve(&registry, "c");
        let none = FxHashSet::default();
        // First it is only seen that nobody holds them.
        registry.let_go(Lsn(100), || Lsn(150), &none);
        assert_eq!(registry.kept(), 3);
        registry.let_go(Lsn(149), || Lsn(300), &none);
        assert_eq!(registry.kept(), 3, "rows up to 150 may be on their way");
        let needed = FxHashSet::from_iter([b]);
        registry.let_go(Lsn(150), || Lsn(300), &needed);
        assert_eq!(registry.kept(), 2, "a is gone");
        assert_eq!((registry.relation(a), registry.len()), (None, 3));
        assert!(registry.relation(b).is_some());
        assert!(registry.relation(held.relation.version).is_some());
        // As it is after a restart, and as it would be had nothing been let go.
        let bytes = postcard::to_stdvec(&registry).unwrap();
        let again: RelationRegistry = postcard::from_bytes(&bytes).unwrap();
        for registry in [&registry, &again] {
            assert_eq!(resolve(registry, "a").relation.version, a);
            assert_eq!(resolve(registry, "d").relation.version, RelationVersion(4));
            assert!(registry.relation(a).is_some());
        }
    }

    #[test]
    fn what_is_resolved_again_is_not_idle() {
        let registry = RelationRegistry::default();
        resolve(&registry, "a");
        let none = FxHashSet::default();
        registry.let_go(Lsn(100), || Lsn(150), &none);
        resolve(&registry, "a");
        registry.let_go(Lsn(200), || Lsn(250), &none);
        assert_eq!(registry.kept(), 1, "a row before 250 may be of it");
        registry.let_go(Lsn(250), || Lsn(300), &none);
        assert_eq!(registry.kept(), 0);
    }
}
