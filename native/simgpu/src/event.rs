//! Events: a place in a stream and the time at which the stream got there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cuda_abi::{CU_EVENT_DISABLE_TIMING, CUevent, CUresult};

use crate::capture::Place;
use crate::context::Context;
use crate::device::lock;
use crate::guard::Answer;
use crate::stream::{Stream, Ticket, Work};
use graph::Registry;

/// An event.
pub struct Event {
    pub context: Arc<Context>,
    flags: u32,
    generation: AtomicU64,
    recorded: Mutex<Option<Ticket>>,
    /// Where it was recorded last, if that was in a capture.
    captured: Mutex<Option<Place>>,
    stamp: Mutex<Option<Instant>>,
}

/// All events.
pub static EVENTS: Registry<Event> = Registry::new();

impl Event {
    /// An event that was never recorded.
    pub fn new(context: &Arc<Context>, flags: u32) -> Arc<Self> {
        Arc::new(Self {
            context: Arc::clone(context),
            flags,
            generation: AtomicU64::new(0),
            recorded: Mutex::new(None),
            captured: Mutex::new(None),
            stamp: Mutex::new(None),
        })
    }

    /// Records the event in a stream.
    pub fn record(self: &Arc<Self>, stream: &Arc<Stream>) {
        self.captured_at(None);
        let mut recorded = lock(&self.recorded);
        let generation = self.next_generation();
        *recorded = Some(if stream.pass(|| self.stamp(generation, Instant::now())) {
            stream.last()
        } else {
            stream.submit(Work::Stamp(Arc::clone(self), generation))
        });
    }

    /// Begins a recording: its number.
    pub fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Notes the place of recording number `generation`; only the newest counts.
    pub fn recorded_at(&self, generation: u64, ticket: Ticket) {
        let mut recorded = lock(&self.recorded);
        if self.generation.load(Ordering::SeqCst) == generation {
            *recorded = Some(ticket);
            self.captured_at(None);
        }
    }

    /// Notes the place in a capture.
    pub fn captured_at(&self, place: Option<Place>) {
        *lock(&self.captured) = place;
    }

    /// Looks at the place in a capture, if it was recorded there last.
    pub fn place<T>(&self, look: impl FnOnce(&Place) -> T) -> Option<T> {
        lock(&self.captured).as_ref().map(look)
    }

    /// Fails for an event that was recorded in a capture.
    ///
    /// # Errors
    /// CAPTURED_EVENT; the capture is then invalid.
    pub fn check_uncaptured(&self) -> Answer {
        self.place(Place::refuse).map_or(Ok(()), Err)
    }

    /// Notes when the stream got to recording number `generation`; only the newest counts.
    pub fn stamp(&self, generation: u64, at: Instant) {
        if self.generation.load(Ordering::SeqCst) == generation {
            *lock(&self.stamp) = Some(at);
        }
    }

    /// The place it was recorded at, if any.
    pub fn ticket(&self) -> Option<Ticket> {
        lock(&self.recorded).clone()
    }

    /// The time from `start` to this event in milliseconds.
    ///
    /// # Errors
    /// INVALID_HANDLE for events without timing or never recorded, NOT_READY while a stream is on its way.
    pub fn milliseconds_since(&self, start: &Self) -> Answer<f32> {
        if (self.flags | start.flags) & CU_EVENT_DISABLE_TIMING != 0 {
            return Err(CUresult::INVALID_HANDLE);
        }
        start.context.check()?;
        self.context.check()?;
        start.check_uncaptured()?;
        self.check_uncaptured()?;
        let tickets =
            [start.ticket().ok_or(CUresult::INVALID_HANDLE)?, self.ticket().ok_or(CUresult::INVALID_HANDLE)?];
        if !tickets.iter().all(Ticket::is_done) {
            return Err(CUresult::NOT_READY);
        }
        // One after the other: both may be the same event.
        let begin = *lock(&start.stamp);
        let end = *lock(&self.stamp);
        let (Some(begin), Some(end)) = (begin, end) else {
            return Err(CUresult::INVALID_HANDLE);
        };
        let seconds = match end.checked_duration_since(begin) {
            Some(forward) => forward.as_secs_f64(),
            None => -begin.duration_since(end).as_secs_f64(),
        };
        Ok((seconds * 1e3) as f32)
    }
}

/// The event of a handle.
///
/// # Errors
/// INVALID_HANDLE when it names nothing.
pub fn event(handle: CUevent) -> Answer<Arc<Event>> {
    EVENTS.find(handle.0).ok_or(CUresult::INVALID_HANDLE)
}
