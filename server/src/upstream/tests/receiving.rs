//! What is received, through restarts and timeline switches.

use super::*;

/// A receiver at work.
struct Receiving {
    buffer: Arc<RedoBuffer>,
    upstream: Arc<Upstream>,
    state: Arc<ReceivedState>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), UpstreamError>>,
    start: Lsn,
}

const SLOT: &str = "redo_test";

impl Receiving {
    async fn from(cluster: &Cluster, start: Option<Lsn>, history: TimelineHistory) -> Self {
        let conninfo = Arc::new(info(&cluster.conninfo("postgres")));
        let mut connection = Connection::open(&conninfo, Purpose::Replication)
            .await
            .unwrap();
        let identity = connection.identify_system().await.unwrap();
        connection.close().await;
        let start = start.unwrap_or(identity.flushed);
        let options = ReceiverOptions {
            slot: Some(SLOT.to_owned()),
            status_interval: Duration::from_millis(100),
            backoff: (Duration::from_millis(50), Duration::from_millis(500)),
            ..ReceiverOptions::new(conninfo, identity.system_identifier, start)
        };
        let buffer = Arc::new(RedoBuffer::new(512 * 1024 * 1024));
        let upstream = Arc::new(Upstream::new(history));
        let receiver = Receiver::new(options, Arc::clone(&buffer), Arc::clone(&upstream));
        let (stop, stopping) = watch::channel(false);
        Self {
            buffer,
            upstream,
            state: receiver.state(),
            stop,
            task: tokio::spawn(receiver.run(stopping)),
            start,
        }
    }

    async fn until(&self, what: &str, reached: impl Fn(&ReceivedState) -> bool) {
        let began = Instant::now();
        while !reached(&self.state) {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{what}: {:?}",
                self.state
            );
            assert!(!self.task.is_finished(), "the receiver ended");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn until_received(&self, lsn: Lsn) {
        self.until("received", |state| state.received() >= lsn)
            .await;
    }

    /// Holds what was received against the server's files.
    fn compare(&self, cluster: &Cluster) {
        let history = self.upstream.history();
        let files = files_of(cluster, (*history).clone());
        let mut at = self.start;
        let end = self.state.received();
        let (mut ours, mut theirs) = (vec![0; 100_000], vec![0; 100_000]);
        while at < end {
            let wanted = end.bytes_since(at).min(100_000) as usize;
            let count = self.buffer.read(at, &mut ours[..wanted]);
            assert!(count > 0, "{at}");
            let mut compared = 0;
            while compared < count {
                let from = at.add(compared as u64);
                let (read, _) = files.read(from, &mut theirs[..count - compared]).unwrap();
                assert!(
                    ours[compared..compared + read] == theirs[..read],
                    "at {from}"
                );
                compared += read;
            }
            at = at.add(count as u64);
        }
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

fn files_of(cluster: &Cluster, history: TimelineHistory) -> FileSource {
    let control = cluster.sql(
        "postgres",
        "select system_identifier from pg_control_system()",
    );
    let bytes = cluster.sql(
        "postgres",
        "select setting::bigint from pg_settings where name = 'wal_segment_size'",
    );
    let size = redostream_engine::source::SegmentSize::new(bytes.unwrap().parse().unwrap());
    let major = u16::try_from(cluster.server.major).unwrap();
    FileSource::with_history(
        FileSourceOptions {
            directories: vec![cluster.data().join("pg_wal")],
            system_identifier: control.unwrap().parse().unwrap(),
            segment_size: size.unwrap(),
            page_magic: WalFormat::of_major(major).unwrap().page_magic,
            closed: false,
            restore: None,
        },
        history,
    )
}

fn lsn(text: &str) -> Lsn {
    text.parse().unwrap()
}

fn write(cluster: &Cluster, rows: u32) -> Lsn {
    let sql = format!(
        "create table if not exists t(a int, b text);
         insert into t select g, repeat('x', 100) from generate_series(1, {rows}) g;"
    );
    cluster.sql("postgres", &sql).unwrap();
    lsn(&cluster.flushed_lsn().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_received_is_what_the_primary_wrote() {
    for major in MAJORS {
        let options = ClusterOptions {
            segment_mib: if major == 16 { 1 } else { 16 },
            ..ClusterOptions::default()
        };
        let Some(mut cluster) = running(major, &options) else {
            continue;
        };
        let conninfo = info(&cluster.conninfo("postgres"));
        let mut connection = Connection::open(&conninfo, Purpose::Replication)
            .await
            .unwrap();
        assert_eq!(u32::from(connection.major_version().unwrap()), major);
        let size = connection.segment_size().await.unwrap();
        assert_eq!(size.bytes(), u64::from(options.segment_mib) << 20);
        let made = connection.ensure_slot(SLOT, &conninfo).await.unwrap();
        assert!(made.created && made.restart_lsn.is_some());
        let again = connection.ensure_slot(SLOT, &conninfo).await.unwrap();
        assert_eq!(
            (again.created, again.restart_lsn),
            (false, made.restart_lsn)
        );
        connection.close().await;

        let history = TimelineHistory::single(TimelineId(1));
        let receiving = Receiving::from(&cluster, made.restart_lsn, history).await;
        let end = write(&cluster, 60_000);
        receiving.until_received(end).await;
        receiving.compare(&cluster);

        // Somebody else wants the slot.
        let error = start_once(&conninfo, Some(SLOT), end, 1).await.unwrap_err();
        assert!(matches!(error, UpstreamError::SlotInUse { .. }), "{error}");

        // The slot moves when it is told to, and we never count as a synchronous standby.
        receiving.state.set_not_needed_before(end);
        let moved = "select restart_lsn from pg_replication_slots";
        let began = Instant::now();
        while lsn(&cluster.sql("postgres", moved).unwrap()) != end {
            assert!(began.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let shown =
            "select flush_lsn is null, application_name, sync_state from pg_stat_replication";
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(
            cluster.sql("postgres", shown).unwrap(),
            "t|redostream|async"
        );

        // A shutdown does not wait for what we still retain.
        let began = Instant::now();
        cluster.restart(Stop::Fast).unwrap();
        assert!(began.elapsed() < Duration::from_secs(20));
        receiving
            .until("reconnected", |state| {
                state.reconnects() > 0 && state.is_connected()
            })
            .await;
        let end = write(&cluster, 1000);
        receiving.until_received(end).await;
        cluster.restart(Stop::Immediate).unwrap();
        let end = write(&cluster, 1000);
        receiving.until_received(end).await;
        receiving.compare(&cluster);
        receiving.stop().await;

        let mut connection = Connection::open(&conninfo, Purpose::Replication)
            .await
            .unwrap();
        // The server notices that we are gone when it next writes to us.
        while let Err(error) = connection.drop_slot(SLOT).await {
            assert!(matches!(error, UpstreamError::SlotInUse { .. }), "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let error = connection.drop_slot(SLOT).await.unwrap_err();
        assert!(
            matches!(error, UpstreamError::SlotMissing { .. }),
            "{error}"
        );
        println!("PostgreSQL {major}: done");
    }
}

/// Keeps nothing.
#[derive(Default)]
struct Dropping(Lsn);

impl WalSink for Dropping {
    fn wal(&mut self, lsn: Lsn, bytes: bytes::Bytes, _: Lsn) -> Result<(), UpstreamError> {
        self.0 = lsn.add(bytes.len() as u64);
        Ok(())
    }

    fn keepalive(&mut self, _: Lsn) {}

    fn progress(&self) -> Progress {
        Progress {
            received: self.0,
            ..Progress::default()
        }
    }
}

async fn start_once(
    info: &Conninfo,
    slot: Option<&str>,
    from: Lsn,
    timeline: u32,
) -> Result<NextTimeline, UpstreamError> {
    let mut connection = Connection::open(info, Purpose::Replication).await?;
    let (_keep, mut stop) = watch::channel(false);
    let start = StreamStart {
        slot,
        from,
        timeline: TimelineId(timeline),
    };
    let timing = Timing {
        status: Duration::from_secs(1),
        silence_max: Duration::from_secs(20),
    };
    connection
        .stream(start, &mut Dropping::default(), timing, &mut stop)
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_is_followed() {
    let options = ClusterOptions::default();
    let Some(mut primary) = running(15, &options) else {
        return;
    };
    write(&primary, 10);
    let standby = primary.standby(&options).unwrap();
    let conninfo = info(&standby.conninfo("postgres"));
    let history = TimelineHistory::single(TimelineId(1));
    let receiving = Receiving::from(&standby, None, history).await;
    let end = write(&primary, 20_000);
    receiving.until_received(end).await;
    assert_eq!(receiving.state.timeline(), TimelineId(1));
    primary.stop(Stop::Fast).unwrap();
    standby.promote().unwrap();
    let end = write(&standby, 20_000);
    receiving.until_received(end).await;
    assert_eq!(receiving.state.timeline(), TimelineId(2));
    assert_eq!(
        receiving.state.reconnects(),
        0,
        "the connection outlives the switch"
    );
    let switch = receiving.upstream.history().end_of(TimelineId(1)).unwrap();
    assert_eq!(receiving.upstream.forks_after(0), (1, Some(switch)));
    assert!(switch > receiving.start && switch < end);
    receiving.compare(&standby);
    receiving.stop().await;

    // From the old timeline's very end there is nothing to copy, only the next timeline's name.
    let next = start_once(&conninfo, None, switch, 1).await.unwrap();
    assert_eq!((next.timeline, next.at), (TimelineId(2), switch));
    let before = Lsn(switch.0 - 8192);
    let next = start_once(&conninfo, None, before, 1).await.unwrap();
    assert_eq!((next.timeline, next.at), (TimelineId(2), switch));

    // Who comes later learns the history, and gets the switched segment from the new timeline.
    let history = TimelineHistory::single(TimelineId(1));
    let receiving = Receiving::from(&standby, Some(before), history).await;
    receiving.until_received(end).await;
    receiving.compare(&standby);
    receiving.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_received_beyond_a_fork_is_taken_back() {
    let options = ClusterOptions::default();
    let Some(primary) = running(15, &options) else {
        return;
    };
    write(&primary, 10);
    let standby = primary.standby(&options).unwrap();
    let shared = write(&primary, 100);
    standby.wait_for_replay(&shared.to_string()).unwrap();
    // The standby is promoted while the primary goes on.
    standby.promote().unwrap();
    let lost = write(&primary, 20_000);
    let went_on = write(&standby, 30_000);
    let history = TimelineHistory::single(TimelineId(1));
    let receiving = Receiving::from(&primary, Some(shared), history).await;
    receiving.until_received(lost).await;
    let buffer = Arc::clone(&receiving.buffer);
    let upstream = Arc::clone(&receiving.upstream);
    receiving.stop().await;

    // The same buffer goes over to the promoted standby.
    let mut options = ReceiverOptions::new(
        Arc::new(info(&standby.conninfo("postgres"))),
        primary_identifier(&primary),
        lost,
    );
    options.slot = Some(SLOT.to_owned());
    let receiver = Receiver::new(options, Arc::clone(&buffer), Arc::clone(&upstream));
    let state = receiver.state();
    let (stop, stopping) = watch::channel(false);
    let task = tokio::spawn(receiver.run(stopping));
    let receiving = Receiving {
        buffer,
        upstream,
        state,
        stop,
        task,
        start: shared,
    };
    receiving
        .until("follows", |state| state.timeline() == TimelineId(2))
        .await;
    receiving.until_received(went_on).await;
    let (forks, at) = receiving.upstream.forks_after(0);
    assert_eq!(forks, 1);
    assert!(at.unwrap() < lost);
    receiving.compare(&standby);
    receiving.stop().await;
}

fn primary_identifier(cluster: &Cluster) -> u64 {
    let sql = "select system_identifier from pg_control_system()";
    cluster.sql("postgres", sql).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_go_on_is_said() {
    let Some(cluster) = running(15, &ClusterOptions::default().with("wal_level", "replica")) else {
        return;
    };
    let conninfo = Arc::new(info(&cluster.conninfo("postgres")));
    let end = write(&cluster, 10);
    let mut connection = Connection::open(&conninfo, Purpose::Replication)
        .await
        .unwrap();
    let error = connection.check_wal_level().await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("wal_level on the upstream is replica"),
        "{error}"
    );
    assert!(!error.may_pass());
    assert!(
        connection
            .timeline_history(TimelineId(9))
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(connection.read_slot("none", &conninfo).await.unwrap(), None);

    let error = start_once(&conninfo, Some("none"), end, 1)
        .await
        .unwrap_err();
    assert!(
        matches!(error, UpstreamError::SlotMissing { .. }),
        "{error}"
    );
    let error = start_once(&conninfo, None, Lsn(8192), 1).await.unwrap_err();
    assert!(matches!(error, UpstreamError::WalRemoved { .. }), "{error}");
    assert!(
        start_once(&conninfo, None, end.add(1 << 30), 1)
            .await
            .is_err()
    );

    let options = ReceiverOptions::new(Arc::clone(&conninfo), 1, end);
    let buffer = Arc::new(RedoBuffer::new(0));
    let upstream = Arc::new(Upstream::new(TimelineHistory::single(TimelineId(1))));
    let (_stop, stopping) = watch::channel(false);
    let ended = Receiver::new(options, buffer, upstream).run(stopping).await;
    let error = ended.unwrap_err();
    assert!(
        matches!(error, UpstreamError::OtherCluster { .. }),
        "{error}"
    );
}
