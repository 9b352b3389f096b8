//! The bulk lane of this process: a second connection to its worker, for long data, so that a copy holds up no record
//! behind it ([`wire::bulk`]).
//!
//! The first long copy has it opened by a thread that ends then; until the worker says that it has the lane, long data
//! go the ordinary way, so nobody waits for it, and a process without a descriptor to spare does without.
//!
//! Data for this process land in the memory that their requests named. A reply's *mark* tells how far the lane must have
//! been read until they are there. For a copy that nobody waits for this is a *barrier*: no later record is looked at
//! before, as it may tell the program that the copy is complete.

use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use session::ReplyHead;
use transport::{Lane, Refusal};
use wire::bulk::{BULK_FROM, FRAME_BYTES, Frame, takes_lane};
use wire::handle::Stream;
use wire::{CallId, WireError, Writer};

use super::receive_buffer::ReceiveBuffer;
use super::receiving::Incoming;
use super::{Connection, Data, Loss, ReplyRecord, lock, wait};

/// How the second connection of this process is opened.
pub struct Opener {
    /// Connects to the worker that the first connection leads to; `None` when that is worth another try.
    pub connect: Box<dyn Fn() -> io::Result<Option<Lane>> + Send + Sync + UnwindSafe + RefUnwindSafe>,
    /// Finds out why a lane broke that is its socket; nobody connects anew there, who would be told.
    pub explain: Option<Explain>,
}

/// Asks those who know why a connection is over; `None` when nobody does.
pub type Explain = Box<dyn Fn() -> Option<Refusal> + Send + Sync + UnwindSafe + RefUnwindSafe>;

/// The lane; see the module's text.
pub struct Bulk {
    opener: Option<Opener>,
    was_asked_for: AtomicBool,
    lane: OnceLock<Lane>,
    /// The worker has the other end.
    is_ready: AtomicBool,
    /// Held by the thread that sends a frame.
    sending: Mutex<()>,
    stream: Mutex<ReceiveBuffer>,
    /// Bytes that have been read from the lane.
    landed: AtomicU64,
    /// Bytes that must have been read before another record is looked at.
    barrier: AtomicU64,
}

impl std::fmt::Debug for Bulk {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Bulk").field("is_ready", &self.is_ready).finish_non_exhaustive()
    }
}

impl Bulk {
    /// Why the connection is over, where somebody knows.
    pub fn explain(&self) -> Option<Refusal> {
        self.opener.as_ref()?.explain.as_ref()?()
    }

    /// A lane that is not there yet; without `opener` it never will be.
    pub fn new(opener: Option<Opener>) -> Bulk {
        Bulk {
            opener,
            was_asked_for: AtomicBool::new(false),
            lane: OnceLock::new(),
            is_ready: AtomicBool::new(false),
            sending: Mutex::default(),
            stream: Mutex::default(),
            landed: AtomicU64::new(0),
            barrier: AtomicU64::new(0),
        }
    }

    /// The worker has said that it has the lane.
    pub fn ready(&self) -> Result<(), WireError> {
        // The worker may answer before the thread that opens the lane has kept it: it asked for it, so it is coming.
        if !self.was_asked_for.load(Ordering::Acquire) {
            return Err(WireError::Unexpected {
                call: CallId::BULK_READY,
                reason: "this process opened a lane",
            });
        }
        self.is_ready.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether a barrier is not reached.
    pub fn is_behind(&self) -> bool {
        self.landed.load(Ordering::Acquire) < self.barrier.load(Ordering::Acquire)
    }

    /// No record is looked at any more before `offset` bytes have landed.
    pub fn set_barrier(&self, offset: u64) {
        self.barrier.fetch_max(offset, Ordering::AcqRel);
    }

    /// The lane, if the worker has it.
    pub fn lane(&self) -> Option<&Lane> {
        self.lane.get().filter(|_| self.is_ready.load(Ordering::Acquire))
    }

    /// Ends both directions.
    pub fn shutdown(&self) {
        if let Some(lane) = self.lane.get() {
            lane.shutdown();
        }
    }

    /// Looks whether the worker still lives.
    pub fn look(&self) {
        if let Some(lane) = self.lane.get() {
            lane.look();
        }
    }
}

impl Connection {
    /// The lane for `length` bytes of data of `call`, if they should take it and the worker has it.
    pub(super) fn lane_for(&self, call: CallId, length: usize) -> Option<&Lane> {
        if length < BULK_FROM || !takes_lane(call) {
            return None;
        }
        self.want_lane();
        self.bulk.lane()
    }

    /// Notes that long data are about to travel, and has the lane opened the first time.
    pub fn want_lane(&self) {
        if self.bulk.lane().is_some() {
            return;
        }
        if self.bulk.was_asked_for.swap(true, Ordering::AcqRel) {
            // The worker's word may have arrived.
            self.look();
            return;
        }
        let Some(connection) = self.this.upgrade() else { return };
        // Without a thread or a descriptor everything goes the ordinary way.
        let _ = crate::thread::spawn("farpool-bulk", move || connection.open_lane());
    }

    /// Opens the lane. A line that broke or fell silent meanwhile may have taken only the worker's word with it, and the
    /// worker uses the lane: so this goes on until it is there.
    fn open_lane(&self) {
        const PAUSE: Duration = Duration::from_millis(100);
        let Some(opener) = &self.bulk.opener else { return };
        while self.lost.get().is_none() {
            match (opener.connect)() {
                Ok(Some(lane)) => {
                    let lane = self.bulk.lane.get_or_init(|| lane);
                    if self.lost.get().is_some() {
                        lane.shutdown();
                    }
                    return;
                }
                Ok(None) => std::thread::sleep(PAUSE),
                Err(_) => return,
            }
        }
    }

    /// Gives back what a lane was lent.
    pub(super) fn repay_loans(&self) {
        if let Some(lane) = self.bulk.lane() {
            // An error is met by whoever sends next.
            let _ = lane.repay();
        }
    }

    /// Sends a record whose data take the lane.
    pub(super) fn send_on_lane(
        &self,
        lane: &Lane,
        call: CallId,
        (context, stream): (u32, Option<Stream>),
        head: impl Fn(&mut Writer<'_>),
        data: Data<'_>,
        wants_reply: bool,
    ) -> Result<u64, Loss> {
        let length = data.bytes().len() as u64;
        // Frames leave in the order of their records, so that the worker has a place for each when it comes.
        let _sending = lock(&self.bulk.sending);
        let mut outgoing = self.outgoing_with_room()?;
        let sequence = outgoing.with_buffer(|requests, buffer| {
            requests.encode_bulk(buffer, call, wants_reply, context, head, length)
        });
        if wants_reply {
            lock(&self.incoming).pending.expect(sequence, call, None);
        }
        self.posted(stream, context, sequence);
        self.leave_now(outgoing)?;
        let frame = Frame { sequence, length }.encode();
        let sent = match data {
            Data::Passing(bytes) => lane.send_all(&[&frame, bytes]),
            Data::Staying(piece) => lane.send_loan(&frame, piece.loan(), 0),
        };
        if let Err(error) = sent {
            return Err(self.fall(error.into()));
        }
        Ok(sequence)
    }

    /// Reads one frame and hands it to whom it concerns. The caller has set `reading_lane`.
    pub(super) fn read_frame_for_all(&self) -> MutexGuard<'_, Incoming> {
        let read = self.read_frame();
        if let Err(loss) = &read {
            self.fall(loss.clone());
        }
        let mut incoming = lock(&self.incoming);
        incoming.reading_lane = false;
        if let Ok((sequence, body)) = read {
            match incoming.marked.remove(&sequence) {
                Some(head) => self.complete(&mut incoming, sequence, ReplyRecord { head, body }),
                None => drop(incoming.landed.insert(sequence, body)),
            }
        }
        self.reply_arrived.notify_all();
        incoming
    }

    /// A reply whose data take the lane: it is complete when both are there.
    pub(super) fn marked(&self, incoming: &mut Incoming, sequence: u64, head: ReplyHead, offset: u64) {
        if let Some(body) = incoming.landed.remove(&sequence) {
            return self.complete(incoming, sequence, ReplyRecord { head, body });
        }
        if incoming.pending.is_detached(sequence) {
            self.bulk.set_barrier(offset);
        }
        incoming.marked.insert(sequence, head);
    }

    /// Reads the lane until the barrier is reached.
    pub(super) fn reach_barrier(&self) {
        let mut incoming = lock(&self.incoming);
        while self.bulk.is_behind() && self.lost.get().is_none() {
            incoming = self.read_lane(incoming);
        }
    }

    /// Reads a frame, or waits for the thread that reads one.
    pub(super) fn read_lane<'a>(
        &'a self,
        mut incoming: MutexGuard<'a, Incoming>,
    ) -> MutexGuard<'a, Incoming> {
        if incoming.reading_lane {
            return wait(&self.reply_arrived, incoming);
        }
        incoming.reading_lane = true;
        drop(incoming);
        self.read_frame_for_all()
    }

    /// Takes what the lane has brought, without waiting; `true` when the barrier is reached.
    pub(super) fn look_at_lane(&self) -> bool {
        while self.bulk.is_behind() {
            let mut incoming = lock(&self.incoming);
            if incoming.reading_lane || self.lost.get().is_some() {
                return false;
            }
            incoming.reading_lane = true;
            drop(incoming);
            let arrived = self.bulk.lane.get().map(|lane| lock(&self.bulk.stream).has_arrived(lane));
            match arrived {
                // What has ended is read, too: whoever only looks would look for ever.
                Some(Ok(true) | Err(_)) => drop(self.read_frame_for_all()),
                Some(Ok(false)) | None => {
                    lock(&self.incoming).reading_lane = false;
                    self.reply_arrived.notify_all();
                    return false;
                }
            }
        }
        true
    }

    /// The lane that the worker uses already. The thread that opens it keeps it a moment after the worker has let it in.
    fn lane_in_use(&self) -> Result<&Lane, Loss> {
        const MOMENT: Duration = Duration::from_micros(50);
        loop {
            if let Some(lane) = self.bulk.lane.get() {
                return Ok(lane);
            }
            self.check()?;
            if !self.bulk.was_asked_for.load(Ordering::Acquire) {
                let reason = "this process opened a lane";
                return Err(WireError::Unexpected { call: CallId::BULK_READY, reason }.into());
            }
            std::thread::sleep(MOMENT);
        }
    }

    fn read_frame(&self) -> Result<(u64, Vec<u8>), Loss> {
        let lane = self.lane_in_use()?;
        let mut stream = lock(&self.bulk.stream);
        let mut bytes = [0; FRAME_BYTES];
        stream.read(lane, &mut bytes)?;
        let frame = Frame::decode(&bytes)?;
        // Bounded by the decoding.
        let length = usize::try_from(frame.length).unwrap_or(usize::MAX);
        let destination = lock(&self.incoming).pending.accept_data(frame.sequence)?;
        let mut body = Vec::new();
        match destination {
            Some(destination) => {
                if length != destination.bytes() {
                    return Err(WireError::Malformed { call: CallId::BULK_READY }.into());
                }
                // SAFETY: whoever made the destination promised writable memory that is not used until its call
                // returns, and it returns only after this frame was read or the reading failed.
                unsafe { destination.fill(|row| stream.read(lane, row)) }?;
            }
            None => {
                body.resize(length, 0);
                stream.read(lane, &mut body)?;
            }
        }
        self.bulk.landed.fetch_add(frame.extent(), Ordering::AcqRel);
        Ok((frame.sequence, body))
    }
}
