//! A log of events and controls, written item by item and cut into parts at will.

use bytes::Bytes;
use redostream_protocol::event::{
    EventHeader, EventKind, HEADER_BYTES, ToastPointer, flags, push_external, push_value,
};
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::{Lsn, Oid, TimelineId, Xid};

use crate::assembly::part::{
    Commit, Control, ControlKind, Finished, Part, Particulars, Run, Segment, segment_flags,
};

/// A repeatable source of randomness.
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

#[derive(Clone, Debug)]
pub(super) enum Item {
    Event {
        top: Xid,
        header: EventHeader,
        bytes: Vec<u8>,
    },
    Control(Control),
}

#[derive(Clone, Debug)]
pub(super) struct Log {
    pub(super) items: Vec<Item>,
    lsn: u64,
    pub(super) timeline: TimelineId,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            lsn: 0x1000,
            timeline: TimelineId(1),
        }
    }
}

/// What a payload is made of.
pub(super) enum Column<'a> {
    Value(&'a [u8]),
    Null,
    External(ToastPointer),
}

pub(super) fn payload(columns: &[Column<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for column in columns {
        match column {
            Column::Value(value) => push_value(&mut out, value),
            Column::Null => out.push(redostream_protocol::event::TAG_NULL),
            Column::External(pointer) => push_external(&mut out, *pointer),
        }
    }
    out
}

impl Log {
    /// Moves on to the next record.
    pub(super) fn record(&mut self) -> Lsn {
        self.lsn += 0x40;
        Lsn(self.lsn)
    }

    /// Adds an event at the current record.
    pub(super) fn event_at(&mut self, top: u32, row: u32, header: EventHeader, payload: &[u8]) {
        let header = EventHeader {
            size: (HEADER_BYTES + payload.len()) as u32,
            record_lsn: Lsn(self.lsn),
            row,
            ..header
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend_from_slice(payload);
        self.items.push(Item::Event {
            top: Xid(top),
            header,
            bytes,
        });
    }

    /// Adds an event in a record of its own.
    pub(super) fn event(&mut self, top: u32, header: EventHeader, payload: &[u8]) {
        self.record();
        self.event_at(top, 0, header, payload);
    }

    /// Adds an insert of one value.
    pub(super) fn insert(&mut self, top: u32, xid: u32, value: &[u8]) {
        let payload = payload(&[Column::Value(value)]);
        self.event(top, header(EventKind::Insert, xid, 1, 0), &payload);
    }

    /// Adds a chunk of a TOASTed value.
    pub(super) fn chunk(
        &mut self,
        top: u32,
        xid: u32,
        key: (u32, u32),
        sequence: u32,
        data: &[u8],
    ) {
        let mut payload = Vec::new();
        for number in [key.0, key.1, sequence] {
            payload.extend_from_slice(&number.to_le_bytes());
        }
        payload.extend_from_slice(data);
        self.event(top, header(EventKind::ToastChunk, xid, 0, 0), &payload);
    }

    pub(super) fn control(&mut self, kind: ControlKind) {
        let lsn = self.record();
        let end_lsn = lsn.add(0x30);
        self.items
            .push(Item::Control(Control { lsn, end_lsn, kind }));
    }

    pub(super) fn commit(&mut self, top: u32, subs: &[u32]) {
        let commit = self.commit_of(top, subs);
        self.control(ControlKind::Commit(commit));
    }

    pub(super) fn commit_of(&self, top: u32, subs: &[u32]) -> Commit {
        let particulars = Particulars {
            subs: subs.iter().map(|sub| Xid(*sub)).collect(),
            ..Particulars::default()
        };
        Commit {
            timeline: self.timeline,
            top: Xid(top),
            database: Oid(5),
            commit_time_us: -7_000_000 * i64::from(top),
            skip: false,
            particulars: particulars.boxed(),
        }
    }

    /// The log in parts of up to `part_items` items.
    pub(super) fn parts(&self, seed: u64, part_items: usize, checkpoints: bool) -> Vec<Part> {
        let mut random = Random(seed);
        let mut parts = Vec::new();
        let mut rest = &self.items[..];
        while !rest.is_empty() {
            let length = 1 + random.below(part_items as u64) as usize;
            let (items, others) = rest.split_at(length.min(rest.len()));
            rest = others;
            let mut part = part_of(items);
            if checkpoints && random.one_in(4) {
                part.controls.push(Control {
                    lsn: part.end,
                    end_lsn: part.end,
                    kind: ControlKind::Checkpoint(parts.len() as u64),
                });
            }
            parts.push(part);
        }
        parts
    }
}

/// A header whose place and size are filled in later. A row's relation depends on its xid.
pub(super) fn header(kind: EventKind, xid: u32, count: u16, flags: u8) -> EventHeader {
    EventHeader {
        size: 0,
        kind,
        flags,
        count,
        xid: Xid(xid),
        relation: RelationVersion(if kind as u8 <= 3 || kind == EventKind::SpeculativeInsert {
            1 + xid % 50
        } else {
            0
        }),
        record_lsn: Lsn(0),
        row: 0,
    }
}

fn flags_of(header: &EventHeader) -> u8 {
    match header.kind {
        EventKind::ToastChunk => segment_flags::TOAST,
        EventKind::SpeculativeInsert
        | EventKind::SpeculativeConfirm
        | EventKind::SpeculativeAbort => segment_flags::SPECULATIVE | segment_flags::TOAST,
        EventKind::Skipped => segment_flags::SKIPPED,
        EventKind::Message => segment_flags::MESSAGE,
        _ if header.flags & flags::HAS_EXTERNAL != 0 => segment_flags::TOAST,
        _ => 0,
    }
}

fn lsn_of(item: &Item) -> Lsn {
    match item {
        Item::Event { header, .. } => header.record_lsn,
        Item::Control(control) => control.lsn,
    }
}

/// What decoding would make of these items.
pub(super) fn part_of(items: &[Item]) -> Part {
    let mut part = Part {
        end: lsn_of(items.last().unwrap()).add(0x20),
        ..Part::default()
    };
    let mut tops: Vec<Xid> = Vec::new();
    for item in items {
        match item {
            Item::Event { top, .. } if !tops.contains(top) => tops.push(*top),
            Item::Event { .. } => {}
            Item::Control(control) => part.controls.push(control.clone()),
        }
    }
    let mut arena = Vec::new();
    for wanted in tops {
        let mut run = Run {
            top: wanted,
            segments: part.segments.len() as u32..0,
            bytes: arena.len() as u32..0,
            last: 0,
            events: 0,
            rows: 0,
            crc: 0,
            relations: part.relations.len() as u32..0,
            flags: 0,
            finished: None,
        };
        for item in items {
            let Item::Event { top, header, bytes } = item else {
                continue;
            };
            if *top != wanted {
                continue;
            }
            run.last = arena.len() as u32;
            arena.extend_from_slice(bytes);
            let flags = flags_of(header);
            let rows = u32::from(header.kind as u8 <= 3);
            let segments = &mut part.segments;
            match segments.get_mut(run.segments.start as usize..) {
                Some([.., last]) if last.xid == header.xid && last.flags == flags => {
                    last.bytes += header.size;
                    last.events += 1;
                    last.rows += rows;
                }
                _ => segments.push(Segment {
                    xid: header.xid,
                    bytes: header.size,
                    events: 1,
                    rows,
                    flags,
                }),
            }
            run.events += 1;
            run.rows += rows;
            run.flags |= flags;
            let known = &part.relations[run.relations.start as usize..];
            if header.relation.0 != 0 && !known.contains(&header.relation) {
                part.relations.push(header.relation);
            }
        }
        run.bytes.end = arena.len() as u32;
        run.segments.end = part.segments.len() as u32;
        run.relations.end = part.relations.len() as u32;
        run.crc = crc32fast::hash(&arena[run.bytes.start as usize..]);
        if run.flags & segment_flags::SPECIAL != 0 {
            let segments = &part.segments[run.segments.start as usize..];
            run.finished = Finished::largest(segments, run.bytes.start, &arena, 0);
        }
        part.runs.push(run);
    }
    part.arena = Bytes::from(arena);
    part
}
