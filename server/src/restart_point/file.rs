//! A restart point's own file.
//!
//! ```text
//! 0          8         12          16         20
//! | RDSTREAM | version | head CRC  | head len | head: postcard | frame ... | end |
//! frame:  raw len u32 | stored len u32 | CRC-32 of what is stored u32 | LZ4
//! end:    a frame of no bytes
//! ```
//! All numbers are little-endian. The frames together are the body: postcard of [`Body`], in pieces
//! so that neither side ever holds it twice.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use redostream_engine::assembly::AssemblerState;
use redostream_engine::gate::GateState;
use redostream_protocol::{Lsn, RelFileNode, TimelineId, Xid};
use serde::{Deserialize, Serialize};

use super::pages::Place;

const MAGIC: &[u8; 8] = b"RDSTREAM";
/// Raised whenever anything stored changes its form.
const VERSION: u32 = 5;
/// The largest head that is believed.
const HEAD_BYTES_MAX: u32 = 64 << 20;
/// Bytes of the body in one frame.
const FRAME_BYTES: usize = 256 * 1024;

/// What is known of a restart point without reading it whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// The cluster.
    pub(crate) system_identifier: u64,
    /// Where decoding goes on.
    pub(crate) next: Lsn,
    /// Every transaction whose commit record starts here or later can be had.
    pub(crate) covers: Lsn,
    /// The timeline just before `next`.
    pub(crate) timeline: TimelineId,
    /// Databases that are decoded; all if none is named. Relations are numbered by what is.
    pub(crate) databases: Vec<String>,
    /// Page files that it needs.
    pub(crate) packs: Vec<u64>,
    /// Transactions whose spilled rows stand beside it, with how many bytes.
    pub(crate) rows: Vec<(Xid, u64)>,
}

/// The rest.
#[derive(Serialize, Deserialize)]
pub(super) struct Body {
    pub(super) gate: GateState,
    pub(super) assembly: AssemblerState,
    pub(super) pages: Vec<(RelFileNode, u32, Place)>,
}

/// The same, to be written.
#[derive(Serialize)]
pub(super) struct BodyRef<'a> {
    pub(super) gate: &'a GateState,
    pub(super) assembly: &'a AssemblerState,
    pub(super) pages: &'a [(RelFileNode, u32, Place)],
}

/// What is wrong with a file: the system's words, or that it is not what was written.
#[derive(Debug)]
pub(super) enum Fault {
    Io(io::Error),
    Damaged(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Fault::Damaged("it ends early".to_owned()),
            _ => Fault::Io(error),
        }
    }
}

/// Writes a file, and sees to it that it is on disk.
pub(super) fn write(path: &Path, head: &Head, body: &BodyRef<'_>) -> io::Result<u64> {
    let file = File::create(path)?;
    let head = postcard::to_stdvec(head).map_err(io::Error::other)?;
    let mut frames = Frames {
        file: &file,
        raw: Vec::with_capacity(FRAME_BYTES),
    };
    let mut start = MAGIC.to_vec();
    start.extend_from_slice(&VERSION.to_le_bytes());
    start.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
    start.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_le_bytes());
    (&file).write_all(&start)?;
    (&file).write_all(&head)?;
    postcard::to_io(body, &mut frames).map_err(io::Error::other)?;
    frames.end()?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// Reads the head alone.
pub(super) fn read_head(path: &Path) -> Result<Head, Fault> {
    head_of(&mut BufReader::new(File::open(path)?))
}

/// Reads everything.
pub(super) fn read(path: &Path) -> Result<(Head, Body), Fault> {
    let mut file = BufReader::new(File::open(path)?);
    let head = head_of(&mut file)?;
    let mut plain = Vec::new();
    while frame_of(&mut file, &mut plain)? {}
    let body = postcard::from_bytes(&plain).map_err(|error| Fault::Damaged(error.to_string()))?;
    Ok((head, body))
}

fn head_of(file: &mut impl Read) -> Result<Head, Fault> {
    let mut magic = [0; 8];
    file.read_exact(&mut magic)?;
    let (version, crc, length) = (number(file)?, number(file)?, number(file)?);
    if &magic != MAGIC || version != VERSION {
        let what = format!("not a restart point of version {VERSION}");
        return Err(Fault::Damaged(what));
    }
    if length > HEAD_BYTES_MAX {
        return Err(Fault::Damaged(format!("its head has {length} bytes")));
    }
    let head = taken(file, length)?;
    if crc32fast::hash(&head) != crc {
        return Err(Fault::Damaged("the sum of its head is wrong".to_owned()));
    }
    postcard::from_bytes(&head).map_err(|error| Fault::Damaged(error.to_string()))
}

/// Appends a frame to `plain`; false at the end.
fn frame_of(file: &mut impl Read, plain: &mut Vec<u8>) -> Result<bool, Fault> {
    let (raw, stored, crc) = (number(file)?, number(file)?, number(file)?);
    let most = lz4_flex::block::get_maximum_output_size(FRAME_BYTES);
    if raw as usize > FRAME_BYTES || stored as usize > most {
        return Err(Fault::Damaged("a frame is longer than any can be".into()));
    }
    let bytes = taken(file, stored)?;
    if crc32fast::hash(&bytes) != crc {
        return Err(Fault::Damaged("the sum of a frame is wrong".to_owned()));
    }
    if raw == 0 {
        return Ok(false);
    }
    let at = plain.len();
    plain.resize(at + raw as usize, 0);
    match lz4_flex::block::decompress_into(&bytes, &mut plain[at..]) {
        Ok(count) if count == raw as usize => Ok(true),
        Ok(_) => Err(Fault::Damaged("a frame is shorter than it says".into())),
        Err(error) => Err(Fault::Damaged(error.to_string())),
    }
}

fn number(file: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// So many bytes; what is not there is not allocated for.
fn taken(file: &mut impl Read, length: u32) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(u64::from(length)).read_to_end(&mut bytes)?;
    if bytes.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// Cuts what is written into frames.
struct Frames<'a> {
    file: &'a File,
    raw: Vec<u8>,
}

impl Frames<'_> {
    fn flush_frame(&mut self) -> io::Result<()> {
        let stored = if self.raw.is_empty() {
            Vec::new()
        } else {
            lz4_flex::block::compress(&self.raw)
        };
        let mut head = [0; 12];
        for (field, value) in head.chunks_exact_mut(4).zip([
            self.raw.len() as u32,
            stored.len() as u32,
            crc32fast::hash(&stored),
        ]) {
            field.copy_from_slice(&value.to_le_bytes());
        }
        self.file.write_all(&head)?;
        self.file.write_all(&stored)?;
        self.raw.clear();
        Ok(())
    }

    fn end(mut self) -> io::Result<()> {
        if !self.raw.is_empty() {
            self.flush_frame()?;
        }
        self.flush_frame()
    }
}

impl Write for &mut Frames<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(FRAME_BYTES - self.raw.len());
        self.raw.extend_from_slice(&bytes[..count]);
        if self.raw.len() == FRAME_BYTES {
            self.flush_frame()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
