//! The sending half of a resumable lane.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::link::Link;
use super::packet::{HEAD_BYTES, Head, Kind, MOST_DATA, put_words};
use super::replay::{Loan, Replay};
use super::resumable::{Cached, LOOK_EVERY, Present, Resumable, lock};
use super::unsent::Unsent;
use crate::tls::{MOST_PLAINTEXT, Sealer};

/// Bytes that are taken over before they are written.
const GATHER: usize = 256 << 10;

/// A packet of no more bytes is one record, for which its head and its data are put together; else the head has a record
/// of its own, and the data are sealed from where they are.
const SHORT: usize = 4 << 10;

/// Bytes of the longest loan that is taken: there is room for it at some time.
const WHOLE: usize = 8 << 20;

/// How long a sender that waits for room sleeps before it looks for itself.
const ROOM_LOOK: Duration = Duration::from_millis(20);

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Sending {
    cached: Cached,
    replay: Replay,
    sealer: Option<Sealer>,
    /// Bytes for the present connection that it did not take.
    unsent: Unsent,
    /// Bytes of the stream that belong to a packet whose head is written.
    packet_left: usize,
    /// When the last full ring was seen, and where the stream was acknowledged then: for the speed of the link.
    measured: Option<(Instant, u64)>,
}

/// How far a send may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Until all is written.
    Wait,
    /// As far as the connection takes it at once.
    Now,
}

impl Resumable {
    /// Sends all parts, in order; they may be reused when this returns.
    pub fn send_all(&self, parts: &[&[u8]]) -> io::Result<()> {
        let mut sending = lock(&self.sending);
        for part in parts {
            for piece in part.chunks(GATHER) {
                self.keep(&mut sending, piece)?;
            }
        }
        let written = self.write(&mut sending, Mode::Wait);
        self.let_go(sending);
        written
    }

    /// Adds a copy of `piece` to the stream, and writes what has gathered.
    fn keep(&self, sending: &mut MutexGuard<'_, Sending>, mut piece: &[u8]) -> io::Result<()> {
        while !piece.is_empty() {
            let room = self.wait_for_room(sending, 1)?;
            let (now, later) = piece.split_at(piece.len().min(room));
            sending.replay.push(now);
            piece = later;
            if sending.replay.backlog() >= GATHER as u64 {
                self.write(sending, Mode::Wait)?;
                // What is kept stays little enough for the processor's cache where it is acknowledged early.
                self.take_arrived();
            }
        }
        Ok(())
    }

    /// Sends `front` and behind it the bytes of `loan` from `skip` on, which are not copied where that can be avoided. The loan
    /// is given back when the other end has read it, and by [`Resumable::repay`].
    pub fn send_loan(&self, front: &[u8], loan: Loan, skip: usize) -> io::Result<()> {
        let bytes = loan.as_ref().as_ref().get(skip..).unwrap_or(&[]);
        let count = bytes.len();
        let mut sending = lock(&self.sending);
        if count == 0 || count > WHOLE || !sending.replay.borrows(count) {
            drop(sending);
            return self.send_all(&[front, bytes]);
        }
        self.keep(&mut sending, front)?;
        self.wait_for_room(&mut sending, count)?;
        sending.replay.push_loan(loan, skip);
        let written = self.write(&mut sending, Mode::Wait);
        self.take_arrived();
        let trimmed = self.trim(&mut sending);
        self.let_go(sending);
        written.and(trimmed)
    }

    /// Gives back what was lent: what may have to be sent again is copied.
    pub fn repay(&self) -> io::Result<()> {
        self.take_arrived();
        let mut sending = lock(&self.sending);
        let trimmed = self.trim(&mut sending);
        sending.replay.repay();
        trimmed
    }

    /// Takes over what there is room for, and writes what the connection takes at once. Answers how much was taken;
    /// [`Resumable::has_backlog`] tells whether it is all written.
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut sending = lock(&self.sending);
        let mut taken = 0;
        for piece in bytes.chunks(GATHER) {
            self.write(&mut sending, Mode::Now)?;
            if self.has_backlog() {
                break;
            }
            self.trim(&mut sending)?;
            let now = piece.len().min(sending.replay.room());
            sending.replay.push(&piece[..now]);
            taken += now;
            if now < piece.len() {
                break;
            }
        }
        let written = self.write(&mut sending, Mode::Now);
        self.let_go(sending);
        written.map(|()| taken)
    }

    /// Writes everything that was taken over.
    pub fn flush(&self) -> io::Result<()> {
        let mut sending = lock(&self.sending);
        let written = self.write(&mut sending, Mode::Wait);
        self.let_go(sending);
        written
    }

    /// Whether anything is to be written.
    pub fn has_backlog(&self) -> bool {
        self.has_backlog.load(Ordering::Acquire)
    }

    /// Sends the words that are due, unless another thread is sending, which then sends these, too.
    pub(super) fn send_words_now(&self) {
        while let Ok(mut sending) = self.sending.try_lock() {
            // A connection that breaks is met by whoever uses it next.
            if self.write(&mut sending, Mode::Now).is_err() || !self.has_words() {
                return;
            }
        }
    }

    /// Whether words are due that could leave: they became so while this thread was about to stop sending.
    fn has_words(&self) -> bool {
        let is_due = self.acknowledgement_due.load(Ordering::Acquire) > 0
            || self.ping_due.load(Ordering::Acquire)
            || self.pong_due.load(Ordering::Acquire);
        is_due && !self.has_backlog()
    }

    /// Lets go of the sending half. Who wanted to send words meanwhile has left them to this thread.
    fn let_go(&self, sending: MutexGuard<'_, Sending>) {
        drop(sending);
        if self.has_words() {
            self.send_words_now();
        }
    }

    /// Says that nothing follows.
    pub(super) fn send_close(&self, sending: &mut MutexGuard<'_, Sending>) {
        if self.write(sending, Mode::Now).is_ok() && !self.has_backlog() {
            let mut packet = Vec::new();
            put_words(&mut packet, Kind::Close, &[]);
            if sending.put_packet(&packet).is_ok() {
                let _ = self.write(sending, Mode::Now);
            }
        }
    }

    fn trim(&self, sending: &mut Sending) -> io::Result<()> {
        let offset = self.acknowledged.load(Ordering::Acquire);
        // Not behind what was given to the connection: checked when it came.
        sending.replay.acknowledge(offset).map_err(|error| self.fail(error.to_string()))
    }

    /// Waits until `wanted` bytes more may be kept, [`WHOLE`] at most; answers how many.
    fn wait_for_room(&self, sending: &mut MutexGuard<'_, Sending>, wanted: usize) -> io::Result<usize> {
        let started = Instant::now();
        loop {
            self.trim(sending)?;
            let room = sending.replay.room();
            if room >= wanted {
                return Ok(room);
            }
            self.write(sending, Mode::Wait)?;
            if let Some(link) = self.link() {
                sending.measure(self.acknowledged.load(Ordering::Acquire), link.socket().round_trip());
            }
            self.check_limit(started)?;
            // Where nobody reads the other direction, this thread does: acknowledgements come there.
            let is_full = self.take_arrived().unwrap_or(false);
            let seen = self.acknowledged.load(Ordering::Acquire);
            if seen > sending.replay.start() {
                continue;
            }
            match self.link() {
                Some(link) if !is_full && self.receiving.try_lock().is_ok() => {
                    link.socket().wait_until_ready(true, false, ROOM_LOOK);
                }
                _ => self.sleep(ROOM_LOOK, || self.acknowledged.load(Ordering::Acquire) == seen),
            }
            self.look_while_waiting(started);
        }
    }

    /// Silence counts while somebody waits, too.
    fn look_while_waiting(&self, started: Instant) {
        if started.elapsed() >= LOOK_EVERY {
            self.look();
        }
    }

    fn check_limit(&self, started: Instant) -> io::Result<()> {
        let limit = self.send_limit.load(Ordering::Relaxed);
        if limit > 0 && started.elapsed() >= Duration::from_millis(limit) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    fn write(&self, sending: &mut Sending, mode: Mode) -> io::Result<()> {
        let mut started = None;
        loop {
            let link = match self.refresh(&mut sending.cached)? {
                Present::Same(link) => link,
                Present::Other(link, peer_received) => {
                    sending.begin(&link, peer_received).map_err(|error| self.fail(error.to_string()))?;
                    link
                }
                Present::Broken if mode == Mode::Now => {
                    self.has_backlog.store(true, Ordering::Release);
                    return Ok(());
                }
                Present::Broken => {
                    let started = *started.get_or_insert_with(Instant::now);
                    self.check_limit(started)?;
                    self.wait_for_link(LOOK_EVERY)?;
                    continue;
                }
            };
            if sending.is_written() && !self.encode(sending, &link)? {
                self.has_backlog.store(false, Ordering::SeqCst);
                if self.has_changed(&sending.cached) {
                    // Whoever brought another connection could not send on it, as this thread was sending.
                    continue;
                }
                return Ok(());
            }
            let (first, second) = sending.replay.unwritten(sending.packet_left);
            let parts = [IoSlice::new(sending.unsent.left()), IoSlice::new(first), IoSlice::new(second)];
            match link.socket().send_some(&parts) {
                Ok(Some(count)) => sending.sent(count),
                Ok(None) if mode == Mode::Now => {
                    self.has_backlog.store(true, Ordering::Release);
                    return Ok(());
                }
                Ok(None) => {
                    let started = *started.get_or_insert_with(Instant::now);
                    self.check_limit(started)?;
                    link.socket().wait_until_ready(false, true, LOOK_EVERY);
                    self.look_while_waiting(started);
                }
                Err(error) => self.broken(&link, &error),
            }
        }
    }

    /// Puts what is due next into `unsent`; `false` when nothing is.
    fn encode(&self, sending: &mut Sending, link: &Arc<Link>) -> io::Result<bool> {
        sending.unsent.clear();
        let mut words = Vec::new();
        let due = self.acknowledgement_due.swap(0, Ordering::AcqRel);
        if due > 0 {
            put_words(&mut words, Kind::Acknowledge, &due.to_le_bytes());
        }
        if self.ping_due.swap(false, Ordering::AcqRel) {
            put_words(&mut words, Kind::Ping, &[]);
        }
        if self.pong_due.swap(false, Ordering::AcqRel) {
            put_words(&mut words, Kind::Pong, &[]);
        }
        if !words.is_empty() {
            sending.put_packet(&words)?;
        }
        if sending.sealer.as_ref().is_some_and(Sealer::is_worn) {
            self.broken(link, &io::Error::other("its keys are worn"));
            return Ok(true);
        }
        sending.begin_packet()?;
        Ok(!sending.is_written())
    }
}

impl Sending {
    /// A new connection begins.
    fn begin(&mut self, link: &Arc<Link>, peer_received: u64) -> Result<(), super::packet::PacketError> {
        self.unsent.clear();
        self.packet_left = 0;
        self.sealer = link.take_sealer();
        self.replay.rewind(peer_received)
    }

    /// Whether everything that was begun is written.
    fn is_written(&self) -> bool {
        self.unsent.left().is_empty() && self.packet_left == 0
    }

    /// Adds whole packets that are no data.
    fn put_packet(&mut self, packets: &[u8]) -> io::Result<()> {
        match &mut self.sealer {
            Some(sealer) => self.unsent.add_sealed(sealer, &[packets]),
            None => {
                self.unsent.add(packets.len()).copy_from_slice(packets);
                Ok(())
            }
        }
    }

    /// Begins a packet with the next bytes of the stream, if there are any: sealed, or only its head.
    fn begin_packet(&mut self) -> io::Result<()> {
        let Some(sealer) = &mut self.sealer else {
            let (first, second) = self.replay.unwritten(MOST_DATA);
            let length = first.len() + second.len();
            if length > 0 {
                let head = Head { kind: Kind::Data, length }.encode();
                self.unsent.add(HEAD_BYTES).copy_from_slice(&head);
                self.packet_left = length;
            }
            return Ok(());
        };
        let (first, second) = self.replay.unwritten(GATHER);
        let length = first.len() + second.len();
        if length == 0 {
            return Ok(());
        }
        let head = Head { kind: Kind::Data, length }.encode();
        if HEAD_BYTES + length <= SHORT {
            self.unsent.add_sealed(sealer, &[&head, first, second])?;
        } else {
            let pieces = first.chunks(MOST_PLAINTEXT).chain(second.chunks(MOST_PLAINTEXT));
            for piece in std::iter::once(&head[..]).chain(pieces) {
                self.unsent.add_sealed(sealer, &[piece])?;
            }
        }
        self.replay.advance(length);
        Ok(())
    }

    /// The connection took `count` bytes.
    fn sent(&mut self, count: usize) {
        let data = self.unsent.took(count);
        self.packet_left -= data;
        self.replay.advance(data);
    }

    /// The ring is full: keeps more where that is because the link is long.
    fn measure(&mut self, acknowledged: u64, round_trip: Duration) {
        /// Several acknowledgements come in it on any link that is fast enough to need a larger ring.
        const PERIOD: Duration = Duration::from_millis(100);
        let now = Instant::now();
        let Some((since, from)) = self.measured else {
            self.measured = Some((now, acknowledged));
            return;
        };
        let elapsed = now - since;
        if elapsed < PERIOD.max(2 * round_trip) {
            return;
        }
        let per_second =
            u128::from(acknowledged.saturating_sub(from)) * 1_000_000 / elapsed.as_micros().max(1);
        let under_way = per_second * round_trip.as_micros() / 1_000_000;
        self.replay.grow_for(u64::try_from(under_way).unwrap_or(u64::MAX));
        self.measured = Some((now, acknowledged));
    }
}
