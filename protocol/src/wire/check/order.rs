//! What can be said of blocks only together.

use std::sync::Arc;

use super::{BlockSummary, CheckError, Stretch};
use crate::Position;
use crate::event::TransactionHeader;
use crate::schema::RelationVersion;

/// Checks blocks against one another, in order.
#[derive(Debug, Default)]
pub struct OrderedCheck {
    last: Option<Position>,
    open: Option<(Arc<TransactionHeader>, Stretch)>,
    began: bool,
}

impl OrderedCheck {
    /// A check that has seen nothing; what comes must be after `last`, if that is given.
    #[must_use]
    pub const fn new(last: Option<Position>) -> Self {
        Self {
            last,
            open: None,
            began: false,
        }
    }

    /// The transaction that is under way.
    #[must_use]
    pub fn open(&self) -> Option<&Arc<TransactionHeader>> {
        self.open.as_ref().map(|(header, _)| header)
    }

    /// Takes the next block. `columns` gives the number of columns of a relation that was sent.
    pub fn push(
        &mut self,
        block: &BlockSummary,
        mut columns: impl FnMut(RelationVersion) -> Option<usize>,
    ) -> Result<(), CheckError> {
        if let Some(last) = self.last.filter(|last| *last >= block.first) {
            let next = block.first;
            return Err(CheckError::OutOfOrder { last, next });
        }
        let head = |problem| CheckError::Head {
            first: block.first,
            last: block.last,
            problem,
        };
        for (version, used) in &block.relations {
            let known = columns(*version);
            if !known.is_some_and(|known| *used == u16::MAX || known == usize::from(*used)) {
                return Err(CheckError::UnknownRelation {
                    last: block.last,
                    version: *version,
                    columns: *used,
                });
            }
        }
        match (&mut self.open, &block.lead) {
            (Some((open, so_far)), Some((header, lead))) => {
                if open.commit_lsn != header.commit_lsn {
                    return Err(head("it goes on with another transaction"));
                }
                so_far.append(lead);
            }
            // Only the first block of a session may begin inside a transaction.
            (None, Some(lead)) if !self.began => self.open = Some(lead.clone()),
            (None, Some(_)) => return Err(head("it goes on with a transaction that never began")),
            (Some(_), None) => return Err(head("it leaves a transaction open")),
            (None, None) => {}
        }
        if let Some(claim) = &block.lead_commit
            && let Some((_, stretch)) = self.open.take()
        {
            claim.check(&stretch)?;
        }
        if let Some(tail) = &block.tail {
            self.open = Some(tail.clone());
        }
        self.began = true;
        self.last = Some(block.last);
        Ok(())
    }
}
