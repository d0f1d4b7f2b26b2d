//! What sessions need of the engine, as traits: whoever owns pipelines and the feed implements
//! them.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use redostream_engine::feed::block::Block;
use redostream_protocol::control::{From as Place, Start};
use redostream_protocol::schema::{Database, Relation, RelationVersion};
use redostream_protocol::wire::check::{BlockSummary, CheckError, scan};
use redostream_protocol::wire::compress::Compressor;
use redostream_protocol::wire::data::DataBody;
use redostream_protocol::wire::limits::DATA_RAW_BYTES_MAX;
use redostream_protocol::wire::{Fault, FaultCode};
use redostream_protocol::{DatabaseOid, Lsn, Position, TimelineId};

/// A future that a trait object gives.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where a subscriber wants to begin, and in which cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartRequest {
    /// The place.
    pub place: Place,
    /// The cluster it belongs to, if that is known.
    pub system_identifier: Option<u64>,
}

/// A stream that has been opened.
pub struct Opened {
    /// Where it begins; the reader's first blocks may hold events before.
    pub start: Start,
    /// Its blocks.
    pub reader: Box<dyn BlockReader>,
}

/// Gives streams, structures and the state of things. Calls other than the `async` one may block
/// and are made from threads that may.
pub trait StreamProvider: Send + Sync + 'static {
    /// The cluster's `system_identifier`.
    fn system_identifier(&self) -> u64;
    /// The timeline that is followed.
    fn timeline(&self) -> TimelineId;
    /// The earliest position; none until the server is ready.
    fn ready(&self) -> Option<Position>;
    /// Waits until [`StreamProvider::ready`] gives something.
    fn wait_ready(&self) -> BoxFuture<'_, ()>;
    /// Opens a stream.
    fn open(&self, request: &StartRequest) -> Result<Opened, Fault>;
    /// A relation version that a block of this provider names.
    fn relation(&self, version: RelationVersion) -> Option<Arc<Relation>>;
    /// How far everything is.
    fn status(&self) -> StatusSnapshot;
    /// The JSON form of a table.
    fn describe(&self, database: &str, table: &str, at: Option<&str>) -> Result<String, Fault>;
    /// The oldest position, and where a stream from this place would begin.
    fn probe(&self, request: &StartRequest) -> Result<(Position, String), Fault>;
    /// A database, if it is known.
    fn database(&self, _database: DatabaseOid) -> Option<Database> {
        None
    }
    /// Whether there is a database of this name now.
    fn database_exists(&self, _name: &str) -> bool {
        true
    }
    /// The columns of each table there is now, in any of `databases` (in any at all if empty), whose
    /// schema and name `matches`; none if that cannot be said.
    fn columns_of(
        &self,
        _databases: &[String],
        _matches: &dyn Fn(&str, &str) -> bool,
    ) -> Option<Vec<Vec<String>>> {
        None
    }
    /// Whether there is such a table now, in any of `databases` (in any at all if empty) and, if
    /// it is given, in this schema.
    fn table_exists(&self, _databases: &[String], _schema: Option<&str>, _table: &str) -> bool {
        true
    }
}

/// One subscriber's way through the blocks; called from a thread of its own.
pub trait BlockReader: Send {
    /// Waits up to `timeout` for the next block.
    fn next(&mut self, timeout: Duration) -> Result<Option<Arc<BlockEntry>>, Fault>;
    /// Everything that starts before this LSN is released and has been given out by
    /// [`BlockReader::next`].
    fn released(&self) -> Lsn;
    /// Says that every block is going to be compressed, so that it may be already when it is given.
    fn will_compress(&mut self) {}
}

/// The state of the server, subscribers aside; units as in the control plane's `StatusReply`.
#[derive(Clone, Debug, Default)]
pub struct StatusSnapshot {
    /// starting, consistent, ready, stopping, failed
    pub state: String,
    /// The oldest position that can be served.
    pub earliest: Option<Position>,
    /// End of the WAL that is here.
    pub received: Lsn,
    /// End of what is decoded.
    pub decoded: Lsn,
    /// End of what is released.
    pub released: Lsn,
    /// Bytes of WAL between the source's end and what is released.
    pub lag_bytes: u64,
    /// The same in seconds.
    pub lag_seconds: f64,
    /// The source's clock, microseconds since 2000-01-01 00:00 UTC; 0 if it is not known.
    pub source_time_us: i64,
    /// Xids, prepared gids or a stage that everything waits for.
    pub waiting_for: Vec<String>,
    /// Name, busy seconds and waiting seconds of each stage.
    pub stages: Vec<(String, f64, f64)>,
    /// Open transactions.
    pub open_transactions: u64,
    /// Bytes of their events.
    pub open_transaction_bytes: u64,
    /// Bytes spilled so far.
    pub spilled_bytes: u64,
}

/// A block, and what is made of it once for all sessions.
#[derive(Debug)]
pub struct BlockEntry {
    /// The block.
    pub block: Block,
    passing: bool,
    raw: OnceLock<Vec<DataBody>>,
    compressed: OnceLock<Vec<DataBody>>,
    summary: OnceLock<Result<BlockSummary, CheckError>>,
}

impl BlockEntry {
    /// Wraps a block that is kept for several sessions.
    #[must_use]
    pub fn new(block: Block) -> Self {
        Self::wrap(block, false)
    }

    /// Wraps a block that one session sends and lets go.
    #[must_use]
    pub fn passing(block: Block) -> Self {
        Self::wrap(block, true)
    }

    fn wrap(block: Block, passing: bool) -> Self {
        Self {
            block,
            passing,
            raw: OnceLock::new(),
            compressed: OnceLock::new(),
            summary: OnceLock::new(),
        }
    }

    /// The frames' bodies, compressed if there is something to do it with: one, but for an event
    /// larger than a frame.
    pub fn bodies(&self, compressor: Option<&mut Compressor>) -> &[DataBody] {
        let made = match compressor {
            Some(_) => &self.compressed,
            None => &self.raw,
        };
        let compressor = compressor.map(|compressor| compressor.lend(self.passing));
        made.get_or_init(|| data_bodies(&self.block.pieces, compressor))
    }

    /// Whether it has been compressed already.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.compressed.get().is_some()
    }

    /// Bytes that the bodies made so far hold beside the block itself.
    #[must_use]
    pub fn extra_bytes(&self) -> usize {
        let bodies = self.compressed.get().map(Vec::as_slice).unwrap_or_default();
        bodies.iter().map(|body| body.own_size).sum()
    }

    /// What the block holds of which transaction.
    pub(super) fn summary(&self) -> Result<&BlockSummary, Fault> {
        let made = self.summary.get_or_init(|| {
            let block = &self.block;
            scan(
                &joined(&block.pieces),
                block.first.timeline,
                block.continues.as_ref(),
            )
        });
        made.as_ref().map_err(|error| {
            let message = format!("a block for subscribers is damaged: {error}");
            Fault::new(FaultCode::Internal, message).at(self.block.first.commit_lsn)
        })
    }
}

/// The pieces as one.
pub(super) fn joined(pieces: &[Bytes]) -> Bytes {
    match pieces {
        [one] => one.clone(),
        many => Bytes::from(many.concat()),
    }
}

/// Cuts `pieces` into bodies of at most [`DATA_RAW_BYTES_MAX`] bytes.
pub(super) fn data_bodies(
    pieces: &[Bytes],
    mut compressor: Option<&mut Compressor>,
) -> Vec<DataBody> {
    let mut make = |pieces| match &mut compressor {
        Some(compressor) => DataBody::lz4(pieces, compressor),
        None => DataBody::raw(pieces),
    };
    let mut bodies = Vec::new();
    let (mut under_way, mut room) = (Vec::new(), DATA_RAW_BYTES_MAX);
    for piece in pieces {
        let mut piece = piece.clone();
        while piece.len() > room {
            under_way.push(piece.split_to(room));
            bodies.push(make(std::mem::take(&mut under_way)));
            room = DATA_RAW_BYTES_MAX;
        }
        room -= piece.len();
        if !piece.is_empty() {
            under_way.push(piece);
        }
    }
    if !under_way.is_empty() {
        bodies.push(make(under_way));
    }
    bodies
}
