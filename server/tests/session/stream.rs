//! A random stream of events, honestly encoded, its blocks, and a provider that serves them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redostream_engine::feed::block::Block;
use redostream_protocol::control::{From as Place, Start, Until};
use redostream_protocol::event::{
    Event, EventHeader, EventKind, HEADER_BYTES, TAG_NULL, TransactionHeader, flags, push_value,
};
use redostream_protocol::schema::{
    Column, Database, OutputFunction, Relation, RelationVersion, TypeDesc, TypeShape,
};
use redostream_protocol::wire::Fault;
use redostream_protocol::{Cursor, Lsn, Oid, Position, TimelineId, Xid};
use redostream_server::session::{
    BlockEntry, BlockReader, BoxFuture, Opened, StartRequest, StatusSnapshot, StreamProvider,
};

pub(crate) const CLUSTER: u64 = 77;
const TIMELINE: TimelineId = TimelineId(1);

/// A small generator; its seed is all there is to a run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) position: Position,
    pub(crate) bytes: Vec<u8>,
    pub(crate) kind: EventKind,
    /// Number of its relation, 0 for none.
    pub(crate) relation: u32,
}

/// A transaction, or an event of its own (then without a header).
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) header: Option<Arc<TransactionHeader>>,
    pub(crate) begin: Vec<u8>,
    pub(crate) changes: Vec<Change>,
}

impl Unit {
    pub(crate) fn commit_lsn(&self) -> Lsn {
        match &self.header {
            Some(header) => header.commit_lsn,
            None => self.changes[0].position.commit_lsn,
        }
    }
}

fn event(
    kind: EventKind,
    bits: u8,
    count: u16,
    relation: u32,
    at: (u64, u32),
    payload: &[u8],
) -> Vec<u8> {
    let header = EventHeader {
        size: (HEADER_BYTES + payload.len()) as u32,
        kind,
        flags: bits,
        count,
        xid: Xid(700),
        relation: RelationVersion(relation),
        record_lsn: Lsn(at.0),
        row: at.1,
    };
    [&header.to_bytes()[..], payload].concat()
}

pub(crate) fn commit_event(lsn: Lsn, sent: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = (sent.len() as u64).to_le_bytes().to_vec();
    payload.extend_from_slice(&crc32fast::hash(&sent.concat()).to_le_bytes());
    event(EventKind::Commit, 0, 0, 0, (lsn.0, u32::MAX), &payload)
}

/// Tables `public.a` and `public.b` and `other.c` of `one`, `public.a` of `two`.
pub(crate) const TABLES: [(&str, &str, &str); 4] = [
    ("one", "public", "a"),
    ("one", "public", "b"),
    ("one", "other", "c"),
    ("two", "public", "a"),
];

fn relation(number: u32) -> Option<Arc<Relation>> {
    let (database, schema, name) = *TABLES.get(number.checked_sub(1)? as usize)?;
    let name_has_key = name != "b";
    let text = Arc::new(TypeDesc {
        oid: Oid(25),
        schema: "pg_catalog".into(),
        name: "text".into(),
        formatted: "text".into(),
        length: -1,
        align: b'i',
        shape: TypeShape::Base(OutputFunction {
            symbol: "textout".into(),
            library: String::new(),
        }),
    });
    let column = |number, name: &str| Column {
        number,
        name: name.into(),
        data_type: Arc::clone(&text),
        modifier: -1,
        not_null: false,
        // Of one table without a key.
        key: number == 1 && name_has_key,
        generated: 0,
    };
    Some(Arc::new(Relation {
        version: RelationVersion(number),
        database: Arc::new(Database {
            oid: Oid(if database == "one" { 1 } else { 2 }),
            name: database.into(),
            encoding: 6,
            major: 15,
        }),
        oid: Oid(1000 + number),
        schema: schema.into(),
        name: name.into(),
        kind: b'r',
        replica_identity: b'd',
        structure: None,
        columns: vec![column(1, "k"), column(2, "v"), column(3, "w")],
    }))
}

fn change(
    random: &mut Random,
    commit: Option<u64>,
    record: u64,
    tables: std::ops::Range<u64>,
) -> Change {
    let relation = (tables.start + random.below(tables.end - tables.start)) as u32;
    let size = match random.below(10) {
        0 => 3000,
        _ => random.below(60),
    };
    let mut tuple = Vec::new();
    push_value(&mut tuple, &record.to_le_bytes());
    push_value(&mut tuple, &vec![b'x'; size as usize]);
    tuple.push(TAG_NULL);
    let choice = if commit.is_none() {
        9
    } else {
        random.below(10)
    };
    let (kind, bits, count, number, payload) = match choice {
        0..=4 => (EventKind::Insert, 0, 3, relation, tuple),
        5 => {
            let both = [&tuple[..], &tuple[..]].concat();
            (EventKind::Update, flags::OLD_FULL, 3, relation, both)
        }
        6 => (EventKind::Delete, flags::OLD_KEY, 3, relation, tuple),
        7 => {
            let all: Vec<u8> = tables
                .flat_map(|table| (table as u32).to_le_bytes())
                .collect();
            (EventKind::Truncate, 0, (all.len() / 4) as u16, 0, all)
        }
        8 => (
            EventKind::Message,
            flags::TRANSACTIONAL,
            0,
            0,
            b"\x02\0\0\0abx".to_vec(),
        ),
        // Inside a transaction a message is the transaction's.
        _ if commit.is_some() => {
            let text = b"\x02\0\0\0abcontent".to_vec();
            (EventKind::Message, flags::TRANSACTIONAL, 0, 0, text)
        }
        _ => {
            let database = (1 + record / 100 % 2) as u32;
            let text = [&database.to_le_bytes()[..], b"\x02\0\0\0abcontent"].concat();
            (EventKind::Message, flags::DATABASE, 0, 0, text)
        }
    };
    Change {
        position: Position {
            timeline: TIMELINE,
            commit_lsn: Lsn(commit.unwrap_or(record)),
            record_lsn: Lsn(record),
            row: 0,
        },
        bytes: event(kind, bits, count, number, (record, 0), &payload),
        kind,
        relation: number,
    }
}

/// `count` transactions, sometimes with an event of its own between them.
pub(crate) fn units(random: &mut Random, count: usize, changes_max: u64) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut lsn = 1000;
    for _ in 0..count {
        if random.below(4) == 0 {
            lsn += 100;
            let alone = change(random, None, lsn, 1..2);
            units.push(Unit {
                header: None,
                begin: Vec::new(),
                changes: vec![alone],
            });
        }
        let changes = 1 + random.below(changes_max);
        let commit = lsn + 100 * (changes + 1);
        let second = random.below(3) == 0;
        let header = TransactionHeader {
            timeline: TIMELINE,
            commit_lsn: Lsn(commit),
            end_lsn: Lsn(commit + 8),
            xid: Xid(700),
            database: Oid(if second { 2 } else { 1 }),
            commit_time_us: 1,
            origin: None,
            gid: None,
        };
        let tables = if second { 4..5 } else { 1..4 };
        let make = |number| {
            change(
                random,
                Some(commit),
                lsn + 100 * (number + 1),
                tables.clone(),
            )
        };
        units.push(Unit {
            begin: event(
                EventKind::Begin,
                0,
                0,
                0,
                (0, 0),
                &postcard::to_stdvec(&header).unwrap(),
            ),
            changes: (0..changes).map(make).collect(),
            header: Some(Arc::new(header)),
        });
        lsn = commit;
    }
    units
}

/// Makes the first row of a transaction larger than frames are.
pub(crate) fn enlarge(unit: &mut Unit, bytes: usize) {
    let change = &mut unit.changes[0];
    let mut payload = Vec::new();
    push_value(&mut payload, &[1; 8]);
    push_value(&mut payload, &vec![7; bytes]);
    payload.push(TAG_NULL);
    let at = (change.position.record_lsn.0, 0);
    change.bytes = event(EventKind::Insert, 0, 3, 1, at, &payload);
    change.kind = EventKind::Insert;
    change.relation = 1;
}

/// The database that a message outside of transactions says it is of.
pub(crate) fn database_of(bytes: &[u8]) -> Option<Oid> {
    let event = Event::read(&mut Cursor::new(bytes)).unwrap();
    event.database()
}

/// What a filter makes of an event.
type Rewrite<'a> = dyn Fn(&Change, &Unit) -> Option<Vec<u8>> + 'a;

/// What should be sent: every event with its position.
pub(crate) fn expected(
    units: &[Unit],
    start: Start,
    until: Option<Until>,
    filter: Option<&Rewrite<'_>>,
) -> Vec<(Position, Vec<u8>)> {
    let mut out = Vec::new();
    let wanted = |at: &Position| start.admits(at) && until.is_none_or(|until| until.admits(at));
    for unit in units {
        let mut sent = Vec::new();
        let mut places = Vec::new();
        for change in unit
            .changes
            .iter()
            .filter(|change| wanted(&change.position))
        {
            let bytes = match filter {
                None => Some(change.bytes.clone()),
                Some(filter) => filter(change, unit),
            };
            if let Some(bytes) = bytes {
                sent.push(bytes);
                places.push(change.position);
            }
        }
        let Some(header) = &unit.header else {
            out.extend(places.into_iter().zip(sent));
            continue;
        };
        let begin = Position::begin(TIMELINE, header.commit_lsn);
        let commit = Position::commit(TIMELINE, header.commit_lsn);
        let remains = filter.is_none() || !sent.is_empty();
        if wanted(&begin) && remains {
            out.push((begin, unit.begin.clone()));
        }
        out.extend(places.into_iter().zip(sent.iter().cloned()));
        if wanted(&commit) && (remains || !start.admits(&begin)) {
            out.push((commit, commit_event(header.commit_lsn, &sent)));
        }
    }
    out
}

/// The whole stream in blocks of random size.
pub(crate) fn blocks(random: &mut Random, units: &[Unit], events_max: u64) -> Vec<Arc<BlockEntry>> {
    let all = Start::At(Lsn(0));
    let mut blocks: Vec<Arc<BlockEntry>> = Vec::new();
    let mut block = Block::default();
    let mut room = 1 + random.below(events_max);
    let mut close = |block: &mut Block| {
        if block.events > 0 {
            block.wal_end = match block.last.row {
                Position::COMMIT_ROW => block.last.commit_lsn.add(8),
                _ => block.last.commit_lsn,
            };
            blocks.push(Arc::new(BlockEntry::new(std::mem::take(block))));
        }
    };
    for unit in units {
        let mut begun = false;
        for (position, bytes) in expected(std::slice::from_ref(unit), all, None, None) {
            let large = bytes.len() > 1_000_000;
            if room == 0 || large {
                close(&mut block);
                room = 1 + random.below(events_max);
            }
            if block.events == 0 {
                block.first = position;
                block.continues = unit.header.clone().filter(|_| begun);
            }
            begun = true;
            block.last = position;
            block.events += 1;
            room -= 1;
            let change = unit
                .changes
                .iter()
                .find(|change| change.position == position);
            if position.row == Position::COMMIT_ROW {
                block.transactions += 1;
            }
            if let Some(change) = change {
                let row = matches!(
                    change.kind,
                    EventKind::Insert | EventKind::Update | EventKind::Delete
                );
                block.rows += u64::from(row);
                let mut used = vec![change.relation];
                if change.kind == EventKind::Truncate {
                    let raw = change.bytes[HEADER_BYTES..].as_chunks::<4>().0;
                    used = raw.iter().map(|raw| u32::from_le_bytes(*raw)).collect();
                }
                for number in used.into_iter().filter(|number| *number != 0) {
                    if !block.relations.contains(&RelationVersion(number)) {
                        block.relations.push(RelationVersion(number));
                    }
                }
            }
            let database = match &unit.header {
                Some(header) => header.database,
                None => database_of(&bytes).unwrap(),
            };
            if !block.databases.contains(&database) {
                block.databases.push(database);
            }
            let bytes = Bytes::from(bytes);
            if large {
                let middle = bytes.len() / 3;
                block.pieces = vec![bytes.slice(..middle), bytes.slice(middle..)];
                close(&mut block);
                room = 1 + random.below(events_max);
            } else {
                block.pieces.push(bytes);
            }
        }
    }
    close(&mut block);
    blocks
}

/// Serves blocks that are all there.
pub(crate) struct Fixed {
    pub(crate) blocks: Vec<Arc<BlockEntry>>,
    /// Milliseconds between blocks.
    pub(crate) pause_ms: u64,
}

impl Fixed {
    fn end(&self) -> Lsn {
        self.blocks
            .last()
            .map_or(Lsn(0), |entry| entry.block.wal_end.add(100))
    }
}

struct Reader {
    blocks: Vec<Arc<BlockEntry>>,
    next: usize,
    end: Lsn,
    pause_ms: u64,
}

impl BlockReader for Reader {
    fn next(&mut self, timeout: Duration) -> Result<Option<Arc<BlockEntry>>, Fault> {
        std::thread::sleep(Duration::from_millis(self.pause_ms).min(timeout));
        let found = self.blocks.get(self.next).cloned();
        match found {
            Some(_) if self.pause_ms > 0 && timeout.is_zero() => return Ok(None),
            Some(_) => self.next += 1,
            None => std::thread::sleep(timeout.min(Duration::from_millis(20))),
        }
        Ok(found)
    }

    fn released(&self) -> Lsn {
        match self.next {
            next if next == self.blocks.len() => self.end,
            0 => Lsn(0),
            next => self.blocks[next - 1].block.wal_end,
        }
    }
}

impl StreamProvider for Fixed {
    fn system_identifier(&self) -> u64 {
        CLUSTER
    }

    fn timeline(&self) -> TimelineId {
        TIMELINE
    }

    fn ready(&self) -> Option<Position> {
        Some(Position::begin(TIMELINE, Lsn(1)))
    }

    fn wait_ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn open(&self, request: &StartRequest) -> Result<Opened, Fault> {
        let start = match request.place {
            Place::Earliest => Start::At(Lsn(1)),
            Place::Latest => Start::At(self.end()),
            Place::Position(position) => Start::After(position),
            Place::Lsn(lsn) => Start::At(lsn),
        };
        let next = self
            .blocks
            .partition_point(|entry| !start.admits(&entry.block.last));
        // A block too early now and then: the session leaves out what is before its start.
        let next = next.saturating_sub(next % 2);
        let reader = Reader {
            blocks: self.blocks.clone(),
            next,
            end: self.end(),
            pause_ms: self.pause_ms,
        };
        Ok(Opened {
            start,
            reader: Box::new(reader),
        })
    }

    fn relation(&self, version: RelationVersion) -> Option<Arc<Relation>> {
        relation(version.0)
    }

    fn status(&self) -> StatusSnapshot {
        StatusSnapshot {
            released: self.end(),
            received: self.end(),
            ..Default::default()
        }
    }

    fn describe(&self, _: &str, _: &str, _: Option<&str>) -> Result<String, Fault> {
        Ok("{}".to_owned())
    }

    fn probe(&self, request: &StartRequest) -> Result<(Position, String), Fault> {
        Ok((Position::begin(TIMELINE, Lsn(1)), request.place.to_string()))
    }

    fn database(&self, database: Oid) -> Option<Database> {
        let number = if database.0 == 1 { 1 } else { 4 };
        relation(number).map(|relation| Database::clone(&relation.database))
    }

    fn columns_of(
        &self,
        databases: &[String],
        matches: &dyn Fn(&str, &str) -> bool,
    ) -> Option<Vec<Vec<String>>> {
        let there = TABLES.iter().filter(|(database, schema, table)| {
            (databases.is_empty() || databases.iter().any(|name| name == database))
                && matches(schema, table)
        });
        let columns = || ["k", "v", "w"].map(str::to_owned).to_vec();
        Some(there.map(|_| columns()).collect())
    }
}
