//! What goes to the client. Several threads send: the issuing thread, and those that wait for the GPU.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use session::{DeferredErrors, ReplyHead};
use transport::Socket;
use wire::record::{encode_record, flags};
use wire::{CallId, Writer};

use crate::counters::Counters;

/// Which record a reply answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyTo {
    /// The call.
    pub call: CallId,
    /// The record's number.
    pub sequence: u64,
}

/// The sending side of the connection.
#[derive(Debug)]
pub struct Outbox {
    socket: Arc<Socket>,
    buffer: Mutex<Vec<u8>>,
    deferred: Mutex<DeferredErrors>,
    broken: AtomicBool,
    counters: Arc<Counters>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbox {
    /// An empty outbox.
    pub fn new(socket: Arc<Socket>, counters: Arc<Counters>) -> Outbox {
        Outbox {
            socket,
            buffer: Mutex::default(),
            deferred: Mutex::default(),
            broken: AtomicBool::new(false),
            counters,
        }
    }

    /// Adds a reply; [`Outbox::flush`] sends it.
    pub fn reply(&self, to: ReplyTo, result: i32, body: &[u8]) {
        let head = ReplyHead { result, deferred: lock(&self.deferred).take() };
        let mut buffer = lock(&self.buffer);
        encode_record(&mut buffer, to.call, head.flags(), 0, to.sequence, |writer| {
            head.encode(writer);
            writer.put_raw(body);
        });
    }

    /// Adds a notice; [`Outbox::flush`] sends it.
    pub fn notice(&self, call: CallId, body: impl FnOnce(&mut Writer<'_>)) {
        encode_record(&mut lock(&self.buffer), call, flags::NOTICE, 0, 0, body);
    }

    /// Notes that a call that nobody waits for failed: the next reply says so.
    pub fn failed(&self, call: CallId, result: i32) {
        lock(&self.deferred).note(call, result);
    }

    /// Bytes that wait to be sent.
    pub fn waiting(&self) -> usize {
        lock(&self.buffer).len()
    }

    /// Sends everything. A client that is gone is noticed by the receiving side; here it only stops the sending.
    pub fn flush(&self) {
        // The lock is held over the sending, so that bytes of two threads never mix.
        let mut buffer = lock(&self.buffer);
        if buffer.is_empty() || self.broken.load(Ordering::Relaxed) {
            buffer.clear();
            return;
        }
        Counters::add(&self.counters.bytes_sent, buffer.len() as u64);
        if let Err(error) = self.socket.send_all(&[&buffer]) {
            tracing::debug!("the client does not take replies any more: {error}");
            self.broken.store(true, Ordering::Relaxed);
        }
        buffer.clear();
    }
}
