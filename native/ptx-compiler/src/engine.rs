//! A kernel's compiled code: for one thread and for groups, each made when it is first worth it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use ptx::engine::{Code, Engine, GroupRoutine, Meaning, Routine, Target};
use ptx::{Device, Fault, Function, LaunchConfig, LaunchStats, Module};

use crate::code::{Compiled, Effort};
use crate::error::CompileError;
use crate::flow::{Step, step};
use crate::tiers::Tiers;

/// Turns of single threads that are interpreted before their code is compiled. A turn is at most 4,096 instructions;
/// so many take about as long as compiling a hundred.
const PATIENCE: u64 = 64;
/// Instructions, counted once per thread, that a kernel's launches have before code for groups is compiled.
const WORTH_GROUPS: u64 = 50_000;
/// A function is compiled for single threads when there are at least so many instructions for each that the interpreter
/// executes, in its loops if it has any: to leave the code and come back costs about as much as interpreting them.
const WORTH_LEAVING: usize = 6;
/// Groups that part more often than this in a launch, and once in fewer instructions (of all lanes) than the other, cost
/// more than they gain: the kernel's threads run one by one from then on.
const MANY_PARTINGS: u64 = 256;
const WORTH_PARTING: u64 = 500;
/// Lanes of the groups, widest first.
const LANES: [usize; 3] = [16, 8, 4];

/// A kernel of a module, compiled as far as launches needed it.
pub struct Kernel {
    name: String,
    /// Whatever runs is compiled at once, with so much effort.
    eager: Option<Effort>,
    single: OnceLock<Option<Compiled>>,
    groups: [Tiers; 3],
    functions: OnceLock<Functions>,
    /// Turns of single threads so far.
    turns: AtomicU64,
    /// Threads times instructions so far.
    work: AtomicU64,
    refusals: Mutex<Vec<CompileError>>,
}

/// Functions that a kernel calls, and the place of their sites behind the kernel's.
struct Functions {
    compiled: HashMap<usize, Called>,
    /// Whether the kernel itself is worth compiling for single threads.
    worth: bool,
    sites: usize,
}

struct Called {
    /// Its first site.
    sites: usize,
    worth: bool,
    code: OnceLock<Option<Compiled>>,
}

impl Kernel {
    /// A kernel of which nothing is compiled yet.
    pub fn new(function: &Function) -> Self {
        Self {
            name: function.name.clone(),
            eager: None,
            single: OnceLock::new(),
            groups: Default::default(),
            functions: OnceLock::new(),
            turns: AtomicU64::new(0),
            work: AtomicU64::new(0),
            refusals: Mutex::default(),
        }
    }

    /// Has everything compiled that runs at all, however little it runs, with so much effort.
    #[must_use]
    pub fn eagerly(mut self, effort: Effort) -> Self {
        self.eager = Some(effort);
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
        let index = LANES.iter().position(|&lanes| fits(config.block, lanes));
        let tiers = index.map(|index| (&self.groups[index], LANES[index]));
        let group = tiers.and_then(|(tiers, lanes)| {
            let compile = |effort| self.compile(function, (lanes, effort), 0, parameters);
            match self.eager {
                Some(effort) => tiers.with(effort, compile),
                None => tiers.best(work >= WORTH_GROUPS, compile).filter(|group| !group.is_given_up()),
            }
        });
        let before = group.map_or(0, Compiled::partings);
        let run = Run { kernel: self, module, function, functions, group, parameters };
        let started = Instant::now();
        let stats = ptx::engine::launch(module, function, config, device, &run)?;
        if let (Some(group), Some((tiers, _))) = (group, tiers) {
            tiers.note(started.elapsed());
            let partings = group.partings().wrapping_sub(before);
            if partings > MANY_PARTINGS && stats.instructions / partings < WORTH_PARTING {
                group.give_up();
            }
        }
        Ok(stats)
    }

    fn compile(
        &self,
        function: &Function,
        (lanes, effort): (usize, Effort),
        sites: usize,
        parameters: u64,
    ) -> Option<Compiled> {
        let code = ptx::engine::code(function);
        let how = (self.eager.is_some(), effort);
        let compiled = Compiled::new(function, code, lanes, sites, parameters, how);
        let refuse = |error| self.refusals.lock().unwrap_or_else(PoisonError::into_inner).push(error);
        compiled.map_err(refuse).ok()
    }

    /// Code for single threads comes late, and is short.
    fn single_lane(&self) -> (usize, Effort) {
        (1, self.eager.unwrap_or(Effort::Thorough))
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
        if self.eager.is_some() || turns >= PATIENCE { code.get_or_init(compile).as_ref() } else { None }
    }
}

/// Whether neighbours in groups of so many lanes differ in the first coordinate alone.
fn fits(block: [u32; 3], lanes: usize) -> bool {
    let row = block[0] as usize;
    let threads = block.iter().map(|&side| side as usize).product::<usize>();
    threads >= lanes && (row.is_multiple_of(lanes) || row == threads)
}

/// Whether the instructions that the interpreter executes are few among the others.
fn leaves_seldom(code: &Code) -> bool {
    let mut in_loops = vec![false; code.insts.len()];
    for (pc, inst) in code.insts.iter().enumerate() {
        if let Step::Branch(target) = step(inst)
            && target <= pc
        {
            in_loops[target..=pc].fill(true);
        }
    }
    let all = !in_loops.contains(&true);
    let counted = || code.insts.iter().zip(&in_loops).filter(|(_, inside)| all || **inside);
    let left = counted().filter(|(inst, _)| step(inst) == Step::Interpreted).count();
    counted().count() >= WORTH_LEAVING * left.saturating_sub(usize::from(all))
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
                let code = ptx::engine::code(&all[index]);
                compiled
                    .insert(index, Called { sites: next, worth: leaves_seldom(code), code: OnceLock::new() });
                next += sites(code);
            }
        }
        Self { compiled, worth: leaves_seldom(ptx::engine::code(kernel)), sites: next }
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
                if kernel.eager.is_none() && !self.functions.worth {
                    return None;
                }
                let first = sites(ptx::engine::code(self.function));
                kernel.patiently(&kernel.single, || {
                    kernel.compile(self.function, kernel.single_lane(), first, self.parameters)
                })
            }
            Some(index) => {
                let called = self.functions.compiled.get(&index)?;
                let function = &ptx::engine::functions(self.module)[index];
                if kernel.eager.is_none() && !called.worth {
                    return None;
                }
                kernel.patiently(&called.code, || {
                    kernel.compile(function, kernel.single_lane(), called.sites, 0)
                })
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
