//! What a chunk's xids and files are looked up in while it is framed.
//!
//! Sessions interleave, so the last one found is often not the next one wanted: a table indexed by
//! the low bits answers nearly all look-ups. Whoever is pushed out of it goes to the map behind it,
//! which with few transactions, or many that end soon, nobody does.

use redostream_protocol::RelFileNode;
use rustc_hash::FxHashMap;

use super::partition::NO_GROUP;

const RECENT_GROUPS: usize = 2048;
const RECENT_FILES: usize = 16;
/// The file number of nothing.
const NO_FILE: u16 = u16::MAX;

/// Group numbers by xid, file numbers by file.
#[derive(Debug)]
pub(super) struct Lookups {
    recent_groups: Box<[(u32, u16); RECENT_GROUPS]>,
    groups: FxHashMap<u32, u16>,
    recent_files: [(RelFileNode, u16); RECENT_FILES],
    files: FxHashMap<RelFileNode, u16>,
    /// For each file, whether the catalog's replay follows it.
    pub(super) tracked: Vec<bool>,
}

impl Default for Lookups {
    fn default() -> Self {
        Lookups {
            recent_groups: Box::new([(0, NO_GROUP); RECENT_GROUPS]),
            groups: FxHashMap::default(),
            recent_files: [(RelFileNode::default(), NO_FILE); RECENT_FILES],
            files: FxHashMap::default(),
            tracked: Vec::new(),
        }
    }
}

impl Lookups {
    pub(super) fn clear(&mut self) {
        self.recent_groups.fill((0, NO_GROUP));
        self.groups.clear();
        self.recent_files = [(RelFileNode::default(), NO_FILE); RECENT_FILES];
        self.files.clear();
        self.tracked.clear();
    }

    /// The group of `xid`, which is not 0.
    #[inline]
    pub(super) fn group(&mut self, xid: u32) -> Option<u16> {
        let recent = self.recent_groups[xid as usize % RECENT_GROUPS];
        if recent.0 == xid {
            return Some(recent.1);
        }
        if self.groups.is_empty() {
            return None;
        }
        let group = *self.groups.get(&xid)?;
        self.add_group(xid, group);
        Some(group)
    }

    pub(super) fn add_group(&mut self, xid: u32, group: u16) {
        let recent = &mut self.recent_groups[xid as usize % RECENT_GROUPS];
        let (pushed_out, its_group) = std::mem::replace(recent, (xid, group));
        if pushed_out != 0 {
            self.groups.insert(pushed_out, its_group);
        }
    }

    /// The number of a file.
    #[inline]
    pub(super) fn file(&mut self, node: &RelFileNode) -> Option<u16> {
        let recent = &mut self.recent_files[node.relation.0 as usize % RECENT_FILES];
        if recent.1 != NO_FILE && recent.0 == *node {
            return Some(recent.1);
        }
        let file = *self.files.get(node)?;
        *recent = (*node, file);
        Some(file)
    }

    pub(super) fn add_file(&mut self, node: &RelFileNode, file: u16, tracked: bool) {
        self.recent_files[node.relation.0 as usize % RECENT_FILES] = (*node, file);
        self.files.insert(*node, file);
        self.tracked.push(tracked);
    }
}
