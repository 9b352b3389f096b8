//! What goes to the client, from the issuing thread and from those that wait for the GPU.
//!
//! Nobody blocks here. Who flushes sends what the socket takes at once; the rest is left to a sender thread. A client
//! that does not read at the moment (it may be sending itself) so never stops the issuing thread from reading, which
//! is what ends its sending. Long replies take the bulk lane once the client has one.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use session::{DeferredError, DeferredErrors, ReplyHead};
use transport::Lane;
use wire::bulk::{BULK_FROM, Frame, Mark};
use wire::notice::{Failed, Finished};
use wire::record::{encode_record, flags};
use wire::{CallId, Header, Writer};

use crate::counters::Counters;
use crate::send_queue::{Part, SendQueue};
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
    /// Index of the context that it was made in.
    pub context: u32,
    /// Whether nobody waits for it: its bytes must be there before anything says that the copy is complete.
    pub is_detached: bool,
}

/// The sending side of the connection.
#[derive(Debug)]
pub struct Outbox {
    control: Arc<SendQueue>,
    bulk: OnceLock<Arc<SendQueue>>,
    deferred: Mutex<DeferredErrors>,
    counters: Arc<Counters>,
    wake: Arc<Wake>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbox {
    /// An empty outbox; starts the sender thread. `wake` is told when the client has taken something.
    pub fn start(lane: Arc<Lane>, counters: Arc<Counters>, wake: Arc<Wake>) -> std::io::Result<Arc<Outbox>> {
        let control = SendQueue::start("send", lane, true, Arc::clone(&counters), Arc::clone(&wake))?;
        Ok(Arc::new(Outbox { control, bulk: OnceLock::new(), deferred: Mutex::default(), counters, wake }))
    }

    /// From now on long replies leave on `lane`; the client is told first.
    pub fn take_bulk_lane(&self, lane: Arc<Lane>) -> std::io::Result<()> {
        let (counters, wake) = (Arc::clone(&self.counters), Arc::clone(&self.wake));
        let queue = SendQueue::start("send-bulk", lane, false, counters, wake)?;
        self.notice(CallId::BULK_READY, |_| {});
        if self.bulk.set(queue).is_err() {
            return Err(std::io::Error::other("there is a bulk lane already"));
        }
        self.flush();
        Ok(())
    }

    /// Adds a reply; [`Outbox::flush`] sends it.
    pub fn reply(&self, to: ReplyTo, result: i32, body: &[u8]) {
        if body.len() >= BULK_FROM
            && let Some(bulk) = self.bulk.get()
        {
            return self.reply_on(bulk, to, result, Part::Bytes(body.to_vec()));
        }
        let head = ReplyHead { result, deferred: lock(&self.deferred).take(to.context) };
        self.control.add(|buffer| {
            encode_record(buffer, to.call, head.flags(), 0, to.sequence, |writer| {
                head.encode(writer);
                writer.put_raw(body);
            });
        });
    }

    /// Adds a reply whose body leaves from where it is; [`Outbox::flush`] sends it.
    pub fn reply_lent(&self, to: ReplyTo, lent: Lent) {
        let length = lent.bytes().len();
        if length < LENT_FROM {
            self.reply(to, 0, lent.bytes());
            return;
        }
        if length >= BULK_FROM
            && let Some(bulk) = self.bulk.get()
        {
            return self.reply_on(bulk, to, 0, Part::Lent(lent));
        }
        let head = ReplyHead { result: 0, deferred: lock(&self.deferred).take(to.context) };
        let bytes = ReplyHead::encoded_bytes(head.flags()) + length;
        let length = u32::try_from(bytes).unwrap_or(u32::MAX);
        let header = Header { length, call: to.call, flags: head.flags(), context: 0, sequence: to.sequence };
        let front = |buffer: &mut Vec<u8>| {
            let mut writer = Writer::new(buffer);
            header.encode(&mut writer);
            head.encode(&mut writer);
        };
        self.control.add_with_part(front, Part::Lent(lent));
    }

    fn reply_on(&self, bulk: &SendQueue, to: ReplyTo, result: i32, part: Part) {
        let frame = Frame { sequence: to.sequence, length: part.bytes().len() as u64 };
        let offset = bulk.add_with_part(|buffer| buffer.extend_from_slice(&frame.encode()), part);
        let head = ReplyHead { result, deferred: lock(&self.deferred).take(to.context) };
        let flags = head.flags() | flags::BULK;
        self.control.add(|buffer| {
            encode_record(buffer, to.call, flags, 0, to.sequence, |writer| {
                head.encode(writer);
                Mark { offset }.encode(writer);
            });
        });
    }

    /// Adds a notice; [`Outbox::flush`] sends it.
    pub fn notice(&self, call: CallId, body: impl FnOnce(&mut Writer<'_>)) {
        self.control.add(|buffer| encode_record(buffer, call, flags::NOTICE, 0, 0, body));
    }

    /// Adds what is finished; an error that nobody was told of yet goes with it.
    pub fn finished(&self, finished: Finished) {
        let deferred = lock(&self.deferred).take(finished.context);
        let failed = deferred.map_or_else(Failed::default, |error| Failed {
            call: error.call.0,
            context: error.context,
            code: error.code,
        });
        self.notice(CallId::FINISHED, |writer| Finished { failed, ..finished }.encode(writer));
    }

    /// Notes that a call that nobody waits for failed, which was made in the context with this index: a later reply says so.
    pub fn failed(&self, call: CallId, context: u32, result: i32) {
        lock(&self.deferred).note(DeferredError { call, context, code: result });
    }

    /// The client's context with this index was destroyed: its errors went with it.
    pub fn context_gone(&self, context: u32) {
        lock(&self.deferred).context_gone(context);
    }

    /// Bytes that the client has not taken.
    pub fn waiting(&self) -> usize {
        self.control.waiting() + self.bulk.get().map_or(0, |bulk| bulk.waiting())
    }

    /// Sends what was added, without waiting.
    pub fn flush(&self) {
        if let Some(bulk) = self.bulk.get() {
            bulk.flush();
        }
        self.control.flush();
    }
}
