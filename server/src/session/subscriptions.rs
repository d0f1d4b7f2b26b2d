//! Durable names: where each began and what it has acknowledged, in a file each.
//!
//! ```text
//! 0         4        8       12         16
//! | "RDSB"  | version | length | CRC-32 | postcard of Subscription
//! ```
//!
//! A file is written beside its old version, synced and renamed over it, so a crash leaves one or
//! the other. Its name is the subscription's in hexadecimal.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use redostream_protocol::control::Start;
use redostream_protocol::{Cursor, Lsn, Position};
use serde::{Deserialize, Serialize};

use super::limits::SUBSCRIPTION_FILE_BYTES_MAX;

const MAGIC: [u8; 4] = *b"RDSB";
const VERSION: u32 = 2;

/// A durable name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The name.
    pub name: String,
    /// The cluster its places belong to.
    pub system_identifier: u64,
    /// Name of the token that it was made with; empty where none was wanted.
    pub owner: String,
    /// Where it began.
    pub start: Start,
    /// The last acknowledged event; all zero if there was none.
    pub position: Position,
    /// Everything before this LSN is acknowledged too; 0 if that was not said.
    pub released: Lsn,
    /// When it was last acknowledged, microseconds since 1970-01-01 00:00 UTC; 0 for never.
    pub acknowledged_at_us: i64,
}

impl Subscription {
    /// Where it goes on.
    #[must_use]
    pub fn resume(&self) -> Start {
        match Start::resume(self.position, self.released) {
            // What lies before the beginning was never wanted, whatever was said of it.
            Some(acknowledged) if self.start.covers(&acknowledged) => acknowledged,
            _ => self.start,
        }
    }

    /// The cluster's history was left at `at`: an LSN beyond that was reached says nothing of what
    /// came instead. Whether anything changed; a position beyond stays, and is refused when its
    /// client comes.
    pub(super) fn leave(&mut self, at: Lsn) -> bool {
        let released = self.released > at && self.position.commit_lsn < at;
        if released {
            self.released = at;
        }
        let began = matches!(self.start, Start::At(lsn) if lsn > at);
        if began {
            self.start = Start::At(at);
        }
        released || began
    }
}

/// Why durable names cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system refused; mend it.
    #[error("subscription file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The file is not what was written; restore it, or remove it and start the name afresh.
    #[error("subscription file {} is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Keeps durable names.
pub trait SubscriptionStore: Send + Sync + 'static {
    /// All of them.
    fn load(&self) -> Result<Vec<Subscription>, StoreError>;
    /// Writes one, durably.
    fn put(&self, subscription: &Subscription) -> Result<(), StoreError>;
    /// Forgets one.
    fn remove(&self, name: &str) -> Result<(), StoreError>;
}

/// Names in files of one directory.
#[derive(Debug)]
pub struct FileStore {
    directory: PathBuf,
}

impl FileStore {
    /// A store in `directory`, which is made if it is missing.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let directory = directory.into();
        fs::create_dir_all(&directory).map_err(at(&directory))?;
        Ok(Self { directory })
    }

    fn path(&self, name: &str) -> PathBuf {
        // Long names are cut in the file's name; a hash keeps them apart.
        let short = name.bytes().take(64).map(|byte| format!("{byte:02x}"));
        let hash = crc32fast::hash(name.as_bytes());
        let file = format!("{}-{hash:08x}.subscription", short.collect::<String>());
        self.directory.join(file)
    }

    fn sync_directory(&self) -> Result<(), StoreError> {
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(at(&self.directory))
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io {
        path: path.clone(),
        source,
    }
}

fn read(path: &Path) -> Result<Subscription, StoreError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(at(path))?;
    let mut limited = file.take(SUBSCRIPTION_FILE_BYTES_MAX);
    limited.read_to_end(&mut bytes).map_err(at(path))?;
    decode(&bytes).map_err(|problem| StoreError::Damaged {
        path: path.to_owned(),
        problem,
    })
}

fn decode(bytes: &[u8]) -> Result<Subscription, String> {
    let mut cursor = Cursor::new(bytes);
    let mut head = || -> Result<_, redostream_protocol::ShortInput> {
        let magic: [u8; 4] = cursor.array("magic")?;
        let version = cursor.u32("version")?;
        let length = cursor.u32("length")?;
        let crc = cursor.u32("checksum")?;
        let body = cursor.take(length as usize, "subscription")?;
        Ok((magic, version, crc, body))
    };
    let (magic, version, crc, body) = head().map_err(|error| error.to_string())?;
    cursor
        .finish("subscription")
        .map_err(|error| error.to_string())?;
    if magic != MAGIC || version != VERSION {
        return Err(format!("it begins with {magic:02x?}, version {version}"));
    }
    let computed = crc32fast::hash(body);
    if computed != crc {
        return Err(format!("checksum {crc:08x}, computed {computed:08x}"));
    }
    postcard::from_bytes(body).map_err(|error| error.to_string())
}

fn encode(subscription: &Subscription) -> Result<Vec<u8>, String> {
    let body = postcard::to_stdvec(subscription).map_err(|error| error.to_string())?;
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    out.extend_from_slice(&body);
    Ok(out)
}

impl SubscriptionStore for FileStore {
    fn load(&self) -> Result<Vec<Subscription>, StoreError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(at(&self.directory))? {
            let path = entry.map_err(at(&self.directory))?.path();
            if path
                .extension()
                .is_some_and(|ending| ending == "subscription")
            {
                found.push(read(&path)?);
            }
        }
        Ok(found)
    }

    fn put(&self, subscription: &Subscription) -> Result<(), StoreError> {
        let path = self.path(&subscription.name);
        let bytes = encode(subscription).map_err(|problem| StoreError::Damaged {
            path: path.clone(),
            problem,
        })?;
        let new = path.with_extension("new");
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        written.map_err(at(&new))?;
        fs::rename(&new, &path).map_err(at(&path))?;
        self.sync_directory()
    }

    fn remove(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path)(error)),
            _ => self.sync_directory(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redostream_protocol::TimelineId;

    /// Whatever was said of what lies beyond a fork, nothing of the other history is passed over.
    #[test]
    fn nothing_behind_a_fork_is_passed_over() {
        let commit = |lsn| Position::commit(TimelineId(1), Lsn(lsn));
        let none = Position::default();
        for (start, position, released, goes_on) in [
            (Start::At(Lsn(70)), none, 0, Start::At(Lsn(50))),
            (Start::At(Lsn(40)), none, 1, Start::At(Lsn(40))),
            (Start::At(Lsn(30)), none, 0, Start::At(Lsn(30))),
            (Start::At(Lsn(30)), none, 70, Start::At(Lsn(50))),
            (Start::At(Lsn(30)), commit(40), 70, Start::At(Lsn(50))),
            (Start::At(Lsn(30)), commit(40), 45, Start::At(Lsn(45))),
            (Start::After(commit(40)), none, 0, Start::After(commit(40))),
            // Refused when its client comes.
            (Start::After(commit(60)), none, 0, Start::After(commit(60))),
            (Start::At(Lsn(70)), commit(60), 0, Start::After(commit(60))),
        ] {
            let mut name = Subscription {
                name: "n".to_owned(),
                system_identifier: 7,
                owner: String::new(),
                start,
                position,
                released: Lsn(released),
                acknowledged_at_us: 0,
            };
            let before = name.clone();
            let changed = name.leave(Lsn(50));
            assert_eq!(changed, name != before);
            assert_eq!(name.resume(), goes_on, "{before:?}");
        }
    }

    #[test]
    fn names_survive_and_damage_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(directory.path().join("subscriptions")).unwrap();
        let mut one = Subscription {
            name: "../x/ä".repeat(30),
            system_identifier: 7,
            owner: "x".to_owned(),
            start: Start::At(Lsn(5)),
            position: Position::default(),
            released: Lsn(0),
            acknowledged_at_us: 0,
        };
        assert_eq!(one.resume(), Start::At(Lsn(5)));
        store.put(&one).unwrap();
        one.position = Position::commit(TimelineId(1), Lsn(9));
        store.put(&one).unwrap();
        assert_eq!(one.resume(), Start::After(one.position));
        assert_eq!(store.load().unwrap(), [one.clone()]);
        let path = store.path(&one.name);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            fs::write(&path, &bad).unwrap();
            assert!(store.load().is_err(), "byte {at}");
        }
        store.remove(&one.name).unwrap();
        store.remove(&one.name).unwrap();
        assert_eq!(store.load().unwrap(), []);
    }
}
