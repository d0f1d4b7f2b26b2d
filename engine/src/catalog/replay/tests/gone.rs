//! Tuples that are let go, and records that come after.

use super::*;
use crate::catalog::commit_log;

/// The row of a tuple goes once who ended it has committed, and not before; records go on to name
/// its line pointer.
#[test]
fn what_a_committed_transaction_ended_is_let_go() {
    let mut store = filled(15);
    let delete = |xid: u32, offset: u16, lsn| Made {
        xid,
        ..made(id::HEAP, 0x10, lsn).main(&[&self::xid(xid), &le(offset), &[0x10, 0]])
    };
    delete(700, 1, 2000).replay(&mut store).unwrap();
    delete(701, 2, 3000).replay(&mut store).unwrap();
    let lengths = |store: &Store| {
        let page = page(store, 0);
        [1, 2, 3].map(|number| page.tuple(number).unwrap().len())
    };
    let noted = |store: &Store, top| store.writers[&Xid(top)].ended.clone();
    let place = |offset| (NODE, Tid { block: 0, offset });
    assert_eq!(noted(&store, 700), [place(1)]);
    store.let_go(&noted(&store, 700));
    assert_eq!(lengths(&store), [32, 32, 32], "nobody has committed");

    let mut log = commit_log::CommitLog::clone(&store.commit_log);
    log.set(Xid(700), XidStatus::Committed);
    log.set(Xid(701), XidStatus::Aborted);
    store.commit_log = Arc::new(log);
    let all = [
        noted(&store, 700),
        noted(&store, 701),
        vec![place(3), place(9)],
    ]
    .concat();
    store.let_go(&all);
    assert_eq!(lengths(&store), [23, 32, 32]);
    assert!(store.file(NODE).unwrap().find(0, 0x0101_0101).is_empty());
    assert_eq!(store.file(NODE).unwrap().find(0, 0x0202_0202).len(), 1);

    // An in-place update that came too late, and pruning.
    let inplace = made(id::HEAP, 0x70, 4000).main(&[&le(1)]).data(&[&[5; 8]]);
    inplace.replay(&mut store).unwrap();
    let inplace = made(id::HEAP, 0x70, 5000).main(&[&le(3)]).data(&[&[5; 8]]);
    inplace.replay(&mut store).unwrap();
    assert_eq!(lengths(&store), [23, 32, 32]);
    assert_eq!(page(&store, 0).tuple(3).unwrap()[24..], [5; 8]);
}
