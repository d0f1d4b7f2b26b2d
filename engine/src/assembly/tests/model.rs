//! What is to be released, by the plainest means: a list of events per transaction.

use std::collections::{BTreeMap, BTreeSet};

use redostream_protocol::event::{
    ColumnValue, CompressionMethod, Event, EventHeader, EventKind, HEADER_BYTES, TAG_NULL,
    TAG_UNCHANGED, TransactionHeader, flags, push_compressed, push_value,
};
use redostream_protocol::schema::RelationVersion;
use redostream_protocol::{Cursor, Lsn, Position, Xid};

use super::log::{Item, Log};
use crate::assembly::part::{Commit, Control, ControlKind};

#[derive(Default)]
struct Open {
    events: Vec<(EventHeader, Vec<u8>)>,
    prepared: bool,
}

/// The bytes of all released events.
pub(super) fn released(log: &Log) -> Vec<u8> {
    let mut open: BTreeMap<Xid, Open> = BTreeMap::new();
    let mut aborted: BTreeSet<Xid> = BTreeSet::new();
    let mut out = Vec::new();
    for item in &log.items {
        let control = match item {
            Item::Event { top, header, bytes } => {
                let entry = open.entry(*top).or_default();
                entry.events.push((*header, bytes.clone()));
                continue;
            }
            Item::Control(control) => control,
        };
        match &control.kind {
            ControlKind::Commit(commit) => {
                if let Some(open) = open.remove(&commit.top)
                    && !commit.skip
                {
                    let kept = open.events.into_iter().filter(|(header, _)| {
                        header.xid == commit.top
                            || commit.subs().contains(&header.xid) && !aborted.contains(&header.xid)
                    });
                    write(&mut out, control, commit, &finished(kept));
                }
            }
            ControlKind::Abort { top } => drop(open.remove(top)),
            ControlKind::AbortSubtransactions { subs, .. } => aborted.extend(subs),
            ControlKind::Prepare { top } => {
                if let Some(open) = open.get_mut(top) {
                    open.prepared = true;
                }
            }
            ControlKind::GoneBefore(xid) => {
                open.retain(|top, open| open.prepared || !top.precedes(*xid));
            }
            ControlKind::AllGone => open.retain(|_, open| open.prepared),
            ControlKind::Standalone { event, .. } => out.extend_from_slice(event),
            ControlKind::Checkpoint(_) => {}
        }
    }
    out
}

fn write(out: &mut Vec<u8>, control: &Control, commit: &Commit, events: &[Vec<u8>]) {
    if events.is_empty() {
        return;
    }
    let particulars = commit.particulars.as_deref().cloned().unwrap_or_default();
    let header = TransactionHeader {
        timeline: commit.timeline,
        commit_lsn: control.lsn,
        end_lsn: control.end_lsn,
        xid: commit.top,
        database: commit.database,
        commit_time_us: commit.commit_time_us,
        origin: particulars.origin,
        gid: particulars.gid,
    };
    let mut event = |kind, record_lsn, row, payload: &[u8]| {
        let header = EventHeader {
            size: (HEADER_BYTES + payload.len()) as u32,
            kind,
            flags: 0,
            count: 0,
            xid: commit.top,
            relation: RelationVersion(0),
            record_lsn,
            row,
        };
        out.extend_from_slice(&header.to_bytes());
        out.extend_from_slice(payload);
    };
    let begin = postcard::to_allocvec(&header).unwrap();
    event(EventKind::Begin, Lsn(0), 0, &begin);
    let content = events.concat();
    let mut end = (events.len() as u64).to_le_bytes().to_vec();
    end.extend_from_slice(&crc32fast::hash(&content).to_le_bytes());
    let mut whole = Vec::new();
    std::mem::swap(out, &mut whole);
    whole.extend_from_slice(&content);
    *out = whole;
    let mut event = |kind, record_lsn, row, payload: &[u8]| {
        let header = EventHeader {
            size: (HEADER_BYTES + payload.len()) as u32,
            kind,
            flags: 0,
            count: 0,
            xid: commit.top,
            relation: RelationVersion(0),
            record_lsn,
            row,
        };
        out.extend_from_slice(&header.to_bytes());
        out.extend_from_slice(payload);
    };
    event(EventKind::Commit, control.lsn, Position::COMMIT_ROW, &end);
}

type Chunks = BTreeMap<(u32, u32), Vec<u8>>;

/// Joins values and settles speculative inserts.
fn finished(events: impl Iterator<Item = (EventHeader, Vec<u8>)>) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut chunks = Chunks::new();
    let mut speculative = None;
    for (header, bytes) in events {
        let event = Event::read(&mut Cursor::new(&bytes)).unwrap();
        match header.kind {
            EventKind::ToastChunk => {
                let mut cursor = Cursor::new(event.payload);
                let key = (cursor.u32("").unwrap(), cursor.u32("").unwrap());
                cursor.u32("").unwrap();
                chunks
                    .entry(key)
                    .or_default()
                    .extend_from_slice(cursor.rest());
            }
            EventKind::Insert | EventKind::Update | EventKind::Delete => {
                out.push(joined(&event, header, &chunks));
                if header.flags & flags::KEEPS_TOAST == 0 {
                    chunks.clear();
                }
            }
            EventKind::SpeculativeInsert => {
                let insert = EventHeader {
                    kind: EventKind::Insert,
                    ..header
                };
                speculative = Some((insert, bytes));
            }
            EventKind::SpeculativeConfirm => {
                let (insert, bytes) = speculative.take().unwrap();
                let event = Event::read(&mut Cursor::new(&bytes)).unwrap();
                let place = EventHeader {
                    record_lsn: header.record_lsn,
                    row: header.row,
                    ..insert
                };
                out.push(joined(&event, place, &chunks));
                chunks.clear();
            }
            EventKind::SpeculativeAbort => {
                if speculative.take().is_some() {
                    chunks.clear();
                }
            }
            EventKind::Skipped => {}
            _ => out.push(bytes),
        }
    }
    out
}

fn joined(event: &Event<'_>, header: EventHeader, chunks: &Chunks) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut columns = event.columns();
    let old = if event.has_old() { header.count } else { 0 };
    for number in 0.. {
        if columns.offset() == event.payload.len() {
            break;
        }
        match columns.read().unwrap() {
            ColumnValue::Null => payload.push(TAG_NULL),
            ColumnValue::Unchanged => payload.push(TAG_UNCHANGED),
            ColumnValue::Bytes(value) => push_value(&mut payload, value),
            ColumnValue::External(pointer) => {
                let value = chunks.get(&(pointer.relation, pointer.value));
                match value {
                    Some(value) if number >= old => {
                        if pointer.is_compressed() {
                            let method = if pointer.stored >> 30 == 0 {
                                CompressionMethod::Pglz
                            } else {
                                CompressionMethod::Lz4
                            };
                            let raw = pointer.raw_size - 4;
                            push_compressed(&mut payload, method, raw, &value[4..]);
                        } else {
                            push_value(&mut payload, value);
                        }
                    }
                    _ => payload.push(TAG_UNCHANGED),
                }
            }
            other => panic!("{other:?}"),
        }
    }
    let header = EventHeader {
        size: (HEADER_BYTES + payload.len()) as u32,
        flags: header.flags & !flags::HAS_EXTERNAL,
        ..header
    };
    let mut out = header.to_bytes().to_vec();
    out.extend_from_slice(&payload);
    out
}
