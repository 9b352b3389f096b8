//! A kernel's compiled code: for one thread and for groups, each made when it is first worth it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use ptx::engine::{Code, Engine, GroupRoutine, Meaning, Routine, Target};
use ptx::{Device, Fault, Function, LaunchConfig, LaunchStats, Module};

use crate::code::Compiled;
use crate::error::CompileError;

/// Turns of single threads that are interpreted before their code is compiled. A turn is at most 4,096 instructions;
/// so many take about as long as compiling a hundred.
const PATIENCE: u64 = 64;
/// Instructions, counted once per thread, that a kernel's launches have before code for groups is compiled.
const WORTH_GROUPS: u64 = 50_000;
/// Lanes of the groups, widest first.
const LANES: [usize; 3] = [16, 8, 4];

/// A kernel of a module, compiled as far as launches needed it.
pub struct Kernel {
    name: String,
    eager: bool,
    single: OnceLock<Option<Compiled>>,
    groups: [OnceLock<Option<Compiled>>; 3],
    functions: OnceLock<Functions>,
    /// Turns of single threads so far.
    turns: AtomicU64,
    /// Threads times instructions so far.
    work: AtomicU64,
    refusals: Mutex<Vec<CompileError>>,
}

/// Functions that a kernel calls, and the place of their sites behind the kernel's.
struct Functions {
    compiled: HashMap<usize, (usize, OnceLock<Option<Compiled>>)>,
    sites: usize,
}

impl Kernel {
    /// A kernel of which nothing is compiled yet.
    pub fn new(function: &Function) -> Self {
        Self {
            name: function.name.clone(),
            eager: false,
            single: OnceLock::new(),
            groups: [const { OnceLock::new() }; 3],
            functions: OnceLock::new(),
            turns: AtomicU64::new(0),
            work: AtomicU64::new(0),
            refusals: Mutex::default(),
        }
    }

    /// Has everything compiled that runs at all, however little it runs.
    #[must_use]
    pub fn eagerly(mut self) -> Self {
        self.eager = true;
        self
    }

    /// Takes what is known of functions that the code generator refused: they are interpreted.
    pub fn take_refusals(&self) -> Vec<CompileError> {
        std::mem::take(&mut *self.refusals.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs the kernel as [`ptx::launch`] does.
    ///
    /// # Errors
    /// As [`ptx::launch`].
    ///
    /// # Panics
    /// When the function is another one than it was made for.
    pub fn launch(
        &self,
        module: &Module,
        function: &Function,
        config: &LaunchConfig<'_>,
        device: &dyn Device,
    ) -> Result<LaunchStats, Fault> {
        assert_eq!(self.name, function.name, "another kernel's code");
        if function.unsupported.is_some() {
            return ptx::launch(module, function, config, device);
        }
        let functions = self.functions.get_or_init(|| Functions::new(module, function));
        let code = ptx::engine::code(function);
        let parameters = function.params.last().map_or(0, |param| u64::from(param.offset + param.size));
        let threads = config.grid.iter().chain(&config.block).map(|&side| u64::from(side)).product::<u64>();
        let work = threads.saturating_mul(code.insts.len() as u64);
        let work = self.work.fetch_add(work.min(1 << 40), Ordering::Relaxed).saturating_add(work);
        let mut group = None;
        if let Some(index) = LANES.iter().position(|&lanes| fits(config.block, lanes)) {
            let compile = || self.compile(function, LANES[index], 0, parameters);
            group = match self.groups[index].get() {
                Some(known) => known.as_ref(),
                None if self.eager || work >= WORTH_GROUPS => {
                    self.groups[index].get_or_init(compile).as_ref()
                }
                None => None,
            };
        }
        ptx::engine::launch(
            module,
            function,
            config,
            device,
            &Run { kernel: self, module, function, functions, group, parameters },
        )
    }

    fn compile(&self, function: &Function, lanes: usize, sites: usize, parameters: u64) -> Option<Compiled> {
        let compiled = Compiled::new(function, ptx::engine::code(function), lanes, sites, parameters);
        let refuse = |error| self.refusals.lock().unwrap_or_else(PoisonError::into_inner).push(error);
        compiled.map_err(refuse).ok()
    }

    /// Code for single threads, once enough of them have had turns.
    fn patiently<'a>(
        &self,
        code: &'a OnceLock<Option<Compiled>>,
        compile: impl FnOnce() -> Option<Compiled>,
    ) -> Option<&'a Compiled> {
        if let Some(known) = code.get() {
            return known.as_ref();
        }
        let turns = self.turns.fetch_add(1, Ordering::Relaxed);
        if self.eager || turns >= PATIENCE { code.get_or_init(compile).as_ref() } else { None }
    }
}

/// Whether neighbours in groups of so many lanes differ in the first coordinate alone.
fn fits(block: [u32; 3], lanes: usize) -> bool {
    let row = block[0] as usize;
    let threads = block.iter().map(|&side| side as usize).product::<usize>();
    threads >= lanes && (row.is_multiple_of(lanes) || row == threads)
}

/// Sites that the accesses of some code take at most.
fn sites(code: &Code) -> usize {
    let accesses = |meaning| matches!(meaning, Meaning::Load { .. } | Meaning::Store { .. });
    code.insts.iter().filter(|inst| accesses(inst.meaning)).count()
}

impl Functions {
    fn new(module: &Module, kernel: &Function) -> Self {
        let all = ptx::engine::functions(module);
        // The kernel's code comes in two forms, whose accesses have sites of their own.
        let mut next = 2 * sites(ptx::engine::code(kernel));
        let mut compiled = HashMap::new();
        for index in reached(module, kernel) {
            if all[index].unsupported.is_none() {
                compiled.insert(index, (next, OnceLock::new()));
                next += sites(ptx::engine::code(&all[index]));
            }
        }
        Self { compiled, sites: next }
    }
}

/// Functions that a kernel calls, directly or through others; all device functions if a pointer may name any.
fn reached(module: &Module, kernel: &Function) -> Vec<usize> {
    let functions = ptx::engine::functions(module);
    let mut found = vec![false; functions.len()];
    let mut open = vec![kernel];
    while let Some(function) = open.pop() {
        for call in &ptx::engine::code(function).calls {
            let called: Vec<usize> = match call.target {
                Target::Function(index) => vec![index],
                Target::Indirect(_) => (0..functions.len()).collect(),
                Target::Builtin(_) => Vec::new(),
            };
            for index in called {
                if !std::mem::replace(&mut found[index], true) {
                    open.push(&functions[index]);
                }
            }
        }
    }
    let kernels: Vec<*const Function> = module.entries().map(std::ptr::from_ref).collect();
    let is_kernel = |index: usize| kernels.contains(&std::ptr::from_ref(&functions[index]));
    (0..functions.len()).filter(|&index| found[index] && !is_kernel(index)).collect()
}

/// What one launch uses.
struct Run<'a> {
    kernel: &'a Kernel,
    module: &'a Module,
    function: &'a Function,
    functions: &'a Functions,
    group: Option<&'a Compiled>,
    parameters: u64,
}

impl Engine for Run<'_> {
    fn routine(&self, function: Option<usize>) -> Option<&dyn Routine> {
        let kernel = self.kernel;
        let compiled = match function {
            None => {
                let first = sites(ptx::engine::code(self.function));
                kernel.patiently(&kernel.single, || kernel.compile(self.function, 1, first, self.parameters))
            }
            Some(index) => {
                let (first, code) = self.functions.compiled.get(&index)?;
                let function = &ptx::engine::functions(self.module)[index];
                kernel.patiently(code, || kernel.compile(function, 1, *first, 0))
            }
        };
        compiled.map(|compiled| compiled as &dyn Routine)
    }

    fn group(&self, _block: [u32; 3]) -> Option<&dyn GroupRoutine> {
        self.group.map(|compiled| compiled as &dyn GroupRoutine)
    }

    fn sites(&self) -> usize {
        self.functions.sites
    }
}
