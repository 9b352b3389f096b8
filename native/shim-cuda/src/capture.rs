//! Stream capture: work of a stream becomes nodes of a graph instead of running. All of it happens here; the worker
//! and its driver never see a capturing stream (ADR 9).
//!
//! A capture begins in one stream and spreads to others that wait for its events. A call that would need captured
//! work to run, or that may be unsafe meanwhile, is refused and makes the capture invalid: it then only ends.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;

use cuda_abi::{
    CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_RELAXED, CUgraphNode, CUresult, CUstreamCaptureMode,
};
use wire::handle::{Context, Event, Handle as _, Stream};

use crate::client::Client;
use crate::entry::Answer;
use crate::graph::action::{Action, Filling, linear};
use crate::graph::{Graph, Node, node_handle};
use crate::rectangle::Place;
use crate::stream::NON_BLOCKING;

/// All captures of this process.
#[derive(Debug, Default)]
pub struct Captures {
    /// How many there are: most calls look no further.
    count: AtomicUsize,
    /// How many events were recorded last in one.
    placed: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    all: Vec<Arc<Capture>>,
    branches: HashMap<Stream, Branch>,
    places: HashMap<Event, Spot>,
}

/// A capture.
#[derive(Debug)]
struct Capture {
    id: u64,
    graph: Arc<Graph>,
    /// The graph was there before.
    is_borrowed: bool,
    mode: CUstreamCaptureMode,
    thread: ThreadId,
    origin: Stream,
    is_invalid: AtomicBool,
}

/// A stream's part in a capture.
#[derive(Debug)]
struct Branch {
    capture: Arc<Capture>,
    context: Context,
    /// The stream synchronises with the legacy stream.
    is_blocking: bool,
    /// What the stream's next node waits for.
    dependencies: Vec<Arc<Node>>,
    /// Their handles, where the program was given them.
    handles: Vec<CUgraphNode>,
}

/// The place in a capture at which an event was recorded.
#[derive(Debug)]
struct Spot {
    capture: Weak<Capture>,
    nodes: Vec<Arc<Node>>,
}

/// What asks a stream about a capture may learn.
#[derive(Debug)]
pub struct Info {
    /// Number of the capture.
    pub id: u64,
    /// Whether it can only be ended.
    pub is_invalid: bool,
    /// The graph so far.
    pub graph: Arc<Graph>,
    /// Handles of what the stream's next node will wait for; they stay until the next question.
    pub dependencies: (*const CUgraphNode, usize),
}

thread_local! {
    static MODE: Cell<CUstreamCaptureMode> = const { Cell::new(CU_STREAM_CAPTURE_MODE_GLOBAL) };
}

/// Changes how strict the calling thread is; answers how strict it was.
pub fn exchange_mode(mode: CUstreamCaptureMode) -> CUstreamCaptureMode {
    MODE.replace(mode)
}

impl Capture {
    fn is_invalid(&self) -> bool {
        self.is_invalid.load(Ordering::Acquire)
    }

    fn invalidate(&self) {
        self.is_invalid.store(true, Ordering::Release);
    }
}

impl Captures {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are any.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    fn changed(&self, state: &State) {
        self.count.store(state.all.len(), Ordering::Release);
        self.placed.store(state.places.len(), Ordering::Release);
    }

    /// Whether the stream takes part in a capture; an invalid one is an error.
    pub fn is_capturing(&self, stream: Stream) -> Answer<bool> {
        if !self.any() {
            return Ok(false);
        }
        match self.state().branches.get(&stream) {
            None => Ok(false),
            Some(branch) if branch.capture.is_invalid() => Err(CUresult::STREAM_CAPTURE_INVALIDATED),
            Some(_) => Ok(true),
        }
    }

    /// Does something with the stream's part in a capture; `None` where it has none.
    fn with_branch<T>(
        &self,
        stream: Stream,
        action: impl FnOnce(&mut Branch) -> Answer<T>,
    ) -> Answer<Option<T>> {
        if !self.any() {
            return Ok(None);
        }
        match self.state().branches.get_mut(&stream) {
            None => Ok(None),
            Some(branch) if branch.capture.is_invalid() => Err(CUresult::STREAM_CAPTURE_INVALIDATED),
            Some(branch) => action(branch).map(Some),
        }
    }

    fn invalidate_where(&self, error: CUresult, condition: impl Fn(&State, &Arc<Capture>) -> bool) -> Answer {
        let state = self.state();
        let mut refused = false;
        for capture in state.all.iter().filter(|capture| condition(&state, capture)) {
            capture.invalidate();
            refused = true;
        }
        if refused { Err(error) } else { Ok(()) }
    }
}

impl State {
    fn branches_of<'a>(
        &'a self,
        capture: &'a Arc<Capture>,
    ) -> impl Iterator<Item = (&'a Stream, &'a Branch)> {
        self.branches.iter().filter(|(_, branch)| Arc::ptr_eq(&branch.capture, capture))
    }

    fn touches_legacy(&self, capture: &Arc<Capture>, context: Context) -> bool {
        self.branches_of(capture).any(|(_, branch)| branch.context == context && branch.is_blocking)
    }

    /// Takes all streams out of the capture.
    fn end(&mut self, capture: &Arc<Capture>) {
        self.branches.retain(|_, branch| !Arc::ptr_eq(&branch.capture, capture));
        self.all.retain(|other| !Arc::ptr_eq(other, capture));
    }

    fn join(
        &mut self,
        client: &Client,
        capture: &Arc<Capture>,
        stream: Stream,
        nodes: Vec<Arc<Node>>,
    ) -> Answer {
        let known = client.streams.state(stream)?;
        let branch = Branch {
            capture: Arc::clone(capture),
            context: known.context,
            is_blocking: known.flags & NON_BLOCKING == 0,
            dependencies: nodes,
            handles: Vec::new(),
        };
        self.branches.insert(stream, branch);
        Ok(())
    }
}

/// The context that work of `stream` runs in.
pub fn context_of(client: &Client, stream: Stream) -> Answer<Context> {
    // A default stream belongs to the current context.
    client.streams.state(stream).map(|state| state.context).or_else(|_| Ok(client.contexts.current()?.0))
}

/// Begins a capture, into a graph that exists if one is given.
///
/// Errors: `STREAM_CAPTURE_UNSUPPORTED` for the legacy stream, `ILLEGAL_STATE` for one that captures.
pub fn begin(
    client: &Client,
    stream: Stream,
    mode: CUstreamCaptureMode,
    into: Option<(Arc<Graph>, Vec<Arc<Node>>)>,
) -> Answer {
    if stream.raw() == 0 {
        return Err(CUresult::STREAM_CAPTURE_UNSUPPORTED);
    }
    let captures = &client.captures;
    let mut state = captures.state();
    if state.branches.contains_key(&stream) {
        return Err(CUresult::ILLEGAL_STATE);
    }
    let is_borrowed = into.is_some();
    let (graph, dependencies) = into.unwrap_or_else(|| (Graph::create(), Vec::new()));
    let capture = Arc::new(Capture {
        // Unlike other numbers programs see it.
        id: crate::servers::handle_index(client.new_number(), client.server),
        graph,
        is_borrowed,
        mode,
        thread: std::thread::current().id(),
        origin: stream,
        is_invalid: AtomicBool::new(false),
    });
    state.join(client, &capture, stream, dependencies)?;
    state.all.push(capture);
    captures.changed(&state);
    Ok(())
}

/// Ends the capture that began in a stream and answers its graph.
///
/// Errors: `ILLEGAL_STATE` without a capture, `STREAM_CAPTURE_UNMATCHED` for another stream of it, `_WRONG_THREAD`,
/// and, after which it has ended all the same, `_INVALIDATED` and `_UNJOINED`.
pub fn end(client: &Client, stream: Stream) -> Answer<Arc<Graph>> {
    let captures = &client.captures;
    let mut state = captures.state();
    let branch = state.branches.get(&stream).ok_or(CUresult::ILLEGAL_STATE)?;
    let (capture, ends) = (Arc::clone(&branch.capture), branch.dependencies.clone());
    if capture.origin != stream {
        capture.invalidate();
        return Err(CUresult::STREAM_CAPTURE_UNMATCHED);
    }
    if capture.mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture.thread != std::thread::current().id() {
        return Err(CUresult::STREAM_CAPTURE_WRONG_THREAD);
    }
    let others = state.branches_of(&capture).filter(|(other, _)| **other != stream);
    let loose: Vec<Arc<Node>> = others.flat_map(|(_, branch)| branch.dependencies.clone()).collect();
    state.end(&capture);
    captures.changed(&state);
    drop(state);
    let error = if capture.is_invalid() {
        CUresult::STREAM_CAPTURE_INVALIDATED
    } else if !capture.graph.reaches(&loose, &ends) {
        CUresult::STREAM_CAPTURE_UNJOINED
    } else {
        return Ok(Arc::clone(&capture.graph));
    };
    if !capture.is_borrowed {
        capture.graph.destroy();
    }
    Err(error)
}

/// Makes work of a stream that captures a node; false where it does not capture.
///
/// Errors: `STREAM_CAPTURE_INVALIDATED`, or what `action` answers.
pub fn record(client: &Client, stream: Stream, action: impl FnOnce() -> Answer<Action>) -> Answer<bool> {
    if !client.captures.is_capturing(stream)? {
        return Ok(false);
    }
    // Made outside of the lock: it may ask the worker for memory.
    let action = action()?;
    let done = client.captures.with_branch(stream, |branch| {
        let node = branch.capture.graph.add(action, &branch.dependencies)?;
        branch.dependencies = vec![node];
        Ok(())
    });
    Ok(done?.is_some())
}

/// A memset of a stream that captures: address, pitch, value, bytes of an element, elements of a row, rows.
///
/// Errors: as [`record`].
pub fn fill(client: &Client, stream: Stream, numbers: [u64; 6]) -> Answer<bool> {
    let [address, pitch, value, element, width, height] = numbers;
    if width == 0 || height == 0 {
        return client.captures.is_capturing(stream);
    }
    record(client, stream, || {
        Ok(Action::Fill(Filling {
            address,
            pitch,
            value: u32::try_from(value).map_err(|_| CUresult::INVALID_VALUE)?,
            element: u32::try_from(element).map_err(|_| CUresult::INVALID_VALUE)?,
            width,
            height,
            context: context_of(client, stream)?,
        }))
    })
}

/// A copy on devices of a stream that captures.
///
/// Errors: as [`record`].
pub fn copy(client: &Client, stream: Stream, destination: u64, source: u64, length: usize) -> Answer<bool> {
    linear_copy(client, stream, Place::Device(destination), Place::Device(source), length)
}

/// A copy of a row of bytes of a stream that captures.
///
/// Errors: as [`record`].
pub fn linear_copy(
    client: &Client,
    stream: Stream,
    destination: Place,
    source: Place,
    length: usize,
) -> Answer<bool> {
    if length == 0 {
        return client.captures.is_capturing(stream);
    }
    record(client, stream, || {
        Ok(Action::Copy(linear(destination, source, length), context_of(client, stream)?))
    })
}

/// Refuses work that cannot be captured, where the stream captures.
///
/// Errors: `STREAM_CAPTURE_UNSUPPORTED`.
pub fn refuse(client: &Client, stream: Stream) -> Answer {
    let refused = client.captures.with_branch(stream, |branch| {
        branch.capture.invalidate();
        Err(CUresult::STREAM_CAPTURE_UNSUPPORTED)
    });
    refused.map(|_: Option<()>| ())
}

/// Refuses what may be unsafe during captures: those of this thread, and those of others that ask for it.
///
/// Errors: `STREAM_CAPTURE_UNSUPPORTED`.
pub fn unsafe_call(client: &Client) -> Answer {
    if !client.captures.any() || MODE.get() == CU_STREAM_CAPTURE_MODE_RELAXED {
        return Ok(());
    }
    let mine = std::thread::current().id();
    let everywhere = MODE.get() == CU_STREAM_CAPTURE_MODE_GLOBAL;
    client.captures.invalidate_where(CUresult::STREAM_CAPTURE_UNSUPPORTED, |_, capture| {
        (capture.thread == mine && capture.mode != CU_STREAM_CAPTURE_MODE_RELAXED)
            || (everywhere && capture.mode == CU_STREAM_CAPTURE_MODE_GLOBAL)
    })
}

/// Refuses what waits for a whole context (`None`: the current one), while a stream of it captures.
///
/// Errors: `STREAM_CAPTURE_UNSUPPORTED`.
pub fn wait_for_context(client: &Client, context: Option<Context>) -> Answer {
    if !client.captures.any() {
        return Ok(());
    }
    unsafe_call(client)?;
    let context = match context {
        Some(context) if context.raw() != 0 => context,
        _ => client.contexts.current()?.0,
    };
    client.captures.invalidate_where(CUresult::STREAM_CAPTURE_UNSUPPORTED, |state, capture| {
        state.branches_of(capture).any(|(_, branch)| branch.context == context)
    })
}

/// Whether the legacy stream of the current context would wait for a stream that captures.
pub fn hides_legacy(client: &Client) -> bool {
    let Ok((context, _)) = client.contexts.current() else { return false };
    if !client.captures.any() {
        return false;
    }
    let state = client.captures.state();
    state.all.iter().any(|capture| state.touches_legacy(capture, context))
}

/// Refuses use of the legacy stream where that would wait for a stream that captures.
///
/// Errors: `STREAM_CAPTURE_IMPLICIT`.
pub fn legacy_used(client: &Client) -> Answer {
    if !client.captures.any() {
        return Ok(());
    }
    let (context, _) = client.contexts.current()?;
    client.captures.invalidate_where(CUresult::STREAM_CAPTURE_IMPLICIT, |state, capture| {
        state.touches_legacy(capture, context)
    })
}

/// Before a call that works on the legacy stream and is synchronous.
///
/// Errors: as [`legacy_used`] and [`unsafe_call`].
pub fn synchronous(client: &Client) -> Answer {
    legacy_used(client)?;
    unsafe_call(client)
}

/// Before a call that waits for a stream or asks about it.
///
/// Errors: `STREAM_CAPTURE_UNSUPPORTED`.
pub fn waited(client: &Client, stream: Stream) -> Answer {
    refuse(client, stream)?;
    unsafe_call(client)
}

/// Fails for an event that was recorded in a capture, which becomes invalid.
///
/// Errors: `CAPTURED_EVENT`.
pub fn check_uncaptured(client: &Client, event: Event) -> Answer {
    if client.captures.placed.load(Ordering::Acquire) == 0 {
        return Ok(());
    }
    match client.captures.state().places.get(&event) {
        None => Ok(()),
        Some(place) => {
            if let Some(capture) = place.capture.upgrade() {
                capture.invalidate();
            }
            Err(CUresult::CAPTURED_EVENT)
        }
    }
}

/// Before a call that waits for an event or asks about it.
///
/// Errors: `CAPTURED_EVENT`, `STREAM_CAPTURE_UNSUPPORTED`.
pub fn event_waited(client: &Client, event: Event) -> Answer {
    check_uncaptured(client, event)?;
    unsafe_call(client)
}

/// Before the time between two events is asked for.
///
/// Errors: `CAPTURED_EVENT`.
pub fn both_uncaptured(client: &Client, start: Event, end: Event) -> Answer {
    check_uncaptured(client, start)?;
    check_uncaptured(client, end)
}

/// Notes an event in a capture; false where the stream does not capture. With `flags` 1 it becomes a node.
///
/// Errors: `STREAM_CAPTURE_INVALIDATED`, `INVALID_VALUE` for other flags.
pub fn record_event(client: &Client, stream: Stream, event: Event, flags: u32) -> Answer<bool> {
    const EXTERNAL: u32 = 1;
    if flags & !EXTERNAL != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    if flags & EXTERNAL != 0 && record(client, stream, || Ok(Action::Record(event)))? {
        return Ok(true);
    }
    let captures = &client.captures;
    if !captures.is_capturing(stream)? {
        event_gone(client, event);
        return Ok(false);
    }
    let mut state = captures.state();
    let Some(branch) = state.branches.get(&stream) else { return Ok(false) };
    let place = Spot { capture: Arc::downgrade(&branch.capture), nodes: branch.dependencies.clone() };
    state.places.insert(event, place);
    captures.changed(&state);
    Ok(true)
}

/// Lets a stream wait for an event where one of them is part of a capture; false where neither is.
///
/// Errors: `STREAM_CAPTURE_ISOLATION` for an event from outside, `_MERGE` for one of another capture, `_IMPLICIT` for
/// the legacy stream, `CAPTURED_EVENT` where the event's capture has ended.
pub fn wait_event(client: &Client, stream: Stream, event: Event, flags: u32) -> Answer<bool> {
    const EXTERNAL: u32 = 1;
    if flags & EXTERNAL != 0 && record(client, stream, || Ok(Action::Wait(event)))? {
        return Ok(true);
    }
    let captures = &client.captures;
    let place = if captures.placed.load(Ordering::Acquire) == 0 {
        None
    } else {
        captures.state().places.get(&event).map(|place| (place.capture.upgrade(), place.nodes.clone()))
    };
    let Some((capture, nodes)) = place else {
        let outside = captures.with_branch(stream, |branch| {
            branch.capture.invalidate();
            Err::<(), _>(CUresult::STREAM_CAPTURE_ISOLATION)
        });
        return Ok(outside?.is_some());
    };
    let capture = capture.ok_or(CUresult::CAPTURED_EVENT)?;
    if capture.is_invalid() {
        return Err(CUresult::STREAM_CAPTURE_INVALIDATED);
    }
    let joined = captures.with_branch(stream, |branch| {
        if !Arc::ptr_eq(&branch.capture, &capture) {
            branch.capture.invalidate();
            capture.invalidate();
            return Err(CUresult::STREAM_CAPTURE_MERGE);
        }
        for node in &nodes {
            if !branch.dependencies.iter().any(|other| other.id == node.id) {
                branch.dependencies.push(Arc::clone(node));
            }
        }
        Ok(())
    })?;
    if joined.is_none() {
        if stream.raw() == 0 {
            capture.invalidate();
            return Err(CUresult::STREAM_CAPTURE_IMPLICIT);
        }
        captures.state().join(client, &capture, stream, nodes)?;
    }
    Ok(true)
}

/// The capture that a stream takes part in.
pub fn info(client: &Client, stream: Stream) -> Option<Info> {
    if !client.captures.any() {
        return None;
    }
    let mut state = client.captures.state();
    let branch = state.branches.get_mut(&stream)?;
    branch.handles = branch.dependencies.iter().map(node_handle).collect();
    Some(Info {
        id: branch.capture.id,
        is_invalid: branch.capture.is_invalid(),
        graph: Arc::clone(&branch.capture.graph),
        dependencies: (branch.handles.as_ptr(), branch.handles.len()),
    })
}

/// Changes what the stream's next node waits for.
///
/// Errors: `ILLEGAL_STATE` where it does not capture, `STREAM_CAPTURE_INVALIDATED`.
pub fn update_dependencies(client: &Client, stream: Stream, nodes: Vec<Arc<Node>>, replace: bool) -> Answer {
    let updated = client.captures.with_branch(stream, |branch| {
        if replace {
            branch.dependencies.clear();
        }
        for node in nodes {
            if !branch.dependencies.iter().any(|other| other.id == node.id) {
                branch.dependencies.push(node);
            }
        }
        Ok(())
    });
    updated?.ok_or(CUresult::ILLEGAL_STATE)
}

/// Ends the part of a stream that is destroyed: its capture becomes invalid, and ends if it began here.
pub fn stream_gone(client: &Client, stream: Stream) {
    if !client.captures.any() {
        return;
    }
    let mut state = client.captures.state();
    let Some(branch) = state.branches.remove(&stream) else { return };
    branch.capture.invalidate();
    if branch.capture.origin == stream {
        state.end(&branch.capture);
        client.captures.changed(&state);
        drop(state);
        if !branch.capture.is_borrowed {
            branch.capture.graph.destroy();
        }
    }
}

/// Forgets where an event was captured: it is recorded anew, or destroyed.
pub fn event_gone(client: &Client, event: Event) {
    if client.captures.placed.load(Ordering::Acquire) == 0 {
        return;
    }
    let mut state = client.captures.state();
    state.places.remove(&event);
    client.captures.changed(&state);
}
