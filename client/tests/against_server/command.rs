//! The command, as a process.

use std::process::Output;

use redostream_client::protocol::wire::{Fault, FaultCode};

use crate::server::{Script, Server};

async fn redostream(line: &str) -> Output {
    let line = line.to_owned();
    let run = move || {
        std::process::Command::new(env!("CARGO_BIN_EXE_redostream"))
            .args(line.split_whitespace())
            .env_remove("REDOSTREAM_TOKEN")
            .output()
            .unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_and_counts() {
    let server = Server::start(Script::default()).await;
    let line = format!("subscribe --server {} --name n --stats", server.address);
    let output = redostream(&line).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines = text(&output.stdout);
    assert_eq!(lines.lines().count(), 180);
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["kind"], "begin");
    assert_eq!(first["system_identifier"], 77);
    let stats: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(
        (&stats["transactions"], &stats["rows"]),
        (&20.into(), &140.into())
    );
    assert_eq!(stats["wal_bytes"], 0x2400 - 0x100);
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    let last = last["position"].as_str().unwrap().parse().unwrap();
    server.seen.acknowledgement(last).await;
}

/// A cut may fall between a transaction's begin, which prints nothing by itself, and its first row.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_lines_after_a_cut() {
    for format in ["json", "test_decoding"] {
        let script = Script {
            events_per_block: 1,
            transactions: 2,
            ..Script::default()
        };
        let server = Server::start(script.clone()).await;
        let line =
            |server: &Server| format!("subscribe --server {} --format {format}", server.address);
        let whole = redostream(&line(&server)).await;
        assert!(!whole.stdout.is_empty());
        for cut in [1, 2, 5, 10] {
            let server = Server::start(Script {
                cut_after: Some(cut),
                ..script.clone()
            })
            .await;
            let output = redostream(&line(&server)).await;
            assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
            assert_eq!(
                text(&output.stdout),
                text(&whole.stdout),
                "cut after frame {cut}"
            );
            assert!(text(&output.stderr).contains("trying again"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_statuses() {
    let refuse = Some(Fault::new(
        FaultCode::PositionTooOld,
        "the log before it is gone",
    ));
    let refusing = Server::start(Script {
        refuse,
        ..Script::default()
    })
    .await;
    let output = redostream(&format!("subscribe --server {}", refusing.address)).await;
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(
        text(&output.stderr),
        "redostream: the log before it is gone\n"
    );
    let output = redostream("subscribe --server 127.0.0.1:1 --no-reconnect").await;
    assert_eq!(output.status.code(), Some(1));
    let output = redostream("subscribe --server a:1 --timezone Mars/Olympus").await;
    assert_eq!(output.status.code(), Some(2));
    let address = &refusing.address;
    let output = redostream(&format!(
        "describe --server {address} --table public.nothing"
    ))
    .await;
    assert_eq!(output.status.code(), Some(2));
    let output = redostream(&format!(
        "probe --server {address} --from 0/1 --format json"
    ))
    .await;
    assert_eq!(output.status.code(), Some(4));
    let probed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&probed["servable"], &probed["reason"]),
        (&false.into(), &"too old".into())
    );
    let output = redostream(&format!("probe --server {address} --from earliest")).await;
    assert_eq!(output.status.code(), Some(0));
    let output = redostream(&format!("status --server {address} --format json")).await;
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&status["state"], &status["earliest"]),
        (&"ready".into(), &().into())
    );
}
