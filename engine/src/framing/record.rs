//! One WAL record, borrowed and contiguous: header, block references, main data.
//!
//! ```text
//! 0         4      8         16    17    18  20      24
//! | tot_len | xid  | xl_prev | info | rm | pad | crc | headers ... | block data ... | main data |
//!
//! headers, in order, each led by an id byte:
//!   0..32  block reference: fork_flags u8, data_length u16,
//!          [image: length u16, hole_offset u16, info u8, [hole_length u16 if compressed hole]]
//!          [relfilenode 12 bytes unless SAME_REL], block number u32
//!   253    replication origin u16
//!   252    top-level xid u32
//!   255    main data length u8     (last)
//!   254    main data length u32    (last)
//! ```
// pg: access/xlogrecord.h, access/transam/xlogreader.c DecodeXLogRecord [14-18]

use redostream_protocol::cursor::{Cursor, ShortInput};
use redostream_protocol::{Lsn, Oid, RelFileNode, Xid};

use smallvec::SmallVec;

use super::format::WalFormat;
use crate::limits::HEAP_PAGE_BYTES;

/// Bytes of a record's fixed header.
pub const RECORD_HEADER_BYTES: usize = 24;
/// The highest block id a record can have.
// pg: access/xlogrecord.h XLR_MAX_BLOCK_ID [14-18]
pub const BLOCK_ID_MAX: u8 = 32;

const ID_MAIN_SHORT: u8 = 255;
const ID_MAIN_LONG: u8 = 254;
const ID_ORIGIN: u8 = 253;
const ID_TOP_XID: u8 = 252;

const FORK_MASK: u8 = 0x0F;
const HAS_IMAGE: u8 = 0x10;
const HAS_DATA: u8 = 0x20;
const WILL_INIT: u8 = 0x40;
const SAME_REL: u8 = 0x80;

/// The main fork's number.
pub const MAIN_FORK: u8 = 0;

/// Bytes of the image and of the data of each block. Most records have one or none.
type Lengths = SmallVec<[(usize, usize); 1]>;

/// A record, borrowed from its chunk.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// Where it starts.
    pub lsn: Lsn,
    /// Where the next record could start: the page LSN it leaves behind.
    pub end_lsn: Lsn,
    /// The (sub)transaction that wrote it, or none.
    pub xid: Xid,
    /// Resource manager.
    pub rmgr: u8,
    /// The resource manager's bits (the upper four) and generic flags (the lower).
    pub info: u8,
    /// Replication origin, 0 for none.
    pub origin: u16,
    /// The top-level transaction, if the record names it.
    pub top_xid: Xid,
    /// Block references in order of id.
    pub blocks: SmallVec<[BlockRef<'a>; 1]>,
    /// The resource manager's own data.
    pub main: &'a [u8],
}

/// A reference to one page.
#[derive(Clone, Copy, Debug)]
pub struct BlockRef<'a> {
    /// Its number within the record.
    pub id: u8,
    /// The file.
    pub node: RelFileNode,
    /// The fork; 0 is the main one.
    pub fork: u8,
    /// The block number.
    pub block: u32,
    /// Whether the page is made anew.
    pub will_init: bool,
    /// Full-page image, if there is one.
    pub image: Option<Image<'a>>,
    /// Data for the block; empty if there is none.
    pub data: &'a [u8],
}

/// A full-page image as logged.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The stored bytes.
    pub bytes: &'a [u8],
    /// Where the hole begins.
    pub hole_offset: u16,
    /// Bytes of the hole, 0 for none.
    pub hole_bytes: u16,
    /// How it is compressed.
    pub compression: ImageCompression,
    /// Whether replay restores it. Without this the image is for consistency checks only.
    pub apply: bool,
}

/// How an image is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageCompression {
    /// Not.
    None,
    /// PostgreSQL's LZ.
    Pglz,
    /// LZ4 block.
    Lz4,
    /// zstd frame.
    Zstd,
}

/// The xid, info and main data of a record that has nothing else: no block, no origin, no top-level
/// xid, and less than 256 bytes of its own.
#[inline]
pub(crate) fn only_main(record: &[u8]) -> Option<(Xid, u8, &[u8])> {
    let (header, rest) = record.split_first_chunk::<RECORD_HEADER_BYTES>()?;
    let (&[id, length], main) = rest.split_first_chunk()?;
    let is_all = id == ID_MAIN_SHORT && usize::from(length) == main.len();
    let xid = Xid(u32::from_le_bytes([
        header[4], header[5], header[6], header[7],
    ]));
    is_all.then_some((xid, header[16], main))
}

/// What is wrong inside a record whose CRC is right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A part is longer than the record.
    #[error(transparent)]
    Short(#[from] ShortInput),
    /// A header with an unknown id.
    #[error("unknown header id {0}")]
    UnknownHeader(u8),
    /// Headers contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
}

impl<'a> Record<'a> {
    /// Reads the record in `bytes`, all of them.
    pub fn parse(
        bytes: &'a [u8],
        lsn: Lsn,
        end_lsn: Lsn,
        format: &WalFormat,
    ) -> Result<Self, RecordError> {
        let mut cursor = Cursor::new(bytes);
        cursor.take(4, "record length")?;
        let xid = Xid(cursor.u32("record xid")?);
        cursor.take(8, "record prev-link")?;
        let info = cursor.u8("record info")?;
        let rmgr = cursor.u8("resource manager")?;
        cursor.take(6, "record CRC")?;
        let mut record = Record {
            lsn,
            end_lsn,
            xid,
            rmgr,
            info,
            origin: 0,
            top_xid: Xid::INVALID,
            blocks: SmallVec::new(),
            main: &[],
        };
        let mut lengths = Lengths::new();
        let main_bytes = record.parse_headers(&mut cursor, &mut lengths, format)?;
        for (block, (image_bytes, data_bytes)) in record.blocks.iter_mut().zip(lengths) {
            if let Some(image) = &mut block.image {
                image.bytes = cursor.take(image_bytes, "block image")?;
            }
            block.data = cursor.take(data_bytes, "block data")?;
        }
        record.main = cursor.take(main_bytes, "main data")?;
        cursor.finish("record")?;
        Ok(record)
    }

    /// The resource manager's info bits.
    #[must_use]
    pub const fn op(&self) -> u8 {
        self.info & 0xF0
    }

    /// The block reference with this id.
    #[must_use]
    pub fn block(&self, id: u8) -> Option<&BlockRef<'a>> {
        self.blocks.iter().find(|block| block.id == id)
    }

    fn parse_headers(
        &mut self,
        cursor: &mut Cursor<'a>,
        lengths: &mut Lengths,
        format: &WalFormat,
    ) -> Result<usize, RecordError> {
        let mut payload = 0_usize;
        while cursor.remaining() > payload {
            let id = cursor.u8("header id")?;
            match id {
                ID_MAIN_SHORT => return Ok(usize::from(cursor.u8("main data length")?)),
                ID_MAIN_LONG => return Ok(cursor.u32("main data length")? as usize),
                ID_ORIGIN => self.origin = cursor.u16("origin")?,
                ID_TOP_XID => self.top_xid = Xid(cursor.u32("top-level xid")?),
                0..=BLOCK_ID_MAX => {
                    let (block, image, data) = self.parse_block(id, cursor, format)?;
                    payload += image + data;
                    self.blocks.push(block);
                    lengths.push((image, data));
                }
                other => return Err(RecordError::UnknownHeader(other)),
            }
        }
        Ok(0)
    }

    fn parse_block(
        &self,
        id: u8,
        cursor: &mut Cursor<'a>,
        format: &WalFormat,
    ) -> Result<(BlockRef<'a>, usize, usize), RecordError> {
        if self.blocks.last().is_some_and(|last| last.id >= id) {
            return Err(RecordError::Contradiction("block ids out of order"));
        }
        let flags = cursor.u8("fork flags")?;
        let data_bytes = usize::from(cursor.u16("block data length")?);
        if (flags & HAS_DATA != 0) != (data_bytes > 0) {
            return Err(RecordError::Contradiction(
                "block data flag and length disagree",
            ));
        }
        let mut image_bytes = 0;
        let image = if flags & HAS_IMAGE != 0 {
            let (image, bytes) = Image::parse(cursor, format)?;
            image_bytes = bytes;
            Some(image)
        } else {
            None
        };
        let node = if flags & SAME_REL != 0 {
            match self.blocks.last() {
                Some(last) => last.node,
                None => return Err(RecordError::Contradiction("first block says SAME_REL")),
            }
        } else {
            RelFileNode {
                tablespace: Oid(cursor.u32("tablespace")?),
                database: Oid(cursor.u32("database")?),
                relation: Oid(cursor.u32("file number")?),
            }
        };
        let block = cursor.u32("block number")?;
        let will_init = flags & WILL_INIT != 0;
        let fork = flags & FORK_MASK;
        Ok((
            BlockRef {
                id,
                node,
                fork,
                block,
                will_init,
                image,
                data: &[],
            },
            image_bytes,
            data_bytes,
        ))
    }
}

impl Image<'_> {
    fn parse(cursor: &mut Cursor<'_>, format: &WalFormat) -> Result<(Self, usize), RecordError> {
        let stored = cursor.u16("image length")?;
        let hole_offset = cursor.u16("hole offset")?;
        let info = cursor.u8("image info")?;
        let bits = &format.image;
        let compression = match info {
            info if info & bits.pglz != 0 => ImageCompression::Pglz,
            info if info & bits.lz4 != 0 => ImageCompression::Lz4,
            info if info & bits.zstd != 0 => ImageCompression::Zstd,
            _ => ImageCompression::None,
        };
        let has_hole = info & bits.has_hole != 0;
        let page = HEAP_PAGE_BYTES as u16;
        let hole_bytes = match (compression, has_hole) {
            (ImageCompression::None, true) => page
                .checked_sub(stored)
                .ok_or(RecordError::Contradiction("image longer than a page"))?,
            (ImageCompression::None, false) if stored != page => {
                return Err(RecordError::Contradiction("plain image is not one page"));
            }
            (_, true) => cursor.u16("hole length")?,
            (_, false) => 0,
        };
        if u32::from(hole_offset) + u32::from(hole_bytes) > u32::from(page) {
            return Err(RecordError::Contradiction("hole goes beyond the page"));
        }
        let apply = info & bits.apply != 0;
        let image = Image {
            bytes: &[],
            hole_offset,
            hole_bytes,
            compression,
            apply,
        };
        Ok((image, usize::from(stored)))
    }
}
