//! Errors that no reply told to anybody.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use session::{DeferredError, DeferredErrors};

use super::lock;

/// Errors of calls that nobody waited for, and that came with something else than a reply that somebody waits for.
#[derive(Debug, Default)]
pub struct Detached {
    any: AtomicBool,
    errors: Mutex<DeferredErrors>,
}

impl Detached {
    /// Notes an error, if there is one.
    pub fn note(&self, error: Option<DeferredError>) {
        if let Some(error) = error {
            lock(&self.errors).note(error);
            self.any.store(true, Ordering::Release);
        }
    }

    /// Whether there is one.
    pub fn is_some(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Takes an error, if there is one.
    pub fn take(&self) -> Option<DeferredError> {
        if !self.is_some() {
            return None;
        }
        let mut errors = lock(&self.errors);
        let error = errors.take(0);
        if error.is_none() {
            self.any.store(false, Ordering::Release);
        }
        error
    }
}
