//! What a renderer has worked out about relations, by version.

use std::collections::HashMap;

use super::{Relations, RenderError};
use crate::ids::Lsn;
use crate::limits::RELATIONS_COMPILED_MAX;
use crate::schema::{Relation, RelationVersion};

/// Compiled relations. Rows of one relation mostly follow each other, so the last is tried first.
#[derive(Debug)]
pub(super) struct Compiled<T> {
    relations: Vec<T>,
    numbers: HashMap<RelationVersion, usize>,
    last: Option<(RelationVersion, usize)>,
}

impl<T> Default for Compiled<T> {
    fn default() -> Self {
        Self {
            relations: Vec::new(),
            numbers: HashMap::new(),
            last: None,
        }
    }
}

impl<T> Compiled<T> {
    /// The relation version, compiled now if it has not been.
    #[inline]
    pub(super) fn get(
        &mut self,
        version: RelationVersion,
        lsn: Lsn,
        relations: &dyn Relations,
        compile: impl FnOnce(&Relation) -> T,
    ) -> Result<&mut T, RenderError> {
        let unknown = RenderError::UnknownRelation {
            version: version.0,
            lsn,
        };
        let number = match self.last {
            Some((last, number)) if last == version => number,
            _ => match self.numbers.get(&version) {
                Some(number) => *number,
                None => {
                    let Some(relation) = relations.relation(version) else {
                        return Err(unknown);
                    };
                    self.insert(version, compile(&relation))
                }
            },
        };
        self.last = Some((version, number));
        self.relations.get_mut(number).ok_or(unknown)
    }

    fn insert(&mut self, version: RelationVersion, compiled: T) -> usize {
        if self.relations.len() >= RELATIONS_COMPILED_MAX {
            self.clear();
        }
        self.relations.push(compiled);
        let number = self.relations.len() - 1;
        self.numbers.insert(version, number);
        number
    }

    /// Forgets everything: another stream numbers its relations anew.
    pub(super) fn clear(&mut self) {
        self.relations.clear();
        self.numbers.clear();
        self.last = None;
    }
}
