//! Positions: every one of them is a place to go on from, at any server of the cluster, whatever
//! became of the client or the server before.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redostream_client::protocol::control::From as Place;
use redostream_client::protocol::wire::FaultCode;
use redostream_client::{ClientError, Control, Subscription};
use redostream_server::session::{FileStore, SubscriptionStore};
use redostream_testdata::decoder::run_to_end;
use redostream_testdata::generator::random::Random;

use crate::files::{FileServer, Recorded, all, next};
use crate::programs;

#[tokio::test(flavor = "multi_thread")]
async fn every_event_of_a_recorded_stream_is_a_place_to_resume() {
    let recorded = Recorded::of(15, "sessions");
    let state = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = recorded.serve(state[0].path(), &["--decoders", "1"]);
    let other = recorded.serve(state[1].path(), &["--decoders", "3", "--buffer", "1MiB"]);
    let whole = all(recorded.options(&[&first])).await.unwrap();
    assert!(whole.len() > 500, "only {} events", whole.len());
    assert!(all(recorded.options(&[&other])).await.unwrap() == whole);
    let mut options = recorded.options(&[&other]);
    for (number, event) in whole.iter().enumerate() {
        options.from = Some(Place::Position(event.position));
        options.streams = 1 + (number % 3) as u16;
        let rest = all(options.clone()).await.unwrap();
        assert!(rest == whole[number + 1..], "after {}", event.position);
    }
}

fn number(variable: &str, otherwise: usize) -> usize {
    let text = std::env::var(variable).ok();
    text.map_or(otherwise, |text| text.parse().unwrap())
}

/// `REDOSTREAM_BASE`, `REDOSTREAM_WAL` and `REDOSTREAM_END` name a large log; else a recorded one
/// stands in, whose feed is made so small that catch-up pipelines serve most places.
#[tokio::test(flavor = "multi_thread")]
async fn random_places_of_a_large_stream() {
    let (recorded, places) = (Recorded::of(15, "demo"), number("REDOSTREAM_PLACES", 12));
    let path = |variable| std::env::var_os(variable).map(PathBuf::from);
    let state = tempfile::tempdir().unwrap();
    let more = ["--buffer", "1MiB"];
    let server = match (path("REDOSTREAM_BASE"), path("REDOSTREAM_WAL")) {
        (Some(base), Some(wal)) => FileServer::start(&base, &wal, state.path(), &more),
        _ => recorded.serve(state.path(), &more),
    };
    let mut options = recorded.options(&[&server]);
    if let Ok(end) = std::env::var("REDOSTREAM_END") {
        options.until = Some(end.parse().unwrap());
    }
    let whole = all(options.clone()).await.unwrap();
    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64;
    let seed = number("REDOSTREAM_SEED", seed as usize) as u64;
    println!("REDOSTREAM_SEED={seed}, {} events", whole.len());
    let mut random = Random::new(seed);
    let began = Instant::now();
    for count in 0..places {
        let number = random.below(whole.len());
        options.from = Some(Place::Position(whole[number].position));
        let mut subscription = Subscription::open(options.clone()).await.unwrap();
        // The rest of a few; of the others what comes next.
        let enough = if count % 20 == 0 { usize::MAX } else { 3000 };
        let rest = &whole[number + 1..];
        for wanted in rest.iter().take(enough) {
            let found = next(&mut subscription).await.unwrap();
            assert_eq!(
                found.as_ref(),
                Some(wanted),
                "after {}",
                whole[number].position
            );
        }
        if rest.len() <= enough {
            assert_eq!(next(&mut subscription).await.unwrap(), None);
        }
    }
    println!("{places} places in {:?}", began.elapsed());
}

fn subscribe(servers: &str, more: &[&str]) -> Command {
    let mut command = Command::new(programs::client());
    command.args(["subscribe", "--server", servers, "--format", "json"]);
    command.args(more);
    command
}

/// Whole lines of what was printed.
fn whole_lines(printed: &[u8]) -> Vec<String> {
    let end = printed
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let text = std::str::from_utf8(&printed[..end]).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn position_of(line: &str) -> String {
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    line["position"].as_str().unwrap().to_owned()
}

/// Kills a client when it has printed so many lines; gives all whole ones.
fn kill_after(command: &mut Command, lines: usize) -> Vec<String> {
    let command = command.stdin(Stdio::null()).stderr(Stdio::null());
    let mut client = command.stdout(Stdio::piped()).spawn().unwrap();
    // What is not read holds the client up.
    let mut output = BufReader::new(client.stdout.take().unwrap());
    let mut printed = Vec::new();
    for _ in 0..lines {
        output.read_until(b'\n', &mut printed).unwrap();
    }
    client.kill().unwrap();
    output.read_to_end(&mut printed).unwrap();
    client.wait().unwrap();
    whole_lines(&printed)
}

/// Kills the client at random lines, `REDOSTREAM_KILLS` times; `REDOSTREAM_BASE`, `REDOSTREAM_WAL`
/// and `REDOSTREAM_END` name another log than the recorded one, perhaps of one huge transaction.
#[test]
fn a_client_killed_anywhere_goes_on_after_its_last_line() {
    let recorded = Recorded::of(15, "bulk");
    let path = |variable| std::env::var_os(variable).map(PathBuf::from);
    let state = tempfile::tempdir().unwrap();
    let server = match (path("REDOSTREAM_BASE"), path("REDOSTREAM_WAL")) {
        (Some(base), Some(wal)) => FileServer::start(&base, &wal, state.path(), &[]),
        _ => recorded.serve(state.path(), &[]),
    };
    let end = std::env::var("REDOSTREAM_END").unwrap_or_else(|_| recorded.end.clone());
    let until = ["--until", &end];
    let at_once = Duration::from_secs(300);
    let mut whole = subscribe(&server.control, &["--from", "earliest"]);
    let whole = run_to_end(whole.args(until), at_once).unwrap();
    assert_eq!(whole.status, Some(0), "{}", whole.errors);
    let whole = whole_lines(&whole.printed);
    let rows = whole.len();

    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64;
    let seed = number("REDOSTREAM_SEED", seed as usize) as u64;
    println!("REDOSTREAM_SEED={seed}, {rows} lines");
    let mut random = Random::new(seed);
    let kills = number("REDOSTREAM_KILLS", 6);
    let (mut inside, mut joined) = (0, Vec::new());
    for kill in 0..kills {
        let from = joined
            .last()
            .map_or("earliest".to_owned(), |line: &String| position_of(line));
        let mut command = subscribe(&server.control, &["--from", &from, "--until", &end]);
        // On average the kills are spread over all of it.
        let lines = random.below(2 * (rows - joined.len()) / (kills - kill + 1) + 1);
        joined.extend(kill_after(&mut command, lines));
        let last = joined
            .last()
            .map(|line| serde_json::from_str::<serde_json::Value>(line));
        let kind = last.map(|line| line.unwrap()["kind"].as_str().unwrap().to_owned());
        inside += usize::from(kind.is_some_and(|kind| kind != "commit"));
    }
    let from = joined
        .last()
        .map_or("earliest".to_owned(), |line| position_of(line));
    let mut rest = subscribe(&server.control, &["--from", &from]);
    let rest = run_to_end(rest.args(until), at_once).unwrap();
    assert_eq!(rest.status, Some(0), "{}", rest.errors);
    joined.extend(whole_lines(&rest.printed));
    assert!(joined == whole, "{} lines instead of {rows}", joined.len());
    println!("{kills} kills, {inside} of them inside a transaction");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_outlive_the_server_and_clients_change_over() {
    let recorded = Recorded::of(15, "tpcb");
    let state = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut first = recorded.serve(state[0].path(), &[]);
    let second = recorded.serve(state[1].path(), &[]);
    let whole = all(recorded.options(&[&first])).await.unwrap();

    let mut options = recorded.options(&[&first]);
    options.name = Some("billing".to_owned());
    let mut subscription = Subscription::open(options.clone()).await.unwrap();
    let mut last = None;
    for wanted in &whole[..1000] {
        last = next(&mut subscription).await.unwrap();
        assert_eq!(last.as_ref(), Some(wanted));
    }
    let position = last.unwrap().position;
    subscription.acknowledge(position).await.unwrap();

    // Somebody else cannot have the name while it is used.
    let refused = Subscription::open(options.clone()).await.err().unwrap();
    assert!(
        matches!(&refused, ClientError::Fault(fault) if fault.code == FaultCode::NameInUse),
        "{refused}"
    );
    subscription.close().await;
    let mut control = Control::connect(&first.control, None, None).await.unwrap();
    let known = control.subscriptions().await.unwrap();
    assert_eq!(known[0].name, "billing");
    assert_eq!(known[0].position, position.to_string());

    // The server is killed and started again: the name goes on where it was, as soon as that has
    // reached the disk.
    let since = Instant::now();
    let store = FileStore::open(state[0].path().join("subscriptions")).unwrap();
    while store.load().unwrap()[0].position != position {
        assert!(since.elapsed() < Duration::from_secs(30), "it never does");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    first.process.kill();
    let mut first = recorded.serve(state[0].path(), &[]);
    let mut again = recorded.options(&[&first]);
    again.name.clone_from(&options.name);
    again.from = None;
    let rest = all(again).await.unwrap();
    assert!(
        rest == whole[1000..],
        "{} events instead of {}",
        rest.len(),
        whole.len() - 1000
    );
    let mut control = Control::connect(&first.control, None, None).await.unwrap();
    control.drop_subscription("billing").await.unwrap();
    assert!(control.subscriptions().await.unwrap().is_empty());

    // One server of two goes away in the middle: the client changes over, exactly once each.
    let mut options = recorded.options(&[&first, &second]);
    options.reconnect = true;
    options.window_bytes = 64 * 1024;
    let mut subscription = Subscription::open(options).await.unwrap();
    let mut events = Vec::new();
    while let Some(event) = next(&mut subscription).await.unwrap() {
        events.push(event);
        if events.len() == 2000 {
            first.process.kill();
        }
    }
    assert!(
        events == whole,
        "{} events instead of {}",
        events.len(),
        whole.len()
    );
    assert!(subscription.totals().reconnects > 0);
}

/// The library's rows are those of the JSON lines.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_the_library_are_what_is_printed() {
    for name in ["types", "toast", "identity"] {
        let recorded = Recorded::of(15, name);
        let state = tempfile::tempdir().unwrap();
        let server = recorded.serve(state.path(), &[]);
        let lines = ["--from", "earliest", "--until", &recorded.end];
        let printed = run_to_end(
            &mut subscribe(&server.control, &lines),
            Duration::from_secs(60),
        );
        let lines = whole_lines(&printed.unwrap().printed);
        let mut subscription = Subscription::open(recorded.options(&[&server]))
            .await
            .unwrap();
        let mut rows = 0;
        for line in &lines {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let change = subscription.next_event().await.unwrap().unwrap();
            assert_eq!(line["position"], change.position.to_string());
            let (old, new) = change.rows().unwrap();
            for (row, key) in [(old, "old"), (new, "new")] {
                let Some(row) = row else { continue };
                let object = serde_json::Value::Object(row.to_json().unwrap());
                assert_eq!(object, line[key], "{line}");
                for column in row.columns() {
                    row.get(column).unwrap();
                }
                rows += 1;
            }
        }
        assert!(rows > 20, "{name}: only {rows} rows");
    }
}

/// What names nothing is an error from the start, unless it may be missing.
#[test]
fn names_of_nothing_are_refused() {
    let recorded = Recorded::of(15, "tpcb");
    let state = tempfile::tempdir().unwrap();
    let server = recorded.serve(state.path(), &["--database", "app"]);
    let run = |words: &[&str]| {
        let mut command = subscribe(&server.control, &["--from", "earliest"]);
        command.args(["--until", &recorded.end]).args(words);
        run_to_end(&mut command, Duration::from_secs(60)).unwrap()
    };
    for (words, told) in [
        (&["--table", "public.nothing"][..], Some("public.nothing")),
        (&["--table", "nothing"], Some("nothing")),
        (&["--table", "other.accounts"], Some("other.accounts")),
        (&["--database", "nowhere"], Some("nowhere")),
        // It is there, but not served.
        (&["--database", "postgres"], Some("postgres")),
        (&["--table", "public.nothing", "--allow-missing"], None),
        (&["--table", "public.nothing*"], None),
        (&["--table", "accounts"], None),
        (&["--database", "app", "--table", "public.accounts"], None),
    ] {
        let ended = run(words);
        match told {
            Some(name) => {
                let said = server.process.errors();
                assert_eq!(ended.status, Some(2), "{words:?}: {}\n{said}", ended.errors);
                assert!(ended.errors.contains(name), "{}", ended.errors);
            }
            None => assert_eq!(ended.status, Some(0), "{words:?}: {}", ended.errors),
        }
    }
    let probe = |from: &str| {
        let mut command = Command::new(programs::client());
        command.args([
            "probe",
            "--server",
            &server.control,
            "--format",
            "json",
            "--from",
            from,
        ]);
        let ended = run_to_end(&mut command, Duration::from_secs(60)).unwrap();
        let reply: serde_json::Value = serde_json::from_slice(&ended.printed).unwrap();
        (ended.status, reply)
    };
    let (status, reply) = probe("earliest");
    assert_eq!(
        (status, &reply["servable"]),
        (Some(0), &true.into()),
        "{reply}"
    );
    let oldest = reply["oldest"].as_str().unwrap().to_owned();
    assert_eq!(probe(&oldest).0, Some(0));
    for (from, why) in [("0/1000", "older"), ("7:0/9000000:0/9000000:0", "timeline")] {
        let (status, reply) = probe(from);
        assert_eq!(
            (status, &reply["servable"]),
            (Some(4), &false.into()),
            "{reply}"
        );
        assert!(reply["reason"].as_str().unwrap().contains(why), "{reply}");
        assert_eq!(reply["oldest"], oldest);
        let mut command = subscribe(&server.control, &["--from", from]);
        let refused = run_to_end(&mut command, Duration::from_secs(60)).unwrap();
        assert_eq!(refused.status, Some(4), "{}", refused.errors);
    }
}
