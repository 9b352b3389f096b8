//! Errors of replies that nobody waits for.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use session::ReplyHead;

use super::lock;

/// The first error of a reply that nobody waited for.
#[derive(Debug, Default)]
pub struct Detached {
    any: AtomicBool,
    first: Mutex<Option<ReplyHead>>,
}

impl Detached {
    /// Notes what a reply says.
    pub fn note(&self, head: ReplyHead) {
        if head.result != 0 || head.deferred.is_some() {
            lock(&self.first).get_or_insert(head);
            self.any.store(true, Ordering::Release);
        }
    }

    /// Whether there is one.
    pub fn is_some(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Takes the error, if there is one.
    pub fn take(&self) -> Option<ReplyHead> {
        if !self.any.swap(false, Ordering::AcqRel) {
            return None;
        }
        lock(&self.first).take()
    }
}
