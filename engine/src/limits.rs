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

const _: () = assert!(CHUNK_BYTES.is_multiple_of(WAL_PAGE_BYTES));
const _: () = assert!(COPY_BYTES_MAX < BLOCK_BYTES);
