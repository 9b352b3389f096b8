//! The receiving end of the client's bulk lane: the data of long records, which arrive beside the records.
//!
//! A reader thread takes the frames in their order. Whose record has come already has its pinned buffer waiting, and
//! the bytes are received straight into it; others go to plain memory, so that a frame never waits for a record: the
//! record may be behind others that wait for later frames.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use transport::Lane;
use wire::bulk::{FRAME_BYTES, Frame};
use wire::{CallId, WireError};

use crate::counters::Counters;
use crate::staging::{Buffer, Staging};
use crate::wake::Wake;

/// Room before the data in which the rest of their record fits, so that it can be read in one piece.
pub const ROOM: usize = 256;

/// Bytes that may have arrived without being asked for; beyond that the client is held back.
const LIMIT: usize = 1 << 30;

/// Pieces of plain memory that are kept, and how long they are at most: as the data of most records.
const MOST_SPARE: usize = 8;
const SPARE_BYTES: usize = (4 << 20) + ROOM;

/// How long a frame waits for its record's buffer: the record left first, but on another connection.
const RECORD_IS_COMING: Duration = Duration::from_millis(1);

/// The data of a record, [`ROOM`] bytes behind the beginning of their memory.
#[derive(Debug)]
pub enum Data {
    /// In a pinned buffer, from which the GPU can copy; the number of data bytes.
    Pinned(Buffer, usize),
    /// In plain memory, which may be longer; the number of data bytes.
    Plain(Vec<u8>, usize),
}

impl Data {
    /// Bytes of data.
    pub fn length(&self) -> usize {
        match self {
            Data::Pinned(_, length) | Data::Plain(_, length) => *length,
        }
    }

    /// The record's payload in one piece: `front`, which must fit into [`ROOM`], and the data behind it.
    pub fn payload(&mut self, front: &[u8]) -> Option<&[u8]> {
        let (start, end) = (ROOM.checked_sub(front.len())?, ROOM + self.length());
        let whole = match self {
            Data::Pinned(buffer, _) => buffer.bytes_mut(end),
            Data::Plain(bytes, _) => &mut bytes[..end],
        };
        whole.get_mut(start..ROOM)?.copy_from_slice(front);
        whole.get(start..end)
    }

    fn place(&mut self) -> &mut [u8] {
        let end = ROOM + self.length();
        match self {
            Data::Pinned(buffer, _) => &mut buffer.bytes_mut(end)[ROOM..],
            Data::Plain(bytes, _) => &mut bytes[ROOM..end],
        }
    }
}

/// Data that have arrived, and records that wait for theirs.
#[derive(Debug)]
pub struct Arrivals {
    state: Mutex<State>,
    changed: Condvar,
    wake: Arc<Wake>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct State {
    /// By record; without a buffer the data go to plain memory.
    expected: HashMap<u64, Option<(Buffer, usize)>>,
    /// Frames that are being received.
    under_way: HashSet<u64>,
    arrived: HashMap<u64, Data>,
    /// Bytes in `arrived`.
    bytes: usize,
    /// Plain memory that was used before: new memory costs a write of zeros.
    spare: Vec<Vec<u8>>,
}

impl State {
    fn plain(&mut self, size: usize) -> Vec<u8> {
        let fitting = self.spare.iter().position(|bytes| bytes.len() >= size);
        fitting.map_or_else(|| vec![0; size], |place| self.spare.swap_remove(place))
    }
}

impl Arrivals {
    /// Nothing has arrived; `wake` is told when something has.
    pub fn new(wake: Arc<Wake>, counters: Arc<Counters>) -> Arrivals {
        Arrivals { state: Mutex::default(), changed: Condvar::new(), wake, counters }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the data of record `sequence` have arrived, or have begun to: no buffer is needed for them any more.
    pub fn has_begun(&self, sequence: u64) -> bool {
        let state = self.state();
        state.arrived.contains_key(&sequence) || state.under_way.contains(&sequence)
    }

    /// Has the `length` bytes of record `sequence` received into `buffer`, unless they are on their way already.
    pub fn expect(&self, sequence: u64, buffer: Buffer, length: usize, staging: &Staging) {
        let mut state = self.state();
        if state.arrived.contains_key(&sequence) || state.under_way.contains(&sequence) {
            drop(state);
            staging.give(buffer);
            return;
        }
        state.expected.insert(sequence, Some((buffer, length)));
        self.changed.notify_all();
    }

    /// The data of record `sequence` go to plain memory, unless they are on their way already.
    pub fn expect_plain(&self, sequence: u64) {
        let mut state = self.state();
        if !state.arrived.contains_key(&sequence) && !state.under_way.contains(&sequence) {
            state.expected.insert(sequence, None);
            self.changed.notify_all();
        }
    }

    /// Takes the data of record `sequence`, if they are there.
    pub fn take(&self, sequence: u64) -> Option<Data> {
        let mut state = self.state();
        let data = state.arrived.remove(&sequence)?;
        state.bytes -= data.length();
        self.changed.notify_all();
        Some(data)
    }

    /// Puts data back whose record must be tried again.
    pub fn put_back(&self, sequence: u64, data: Data) {
        let mut state = self.state();
        state.bytes += data.length();
        state.arrived.insert(sequence, data);
    }

    /// Keeps plain memory for other data.
    pub fn recycle(&self, bytes: Vec<u8>) {
        let mut state = self.state();
        if state.spare.len() < MOST_SPARE && bytes.len() <= SPARE_BYTES {
            state.spare.push(bytes);
        }
    }

    /// Starts the reader thread. A lane that breaks ends the connection: records would wait for their data for ever.
    pub fn start(self: &Arc<Self>, lane: Arc<Lane>, control: Arc<Lane>) -> anyhow::Result<()> {
        let arrivals = Arc::clone(self);
        let receive = move || {
            // A client that ends closes both connections in order, and its last records are still to be read.
            if let Err(error) = arrivals.receive_forever(&lane) {
                tracing::error!("bulk lane: {error:#}");
                control.shutdown();
            }
        };
        std::thread::Builder::new()
            .name("bulk".into())
            .spawn(receive)
            .context("start the bulk lane's thread")?;
        Ok(())
    }

    fn receive_forever(&self, lane: &Lane) -> anyhow::Result<()> {
        loop {
            let mut bytes = [0; FRAME_BYTES];
            // Only before a frame is an end in order.
            let count = lane.receive(&mut bytes).context("receive a frame")?;
            if count == 0 {
                return Ok(());
            }
            lane.receive_exact(&mut bytes[count..]).context("receive a frame")?;
            let frame = Frame::decode(&bytes)?;
            let mut data = self.begin(&frame)?;
            lane.receive_exact(data.place()).context("receive a frame's data")?;
            Counters::add(&self.counters.bytes_received, frame.extent());
            let mut state = self.state();
            state.under_way.remove(&frame.sequence);
            state.bytes += data.length();
            state.arrived.insert(frame.sequence, data);
            drop(state);
            self.wake.wake();
        }
    }

    /// Where the data of a frame go.
    fn begin(&self, frame: &Frame) -> anyhow::Result<Data> {
        let length = usize::try_from(frame.length)?;
        let mut state = self.state();
        while state.bytes >= LIMIT {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.arrived.contains_key(&frame.sequence) {
            bail!("record {} has two frames", frame.sequence);
        }
        if !state.expected.contains_key(&frame.sequence) {
            let wait = self.changed.wait_timeout_while(state, RECORD_IS_COMING, |state| {
                !state.expected.contains_key(&frame.sequence)
            });
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.under_way.insert(frame.sequence);
        Ok(match state.expected.remove(&frame.sequence).flatten() {
            Some((buffer, expected)) => {
                if expected != length {
                    return Err(WireError::Malformed { call: CallId::BULK_READY }.into());
                }
                Data::Pinned(buffer, length)
            }
            None => Data::Plain(state.plain(ROOM + length), length),
        })
    }
}
