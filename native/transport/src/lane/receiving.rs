//! The receiving half of a resumable lane.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::link::Link;
use super::packet::{Found, Kind, PacketError, Parser};
use super::resumable::{Cached, LOOK_EVERY, Present, Resumable, lock};
use crate::tls::{Opened, Opener};

/// Bytes asked from a connection at once.
const RECEIVE_BYTES: usize = 256 << 10;

/// Data from here on go straight to where they are wanted.
const DIRECT_FROM: usize = 16 << 10;

/// Bytes that are waited for at once while more of a packet is certain to come.
const BURST: usize = 128 << 10;

/// Bytes that are read before the other end is told.
const ACKNOWLEDGE_EVERY: u64 = 1 << 20;

/// Bytes that are read ahead of whoever wants them, to find the words between them: an honest end has no more on its way,
/// as it keeps what is not acknowledged. With what one look brings it still fits into memory of that size.
const MOST_READY: usize = super::replay::LAST_LIMIT - RECEIVE_BYTES;

/// What has arrived.
#[derive(Debug, Default)]
pub(super) struct Receiving {
    cached: Cached,
    parser: Parser,
    opener: Option<Opener>,
    /// Bytes of the connection, of which those before `raw_end` are not looked at.
    raw: Vec<u8>,
    raw_end: usize,
    /// Bytes of the stream that nobody has read.
    ready: VecDeque<u8>,
    /// Place in the stream up to which bytes have arrived.
    received: u64,
    /// Place in the stream up to which they were read.
    consumed: u64,
    told: u64,
    /// The other end closed in order.
    is_closed: bool,
    /// Whether the socket wakes only for [`BURST`] bytes.
    waits_for_burst: bool,
}

impl Receiving {
    /// How far the other end's stream has arrived.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Whether so much has arrived and was not read that the rest must wait.
    pub(super) fn is_full(&self) -> bool {
        self.ready.len() >= MOST_READY
    }

    /// A new connection begins.
    fn begin(&mut self, link: &Arc<Link>) {
        self.parser = Parser::default();
        self.opener = link.take_opener();
        self.raw_end = 0;
        self.waits_for_burst = false;
        if self.raw.is_empty() {
            self.raw = vec![0; RECEIVE_BYTES];
        }
    }

    /// Before a wait for `wanted` bytes: who waits is woken for many of them at once, as long as as many are certain to come.
    fn expect(&mut self, link: &Link, wanted: usize) {
        let waits_for_burst = self.certain().min(wanted) >= BURST;
        if waits_for_burst != self.waits_for_burst {
            self.waits_for_burst = waits_for_burst;
            link.socket().wake_from(if waits_for_burst { BURST } else { 1 });
        }
    }

    /// After bytes have arrived: others wait at this socket, too, and what is left may be less.
    fn settle(&mut self, link: &Link) {
        if self.waits_for_burst && self.certain() < BURST {
            self.expect(link, 0);
        }
    }

    /// Bytes that are missing of the packet under way.
    fn certain(&self) -> usize {
        self.parser.data_left().saturating_sub(self.raw_end)
    }

    fn take_ready(&mut self, buffer: &mut [u8]) -> usize {
        let count = buffer.len().min(self.ready.len());
        let (first, second) = self.ready.as_slices();
        let here = count.min(first.len());
        buffer[..here].copy_from_slice(&first[..here]);
        buffer[here..count].copy_from_slice(&second[..count - here]);
        self.ready.drain(..count);
        count
    }
}

/// What a look at the connection brought.
enum Look {
    /// So many bytes of the stream.
    Bytes(usize),
    /// Something else.
    Words,
    /// Nothing.
    Nothing,
    /// The stream is over.
    End,
}

impl Resumable {
    /// Receives some bytes; 0 means that the other end closed in order.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut receiving = lock(&self.receiving);
        let started = Instant::now();
        let limit = self.receive_limit.load(Ordering::Relaxed);
        loop {
            match self.look_for_bytes(&mut receiving, buffer) {
                Ok(Look::Bytes(count)) => return Ok(count),
                Ok(Look::End) => return Ok(0),
                Ok(Look::Words) => continue,
                Ok(Look::Nothing) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
                Err(error) => return Err(error),
            }
            let mut time = LOOK_EVERY;
            if limit > 0 {
                let left = Duration::from_millis(limit).saturating_sub(started.elapsed());
                if left.is_zero() {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                time = time.min(left);
            }
            match receiving.cached_link() {
                Some(link) => {
                    receiving.expect(&link, buffer.len());
                    link.socket().wait_until_ready(
                        true,
                        self.has_backlog() && !link.socket().is_delayed(),
                        time,
                    );
                    if self.has_backlog() {
                        self.send_words_now();
                    }
                    if started.elapsed() >= LOOK_EVERY {
                        // It may read, too.
                        drop(receiving);
                        self.look();
                        receiving = lock(&self.receiving);
                    }
                }
                None => {
                    drop(receiving);
                    self.wait_for_link(time)?;
                    receiving = lock(&self.receiving);
                }
            }
        }
    }

    /// Like [`Resumable::receive`], but `None` instead of waiting.
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let mut receiving = lock(&self.receiving);
        loop {
            match self.look_for_bytes(&mut receiving, buffer) {
                Ok(Look::Bytes(count)) => return Ok(Some(count)),
                Ok(Look::End) => return Ok(Some(0)),
                Ok(Look::Words) => {}
                Ok(Look::Nothing) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Some(0)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes what has arrived without waiting, for later: for those who wait for acknowledgements or a sign of life. Answers
    /// whether so much is there that the rest must wait; `None` while another thread receives, which then does it.
    pub(super) fn take_arrived(&self) -> Option<bool> {
        let mut receiving = self.receiving.try_lock().ok()?;
        // An error is met by whoever uses the lane next.
        while !receiving.is_full()
            && matches!(self.look_at_link(&mut receiving, &mut []), Ok(Look::Bytes(_) | Look::Words))
        {
        }
        Some(receiving.is_full())
    }

    fn look_for_bytes(&self, receiving: &mut Receiving, buffer: &mut [u8]) -> io::Result<Look> {
        let mut count = receiving.take_ready(buffer);
        if count == 0 {
            match self.look_at_link(receiving, buffer)? {
                Look::Bytes(more) => count = more,
                other => return Ok(other),
            }
        }
        if receiving.ready.is_empty() {
            self.has_ready.store(false, Ordering::Release);
        }
        receiving.consumed += count as u64;
        if receiving.consumed - receiving.told >= ACKNOWLEDGE_EVERY {
            receiving.told = receiving.consumed;
            self.acknowledgement_due.store(receiving.consumed, Ordering::Release);
            self.send_words_now();
        }
        Ok(if count > 0 { Look::Bytes(count) } else { Look::Words })
    }

    /// Reads the connection once, without waiting. Bytes that `buffer` has no room for are kept.
    fn look_at_link(&self, receiving: &mut Receiving, buffer: &mut [u8]) -> io::Result<Look> {
        let link = match self.refresh(&mut receiving.cached)? {
            Present::Same(link) => link,
            Present::Other(link, _) => {
                receiving.begin(&link);
                link
            }
            Present::Broken => return Ok(Look::Nothing),
        };
        if receiving.is_closed && receiving.ready.is_empty() {
            self.closed();
            return Ok(Look::End);
        }
        let direct = receiving.parser.data_left().min(buffer.len());
        if direct >= DIRECT_FROM && receiving.opener.is_none() {
            return match link.socket().try_receive(&mut buffer[..direct]) {
                Ok(None) => Ok(Look::Nothing),
                Ok(Some(0)) => self.gone(&link, &io::ErrorKind::UnexpectedEof.into()),
                Ok(Some(count)) => {
                    self.has_heard.store(true, Ordering::Release);
                    receiving.parser.skip_data(count);
                    receiving.received += count as u64;
                    receiving.settle(&link);
                    Ok(Look::Bytes(count))
                }
                Err(error) => self.gone(&link, &error),
            };
        }
        let from = receiving.raw_end;
        match link.socket().try_receive(&mut receiving.raw[from..]) {
            Ok(None) => return Ok(Look::Nothing),
            Ok(Some(0)) => return self.gone(&link, &io::ErrorKind::UnexpectedEof.into()),
            Ok(Some(count)) => receiving.raw_end += count,
            Err(error) => return self.gone(&link, &error),
        }
        self.has_heard.store(true, Ordering::Release);
        let look = self.take_apart(receiving, &link, buffer);
        receiving.settle(&link);
        look
    }

    fn gone(&self, link: &Arc<Link>, error: &io::Error) -> io::Result<Look> {
        self.broken(link, error);
        Ok(Look::Words)
    }

    /// Takes the bytes of the connection apart.
    fn take_apart(&self, receiving: &mut Receiving, link: &Arc<Link>, buffer: &mut [u8]) -> io::Result<Look> {
        let Receiving { parser, opener, raw, raw_end, ready, received, is_closed, .. } = receiving;
        let mut taken = Taken { buffer, filled: 0, ready, received, is_closed };
        let mut at = 0;
        let mut failure = None;
        match opener {
            None => {
                if let Err(error) = parser.push(&raw[..*raw_end], |found| self.take(found, &mut taken)) {
                    return Err(self.fail(error.to_string()));
                }
                at = *raw_end;
            }
            Some(opener) => loop {
                let most = parser.data_left();
                match opener.open(&mut raw[at..*raw_end], taken.place(most)) {
                    Ok(Opened::Partial) => break,
                    Ok(Opened::Placed(count, length)) => {
                        parser.skip_data(count);
                        taken.placed(count);
                        at += length;
                    }
                    Ok(Opened::Data(bytes, length)) => {
                        if let Err(error) = parser.push(bytes, |found| self.take(found, &mut taken)) {
                            return Err(self.fail(error.to_string()));
                        }
                        at += length;
                    }
                    Ok(Opened::End) => {
                        failure = Some(io::ErrorKind::UnexpectedEof.into());
                        break;
                    }
                    // Whoever sits on the wire can break a connection, but not end the lane.
                    Err(error) => {
                        failure = Some(io::Error::from(error));
                        break;
                    }
                }
            },
        }
        let filled = taken.filled;
        raw.copy_within(at..*raw_end, 0);
        *raw_end -= at;
        if !ready.is_empty() {
            self.has_ready.store(true, Ordering::Release);
        }
        if let Some(error) = failure {
            self.broken(link, &error);
        }
        Ok(if filled > 0 { Look::Bytes(filled) } else { Look::Words })
    }

    fn take(&self, found: Found<'_>, taken: &mut Taken<'_>) -> Result<(), PacketError> {
        match found {
            Found::Data(bytes) => taken.data(bytes),
            Found::Words(Kind::Acknowledge, words) => {
                let offset = words.try_into().map(u64::from_le_bytes).unwrap_or(u64::MAX);
                self.acknowledged.fetch_max(offset, Ordering::AcqRel);
                self.notify();
            }
            Found::Words(Kind::Ping, _) => {
                self.pong_due.store(true, Ordering::Release);
                self.send_words_now();
            }
            Found::Words(Kind::Pong, _) => {}
            Found::Words(Kind::Close, _) => *taken.is_closed = true,
            Found::Words(kind, _) => return Err(PacketError::Misplaced(kind)),
        }
        Ok(())
    }
}

impl Receiving {
    fn cached_link(&self) -> Option<Arc<Link>> {
        self.cached.link().cloned()
    }
}

/// Where the bytes of the stream go.
struct Taken<'a> {
    buffer: &'a mut [u8],
    filled: usize,
    ready: &'a mut VecDeque<u8>,
    received: &'a mut u64,
    is_closed: &'a mut bool,
}

impl Taken<'_> {
    /// Where the next `most` bytes of the stream may be put at once, and a byte more that means nothing.
    fn place(&mut self, most: usize) -> &mut [u8] {
        if !self.ready.is_empty() {
            return &mut [];
        }
        let room = self.buffer.len() - self.filled;
        &mut self.buffer[self.filled..][..room.min(most.saturating_add(1))]
    }

    /// So many bytes were put there.
    fn placed(&mut self, count: usize) {
        *self.received += count as u64;
        self.filled += count;
    }

    fn data(&mut self, bytes: &[u8]) {
        *self.received += bytes.len() as u64;
        let room = if self.ready.is_empty() { self.buffer.len() - self.filled } else { 0 };
        let (now, later) = bytes.split_at(bytes.len().min(room));
        self.buffer[self.filled..self.filled + now.len()].copy_from_slice(now);
        self.filled += now.len();
        let needed = self.ready.len() + later.len();
        if needed > self.ready.capacity() {
            // Doubled as usual, but not beyond what it may have to hold.
            let capacity = (2 * self.ready.capacity()).min(MOST_READY + RECEIVE_BYTES).max(needed);
            self.ready.reserve_exact(capacity - self.ready.len());
        }
        self.ready.extend(later);
    }
}
