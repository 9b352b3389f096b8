//! What a worker holds while it serves its client: the driver, the client's objects, its memory.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use cuda_abi::{CUcontext, CUresult};
use driver::Driver;
use wire::handle::{self, Handle as _};
use wire::{CallId, WireError};

use crate::assignment::Assignment;
use crate::counters::Counters;
use crate::footprint::Footprint;
use crate::handles::{HandleError, Handles};
use crate::manual::modules::Modules;
use crate::memory::Memory;

/// The state behind every call.
pub struct Worker {
    /// The real driver, or the simulated one.
    pub driver: Driver,
    /// The client's objects.
    pub handles: Handles,
    /// What this process takes of the GPUs.
    pub footprint: Footprint,
    /// Memory accounting.
    pub memory: Arc<Memory>,
    /// Counts.
    pub counters: Arc<Counters>,
    /// Images in upload and the functions of loaded ones.
    pub modules: Modules,
    /// Index of the client's context that the call under way belongs to; 0 for none.
    pub context: u32,
    /// The context that the driver has current on this thread.
    current: CUcontext,
    contexts: HashMap<u32, MadeContext>,
}

/// A context of the client, by the index that records name it with.
#[derive(Debug, Clone, Copy)]
struct MadeContext {
    device: usize,
    primary: bool,
}

impl Worker {
    /// Loads the driver and initialises it.
    pub fn open(
        assignment: &Assignment,
        memory: Arc<Memory>,
        counters: Arc<Counters>,
    ) -> anyhow::Result<Worker> {
        let driver = load(&assignment.driver)?;
        Ok(Worker {
            footprint: Footprint::new(&driver),
            driver,
            handles: Handles::default(),
            memory,
            counters,
            modules: Modules::default(),
            context: 0,
            current: CUcontext::NULL,
            contexts: HashMap::new(),
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
                Err(HandleError::Poisoned(code)) => return Ok(code),
                // The client's thread kept a context that another thread destroyed: CUDA's answer, not an attack.
                Err(HandleError::Wire(_)) => return Ok(CUresult::CONTEXT_IS_DESTROYED),
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
        body(self)
    }

    /// Notes that the client's context `index` belongs to `device`.
    pub fn context_made(&mut self, index: u32, device: usize, primary: bool) {
        self.contexts.insert(index, MadeContext { device, primary });
        self.forget_current();
    }

    /// Gives back what the client's context `index` held; the driver has destroyed it.
    pub fn context_gone(&mut self, index: u32) {
        self.memory.freed_all(index);
        self.contexts.remove(&index);
        self.forget_current();
    }

    /// Index of the primary context of `device`, if it is active.
    pub fn primary_context(&self, device: usize) -> Option<u32> {
        let made = self.contexts.iter().find(|(_, context)| context.primary && context.device == device);
        made.map(|(index, _)| *index)
    }

    /// Device of the context that the call under way belongs to.
    pub fn current_device(&self) -> Result<usize, CUresult> {
        self.contexts.get(&self.context).map(|context| context.device).ok_or(CUresult::INVALID_CONTEXT)
    }

    /// The next call sets its context anew: the driver may give an old context's address to a new one.
    fn forget_current(&mut self) {
        self.current = CUcontext(usize::MAX);
    }
}

/// A driver object's number as the address it is.
pub fn address(raw: u64) -> usize {
    // The worker only runs on 64-bit servers.
    usize::try_from(raw).unwrap_or(usize::MAX)
}

/// Loads the library at `path` and calls `cuInit`.
pub fn load(path: &Path) -> anyhow::Result<Driver> {
    let driver = Driver::load(path).with_context(|| format!("load the CUDA driver {}", path.display()))?;
    // SAFETY: cuInit takes flags only, and 0 is the one legal value.
    let result = unsafe { driver.cuInit(0) };
    anyhow::ensure!(result == CUresult::SUCCESS, "cuInit of {} answered {result}", path.display());
    Ok(driver)
}
