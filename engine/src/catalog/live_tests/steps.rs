//! Statements one after the other, the catalogs compared after each.

use redostream_protocol::Oid;
use redostream_testdata::cluster::{Cluster, ClusterOptions};
use redostream_testdata::server::Server;
use redostream_testdata::session::Session;

use super::follower::{Follower, with_copy};
use super::said::{SESSION, Said, TABLES, ask, assert_same, check, reg_query, reg_texts};
use crate::catalog::Target;
use crate::catalog::layout::oid;

pub(super) const BEFORE: &str = "
create schema s;
create type s.pen as enum ('red', 'blue');
create type pair as (a int, b text);
create domain even as int check (value % 2 = 0);
create table t (a int primary key, b text, c s.pen, d pair[], e even, f int4range, g \"char\");
create table big as select g as a, g::text as b from generate_series(1, 500) g;
create table dropped (a int, b text, c int);
alter table dropped drop column b;
insert into dropped values (1, 2);
alter table dropped add column d int default 42, add column e text default 'missing text';
alter table dropped add column f text default repeat('x', 5000);
create role \"odd name\"; create role plain; grant select, update on t to plain with grant option;
grant all on big to public; grant select on big to \"odd name\";
create function s.f(int, text[], s.pen) returns int language sql as 'select 1';
create function public.abs(int) returns int language sql as 'select 1';
create function s.g(int, s.pen) returns boolean language sql as 'select true';
create operator public.@@@@ (leftarg = int, rightarg = s.pen, function = s.g);
create operator s.@@@@ (leftarg = int, rightarg = s.pen, function = s.g);
create text search configuration s.\"Cfg\" (copy = simple);
create collation s.c (locale = 'C', provider = libc);
";

const AFTER: [&str; 12] = [
    "alter table t add column h numeric(10, 2); alter type s.pen add value 'green' before 'blue';",
    "begin; create table gone (a serial primary key, b int unique); insert into gone select 1, 2; rollback;",
    "begin; create table kept (a serial primary key, b int unique); savepoint x; \
     alter table kept add column c text; rollback to x; alter table kept add column d s.pen; \
     savepoint y; create table inner_one (a int); release y; commit;",
    "create function long_one() returns text language sql as $f$ select '$f$ || repeat('abcdefgh', 1) || $f$' $f$;",
    "do $d$ begin execute 'create function large() returns int language plpgsql as ' || \
     quote_literal('begin -- ' || (select string_agg(md5(g::text), ' ') from generate_series(1, 900) g) || \
     ' ' || chr(10) || ' return 1; end'); end $d$;",
    "do $d$ begin for i in 1..200 loop execute format('create table many_%s (a int, b text, c int[])', i); end loop; end $d$;",
    "do $d$ begin for i in 1..150 loop execute format('drop table many_%s', i); end loop; end $d$;",
    "vacuum pg_class; vacuum pg_attribute; vacuum pg_type; vacuum pg_depend;",
    "vacuum full pg_class; vacuum full pg_attribute; vacuum full pg_type; vacuum full pg_proc; vacuum full pg_enum; vacuum full pg_index; vacuum full pg_database;",
    "alter table t rename to renamed; alter schema s rename to schemata; alter type pair rename to couple; create index concurrently on big (a);",
    "vacuum freeze pg_class; vacuum freeze pg_attribute; vacuum freeze pg_type; vacuum freeze pg_namespace; analyze;",
    "vacuum full big; alter table big alter column a type bigint; create materialized view mv as select * from big; refresh materialized view mv; truncate big;",
];

fn run(major: u32, settings: &[(&str, &str)]) {
    let Some(server) = Server::for_test(major) else {
        return;
    };
    let mut options = ClusterOptions::default().with("autovacuum", "off");
    for (name, value) in settings {
        options = options.with(name, value);
    }
    let (cluster, copy) = with_copy(server, &options, BEFORE);

    let mut all = Vec::new();
    let mut session = cluster.session("d").unwrap();
    session.run(SESSION).unwrap();
    all.push(ask(&mut session, "d"));
    for step in AFTER {
        for statement in step.split_inclusive(';') {
            // Dollar-quoted bodies are not to be split.
            if step.contains('$') {
                break;
            }
            session
                .run(&format!("set search_path = public; {statement}"))
                .unwrap();
        }
        if step.contains('$') {
            session
                .run(&format!("set search_path = public; {step}"))
                .unwrap();
        }
        session.run("set search_path = '';").unwrap();
        all.push(ask(&mut session, "d"));
    }
    inside(&mut session, &mut all);
    databases(&cluster, &mut session, &mut all);
    multixacts(&cluster, &mut session, &mut all);
    session.run("set search_path = '';").unwrap();
    let tables = session.run(TABLES).unwrap();
    let texts = session.run(&reg_query()).unwrap();
    let end = cluster.flushed_lsn().unwrap();
    drop(session);

    let mut follower = Follower::new(&copy, &cluster.data().join("pg_wal"), None);
    for (number, said) in all.iter().enumerate() {
        eprintln!("{major}: place {number} at {}", said.lsn);
        check(&mut follower, said);
        if number % 5 == 4 {
            // A restart point in between must change nothing.
            let stored = postcard::to_stdvec(&follower.catalog).unwrap();
            follower.catalog = postcard::from_bytes(&stored).unwrap();
        }
    }
    follower.follow(end.parse().unwrap());
    let database = follower.database_oid("d");
    assert_same(&follower.tables(database), &tables, "tables");
    assert_same(&reg_texts(&follower, database), &texts, "texts");
    assert!(!follower.catalog.has_any_changes());
    missing_values(&mut follower, database);
}

/// What rows that are older than a column have there.
fn missing_values(follower: &mut Follower, database: Oid) {
    let view = follower.view(database, None);
    let rows = view.scan(oid::CLASS).unwrap();
    let table = rows
        .iter()
        .find(|row| row.name("relname").unwrap().lossy() == "dropped_too");
    let table = table.unwrap().oid("oid").unwrap();
    let target = follower
        .catalog
        .resolve_oid(database, table, None, &follower.transactions)
        .unwrap();
    let Target::Table(layout) = &*target else {
        panic!("{target:?}");
    };
    let missing: Vec<_> = layout
        .attributes
        .iter()
        .map(|attribute| attribute.missing.as_deref())
        .collect();
    let long = vec![b'x'; 5000];
    let expected: [Option<&[u8]>; 6] = [
        None,
        None,
        None,
        Some(&[42, 0, 0, 0]),
        Some(b"missing text"),
        Some(&long),
    ];
    assert_eq!(missing, expected);
    assert!(layout.attributes[1].dropped && layout.attributes[1].column.is_none());
    assert_eq!(layout.attributes[2].column, Some(1));
}

/// What an open transaction sees of its own changes, and what is left of them.
fn inside(session: &mut Session, all: &mut Vec<Said>) {
    let mut step = |sql: &str| {
        session
            .run(&format!(
                "set search_path = public;\n{sql}\nset search_path = '';"
            ))
            .unwrap();
        all.push(ask(session, "d"));
    };
    step(
        "begin; alter table renamed add column own int; create table own_table (a int, b schemata.pen);",
    );
    step("savepoint a; drop table own_table; alter table renamed rename to other;");
    step(
        "rollback to a; savepoint b; alter type schemata.pen rename to pencil; release b; release a;",
    );
    step(
        "cluster pg_class using pg_class_oid_index; create table after_cluster (a int); insert into after_cluster values (1);",
    );
    step("alter table big add column z int default 7; commit;");
    step("begin; cluster pg_class using pg_class_oid_index; create table lost (a int);");
    step("rollback;");
    step(
        "begin; alter table big rename to prepared; insert into after_cluster values (2); prepare transaction 'p';",
    );
    step("select 1;");
    step("commit prepared 'p';");
}

/// Databases made in both ways, moved and dropped.
fn databases(cluster: &Cluster, session: &mut Session, all: &mut Vec<Said>) {
    let major = cluster.server.major;
    let space = cluster.root().join("space");
    std::fs::create_dir(&space).unwrap();
    let data = std::fs::metadata(cluster.data()).unwrap();
    use std::os::unix::fs::MetadataExt;
    std::os::unix::fs::chown(&space, Some(data.uid()), Some(data.gid())).unwrap();
    cluster
        .sql(
            "postgres",
            &format!("create tablespace space location '{}'", space.display()),
        )
        .unwrap();
    cluster
        .sql("template1", "create table in_template (a int)")
        .unwrap();
    let strategies: &[&str] = if major == 14 {
        &[""]
    } else {
        &["strategy = wal_log", "strategy = file_copy"]
    };
    for (number, strategy) in strategies.iter().enumerate() {
        let name = format!("made_{number}");
        cluster
            .sql("postgres", &format!("create database {name} {strategy}"))
            .unwrap();
        cluster
            .sql(
                &name,
                "create table t (a int, b text); alter table in_template add b int;",
            )
            .unwrap();
        cluster
            .sql(
                "postgres",
                &format!("alter database {name} set tablespace space"),
            )
            .unwrap();
        cluster
            .sql(&name, "vacuum full pg_class; create table u (a int);")
            .unwrap();
        let mut inner = cluster.session(&name).unwrap();
        inner.run("set search_path = '';").unwrap();
        all.push(ask(&mut inner, &name));
    }
    cluster.sql("postgres", "drop database made_0").unwrap();
    all.push(ask(session, "d"));
}

/// Rows locked by one transaction while another changes them.
fn multixacts(cluster: &Cluster, session: &mut Session, all: &mut Vec<Said>) {
    let mut other = cluster.session("d").unwrap();
    other.run(SESSION).unwrap();
    let locks = "begin; select oid from pg_class where relname in ('dropped', 'kept') for key share; \
                 select oid from pg_namespace for share; select pg_current_xact_id();";
    other.run(locks).unwrap();
    session.run("begin; alter table public.dropped set (fillfactor = 50); alter table public.kept set (fillfactor = 70);").unwrap();
    session.run("set search_path = '';").unwrap();
    all.push(ask(session, "d"));
    let multixact =
        "select count(*) from pg_class where relname = 'dropped' and xmax::text::int8 < 100;";
    assert_eq!(
        other.run(multixact).unwrap().trim().lines().last(),
        Some("1")
    );
    session
        .run("rollback; alter table public.kept set (fillfactor = 60);")
        .unwrap();
    session.run("set search_path = '';").unwrap();
    all.push(ask(session, "d"));
    other
        .run("alter table public.dropped rename to dropped_too; commit;")
        .unwrap();
    all.push(ask(session, "d"));
    session.run("vacuum freeze pg_catalog.pg_class;").unwrap();
    all.push(ask(session, "d"));
}

#[test]
fn follows_14() {
    run(14, &[]);
}

#[test]
fn follows_15() {
    run(15, &[("wal_compression", "lz4")]);
}

#[test]
fn follows_15_zstd() {
    run(
        15,
        &[("wal_compression", "zstd"), ("full_page_writes", "on")],
    );
}

#[test]
fn follows_16() {
    run(16, &[("wal_compression", "pglz")]);
}

#[test]
fn follows_17() {
    run(17, &[]);
}

#[test]
fn follows_18() {
    run(18, &[]);
}
