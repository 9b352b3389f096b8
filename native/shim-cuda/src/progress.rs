//! How far the worker's streams have got, as far as this process was told.
//!
//! Work is named by the number of its record. The worker tells what is finished before any answer that could let a
//! program conclude it, so a query is answered here: what is not known to be finished is not finished. Whoever asks
//! for it has the worker tell when it is (`farpoolWatch`), so that a program that only asks gets its answer, too.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustc_hash::FxHashMap;
use wire::handle::Stream;
use wire::notice::Finished;

/// Pieces of work from checkpoint to checkpoint.
const STEP: u64 = 1024;

/// Unfinished checkpoints at which a stream takes no more work. A real driver makes its caller wait at about 1,000
/// pieces; this many keep a GPU busy also behind a long line.
const CHECKPOINTS: usize = 16;

/// One stream's work.
#[derive(Debug, Default)]
pub struct Progress {
    last: AtomicU64,
    /// Pieces of work that were ever put on it.
    pieces: AtomicU64,
    /// Numbers of some of them, oldest first; those that are known to be finished go when room is wanted.
    checkpoints: Mutex<VecDeque<u64>>,
    /// How many these are.
    unfinished: AtomicUsize,
    /// The stream was destroyed.
    is_gone: AtomicBool,
    finished: AtomicU64,
    watched: AtomicU64,
    synchronised: AtomicU64,
}

impl Progress {
    /// Notes that record `number` has put work on the stream.
    pub fn put(&self, number: u64) {
        self.last.fetch_max(number, Ordering::AcqRel);
        if (self.pieces.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(STEP) {
            let mut checkpoints = self.checkpoints();
            self.drop_finished(&mut checkpoints);
            checkpoints.push_back(number);
            self.unfinished.store(checkpoints.len(), Ordering::Release);
        }
    }

    /// Whether the stream takes more work; if not, its caller must wait until some of what it has is finished.
    pub fn has_room(&self) -> bool {
        if self.unfinished.load(Ordering::Acquire) < CHECKPOINTS || self.is_gone() {
            return true;
        }
        let mut checkpoints = self.checkpoints();
        self.drop_finished(&mut checkpoints);
        self.unfinished.store(checkpoints.len(), Ordering::Release);
        checkpoints.len() < CHECKPOINTS
    }

    fn drop_finished(&self, checkpoints: &mut VecDeque<u64>) {
        let finished = self.finished.load(Ordering::Acquire);
        while checkpoints.front().is_some_and(|number| *number <= finished) {
            checkpoints.pop_front();
        }
    }

    /// Whether the stream was destroyed: nobody tells any more how far its work has got.
    pub fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    fn checkpoints(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of the last record that has put work on the stream.
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// Notes that all work up to record `number` is finished.
    pub fn finished_up_to(&self, number: u64) {
        self.finished.fetch_max(number, Ordering::AcqRel);
    }

    /// Whether all work up to record `number` is finished.
    pub fn has_finished(&self, number: u64) -> bool {
        self.finished.load(Ordering::Acquire) >= number
    }

    /// Whether all work is finished.
    pub fn is_idle(&self) -> bool {
        self.has_finished(self.last())
    }

    /// Notes that a call with record `number` has synchronised with the stream.
    pub fn synchronised(&self, number: u64) {
        self.synchronised.fetch_max(number, Ordering::AcqRel);
    }

    /// Whether the stream was synchronised with after all its work up to record `number`. That it has finished is not
    /// enough to skip that: what kernels print comes out at synchronisations.
    pub fn was_synchronised(&self, number: u64) -> bool {
        number == 0 || self.synchronised.load(Ordering::Acquire) > number
    }

    /// Notes that somebody wants to know when record `number` is finished; `false` when the worker was asked before.
    pub fn wants(&self, number: u64) -> bool {
        self.watched.fetch_max(number, Ordering::AcqRel) < number
    }
}

/// Waits that CUDA performs within a call and that were skipped here, because the program could not tell. They are made
/// up for when it asks what they would have made certain.
#[derive(Debug, Default)]
pub struct Skipped {
    /// Of the legacy stream, and so of the blocking ones.
    legacy: AtomicU64,
    /// Of everything in the context.
    context: AtomicU64,
}

impl Skipped {
    /// Notes that the call with record `number` should have waited for the legacy stream.
    pub fn legacy(&self, number: u64) {
        self.legacy.fetch_max(number, Ordering::AcqRel);
    }

    /// Notes that the call with record `number` should have waited for the context.
    pub fn context(&self, number: u64) {
        self.context.fetch_max(number, Ordering::AcqRel);
    }

    /// Whether such a call would have made certain that record `number` is finished.
    pub fn covers(&self, number: u64, is_blocking: bool) -> bool {
        number <= self.context.load(Ordering::Acquire)
            || (is_blocking && number <= self.legacy.load(Ordering::Acquire))
    }
}

/// Work of destroyed streams of a context. It goes on, and no stream is left that would tell of it: a synchronisation of
/// the context is not skipped before one has covered it.
#[derive(Debug, Default)]
pub struct Orphans {
    last: AtomicU64,
    synchronised: AtomicU64,
}

impl Orphans {
    /// Notes a stream that is being destroyed; record `number` was the last that has put work on it.
    pub fn left(&self, number: u64) {
        self.last.fetch_max(number, Ordering::AcqRel);
    }

    /// Notes that a call with record `number` has synchronised with the whole context.
    pub fn synchronised(&self, number: u64) {
        self.synchronised.fetch_max(number, Ordering::AcqRel);
    }

    /// Whether the context was synchronised with after all such work.
    pub fn are_settled(&self) -> bool {
        let last = self.last.load(Ordering::Acquire);
        last == 0 || self.synchronised.load(Ordering::Acquire) > last
    }
}

/// The work of all streams, by stream; the legacy stream (0) by its context.
#[derive(Debug, Default)]
pub struct Timelines {
    skipped: RwLock<FxHashMap<u32, Arc<Skipped>>>,
    orphans: RwLock<FxHashMap<u32, Arc<Orphans>>>,
    streams: RwLock<FxHashMap<(u32, u64), Arc<Progress>>>,
    failures: Mutex<Vec<(u32, i32)>>,
    has_failures: AtomicBool,
}

fn key(context: u32, stream: Stream) -> (u32, u64) {
    if stream.0 == 0 { (context, 0) } else { (0, stream.0) }
}

impl Timelines {
    /// The work of `stream`, which is the legacy one of `context` if it is 0.
    pub fn of(&self, context: u32, stream: Stream) -> Arc<Progress> {
        let key = key(context, stream);
        let known = self.streams.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        known.unwrap_or_else(|| {
            let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(streams.entry(key).or_default())
        })
    }

    /// Notes that record `number` has put work on a stream.
    pub fn put(&self, context: u32, stream: Stream, number: u64) {
        if let Some(progress) =
            self.streams.read().unwrap_or_else(PoisonError::into_inner).get(&key(context, stream))
        {
            progress.put(number);
            return;
        }
        self.of(context, stream).put(number);
    }

    /// The skipped waits of a context.
    pub fn skipped(&self, context: u32) -> Arc<Skipped> {
        let known = self.skipped.read().unwrap_or_else(PoisonError::into_inner).get(&context).cloned();
        known.unwrap_or_else(|| {
            let mut skipped = self.skipped.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(skipped.entry(context).or_default())
        })
    }

    /// The work of a context's destroyed streams.
    pub fn orphans(&self, context: u32) -> Arc<Orphans> {
        let known = self.orphans.read().unwrap_or_else(PoisonError::into_inner).get(&context).cloned();
        known.unwrap_or_else(|| {
            let mut orphans = self.orphans.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(orphans.entry(context).or_default())
        })
    }

    /// Takes what the worker says.
    pub fn note(&self, finished: &Finished) {
        // A stream that is not here was destroyed: work is noted before its record can leave.
        let key = key(finished.context, Stream(finished.stream));
        if let Some(progress) = self.streams.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            progress.finished_up_to(finished.number);
        }
        if finished.code != 0 {
            self.failures().push((finished.context, finished.code));
            self.has_failures.store(true, Ordering::Release);
        }
    }

    /// Whether there are errors that work has ended with and nobody was told of.
    pub fn has_failures(&self) -> bool {
        self.has_failures.load(Ordering::Acquire)
    }

    /// Errors that work has ended with, by context; each is answered once.
    pub fn take_failures(&self) -> Vec<(u32, i32)> {
        if !self.has_failures.load(Ordering::Acquire) {
            return Vec::new();
        }
        self.has_failures.store(false, Ordering::Release);
        std::mem::take(&mut *self.failures())
    }

    /// Forgets a destroyed stream.
    pub fn forget(&self, stream: Stream) {
        let gone = self.streams.write().unwrap_or_else(PoisonError::into_inner).remove(&key(0, stream));
        // Nobody waits for room on it any more.
        gone.inspect(|progress| progress.is_gone.store(true, Ordering::Release));
    }

    /// Forgets the legacy stream of a destroyed context.
    pub fn forget_context(&self, context: u32) {
        let gone = self.streams.write().unwrap_or_else(PoisonError::into_inner).remove(&(context, 0));
        gone.inspect(|progress| progress.is_gone.store(true, Ordering::Release));
        self.skipped.write().unwrap_or_else(PoisonError::into_inner).remove(&context);
        self.orphans.write().unwrap_or_else(PoisonError::into_inner).remove(&context);
    }

    fn failures(&self) -> MutexGuard<'_, Vec<(u32, i32)>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::notice::Failed;

    fn finished(context: u32, stream: u64, number: u64, code: i32) -> Finished {
        Finished { stream, context, number, code, failed: Failed::default() }
    }

    #[test]
    fn a_stream_is_idle_when_its_last_record_is_finished() {
        let timelines = Timelines::default();
        let progress = timelines.of(1, Stream(16));
        assert!(progress.is_idle(), "nothing was put on it");
        timelines.put(1, Stream(16), 7);
        timelines.note(&finished(2, 16, 6, 0));
        assert!(!progress.is_idle());
        assert!(progress.has_finished(6));
        timelines.note(&finished(1, 16, 7, 0));
        assert!(progress.is_idle());
    }

    #[test]
    fn news_of_a_destroyed_stream_leave_nothing_behind() {
        let timelines = Timelines::default();
        timelines.put(1, Stream(16), 7);
        timelines.forget(Stream(16));
        timelines.note(&finished(1, 16, 7, 0));
        assert!(timelines.streams.read().expect("no panic").is_empty());
    }

    #[test]
    fn every_context_has_a_legacy_stream_of_its_own() {
        let timelines = Timelines::default();
        timelines.put(1, Stream(0), 3);
        timelines.note(&finished(2, 0, 3, 0));
        assert!(!timelines.of(1, Stream(0)).is_idle());
    }

    #[test]
    fn a_skipped_wait_of_the_legacy_stream_says_nothing_of_streams_that_ignore_it() {
        let skipped = Skipped::default();
        skipped.legacy(5);
        assert!(skipped.covers(5, true));
        assert!(!skipped.covers(6, true), "what came later");
        assert!(!skipped.covers(5, false));
        skipped.context(5);
        assert!(skipped.covers(5, false));
    }

    #[test]
    fn what_destroyed_streams_left_is_settled_by_a_later_synchronisation() {
        let orphans = Orphans::default();
        assert!(orphans.are_settled(), "no stream was destroyed");
        orphans.synchronised(4);
        orphans.left(5);
        assert!(!orphans.are_settled());
        orphans.synchronised(6);
        assert!(orphans.are_settled());
        orphans.left(3);
        assert!(orphans.are_settled(), "work that the synchronisation covered");
    }

    #[test]
    fn an_error_is_handed_out_once() {
        let timelines = Timelines::default();
        timelines.note(&finished(1, 0, 3, 700));
        assert_eq!(timelines.take_failures(), [(1, 700)]);
        assert_eq!(timelines.take_failures(), []);
    }

    #[test]
    fn what_was_put_after_a_synchronisation_was_not_synchronised_with() {
        let progress = Progress::default();
        assert!(progress.was_synchronised(progress.last()), "there is nothing");
        progress.put(5);
        assert!(!progress.was_synchronised(progress.last()));
        progress.synchronised(6);
        assert!(progress.was_synchronised(progress.last()));
        progress.put(7);
        assert!(!progress.was_synchronised(progress.last()));
    }

    #[test]
    fn a_stream_takes_no_more_until_some_of_its_work_is_finished() {
        let progress = Progress::default();
        let mut number = 0;
        while progress.has_room() {
            number += 1;
            progress.put(number);
        }
        assert_eq!(number, 16 * 1024);
        progress.finished_up_to(1023);
        assert!(!progress.has_room());
        progress.finished_up_to(1024);
        assert!(progress.has_room());
    }

    #[test]
    fn a_number_is_asked_for_once() {
        let progress = Progress::default();
        assert!(progress.wants(5));
        assert!(!progress.wants(5));
        assert!(!progress.wants(4), "what is later covers it");
        assert!(progress.wants(6));
    }
}
