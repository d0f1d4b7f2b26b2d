//! No room for what a server writes: restart points, and rows of open transactions. Decoding waits,
//! says so, goes on once there is room, and ends after a while with everything as it was.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use redostream_testdata::compare::compare;

use crate::keeping::until;
use crate::operating::lsn_of;
use crate::restart::{Scene, begun, ready, status};
use crate::serve::{Background, subscribe};

/// A file system of its own for the state, so small that it can be filled.
struct Small {
    at: PathBuf,
    filler: PathBuf,
}

impl Small {
    /// Mounted over `at`; none where that is not allowed.
    fn mount(at: &Path, mib: u32) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]);
        let mounted = mount.arg(at).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            println!("SKIPPED: a file system of its own cannot be mounted here");
            return None;
        }
        Some(Self {
            at: at.to_owned(),
            filler: at.join("filler"),
        })
    }

    fn fill(&self) {
        let file = fs::File::create(&self.filler).unwrap();
        let block = [1; 4096];
        let mut at = 0;
        while file.write_all_at(&block, at).is_ok() {
            at += block.len() as u64;
        }
    }

    fn free(&self) {
        fs::remove_file(&self.filler).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// A server whose state has so little room, with these flags.
fn full(flags: &[&str]) -> Option<(Scene, Small, Background)> {
    let scene = Scene::new(15)?;
    let small = Small::mount(scene.state.path(), 64)?;
    let mut command = scene.command(&scene.primary);
    let mut server = Background::start(command.args(flags));
    ready(&mut server);
    server.wait_until("a restart point", |_| !scene.points().is_empty());
    Some((scene, small, server))
}

/// Rows stay in memory: it is restart points that find no room.
const POINTS: [&str; 2] = ["--restart-point-wal", "256KiB"];
/// It is open transactions that find no room.
const ROWS: [&str; 2] = ["--memory", "64KiB"];
/// Not the minute that an operator has.
const SOON: [&str; 2] = ["--room-wait-ms", "3000"];

/// Writes rows until the server says that it waits for room.
fn wait_until_it_says_so(scene: &Scene, server: &mut Background) {
    let since = Instant::now();
    loop {
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "{}",
            server.errors()
        );
        assert!(
            server.child.try_wait().unwrap().is_none(),
            "{}",
            server.errors()
        );
        scene.insert(2000);
        let said = status(scene.port)["waiting_for"].to_string();
        if said.contains("room for restart points") {
            return;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn decoding_waits_for_room_and_goes_on() {
    let Some((mut scene, small, mut server)) = full(&POINTS) else {
        return;
    };
    let mut live = Background::start(&mut subscribe(scene.port));
    small.fill();
    wait_until_it_says_so(&scene, &mut server);
    assert!(
        server
            .errors()
            .contains("cannot be written; decoding waits")
    );
    small.free();
    let (expected, end) = catches_up(&mut scene, &mut live);
    until("a good word", || {
        let said = status(scene.port)["waiting_for"].to_string();
        !said.contains("room")
    });
    // Killed, it goes on from a restart point that came after.
    server.kill();
    let mut server = scene.begin(&scene.primary);
    scene.closes(&expected, &end, &mut live, &mut server);
}

#[test]
fn decoding_ends_where_no_room_comes() {
    let Some((mut scene, small, mut server)) = full(&[POINTS, SOON].concat()) else {
        return;
    };
    small.fill();
    wait_until_it_says_so(&scene, &mut server);
    let points = scene.points();
    assert_eq!(server.ended(), Some(1), "{}", server.errors());
    assert!(server.errors().contains("could be written for 3 s"));
    assert_eq!(scene.points(), points, "the last ones are intact");
    small.free();
    let mut server = scene.begin(&scene.primary);
    let end = scene.primary.flushed_lsn().unwrap();
    compare(&scene.expected(&end), &scene.everything(&end)).unwrap();
    server.ends_well();
}

/// More rows in one open transaction than there is memory and room for; gives the session.
fn open_transaction(scene: &Scene) -> redostream_testdata::session::Session {
    let mut long = scene.primary.session("app").unwrap();
    let sql = "begin; create table long (id int, v text); insert into long \
               select i, repeat(md5(i::text), 5) from generate_series(1, 20000) i;";
    long.run(sql).unwrap();
    // What lies behind it in the log takes it along.
    scene.insert(1);
    long
}

/// A subscriber with a name that has what there is so far.
fn subscribed(scene: &mut Scene) -> (Background, Vec<u8>) {
    let mut command = subscribe(scene.port);
    let mut live = Background::start(command.args(["--name", "durable"]));
    scene.insert(100);
    let before = scene.expected(&scene.primary.flushed_lsn().unwrap());
    live.prints("rows", &before);
    (live, before)
}

/// Room is there again: the subscriber gets all that was written. Gives that, and where it ends.
fn catches_up(scene: &mut Scene, live: &mut Background) -> (Vec<u8>, String) {
    scene.insert(100);
    let end = scene.primary.flushed_lsn().unwrap();
    let expected = scene.expected(&end);
    live.prints("all lines", &expected);
    (expected, end)
}

fn waits_for_spills(scene: &Scene) {
    until("word of it", || {
        let said = status(scene.port)["waiting_for"].to_string();
        said.contains("cannot be written to spill storage")
    });
}

#[test]
fn rows_of_an_open_transaction_wait_for_room() {
    let Some((mut scene, small, mut server)) = full(&ROWS) else {
        return;
    };
    let (mut live, before) = subscribed(&mut scene);
    small.fill();
    let mut long = open_transaction(&scene);
    waits_for_spills(&scene);
    assert!(server.errors().contains("decoding waits for room"));
    // It does not go on without these rows.
    long.run("commit;").unwrap();
    std::thread::sleep(Duration::from_secs(1));
    compare(&before, &live.printed()).unwrap();
    small.free();
    catches_up(&mut scene, &mut live);
    assert!(server.errors().contains("there is room again"));
    let said = status(scene.port)["waiting_for"].to_string();
    assert!(!said.contains("spill"), "{said}");
    live.ends_well();
    server.ends_well();
}

/// Both kinds of no room: the file system's, and the bound that was set. The subscriber waits for
/// the next server, which has room, and has everything once.
#[test]
fn without_room_for_rows_a_server_ends_and_the_next_goes_on() {
    for bound in [false, true] {
        let flags: &[&str] = if bound {
            &["--spill-max", "256KiB"]
        } else {
            &[]
        };
        let flags = [&ROWS[..], &SOON, flags].concat();
        let Some((mut scene, small, mut server)) = full(&flags) else {
            return;
        };
        let (mut live, before) = subscribed(&mut scene);
        if !bound {
            small.fill();
        }
        let point = scene.points().pop().unwrap();
        let mut long = open_transaction(&scene);
        assert_eq!(server.ended(), Some(1), "{}", server.errors());
        let said = server.errors();
        let why = if bound {
            "exceed the bound"
        } else {
            "No space left"
        };
        assert!(
            said.contains("cannot be written to spill storage") && said.contains(why),
            "{said}"
        );
        compare(&before, &live.printed()).unwrap();
        if !bound {
            small.free();
        }
        long.run("commit;").unwrap();
        let mut command = scene.command(&scene.primary);
        let mut server = Background::start(command.args(ROWS));
        ready(&mut server);
        let begun = begun(&server.errors());
        assert!(
            begun >= Some(lsn_of(&point)),
            "the last one is intact: {begun:?}"
        );
        let (expected, end) = catches_up(&mut scene, &mut live);
        scene.closes(&expected, &end, &mut live, &mut server);
    }
}
