//! One connection of a session: a task that reads frames, checks what can be checked alone, and
//! passes them on; another that writes.

use std::sync::Arc;
use std::time::Duration;

use redostream_protocol::schema::Database;
use redostream_protocol::wire::compress::Decompressor;
use redostream_protocol::wire::limits::FRAME_BYTES_MAX;
use redostream_protocol::wire::{
    BlockSummary, Data, End, Fault, Frame, FrameKind, FrameReader, HEADER_BYTES, Heartbeat, Hello,
    Notice, Ping, RelationPart, Welcome, WireError, check, credit, header, push_frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::connection::{self, Socket};
use crate::error::ClientError;

/// Frames that wait for the session, from one connection.
pub(crate) const ARRIVALS_MAX: usize = 64;
/// Frames that wait to be written.
const OUTGOING_MAX: usize = 16;
/// Bytes read at once.
const READ_BYTES: usize = 128 * 1024;

/// A numbered frame, taken apart.
pub(crate) struct Arrival {
    pub(crate) sequence: u64,
    /// What it takes of the credit.
    pub(crate) cost: u64,
    /// Its bytes on the wire.
    pub(crate) wire_bytes: u64,
    pub(crate) item: Item,
}

/// What a frame holds.
pub(crate) enum Item {
    /// Events, with what scanning found; none if they are a part of one event.
    Data(Box<(Data, Option<BlockSummary>)>),
    Relation(RelationPart),
    Database(Database),
    Heartbeat(Heartbeat),
    Notice(Notice),
    End(End),
    Fault(Fault),
}

/// What a connection needs to know.
pub(crate) struct Join {
    pub(crate) address: String,
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
    pub(crate) hello: Hello,
}

/// A connection's writing end.
#[derive(Clone)]
pub(crate) struct Writer(mpsc::Sender<Vec<u8>>);

impl Writer {
    /// Sends a frame that belongs to the connection; gives whether it still stands.
    pub(crate) async fn send<P: header::Payload>(&self, payload: &P) -> bool {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, 0, payload);
        self.0.send(bytes).await.is_ok()
    }
}

/// Connects, says hello, and starts the connection's tasks, which end with what is given.
pub(crate) async fn start(
    join: Join,
    arrivals: mpsc::Sender<Result<Arrival, ClientError>>,
) -> Result<(Writer, JoinSet<()>), ClientError> {
    let lost = |problem: String| ClientError::Lost {
        server: join.address.clone(),
        problem,
    };
    let mut socket = connection::connect(&join.address, join.tls.as_ref()).await?;
    let mut bytes = Vec::new();
    push_frame(&mut bytes, 0, &join.hello);
    socket
        .write_all(&bytes)
        .await
        .map_err(|error| lost(error.to_string()))?;
    socket
        .flush()
        .await
        .map_err(|error| lost(error.to_string()))?;
    let mut reader = FrameReader::new(FRAME_BYTES_MAX);
    let (read, write) = tokio::io::split(socket);
    let mut read = Reading {
        read,
        server: join.address.clone(),
    };
    let first = read.frame(&mut reader, Duration::from_secs(10)).await?;
    if first.header.kind == FrameKind::Error {
        return Err(ClientError::Fault(first.decode::<Fault>()?));
    }
    let welcome: Welcome = first.decode()?;
    let timeout = Duration::from_millis(u64::from(welcome.peer_timeout_ms.max(100)));
    let (sender, outgoing) = mpsc::channel(OUTGOING_MAX);
    let mut tasks = JoinSet::new();
    tasks.spawn(write_frames(write, outgoing, timeout / 3));
    tasks.spawn(async move {
        if let Err(error) = read_frames(read, reader, timeout, &arrivals).await {
            // A session that is over takes no more.
            let _ = arrivals.send(Err(error)).await;
        }
    });
    Ok((Writer(sender), tasks))
}

async fn write_frames(
    mut write: WriteHalf<Box<dyn Socket>>,
    mut outgoing: mpsc::Receiver<Vec<u8>>,
    ping_every: Duration,
) {
    let mut ping = Vec::new();
    push_frame(&mut ping, 0, &Ping);
    loop {
        let bytes = match tokio::time::timeout(ping_every, outgoing.recv()).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => break,
            Err(_) => ping.clone(),
        };
        // A broken connection is noticed by its reader.
        if write.write_all(&bytes).await.is_err() || write.flush().await.is_err() {
            break;
        }
    }
    let _ = write.shutdown().await;
}

struct Reading {
    read: ReadHalf<Box<dyn Socket>>,
    server: String,
}

impl Reading {
    async fn frame(
        &mut self,
        reader: &mut FrameReader,
        timeout: Duration,
    ) -> Result<Frame, ClientError> {
        loop {
            if let Some(frame) = reader.pop()? {
                return Ok(frame);
            }
            let lost = |problem: String| ClientError::Lost {
                server: self.server.clone(),
                problem,
            };
            let reading = self.read.read_buf(reader.buffer(READ_BYTES));
            match tokio::time::timeout(timeout, reading).await {
                Ok(Ok(0)) => return Err(lost("it was closed".to_owned())),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(lost(error.to_string())),
                Err(_) => return Err(lost(format!("nothing was heard for {timeout:?}"))),
            }
        }
    }
}

async fn read_frames(
    mut read: Reading,
    mut reader: FrameReader,
    timeout: Duration,
    arrivals: &mpsc::Sender<Result<Arrival, ClientError>>,
) -> Result<(), ClientError> {
    let mut decompressor = Decompressor::default();
    loop {
        let frame = read.frame(&mut reader, timeout).await?;
        let Some(arrival) = take_apart(&frame, &mut decompressor)? else {
            continue;
        };
        if arrivals.send(Ok(arrival)).await.is_err() {
            return Ok(());
        }
    }
}

/// Takes a frame apart; none for what only keeps the connection alive.
fn take_apart(
    frame: &Frame,
    decompressor: &mut Decompressor,
) -> Result<Option<Arrival>, ClientError> {
    let payload_bytes = frame.payload.len();
    let mut raw_bytes = 0;
    let item = match frame.header.kind {
        FrameKind::Data => {
            let data = Data::decode(frame, decompressor)?;
            raw_bytes = data.events.len();
            let timeline = data.head.first.timeline;
            let summary = if data.head.part.count == 1 {
                let continues = data.head.continues.as_ref();
                Some(check::scan(&data.events, timeline, continues)?)
            } else {
                None
            };
            Item::Data(Box::new((data, summary)))
        }
        FrameKind::Relation => Item::Relation(frame.decode()?),
        FrameKind::Database => Item::Database(frame.decode()?),
        FrameKind::Heartbeat => Item::Heartbeat(frame.decode()?),
        FrameKind::Notice => Item::Notice(frame.decode()?),
        FrameKind::End => Item::End(frame.decode()?),
        FrameKind::Error => {
            let fault: Fault = frame.decode()?;
            if frame.header.sequence == 0 {
                return Err(ClientError::Fault(fault));
            }
            Item::Fault(fault)
        }
        FrameKind::Ping => return Ok(None),
        found => {
            return Err(WireError::Unexpected {
                found,
                wanted: "a frame of the server",
            }
            .into());
        }
    };
    let cost = credit::cost(payload_bytes, raw_bytes);
    let wire_bytes = (HEADER_BYTES + payload_bytes) as u64;
    Ok(Some(Arrival {
        sequence: frame.header.sequence,
        cost,
        wire_bytes,
        item,
    }))
}
