use super::*;
use redostream_protocol::Oid;

const M: Lsn = Lsn(1000);
const NEXT: Xid = Xid(700);

fn at(lsn: u64) -> ConsistencyRule {
    ConsistencyRule {
        at_least: Lsn(lsn),
        backup_end: None,
        end_of_wal: false,
        needs_full_page_writes: false,
    }
}

fn readiness(rule: ConsistencyRule) -> Readiness {
    Readiness::new(rule, NEXT, &[], false, None)
}

fn running(tops: &[Xid], oldest: u32) -> RunningTransactions<'_> {
    RunningTransactions {
        tops,
        oldest: Xid(oldest),
    }
}

fn prepared(xid: u32, gid: &str) -> PreparedTransaction {
    PreparedTransaction {
        xid: Xid(xid),
        gid: gid.as_bytes().to_vec(),
        database: Oid(5),
        subxacts: Vec::new(),
    }
}

fn xids(waiting: &[Waiting]) -> Vec<u32> {
    waiting.iter().map(|waiting| waiting.xid.0).collect()
}

const NOBODY: fn(Xid) -> bool = |_| false;

#[test]
fn a_clean_shutdown_is_ready_at_its_checkpoint() {
    let mut ready = Readiness::new(at(1000), NEXT, &[], true, None);
    assert_eq!(ready.consistent_at(), Some(M));
    assert!(!ready.is_consistent() && ready.skips(Xid(800)));
    ready.reached(M).unwrap();
    assert_eq!(ready.ready_at(), Some(M));
    assert!(!ready.skips(Xid(700)));
    assert_eq!(ready.waits_for(), None);
}

#[test]
fn transactions_open_at_m_are_skipped_and_waited_for() {
    let mut ready = readiness(at(1000));
    ready.seen(Lsn(100), Xid(705)).unwrap();
    ready.seen(Lsn(110), Xid(706)).unwrap();
    ready
        .running(
            Lsn(120),
            Lsn(130),
            running(&[Xid(650), Xid(705)], 650),
            NOBODY,
        )
        .unwrap();
    ready.ended(Lsn(200), Lsn(210), Xid(706), &[]).unwrap();
    assert_eq!(
        ready.waits_for().unwrap(),
        "WAL up to 0/3E8, where the copied catalog is consistent"
    );
    ready.seen(Lsn(1000), Xid(710)).unwrap();
    assert!(ready.is_consistent());
    assert_eq!(xids(&ready.waiting()), [650, 705]);
    assert!(ready.skips(Xid(650)) && ready.skips(Xid(705)) && !ready.skips(Xid(710)));
    assert_eq!(
        ready.waits_for().unwrap(),
        "the end of transaction 650, transaction 705"
    );
    ready.ended(Lsn(1100), Lsn(1120), Xid(710), &[]).unwrap();
    ready.ended(Lsn(1200), Lsn(1220), Xid(650), &[]).unwrap();
    assert_eq!(ready.ready_at(), None);
    assert!(ready.skips(Xid(705)));
    ready.ended(Lsn(1300), Lsn(1340), Xid(705), &[]).unwrap();
    assert_eq!(ready.ready_at(), Some(Lsn(1340)));
    assert_eq!(ready.skipped(), [Xid(650), Xid(705)]);
}

#[test]
fn a_transaction_that_began_before_m_is_skipped_although_its_xid_is_new() {
    let mut ready = readiness(at(1000));
    ready
        .running(Lsn(100), Lsn(110), running(&[], 700), NOBODY)
        .unwrap();
    ready.seen(Lsn(999), Xid(900)).unwrap();
    ready.seen(Lsn(1000), Xid(901)).unwrap();
    assert!(ready.skips(Xid(900)) && !ready.skips(Xid(901)));
    ready.ended(Lsn(1001), Lsn(1010), Xid(900), &[]).unwrap();
    assert_eq!(ready.ready_at(), Some(Lsn(1010)));
}

/// A commit that waits for a synchronous standby is long in the log, yet its transaction is still
/// listed as running.
#[test]
fn who_waits_for_a_synchronous_standby_has_ended() {
    let mut ready = readiness(at(1000));
    ready
        .ended(Lsn(100), Lsn(110), Xid(650), &[Xid(651)])
        .unwrap();
    let listed = [Xid(640), Xid(650), Xid(651), Xid(660)];
    let committed_before_redo = |xid: Xid| xid == Xid(640);
    ready
        .running(
            Lsn(200),
            Lsn(210),
            running(&listed, 640),
            committed_before_redo,
        )
        .unwrap();
    ready.reached(M).unwrap();
    assert_eq!(xids(&ready.waiting()), [660]);
    // Later records may list them still, and a transaction that is younger than M.
    let listed = [Xid(640), Xid(660), Xid(720)];
    ready
        .running(Lsn(1100), Lsn(1110), running(&listed, 640), NOBODY)
        .unwrap();
    assert_eq!(xids(&ready.waiting()), [660]);
    ready.ended(Lsn(1200), Lsn(1210), Xid(660), &[]).unwrap();
    assert_eq!(ready.ready_at(), Some(Lsn(1210)));
}

#[test]
fn without_a_list_of_running_transactions_m_is_not_ready() {
    let mut ready = readiness(at(1000));
    ready.reached(Lsn(2000)).unwrap();
    assert!(ready.is_consistent());
    assert_eq!(ready.ready_at(), None);
    assert!(ready.waits_for().unwrap().contains("running transactions"));
    assert!(ready.skips(Xid(650)));
    ready.ended(Lsn(2001), Lsn(2010), Xid(650), &[]).unwrap();
    let listed = [Xid(650), Xid(651), Xid(720)];
    ready
        .running(Lsn(2100), Lsn(2110), running(&listed, 650), NOBODY)
        .unwrap();
    assert_eq!(xids(&ready.waiting()), [651]);
    assert!(ready.skips(Xid(651)) && !ready.skips(Xid(720)));
    ready.ended(Lsn(2200), Lsn(2210), Xid(651), &[]).unwrap();
    assert_eq!(ready.ready_at(), Some(Lsn(2210)));
}

#[test]
fn prepared_transactions_hold_c_back_by_name() {
    let before = [prepared(600, "old"), prepared(601, "gone")];
    let mut ready = Readiness::new(at(1000), NEXT, &before, true, None);
    ready.seen(Lsn(100), Xid(710)).unwrap();
    ready.prepared(Lsn(110), Xid(710), b"new").unwrap();
    ready.ended(Lsn(120), Lsn(130), Xid(601), &[]).unwrap();
    ready.reached(M).unwrap();
    assert_eq!(
        ready.waits_for().unwrap(),
        "the end of prepared transaction 'old' (600), prepared transaction 'new' (710)"
    );
    // A restart of the server ends everybody else.
    ready.seen(Lsn(1001), Xid(650)).unwrap();
    assert_eq!(xids(&ready.waiting()), [600, 650, 710]);
    ready.only_prepared_run(Lsn(1100), Lsn(1110)).unwrap();
    assert_eq!(xids(&ready.waiting()), [600, 710]);
    ready.ended(Lsn(1200), Lsn(1210), Xid(710), &[]).unwrap();
    ready.ended(Lsn(1300), Lsn(1310), Xid(600), &[]).unwrap();
    assert_eq!(ready.ready_at(), Some(Lsn(1310)));
}

#[test]
fn a_crash_ends_transactions_without_a_record() {
    let mut ready = readiness(at(1000));
    ready.seen(Lsn(100), Xid(705)).unwrap();
    ready
        .running(Lsn(110), Lsn(120), running(&[Xid(690)], 690), NOBODY)
        .unwrap();
    ready.reached(M).unwrap();
    assert_eq!(xids(&ready.waiting()), [690, 705]);
    ready
        .running(Lsn(1100), Lsn(1120), running(&[], 720), NOBODY)
        .unwrap();
    assert_eq!(ready.ready_at(), Some(Lsn(1120)));

    let mut ready = readiness(at(1000));
    ready.seen(Lsn(100), Xid(705)).unwrap();
    ready.reached(M).unwrap();
    ready.only_prepared_run(Lsn(1100), Lsn(1130)).unwrap();
    assert_eq!(ready.ready_at(), Some(Lsn(1130)));
}

#[test]
fn subtransactions_end_with_their_top() {
    let mut ready = readiness(at(1000));
    ready
        .running(Lsn(50), Lsn(60), running(&[Xid(690)], 690), NOBODY)
        .unwrap();
    // Its first record, which named the top, lies before the redo LSN.
    ready.seen(Lsn(100), Xid(691)).unwrap();
    ready.reached(M).unwrap();
    assert_eq!(xids(&ready.waiting()), [690, 691]);
    ready
        .ended(Lsn(1100), Lsn(1110), Xid(690), &[Xid(691)])
        .unwrap();
    assert_eq!(ready.ready_at(), Some(Lsn(1110)));
}

#[test]
fn a_base_backup_is_consistent_at_its_end() {
    let rule = ConsistencyRule {
        backup_end: Some(Lsn(500)),
        ..at(600)
    };
    let mut ready = readiness(rule);
    ready
        .running(Lsn(550), Lsn(560), running(&[], 700), NOBODY)
        .unwrap();
    assert_eq!(ready.consistent_at(), None);
    assert_eq!(
        ready.waits_for().unwrap(),
        "the end of the base backup in the WAL"
    );
    ready.backup_ended(Lsn(700), Lsn(400)).unwrap();
    ready.reached(Lsn(710)).unwrap();
    assert!(!ready.is_consistent());
    ready.backup_ended(Lsn(800), Lsn(500)).unwrap();
    assert_eq!(ready.ready_at(), Some(Lsn(800)));
}

#[test]
fn a_killed_server_is_consistent_at_the_end_of_its_wal() {
    let rule = ConsistencyRule {
        end_of_wal: true,
        ..at(600)
    };
    let mut ready = readiness(rule);
    ready.seen(Lsn(5000), Xid(705)).unwrap();
    assert!(!ready.is_consistent());
    assert!(ready.waits_for().unwrap().contains("end of the WAL"));
    ready.wal_ends(Lsn(6000));
    ready.wal_ends(Lsn(9000));
    assert_eq!(ready.consistent_at(), Some(Lsn(6000)));
    ready.only_prepared_run(Lsn(6000), Lsn(6100)).unwrap();
    assert_eq!(ready.ready_at(), Some(Lsn(6100)));
    assert_eq!(ready.skipped(), [Xid(705)]);
}

#[test]
fn a_killed_server_that_was_started_again_says_where_its_wal_had_ended() {
    let rule = ConsistencyRule {
        end_of_wal: true,
        ..at(600)
    };
    let mut ready = readiness(rule);
    ready.restarted(Lsn(600));
    assert_eq!(ready.consistent_at(), None);
    ready.restarted(Lsn(6000));
    assert_eq!(ready.consistent_at(), Some(Lsn(6000)));
}

#[test]
fn a_copy_that_cannot_be_whole_is_refused() {
    let page = NewestPage {
        lsn: Lsn(1001),
        node: RelFileNode::default(),
        block: 7,
    };
    let mut ready = Readiness::new(at(1000), NEXT, &[], true, Some(page));
    ready.reached(Lsn(999)).unwrap();
    let error = ready.reached(M).unwrap_err().to_string();
    assert!(
        error.contains("block 7") && error.contains("0/3E9"),
        "{error}"
    );

    let rule = ConsistencyRule {
        needs_full_page_writes: true,
        ..at(1000)
    };
    let mut ready = readiness(rule);
    ready.full_page_writes_off(M).unwrap();
    let mut ready = readiness(rule);
    assert!(ready.full_page_writes_off(Lsn(999)).is_err());
    assert!(readiness(at(1000)).full_page_writes_off(Lsn(999)).is_ok());
}

/// Any schedule of transactions: whoever is emitted lies after M as a whole, and C is the end of
/// the last of the others.
#[test]
fn random_schedules_agree_with_a_model() {
    use proptest::prelude::*;
    let schedule = proptest::collection::vec((1_u64..2000, 1_u64..800, any::<bool>()), 1..40);
    proptest!(|(mut transactions in schedule, redo in 1_u64..500, m in 500_u64..1500)| {
        transactions.sort_unstable();
        // (lsn, is an end, xid)
        let mut facts = Vec::new();
        for (xid, (start, length, _)) in (600_u32..).zip(&transactions) {
            facts.push((*start, false, xid));
            facts.push((start + length, true, xid));
        }
        facts.sort_unstable();
        let began_before = |lsn: u64| {
            transactions.iter().filter(|(start, ..)| *start < lsn).count() as u32
        };
        let next = 600 + began_before(redo + 20);
        let mut ready = Readiness::new(at(m), Xid(next), &[], false, None);
        let snapshot_at = redo + 40;
        let mut told = false;
        // Nobody knows before the list of running transactions.
        let mut expected_c = m.max(snapshot_at);
        for (lsn, end, xid) in &facts {
            if *lsn < redo {
                continue;
            }
            if !told && *lsn >= snapshot_at {
                told = true;
                let tops: Vec<_> = (600_u32..)
                    .zip(&transactions)
                    .filter(|(_, (start, length, lingers))| {
                        *start < snapshot_at && (start + length >= snapshot_at || *lingers)
                    })
                    .map(|(xid, _)| Xid(xid))
                    .collect();
                let ended_by_redo = |xid: Xid| {
                    let (start, length, _) = transactions[(xid.0 - 600) as usize];
                    start + length < redo
                };
                let list = running(&tops, 600);
                ready.running(Lsn(snapshot_at), Lsn(snapshot_at), list, ended_by_redo).unwrap();
            }
            let (start, length, _) = transactions[(xid - 600) as usize];
            let old = start < m || *xid < next;
            if *end {
                let skipped = ready.ready_at().is_none() && ready.skips(Xid(*xid));
                if *lsn >= m && ready.is_consistent() {
                    prop_assert_eq!(skipped, old, "{}", xid);
                }
                ready.ended(Lsn(*lsn), Lsn(*lsn), Xid(*xid), &[]).unwrap();
                if old && start + length >= redo {
                    expected_c = expected_c.max(start + length);
                }
            } else {
                ready.seen(Lsn(*lsn), Xid(*xid)).unwrap();
            }
        }
        ready.reached(Lsn(1 << 20)).unwrap();
        if told {
            prop_assert_eq!(ready.ready_at(), Some(Lsn(expected_c)));
        }
    });
}
