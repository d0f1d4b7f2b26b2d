//! What fuzz targets and random tests reach into; not there otherwise.

use std::sync::Arc;
use std::time::Duration;

use redostream_protocol::control::{From as Place, Start, v1};
use redostream_protocol::schema::{Database, Relation, RelationVersion};
use redostream_protocol::wire::{Ack, Fault, FaultCode};
use redostream_protocol::{DatabaseOid, Lsn, Position, TimelineId};

use super::asked::Asked;
use super::filter::{Filter, Wish};
use super::limits::{INSTANCE_BYTES_MAX, NAME_BYTES_MAX};
use super::outgoing::Progress;
use super::{
    BlockEntry, BlockReader, BoxFuture, Grant, Opened, StartRequest, StatusSnapshot,
    StreamProvider, acknowledge,
};

/// Reads a request to open a session as the control plane does. What is let through is within its
/// bounds and within the grant.
pub fn read_request(
    request: &v1::OpenSessionRequest,
    grant: &Grant,
    provider: &Arc<dyn StreamProvider>,
) -> Result<(), Fault> {
    let asked = Asked::parse(request, grant, &**provider)?;
    assert!(request.name.len() <= NAME_BYTES_MAX && request.instance.len() <= INSTANCE_BYTES_MAX);
    assert!(asked.acknowledged.is_none() || request.goes_on);
    for database in &request.databases {
        assert!(grant.rule.databases.is_empty() || grant.rule.databases.contains(database));
    }
    for table in &request.tables {
        let plain = table.contains('.') && !table.contains(['*', '?']);
        assert!(!plain || grant.rule.tables.is_empty() || grant.rule.covers_table(table));
    }
    if let Some(Place::Position(position)) = asked.place {
        assert_eq!(position.to_string().parse(), Ok(position));
    }
    let filter = Filter::new(
        Arc::clone(provider),
        Wish {
            asked: asked.rule,
            granted: grant.rule.clone(),
            kinds: asked.kinds,
            columns: asked.columns,
        },
    );
    // Whoever may not see all is never without a filter.
    assert!(filter.is_some() || grant.rule.is_all());
    Ok(())
}

/// Takes an acknowledgement in a session that began at `start` and sent up to `sent`. What is kept of
/// it was said, and was sent or lies before the beginning.
pub fn take_ack(ack: &Ack, start: Start, sent: (Position, Lsn)) {
    let progress = Progress {
        position: sent.0,
        released: sent.1,
    };
    let Some(kept) = acknowledge::admitted(ack, start, progress) else {
        return;
    };
    let most = sent.1.max(sent.0.commit_lsn).max(start.lsn());
    assert!(kept.released <= most.max(ack.position.commit_lsn));
    assert!(kept.position <= ack.position);
    assert!(kept.released <= ack.released.max(ack.position.commit_lsn));
}

/// A server with one table, and nothing in the log.
#[derive(Debug)]
pub struct Empty;

struct Nothing;

impl BlockReader for Nothing {
    fn next(&mut self, _: Duration) -> Result<Option<Arc<BlockEntry>>, Fault> {
        Ok(None)
    }

    fn released(&self) -> Lsn {
        Lsn(1)
    }
}

impl StreamProvider for Empty {
    fn system_identifier(&self) -> u64 {
        7
    }

    fn timeline(&self) -> TimelineId {
        TimelineId(1)
    }

    fn ready(&self) -> Option<Position> {
        None
    }

    fn wait_ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn open(&self, _: &StartRequest) -> Result<Opened, Fault> {
        Ok(Opened {
            start: Start::At(Lsn(1)),
            reader: Box::new(Nothing),
        })
    }

    fn relation(&self, _: RelationVersion) -> Option<Arc<Relation>> {
        None
    }

    fn status(&self) -> StatusSnapshot {
        StatusSnapshot::default()
    }

    fn describe(&self, _: &str, _: &str, _: Option<&str>) -> Result<String, Fault> {
        Err(Fault::new(FaultCode::NotFound, "nothing is there"))
    }

    fn probe(&self, _: &StartRequest) -> Result<(Position, String), Fault> {
        Err(Fault::new(FaultCode::NotReady, "never"))
    }

    fn database(&self, _: DatabaseOid) -> Option<Database> {
        None
    }

    fn database_exists(&self, name: &str) -> bool {
        name == "one"
    }

    fn table_exists(&self, _: &[String], schema: Option<&str>, table: &str) -> bool {
        schema.is_none_or(|schema| schema == "public") && table == "a"
    }

    fn columns_of(
        &self,
        _: &[String],
        matches: &dyn Fn(&str, &str) -> bool,
    ) -> Option<Vec<Vec<String>>> {
        let columns = vec!["k".to_owned(), "v".to_owned()];
        let found = matches("public", "a").then_some(columns);
        Some(found.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Rule;

    const PLACES: [&str; 5] = ["", "earliest", "0/16B3748", "1:0/16B3748:0/16B3700:2", "x"];
    const TABLES: [&str; 6] = ["public.a", "a", "public.*", "p*.?", "public.b", "."];

    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }

        /// One of these words; now and then anything.
        fn text(&mut self, words: &[&str]) -> String {
            if self.below(30) > 0 {
                return words[self.below(words.len() as u64) as usize].to_owned();
            }
            let length = self.below(400);
            let bytes: Vec<u8> = (0..length).map(|_| self.below(256) as u8).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }

        fn texts(&mut self, words: &[&str]) -> Vec<String> {
            let count = self.below(4).saturating_sub(1);
            (0..count).map(|_| self.text(words)).collect()
        }

        fn position(&mut self) -> Position {
            Position {
                timeline: TimelineId(self.below(3) as u32),
                commit_lsn: Lsn(self.below(100)),
                record_lsn: Lsn(self.below(100)),
                row: self.below(3) as u32,
            }
        }
    }

    fn random() -> Random {
        let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        println!("seed {seed}");
        Random(seed | 1)
    }

    /// Requests with anything in their fields: refused with a word, or within bounds and grant.
    #[test]
    fn any_request_is_refused_or_within_its_bounds() {
        let mut random = random();
        let provider: Arc<dyn StreamProvider> = Arc::new(Empty);
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let (databases, tables) = match random.below(3) {
                0 => (vec![], vec![]),
                1 => (vec!["one".to_owned()], vec!["public.a".to_owned()]),
                _ => (vec![], vec!["p*.?".to_owned()]),
            };
            let grant = Grant {
                token: "token".to_owned(),
                rule: Rule::parse(&databases, &tables, &[]).unwrap(),
            };
            let request = v1::OpenSessionRequest {
                name: random.text(&["", "cdc"]),
                from: random.text(&PLACES),
                until: random.text(&["", "0/16B3748"]),
                databases: random.texts(&["one", "one", "two"]),
                tables: random.texts(&TABLES),
                exclude_tables: random.texts(&TABLES),
                kinds: random.texts(&["insert", "ddl", "begin"]),
                allow_missing: random.below(2) == 0,
                streams: random.below(40) as u32,
                compression: random.below(9) as i32 - 3,
                system_identifier: [0, 7, 8][random.below(3) as usize],
                instance: random.text(&["", "bytes"]).into_bytes(),
                client_version: random.text(&["1"]),
                columns: random
                    .texts(&TABLES)
                    .into_iter()
                    .map(|table| v1::ColumnList {
                        table,
                        columns: vec!["k".to_owned()],
                    })
                    .collect(),
                goes_on: random.below(2) == 0,
                acknowledged: random.text(&PLACES),
            };
            match read_request(&request, &grant, &provider) {
                Ok(()) => taken += 1,
                Err(fault) => {
                    assert!(!fault.message.is_empty());
                    refused += 1;
                }
            }
        }
        assert!(taken > 100 && refused > 100, "{taken} and {refused}");
    }

    #[test]
    fn what_is_kept_of_an_acknowledgement_was_said_and_sent() {
        let mut random = random();
        for _ in 0..100_000 {
            let ack = Ack {
                position: random.position(),
                released: Lsn(random.below(100)),
            };
            let start = match random.below(2) {
                0 => Start::At(Lsn(random.below(100))),
                _ => Start::After(random.position()),
            };
            take_ack(&ack, start, (random.position(), Lsn(random.below(100))));
        }
    }
}
