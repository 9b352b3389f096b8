//! Telling the client how far its streams have got, before it asks.
//!
//! Before any answer leaves the worker, the client is told which work is finished by then ([`Progress::news`]). So
//! whatever a program can conclude from an answer, its later queries conclude too, and they are answered in the
//! client. A program that does nothing but ask has its question watched over (`farpoolWatch`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cuda_abi::{CUcontext, CUresult};
use driver::Driver;
use wire::notice::{Failed, Finished};

use crate::streams::StreamState;

/// Streams with work that is not known to be finished.
#[derive(Debug, Default)]
pub struct Progress {
    busy: Mutex<Vec<Arc<StreamState>>>,
}

impl Progress {
    fn busy(&self) -> MutexGuard<'_, Vec<Arc<StreamState>>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a stream that has new work.
    pub fn watch_over(&self, state: &Arc<StreamState>) {
        if state.enlist() {
            self.busy().push(Arc::clone(state));
        }
    }

    /// Forgets a stream that is being destroyed: nobody may ask the driver about it any more. Its unfinished work
    /// counts as finished: CUDA lets a program destroy a stream that is at work, and nobody can ask for it then.
    pub fn forget(&self, state: &Arc<StreamState>) {
        self.busy().retain(|other| !Arc::ptr_eq(other, state));
        state.events().clear();
    }

    /// Asks the driver how far the busy streams have got; answers what the client does not know yet.
    pub fn news(&self, driver: &Driver) -> Vec<Finished> {
        let mut news = Vec::new();
        let mut busy = self.busy();
        if busy.is_empty() {
            return news;
        }
        // Any thread may ask, also one without a context.
        let mut before = CUcontext::NULL;
        // SAFETY: `before` is a valid place.
        let _ = unsafe { driver.cuCtxGetCurrent(&raw mut before) };
        let mut current = before;
        busy.retain(|state| {
            if current != state.driver_context {
                current = state.driver_context;
                // SAFETY: streams are forgotten under this lock before their context is destroyed.
                let _ = unsafe { driver.cuCtxSetCurrent(current) };
            }
            // Streams and events are forgotten under this lock before they are destroyed.
            let code = look(driver, state);
            if let Some(number) = state.news() {
                let (context, stream) = (state.context, state.handle);
                let failed = Failed::default();
                news.push(Finished { stream, context, number, code: code.0, failed });
            }
            if state.is_busy() {
                return true;
            }
            // In this order: whoever puts work on the stream now sees that it must be listed, or is seen here.
            state.delist();
            state.is_busy() && state.enlist()
        });
        if current != before {
            // SAFETY: this is what the thread had before.
            let _ = unsafe { driver.cuCtxSetCurrent(before) };
        }
        news
    }
}

/// Finds out how far a stream has got; answers an error that its work has ended with.
fn look(driver: &Driver, state: &StreamState) -> CUresult {
    let issued = state.issued();
    if state.finished() >= issued {
        state.events().retain(|recorded| recorded.number > issued);
        return CUresult::SUCCESS;
    }
    // SAFETY: the caller holds the lock under which streams are forgotten; the stream's context is current.
    let code = unsafe { driver.cuStreamQuery(state.stream) };
    if code != CUresult::NOT_READY {
        state.finished_up_to(issued);
        state.events().retain(|recorded| recorded.number > issued);
        return code;
    }
    let mut events = state.events();
    while let Some(recorded) = events.front() {
        // SAFETY: the caller holds the lock under which events are forgotten.
        if unsafe { driver.cuEventQuery(recorded.event) } == CUresult::NOT_READY {
            break;
        }
        state.finished_up_to(recorded.number);
        events.pop_front();
    }
    CUresult::SUCCESS
}
