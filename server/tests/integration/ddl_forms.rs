//! Every form of `ALTER TABLE`, and of what renames, attaches, links and drops: which events each
//! causes, in which order, and what of the structure is another in them, on servers of every
//! version. That the structures are the server's own is held by the engine's tests, with the same
//! statements.

use redostream_testdata::cluster::ClusterOptions;
use redostream_testdata::scenario::Scenario;
use redostream_testdata::server::{MAJORS, Server};
use redostream_testdata::statements;

use crate::ddl_told::{by_step, mark, told};
use crate::programs;

fn every_form_is_told(major: u32) {
    let Some(server) = Server::for_test(major) else {
        return;
    };
    let statements = statements::tables(major);
    let scenario = Scenario::start(server, &ClusterOptions::default()).unwrap();
    let mut session = scenario.cluster.session("app").unwrap();
    let mut failed = String::new();
    for (number, statement) in statements.iter().enumerate() {
        let sql = format!(
            "{};\n\\echo :ERROR\n{} \\g /dev/null",
            statement.sql,
            mark(number)
        );
        let said = session.run(&sql).unwrap();
        if said.lines().last() != Some(if statement.fails { "true" } else { "false" }) {
            failed.push_str(&format!("{}: {said}\n", statement.sql));
        }
    }
    drop(session);
    assert!(failed.is_empty(), "PostgreSQL {major}\n{failed}");
    let recording = scenario.finish().unwrap();
    recording.check(&programs::server(), &[1]).unwrap();
    let found = by_step(&recording, told);
    assert_eq!(found.len(), statements.len() + 1);
    let mut wrong = String::new();
    for (statement, found) in statements.iter().zip(&found) {
        if *found != statement.told {
            let (sql, told) = (&statement.sql, statement.told.join("\n       "));
            let found = found.join("\n       ");
            wrong.push_str(&format!("{sql}\n  said {found}\n  not  {told}\n"));
        }
    }
    assert!(wrong.is_empty(), "PostgreSQL {major}\n{wrong}");
}

#[test]
fn every_form_is_told_by_every_version() {
    for major in MAJORS {
        every_form_is_told(major);
    }
}
