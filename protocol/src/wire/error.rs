//! What can be wrong with a frame.

use crate::cursor::ShortInput;
use crate::event::EventError;

/// Bytes that are not a frame of this protocol. The connection they came on is of no more use:
/// close it, connect again, and resume at the last good position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The first bytes are not ours: the peer speaks something else.
    #[error("not a redostream data connection: frame begins with {0:02x?}")]
    BadMagic([u8; 4]),
    /// A version that was not agreed on.
    #[error("frame of protocol version {0}, this side speaks version {speaks}", speaks = super::header::VERSION)]
    BadVersion(u8),
    /// The header contradicts its checksum.
    #[error("frame header damaged: checksum {found:08x}, computed {computed:08x}")]
    HeaderChecksum {
        /// As the header says.
        found: u32,
        /// Of its bytes.
        computed: u32,
    },
    /// The payload contradicts its checksum.
    #[error("frame {sequence} damaged: checksum {found:08x}, computed {computed:08x}")]
    PayloadChecksum {
        /// The frame's sequence number.
        sequence: u64,
        /// As the header says.
        found: u32,
        /// Of its bytes.
        computed: u32,
    },
    /// A kind that this version does not know.
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// A kind that does not belong here.
    #[error("unexpected {found:?} frame, {wanted} expected")]
    Unexpected {
        /// What came.
        found: super::FrameKind,
        /// What was wanted.
        wanted: &'static str,
    },
    /// Flag bits that the kind does not have.
    #[error("unknown flags {flags:#06x} on a {kind:?} frame")]
    UnknownFlags {
        /// The frame's kind.
        kind: super::FrameKind,
        /// Its flags.
        flags: u16,
    },
    /// A length above the bound.
    #[error("{what} of {size} bytes, at most {limit} are taken")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size as the frame says, in bytes.
        size: u64,
        /// The bound, in bytes.
        limit: u64,
    },
    /// The payload ends too early or has leftovers.
    #[error(transparent)]
    Short(#[from] ShortInput),
    /// A field holds what it cannot hold.
    #[error("{0}")]
    Invalid(&'static str),
    /// The compressed bytes do not give what the frame says.
    #[error("compressed block does not decompress to its {raw_size} bytes")]
    BadCompression {
        /// Raw size as the frame says, in bytes.
        raw_size: u32,
    },
    /// Events that are not events.
    #[error(transparent)]
    Event(#[from] EventError),
    /// A structure in postcard form that does not decode.
    #[error("{0} does not decode")]
    Structure(&'static str),
}
