//! Contexts: a stack per thread and the state of the primary ones, all kept in the client.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cuda_abi::CUresult;
use cuda_abi::per_thread::PerThread;
use rustc_hash::FxHashMap;
use wire::handle::{Context, Handle as _};

use crate::client::index_of;
use crate::device::Devices;
use crate::entry::Answer;
use crate::servers;

/// `cuCtxGetApiVersion` of contexts made through the second ABI and later.
pub const API_VERSION: u32 = 3020;

/// Each server's handles begin with those of the primary contexts, numbered by device; the others come after.
pub const FIRST_HANDLE: u64 = 1;

/// Each thread's stack; a program's handlers of `exit` still find it.
static STACK: PerThread<RefCell<Vec<Context>>> = PerThread::new();

/// What is known about a context.
#[derive(Debug, Clone, Copy)]
pub struct ContextState {
    /// The device it belongs to, as this program counts devices.
    pub device: usize,
    /// Flags it was made with.
    pub flags: u32,
    /// Whether it is its device's primary context.
    pub primary: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Primary {
    context: Option<Context>,
    retained: u32,
    active: bool,
    flags: u32,
}

#[derive(Debug, Default)]
struct Table {
    alive: FxHashMap<Context, ContextState>,
    /// Contexts with a sticky error: it stays until the context is gone.
    poisoned: FxHashMap<Context, CUresult>,
    primary: FxHashMap<usize, Primary>,
}

/// All contexts of this process.
#[derive(Debug, Default)]
pub struct Contexts {
    /// The handles of the devices' primary contexts.
    primary: Vec<Context>,
    table: Mutex<Table>,
    /// Held while a primary context is made: who retains it meanwhile waits for the same one.
    making: Mutex<()>,
    /// Whether any context has a sticky error; without one nobody looks.
    any_poisoned: AtomicBool,
}

/// Context index for the header of a record of this thread; 0 for none.
pub fn current_index() -> u32 {
    current().map_or(0, index_of)
}

/// The thread's current context.
pub fn current() -> Option<Context> {
    STACK.with(|stack| stack.borrow().last().copied()).filter(|context| context.0 != 0)
}

/// Pushes `context` on the thread's stack.
pub fn push(context: Context) {
    STACK.with(|stack| stack.borrow_mut().push(context));
}

/// Pops the thread's current context.
pub fn pop() -> Option<Context> {
    STACK.with(|stack| stack.borrow_mut().pop())
}

/// Makes calls with `context` current on the thread.
pub fn within<T>(context: Context, body: impl FnOnce() -> T) -> T {
    let _pushed = Pushed::new(context);
    body()
}

/// A context that is current on the thread until this goes, also by a panic.
#[derive(Debug)]
pub struct Pushed(());

impl Pushed {
    /// Pushes `context`.
    pub fn new(context: Context) -> Pushed {
        push(context);
        Pushed(())
    }
}

impl Drop for Pushed {
    fn drop(&mut self) {
        pop();
    }
}

/// Replaces the top of the thread's stack (`None` empties the top).
pub fn set_current(context: Option<Context>) {
    STACK.with(|stack| {
        let mut stack = stack.borrow_mut();
        stack.pop();
        if let Some(context) = context {
            stack.push(context);
        }
    });
}

impl Contexts {
    /// Contexts on these devices: none yet.
    pub fn of(devices: &Devices) -> Contexts {
        let primary = (FIRST_HANDLE..)
            .zip(devices.iter())
            .map(|(number, device)| Context::from_index(servers::handle_index(number, device.server)));
        Contexts { primary: primary.collect(), ..Contexts::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sticky error of the thread's current context, if it has one.
    pub fn check_sticky(&self) -> Answer {
        if !self.any_poisoned.load(Ordering::Relaxed) {
            return Ok(());
        }
        match current().and_then(|context| self.table().poisoned.get(&context).copied()) {
            Some(code) => Err(code),
            None => Ok(()),
        }
    }

    /// The sticky error of the context with this index, if it has one: that of an object that is used while another
    /// context is current.
    pub fn check_sticky_of(&self, index: u32) -> Answer {
        if !self.any_poisoned.load(Ordering::Relaxed) {
            return Ok(());
        }
        let table = self.table();
        let found = table.poisoned.iter().find(|(context, _)| index_of(**context) == index);
        found.map_or(Ok(()), |(_, code)| Err(*code))
    }

    /// Whether the context with this index lives.
    pub fn is_alive(&self, index: u32) -> bool {
        self.table().alive.keys().any(|context| index_of(*context) == index)
    }

    /// Notes a sticky error of the context with this index, if it is alive; the first one stays. Answers whether this is
    /// the first one.
    pub fn poison(&self, index: u32, code: CUresult) -> bool {
        let mut table = self.table();
        let Some(context) = table.alive.keys().copied().find(|context| index_of(*context) == index) else {
            return false;
        };
        self.any_poisoned.store(true, Ordering::Relaxed);
        let is_first = !table.poisoned.contains_key(&context);
        table.poisoned.entry(context).or_insert(code);
        is_first
    }

    /// The state of `context`.
    pub fn state(&self, context: Context) -> Answer<ContextState> {
        self.table().alive.get(&context).copied().ok_or(CUresult::INVALID_CONTEXT)
    }

    /// The thread's current context and its state.
    pub fn current(&self) -> Answer<(Context, ContextState)> {
        let context = current().ok_or(CUresult::INVALID_CONTEXT)?;
        match self.state(context) {
            Ok(state) => Ok((context, state)),
            Err(_) => Err(CUresult::CONTEXT_IS_DESTROYED),
        }
    }

    /// Notes a new context.
    pub fn insert(&self, context: Context, state: ContextState) {
        self.table().alive.insert(context, state);
    }

    /// All contexts that are alive, those of other servers among them.
    pub fn all(&self) -> Vec<Context> {
        self.table().alive.keys().copied().collect()
    }

    /// Forgets a destroyed context.
    pub fn remove(&self, context: Context) {
        let mut table = self.table();
        table.alive.remove(&context);
        table.poisoned.remove(&context);
    }

    /// Flags and activity of a device's primary context.
    pub fn primary_state(&self, device: usize) -> (u32, bool) {
        let table = self.table();
        table.primary.get(&device).map_or((0, false), |primary| (primary.flags, primary.active))
    }

    /// The handle of a device's primary context, once it was retained.
    pub fn primary_context(&self, device: usize) -> Option<Context> {
        self.table().primary.get(&device).and_then(|primary| primary.context)
    }

    /// The handle that a device's primary context has or will have. NVIDIA's runtime wants to know it when it counts devices,
    /// which must take no GPU.
    pub fn primary_handle(&self, device: usize) -> Context {
        let handle = self.primary.get(device).copied().unwrap_or(Context::from_raw(0));
        self.table().primary.entry(device).or_default().context = Some(handle);
        handle
    }

    /// Sets the flags of a device's primary context.
    pub fn set_primary_flags(&self, device: usize, flags: u32) {
        let mut table = self.table();
        let primary = table.primary.entry(device).or_default();
        primary.flags = flags;
        if let (true, Some(context)) = (primary.active, primary.context)
            && let Some(state) = table.alive.get_mut(&context)
        {
            state.flags = flags;
        }
    }

    /// Retains a device's primary context; `make` creates it when it is not active. Its handle stays the same
    /// for the life of the process.
    pub fn retain_primary(&self, device: usize, make: impl Fn(Context) -> Answer) -> Answer<Context> {
        let _one_at_a_time = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let context = self.primary_handle(device);
        let mut is_made = false;
        loop {
            {
                let mut table = self.table();
                let primary = table.primary.entry(device).or_default();
                // Another thread may have reset it meanwhile.
                if is_made || primary.active {
                    primary.context = Some(context);
                    primary.active = true;
                    primary.retained += 1;
                    let flags = primary.flags;
                    table.alive.insert(context, ContextState { device, flags, primary: true });
                    return Ok(context);
                }
            }
            // Without the lock on the table: what comes with the reply may be an error of a context.
            make(context)?;
            is_made = true;
        }
    }

    /// Releases a device's primary context; answers whether it must be destroyed now.
    pub fn release_primary(&self, device: usize) -> Answer<bool> {
        let mut table = self.table();
        let Some(primary) = table.primary.get_mut(&device).filter(|primary| primary.retained > 0) else {
            return Err(CUresult::INVALID_CONTEXT);
        };
        primary.retained -= 1;
        if primary.retained > 0 || !primary.active {
            return Ok(false);
        }
        Ok(table.deactivate(device))
    }

    /// Resets a device's primary context; answers whether it was active and must be destroyed now.
    pub fn reset_primary(&self, device: usize) -> bool {
        self.table().deactivate(device)
    }
}

impl Table {
    fn deactivate(&mut self, device: usize) -> bool {
        let Some(primary) = self.primary.get_mut(&device) else { return false };
        let was_active = std::mem::replace(&mut primary.active, false);
        if let Some(context) = primary.context {
            self.poisoned.remove(&context);
            self.alive.remove(&context);
        }
        was_active
    }
}
