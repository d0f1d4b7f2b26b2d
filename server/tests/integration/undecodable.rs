//! A table whose rows cannot be decoded stops who wants it, or is left out, and nobody else is
//! concerned.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use redostream_testdata::cluster::{Cluster, ClusterOptions};
use redostream_testdata::decoder::{Decoded, run_to_end};
use redostream_testdata::scenario::Scenario;
use redostream_testdata::server::{MAJORS, Server};

use crate::programs;
use crate::serve::{Background, free_ports};

/// A handler that is the heap's and does not bear its name is one that we do not know; one that is
/// the heap's own under another name is as good as heap.
const SETUP: &str = "
create function own_handler(internal) returns table_am_handler
    language internal as 'heap_tableam_handler';
create access method own type table handler own_handler;
create access method heap2 type table handler heap_tableam_handler;
";

const ROWS: &str = "
create table good (a int);
insert into good values (1);
create table bad (a int, t text) using own;
create table as_good (a int) using heap2;
begin;
insert into good values (2);
insert into bad values (1, repeat('x', 10000)), (2, 'y');
insert into good values (3);
update bad set a = a + 1;
commit;
begin; delete from bad where a = 2; commit;
copy bad from stdin;
10\ta
11\tb
12\tc
\\.
insert into as_good values (4);
truncate bad;
begin; insert into bad values (99, 'gone'); rollback;
insert into good values (5);
";

struct Served {
    primary: Cluster,
    server: Background,
    port: u16,
    metrics: u16,
    end: String,
    _state: tempfile::TempDir,
}

impl Served {
    fn start(server: Server, rule: &[&str]) -> Served {
        let mut primary = Cluster::create(server, &ClusterOptions::default()).unwrap();
        primary.start().unwrap();
        primary.sql("postgres", "create database app").unwrap();
        primary.sql("app", SETUP).unwrap();
        let state = tempfile::tempdir().unwrap();
        let (port, metrics) = (free_ports(), free_ports());
        let mut command = Command::new(programs::server());
        command.arg("serve").arg("--pgdata").arg(primary.data());
        let upstream = primary.conninfo("postgres");
        command.args(["--upstream", &upstream, "--slot", "redostream"]);
        command
            .args(["--database", "app", "--state"])
            .arg(state.path());
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
        command.args(["--metrics", &format!("127.0.0.1:{metrics}")]);
        command.args(rule);
        let mut background = Background::start(&mut command);
        background.wait_until("ready line", |server| {
            server.errors().contains("ready earliest=")
        });
        primary.run_scripts("app", &[ROWS.to_owned()]).unwrap();
        let end = primary.flushed_lsn().unwrap();
        primary.sql("app", "create table later ()").unwrap();
        Served {
            primary,
            server: background,
            port,
            metrics,
            end,
            _state: state,
        }
    }

    fn subscribe(&self, arguments: &[&str]) -> Decoded {
        let mut command = Command::new(programs::client());
        let address = format!("127.0.0.1:{}", self.port);
        command.args(["subscribe", "--server", &address, "--from", "earliest"]);
        command.args(["--until", &self.end, "--format", "json"]);
        command.args(arguments);
        run_to_end(&mut command, Duration::from_secs(60)).unwrap()
    }

    fn metric(&self, name: &str) -> Vec<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let lines = page.lines().filter(|line| line.starts_with(name));
        lines.map(str::to_owned).collect()
    }
}

/// Of each line what matters here: kind, table, first column; the code of notices.
fn told(printed: &[u8]) -> Vec<String> {
    let lines = std::str::from_utf8(printed).unwrap().lines();
    let line = |line| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        match event["kind"].as_str().unwrap() {
            "begin" | "commit" => None,
            "notice" => Some(format!("notice {}", text("code"))),
            "ddl" => {
                let after = &event["after"];
                let method = after["access_method"].as_str().unwrap_or("heap");
                Some(format!(
                    "ddl {} {method} {}",
                    text("name"),
                    after["undecodable"]
                ))
            }
            "truncate" => Some(format!("truncate {}", event["tables"])),
            kind => Some(format!("{kind} {} {}", text("table"), event["new"]["a"])),
        }
    };
    lines.filter_map(line).collect()
}

const BEFORE: [&str; 5] = [
    "ddl good heap null",
    "insert good 1",
    "ddl bad own true",
    "ddl as_good heap2 false",
    "insert good 2",
];

#[test]
fn who_wants_the_table_stops_there() {
    for major in MAJORS {
        let Some(server) = Server::for_test(major) else {
            continue;
        };
        let mut served = Served::start(server, &[]);
        let stopped = served.subscribe(&[]);
        assert_eq!(stopped.status, Some(3), "{}", stopped.errors);
        assert_eq!(told(&stopped.printed), BEFORE, "{major}");
        let why = &stopped.errors;
        assert!(why.contains("public.bad"), "{why}");
        assert!(why.contains("its access method is own"), "{why}");
        assert!(why.contains("--exclude-table public.bad"), "{why}");
        // Everybody else goes on.
        let others = served.subscribe(&["--exclude-table", "bad"]);
        assert_eq!(others.status, Some(0), "{}", others.errors);
        let rows = [
            "ddl good heap null",
            "insert good 1",
            "ddl as_good heap2 false",
            "insert good 2",
            "insert good 3",
            "insert as_good 4",
            "insert good 5",
        ];
        assert_eq!(told(&others.printed), rows, "{major}");
        let one = served.subscribe(&["--table", "as_good", "--kind", "insert"]);
        assert_eq!(told(&one.printed), ["insert as_good 4"], "{}", one.errors);
        let ddl = served.subscribe(&["--kind", "ddl"]);
        assert_eq!(ddl.status, Some(0), "{}", ddl.errors);
        assert_eq!(served.metric("redostream_skipped_rows_total{"), [""; 0]);
        served.server.ends_well();
        drop(served.primary);
    }
}

#[test]
fn or_its_rows_are_left_out() {
    for major in MAJORS {
        let Some(server) = Server::for_test(major) else {
            continue;
        };
        let mut served = Served::start(server, &["--on-undecodable", "skip"]);
        for (wanted, columns) in [(&[][..], "all"), (&["--table", "public.*"][..], "filtered")] {
            let all = served.subscribe(wanted);
            assert_eq!(all.status, Some(0), "{}", all.errors);
            let mut lines = told(&all.printed);
            let notices = lines.iter().filter(|line| line.starts_with("notice"));
            assert_eq!(notices.count(), 1, "{major} {columns}: {lines:?}");
            lines.retain(|line| !line.starts_with("notice"));
            let mut rows = BEFORE.to_vec();
            rows.extend([
                "insert good 3",
                "insert as_good 4",
                "truncate [{\"schema\":\"public\",\"table\":\"bad\"}]",
                "insert good 5",
            ]);
            assert_eq!(lines, rows, "{major} {columns}");
            let notice = String::from_utf8_lossy(&all.printed);
            let notice = notice.lines().find(|line| line.contains("\"notice\""));
            assert!(
                notice.is_some_and(|line| line.contains("public.bad")),
                "{notice:?}"
            );
        }
        let without = served.subscribe(&["--table", "good"]);
        assert!(
            !told(&without.printed)
                .iter()
                .any(|line| line.starts_with("notice"))
        );
        let skipped = served.metric("redostream_skipped_rows_total{");
        // Two inserted, two updated, one deleted, three copied.
        let expected = "redostream_skipped_rows_total{table=\"public.bad\"} 8";
        assert_eq!(skipped, [expected], "{major}");
        served.server.ends_well();
        drop(served.primary);
    }
}

/// `decode` has everything before the first row that it cannot decode; whoever does not ask for the
/// table has the rest too.
#[test]
fn decode_stops_there_or_goes_on_without_it() {
    for major in MAJORS {
        let Some(server) = Server::for_test(major) else {
            continue;
        };
        let scenario = Scenario::start(server, &ClusterOptions::default()).unwrap();
        scenario.sql(SETUP).unwrap();
        scenario
            .sql(
                "create table good (a int); create table bad (a int, t text) using own;
                 create unique index bad_a on bad (a);
                 insert into good values (1);",
            )
            .unwrap();
        scenario
            .sql(
                "begin; insert into good values (2);
                 insert into bad values (1, repeat('x', 10000)) on conflict (a) do nothing;
                 insert into good values (3); commit;
                 insert into bad values (1, 'y') on conflict (a) do update set t = 'z';
                 insert into good values (4);",
            )
            .unwrap();
        let recording = scenario.finish().unwrap();
        let decode = |table: &[&str]| {
            let mut decode = recording.decode(&programs::server());
            for table in table {
                decode = decode.with("--table", *table);
            }
            decode.with("--format", "json").try_run().unwrap()
        };
        let stopped = decode(&[]);
        assert_eq!(stopped.status, Some(3), "{}", stopped.errors);
        let why = &stopped.errors;
        assert!(why.contains("public.bad"), "{why}");
        assert!(why.contains("its access method is own"), "{why}");
        let before = told(&stopped.printed);
        assert_eq!(
            before.last().unwrap(),
            "insert good 2",
            "{major} {before:?}"
        );
        let others = decode(&["public.good"]);
        assert_eq!(others.status, Some(0), "{}", others.errors);
        let mut rows = told(&others.printed);
        rows.retain(|line| line.starts_with("insert"));
        let expected = [1, 2, 3, 4].map(|a| format!("insert good {a}"));
        assert_eq!(rows, expected, "{major}");
    }
}
