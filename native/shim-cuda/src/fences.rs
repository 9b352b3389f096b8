//! Fences: which of those that were sent the worker has told to be reached.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct Table {
    unreached: BTreeSet<u64>,
    /// Reached ones that nobody has taken notice of.
    news: Vec<u64>,
}

/// All fences of a connection. Each has a number; they are reached in any order.
#[derive(Debug, Default)]
pub struct Fences {
    has_news: AtomicBool,
    table: Mutex<Table>,
}

impl Fences {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a fence that is about to be sent.
    pub fn sent(&self, number: u64) {
        self.table().unreached.insert(number);
    }

    /// Notes that a fence is reached, or never will be.
    pub fn reached(&self, number: u64) {
        let mut table = self.table();
        if table.unreached.remove(&number) {
            table.news.push(number);
            self.has_news.store(true, Ordering::Release);
        }
    }

    /// Whether a fence that was sent is reached.
    pub fn is_reached(&self, number: u64) -> bool {
        !self.table().unreached.contains(&number)
    }

    /// Whether any was reached since the last [`Fences::take_news`].
    pub fn has_news(&self) -> bool {
        self.has_news.load(Ordering::Acquire)
    }

    /// Those that were reached since this was asked last.
    pub fn take_news(&self) -> Vec<u64> {
        let mut table = self.table();
        self.has_news.store(false, Ordering::Release);
        std::mem::take(&mut table.news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_are_reached_in_any_order_and_told_once() {
        let fences = Fences::default();
        fences.sent(1);
        fences.sent(2);
        assert!(!fences.has_news());
        fences.reached(2);
        assert!(fences.is_reached(2) && !fences.is_reached(1) && fences.has_news());
        assert_eq!(fences.take_news(), [2]);
        assert!(!fences.has_news());
        fences.reached(2);
        assert_eq!(fences.take_news(), []);
    }
}
