//! A library's state: how often it was initialised, and what it saw last.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
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

/// What differs between the libraries.
#[derive(Debug)]
pub struct Library {
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
        Self { source, say, note, state: Mutex::new(state) }
    }

    /// Runs the body of a call: no panic leaves.
    pub(crate) fn enter(&self, name: &str, body: impl FnOnce(&Self) -> Answer) -> nvmlReturn_t {
        match catch_unwind(AssertUnwindSafe(|| body(self))) {
            Ok(Ok(())) => nvmlReturn_t::SUCCESS,
            Ok(Err(code)) => code,
            Err(_) => {
                (self.say)(&format!("{name} failed inside Farpool; this is a bug, please report it"));
                nvmlReturn_t::UNKNOWN
            }
        }
    }

    /// The answer of a call that NVML has, but this library does not.
    pub fn unsupported(&self, name: &'static str) -> nvmlReturn_t {
        let is_news = self.state().named.insert(name);
        if is_news {
            (self.note)(&format!("{name} is not supported by Farpool"));
        }
        nvmlReturn_t::NOT_SUPPORTED
    }

    /// One more user, who sees the GPUs as they are now. `is_needed`: without any, there is nothing to use.
    pub(crate) fn start(&self, is_needed: bool) -> Answer {
        let machine = match (self.source)() {
            Ok(machine) => machine,
            Err(_) if !is_needed => Machine::default(),
            Err(refused) => {
                (self.say)(&refused.sentence);
                return Err(nvmlReturn_t::DRIVER_NOT_LOADED);
            }
        };
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
