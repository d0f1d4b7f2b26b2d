//! What sessions ask of a live server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redostream_engine::catalog::CatalogSnapshot;
use redostream_engine::pipeline::STAGES;
use redostream_protocol::control::{From as Place, Start};
use redostream_protocol::schema::{Database, Relation, RelationVersion};
use redostream_protocol::wire::{Fault, FaultCode};
use redostream_protocol::{DatabaseOid, Position, TimelineId};

use super::Live;
use super::reader::LiveReader;
use crate::session::{BoxFuture, Opened, StartRequest, StatusSnapshot, StreamProvider};

/// 2000-01-01 00:00 UTC in microseconds since 1970.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// How long the pipeline may take to give out the catalogs.
const CATALOG_WAIT: Duration = Duration::from_secs(10);

/// The provider; shared by all sessions.
pub(crate) struct LiveProvider(pub(crate) Arc<Live>);

impl LiveProvider {
    /// Where a stream begins, or why it cannot.
    fn resolve(&self, request: &StartRequest) -> Result<Start, Fault> {
        let live = &self.0;
        let ours = live.setting.system_identifier;
        if let Some(theirs) = request.system_identifier
            && theirs != ours
        {
            let message = format!("the position is from cluster {theirs}, this is cluster {ours}");
            let mut fault = Fault::new(FaultCode::OtherCluster, message);
            fault.system_identifier = Some(ours);
            return Err(fault);
        }
        let Some(earliest) = *live.ready.borrow() else {
            let waits = live.counters.waits_for.lock().clone().unwrap_or_default();
            let message = format!("the server is not ready yet; it waits for {waits}");
            return Err(Fault::new(FaultCode::NotReady, message));
        };
        let start = match request.place {
            Place::Earliest => Start::At(earliest.commit_lsn),
            Place::Latest => Start::At(live.released().max(earliest.commit_lsn)),
            Place::Lsn(lsn) => Start::At(lsn),
            Place::Position(position) => {
                self.check_history(&position)?;
                Start::After(position)
            }
        };
        if start.lsn() < earliest.commit_lsn {
            let message = format!("{start} is older than the oldest position, {earliest}");
            let mut fault = Fault::new(FaultCode::PositionTooOld, message);
            fault.oldest = Some(earliest);
            return Err(fault);
        }
        Ok(start)
    }

    /// The catalogs as they are now; none if the pipeline does not say in time.
    fn current(&self) -> Option<Arc<CatalogSnapshot>> {
        let over = self.0.stop.is_stopped() || self.0.failure.lock().is_some();
        if over {
            return None;
        }
        let given = self.0.counters.catalog.ask(CATALOG_WAIT);
        if given.is_none() {
            tracing::warn!("the pipeline is too busy to say what is in the catalogs");
        }
        given
    }

    /// The databases that are served, as of `current`.
    fn served(&self, current: &CatalogSnapshot) -> Option<Vec<Database>> {
        let served = &self.0.setting.databases;
        let known = current.databases().inspect_err(
            |error| tracing::warn!(%error, "the databases cannot be read from the catalogs"),
        );
        let mut known = known.ok()?;
        known.retain(|database| {
            let name = database.name.lossy();
            served.is_empty() || served.iter().any(|served| *served == name)
        });
        Some(known)
    }

    /// Refuses a position of a fork that this server's history does not contain.
    fn check_history(&self, position: &Position) -> Result<(), Fault> {
        let ours = self.0.setting.source.timeline_at(position.commit_lsn);
        if position.timeline == ours {
            return Ok(());
        }
        let lsn = position.commit_lsn;
        let message = format!(
            "the position lies on timeline {}, but this server's history has timeline {ours} at {lsn}",
            position.timeline
        );
        let mut fault = Fault::new(FaultCode::Diverged, message);
        fault.lsn = Some(lsn);
        Err(fault)
    }
}

impl StreamProvider for LiveProvider {
    fn system_identifier(&self) -> u64 {
        self.0.setting.system_identifier
    }

    fn timeline(&self) -> TimelineId {
        match &self.0.setting.received {
            Some(received) if received.timeline() != TimelineId(0) => received.timeline(),
            _ => self.0.setting.source.timeline_at(self.0.released()),
        }
    }

    fn ready(&self) -> Option<Position> {
        *self.0.ready.borrow()
    }

    fn wait_ready(&self) -> BoxFuture<'_, ()> {
        let mut ready = self.0.ready();
        Box::pin(async move {
            // The sender lives as long as the server.
            let _ = ready.wait_for(Option::is_some).await;
        })
    }

    fn open(&self, request: &StartRequest) -> Result<Opened, Fault> {
        let start = self.resolve(request)?;
        let reader = LiveReader::open(&self.0, start)?;
        Ok(Opened {
            start,
            reader: Box::new(reader),
        })
    }

    fn relation(&self, version: RelationVersion) -> Option<Arc<Relation>> {
        let known = self.0.epoch().relations.relation(version);
        known.or_else(|| {
            let catch_ups = self.0.catch_ups.lock();
            let mut all = catch_ups.iter();
            all.find_map(|(_, relations)| relations.relation(version))
        })
    }

    fn status(&self) -> StatusSnapshot {
        let live = &self.0;
        let counters = &live.counters;
        let reached = live.reached();
        let received = live.setting.received.as_ref();
        let earliest = *live.ready.borrow();
        let failed = live.failure.lock().is_some();
        let state = match (failed, live.stop.is_stopped(), earliest) {
            (true, _, _) => "failed",
            (_, true, _) => "stopping",
            (_, _, Some(_)) => "ready",
            (_, _, None) => "starting",
        };
        let mut waiting_for: Vec<String> =
            live.counters.waits_for.lock().clone().into_iter().collect();
        waiting_for.extend(live.trouble.lock().clone());
        waiting_for.extend(live.saving.trouble());
        if let Some(received) = received
            && !received.is_connected()
        {
            let times = received.reconnects();
            waiting_for.push(format!("the upstream (connection lost {times} times)"));
        }
        if waiting_for.is_empty() {
            waiting_for.push(match (reached.lag_bytes(), live.gauges.busiest()) {
                (0, _) | (_, None) => "new WAL".to_owned(),
                (bytes, Some(stage)) => format!("{stage} ({bytes} bytes of WAL to go)"),
            });
        }
        let heard_us = received.map_or(0, |received| received.last_message_us());
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let seconds = |counter: &AtomicU64| get(counter) as f64 / 1e9;
        let times = counters.busy_ns.iter().zip(&counters.waiting_ns);
        let stages = STAGES
            .iter()
            .zip(times)
            .map(|(name, (busy, waiting))| ((*name).to_owned(), seconds(busy), seconds(waiting)));
        let [session, idle] = &live.gauges.session_ns;
        let further = [
            ("feed".to_owned(), seconds(&live.gauges.feed_ns), 0.0),
            ("session".to_owned(), seconds(session), seconds(idle)),
        ];
        StatusSnapshot {
            state: state.to_owned(),
            earliest,
            received: reached.received,
            decoded: reached.decoded,
            released: reached.released,
            lag_bytes: reached.lag_bytes(),
            lag_seconds: live
                .gauges
                .lag(reached.released, Instant::now())
                .as_secs_f64(),
            open_transactions: get(&counters.open_transactions),
            open_transaction_bytes: get(&counters.open_bytes),
            spilled_bytes: get(&counters.spilled_bytes),
            waiting_for,
            source_time_us: if heard_us == 0 {
                0
            } else {
                heard_us - POSTGRES_EPOCH_US
            },
            stages: stages.chain(further).collect(),
        }
    }

    fn describe(&self, database: &str, table: &str, at: Option<&str>) -> Result<String, Fault> {
        super::describe::describe(&self.0, database, table, at)
    }

    fn database(&self, database: DatabaseOid) -> Option<Database> {
        let databases = self.current()?.databases().ok()?;
        databases.into_iter().find(|known| known.oid == database)
    }

    fn database_exists(&self, name: &str) -> bool {
        let known = self.current().and_then(|current| self.served(&current));
        known.is_none_or(|known| {
            let mut names = known.iter().map(|database| &database.name);
            names.any(|known| known.as_bytes() == name.as_bytes())
        })
    }

    fn table_exists(&self, databases: &[String], schema: Option<&str>, table: &str) -> bool {
        let Some(current) = self.current() else {
            return true;
        };
        let Some(known) = self.served(&current) else {
            return true;
        };
        let wanted = |database: &Database| {
            let name = database.name.lossy();
            databases.is_empty() || databases.iter().any(|wanted| *wanted == name)
        };
        // A database that cannot be looked into (a template that is just being made) has none.
        let has = |database: &Database| {
            current
                .has_relation(database.oid, schema, table)
                .unwrap_or(false)
        };
        known.iter().filter(|database| wanted(database)).any(has)
    }

    fn columns_of(
        &self,
        databases: &[String],
        matches: &dyn Fn(&str, &str) -> bool,
    ) -> Option<Vec<Vec<String>>> {
        let current = self.current()?;
        let mut tables = Vec::new();
        for database in self.served(&current)? {
            let name = database.name.lossy();
            if databases.is_empty() || databases.iter().any(|wanted| *wanted == name) {
                // A database that cannot be looked into (see above) has none.
                let found = current.columns_of(database.oid, matches);
                tables.extend(found.unwrap_or_default());
            }
        }
        Some(tables)
    }

    fn probe(&self, request: &StartRequest) -> Result<(Position, String), Fault> {
        let start = self.resolve(request)?;
        let oldest = self.ready().unwrap_or_default();
        Ok((oldest, start.to_string()))
    }
}
