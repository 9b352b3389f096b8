//! Libraries: code that is loaded once and bound to each context that uses it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use cuda_abi::{CUkernel, CUlibrary, CUresult};

use crate::context::Context;
use crate::device::lock;
use crate::guard::Answer;
use crate::module::{Code, Function, MODULES, Module, Settings};
use graph::{Registry, handle};

/// A library.
pub struct Library {
    pub code: Arc<Code>,
    bound: Mutex<BTreeMap<u64, Arc<Module>>>,
    kernels: OnceLock<Vec<Arc<Kernel>>>,
}

/// A kernel of a library, for any context.
pub struct Kernel {
    library: Weak<Library>,
    pub code: Arc<Code>,
    pub index: usize,
    pub settings: Settings,
    /// The function in each context that used it.
    functions: Mutex<BTreeMap<u64, Weak<Function>>>,
}

/// All libraries.
pub static LIBRARIES: Registry<Library> = Registry::new();
/// All kernels.
pub static KERNELS: Registry<Kernel> = Registry::new();

impl Library {
    /// Registers a library of this code and its kernels.
    pub fn create(code: Arc<Code>) -> Arc<Self> {
        let library =
            Arc::new(Self { code: Arc::clone(&code), bound: Mutex::default(), kernels: OnceLock::new() });
        let kernels = library.kernels.get_or_init(|| {
            let kernel = |index| {
                Arc::new(Kernel {
                    library: Arc::downgrade(&library),
                    code: Arc::clone(&code),
                    index,
                    settings: Settings::default(),
                    functions: Mutex::default(),
                })
            };
            (0..code.names.len()).map(kernel).collect()
        });
        for kernel in kernels {
            KERNELS.insert(kernel);
        }
        LIBRARIES.insert(&library);
        library
    }

    /// All kernels, in order.
    pub fn kernels(&self) -> &[Arc<Kernel>] {
        self.kernels.get().map_or(&[], Vec::as_slice)
    }

    /// The library's module in a context, bound at first use.
    ///
    /// # Errors
    /// OUT_OF_MEMORY.
    pub fn module(&self, context: &Arc<Context>) -> Answer<Arc<Module>> {
        let mut bound = lock(&self.bound);
        if let Some(module) = bound.get(&context.id) {
            return Ok(Arc::clone(module));
        }
        let module = Module::bind(&self.code, context)?;
        MODULES.insert(&module);
        bound.insert(context.id, Arc::clone(&module));
        Ok(module)
    }

    /// Takes the library out of every context. Waits for their work first.
    pub fn unload(self: &Arc<Self>) {
        LIBRARIES.remove(handle(self));
        for kernel in self.kernels() {
            KERNELS.remove(handle(kernel));
        }
        let bound = std::mem::take(&mut *lock(&self.bound));
        for module in bound.values() {
            if crate::config::config().unkind.free_waits {
                let _ = module.context.synchronize();
            }
            module.unload();
        }
    }
}

impl Kernel {
    /// The library it belongs to.
    ///
    /// # Errors
    /// INVALID_HANDLE when that is unloaded.
    pub fn library(&self) -> Answer<Arc<Library>> {
        self.library.upgrade().ok_or(CUresult::INVALID_HANDLE)
    }

    /// The parsed kernel.
    ///
    /// # Errors
    /// INVALID_HANDLE, which cannot happen for registered kernels.
    pub fn kernel(&self) -> Answer<&ptx::Function> {
        self.code.function(self.index).ok_or(CUresult::INVALID_HANDLE)
    }

    /// Its function in a context, bound at first use. Attributes set on the kernel hold there too.
    ///
    /// # Errors
    /// OUT_OF_MEMORY, or INVALID_HANDLE when the library is unloaded.
    pub fn function(&self, context: &Arc<Context>) -> Answer<Arc<Function>> {
        use std::sync::atomic::Ordering::Relaxed;
        let known = lock(&self.functions).get(&context.id).and_then(Weak::upgrade);
        let function = match known {
            Some(function) => function,
            None => {
                let module = self.library()?.module(context)?;
                let function = module.function(self.index).ok_or(CUresult::INVALID_HANDLE)?;
                lock(&self.functions).insert(context.id, Arc::downgrade(&function));
                function
            }
        };
        let own = self.settings.max_dynamic_shared.load(Relaxed);
        if own != -1 && function.settings.max_dynamic_shared.load(Relaxed) == -1 {
            function.settings.max_dynamic_shared.store(own, Relaxed);
        }
        Ok(function)
    }

    /// Hands what was set on the kernel to the functions that exist already.
    pub fn forward_settings(&self) {
        use std::sync::atomic::Ordering::Relaxed;
        for function in lock(&self.functions).values().filter_map(Weak::upgrade) {
            let bytes = self.settings.max_dynamic_shared.load(Relaxed);
            function.settings.max_dynamic_shared.store(bytes, Relaxed);
            function.settings.carveout.store(self.settings.carveout.load(Relaxed), Relaxed);
        }
    }
}

/// Forgets what libraries bound to a context that goes away.
pub fn context_gone(context_id: u64) {
    for library in LIBRARIES.all() {
        let module = lock(&library.bound).remove(&context_id);
        if let Some(module) = module {
            module.unload();
        }
        for kernel in library.kernels() {
            lock(&kernel.functions).remove(&context_id);
        }
    }
}

/// The library of a handle.
///
/// # Errors
/// INVALID_HANDLE when it names nothing.
pub fn library(handle: CUlibrary) -> Answer<Arc<Library>> {
    LIBRARIES.find(handle.0).ok_or(CUresult::INVALID_HANDLE)
}

/// The kernel of a handle.
///
/// # Errors
/// INVALID_HANDLE when it names nothing.
pub fn kernel(handle: CUkernel) -> Answer<Arc<Kernel>> {
    KERNELS.find(handle.0).ok_or(CUresult::INVALID_HANDLE)
}
