//! Every bound of sessions and their connections, in one place.

use std::time::Duration;

/// Sessions at a time, unless told otherwise; each has a thread.
pub const SESSIONS_MAX: usize = 256;
/// Decoders of a catch-up pipeline, however many cores there are: they serve one session, whose thread
/// sends what two to five of them decode, and have chunks under way for as long as it is slow.
pub const CATCH_UP_DECODERS_MAX: usize = 8;
/// Connections of one plane that have not shown who they are, at a time.
pub const STRANGERS_MAX: usize = 512;
/// How long they may take for it, TLS included.
pub const STRANGER_TIMEOUT: Duration = Duration::from_secs(10);
/// Control connections that are let in and not yet taken on by HTTP.
pub const CONTROL_QUEUE_MAX: usize = 64;
/// Requests under way on one control connection.
pub const CONTROL_REQUESTS_MAX: u32 = 16;
/// Bytes of a control request's headers.
pub const CONTROL_HEADERS_BYTES_MAX: u32 = 16 * 1024;
/// Between two looks whether a control connection's peer is still there, and how long it may take
/// for its answer.
pub const CONTROL_KEEPALIVE: Duration = Duration::from_secs(10);
/// Before the next connection is taken where the system refused one.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a durable name.
pub const NAME_BYTES_MAX: usize = 200;
/// Bytes of a client's `instance`.
pub const INSTANCE_BYTES_MAX: usize = 64;
/// Table patterns, databases or kinds in one request.
pub const FILTER_ITEMS_MAX: usize = 1024;
/// Bytes of one pattern or name in a filter.
pub const FILTER_ITEM_BYTES_MAX: usize = 512;
/// Bytes of a control request.
pub const CONTROL_REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// How long whoever needs the past waits for a server's first restart point, and between two looks.
pub const FIRST_RESTART_POINT_WAIT: Duration = Duration::from_secs(10);
/// As above.
pub const FIRST_RESTART_POINT_PAUSE: Duration = Duration::from_millis(20);
/// Durable names.
pub const SUBSCRIPTIONS_MAX: usize = 4096;
/// Bytes of a subscription's file.
pub const SUBSCRIPTION_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of frames that wait for a connection; one frame may go beyond.
pub const QUEUE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Frames that wait for a connection, per connection.
pub const QUEUE_FRAMES_PER_STREAM: usize = 2;
/// Bytes that the system takes from a connection before they can be sent. Frames have to be joined in
/// order: what waits here behind a slow link, others that are free cannot carry, and the session's
/// credit waits with it.
pub const UNSENT_BYTES_MAX: u32 = 256 * 1024;
/// How long a connection may take for its hello, and a session for its first connection.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(9);
/// How long a request to open a session waits for readiness before the client is told to ask again.
pub const READY_WAIT: Duration = Duration::from_secs(20);
/// How long a session looks for the next block before it looks around.
pub const BLOCK_WAIT: Duration = Duration::from_millis(200);
/// Between heartbeats of an idle stream.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// At least so long between heartbeats when what came was filtered out.
pub const FILTERED_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);
/// How long the last frame of a session waits for credit.
pub const FAREWELL_WAIT: Duration = Duration::from_secs(1);
/// How long a session that is over stays for its connections to drain.
pub const LINGER: Duration = Duration::from_secs(10);
/// Between writes of acknowledged positions to disk.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(200);
/// Buffer of a connection's reads, in bytes; small, since clients say little.
pub const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Slices given to one write call.
pub const WRITE_SLICES_MAX: usize = 64;
