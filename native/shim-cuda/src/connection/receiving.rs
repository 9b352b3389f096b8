//! Receiving: of the threads that wait for a reply one reads the socket for all of them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::MutexGuard;

use session::{Completion, DeferredError, DetachedReply, PendingCalls, ReplyHead};
use wire::bulk::Mark;
use wire::cuda::FarpoolFence;
use wire::notice::{self, Callback, Failed, Finished};
use wire::record::{HEADER_BYTES, flags};
use wire::{CallId, Header, Request as _, WireError};

use super::{Connection, Destination, Loss, ReplyRecord, lock, wait};
use crate::progress::Progress;

/// What is awaited, and what has arrived.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) pending: PendingCalls<Destination, ReplyRecord>,
    pub(super) reading: bool,
    /// A thread reads the bulk lane.
    pub(super) reading_lane: bool,
    /// Replies whose data have not come from the bulk lane.
    pub(super) marked: HashMap<u64, ReplyHead>,
    /// Data from the bulk lane whose replies have not come: empty where they went to a destination.
    pub(super) landed: HashMap<u64, Vec<u8>>,
    /// Memory of the program that copies under way will write, by the number of their record.
    pub(super) downloads: HashMap<u64, std::ops::Range<usize>>,
    /// What streams are waiting for this process to do, in order of arrival.
    pub(super) callbacks: VecDeque<Callback>,
    /// Callbacks that were asked for and are not done.
    pub(super) outstanding: HashSet<u64>,
    /// The service thread sleeps until it is woken.
    pub(super) service_sleeps: bool,
}

/// A record from the worker.
pub(super) enum Arrived {
    Reply(u64, ReplyRecord),
    /// A reply whose data come on the bulk lane, which must be read up to there.
    Marked(u64, ReplyHead, u64),
    BulkReady,
    Callback(Callback),
    Output(Vec<u8>),
    Fence(u64),
    Finished(Finished),
}

impl Connection {
    /// Waits for the reply to `sequence`.
    pub fn wait(&self, sequence: u64) -> Result<ReplyRecord, Loss> {
        let mut incoming = lock(&self.incoming);
        loop {
            if let Completion::Ready(reply) = incoming.pending.take(sequence) {
                return Ok(reply);
            }
            if let Err(loss) = self.check() {
                // While another thread reads, it may be writing to this call's destination.
                if incoming.reading || incoming.reading_lane {
                    incoming = wait(&self.reply_arrived, incoming);
                    continue;
                }
                incoming.pending.forget(sequence);
                return Err(loss);
            }
            if incoming.marked.contains_key(&sequence) {
                incoming = self.read_lane(incoming);
                continue;
            }
            if incoming.reading {
                incoming = wait(&self.reply_arrived, incoming);
                continue;
            }
            incoming.reading = true;
            drop(incoming);
            incoming = self.read_for_all();
        }
    }

    /// Waits until `stream` takes more work: a driver makes its caller wait, too, when a stream has too much before it. What
    /// the caller is about to send is not numbered yet, so that others go on meanwhile.
    pub(super) fn wait_for_room(&self, progress: &Progress, call: CallId) -> Result<(), Loss> {
        if progress.has_room() {
            return Ok(());
        }
        self.count_wait(call);
        let mut incoming = lock(&self.incoming);
        // A failed context takes no more work: the next call says so.
        while !progress.has_room() && !self.timelines.has_failures() {
            self.check()?;
            if incoming.reading {
                incoming = wait(&self.reply_arrived, incoming);
                continue;
            }
            incoming.reading = true;
            drop(incoming);
            incoming = self.read_for_all();
        }
        Ok(())
    }

    /// Reads one record and hands it to whom it concerns. The caller has set `reading`.
    pub(super) fn read_for_all(&self) -> MutexGuard<'_, Incoming> {
        if self.bulk.is_behind() {
            self.reach_barrier();
        }
        let read = self.read_record().and_then(|arrived| {
            if matches!(arrived, Arrived::BulkReady) {
                self.bulk.ready()?;
            }
            Ok(arrived)
        });
        if let Err(loss) = &read {
            self.fall(loss.clone());
        }
        if let Ok(Arrived::Output(text)) = &read {
            // Before anybody learns of a completion behind it.
            crate::output::print(text);
        }
        let mut incoming = lock(&self.incoming);
        self.stop_reading(&mut incoming);
        match read {
            Ok(Arrived::Reply(number, reply)) => {
                self.complete(&mut incoming, number, reply);
            }
            Ok(Arrived::Marked(number, head, offset)) => self.marked(&mut incoming, number, head, offset),
            Ok(Arrived::Callback(callback)) => {
                incoming.callbacks.push_back(callback);
                self.service_wakes.notify_one();
            }
            Ok(Arrived::Fence(number)) => {
                self.fences.reached(number);
            }
            Ok(Arrived::Finished(finished)) => self.finished(&finished),
            Ok(Arrived::Output(_) | Arrived::BulkReady) | Err(_) => {}
        }
        self.reply_arrived.notify_all();
        incoming
    }

    /// Stores a reply that is all there for its caller.
    pub(super) fn complete(&self, incoming: &mut Incoming, number: u64, reply: ReplyRecord) {
        if incoming.downloads.remove(&number).is_some() {
            self.note_awaited(incoming);
        }
        if let Some(detached) = incoming.pending.complete(number, reply) {
            let DetachedReply { call, context, reply } = detached;
            self.detached.note(reply.head.deferred);
            let code = reply.head.result;
            self.detached.note((code != 0).then_some(DeferredError { call, context, code }));
        }
    }

    /// Another thread may read from now on; while callbacks are awaited the service thread does.
    pub(super) fn stop_reading(&self, incoming: &mut Incoming) {
        incoming.reading = false;
        if !incoming.outstanding.is_empty() {
            self.service_wakes.notify_one();
        }
    }

    fn finished(&self, finished: &Finished) {
        self.timelines.note(finished);
        let Failed { call, context, code } = finished.failed;
        self.detached.note((code != 0).then_some(DeferredError { call: CallId(call), context, code }));
    }

    /// Waits until fence `number`, which was sent, is reached.
    pub fn wait_for_fence(&self, number: u64) -> Result<(), Loss> {
        if self.fences.is_reached(number) {
            return Ok(());
        }
        self.count_wait(FarpoolFence::CALL);
        let mut incoming = lock(&self.incoming);
        while !self.fences.is_reached(number) {
            self.check()?;
            if incoming.reading {
                incoming = wait(&self.reply_arrived, incoming);
                continue;
            }
            incoming.reading = true;
            drop(incoming);
            incoming = self.read_for_all();
        }
        Ok(())
    }

    /// Takes what has arrived, without waiting: for those who ask what they may not wait for. What another thread
    /// reads at the moment, that thread takes.
    pub fn look(&self) {
        loop {
            let mut incoming = lock(&self.incoming);
            if incoming.reading || self.lost.get().is_some() {
                return;
            }
            incoming.reading = true;
            drop(incoming);
            // What has ended is read, too: whoever only looks would look for ever.
            if !self.look_at_lane() || matches!(lock(&self.stream).has_arrived(&self.lane), Ok(false)) {
                self.stop_reading(&mut lock(&self.incoming));
                self.reply_arrived.notify_all();
                return;
            }
            drop(self.read_for_all());
        }
    }

    pub(super) fn read_record(&self) -> Result<Arrived, Loss> {
        let mut stream = lock(&self.stream);
        let mut header = [0; HEADER_BYTES];
        stream.read(&self.lane, &mut header)?;
        let header = Header::decode(&header)?;
        let length = header.length as usize;
        if header.call == CallId::REFUSED {
            let mut payload = vec![0; length];
            stream.read(&self.lane, &mut payload)?;
            let mut reader = wire::Reader::new(&payload);
            let refused = wire::handshake::Refused::decode(&mut reader);
            reader.finish(header.call)?;
            return Err(Loss::Refused { code: refused.code, reason: refused.reason });
        }
        if header.flags & flags::NOTICE != 0 {
            let mut payload = vec![0; length];
            stream.read(&self.lane, &mut payload)?;
            return notice(&header, &payload);
        }
        if header.flags & flags::BULK != 0 {
            let mut payload = vec![0; length];
            stream.read(&self.lane, &mut payload)?;
            return self.mark(&header, &payload);
        }
        let destination = lock(&self.incoming).pending.accept(&header)?;
        let mut head_bytes = [0; ReplyHead::MOST_BYTES];
        let head_bytes = &mut head_bytes[..ReplyHead::encoded_bytes(header.flags)];
        let Some(rest) = length.checked_sub(head_bytes.len()) else {
            return Err(WireError::Malformed { call: header.call }.into());
        };
        stream.read(&self.lane, head_bytes)?;
        let head = ReplyHead::decode(header.flags, &mut wire::Reader::new(head_bytes));
        let mut body = Vec::new();
        match destination {
            Some(destination) if head.result == 0 => {
                if rest != destination.bytes() {
                    return Err(WireError::Malformed { call: header.call }.into());
                }
                // SAFETY: whoever made the destination promised writable memory that is not used until its call
                // returns, and it returns only after this record was read or the reading failed.
                unsafe { destination.fill(|row| stream.read(&self.lane, row)) }?;
            }
            _ => {
                body.resize(rest, 0);
                stream.read(&self.lane, &mut body)?;
            }
        }
        Ok(Arrived::Reply(header.sequence, ReplyRecord { head, body }))
    }

    fn mark(&self, header: &Header, payload: &[u8]) -> Result<Arrived, Loss> {
        lock(&self.incoming).pending.check(header)?;
        let mut reader = wire::Reader::new(payload);
        let head = ReplyHead::decode(header.flags, &mut reader);
        let mark = Mark::decode(&mut reader);
        reader.finish(header.call)?;
        Ok(Arrived::Marked(header.sequence, head, mark.offset))
    }
}

fn notice(header: &Header, payload: &[u8]) -> Result<Arrived, Loss> {
    let mut reader = wire::Reader::new(payload);
    let arrived = match header.call {
        CallId::CALLBACK => Arrived::Callback(Callback::decode(&mut reader)),
        CallId::FENCE => Arrived::Fence(notice::Fence::decode(&mut reader).number),
        CallId::FINISHED => Arrived::Finished(Finished::decode(&mut reader)),
        CallId::BULK_READY => Arrived::BulkReady,
        CallId::OUTPUT => Arrived::Output(notice::Output::decode(&mut reader).text),
        call => return Err(WireError::UnknownCall { call }.into()),
    };
    reader.finish(header.call)?;
    Ok(arrived)
}
