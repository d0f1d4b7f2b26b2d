//! The 28 bytes every frame begins with; drawn at the head of [`super`].

use bytes::Bytes;

use super::error::WireError;

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 28;
/// The first bytes of every frame.
pub const MAGIC: [u8; 4] = *b"RDSW";
/// The version this code speaks.
pub const VERSION: u8 = 5;
/// Bytes of the header that its own checksum covers.
const CHECKED_BYTES: usize = HEADER_BYTES - 4;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// Client: which session and stripe this connection belongs to.
    Hello = 1,
    /// Server: the connection is taken.
    Welcome = 2,
    /// Server: events.
    Data = 3,
    /// Server: the structure that later events name.
    Relation = 4,
    /// Server: how far everything has been released.
    Heartbeat = 5,
    /// Server: something the subscriber should know.
    Notice = 6,
    /// Server: the session, or the connection, ends for a reason.
    Error = 7,
    /// Server: everything asked for has been sent.
    End = 8,
    /// Client: bytes that may be sent.
    Credit = 9,
    /// Client: everything up to here is safe on its side.
    Ack = 10,
    /// Either: still here.
    Ping = 11,
    /// Client: it is done.
    Bye = 12,
    /// Server: what a database that later events name is called.
    Database = 13,
}

impl FrameKind {
    /// The kind with this number.
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Hello,
            2 => Self::Welcome,
            3 => Self::Data,
            4 => Self::Relation,
            5 => Self::Heartbeat,
            6 => Self::Notice,
            7 => Self::Error,
            8 => Self::End,
            9 => Self::Credit,
            10 => Self::Ack,
            11 => Self::Ping,
            12 => Self::Bye,
            13 => Self::Database,
            _ => return None,
        })
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the payload is.
    pub kind: FrameKind,
    /// Bits that depend on the kind.
    pub flags: u16,
    /// Bytes of payload.
    pub length: u32,
    /// Place in the session, from 1; 0 outside the order.
    pub sequence: u64,
    /// CRC-32 of the payload.
    pub payload_crc: u32,
}

impl FrameHeader {
    /// The header's bytes, checksum included.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..4].copy_from_slice(&MAGIC);
        out[4] = VERSION;
        out[5] = self.kind as u8;
        out[6..8].copy_from_slice(&self.flags.to_le_bytes());
        out[8..12].copy_from_slice(&self.length.to_le_bytes());
        out[12..20].copy_from_slice(&self.sequence.to_le_bytes());
        out[20..24].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32fast::hash(&out[..CHECKED_BYTES]);
        out[24..28].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header. The length is checked against `length_max` before it is of any use.
    pub fn parse(bytes: &[u8; HEADER_BYTES], length_max: usize) -> Result<Self, WireError> {
        let mut cursor = crate::Cursor::new(bytes);
        let magic = cursor.array("frame magic")?;
        if magic != MAGIC {
            return Err(WireError::BadMagic(magic));
        }
        let version = cursor.u8("frame version")?;
        let kind = cursor.u8("frame kind")?;
        let flags = cursor.u16("frame flags")?;
        let length = cursor.u32("frame length")?;
        let sequence = cursor.u64("frame sequence")?;
        let payload_crc = cursor.u32("payload checksum")?;
        let found = cursor.u32("header checksum")?;
        let computed = crc32fast::hash(bytes.get(..CHECKED_BYTES).unwrap_or_default());
        if found != computed {
            return Err(WireError::HeaderChecksum { found, computed });
        }
        if version != VERSION {
            return Err(WireError::BadVersion(version));
        }
        let kind = FrameKind::from_u8(kind).ok_or(WireError::UnknownKind(kind))?;
        if length as usize > length_max {
            return Err(WireError::TooLarge {
                what: "frame",
                size: u64::from(length),
                limit: length_max as u64,
            });
        }
        Ok(Self {
            kind,
            flags,
            length,
            sequence,
            payload_crc,
        })
    }
}

/// A whole frame whose checksums hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The header.
    pub header: FrameHeader,
    /// What follows it.
    pub payload: Bytes,
}

impl Frame {
    /// Decodes the payload as a `P`, if that is the frame's kind.
    pub fn decode<P: Payload>(&self) -> Result<P, WireError> {
        if self.header.kind != P::KIND {
            return Err(WireError::Unexpected {
                found: self.header.kind,
                wanted: P::NAME,
            });
        }
        if self.header.flags != 0 {
            return Err(WireError::UnknownFlags {
                kind: self.header.kind,
                flags: self.header.flags,
            });
        }
        P::decode(&self.payload)
    }
}

/// A payload that is small and has no flags: everything but [`super::Data`].
pub trait Payload: Sized {
    /// The frame's kind.
    const KIND: FrameKind;
    /// The kind's name, for errors.
    const NAME: &'static str;

    /// Appends the payload.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads a payload; leftovers are an error.
    fn decode(payload: &[u8]) -> Result<Self, WireError>;
}

/// Appends a whole frame to `out`.
pub fn push_frame<P: Payload>(out: &mut Vec<u8>, sequence: u64, payload: &P) {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    payload.encode(out);
    let body = &out[start + HEADER_BYTES..];
    // Every payload's size is bounded by its own fields, far below 4 GB.
    let header = FrameHeader {
        kind: P::KIND,
        flags: 0,
        length: body.len() as u32,
        sequence,
        payload_crc: crc32fast::hash(body),
    };
    out[start..start + HEADER_BYTES].copy_from_slice(&header.to_bytes());
}
