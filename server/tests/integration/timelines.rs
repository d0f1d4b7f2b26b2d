//! Promotions: of the standby that is read from, and of another one that had seen less.

use std::time::Duration;

use redostream_testdata::cluster::{Cluster, ClusterOptions, Stop};
use redostream_testdata::compare::compare;
use redostream_testdata::decoder::run_to_end;

use crate::restart::{Scene, ready};
use crate::serve::{Background, subscribe};

pub(crate) fn life(table: &str) -> String {
    format!(
        "create table {table} (id serial primary key, v text);
         insert into {table} (v) select repeat('value ', i) from generate_series(1, 300) i;
         begin; update {table} set v = v || '!' where id % 3 = 0; savepoint s;
         delete from {table} where id % 5 = 0; rollback to s; commit;
         alter table {table} add column w int default 7;
         update {table} set w = id where id % 4 = 0;"
    )
}

/// A promoted cluster writes; the subscriber gets that too. Gives where it ends.
pub(crate) fn goes_on(
    promoted: &Cluster,
    sql: &str,
    expected: &mut Vec<u8>,
    live: &mut Background,
) -> String {
    promoted.sql("app", sql).unwrap();
    let end = promoted.flushed_lsn().unwrap();
    expected.extend(promoted.receive("app", "promoted", &end).unwrap());
    live.prints(sql, expected);
    end
}

/// The standby beside which the server stands becomes a primary; so does, later, a standby of it.
fn the_standby_is_promoted(major: u32) {
    let Some(mut scene) = Scene::new(major) else {
        return;
    };
    let standby = scene.primary.standby(&ClusterOptions::default()).unwrap();
    let mut server = scene.begin(&standby);
    let mut command = subscribe(scene.port);
    command.args(["--name", "durable"]);
    let mut live = Background::start(&mut command);
    scene.primary.sql("app", &life("before")).unwrap();
    let switched = scene.primary.flushed_lsn().unwrap();
    let mut expected = scene.expected(&switched);
    scene.primary.stop(Stop::Fast).unwrap();
    standby.wait_for_replay(&switched).unwrap();
    live.prints("the old timeline", &expected);
    standby.promote().unwrap();
    standby.create_slot("app", "promoted").unwrap();
    goes_on(&standby, &life("after"), &mut expected, &mut live);

    // Killed and started again, it knows where it was, over the switch too.
    server.kill();
    let mut server = scene.begin(&standby);
    let end = goes_on(&standby, &life("again"), &mut expected, &mut live);
    scene.closes(&expected, &end, &mut live, &mut server);
}

#[test]
fn the_standby_of_15_is_promoted() {
    the_standby_is_promoted(15);
}

#[test]
fn the_standby_of_18_is_promoted() {
    the_standby_is_promoted(18);
}

/// The cluster goes on from a standby that had not seen everything: what was sent beyond is named
/// to who got it, and everybody else gets what is true.
#[test]
fn rows_beyond_the_fork_are_taken_back() {
    let Some(mut scene) = Scene::new(15) else {
        return;
    };
    let mut behind = scene.primary.standby(&ClusterOptions::default()).unwrap();
    let mut command = scene.command(&scene.primary);
    let hosts = format!(
        "host={},{} port={},{} user=postgres dbname=postgres",
        scene.primary.root().display(),
        behind.root().display(),
        scene.primary.port(),
        behind.port()
    );
    command.args(["--upstream", &hosts]);
    let mut server = Background::start(&mut command);
    ready(&mut server);
    let mut live = Background::start(&mut subscribe(scene.port));
    scene.primary.sql("app", &life("common")).unwrap();
    let fork = scene.primary.flushed_lsn().unwrap();
    let mut expected = scene.expected(&fork);
    behind.wait_for_replay(&fork).unwrap();
    behind.stop(Stop::Fast).unwrap();
    scene.primary.sql("app", &life("lost")).unwrap();
    let lost = scene.primary.flushed_lsn().unwrap();
    live.wait_until("what will be lost", |live| {
        let printed = live.printed();
        let text = String::from_utf8_lossy(&printed);
        text.contains("table public.lost: UPDATE")
    });
    assert!(lost > fork);
    scene.primary.stop(Stop::Fast).unwrap();
    behind.start().unwrap();
    behind.promote().unwrap();
    behind.create_slot("app", "promoted").unwrap();
    behind.sql("app", &life("kept")).unwrap();
    let end = behind.flushed_lsn().unwrap();
    expected.extend(behind.receive("app", "promoted", &end).unwrap());

    // Who got rows that do not exist any more is told so, and not led on.
    let since = std::time::Instant::now();
    let status = loop {
        if let Some(status) = live.child.try_wait().unwrap() {
            break status.code();
        }
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "{}",
            server.errors()
        );
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(status, Some(4), "{}", live.errors());
    assert!(
        live.errors().contains("history was left at"),
        "{}",
        live.errors()
    );
    let printed = live.printed();
    let printed = String::from_utf8_lossy(&printed);
    assert!(!printed.contains("public.kept"));
    // Each transaction is named.
    let lost = printed.find("table public.lost").unwrap();
    let first = printed[..lost].rfind("BEGIN ").unwrap();
    let lines = printed[first..].lines();
    for xid in lines.filter_map(|line| line.strip_prefix("BEGIN ")) {
        let named = format!(" {xid} (commit at ");
        assert!(live.errors().contains(&named), "{named}: {}", live.errors());
    }

    // Everybody else gets the true history.
    let mut until = subscribe(scene.port);
    until.args(["--until", &end]);
    let got = run_to_end(&mut until, Duration::from_secs(120)).unwrap();
    assert_eq!(got.status, Some(0), "{}\n{}", got.errors, server.errors());
    compare(&expected, &got.printed).unwrap();
    server.ends_well();
}
