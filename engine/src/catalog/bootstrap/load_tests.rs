use super::*;
use crate::catalog::Catalog;
use crate::catalog::bootstrap::class_rows::{craft_page, craft_row};
use crate::catalog::bootstrap::control_file::craft_control;
use crate::catalog::filenodes::craft_map;
use std::collections::BTreeMap;
use std::fs;

const MAJOR: u16 = 17;

/// Keeps what it is told.
#[derive(Default)]
struct Kept {
    databases: Vec<(u32, u32)>,
    maps: BTreeMap<(u32, u32), RelationMap>,
    pages: BTreeMap<(RelFileNode, u32), Vec<u8>>,
    empty: Vec<RelFileNode>,
    catalogs: BTreeMap<u32, u32>,
    multixacts: Multixacts,
    commit_log: CommitLog,
}

impl CatalogSink for Kept {
    fn database(&mut self, database: DatabaseOid, tablespace: Oid) {
        self.databases.push((database.0, tablespace.0));
    }

    fn map(&mut self, database: DatabaseOid, tablespace: Oid, map: &RelationMap) {
        self.maps.insert((database.0, tablespace.0), map.clone());
    }

    fn file(&mut self, node: RelFileNode, catalog: Oid, first_block: u32, pages: &[u8]) {
        self.catalogs.insert(node.relation.0, catalog.0);
        if pages.is_empty() {
            self.empty.push(node);
        }
        for (block, page) in (first_block..).zip(pages.chunks(HEAP_PAGE_BYTES)) {
            assert_eq!(page.len(), HEAP_PAGE_BYTES);
            let known = self.pages.insert((node, block), page.to_vec());
            assert!(known.is_none(), "{node} {block} twice");
        }
    }

    fn multixacts(&mut self, multixacts: Multixacts) {
        self.multixacts = multixacts;
    }

    fn commit_log(&mut self, commit_log: CommitLog) {
        self.commit_log = commit_log;
    }
}

impl Kept {
    fn files(&self) -> BTreeSet<String> {
        let mut files: BTreeSet<_> = self
            .pages
            .keys()
            .map(|(node, _)| node.to_string())
            .collect();
        files.extend(self.empty.iter().map(ToString::to_string));
        files
    }
}

struct At(u64);

impl Upstream for At {
    fn flushed_or_replayed(&self) -> Result<Lsn, String> {
        if self.0 == 0 {
            return Err("no connection".to_owned());
        }
        Ok(Lsn(self.0))
    }
}

fn row(oid: u32, file: u32, tablespace: u32, rewrite_of: u32) -> ClassRow {
    ClassRow {
        oid: Oid(oid),
        file: Oid(file),
        tablespace: Oid(tablespace),
        rewrite_of: Oid(rewrite_of),
    }
}

/// A cluster of one database, cleanly shut down, with files of two blocks a segment.
fn craft(change: impl FnOnce(&mut [u8])) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for sub in [
        "global",
        "base/5",
        "pg_xact",
        "pg_multixact/offsets",
        "pg_multixact/members",
    ] {
        fs::create_dir_all(root.join(sub)).unwrap();
    }
    let control = craft_control(MAJOR, |bytes| {
        bytes[16] = 1;
        bytes[220..224].copy_from_slice(&2_u32.to_le_bytes());
        change(bytes);
    });
    fs::write(root.join("PG_VERSION"), format!("{MAJOR}\n")).unwrap();
    fs::write(root.join("global/pg_control"), control).unwrap();
    fs::write(
        root.join("global/pg_filenode.map"),
        craft_map(&[(1262, 1262)], 524),
    )
    .unwrap();
    let map = craft_map(&[(1259, 20_000), (1249, 1249)], 524);
    fs::write(root.join("base/5/pg_filenode.map"), map).unwrap();
    fs::write(root.join("pg_xact/0000"), vec![0x55; 200]).unwrap();
    let rows = [
        row(1259, 0, 0, 0),
        row(1249, 0, 0, 0),
        row(2604, 2604, 0, 0),
        row(1262, 0, 1664, 0),
        row(16_700, 0, 1664, 1262),
        row(16_800, 0, 0, 1249),
        row(2613, 2613, 0, 0),
        row(3456, 3456, 0, 0),
        row(16_500, 16_500, 0, 0),
    ];
    let tuples: Vec<_> = rows
        .iter()
        .map(|row| (0, 0, craft_row(*row, b'r', MAJOR)))
        .collect();
    let write = |file: &str, pages: &[Vec<u8>]| fs::write(root.join(file), pages.concat()).unwrap();
    let page = |lsn: u64| craft_page(Lsn(lsn), &[(7, 0x1000, vec![])]);
    // pg_class over three segments, its rows in the last block.
    write("base/5/20000", &[page(1), page(2)]);
    write("base/5/20000.1", &[page(3), page(0x300_0010)]);
    write(
        "base/5/20000.2",
        &[craft_page(Lsn(5), &tuples), vec![1; 10]],
    );
    for file in [
        "base/5/1249",
        "base/5/2604",
        "base/5/2613",
        "base/5/16500",
        "base/5/16800",
    ] {
        write(file, &[page(8)]);
    }
    write("base/5/3456", &[]);
    write("global/1262", &[page(9)]);
    write("global/16700", &[page(10)]);
    directory
}

#[test]
fn catalogs_are_loaded_and_nothing_else() {
    let crafted = craft(|_| ());
    let directory = DataDirectory::open(crafted.path()).unwrap();
    let mut kept = Kept::default();
    let bootstrap = load(&directory, None, &mut kept).unwrap();
    let expected = [
        "1663/5/20000",
        "1663/5/1249",
        "1663/5/2604",
        "1663/5/16800",
        "1663/5/3456",
        "1664/0/1262",
        "1664/0/16700",
    ];
    let expected: BTreeSet<_> = expected.iter().map(ToString::to_string).collect();
    assert_eq!(kept.files(), expected);
    assert_eq!(kept.empty.len(), 1);
    let catalogs = [
        (1249, 1249),
        (1262, 1262),
        (2604, 2604),
        (3456, 3456),
        (16_700, 1262),
        (16_800, 1249),
        (20_000, 1259),
    ];
    assert_eq!(kept.catalogs, BTreeMap::from(catalogs));
    assert_eq!(kept.databases, [(5, 1663)]);
    assert_eq!(kept.maps.len(), 2);
    assert_eq!(kept.commit_log.get(Xid(10)), XidStatus::Committed);
    let class = RelFileNode {
        tablespace: Oid(1663),
        database: Oid(5),
        relation: Oid(20_000),
    };
    let blocks: Vec<_> = kept
        .pages
        .keys()
        .filter(|(node, _)| *node == class)
        .collect();
    assert_eq!(blocks.len(), 5);
    assert_eq!(bootstrap.kind, DirectoryKind::ShutDown);
    assert_eq!(bootstrap.files, 7);
    let newest = bootstrap.newest_page.unwrap();
    assert_eq!(
        (newest.node, newest.block, newest.lsn),
        (class, 3, Lsn(0x300_0010))
    );
    let mut readiness = bootstrap.readiness();
    readiness.reached(bootstrap.checkpoint_lsn).unwrap();
    assert_eq!(readiness.ready_at(), Some(bootstrap.checkpoint_lsn));
}

/// Cuts `pg_class` to nothing once its rows have been read, as a rewrite of it that ends then does.
struct Rewritten<'a> {
    root: &'a Path,
    catalog: Catalog,
}

impl CatalogSink for Rewritten<'_> {
    fn database(&mut self, database: DatabaseOid, tablespace: Oid) {
        CatalogSink::database(&mut self.catalog, database, tablespace);
        for segment in ["20000", "20000.1", "20000.2"] {
            fs::write(self.root.join("base/5").join(segment), []).unwrap();
        }
    }

    fn map(&mut self, database: DatabaseOid, tablespace: Oid, map: &RelationMap) {
        self.catalog.map(database, tablespace, map);
    }

    fn file(&mut self, node: RelFileNode, catalog: Oid, first_block: u32, pages: &[u8]) {
        self.catalog.file(node, catalog, first_block, pages);
    }

    fn multixacts(&mut self, multixacts: Multixacts) {
        self.catalog.multixacts(multixacts);
    }

    fn commit_log(&mut self, commit_log: CommitLog) {
        self.catalog.commit_log(commit_log);
    }
}

#[test]
fn files_are_followed_though_pg_class_is_rewritten_before_they_are_read() {
    let crafted = craft(|bytes| bytes[16] = 6);
    let directory = DataDirectory::open(crafted.path()).unwrap();
    let mut sink = Rewritten {
        root: crafted.path(),
        catalog: Catalog::new(directory.format()),
    };
    load(&directory, Some(&At(0x400_0000)), &mut sink).unwrap();
    let node = |relation| RelFileNode {
        tablespace: Oid(1663),
        database: Oid(5),
        relation: Oid(relation),
    };
    let store = &sink.catalog.store;
    assert_eq!(store.file(node(20_000)).unwrap().blocks(), 0);
    for (file, catalog) in [(2604, 2604), (16_800, 1249), (3456, 3456)] {
        assert_eq!(store.owner(node(file)), Some(Oid(catalog)));
        assert!(store.keeps(node(file)));
    }
}

#[test]
fn a_running_server_is_asked_how_far_it_is() {
    let crafted = craft(|bytes| bytes[16] = 6);
    let directory = DataDirectory::open(crafted.path()).unwrap();
    let with = |at: u64| load(&directory, Some(&At(at)), &mut Kept::default());
    let bootstrap = with(0x400_0000).unwrap();
    assert_eq!(bootstrap.kind, DirectoryKind::Live);
    assert_eq!(bootstrap.readiness().consistent_at(), Some(Lsn(0x400_0000)));
    assert!(with(0).unwrap_err().to_string().contains("no connection"));
    let behind = craft(|bytes| {
        bytes[16] = 6;
        bytes[40..48].copy_from_slice(&0x200_0000_u64.to_le_bytes());
    });
    let directory = DataDirectory::open(behind.path()).unwrap();
    let error = load(&directory, Some(&At(0x300_0000)), &mut Kept::default()).unwrap_err();
    assert!(
        matches!(error, BootstrapError::UpstreamBehind { block: 3, .. }),
        "{error}"
    );
    let without_upstream = load(&directory, None, &mut Kept::default()).unwrap();
    assert_eq!(without_upstream.kind, DirectoryKind::Crashed);
}

#[test]
fn what_cannot_work_is_refused() {
    let load_crafted = |change: fn(&mut [u8]), upstream: bool| {
        let crafted = craft(change);
        let directory = DataDirectory::open(crafted.path()).unwrap();
        let at = At(0x400_0000);
        let upstream = upstream.then_some(&at as &dyn Upstream);
        load(&directory, upstream, &mut Kept::default())
            .unwrap_err()
            .to_string()
    };
    let message = load_crafted(|bytes| bytes[172] = 1, false);
    assert!(message.contains("wal_level is replica"), "{message}");
    let message = load_crafted(
        |bytes| {
            bytes[16] = 6;
            bytes[56] = 0;
        },
        true,
    );
    assert!(message.contains("full_page_writes"), "{message}");
    // A second segment of pg_class that begins behind 64 GiB.
    let blocks = |bytes: &mut [u8]| {
        bytes[220..224].copy_from_slice(&CATALOG_BLOCKS_MAX.to_le_bytes());
    };
    let message = load_crafted(blocks, false);
    let expected = "base/5/20000 is a system catalog of more than 64 GiB";
    assert!(message.contains(expected), "{message}");
    let crafted = craft(blocks);
    for segment in ["20000.1", "20000.2"] {
        fs::write(crafted.path().join("base/5").join(segment), b"").unwrap();
    }
    let directory = DataDirectory::open(crafted.path()).unwrap();
    load(&directory, None, &mut Kept::default()).unwrap();
}

#[test]
fn a_damaged_map_is_named() {
    let crafted = craft(|_| ());
    let path = crafted.path().join("base/5/pg_filenode.map");
    let mut bytes = fs::read(&path).unwrap();
    bytes[9] ^= 1;
    fs::write(&path, bytes).unwrap();
    let directory = DataDirectory::open(crafted.path()).unwrap();
    let error = load(&directory, None, &mut Kept::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("base/5/pg_filenode.map") && error.contains("CRC"),
        "{error}"
    );
}
