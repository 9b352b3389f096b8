//! A longer line than there is: emulated delay, for tests.
//!
//! Machines without `netem` still have to tell what a program costs at 30 ms. One end emulates both directions:
//! outgoing bytes are held for half a round trip before the kernel gets them, incoming bytes are stamped when they
//! arrive and released half a round trip later. Order is kept and throughput is not limited; windows of TCP are not
//! reproduced. The real round trip of the connection comes on top.

use std::collections::VecDeque;
use std::io;
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::duration::parse_duration;
use crate::socket::Socket;

/// Sleeping ends late by this much (timer slack and waking), so the rest before a deadline is spun.
const SPIN: Duration = Duration::from_micros(150);

/// So close to the deadline the processor is kept even if others want it.
const LAST_SPIN: Duration = Duration::from_micros(5);

/// Bytes with one stamp: large sends and receipts are cut into pieces of this size.
const CHUNK: usize = 256 << 10;

/// Bytes that may be under way in one direction; more than the fastest link here moves in 100 ms.
const LINE_LIMIT: usize = 512 << 20;

/// Smaller pieces get memory of their own size and are not reused.
const SMALL: usize = CHUNK / 4;

/// Buffers of `CHUNK` bytes kept for reuse, because first touching fresh memory is slower than the network.
const SPARE_LIMIT: usize = 512;

/// How long an emulated round trip takes, read from texts such as `50us`, `1ms`, `0.03s`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EmulatedRtt(Duration);

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a round-trip time, expected a number with `us`, `ms` or `s`, such as `30ms`")]
pub struct EmulatedRttError {
    given: String,
}

impl FromStr for EmulatedRtt {
    type Err = EmulatedRttError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        /// More is a mistake in the unit.
        const LONGEST: Duration = Duration::from_secs(60);
        match parse_duration(text) {
            Some(time) if time <= LONGEST => Ok(EmulatedRtt(time)),
            _ => Err(EmulatedRttError { given: text.to_owned() }),
        }
    }
}

impl From<Duration> for EmulatedRtt {
    fn from(time: Duration) -> Self {
        EmulatedRtt(time)
    }
}

impl From<EmulatedRtt> for Duration {
    fn from(rtt: EmulatedRtt) -> Self {
        rtt.0
    }
}

impl EmulatedRtt {
    /// Whether there is anything to emulate.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

/// Both directions of a socket with an emulated delay.
#[derive(Debug)]
pub(crate) struct Delay {
    half: Duration,
    /// A second descriptor of the connection, used by the two threads.
    kernel: Socket,
    outgoing: Line,
    incoming: Line,
}

/// One direction: chunks in order, each with the time of its release.
#[derive(Debug, Default)]
struct Line {
    state: Mutex<LineState>,
    /// The first chunk came, or the line ended.
    arrived: Condvar,
    /// Bytes left the line, or it ended.
    left: Condvar,
}

#[derive(Debug, Default)]
struct LineState {
    chunks: VecDeque<Chunk>,
    /// Bytes in `chunks` and in the hands of the thread that is sending.
    bytes: usize,
    spare: Vec<Vec<u8>>,
    /// Nothing is accepted any more; what is on the line still arrives.
    is_finishing: bool,
    /// The line is cut; whoever waits returns.
    is_cut: bool,
    failure: Option<Errno>,
    /// Senders wait until their bytes have left, but not longer than this.
    flush_within: Option<Duration>,
}

#[derive(Debug)]
struct Chunk {
    release: Instant,
    load: Load,
}

#[derive(Debug)]
enum Load {
    Bytes {
        bytes: Vec<u8>,
        taken: usize,
    },
    /// The other end closed, or the connection failed.
    End(Option<Errno>),
}

type State<'a> = MutexGuard<'a, LineState>;

impl Delay {
    /// Starts the two threads by `spawn`, which gets a name and a body.
    pub(crate) fn start(
        rtt: EmulatedRtt,
        kernel: Socket,
        spawn: impl Fn(&str, Box<dyn FnOnce() + Send>) -> io::Result<()>,
    ) -> io::Result<Arc<Delay>> {
        let delay =
            Arc::new(Delay { half: rtt.0 / 2, kernel, outgoing: Line::default(), incoming: Line::default() });
        let (sender, receiver) = (Arc::clone(&delay), Arc::clone(&delay));
        spawn("farpool-delay-s", Box::new(move || sender.send_forever()))?;
        let started = spawn("farpool-delay-r", Box::new(move || receiver.receive_forever()));
        if started.is_err() {
            delay.shutdown();
        }
        started?;
        Ok(delay)
    }

    pub(crate) fn send_all(&self, parts: &[&[u8]]) -> io::Result<()> {
        let mut left = parts.iter().map(|part| part.len()).sum::<usize>();
        let mut load = self.outgoing.lock().buffer(left);
        for part in parts {
            let mut part = *part;
            while !part.is_empty() {
                let here = part.len().min(CHUNK - load.len());
                load.extend_from_slice(&part[..here]);
                part = &part[here..];
                left -= here;
                if load.len() == CHUNK {
                    load = self.hand_over(load)?.buffer(left);
                }
            }
        }
        let state = self.hand_over(load)?;
        match state.flush_within {
            Some(limit) => self.outgoing.flush(state, limit + self.half),
            None => Ok(()),
        }
    }

    fn hand_over(&self, bytes: Vec<u8>) -> io::Result<State<'_>> {
        let mut state = self.outgoing.lock();
        loop {
            if let Some(failure) = state.failure {
                return Err(failure.into());
            }
            if state.is_cut || state.is_finishing {
                return Err(Errno::PIPE.into());
            }
            if state.bytes < LINE_LIMIT {
                break;
            }
            state = wait(&self.outgoing.left, state);
        }
        if !bytes.is_empty() {
            let release = Instant::now() + self.half;
            self.outgoing.push(&mut state, release, Load::Bytes { bytes, taken: 0 });
        }
        Ok(state)
    }

    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut state = self.incoming.lock();
        loop {
            if let Some(count) = self.incoming.take_due(&mut state, buffer) {
                return count;
            }
            state = self.incoming.until_due(state);
        }
    }

    /// What is due now; `None` when nothing is.
    pub(crate) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.incoming.take_due(&mut self.incoming.lock(), buffer).transpose()
    }

    /// Waits until something is due, `time` at most.
    pub(crate) fn wait_until_due(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let mut state = self.incoming.lock();
        loop {
            let now = Instant::now();
            let next = state.chunks.front().map(|chunk| chunk.release);
            if state.is_cut || next.is_some_and(|release| release <= now) || now >= deadline {
                return;
            }
            state = match next {
                Some(release) if release <= deadline => self.incoming.until_due(state),
                _ => {
                    let left = deadline - now;
                    self.incoming.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// From now on sends wait until their bytes have left. Waits for those under way: a process that ends takes its
    /// threads with it, where a real line would have delivered.
    pub(crate) fn limit_sending(&self, limit: Duration) {
        self.kernel.limit_sending(limit);
        let mut state = self.outgoing.lock();
        state.flush_within = Some(limit);
        // A failure is met by the next send.
        let _ = self.outgoing.flush(state, limit + self.half);
    }

    pub(crate) fn shutdown(&self) {
        self.outgoing.cut();
        self.incoming.cut();
        self.kernel.shutdown();
    }

    /// The socket was dropped: what is under way still arrives, then the connection ends.
    pub(crate) fn finish(&self) {
        self.incoming.cut();
        let mut state = self.outgoing.lock();
        state.is_finishing = true;
        if state.failure.is_some() {
            self.kernel.shutdown();
        }
        drop(state);
        self.outgoing.arrived.notify_all();
    }

    fn send_forever(&self) {
        let line = &self.outgoing;
        let mut state = line.lock();
        loop {
            let now = Instant::now();
            let mut batch = Vec::new();
            while state.chunks.front().is_some_and(|chunk| chunk.release <= now) {
                if let Some(Chunk { load: Load::Bytes { bytes, .. }, .. }) = state.chunks.pop_front() {
                    batch.push(bytes);
                }
            }
            if batch.is_empty() {
                if state.is_finishing && state.bytes == 0 {
                    self.kernel.shutdown();
                    return;
                }
                if state.is_cut || state.failure.is_some() {
                    return;
                }
                state = line.until_due(state);
                continue;
            }
            drop(state);
            let parts: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
            let sent = self.kernel.send_all(&parts);
            let count = parts.iter().map(|part| part.len()).sum::<usize>();
            state = line.lock();
            state.bytes = state.bytes.saturating_sub(count);
            for buffer in batch {
                state.keep(buffer);
            }
            if let Err(error) = sent {
                state.failure = Some(errno(&error));
                state.chunks.clear();
            }
            line.left.notify_all();
        }
    }

    fn receive_forever(&self) {
        let line = &self.incoming;
        let mut buffer = vec![0; CHUNK];
        loop {
            let received = self.kernel.receive(&mut buffer);
            let release = Instant::now() + self.half;
            let mut state = line.lock();
            while state.bytes >= LINE_LIMIT && !state.is_cut {
                state = wait(&line.left, state);
            }
            if state.is_cut {
                return;
            }
            match received {
                Ok(0) => return line.push(&mut state, release, Load::End(None)),
                Err(error) => return line.push(&mut state, release, Load::End(Some(errno(&error)))),
                Ok(count) => {
                    let mut bytes = state.buffer(count);
                    if count < SMALL {
                        bytes.extend_from_slice(&buffer[..count]);
                    } else {
                        std::mem::swap(&mut bytes, &mut buffer);
                        bytes.truncate(count);
                        buffer.resize(CHUNK, 0);
                    }
                    line.push(&mut state, release, Load::Bytes { bytes, taken: 0 });
                }
            }
        }
    }
}

impl Line {
    fn lock(&self) -> State<'_> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, state: &mut State<'_>, release: Instant, load: Load) {
        if let Load::Bytes { bytes, .. } = &load {
            state.bytes += bytes.len();
        }
        let was_empty = state.chunks.is_empty();
        state.chunks.push_back(Chunk { release, load });
        // Whoever waits behind another chunk waits for that one's release.
        if was_empty {
            self.arrived.notify_all();
        }
    }

    /// Moves what is due into `buffer`; `None` when nothing is.
    fn take_due(&self, state: &mut State<'_>, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        let mut filled = 0;
        let now = Instant::now();
        while filled < buffer.len() {
            let Some(Chunk { release, load }) = state.chunks.front_mut() else { break };
            if *release > now {
                break;
            }
            let (bytes, taken) = match load {
                Load::Bytes { bytes, taken } => (bytes, taken),
                Load::End(_) if filled > 0 => break,
                Load::End(None) => return Some(Ok(0)),
                Load::End(Some(failure)) => return Some(Err((*failure).into())),
            };
            let here = (bytes.len() - *taken).min(buffer.len() - filled);
            buffer[filled..filled + here].copy_from_slice(&bytes[*taken..*taken + here]);
            *taken += here;
            filled += here;
            if *taken == bytes.len() {
                let emptied = std::mem::take(bytes);
                state.chunks.pop_front();
                state.keep(emptied);
            }
        }
        if filled > 0 {
            let was_full = state.bytes >= LINE_LIMIT;
            state.bytes -= filled;
            if was_full {
                self.left.notify_all();
            }
            return Some(Ok(filled));
        }
        state.is_cut.then_some(Ok(0))
    }

    /// Waits for the release of the first chunk, for its arrival, or for the end: the caller looks again.
    fn until_due<'a>(&'a self, state: State<'a>) -> State<'a> {
        let Some(release) = state.chunks.front().map(|chunk| chunk.release) else {
            if state.is_cut || state.is_finishing {
                return state;
            }
            return wait(&self.arrived, state);
        };
        let left = release.saturating_duration_since(Instant::now());
        if left > SPIN {
            return self.arrived.wait_timeout(state, left - SPIN).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        spin_until(release);
        self.lock()
    }

    fn flush(&self, mut state: State<'_>, limit: Duration) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(failure) = state.failure {
                return Err(failure.into());
            }
            if state.bytes == 0 || state.is_cut {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Errno::AGAIN.into());
            }
            state = self.left.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn cut(&self) {
        let mut state = self.lock();
        state.is_cut = true;
        state.chunks.clear();
        state.bytes = 0;
        drop(state);
        self.arrived.notify_all();
        self.left.notify_all();
    }
}

impl LineState {
    /// An empty buffer for the next piece of `bytes`.
    fn buffer(&mut self, bytes: usize) -> Vec<u8> {
        if bytes < SMALL {
            return Vec::with_capacity(bytes);
        }
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK))
    }

    fn keep(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() >= CHUNK && self.spare.len() < SPARE_LIMIT {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

fn spin_until(deadline: Instant) {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if left > LAST_SPIN {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn wait<'a>(condvar: &Condvar, guard: State<'a>) -> State<'a> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "delay_tests.rs"]
mod tests;
