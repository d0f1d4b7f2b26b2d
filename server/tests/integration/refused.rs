//! An upstream that does not let us in: `serve` says so in one line, with what to do, and ends.

use std::fs;
use std::process::{Command, Output, Stdio};

use redostream_testdata::cluster::{Cluster, ClusterOptions};
use redostream_testdata::server::Server;

use crate::programs;

/// Runs `serve` with this connection string to its end.
fn serve(cluster: &Cluster, conninfo: &str) -> Output {
    let state = tempfile::tempdir().unwrap();
    Command::new(programs::server())
        .args(["serve", "--slot", "redostream", "--listen", "127.0.0.1:0"])
        .args(["--listen-data", "127.0.0.1:0", "--upstream", conninfo])
        .arg("--pgdata")
        .arg(cluster.data())
        .arg("--state")
        .arg(state.path())
        .stdin(Stdio::null())
        .env_remove("PGPASSWORD")
        .output()
        .unwrap()
}

/// The line about it, after checking what holds for every refusal.
fn refusal(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(output.stdout.is_empty());
    let lines: Vec<&str> = errors.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 1, "{errors}");
    lines[0].to_owned()
}

/// A cluster with these lines before all others of its pg_hba.conf.
fn started(server: Server, sql: &str, hba: &str) -> Cluster {
    let mut cluster = Cluster::create(server, &ClusterOptions::default()).unwrap();
    cluster.start().unwrap();
    cluster.sql("postgres", sql).unwrap();
    let path = cluster.data().join("pg_hba.conf");
    let rest = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{hba}\n{rest}")).unwrap();
    cluster.sql("postgres", "select pg_reload_conf()").unwrap();
    cluster
}

#[test]
fn who_is_not_let_in_is_told_why_and_what_to_do() {
    let Some(server) = Server::for_test(15) else {
        return;
    };
    let roles = "set password_encryption = 'scram-sha-256';
        create role barred replication login;
        create role plain login;
        create role sworn replication login password 'right'";
    let hba = "local replication barred reject\nlocal all sworn scram-sha-256\n\
               local replication sworn scram-sha-256";
    let cluster = started(server, roles, hba);
    let host = cluster.root().display();
    let conninfo = |user: &str| {
        let of_admin = cluster.conninfo("postgres");
        let kept = of_admin
            .split(' ')
            .filter(|part| !part.starts_with("user="));
        format!("{} user={user}", kept.collect::<Vec<_>>().join(" "))
    };
    for (user, extra, cause, remedy) in [
        ("barred", "", "pg_hba.conf rejects", "has a line for it"),
        (
            "plain",
            "",
            "may not replicate",
            "ALTER ROLE plain REPLICATION",
        ),
        ("sworn", "password=wrong", "28P01", "mend the password"),
        ("sworn", "", "wants a password for user sworn", "PGPASSWORD"),
        ("nobody_there", "", "does not exist", "the role exists"),
    ] {
        let line = refusal(&serve(&cluster, &format!("{} {extra}", conninfo(user))));
        assert!(line.contains(cause), "{user}: {line}");
        assert!(line.contains(remedy), "{user}: {line}");
        println!("{line}");
    }
    // Another consumer's slot is not to be dropped for us.
    cluster.create_slot("postgres", "redostream").unwrap();
    let line = refusal(&serve(&cluster, &cluster.conninfo("postgres")));
    assert!(
        line.contains("is a logical one, of somebody else"),
        "{line}"
    );
    assert!(
        line.contains("give a name") && !line.contains("drop"),
        "{line}"
    );
    cluster.drop_slot("redostream").unwrap();
    let line = refusal(&serve(
        &cluster,
        &format!("host={host} port=1 user=postgres"),
    ));
    assert!(line.contains("see that it runs"), "{line}");
    println!("{line}");
}
