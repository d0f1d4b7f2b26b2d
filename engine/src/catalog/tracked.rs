//! Which files' records the catalog needs, for framing.

use redostream_protocol::RelFileNode;
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use super::bootstrap::class_rows::LEFT_OUT;

use crate::limits::INITDB_FILE_NUMBER_END;

/// The files whose page changes are to be replayed: everything that `initdb` made, in whatever
/// database, and the files that catalogs have moved to since.
///
/// It may name more files than needed (a number is taken in every database, because `CREATE
/// DATABASE` copies files under their numbers); [`super::Catalog::replay`] drops those itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackedFiles {
    generation: u64,
    numbers: FxHashSet<u32>,
}

impl TrackedFiles {
    /// Whether records that change this file matter to the catalog.
    #[must_use]
    #[inline]
    pub fn contains(&self, node: RelFileNode) -> bool {
        let number = node.relation;
        if number.0 < INITDB_FILE_NUMBER_END {
            !LEFT_OUT.contains(&number)
        } else {
            self.numbers.contains(&number.0)
        }
    }

    /// Rises by one whenever the set grows. Framing done with an older set than the one that
    /// stood when a record was reached may have left out records of files that joined since.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// A larger set; `None` if the number is in it already.
    pub(crate) fn with(&self, number: u32) -> Option<TrackedFiles> {
        if number < INITDB_FILE_NUMBER_END || self.numbers.contains(&number) {
            return None;
        }
        let mut grown = self.clone();
        grown.numbers.insert(number);
        grown.generation += 1;
        Some(grown)
    }
}

#[cfg(test)]
mod tests {
    use redostream_protocol::Oid;

    use super::*;

    fn node(number: u32) -> RelFileNode {
        RelFileNode {
            tablespace: Oid(1663),
            database: Oid(5),
            relation: Oid(number),
        }
    }

    #[test]
    fn grows_by_generation() {
        let first = TrackedFiles::default();
        assert!(first.contains(node(1259)));
        assert!(!first.contains(node(16400)));
        let second = first.with(16400).unwrap();
        assert!(second.contains(node(16400)));
        assert_eq!(second.generation(), 1);
        assert_eq!(second.with(16400), None);
        assert_eq!(second.with(1259), None);
    }
}
