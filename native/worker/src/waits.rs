//! Waiting for the GPU without holding up the issuing thread.
//!
//! Whatever must wait for a stream becomes a [`Wait`]: an event behind the work, and what to do when it is reached.
//! Waits of one stream are handled in order by one thread (a *waiter*), which starts when there is something to wait
//! for and ends when there was nothing for a while. The issuing thread itself looks after new waits for as long as it
//! has nothing to issue and does not sleep ([`Waits::look_after`]): what ends soon costs no thread switch.
//!
//! **Downloads.** A copy to the client's memory is such a wait too. Before any other answer leaves, the downloads
//! that the GPU has finished by then are sent ([`Waits::send_finished_downloads`]): so whatever tells the client
//! that a copy is complete arrives behind the copy's bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cuda_abi::{CUcontext, CUevent, CUlibrary, CUmodule, CUresult, CUstream};
use driver::Driver;
use wire::{CallId, Request as _};

use crate::frees::{Freed, Frees};
use crate::graphs::{Owed, Slot};
use crate::memory::{Allocation, Memory};
use crate::outbox::{Outbox, ReplyTo};
use crate::output::Output;
use crate::progress::Progress;
use crate::staging::{Buffer, Staging};
use crate::streams::StreamState;
use crate::wake::Wake;
use crate::window::{Chunk, Mapped};

/// How long a waiter without work lives on.
const IDLE: Duration = Duration::from_secs(1);

/// Lanes from which on dead ones are looked for.
const MANY_WAITERS: usize = 32;

/// Events for waiting: no timing, and the waiting thread sleeps (`CU_EVENT_BLOCKING_SYNC | DISABLE_TIMING`).
const EVENT_FLAGS: u32 = 1 | 2;

/// What a waiter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaiterKey {
    /// A stream of a context.
    Stream(u32, usize),
    /// An event of the client's.
    Event(usize),
    /// A whole context.
    Context(u32),
    /// What the driver frees of a context.
    Memory(u32),
    /// What a context gives back of the window.
    Window(u32),
    /// Destroyed streams of a context.
    Orphans(u32),
}

/// What is waited for.
#[derive(Debug)]
pub enum Until {
    /// An event of this module's, given back afterwards.
    Own(CUevent),
    /// An event of the client's.
    Event(CUevent),
    /// An event of the client's that it may destroy meanwhile.
    Watched(CUevent),
    /// All of these events of this module's, each with its context. They are given back afterwards.
    All(Vec<(CUcontext, CUevent)>),
    /// An event of this module's on a stream of its own, which are both given back afterwards.
    Captured(CUevent, CUstream),
    /// All work of the current context.
    Context,
    /// Nothing: it only takes a while.
    Now,
}

/// What happens then.
#[derive(Debug)]
pub enum Then {
    /// The client gets its answer.
    Reply(ReplyTo),
    /// The client gets the bytes of a download.
    Download(Arc<Download>),
    /// A buffer is free again.
    Recycle(Buffer),
    /// A stream may take work again; what was put on it up to this record is finished.
    Marker(Arc<StreamState>, u64),
    /// Answers to the client, where an error kept a graph from giving them.
    Answer(Vec<Arc<Owed>>),
    /// No launch of a destroyed graph is left.
    Drop(Vec<Arc<Slot>>),
    /// Memory of a pool was freed.
    Settle(Allocation),
    /// A fence has one thing less to wait for.
    Fence(Arc<Fence>),
    /// The client wants to know that work of a stream up to this record is finished.
    Tell(Arc<StreamState>, u64),
    /// The work of a destroyed stream is done.
    Orphan(Arc<AtomicU32>),
    /// Memory is freed that the GPU may have been using.
    Free {
        /// Its address.
        address: u64,
        /// The call.
        call: CallId,
        /// What becomes free.
        freed: Freed,
    },
    /// Memory of the window goes back.
    GiveBack {
        /// The window.
        mapped: Arc<Mapped>,
        /// Which memory.
        chunks: Vec<Chunk>,
        /// What becomes free.
        freed: Freed,
    },
    /// Code is unloaded that the GPU may have been running.
    Unload {
        /// Whose code.
        unit: Unit,
        /// The call.
        call: CallId,
        /// What becomes free.
        freed: Freed,
    },
}

/// Something loaded.
#[derive(Debug, Clone, Copy)]
pub enum Unit {
    /// A module.
    Module(CUmodule),
    /// A library.
    Library(CUlibrary),
}

/// Several waits; when all have ended the client is told, by the number that it gave.
#[derive(Debug)]
pub struct Fence {
    number: u64,
    /// Waits that have not ended, and one for the thread that hands them over.
    left: AtomicUsize,
}

impl Fence {
    /// A fence that waits for [`Waits::pass`] only.
    pub fn new(number: u64) -> Fence {
        Fence { number, left: AtomicUsize::new(1) }
    }

    /// The fence for one more wait.
    pub fn hold(self: &Arc<Self>) -> Arc<Fence> {
        self.left.fetch_add(1, Ordering::AcqRel);
        Arc::clone(self)
    }
}

/// A copy to the client's memory that is under way.
#[derive(Debug)]
pub struct Download {
    context: CUcontext,
    event: CUevent,
    reply: ReplyTo,
    length: usize,
    buffer: Mutex<Option<Buffer>>,
}

/// An event of the client's that waiters wait for.
#[derive(Debug, Default)]
struct Watched {
    count: u32,
    /// The client has destroyed it.
    is_doomed: bool,
}

#[derive(Debug)]
struct Wait {
    context: CUcontext,
    until: Until,
    then: Then,
}

impl Wait {
    fn is_for(&self, event: CUevent) -> bool {
        matches!(self.until, Until::Event(other) if other == event)
    }
}

#[derive(Debug, Default)]
struct Waiter {
    queue: Mutex<LaneQueue>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct LaneQueue {
    waits: VecDeque<Wait>,
    running: bool,
}

/// A wait that the issuing thread looks after.
#[derive(Debug)]
struct Fresh {
    since: Instant,
    key: WaiterKey,
    wait: Wait,
}

/// All waits of a worker.
#[derive(Debug)]
pub struct Waits {
    shared: Arc<Shared>,
    waiters: HashMap<WaiterKey, Arc<Waiter>>,
    fresh: Vec<Fresh>,
    /// Those that were looked after long enough, for events of the client's.
    expired: Vec<Fresh>,
}

#[derive(Debug)]
struct Shared {
    driver: Arc<Driver>,
    outbox: Arc<Outbox>,
    staging: Arc<Staging>,
    memory: Arc<Memory>,
    output: Arc<Output>,
    wake: Arc<Wake>,
    progress: Arc<Progress>,
    /// Waits that were handed over and have not ended, by the address of their context.
    open: Mutex<HashMap<usize, usize>>,
    /// Frees among them.
    frees: Frees,
    /// Frees of pools' memory among them, by device.
    settling: Mutex<HashMap<usize, usize>>,
    /// Events of the client's that waiters wait for.
    watched: Mutex<HashMap<usize, Watched>>,
    /// Held by whoever tells the client what is finished.
    telling: Mutex<()>,
    downloads: Mutex<Vec<Arc<Download>>>,
    /// Events to be used again, by the address of their context.
    events: Mutex<HashMap<usize, Vec<CUevent>>>,
    /// Streams on which nothing but events is put, by the address of their context.
    helpers: Mutex<HashMap<usize, Vec<CUstream>>>,
}

/// The addresses of the contexts that must live until a wait is over.
fn contexts_of(context: CUcontext, until: &Until) -> Vec<usize> {
    let mut all = vec![context.0];
    if let Until::All(events) = until {
        all.extend(events.iter().map(|(context, _)| context.0));
    }
    all
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waits {
    /// No waits yet.
    pub fn new(
        driver: Arc<Driver>,
        outbox: Arc<Outbox>,
        staging: Arc<Staging>,
        memory: Arc<Memory>,
        output: Arc<Output>,
        wake: Arc<Wake>,
        progress: Arc<Progress>,
    ) -> Waits {
        let shared = Shared {
            driver,
            outbox,
            staging,
            memory,
            output,
            wake,
            progress,
            open: Mutex::default(),
            frees: Frees::default(),
            settling: Mutex::default(),
            watched: Mutex::default(),
            telling: Mutex::default(),
            downloads: Mutex::default(),
            events: Mutex::default(),
            helpers: Mutex::default(),
        };
        Waits { shared: Arc::new(shared), waiters: HashMap::new(), fresh: Vec::new(), expired: Vec::new() }
    }

    /// Puts an event behind what `stream` of the current context `context` has so far.
    pub fn mark(&self, context: CUcontext, stream: CUstream) -> Result<CUevent, CUresult> {
        let known = lock(&self.shared.events).get_mut(&context.0).and_then(Vec::pop);
        let event = match known {
            Some(event) => event,
            None => {
                let mut event = CUevent::NULL;
                // SAFETY: `event` is a valid place.
                unsafe { self.shared.driver.cuEventCreate(&raw mut event, EVENT_FLAGS) }.into_result()?;
                event
            }
        };
        // SAFETY: the event was made in this context; the stream is alive.
        let code = unsafe { self.shared.driver.cuEventRecord(event, stream) };
        if !code.is_success() {
            self.shared.give_event(context, event);
            return Err(code);
        }
        Ok(event)
    }

    /// Takes something to wait for that may be over soon: the issuing thread looks after it for a while.
    pub fn push_soon(&mut self, key: WaiterKey, context: CUcontext, until: Until, then: Then) {
        self.fresh.push(Fresh { since: Instant::now(), key, wait: Wait { context, until, then } });
    }

    /// Whether there are waits that [`Waits::look_after`] looks after.
    pub fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Ends the waits that are over; `context` answers for a whole context, by its index. What is older than
    /// `patience` goes to its waiter. Answers whether any was over.
    pub fn look_after(&mut self, patience: Duration, context: impl Fn(u32) -> CUresult) -> bool {
        let (mut index, mut any) = (0, false);
        while index < self.fresh.len() {
            let code = match (&self.fresh[index].wait.until, self.fresh[index].key) {
                (
                    Until::Own(event)
                    | Until::Event(event)
                    | Until::Watched(event)
                    | Until::Captured(event, _),
                    _,
                ) => {
                    // SAFETY: an event is alive while it is waited for. What is reached is synchronised with, which
                    // takes no time then: what kernels print comes out at synchronisations.
                    unsafe {
                        match self.shared.driver.cuEventQuery(*event) {
                            CUresult::SUCCESS => self.shared.driver.cuEventSynchronize(*event),
                            code => code,
                        }
                    }
                }
                (Until::Context, WaiterKey::Context(index)) if !self.frees().any_in(index) => context(index),
                (Until::Context | Until::All(_), _) => CUresult::NOT_READY,
                (Until::Now, _) => CUresult::SUCCESS,
            };
            if code != CUresult::NOT_READY {
                let fresh = self.fresh.remove(index);
                self.shared.end(fresh.wait, code);
                any = true;
            } else if self.fresh[index].since.elapsed() >= patience {
                let fresh = self.fresh.remove(index);
                if matches!(fresh.wait.until, Until::Event(_)) {
                    self.expired.push(fresh);
                } else {
                    self.push(fresh.key, fresh.wait.context, fresh.wait.until, fresh.wait.then);
                }
            } else {
                index += 1;
            }
        }
        any
    }

    /// The contexts of waits that [`Waits::capture_expired`] must see to.
    pub fn expired_in(&self) -> Vec<CUcontext> {
        self.expired.iter().map(|fresh| fresh.wait.context).collect()
    }

    /// Hands waits for events of the client's to their waiters that were looked after long enough, in the current context
    /// `context`. There they would see what the client records meanwhile: CUDA waits for what an event stands for when it is
    /// asked to.
    pub fn capture_expired(&mut self, context: CUcontext) {
        let (here, elsewhere) = std::mem::take(&mut self.expired)
            .into_iter()
            .partition(|fresh: &Fresh| fresh.wait.context == context);
        self.expired = elsewhere;
        let here: Vec<Fresh> = here;
        for Fresh { key, mut wait, .. } in here {
            self.capture(&mut wait);
            self.push(key, wait.context, wait.until, wait.then);
        }
    }

    /// The contexts of waits for `event` that [`Waits::capture_event`] must see to, before it is recorded anew.
    pub fn waiting_for(&self, event: CUevent) -> Vec<CUcontext> {
        let waits = self.fresh.iter().map(|fresh| &fresh.wait);
        waits.filter(|wait| wait.is_for(event)).map(|wait| wait.context).collect()
    }

    /// Lets the waits for `event` in the current context `context` wait for what it stands for now.
    pub fn capture_event(&mut self, context: CUcontext, event: CUevent) {
        let mut fresh = std::mem::take(&mut self.fresh);
        for Fresh { wait, .. } in &mut fresh {
            if wait.context == context && wait.is_for(event) {
                self.capture(wait);
            }
        }
        self.fresh = fresh;
    }

    /// Puts an event of this module's behind what a wait's event stands for. Where the driver does not let it, the wait stays
    /// as it is.
    fn capture(&self, wait: &mut Wait) {
        /// `CU_STREAM_NON_BLOCKING`
        const NON_BLOCKING: u32 = 1;
        let Until::Event(event) = wait.until else { return };
        let known = lock(&self.shared.helpers).get_mut(&wait.context.0).and_then(Vec::pop);
        let mut helper = known.unwrap_or(CUstream::NULL);
        // SAFETY: the place is valid; the event is the client's, which it must not destroy while it waits for it, and the
        // stream was made in this context, which is current.
        let code = unsafe {
            let made = if helper.is_null() {
                self.shared.driver.cuStreamCreate(&raw mut helper, NON_BLOCKING)
            } else {
                CUresult::SUCCESS
            };
            if made.is_success() { self.shared.driver.cuStreamWaitEvent(helper, event, 0) } else { made }
        };
        let marked = code.into_result().and_then(|()| self.mark(wait.context, helper));
        match marked {
            Ok(own) => wait.until = Until::Captured(own, helper),
            Err(code) if helper.is_null() => {
                tracing::warn!("a wait for an event could not be captured: {code}")
            }
            Err(_) => lock(&self.shared.helpers).entry(wait.context.0).or_default().push(helper),
        }
    }

    /// Before an event is destroyed: whether a waiter waits for it, and destroys it afterwards.
    pub fn destroys_later(&mut self, event: CUevent) -> bool {
        self.fresh.retain(|fresh| !matches!(fresh.wait.until, Until::Watched(other) if other == event));
        match lock(&self.shared.watched).get_mut(&event.0) {
            Some(watched) => {
                watched.is_doomed = true;
                true
            }
            None => false,
        }
    }

    /// Hands something to wait for to its waiter.
    pub fn push(&mut self, key: WaiterKey, context: CUcontext, until: Until, then: Then) {
        // Lanes whose thread has ended are forgotten, now and then.
        if self.waiters.len() > MANY_WAITERS {
            self.waiters.retain(|_, waiter| lock(&waiter.queue).running);
        }
        {
            let mut open = lock(&self.shared.open);
            for context in contexts_of(context, &until) {
                *open.entry(context).or_default() += 1;
            }
        }
        if let Until::Watched(event) = until {
            lock(&self.shared.watched).entry(event.0).or_default().count += 1;
        }
        match &then {
            Then::Free { freed, .. } | Then::Unload { freed, .. } | Then::GiveBack { freed, .. } => {
                self.shared.frees.begin(freed);
            }
            Then::Settle(allocation) => {
                *lock(&self.shared.settling).entry(allocation.device()).or_default() += 1;
            }
            _ => {}
        }
        let waiter = Arc::clone(self.waiters.entry(key).or_default());
        let mut queue = lock(&waiter.queue);
        queue.waits.push_back(Wait { context, until, then });
        if queue.running {
            waiter.arrived.notify_one();
            return;
        }
        queue.running = true;
        drop(queue);
        let shared = Arc::clone(&self.shared);
        let spawned = std::thread::Builder::new().name("wait".into()).spawn({
            let waiter = Arc::clone(&waiter);
            move || shared.run(&waiter)
        });
        if let Err(error) = spawned {
            // Without a thread the wait happens here: slower for the others, but nothing is lost.
            tracing::warn!("no thread for waiting could be started: {error}");
            self.shared.run(&waiter);
        }
    }

    /// Notes a copy to the client's memory, whose end `event` marks.
    pub fn download(
        &self,
        context: CUcontext,
        event: CUevent,
        reply: ReplyTo,
        length: usize,
        buffer: Buffer,
    ) -> Arc<Download> {
        let download = Arc::new(Download { context, event, reply, length, buffer: Mutex::new(Some(buffer)) });
        lock(&self.shared.downloads).push(Arc::clone(&download));
        download
    }

    /// A view of the downloads for another thread.
    pub fn downloads(&self) -> Downloads {
        Downloads { shared: Arc::clone(&self.shared) }
    }

    /// Sends what kernels printed, the bytes of all finished downloads that nobody waits for, and which work is
    /// finished.
    pub fn send_finished_downloads(&self) {
        self.shared.send_finished();
    }

    /// What is still to be freed.
    pub fn frees(&self) -> &Frees {
        &self.shared.frees
    }

    /// Whether memory of pools on `device` is still to be freed.
    pub fn has_settling(&self, device: usize) -> bool {
        lock(&self.shared.settling).get(&device).is_some_and(|count| *count > 0)
    }

    /// Gives memory of the window back that belonged to the context with index `context`, when `until` is over; the current
    /// one is `current`. A waiter does it: a driver that unmaps may wait for the GPU.
    pub fn give_back(
        &mut self,
        mapped: &Arc<Mapped>,
        chunks: Vec<Chunk>,
        (context, current): (u32, CUcontext),
        until: Until,
    ) {
        let Some(device) = chunks.first().map(|chunk| chunk.device) else { return };
        let bytes = chunks.iter().map(|chunk| chunk.size).sum();
        let freed = Freed { context, device, bytes: Some(bytes) };
        let mapped = Arc::clone(mapped);
        self.push(WaiterKey::Window(context), current, until, Then::GiveBack { mapped, chunks, freed });
    }

    /// Everything that `fence` waits for has been handed over.
    pub fn pass(&self, fence: &Fence) {
        self.shared.pass(fence);
    }

    /// An event that is not needed any more.
    pub fn give_event(&self, context: CUcontext, event: CUevent) {
        self.shared.give_event(context, event);
    }

    /// Whether anything is waited for in `context`.
    pub fn is_waiting_in(&self, context: CUcontext) -> bool {
        lock(&self.shared.open).contains_key(&context.0)
            || self.fresh.iter().any(|fresh| fresh.wait.context == context)
    }

    /// Forgets the events of a context that is being destroyed.
    pub fn context_gone(&self, context: CUcontext) {
        lock(&self.shared.events).remove(&context.0);
        lock(&self.shared.helpers).remove(&context.0);
    }
}

/// The downloads, for a thread that uses no other CUDA call.
#[derive(Debug)]
pub struct Downloads {
    shared: Arc<Shared>,
}

impl Downloads {
    /// As [`Waits::send_finished_downloads`].
    pub fn send_finished(&self) {
        let context = lock(&self.shared.downloads).first().map(|download| download.context);
        if let Some(context) = context {
            // SAFETY: a context outlives its downloads; this thread has no use for another current one.
            let _ = unsafe { self.shared.driver.cuCtxSetCurrent(context) };
        }
        self.shared.send_finished();
    }
}

impl Shared {
    fn run(&self, waiter: &Waiter) {
        let mut queue = lock(&waiter.queue);
        loop {
            if let Some(wait) = queue.waits.pop_front() {
                drop(queue);
                let waits = &self.memory.counters().waits;
                waits.fetch_add(1, Ordering::Relaxed);
                self.finish(wait);
                waits.fetch_sub(1, Ordering::Relaxed);
                queue = lock(&waiter.queue);
                continue;
            }
            let (guard, timeout) =
                waiter.arrived.wait_timeout(queue, IDLE).unwrap_or_else(PoisonError::into_inner);
            queue = guard;
            if timeout.timed_out() && queue.waits.is_empty() {
                queue.running = false;
                return;
            }
        }
    }

    fn finish(&self, wait: Wait) {
        // SAFETY: contexts are destroyed only after their waits have ended; an event is alive until it is given
        // back below, or the client's own, which it must not destroy while it waits for it.
        let code = unsafe {
            match self.driver.cuCtxSetCurrent(wait.context) {
                CUresult::SUCCESS => match &wait.until {
                    Until::Own(event)
                    | Until::Event(event)
                    | Until::Watched(event)
                    | Until::Captured(event, _) => self.driver.cuEventSynchronize(*event),
                    Until::All(events) => {
                        for (_, event) in events {
                            // The error of a context that has ended concerns nobody here.
                            let _ = self.driver.cuEventSynchronize(*event);
                        }
                        CUresult::SUCCESS
                    }
                    Until::Context => self.driver.cuCtxSynchronize(),
                    Until::Now => CUresult::SUCCESS,
                },
                code => code,
            }
        };
        if let Until::Watched(event) = wait.until {
            self.watch_ends(event);
        }
        let contexts = contexts_of(wait.context, &wait.until);
        self.end(wait, code);
        self.ended(&contexts);
        self.wake.wake();
    }

    fn watch_ends(&self, event: CUevent) {
        let mut watched = lock(&self.watched);
        let Some(entry) = watched.get_mut(&event.0) else { return };
        entry.count -= 1;
        if entry.count > 0 {
            return;
        }
        let is_doomed = entry.is_doomed;
        watched.remove(&event.0);
        if is_doomed {
            // SAFETY: the client has destroyed it, and this was the last thread that waited for it.
            let _ = unsafe { self.driver.cuEventDestroy_v2(event) };
        }
    }

    /// What happens when a wait is over. The caller's current context is that of the wait, or another: nothing here
    /// depends on it.
    fn end(&self, wait: Wait, code: CUresult) {
        match wait.then {
            Then::Reply(to) => {
                self.send_finished();
                self.outbox.reply(to, code.0, &[]);
                self.outbox.flush();
            }
            Then::Download(download) => {
                self.send_finished();
                self.deliver(&download, code);
                lock(&self.downloads).retain(|other| !Arc::ptr_eq(other, &download));
                self.outbox.flush();
            }
            Then::Recycle(buffer) => self.staging.give(buffer),
            Then::Marker(state, number) => {
                state.finished_up_to(number);
                state.gauge.reached();
                self.send_finished();
                self.outbox.flush();
            }
            Then::Orphan(count) => {
                count.fetch_sub(1, Ordering::AcqRel);
            }
            Then::Tell(state, number) => {
                state.finished_up_to(number);
                self.send_finished();
                self.outbox.flush();
            }
            Then::Answer(owed) => {
                let code = if code.is_success() { CUresult::UNKNOWN } else { code };
                owed.iter().for_each(|owed| owed.answer(&self.outbox, code, &[]));
                self.outbox.flush();
            }
            Then::Drop(slots) => drop(slots),
            Then::Settle(allocation) => {
                let device = allocation.device();
                self.memory.settle(allocation);
                if let Some(count) = lock(&self.settling).get_mut(&device) {
                    *count -= 1;
                }
            }
            Then::Fence(fence) => {
                self.pass(&fence);
                self.outbox.flush();
            }
            Then::Free { address, call, mut freed } => {
                let bytes = freed.bytes.unwrap_or(0);
                let code = self.frees.happens(&mut freed, bytes, || {
                    // SAFETY: the address was allocated by this worker and is freed once: the request was checked.
                    let code = unsafe { self.driver.cuMemFree_v2(address) };
                    if code.is_success() {
                        self.memory.freed(address);
                    }
                    code
                });
                if !code.is_success() {
                    self.outbox.failed(call, freed.context, code.0);
                }
                self.frees.end(&freed);
            }
            Then::GiveBack { mapped, chunks, mut freed } => {
                for chunk in &chunks {
                    let give_back = || mapped.give_back(std::slice::from_ref(chunk));
                    let given = self.frees.happens(&mut freed, chunk.size, give_back);
                    if !given.is_success() {
                        self.outbox.failed(wire::cuda::FarpoolGiveBack::CALL, 0, given.0);
                    }
                }
                self.frees.end(&freed);
            }
            Then::Unload { unit, call, freed } => {
                // SAFETY: the unit is alive, and its handle was taken from the client when this was asked for.
                let unloaded = unsafe {
                    match unit {
                        Unit::Module(module) => self.driver.cuModuleUnload(module),
                        Unit::Library(library) => self.driver.cuLibraryUnload(library),
                    }
                };
                if !unloaded.is_success() {
                    self.outbox.failed(call, freed.context, unloaded.0);
                }
                self.frees.end(&freed);
            }
        }
        match wait.until {
            Until::Own(event) => self.give_event(wait.context, event),
            Until::All(events) => {
                events.into_iter().for_each(|(context, event)| self.give_event(context, event));
            }
            Until::Captured(event, helper) => {
                self.give_event(wait.context, event);
                lock(&self.helpers).entry(wait.context.0).or_default().push(helper);
            }
            Until::Event(_) | Until::Watched(_) | Until::Context | Until::Now => {}
        }
    }

    /// One thing less for `fence` to wait for. The client takes what it says for the end of copies, too.
    fn pass(&self, fence: &Fence) {
        if fence.left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        self.send_finished();
        let notice = wire::notice::Fence { number: fence.number };
        self.outbox.notice(CallId::FENCE, |writer| notice.encode(writer));
    }

    fn ended(&self, contexts: &[usize]) {
        let mut open = lock(&self.open);
        for context in contexts {
            if let Some(count) = open.get_mut(context) {
                *count -= 1;
                if *count == 0 {
                    open.remove(context);
                }
            }
        }
    }

    /// Adds the bytes of a download to the outbox, once.
    fn deliver(&self, download: &Download, code: CUresult) {
        // Held over the adding: whoever finds the buffer taken may rely on the bytes being in the outbox.
        let mut buffer = lock(&download.buffer);
        if let Some(buffer) = buffer.take() {
            if code.is_success() {
                self.outbox.reply_lent(download.reply, self.staging.lend(buffer, download.length));
            } else {
                self.outbox.reply(download.reply, code.0, &[]);
                self.staging.give(buffer);
            }
        }
    }

    fn send_finished(&self) {
        // Held until everything is in the outbox: nobody's answer may overtake what another thread is about to tell.
        let _one_at_a_time = lock(&self.telling);
        self.output.send(&self.outbox);
        // Asked before the downloads: work that is told to be finished has its bytes sent before.
        let news = self.progress.news(&self.driver);
        // Copies that somebody waits for come behind the news: their reply is what tells a program of their end.
        let mut detached: Vec<Arc<Download>> = lock(&self.downloads).clone();
        detached.retain(|download| download.reply.is_detached);
        for download in detached {
            // SAFETY: an event is given back only after its download left the list under its lock, or its buffer
            // was taken; asking about it meanwhile is harmless.
            let code = unsafe { self.driver.cuEventQuery(download.event) };
            if code != CUresult::NOT_READY {
                self.deliver(&download, code);
            }
        }
        for finished in news {
            self.outbox.finished(finished);
        }
    }

    fn give_event(&self, context: CUcontext, event: CUevent) {
        lock(&self.events).entry(context.0).or_default().push(event);
    }
}
