//! `redostream-server check`: what it finds before anything is started, and how it says it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use redostream_testdata::cluster::{Cluster, ClusterOptions, Stop};
use redostream_testdata::server::Server;

use crate::programs;
use crate::restart::Scene;

fn run(pgdata: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(programs::server());
    command.arg("check").arg("--pgdata").arg(pgdata);
    command.args(more).output().unwrap()
}

/// The exit status, and what is more than a note, by its id.
fn check(pgdata: &Path, more: &[&str]) -> (Option<i32>, Vec<String>) {
    let output = run(pgdata, &[&["--format", "json"], more].concat());
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut wrong = Vec::new();
    for one in found.as_array().unwrap() {
        let members = one.as_object().unwrap();
        assert_eq!(members.len(), 4, "{one}");
        let text = |name: &str| one[name].as_str().unwrap().to_owned();
        assert!(
            !text("what").is_empty() && !text("remedy").is_empty(),
            "{one}"
        );
        assert!(
            ["note", "warning", "error"].contains(&&*text("severity")),
            "{one}"
        );
        if text("severity") != "note" {
            wrong.push(text("id"));
        }
    }
    (output.status.code(), wrong)
}

#[test]
fn check_says_what_is_wrong() {
    let Some(scene) = Scene::new(15) else {
        return;
    };
    let check = |more: &[&str]| {
        let slot = ["--slot", "redostream"];
        check(scene.primary.data(), &[&slot[..], more].concat())
    };
    let conninfo = scene.primary.conninfo("postgres");
    assert_eq!(check(&["--upstream", &conninfo]), (Some(0), vec![]));
    let sql = "create role nobody login; create role away login replication";
    scene.primary.sql("postgres", sql).unwrap();
    let nobody = conninfo.replace("user=postgres", "user=nobody");
    assert_eq!(
        check(&["--upstream", &nobody]),
        (Some(1), vec!["upstream-privilege".to_owned()])
    );
    // What is set on the upstream.
    for (name, value, id) in [
        ("synchronous_standby_names", "*", "synchronous"),
        ("full_page_writes", "off", "full-page-writes"),
    ] {
        let set = |sql: &str| {
            for sql in [sql, "select pg_reload_conf()", "select pg_sleep(0.2)"] {
                scene.primary.sql("postgres", sql).unwrap();
            }
            let sql =
                "set synchronous_commit = local; create table if not exists moved (); checkpoint";
            scene.primary.sql("postgres", sql).unwrap();
        };
        set(&format!("alter system set {name} = '{value}'"));
        assert_eq!(
            check(&["--upstream", &conninfo]),
            (Some(1), vec![id.to_owned()])
        );
        set(&format!("alter system reset {name}"));
    }
    assert_eq!(check(&["--upstream", &conninfo]), (Some(0), vec![]));
    let (status, wrong) = check(&[]);
    assert_eq!((status, &wrong[..]), (Some(1), &["running".to_owned()][..]));
    let (status, wrong) = check(&["--upstream", "host=/nowhere"]);
    assert_eq!(
        (status, &wrong[..]),
        (Some(1), &["upstream".to_owned()][..])
    );

    // A configuration file says the same.
    let file = scene.state.path().join("redostream.toml");
    let text = format!("upstream = \"{conninfo}\"\nlisten = \"127.0.0.1:7600\"\n");
    fs::write(&file, text).unwrap();
    assert_eq!(
        check(&["--config", file.to_str().unwrap()]),
        (Some(0), vec![])
    );
    fs::write(&file, "# nothing\nlisten_date = 3\n").unwrap();
    let mut command = Command::new(programs::server());
    let output = command
        .args(["serve", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        errors.contains("redostream.toml, line 2: unknown key `listen_date`"),
        "{errors}"
    );
}

/// What would keep `serve` from working, each by its name; in the form for people too.
#[test]
fn check_finds_what_would_stop_serving() {
    let (Some(scene), Some(server)) = (Scene::new(15), Server::for_test(15)) else {
        return;
    };
    let conninfo = scene.primary.conninfo("postgres");
    let good = ["--upstream", &conninfo, "--slot", "redostream"];
    let mut own = ClusterOptions {
        own_identity: true,
        ..ClusterOptions::default()
    };
    let mut other = Cluster::create(server.clone(), &own).unwrap();
    // What it logs is said by its control file only once it has been started.
    other.start().unwrap();
    other.stop(Stop::Fast).unwrap();
    own = ClusterOptions::default().with("wal_level", "replica");
    let mut plain = Cluster::create(server, &own).unwrap();
    plain.start().unwrap();
    let of_plain = plain.conninfo("postgres");
    let nowhere = scene.state.path().join("not/there");
    let nowhere = nowhere.to_str().unwrap();
    let ours = scene.primary.data();
    for (pgdata, more, id) in [
        (ours, &["--upstream", &*conninfo][..], "slot"),
        (ours, &["--upstream", &conninfo, "--slot", "judge"], "slot"),
        (
            ours,
            &["--upstream", &conninfo, "--slot", "Not-a-slot"],
            "slot",
        ),
        (
            ours,
            &["--upstream", "nonsense", "--slot", "redostream"],
            "upstream",
        ),
        (ours, &[&good[..], &["--state", nowhere]].concat(), "state"),
        (other.data(), &good, "upstream-cluster"),
        (
            plain.data(),
            &["--upstream", &of_plain, "--slot", "redostream"],
            "wal-level",
        ),
        (Path::new("/nowhere"), &good, "pgdata"),
    ] {
        let found = check(pgdata, more);
        assert_eq!(found, (Some(1), vec![id.to_owned()]), "{more:?}");
        let output = run(pgdata, more);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines = text.lines();
        let line =
            lines.find(|line| line.ends_with(&format!(" [{id}]")) && !line.starts_with("note: "));
        assert!(line.is_some(), "{text}");
        let remedy = lines.next().unwrap_or_default();
        assert!(remedy.starts_with("    ") && remedy.len() > 8, "{text}");
    }
    let output = run(ours, &good);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.lines().all(|line| line.starts_with("note: ")),
        "{text}"
    );
    let mut bare = Command::new(programs::server());
    assert_eq!(bare.arg("check").output().unwrap().status.code(), Some(2));
}
