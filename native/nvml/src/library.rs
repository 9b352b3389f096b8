//! A library's state: how often it was initialised, and what it saw last.

use std::collections::BTreeSet;
use std::ffi::{CStr, c_void};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{Gpu, Machine, nvmlDevice_t, nvmlReturn_t};

/// What a call answers; `Err` carries the code.
pub type Answer<T = ()> = Result<T, nvmlReturn_t>;

/// A tool asks for dozens of values one by one, and means one moment.
const MOMENT: Duration = Duration::from_millis(200);

/// More GPUs than one program can have.
const MOST_GPUS: usize = 256;

/// Handles of GPUs are addresses in here: they stay the same, lead to nothing, and nobody else has them.
static PLACES: [u8; MOST_GPUS] = [0; MOST_GPUS];

/// Why nothing is known of the GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The sentence for the person in front of the program.
    pub sentence: String,
    /// Whether GPUs that a program has seen are gone, rather than out of reach for a moment.
    pub is_final: bool,
}

/// Another library that may answer this process instead: it decides once whether it does.
pub trait Aside: Debug + Sync {
    /// Before the call `name` is answered: whether it is known already that the other one is meant.
    fn look(&self, name: &CStr);

    /// Nothing is known of GPUs here: whether the other one answers from now on.
    fn give_way(&self) -> bool;

    /// GPUs are known here: whether it stays so that the other one does not answer.
    fn stay(&self) -> bool;

    /// The other one's function, once it answers.
    fn find(&self, name: &CStr) -> Option<NonNull<c_void>>;
}

/// What differs between the libraries.
#[derive(Debug)]
pub struct Library {
    aside: Option<&'static dyn Aside>,
    source: fn() -> Result<Machine, Refused>,
    say: fn(&str),
    note: fn(&str),
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Initialisations without their shutdown.
    users: u32,
    seen: Option<(Instant, Arc<Machine>)>,
    /// Calls that were asked for in vain.
    named: BTreeSet<&'static str>,
}

impl Library {
    /// A library that asks `source` for its GPUs, has `say` for sentences to people, and `note` for those who asked for
    /// a log: monitors draw on the terminal, and ask for much that they can do without.
    pub const fn new(source: fn() -> Result<Machine, Refused>, say: fn(&str), note: fn(&str)) -> Self {
        let state = State { users: 0, seen: None, named: BTreeSet::new() };
        Self { aside: None, source, say, note, state: Mutex::new(state) }
    }

    /// The same, beside another library.
    #[must_use]
    pub const fn beside(mut self, other: &'static dyn Aside) -> Self {
        self.aside = Some(other);
        self
    }

    /// Runs the body of a call: no panic leaves. Errors: the other library's function, which is to answer instead.
    pub(crate) fn enter(
        &self,
        name: &CStr,
        body: impl FnOnce(&Self) -> Answer,
    ) -> Result<nvmlReturn_t, NonNull<c_void>> {
        let answer = || {
            let Some(aside) = self.aside else { return Ok(code_of(body(self))) };
            aside.look(name);
            if let Some(other) = aside.find(name) {
                return Err(other);
            }
            let code = code_of(body(self));
            // Meanwhile it may have turned out that nothing is to be had here.
            aside.find(name).map_or(Ok(code), Err)
        };
        catch_unwind(AssertUnwindSafe(answer)).unwrap_or_else(|_| {
            let name = name.to_string_lossy();
            (self.say)(&format!("{name} failed inside Farpool; this is a bug, please report it"));
            Ok(nvmlReturn_t::UNKNOWN)
        })
    }

    /// The answer of a call that NVML has, but this library does not.
    pub fn unsupported(&self, name: &'static str) -> nvmlReturn_t {
        let is_news = self.state().named.insert(name);
        if is_news {
            (self.note)(&format!("{name} is not supported by Farpool"));
        }
        nvmlReturn_t::NOT_SUPPORTED
    }

    /// One more user, who sees the GPUs as they are now. `is_needed`: without any, there is nothing to use. Where the other
    /// library answers instead, the code is nobody's.
    pub(crate) fn start(&self, is_needed: bool) -> Answer {
        let machine = match (self.source)() {
            Ok(machine) => machine,
            Err(_) if self.aside.is_some_and(Aside::give_way) => return Err(nvmlReturn_t::UNINITIALIZED),
            Err(_) if !is_needed => Machine::default(),
            Err(refused) => {
                (self.say)(&refused.sentence);
                return Err(nvmlReturn_t::DRIVER_NOT_LOADED);
            }
        };
        if !self.aside.is_none_or(Aside::stay) {
            return Err(nvmlReturn_t::UNINITIALIZED);
        }
        let mut state = self.state();
        state.users = state.users.saturating_add(1);
        state.seen = Some((Instant::now(), Arc::new(machine)));
        Ok(())
    }

    /// One user less.
    pub(crate) fn stop(&self) -> Answer {
        let mut state = self.state();
        state.users = state.users.checked_sub(1).ok_or(nvmlReturn_t::UNINITIALIZED)?;
        if state.users == 0 {
            state.seen = None;
        }
        Ok(())
    }

    /// The GPUs as they were seen last: for what does not change.
    pub(crate) fn known(&self) -> Answer<Arc<Machine>> {
        let state = self.state();
        state.seen.as_ref().map(|(_, machine)| Arc::clone(machine)).ok_or(nvmlReturn_t::UNINITIALIZED)
    }

    /// The GPUs as they are. Not asked under the lock: a program's other threads go on meanwhile.
    pub(crate) fn now(&self) -> Answer<Arc<Machine>> {
        if let Some((at, machine)) = &self.state().seen {
            if at.elapsed() < MOMENT {
                return Ok(Arc::clone(machine));
            }
        } else {
            return Err(nvmlReturn_t::UNINITIALIZED);
        }
        let machine = (self.source)().map(Arc::new).map_err(|refused| {
            (self.say)(&refused.sentence);
            if refused.is_final { nvmlReturn_t::GPU_IS_LOST } else { nvmlReturn_t::UNKNOWN }
        })?;
        if let Some(seen) = &mut self.state().seen {
            *seen = (Instant::now(), Arc::clone(&machine));
        }
        Ok(machine)
    }

    /// What stays the same of a GPU.
    pub(crate) fn known_gpu(&self, device: nvmlDevice_t) -> Answer<Gpu> {
        pick(&*self.known()?, device)
    }

    /// A GPU as it is now.
    pub(crate) fn gpu_now(&self, device: nvmlDevice_t) -> Answer<Gpu> {
        // A handle that never was one is no reason to ask.
        let before = self.known_gpu(device)?;
        let gpu = pick(&*self.now()?, device).map_err(|_| nvmlReturn_t::GPU_IS_LOST)?;
        if gpu.uuid == before.uuid { Ok(gpu) } else { Err(nvmlReturn_t::GPU_IS_LOST) }
    }

    /// Makes what was seen last old enough to be asked for again.
    #[cfg(test)]
    pub(crate) fn forget_when(&self) {
        if let Some((at, _)) = &mut self.state().seen {
            *at = at.checked_sub(MOMENT).unwrap_or(*at);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn code_of(answer: Answer) -> nvmlReturn_t {
    answer.err().unwrap_or(nvmlReturn_t::SUCCESS)
}

/// The handle of the GPU at `index`.
pub(crate) fn handle_of(index: usize) -> nvmlDevice_t {
    nvmlDevice_t(PLACES.as_ptr().addr() + index)
}

/// Where the GPU behind a handle stands in its machine.
pub(crate) fn index_of(device: nvmlDevice_t) -> Answer<usize> {
    let index = device.0.checked_sub(PLACES.as_ptr().addr()).ok_or(nvmlReturn_t::INVALID_ARGUMENT)?;
    if index < MOST_GPUS { Ok(index) } else { Err(nvmlReturn_t::INVALID_ARGUMENT) }
}

fn pick(machine: &Machine, device: nvmlDevice_t) -> Answer<Gpu> {
    machine.gpus.get(index_of(device)?).cloned().ok_or(nvmlReturn_t::INVALID_ARGUMENT)
}
