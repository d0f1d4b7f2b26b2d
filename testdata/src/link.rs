//! A bad network in one process: a TCP proxy that delays, limits, loses, damages and cuts.
//!
//! Each connection through it is a link of its own with the same properties, so connections are
//! reordered against each other as they are on a real network. Below TCP a lost packet is sent
//! again after a while and everything behind it waits: that is what losing is here.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use socket2::{Domain, Socket, Type};

use crate::generator::random::Random;

/// Bytes that are read at once; a packet.
const PACKET_BYTES: usize = 16 * 1024;
/// Bytes that may be under way in one direction of a connection, beside those in the buffers of
/// the system, unless told otherwise.
const UNDER_WAY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Receive buffer where a link has a window: what the system would take in beyond that, megabytes,
/// were a window of its own.
const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;
/// How long a lost packet takes to be sent again.
const RETRANSMIT: Duration = Duration::from_millis(200);

/// What is wrong with the network, in the direction to the client.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkOptions {
    /// Delay of every packet, each way.
    pub delay: Duration,
    /// Up to so much more, drawn for each packet.
    pub jitter: Duration,
    /// Bytes a second on each connection; 0 for no limit.
    pub bytes_per_second: u64,
    /// Bytes that may be under way on each connection, as a window of TCP bounds them; 0 for more
    /// than anybody needs.
    pub window_bytes: usize,
    /// Of 1,000 packets so many are lost once.
    pub lost_of_1000: usize,
    /// Every so many bytes (drawn up to twice that, over all connections) one bit is flipped; 0 for
    /// never.
    pub flip_every_bytes: u64,
    /// Every so many bytes the connection is cut; 0 for never.
    pub cut_every_bytes: u64,
    /// Every so many bytes the connection stalls for ever; 0 for never.
    pub stall_every_bytes: u64,
    /// What all drawing begins with.
    pub seed: u64,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub struct LinkCounters {
    /// Connections taken.
    pub connections: AtomicU64,
    /// Bytes passed on to clients.
    pub bytes: AtomicU64,
    /// Bits flipped.
    pub flips: AtomicU64,
    /// Connections cut.
    pub cuts: AtomicU64,
    /// Connections stalled.
    pub stalls: AtomicU64,
}

/// A running proxy; stops when dropped.
pub struct Link {
    address: SocketAddr,
    counters: Arc<LinkCounters>,
    stopped: Arc<AtomicBool>,
}

impl Link {
    /// Listens on loopback and passes everything on to `target`.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(target: SocketAddr, options: LinkOptions) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (counters, stopped) = (Arc::<LinkCounters>::default(), Arc::<AtomicBool>::default());
        let (counting, stopping) = (Arc::clone(&counters), Arc::clone(&stopped));
        let trouble = Arc::new(Mutex::new(Trouble::new(options)));
        thread::spawn(move || {
            for client in listener.incoming() {
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                counting.connections.fetch_add(1, Ordering::Relaxed);
                let (trouble, counting) = (Arc::clone(&trouble), Arc::clone(&counting));
                // A target that refuses closes the client's connection too.
                if let Ok(server) = connect(target, options) {
                    let _ = client.set_nodelay(true);
                    let _ = server.set_nodelay(true);
                    join(client, server, options, &trouble, &counting);
                }
            }
        });
        Ok(Self {
            address,
            counters,
            stopped,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> &LinkCounters {
        &self.counters
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
    }
}

/// Draws what goes wrong, for all connections together.
struct Trouble {
    random: Random,
    options: LinkOptions,
    flip_in: u64,
    cut_in: u64,
    stall_in: u64,
}

/// What is to be done with a packet.
#[derive(Default)]
struct Verdict {
    flip: Option<(usize, u8)>,
    cut: bool,
    stall: bool,
    late: Duration,
}

impl Trouble {
    fn new(options: LinkOptions) -> Self {
        let mut random = Random::new(options.seed);
        let mut draw = |every: u64| match every {
            0 => u64::MAX,
            every => 1 + random.below(2 * every as usize) as u64,
        };
        let (flip_in, cut_in, stall_in) = (
            draw(options.flip_every_bytes),
            draw(options.cut_every_bytes),
            draw(options.stall_every_bytes),
        );
        Self {
            random,
            options,
            flip_in,
            cut_in,
            stall_in,
        }
    }

    fn judge(&mut self, bytes: usize) -> Verdict {
        let mut verdict = Verdict::default();
        let options = self.options;
        let mut comes = |left: &mut u64, every: u64| -> Option<usize> {
            if *left >= bytes as u64 {
                *left -= bytes as u64;
                return None;
            }
            let at = *left as usize;
            *left = 1 + self.random.below(2 * every.max(1) as usize) as u64;
            Some(at)
        };
        if options.flip_every_bytes > 0 {
            let at = comes(&mut self.flip_in, options.flip_every_bytes);
            verdict.flip = at.map(|at| (at, 0));
        }
        verdict.cut = options.cut_every_bytes > 0
            && comes(&mut self.cut_in, options.cut_every_bytes).is_some();
        verdict.stall = options.stall_every_bytes > 0
            && comes(&mut self.stall_in, options.stall_every_bytes).is_some();
        if let Some((_, bit)) = &mut verdict.flip {
            *bit = self.random.below(8) as u8;
        }
        if !options.jitter.is_zero() {
            let jitter_us = options.jitter.as_micros() as usize;
            verdict.late += Duration::from_micros(self.random.below(jitter_us + 1) as u64);
        }
        if options.lost_of_1000 > 0 && self.random.below(1000) < options.lost_of_1000 {
            verdict.late += RETRANSMIT;
        }
        verdict
    }
}

/// Packets under way in one direction.
#[derive(Default)]
struct UnderWay {
    packets: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    closed: bool,
}

type Pipe = Arc<(Mutex<UnderWay>, Condvar)>;

fn connect(target: SocketAddr, options: LinkOptions) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    if options.window_bytes > 0 {
        // Before connecting: the other side is told then how much it may ever send ahead.
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    }
    socket.connect(&target.into())?;
    Ok(socket.into())
}

fn join(
    client: TcpStream,
    server: TcpStream,
    options: LinkOptions,
    trouble: &Arc<Mutex<Trouble>>,
    counters: &Arc<LinkCounters>,
) {
    let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    let delay = options.delay;
    one_way(client, server, move |_| Some(delay), (0, 0));
    let (trouble, counters) = (Arc::clone(trouble), Arc::clone(counters));
    let bad = move |packet: &mut [u8]| {
        let verdict = trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .judge(packet.len());
        if verdict.stall {
            counters.stalls.fetch_add(1, Ordering::Relaxed);
            return Some(Duration::from_secs(3600));
        }
        if verdict.cut {
            counters.cuts.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if let Some((at, bit)) = verdict.flip {
            counters.flips.fetch_add(1, Ordering::Relaxed);
            packet[at] ^= 1 << bit;
        }
        counters
            .bytes
            .fetch_add(packet.len() as u64, Ordering::Relaxed);
        Some(delay + verdict.late)
    };
    let bounds = (options.bytes_per_second, options.window_bytes);
    one_way(server_too, client_too, bad, bounds);
}

/// Passes packets on; `treat` says how late, or to cut the connection.
fn one_way(
    mut from: TcpStream,
    to: TcpStream,
    treat: impl Fn(&mut [u8]) -> Option<Duration> + Send + 'static,
    (bytes_per_second, window_bytes): (u64, usize),
) {
    // What has been delivered is acknowledged a delay later: half a window is under way each way.
    let under_way_max = match window_bytes {
        0 => UNDER_WAY_BYTES_MAX,
        bytes => (bytes / 2).max(PACKET_BYTES),
    };
    let pipe = Pipe::default();
    let writing = Arc::clone(&pipe);
    thread::spawn(move || {
        let mut due = Instant::now();
        let mut free = Instant::now();
        let mut buffer = vec![0; PACKET_BYTES];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let Some(late) = treat(&mut buffer[..read]) else {
                let _ = from.shutdown(Shutdown::Both);
                break;
            };
            let now = Instant::now();
            if let Some(time_us) = (read as u64 * 1_000_000).checked_div(bytes_per_second) {
                free = free.max(now) + Duration::from_micros(time_us);
            } else {
                free = now;
            }
            // In order, whatever is drawn.
            due = due.max(free + late);
            let (state, changed) = &*pipe;
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            while state.bytes > under_way_max && !state.closed {
                state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                break;
            }
            state.bytes += read;
            state.packets.push_back((due, buffer[..read].to_vec()));
            changed.notify_all();
        }
        let (state, changed) = &*pipe;
        state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        changed.notify_all();
    });
    thread::spawn(move || write(&to, &writing));
}

fn write(mut to: &TcpStream, pipe: &Pipe) {
    let (state, changed) = &**pipe;
    loop {
        let mut held = state.lock().unwrap_or_else(PoisonError::into_inner);
        let (due, packet) = loop {
            if let Some(packet) = held.packets.pop_front() {
                break packet;
            }
            if held.closed {
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
            held = changed.wait(held).unwrap_or_else(PoisonError::into_inner);
        };
        drop(held);
        thread::sleep(
            due.saturating_duration_since(Instant::now())
                .min(Duration::from_secs(60)),
        );
        let written = to.write_all(&packet);
        let mut held = state.lock().unwrap_or_else(PoisonError::into_inner);
        held.bytes -= packet.len();
        if written.is_err() {
            held.closed = true;
            let _ = to.shutdown(Shutdown::Both);
        }
        changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_late_and_whole() {
        let echo = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = echo.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = echo.accept().unwrap();
            let mut bytes = [0; 10_000];
            stream.read_exact(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
        });
        let options = LinkOptions {
            delay: Duration::from_millis(30),
            jitter: Duration::from_millis(5),
            lost_of_1000: 100,
            ..LinkOptions::default()
        };
        let link = Link::start(target, options).unwrap();
        let mut client = TcpStream::connect(link.address()).unwrap();
        let sent: Vec<u8> = (0..10_000).map(|number| number as u8).collect();
        let began = Instant::now();
        client.write_all(&sent).unwrap();
        let mut got = vec![0; sent.len()];
        client.read_exact(&mut got).unwrap();
        assert!(got == sent);
        assert!(began.elapsed() >= Duration::from_millis(60));
        assert_eq!(link.counters().bytes.load(Ordering::Relaxed), 10_000);
    }
}
