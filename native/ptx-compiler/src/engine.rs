//! A kernel's compiled code: for one thread and for groups, each made when it is first needed.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use ptx::engine::{Engine, GroupRoutine, Routine};
use ptx::{Device, Fault, Function, LaunchConfig, LaunchStats, Module};

use crate::code::Compiled;
use crate::error::CompileError;

/// A kernel of a module, compiled as far as launches needed it.
pub struct Kernel {
    name: String,
    /// For a single thread: the kernel itself, and the functions of the module.
    single: OnceLock<Single>,
    groups: [OnceLock<Option<Compiled>>; 3],
    refusals: Mutex<Vec<CompileError>>,
}

struct Single {
    kernel: Option<Compiled>,
    functions: HashMap<usize, Compiled>,
    sites: usize,
}

/// Lanes of the groups, widest first.
const LANES: [usize; 3] = [16, 8, 4];

impl Kernel {
    /// A kernel of which nothing is compiled yet.
    pub fn new(function: &Function) -> Self {
        Self { name: function.name.clone(), single: OnceLock::new(), groups: [const { OnceLock::new() }; 3], refusals: Mutex::default() }
    }

    fn refuse(&self, error: CompileError) {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).push(error);
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
        let parameters = function.params.last().map_or(0, |param| u64::from(param.offset + param.size));
        let single = self.single.get_or_init(|| Single::new(module, function, parameters, &|error| self.refuse(error)));
        let mut sites = single.sites;
        let mut group = None;
        if let Some(index) = LANES.iter().position(|&lanes| fits(config.block, lanes)) {
            let compile = || {
                let code = ptx::engine::code(function);
                Compiled::new(function, code, LANES[index], single.sites, parameters).map_err(|error| self.refuse(error)).ok()
            };
            group = self.groups[index].get_or_init(compile).as_ref();
            sites = group.map_or(sites, |group| group.sites);
        }
        let engine = Run { single, group, sites };
        ptx::engine::launch(module, function, config, device, &engine)
    }
}

/// Whether neighbours in groups of so many lanes differ in the first coordinate alone.
fn fits(block: [u32; 3], lanes: usize) -> bool {
    let row = block[0] as usize;
    let threads = block.iter().map(|&side| side as usize).product::<usize>();
    threads >= lanes && (row % lanes == 0 || row == threads)
}

impl Single {
    fn new(module: &Module, kernel: &Function, parameters: u64, refuse: &dyn Fn(CompileError)) -> Self {
        let mut sites = 0;
        let mut compile = |function: &Function, parameters| {
            let compiled = Compiled::new(function, ptx::engine::code(function), 1, sites, parameters);
            let compiled = compiled.map_err(refuse).ok()?;
            sites = compiled.sites;
            Some(compiled)
        };
        let compiled = compile(kernel, parameters);
        let mut functions = HashMap::new();
        for index in reached(module, kernel) {
            let function = &ptx::engine::functions(module)[index];
            if function.unsupported.is_none()
                && let Some(code) = compile(function, 0)
            {
                functions.insert(index, code);
            }
        }
        Self { kernel: compiled, functions, sites }
    }
}

/// Functions that a kernel calls, directly or through others; all device functions if a pointer may name any.
fn reached(module: &Module, kernel: &Function) -> Vec<usize> {
    use ptx::engine::Target;
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
    (0..functions.len()).filter(|&index| found[index] && !kernels.contains(&std::ptr::from_ref(&functions[index]))).collect()
}

/// What one launch uses.
struct Run<'a> {
    single: &'a Single,
    group: Option<&'a Compiled>,
    sites: usize,
}

impl Engine for Run<'_> {
    fn routine(&self, function: Option<usize>) -> Option<&dyn Routine> {
        let compiled = match function {
            None => self.single.kernel.as_ref(),
            Some(index) => self.single.functions.get(&index),
        };
        compiled.map(|compiled| compiled as &dyn Routine)
    }

    fn group(&self, _block: [u32; 3]) -> Option<&dyn GroupRoutine> {
        self.group.map(|compiled| compiled as &dyn GroupRoutine)
    }

    fn sites(&self) -> usize {
        self.sites
    }
}
