//! One data connection: hello, then frames out and credit and acknowledgements in.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redostream_protocol::wire::header::VERSION;
use redostream_protocol::wire::limits::{CLIENT_FRAME_BYTES_MAX, FRAME_BYTES_MAX, HELLO_BYTES_MAX};
use redostream_protocol::wire::{
    Ack, Bye, Credit, Fault, FaultCode, Frame, FrameKind, FrameReader, Hello, Payload, Ping,
    Welcome, WireError, push_frame,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::door::Guard;
use super::limits::{FAREWELL_WAIT, HELLO_TIMEOUT, LINGER, READ_BUFFER_BYTES, WRITE_SLICES_MAX};
use super::outgoing::{OutFrame, Step};
use super::registry::{Registry, Session};

/// Serves a connection until it is over; `guard` is told once it has shown its token.
pub(super) async fn serve<S>(mut stream: S, registry: Arc<Registry>, guard: Guard)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut frames = FrameReader::new(HELLO_BYTES_MAX);
    let greeted = timeout(HELLO_TIMEOUT, greet(&mut stream, &mut frames, &registry)).await;
    let (session, stripe) = match greeted {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(fault)) => return refuse(stream, &fault).await,
        Err(_) => {
            let fault = Fault::new(FaultCode::PeerTimeout, "no hello came");
            return refuse(stream, &fault).await;
        }
    };
    guard.known();
    // Detaches on every way out, also when this task is dropped.
    let _attached = Attached(&session);
    frames.set_length_max(CLIENT_FRAME_BYTES_MAX);
    let (read, write) = tokio::io::split(stream);
    let reading = listen(read, frames, &registry, &session, stripe);
    let writing = speak(write, &registry, &session);
    tokio::pin!(reading, writing);
    let write = tokio::select! {
        heard = &mut reading => {
            match heard {
                // Nothing more is wanted, and the name is to be free at once.
                Heard::Bye => return session.out.leave(),
                Heard::Lost(fault) => {
                    if session.out.lost(fault) {
                        return;
                    }
                }
                Heard::Fault(fault) => session.out.fail(fault),
            }
            // What is left to be said is short now, or the peer is gone.
            let _ = timeout(FAREWELL_WAIT, &mut writing).await;
            return;
        }
        write = &mut writing => write,
    };
    match write {
        // The client has everything, or has been told why not, and closes first: so nothing that
        // is still on its way to it is cut off.
        Ok((_write, true)) => drop(timeout(LINGER, reading).await),
        Ok((_write, false)) => drop(timeout(FAREWELL_WAIT, reading).await),
        Err(error) => drop(session.out.lost(lost(stripe, &error.to_string()))),
    }
}

struct Attached<'a>(&'a Session);

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        self.0.out.lost(lost(u16::MAX, "it was closed"));
        self.0.out.detach();
    }
}

fn lost(stripe: u16, why: &str) -> Fault {
    let number = match stripe {
        u16::MAX => String::new(),
        stripe => format!(" {stripe}"),
    };
    let message = format!("data connection{number} of the session was lost: {why}; resume");
    Fault::new(FaultCode::PeerTimeout, message)
}

async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, fault: &Fault) {
    let mut out = Vec::new();
    push_frame(&mut out, 0, fault);
    let said = async {
        stream.write_all(&out).await?;
        stream.shutdown().await?;
        // So that the refusal is not cut off by what the peer still sends.
        let mut rest = [0; 512];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // The peer may be gone; then there is nobody to tell.
    let _ = timeout(FAREWELL_WAIT, said).await;
}

fn bad(error: &WireError) -> Fault {
    Fault::new(FaultCode::BadRequest, error.to_string())
}

/// Reads the hello, checks it, says welcome.
async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    frames: &mut FrameReader,
    registry: &Registry,
) -> Result<(Arc<Session>, u16), Fault> {
    let mut buffer = [0; 512];
    let frame = loop {
        if let Some(frame) = frames.pop().map_err(|error| bad(&error))? {
            break frame;
        }
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => frames.push(buffer.get(..read).unwrap_or_default()),
            _ => {
                return Err(Fault::new(
                    FaultCode::PeerTimeout,
                    "the connection was closed",
                ));
            }
        }
    };
    let hello: Hello = frame.decode().map_err(|error| bad(&error))?;
    if !(hello.version_min..=hello.version_max).contains(&VERSION) {
        let message = format!(
            "the client speaks versions {} to {}, this server {VERSION}",
            hello.version_min, hello.version_max
        );
        return Err(Fault::new(FaultCode::BadRequest, message));
    }
    let session = registry.session(&hello.session);
    let session = session.filter(|session| session.has_token(&hello.token));
    let session = session
        .ok_or_else(|| Fault::new(FaultCode::Unauthorised, "no such session, or not its token"))?;
    session.out.attach(hello.stripe)?;
    let mut out = Vec::new();
    let welcome = Welcome {
        version: VERSION,
        streams: session.streams,
        peer_timeout_ms: registry.options.peer_timeout_ms(),
        frame_bytes_max: FRAME_BYTES_MAX as u32,
    };
    push_frame(&mut out, 0, &welcome);
    if let Err(error) = stream.write_all(&out).await {
        let fault = lost(hello.stripe, &error.to_string());
        session.out.lost(fault.clone());
        session.out.detach();
        return Err(fault);
    }
    Ok((session, hello.stripe))
}

/// Why a connection is heard no more.
enum Heard {
    Bye,
    Lost(Fault),
    Fault(Fault),
}

async fn listen<R: AsyncRead + Unpin>(
    mut read: R,
    mut frames: FrameReader,
    registry: &Registry,
    session: &Session,
    stripe: u16,
) -> Heard {
    let patience = registry.options.peer_timeout;
    let mut buffer = [0; READ_BUFFER_BYTES];
    loop {
        loop {
            match frames.pop() {
                Ok(None) => break,
                Ok(Some(frame)) => match take(&frame, registry, session) {
                    Ok(true) => {}
                    Ok(false) => return Heard::Bye,
                    Err(fault) => return Heard::Fault(fault),
                },
                Err(error) => return Heard::Fault(bad(&error)),
            }
        }
        match timeout(patience, read.read(&mut buffer)).await {
            Ok(Ok(read @ 1..)) => frames.push(buffer.get(..read).unwrap_or_default()),
            Ok(Ok(_)) => return Heard::Lost(lost(stripe, "the peer closed it")),
            Ok(Err(error)) => return Heard::Lost(lost(stripe, &error.to_string())),
            Err(_) => {
                let why = format!("nothing came for {} ms", patience.as_millis());
                return Heard::Lost(lost(stripe, &why));
            }
        }
    }
}

/// Takes a client's frame; false when it leaves.
fn take(frame: &Frame, registry: &Registry, session: &Session) -> Result<bool, Fault> {
    match frame.header.kind {
        FrameKind::Credit => {
            let credit: Credit = frame.decode().map_err(|error| bad(&error))?;
            session.out.grant(credit.granted);
        }
        FrameKind::Ack => {
            let ack: Ack = frame.decode().map_err(|error| bad(&error))?;
            registry.acknowledge(session, &ack)?;
        }
        FrameKind::Ping => drop(frame.decode::<Ping>().map_err(|error| bad(&error))?),
        FrameKind::Bye => {
            frame.decode::<Bye>().map_err(|error| bad(&error))?;
            return Ok(false);
        }
        found => {
            let wanted = "credit, ack, ping or bye";
            return Err(bad(&WireError::Unexpected { found, wanted }));
        }
    }
    Ok(true)
}

/// Writes the session's frames as they come, a ping where none come. Gives the write half back, and
/// whether everything was written.
async fn speak<W: AsyncWrite + Unpin>(
    mut write: W,
    registry: &Registry,
    session: &Session,
) -> io::Result<(W, bool)> {
    let quiet = registry.options.peer_timeout / 3;
    loop {
        match timeout(quiet, session.out.next()).await {
            Ok(Step::Frame(frame)) => {
                write_frame(&mut write, &frame).await?;
                session
                    .sent_bytes
                    .fetch_add(frame.bytes as u64, Ordering::Relaxed);
            }
            Ok(Step::Finished) => {
                write.flush().await?;
                linger(&mut write, quiet).await?;
                return Ok((write, true));
            }
            Ok(Step::Failed(fault)) => {
                say(&mut write, &fault).await?;
                write.shutdown().await?;
                return Ok((write, false));
            }
            Ok(Step::Left) => {
                write.shutdown().await?;
                return Ok((write, false));
            }
            Err(_) => say(&mut write, &Ping).await?,
        }
    }
}

/// Keeps a connection alive on which everything has been written, until the reading side sees the
/// peer close it.
async fn linger<W: AsyncWrite + Unpin>(write: &mut W, quiet: Duration) -> io::Result<()> {
    let until = Instant::now() + LINGER;
    while Instant::now() < until {
        tokio::time::sleep_until(until.min(Instant::now() + quiet)).await;
        say(write, &Ping).await?;
    }
    write.shutdown().await
}

async fn say<W: AsyncWrite + Unpin, P: Payload>(write: &mut W, payload: &P) -> io::Result<()> {
    let mut out = Vec::new();
    push_frame(&mut out, 0, payload);
    write.write_all(&out).await?;
    write.flush().await
}

/// Writes a frame with as few calls as may be, and without copying its body.
async fn write_frame<W: AsyncWrite + Unpin>(write: &mut W, frame: &OutFrame) -> io::Result<()> {
    let parts: Vec<&[u8]> = std::iter::once(frame.head.as_slice())
        .chain(frame.body.iter().map(|piece| &piece[..]))
        .filter(|part| !part.is_empty())
        .collect();
    for group in parts.chunks(WRITE_SLICES_MAX) {
        let mut slices: Vec<IoSlice<'_>> = group.iter().map(|part| IoSlice::new(part)).collect();
        let mut slices = slices.as_mut_slice();
        while !slices.is_empty() {
            match write.write_vectored(slices).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => IoSlice::advance_slices(&mut slices, written),
            }
        }
    }
    write.flush().await
}
