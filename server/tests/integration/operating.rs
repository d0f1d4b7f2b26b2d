//! What an operator does to a server, and what befalls it: it is told to stop, a subscriber never
//! comes back, files come in pieces and in the wrong order, its slot is given up.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use redostream_testdata::cluster::{Cluster, ClusterOptions, Stop};
use redostream_testdata::decoder::run_to_end;
use redostream_testdata::files::copy_tree;
use redostream_testdata::server::Server;
use redostream_testdata::slot::parse_lsn;

use crate::files::FileServer;
use crate::keeping::{metric, metrics, until};
use crate::programs;
use crate::restart::{Scene, begun, ready, small_segments, status};
use crate::serve::{Background, free_ports, subscribe};

pub(crate) fn lsn_of(point: &Path) -> u64 {
    let name = point.file_name().unwrap().to_str().unwrap();
    u64::from_str_radix(name.strip_prefix("restart-").unwrap(), 16).unwrap()
}

/// Told to stop, it writes a restart point behind everything that it has read, an open transaction
/// with its rows in it, and goes on from there.
#[test]
fn a_server_that_is_told_to_stop_saves_where_it_was() {
    let Some(mut scene) = Scene::new(15) else {
        return;
    };
    let mut command = scene.command(&scene.primary);
    command.args(["--memory", "64KiB"]);
    let mut server = Background::start(&mut command);
    ready(&mut server);
    let mut named = subscribe(scene.port);
    named.args(["--name", "durable"]);
    let mut live = Background::start(&mut named);
    let mut long = scene.primary.session("app").unwrap();
    long.run(
        "begin; create table long (id integer, v text); \
         insert into long select i, repeat(md5(i::text), 5) from generate_series(1, 3000) i;",
    )
    .unwrap();
    for stop in 0..3 {
        scene.insert(1000);
        let end = scene.primary.flushed_lsn().unwrap();
        let at = parse_lsn(&end).unwrap();
        until("end", || {
            let released = status(scene.port)["released"].as_str().map(parse_lsn);
            released.is_some_and(|lsn| lsn.unwrap() >= at)
        });
        let since = Instant::now();
        server.ends_well();
        println!("stop {stop} took {:?}", since.elapsed());
        let point = lsn_of(scene.points().last().unwrap());
        assert!(
            point >= at,
            "{point:X} is before {end}: {}",
            server.errors()
        );
        server = Background::start(&mut command);
        ready(&mut server);
        assert_eq!(begun(&server.errors()), Some(point));
    }
    long.run("insert into long values (-1, 'after'); commit;")
        .unwrap();
    scene.primary.sql("app", "create table after ()").unwrap();
    let end = scene.primary.flushed_lsn().unwrap();
    let expected = scene.expected(&end);
    live.prints("all lines", &expected);
    live.ends_well();
    server.ends_well();
}

/// A subscriber that does not come back keeps WAL up to the limit, and no longer; it is told so
/// when it comes.
#[test]
fn a_dead_subscriber_does_not_fill_the_disk() {
    let Some(scene) = Scene::with(15, &small_segments()) else {
        return;
    };
    scene.primary.drop_slot("judge").unwrap();
    let page = free_ports();
    let mut command = scene.frugal(page);
    command.args(["--max-retained-wal", "6MiB", "--buffer", "1MiB"]);
    let mut server = Background::start(&mut command);
    ready(&mut server);
    let named = || {
        let mut command = Command::new(programs::client());
        command.args(["subscribe", "--name", "dead", "--format", "json"]);
        command.args(["--server", &format!("127.0.0.1:{}", scene.port)]);
        command
    };
    let mut dead = Background::start(named().args(["--from", "earliest"]));
    scene.insert(10);
    dead.wait_until("rows", |dead| dead.printed().len() > 1000);

    // Every metric is there, by name and labels.
    let text = metrics(page);
    let stages = [
        "source", "framing", "gate", "decoding", "assembly", "feed", "session",
    ];
    let mut names: Vec<String> = [
        "source_bytes_total{origin=\"buffer\"}",
        "source_bytes_total{origin=\"file\"}",
        "source_switches_total{to=\"buffer\"}",
        "source_switches_total{to=\"file\"}",
        "decoded_bytes_total{pipeline=\"live\"}",
        "decoded_bytes_total{pipeline=\"catchup\"}",
        "received_lsn",
        "decoded_lsn",
        "released_lsn",
        "acknowledged_lsn",
        "lag_bytes",
        "lag_seconds",
        "open_transactions",
        "open_transaction_bytes",
        "spilled_bytes_total",
        "rows_total",
        "transactions_total",
        "subscriber_position_lsn{name=\"dead\"}",
        "subscriber_lag_bytes{name=\"dead\"}",
        "subscriber_sent_bytes_total{name=\"dead\"}",
        "reconnects_total",
    ]
    .map(str::to_owned)
    .into();
    for what in ["busy", "waiting"] {
        let of = |stage| format!("stage_{what}_seconds_total{{stage=\"{stage}\"}}");
        names.extend(stages.map(of));
    }
    for name in names {
        let line = format!("\nredostream_{name} ");
        assert!(text.contains(&line), "no {name} in {text}");
    }
    assert!(text.contains("# TYPE redostream_skipped_rows_total counter"));

    let acknowledged = |least: f64| metric(page, "redostream_acknowledged_lsn") > least;
    until("acknowledgement", || acknowledged(1.0));
    dead.ends_well();
    let at = metric(page, "redostream_acknowledged_lsn");
    let since = Instant::now();
    let said = "no longer kept for this subscriber";
    while scene.slot_at() as f64 <= at {
        assert!(since.elapsed() < Duration::from_secs(90), "the slot stays");
        scene.insert(5000);
        std::thread::sleep(Duration::from_millis(200));
    }
    let errors = server.errors();
    assert_eq!(errors.matches(said).count(), 1, "{errors}");
    // Until then its WAL was there.
    let held = metric(page, "redostream_released_lsn") - at;
    assert!(held > f64::from(6 << 20), "given up after {held} bytes");
    // Once the WAL is gone, it is told what is the oldest that there is.
    let since = Instant::now();
    let refused = loop {
        assert!(since.elapsed() < Duration::from_secs(90), "still served");
        scene.insert(5000);
        scene.primary.sql("postgres", "checkpoint").unwrap();
        let mut probe = Command::new(programs::client());
        probe.args(["probe", "--server", &format!("127.0.0.1:{}", scene.port)]);
        probe.args(["--from", &format!("0/{:X}", at as u64)]);
        if probe.output().unwrap().status.code() == Some(4) {
            break run_to_end(&mut named(), Duration::from_secs(20)).unwrap();
        }
        std::thread::sleep(Duration::from_millis(300));
    };
    assert_eq!(refused.status, Some(4), "{}", refused.errors);
    assert!(
        refused.errors.contains("older than the oldest position"),
        "{}",
        refused.errors
    );
    server.ends_well();
}

/// Segments of 1 MiB by name, rising.
fn segments(pg_wal: &Path, from: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(pg_wal).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names
        .filter(|name| name.len() == 24 && name.as_str() >= from)
        .collect();
    names.sort();
    let read = |name: String| {
        let bytes = fs::read(pg_wal.join(&name)).unwrap();
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}

/// Segments come late, short, empty, with old bytes in them, written under way, in the wrong order:
/// the server waits for what is true, and for a hole among files it says what is missing.
#[test]
fn segments_come_as_they_like() {
    let Some(server) = Server::for_test(15) else {
        return;
    };
    let options = ClusterOptions {
        segment_mib: 1,
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::create(server, &options).unwrap();
    cluster.start().unwrap();
    let sql = "create table t (id int primary key, v text)";
    cluster.sql("postgres", sql).unwrap();
    cluster.sql("postgres", "select pg_switch_wal()").unwrap();
    cluster.stop(Stop::Fast).unwrap();
    let base = tempfile::tempdir().unwrap();
    copy_tree(cluster.data(), base.path(), &|_| true).unwrap();
    fs::remove_dir_all(base.path().join("pg_wal")).unwrap();
    fs::create_dir(base.path().join("pg_wal")).unwrap();
    cluster.start().unwrap();
    cluster.create_slot("postgres", "judge").unwrap();
    let file_of = |cluster: &Cluster| {
        let sql = "select pg_walfile_name(pg_current_wal_lsn())";
        cluster.sql("postgres", sql).unwrap().trim().to_owned()
    };
    let first = file_of(&cluster);
    // Eight whole segments and a piece of the ninth.
    let mut rows = 0;
    while segments(&cluster.data().join("pg_wal"), &first)
        .iter()
        .position(|(name, _)| *name == file_of(&cluster))
        .unwrap()
        < 8
    {
        let sql = format!(
            "insert into t select g, repeat('v', g % 300) from generate_series({rows} + 1, {rows} + 700) g"
        );
        cluster.sql("postgres", &sql).unwrap();
        rows += 700;
    }
    let sql = "insert into t select -g, repeat('v', g % 300) from generate_series(1, 700) g";
    cluster.sql("postgres", sql).unwrap();
    let end = cluster.flushed_lsn().unwrap();
    let expected = cluster.receive("postgres", "judge", &end).unwrap();
    let expected = String::from_utf8(expected).unwrap();
    let segments = segments(&cluster.data().join("pg_wal"), &first);
    cluster.stop(Stop::Immediate).unwrap();

    let (wal, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let put = |index: usize, bytes: &[u8]| {
        let (name, _) = &segments[index];
        let aside = wal.path().join("aside");
        fs::write(&aside, bytes).unwrap();
        fs::rename(&aside, wal.path().join(name)).unwrap();
    };
    let whole = |index: usize| put(index, &segments[index].1);
    whole(0);
    let mut server = FileServer::start(base.path(), wal.path(), state.path(), &[]);
    let mut command = Command::new(programs::client());
    command.args(["subscribe", "--server", &server.control]);
    command.args(["--from", "earliest", "--format", "test_decoding"]);
    let mut live = Background::start(&mut command);
    // How many of the lines are there, all of them as they should be.
    let lines = |live: &Background| {
        let printed = String::from_utf8(live.printed()).unwrap();
        assert!(
            expected.starts_with(&printed),
            "not a beginning of the truth"
        );
        printed.lines().count()
    };
    let goes_on = |live: &mut Background, before: usize, what: &str| {
        live.wait_until(what, |live| lines(live) > before);
        // And then stands at the end of what is there.
        let mut now = 0;
        while now != lines(live) {
            now = lines(live);
            std::thread::sleep(Duration::from_millis(700));
        }
        now
    };
    let mut seen = goes_on(&mut live, 0, "the first segment");
    println!("{seen} lines");
    // Half of a file, then all of it under the same name.
    let half = segments[1].1.len() / 2;
    put(1, &segments[1].1[..half]);
    seen = goes_on(&mut live, seen, "half a segment");
    whole(1);
    seen = goes_on(&mut live, seen, "a whole segment");
    // Zeros, into which the server writes.
    put(2, &vec![0; segments[2].1.len()]);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(lines(&live), seen);
    let file = fs::OpenOptions::new();
    let write_into = |index: usize| {
        let path = wal.path().join(&segments[index].0);
        let file = file.clone().write(true).open(path).unwrap();
        // Writes of a server are whole pages; a copy's need not be.
        for (number, piece) in segments[index].1.chunks(50_001).enumerate() {
            file.write_all_at(piece, number as u64 * 50_001).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    write_into(2);
    seen = goes_on(&mut live, seen, "a segment written under way");
    // A recycled file, with the pages of another place.
    put(3, &segments[0].1);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(lines(&live), seen);
    write_into(3);
    seen = goes_on(&mut live, seen, "a recycled segment");
    // A hole for a moment, and one that stays until it is named.
    whole(5);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(lines(&live), seen);
    whole(4);
    seen = goes_on(&mut live, seen, "the hole filled");
    whole(7);
    let missing = segments[6].0.clone();
    server
        .process
        .wait_until("the missing file's name", |server| {
            let errors = server.errors();
            errors.contains("decoding waits") && errors.contains(&missing)
        });
    assert_eq!(lines(&live), seen);
    whole(6);
    seen = goes_on(&mut live, seen, "what was missing");
    // Overwritten with what is no WAL at all, and the log goes on behind it: damage, with its place.
    let mut bad = segments[8].1.clone();
    bad[..4 * 8192].fill(0);
    put(8, &bad);
    assert_eq!(live.ended(), Some(3), "{}", live.errors());
    assert!(live.errors().contains(&segments[8].0), "{}", live.errors());
    assert!(lines(&live) >= seen);
    println!("{seen} lines of {}", expected.lines().count());
    drop(server);
}

/// PostgreSQL gave the slot up while the server was away: it says which WAL it needs, and with that
/// WAL at hand it goes on.
fn a_slot_is_given_up(major: u32) {
    let options = small_segments().with("max_slot_wal_keep_size", "2MB");
    let Some(scene) = Scene::with(major, &options) else {
        return;
    };
    scene.primary.drop_slot("judge").unwrap();
    let mut server = scene.begin(&scene.primary);
    scene.insert(100);
    server.ends_well();
    let needed = lsn_of(scene.points().last().unwrap());
    let needed = format!("{:X}/{:X}", needed >> 32, needed & 0xFFFF_FFFF);

    let archive = tempfile::tempdir().unwrap();
    let pg_wal = scene.primary.data().join("pg_wal");
    let state = "select coalesce(wal_status, '') from pg_replication_slots";
    until("lost slot", || {
        scene.insert(1500);
        scene
            .primary
            .sql("postgres", "select pg_switch_wal()")
            .unwrap();
        // Files of later names are recycled ones, with another segment's old bytes. At a segment's
        // first byte PostgreSQL would name the one before, which is whole by now.
        let current = "select pg_walfile_name(pg_current_wal_lsn() + 1)";
        let current = scene.primary.sql("postgres", current).unwrap();
        for (name, bytes) in segments(&pg_wal, "") {
            if name.as_str() < current.trim() {
                fs::write(archive.path().join(&name), bytes).unwrap();
            }
        }
        scene.primary.sql("postgres", "checkpoint").unwrap();
        scene.primary.sql("postgres", state).unwrap().trim() == "lost"
    });
    let mut command = scene.command(&scene.primary);
    let refused = run_to_end(&mut command, Duration::from_secs(20)).unwrap();
    assert_eq!(refused.status, Some(1), "{}", refused.errors);
    let told = format!("WAL from {needed} on is needed");
    assert!(refused.errors.contains(&told), "{told}: {}", refused.errors);
    // So does who looks before.
    let mut check = Command::new(programs::server());
    check.args(["check", "--format", "json", "--slot", "redostream"]);
    check.args(["--upstream", &scene.primary.conninfo("postgres")]);
    check.arg("--pgdata").arg(scene.primary.data());
    check.arg("--state").arg(scene.state.path());
    let output = check.output().unwrap();
    let found = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{found}");
    assert!(
        found.contains("\"wal-missing\"") && found.contains(&needed),
        "{found}"
    );
    // With that WAL at hand it goes on; from 18 on only with a new slot.
    command.arg("--archive").arg(archive.path());
    if major >= 18 {
        let refused = run_to_end(&mut command, Duration::from_secs(20)).unwrap();
        assert_eq!(refused.status, Some(1), "{}", refused.errors);
        let said = &refused.errors;
        assert!(
            said.contains("slot redostream cannot be used any more"),
            "{said}"
        );
        assert!(said.contains(" on is needed); drop it"), "{said}");
        scene.primary.drop_slot("redostream").unwrap();
    }
    let mut server = Background::start(&mut command);
    ready(&mut server);
    scene.insert(10);
    let at = parse_lsn(&scene.primary.flushed_lsn().unwrap()).unwrap();
    let since = Instant::now();
    loop {
        let status = status(scene.port);
        let released = status["released"].as_str().map(parse_lsn);
        if released.is_some_and(|lsn| lsn.unwrap() >= at) {
            break;
        }
        let late = since.elapsed() > Duration::from_secs(60);
        assert!(!late, "no end: {status} {}", server.errors());
        std::thread::sleep(Duration::from_millis(50));
    }
    server.ends_well();
}

#[test]
fn a_slot_of_14_is_given_up() {
    a_slot_is_given_up(14);
}

#[test]
fn a_slot_of_15_is_given_up() {
    a_slot_is_given_up(15);
}

#[test]
fn a_slot_of_18_is_given_up() {
    a_slot_is_given_up(18);
}
