//! The client's streams: what has been put on them, and how far they are known to have got.
//!
//! Work is named by the number of the record that put it there. What is known of a stream's progress is shared with
//! the threads that wait for the GPU, which tell the client ([`crate::progress`]).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cuda_abi::{CUcontext, CUevent, CUresult, CUstream};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::progress::Progress;

/// An event of the client's behind the work of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Number of the record that recorded it.
    pub number: u64,
    /// The event.
    pub event: CUevent,
}

/// What is known of a stream.
#[derive(Debug)]
pub struct StreamState {
    /// Index of the context in which it is used.
    pub context: u32,
    /// The same, as the driver knows it.
    pub driver_context: CUcontext,
    /// As the client knows it; 0 for the legacy stream.
    pub handle: u64,
    /// As the driver knows it.
    pub stream: CUstream,
    /// Whether it ignores the legacy stream.
    pub is_non_blocking: bool,
    /// How many launches it has before it.
    pub gauge: crate::gauge::Gauge,
    /// Number of the last record that put work on it.
    issued: AtomicU64,
    /// All its work up to this number is finished.
    finished: AtomicU64,
    /// The client was told so up to this number.
    told: AtomicU64,
    /// Whether it is on the list of streams with unfinished work.
    is_listed: AtomicBool,
    events: Mutex<VecDeque<Recorded>>,
}

impl StreamState {
    fn new(
        (context, driver_context): (u32, CUcontext),
        handle: u64,
        stream: CUstream,
        is_non_blocking: bool,
    ) -> StreamState {
        StreamState {
            context,
            driver_context,
            handle,
            stream,
            is_non_blocking,
            gauge: crate::gauge::Gauge::default(),
            issued: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            told: AtomicU64::new(0),
            is_listed: AtomicBool::new(false),
            events: Mutex::default(),
        }
    }

    /// Number of the last record that put work on it.
    pub fn issued(&self) -> u64 {
        self.issued.load(Ordering::SeqCst)
    }

    /// The number up to which its work is known to be finished.
    pub fn finished(&self) -> u64 {
        self.finished.load(Ordering::SeqCst)
    }

    /// Whether it has work that is not known to be finished.
    pub fn is_busy(&self) -> bool {
        self.finished() < self.issued()
    }

    /// Notes that all work up to `number` is finished.
    pub fn finished_up_to(&self, number: u64) {
        self.finished.fetch_max(number, Ordering::SeqCst);
    }

    /// The number that the client must be told, if it does not know it yet.
    pub fn news(&self) -> Option<u64> {
        let finished = self.finished();
        (self.told.swap(finished, Ordering::SeqCst) < finished).then_some(finished)
    }

    /// Puts the stream on the list of busy ones; `false` when it was there.
    pub fn enlist(&self) -> bool {
        !self.is_listed.swap(true, Ordering::SeqCst)
    }

    /// Takes it off the list.
    pub fn delist(&self) {
        self.is_listed.store(false, Ordering::SeqCst);
    }

    /// The events behind its work, oldest first.
    pub fn events(&self) -> MutexGuard<'_, VecDeque<Recorded>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The client's streams.
#[derive(Debug)]
pub struct Streams {
    /// By context and the driver's stream; null is the legacy stream.
    states: FxHashMap<(u32, usize), Arc<StreamState>>,
    /// Streams made with `CU_STREAM_NON_BLOCKING`, as the driver knows them.
    non_blocking: FxHashSet<usize>,
    /// The same, as the client knows them.
    non_blocking_handles: FxHashSet<u64>,
    /// Which stream an event was last recorded on.
    recorded: FxHashMap<usize, Arc<StreamState>>,
    progress: Arc<Progress>,
    /// Destroyed streams whose work is not finished, by context.
    orphans: FxHashMap<u32, Arc<AtomicU32>>,
}

impl Streams {
    /// No streams yet; `progress` tells the client of theirs.
    pub fn new(progress: Arc<Progress>) -> Streams {
        Streams {
            states: FxHashMap::default(),
            non_blocking: FxHashSet::default(),
            non_blocking_handles: FxHashSet::default(),
            recorded: FxHashMap::default(),
            progress,
            orphans: FxHashMap::default(),
        }
    }

    /// Notes a stream that ignores the legacy stream.
    pub fn made_non_blocking(&mut self, handle: u64, stream: CUstream) {
        self.non_blocking.insert(stream.0);
        self.non_blocking_handles.insert(handle);
    }

    /// Streams that ignore the legacy stream, as the client knows them.
    pub fn non_blocking_handles(&self) -> &FxHashSet<u64> {
        &self.non_blocking_handles
    }

    /// The state of `stream`, which the client calls `handle`, in `context` (its index, and as the driver knows it).
    pub fn state(&mut self, context: (u32, CUcontext), handle: u64, stream: CUstream) -> &Arc<StreamState> {
        let is_non_blocking = self.non_blocking.contains(&stream.0);
        self.states
            .entry((context.0, stream.0))
            .or_insert_with(|| Arc::new(StreamState::new(context, handle, stream, is_non_blocking)))
    }

    /// Notes work that record `number` has put on a stream.
    pub fn used(&self, state: &Arc<StreamState>, number: u64) {
        state.issued.store(number, Ordering::SeqCst);
        if !state.is_listed.load(Ordering::SeqCst) {
            self.progress.watch_over(state);
        }
    }

    /// Notes that the client wants to be told when the work of a stream up to record `number` is finished. Some of it
    /// may have come with a wait of the whole context, before the stream was used.
    pub fn wanted(&self, state: &Arc<StreamState>, number: u64) {
        state.issued.fetch_max(number, Ordering::SeqCst);
        state.told.store(0, Ordering::SeqCst);
        self.progress.watch_over(state);
    }

    /// Notes work that record `number` has put on all streams of a context.
    pub fn all_used(&self, context: u32, number: u64) {
        for state in self.states.values().filter(|state| state.context == context) {
            self.used(state, number);
        }
    }

    /// Notes that record `number` has recorded `event` on a stream.
    pub fn recorded(&mut self, state: &Arc<StreamState>, event: CUevent, number: u64) {
        self.forget_event(event);
        state.events().push_back(Recorded { number, event });
        self.recorded.insert(event.0, Arc::clone(state));
        self.used(state, number);
    }

    /// Forgets an event that is recorded anew or is being destroyed.
    pub fn forget_event(&mut self, event: CUevent) {
        if let Some(state) = self.recorded.remove(&event.0) {
            state.events().retain(|recorded| recorded.event != event);
        }
    }

    /// Forgets a stream that is being destroyed.
    pub fn forget(&mut self, handle: u64, stream: CUstream) {
        self.non_blocking.remove(&stream.0);
        self.non_blocking_handles.remove(&handle);
        let gone: Vec<(u32, usize)> =
            self.states.keys().copied().filter(|(_, known)| *known == stream.0).collect();
        for key in gone {
            if let Some(state) = self.states.remove(&key) {
                self.forget_state(&state);
            }
        }
    }

    /// The streams of `context` with work that nobody knows to be finished.
    pub fn busy(&self, context: u32) -> Vec<CUstream> {
        self.states
            .values()
            .filter(|state| state.context == context && state.is_busy())
            .map(|state| state.stream)
            .collect()
    }

    /// The contexts in which `stream` has work that nobody knows to be finished.
    pub fn contexts_using(&self, stream: CUstream) -> Vec<u32> {
        let using = self.states.values().filter(|state| state.stream == stream && state.is_busy());
        using.map(|state| state.context).collect()
    }

    /// Counts a stream that is being destroyed with work under way in `context`; the counter is counted down when that is
    /// done.
    pub fn orphaned(&mut self, context: u32) -> Arc<AtomicU32> {
        let orphans = self.orphans.entry(context).or_default();
        orphans.fetch_add(1, Ordering::AcqRel);
        Arc::clone(orphans)
    }

    /// Whether destroyed streams have work under way in `context`.
    pub fn has_orphans(&self, context: u32) -> bool {
        self.orphans.get(&context).is_some_and(|orphans| orphans.load(Ordering::Acquire) > 0)
    }

    /// Forgets the streams of a context that is being destroyed.
    pub fn forget_context(&mut self, context: u32) {
        self.orphans.remove(&context);
        let gone: Vec<(u32, usize)> =
            self.states.keys().copied().filter(|(owner, _)| *owner == context).collect();
        for key in gone {
            if let Some(state) = self.states.remove(&key) {
                self.forget_state(&state);
            }
        }
    }

    fn forget_state(&mut self, state: &Arc<StreamState>) {
        self.progress.forget(state);
        self.recorded.retain(|_, other| !Arc::ptr_eq(other, state));
    }

    /// Whether anything in `context` is not known to be finished.
    pub fn has_work(&self, context: u32) -> bool {
        self.states.values().any(|state| state.context == context && state.is_busy())
    }

    /// Whether anything in another context than `context` is not known to be finished.
    pub fn has_work_beside(&self, context: u32) -> bool {
        self.states.values().any(|state| state.context != context && state.is_busy())
    }

    /// Whether nothing that `stream` waits for is under way; `query` asks the driver.
    pub fn is_idle(&self, context: u32, stream: CUstream, query: impl Fn(CUstream) -> CUresult) -> bool {
        let done = |state: &StreamState| {
            let issued = state.issued();
            if state.finished() >= issued {
                return true;
            }
            let done = query(state.stream) != CUresult::NOT_READY;
            if done {
                state.finished_up_to(issued);
            }
            done
        };
        let is_done = |stream: usize| self.states.get(&(context, stream)).is_none_or(|state| done(state));
        if stream.is_null() {
            // Those among destroyed streams that block it are not told from the others.
            return !self.has_orphans(context)
                && self
                    .states
                    .values()
                    .filter(|state| state.context == context && !state.is_non_blocking)
                    .all(|state| done(state));
        }
        is_done(stream.0) && (self.non_blocking.contains(&stream.0) || is_done(0))
    }

    /// Whether nothing in `context` is under way.
    pub fn is_all_idle(&self, context: u32, query: impl Fn(CUstream) -> CUresult) -> bool {
        !self.has_orphans(context)
            && self.states.values().filter(|state| state.context == context).all(|state| {
                let issued = state.issued();
                if state.finished() >= issued {
                    return true;
                }
                let done = query(state.stream) != CUresult::NOT_READY;
                if done {
                    state.finished_up_to(issued);
                }
                done
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_READY: fn(CUstream) -> CUresult = |_| CUresult::NOT_READY;
    const READY: fn(CUstream) -> CUresult = |_| CUresult::SUCCESS;

    fn use_stream(streams: &mut Streams, context: u32, stream: usize, number: u64) -> Arc<StreamState> {
        let state = Arc::clone(streams.state((context, CUcontext(1)), stream as u64, CUstream(stream)));
        streams.used(&state, number);
        state
    }

    #[test]
    fn a_stream_without_work_is_idle_without_asking() {
        let mut streams = Streams::new(Arc::new(Progress::default()));
        assert!(streams.is_idle(1, CUstream(5), NOT_READY));
        use_stream(&mut streams, 1, 5, 1);
        assert!(!streams.is_idle(1, CUstream(5), NOT_READY));
        assert!(streams.is_idle(2, CUstream(5), NOT_READY), "another context");
        assert!(streams.is_idle(1, CUstream(5), READY));
        assert!(streams.is_idle(1, CUstream(5), NOT_READY), "seen to be finished");
    }

    #[test]
    fn blocking_streams_and_the_legacy_stream_wait_for_each_other() {
        let mut streams = Streams::new(Arc::new(Progress::default()));
        streams.made_non_blocking(77, CUstream(7));
        use_stream(&mut streams, 1, 0, 1);
        assert!(!streams.is_idle(1, CUstream(5), NOT_READY));
        assert!(streams.is_idle(1, CUstream(7), NOT_READY));
        let mut streams = Streams::new(Arc::new(Progress::default()));
        use_stream(&mut streams, 1, 5, 1);
        assert!(!streams.is_idle(1, CUstream::NULL, NOT_READY));
        assert!(!streams.is_all_idle(1, NOT_READY));
        assert!(streams.is_all_idle(1, READY));
    }

    #[test]
    fn a_number_is_told_once() {
        let mut streams = Streams::new(Arc::new(Progress::default()));
        let state = use_stream(&mut streams, 1, 5, 9);
        assert_eq!(state.news(), None, "nothing is finished");
        state.finished_up_to(9);
        assert_eq!(state.news(), Some(9));
        assert_eq!(state.news(), None);
    }

    #[test]
    fn what_the_client_asks_for_is_told_again() {
        let mut streams = Streams::new(Arc::new(Progress::default()));
        let state = use_stream(&mut streams, 1, 5, 9);
        state.finished_up_to(9);
        assert_eq!(state.news(), Some(9));
        streams.wanted(&state, 7);
        assert_eq!(state.news(), Some(9));
        streams.wanted(&state, 12);
        assert!(state.is_busy(), "work that came with a wait of the whole context");
    }

    #[test]
    fn an_event_is_on_the_stream_where_it_was_recorded_last() {
        let mut streams = Streams::new(Arc::new(Progress::default()));
        let first = use_stream(&mut streams, 1, 5, 1);
        let second = use_stream(&mut streams, 1, 6, 2);
        streams.recorded(&first, CUevent(50), 3);
        streams.recorded(&second, CUevent(50), 4);
        assert!(first.events().is_empty());
        assert_eq!(second.events().front(), Some(&Recorded { number: 4, event: CUevent(50) }));
        streams.forget_event(CUevent(50));
        assert!(second.events().is_empty());
    }
}
