//! A block: released events in wire form, in order.

use std::sync::Arc;

use bytes::Bytes;
use redostream_protocol::event::TransactionHeader;
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::{DatabaseOid, Lsn, Position};

use crate::limits::MERGED_RELATIONS_MAX;

/// Released events of one timeline. A block may hold many small transactions or a piece of a large
/// one.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Position of its first event (a begin counts).
    pub first: Position,
    /// Position of its last event (a commit counts).
    pub last: Position,
    /// Everything that starts before this LSN and can be released has been, up to and including
    /// this block. Blocks without events carry only this.
    pub wal_end: Lsn,
    /// The header of the transaction that the first event belongs to, where its begin stands in an
    /// earlier block.
    pub continues: Option<Arc<TransactionHeader>>,
    /// The events, in order; an event may span pieces only if it is alone in the block.
    pub pieces: Vec<Bytes>,
    /// Number of events, begins and commits included.
    pub events: u64,
    /// Number of rows (inserts, updates, deletes).
    pub rows: u64,
    /// Number of commits.
    pub transactions: u64,
    /// Databases of the events, distinct, in order of first use.
    pub databases: Vec<DatabaseOid>,
    /// Relation versions of the events, distinct, in order of first use.
    pub relations: Vec<RelationVersion>,
    /// Whether an event says of rows that they cannot be decoded: such a block is for nobody as it
    /// is.
    pub undecodable: bool,
}

impl Block {
    /// Bytes of its events.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Adds the block that follows this one, if the two together are one: of one timeline, with at
    /// most `bytes_max` bytes, and with nothing that stands alone in its block.
    ///
    /// # Errors
    /// The block that follows, as it was.
    pub fn append(&mut self, next: Block, bytes_max: usize) -> Result<(), Box<Block>> {
        if self.events > 0 && next.events > 0 {
            let apart = self.last.timeline != next.first.timeline
                || self.bytes() + next.bytes() > bytes_max
                || self.relations.len() + next.relations.len() > MERGED_RELATIONS_MAX
                || self.stands_alone()
                || next.stands_alone();
            if apart {
                return Err(Box::new(next));
            }
        }
        if self.events == 0 {
            let wal_end = self.wal_end;
            *self = next;
            self.wal_end = self.wal_end.max(wal_end);
            return Ok(());
        }
        if next.events > 0 {
            self.last = next.last;
        }
        self.wal_end = self.wal_end.max(next.wal_end);
        self.pieces.extend(next.pieces);
        self.events += next.events;
        self.rows += next.rows;
        self.transactions += next.transactions;
        add_new(&mut self.databases, &next.databases);
        add_new(&mut self.relations, &next.relations);
        Ok(())
    }

    /// Whether it is for itself: one event in pieces, or something undecodable.
    fn stands_alone(&self) -> bool {
        self.undecodable || (self.events == 1 && self.pieces.len() > 1)
    }
}

fn add_new<T: Copy + PartialEq>(all: &mut Vec<T>, more: &[T]) {
    for one in more {
        if !all.contains(one) {
            all.push(*one);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use redostream_protocol::TimelineId;

    const BYTES_MAX: usize = 1000;

    fn position(number: u64) -> Position {
        Position {
            timeline: TimelineId(1),
            commit_lsn: Lsn(number),
            record_lsn: Lsn(number),
            row: 0,
        }
    }

    /// A block of `events` events of `bytes` bytes each, the first of them at `from`.
    fn block(from: u64, events: u64, bytes: usize) -> Block {
        let pieces = (0..events).map(|event| Bytes::from(vec![(from + event) as u8; bytes]));
        Block {
            first: position(from),
            last: position(from + events.saturating_sub(1)),
            wal_end: Lsn(from + events),
            pieces: vec![Bytes::from(pieces.collect::<Vec<_>>().concat())],
            events,
            rows: events,
            databases: vec![redostream_protocol::Oid(7)],
            relations: vec![RelationVersion(from as u32 % 3 + 1)],
            ..Block::default()
        }
    }

    #[test]
    fn two_become_one() {
        let mut one = block(10, 3, 20);
        one.append(block(13, 2, 30), BYTES_MAX).unwrap();
        assert_eq!((one.first, one.last), (position(10), position(14)));
        assert_eq!(
            (one.events, one.rows, one.bytes(), one.wal_end),
            (5, 5, 120, Lsn(15))
        );
        assert_eq!(one.databases.len(), 1);
        assert_eq!(one.relations, [RelationVersion(2)]);
        // One without events says only how far everything is.
        let end = Block {
            wal_end: Lsn(99),
            ..Block::default()
        };
        one.append(end.clone(), 0).unwrap();
        assert_eq!((one.last, one.wal_end), (position(14), Lsn(99)));
        let mut empty = end;
        empty.append(block(100, 1, 5), BYTES_MAX).unwrap();
        assert_eq!(
            (empty.first, empty.wal_end, empty.events),
            (position(100), Lsn(101), 1)
        );
    }

    #[test]
    fn what_stands_alone_stays_alone() {
        let in_pieces = Block {
            pieces: vec![Bytes::from_static(b"one "), Bytes::from_static(b"event")],
            ..block(20, 1, 0)
        };
        let undecodable = Block {
            undecodable: true,
            ..block(20, 2, 5)
        };
        let mut other_timeline = block(20, 2, 5);
        other_timeline.first.timeline = TimelineId(2);
        let many = Block {
            relations: (1..=MERGED_RELATIONS_MAX as u32)
                .map(RelationVersion)
                .collect(),
            ..block(20, 2, 5)
        };
        for apart in [
            in_pieces,
            undecodable,
            other_timeline,
            many,
            block(20, 2, 480),
        ] {
            let mut before = block(10, 2, 30);
            let back = before.append(apart.clone(), BYTES_MAX).unwrap_err();
            assert_eq!(back.pieces, apart.pieces);
            assert_eq!((before.events, before.bytes()), (2, 60));
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_block_grows_beyond(
            sizes in proptest::collection::vec((0..5u64, 0..400usize), 0..40),
        ) {
            let mut at = 1;
            let (mut all, mut merged) = (Vec::new(), Vec::<Block>::new());
            for (events, bytes) in sizes {
                let next = block(at, events, bytes);
                at += events;
                all.extend(next.pieces.concat());
                match merged.last_mut() {
                    Some(last) => {
                        if let Err(next) = last.append(next, BYTES_MAX) {
                            merged.push(*next);
                        }
                    }
                    None => merged.push(next),
                }
            }
            let bytes: Vec<u8> = merged.iter().flat_map(|block| block.pieces.concat()).collect();
            prop_assert_eq!(bytes, all);
            prop_assert_eq!(merged.iter().map(|block| block.events).sum::<u64>(), at - 1);
            for pair in merged.windows(2) {
                prop_assert!(pair[0].wal_end <= pair[1].wal_end);
                prop_assert!(pair[0].last < pair[1].first || pair[1].events == 0);
            }
            for block in &merged {
                prop_assert!(block.bytes() <= BYTES_MAX.max(4 * 400));
            }
        }
    }
}
