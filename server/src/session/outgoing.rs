//! Frames between a session's thread and its connections: bounded, by credit, and whichever
//! connection is free takes the next.
//!
//! Also the one place where a session's end is decided: finished (everything was queued), failed
//! (said at once on every connection), or left by its client.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use redostream_protocol::wire::limits::STREAMS_MAX;
use redostream_protocol::wire::{EndReason, Fault, FaultCode};
use redostream_protocol::{Lsn, Position};
use tokio::sync::Notify;

use super::limits::{QUEUE_BYTES_MAX, QUEUE_FRAMES_PER_STREAM};

/// A frame ready to be written.
#[derive(Debug, Default)]
pub(super) struct OutFrame {
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<Bytes>,
    pub(super) bytes: usize,
}

/// What a connection does next.
#[derive(Debug)]
pub(super) enum Step {
    Frame(OutFrame),
    /// Everything has been written.
    Finished,
    Failed(Fault),
    /// The client said bye.
    Left,
}

/// Why a session's thread cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interrupt {
    /// Nobody is there to be told.
    Gone,
    /// To be said, then over.
    End(EndReason),
}

/// How far a session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) position: Position,
    pub(super) released: Lsn,
}

#[derive(Default)]
struct State {
    frames: VecDeque<OutFrame>,
    bytes: usize,
    granted: u64,
    spent: u64,
    sent: Progress,
    waiting_for_credit: bool,
    /// A bit for each stripe that has ever been taken.
    taken: u32,
    live: u16,
    finished: bool,
    failed: Option<Fault>,
    left: bool,
    end: Option<EndReason>,
}

/// See the file's head.
pub(super) struct Outgoing {
    streams: u16,
    state: Mutex<State>,
    /// Wakes the session's thread.
    changed: Condvar,
    /// Wakes connections.
    ready: Notify,
}

impl Outgoing {
    pub(super) fn new(streams: u16) -> Self {
        Self {
            streams,
            state: Mutex::default(),
            changed: Condvar::new(),
            ready: Notify::new(),
        }
    }

    /// Takes a stripe for a connection.
    pub(super) fn attach(&self, stripe: u16) -> Result<(), Fault> {
        let refuse = |message: String| Err(Fault::new(FaultCode::BadRequest, message));
        if stripe >= self.streams.min(STREAMS_MAX) {
            let streams = self.streams;
            return refuse(format!(
                "stripe {stripe} of a session of {streams} connections"
            ));
        }
        let mut state = self.state.lock();
        if state.taken & (1 << stripe) != 0 {
            return refuse(format!("stripe {stripe} has been taken before"));
        }
        state.taken |= 1 << stripe;
        state.live += 1;
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// A connection is over.
    pub(super) fn detach(&self) {
        self.state.lock().live -= 1;
        self.changed.notify_all();
    }

    pub(super) fn grant(&self, granted: u64) {
        let mut state = self.state.lock();
        state.granted = state.granted.max(granted);
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn leave(&self) {
        self.close(|state| state.left = true);
    }

    /// Ends the session at once; the first reason counts.
    pub(super) fn fail(&self, fault: Fault) {
        self.close(|state| {
            if state.failed.is_none() && !state.left {
                state.failed = Some(fault);
            }
        });
    }

    /// Asks the session's thread to end the stream in order.
    pub(super) fn end(&self, reason: EndReason) {
        self.state.lock().end.get_or_insert(reason);
        self.changed.notify_all();
    }

    /// A connection broke; gives whether that does no harm, since everything has been written or the
    /// client has left.
    pub(super) fn lost(&self, fault: Fault) -> bool {
        let mut done = false;
        self.close(|state| {
            done = state.left || (state.finished && state.frames.is_empty());
            if !done && state.failed.is_none() {
                state.failed = Some(fault);
            }
        });
        done
    }

    fn close(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        if state.failed.is_some() || state.left {
            state.frames.clear();
            state.bytes = 0;
        }
        drop(state);
        self.changed.notify_all();
        self.ready.notify_waiters();
    }

    /// The next thing for a connection to do.
    pub(super) async fn next(&self) -> Step {
        loop {
            let notified = self.ready.notified();
            tokio::pin!(notified);
            // Registered before the look, so that nothing that happens after it is missed.
            notified.as_mut().enable();
            if let Some(step) = self.look() {
                return step;
            }
            notified.await;
        }
    }

    fn look(&self) -> Option<Step> {
        let mut state = self.state.lock();
        if state.left {
            return Some(Step::Left);
        }
        if let Some(fault) = &state.failed {
            return Some(Step::Failed(fault.clone()));
        }
        if let Some(frame) = state.frames.pop_front() {
            state.bytes -= frame.bytes;
            let more = !state.frames.is_empty();
            let finished = state.finished;
            drop(state);
            self.changed.notify_all();
            match (finished, more) {
                (true, _) => self.ready.notify_waiters(),
                (false, true) => self.ready.notify_one(),
                (false, false) => {}
            }
            return Some(Step::Frame(frame));
        }
        state.finished.then_some(Step::Finished)
    }

    /// Why the session's thread should stop, if it should.
    pub(super) fn interrupt(&self) -> Option<Interrupt> {
        Self::interrupt_of(&self.state.lock())
    }

    fn interrupt_of(state: &State) -> Option<Interrupt> {
        if state.left || state.failed.is_some() {
            return Some(Interrupt::Gone);
        }
        state.end.map(Interrupt::End)
    }

    /// Waits for the first connection.
    pub(super) fn wait_attached(&self, timeout: Duration) -> bool {
        self.wait(timeout, |state| {
            state.taken != 0 || Self::interrupt_of(state).is_some()
        })
    }

    /// Waits until no connection is there any more and none is to come, or the client says so.
    pub(super) fn wait_drained(&self, timeout: Duration) {
        let all = u32::MAX >> (32 - u32::from(self.streams.clamp(1, STREAMS_MAX)));
        self.wait(timeout, |state| {
            let none_to_come = state.taken == all || state.left || state.failed.is_some();
            state.left || (state.live == 0 && none_to_come)
        });
    }

    fn wait(&self, timeout: Duration, done: impl Fn(&State) -> bool) -> bool {
        let until = Instant::now() + timeout;
        let mut state = self.state.lock();
        while !done(&state) {
            if self.changed.wait_until(&mut state, until).timed_out() {
                return done(&state);
            }
        }
        true
    }

    /// Waits for credit and room.
    fn wait_room(&self, timeout: Option<Duration>) -> Result<MutexGuard<'_, State>, Interrupt> {
        let until = timeout.map(|timeout| Instant::now() + timeout);
        let frames_max = QUEUE_FRAMES_PER_STREAM * usize::from(self.streams);
        let mut state = self.state.lock();
        loop {
            match (Self::interrupt_of(&state), until) {
                (Some(Interrupt::Gone), _) => return Err(Interrupt::Gone),
                // The farewell itself is not interrupted by being asked to say it.
                (Some(interrupt), None) => return Err(interrupt),
                _ => {}
            }
            let room = state.bytes < QUEUE_BYTES_MAX && state.frames.len() < frames_max;
            state.waiting_for_credit = state.granted <= state.spent;
            if room && !state.waiting_for_credit {
                return Ok(state);
            }
            match until {
                None => self.changed.wait(&mut state),
                Some(until) => {
                    if self.changed.wait_until(&mut state, until).timed_out() {
                        return Err(Interrupt::Gone);
                    }
                }
            }
        }
    }

    /// Queues a frame that costs `cost` of the client's credit.
    pub(super) fn push(
        &self,
        frame: OutFrame,
        cost: u64,
        progress: Progress,
    ) -> Result<(), Interrupt> {
        let state = self.wait_room(None)?;
        self.add(state, frame, cost, progress);
        Ok(())
    }

    /// Queues the last frame; false if there was no credit for it in time.
    pub(super) fn finish(
        &self,
        frame: OutFrame,
        cost: u64,
        progress: Progress,
        timeout: Duration,
    ) -> bool {
        let Ok(mut state) = self.wait_room(Some(timeout)) else {
            return false;
        };
        state.finished = true;
        self.add(state, frame, cost, progress);
        self.ready.notify_waiters();
        true
    }

    fn add(
        &self,
        mut state: MutexGuard<'_, State>,
        frame: OutFrame,
        cost: u64,
        progress: Progress,
    ) {
        state.spent += cost;
        state.bytes += frame.bytes;
        state.frames.push_back(frame);
        state.sent.position = state.sent.position.max(progress.position);
        state.sent.released = state.sent.released.max(progress.released);
        drop(state);
        self.ready.notify_one();
    }

    /// Whether sockets are the limit: every connection has a frame, and another waits for each.
    pub(super) fn is_behind(&self) -> bool {
        self.state.lock().frames.len() >= usize::from(self.streams)
    }

    /// How far the session is, and whether it waits for credit, sends, or idles.
    pub(super) fn progress(&self) -> (Progress, &'static str) {
        let state = self.state.lock();
        let doing = match (state.waiting_for_credit, state.frames.is_empty()) {
            (true, _) => "waiting",
            (false, false) => "sending",
            (false, true) => "idle",
        };
        (state.sent, doing)
    }
}
