//! A client made of the wire code alone, which believes nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use redostream_protocol::control::v1::control_client::ControlClient;
use redostream_protocol::control::{Start, fault_of, v1};
use redostream_protocol::event::{Event, EventKind, TransactionHeader};
use redostream_protocol::schema::Database;
use redostream_protocol::wire::check::{OrderedCheck, scan};
use redostream_protocol::wire::compress::Decompressor;
use redostream_protocol::wire::header::VERSION;
use redostream_protocol::wire::parts::PartCollector;
use redostream_protocol::wire::{
    Ack, Bye, Credit, Data, End, Fault, Frame, FrameKind, FrameReader, HEADER_BYTES, Heartbeat,
    Hello, Joiner, Payload, RelationPart, Welcome, credit, limits, push_frame,
};
use redostream_protocol::{Cursor, Lsn, Position};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;

pub(crate) type Control = ControlClient<tonic::transport::Channel>;

pub(crate) async fn control(address: SocketAddr) -> Control {
    ControlClient::connect(format!("http://{address}"))
        .await
        .unwrap()
}

#[derive(Debug)]
pub(crate) enum Over {
    End(End),
    Fault(Fault),
    Closed,
}

pub(crate) struct Subscriber {
    pub(crate) start: Start,
    pub(crate) writers: Vec<OwnedWriteHalf>,
    frames: mpsc::Receiver<Option<Frame>>,
    joiner: Joiner<Frame>,
    parts: PartCollector,
    ordered: OrderedCheck,
    relations: HashMap<u32, usize>,
    open: Option<Arc<TransactionHeader>>,
    consumed: u64,
    window: u64,
    pub(crate) released: Lsn,
    pub(crate) lz4_frames: u64,
    pub(crate) events: Vec<(Position, Vec<u8>)>,
}

pub(crate) async fn send<P: Payload>(writer: &mut OwnedWriteHalf, payload: &P) {
    let mut out = Vec::new();
    push_frame(&mut out, 0, payload);
    // The server may have closed by now; then reading shows it.
    let _ = writer.write_all(&out).await;
}

pub(crate) async fn hello(data: SocketAddr, hello: &Hello) -> TcpStream {
    let mut stream = TcpStream::connect(data).await.unwrap();
    let mut out = Vec::new();
    push_frame(&mut out, 0, hello);
    stream.write_all(&out).await.unwrap();
    stream
}

pub(crate) async fn open(
    control: &mut Control,
    request: v1::OpenSessionRequest,
) -> Result<v1::OpenSessionReply, Fault> {
    let opened = control.open_session(request).await;
    opened
        .map(|reply| reply.into_inner())
        .map_err(|status| fault_of(&status).unwrap())
}

impl Subscriber {
    pub(crate) async fn connect(
        control: &mut Control,
        data: SocketAddr,
        request: v1::OpenSessionRequest,
        window: u64,
    ) -> Result<Self, Fault> {
        let reply = open(control, request).await?;
        let start = match reply.start_position.parse() {
            Ok(position) => Start::After(position),
            Err(_) => Start::At(reply.start_lsn.parse().unwrap()),
        };
        let (sender, frames) = mpsc::channel(64);
        let mut writers = Vec::new();
        for stripe in 0..reply.streams as u16 {
            let greeting = Hello {
                version_min: VERSION,
                version_max: VERSION,
                stripe,
                session: reply.session[..].try_into().unwrap(),
                token: reply.token[..].try_into().unwrap(),
            };
            let (mut read, write) = hello(data, &greeting).await.into_split();
            writers.push(write);
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut reader = FrameReader::new(limits::FRAME_BYTES_MAX);
                loop {
                    while let Some(frame) = reader.pop().unwrap() {
                        let _ = sender.send(Some(frame)).await;
                    }
                    match read.read_buf(reader.buffer(4096)).await {
                        Ok(1..) => {}
                        _ => break drop(sender.send(None).await),
                    }
                }
            });
        }
        let mut subscriber = Self {
            start,
            writers,
            frames,
            joiner: Joiner::new(window * 2 + (4 << 20), limits::JOINER_FRAMES_MAX),
            parts: PartCollector::new("event", u64::MAX),
            ordered: OrderedCheck::new(None),
            relations: HashMap::new(),
            open: None,
            consumed: 0,
            window,
            released: Lsn(0),
            lz4_frames: 0,
            events: Vec::new(),
        };
        subscriber.grant().await;
        Ok(subscriber)
    }

    async fn grant(&mut self) {
        let credit = Credit {
            granted: self.consumed + self.window,
        };
        send(&mut self.writers[0], &credit).await;
    }

    /// Reads to the end, or until `enough` events are there.
    pub(crate) async fn run(&mut self, enough: usize) -> Option<Over> {
        let mut closed = 0;
        while self.events.len() < enough {
            match self.frames.recv().await.unwrap() {
                None => closed += 1,
                Some(frame) if frame.header.kind == FrameKind::Welcome => {
                    frame.decode::<Welcome>().unwrap();
                }
                Some(frame)
                    if frame.header.kind == FrameKind::Error && frame.header.sequence == 0 =>
                {
                    return Some(Over::Fault(frame.decode().unwrap()));
                }
                Some(frame) if frame.header.sequence == 0 => {}
                Some(frame) => {
                    let bytes = frame.payload.len() as u64;
                    self.joiner
                        .push(frame.header.sequence, frame, bytes)
                        .unwrap();
                }
            }
            while let Some((frame, _)) = self.joiner.pop() {
                if let Some(over) = self.take(&frame).await {
                    return Some(over);
                }
            }
            if closed == self.writers.len() {
                return Some(Over::Closed);
            }
        }
        None
    }

    async fn take(&mut self, frame: &Frame) -> Option<Over> {
        let mut raw = 0;
        match frame.header.kind {
            FrameKind::Data => raw = self.data(frame),
            FrameKind::Relation => {
                let part: RelationPart = frame.decode().unwrap();
                let relation = RelationPart::decode_whole(&part.bytes).unwrap();
                let twice = self
                    .relations
                    .insert(relation.version.0, relation.columns.len());
                assert!(twice.is_none());
            }
            FrameKind::Database => drop(frame.decode::<Database>().unwrap()),
            FrameKind::Heartbeat => {
                let heartbeat: Heartbeat = frame.decode().unwrap();
                assert!(heartbeat.released >= self.released);
                self.released = heartbeat.released;
            }
            FrameKind::End => return Some(Over::End(frame.decode().unwrap())),
            FrameKind::Error => return Some(Over::Fault(frame.decode().unwrap())),
            kind => panic!("{kind:?}"),
        }
        self.consumed += credit::cost(frame.payload.len(), raw);
        assert!(frame.payload.len() + HEADER_BYTES < limits::FRAME_BYTES_MAX);
        self.grant().await;
        None
    }

    fn data(&mut self, frame: &Frame) -> usize {
        let data = Data::decode(frame, &mut Decompressor::default()).unwrap();
        self.lz4_frames += u64::from(frame.header.flags & 1 != 0);
        let raw = data.events.len();
        if let Some(events) = self.parts.push(data.head.part, &data.events).unwrap() {
            let timeline = data.head.first.timeline;
            let block = scan(&events, timeline, data.head.continues.as_ref()).unwrap();
            assert_eq!((block.first, block.last), (data.head.first, data.head.last));
            let relations = &self.relations;
            self.ordered
                .push(&block, |version| relations.get(&version.0).copied())
                .unwrap();
            if data.head.continues.is_some() {
                self.open = data.head.continues;
            }
            self.collect(&events);
            self.released = self.released.max(data.head.wal_end);
        }
        raw
    }

    fn collect(&mut self, events: &[u8]) {
        let mut cursor = Cursor::new(events);
        while !cursor.rest().is_empty() {
            let at = cursor.offset();
            let event = Event::read(&mut cursor).unwrap();
            if event.header.kind == EventKind::Begin {
                self.open = Some(Arc::new(postcard::from_bytes(event.payload).unwrap()));
            }
            let lsn = event.header.record_lsn;
            let position = Position {
                timeline: redostream_protocol::TimelineId(1),
                commit_lsn: self.open.as_ref().map_or(lsn, |open| open.commit_lsn),
                record_lsn: lsn,
                row: event.header.row,
            };
            if event.header.kind == EventKind::Commit {
                self.open = None;
            }
            self.events
                .push((position, events[at..cursor.offset()].to_vec()));
        }
    }

    pub(crate) async fn acknowledge(&mut self, position: Position, released: Lsn) {
        send(&mut self.writers[0], &Ack { position, released }).await;
    }

    pub(crate) async fn bye(mut self) {
        send(&mut self.writers[0], &Bye).await;
    }
}
