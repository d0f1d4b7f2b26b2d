//! Transactions that are prepared while our server runs, and end after it was killed and has gone on
//! from a restart point: a subscriber gets what the server's own decoder prints.

use redostream_testdata::cluster::{Cluster, ClusterOptions};

use crate::restart::{Scene, begun, ready};
use crate::serve::{Background, subscribe};

/// Rows of a table that is there and of one that is not yet, TOAST in chunks and pglz, an unchanged
/// value, TOASTed names of what nobody else sees yet, subtransactions kept and rolled back, and
/// changes of structure between them.
const PREPARED: &str = "
begin;
insert into pgbench_history (tid, bid, aid, delta, mtime) values (1, 1, 1, 1, '2026-01-01');
create table NAME (id integer primary key, v text);
alter table NAME alter v set storage external;
insert into NAME values (1, repeat('toast', 4000));
create table NAME_named (c regclass[]);
alter table NAME_named alter c set storage external;
insert into NAME_named values (array_fill('NAME'::regclass, array[900]));
savepoint a;
update NAME set id = 2;
insert into NAME select i, (select string_agg(md5((i * j)::text), '') from generate_series(1, 200) j) from generate_series(3, 12) i;
savepoint b;
alter table NAME add w integer default 7;
insert into NAME values (100, 'never', 1);
rollback to b;
release a;
alter table NAME add n numeric default 1.5;
insert into NAME values (13, 'after', 2.25);
delete from NAME where id = 3;
prepare transaction 'NAME';
";

/// Writes to the log until a restart point lies behind `lsn`.
fn restart_point_after(scene: &Scene, lsn: u64) {
    let newest = || {
        let path = scene.points().pop()?;
        let name = path
            .file_name()?
            .to_str()?
            .strip_prefix("restart-")?
            .to_owned();
        u64::from_str_radix(&name, 16).ok()
    };
    for attempt in 0.. {
        if newest().is_some_and(|newest| newest > lsn) {
            return;
        }
        assert!(attempt < 200, "no restart point after {lsn:X}");
        let sql = "insert into pgbench_history (tid, filler) select i, 'x' from generate_series(1, 3000) i";
        scene.primary.sql("app", sql).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn flushed(primary: &Cluster) -> u64 {
    redostream_testdata::slot::parse_lsn(&primary.flushed_lsn().unwrap()).unwrap()
}

fn prepared_before_and_ended_after(major: u32) {
    let options = ClusterOptions::default().with("max_prepared_transactions", "10");
    let Some(mut scene) = Scene::with(major, &options) else {
        return;
    };
    let mut server = scene.serve();
    ready(&mut server);
    let mut live = Background::start(&mut subscribe(scene.port));
    for name in ["kept", "dropped"] {
        let sql = PREPARED.replace("NAME", name);
        scene.primary.session("app").unwrap().run(&sql).unwrap();
    }
    let prepared = flushed(&scene.primary);
    restart_point_after(&scene, prepared);
    server.kill();
    let mut server = scene.serve();
    ready(&mut server);
    let from = begun(&server.errors()).unwrap();
    assert!(from > prepared, "{from:X} is not after {prepared:X}");
    for sql in [
        "commit prepared 'kept'",
        "rollback prepared 'dropped'",
        "create table dropped (other date)",
        "insert into dropped values ('2026-11-29')",
        "insert into kept values (14, repeat('later', 4000), 3)",
        "update kept set n = 4 where id = 2",
    ] {
        scene.primary.sql("app", sql).unwrap();
    }
    let end = scene.primary.flushed_lsn().unwrap();
    let expected = scene.expected(&end);
    let text = String::from_utf8_lossy(&expected);
    assert!(text.contains("table public.kept: DELETE") && !text.contains("never"));
    assert!(text.contains("c[regclass[]]:'{public.kept,public.kept,"));
    live.prints("all lines", &expected);
    scene.closes(&expected, &end, &mut live, &mut server);
}

#[test]
fn prepared_transactions_outlive_a_killed_server() {
    for major in [14, 15, 18] {
        prepared_before_and_ended_after(major);
    }
}
