//! What the server keeps on its upstream, what it says when that is gone, and what it says of
//! itself meanwhile.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use redostream_testdata::decoder::run_to_end;

use crate::restart::{Scene, ready, small_segments, status};
use crate::serve::{Background, free_ports, subscribe};

/// The page of metrics.
pub(crate) fn metrics(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    page
}

/// One number of it.
pub(crate) fn metric(port: u16, name: &str) -> f64 {
    let page = metrics(port);
    let line = page.lines().find(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(' '))
    });
    let line = line.unwrap_or_else(|| panic!("no {name} in {page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(60), "no {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn segments(pg_wal: &Path) -> Vec<String> {
    let entries = fs::read_dir(pg_wal).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.len() == 24).collect()
}

#[test]
fn wal_is_kept_as_long_as_it_is_needed_and_missed_by_name() {
    let Some(mut scene) = Scene::with(15, &small_segments()) else {
        return;
    };
    let page = free_ports();
    let serve = |scene: &Scene, more: &[&str]| {
        let mut command = scene.frugal(page);
        command.args(more);
        command
    };
    let mut server = Background::start(&mut serve(&scene, &[]));
    ready(&mut server);
    let mut command = subscribe(scene.port);
    command.args(["--name", "durable"]);
    let mut live = Background::start(&mut command);

    // The slot moves on with what is acknowledged.
    let first = scene.slot_at();
    let since = Instant::now();
    let mut writes = 0;
    while scene.slot_at() < first + (2 << 20) {
        assert!(since.elapsed() < Duration::from_secs(60), "the slot stays");
        scene.insert(5000);
        writes += 1;
        std::thread::sleep(Duration::from_millis(200));
    }

    // While it keeps up, everything comes from memory; and it says that it has nothing to do.
    let released = || metric(page, "redostream_released_lsn");
    let end = |scene: &Scene| {
        let lsn = scene.primary.flushed_lsn().unwrap();
        redostream_testdata::slot::parse_lsn(&lsn).unwrap() as f64
    };
    let at = end(&scene);
    until("end", || released() >= at);
    let of = |origin: &str| {
        metric(
            page,
            &format!("redostream_source_bytes_total{{origin=\"{origin}\"}}"),
        )
    };
    let (buffer, file) = (of("buffer"), of("file"));
    scene.insert(5000);
    let at = end(&scene);
    until("end", || released() >= at);
    assert!(
        of("buffer") > buffer && of("file") == file,
        "{file} and then {}",
        of("file")
    );
    let transactions = metric(page, "redostream_transactions_total");
    assert!(transactions >= f64::from(writes + 1), "{transactions}");
    let status = status(scene.port);
    assert_eq!(status["state"], "ready");
    assert_eq!(status["lag_bytes"], 0, "{status}");
    assert!(
        status["waiting_for"].to_string().contains("new WAL"),
        "{status}"
    );
    assert_eq!(status["stages"].as_array().unwrap().len(), 7);

    // Killed, its slot dropped behind its back, and the WAL removed: it says what it would need.
    server.kill();
    until("free slot", || {
        let sql = "select pg_drop_replication_slot('redostream')";
        scene.primary.sql("postgres", sql).is_ok()
    });
    let archive = tempfile::tempdir().unwrap();
    let pg_wal = scene.primary.data().join("pg_wal");
    let newest = scene.points().pop().unwrap();
    let newest = newest.file_name().unwrap().to_str().unwrap();
    let lsn = u64::from_str_radix(newest.strip_prefix("restart-").unwrap(), 16).unwrap();
    let number = lsn >> 20;
    let needed = format!("00000001{:08X}{:08X}", number >> 12, number & 0xFFF);
    // The judge must not hold WAL back either, and misses nothing: no rows are written.
    scene.insert(5000);
    let at = scene.primary.flushed_lsn().unwrap();
    scene.expected(&at);
    scene.primary.drop_slot("judge").unwrap();
    let since = Instant::now();
    while pg_wal.join(&needed).exists() {
        assert!(since.elapsed() < Duration::from_secs(60), "WAL stays");
        scene
            .primary
            .sql("postgres", "select pg_switch_wal()")
            .unwrap();
        for name in segments(&pg_wal) {
            // It may be recycled just now; what is read then is not in use yet.
            let _ = fs::copy(pg_wal.join(&name), archive.path().join(&name));
        }
        scene.primary.sql("postgres", "checkpoint").unwrap();
    }
    scene.primary.create_slot("app", "judge").unwrap();
    scene.insert(5000);
    let since = Instant::now();
    let refused = run_to_end(&mut serve(&scene, &[]), Duration::from_secs(20)).unwrap();
    let took = since.elapsed();
    assert_eq!(refused.status, Some(1), "{}", refused.errors);
    assert!(
        refused.errors.contains("is needed to go on"),
        "{}",
        refused.errors
    );
    println!(
        "refused after {took:?}: {}",
        refused.errors.lines().last().unwrap()
    );

    // A restore command brings it back.
    let restore = format!("cp {}/%f %p 2>/dev/null", archive.path().display());
    let mut server = Background::start(&mut serve(&scene, &["--restore-command", &restore]));
    ready(&mut server);
    let end = scene.primary.flushed_lsn().unwrap();
    let expected = scene.expected(&end);
    live.prints("all lines", &expected);
    live.ends_well();
    server.ends_well();
}
