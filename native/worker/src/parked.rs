//! Records whose stream is not ready for them: they wait here, everything unrelated goes on.
//!
//! A launch is parked when its stream has too many unfinished ones (a real driver would block its caller), a copy
//! when no staging buffer is free. Every later record that could tell the difference queues behind: one of the same
//! stream, one that names an event of a parked record, the legacy stream and blocking streams among each other, and
//! records that concern a whole context.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use wire::cuda::{self};
use wire::handle::Stream;
use wire::{CallId, Header, Reader, Request as _};

use crate::generated::touched::{is_on_legacy_stream, touched};

/// Bytes of parked records from which on nothing more is read from the client. Its callers wait long before, as each
/// stream may have some 16,000 records before it.
const ENOUGH_BYTES: usize = 1 << 30;

/// What a parked record takes beside its payload, about.
const RECORD_BYTES: usize = 256;

/// What a record has to do with streams and events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touches {
    /// Index of the context that the record is made in.
    scope: u32,
    streams: Vec<u64>,
    events: Vec<u64>,
    legacy: bool,
    context: Reach,
    frees: bool,
    wants_memory: bool,
    /// Waits for everything in its context before it, and nothing behind it waits for it.
    fence: bool,
}

/// Whether a record concerns everything in a context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Reach {
    #[default]
    Nothing,
    /// In the context that it is made in.
    Own,
    /// In a context that it names, or that nobody looked up.
    Any,
}

/// A record that waits.
#[derive(Debug)]
pub struct ParkedRecord {
    /// Its header.
    pub header: Header,
    /// Its payload; without the data where these come on the bulk lane.
    pub payload: Vec<u8>,
    /// What it touches.
    pub touches: Touches,
}

/// All records that wait, in order.
#[derive(Debug, Default)]
pub struct Parked {
    records: VecDeque<ParkedRecord>,
    bytes: usize,
    held: Held,
}

/// What earlier records that still wait touch, while later ones are looked at.
#[derive(Debug, Default)]
pub struct Held {
    streams: FxHashSet<u64>,
    events: FxHashSet<u64>,
    /// Contexts whose legacy streams, and in which blocking streams, have something that waits.
    legacy: FxHashSet<u32>,
    blocking: FxHashSet<u32>,
    /// Contexts that a waiting record concerns as a whole.
    whole: FxHashSet<u32>,
    /// A waiting record concerns some context as a whole.
    any_whole: bool,
    /// Contexts with anything that waits.
    present: FxHashSet<u32>,
    /// Contexts of which something is to be freed.
    frees: FxHashSet<u32>,
    any: bool,
}

impl Touches {
    /// What the record of `call`, made in the context with index `scope`, touches.
    pub fn of(call: CallId, scope: u32, payload: &[u8]) -> Touches {
        let (streams, events) = touched(call, payload);
        let scope = named_context(call, payload).unwrap_or(scope);
        let streams: Vec<Stream> = streams.into_iter().chain(fenced_stream(call, payload)).collect();
        let legacy = is_on_legacy_stream(call) || streams.iter().any(|stream| stream.0 == 0);
        Touches {
            scope,
            streams: streams.iter().map(|stream| stream.0).filter(|stream| *stream != 0).collect(),
            events: events.iter().map(|event| event.0).chain(graph_objects(call, payload)).collect(),
            legacy,
            context: reach(call),
            frees: [cuda::CuMemFreeV2::CALL, cuda::FarpoolGiveBack::CALL].contains(&call),
            wants_memory: wants_memory(call),
            fence: call == cuda::FarpoolFence::CALL && streams.is_empty(),
        }
    }
}

impl Held {
    /// Whether a record that touches `touches` must wait behind what is held.
    pub fn holds_back(&self, touches: &Touches, non_blocking: &FxHashSet<u64>) -> bool {
        if !self.any {
            return false;
        }
        let blocking = touches.streams.iter().any(|stream| !non_blocking.contains(stream));
        let on_gpu = blocking || touches.legacy || !touches.streams.is_empty() || !touches.events.is_empty();
        let here = &touches.scope;
        let concerned = match touches.context {
            Reach::Nothing => false,
            Reach::Own => self.any_whole || self.present.contains(here),
            Reach::Any => true,
        };
        ((self.any_whole || self.whole.contains(here)) && on_gpu)
            || concerned
            || (touches.fence && (self.any_whole || self.present.contains(here)))
            || (touches.wants_memory && self.frees.contains(here))
            || touches.streams.iter().any(|stream| self.streams.contains(stream))
            || touches.events.iter().any(|event| self.events.contains(event))
            || (touches.legacy && (self.legacy.contains(here) || self.blocking.contains(here)))
            || (blocking && self.legacy.contains(here))
    }

    /// Adds a record that waits.
    pub fn add(&mut self, touches: &Touches, non_blocking: &FxHashSet<u64>) {
        self.any = true;
        self.streams.extend(&touches.streams);
        self.events.extend(&touches.events);
        self.present.insert(touches.scope);
        if touches.legacy {
            self.legacy.insert(touches.scope);
        }
        match touches.context {
            Reach::Nothing => {}
            Reach::Own => drop(self.whole.insert(touches.scope)),
            Reach::Any => self.any_whole = true,
        }
        if touches.frees {
            self.frees.insert(touches.scope);
        }
        if touches.streams.iter().any(|stream| !non_blocking.contains(stream)) {
            self.blocking.insert(touches.scope);
        }
    }
}

impl Parked {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether so much waits that the client must wait too.
    pub fn is_full(&self) -> bool {
        self.bytes >= ENOUGH_BYTES
    }

    /// Adds a record behind all others.
    pub fn push(&mut self, record: ParkedRecord, non_blocking: &FxHashSet<u64>) {
        self.bytes += RECORD_BYTES + record.payload.len();
        self.held.add(&record.touches, non_blocking);
        self.records.push_back(record);
    }

    /// What all waiting records touch.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Takes all records out, to try them again in order; the ones that still must wait are pushed back.
    pub fn take(&mut self) -> VecDeque<ParkedRecord> {
        self.bytes = 0;
        self.held = Held::default();
        std::mem::take(&mut self.records)
    }
}

/// The executable graph that a record names, and the events that its launch uses: like an event, each orders the
/// records that name it.
fn graph_objects(call: CallId, payload: &[u8]) -> Vec<u64> {
    let mut reader = Reader::new(payload);
    match call {
        cuda::CuGraphLaunch::CALL => {
            let request = cuda::CuGraphLaunch::decode(&mut reader);
            request.events.iter().map(|event| event.event).chain([request.exec.0]).collect()
        }
        <cuda::FarpoolGraphNodeSet<'_>>::CALL => {
            vec![cuda::FarpoolGraphNodeSet::decode(&mut reader).exec.0]
        }
        cuda::CuGraphNodeSetEnabled::CALL => vec![cuda::CuGraphNodeSetEnabled::decode(&mut reader).exec.0],
        cuda::CuGraphUpload::CALL => vec![cuda::CuGraphUpload::decode(&mut reader).exec.0],
        cuda::CuGraphExecDestroy::CALL => vec![cuda::CuGraphExecDestroy::decode(&mut reader).exec.0],
        _ => Vec::new(),
    }
}

/// The context that a record concerns, if it names one.
fn named_context(call: CallId, payload: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(payload);
    let context = match call {
        cuda::CuCtxSynchronizeV2::CALL => {
            let context = cuda::CuCtxSynchronizeV2::decode(&mut reader).ctx;
            if context.0 == 0 { 0 } else { context.index() }
        }
        cuda::FarpoolFence::CALL => cuda::FarpoolFence::decode(&mut reader).context,
        cuda::FarpoolGiveBack::CALL => cuda::FarpoolGiveBack::decode(&mut reader).context,
        _ => 0,
    };
    (context != 0).then_some(context)
}

/// The stream behind whose work a fence is.
fn fenced_stream(call: CallId, payload: &[u8]) -> Option<Stream> {
    if call != cuda::FarpoolFence::CALL {
        return None;
    }
    let fence = cuda::FarpoolFence::decode(&mut Reader::new(payload));
    (fence.kind == 1).then_some(Stream(fence.stream))
}

/// Calls whose answer depends on what was freed before.
fn wants_memory(call: CallId) -> bool {
    [
        cuda::CuMemAllocV2::CALL,
        cuda::CuMemGetInfoV2::CALL,
        cuda::CuMemAllocFromPoolAsync::CALL,
        cuda::FarpoolSecure::CALL,
    ]
    .contains(&call)
}

/// Whether a call concerns everything in a context.
fn reach(call: CallId) -> Reach {
    // In the order of frees and what comes behind them: CUDA makes the caller of a free wait for its context.
    let is_own = [
        cuda::CuCtxSynchronize::CALL,
        cuda::CuCtxSynchronizeV2::CALL,
        cuda::CuMemFreeV2::CALL,
        cuda::FarpoolGiveBack::CALL,
    ]
    .contains(&call);
    if is_own {
        return Reach::Own;
    }
    let is_any = [
        cuda::CuCtxDestroyV2::CALL,
        cuda::CuCtxRecordEvent::CALL,
        cuda::CuCtxWaitEvent::CALL,
        cuda::CuDevicePrimaryCtxReleaseV2::CALL,
        cuda::CuDevicePrimaryCtxResetV2::CALL,
        cuda::CuModuleUnload::CALL,
        cuda::CuLibraryUnload::CALL,
    ]
    .contains(&call);
    if is_any { Reach::Any } else { Reach::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Writer;

    fn on(streams: &[u64]) -> Touches {
        Touches { streams: streams.to_vec(), ..Touches::default() }
    }

    fn legacy() -> Touches {
        Touches { legacy: true, ..Touches::default() }
    }

    #[test]
    fn only_related_records_are_held_back() {
        let non_blocking = FxHashSet::from_iter([7]);
        let mut held = Held::default();
        assert!(!held.holds_back(&on(&[1]), &non_blocking), "nothing is held");
        held.add(&on(&[1]), &non_blocking);
        assert!(held.holds_back(&on(&[1]), &non_blocking), "the same stream");
        assert!(!held.holds_back(&on(&[2]), &non_blocking), "another stream");
        assert!(held.holds_back(&legacy(), &non_blocking), "the legacy stream waits for blocking ones");
        assert!(!held.holds_back(&Touches::default(), &non_blocking), "an allocation");
        let whole = Touches { context: Reach::Any, ..Touches::default() };
        assert!(held.holds_back(&whole, &non_blocking), "a synchronisation of the context");
        let allocation = Touches { wants_memory: true, ..Touches::default() };
        assert!(!held.holds_back(&allocation, &non_blocking), "memory does not depend on launches");
        held.add(&Touches { context: Reach::Own, frees: true, ..Touches::default() }, &non_blocking);
        assert!(held.holds_back(&allocation, &non_blocking), "but on what is freed before");
        let elsewhere = Touches { scope: 3, wants_memory: true, ..Touches::default() };
        assert!(!held.holds_back(&elsewhere, &non_blocking), "in the same context");
    }

    #[test]
    fn non_blocking_streams_and_the_legacy_stream_ignore_each_other() {
        let non_blocking = FxHashSet::from_iter([7]);
        let mut held = Held::default();
        held.add(&on(&[7]), &non_blocking);
        assert!(!held.holds_back(&legacy(), &non_blocking));
        held.add(&legacy(), &non_blocking);
        assert!(!held.holds_back(&on(&[9, 7][..0]), &non_blocking));
        assert!(held.holds_back(&on(&[9]), &non_blocking), "blocking streams wait for the legacy stream");
    }

    #[test]
    fn contexts_ignore_each_other() {
        let none = FxHashSet::default();
        let mut held = Held::default();
        held.add(&Touches { scope: 1, ..on(&[1]) }, &none);
        held.add(&Touches { scope: 1, ..legacy() }, &none);
        let synchronise = |scope| Touches { scope, context: Reach::Own, ..Touches::default() };
        assert!(held.holds_back(&synchronise(1), &none));
        assert!(!held.holds_back(&synchronise(2), &none));
        assert!(!held.holds_back(&Touches { scope: 2, ..legacy() }, &none));
        assert!(!held.holds_back(&Touches { scope: 2, ..on(&[2]) }, &none));
        held.add(&synchronise(1), &none);
        assert!(!held.holds_back(&Touches { scope: 2, ..on(&[2]) }, &none));
        assert!(held.holds_back(&Touches { scope: 1, ..on(&[3]) }, &none));
    }

    #[test]
    fn a_fence_waits_for_its_own_context_or_stream() {
        let none = FxHashSet::default();
        let of = |context, kind, stream| {
            let mut payload = Vec::new();
            let fence = cuda::FarpoolFence { number: 1, context, kind, stream };
            fence.encode(&mut Writer::new(&mut payload));
            Touches::of(cuda::FarpoolFence::CALL, 0, &payload)
        };
        let mut held = Held::default();
        held.add(&Touches { scope: 1, ..on(&[5]) }, &none);
        assert!(held.holds_back(&of(1, 0, 0), &none));
        assert!(!held.holds_back(&of(2, 0, 0), &none), "another context");
        assert!(held.holds_back(&of(1, 1, 5), &none));
        assert!(!held.holds_back(&of(1, 1, 6), &none), "another stream");
        held.add(&of(1, 0, 0), &none);
        assert!(!held.holds_back(&Touches { scope: 1, ..on(&[6]) }, &none), "nothing waits for a fence");
    }

    #[test]
    fn events_connect_streams() {
        let none = FxHashSet::default();
        let mut held = Held::default();
        held.add(&Touches { streams: vec![1], events: vec![50], ..Touches::default() }, &none);
        let wait = Touches { streams: vec![2], events: vec![50], ..Touches::default() };
        assert!(held.holds_back(&wait, &none));
        held.add(&wait, &none);
        assert!(held.holds_back(&on(&[2]), &none), "what follows the wait on its stream");
    }
}
