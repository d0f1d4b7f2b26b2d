//! A small server: it serves one made-up log to any number of sessions, and can be told to fail.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use redostream_client::protocol::control::v1::control_server::{Control, ControlServer};
use redostream_client::protocol::control::v1::{
    DescribeReply, DescribeRequest, DropSubscriptionReply, DropSubscriptionRequest,
    ListSubscriptionsReply, ListSubscriptionsRequest, OpenSessionReply, OpenSessionRequest,
    ProbeReply, ProbeRequest, StatusReply, StatusRequest,
};
use redostream_client::protocol::control::{From, Start, Until, status_of};
use redostream_client::protocol::wire::compress::{Compressor, Decompressor};
use redostream_client::protocol::wire::data::DataBody;
use redostream_client::protocol::wire::parts::Part;
use redostream_client::protocol::wire::{
    Ack, Credit, Data, DataHead, End, EndReason, Fault, FaultCode, Frame, FrameKind, FrameReader,
    Heartbeat, Hello, RelationPart, Welcome, credit, limits, push_frame,
};
use redostream_client::protocol::{Lsn, Position};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Request, Response, Status};

use crate::events::{Placed, commit_lsn, log, relation};

/// What the server does.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) transactions: u64,
    pub(crate) rows: u64,
    pub(crate) events_per_block: usize,
    /// Frames after which the first session's connections are cut.
    pub(crate) cut_after: Option<u64>,
    /// Refuses every session.
    pub(crate) refuse: Option<Fault>,
    /// Ends every session with this, after all events.
    pub(crate) fault: Option<Fault>,
    /// Flips a bit of the row in the first block of the first session, checksums made anew.
    pub(crate) spoil_count: bool,
}

impl Default for Script {
    fn default() -> Self {
        Script {
            transactions: 20,
            rows: 7,
            events_per_block: 5,
            cut_after: None,
            refuse: None,
            fault: None,
            spoil_count: false,
        }
    }
}

struct Session {
    start: Start,
    until: Option<Until>,
    streams: u16,
    number: u64,
    joined: Vec<TcpStream>,
}

/// What the server has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) froms: Mutex<Vec<String>>,
    pub(crate) acknowledged: Mutex<Vec<Position>>,
    /// The most that was ever sent beyond what was granted.
    pub(crate) overdraft: AtomicU64,
    sessions: Mutex<HashMap<[u8; 16], Session>>,
}

struct Service {
    script: Script,
    seen: Arc<Seen>,
    data: SocketAddr,
}

/// A running server.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) seen: Arc<Seen>,
}

impl Server {
    pub(crate) async fn start(script: Script) -> Self {
        let control = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let data = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = control.local_addr().unwrap().to_string();
        let seen = Arc::new(Seen::default());
        let service = Service {
            script: script.clone(),
            seen: Arc::clone(&seen),
            data: data.local_addr().unwrap(),
        };
        let incoming = tonic::transport::server::TcpIncoming::from(control);
        let serving = tonic::transport::Server::builder()
            .add_service(ControlServer::new(service))
            .serve_with_incoming(incoming);
        tokio::spawn(serving);
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (stream, _) = data.accept().await.unwrap();
                tokio::spawn(join(stream, script.clone(), Arc::clone(&shared)));
            }
        });
        Server { address, seen }
    }
}

impl Seen {
    /// Waits until `position` has been acknowledged.
    pub(crate) async fn acknowledgement(&self, position: Position) {
        for _ in 0..500 {
            if self.acknowledged.lock().unwrap().last() == Some(&position) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let found = self.acknowledged.lock().unwrap().clone();
        panic!("{position} was never acknowledged, but {found:?}");
    }
}

async fn join(mut stream: TcpStream, script: Script, seen: Arc<Seen>) {
    let mut reader = FrameReader::new(limits::HELLO_BYTES_MAX);
    let Some(frame) = next_frame(&mut stream, &mut reader).await else {
        return;
    };
    let hello: Hello = frame.decode().unwrap();
    assert_eq!(hello.token, [7; 32]);
    let welcome = Welcome {
        version: 1,
        streams: 1,
        peer_timeout_ms: 5000,
        frame_bytes_max: limits::FRAME_BYTES_MAX as u32,
    };
    let mut bytes = Vec::new();
    push_frame(&mut bytes, 0, &welcome);
    stream.write_all(&bytes).await.unwrap();
    let session = {
        let mut sessions = seen.sessions.lock().unwrap();
        let session = sessions.get_mut(&hello.session).unwrap();
        session.joined.push(stream);
        let complete = session.joined.len() == usize::from(session.streams);
        complete.then(|| sessions.remove(&hello.session).unwrap())
    };
    if let Some(session) = session {
        serve(session, &script, &seen).await;
    }
}

async fn next_frame<R: AsyncReadExt + Unpin>(
    stream: &mut R,
    reader: &mut FrameReader,
) -> Option<Frame> {
    loop {
        if let Some(frame) = reader.pop().unwrap() {
            return Some(frame);
        }
        if stream.read_buf(reader.buffer(4096)).await.ok()? == 0 {
            return None;
        }
    }
}

/// Reads what the client says on one connection.
async fn listen(mut read: OwnedReadHalf, granted: Arc<AtomicU64>, seen: Arc<Seen>) {
    let mut reader = FrameReader::new(limits::CLIENT_FRAME_BYTES_MAX);
    while let Some(frame) = next_frame(&mut read, &mut reader).await {
        match frame.header.kind {
            FrameKind::Credit => {
                let credit: Credit = frame.decode().unwrap();
                granted.fetch_max(credit.granted, Ordering::SeqCst);
            }
            FrameKind::Ack => {
                let ack: Ack = frame.decode().unwrap();
                seen.acknowledged.lock().unwrap().push(ack.position);
            }
            FrameKind::Ping => {}
            FrameKind::Bye => return,
            kind => panic!("a client sent {kind:?}"),
        }
    }
}

/// The frames of a session, each with what it costs.
fn frames(session: &Session, script: &Script) -> Vec<(Vec<u8>, u64)> {
    let mut frames = Vec::new();
    let mut sequence = 0;
    let mut events = log(script.transactions, script.rows, session.start);
    events.retain(|event| {
        session
            .until
            .is_none_or(|until| until.admits(&event.position))
    });
    if script.spoil_count && session.number == 0 {
        events.remove(1);
    }
    let mut next = || {
        sequence += 1;
        sequence
    };
    let mut small = |bytes: Vec<u8>| {
        let cost = credit::cost(bytes.len() - 28, 0);
        frames.push((bytes, cost));
    };
    let mut bytes = Vec::new();
    push_frame(
        &mut bytes,
        next(),
        &RelationPart::split(&relation()).unwrap()[0],
    );
    small(bytes);
    let mut inside = false;
    for (number, block) in events.chunks(script.events_per_block).enumerate() {
        let leads = block[0].position.record_lsn != Lsn(0);
        let continues = (leads && (inside || number == 0)).then(|| Arc::clone(&block[0].header));
        frames.push(data_frame(next(), block, continues, number % 2 == 1));
        inside = block.last().unwrap().position.row != Position::COMMIT_ROW;
    }
    let mut small = |bytes: Vec<u8>| {
        let cost = credit::cost(bytes.len() - 28, 0);
        frames.push((bytes, cost));
    };
    let released = Lsn(commit_lsn(script.transactions));
    let mut bytes = Vec::new();
    let heartbeat = Heartbeat {
        released,
        received: released,
        source_time_us: 0,
    };
    push_frame(&mut bytes, next(), &heartbeat);
    small(bytes);
    let mut bytes = Vec::new();
    match &script.fault {
        Some(fault) => push_frame(&mut bytes, next(), fault),
        None => {
            let position = events.last().map(|last| last.position).unwrap_or_default();
            let end = End {
                reason: EndReason::Until,
                position,
                released,
            };
            push_frame(&mut bytes, next(), &end);
        }
    }
    small(bytes);
    frames
}

fn data_frame(
    sequence: u64,
    block: &[Placed],
    continues: Option<Arc<redostream_client::protocol::event::TransactionHeader>>,
    compressed: bool,
) -> (Vec<u8>, u64) {
    let events: Vec<u8> = block.iter().flat_map(|event| event.bytes.clone()).collect();
    let raw = events.len();
    let pieces = vec![Bytes::from(events)];
    let body = if compressed {
        DataBody::lz4(pieces, &mut Compressor::default())
    } else {
        DataBody::raw(pieces)
    };
    let head = DataHead {
        first: block[0].position,
        last: block.last().unwrap().position,
        // All of the log is released long before it is sent.
        wal_end: Lsn(1 << 40),
        raw_size: raw as u32,
        part: Part {
            number: 0,
            count: 1,
            total: raw as u64,
        },
        continues,
    };
    let mut bytes = head.encode(sequence, &body).unwrap();
    for piece in &body.stored {
        bytes.extend_from_slice(piece);
    }
    let mut reader = FrameReader::new(limits::FRAME_BYTES_MAX);
    reader.push(&bytes);
    let frame = reader.pop().unwrap().unwrap();
    assert_eq!(
        Data::decode(&frame, &mut Decompressor::default())
            .unwrap()
            .events
            .len(),
        raw
    );
    let cost = credit::cost(frame.payload.len(), raw);
    (bytes, cost)
}

async fn serve(mut session: Session, script: &Script, seen: &Arc<Seen>) {
    let granted = Arc::new(AtomicU64::new(0));
    let mut writers: Vec<OwnedWriteHalf> = Vec::new();
    let mut readers = Vec::new();
    for stream in std::mem::take(&mut session.joined) {
        let (read, write) = stream.into_split();
        let listening = listen(read, Arc::clone(&granted), Arc::clone(seen));
        readers.push(tokio::spawn(listening));
        writers.push(write);
    }
    let mut spent = 0;
    let mut cost_max = 0;
    for (number, (bytes, cost)) in frames(&session, script).into_iter().enumerate() {
        while spent >= granted.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        spent += cost;
        cost_max = cost_max.max(cost);
        let over = spent.saturating_sub(granted.load(Ordering::SeqCst));
        seen.overdraft.fetch_max(over, Ordering::SeqCst);
        // Not in turn, so that frames overtake one another.
        let writer = (number * 7 + number / 3) % writers.len();
        if writers[writer].write_all(&bytes).await.is_err() {
            return;
        }
        if session.number == 0 && script.cut_after == Some(number as u64) {
            readers.iter().for_each(tokio::task::JoinHandle::abort);
            return;
        }
    }
    for mut writer in writers {
        let _ = writer.shutdown().await;
    }
    for reader in readers {
        let _ = reader.await;
    }
}

#[tonic::async_trait]
impl Control for Service {
    async fn open_session(
        &self,
        request: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionReply>, Status> {
        let request = request.into_inner();
        if let Some(fault) = &self.script.refuse {
            return Err(status_of(fault));
        }
        let mut froms = self.seen.froms.lock().unwrap();
        let number = froms.len() as u64;
        froms.push(request.from.clone());
        let start = match request.from.parse() {
            Ok(From::Position(position)) => Start::After(position),
            Ok(From::Lsn(lsn)) => Start::At(lsn),
            _ => Start::At(Lsn(0x100)),
        };
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_le_bytes());
        let session = Session {
            start,
            until: request.until.parse().ok(),
            streams: request.streams as u16,
            number,
            joined: Vec::new(),
        };
        self.seen.sessions.lock().unwrap().insert(id, session);
        Ok(Response::new(OpenSessionReply {
            session: id.to_vec(),
            token: vec![7; 32],
            data_addresses: vec![format!(":{}", self.data.port())],
            start_lsn: start.lsn().to_string(),
            system_identifier: 77,
            timeline: 1,
            streams: request.streams,
            peer_timeout_ms: 5000,
            ..OpenSessionReply::default()
        }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Ok(Response::new(StatusReply {
            state: "ready".to_owned(),
            system_identifier: 77,
            timeline: 1,
            released: "0/2000".to_owned(),
            ..StatusReply::default()
        }))
    }

    async fn probe(&self, request: Request<ProbeRequest>) -> Result<Response<ProbeReply>, Status> {
        let servable = request.into_inner().from != "0/1";
        Ok(Response::new(ProbeReply {
            servable,
            reason: if servable {
                String::new()
            } else {
                "too old".to_owned()
            },
            oldest: "1:0/1000:0/0:0".to_owned(),
            from: "0/1000".to_owned(),
        }))
    }

    async fn describe(
        &self,
        _: Request<DescribeRequest>,
    ) -> Result<Response<DescribeReply>, Status> {
        Err(status_of(&Fault::new(
            FaultCode::NotFound,
            "there is no table public.nothing",
        )))
    }

    async fn list_subscriptions(
        &self,
        _: Request<ListSubscriptionsRequest>,
    ) -> Result<Response<ListSubscriptionsReply>, Status> {
        Ok(Response::new(ListSubscriptionsReply::default()))
    }

    async fn drop_subscription(
        &self,
        _: Request<DropSubscriptionRequest>,
    ) -> Result<Response<DropSubscriptionReply>, Status> {
        Ok(Response::new(DropSubscriptionReply {}))
    }
}
