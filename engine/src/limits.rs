//! Every bound of the engine, in one place.

/// Bytes of a WAL page.
// pg: pg_config.h XLOG_BLCKSZ [14-18]; other values need PostgreSQL to be built for them
pub const WAL_PAGE_BYTES: usize = 8192;
/// Bytes of a heap page.
// pg: pg_config.h BLCKSZ [14-18]
pub const HEAP_PAGE_BYTES: usize = 8192;
/// Bytes of WAL in one chunk, at most.
pub const CHUNK_BYTES: usize = 256 * 1024;
/// The largest WAL record that is believed.
// pg: access/xlogrecord.h XLogRecordMaxSize [16-18]; 14 and 15 have no limit below 4 GB
pub const RECORD_BYTES_MAX: usize = 1020 * 1024 * 1024;
/// Events bytes of one released block, at which it is closed; one event may go beyond.
pub const BLOCK_BYTES: usize = 256 * 1024;
/// Runs smaller than this are copied into a block, larger ones are passed by reference.
pub const COPY_BYTES_MAX: usize = 8 * 1024;
/// How far a block may go beyond [`BLOCK_BYTES`] rather than split a run.
pub const BLOCK_SLACK_BYTES: usize = BLOCK_BYTES / 4;
/// A run is passed on by reference only if it is at least one part in so many of its arena, so that
/// a small run never keeps a large arena alive in the feed.
pub const REFERENCE_SHARE: usize = 16;
/// A run of a transaction that stays open pins its arena only if it is at least one part in so many
/// of it; else it is copied out. Bounds the copying to one pass over an arena.
pub const PIN_SHARE: usize = 4;
/// Ended transactions whose buffers are kept for the next ones.
pub const TRANSACTION_POOL: usize = 256;
/// Buffer of an ended transaction that is kept for the next one, at most.
pub const TRANSACTION_POOL_BYTES: usize = 16 * 1024;
/// Rows up to this many bytes are rebuilt in a buffer that is reused, larger ones in their own.
pub const REBUILD_SCRATCH_BYTES: usize = 64 * 1024;
/// The largest value PostgreSQL can hold.
// pg: utils/memutils.h MaxAllocSize [14-18]
pub const VALUE_BYTES_MAX: usize = 0x3FFF_FFFF;
/// The smallest and largest WAL segment.
// pg: access/xlog_internal.h WalSegMinSize, WalSegMaxSize [14-18]
pub const SEGMENT_BYTES_MIN: u64 = 1024 * 1024;
/// As above.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Segment files a source keeps open.
pub const OPEN_SEGMENTS_MAX: usize = 8;
/// Segments a source looks ahead for; more are looked for as the reader comes nearer.
pub const SEGMENTS_AHEAD_MAX: u64 = 8;
/// Segments kept that a restore command has fetched.
pub const RESTORED_SEGMENTS_MAX: usize = 16;
/// The largest timeline history file that is believed.
pub const HISTORY_BYTES_MAX: u64 = 1024 * 1024;
/// The smallest redo buffer.
pub const REDO_BUFFER_BYTES_MIN: usize = 1024 * 1024;
/// Pieces of WAL smaller than this are gathered in the redo buffer, larger ones kept as they came.
pub const REDO_PIECE_BYTES: usize = 16 * 1024;

const _: () = assert!(REDO_PIECE_BYTES * 4 <= REDO_BUFFER_BYTES_MIN);
const _: () = assert!(CHUNK_BYTES.is_multiple_of(WAL_PAGE_BYTES));
const _: () = assert!(COPY_BYTES_MAX < BLOCK_BYTES);
const _: () = assert!(REBUILD_SCRATCH_BYTES < BLOCK_BYTES);
const _: () = assert!(TRANSACTION_POOL_BYTES < BLOCK_BYTES);
