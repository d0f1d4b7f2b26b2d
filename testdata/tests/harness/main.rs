//! The harness itself, on every version that is installed: if these fail, no comparison made
//! with it means anything.

#![allow(clippy::unwrap_used, reason = "a test may end where it stands")]

use redostream_testdata::cluster::{Cluster, ClusterOptions, Stop};
use redostream_testdata::compare::compare;
use redostream_testdata::server::{MAJORS, Server};
use redostream_testdata::slot::printed;

const SQL: &str = "
create table t (id serial primary key, v text, m \"char\");
insert into t (v) values ('a'), (E'b\\nc'), (repeat('d', 10000)), (null);
begin; update t set v = 'e'; savepoint s; delete from t; rollback to s; commit;
create type public.mood as enum ('sad');
alter table t add column mood public.mood default 'sad';
update t set m = 'x';
select pg_logical_emit_message(false, 'p', 'c');
";

fn cluster(server: Server) -> Cluster {
    let mut cluster = Cluster::create(server, &ClusterOptions::default()).unwrap();
    cluster.start().unwrap();
    cluster.sql("postgres", "create database app").unwrap();
    cluster
}

/// The slot's function and pg_recvlogical give the same bytes, so either may be the judge.
#[test]
fn both_judges_say_the_same() {
    for major in MAJORS {
        let Some(server) = Server::for_test(major) else {
            continue;
        };
        let cluster = cluster(server);
        cluster.create_slot("app", "judge").unwrap();
        cluster.sql("app", SQL).unwrap();
        let end = cluster.flushed_lsn().unwrap();
        let peeked = printed(&cluster.peek("app", "judge").unwrap());
        let received = cluster.receive("app", "judge", &end).unwrap();
        assert!(compare(&received, &peeked).unwrap() > 15, "{major}");
    }
}

#[test]
fn a_standby_follows_and_is_promoted() {
    for major in MAJORS {
        let Some(server) = Server::for_test(major) else {
            continue;
        };
        let mut primary = cluster(server);
        let standby = primary.standby(&ClusterOptions::default()).unwrap();
        primary.sql("app", SQL).unwrap();
        standby
            .wait_for_replay(&primary.flushed_lsn().unwrap())
            .unwrap();
        assert_eq!(
            standby.sql("app", "select count(*) from t").unwrap(),
            "4",
            "{major}"
        );
        primary.stop(Stop::Immediate).unwrap();
        standby.promote().unwrap();
        standby
            .sql("app", "insert into t (v) values ('promoted')")
            .unwrap();
    }
}

#[test]
fn sessions_stay_open_and_interleave() {
    let Some(server) = Server::for_test(15) else {
        return;
    };
    let cluster = cluster(server);
    let (mut one, mut two) = (
        cluster.session("app").unwrap(),
        cluster.session("app").unwrap(),
    );
    one.run("create table t (a int); begin; insert into t values (1);")
        .unwrap();
    assert_eq!(two.run("select count(*) from t;").unwrap(), "0");
    two.send("begin; lock table t;").unwrap();
    one.run("commit;").unwrap();
    assert_eq!(two.run("select a from t;").unwrap(), "1");
}
