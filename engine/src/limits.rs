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
/// The largest value PostgreSQL can hold.
// pg: utils/memutils.h MaxAllocSize [14-18]
pub const VALUE_BYTES_MAX: usize = 0x3FFF_FFFF;

/// Sizes of a relation map in bytes, and the entries it has room for.
// pg: utils/cache/relmapper.c MAX_MAPPINGS [14-15: 62, 16-18: 64]
pub const RELATION_MAP_BYTES: [(usize, usize); 2] = [(512, 62), (524, 64)];
/// Exceptions of a commit log page, beyond which it is kept as on disk (that is four times as much).
pub const COMMIT_LOG_EXCEPTIONS_MAX: usize = 512;
/// The newest multixacts whose members are read at the start, whether a catalog names them or not.
pub const MULTIXACTS_SCANNED_MAX: u32 = 1 << 18;
/// Members of one multixact that are believed.
pub const MULTIXACT_MEMBERS_MAX: u32 = 1 << 18;
/// File numbers and OIDs below this were given out by `initdb`.
// pg: access/transam.h FirstNormalObjectId [14-18]
pub const INITDB_FILE_NUMBER_END: u32 = 16384;
/// OIDs below this are system catalogs, whose rows are never passed on.
// pg: access/transam.h FirstUnpinnedObjectId [15-18], FirstBootstrapObjectId [14]
pub const CATALOG_OID_END: u32 = 12000;
/// The highest block number of a catalog file that is believed (64 GB).
pub const CATALOG_BLOCKS_MAX: u32 = 8 * 1024 * 1024;
/// How deep types may be nested (domain over array of composite ...).
pub const TYPE_DEPTH_MAX: usize = 64;

const _: () = assert!(CHUNK_BYTES.is_multiple_of(WAL_PAGE_BYTES));
const _: () = assert!(COPY_BYTES_MAX < BLOCK_BYTES);
