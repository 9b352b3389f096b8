//! Running a kernel.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

use crate::device::Device;
use crate::engine::Engine;
use crate::error::{Fault, FaultKind};
use crate::exec::Kernel;
use crate::exec::block::Block;
use crate::memory::{Global, Site};
use crate::module::{Function, Module};
use crate::races::Races;
use crate::spare;

/// The shape and parameters of a launch.
#[derive(Debug, Clone, Copy)]
pub struct LaunchConfig<'a> {
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads per block in x, y, z; at most 1,024 in all.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared_bytes: u32,
    /// Parameter bytes, packed by [`crate::Param::offset`].
    pub params: &'a [u8],
    /// All blocks are resident together and may wait for each other.
    pub cooperative: bool,
    /// Worker threads to use at most; 0 means one per core.
    pub max_workers: usize,
}

/// What a launch did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaunchStats {
    /// Instructions executed, summed over threads.
    pub instructions: u64,
    /// Blocks run.
    pub blocks: u64,
    /// Threads run.
    pub threads: u64,
}

/// Runs `function` of `module` and returns when every block has ended.
///
/// Blocks start in order and are spread over the cores; short launches stay on the caller's thread. A block
/// that takes long shares its core with a further one (up to 32), so a block may wait for a later one
/// within the limits that real multiprocessors have. A cooperative launch makes all blocks resident.
///
/// # Errors
/// The first fault of any thread; the other threads are stopped.
pub fn launch(
    module: &Module,
    function: &Function,
    config: &LaunchConfig<'_>,
    device: &dyn Device,
) -> Result<LaunchStats, Fault> {
    run(module, function, config, device, None, None)
}

/// [`launch`], and looks for races in shared memory. It finds them whether or not the launch comes to its end.
///
/// # Errors
/// As [`launch`]; a race is no fault.
pub fn launch_watched(
    module: &Module,
    function: &Function,
    config: &LaunchConfig<'_>,
    device: &dyn Device,
    races: &mut Races,
) -> Result<LaunchStats, Fault> {
    run(module, function, config, device, None, Some(races))
}

/// [`launch`] with an engine, or looking for races, or neither.
pub(crate) fn run(
    module: &Module,
    function: &Function,
    config: &LaunchConfig<'_>,
    device: &dyn Device,
    engine: Option<&dyn Engine>,
    races: Option<&mut Races>,
) -> Result<LaunchStats, Fault> {
    let refuse = |kind| Fault {
        kind,
        block: [0; 3],
        thread: [0; 3],
        function: function.name.clone(),
        line: function.line,
    };
    if let Some(unsupported) = &function.unsupported {
        return Err(refuse(FaultKind::Unsupported(unsupported.clone())));
    }
    check(function, config).map_err(|reason| refuse(FaultKind::InvalidConfiguration(reason)))?;
    let workspace: Option<Box<[AtomicU64]>> =
        config.cooperative.then(|| (0..32).map(|_| AtomicU64::new(0)).collect());
    let mut variables = vec![0; module.variables.len()];
    for &index in &function.code.variables {
        variables[index] = device.variable_address(index);
    }
    // Asking reads the control group's files: too slow for every launch.
    static CORES: LazyLock<usize> =
        LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));
    let cores = *CORES;
    let dynamic_shared_offset =
        (function.reserved_shared_bytes + function.static_shared_bytes).next_multiple_of(16);
    let kernel = Kernel {
        module,
        function,
        config,
        variables,
        dynamic_shared_offset,
        total_shared: dynamic_shared_offset + config.dynamic_shared_bytes,
        workspace: workspace.as_ref().map_or(0, |cells| cells.as_ptr().addr() as u64),
        processors: cores as u32,
        grid_id: NEXT_GRID.fetch_add(1, Ordering::Relaxed),
        started: Instant::now(),
        engine,
        watched: races.is_some(),
    };
    let blocks = config.grid.iter().map(|&side| u64::from(side)).product();
    let workers = if config.max_workers == 0 { cores } else { config.max_workers.min(cores) };
    let workers = workers.min(usize::try_from(blocks).unwrap_or(usize::MAX)).max(1);
    let shared = Shared {
        kernel: &kernel,
        device,
        workspace: workspace.as_deref(),
        blocks,
        workers: workers as u64,
        next: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        fault: Mutex::new(None),
        instructions: AtomicU64::new(0),
        races: Mutex::default(),
    };
    let mut first = Worker::new(&shared, 0);
    let done = !config.cooperative && first.run(Some(if workers == 1 { u64::MAX } else { SMALL_LAUNCH }));
    if !done {
        std::thread::scope(|scope| {
            let shared = &shared;
            device.while_spawning(&mut || {
                for index in 1..workers {
                    let worker = move || Worker::new(shared, index as u32).run(None);
                    let named = std::thread::Builder::new().name("ptx".to_owned());
                    if named.spawn_scoped(scope, worker).is_err() && config.cooperative {
                        // Its share of the blocks would be missing.
                        first
                            .fail(refuse(FaultKind::InvalidConfiguration("no more threads on this machine")));
                    }
                }
            });
            first.run(None);
        });
    }
    drop(first);
    if let Some(races) = races {
        *races = shared.races.into_inner().unwrap_or_else(PoisonError::into_inner);
    }
    match shared.fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(fault) => Err(fault),
        None => Ok(LaunchStats {
            instructions: shared.instructions.into_inner(),
            blocks,
            threads: blocks * u64::from(kernel.threads_per_block()),
        }),
    }
}

/// Instructions after which a launch gets more threads than the caller's.
const SMALL_LAUNCH: u64 = 200_000;
/// Instructions after which an unfinished block must share its worker.
const QUANTUM: u64 = 4_000_000;
/// Blocks that share a worker at most, unless the launch is cooperative.
const MAX_RESIDENT: usize = 32;

static NEXT_GRID: AtomicU64 = AtomicU64::new(1);

fn check(function: &Function, config: &LaunchConfig<'_>) -> Result<(), &'static str> {
    let threads = config.block.iter().try_fold(1u32, |all, &side| all.checked_mul(side));
    match threads {
        Some(1..=1024) => {}
        _ => return Err("a block has 1 to 1,024 threads"),
    }
    if config.grid.contains(&0) {
        return Err("a grid has at least one block");
    }
    if config.grid.iter().try_fold(1u64, |all, &side| all.checked_mul(u64::from(side))).is_none() {
        return Err("too many blocks");
    }
    if !function.is_entry {
        return Err("not a kernel");
    }
    let parameters = function.params.last().map_or(0, |param| param.offset + param.size);
    if config.params.len() < parameters as usize {
        return Err("too few parameter bytes");
    }
    if u64::from(function.static_shared_bytes) + u64::from(config.dynamic_shared_bytes) > 1 << 28 {
        return Err("too much shared memory");
    }
    if config.cooperative && config.grid.iter().map(|&side| u64::from(side)).product::<u64>() > 65_536 {
        return Err("too many blocks for a cooperative launch");
    }
    Ok(())
}

struct Shared<'a> {
    kernel: &'a Kernel<'a>,
    device: &'a dyn Device,
    workspace: Option<&'a [AtomicU64]>,
    blocks: u64,
    workers: u64,
    /// The next block to start.
    next: AtomicU64,
    stop: AtomicBool,
    fault: Mutex<Option<Fault>>,
    instructions: AtomicU64,
    races: Mutex<Races>,
}

struct Worker<'a> {
    shared: &'a Shared<'a>,
    index: u32,
    global: Global<'a>,
    resident: Vec<Block>,
    idle: Vec<Block>,
    cooperative_taken: bool,
    /// Passes over blocks, of all turns.
    passes: u64,
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        for mut block in self.resident.drain(..).chain(self.idle.drain(..)) {
            if let Some(watch) = block.take_watch() {
                let mut races = self.shared.races.lock().unwrap_or_else(PoisonError::into_inner);
                watch.tell(self.shared.kernel, &mut races);
            }
            spare::keep(block);
        }
    }
}

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared<'a>, index: u32) -> Self {
        let mut global = Global::new(shared.device, shared.workspace);
        global.sites.resize(shared.kernel.engine.map_or(0, Engine::sites), Site::default());
        Self {
            shared,
            index,
            global,
            resident: Vec::new(),
            idle: Vec::new(),
            cooperative_taken: false,
            passes: 0,
        }
    }

    fn admit(&mut self, block: u64) {
        let kernel = self.shared.kernel;
        let [x, y, _] = kernel.config.grid.map(u64::from);
        let mut instance = self.idle.pop().unwrap_or_else(|| {
            let mut fresh = spare::take();
            fresh.prepare(kernel, self.index);
            fresh
        });
        instance.start(kernel, [(block % x) as u32, (block / x % y) as u32, (block / x / y) as u32]);
        self.resident.push(instance);
    }

    /// Takes the next block; false when there is none.
    fn admit_next(&mut self) -> bool {
        let shared = self.shared;
        if shared.kernel.config.cooperative {
            if !std::mem::replace(&mut self.cooperative_taken, true) {
                (u64::from(self.index)..shared.blocks)
                    .step_by(shared.workers as usize)
                    .for_each(|block| self.admit(block));
            }
            return !self.resident.is_empty();
        }
        let block = shared.next.fetch_add(1, Ordering::Relaxed);
        if block >= shared.blocks {
            return false;
        }
        self.admit(block);
        true
    }

    /// Runs blocks until there are none left (true) or `limit` instructions are spent (false).
    fn run(&mut self, limit: Option<u64>) -> bool {
        let cooperative = self.shared.kernel.config.cooperative;
        let quantum = if cooperative { 1 } else { QUANTUM };
        let mut total = 0;
        let finished = loop {
            if self.resident.is_empty() && !self.admit_next() {
                break true;
            }
            let mut any_finished = false;
            let mut index = 0;
            while index < self.resident.len() {
                let quantum = limit.map_or(quantum, |limit| quantum.min(limit.saturating_sub(total).max(1)));
                match self.turn(index, quantum) {
                    Ok(spent) => total += spent,
                    Err(fault) => {
                        self.fail(fault);
                        self.shared.instructions.fetch_add(total, Ordering::Relaxed);
                        return true;
                    }
                }
                if self.shared.stop.load(Ordering::Relaxed) {
                    return true;
                }
                if self.resident[index].finished() {
                    let block = self.resident.swap_remove(index);
                    self.idle.push(block);
                    any_finished = true;
                } else {
                    index += 1;
                }
            }
            if limit.is_some_and(|limit| total >= limit) {
                break false;
            }
            if !any_finished && !cooperative && self.resident.len() < MAX_RESIDENT {
                self.admit_next();
            }
        };
        self.shared.instructions.fetch_add(total, Ordering::Relaxed);
        finished
    }

    /// Runs one block for about `quantum` instructions.
    fn turn(&mut self, index: usize, quantum: u64) -> Result<u64, Fault> {
        let kernel = self.shared.kernel;
        let block = &mut self.resident[index];
        let mut spent = 0;
        while spent < quantum && !block.finished() {
            self.global.refresh();
            spent += block.pass(kernel, &mut self.global)?;
            self.passes += 1;
            // Spinning passes are short: look at the flags anyway.
            if self.passes.is_multiple_of(4) || spent > 100_000 {
                if self.shared.device.cancelled() {
                    return Err(block.fault(kernel, 0, FaultKind::Cancelled));
                }
                if self.shared.stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
        Ok(spent)
    }

    fn fail(&self, fault: Fault) {
        let mut slot = self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(fault);
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}
