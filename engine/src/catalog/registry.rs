//! Every relation version that was ever resolved, by number.

use std::sync::Arc;

use parking_lot::RwLock;
use redostream_protocol::schema::{Relation, RelationVersion};
use redostream_protocol::{DatabaseOid, Oid};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::relation::Layout;

/// Relation versions by number. Append-only and shared: the gate adds, everyone looks up.
///
/// Numbers go from 1 in order of first resolve, so they depend on the log alone. A structure that
/// was seen before keeps its number.
#[derive(Clone, Debug, Default)]
pub struct RelationRegistry {
    inner: Arc<RwLock<Versions>>,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Versions {
    layouts: Vec<Arc<Layout>>,
    #[serde(skip)]
    by_relation: FxHashMap<(DatabaseOid, Oid), Vec<u32>>,
}

impl RelationRegistry {
    /// The layout with this number.
    #[must_use]
    pub fn layout(&self, version: RelationVersion) -> Option<Arc<Layout>> {
        let index = (version.0 as usize).checked_sub(1)?;
        self.inner.read().layouts.get(index).cloned()
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
        self.inner.read().layouts.len()
    }

    /// Whether nothing was resolved yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives a layout its number (whatever number it has), or the equal one seen before.
    pub(crate) fn register(&self, mut relation: Relation, mut layout: Layout) -> Arc<Layout> {
        let key = (relation.database.oid, relation.oid);
        let mut inner = self.inner.write();
        let candidates = inner.by_relation.get(&key).map_or(&[][..], Vec::as_slice);
        for index in candidates.iter().rev() {
            let Some(known) = inner.layouts.get(*index as usize) else {
                continue;
            };
            relation.version = known.relation.version;
            if *known.relation == relation && same_attributes(known, &layout) {
                return Arc::clone(known);
            }
        }
        let index = inner.layouts.len() as u32;
        relation.version = RelationVersion(index + 1);
        layout.relation = Arc::new(relation);
        let layout = Arc::new(layout);
        inner.layouts.push(Arc::clone(&layout));
        inner.by_relation.entry(key).or_default().push(index);
        layout
    }

    /// A copy that no longer shares with this one, for a restart point.
    #[must_use]
    pub fn detached(&self) -> RelationRegistry {
        RelationRegistry {
            inner: Arc::new(RwLock::new(self.inner.read().clone())),
        }
    }
}

fn same_attributes(known: &Layout, new: &Layout) -> bool {
    known.attributes == new.attributes && known.toast == new.toast
}

impl Serialize for RelationRegistry {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.inner.read().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RelationRegistry {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut versions = Versions::deserialize(deserializer)?;
        for (index, layout) in versions.layouts.iter().enumerate() {
            let key = (layout.relation.database.oid, layout.relation.oid);
            let list = versions.by_relation.entry(key).or_default();
            list.push(index as u32);
        }
        Ok(RelationRegistry {
            inner: Arc::new(RwLock::new(versions)),
        })
    }
}
