//! Errors of calls that had returned before they failed, until a call that waits tells of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cuda_abi::CUresult;
use rustc_hash::FxHashMap;

/// The first error of each context, by its index; that of 0 belongs to none and is anybody's.
#[derive(Debug, Default)]
pub struct Late {
    /// Whether there is any; without one nobody looks.
    any: AtomicBool,
    first: Mutex<FxHashMap<u32, CUresult>>,
}

impl Late {
    fn first(&self) -> MutexGuard<'_, FxHashMap<u32, CUresult>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an error of the context with this index.
    pub fn note(&self, context: u32, code: CUresult) {
        self.first().entry(context).or_insert(code);
        self.any.store(true, Ordering::Release);
    }

    /// Whether a call of the context with this index has something to tell.
    pub fn has(&self, context: u32) -> bool {
        self.any.load(Ordering::Acquire) && {
            let first = self.first();
            first.contains_key(&context) || first.contains_key(&0)
        }
    }

    /// Takes what a call of the context with this index tells.
    pub fn take(&self, context: u32) -> Option<CUresult> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut first = self.first();
        let code = first.remove(&context).or_else(|| first.remove(&0));
        self.any.store(!first.is_empty(), Ordering::Release);
        code
    }

    /// Forgets the error of a context that was destroyed.
    pub fn forget(&self, context: u32) {
        let mut first = self.first();
        first.remove(&context);
        self.any.store(!first.is_empty(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_to_a_call_of_its_context_and_once() {
        let late = Late::default();
        late.note(1, CUresult::INVALID_VALUE);
        late.note(1, CUresult::OUT_OF_MEMORY);
        assert!(!late.has(2) && late.take(2).is_none(), "another context");
        assert!(late.has(1));
        assert_eq!(late.take(1), Some(CUresult::INVALID_VALUE), "the first");
        assert!(!late.has(1) && late.take(1).is_none());
    }

    #[test]
    fn an_error_of_no_context_is_told_to_any_call() {
        let late = Late::default();
        late.note(0, CUresult::INVALID_VALUE);
        assert_eq!(late.take(2), Some(CUresult::INVALID_VALUE));
        assert_eq!(late.take(2), None);
    }

    #[test]
    fn the_error_of_a_destroyed_context_is_not_told() {
        let late = Late::default();
        late.note(1, CUresult::INVALID_VALUE);
        late.forget(1);
        assert_eq!(late.take(1), None);
    }
}
