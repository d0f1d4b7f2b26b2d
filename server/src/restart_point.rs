//! Restart points on disk: the state from which decoding can begin at an LSN.
//!
//! ```text
//! 0          8         12          20         28      32
//! | RDSTREAM | version | system id | body len | crc32 | body: LZ4 of postcard
//! ```
//! A file is written under another name, synced, and renamed, so that it is whole or not there.
//! `restart-<LSN>` names the LSN at which decoding goes on, so names sort by LSN.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use redostream_engine::assembly::AssemblerState;
use redostream_engine::gate::GateState;
use redostream_engine::pipeline::RestartPoint;
use redostream_protocol::cursor::Cursor;
use redostream_protocol::{Lsn, Xid};
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"RDSTREAM";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;
/// The largest body that is believed, before decompression.
const BODY_BYTES_MAX: u64 = 8 << 30;

/// What is stored.
#[derive(Serialize, Deserialize)]
pub(crate) struct Stored {
    /// The gate's share.
    pub(crate) gate: GateState,
    /// Assembly's share.
    pub(crate) assembly: AssemblerState,
    /// Spilled rows of open transactions.
    pub(crate) spilled: Vec<(Xid, Vec<u8>)>,
}

/// Why a restart point cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestartError {
    /// The file system said no.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// The file is damaged or not a restart point.
    #[error("{path} is damaged: {problem}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file belongs to another cluster.
    #[error(
        "{path} belongs to cluster {found}, not to {wanted}; give each cluster a state directory of its own"
    )]
    OtherCluster {
        /// The file.
        path: PathBuf,
        /// The cluster in it.
        found: u64,
        /// The cluster served.
        wanted: u64,
    },
}

/// A directory with restart points of one cluster.
pub(crate) struct RestartPoints {
    directory: PathBuf,
    system_identifier: u64,
}

impl RestartPoints {
    /// Uses `directory`, which must exist.
    pub(crate) fn new(directory: &Path, system_identifier: u64) -> Self {
        RestartPoints {
            directory: directory.to_owned(),
            system_identifier,
        }
    }

    /// Stores a restart point.
    pub(crate) fn store(&self, point: RestartPoint) -> Result<PathBuf, RestartError> {
        let path = self.path(point.gate.next);
        let at = |error| RestartError::Io {
            path: path.clone(),
            error,
        };
        let mut spilled = Vec::new();
        for mut copy in point.spilled {
            let mut bytes = Vec::new();
            copy.reader.read_to_end(&mut bytes).map_err(at)?;
            spilled.push((copy.top, bytes));
        }
        let stored = Stored {
            gate: point.gate,
            assembly: point.assembly,
            spilled,
        };
        let plain = postcard::to_stdvec(&stored).map_err(|error| RestartError::Damaged {
            path: path.clone(),
            problem: error.to_string(),
        })?;
        let body = lz4_flex::block::compress_prepend_size(&plain);
        let temporary = path.with_extension("new");
        let mut file = File::create(&temporary).map_err(at)?;
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&self.system_identifier.to_le_bytes());
        header.extend_from_slice(&(body.len() as u64).to_le_bytes());
        header.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        file.write_all(&header)
            .and_then(|()| file.write_all(&body))
            .map_err(at)?;
        file.sync_all().map_err(at)?;
        fs::rename(&temporary, &path).map_err(at)?;
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(at)?;
        Ok(path)
    }

    /// LSNs of the restart points that are there, rising.
    pub(crate) fn list(&self) -> Result<Vec<Lsn>, RestartError> {
        let at = |error| RestartError::Io {
            path: self.directory.clone(),
            error,
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(at)? {
            let name = entry.map_err(at)?.file_name();
            let name = name.to_string_lossy();
            if let Some(hex) = name.strip_prefix("restart-")
                && let Ok(lsn) = u64::from_str_radix(hex, 16)
            {
                found.push(Lsn(lsn));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Reads the restart point at `lsn`.
    pub(crate) fn read(&self, lsn: Lsn) -> Result<Stored, RestartError> {
        let path = self.path(lsn);
        let damaged = |problem: String| RestartError::Damaged {
            path: path.clone(),
            problem,
        };
        let bytes = fs::read(&path).map_err(|error| RestartError::Io {
            path: path.clone(),
            error,
        })?;
        let mut cursor = Cursor::new(&bytes);
        let short = |error: redostream_protocol::ShortInput| damaged(error.to_string());
        let magic = cursor.take(MAGIC.len(), "magic").map_err(short)?;
        let version = cursor.u32("version").map_err(short)?;
        if magic != MAGIC || version != VERSION {
            return Err(damaged(format!("not a restart point of version {VERSION}")));
        }
        let found = cursor.u64("system identifier").map_err(short)?;
        if found != self.system_identifier {
            let wanted = self.system_identifier;
            return Err(RestartError::OtherCluster {
                path,
                found,
                wanted,
            });
        }
        let length = cursor.u64("body length").map_err(short)?;
        let sum = cursor.u32("body sum").map_err(short)?;
        debug_assert_eq!(cursor.offset(), HEADER_BYTES);
        if length != cursor.remaining() as u64 || length > BODY_BYTES_MAX {
            return Err(damaged("its length is not what its header says".to_owned()));
        }
        let body = cursor.rest();
        if crc32fast::hash(body) != sum {
            return Err(damaged("its sum is wrong".to_owned()));
        }
        let plain = lz4_flex::block::decompress_size_prepended(body)
            .map_err(|error| damaged(error.to_string()))?;
        postcard::from_bytes(&plain).map_err(|error| damaged(error.to_string()))
    }

    fn path(&self, lsn: Lsn) -> PathBuf {
        self.directory.join(format!("restart-{:016X}", lsn.0))
    }
}
