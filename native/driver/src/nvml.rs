//! The little of NVML that an inventory needs: memory in use, without making a CUDA context.

use std::ffi::{CString, c_char, c_int, c_void};

use libloading::Library;

#[repr(C)]
struct Memory {
    total: u64,
    free: u64,
    used: u64,
}

/// A loaded and initialised NVML.
#[derive(Debug)]
pub struct Nvml {
    library: Library,
}

impl Nvml {
    /// NVML, if this machine has it.
    pub fn load() -> Option<Nvml> {
        // SAFETY: loading NVIDIA's library runs its initialisers, as any program with NVML does.
        let library = unsafe { Library::new("libnvidia-ml.so.1") }.ok()?;
        // SAFETY: the documented signature of nvmlInit_v2.
        let result = unsafe {
            let init = library.get::<unsafe extern "C" fn() -> c_int>(b"nvmlInit_v2\0").ok()?;
            init()
        };
        (result == 0).then_some(Nvml { library })
    }

    /// Bytes in use on the GPU with this UUID (`GPU-…`), by all processes.
    pub fn memory_used(&self, uuid: &str) -> Option<u64> {
        type ByUuid = unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_int;
        type MemoryInfo = unsafe extern "C" fn(*mut c_void, *mut Memory) -> c_int;
        let uuid = CString::new(uuid).ok()?;
        let mut device = std::ptr::null_mut();
        let mut memory = Memory { total: 0, free: 0, used: 0 };
        // SAFETY: the documented signatures; all pointers lead to locals, the handle comes from NVML itself.
        let result = unsafe {
            let by_uuid = self.library.get::<ByUuid>(b"nvmlDeviceGetHandleByUUID\0").ok()?;
            let memory_info = self.library.get::<MemoryInfo>(b"nvmlDeviceGetMemoryInfo\0").ok()?;
            match by_uuid(uuid.as_ptr(), &raw mut device) {
                0 => memory_info(device, &raw mut memory),
                error => error,
            }
        };
        (result == 0).then_some(memory.used)
    }
}
