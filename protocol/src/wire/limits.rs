//! Every bound of the data plane, in one place.

/// Payload bytes of one frame, at most; a longer one is refused before anything is allocated.
pub const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of events in one data frame, before compression; what is longer travels in parts.
pub const DATA_RAW_BYTES_MAX: usize = 1024 * 1024;
/// Payload bytes of a frame from a peer that has not shown its token yet.
pub const HELLO_BYTES_MAX: usize = 256;
/// Payload bytes of a frame that a client sends after its hello.
pub const CLIENT_FRAME_BYTES_MAX: usize = 1024;
/// Bytes of one encoded relation.
pub const RELATION_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of one value that a receiver takes unless told otherwise: PostgreSQL has none larger.
// pg: utils/memutils.h MaxAllocSize [14-18]
pub const VALUE_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Bytes that an event may have beyond its largest value: what stands around it.
pub const EVENT_REST_BYTES_MAX: u64 = 256 * 1024;
/// Connections of one session.
pub const STREAMS_MAX: u16 = 32;
/// Bytes that a receiver lets the sender have under way, unless told otherwise.
pub const WINDOW_BYTES: u64 = 16 * 1024 * 1024;
/// Frames that may arrive ahead of the one that is waited for.
pub const JOINER_FRAMES_MAX: usize = 64 * 1024;
/// Bytes that LZ4 can make of one stored byte, at most.
pub const LZ4_RATIO_MAX: usize = 255;
/// Bytes of events that unpacking can make of one packed byte, at most: that many are a row whose 64
/// bytes of payload are those of the row before.
pub const PACKED_RATIO_MAX: usize = crate::event::HEADER_BYTES + 64;
/// Buffers that a connection keeps for the events of its next frames, and a sender for what it
/// compresses; no more of them than were in use at once.
pub const BUFFERS_KEPT: usize = 16;
/// Bytes of those buffers together.
pub const BUFFERS_KEPT_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of a transaction header inside a data frame.
pub const TRANSACTION_HEADER_BYTES_MAX: usize = 64 * 1024;
/// Milliseconds without a byte from a peer, after which it counts as dead.
pub const PEER_TIMEOUT_MS: u32 = 10_000;

const _: () = assert!(DATA_RAW_BYTES_MAX + TRANSACTION_HEADER_BYTES_MAX + 1024 < FRAME_BYTES_MAX);
const _: () = assert!(HELLO_BYTES_MAX <= CLIENT_FRAME_BYTES_MAX);
const _: () = assert!(WINDOW_BYTES as usize > 2 * FRAME_BYTES_MAX);
