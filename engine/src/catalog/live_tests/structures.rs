//! Structures of tables held against the server's own catalog after each of many statements, also
//! inside transactions: types with modifiers, defaults, constraints, indexes, partitions, options.
//!
//! What we say is unknown is counted and may differ; everything else is to be the server's text.

use std::collections::BTreeMap;

use redostream_protocol::ddl::{Expression, TableName, TableShape};
use redostream_protocol::schema::Name;
use redostream_protocol::{Lsn, Xid};
use redostream_testdata::cluster::ClusterOptions;
use redostream_testdata::generator::{Size, generate};
use redostream_testdata::recorder::cases_dir;
use redostream_testdata::server::{MAJORS, Server};
use redostream_testdata::session::Session;
use redostream_testdata::statements;
use redostream_testdata::structures::STRUCTURES;

use super::follower::{Follower, with_copy};
use super::random::seed;
use super::said::SESSION;

/// What stands for a text that we do not know.
const UNKNOWN: &str = "?";

type Lines = BTreeMap<String, String>;

struct Said {
    lsn: Lsn,
    viewer: Option<Xid>,
    after: String,
    lines: Lines,
}

fn split(text: &str) -> Lines {
    let pairs = text.lines().filter_map(|line| line.split_once('~'));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Asks inside an open session, where nobody else writes; none if its transaction has failed.
fn ask(session: &mut Session, after: &str) -> Option<Said> {
    let place = "select pg_current_wal_insert_lsn() || ' ' || coalesce(pg_current_xact_id_if_assigned()::text, '0');";
    let place = session.run(place).unwrap();
    let (lsn, xid) = place.trim().split_once(' ')?;
    let xid: u64 = xid.parse().unwrap();
    let asked = session.run(&STRUCTURES.replace('\n', " ")).unwrap();
    Some(Said {
        lsn: lsn.parse().unwrap(),
        viewer: (xid != 0).then_some(Xid(xid as u32)),
        after: after.to_owned(),
        lines: split(&asked),
    })
}

fn text(expression: &Expression) -> String {
    match expression {
        Expression::Sql(sql) => sql.lossy().replace('\n', "\\n"),
        Expression::None => String::new(),
        Expression::Unknown => UNKNOWN.to_owned(),
    }
}

fn ident(name: &Name, major: u16) -> String {
    let mut out = Vec::new();
    redostream_protocol::render::identifier::push_identifier(&mut out, name.as_bytes(), major);
    String::from_utf8(out).unwrap()
}

/// Our structures, as `STRUCTURES` prints the server's.
fn lines_of(tables: &[TableShape], major: u16) -> Lines {
    let mut lines = Lines::from([("answer".to_owned(), "yes".to_owned())]);
    let ident = |name: &Name| ident(name, major);
    let qualified = |name: &TableName| format!("{}.{}", ident(&name.schema), ident(&name.table));
    for table in tables {
        let t = format!("{}.{}", ident(&table.schema), ident(&table.name));
        let mut add = |what: &str, part: &str, value: String| {
            let key = if part.is_empty() {
                format!("{what} {t}")
            } else {
                format!("{what} {t}.{part}")
            };
            lines.insert(key, value);
        };
        let kind = match table.kind.as_str() {
            "partitioned_table" => "p",
            "view" => "v",
            "materialized_view" => "m",
            "foreign_table" => "f",
            _ => "r",
        };
        let first = |word: &str| word.chars().next().unwrap().to_string();
        let persistence = match table.persistence.as_str() {
            "temporary" => "t".to_owned(),
            other => first(other),
        };
        add(
            "table",
            "",
            format!("{kind}{persistence}{}", first(&table.replica_identity)),
        );
        if table.partition_key != Expression::None {
            add("key", "", text(&table.partition_key));
        }
        if let Some((parent, bound)) = &table.partition_of {
            add("bound", "", text(bound));
            add("parents", "", qualified(parent));
        } else if !table.inherits.is_empty() {
            let parents: Vec<_> = table.inherits.iter().map(qualified).collect();
            add("parents", "", parents.join(","));
        }
        if !table.options.is_empty() {
            let options: Vec<_> = table
                .options
                .iter()
                .map(|o| o.lossy().into_owned())
                .collect();
            add("options", "", options.join(","));
        }
        for column in &table.columns {
            let name = ident(&column.name);
            let letter = |byte: u8| {
                if byte == 0 {
                    String::new()
                } else {
                    char::from(byte).to_string()
                }
            };
            let collation = column.collation.as_ref().map_or(String::new(), |c| {
                let text = c.lossy().into_owned();
                if text.contains('.') {
                    text
                } else {
                    format!("pg_catalog.{text}")
                }
            });
            let described = format!(
                "{} {} {}{} {collation}",
                column.data_type,
                !column.nullable,
                letter(column.identity),
                letter(column.generated),
            );
            add(
                "column",
                &name,
                if column.modifier_unknown {
                    UNKNOWN.to_owned()
                } else {
                    described
                },
            );
            if column.default != Expression::None {
                add("default", &name, text(&column.default));
            }
            if let Some(sequence) = &column.sequence {
                add("sequence", &name, sequence.table.lossy().into_owned());
            }
        }
        if let Some(key) = &table.primary_key {
            add("constraint", &ident(&key.name), text(&key.definition));
        }
        for constraint in &table.constraints {
            add(
                "constraint",
                &ident(&constraint.name),
                text(&constraint.definition),
            );
        }
        for index in &table.indexes {
            add("index", &ident(&index.name), text(&index.definition));
        }
    }
    lines
}

#[derive(Default)]
struct Counted {
    /// Places at which the server answered.
    places: usize,
    /// Places at which it did not: what its functions want to look at was locked by a prepared
    /// transaction.
    unanswered: usize,
    lines: usize,
    unknown: BTreeMap<String, String>,
}

/// From 15 on the server calls the asking session's temporary schema `pg_temp` in definitions.
// pg: utils/adt/ruleutils.c get_namespace_name_or_temp [15-18]
fn by_its_own_name(key: &str, definition: &str) -> String {
    let of = key
        .split(' ')
        .nth(1)
        .and_then(|name| name.split('.').next());
    match of.filter(|schema| schema.starts_with("pg_temp_")) {
        Some(schema) => {
            let own = definition.replace(" pg_temp.", &format!(" {schema}."));
            match own.strip_prefix("nextval('") {
                // A sequence of its own is in the session's path.
                Some(rest) if !rest.contains('.') => format!("nextval('{schema}.{rest}"),
                _ => own,
            }
        }
        None => definition.to_owned(),
    }
}

fn compare(ours: &Lines, said: &Said, counted: &mut Counted) -> Result<(), String> {
    if said.lines.is_empty() {
        counted.unanswered += 1;
        return Ok(());
    }
    let mut told = String::new();
    for (key, theirs) in &said.lines {
        match ours.get(key).map(String::as_str) {
            Some(UNKNOWN) => {
                counted.unknown.insert(key.clone(), theirs.clone());
            }
            Some(value) if *value == by_its_own_name(key, theirs) => {}
            other => told.push_str(&format!("{key}\n  server {theirs}\n  ours   {other:?}\n")),
        }
    }
    for (key, value) in ours {
        if !said.lines.contains_key(key) {
            told.push_str(&format!("{key}\n  server has none\n  ours   {value}\n"));
        }
    }
    counted.places += 1;
    counted.lines += said.lines.len();
    if told.is_empty() {
        return Ok(());
    }
    Err(format!("at {} after: {}\n{told}", said.lsn, said.after))
}

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
    eprintln!(
        "PostgreSQL {major}: {} places, {} without an answer, {} lines compared, {} texts not known",
        counted.places,
        counted.unanswered,
        counted.lines,
        counted.unknown.len()
    );
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
