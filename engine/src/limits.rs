//! Every bound of the engine, in one place.

/// Bytes of a WAL page.
// pg: pg_config.h XLOG_BLCKSZ [14-18]; other values need PostgreSQL to be built for them
pub const WAL_PAGE_BYTES: usize = 8192;
/// Bytes of a heap page.
// pg: pg_config.h BLCKSZ [14-18]
pub const HEAP_PAGE_BYTES: usize = 8192;
/// Bytes of WAL in one chunk, unless set otherwise.
pub const CHUNK_BYTES: usize = 256 * 1024;
/// Bytes of WAL in one chunk, at most: record and group numbers of a chunk must fit their fields.
pub const CHUNK_BYTES_MAX: usize = 1024 * 1024;
/// Chunks that may be under way for each decoder.
pub const CHUNKS_PER_DECODER: usize = 3;
/// The largest WAL record that is believed.
// pg: access/xlogrecord.h XLogRecordMaxSize [16-18]; 14 and 15 have no limit below 4 GB
pub const RECORD_BYTES_MAX: usize = 1020 * 1024 * 1024;
/// Events bytes of one released block, at which it is closed; one event may go beyond.
pub const BLOCK_BYTES: usize = 256 * 1024;
/// Runs smaller than this are copied into a block, larger ones are passed by reference.
pub const COPY_BYTES_MAX: usize = 8 * 1024;
/// The same where blocks are for one reader and soon gone: what they keep alive is not kept long.
pub const COPY_BYTES_MAX_PASSING: usize = 1024;
/// Bytes of the reason why rows cannot be decoded.
pub const REASON_BYTES_MAX: usize = 512;
/// How far a block may go beyond [`BLOCK_BYTES`] rather than split a run.
pub const BLOCK_SLACK_BYTES: usize = BLOCK_BYTES / 4;
/// Blocks are put together only if they name so few relations: each is looked for among the others.
pub const MERGED_RELATIONS_MAX: usize = 128;
/// A run is passed on by reference only if it is at least one part in so many of its arena, so that
/// a small run never keeps a large arena alive in the feed.
pub const REFERENCE_SHARE: usize = 16;
/// A run of a transaction that stays open pins its arena only if it is at least one part in so many
/// of it; else it is copied out. Bounds the copying to one pass over an arena.
pub const PIN_SHARE: usize = 4;
/// Where open transactions keep more memory than they may, one part in so many of it is spilled beyond
/// what they must: a few runs in one go.
pub const SPILL_SHARE: usize = 16;
/// States of the catalogs that an open transaction keeps to name what its TOASTed values refer to
/// (`regclass` and its like); with more, the oldest rows see the next state instead of theirs.
pub const LATE_NAMES_MAX: usize = 64;
/// Ended transactions whose buffers are kept for the next ones.
pub const TRANSACTION_POOL: usize = 256;
/// Buffer of an ended transaction that is kept for the next one, at most.
pub const TRANSACTION_POOL_BYTES: usize = 16 * 1024;
/// Events up to this many bytes that are units of their own are written into a buffer of so many,
/// larger ones into their own.
pub const STANDALONE_ROOM_BYTES: usize = 16 * 1024;
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

/// Sizes of a relation map in bytes, and the entries it has room for.
// pg: utils/cache/relmapper.c MAX_MAPPINGS [14-15: 62, 16-18: 64]
pub const RELATION_MAP_BYTES: [(usize, usize); 2] = [(512, 62), (524, 64)];
/// Exceptions of a commit log page, beyond which it is kept as on disk (that is four times as much).
pub const COMMIT_LOG_EXCEPTIONS_MAX: usize = 512;
/// The newest multixacts whose members are read at the start, whether a catalog names them or not.
pub const MULTIXACTS_SCANNED_MAX: u32 = 1 << 18;
/// Members of one multixact that are believed.
pub const MULTIXACT_MEMBERS_MAX: u32 = 1 << 18;
/// Bytes of `pg_control` that are read: the file is padded to this.
// pg: catalog/pg_control.h PG_CONTROL_FILE_SIZE [14-18]
pub const CONTROL_FILE_BYTES: usize = 8192;
/// Times a file that PostgreSQL overwrites in place is read again until its CRC is right.
pub const REREAD_COUNT_MAX: u32 = 20;
/// Pause between two such reads.
pub const REREAD_PAUSE_MS: u64 = 10;
/// Bytes of a catalog file that one loading task reads.
pub const LOAD_TASK_BYTES: usize = 4 * 1024 * 1024;
/// Loading tasks whose pages are in memory together.
pub const LOAD_TASKS_MAX: usize = 16;
/// Bytes of `backup_label` that are read.
pub const LABEL_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of a prepared transaction's state file that are read.
// pg: access/transam/twophase.c keeps state files below MaxAllocSize [14-18]
pub const STATE_FILE_BYTES_MAX: u64 = 0x3FFF_FFFF;

/// File numbers and OIDs below this were given out by `initdb`.
// pg: access/transam.h FirstNormalObjectId [14-18]
pub const INITDB_FILE_NUMBER_END: u32 = 16384;
/// OIDs below this are system catalogs, whose rows are never passed on.
// pg: access/transam.h FirstUnpinnedObjectId [15-18], FirstBootstrapObjectId [14]
pub const CATALOG_OID_END: u32 = 12000;
/// So many blocks of a catalog file are believed (64 GiB).
pub const CATALOG_BLOCKS_MAX: u32 = 8 * 1024 * 1024;
/// Catalog tuples that one transaction has ended and that are noted, to be let go at its commit.
/// What is beyond stays until the server removes it.
pub const ENDED_TUPLES_MAX: usize = 64 * 1024;
/// How deep a stored expression may be nested.
pub const NODE_DEPTH_MAX: usize = 200;
/// Domains over domains that are followed; they cost no stack, and a damaged catalog may run in
/// circles.
pub const DOMAIN_CHAIN_MAX: usize = 65_536;

const _: () = assert!(REDO_PIECE_BYTES * 4 <= REDO_BUFFER_BYTES_MIN);
/// Memory for arenas is mapped in regions of this size: some huge pages.
pub const ARENA_REGION_BYTES: usize = 8 * 1024 * 1024;
/// Arenas take whole units of this size of a region.
pub const ARENA_UNIT_BYTES: usize = 4 * 1024;
/// Smaller arenas are allocated by themselves, so that rounding up costs little.
pub const ARENA_BYTES_MIN: usize = 16 * 1024;
/// Regions that are kept though nothing is in them, for ever; more of them for a while.
pub const ARENA_REGIONS_KEPT: usize = 2;
/// Buffers larger than this are freed instead of being kept for use again.
pub const POOLED_BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Buffers kept for use again.
pub const POOLED_BUFFERS_MAX: usize = 64;
/// The same of blocks that are for one reader and soon gone.
pub const PASSING_BUFFERS_MAX: usize = 24;

const _: () = assert!(CHUNK_BYTES <= CHUNK_BYTES_MAX);
const _: () =
    assert!(CHUNK_BYTES_MAX / crate::framing::record::RECORD_HEADER_BYTES < u16::MAX as usize);
const _: () = assert!(CHUNK_BYTES.is_multiple_of(WAL_PAGE_BYTES));
const _: () = assert!(COPY_BYTES_MAX < BLOCK_BYTES);
const _: () = assert!(REBUILD_SCRATCH_BYTES < BLOCK_BYTES);
const _: () = assert!(TRANSACTION_POOL_BYTES < BLOCK_BYTES);
const _: () = assert!(ARENA_REGION_BYTES.is_multiple_of(ARENA_UNIT_BYTES * 64));
const _: () = assert!(ARENA_BYTES_MIN >= 4 * ARENA_UNIT_BYTES);
