//! What goes to the client, from the issuing thread and from those that wait for the GPU.
//!
//! Nobody blocks here. Who flushes sends what the socket takes at once; the rest is left to a sender thread. A client
//! that does not read at the moment (it may be sending itself) so never stops the issuing thread from reading, which
//! is what ends its sending.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use session::{DeferredErrors, ReplyHead};
use transport::Socket;
use wire::notice::Finished;
use wire::record::{encode_record, flags};
use wire::{CallId, Header, Writer};

use crate::counters::Counters;
use crate::staging::Lent;
use crate::wake::Wake;

/// Bodies from here on leave from where they are.
const LENT_FROM: usize = 16 << 10;

/// Which record a reply answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyTo {
    /// The call.
    pub call: CallId,
    /// The record's number.
    pub sequence: u64,
    /// Whether nobody waits for it: its bytes must be there before anything says that the copy is complete.
    pub is_detached: bool,
}

/// The sending side of the connection.
#[derive(Debug)]
pub struct Outbox {
    socket: Arc<Socket>,
    state: Mutex<State>,
    left_over: Condvar,
    deferred: Mutex<DeferredErrors>,
    counters: Arc<Counters>,
    wake: Arc<Wake>,
}

/// What leaves in one piece.
#[derive(Debug)]
enum Part {
    Bytes(Vec<u8>),
    Lent(Lent),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Part::Bytes(bytes) => bytes,
            Part::Lent(lent) => lent.bytes(),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// What leaves before the buffer.
    parts: VecDeque<Part>,
    /// Bytes of the first part that have left.
    sent: usize,
    buffer: Vec<u8>,
    /// The sender thread is at work: nobody else may send.
    is_sending: bool,
    /// Bytes that the sender thread has taken and not sent.
    taken: usize,
    is_broken: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbox {
    /// An empty outbox; starts the sender thread. `wake` is told when the client has taken something.
    pub fn start(
        socket: Arc<Socket>,
        counters: Arc<Counters>,
        wake: Arc<Wake>,
    ) -> std::io::Result<Arc<Outbox>> {
        let outbox = Arc::new(Outbox {
            socket,
            state: Mutex::default(),
            left_over: Condvar::new(),
            deferred: Mutex::default(),
            counters,
            wake,
        });
        let sender = Arc::clone(&outbox);
        std::thread::Builder::new().name("send".into()).spawn(move || sender.send_left_overs())?;
        Ok(outbox)
    }

    /// Adds a reply; [`Outbox::flush`] sends it.
    pub fn reply(&self, to: ReplyTo, result: i32, body: &[u8]) {
        let head = ReplyHead { result, deferred: lock(&self.deferred).take() };
        let mut state = lock(&self.state);
        encode_record(&mut state.buffer, to.call, head.flags(), 0, to.sequence, |writer| {
            head.encode(writer);
            writer.put_raw(body);
        });
    }

    /// Adds a reply whose body leaves from where it is; [`Outbox::flush`] sends it.
    pub fn reply_lent(&self, to: ReplyTo, lent: Lent) {
        let length = lent.bytes().len();
        if length < LENT_FROM {
            self.reply(to, 0, lent.bytes());
            return;
        }
        let head = ReplyHead { result: 0, deferred: lock(&self.deferred).take() };
        let bytes = ReplyHead::encoded_bytes(head.flags()) + length;
        let mut state = lock(&self.state);
        let mut writer = Writer::new(&mut state.buffer);
        let length = u32::try_from(bytes).unwrap_or(u32::MAX);
        Header { length, call: to.call, flags: head.flags(), context: 0, sequence: to.sequence }
            .encode(&mut writer);
        head.encode(&mut writer);
        let front = std::mem::take(&mut state.buffer);
        state.parts.push_back(Part::Bytes(front));
        state.parts.push_back(Part::Lent(lent));
    }

    /// Adds a notice; [`Outbox::flush`] sends it.
    pub fn notice(&self, call: CallId, body: impl FnOnce(&mut Writer<'_>)) {
        encode_record(&mut lock(&self.state).buffer, call, flags::NOTICE, 0, 0, body);
    }

    /// Adds what is finished; an error that nobody was told of yet goes with it.
    pub fn finished(&self, finished: Finished) {
        let deferred = lock(&self.deferred).take();
        let failed = deferred.map_or((0, 0), |error| (error.call.0, error.code));
        self.notice(CallId::FINISHED, |writer| Finished { failed, ..finished }.encode(writer));
    }

    /// Notes that a call that nobody waits for failed: the next reply says so.
    pub fn failed(&self, call: CallId, result: i32) {
        lock(&self.deferred).note(call, result);
    }

    /// Bytes that the client has not taken.
    pub fn waiting(&self) -> usize {
        let state = lock(&self.state);
        let parts: usize = state.parts.iter().map(|part| part.bytes().len()).sum();
        parts - state.sent + state.buffer.len() + state.taken
    }

    /// Sends what the socket takes without waiting; the sender thread sends the rest. A client that is gone is
    /// noticed by the receiving side; here it only stops the sending.
    pub fn flush(&self) {
        let mut state = lock(&self.state);
        if state.is_broken {
            state.clear();
        }
        if state.is_sending {
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
                Err(error) => return self.broken(&mut state, &error),
            }
        }
        if state.buffer.is_empty() {
            return;
        }
        match self.send_now(&state.buffer) {
            Ok(count) if count == state.buffer.len() => state.buffer.clear(),
            Ok(count) => {
                state.buffer.drain(..count);
                state.is_sending = true;
                self.left_over.notify_one();
            }
            Err(error) => self.broken(&mut state, &error),
        }
    }

    fn send_now(&self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.socket.send_now(bytes)?;
        Counters::add(&self.counters.bytes_sent, count as u64);
        Ok(count)
    }

    fn send_left_overs(&self) {
        let mut state = lock(&self.state);
        loop {
            if !state.is_sending {
                state = self.left_over.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let offset = std::mem::take(&mut state.sent);
            let part = match state.parts.pop_front() {
                Some(part) => part,
                None => Part::Bytes(std::mem::take(&mut state.buffer)),
            };
            let left = &part.bytes()[offset..];
            if left.is_empty() && state.parts.is_empty() && state.buffer.is_empty() {
                state.is_sending = false;
                continue;
            }
            state.taken = left.len();
            drop(state);
            let sent = self.socket.send_all(&[left]);
            Counters::add(&self.counters.bytes_sent, left.len() as u64);
            drop(part);
            state = lock(&self.state);
            state.taken = 0;
            if let Err(error) = sent {
                self.broken(&mut state, &error);
            }
            self.wake.wake();
        }
    }

    fn broken(&self, state: &mut State, error: &std::io::Error) {
        tracing::debug!("the client does not take replies any more: {error}");
        state.is_broken = true;
        state.clear();
    }
}

impl State {
    fn clear(&mut self) {
        self.parts.clear();
        self.sent = 0;
        self.buffer.clear();
    }
}
