//! Events: which ones exist, and behind which work they were recorded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cuda_abi::CUresult;
use rustc_hash::FxHashMap;
use wire::handle::{Context, Event, Stream};

use crate::client::index_of;
use crate::entry::Answer;
use crate::progress::Progress;

/// Where an event was recorded last.
#[derive(Debug, Clone, Default)]
pub enum Recorded {
    /// Nowhere yet.
    #[default]
    Never,
    /// Behind the work of a stream.
    OnStream(RecordedOnStream),
    /// Behind the work of a whole context, or within a graph: only the worker knows whether that is finished.
    OnContext,
}

/// An event behind the work of a stream.
#[derive(Debug, Clone)]
pub struct RecordedOnStream {
    /// The stream; 0 for the legacy one.
    pub stream: Stream,
    /// The stream's work.
    pub progress: Arc<Progress>,
    /// Number of the record that recorded the event.
    pub number: u64,
}

#[derive(Debug)]
struct EventState {
    /// Index of the context it belongs to.
    context: u32,
    recorded: Recorded,
}

/// All events of this process.
#[derive(Debug, Default)]
pub struct Events {
    alive: Mutex<FxHashMap<Event, EventState>>,
}

impl Events {
    fn table(&self) -> MutexGuard<'_, FxHashMap<Event, EventState>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a new event.
    pub fn insert(&self, event: Event, context: u32) {
        self.table().insert(event, EventState { context, recorded: Recorded::Never });
    }

    /// Forgets a destroyed event.
    pub fn remove(&self, event: Event) {
        self.table().remove(&event);
    }

    /// The index of the context that `event` belongs to.
    pub fn context_index(&self, event: Event) -> Answer<u32> {
        self.table().get(&event).map(|state| state.context).ok_or(CUresult::INVALID_HANDLE)
    }

    /// Notes that `event` was recorded.
    pub fn record(&self, event: Event, recorded: Recorded) {
        if let Some(state) = self.table().get_mut(&event) {
            state.recorded = recorded;
        }
    }

    /// Where `event` was recorded last.
    pub fn recorded(&self, event: Event) -> Answer<Recorded> {
        self.table().get(&event).map(|state| state.recorded.clone()).ok_or(CUresult::INVALID_HANDLE)
    }

    /// Forgets the events of a destroyed context.
    pub fn forget_context(&self, context: Context) {
        let index = index_of(context);
        self.table().retain(|_, state| state.context != index);
    }
}
