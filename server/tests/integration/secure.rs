//! Encryption and tokens as the command lines have them, on both planes and with every command;
//! certificates are made here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use redostream_testdata::decoder::{Decoded, run_to_end};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::authority::Authority;
use crate::files::{FileServer, Recorded};
use crate::programs;

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn end(command: &mut Command) -> Decoded {
    let ended = run_to_end(command, Duration::from_secs(60)).unwrap();
    assert!(
        programs::ended_well(ended.status, &ended.errors),
        "{command:?}: {}",
        ended.errors
    );
    ended
}

/// Every command of the client that speaks to a server, with what it needs beside the address.
const COMMANDS: [&[&str]; 5] = [
    &["status"],
    &["probe", "--from", "earliest"],
    &["subscriptions", "list"],
    &["describe", "--table", "public.pgbench_branches"],
    &["subscribe", "--from", "earliest", "--format", "json"],
];

/// A command of the client with these flags of access; a token of the environment that runs the
/// tests is not seen.
fn client(server: &FileServer, command: &[&str], until: &str, access: &[&str]) -> Command {
    let mut client = Command::new(programs::client());
    client.env_remove("REDOSTREAM_TOKEN").args(command);
    client.args(["--server", &server.control]).args(access);
    if command[0] == "subscribe" {
        client.args(["--until", until, "--no-reconnect"]);
    }
    client
}

/// Every command with each of these flags of access ends in the way that stands beside them, and
/// prints something only if it was let in.
fn every_command(server: &FileServer, until: &str, cases: &[(&[&str], i32)]) {
    for command in COMMANDS {
        for (access, status) in cases {
            let ended = end(&mut client(server, command, until, access));
            let errors = &ended.errors;
            assert_eq!(
                ended.status,
                Some(*status),
                "{command:?} {access:?}: {errors}"
            );
            assert_eq!(ended.printed.is_empty(), *status != 0, "{command:?}");
        }
    }
}

/// A token made by the command, in a file for the client, and its section for the server.
fn token(directory: &TempDir, name: &str, bounds: &[&str]) -> (PathBuf, String) {
    let file = directory.path().join(format!("token {name}"));
    let mut make = Command::new(programs::server());
    make.args(["token", "--name", name, "--out", path(&file)]);
    let made = end(make.args(bounds));
    assert_eq!(made.status, Some(0), "{}", made.errors);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // What is there already is not overwritten.
    assert_eq!(end(&mut make).status, Some(1));
    (file, String::from_utf8(made.printed).unwrap())
}

#[test]
fn encryption_by_flags_is_wanted_of_every_command() {
    let log = Recorded::of(15, "demo");
    let (authority, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let (certificate, key) = authority.sign("127.0.0.1");
    let ca = authority.path("ca.pem");
    let state = tempdir().unwrap();
    let tls = ["--tls-cert", path(&certificate), "--tls-key", path(&key)];
    let server = log.serve(state.path(), &tls);
    let other = others.path("ca.pem");
    let cases: [(&[&str], i32); 3] = [
        (&["--tls-ca", path(&ca)], 0),
        (&["--tls-ca", path(&other)], 1),
        (&[], 1),
    ];
    every_command(&server, &log.end, &cases);
    drop(server);

    // The client too shows who it is.
    let client_ca = clients.path("ca.pem");
    let wanted = [&tls[..], &["--tls-client-ca", path(&client_ca)]].concat();
    let server = log.serve(state.path(), &wanted);
    let (mine, my_key) = clients.sign("somebody");
    let (theirs, their_key) = others.sign("somebody");
    let shown = |certificate: &Path, key: &Path| -> Vec<String> {
        let own = ["--tls-cert", path(certificate), "--tls-key", path(key)];
        let flags = [&["--tls-ca", path(&ca)][..], &own].concat();
        flags.into_iter().map(str::to_owned).collect()
    };
    for (access, status) in [
        (shown(&mine, &my_key), 0),
        (shown(&theirs, &their_key), 1),
        (vec!["--tls-ca".to_owned(), path(&ca).to_owned()], 1),
    ] {
        let access: Vec<&str> = access.iter().map(String::as_str).collect();
        every_command(&server, &log.end, &[(&access, status)]);
    }

    // What cannot be is said before anything is connected.
    let nowhere = Path::new("/nowhere/ca.pem");
    for access in [
        &["--tls-ca", path(&ca), "--tls-cert", path(&mine)][..],
        &["--tls-cert", path(&mine), "--tls-key", path(&my_key)],
        &["--tls-ca", path(nowhere)],
    ] {
        let ended = end(&mut client(&server, COMMANDS[0], &log.end, access));
        assert_eq!(ended.status, Some(2), "{access:?}: {}", ended.errors);
    }
}

#[test]
fn tokens_by_file_and_environment_are_wanted_of_every_command() {
    let log = Recorded::of(15, "demo");
    let (state, directory) = (tempdir().unwrap(), tempdir().unwrap());
    let (all, all_section) = token(&directory, "all", &[]);
    let bounds = ["--table", "public.pgbench_t*"];
    let (some, some_section) = token(&directory, "some", &bounds);
    let (unknown, _) = token(&directory, "unknown", &[]);
    let tokens = directory.path().join("tokens.toml");
    fs::write(&tokens, format!("{all_section}\n{some_section}")).unwrap();
    let server = log.serve(state.path(), &["--token-file", path(&tokens)]);
    let lines = |access: &[&str], environment: Option<&str>| {
        let mut subscribe = client(&server, COMMANDS[4], &log.end, access);
        let ended = end(subscribe.envs(environment.map(|token| ("REDOSTREAM_TOKEN", token))));
        (ended.status, ended.printed)
    };
    let everything = lines(&["--token-file", path(&all)], None);
    assert_eq!(everything.0, Some(0));
    let secret = fs::read_to_string(&all).unwrap();
    assert_eq!(lines(&[], Some(secret.trim())), everything);
    // The file is what counts where both are given.
    let narrow = ["--token-file", path(&some)];
    let narrowed = lines(&narrow, Some(secret.trim()));
    assert_eq!(narrowed.0, Some(0));
    let tables = |printed: &[u8]| {
        let text = String::from_utf8_lossy(printed).into_owned();
        let rows = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut tables: Vec<String> = rows
            .filter_map(|row| row["table"].as_str().map(str::to_owned))
            .collect();
        tables.sort();
        tables.dedup();
        tables
    };
    assert_eq!(tables(&narrowed.1), ["pgbench_tellers"]);
    assert!(tables(&everything.1).len() > 3);
    let cases: [(&[&str], i32); 4] = [
        (&["--token-file", path(&all)], 0),
        (&["--token-file", path(&unknown)], 5),
        (&[], 5),
        (&["--token-file", "/nowhere/token"], 2),
    ];
    every_command(&server, &log.end, &cases);
    // A table beyond its bounds is refused, in a subscription and by `describe`.
    let mut greedy = client(&server, COMMANDS[4], &log.end, &narrow);
    greedy.args(["--table", "public.pgbench_branches"]);
    assert_eq!(end(&mut greedy).status, Some(5));
    assert_eq!(
        end(&mut client(&server, COMMANDS[3], "", &narrow)).status,
        Some(5)
    );

    // A token is not sent over a network in the clear, unless that is said.
    let far = |more: &[&str]| {
        let mut status = Command::new(programs::client());
        status.args([
            "status",
            "--server",
            "192.0.2.1:1",
            "--token-file",
            path(&all),
        ]);
        end(status.args(more))
    };
    let refused = far(&[]);
    assert_eq!(refused.status, Some(2));
    assert!(refused.errors.contains("unencrypted"), "{}", refused.errors);
}

/// Names are their owners': another token neither sees nor drops them, one without bounds does both.
#[test]
fn names_are_shown_to_their_owners() {
    let log = Recorded::of(15, "demo");
    let (state, directory) = (tempdir().unwrap(), tempdir().unwrap());
    let (all, all_section) = token(&directory, "all", &[]);
    let one = token(&directory, "one", &["--table", "public.pgbench_t*"]);
    let two = token(&directory, "two", &["--table", "public.pgbench_*"]);
    let config = directory.path().join("redostream.toml");
    fs::write(&config, format!("{all_section}\n{}\n{}", one.1, two.1)).unwrap();
    let server = log.serve(state.path(), &["--config", path(&config)]);
    let run = |token: &Path, command: &[&str]| {
        let access = ["--token-file", path(token)];
        end(&mut client(&server, command, &log.end, &access))
    };
    for (token, name) in [(&all, "of all"), (&one.0, "of one"), (&two.0, "of two")] {
        let subscribe = [
            "subscribe",
            "--from",
            "earliest",
            "--format",
            "none",
            "--name",
            name,
        ];
        let ended = run(token, &subscribe);
        assert_eq!(ended.status, Some(0), "{name}: {}", ended.errors);
    }
    let listed = |token: &Path| -> Vec<String> {
        let ended = run(token, &["subscriptions", "list", "--format", "json"]);
        assert_eq!(ended.status, Some(0), "{}", ended.errors);
        let list: Value = serde_json::from_slice(&ended.printed).unwrap();
        let names = list.as_array().unwrap().iter();
        names
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(listed(&all), ["of all", "of one", "of two"]);
    assert_eq!(listed(&one.0), ["of one"]);
    assert_eq!(listed(&two.0), ["of two"]);
    let drop = |token: &Path, name: &str| run(token, &["subscriptions", "drop", name]).status;
    assert_eq!(drop(&one.0, "of two"), Some(5));
    assert_eq!(drop(&one.0, "of all"), Some(5));
    assert_eq!(drop(&one.0, "of one"), Some(0));
    assert_eq!(drop(&all, "of two"), Some(0));
    assert_eq!(listed(&all), ["of all"]);
    assert_eq!(listed(&two.0), [""; 0]);
}

/// Beyond loopback a server wants both, unless it is told that the network is trusted.
#[test]
fn open_doors_are_refused_by_the_command() {
    let log = Recorded::of(15, "demo");
    let (state, directory) = (tempdir().unwrap(), tempdir().unwrap());
    let authority = Authority::new();
    let (certificate, key) = authority.sign("127.0.0.1");
    let (_, section) = token(&directory, "one", &[]);
    let tokens = directory.path().join("tokens.toml");
    fs::write(&tokens, section).unwrap();
    let tls = ["--tls-cert", path(&certificate), "--tls-key", path(&key)];
    let tokens = ["--token-file", path(&tokens)];
    let listen = ["--listen", "0.0.0.0:0", "--listen-data", "0.0.0.0:0"];
    for (access, lacks) in [
        (&[][..], "neither encrypted nor authenticated"),
        (&tls[..], "not authenticated"),
        (&tokens[..], "not encrypted"),
    ] {
        let mut command = Command::new(programs::server());
        command.arg("serve").arg("--pgdata").arg(log.base.path());
        command.arg("--wal").arg(log.wal.path());
        command.arg("--state").arg(state.path());
        let refused = end(command.args(listen).args(access));
        assert_eq!(refused.status, Some(2), "{}", refused.errors);
        assert!(refused.errors.contains(lacks), "{}", refused.errors);
    }
    for access in [[&tls[..], &tokens].concat(), vec!["--insecure"]] {
        let mut server = log.serve(state.path(), &[&listen[..], &access].concat());
        server.process.ends_well();
    }
}
