//! One catalog file in memory: its pages, shared until changed, and indexes that follow them.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::index::{Index, Tid};
use super::pages::Page;
use crate::limits::CATALOG_BLOCKS_MAX;

/// The pages of a file, by block.
///
/// A clone shares the pages; a change copies the page it changes.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct File {
    pages: Vec<Option<Arc<Page>>>,
    /// Built at the first look-up that needs them.
    #[serde(skip)]
    indexes: RwLock<Vec<Arc<Index>>>,
}

impl File {
    /// How many blocks it has.
    pub(crate) fn blocks(&self) -> u32 {
        self.pages.len() as u32
    }

    /// The page of a block, if it is there.
    pub(crate) fn page(&self, block: u32) -> Option<&Page> {
        self.pages.get(block as usize)?.as_deref()
    }

    /// Every page, with its block.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (u32, &Page)> {
        let numbered = (0_u32..).zip(&self.pages);
        numbered.filter_map(|(block, page)| Some((block, page.as_deref()?)))
    }

    /// Puts a page in place. False if the block is beyond what is believed.
    pub(crate) fn put(&mut self, block: u32, page: Page) -> bool {
        self.put_shared(block, Arc::new(page))
    }

    /// As [`File::put`], sharing the page.
    pub(crate) fn put_shared(&mut self, block: u32, page: Arc<Page>) -> bool {
        if block >= CATALOG_BLOCKS_MAX {
            return false;
        }
        let index = block as usize;
        if self.pages.len() <= index {
            self.pages.resize(index + 1, None);
        }
        self.pages[index] = Some(page);
        self.reindex(block);
        true
    }

    /// Takes the pages out; the file keeps its length.
    pub(crate) fn take_pages(&mut self) -> Vec<(u32, Arc<Page>)> {
        self.indexes.get_mut().clear();
        let numbered = (0_u32..).zip(&mut self.pages);
        numbered
            .filter_map(|(block, page)| Some((block, page.take()?)))
            .collect()
    }

    /// Fills blocks that are missing here from another file.
    pub(crate) fn fill_from(&mut self, other: &File) {
        for (block, page) in (0_u32..).zip(&other.pages) {
            if let (Some(page), None) = (page, self.page(block)) {
                self.put_shared(block, Arc::clone(page));
            }
        }
    }

    /// Changes a page; `None` if it is not there.
    pub(crate) fn change<R>(&mut self, block: u32, f: impl FnOnce(&mut Page) -> R) -> Option<R> {
        let page = self.pages.get_mut(block as usize)?.as_mut()?;
        let result = f(Arc::make_mut(page));
        self.reindex(block);
        Some(result)
    }

    /// Cuts the file to `blocks`.
    pub(crate) fn truncate(&mut self, blocks: u32) {
        self.pages.truncate(blocks as usize);
        for index in self.indexes.get_mut() {
            Arc::make_mut(index).truncate(blocks);
        }
    }

    /// Where tuples with `key` in the u32 column at offset `at` are.
    pub(crate) fn find(&self, at: usize, key: u32) -> Vec<Tid> {
        if let Some(index) = self.indexes.read().iter().find(|index| index.at() == at) {
            return index.tids(key);
        }
        let mut built = Index::new(at);
        for (block, page) in self.pages() {
            built.set_block(block, Some(page));
        }
        let tids = built.tids(key);
        let mut indexes = self.indexes.write();
        if !indexes.iter().any(|index| index.at() == at) {
            indexes.push(Arc::new(built));
        }
        tids
    }

    fn reindex(&mut self, block: u32) {
        let page = self.pages.get(block as usize).and_then(Option::as_deref);
        for index in self.indexes.get_mut() {
            Arc::make_mut(index).set_block(block, page);
        }
    }
}

impl Clone for File {
    fn clone(&self) -> Self {
        File {
            pages: self.pages.clone(),
            indexes: RwLock::new(self.indexes.read().clone()),
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({} blocks)", self.pages.len())
    }
}
