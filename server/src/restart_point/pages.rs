//! Catalog pages of restart points, in files that several of them share.
//!
//! A page file holds the pages that had changed since the restart point before; a restart point
//! names the place of each of its pages. When it would need too many page files, one is written
//! that holds everything.
//!
//! ```text
//! 0          8
//! | RDSPAGES | page ...
//! page:  stored len u32 | CRC-32 u32 | LZ4 of 8192 bytes
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use redostream_engine::catalog::SharedPage;
use redostream_engine::limits::HEAP_PAGE_BYTES;
use redostream_protocol::RelFileNode;
use serde::{Deserialize, Serialize};

use super::file::Fault;

const MAGIC: &[u8; 8] = b"RDSPAGES";
/// Page files one restart point may need.
const PACKS_MAX: usize = 16;
const PREFIX_BYTES: usize = 8;

/// Where a page stands: page file and offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) pack: u64,
    pub(super) offset: u64,
}

/// Where pages are that were written before.
#[derive(Default)]
pub(super) struct Known {
    places: HashMap<(RelFileNode, u32), (SharedPage, Place)>,
    next_pack: u64,
}

/// A page's place, and the page files of all of them.
pub(super) type Placed = (Vec<(RelFileNode, u32, Place)>, Vec<u64>);

impl Known {
    /// Pages as they were read; page files from `next_pack` on are not there yet.
    pub(super) fn learn(&mut self, pages: Vec<(SharedPage, Place)>, next_pack: u64) {
        self.next_pack = self.next_pack.max(next_pack);
        let keyed = pages
            .into_iter()
            .map(|(page, place)| ((page.node, page.block), (page, place)));
        self.places = keyed.collect();
    }

    /// The page that stands at this place, if it is in memory.
    fn page(&self, node: RelFileNode, block: u32, at: Place) -> Option<&SharedPage> {
        let (page, place) = self.places.get(&(node, block))?;
        (*place == at).then_some(page)
    }

    /// Sees to it that every page is on disk.
    pub(super) fn place(
        &mut self,
        directory: &Path,
        pages: Vec<SharedPage>,
    ) -> Result<Placed, (PathBuf, io::Error)> {
        let mut packs: Vec<u64> = self.places.values().map(|(_, place)| place.pack).collect();
        packs.sort_unstable();
        packs.dedup();
        if packs.len() >= PACKS_MAX {
            self.places.clear();
        }
        let pack = self.next_pack;
        let path = path_of(directory, pack);
        let mut writer: Option<PackWriter> = None;
        let mut places = HashMap::with_capacity(pages.len());
        for page in pages {
            let key = (page.node, page.block);
            let place = match self.places.get(&key) {
                Some((known, place)) if known.is(&page) => *place,
                _ => {
                    let at = |error| (path.clone(), error);
                    if writer.is_none() {
                        writer = Some(PackWriter::new(&path).map_err(at)?);
                    }
                    let offset = writer.as_mut().map(|writer| writer.put(&page.bytes()));
                    let offset = offset.transpose().map_err(at)?.unwrap_or_default();
                    Place { pack, offset }
                }
            };
            places.insert(key, (page, place));
        }
        if let Some(writer) = writer {
            writer.end().map_err(|error| (path, error))?;
            self.next_pack += 1;
        }
        self.places = places;
        let mut placed: Vec<_> = self
            .places
            .iter()
            .map(|((node, block), (_, place))| (*node, *block, *place))
            .collect();
        placed.sort_unstable_by_key(|(node, block, _)| (*node, *block));
        let mut packs: Vec<u64> = placed.iter().map(|(_, _, place)| place.pack).collect();
        packs.sort_unstable();
        packs.dedup();
        Ok((placed, packs))
    }
}

/// The page file of this number.
pub(super) fn path_of(directory: &Path, pack: u64) -> PathBuf {
    directory.join(format!("pages-{pack:016X}"))
}

/// Gives pages from their places: those that are in memory, which are most of them unless catalogs
/// change all the time, are shared; the others are read.
pub(super) fn read(
    directory: &Path,
    placed: Vec<(RelFileNode, u32, Place)>,
    known: Option<&Known>,
) -> Result<Vec<(SharedPage, Place)>, (PathBuf, Fault)> {
    let mut packs: HashMap<u64, Vec<u8>> = HashMap::new();
    let mut pages = Vec::with_capacity(placed.len());
    for (node, block, place) in placed {
        if let Some(page) = known.and_then(|known| known.page(node, block, place)) {
            pages.push((page.clone(), place));
            continue;
        }
        let path = path_of(directory, place.pack);
        if let std::collections::hash_map::Entry::Vacant(entry) = packs.entry(place.pack) {
            let bytes = std::fs::read(&path).map_err(|error| (path.clone(), error.into()))?;
            if !bytes.starts_with(MAGIC) {
                let what = "not a page file".to_owned();
                return Err((path, Fault::Damaged(what)));
            }
            entry.insert(bytes);
        }
        let bytes = packs.get(&place.pack).map_or(&[][..], Vec::as_slice);
        let page = page_at(bytes, place.offset).and_then(|bytes| {
            SharedPage::new(node, block, &bytes).ok_or_else(|| "a page is short".to_owned())
        });
        match page {
            Ok(page) => pages.push((page, place)),
            Err(problem) => return Err((path, Fault::Damaged(problem))),
        }
    }
    Ok(pages)
}

fn page_at(pack: &[u8], offset: u64) -> Result<Vec<u8>, String> {
    let short = || format!("no page at offset {offset}");
    let at = usize::try_from(offset).map_err(|_| short())?;
    let rest = pack.get(at..).ok_or_else(short)?;
    let (prefix, rest) = rest.split_at_checked(PREFIX_BYTES).ok_or_else(short)?;
    let number = |at: usize| {
        let bytes: [u8; 4] = prefix[at..at + 4].try_into().unwrap_or_default();
        u32::from_le_bytes(bytes)
    };
    let stored = rest.get(..number(0) as usize).ok_or_else(short)?;
    if crc32fast::hash(stored) != number(4) {
        return Err(format!("the sum of the page at offset {offset} is wrong"));
    }
    let mut page = vec![0; HEAP_PAGE_BYTES];
    match lz4_flex::block::decompress_into(stored, &mut page) {
        Ok(HEAP_PAGE_BYTES) => Ok(page),
        _ => Err(format!("the page at offset {offset} is malformed")),
    }
}

struct PackWriter {
    file: BufWriter<File>,
    offset: u64,
}

impl PackWriter {
    fn new(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        file.write_all(MAGIC)?;
        let offset = MAGIC.len() as u64;
        Ok(Self { file, offset })
    }

    /// Writes a page; gives its offset.
    fn put(&mut self, page: &[u8]) -> io::Result<u64> {
        let stored = lz4_flex::block::compress(page);
        let at = self.offset;
        self.file.write_all(&(stored.len() as u32).to_le_bytes())?;
        self.file
            .write_all(&crc32fast::hash(&stored).to_le_bytes())?;
        self.file.write_all(&stored)?;
        self.offset += (PREFIX_BYTES + stored.len()) as u64;
        Ok(at)
    }

    fn end(self) -> io::Result<()> {
        let file = self.file.into_inner().map_err(|error| error.into_error())?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redostream_protocol::Oid;

    fn page(block: u32, byte: u8) -> SharedPage {
        let node = RelFileNode {
            tablespace: Oid(1663),
            database: Oid(5),
            relation: Oid(1259),
        };
        SharedPage::new(node, block, &[byte; HEAP_PAGE_BYTES]).unwrap()
    }

    #[test]
    fn pages_in_memory_are_shared_and_others_read() {
        let directory = tempfile::tempdir().unwrap();
        let mut known = Known::default();
        let old = vec![page(0, 1), page(1, 2)];
        let (first, _) = known.place(directory.path(), old.clone()).unwrap();
        // Block 1 changes, so only block 0 of the first restart point is still in memory.
        let changed = vec![old[0].clone(), page(1, 3)];
        let (second, packs) = known.place(directory.path(), changed.clone()).unwrap();
        assert_eq!(packs, [0, 1]);
        let read = |placed: &[_], known| read(directory.path(), placed.to_vec(), known);

        let pages = read(&first, Some(&known)).unwrap();
        assert!(pages[0].0.is(&old[0]));
        assert_eq!(pages[1].0.bytes(), old[1].bytes());
        assert!(!pages[1].0.is(&old[1]));

        std::fs::remove_file(path_of(directory.path(), 0)).unwrap();
        std::fs::remove_file(path_of(directory.path(), 1)).unwrap();
        let pages = read(&second, Some(&known)).unwrap();
        assert!(
            pages
                .iter()
                .zip(&changed)
                .all(|((page, _), known)| page.is(known))
        );
        assert!(read(&second, None).is_err());
        assert!(read(&first, Some(&known)).is_err());
    }
}
