//! Deals checked records out: rows to partitions, what steers decoding to the gate.

use redostream_protocol::{Lsn, RelFileNode, Xid};

use super::chunk::Stop;
use super::error::FrameError;
use super::framer::Framer;
use super::page::u32_at;
use super::partition::{
    Group, NO_GROUP, OrderedEntry, OrderedKind, Place, RowEntry, RowKind, partition_of,
};
use super::rmgr::{self, Treatment, heap, id, xlog};
use super::walk;

impl Framer<'_> {
    #[inline(always)]
    pub(super) fn deal(
        &mut self,
        record: &[u8],
        place: Place,
        lsn: Lsn,
        end: Lsn,
    ) -> Result<(), FrameError> {
        let xid = u32_at(record, 4);
        let info = record[16];
        let manager = record[17];
        let group = if xid == 0 {
            NO_GROUP
        } else {
            self.group(xid, record, lsn)?
        };
        match manager {
            id::HEAP => self.deal_heap(record, place, lsn, end, info, group),
            id::HEAP2 => self.deal_heap2(record, place, lsn, end, info, group),
            _ => match rmgr::treatment(manager) {
                Treatment::Ignored => Ok(()),
                Treatment::Foreign => {
                    self.deal_foreign(record, place, lsn, group);
                    Ok(())
                }
                Treatment::Unknown => Err(FrameError::UnknownManager(manager)),
                Treatment::Decoded | Treatment::Tracked => {
                    self.deal_tracked(record, place, lsn, end, manager, info & 0xF0)
                }
            },
        }
    }

    #[inline(always)]
    fn deal_heap(
        &mut self,
        record: &[u8],
        place: Place,
        lsn: Lsn,
        end: Lsn,
        info: u8,
        group: u16,
    ) -> Result<(), FrameError> {
        let kind = match info & heap::OP_MASK {
            heap::INSERT => RowKind::Insert,
            heap::UPDATE | heap::HOT_UPDATE => RowKind::Update,
            heap::DELETE => RowKind::Delete,
            heap::CONFIRM => RowKind::Confirm,
            heap::TRUNCATE => {
                self.order(place, lsn, end, OrderedKind::Truncate);
                return Ok(());
            }
            _ => return self.deal_catalog_page(record, place, lsn, end),
        };
        self.deal_row(record, place, lsn, end, kind, group)
    }

    fn deal_heap2(
        &mut self,
        record: &[u8],
        place: Place,
        lsn: Lsn,
        end: Lsn,
        info: u8,
        group: u16,
    ) -> Result<(), FrameError> {
        match info & heap::OP_MASK {
            heap::MULTI_INSERT => {
                self.deal_row(record, place, lsn, end, RowKind::MultiInsert, group)
            }
            // Mapping files of a rewrite and command ids serve the server's own decoder, which
            // looks at an old catalog; ours replays it.
            heap::REWRITE | heap::NEW_CID => Ok(()),
            _ => self.deal_catalog_page(record, place, lsn, end),
        }
    }

    #[inline(always)]
    fn deal_row(
        &mut self,
        record: &[u8],
        place: Place,
        lsn: Lsn,
        end: Lsn,
        kind: RowKind,
        group: u16,
    ) -> Result<(), FrameError> {
        let malformed = |problem| FrameError::Malformed {
            manager: "Heap",
            problem,
        };
        let (node, block) = walk::first_block(record, self.rules.format)
            .ok_or_else(|| malformed("no block reference"))?;
        let file = self.file(&node);
        if self.chunk.lookups.tracked[usize::from(file)] {
            self.order(place, lsn, end, OrderedKind::CatalogPage);
            return Ok(());
        }
        if group == NO_GROUP {
            return Err(malformed("a row without a transaction"));
        }
        let partition = match self.rules.partitions {
            1 => 0,
            count => partition_of(&node, block, count),
        };
        self.push_row(place, lsn, kind, group, file, partition);
        Ok(())
    }

    /// A page of an extension's access method. What no transaction has written is upkeep.
    #[cold]
    fn deal_foreign(&mut self, record: &[u8], place: Place, lsn: Lsn, group: u16) {
        let Some((node, block)) = walk::first_block(record, self.rules.format) else {
            return;
        };
        let file = self.file(&node);
        if group == NO_GROUP || self.chunk.lookups.tracked[usize::from(file)] {
            return;
        }
        let partition = partition_of(&node, block, self.rules.partitions);
        self.push_row(place, lsn, RowKind::Foreign, group, file, partition);
    }

    #[inline]
    fn push_row(
        &mut self,
        place: Place,
        lsn: Lsn,
        kind: RowKind,
        group: u16,
        file: u16,
        partition: usize,
    ) {
        let entry = RowEntry {
            place,
            lsn_offset: (lsn.0 - self.chunk.base.0) as u32,
            number: self.chunk.records as u32,
            group,
            file,
            kind,
        };
        let first = &mut self.chunk.first_rows[usize::from(file)];
        *first = (*first).min(entry.number);
        self.chunk.partitions[partition].push(entry);
        self.chunk.rows += 1;
    }

    /// A heap record that is no row: it matters only where it changes a catalog's page.
    fn deal_catalog_page(
        &mut self,
        record: &[u8],
        place: Place,
        lsn: Lsn,
        end: Lsn,
    ) -> Result<(), FrameError> {
        let (node, _) =
            walk::first_block(record, self.rules.format).ok_or(FrameError::Malformed {
                manager: "Heap",
                problem: "no block reference",
            })?;
        let file = self.file(&node);
        if self.chunk.lookups.tracked[usize::from(file)] {
            self.order(place, lsn, end, OrderedKind::CatalogPage);
        }
        Ok(())
    }

    fn deal_tracked(
        &mut self,
        record: &[u8],
        place: Place,
        lsn: Lsn,
        end: Lsn,
        manager: u8,
        op: u8,
    ) -> Result<(), FrameError> {
        let kind = match manager {
            id::XLOG => match op {
                xlog::FPI | xlog::FPI_FOR_HINT => {
                    return self.deal_catalog_page(record, place, lsn, end);
                }
                xlog::SWITCH => {
                    let segment = self.rules.segment_bytes;
                    self.chunk.stop = Stop::Switch;
                    self.position = Lsn(end.0.next_multiple_of(segment));
                    return Ok(());
                }
                xlog::NOOP | xlog::NEXTOID | xlog::RESTORE_POINT => return Ok(()),
                _ => OrderedKind::Log,
            },
            id::TRANSACTION => OrderedKind::Transaction,
            id::STANDBY => match op {
                0x10 => OrderedKind::RunningTransactions,
                _ => return Ok(()),
            },
            id::SEQUENCE => OrderedKind::Sequence,
            id::LOGICAL_MESSAGE => OrderedKind::Message,
            _ => OrderedKind::Replay,
        };
        self.order(place, lsn, end, kind);
        Ok(())
    }

    fn order(&mut self, place: Place, lsn: Lsn, end: Lsn, kind: OrderedKind) {
        let base = self.chunk.base.0;
        self.chunk.ordered.push(OrderedEntry {
            place,
            lsn_offset: (lsn.0 - base) as u32,
            end_offset: (end.0.next_multiple_of(8) - base) as u32,
            number: self.chunk.records as u32,
            kind,
        });
    }

    /// The group of a transaction; the first record of each is searched for its top's xid.
    #[inline(always)]
    fn group(&mut self, xid: u32, record: &[u8], lsn: Lsn) -> Result<u16, FrameError> {
        match self.chunk.lookups.group(xid) {
            Some(group) => Ok(group),
            None => self.new_group(xid, record, lsn),
        }
    }

    fn new_group(&mut self, xid: u32, record: &[u8], lsn: Lsn) -> Result<u16, FrameError> {
        let malformed = |problem| FrameError::Malformed {
            manager: "any",
            problem,
        };
        let top = walk::top_xid(record, self.rules.format)
            .ok_or_else(|| malformed("headers do not fit the record"))?;
        let group = self.chunk.groups.len() as u16;
        assert!(
            group < NO_GROUP,
            "a chunk holds fewer records than group numbers"
        );
        self.chunk.groups.push(Group {
            xid: Xid(xid),
            top,
            first: lsn,
        });
        self.chunk.lookups.add_group(xid, group);
        Ok(group)
    }

    #[inline(always)]
    fn file(&mut self, node: &RelFileNode) -> u16 {
        match self.chunk.lookups.file(node) {
            Some(file) => file,
            None => self.new_file(node),
        }
    }

    #[cold]
    fn new_file(&mut self, node: &RelFileNode) -> u16 {
        let file = self.chunk.files.len() as u16;
        assert!(
            file < u16::MAX,
            "a chunk holds fewer records than file numbers"
        );
        let tracked = self.tracked.contains(*node);
        self.chunk.files.push(*node);
        self.chunk.first_rows.push(u32::MAX);
        self.chunk.lookups.add_file(node, file, tracked);
        file
    }
}
