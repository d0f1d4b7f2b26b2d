//! What becomes of the upstream: its files are recycled while they are read, it goes away and
//! another stands in, a standby of a standby is read from, another cluster answers in its place.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use redostream_testdata::cluster::{Cluster, ClusterOptions, Stop};
use redostream_testdata::compare::compare;
use redostream_testdata::decoder::run_to_end;
use redostream_testdata::server::Server;

use crate::keeping::{metric, until};
use crate::programs;
use crate::restart::{Scene, ready, small_segments, status};
use crate::serve::{Background, free_ports, subscribe};
use crate::timelines::{goes_on, life};

/// Whether a segment is in a server's `pg_wal` under this name.
fn in_pg_wal(cluster: &Cluster, name: &str) -> bool {
    cluster.data().join("pg_wal").join(name).exists()
}

/// A subscriber that was far behind stands still while its WAL is recycled and overwritten. What it
/// gets then is a beginning of the truth, and the reason why there is no more; nobody else notices.
#[test]
fn segments_are_recycled_under_a_reader() {
    let Some(scene) = Scene::with(15, &small_segments().with("max_wal_size", "4GB")) else {
        return;
    };
    scene.primary.drop_slot("judge").unwrap();
    let page = free_ports();
    let mut command = scene.frugal(page);
    command.args(["--buffer", "1MiB", "--feed", "1MiB"]);
    command.args(["--peer-timeout-ms", "120000"]);
    let mut server = Background::start(&mut command);
    ready(&mut server);
    let mut live = Background::start(&mut subscribe(scene.port));
    let sql = "create table wide (id int, v text)";
    scene.primary.sql("app", sql).unwrap();
    let write = |mib: u32| {
        let sql = format!(
            "insert into wide select i, repeat(md5(i::text), 31) \
             from generate_series(1, 1000 * {mib}) i"
        );
        scene.primary.sql("app", &sql).unwrap();
    };
    let caught_up = || {
        let end = scene.primary.flushed_lsn().unwrap();
        let end = redostream_testdata::slot::parse_lsn(&end).unwrap() as f64;
        until("end", || metric(page, "redostream_released_lsn") >= end);
    };
    // Before it begins its WAL must not be gone, so a name that nobody uses holds it back.
    let mut holder = subscribe(scene.port);
    let mut holder = Background::start(holder.args(["--name", "holder", "--until", "0/1"]));
    assert_eq!(holder.ended(), Some(0));
    for _ in 0..40 {
        write(1);
    }
    caught_up();
    let end = scene.primary.flushed_lsn().unwrap();
    let last = scene
        .primary
        .sql("app", "select pg_walfile_name(pg_current_wal_lsn())")
        .unwrap();
    // Its output is a pipe that nobody reads for now.
    let errors = scene.state.path().join("slow-errors");
    let mut slow = Command::new(programs::client())
        .args(["subscribe", "--from", "earliest", "--streams", "1"])
        .args(["--database", "app", "--format", "test_decoding", "--server"])
        .arg(format!("127.0.0.1:{}", scene.port))
        .args(["--until", &end])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&errors).unwrap())
        .spawn()
        .unwrap();
    let read = metric(page, "redostream_decoded_bytes_total{pipeline=\"catchup\"}");
    until("a catch-up pipeline", || {
        metric(page, "redostream_decoded_bytes_total{pipeline=\"catchup\"}") > read
    });
    std::thread::sleep(Duration::from_secs(2));
    let forget = ["subscriptions", "drop", "holder", "--server"];
    let mut drop = Command::new(programs::client());
    drop.args(forget).arg(format!("127.0.0.1:{}", scene.port));
    let dropped = run_to_end(&mut drop, Duration::from_secs(20)).unwrap();
    assert_eq!(dropped.status, Some(0), "{}", dropped.errors);
    let since = Instant::now();
    while in_pg_wal(&scene.primary, &last) {
        assert!(since.elapsed() < Duration::from_secs(60), "WAL stays");
        write(1);
        scene.primary.sql("app", "checkpoint").unwrap();
        std::thread::sleep(Duration::from_millis(300));
    }
    // What was recycled is written over.
    for _ in 0..30 {
        write(1);
    }
    caught_up();
    let mut printed = Vec::new();
    slow.stdout
        .take()
        .unwrap()
        .read_to_end(&mut printed)
        .unwrap();
    let status = slow.wait().unwrap().code();
    let told = std::fs::read_to_string(&errors).unwrap();
    assert_eq!(status, Some(4), "{told}");
    assert!(told.contains("oldest position"), "{told}");
    let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
    let wanted = 70_000;
    live.wait_until("all rows", |live| lines(&live.printed()) > wanted);
    let whole = live.printed();
    assert!(printed.len() < whole.len() && whole.starts_with(&printed));
    assert!(lines(&printed) > 1000, "{} lines", lines(&printed));
    println!(
        "{} of {} lines, then: {told}",
        lines(&printed),
        lines(&whole)
    );
    live.ends_well();
    server.ends_well();
}

/// The server stands beside a standby of a standby, and the one in the middle becomes the primary.
#[test]
fn the_standby_in_the_middle_is_promoted() {
    let Some(mut scene) = Scene::new(15) else {
        return;
    };
    let options = ClusterOptions::default();
    let middle = scene.primary.standby(&options).unwrap();
    let last = middle.standby(&options).unwrap();
    let mut server = scene.begin(&last);
    let mut command = subscribe(scene.port);
    let mut live = Background::start(command.args(["--name", "durable"]));
    scene.primary.sql("app", &life("before")).unwrap();
    let switched = scene.primary.flushed_lsn().unwrap();
    let mut expected = scene.expected(&switched);
    scene.primary.stop(Stop::Fast).unwrap();
    last.wait_for_replay(&switched).unwrap();
    live.prints("the old timeline", &expected);

    middle.promote().unwrap();
    middle.create_slot("app", "promoted").unwrap();
    goes_on(&middle, &life("after"), &mut expected, &mut live);
    let said = status(scene.port);
    assert_eq!(said["timeline"], 2, "{said}");

    // Killed and started again, over the switch too.
    server.kill();
    let mut server = scene.begin(&last);
    let sql = "insert into after (v) values (7)";
    let end = goes_on(&middle, sql, &mut expected, &mut live);
    scene.closes(&expected, &end, &mut live, &mut server);
}

/// The upstream is restarted as in a crash, goes away for another that stands in, and is replaced by
/// a third at the next start: nothing is lost or repeated.
#[test]
fn another_standby_stands_in() {
    let Some(mut scene) = Scene::new(15) else {
        return;
    };
    let options = ClusterOptions::default();
    let mut one = scene.primary.standby(&options).unwrap();
    let mut two = scene.primary.standby(&options).unwrap();
    let both = format!(
        "host={},{} port={},{} user=postgres dbname=postgres",
        one.root().display(),
        two.root().display(),
        one.port(),
        two.port()
    );
    let page = free_ports();
    let mut command = scene.command(&one);
    command.args([
        "--upstream",
        &both,
        "--metrics",
        &format!("127.0.0.1:{page}"),
    ]);
    let mut server = Background::start(&mut command);
    ready(&mut server);
    let mut command = subscribe(scene.port);
    let mut live = Background::start(command.args(["--name", "durable"]));
    let all = |scene: &mut Scene, live: &mut Background, table: &str| {
        scene.primary.sql("app", &life(table)).unwrap();
        let end = scene.primary.flushed_lsn().unwrap();
        let expected = scene.expected(&end);
        live.prints(table, &expected);
        end
    };
    all(&mut scene, &mut live, "at_first");
    one.restart(Stop::Immediate).unwrap();
    all(&mut scene, &mut live, "after_a_crash");
    // Whichever it is with now goes away for good.
    let is_with = |standby: &Cluster| {
        let slots =
            "select count(*) from pg_replication_slots where slot_name = 'redostream' and active";
        standby.sql("postgres", slots).unwrap() == "1"
    };
    let first = is_with(&one);
    assert_ne!(first, is_with(&two));
    let (gone, left) = if first {
        (&mut one, &two)
    } else {
        (&mut two, &one)
    };
    gone.stop(Stop::Fast).unwrap();
    all(&mut scene, &mut live, "from_the_other");
    assert!(is_with(left));
    assert!(metric(page, "redostream_reconnects_total") >= 2.0);
    server.ends_well();

    // A third, made just now, has not the WAL that is needed; whoever has it can give it. What the
    // positions mean does not change.
    let third = scene.primary.standby(&options).unwrap();
    let mut command = scene.command(&third);
    let refused = run_to_end(&mut command, Duration::from_secs(20)).unwrap();
    assert_eq!(refused.status, Some(1), "{}", refused.errors);
    let said = &refused.errors;
    assert!(said.contains("is needed to go on"), "{said}");
    command
        .arg("--archive")
        .arg(scene.primary.data().join("pg_wal"));
    let mut server = Background::start(&mut command);
    ready(&mut server);
    let end = all(&mut scene, &mut live, "from_the_third");
    compare(&scene.expected(&end), &scene.everything(&end)).unwrap();
    live.ends_well();
    server.ends_well();
}

/// Another cluster answers at the upstream's address: it is refused by its system identifier, by a
/// server that runs and by one that starts; with the right one back, everything goes on.
#[test]
fn another_cluster_behind_the_address_is_refused() {
    let Some(mut scene) = Scene::new(15) else {
        return;
    };
    let Some(server) = Server::for_test(15) else {
        return;
    };
    let own = ClusterOptions {
        own_identity: true,
        ..ClusterOptions::default()
    };
    let mut other = Cluster::create(server, &own).unwrap();
    let address = format!(
        "unix_socket_directories = '{}'\nport = {}\n",
        scene.primary.root().display(),
        scene.primary.port()
    );
    other.configure(&address).unwrap();

    let mut server = scene.begin(&scene.primary);
    let mut command = subscribe(scene.port);
    let mut live = Background::start(command.args(["--name", "durable"]));
    scene.primary.sql("app", &life("before")).unwrap();
    let end = scene.primary.flushed_lsn().unwrap();
    let mut expected = scene.expected(&end);
    live.wait_until("rows", |live| live.printed().len() >= expected.len());
    scene.primary.stop(Stop::Fast).unwrap();
    other.start().unwrap();
    assert_eq!(server.ended(), Some(1));
    assert!(
        server
            .errors()
            .contains("another cluster: its system identifier is")
    );
    assert!(server.errors().contains("mend the connection string"));
    let again = run_to_end(&mut scene.command(&scene.primary), Duration::from_secs(20)).unwrap();
    assert_eq!(again.status, Some(1), "{}", again.errors);
    let said = "point --upstream and --pgdata at the same cluster";
    assert!(again.errors.contains(said), "{}", again.errors);
    // Nothing of the other cluster was sent, and no slot was left on it.
    compare(&expected, &live.printed()).unwrap();
    let slots = "select count(*) from pg_replication_slots";
    assert_eq!(scene.primary.sql("postgres", slots).unwrap(), "0");

    other.stop(Stop::Fast).unwrap();
    scene.primary.start().unwrap();
    // A logical slot may repeat after a restart what was received before.
    scene.primary.create_slot("app", "again").unwrap();
    let mut server = scene.begin(&scene.primary);
    scene.primary.sql("app", &life("after")).unwrap();
    let end = scene.primary.flushed_lsn().unwrap();
    expected.extend(scene.primary.receive("app", "again", &end).unwrap());
    live.prints("all lines", &expected);
    live.ends_well();
    server.ends_well();
}
