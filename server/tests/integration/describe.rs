//! `redostream describe`, against servers of every version: now, in the past, and what is not
//! there.

use std::process::Command;
use std::time::Duration;

use redostream_testdata::cluster::{Cluster, ClusterOptions};
use redostream_testdata::decoder::{Decoded, run_to_end};
use redostream_testdata::server::{MAJORS, Server};
use serde_json::Value;

use crate::programs;
use crate::serve::{Background, free_ports};

const BEGIN: &str = "
create schema s;
create table s.t (id serial primary key, name text not null default 'x', unique (name));
create table \"Quoted\" (a int);
";

const CHANGE: &str = "
begin;
alter table s.t add column more numeric(10, 2);
insert into s.t (name, more) values ('a', 1);
alter table s.t rename column name to label;
insert into s.t (label, more) values ('b', 2);
commit;
alter table s.t drop column more;
insert into s.t (label) values ('c');
create table s.emptied (a int);
create table s.too (b int);
truncate s.emptied, s.too;
";

struct Served {
    server: Background,
    port: u16,
}

impl Served {
    fn start(primary: &Cluster, state: &std::path::Path) -> Served {
        let port = free_ports();
        let mut command = Command::new(programs::server());
        command.arg("serve").arg("--pgdata").arg(primary.data());
        let upstream = primary.conninfo("postgres");
        command.args(["--upstream", &upstream, "--slot", "redostream", "--state"]);
        command.arg(state);
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
        let mut server = Background::start(&mut command);
        server.wait_until("ready line", |server| {
            server.errors().contains("ready earliest=")
        });
        Served { server, port }
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Decoded {
        let mut program = Command::new(programs::client());
        let address = format!("127.0.0.1:{}", self.port);
        program
            .args([command, "--server", &address])
            .args(arguments);
        run_to_end(&mut program, Duration::from_secs(60)).unwrap()
    }

    fn describe(&self, table: &str, more: &[&str]) -> Decoded {
        let mut arguments = vec!["--table", table];
        arguments.extend(more);
        self.run("describe", &arguments)
    }

    fn structure(&self, table: &str, more: &[&str]) -> Value {
        let mut arguments = vec!["--format", "json"];
        arguments.extend(more);
        let got = self.describe(table, &arguments);
        assert_eq!(got.status, Some(0), "{}", got.errors);
        serde_json::from_slice(&got.printed).unwrap()
    }

    /// What `subscribe` gives of `database` up to `until`.
    fn events(&self, until: &str) -> Vec<Value> {
        let arguments = ["--from", "earliest", "--until", until, "--format", "json"];
        let mut arguments = arguments.to_vec();
        arguments.extend(["--relations", "--database", "app"]);
        let got = self.run("subscribe", &arguments);
        assert_eq!(got.status, Some(0), "{}", got.errors);
        let text = String::from_utf8(got.printed).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }
}

fn columns(structure: &Value) -> Vec<&str> {
    let columns = structure["columns"].as_array().unwrap().iter();
    columns
        .map(|column| column["name"].as_str().unwrap())
        .collect()
}

/// The structure pushed before rows is that of the last DDL event, and `describe` at each place
/// gives the same.
fn hold_against_events(served: &Served, until: &str) {
    let mut last = Value::Null;
    let (mut compared, mut seen) = (0, Vec::new());
    for event in served.events(until) {
        match event["kind"].as_str().unwrap() {
            "ddl" if event["name"] == "t" => last = event["after"].clone(),
            "relation" => {
                if event["table"] == "t" {
                    assert_eq!(event["structure"], last);
                    compared += 1;
                }
                seen.push(event["table"].clone());
            }
            // Tables without a row are told before they are named too.
            "truncate" => {
                let tables = event["tables"].as_array().unwrap();
                assert_eq!(tables.len(), 2, "{event}");
                for table in tables {
                    assert!(seen.contains(&table["table"]), "{table} not in {seen:?}");
                }
                compared += 1;
            }
            "commit" if last != Value::Null => {
                let at = event["position"].as_str().unwrap();
                let there = served.structure("s.t", &["--database", "app", "--at", at]);
                assert_eq!(there, last, "at {at}");
                compared += 1;
            }
            _ => {}
        }
    }
    assert!(compared >= 7, "{compared}");
}

#[test]
fn structures_now_and_in_the_past() {
    for major in MAJORS {
        let Some(server) = Server::for_test(major) else {
            continue;
        };
        let mut primary = Cluster::create(server, &ClusterOptions::default()).unwrap();
        primary.start().unwrap();
        primary.sql("postgres", "create database app").unwrap();
        primary.sql("postgres", "create database twin").unwrap();
        let state = tempfile::tempdir().unwrap();
        let mut served = Served::start(&primary, state.path());
        primary.run_scripts("app", &[BEGIN.to_owned()]).unwrap();
        let before = primary.flushed_lsn().unwrap();
        primary.run_scripts("app", &[CHANGE.to_owned()]).unwrap();
        primary
            .sql("twin", "create table only_here (a int)")
            .unwrap();
        primary.sql("twin", "create schema s").unwrap();
        let after = primary.flushed_lsn().unwrap();
        primary.sql("app", "create table later ()").unwrap();
        hold_against_events(&served, &after);

        let now = served.structure("s.t", &[]);
        assert_eq!(columns(&now), ["id", "label"]);
        assert_eq!(now["primary_key"]["name"], "t_pkey");
        let constraints = now["constraints"].as_array().unwrap();
        assert!(constraints.iter().any(|one| one["name"] == "t_name_key"));
        let then = served.structure("s.t", &["--at", &before]);
        assert_eq!(columns(&then), ["id", "name"]);
        assert_eq!(then["columns"][1]["default"], "'x'::text");
        let text = served.describe("s.t", &["--format", "text"]);
        let text = String::from_utf8(text.printed).unwrap();
        assert!(text.contains("s.t") && text.contains("t_pkey"), "{text}");
        assert_eq!(columns(&served.structure("Quoted", &[])), ["a"]);
        assert_eq!(columns(&served.structure("only_here", &[])), ["a"]);
        assert_eq!(
            columns(&served.structure("public.only_here", &["--database", "twin"])),
            ["a"]
        );

        for (table, more, status, words) in [
            ("s.none", &[][..], 2, "no table s.none"),
            (
                "only_here",
                &["--database", "app"][..],
                2,
                "no table public.only_here",
            ),
            ("s.t", &["--database", "nowhere"][..], 2, "nowhere"),
            ("s.t", &["--at", "0/100"][..], 4, "0/100"),
            ("s.t", &["--at", "FFFF/0"][..], 1, "lies ahead"),
            ("s.t", &["--at", "nonsense"][..], 2, "nonsense"),
        ] {
            let got = served.describe(table, more);
            assert_eq!(got.status, Some(status), "{table} {more:?}: {}", got.errors);
            assert!(
                got.errors.contains(words),
                "{table} {more:?}: {}",
                got.errors
            );
            assert!(got.printed.is_empty());
        }
        primary.sql("twin", "create table s.t (b int)").unwrap();
        let later = primary.flushed_lsn().unwrap();
        primary.sql("twin", "create table later ()").unwrap();
        served.events(&later);
        let ambiguous = served.describe("s.t", &[]);
        assert_eq!(ambiguous.status, Some(2), "{}", ambiguous.errors);
        assert!(
            ambiguous.errors.contains("app, twin"),
            "{}",
            ambiguous.errors
        );
        assert_eq!(
            columns(&served.structure("s.t", &["--database", "twin"])),
            ["b"]
        );
        served.server.ends_well();
    }
}
