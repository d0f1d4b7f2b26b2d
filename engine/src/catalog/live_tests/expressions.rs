//! Texts of expressions, held against the server's own: each is the text that `pg_get_expr` gives,
//! or it is said that there is none. What is given means the same wherever it is read: under other
//! settings too the server makes the same expression of it.

use std::collections::BTreeMap;

use redostream_protocol::Lsn;
use redostream_protocol::ddl::{Expression, TableShape};
use redostream_testdata::cluster::ClusterOptions;
use redostream_testdata::server::{MAJORS, Server};
use redostream_testdata::session::Session;
use redostream_testdata::statements::{self, CHECKED, NAMED};

use super::follower::{Follower, with_copy};
use super::said::SESSION;

/// Defaults by their table, checks by their names; line ends as `\n`.
const ASKED: &str = "select line from (
  select c.relname || '~' || replace(pg_get_expr(adbin, adrelid), chr(10), '\\n') as line
    from pg_attrdef d join pg_class c on c.oid = adrelid
    where c.relnamespace = 'f'::regnamespace and adnum = 1
  union all
  select conname || '~' || replace(pg_get_expr(conbin, conrelid), chr(10), '\\n')
    from pg_constraint where contype = 'c' and conrelid <> 0) as lines
  where line is not null;";

/// The same of what was made of our texts, in columns and checks that are called LABEL.
const AGAIN: &str = "select line from (
  select c.relname || '~' || replace(pg_get_expr(adbin, adrelid), chr(10), '\\n') as line
    from pg_attrdef d join pg_class c on c.oid = adrelid
    join pg_attribute on attrelid = adrelid and attnum = adnum
    where c.relnamespace = 'f'::regnamespace and attname = 'LABEL'
  union all
  select substr(conname, 7) || '~' || replace(pg_get_expr(conbin, conrelid), chr(10), '\\n')
    from pg_constraint where contype = 'c' and conname like 'LABEL\\_%') as lines
  where line is not null;";

/// Settings that what is written is read with, as unlike the usual ones as can be.
const ODD: &str = "set DateStyle = 'SQL, DMY'; set IntervalStyle = 'sql_standard';
  set TimeZone = 'Asia/Kolkata'; set bytea_output = 'escape'; set extra_float_digits = -5;
  set xmlbinary = 'hex'; set default_text_search_config = 'german';";

/// A text for fewer than so many expressions would be less than there was.
const GIVEN: usize = 290;

type Texts = BTreeMap<String, String>;

fn ask(session: &mut Session, query: &str) -> Texts {
    let said = session.run(&query.replace('\n', " ")).unwrap();
    let pairs = said.lines().filter_map(|line| line.split_once('~'));
    pairs
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .collect()
}

/// What makes them all; what this server does not know makes nothing.
fn script() -> String {
    let mut script = format!("{NAMED}{CHECKED}\n");
    for (number, one) in statements::expressions().iter().enumerate() {
        let sql = &one.sql;
        script.push_str(&match &one.data_type {
            Some(data_type) => {
                format!("create table f.d{number} (c {data_type} default ({sql}));\n")
            }
            None => format!("alter table f.checked add constraint c{number} check ({sql});\n"),
        });
    }
    script
}

/// Our texts, by the same names; none for those that we do not give. With the columns' types.
fn ours(tables: &[TableShape]) -> BTreeMap<String, (Option<String>, String)> {
    let text = |expression: &Expression| match expression {
        Expression::Sql(sql) => Some(sql.lossy().into_owned()),
        Expression::None => Some(String::new()),
        Expression::Unknown => None,
    };
    let mut texts = BTreeMap::new();
    for table in tables.iter().filter(|table| table.schema.lossy() == "f") {
        if table.name.lossy() != "checked" {
            let column = &table.columns[0];
            let name = table.name.lossy().into_owned();
            texts.insert(name, (text(&column.default), column.data_type.to_string()));
            continue;
        }
        for check in &table.constraints {
            let name = check.name.lossy().into_owned();
            texts.insert(name, (text(&check.expression), String::new()));
        }
    }
    texts
}

fn run(major: u32) {
    let Some(server) = Server::for_test(major) else {
        return;
    };
    let options = ClusterOptions::default().with("autovacuum", "off");
    let (cluster, copy) = with_copy(server, &options, "");
    let mut session = cluster.session("d").unwrap();
    session.run(&script()).unwrap();
    session.run(SESSION).unwrap();
    let theirs = ask(&mut session, ASKED);
    let end: Lsn = cluster.flushed_lsn().unwrap().parse().unwrap();

    let mut follower = Follower::new(&copy, &cluster.data().join("pg_wal"), None);
    follower.follow(end);
    let database = follower.database_oid("d");
    let tables = follower
        .catalog
        .describe_tables(database, None, &follower.transactions)
        .unwrap();
    let ours = ours(&tables);

    let mut wrong = String::new();
    let (mut given, mut again) = (0, String::new());
    // Both are five letters long.
    let (usual, odd) = ("usual", "other");
    for (name, text) in &theirs {
        let Some((mine, data_type)) = ours.get(name) else {
            wrong.push_str(&format!("{name}: not found\n"));
            continue;
        };
        let Some(mine) = mine else { continue };
        if mine.replace('\n', "\\n") != *text {
            wrong.push_str(&format!("{name}\n  server {text}\n  ours   {mine}\n"));
        }
        given += 1;
        again.push_str(&if data_type.is_empty() {
            format!("alter table f.checked add constraint LABEL_{name} check ({mine});\n")
        } else {
            format!("alter table f.{name} add column LABEL {data_type} default {mine};\n")
        });
    }
    // The server's own text is not always read as what it was the text of; but always as the same.
    let mut made = Vec::new();
    for (label, settings) in [(usual, ""), (odd, ODD)] {
        let mut reader = cluster.session("d").unwrap();
        reader.run(SESSION).unwrap();
        reader.run(settings).unwrap();
        reader.run(&again.replace("LABEL", label)).unwrap();
        made.push(ask(&mut session, &AGAIN.replace("LABEL", label)));
    }
    let read_again = made[0].len();
    for (name, text) in &made[0] {
        let other = made[1].get(name);
        if other != Some(text) {
            wrong.push_str(&format!("{name}\n  is read {text}\n  or      {other:?}\n"));
        }
    }
    eprintln!(
        "PostgreSQL {major}: {} expressions, {given} texts given, {read_again} read again",
        theirs.len()
    );
    assert!(wrong.is_empty(), "PostgreSQL {major}\n{wrong}");
    assert_eq!(read_again, given, "some are not read");
    assert!(given >= GIVEN, "only {given} texts are given");
}

#[test]
fn texts_of_expressions_are_the_servers() {
    for major in MAJORS {
        run(major);
    }
}
