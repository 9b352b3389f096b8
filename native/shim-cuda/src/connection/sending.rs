//! Sending: records are encoded into one buffer under a lock. A call that waits sends the buffer itself; a
//! call that does not wait leaves it to the writer thread, which sends whatever has gathered (idle: at once;
//! busy: the next send carries all). At most one thread sends at a time (`sending`), so records keep
//! their order.

use std::cell::Cell;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use session::Requests;
use wire::bulk::BULK_FROM;
use wire::cuda::CuLaunchKernel;
use wire::handle::Stream;
use wire::{CallId, Request, Writer};

use super::{Connection, Data, Destination, Loss, ReplyRecord, lock, wait};
use crate::progress::Progress;

/// Bytes that may wait for the sender before a caller is held back.
const OUTGOING_LIMIT: usize = 4 << 20;

/// Payloads from here on are sent from the caller's memory instead of being copied into the buffer.
const DIRECT_FROM: usize = 64 << 10;

/// How long an exiting process waits for its last records to leave.
const LAST_SEND: Duration = Duration::from_secs(1);

/// How often the writer looks whether the server still lives.
const LOOK_EVERY: Duration = Duration::from_millis(500);

thread_local! {
    /// Number of the last record that this thread has sent.
    static LAST_NUMBER: Cell<u64> = const { Cell::new(0) };
}

/// Number of the last record that this thread has sent.
pub fn last_number() -> u64 {
    LAST_NUMBER.get()
}

impl Connection {
    /// Sends a request that nobody waits for.
    pub fn post<'a, R: Request<'a>>(&self, request: &R, context: u32) -> Result<(), Loss> {
        self.room_on(request.stream(), context, R::CALL)?;
        let mut outgoing = self.outgoing_with_room()?;
        let number =
            outgoing.with_buffer(|requests, buffer| requests.encode(buffer, request, false, context));
        self.posted(request.stream(), context, number);
        self.let_leave(outgoing)
    }

    /// Sends a launch, whose payload `body` writes, on a stream whose work is `progress`.
    pub fn post_launch(
        &self,
        context: u32,
        progress: &Progress,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Loss> {
        self.wait_for_room(progress, <CuLaunchKernel<'_> as Request<'_>>::CALL)?;
        let mut outgoing = self.outgoing_with_room()?;
        let number = outgoing.with_buffer(|requests, buffer| {
            requests.encode_with(
                buffer,
                <CuLaunchKernel<'_> as Request<'_>>::CALL,
                false,
                context,
                |writer| {
                    writer.with_buffer(body);
                },
            )
        });
        progress.put(number);
        self.let_leave(outgoing)
    }

    /// Waits until `stream`, if there is one, takes more work.
    fn room_on(&self, stream: Option<Stream>, context: u32, call: CallId) -> Result<(), Loss> {
        match stream {
            Some(stream) => self.wait_for_room(&self.timelines.of(context, stream), call),
            None => Ok(()),
        }
    }

    /// Number of the last record that this process has sent.
    pub fn last_sent(&self) -> u64 {
        lock(&self.outgoing).requests.last()
    }

    /// Notes what record `number` has put on a stream, before the record can leave.
    pub(super) fn posted(&self, stream: Option<Stream>, context: u32, number: u64) {
        if let Some(stream) = stream {
            self.timelines.put(context, stream, number);
        }
        LAST_NUMBER.set(number);
    }

    /// Sends a request made of `head` and `data`, which nobody waits for. When this returns, passing data may be reused:
    /// they were copied or sent.
    pub fn post_with_data(
        &self,
        call: CallId,
        place: (u32, Option<Stream>),
        head: impl Fn(&mut Writer<'_>),
        data: Data<'_>,
    ) -> Result<(), Loss> {
        self.send_with_data(call, place, head, data, false).map(drop)
    }

    /// Like [`Connection::post_with_data`], but waits for the reply.
    pub fn call_with_data(
        &self,
        call: CallId,
        place: (u32, Option<Stream>),
        head: impl Fn(&mut Writer<'_>),
        data: Data<'_>,
    ) -> Result<ReplyRecord, Loss> {
        self.count_wait(call);
        let sequence = self.send_with_data(call, place, head, data, true)?;
        self.wait(sequence)
    }

    fn send_with_data(
        &self,
        call: CallId,
        (context, stream): (u32, Option<Stream>),
        head: impl Fn(&mut Writer<'_>),
        data: Data<'_>,
        wants_reply: bool,
    ) -> Result<u64, Loss> {
        self.room_on(stream, context, call)?;
        if let Some(lane) = self.lane_for(call, data.bytes().len()) {
            return self.send_on_lane(lane, call, (context, stream), head, data, wants_reply);
        }
        let data = data.bytes();
        let expect = |sequence| {
            if wants_reply {
                lock(&self.incoming).pending.expect(sequence, call, None);
            }
            sequence
        };
        let mut outgoing = self.outgoing_with_room()?;
        if data.len() < DIRECT_FROM {
            let sequence = expect(outgoing.with_buffer(|requests, buffer| {
                requests.encode_with(buffer, call, wants_reply, context, |writer| {
                    head(writer);
                    writer.put_bytes(data);
                })
            }));
            self.posted(stream, context, sequence);
            self.let_leave(outgoing)?;
            return Ok(sequence);
        }
        while outgoing.sending {
            outgoing = wait(&self.sender_done, outgoing);
            self.check()?;
        }
        outgoing.sending = true;
        let mut front = Vec::new();
        head(&mut Writer::new(&mut front));
        Writer::new(&mut front).put_u64(data.len() as u64);
        let length = u32::try_from(front.len() + data.len()).unwrap_or(u32::MAX);
        let sequence = expect(outgoing.with_buffer(|requests, buffer| {
            requests.encode_header(buffer, call, wants_reply, context, length)
        }));
        let mut batch = outgoing.take_batch();
        self.posted(stream, context, sequence);
        drop(outgoing);
        let sent = self.lane.send_all(&[&batch, &front, data]);
        batch.clear();
        self.end_of_sending(batch, sent)?;
        Ok(sequence)
    }

    /// Sends a request and waits for its reply. Data of the reply goes to `destination` if there is one.
    pub fn call<'a, R: Request<'a>>(
        &self,
        request: &R,
        context: u32,
        destination: Option<Destination>,
    ) -> Result<ReplyRecord, Loss> {
        self.count_wait(R::CALL);
        let sequence = self.send_call(request, context, destination)?;
        self.wait(sequence)
    }

    /// Counts a call for which a thread waits.
    pub fn count_wait(&self, call: CallId) {
        self.counters.round_trips.fetch_add(1, Ordering::Relaxed);
        *lock(&self.counters.waits).entry(call).or_default() += 1;
    }

    /// Sends a request whose reply is fetched by [`Connection::wait`]. Every sequence number must be waited for.
    pub fn send_call<'a, R: Request<'a>>(
        &self,
        request: &R,
        context: u32,
        destination: Option<Destination>,
    ) -> Result<u64, Loss> {
        if destination.as_ref().is_some_and(|destination| destination.bytes() >= BULK_FROM) {
            self.want_lane();
        }
        let mut outgoing = self.outgoing_with_room()?;
        let sequence =
            outgoing.with_buffer(|requests, buffer| requests.encode(buffer, request, true, context));
        lock(&self.incoming).pending.expect(sequence, R::CALL, destination);
        self.posted(request.stream(), context, sequence);
        outgoing.is_calm = true;
        self.leave_now(outgoing)?;
        Ok(sequence)
    }

    /// Sends a request whose reply's data lands in `destination`, some time before anything tells this process that
    /// the copy is complete. Nobody waits for it.
    ///
    /// # Safety
    /// The memory must stay writable until [`Connection::has_downloads`] denies it.
    pub unsafe fn send_download<'a, R: Request<'a>>(
        &self,
        request: &R,
        context: u32,
        destination: Destination,
    ) -> Result<(), Loss> {
        self.room_on(request.stream(), context, R::CALL)?;
        if destination.bytes() >= BULK_FROM {
            self.want_lane();
        }
        let mut outgoing = self.outgoing_with_room()?;
        let sequence =
            outgoing.with_buffer(|requests, buffer| requests.encode_detached(buffer, request, context));
        let start = destination.start();
        {
            let mut incoming = lock(&self.incoming);
            incoming.pending.expect_detached(sequence, R::CALL, context, destination);
            incoming.downloads.insert(sequence, start..start + destination.extent());
            self.note_awaited(&incoming);
            if incoming.service_sleeps {
                self.service_wakes.notify_one();
            }
        }
        self.posted(request.stream(), context, sequence);
        self.let_leave(outgoing)?;
        Ok(())
    }

    /// Sends a last request, unless another thread is in the middle of something or too much is waiting: an exiting
    /// process waits for nobody.
    pub fn post_last<'a, R: Request<'a>>(&self, request: &R) {
        if let Ok(mut outgoing) = self.outgoing.try_lock()
            && self.lost.get().is_none()
            && outgoing.buffer.len() < OUTGOING_LIMIT
        {
            outgoing.with_buffer(|requests, buffer| requests.encode(buffer, request, false, 0));
            drop(outgoing);
            self.drain();
        }
    }

    /// Waits until everything posted so far has left, but not for a worker that does not read: used at the end of
    /// the process.
    fn drain(&self) {
        self.lane.limit_sending(LAST_SEND);
        let mut outgoing = lock(&self.outgoing);
        while (outgoing.sending || !outgoing.buffer.is_empty()) && self.lost.get().is_none() {
            if !outgoing.sending {
                outgoing.sending = true;
                let mut batch = outgoing.take_batch();
                drop(outgoing);
                let sent = self.lane.send_all(&[&batch]);
                batch.clear();
                if self.end_of_sending(batch, sent).is_err() {
                    return;
                }
                outgoing = lock(&self.outgoing);
                continue;
            }
            let (guard, timeout) =
                self.sender_done.wait_timeout(outgoing, LAST_SEND).unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                return;
            }
            outgoing = guard;
        }
    }

    pub(super) fn outgoing_with_room(&self) -> Result<MutexGuard<'_, Outgoing>, Loss> {
        let mut outgoing = lock(&self.outgoing);
        loop {
            self.check()?;
            if outgoing.buffer.len() < OUTGOING_LIMIT {
                return Ok(outgoing);
            }
            outgoing = wait(&self.sender_done, outgoing);
        }
    }

    /// Sees to it that a record leaves that nobody waits for. The first one after a call that waited is sent right
    /// here: nothing else is under way, and the writer would have to wake first. Those behind it are the writer's.
    fn let_leave(&self, mut outgoing: MutexGuard<'_, Outgoing>) -> Result<(), Loss> {
        if !outgoing.is_calm || outgoing.sending {
            self.hand_to_writer(&outgoing);
            return Ok(());
        }
        outgoing.is_calm = false;
        self.leave_now(outgoing)
    }

    /// Sends what has gathered, unless another thread is sending, which then sends this, too.
    pub(super) fn leave_now(&self, mut outgoing: MutexGuard<'_, Outgoing>) -> Result<(), Loss> {
        if outgoing.sending {
            return Ok(());
        }
        outgoing.sending = true;
        let mut batch = outgoing.take_batch();
        drop(outgoing);
        let sent = self.lane.send_all(&[&batch]);
        batch.clear();
        self.end_of_sending(batch, sent)
    }

    fn hand_to_writer(&self, outgoing: &Outgoing) {
        if outgoing.writer_parked && !outgoing.sending {
            self.writer_wakes.notify_one();
        }
    }

    fn end_of_sending(&self, batch: Vec<u8>, sent: io::Result<()>) -> Result<(), Loss> {
        let mut outgoing = lock(&self.outgoing);
        outgoing.sending = false;
        outgoing.spare = batch;
        let more = !outgoing.buffer.is_empty();
        drop(outgoing);
        self.sender_done.notify_all();
        if let Err(error) = sent {
            let is_gone = matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset);
            // A refusal may be waiting to be read; it says more than "broken pipe".
            let refusal = if is_gone { self.refusal() } else { None };
            return Err(self.fall(refusal.unwrap_or_else(|| error.into())));
        }
        if more {
            self.writer_wakes.notify_one();
        }
        Ok(())
    }

    fn refusal(&self) -> Option<Loss> {
        {
            let mut incoming = lock(&self.incoming);
            if incoming.reading {
                return None;
            }
            incoming.reading = true;
        }
        let read = self.read_record();
        self.stop_reading(&mut lock(&self.incoming));
        self.reply_arrived.notify_all();
        match read {
            Err(refused @ Loss::Refused { .. }) => Some(refused),
            _ => None,
        }
    }

    pub(super) fn write_forever(&self) {
        let mut outgoing = lock(&self.outgoing);
        loop {
            if self.lost.get().is_some() {
                return;
            }
            if outgoing.sending || outgoing.buffer.is_empty() {
                outgoing.writer_parked = true;
                if self.lane.is_resumable() {
                    let (guard, timeout) = self
                        .writer_wakes
                        .wait_timeout(outgoing, LOOK_EVERY)
                        .unwrap_or_else(PoisonError::into_inner);
                    outgoing = guard;
                    outgoing.writer_parked = false;
                    if timeout.timed_out() {
                        drop(outgoing);
                        // Nobody else may use the connection for long, and the worker waits for its client only so long.
                        self.lane.look();
                        self.bulk.look();
                        outgoing = lock(&self.outgoing);
                    }
                    continue;
                }
                outgoing = wait(&self.writer_wakes, outgoing);
                outgoing.writer_parked = false;
                continue;
            }
            outgoing.sending = true;
            let mut batch = outgoing.take_batch();
            drop(outgoing);
            let sent = self.lane.send_all(&[&batch]);
            batch.clear();
            if self.end_of_sending(batch, sent).is_err() {
                return;
            }
            outgoing = lock(&self.outgoing);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Outgoing {
    requests: Requests,
    buffer: Vec<u8>,
    spare: Vec<u8>,
    sending: bool,
    writer_parked: bool,
    /// Nothing was sent since a call that waited.
    is_calm: bool,
}

impl Outgoing {
    pub(super) fn with_buffer<T>(&mut self, body: impl FnOnce(&mut Requests, &mut Vec<u8>) -> T) -> T {
        body(&mut self.requests, &mut self.buffer)
    }

    fn take_batch(&mut self) -> Vec<u8> {
        std::mem::replace(&mut self.buffer, std::mem::take(&mut self.spare))
    }
}
