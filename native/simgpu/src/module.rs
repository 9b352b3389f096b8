//! Modules: parsed PTX, loaded into a context, with memory for its variables and handles for its kernels.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CString, c_void};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use cuda_abi::fatbin::{self, Image, ImageKind};
use cuda_abi::{CUfunction, CUresult};
use ptx::{Symbol, VariableSpace};

use crate::config::log;
use crate::context::{self, Context};
use crate::device::{ARCHITECTURE, lock};
use crate::guard::Answer;
use crate::jit::Logs;
use crate::library::KERNELS;
use crate::memory::{self, Allocation, Kind};
use graph::{Registry, handle};

/// Dynamic shared memory that a kernel may use without asking.
pub const DEFAULT_SHARED: i32 = 48 << 10;
/// Static and dynamic shared memory that a kernel may use at most.
pub const MAX_SHARED: i32 = 163 << 10;

/// What is said of a fatbin without entries.
const PARTS_TO_LINK: &str = "the image has no code of its own: its parts would be linked when it is loaded, which is not \
    supported; build the program without -rdc=true";

/// Parsed code, not bound to a context.
pub struct Code {
    pub ptx: ptx::Module,
    /// Names of the kernels, in order, as C strings that stay where they are.
    pub names: Vec<CString>,
    /// What is compiled of each kernel.
    pub compiled: Vec<ptx_compiler::Kernel>,
    /// The PTX it was made from, and what the parser said of it.
    text: String,
    info: String,
    complaints: String,
}

/// Code of the last modules, most recent first: programs load the same again and again, in several contexts or after
/// unloading it, and what was compiled of it serves them all.
static RECENT: Mutex<VecDeque<Arc<Code>>> = Mutex::new(VecDeque::new());
/// How many modules' code is kept.
const KEPT: usize = 16;

impl Code {
    /// Reads an image that the program points to, parses its PTX and fills the logs.
    ///
    /// # Errors
    /// INVALID_VALUE for null, INVALID_IMAGE, NO_BINARY_FOR_GPU for machine code only, INVALID_PTX, NOT_SUPPORTED for parts
    /// that would have to be linked.
    ///
    /// # Safety
    /// As for [`Image::locate`] and [`Logs::write`].
    pub unsafe fn load(image: *const c_void, logs: &Logs) -> Answer<Arc<Self>> {
        // SAFETY: the caller promises it.
        let located = unsafe { Image::locate(image) }.map_err(|error| match error {
            fatbin::ImageError::Null => CUresult::INVALID_VALUE,
            _ => CUresult::INVALID_IMAGE,
        })?;
        // SAFETY: the program keeps the image during the call.
        let bytes = unsafe { located.bytes() };
        // SAFETY: the caller promises it.
        unsafe { Self::load_bytes(located.kind, bytes, logs) }
    }

    /// As [`Code::load`], for bytes that are ours.
    ///
    /// # Errors
    /// As [`Code::load`].
    ///
    /// # Safety
    /// As for [`Logs::write`].
    pub unsafe fn load_bytes(kind: ImageKind, bytes: &[u8], logs: &Logs) -> Answer<Arc<Self>> {
        let begin = Instant::now();
        let text = match kind {
            ImageKind::Ptx => fatbin::ptx_text(bytes),
            ImageKind::Elf => return Err(CUresult::NO_BINARY_FOR_GPU),
            ImageKind::Fatbin if fatbin::entries(bytes).is_ok_and(|entries| entries.is_empty()) => {
                log(|| PARTS_TO_LINK.to_owned());
                // SAFETY: the caller promises it.
                unsafe { logs.write("", PARTS_TO_LINK, begin.elapsed().as_secs_f32() * 1e3) };
                return Err(CUresult::NOT_SUPPORTED);
            }
            ImageKind::Fatbin => fatbin::best_ptx(bytes, ARCHITECTURE)
                .map_err(|_| CUresult::INVALID_IMAGE)?
                .ok_or(CUresult::NO_BINARY_FOR_GPU)?,
        };
        let known = lock(&RECENT).iter().find(|code| code.text == text).cloned();
        if let Some(code) = known {
            // SAFETY: the caller promises it.
            unsafe { logs.write(&code.info, &code.complaints, begin.elapsed().as_secs_f32() * 1e3) };
            return Ok(code);
        }
        let parsed = ptx::Module::parse(&text);
        let milliseconds = begin.elapsed().as_secs_f32() * 1e3;
        match parsed {
            Ok(ptx) => {
                let mut complaints = String::new();
                for unsupported in ptx.entries().filter_map(|function| {
                    function.unsupported.as_ref().map(|reason| format!("{}: {reason}\n", function.name))
                }) {
                    log(|| unsupported.trim_end().to_owned());
                    complaints.push_str(&unsupported);
                }
                let info = format!(
                    "{}: {} kernels for {}\n",
                    crate::device::NAME,
                    ptx.entries().count(),
                    ptx.target()
                );
                // SAFETY: the caller promises it.
                unsafe { logs.write(&info, &complaints, milliseconds) };
                let names = ptx
                    .entries()
                    .map(|function| CString::new(function.name.as_str()).unwrap_or_default())
                    .collect();
                let compiled = ptx.entries().map(ptx_compiler::Kernel::new).collect();
                let code = Arc::new(Self { ptx, names, compiled, text, info, complaints });
                let mut recent = lock(&RECENT);
                recent.push_front(Arc::clone(&code));
                recent.truncate(KEPT);
                Ok(code)
            }
            Err(error) => {
                log(|| format!("PTX {error}"));
                // SAFETY: the caller promises it.
                unsafe { logs.write("", &format!("ptx {error}\n"), milliseconds) };
                Err(CUresult::INVALID_PTX)
            }
        }
    }

    /// Index and description of the kernel with this name.
    pub fn find(&self, name: &str) -> Option<(usize, &ptx::Function)> {
        self.ptx.entries().enumerate().find(|(_, function)| function.name == name)
    }

    /// The kernel with this index.
    pub fn function(&self, index: usize) -> Option<&ptx::Function> {
        self.ptx.entries().nth(index)
    }
}

/// Code loaded into a context.
pub struct Module {
    pub code: Arc<Code>,
    pub context: Arc<Context>,
    /// Address of each variable; 0 for those that have none.
    variables: Vec<u64>,
    storage: Vec<Arc<Allocation>>,
    functions: Mutex<BTreeMap<usize, Arc<Function>>>,
    this: Weak<Self>,
}

/// A kernel of a loaded module.
pub struct Function {
    pub module: Arc<Module>,
    pub index: usize,
    pub settings: Settings,
}

/// What a program may set about a kernel.
pub struct Settings {
    pub max_dynamic_shared: AtomicI32,
    pub carveout: AtomicI32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_dynamic_shared: AtomicI32::new(-1), carveout: AtomicI32::new(-1) }
    }
}

/// All modules with a handle.
pub static MODULES: Registry<Module> = Registry::new();
impl Function {
    /// Whether its module is still there.
    pub fn is_loaded(&self) -> bool {
        FUNCTIONS.find(std::ptr::from_ref(self).expose_provenance()).is_some()
    }
}

/// All functions with a handle.
pub static FUNCTIONS: Registry<Function> = Registry::new();

impl Module {
    /// Binds code to a context: gives variables memory and initial values.
    ///
    /// # Errors
    /// OUT_OF_MEMORY.
    pub fn bind(code: &Arc<Code>, context: &Arc<Context>) -> Answer<Arc<Self>> {
        let declared = code.ptx.variables();
        let mut variables = Vec::with_capacity(declared.len());
        let mut storage: Vec<Arc<Allocation>> = Vec::new();
        for variable in declared {
            if variable.external || variable.size == 0 {
                variables.push(0);
                continue;
            }
            let kind = if variable.managed { Kind::Managed } else { Kind::Variable };
            match memory::allocate(context, variable.size, kind, 0, None) {
                Ok(allocation) => {
                    variables.push(allocation.start);
                    storage.push(allocation);
                }
                Err(error) => {
                    free(&storage);
                    return Err(error);
                }
            }
        }
        for (variable, address) in declared.iter().zip(&variables).filter(|(_, address)| **address != 0) {
            initialise(code, variable, *address, &variables);
        }
        Ok(Arc::new_cyclic(|this| Self {
            code: Arc::clone(code),
            context: Arc::clone(context),
            variables,
            storage,
            functions: Mutex::default(),
            this: this.clone(),
        }))
    }

    /// The function with this index, registered under a handle.
    pub fn function(&self, index: usize) -> Option<Arc<Function>> {
        let module = self.this.upgrade()?;
        let mut functions = lock(&self.functions);
        let function = functions.entry(index).or_insert_with(|| {
            let function = Arc::new(Function { module, index, settings: Settings::default() });
            FUNCTIONS.insert(&function);
            function
        });
        Some(Arc::clone(function))
    }

    /// Address of variable `index`.
    pub fn variable_address(&self, index: usize) -> u64 {
        self.variables.get(index).copied().unwrap_or(0)
    }

    /// Address, size and whether it is managed, of the variable with this name.
    pub fn global(&self, name: &str) -> Option<(u64, u64, bool)> {
        let index = self
            .code
            .ptx
            .variables()
            .iter()
            .position(|variable| variable.name == name && !variable.external)?;
        let variable = &self.code.ptx.variables()[index];
        Some((self.variables[index], variable.size, variable.managed))
    }

    /// Takes the module out of its context. The caller has synchronised.
    pub fn unload(self: &Arc<Self>) {
        MODULES.remove(handle(self));
        // Taken out first: functions hold their module.
        let functions = std::mem::take(&mut *lock(&self.functions));
        for function in functions.values() {
            FUNCTIONS.remove(handle(function));
        }
        if self.context.is_alive() {
            free(&self.storage);
        }
    }
}

fn free(storage: &[Arc<Allocation>]) {
    for allocation in storage {
        memory::free_exactly(allocation);
    }
}

fn initialise(code: &Code, variable: &ptx::Variable, address: u64, variables: &[u64]) {
    let mut bytes = vec![0; usize::try_from(variable.size).unwrap_or(0)];
    let given = variable.initializer.len().min(bytes.len());
    bytes[..given].copy_from_slice(&variable.initializer[..given]);
    for relocation in &variable.relocations {
        let base = match relocation.symbol {
            Symbol::Variable(index) => variables.get(index).copied().unwrap_or(0),
            Symbol::Function(index) => code.ptx.function_address(index),
        };
        let value = base.wrapping_add_signed(relocation.addend).checked_shr(relocation.shift).unwrap_or(0);
        let at = usize::try_from(relocation.offset).unwrap_or(usize::MAX);
        let size = (relocation.size as usize).min(8);
        if let Some(place) = at.checked_add(size).and_then(|end| bytes.get_mut(at..end)) {
            place.copy_from_slice(&value.to_le_bytes()[..size]);
        }
    }
    debug_assert!(matches!(variable.space, VariableSpace::Global | VariableSpace::Const));
    // SAFETY: the allocation was just made with this many bytes and nobody else knows it yet.
    unsafe {
        std::ptr::copy_nonoverlapping(
            bytes.as_ptr(),
            std::ptr::with_exposed_provenance_mut(address as usize),
            bytes.len(),
        );
    }
}

impl Function {
    /// Id of the context it is loaded in.
    pub fn context_id(&self) -> u64 {
        self.module.context.id
    }

    /// The parsed kernel.
    ///
    /// # Errors
    /// NOT_SUPPORTED when it holds an instruction that is not executed.
    pub fn kernel(&self) -> Answer<&ptx::Function> {
        let function = self.module.code.function(self.index).ok_or(CUresult::INVALID_HANDLE)?;
        if function.unsupported.is_some() {
            return Err(CUresult::NOT_SUPPORTED);
        }
        Ok(function)
    }

    /// Dynamic shared memory that a launch may use at most.
    pub fn max_dynamic_shared(&self) -> i32 {
        max_dynamic_shared(&self.settings, self.module.code.function(self.index))
    }
}

fn max_dynamic_shared(settings: &Settings, function: Option<&ptx::Function>) -> i32 {
    let fixed = function.map_or(0, |function| i32::try_from(function.static_shared_bytes).unwrap_or(0));
    match settings.max_dynamic_shared.load(Ordering::Relaxed) {
        -1 => (DEFAULT_SHARED - fixed).max(0),
        set => set,
    }
}

/// One attribute of a kernel.
///
/// # Errors
/// INVALID_VALUE for an attribute that does not exist.
pub fn attribute(function: &ptx::Function, settings: &Settings, attribute: i32) -> Answer<i32> {
    let number = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    Ok(match attribute {
        0 => number(function.max_threads.unwrap_or(1024).min(1024)),
        1 => number(function.static_shared_bytes),
        3 => number(function.local_bytes),
        4 => number(function.register_count),
        5 | 6 => number(ARCHITECTURE),
        8 => max_dynamic_shared(settings, Some(function)),
        9 => settings.carveout.load(Ordering::Relaxed),
        2 | 7 | 10..=15 => 0,
        _ => return Err(CUresult::INVALID_VALUE),
    })
}

/// Sets one attribute of a kernel.
///
/// # Errors
/// INVALID_VALUE for a value out of range or an attribute that cannot be set.
pub fn set_attribute(function: &ptx::Function, settings: &Settings, attribute: i32, value: i32) -> Answer {
    let fixed = i32::try_from(function.static_shared_bytes).unwrap_or(i32::MAX);
    match attribute {
        8 if value >= 0 && value <= MAX_SHARED.saturating_sub(fixed) => {
            settings.max_dynamic_shared.store(value, Ordering::Relaxed);
        }
        9 if (-1..=100).contains(&value) => settings.carveout.store(value, Ordering::Relaxed),
        14 | 15 => {}
        _ => return Err(CUresult::INVALID_VALUE),
    }
    Ok(())
}

/// The function of a handle, which may be a kernel's: then the one in the current context.
///
/// # Errors
/// INVALID_HANDLE when it names nothing.
pub fn function(handle: CUfunction) -> Answer<Arc<Function>> {
    if let Some(function) = FUNCTIONS.find(handle.0) {
        return Ok(function);
    }
    let kernel = KERNELS.find(handle.0).ok_or(CUresult::INVALID_HANDLE)?;
    kernel.function(&context::current()?)
}

/// The module of a handle.
///
/// # Errors
/// INVALID_HANDLE when it names nothing.
pub fn module(handle: cuda_abi::CUmodule) -> Answer<Arc<Module>> {
    MODULES.find(handle.0).ok_or(CUresult::INVALID_HANDLE)
}
