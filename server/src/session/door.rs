//! Connections as they come in: strangers until they have shown who they are.
//!
//! A stranger has so long to be known and is one of so many; when there are more, the one that has
//! been standing there for longest is closed, since whoever means well is known within moments.
//! That holds below TLS and HTTP, so it does not matter in which of them somebody dawdles.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::limits::{ACCEPT_PAUSE, STRANGER_TIMEOUT, STRANGERS_MAX, UNSENT_BYTES_MAX};

#[derive(Default)]
struct Standing {
    next: u64,
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

/// A listener and the strangers at it.
pub(crate) struct Door {
    listener: TcpListener,
    standing: Arc<Mutex<Standing>>,
}

impl Door {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            standing: Arc::default(),
        }
    }

    /// The next connection. Goes on whatever the system says.
    pub(crate) async fn next(&self) -> Guarded {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "no TCP_NODELAY");
                    }
                    let socket = SockRef::from(&stream);
                    if let Err(error) = socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX) {
                        tracing::debug!(%error, "no TCP_NOTSENT_LOWAT");
                    }
                    return self.admit(stream, peer);
                }
                Err(error) => {
                    // Out of descriptors, most likely: others must close before one can be taken.
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) -> Guarded {
        let (sender, evicted) = oneshot::channel();
        let mut standing = self.standing.lock();
        if standing.waiting.len() >= STRANGERS_MAX
            && let Some((_, oldest)) = standing.waiting.pop_first()
        {
            // It may have gone by itself.
            let _ = oldest.send(());
        }
        let number = standing.next;
        standing.next += 1;
        standing.waiting.insert(number, sender);
        drop(standing);
        Guarded {
            stream,
            evicted,
            deadline: Box::pin(tokio::time::sleep(STRANGER_TIMEOUT)),
            guard: Guard(Arc::new(Guarding {
                number,
                known: AtomicBool::new(false),
                standing: Arc::clone(&self.standing),
                peer,
            })),
        }
    }
}

struct Guarding {
    number: u64,
    known: AtomicBool,
    standing: Arc<Mutex<Standing>>,
    peer: SocketAddr,
}

impl Guarding {
    fn leave(&self) {
        self.standing.lock().waiting.remove(&self.number);
    }
}

impl Drop for Guarding {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Says of a connection that it is no stranger's.
#[derive(Clone)]
pub(crate) struct Guard(Arc<Guarding>);

impl Guard {
    /// From now on it may take its time.
    pub(crate) fn known(&self) {
        if !self.0.known.swap(true, Ordering::Relaxed) {
            self.0.leave();
        }
    }

    /// Where the connection comes from.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.0.peer
    }
}

/// A connection that is closed if it stays a stranger's for too long.
pub(crate) struct Guarded {
    stream: TcpStream,
    evicted: oneshot::Receiver<()>,
    deadline: Pin<Box<Sleep>>,
    guard: Guard,
}

impl Guarded {
    /// To be told when the connection is known.
    pub(crate) fn guard(&self) -> Guard {
        self.guard.clone()
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.guard.0.known.load(Ordering::Relaxed) {
            return Ok(());
        }
        if self.deadline.as_mut().poll(context).is_ready() {
            // Whoever was known in the meantime, with nothing to read since, is no stranger.
            if self.guard.0.known.load(Ordering::Relaxed) {
                return Ok(());
            }
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the peer did not say who it is",
            ));
        }
        if Pin::new(&mut self.evicted).poll(context) == Poll::Ready(Ok(())) {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "too many strangers",
            ));
        }
        Ok(())
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Err(error) = self.check(context) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A connection with or without TLS.
pub(crate) enum Accepted {
    Plain(Guarded),
    Encrypted(Box<TlsStream<Guarded>>),
}

impl Accepted {
    /// Encrypts a connection, if that is asked for; in [`STRANGER_TIMEOUT`] or never.
    pub(crate) async fn greet(stream: Guarded, tls: Option<&TlsAcceptor>) -> io::Result<Self> {
        match tls {
            None => Ok(Self::Plain(stream)),
            Some(tls) => tls.accept(stream).await.map(Box::new).map(Self::Encrypted),
        }
    }

    fn guard(&self) -> Guard {
        match self {
            Self::Plain(stream) => stream.guard(),
            Self::Encrypted(stream) => stream.get_ref().0.guard(),
        }
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Encrypted(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Encrypted(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Encrypted(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Encrypted(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Encrypted(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Encrypted(stream) => stream.is_write_vectored(),
        }
    }
}

impl Connected for Accepted {
    type ConnectInfo = Guard;

    fn connect_info(&self) -> Guard {
        self.guard()
    }
}
