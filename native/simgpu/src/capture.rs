//! Stream capture: work of a stream becomes nodes of a graph instead of running.
//!
//! A capture begins in one stream and spreads to others that wait for its events. A call that would need captured
//! work to run, or that may be unsafe meanwhile, is refused and makes the capture invalid: it then only ends.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::ThreadId;

use cuda_abi::{
    CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_RELAXED, CU_STREAM_NON_BLOCKING, CUgraphNode,
    CUresult, CUstreamCaptureMode,
};

use crate::context::Context;
use crate::device::lock;
use crate::event::Event;
use crate::graph::action::Action;
use crate::graph::{Graph, Node, node_handle};
use crate::guard::Answer;
use crate::stream::{Role, Stream};

/// A capture.
pub struct Capture {
    pub id: u64,
    pub graph: Arc<Graph>,
    /// The graph was there before.
    borrowed: bool,
    mode: CUstreamCaptureMode,
    thread: ThreadId,
    origin: Weak<Stream>,
    streams: Mutex<Vec<Weak<Stream>>>,
    invalid: AtomicBool,
}

/// A stream's part in a capture.
pub struct Branch {
    pub capture: Arc<Capture>,
    /// What the stream's next node waits for.
    pub dependencies: Vec<Arc<Node>>,
    /// Their handles, where the program was given them.
    pub handles: Vec<CUgraphNode>,
}

static CAPTURES: Mutex<Vec<Arc<Capture>>> = Mutex::new(Vec::new());
/// How many there are: most calls look no further.
static COUNT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static MODE: Cell<CUstreamCaptureMode> = const { Cell::new(CU_STREAM_CAPTURE_MODE_GLOBAL) };
}

/// Changes how strict the calling thread is; answers how strict it was.
pub fn exchange_mode(mode: CUstreamCaptureMode) -> CUstreamCaptureMode {
    MODE.replace(mode)
}

fn any() -> bool {
    COUNT.load(Ordering::Acquire) > 0
}

impl Capture {
    /// Whether it can only be ended.
    pub fn is_invalid(&self) -> bool {
        self.invalid.load(Ordering::Acquire)
    }

    fn invalidate(&self) {
        self.invalid.store(true, Ordering::Release);
    }

    /// Takes all streams out of the capture.
    fn end(self: &Arc<Self>) {
        for stream in lock(&self.streams).drain(..).filter_map(|stream| stream.upgrade()) {
            lock(&stream.branch).take();
        }
        let mut captures = lock(&CAPTURES);
        captures.retain(|other| !Arc::ptr_eq(other, self));
        COUNT.store(captures.len(), Ordering::Release);
    }

    fn join(self: &Arc<Self>, stream: &Arc<Stream>, dependencies: Vec<Arc<Node>>) {
        let branch = Branch { capture: Arc::clone(self), dependencies, handles: Vec::new() };
        *lock(&stream.branch) = Some(branch);
        lock(&self.streams).push(Arc::downgrade(stream));
    }

    fn holds(&self, stream: impl Fn(&Stream) -> bool) -> bool {
        lock(&self.streams).iter().filter_map(Weak::upgrade).any(|other| stream(&other))
    }
}

/// Begins a capture, into a graph that exists if one is given.
///
/// # Errors
/// STREAM_CAPTURE_UNSUPPORTED for the legacy stream, ILLEGAL_STATE for one that captures.
pub fn begin(
    stream: &Arc<Stream>,
    mode: CUstreamCaptureMode,
    into: Option<(Arc<Graph>, Vec<Arc<Node>>)>,
) -> Answer {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    if stream.role == Role::Legacy {
        return Err(CUresult::STREAM_CAPTURE_UNSUPPORTED);
    }
    if lock(&stream.branch).is_some() {
        return Err(CUresult::ILLEGAL_STATE);
    }
    let borrowed = into.is_some();
    let (graph, dependencies) = into.unwrap_or_else(|| (Graph::create(), Vec::new()));
    let capture = Arc::new(Capture {
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        graph,
        borrowed,
        mode,
        thread: std::thread::current().id(),
        origin: Arc::downgrade(stream),
        streams: Mutex::default(),
        invalid: AtomicBool::new(false),
    });
    capture.join(stream, dependencies);
    let mut captures = lock(&CAPTURES);
    captures.push(capture);
    COUNT.store(captures.len(), Ordering::Release);
    Ok(())
}

/// Ends the capture that began in a stream and answers its graph.
///
/// # Errors
/// ILLEGAL_STATE without a capture, STREAM_CAPTURE_UNMATCHED for another stream of it, _WRONG_THREAD, and, after
/// which it has ended all the same, _INVALIDATED and _UNJOINED.
pub fn end(stream: &Arc<Stream>) -> Answer<Arc<Graph>> {
    let (capture, ends) = match &*lock(&stream.branch) {
        Some(branch) => (Arc::clone(&branch.capture), branch.dependencies.clone()),
        None => return Err(CUresult::ILLEGAL_STATE),
    };
    if !std::ptr::eq(capture.origin.as_ptr(), Arc::as_ptr(stream)) {
        capture.invalidate();
        return Err(CUresult::STREAM_CAPTURE_UNMATCHED);
    }
    if capture.mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture.thread != std::thread::current().id() {
        return Err(CUresult::STREAM_CAPTURE_WRONG_THREAD);
    }
    let mut loose = Vec::new();
    for other in lock(&capture.streams).iter().filter_map(Weak::upgrade) {
        if !Arc::ptr_eq(&other, stream) {
            loose.extend(lock(&other.branch).iter().flat_map(|branch| branch.dependencies.clone()));
        }
    }
    capture.end();
    let error = if capture.is_invalid() {
        CUresult::STREAM_CAPTURE_INVALIDATED
    } else if !capture.graph.reaches(&loose, &ends) {
        CUresult::STREAM_CAPTURE_UNJOINED
    } else {
        return Ok(Arc::clone(&capture.graph));
    };
    if !capture.borrowed {
        capture.graph.destroy();
    }
    Err(error)
}

/// Does something with the stream's part in a capture; `None` where it has none.
///
/// # Errors
/// STREAM_CAPTURE_INVALIDATED, or what `action` answers.
pub fn with_branch<T>(
    stream: &Arc<Stream>,
    action: impl FnOnce(&mut Branch) -> Answer<T>,
) -> Answer<Option<T>> {
    if !any() {
        return Ok(None);
    }
    match &mut *lock(&stream.branch) {
        None => Ok(None),
        Some(branch) if branch.capture.is_invalid() => Err(CUresult::STREAM_CAPTURE_INVALIDATED),
        Some(branch) => action(branch).map(Some),
    }
}

/// Makes work of a stream that captures a node; false where it does not capture.
///
/// # Errors
/// STREAM_CAPTURE_INVALIDATED, or what `action` answers.
pub fn record(stream: &Arc<Stream>, action: impl FnOnce() -> Answer<Action>) -> Answer<bool> {
    let done = with_branch(stream, |branch| {
        let node = branch.capture.graph.add(action()?, &branch.dependencies)?;
        branch.dependencies = vec![node];
        Ok(())
    });
    Ok(done?.is_some())
}

/// Refuses work that cannot be captured, where the stream captures.
///
/// # Errors
/// STREAM_CAPTURE_UNSUPPORTED.
pub fn refuse(stream: &Arc<Stream>) -> Answer {
    with_branch(stream, |branch| {
        branch.capture.invalidate();
        Err(CUresult::STREAM_CAPTURE_UNSUPPORTED)
    })
    .map(|_: Option<()>| ())
}

/// Refuses what may be unsafe during captures: those of this thread, and those of others that ask for it.
///
/// # Errors
/// STREAM_CAPTURE_UNSUPPORTED.
pub fn unsafe_call() -> Answer {
    if !any() || MODE.get() == CU_STREAM_CAPTURE_MODE_RELAXED {
        return Ok(());
    }
    let mine = std::thread::current().id();
    let everywhere = MODE.get() == CU_STREAM_CAPTURE_MODE_GLOBAL;
    invalidate_where(CUresult::STREAM_CAPTURE_UNSUPPORTED, |capture| {
        (capture.thread == mine && capture.mode != CU_STREAM_CAPTURE_MODE_RELAXED)
            || (everywhere && capture.mode == CU_STREAM_CAPTURE_MODE_GLOBAL)
    })
}

/// Refuses what waits for a whole context, while a stream of it captures.
///
/// # Errors
/// STREAM_CAPTURE_UNSUPPORTED.
pub fn wait_for_context(context: &Context) -> Answer {
    if !any() {
        return Ok(());
    }
    unsafe_call()?;
    invalidate_where(CUresult::STREAM_CAPTURE_UNSUPPORTED, |capture| {
        capture.holds(|stream| stream.context.id == context.id)
    })
}

/// Whether the legacy stream would wait for a stream that captures.
pub fn hides_legacy(context: &Context) -> bool {
    any() && lock(&CAPTURES).iter().any(|capture| touches_legacy(capture, context))
}

fn touches_legacy(capture: &Capture, context: &Context) -> bool {
    capture.holds(|stream| stream.context.id == context.id && stream.flags & CU_STREAM_NON_BLOCKING == 0)
}

/// Refuses use of the legacy stream where that would wait for a stream that captures.
///
/// # Errors
/// STREAM_CAPTURE_IMPLICIT.
pub fn legacy_used(context: &Context) -> Answer {
    if !any() {
        return Ok(());
    }
    invalidate_where(CUresult::STREAM_CAPTURE_IMPLICIT, |capture| touches_legacy(capture, context))
}

fn invalidate_where(error: CUresult, condition: impl Fn(&Capture) -> bool) -> Answer {
    let mut refused = false;
    for capture in lock(&CAPTURES).iter().filter(|capture| condition(capture)) {
        capture.invalidate();
        refused = true;
    }
    if refused { Err(error) } else { Ok(()) }
}

/// The place in a capture at which an event was recorded.
pub struct Place {
    capture: Weak<Capture>,
    nodes: Vec<Arc<Node>>,
}

impl Place {
    /// Refuses to look at an event that was recorded in a capture.
    pub fn refuse(&self) -> CUresult {
        if let Some(capture) = self.capture.upgrade() {
            capture.invalidate();
        }
        CUresult::CAPTURED_EVENT
    }
}

/// Notes an event in a capture; false where the stream does not capture.
///
/// # Errors
/// STREAM_CAPTURE_INVALIDATED.
pub fn record_event(stream: &Arc<Stream>, event: &Event) -> Answer<bool> {
    let done = with_branch(stream, |branch| {
        let place = Place { capture: Arc::downgrade(&branch.capture), nodes: branch.dependencies.clone() };
        event.captured_at(Some(place));
        Ok(())
    });
    Ok(done?.is_some())
}

/// Lets a stream wait for an event where one of them is part of a capture; false where neither is.
///
/// # Errors
/// STREAM_CAPTURE_ISOLATION for an event from outside, _MERGE for one of another capture, _IMPLICIT for the
/// legacy stream, CAPTURED_EVENT where the event's capture has ended.
pub fn wait_event(stream: &Arc<Stream>, event: &Event) -> Answer<bool> {
    let Some((capture, nodes)) = event.place(|place| (place.capture.upgrade(), place.nodes.clone())) else {
        let outside = with_branch(stream, |branch| {
            branch.capture.invalidate();
            Err::<(), _>(CUresult::STREAM_CAPTURE_ISOLATION)
        });
        return Ok(outside?.is_some());
    };
    let capture = capture.ok_or(CUresult::CAPTURED_EVENT)?;
    if capture.is_invalid() {
        return Err(CUresult::STREAM_CAPTURE_INVALIDATED);
    }
    let joined = with_branch(stream, |branch| {
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
        if stream.role == Role::Legacy {
            capture.invalidate();
            return Err(CUresult::STREAM_CAPTURE_IMPLICIT);
        }
        capture.join(stream, nodes);
    }
    Ok(true)
}

/// What asks a stream about a capture may learn.
pub struct State {
    pub id: u64,
    pub invalid: bool,
    pub graph: Arc<Graph>,
}

/// The capture that a stream takes part in.
pub fn state(stream: &Stream) -> Option<State> {
    lock(&stream.branch).as_ref().map(|branch| State {
        id: branch.capture.id,
        invalid: branch.capture.is_invalid(),
        graph: Arc::clone(&branch.capture.graph),
    })
}

/// Handles of what the stream's next node will wait for, kept until the next question.
pub fn dependencies(stream: &Stream) -> (*const CUgraphNode, usize) {
    match &mut *lock(&stream.branch) {
        Some(branch) => {
            branch.handles = branch.dependencies.iter().map(node_handle).collect();
            (branch.handles.as_ptr(), branch.handles.len())
        }
        None => (std::ptr::null(), 0),
    }
}

/// Ends the part of a stream that is destroyed: its capture becomes invalid, and ends if it began here.
pub fn stream_gone(stream: &Arc<Stream>) {
    let Some(capture) = lock(&stream.branch).as_ref().map(|branch| Arc::clone(&branch.capture)) else {
        return;
    };
    capture.invalidate();
    if std::ptr::eq(capture.origin.as_ptr(), Arc::as_ptr(stream)) {
        capture.end();
        if !capture.borrowed {
            capture.graph.destroy();
        }
    }
}
