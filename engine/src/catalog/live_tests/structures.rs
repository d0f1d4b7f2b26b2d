//! Structures of tables held against the server's own catalog after each of many statements, also
//! inside transactions: types with modifiers, defaults, constraints, indexes, partitions, options.

use redostream_testdata::cluster::ClusterOptions;
use redostream_testdata::generator::{Size, generate};
use redostream_testdata::recorder::cases_dir;
use redostream_testdata::server::{MAJORS, Server};
use redostream_testdata::statements;

use super::follower::{Follower, with_copy};
use super::lines::{Counted, ask, compare, lines_of};
use super::random::seed;
use super::said::SESSION;

/// Whole statements, as far as line ends tell: strings may hold some, and the rows of a COPY belong
/// to it.
fn split_statements(script: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut statement = String::new();
    let mut copying = false;
    for line in script.lines() {
        statement.push_str(line);
        statement.push('\n');
        let whole = statement.matches('\'').count().is_multiple_of(2)
            && statement.matches("$$").count().is_multiple_of(2)
            && line.trim_end().ends_with(';');
        if !copying && whole && line.ends_with("from stdin;") {
            copying = true;
        } else if (copying && line == "\\.") || (!copying && whole) {
            copying = false;
            statements.push(std::mem::take(&mut statement));
        }
    }
    statements.push(statement);
    statements
}

/// Statements of the recorded case.
fn recorded() -> Vec<String> {
    let case = std::fs::read_to_string(cases_dir().join("ddl.sql")).unwrap();
    let lines = case.lines().map(str::to_owned);
    lines.filter(|line| is_one(line)).collect()
}

fn is_one(statement: &str) -> bool {
    !statement.starts_with("--") && !statement.trim().is_empty()
}

fn random(seed: u64, major: u32) -> Vec<String> {
    let mut statements = Vec::new();
    let size = Size {
        sessions: 1,
        transactions: 25,
        ..Size::default()
    };
    let script = generate(seed, major, size);
    statements.push(script.setup);
    for session in script.sessions {
        statements.extend(split_statements(&session));
    }
    statements.retain(|statement| is_one(statement));
    statements
}

fn run(major: u32, statements: Vec<String>, places: usize) {
    let Some(server) = Server::for_test(major) else {
        return;
    };
    let options = ClusterOptions::default().with("autovacuum", "off");
    let (cluster, copy) = with_copy(server, &options, "");

    let mut all = Vec::new();
    let mut session = cluster.session("d").unwrap();
    session.run(SESSION).unwrap();
    // A prepared transaction of the same session may hold what the next statement wants.
    session.run("set lock_timeout = '500ms';").unwrap();
    let file = cluster.root().join("statement.sql");
    let include = format!("\\i {}", file.display());
    for statement in statements {
        session.run("set search_path = public;").unwrap();
        // A file ends what it leaves open, should it not be a whole statement.
        std::fs::write(&file, &statement).unwrap();
        session.run(&include).unwrap();
        session.run("set search_path = '';").unwrap();
        all.extend(ask(&mut session, &statement));
    }
    session.run("rollback;").unwrap();
    cluster.flushed_lsn().unwrap();
    drop(session);

    let mut follower = Follower::new(&copy, &cluster.data().join("pg_wal"), None);
    let database = follower.database_oid("d");
    let mut counted = Counted::default();
    let mut told = String::new();
    for said in &all {
        follower.follow(said.lsn);
        let tables = follower
            .catalog
            .describe_tables(database, said.viewer, &follower.transactions)
            .unwrap();
        if let Err(problem) = compare(&lines_of(&tables, major as u16), said, &mut counted) {
            told.push_str(&problem);
        }
    }
    for (key, text) in &counted.unknown {
        eprintln!("unknown: {key}: {text}");
    }
    eprintln!("PostgreSQL {major}: {counted}");
    assert!(told.is_empty(), "{told}");
    assert!(counted.places >= places, "too few places");
}

#[test]
fn structures_are_the_servers() {
    for major in MAJORS {
        run(major, recorded(), 80);
    }
}

#[test]
fn structures_after_every_form_of_statement() {
    for major in MAJORS {
        let statements = statements::tables(major).into_iter();
        let statements = statements.map(|statement| format!("{};\n", statement.sql));
        run(major, statements.collect(), 200);
    }
}

#[test]
fn structures_after_random_statements() {
    for major in MAJORS {
        let seed = seed();
        eprintln!("PostgreSQL {major}, REDOSTREAM_SEED={seed}");
        let mut statements = recorded();
        statements.extend(random(seed, major));
        run(major, statements, 100);
    }
}
