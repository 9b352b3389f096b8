//! What a worker holds while it serves its client: the driver, the client's objects, its memory.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use cuda_abi::{CUcontext, CUevent, CUresult, CUstream};
use driver::Driver;
use rustc_hash::{FxHashMap, FxHashSet};
use wire::handle::{self, Handle as _, Stream};
use wire::{CallId, WireError};

use crate::callbacks::Callbacks;
use crate::counters::Counters;
use crate::footprint::Footprint;
use crate::graphs::Graphs;
use crate::handles::{HandleError, Handles};
use crate::launches::PreparedLaunches;
use crate::manual::modules::Modules;
use crate::manual::stream_of;
use crate::memory::Memory;
use crate::outbox::{Outbox, ReplyTo};
use crate::output::Output;
use crate::pools::Pools;
use crate::progress::Progress;
use crate::staging::{Buffer, Owner, Staging};
use crate::streams::{StreamState, Streams};
use crate::waits::{Then, Until, WaiterKey, Waits};
use crate::wake::Wake;
use crate::window::Mapped;

/// Stands for a current context that must be set anew.
const UNKNOWN_CONTEXT: CUcontext = CUcontext(usize::MAX);

/// What becomes of the answer to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Later {
    /// The result of the call is the answer.
    #[default]
    No,
    /// The answer comes when the GPU is ready.
    Answered,
    /// The call could not be made yet; nothing happened. It is tried again when the GPU has gone on.
    TryAgain,
}

/// The state behind every call.
pub struct Worker {
    /// The real driver, or the simulated one.
    pub driver: Arc<Driver>,
    /// What goes to the client.
    pub outbox: Arc<Outbox>,
    /// Buffers that the GPU copies from and to.
    pub staging: Arc<Staging>,
    /// What the GPU is waited for.
    pub waits: Waits,
    /// What the client does while streams wait.
    pub callbacks: Arc<Callbacks>,
    /// Which streams have work that nobody knows to be finished.
    pub streams: Streams,
    /// Launches that were resolved before.
    pub prepared: PreparedLaunches,
    /// Room for small copies to the client, used again and again.
    pub small: Vec<u8>,
    /// Set by a call whose result is not its answer.
    pub later: Later,
    /// Streams that the client has let go on, by the tokens that they were held with; none is held by them any more.
    pub released: FxHashSet<u64>,
    /// Whom the call under way answers, if anybody waits.
    pub reply_to: Option<ReplyTo>,
    /// Pinned memory in which the data of the record under way lie, if they do.
    pub pinned: Option<std::ops::Range<usize>>,
    /// The stream that is copying from there.
    pub pinned_reader: Option<CUstream>,
    /// By stream, oldest first.
    uploads: FxHashMap<Owner, VecDeque<Upload>>,
    /// The client's objects.
    pub handles: Handles,
    /// What this process takes of the GPUs.
    pub footprint: Footprint,
    /// Memory accounting.
    pub memory: Arc<Memory>,
    /// Memory at addresses that the client chose.
    pub mapped: Arc<Mapped>,
    /// Executable graphs.
    pub graphs: Graphs,
    /// Memory pools.
    pub pools: Pools,
    /// Counts.
    pub counters: Arc<Counters>,
    /// Images in upload and the functions of loaded ones.
    pub modules: Modules,
    /// Index of the client's context that the call under way belongs to; 0 for none.
    pub context: u32,
    /// Number of the record under way.
    pub number: u64,
    /// The context that the driver has current on this thread.
    current: CUcontext,
    contexts: HashMap<u32, MadeContext>,
    /// Contexts that are to be destroyed when their last work is done: 0 says that it is.
    ending: HashMap<u32, Arc<AtomicU32>>,
    /// Contexts that the driver is destroying, and what became of it.
    destroyed: HashMap<u32, Arc<OnceLock<CUresult>>>,
    wake: Arc<Wake>,
}

/// A buffer that a copy under way reads.
#[derive(Debug)]
struct Upload {
    driver_context: CUcontext,
    event: CUevent,
    buffer: Buffer,
}

/// A context of the client, by the index that records name it with.
#[derive(Debug, Clone, Copy)]
struct MadeContext {
    device: usize,
    primary: bool,
}

impl Worker {
    /// Initialises the driver.
    pub fn open(
        driver: Driver,
        memory: Arc<Memory>,
        counters: Arc<Counters>,
        outbox: Arc<Outbox>,
        output: Arc<Output>,
        wake: Arc<Wake>,
    ) -> anyhow::Result<Worker> {
        initialise(&driver)?;
        let driver = Arc::new(driver);
        let staging = Arc::new(Staging::new(Arc::clone(&driver)));
        let progress = Arc::new(Progress::default());
        let waits = Waits::new(
            Arc::clone(&driver),
            Arc::clone(&outbox),
            Arc::clone(&staging),
            Arc::clone(&memory),
            output,
            Arc::clone(&wake),
            Arc::clone(&progress),
        );
        let callbacks = Callbacks::start(Arc::clone(&outbox), waits.downloads())
            .context("start the thread for callbacks")?;
        let callbacks = Arc::new(callbacks);
        Ok(Worker {
            footprint: Footprint::new(&driver),
            mapped: Arc::new(Mapped::new(Arc::clone(&driver), Arc::clone(&memory))),
            driver,
            outbox,
            staging,
            waits,
            callbacks,
            streams: Streams::new(progress),
            prepared: PreparedLaunches::default(),
            small: Vec::new(),
            later: Later::No,
            released: FxHashSet::default(),
            reply_to: None,
            pinned: None,
            pinned_reader: None,
            uploads: FxHashMap::default(),
            handles: Handles::default(),
            memory,
            graphs: Graphs::default(),
            pools: Pools::default(),
            counters,
            modules: Modules::default(),
            context: 0,
            number: 0,
            current: CUcontext::NULL,
            contexts: HashMap::new(),
            ending: HashMap::new(),
            destroyed: HashMap::new(),
            wake,
        })
    }

    /// Executes `body` with the client's context `index` current. A context that could not be made answers the
    /// error of its creation.
    pub fn in_context(
        &mut self,
        call: CallId,
        index: u32,
        body: impl FnOnce(&mut Worker) -> Result<CUresult, WireError>,
    ) -> Result<CUresult, WireError> {
        let wanted = if index == 0 {
            CUcontext::NULL
        } else {
            match self.handles.get(call, handle::Context::from_index(u64::from(index))) {
                Ok(raw) => CUcontext(address(raw)),
                // The client's thread kept a context that another thread destroyed.
                Err(HandleError::Poisoned(CUresult::INVALID_HANDLE)) => {
                    return Ok(CUresult::CONTEXT_IS_DESTROYED);
                }
                Err(HandleError::Poisoned(code)) => return Ok(code),
                Err(HandleError::Wire(error)) => return Err(error),
            }
        };
        if wanted != self.current {
            // SAFETY: `wanted` is null or a context that this driver made and that was not destroyed since.
            let result = unsafe { self.driver.cuCtxSetCurrent(wanted) };
            if result != CUresult::SUCCESS {
                return Ok(result);
            }
            self.current = wanted;
        }
        self.context = index;
        self.handles.enter_context(index);
        body(self)
    }

    /// Whether the client's context `index` is the one that is current already.
    pub fn is_in_context(&self, index: u32) -> bool {
        index != 0 && index == self.context && self.current != UNKNOWN_CONTEXT
    }

    /// Notes that the record under way has put work on `stream`.
    pub fn note_work(&mut self, call: CallId, stream: Option<Stream>) {
        let Some(handle) = stream.filter(|_| self.later != Later::TryAgain) else { return };
        let Ok(stream) = stream_of(self, call, handle) else { return };
        let state = Arc::clone(self.stream_state(handle, stream));
        self.streams.used(&state, self.number);
        self.count_work(&state);
    }

    /// Whether `stream`, on which the record under way puts work, takes it now. If not, the record must be tried again.
    pub fn has_room(&mut self, call: CallId, stream: Option<Stream>) -> bool {
        let Some(handle) = stream else { return true };
        let Ok(stream) = stream_of(self, call, handle) else { return true };
        let is_open = self.stream_state(handle, stream).gauge.is_open();
        if !is_open {
            self.later = Later::TryAgain;
        }
        is_open
    }

    /// Counts a piece of a stream's work, and puts a marker behind it when it is time for one.
    pub fn count_work(&mut self, state: &Arc<StreamState>) {
        if !state.gauge.takes() {
            return;
        }
        match self.waits.mark(self.current, state.stream) {
            Ok(event) => self.waits.push(
                WaiterKey::Stream(state.context, state.stream.0),
                self.current,
                Until::Own(event),
                Then::Marker(Arc::clone(state), state.issued()),
            ),
            Err(_) => {
                // The context has failed: the client must hear of it, and that nothing is before it any more.
                state.finished_up_to(state.issued());
                state.gauge.reached();
                self.waits.send_finished_downloads();
            }
        }
    }

    /// The state of a stream in the current context.
    pub fn stream_state(&mut self, handle: Stream, stream: CUstream) -> &Arc<StreamState> {
        self.streams.state((self.context, self.current), handle.raw(), stream)
    }

    /// The driver's current context.
    pub fn current(&self) -> CUcontext {
        self.current
    }

    /// Whether everything on `stream` (null: the legacy stream) of the current context is finished, so that a
    /// blocking call on it takes no longer than itself. Errors of the GPU count as finished: the call reports them.
    pub fn is_idle(&mut self, stream: CUstream) -> bool {
        let driver = &self.driver;
        self.streams.is_idle(self.context, stream, |stream| {
            // SAFETY: streams are forgotten when they are destroyed, so this one is alive.
            unsafe { driver.cuStreamQuery(stream) }
        })
    }

    /// Whether everything in the current context is finished.
    pub fn is_all_idle(&mut self) -> bool {
        let driver = &self.driver;
        self.streams.is_all_idle(self.context, |stream| {
            // SAFETY: as above.
            unsafe { driver.cuStreamQuery(stream) }
        })
    }

    /// Ends the waits that are over; what is older than `patience` is left to another thread.
    /// Answers whether any was.
    pub fn look_after_waits(&mut self, patience: Duration) -> bool {
        let (driver, streams) = (&self.driver, &self.streams);
        let current = if self.current == UNKNOWN_CONTEXT { 0 } else { self.context };
        let any = self.waits.look_after(patience, |context| {
            // SAFETY: streams are forgotten when they are destroyed; the context is current.
            let is_idle = context == current
                && streams.is_all_idle(context, |stream| unsafe { driver.cuStreamQuery(stream) });
            // SAFETY: nothing is under way in the current context, so this only reports errors.
            if is_idle { unsafe { driver.cuCtxSynchronize() } } else { CUresult::NOT_READY }
        });
        for context in self.waits.expired_in() {
            // SAFETY: a context outlives its waits.
            let _ = unsafe { self.driver.cuCtxSetCurrent(context) };
            self.forget_current();
            self.waits.capture_expired(context);
        }
        any
    }

    /// Before `event` is recorded anew: whoever waits for it waits for what it stands for now.
    pub fn capture_waits(&mut self, event: CUevent) {
        let contexts = self.waits.waiting_for(event);
        for context in &contexts {
            // SAFETY: a context outlives its waits.
            let _ = unsafe { self.driver.cuCtxSetCurrent(*context) };
            self.waits.capture_event(*context, event);
        }
        if !contexts.is_empty() {
            // SAFETY: it was current before.
            let _ = unsafe { self.driver.cuCtxSetCurrent(self.current) };
        }
    }

    /// A buffer for `size` bytes of a copy on `stream` of the current context; `None` when the call must be tried again
    /// later.
    pub fn buffer(&mut self, size: usize, stream: CUstream) -> Result<Option<Buffer>, CUresult> {
        let owner = (self.context, stream.0);
        self.reclaim(owner);
        let mut buffer = self.staging.take(size, self.context, owner)?;
        if buffer.is_none() {
            let owners: Vec<Owner> = self.uploads.keys().copied().collect();
            owners.into_iter().for_each(|owner| self.reclaim(owner));
            buffer = self.staging.take(size, self.context, owner)?;
        }
        if buffer.is_none()
            && let Some(upload) = self.uploads.get_mut(&owner).and_then(VecDeque::pop_front)
        {
            // Somebody must wake the issuing thread when the stream's oldest upload is done.
            self.waits.push(
                WaiterKey::Stream(self.context, stream.0),
                upload.driver_context,
                Until::Own(upload.event),
                Then::Recycle(upload.buffer),
            );
        }
        Ok(buffer)
    }

    /// Keeps `buffer`, which a copy on `stream` reads, until the copy has read it.
    pub fn keep_until_read(&mut self, buffer: Buffer, stream: CUstream) -> CUresult {
        match self.waits.mark(self.current, stream) {
            Ok(event) => {
                let upload = Upload { driver_context: self.current, event, buffer };
                self.uploads.entry((self.context, stream.0)).or_default().push_back(upload);
                CUresult::SUCCESS
            }
            Err(code) => {
                self.staging.lose(buffer);
                code
            }
        }
    }

    /// Gives a stream's buffers back that were read.
    fn reclaim(&mut self, owner: Owner) {
        let Some(uploads) = self.uploads.get_mut(&owner) else { return };
        while let Some(upload) = uploads.front() {
            // SAFETY: the event is alive: it is given back below.
            if unsafe { self.driver.cuEventQuery(upload.event) } == CUresult::NOT_READY {
                return;
            }
            if let Some(upload) = uploads.pop_front() {
                self.waits.give_event(upload.driver_context, upload.event);
                self.staging.give(upload.buffer);
            }
        }
        self.uploads.remove(&owner);
    }

    /// Notes that the client's context `index` belongs to `device`.
    pub fn context_made(&mut self, index: u32, device: usize, primary: bool) {
        self.contexts.insert(index, MadeContext { device, primary });
        self.staging.context_made(index);
        self.forget_current();
    }

    /// Whether the client's context `index` can be destroyed without a wait. If not, a waiter waits for its work: the
    /// work may need the client (host functions, bytes that it still has to send), so this thread must go on.
    fn context_is_quiet(&mut self, index: u32, context: CUcontext) -> bool {
        let is_quiet = match self.ending.get(&index) {
            Some(unfinished) => unfinished.load(Ordering::Acquire) == 0,
            None if self.streams.has_work(index) => {
                let unfinished = Arc::new(AtomicU32::new(1));
                self.ending.insert(index, Arc::clone(&unfinished));
                self.waits.push(WaiterKey::Context(index), context, Until::Context, Then::Orphan(unfinished));
                false
            }
            None => true,
        };
        if is_quiet && !self.waits.is_waiting_in(context) && !self.staging.has_lent(index) {
            self.ending.remove(&index);
            return true;
        }
        self.ending.entry(index).or_default();
        self.later = Later::TryAgain;
        false
    }

    /// Whether the client's context `index` is to be destroyed, and is not yet.
    pub fn is_ending(&self, index: u32) -> bool {
        self.ending.contains_key(&index) || self.destroyed.contains_key(&index)
    }

    /// Has `destroy` destroy the client's context `index` when its work is done. `None` when the call must be tried again
    /// later. The driver is asked on another thread: where an error has ended the context, streams count as finished while
    /// one of them still waits for the client, and so may the driver.
    pub fn destroy_context(
        &mut self,
        index: u32,
        context: CUcontext,
        destroy: impl Fn(&Driver) -> CUresult + Clone + Send + 'static,
    ) -> Option<CUresult> {
        if let Some(destroyed) = self.destroyed.get(&index) {
            let code = destroyed.get().copied();
            if code.is_some() {
                self.destroyed.remove(&index);
            } else {
                self.later = Later::TryAgain;
            }
            return code;
        }
        if !self.context_is_quiet(index, context) {
            return None;
        }
        self.context_ends(index, context);
        self.forget_current();
        let destroyed = Arc::new(OnceLock::new());
        let spawned = std::thread::Builder::new().name("destroy".into()).spawn({
            let (destroyed, driver, wake) =
                (Arc::clone(&destroyed), Arc::clone(&self.driver), Arc::clone(&self.wake));
            let destroy = destroy.clone();
            move || {
                let _ = destroyed.set(destroy(&driver));
                wake.wake();
            }
        });
        if let Err(error) = spawned {
            tracing::warn!("no thread for destroying a context could be started: {error}");
            return Some(destroy(&self.driver));
        }
        self.destroyed.insert(index, destroyed);
        self.later = Later::TryAgain;
        None
    }

    /// Before the client's context `index`, which is quiet, is destroyed.
    fn context_ends(&mut self, index: u32, context: CUcontext) {
        for exec in self.graphs.of_context(index) {
            let _ = crate::manual::destroy(self, &exec);
        }
        self.staging.context_gone(index);
        let staging = &self.staging;
        self.uploads.retain(|(of, _), uploads| {
            if *of == index {
                uploads.drain(..).for_each(|upload| staging.give(upload.buffer));
            }
            *of != index
        });
        self.waits.context_gone(context);
        // Other contexts may have named them, too.
        for (_, raw) in self.handles.of_context::<handle::Event>(index) {
            self.streams.forget_event(CUevent(address(raw)));
        }
        for (stream, raw) in self.handles.of_context::<Stream>(index) {
            self.streams.forget(stream.raw(), CUstream(address(raw)));
        }
        self.streams.forget_context(index);
    }

    /// Gives back what the client's context `index` held; the driver has destroyed it.
    pub fn context_gone(&mut self, index: u32) {
        self.memory.freed_all(index);
        self.handles.forget_context(index);
        self.outbox.context_gone(index);
        self.contexts.remove(&index);
        self.mapped.disable_peers_of(index);
        let chunks = self.mapped.take_context(index);
        if self.contexts.is_empty() {
            let _ = self.mapped.give_back(&chunks);
        } else if !chunks.is_empty() {
            self.waits.give_back(&self.mapped, chunks, (index, CUcontext::NULL), Until::Now);
        }
        self.forget_current();
    }

    /// What the client's contexts with these indices do now: events behind the work of their streams, and one of the contexts.
    /// Where events cannot stand for all that a context does, it is that one, as a whole. Another one is current afterwards.
    pub fn work_of(&mut self, call: CallId, contexts: &[u32]) -> Result<(CUcontext, Until), WireError> {
        let (mut events, mut last, mut whole) = (Vec::new(), CUcontext::NULL, None);
        for context in contexts {
            self.in_context(call, *context, |worker| {
                last = worker.current;
                if worker.is_all_idle() {
                    return Ok(CUresult::SUCCESS);
                }
                let mut is_whole = worker.streams.has_orphans(*context);
                for stream in worker.streams.busy(*context) {
                    match worker.waits.mark(worker.current, stream) {
                        Ok(event) => events.push((worker.current, event)),
                        Err(_) => is_whole = true,
                    }
                }
                if is_whole {
                    whole = Some(worker.current);
                }
                Ok(CUresult::SUCCESS)
            })?;
        }
        let Some(whole) = whole else { return Ok((last, Until::All(events))) };
        events.into_iter().for_each(|(context, event)| self.waits.give_event(context, event));
        Ok((whole, Until::Context))
    }

    /// Whether memory of `device` that somebody asks for must be waited for, as `needed` bytes may be free when earlier frees
    /// have happened; the call must be tried again then. Nobody waits for what does not help, nor for memory that was freed
    /// in the order of a stream while a stream may wait for the very thread that asks.
    pub fn must_wait_for_memory(&mut self, device: usize, needed: u64, left: u64) -> bool {
        let pending = self.waits.frees().on(device);
        let helps = pending.has_code || (pending.bytes > 0 && needed <= left.saturating_add(pending.bytes));
        let settles = self.waits.has_settling(device) && !self.callbacks.holds_streams();
        if helps || settles {
            self.later = Later::TryAgain;
        }
        helps || settles
    }

    /// Indices of all contexts that are alive.
    pub fn context_indices(&self) -> Vec<u32> {
        self.contexts.keys().copied().collect()
    }

    /// Index of the primary context of `device`, if it is active.
    pub fn primary_context(&self, device: usize) -> Option<u32> {
        let made = self.contexts.iter().find(|(_, context)| context.primary && context.device == device);
        made.map(|(index, _)| *index)
    }

    /// Whether the client's context `index` is the primary one of its device.
    pub fn is_primary(&self, index: u32) -> bool {
        self.contexts.get(&index).is_some_and(|context| context.primary)
    }

    /// Device of the context that the call under way belongs to.
    pub fn current_device(&self) -> Result<usize, CUresult> {
        self.device_of(self.context)
    }

    /// Device of the client's context with this index.
    pub fn device_of(&self, context: u32) -> Result<usize, CUresult> {
        self.contexts.get(&context).map(|context| context.device).ok_or(CUresult::INVALID_CONTEXT)
    }

    /// The next call sets its context anew: the driver may give an old context's address to a new one.
    fn forget_current(&mut self) {
        self.current = UNKNOWN_CONTEXT;
    }
}

/// A driver object's number as the address it is.
pub fn address(raw: u64) -> usize {
    // The worker only runs on 64-bit servers.
    usize::try_from(raw).unwrap_or(usize::MAX)
}

/// The first CUDA version whose driver tells the sizes of kernel parameters, without which nothing can be launched.
const OLDEST_DRIVER: i32 = 12040;

/// Loads the library at `path`, and nothing more.
pub fn load(path: &Path) -> anyhow::Result<Driver> {
    Driver::load(path).with_context(|| format!("load the CUDA driver {}", path.display()))
}

/// Calls `cuInit`, and checks that the driver is new enough.
pub fn initialise(driver: &Driver) -> anyhow::Result<()> {
    let path = driver.path();
    // SAFETY: cuInit takes flags only, and 0 is the one legal value.
    let result = unsafe { driver.cuInit(0) };
    anyhow::ensure!(result == CUresult::SUCCESS, "cuInit of {} answered {result}", path.display());
    let mut version = 0;
    // SAFETY: `version` is a valid place.
    let result = unsafe { driver.cuDriverGetVersion(&raw mut version) };
    anyhow::ensure!(
        result == CUresult::SUCCESS && version >= OLDEST_DRIVER,
        "the driver {} is for CUDA {}.{}, expected 12.4 or newer; hint: install NVIDIA's driver 550 or newer",
        path.display(),
        version / 1000,
        version % 1000 / 10
    );
    Ok(())
}
