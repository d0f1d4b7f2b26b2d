//! Structures at moments that nobody chose: several sessions change a primary at random, replay on
//! its standby is paused now and then, and what the standby says of every table there is held
//! against ours as of that place of the log.
//!
//! `REDOSTREAM_SEED` repeats the statements of a run, not the places at which they meet each other
//! and replay; `REDOSTREAM_SEEDS` says how many runs follow each other.

use std::time::{Duration, Instant};

use redostream_testdata::cluster::{Cluster, ClusterOptions};
use redostream_testdata::generator::random::Random;
use redostream_testdata::generator::{Script, Size, generate};
use redostream_testdata::server::{MAJORS, Server};
use redostream_testdata::session::Session;
use redostream_testdata::statements;

use super::follower::{Follower, with_copy};
use super::lines::{Counted, Said, compare, lines_of, structures};
use super::random::seed;
use super::said::SESSION;

/// Fewer moments than this in a run would prove little.
const MOMENTS: usize = 8;

/// Sessions that change the structure of the same tables at random, and one that goes through every
/// form of statement.
fn script(seed: u64, major: u32) -> Script {
    let size = Size {
        sessions: 3,
        transactions: 400,
        shared_tables: 10,
        rows: 10,
        ..Size::default()
    };
    let mut script = generate(seed, major, size);
    let mut forms = "set lock_timeout = '500ms';\n".to_owned();
    for statement in statements::tables(major) {
        forms.push_str(&format!("{};\n", statement.sql));
    }
    script.sessions.push(forms);
    script
}

/// Stops replay where it is, asks, and lets it go on.
fn moment(standby: &mut Session) -> Said {
    standby.run("select pg_wal_replay_pause();").unwrap();
    let since = Instant::now();
    while standby
        .run("select pg_get_wal_replay_pause_state();")
        .unwrap()
        != "paused"
    {
        assert!(since.elapsed() < Duration::from_secs(60), "replay goes on");
        std::thread::sleep(Duration::from_millis(1));
    }
    let place = "select pg_last_wal_replay_lsn();";
    let lsn = standby.run(place).unwrap();
    let lines = structures(standby);
    assert_eq!(standby.run(place).unwrap(), lsn, "replay went on");
    standby.run("select pg_wal_replay_resume();").unwrap();
    Said {
        lsn: lsn.parse().unwrap(),
        viewer: None,
        after: "replay was paused".to_owned(),
        lines,
    }
}

/// What the standby said at moments while the script ran, and at its end.
fn moments(primary: &Cluster, standby: &Cluster, script: &Script) -> Vec<Said> {
    let mut random = Random::new(script.seed);
    let mut session = standby.session("d").unwrap();
    session.run(SESSION).unwrap();
    session.run("set lock_timeout = '500ms';").unwrap();
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let setup = std::slice::from_ref(&script.setup);
            primary.run_scripts("d", setup).unwrap();
            primary.run_scripts("d", &script.sessions).unwrap();
            let finish = std::slice::from_ref(&script.finish);
            primary.run_scripts("d", finish).unwrap();
        });
        while !running.is_finished() {
            let pause = u64::try_from(random.below(120)).unwrap();
            std::thread::sleep(Duration::from_millis(pause));
            all.push(moment(&mut session));
        }
    });
    let end = primary.flushed_lsn().unwrap();
    standby.wait_for_replay(&end).unwrap();
    all.push(moment(&mut session));
    all
}

fn run(major: u32, seed: u64) {
    let Some(server) = Server::for_test(major) else {
        return;
    };
    eprintln!("PostgreSQL {major}, REDOSTREAM_SEED={seed}");
    let options = ClusterOptions::default().with("autovacuum_naptime", "1s");
    let (primary, copy) = with_copy(server, &options, "");
    let waits = options.with("max_standby_streaming_delay", "-1");
    let standby = primary.standby(&waits).unwrap();
    let all = moments(&primary, &standby, &script(seed, major));

    let mut follower = Follower::new(&copy, &primary.data().join("pg_wal"), None);
    let database = follower.database_oid("d");
    let mut counted = Counted::default();
    let (mut told, mut tables) = (String::new(), 0);
    for said in &all {
        follower.follow(said.lsn);
        let ours = follower
            .catalog
            .describe_tables(database, None, &follower.transactions)
            .unwrap();
        tables += ours.len();
        let ours = lines_of(&ours, major as u16);
        if let Err(problem) = compare(&ours, said, &mut counted) {
            told.push_str(&problem);
        }
    }
    for (key, text) in &counted.unknown {
        eprintln!("unknown: {key}: {text}");
    }
    eprintln!("PostgreSQL {major}, seed {seed}: {tables} tables, {counted}");
    assert!(told.is_empty(), "REDOSTREAM_SEED={seed}\n{told}");
    assert!(counted.places >= MOMENTS, "too few moments");
}

#[test]
fn structures_where_a_standby_stands() {
    let seeds = std::env::var("REDOSTREAM_SEEDS").ok();
    let seeds = seeds.map_or(1, |seeds| seeds.parse().unwrap());
    let first = seed();
    for seed in (0..seeds).map(|next| first.wrapping_add(next)) {
        for major in MAJORS {
            run(major, seed);
        }
    }
}
