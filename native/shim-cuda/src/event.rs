//! Events: which ones exist.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cuda_abi::CUresult;
use wire::handle::{Context, Event};

use crate::client::index_of;
use crate::entry::Answer;

/// All events of this process, with the context index that each belongs to.
#[derive(Debug, Default)]
pub struct Events {
    alive: Mutex<HashMap<Event, u32>>,
}

impl Events {
    fn table(&self) -> MutexGuard<'_, HashMap<Event, u32>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a new event.
    pub fn insert(&self, event: Event, context: u32) {
        self.table().insert(event, context);
    }

    /// Forgets a destroyed event.
    pub fn remove(&self, event: Event) {
        self.table().remove(&event);
    }

    /// Checks that `event` exists.
    pub fn check(&self, event: Event) -> Answer {
        if self.table().contains_key(&event) { Ok(()) } else { Err(CUresult::INVALID_HANDLE) }
    }

    /// The index of the context that `event` belongs to.
    pub fn context_index(&self, event: Event) -> Answer<u32> {
        self.table().get(&event).copied().ok_or(CUresult::INVALID_HANDLE)
    }

    /// Forgets the events of a destroyed context.
    pub fn forget_context(&self, context: Context) {
        let index = index_of(context);
        self.table().retain(|_, owner| *owner != index);
    }
}
