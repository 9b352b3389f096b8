//! Which streams have work that nobody knows to be finished.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cuda_abi::{CUresult, CUstream};

/// What is known of the client's streams.
#[derive(Debug, Default)]
pub struct Streams {
    /// Streams with work, by context; null is the legacy stream.
    busy: HashMap<u32, HashSet<usize>>,
    /// Streams made with `CU_STREAM_NON_BLOCKING`, as the driver knows them.
    non_blocking: HashSet<usize>,
    /// The same, as the client knows them.
    non_blocking_handles: HashSet<u64>,
    /// Destroyed streams whose work is not finished.
    orphans: Arc<AtomicU32>,
}

impl Streams {
    /// Notes a stream that ignores the legacy stream.
    pub fn made_non_blocking(&mut self, handle: u64, stream: CUstream) {
        self.non_blocking.insert(stream.0);
        self.non_blocking_handles.insert(handle);
    }

    /// Streams that ignore the legacy stream, as the client knows them.
    pub fn non_blocking_handles(&self) -> &HashSet<u64> {
        &self.non_blocking_handles
    }

    /// Notes work on `stream` of `context`.
    pub fn used(&mut self, context: u32, stream: CUstream) {
        self.busy.entry(context).or_default().insert(stream.0);
    }

    /// Forgets a stream that is being destroyed.
    pub fn forget(&mut self, handle: u64, stream: CUstream) {
        self.non_blocking.remove(&stream.0);
        self.non_blocking_handles.remove(&handle);
        for busy in self.busy.values_mut() {
            busy.remove(&stream.0);
        }
    }

    /// The streams of `context` with work that nobody knows to be finished.
    pub fn busy(&self, context: u32) -> Vec<CUstream> {
        self.busy.get(&context).into_iter().flatten().map(|stream| CUstream(*stream)).collect()
    }

    /// The contexts in which `stream` has work that nobody knows to be finished.
    pub fn contexts_using(&self, stream: CUstream) -> Vec<u32> {
        let using = self.busy.iter().filter(|(_, streams)| streams.contains(&stream.0));
        using.map(|(context, _)| *context).collect()
    }

    /// Counts a stream that is being destroyed with work under way; the counter is counted down when that is done.
    pub fn orphaned(&self) -> Arc<AtomicU32> {
        self.orphans.fetch_add(1, Ordering::AcqRel);
        Arc::clone(&self.orphans)
    }

    /// Whether destroyed streams have work under way.
    pub fn has_orphans(&self) -> bool {
        self.orphans.load(Ordering::Acquire) > 0
    }

    /// Forgets the streams of a context that is being destroyed.
    pub fn forget_context(&mut self, context: u32) {
        self.busy.remove(&context);
    }

    /// Whether anything in `context` is not known to be finished.
    pub fn has_work(&self, context: u32) -> bool {
        self.busy.get(&context).is_some_and(|busy| !busy.is_empty())
    }

    /// Whether anything in another context than `context` is not known to be finished.
    pub fn has_work_beside(&self, context: u32) -> bool {
        self.busy.iter().any(|(other, busy)| *other != context && !busy.is_empty())
    }

    /// Whether nothing that `stream` waits for is under way; `query` asks the driver.
    pub fn is_idle(&mut self, context: u32, stream: CUstream, query: impl Fn(CUstream) -> CUresult) -> bool {
        let Some(busy) = self.busy.get_mut(&context) else { return true };
        let done = |stream: usize, busy: &mut HashSet<usize>| {
            if !busy.contains(&stream) {
                return true;
            }
            let done = query(CUstream(stream)) != CUresult::NOT_READY;
            if done {
                busy.remove(&stream);
            }
            done
        };
        if stream.is_null() {
            let blocking: Vec<usize> =
                busy.iter().copied().filter(|stream| !self.non_blocking.contains(stream)).collect();
            return blocking.into_iter().all(|stream| done(stream, busy));
        }
        done(stream.0, busy) && (self.non_blocking.contains(&stream.0) || done(0, busy))
    }

    /// Whether nothing in `context` is under way.
    pub fn is_all_idle(&mut self, context: u32, query: impl Fn(CUstream) -> CUresult) -> bool {
        let Some(busy) = self.busy.get_mut(&context) else { return !self.has_orphans() };
        busy.retain(|stream| query(CUstream(*stream)) == CUresult::NOT_READY);
        busy.is_empty() && self.orphans.load(Ordering::Acquire) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_READY: fn(CUstream) -> CUresult = |_| CUresult::NOT_READY;
    const READY: fn(CUstream) -> CUresult = |_| CUresult::SUCCESS;

    #[test]
    fn a_stream_without_work_is_idle_without_asking() {
        let mut streams = Streams::default();
        assert!(streams.is_idle(1, CUstream(5), NOT_READY));
        streams.used(1, CUstream(5));
        assert!(!streams.is_idle(1, CUstream(5), NOT_READY));
        assert!(streams.is_idle(2, CUstream(5), NOT_READY), "another context");
        assert!(streams.is_idle(1, CUstream(5), READY));
        assert!(streams.is_idle(1, CUstream(5), NOT_READY), "seen to be finished");
    }

    #[test]
    fn blocking_streams_and_the_legacy_stream_wait_for_each_other() {
        let mut streams = Streams::default();
        streams.made_non_blocking(77, CUstream(7));
        streams.used(1, CUstream::NULL);
        assert!(!streams.is_idle(1, CUstream(5), NOT_READY));
        assert!(streams.is_idle(1, CUstream(7), NOT_READY));
        let mut streams = Streams::default();
        streams.used(1, CUstream(5));
        assert!(!streams.is_idle(1, CUstream::NULL, NOT_READY));
        assert!(!streams.is_all_idle(1, NOT_READY));
        assert!(streams.is_all_idle(1, READY));
    }
}
