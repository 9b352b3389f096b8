//! Contexts and the calling thread's stack of them.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use cuda_abi::per_thread::PerThread;
use cuda_abi::{CUcontext, CUresult};

use crate::accounting;
use crate::config::config;
use crate::device::{Device, devices, lock};
use crate::event::EVENTS;
use crate::guard::Answer;
use crate::library;
use crate::memory;
use crate::module::{FUNCTIONS, MODULES};
use crate::output::Output;
use crate::stream::{STREAMS, Stream};
use graph::{Registry, handle};

/// A context: the owner of memory, modules, streams and of the error that ends it.
pub struct Context {
    pub id: u64,
    pub device: &'static Device,
    pub primary: bool,
    pub flags: AtomicU32,
    pub api_version: u32,
    sticky: AtomicI32,
    alive: AtomicBool,
    /// Contexts of other devices, by id, whose memory kernels of this context may use. A context that is made anew after a
    /// reset is another one.
    pub peers: RwLock<Vec<u64>>,
    pub limits: Mutex<BTreeMap<i32, usize>>,
    pub cache_config: AtomicI32,
    pub shared_config: AtomicI32,
    pub output: Output,
    /// Bytes given out by the device-side `malloc`.
    pub device_heap_used: AtomicU64,
    /// The legacy default stream, once it was used and until the context ends.
    legacy: RwLock<Option<Arc<Stream>>>,
    /// The threads' own default streams, by thread.
    per_thread: Mutex<HashMap<u64, Arc<Stream>>>,
    /// All streams but the legacy one.
    streams: Mutex<Vec<Arc<Stream>>>,
}

/// All live contexts.
pub static CONTEXTS: Registry<Context> = Registry::new();

/// What belongs to a thread: a program's handlers of `exit` still find it.
struct Thread {
    id: u64,
    stack: RefCell<Vec<Entry>>,
}

static THREAD: PerThread<Thread> = PerThread::new();

impl Default for Thread {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), stack: RefCell::default() }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        for context in CONTEXTS.all() {
            context.thread_ended(self.id);
        }
    }
}

impl Context {
    /// Makes a context; it costs memory, as real ones do.
    ///
    /// # Errors
    /// OUT_OF_MEMORY when the device has too little left.
    pub fn create(device: &'static Device, flags: u32, primary: bool, api_version: u32) -> Answer<Arc<Self>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        accounting::reserve(device.physical, config().context_bytes, device.total)?;
        std::thread::sleep(config().context_time);
        let context = Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            device,
            primary,
            flags: AtomicU32::new(flags),
            api_version,
            sticky: AtomicI32::new(0),
            alive: AtomicBool::new(true),
            peers: RwLock::default(),
            limits: Mutex::new(BTreeMap::from([
                (cuda_abi::CU_LIMIT_STACK_SIZE, 1024),
                (cuda_abi::CU_LIMIT_PRINTF_FIFO_SIZE, 1 << 20),
                (cuda_abi::CU_LIMIT_MALLOC_HEAP_SIZE, 8 << 20),
                (cuda_abi::CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH, 2),
                (cuda_abi::CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT, 2048),
                (cuda_abi::CU_LIMIT_MAX_L2_FETCH_GRANULARITY, 64),
                (cuda_abi::CU_LIMIT_PERSISTING_L2_CACHE_SIZE, 0),
            ])),
            cache_config: AtomicI32::new(0),
            shared_config: AtomicI32::new(1),
            output: Output::default(),
            device_heap_used: AtomicU64::new(0),
            legacy: RwLock::default(),
            per_thread: Mutex::default(),
            streams: Mutex::default(),
        });
        CONTEXTS.insert_as(context.handle(), &context);
        Ok(context)
    }

    /// Its handle. That of a primary context is the device's for good: a thread whose primary context was reset
    /// finds it valid again as soon as somebody retains it.
    pub fn handle(&self) -> usize {
        if self.primary { primary_handle(self.device) } else { std::ptr::from_ref(self).expose_provenance() }
    }

    /// Whether it still exists.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// The error that ended it, if any.
    pub fn poison(&self) -> Option<CUresult> {
        match self.sticky.load(Ordering::Acquire) {
            0 => None,
            code => Some(CUresult(code)),
        }
    }

    /// Ends the context with an error; the first one stays.
    pub fn set_poison(&self, error: CUresult) {
        let _ = self.sticky.compare_exchange(0, error.0, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Fails where the context is destroyed or ended by an error.
    ///
    /// # Errors
    /// CONTEXT_IS_DESTROYED, or the sticky error.
    pub fn check(&self) -> Answer {
        if !self.is_alive() {
            return Err(CUresult::CONTEXT_IS_DESTROYED);
        }
        self.poison().map_or(Ok(()), Err)
    }

    /// The legacy default stream.
    pub fn legacy(self: &Arc<Self>) -> Arc<Stream> {
        if let Some(legacy) = self.legacy_if_used() {
            return legacy;
        }
        let mut legacy = self.legacy.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(legacy.get_or_insert_with(|| Stream::new(self, crate::stream::Role::Legacy, 0, 0)))
    }

    /// The legacy default stream if anything ever used it.
    pub fn legacy_if_used(&self) -> Option<Arc<Stream>> {
        self.legacy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The calling thread's own default stream.
    pub fn per_thread(self: &Arc<Self>) -> Arc<Stream> {
        let mut streams = lock(&self.per_thread);
        let stream = streams.entry(THREAD.with(|thread| thread.id)).or_insert_with(|| {
            let stream = Stream::new(self, crate::stream::Role::PerThread, 0, 0);
            lock(&self.streams).push(Arc::clone(&stream));
            stream
        });
        Arc::clone(stream)
    }

    /// Lets go of a thread's own default stream: the thread has ended. Its work is still done.
    fn thread_ended(&self, thread: u64) {
        let ended = lock(&self.per_thread).remove(&thread);
        if let Some(stream) = ended {
            stream.retire();
        }
    }

    /// Makes a stream of the program's own.
    pub fn create_stream(self: &Arc<Self>, flags: u32, priority: i32) -> Arc<Stream> {
        let stream = Stream::new(self, crate::stream::Role::Created, flags, priority);
        lock(&self.streams).push(Arc::clone(&stream));
        stream
    }

    /// Forgets a stream that is destroyed.
    pub fn drop_stream(&self, stream: &Arc<Stream>) {
        lock(&self.streams).retain(|other| !Arc::ptr_eq(other, stream));
    }

    /// Runs `action` on every stream but the legacy one.
    pub fn for_each_stream(&self, mut action: impl FnMut(&Arc<Stream>)) {
        for stream in lock(&self.streams).iter() {
            action(stream);
        }
    }

    /// Waits until all streams are done and shows what kernels printed.
    ///
    /// # Errors
    /// The error that ended the context.
    pub fn synchronize(self: &Arc<Self>) -> Answer {
        self.drain();
        self.output.flush();
        self.check()
    }

    fn drain(&self) {
        if let Some(legacy) = self.legacy_if_used() {
            legacy.wait_idle();
        }
        let streams: Vec<_> = lock(&self.streams).clone();
        for stream in streams {
            stream.wait_idle();
        }
    }

    /// Whether kernels of this context may touch memory of that device which belongs to the context with that id.
    pub fn reaches(&self, device: i32, owner: u64) -> bool {
        device == self.device.ordinal
            || self.peers.read().unwrap_or_else(PoisonError::into_inner).contains(&owner)
    }

    /// Ends the context: waits for its work, runs destructors of context-local storage, frees what it owned.
    pub fn destroy(self: &Arc<Self>) {
        self.drain();
        self.output.flush();
        if !self.alive.swap(false, Ordering::AcqRel) {
            return;
        }
        // SAFETY: the runtime that registered destructors is part of the process that calls us.
        unsafe {
            cuda_abi::export_tables::context_local::context_gone(std::ptr::with_exposed_provenance_mut(
                self.handle(),
            ));
        }
        CONTEXTS.remove(self.handle());
        let mut streams = std::mem::take(&mut *lock(&self.streams));
        streams.extend(self.legacy.write().unwrap_or_else(PoisonError::into_inner).take());
        lock(&self.per_thread).clear();
        for stream in streams {
            STREAMS.remove(handle(&stream));
            stream.close();
        }
        EVENTS.remove_where(|event| event.context.id == self.id);
        library::context_gone(self.id);
        FUNCTIONS.remove_where(|function| function.context_id() == self.id);
        MODULES.remove_where(|module| module.context.id == self.id);
        memory::free_all_of(self.id);
        accounting::release(self.device.physical, config().context_bytes);
    }
}

fn primary_handle(device: &'static Device) -> usize {
    std::ptr::from_ref(device).expose_provenance()
}

/// What a thread has on its stack.
#[derive(Clone)]
pub enum Entry {
    /// The primary context of a device, whether active or not.
    Primary(&'static Device),
    /// A context of the program's own.
    Created(Arc<Context>),
}

impl Entry {
    /// What a handle names.
    ///
    /// # Errors
    /// INVALID_CONTEXT when it names nothing.
    pub fn of(handle: CUcontext) -> Answer<Self> {
        if let Some(device) = devices().iter().find(|device| primary_handle(device) == handle.0) {
            return Ok(Self::Primary(device));
        }
        CONTEXTS.find(handle.0).map(Self::Created).ok_or(CUresult::INVALID_CONTEXT)
    }

    /// The handle.
    pub fn handle(&self) -> CUcontext {
        CUcontext(match self {
            Self::Primary(device) => primary_handle(device),
            Self::Created(context) => context.handle(),
        })
    }

    /// The device.
    pub fn device(&self) -> &'static Device {
        match self {
            Self::Primary(device) => device,
            Self::Created(context) => context.device,
        }
    }

    /// Whether the context exists.
    pub fn is_alive(&self) -> bool {
        self.context().is_some_and(|context| context.is_alive())
    }

    fn context(&self) -> Option<Arc<Context>> {
        match self {
            Self::Primary(device) => lock(&device.primary).context.clone(),
            Self::Created(context) => Some(Arc::clone(context)),
        }
    }
}

/// The top of the calling thread's stack.
pub fn top() -> Option<Entry> {
    THREAD.with(|thread| thread.stack.borrow().last().cloned())
}

/// The calling thread's current context, fit for work.
///
/// # Errors
/// INVALID_CONTEXT without one, CONTEXT_IS_DESTROYED, or the error that ended it.
pub fn current() -> Answer<Arc<Context>> {
    let entry = top().ok_or(CUresult::INVALID_CONTEXT)?;
    let context = entry.context().ok_or(CUresult::CONTEXT_IS_DESTROYED)?;
    context.check()?;
    Ok(context)
}

/// Fails where an error ended the calling thread's current context; it may have none.
///
/// # Errors
/// That error.
pub fn unharmed() -> Answer {
    let current = top().and_then(|entry| entry.context());
    current.and_then(|context| context.poison()).map_or(Ok(()), Err)
}

/// The calling thread's current context for calls that only look something up, which the error that ended it does not
/// hinder. cuda.h leaves open whether it does.
///
/// # Errors
/// INVALID_CONTEXT without one, or CONTEXT_IS_DESTROYED.
pub fn current_at_any_time() -> Answer<Arc<Context>> {
    let entry = top().ok_or(CUresult::INVALID_CONTEXT)?;
    entry.context().filter(|context| context.is_alive()).ok_or(CUresult::CONTEXT_IS_DESTROYED)
}

/// The context of a handle; null means the current one.
///
/// # Errors
/// INVALID_CONTEXT when there is none.
pub fn context(handle: CUcontext) -> Answer<Arc<Context>> {
    if handle.is_null() {
        return current();
    }
    CONTEXTS.find(handle.0).ok_or(CUresult::INVALID_CONTEXT)
}

/// Puts a context on the calling thread's stack.
pub fn push(entry: Entry) {
    THREAD.with(|thread| thread.stack.borrow_mut().push(entry));
}

/// Takes the current context off the calling thread's stack.
pub fn pop() -> Option<Entry> {
    THREAD.with(|thread| thread.stack.borrow_mut().pop())
}

/// Replaces the top of the calling thread's stack; `None` only takes it off.
pub fn set_current(entry: Option<Entry>) {
    THREAD.with(|thread| {
        let mut stack = thread.stack.borrow_mut();
        stack.pop();
        stack.extend(entry);
    });
}

/// Waits for all work of all contexts: before host memory that any of them may use goes away.
pub fn synchronize_all() {
    for context in CONTEXTS.all() {
        let _ = context.synchronize();
    }
}

/// The primary context of a device, made if need be; `retain` counts one user more.
///
/// # Errors
/// As [`Context::create`].
pub fn primary(device: &'static Device, retain: bool) -> Answer<Arc<Context>> {
    let mut primary = lock(&device.primary);
    let context = match &primary.context {
        Some(context) => Arc::clone(context),
        None => {
            let context = Context::create(device, primary.flags, true, 3020)?;
            primary.context = Some(Arc::clone(&context));
            context
        }
    };
    if retain {
        primary.retains += 1;
    }
    Ok(context)
}

/// Gives one retain of the primary context back; the last one destroys it.
///
/// # Errors
/// INVALID_CONTEXT when it is not retained.
pub fn release_primary(device: &'static Device) -> Answer {
    let mut primary = lock(&device.primary);
    if primary.retains == 0 {
        return Err(CUresult::INVALID_CONTEXT);
    }
    primary.retains -= 1;
    let gone = if primary.retains == 0 { primary.context.take() } else { None };
    drop(primary);
    if let Some(context) = gone {
        context.destroy();
    }
    Ok(())
}

/// Destroys the primary context, whoever retains it.
pub fn reset_primary(device: &'static Device) {
    let mut primary = lock(&device.primary);
    primary.retains = 0;
    let gone = primary.context.take();
    drop(primary);
    if let Some(context) = gone {
        context.destroy();
    }
}
