//! The client against real servers.

mod access;
mod receiving;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redostream_engine::framing::format::WalFormat;
use redostream_engine::source::{
    FileSource, FileSourceOptions, RedoBuffer, Source, TimelineHistory, Upstream,
};
use redostream_protocol::{Lsn, TimelineId};
use redostream_testdata::account::Account;
use redostream_testdata::cluster::{Cluster, ClusterOptions, Stop};
use redostream_testdata::server::{MAJORS, Server};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::streaming::{NextTimeline, Progress, StreamStart, Timing, WalSink};
use super::*;

fn info(text: &str) -> Conninfo {
    Conninfo::parse_with(text, &|_| None).unwrap()
}

async fn open(text: &str) -> Result<Connection, UpstreamError> {
    Connection::open(&info(text), Purpose::Replication).await
}

async fn refused(text: &str) -> UpstreamError {
    match open(text).await {
        Ok(_) => panic!("{text} was let in"),
        Err(error) => error,
    }
}

fn running(major: u32, options: &ClusterOptions) -> Option<Cluster> {
    let server = Server::for_test(major)?;
    let mut cluster = Cluster::create(server, options).unwrap();
    cluster.start().unwrap();
    Some(cluster)
}

fn set_hba(cluster: &Cluster, lines: &str) {
    fs::write(cluster.data().join("pg_hba.conf"), lines).unwrap();
    Account::find()
        .unwrap()
        .give(&cluster.data().join("pg_hba.conf"))
        .unwrap();
    cluster.sql("postgres", "select pg_reload_conf()").unwrap();
}

fn with_tcp() -> ClusterOptions {
    ClusterOptions {
        tcp: true,
        ..ClusterOptions::default()
    }
}
