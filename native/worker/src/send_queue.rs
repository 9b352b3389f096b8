//! What leaves on one lane, in order, without anybody blocking but a sender thread of its own.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use transport::Lane;

use crate::counters::Counters;
use crate::staging::Lent;
use crate::wake::Wake;

/// How long nothing follows before buffers come back that the client has not confirmed: what it may ask for again is then
/// copied. While more follows its confirmations come soon enough.
const REPAY_AFTER: Duration = Duration::from_millis(5);

/// What leaves in one piece.
#[derive(Debug)]
pub enum Part {
    /// Bytes of its own.
    Bytes(Vec<u8>),
    /// Bytes that leave from where they are.
    Lent(Lent),
}

impl Part {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Part::Bytes(bytes) => bytes,
            Part::Lent(lent) => lent.bytes(),
        }
    }
}

/// The queue of a lane.
#[derive(Debug)]
pub struct SendQueue {
    lane: Arc<Lane>,
    state: Mutex<State>,
    left_over: Condvar,
    /// Whether whoever flushes sends what the socket takes at once. Else the sender thread sends it all: copying
    /// megabytes into a socket takes as long as hundreds of calls.
    is_eager: bool,
    counters: Arc<Counters>,
    wake: Arc<Wake>,
}

#[derive(Debug, Default)]
struct State {
    /// What leaves before the buffer.
    parts: VecDeque<Part>,
    /// Bytes of the first part that have left.
    sent: usize,
    buffer: Vec<u8>,
    /// Bytes that were ever added.
    added: u64,
    /// The sender thread is at work: nobody else may send.
    is_sending: bool,
    /// Bytes that the sender thread has taken and not sent.
    taken: usize,
    is_broken: bool,
}

impl SendQueue {
    /// An empty queue; starts its sender thread. `wake` is told when the client has taken something.
    pub fn start(
        name: &str,
        lane: Arc<Lane>,
        is_eager: bool,
        counters: Arc<Counters>,
        wake: Arc<Wake>,
    ) -> std::io::Result<Arc<SendQueue>> {
        let queue = Arc::new(SendQueue {
            lane,
            state: Mutex::default(),
            left_over: Condvar::new(),
            is_eager,
            counters,
            wake,
        });
        let sender = Arc::clone(&queue);
        std::thread::Builder::new().name(name.into()).spawn(move || sender.send_left_overs())?;
        Ok(queue)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what `write` appends.
    pub fn add(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let before = state.buffer.len();
        write(&mut state.buffer);
        state.added += (state.buffer.len() - before) as u64;
    }

    /// Adds what `write` appends, and `part` behind it. Answers how many bytes were ever added by then.
    pub fn add_with_part(&self, write: impl FnOnce(&mut Vec<u8>), part: Part) -> u64 {
        let mut state = self.state();
        let before = state.buffer.len();
        write(&mut state.buffer);
        state.added += (state.buffer.len() - before + part.bytes().len()) as u64;
        let front = std::mem::take(&mut state.buffer);
        state.parts.push_back(Part::Bytes(front));
        state.parts.push_back(part);
        state.added
    }

    /// Bytes that the client has not taken.
    pub fn waiting(&self) -> usize {
        let state = self.state();
        let parts: usize = state.parts.iter().map(|part| part.bytes().len()).sum();
        parts - state.sent + state.buffer.len() + state.taken
    }

    /// Sends what the socket takes without waiting; the sender thread sends the rest. A client that is gone is
    /// noticed by the receiving side; here it only stops the sending.
    pub fn flush(&self) {
        let mut state = self.state();
        if state.is_broken {
            state.clear();
        }
        if state.is_sending {
            return;
        }
        if !self.is_eager {
            if !state.parts.is_empty() || !state.buffer.is_empty() || self.lane.has_backlog() {
                state.is_sending = true;
                self.left_over.notify_one();
            }
            return;
        }
        while let Some(part) = state.parts.front() {
            let left = &part.bytes()[state.sent..];
            let length = left.len();
            match self.send_now(left) {
                Ok(count) if count == length => {
                    state.parts.pop_front();
                    state.sent = 0;
                }
                Ok(count) => {
                    state.sent += count;
                    state.is_sending = true;
                    self.left_over.notify_one();
                    return;
                }
                Err(error) => return broken(&mut state, &error),
            }
        }
        if state.buffer.is_empty() {
            return self.leave_backlog(&mut state);
        }
        match self.send_now(&state.buffer) {
            Ok(count) if count == state.buffer.len() => {
                state.buffer.clear();
                self.leave_backlog(&mut state);
            }
            Ok(count) => {
                state.buffer.drain(..count);
                state.is_sending = true;
                self.left_over.notify_one();
            }
            Err(error) => broken(&mut state, &error),
        }
    }

    /// Leaves to the sender thread what the lane took over and its connection did not take.
    fn leave_backlog(&self, state: &mut State) {
        if self.lane.has_backlog() {
            state.is_sending = true;
            self.left_over.notify_one();
        }
    }

    fn send_now(&self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.lane.send_now(bytes)?;
        Counters::add(&self.counters.bytes_sent, count as u64);
        Ok(count)
    }

    fn send_left_overs(&self) {
        let mut state = self.state();
        let mut has_loans = false;
        loop {
            if !state.is_sending {
                if !has_loans {
                    state = self.left_over.wait(state).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                let wait = self.left_over.wait_timeout_while(state, REPAY_AFTER, |state| !state.is_sending);
                state = wait.unwrap_or_else(PoisonError::into_inner).0;
                if !state.is_sending {
                    drop(state);
                    let repaid = self.lane.repay();
                    has_loans = false;
                    state = self.state();
                    if let Err(error) = repaid {
                        broken(&mut state, &error);
                    }
                    self.wake.wake();
                }
                continue;
            }
            let offset = std::mem::take(&mut state.sent);
            let part = match state.parts.pop_front() {
                Some(part) => part,
                None => Part::Bytes(std::mem::take(&mut state.buffer)),
            };
            let left = &part.bytes()[offset..];
            if left.is_empty() && state.parts.is_empty() && state.buffer.is_empty() {
                if self.lane.has_backlog() {
                    drop(state);
                    let flushed = self.lane.flush();
                    state = self.state();
                    if let Err(error) = flushed {
                        broken(&mut state, &error);
                        state.is_sending = false;
                    }
                    self.wake.wake();
                    continue;
                }
                state.is_sending = false;
                continue;
            }
            let length = left.len();
            state.taken = length;
            drop(state);
            let sent = match part {
                Part::Bytes(bytes) => self.lane.send_all(&[&bytes[offset..]]),
                Part::Lent(lent) => {
                    has_loans = true;
                    self.lane.send_loan(&[], Box::new(lent), offset)
                }
            };
            Counters::add(&self.counters.bytes_sent, length as u64);
            state = self.state();
            state.taken = 0;
            if let Err(error) = sent {
                broken(&mut state, &error);
            }
            self.wake.wake();
        }
    }
}

fn broken(state: &mut State, error: &std::io::Error) {
    tracing::debug!("the client does not take replies any more: {error}");
    state.is_broken = true;
    state.clear();
}

impl State {
    fn clear(&mut self) {
        self.parts.clear();
        self.sent = 0;
        self.buffer.clear();
    }
}
