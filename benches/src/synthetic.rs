//! Logs and parts made in memory, for benches of single stages: no server, no files.

use std::sync::Arc;

use bytes::Bytes;
use redostream_engine::assembly::part::{
    Commit, Control, ControlKind, Part, Particulars, Run, Segment,
};
use redostream_engine::catalog::relation::{Attribute, Layout, Target};
use redostream_engine::decoding::merge::Tops;
use redostream_engine::decoding::task::Targets;
use redostream_engine::framing::chunk::{ChunkBuffers, FramedChunk, FramingRules, Span, Stop};
use redostream_engine::framing::crc::crc32c;
use redostream_engine::framing::format::WalFormat;
use redostream_engine::framing::framer::{Framer, Progress};
use redostream_engine::limits::WAL_PAGE_BYTES;
use redostream_protocol::event::{EventHeader, EventKind, HEADER_BYTES, push_value};
use redostream_protocol::schema::{
    Column, Database, Name, OutputFunction, Relation, RelationVersion, TypeDesc, TypeShape,
};
use redostream_protocol::{Lsn, Oid, TimelineId, Xid};

const SEGMENT: u64 = 16 << 20;
const START: u64 = SEGMENT;

/// WAL written record by record.
pub struct LogBuilder {
    bytes: Vec<u8>,
    last: u64,
}

impl LogBuilder {
    /// A log that begins with a segment.
    #[must_use]
    pub fn new() -> Self {
        LogBuilder {
            bytes: Vec::new(),
            last: START - 100,
        }
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn page_header(&mut self, rest: u32) {
        let at = START + self.bytes.len() as u64;
        let long = at.is_multiple_of(SEGMENT);
        let info = u16::from(rest > 0) | if long { 2 } else { 0 };
        self.bytes
            .extend_from_slice(&format().page_magic.to_le_bytes());
        self.bytes.extend_from_slice(&info.to_le_bytes());
        self.bytes.extend_from_slice(&1_u32.to_le_bytes());
        self.bytes.extend_from_slice(&at.to_le_bytes());
        self.bytes.extend_from_slice(&rest.to_le_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        if long {
            self.bytes.extend_from_slice(&7_u64.to_le_bytes());
            self.bytes
                .extend_from_slice(&(SEGMENT as u32).to_le_bytes());
            self.bytes
                .extend_from_slice(&(WAL_PAGE_BYTES as u32).to_le_bytes());
        }
    }

    /// Appends a record.
    pub fn push(&mut self, manager: u8, info: u8, xid: u32, payload: &[u8]) {
        if self.bytes.len().is_multiple_of(WAL_PAGE_BYTES) {
            self.page_header(0);
        }
        let lsn = START + self.bytes.len() as u64;
        let mut record = ((24 + payload.len()) as u32).to_le_bytes().to_vec();
        record.extend_from_slice(&xid.to_le_bytes());
        record.extend_from_slice(&self.last.to_le_bytes());
        record.extend_from_slice(&[info, manager, 0, 0]);
        let mut summed = payload.to_vec();
        summed.extend_from_slice(&record);
        record.extend_from_slice(&crc32c(&summed).to_le_bytes());
        record.extend_from_slice(payload);
        self.last = lsn;
        let mut rest = &record[..];
        while !rest.is_empty() {
            if self.bytes.len().is_multiple_of(WAL_PAGE_BYTES) {
                self.page_header(rest.len() as u32);
            }
            let room = WAL_PAGE_BYTES - self.bytes.len() % WAL_PAGE_BYTES;
            let (here, later) = rest.split_at(room.min(rest.len()));
            self.bytes.extend_from_slice(here);
            rest = later;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    /// Appends a record that has nothing but its resource manager's own data.
    pub fn push_main(&mut self, manager: u8, xid: u32, main: &[u8]) {
        let mut payload = vec![254];
        payload.extend_from_slice(&(main.len() as u32).to_le_bytes());
        payload.extend_from_slice(main);
        self.push(manager, 0, xid, &payload);
    }

    /// Appends an insert of a tuple into a page of `file`.
    pub fn insert(&mut self, xid: u32, file: u32, block: u32, columns: u16, values: &[u8]) {
        let mut payload = vec![0, 0x20];
        payload.extend_from_slice(&((5 + 1 + values.len()) as u16).to_le_bytes());
        for number in [1663, 5, file, block] {
            payload.extend_from_slice(&number.to_le_bytes());
        }
        payload.extend_from_slice(&[255, 3]);
        payload.extend_from_slice(&columns.to_le_bytes());
        // No nulls; the header is padded to 24 bytes.
        payload.extend_from_slice(&[0, 0, 24, 0]);
        payload.extend_from_slice(values);
        payload.extend_from_slice(&[1, 0, 1 << 3]);
        self.push(10, 0, xid, &payload);
    }

    /// Frames the whole log as one chunk.
    #[must_use]
    pub fn frame(&self, partitions: u32) -> FramedChunk {
        self.frame_in(partitions, ChunkBuffers::over(&self.bytes))
    }

    /// As [`Self::frame`], in buffers that hold the log's bytes.
    #[must_use]
    pub fn frame_in(&self, partitions: u32, buffers: ChunkBuffers) -> FramedChunk {
        let rules = FramingRules {
            timelines: None,
            format: format(),
            segment_bytes: SEGMENT,
            partitions,
        };
        let span = Span {
            start: Lsn(START),
            exact: false,
            end: Lsn(START + self.bytes.len() as u64),
        };
        let tracked = redostream_engine::catalog::tracked::TrackedFiles::default();
        let mut framer = Framer::new(rules, &tracked, span, buffers);
        assert_eq!(framer.run(), Progress::Done, "the log is whole");
        let chunk = framer.finish();
        assert_eq!(chunk.stop, Stop::End, "the log is right");
        chunk
    }
}

impl Default for LogBuilder {
    fn default() -> Self {
        Self::new()
    }
}

/// The version the logs are of.
///
/// # Panics
/// Never: the version is known.
#[must_use]
pub fn format() -> &'static WalFormat {
    WalFormat::of_major(15).expect("a supported version")
}

/// A table whose attributes have these lengths and alignments.
#[must_use]
pub fn table(version: u32, attributes: &[(i16, u8)]) -> Target {
    let data_type = Arc::new(TypeDesc {
        oid: Oid(25),
        schema: Name::from("pg_catalog"),
        name: Name::from("text"),
        formatted: Name::from("text"),
        length: -1,
        align: b'i',
        shape: TypeShape::Base(OutputFunction {
            symbol: "textout".to_owned(),
            library: String::new(),
        }),
    });
    let column = |number: usize| Column {
        number: number as i16 + 1,
        name: Name::from("c"),
        data_type: Arc::clone(&data_type),
        modifier: -1,
        not_null: false,
        key: false,
        generated: 0,
    };
    let stored = attributes
        .iter()
        .enumerate()
        .map(|(number, (length, align))| Attribute {
            length: *length,
            align: *align,
            storage: b'x',
            by_value: false,
            not_null: false,
            dropped: false,
            virtual_generated: false,
            needs_catalog: false,
            offset: None,
            column: Some(number as u16),
            missing: None,
        });
    Target::Table(Arc::new(Layout {
        relation: Arc::new(Relation {
            version: RelationVersion(version),
            database: Arc::new(Database::default()),
            oid: Oid(20000),
            schema: Name::from("public"),
            name: Name::from("t"),
            kind: b'r',
            replica_identity: b'd',
            structure: None,
            columns: (0..attributes.len()).map(column).collect(),
        }),
        attributes: stored.collect(),
        fixed: 0,
        toast: Oid(0),
        needs_catalog: false,
    }))
}

/// All files of a chunk are one table.
#[must_use]
pub fn targets(chunk: &FramedChunk, target: &Target) -> Targets {
    let target = Arc::new(target.clone());
    Targets {
        by_view: vec![vec![Some(target); chunk.files.len()]],
        ..Targets::default()
    }
}

/// Every group is a transaction of its own.
#[must_use]
pub fn tops(chunk: &FramedChunk) -> Tops {
    Tops::of(&chunk.groups, |group| group.xid)
}

/// Parts for assembly: transactions of so many rows, each begun and committed within its part.
pub struct Transactions {
    /// Transactions in a part.
    pub per_part: u32,
    /// Rows of each.
    pub rows: u32,
    /// Subtransactions that the rows of each are spread over; 0 for none.
    pub subtransactions: u32,
    next_xid: u32,
    next_lsn: u64,
}

impl Transactions {
    /// Parts of this shape.
    #[must_use]
    pub const fn new(per_part: u32, rows: u32, subtransactions: u32) -> Self {
        Transactions {
            per_part,
            rows,
            subtransactions,
            next_xid: 1000,
            next_lsn: 1 << 32,
        }
    }

    /// The next part, with a commit for each of its transactions if `committed`.
    pub fn part(&mut self, committed: bool) -> Part {
        let mut part = Part {
            relations: vec![RelationVersion(1)],
            ..Part::default()
        };
        let mut arena = Vec::new();
        for _ in 0..self.per_part {
            self.transaction(&mut part, &mut arena, committed);
        }
        self.next_lsn += 64;
        part.end = Lsn(self.next_lsn);
        part.arena = Bytes::from(arena);
        part.controls.sort_by_key(|control| control.lsn);
        part
    }

    fn transaction(&mut self, part: &mut Part, arena: &mut Vec<u8>, committed: bool) {
        let top = self.next_xid;
        self.next_xid += 1 + self.subtransactions;
        let (start, segments) = (arena.len() as u32, part.segments.len() as u32);
        let mut last = start;
        for row in 0..self.rows {
            let sub = match self.subtransactions {
                0 => 0,
                subs => 1 + row * subs / self.rows,
            };
            last = arena.len() as u32;
            self.next_lsn += 64;
            push_row(arena, Xid(top + sub), Lsn(self.next_lsn));
            let bytes = arena.len() as u32 - last;
            match part.segments.last_mut() {
                Some(segment) if row > 0 && segment.xid.0 == top + sub => {
                    segment.bytes += bytes;
                    segment.events += 1;
                    segment.rows += 1;
                }
                _ => part.segments.push(Segment {
                    xid: Xid(top + sub),
                    bytes,
                    events: 1,
                    rows: 1,
                    flags: 0,
                }),
            }
        }
        part.runs.push(Run {
            top: Xid(top),
            segments: segments..part.segments.len() as u32,
            bytes: start..arena.len() as u32,
            last,
            events: self.rows,
            rows: self.rows,
            crc: crc32fast::hash(&arena[start as usize..]),
            relations: 0..1,
            flags: 0,
            finished: None,
        });
        if committed {
            let control = self.commit(top);
            part.controls.push(control);
        }
    }

    /// The commit record of a transaction, behind everything made so far.
    pub fn commit(&mut self, top: u32) -> Control {
        self.next_lsn += 64;
        let subs = 1..=self.subtransactions;
        let particulars = Particulars {
            subs: subs.map(|sub| Xid(top + sub)).collect(),
            ..Particulars::default()
        };
        Control {
            lsn: Lsn(self.next_lsn),
            end_lsn: Lsn(self.next_lsn + 48),
            kind: ControlKind::Commit(Commit {
                timeline: TimelineId(1),
                top: Xid(top),
                database: Oid(5),
                commit_time_us: 0,
                skip: false,
                particulars: particulars.boxed(),
            }),
        }
    }
}

/// Appends an insert event of four small columns.
pub fn push_row(arena: &mut Vec<u8>, xid: Xid, record_lsn: Lsn) {
    let id = &record_lsn.0.to_le_bytes()[..4];
    let (number, large) = (7_i32.to_le_bytes(), 9_i64.to_le_bytes());
    push_insert(arena, xid, record_lsn, &[id, &number, b"some text", &large]);
}

/// Appends an insert of these values.
pub fn push_insert(arena: &mut Vec<u8>, xid: Xid, record_lsn: Lsn, values: &[&[u8]]) {
    let start = arena.len();
    arena.resize(start + HEADER_BYTES, 0);
    for value in values {
        push_value(arena, value);
    }
    let header = EventHeader {
        size: (arena.len() - start) as u32,
        kind: EventKind::Insert,
        flags: 0,
        count: values.len() as u16,
        xid,
        relation: RelationVersion(1),
        record_lsn,
        row: 0,
    };
    arena[start..start + HEADER_BYTES].copy_from_slice(&header.to_bytes());
}
