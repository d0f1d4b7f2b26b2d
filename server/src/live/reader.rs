//! One subscriber's way through the blocks: the feed if it is there, else a catch-up pipeline
//! that ends by joining the feed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redostream_engine::feed::block::Block;
use redostream_engine::feed::{Next, Reader, Start as FeedStart};
use redostream_protocol::control::Start;
use redostream_protocol::wire::{Fault, FaultCode};
use redostream_protocol::{Lsn, Position};

use super::catch_up::{CatchUp, Versions};
use super::epoch::Epoch;
use super::{Live, trim};
use crate::session::{BlockEntry, BlockReader};

enum Way {
    Feed(Reader<Arc<BlockEntry>>),
    CatchUp(CatchUp),
}

/// A [`BlockReader`] over a live server.
pub(super) struct LiveReader {
    live: Arc<Live>,
    epoch: Arc<Epoch>,
    way: Way,
    /// The relation versions of the catch-up pipeline that the last block came from.
    versions: Option<Versions>,
    start: Start,
    /// The last event given; what the feed still holds of it is cut off when joining.
    last: Option<Position>,
    released: Lsn,
    /// Whether the next block of the feed may begin before `last`.
    joining: bool,
    /// When the last block was given, until the next is asked for.
    gave: Option<Instant>,
    /// Whether all blocks are going to be compressed.
    compresses: bool,
}

impl LiveReader {
    pub(super) fn open(live: &Arc<Live>, start: Start) -> Result<Self, Fault> {
        let epoch = live.epoch();
        let found = match start {
            Start::After(position) => epoch.feed.after(position),
            Start::At(lsn) => epoch.feed.at_lsn(lsn),
        };
        // Before C nothing was released, so a feed that was never evicted begins at C.
        let (way, versions) = match found {
            FeedStart::At(sequence) => (Way::Feed(epoch.feed.reader(sequence)), None),
            FeedStart::Behind => {
                let (catch_up, versions) = CatchUp::start(live, start.lsn())?;
                (Way::CatchUp(catch_up), Some(versions))
            }
        };
        Ok(LiveReader {
            live: Arc::clone(live),
            epoch,
            way,
            versions,
            start,
            last: None,
            released: Lsn::INVALID,
            joining: false,
            gave: None,
            compresses: false,
        })
    }

    fn given(&mut self, block: &Block) {
        if block.events > 0 {
            self.last = Some(block.last);
        }
        self.released = self.released.max(block.wal_end);
    }

    /// Goes over to the feed, if it has everything after what was given.
    fn try_join(&mut self) {
        let Way::CatchUp(_) = &self.way else {
            return;
        };
        let found = match self.last {
            Some(last) => self.epoch.feed.after(last),
            None => self.epoch.feed.at_lsn(self.released.max(self.start.lsn())),
        };
        if let FeedStart::At(sequence) = found {
            tracing::info!(released = %self.released, "catch-up pipeline has reached the feed");
            self.way = Way::Feed(self.epoch.feed.reader(sequence));
            self.joining = self.last.is_some();
        }
    }

    /// Cuts off what was given before, once after joining.
    fn cut(&mut self, entry: Arc<BlockEntry>) -> Result<Option<Arc<BlockEntry>>, Fault> {
        let (true, Some(last)) = (self.joining, self.last) else {
            return Ok(Some(entry));
        };
        if entry.block.events == 0 {
            return Ok(Some(entry));
        }
        let cut = trim::after(&entry.block, last)
            .map_err(|error| Fault::new(FaultCode::Internal, error.to_string()))?;
        self.joining = cut.is_none();
        Ok(cut.map(|block| Arc::new(BlockEntry::passing(block))))
    }

    fn next_of_feed(&mut self, timeout: Duration) -> Result<Option<Arc<BlockEntry>>, Fault> {
        let Way::Feed(reader) = &mut self.way else {
            return Ok(None);
        };
        match reader.next_within(timeout) {
            Next::Entry(entry) => {
                let feed = reader.feed();
                let shared = feed.encoded(&entry, |block| {
                    let shared = Arc::new(BlockEntry::new(block.clone()));
                    (shared, size_of::<BlockEntry>())
                });
                let shared = Arc::clone(shared);
                let Some(entry) = self.cut(shared)? else {
                    return Ok(None);
                };
                self.given(&entry.block);
                Ok(Some(entry))
            }
            Next::Wait => Ok(None),
            Next::Behind { .. } => {
                let from = match self.last {
                    Some(last) => last.commit_lsn,
                    None => self.released.max(self.start.lsn()),
                };
                let (catch_up, versions) = CatchUp::start(&self.live, from)?;
                if self.compresses {
                    catch_up.compress_ahead();
                }
                self.way = Way::CatchUp(catch_up);
                self.versions = Some(versions);
                self.joining = self.last.is_some();
                Ok(None)
            }
            // Either another epoch has begun, or this was the last.
            Next::Closed if !Arc::ptr_eq(&self.live.epoch(), &self.epoch) => Ok(None),
            Next::Closed => Err(self.live.end_fault()),
        }
    }
}

impl LiveReader {
    /// Goes over to the present epoch, if another has begun.
    fn follow(&mut self) -> Result<(), Fault> {
        let epoch = self.live.epoch();
        if Arc::ptr_eq(&epoch, &self.epoch) {
            return Ok(());
        }
        if let Some(fork) = &epoch.fork {
            return Err(fork.fault(self.last, self.passed()));
        }
        let start = match self.last {
            Some(last) => Start::After(last),
            None => Start::At(self.released.max(self.start.lsn())),
        };
        let mut again = LiveReader::open(&self.live, start)?;
        again.start = self.start;
        again.last = self.last;
        again.released = self.passed();
        again.joining = self.last.is_some();
        if self.compresses {
            again.will_compress();
        }
        *self = again;
        Ok(())
    }
}

impl BlockReader for LiveReader {
    fn next(&mut self, timeout: Duration) -> Result<Option<Arc<BlockEntry>>, Fault> {
        let live = Arc::clone(&self.live);
        let [busy, waiting] = &live.gauges.session_ns;
        if let Some(gave) = self.gave.take() {
            super::spent(busy, gave);
        }
        let since = Instant::now();
        let found = self.look(timeout);
        super::spent(waiting, since);
        if matches!(found, Ok(Some(_))) {
            self.gave = Some(Instant::now());
        }
        found
    }

    fn released(&self) -> Lsn {
        self.passed()
    }

    fn will_compress(&mut self) {
        self.compresses = true;
        if let Way::CatchUp(catch_up) = &self.way {
            catch_up.compress_ahead();
        }
    }
}

impl LiveReader {
    fn passed(&self) -> Lsn {
        // Who stands at the feed's end has nothing to wait for, also if no block was ever given.
        match &self.way {
            Way::Feed(reader) => self.released.max(reader.passed().unwrap_or_default()),
            Way::CatchUp(_) => self.released,
        }
    }

    fn look(&mut self, timeout: Duration) -> Result<Option<Arc<BlockEntry>>, Fault> {
        self.follow()?;
        let Way::CatchUp(catch_up) = &mut self.way else {
            // The last block of the catch-up pipeline has been dealt with.
            self.versions = None;
            return self.next_of_feed(timeout);
        };
        let Some(entry) = catch_up.next(timeout)? else {
            self.try_join();
            return Ok(None);
        };
        let Some(entry) = self.cut(entry)? else {
            return Ok(None);
        };
        self.given(&entry.block);
        // Only between transactions, so that nothing of an open one is counted twice.
        if self
            .last
            .is_none_or(|last| last.row == Position::COMMIT_ROW)
        {
            self.try_join();
        }
        Ok(Some(entry))
    }
}
