//! Each kind of record on a crafted page.

use redostream_protocol::{Lsn, Oid, RelFileNode, Xid};

use super::*;
use crate::catalog::commit_log::XidStatus;
use crate::catalog::filenodes::RelationMap;
use crate::catalog::pages::Pointer;
use crate::catalog::tuple::{self, LoggedHeader, infomask, infomask2};
use crate::framing::format::WalFormat;
use crate::framing::record::{Image, ImageCompression};

mod gone;

const NODE: RelFileNode = RelFileNode {
    tablespace: Oid(1663),
    database: Oid(5),
    relation: Oid(1249),
};

/// A record being put together.
#[derive(Clone, Default)]
struct Made {
    rmgr: u8,
    info: u8,
    xid: u32,
    lsn: u64,
    main: Vec<u8>,
    data: Vec<u8>,
    block: u32,
    old_block: Option<u32>,
    init: bool,
    image: Option<Vec<u8>>,
}

fn made(rmgr: u8, info: u8, lsn: u64) -> Made {
    Made {
        rmgr,
        info,
        xid: 700,
        lsn,
        ..Made::default()
    }
}

impl Made {
    fn main(mut self, parts: &[&[u8]]) -> Self {
        self.main = parts.concat();
        self
    }

    fn data(mut self, parts: &[&[u8]]) -> Self {
        self.data = parts.concat();
        self
    }

    fn replay(&self, store: &mut Store) -> Result<Effect, CatalogError> {
        let block = |id, number, data| BlockRef {
            id,
            node: NODE,
            fork: MAIN_FORK,
            block: number,
            will_init: self.init && id == 0,
            image: None,
            data,
        };
        let mut blocks = vec![block(0, self.block, &self.data[..])];
        if let Some(image) = &self.image {
            blocks[0].image = Some(Image {
                bytes: image,
                hole_offset: 0,
                hole_bytes: 0,
                compression: ImageCompression::None,
                apply: true,
            });
        }
        if let Some(old) = self.old_block {
            blocks.push(block(1, old, &[]));
        }
        let record = Record {
            lsn: Lsn(self.lsn),
            end_lsn: Lsn(self.lsn + 100),
            xid: Xid(self.xid),
            rmgr: self.rmgr,
            info: self.info,
            origin: 0,
            top_xid: Xid::INVALID,
            blocks: blocks.into(),
            main: &self.main,
        };
        replay(store, &record, record.xid)
    }
}

fn store(major: u16) -> Store {
    let mut store = Store::new(WalFormat::of_major(major).unwrap());
    let map = RelationMap::from_entries(vec![(oid::ATTRIBUTE, Oid(1249))]);
    store.set_map(Oid(5), Oid(1663), map);
    store.consistent = true;
    store
}

fn bytes(fill: u8) -> Vec<u8> {
    let header = LoggedHeader {
        mask2: 1,
        mask: infomask::XMAX_INVALID,
        hoff: 24,
    };
    tuple::build(header, Xid(600), Xid(0), (0, 1), &[&[0], &[fill; 8]])
}

/// A store whose block 0 has tuples at line pointers 1 to 3.
fn filled(major: u16) -> Store {
    let mut store = store(major);
    let mut page = Page::empty();
    for number in 1..=3 {
        page.add(number, &bytes(number as u8)).unwrap();
    }
    page.set_lsn(Lsn(1000));
    store.file_mut(NODE).put(0, page);
    store
}

fn page(store: &Store, block: u32) -> &Page {
    store.file(NODE).unwrap().page(block).unwrap()
}

fn le(value: u16) -> [u8; 2] {
    value.to_le_bytes()
}

fn xid(value: u32) -> [u8; 4] {
    value.to_le_bytes()
}

fn header(mask: u16, hoff: u8) -> Vec<u8> {
    [&le(1)[..], &le(mask), &[hoff]].concat()
}

#[test]
fn insert() {
    let mut store = filled(15);
    let insert = made(id::HEAP, 0x00, 2000).main(&[&le(4), &[0]]).data(&[
        &header(infomask::XMAX_INVALID, 24),
        &[0],
        &[9; 8],
    ]);
    let effect = insert.replay(&mut store).unwrap();
    assert!(effect.own && !effect.everyone);
    let got = page(&store, 0).tuple(4).unwrap();
    assert_eq!(tuple::xmin(got), Xid(700));
    assert_eq!(&got[12..18], [0, 0, 0, 0, 4, 0]);
    assert_eq!(&got[24..], [9; 8]);
    // The page is marked with the record's aligned end, so the same record does nothing more.
    assert_eq!(page(&store, 0).lsn(), Lsn(2104));
    insert.replay(&mut store).unwrap();
    assert_eq!(page(&store, 0).pointers(), Ok(4));
    // A newer one that names a used line pointer does not fit.
    let again = Made {
        lsn: 3000,
        ..insert.clone()
    };
    let error = again.replay(&mut store).unwrap_err();
    assert!(matches!(
        error,
        CatalogError::Replay {
            error: PageError::InUse(4),
            ..
        }
    ));
    // Cut short anywhere it is refused.
    for cut in 0..5 {
        let short = Made {
            data: insert.data[..cut].to_vec(),
            lsn: 3000,
            ..insert.clone()
        };
        let error = short.replay(&mut store).unwrap_err();
        assert!(matches!(error, CatalogError::Record { .. }), "{error}");
    }
}

#[test]
fn a_page_made_anew_takes_no_look_at_its_lsn() {
    let mut store = filled(15);
    let mut insert =
        made(id::HEAP, 0x80, 10)
            .main(&[&le(1), &[0]])
            .data(&[&header(0, 24), &[0], &[9; 8]]);
    insert.init = true;
    insert.replay(&mut store).unwrap();
    assert_eq!(page(&store, 0).pointers(), Ok(1));
    assert_eq!(page(&store, 0).lsn(), Lsn(112));
}

#[test]
fn images_come_first_and_take_no_look_at_lsns() {
    let mut store = filled(15);
    let mut image = Page::empty();
    image.add(1, &bytes(42)).unwrap();
    let mut insert =
        made(id::HEAP, 0x00, 10)
            .main(&[&le(2), &[0]])
            .data(&[&header(0, 24), &[0], &[9; 8]]);
    insert.image = Some(image.bytes().to_vec());
    insert.replay(&mut store).unwrap();
    // The image is the page after the change.
    assert_eq!(page(&store, 0).pointers(), Ok(1));
    assert_eq!(&page(&store, 0).tuple(1).unwrap()[24..], [42; 8]);
    assert_eq!(page(&store, 0).lsn(), Lsn(112));
}

#[test]
fn multi_insert() {
    let mut store = filled(16);
    let one = [&le(9)[..], &header(0, 24), &[0], &[7; 8]].concat();
    let two = [&le(9)[..], &header(0, 24), &[0], &[8; 8]].concat();
    let record = made(id::HEAP2, 0x50, 2000)
        .main(&[&[0, 0], &le(2), &le(5), &le(6)])
        .data(&[&one, &two]);
    assert_eq!(one.len() % 2, 0);
    record.replay(&mut store).unwrap();
    assert_eq!(&page(&store, 0).tuple(5).unwrap()[24..], [7; 8]);
    assert_eq!(&page(&store, 0).tuple(6).unwrap()[24..], [8; 8]);
    let mut anew = made(id::HEAP2, 0xD0, 2200)
        .main(&[&[0, 0], &le(2)])
        .data(&[&one, &two]);
    anew.init = true;
    anew.block = 1;
    anew.replay(&mut store).unwrap();
    assert_eq!(&page(&store, 1).tuple(2).unwrap()[24..], [8; 8]);
}

fn update_main(old: u16, flags: u8, new: u16) -> Vec<u8> {
    [&xid(700)[..], &le(old), &[0x10, flags], &xid(0), &le(new)].concat()
}

#[test]
fn update_within_a_page_reuses_prefix_and_suffix() {
    let mut store = filled(17);
    let record = made(id::HEAP, 0x40, 2000)
        .main(&[&update_main(2, 0x60, 4)])
        .data(&[&le(2), &le(3), &header(0, 24), &[0], &[0xAA; 2]]);
    record.replay(&mut store).unwrap();
    let new = page(&store, 0).tuple(4).unwrap();
    assert_eq!(&new[24..], [2, 2, 0xAA, 0xAA, 2, 2, 2]);
    let old = page(&store, 0).tuple(2).unwrap();
    assert_eq!(tuple::xmax(old), Xid(700));
    assert_eq!(&old[12..18], [0, 0, 0, 0, 4, 0]);
    assert_ne!(tuple::mask2(old) & infomask2::HOT_UPDATED, 0);
    assert_eq!(tuple::mask(old) & infomask::XMAX_INVALID, 0);
    let longer = Made {
        data: [&le(9)[..], &le(9), &header(0, 24), &[0]].concat(),
        lsn: 3000,
        ..record
    };
    longer.replay(&mut store).unwrap_err();
}

#[test]
fn update_across_pages() {
    let mut store = filled(15);
    let mut record = made(id::HEAP, 0xA0, 2000)
        .main(&[&update_main(1, 0, 1)])
        .data(&[&header(0, 24), &[0], &[0xBB; 8]]);
    record.init = true;
    record.block = 7;
    record.old_block = Some(0);
    record.replay(&mut store).unwrap();
    assert_eq!(&page(&store, 7).tuple(1).unwrap()[24..], [0xBB; 8]);
    let old = page(&store, 0).tuple(1).unwrap();
    assert_eq!(&old[12..18], [0, 0, 7, 0, 1, 0]);
    assert_eq!(tuple::mask2(old) & infomask2::HOT_UPDATED, 0);
}

#[test]
fn delete_lock_confirm() {
    let mut store = filled(15);
    let delete = made(id::HEAP, 0x10, 2000).main(&[&xid(700), &le(1), &[0x10, 0]]);
    delete.replay(&mut store).unwrap();
    let got = page(&store, 0).tuple(1).unwrap();
    assert_eq!(tuple::xmax(got), Xid(700));
    assert_ne!(tuple::mask2(got) & infomask2::KEYS_UPDATED, 0);

    let withdrawn = made(id::HEAP, 0x10, 2200).main(&[&xid(700), &le(2), &[0, 0x08]]);
    withdrawn.replay(&mut store).unwrap();
    assert_eq!(tuple::xmin(page(&store, 0).tuple(2).unwrap()), Xid::INVALID);

    let lock = made(id::HEAP, 0x60, 2400).main(&[&xid(701), &le(3), &[0x06, 0]]);
    let effect = lock.replay(&mut store).unwrap();
    assert!(!effect.own);
    let got = page(&store, 0).tuple(3).unwrap();
    assert!(tuple::is_lock_only(tuple::mask(got)));
    let lock = made(id::HEAP2, 0x60, 2600).main(&[&xid(702), &le(3), &[0x02, 0]]);
    lock.replay(&mut store).unwrap();
    assert_eq!(tuple::xmax(page(&store, 0).tuple(3).unwrap()), Xid(702));

    let confirm = made(id::HEAP, 0x50, 2800).main(&[&le(3)]);
    confirm.replay(&mut store).unwrap();
    assert_eq!(
        &page(&store, 0).tuple(3).unwrap()[12..18],
        [0, 0, 0, 0, 3, 0]
    );
    made(id::HEAP, 0x50, 3000)
        .main(&[&le(9)])
        .replay(&mut store)
        .unwrap_err();
}

#[test]
fn in_place() {
    for (major, tail) in [(15, &[][..]), (18, &[1, 2, 3, 4, 5, 6][..])] {
        let mut store = filled(major);
        let mut record = made(id::HEAP, 0x70, 2000)
            .main(&[&le(2), tail])
            .data(&[&[0xCC; 8]]);
        record.xid = 0;
        let effect = record.replay(&mut store).unwrap();
        assert_eq!(effect, Effect::default());
        assert_eq!(&page(&store, 0).tuple(2).unwrap()[24..], [0xCC; 8]);
        let longer = Made {
            data: vec![0; 9],
            lsn: 3000,
            ..record
        };
        longer.replay(&mut store).unwrap_err();
    }
}

fn assert_pruned(store: &Store) {
    let page = page(store, 0);
    assert_eq!(page.pointer(1), Ok(Pointer::Redirect(3)));
    assert_eq!(page.pointer(2), Ok(Pointer::Dead));
    assert_eq!(&page.tuple(3).unwrap()[24..], [3; 8]);
    assert_eq!(page.pointers(), Ok(3));
}

#[test]
fn prune() {
    let listed = [le(1), le(3), le(2), le(4)].concat();
    for (major, tail) in [(14, &[][..]), (15, &[][..]), (16, &[1][..])] {
        let mut store = filled(major);
        store
            .file_mut(NODE)
            .change(0, |page| page.add(4, &bytes(4)))
            .unwrap()
            .unwrap();
        let record = made(id::HEAP2, 0x10, 2000)
            .main(&[&xid(600), &le(1), &le(1), tail])
            .data(&[&listed]);
        record.replay(&mut store).unwrap();
        assert_pruned(&store);
        let vacuum = made(id::HEAP2, 0x20, 2200).main(&[&le(1)]).data(&[&le(2)]);
        vacuum.replay(&mut store).unwrap();
        assert_eq!(page(&store, 0).pointer(2), Ok(Pointer::Unused));
    }
}

#[test]
fn unified_prune_with_everything() {
    for major in [17, 18] {
        let mut store = filled(major);
        store
            .file_mut(NODE)
            .change(0, |page| page.add(4, &bytes(4)))
            .unwrap()
            .unwrap();
        let plan = [
            &xid(0)[..],
            &le(1),
            &le(infomask::XMIN_FROZEN),
            &[0, 0],
            &le(1),
        ]
        .concat();
        let record = made(id::HEAP2, 0x20, 2000)
            .main(&[&[0, 0xF8], &xid(600)])
            .data(&[
                &le(1),
                &[0, 0],
                &plan,
                &le(1),
                &le(1),
                &le(3),
                &le(1),
                &le(2),
                &le(1),
                &le(4),
                &le(3),
            ]);
        record.replay(&mut store).unwrap();
        assert_pruned(&store);
        let frozen = page(&store, 0).tuple(3).unwrap();
        assert_eq!(tuple::mask(frozen), infomask::XMIN_FROZEN);
        for cut in 0..record.data.len() {
            let mut store = filled(major);
            let short = Made {
                data: record.data[..cut].to_vec(),
                ..record.clone()
            };
            short.replay(&mut store).unwrap_err();
        }
    }
}

#[test]
fn freeze() {
    let item = [
        &xid(0)[..],
        &le(2),
        &le(1),
        &le(infomask::XMIN_FROZEN),
        &[0, 0],
    ]
    .concat();
    let plan = [
        &xid(0)[..],
        &le(1),
        &le(infomask::XMIN_FROZEN),
        &[0, 0],
        &le(1),
        &le(2),
    ]
    .concat();
    for (major, data) in [(14, &item), (15, &item), (16, &plan)] {
        let mut store = filled(major);
        let record = made(id::HEAP2, 0x30, 2000)
            .main(&[&xid(600), &le(1)])
            .data(&[data]);
        record.replay(&mut store).unwrap();
        let got = tuple::mask(page(&store, 0).tuple(2).unwrap());
        assert_eq!(got, infomask::XMIN_FROZEN, "{major}");
    }
}

#[test]
fn storage_files() {
    let words =
        |list: &[u32]| -> Vec<u8> { list.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let mut store = filled(15);
    store.file_mut(NODE).put(1, Page::empty());
    let cut = words(&[1, 1663, 5, 1249, 7]);
    made(id::STORAGE, 0x20, 2000)
        .main(&[&cut])
        .replay(&mut store)
        .unwrap();
    assert_eq!(store.file(NODE).unwrap().blocks(), 1);
    // The free space map alone is cut.
    let cut = words(&[0, 1663, 5, 1249, 4]);
    made(id::STORAGE, 0x20, 2000)
        .main(&[&cut])
        .replay(&mut store)
        .unwrap();
    assert_eq!(store.file(NODE).unwrap().blocks(), 1);
    let create = words(&[1663, 5, 1249, 0]);
    made(id::STORAGE, 0x10, 2000)
        .main(&[&create])
        .replay(&mut store)
        .unwrap();
    assert_eq!(store.file(NODE).unwrap().blocks(), 0);
}

#[test]
fn databases_are_copied_and_dropped() {
    let words =
        |list: &[u32]| -> Vec<u8> { list.iter().flat_map(|word| word.to_le_bytes()).collect() };
    for (major, drop_op) in [(14, 0x10), (15, 0x20)] {
        let mut store = filled(major);
        let copy = words(&[6, 1700, 5, 1663]);
        let effect = made(id::DATABASE, 0, 2000)
            .main(&[&copy])
            .replay(&mut store)
            .unwrap();
        assert!(effect.everyone);
        let copied = RelFileNode {
            tablespace: Oid(1700),
            database: Oid(6),
            ..NODE
        };
        assert_eq!(store.owner(copied), Some(oid::ATTRIBUTE));
        assert_eq!(store.file(copied).unwrap().page(0), Some(page(&store, 0)));
        let gone = words(&[6, 1, 1700]);
        made(id::DATABASE, drop_op, 2200)
            .main(&[&gone])
            .replay(&mut store)
            .unwrap();
        assert!(store.file(copied).is_none() && store.owner(copied).is_none());
        assert!(store.file(NODE).is_some());
    }
    let mut store = filled(14);
    made(id::DATABASE, 0x20, 2000)
        .main(&[&words(&[6, 0])])
        .replay(&mut store)
        .unwrap_err();
}

#[test]
fn missing_blocks_are_forgiven_before_the_consistency_point_if_cut_off_since() {
    let words =
        |list: &[u32]| -> Vec<u8> { list.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let mut store = filled(15);
    store.consistent = false;
    let mut delete = made(id::HEAP, 0x10, 2000).main(&[&xid(700), &le(1), &[0, 0]]);
    delete.block = 9;
    delete.replay(&mut store).unwrap();
    assert!(matches!(
        store.first_missing(),
        Some(CatalogError::MissingBlock { block: 9, .. })
    ));
    let cut = words(&[4, 1663, 5, 1249, 7]);
    made(id::STORAGE, 0x20, 2100)
        .main(&[&cut])
        .replay(&mut store)
        .unwrap();
    assert_eq!(store.first_missing(), None);
    assert!(store.writers[&Xid(700)].everything);
    store.consistent = true;
    delete.replay(&mut store).unwrap_err();
}

#[test]
fn commit_log_and_multixacts() {
    let mut store = filled(15);
    Arc::make_mut(&mut store.commit_log).set(Xid(700), XidStatus::Committed);
    let mut main = Vec::new();
    for word in [9_u32, 1, 2, 700, 0, 701, 5] {
        main.extend_from_slice(&word.to_le_bytes());
    }
    made(id::MULTIXACT, 0x20, 2000)
        .main(&[&main])
        .replay(&mut store)
        .unwrap();
    assert_eq!(store.multixacts.updater(9), Some(Xid(701)));
    made(id::MULTIXACT, 0x20, 2000)
        .main(&[&main[..9]])
        .replay(&mut store)
        .unwrap_err();
    made(id::CLOG, 0x00, 2000)
        .main(&[&0_u32.to_le_bytes()])
        .replay(&mut store)
        .unwrap();
    assert_eq!(store.commit_log.get(Xid(700)), XidStatus::InProgress);
}

#[test]
fn files_of_others_are_left_alone() {
    let mut store = store(15);
    let record = made(id::HEAP, 0x10, 2000).main(&[&[]]);
    let other = RelFileNode {
        relation: Oid(20_000),
        ..NODE
    };
    let parsed = Record {
        lsn: Lsn(2000),
        end_lsn: Lsn(2100),
        xid: Xid(700),
        rmgr: record.rmgr,
        info: record.info,
        origin: 0,
        top_xid: Xid::INVALID,
        blocks: [BlockRef {
            id: 0,
            node: other,
            fork: MAIN_FORK,
            block: 0,
            will_init: true,
            image: None,
            data: &[],
        }]
        .into_iter()
        .collect(),
        main: &[],
    };
    assert_eq!(replay(&mut store, &parsed, Xid(700)), Ok(Effect::default()));
    assert!(store.files.is_empty());
}
