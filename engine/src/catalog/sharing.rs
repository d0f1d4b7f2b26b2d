//! A catalog's pages apart from the rest, so that restart points can share those that have not
//! changed between them.

use std::borrow::Cow;
use std::sync::Arc;

use redostream_protocol::RelFileNode;

use super::Catalog;
use super::pages::Page;

/// One page of a catalog file. It stays as it is whatever becomes of the catalog it came from.
#[derive(Clone)]
pub struct SharedPage {
    /// The file.
    pub node: RelFileNode,
    /// The block.
    pub block: u32,
    page: Arc<Page>,
}

impl SharedPage {
    /// A page with these bytes; none unless they are 8192.
    #[must_use]
    pub fn new(node: RelFileNode, block: u32, bytes: &[u8]) -> Option<Self> {
        let page = Arc::new(Page::from_bytes(bytes)?);
        Some(SharedPage { node, block, page })
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        self.page.bytes()
    }

    /// Whether it is the very same page, unchanged since one was taken from the other.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.page, &other.page)
    }
}

impl Catalog {
    /// Takes every page out, by file and block. Without them the catalog can only be stored.
    pub fn take_pages(&mut self) -> Vec<SharedPage> {
        let mut taken = Vec::new();
        for (node, file) in &mut self.store.files {
            let pages = Arc::make_mut(file).take_pages();
            taken.extend(pages.into_iter().map(|(block, page)| SharedPage {
                node: *node,
                block,
                page,
            }));
        }
        taken.sort_unstable_by_key(|page| (page.node, page.block));
        taken
    }

    /// Puts pages back that [`Catalog::take_pages`] took. False if one lies beyond what is
    /// believed.
    pub fn give_pages(&mut self, pages: &[SharedPage]) -> bool {
        pages.iter().all(|page| {
            let file = self.store.file_mut(page.node);
            file.put_shared(page.block, Arc::clone(&page.page))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::format::WalFormat;
    use crate::limits::HEAP_PAGE_BYTES;
    use redostream_protocol::Oid;

    #[test]
    fn pages_go_their_own_way_and_come_back() {
        let node = RelFileNode {
            tablespace: Oid(1663),
            database: Oid(5),
            relation: Oid(1259),
        };
        let format = WalFormat::of_major(15).unwrap();
        let mut catalog = Catalog::new(format);
        assert!(catalog.load_file(node, Oid(1259), 2, &[7; 2 * HEAP_PAGE_BYTES]));
        let mut copy = catalog.clone();
        let pages = copy.take_pages();
        let blocks: Vec<u32> = pages.iter().map(|page| page.block).collect();
        assert_eq!(blocks, [2, 3]);
        // What is stored does not hold them, and what goes on does.
        let stored = postcard::to_stdvec(&copy).unwrap();
        assert!(stored.len() < HEAP_PAGE_BYTES);
        let again = catalog.clone().take_pages();
        assert!(pages[0].is(&again[0]) && !pages[0].is(&again[1]));
        let mut restored: Catalog = postcard::from_bytes(&stored).unwrap();
        assert!(restored.give_pages(&pages));
        assert_eq!(*restored.take_pages()[1].bytes(), [7; HEAP_PAGE_BYTES]);
    }
}
