//! The little of NVML that an inventory needs: memory in use, without making a CUDA context.

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;

use libloading::Library;

#[repr(C)]
struct Memory {
    total: u64,
    free: u64,
    used: u64,
}

/// `nvmlProcessInfo_t`, as its third version has it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Process {
    pid: u32,
    used: u64,
    gpu_instance: u32,
    compute_instance: u32,
}

/// More processes than one GPU is shared by.
const MAX_PROCESSES: usize = 1024;

/// A loaded and initialised NVML.
#[derive(Debug)]
pub struct Nvml {
    library: Library,
}

impl Nvml {
    /// NVML, if this machine has it: the one beside the libcuda at `driver`, else the loader's.
    pub fn load(driver: &Path) -> Option<Nvml> {
        const NAME: &str = "libnvidia-ml.so.1";
        // SAFETY: loading NVIDIA's library runs its initialisers, as any program with NVML does.
        let library =
            unsafe { Library::new(driver.with_file_name(NAME)).or_else(|_| Library::new(NAME)) }.ok()?;
        // SAFETY: the documented signature of nvmlInit_v2.
        let result = unsafe {
            let init = library.get::<unsafe extern "C" fn() -> c_int>(b"nvmlInit_v2\0").ok()?;
            init()
        };
        (result == 0).then_some(Nvml { library })
    }

    /// Bytes in use on the GPU with this UUID (`GPU-…`), by all processes.
    pub fn memory_used(&self, uuid: &str) -> Option<u64> {
        type MemoryInfo = unsafe extern "C" fn(*mut c_void, *mut Memory) -> c_int;
        let device = self.device(uuid)?;
        let mut memory = Memory { total: 0, free: 0, used: 0 };
        // SAFETY: the documented signature; the place is valid, the handle comes from NVML itself.
        let result = unsafe {
            let memory_info = self.library.get::<MemoryInfo>(b"nvmlDeviceGetMemoryInfo\0").ok()?;
            memory_info(device, &raw mut memory)
        };
        (result == 0).then_some(memory.used)
    }

    /// Bytes in use on the GPU with this UUID by process `pid`; `None` where NVML does not tell (other process
    /// namespaces, some virtual machines).
    pub fn memory_used_by(&self, uuid: &str, pid: u32) -> Option<u64> {
        /// `NVML_VALUE_NOT_AVAILABLE`
        const UNKNOWN: u64 = u64::MAX;
        type Processes = unsafe extern "C" fn(*mut c_void, *mut u32, *mut Process) -> c_int;
        let device = self.device(uuid)?;
        let mut processes = vec![Process::default(); MAX_PROCESSES];
        let mut count = u32::try_from(MAX_PROCESSES).ok()?;
        // SAFETY: the documented signature; the array has `count` elements, the handle comes from NVML itself.
        let result = unsafe {
            let list = self.library.get::<Processes>(b"nvmlDeviceGetComputeRunningProcesses_v3\0").ok()?;
            list(device, &raw mut count, processes.as_mut_ptr())
        };
        if result != 0 {
            return None;
        }
        let listed = processes.iter().take(usize::try_from(count).ok()?);
        listed
            .filter(|process| process.pid == pid && process.used != UNKNOWN)
            .map(|process| process.used)
            .next()
    }

    fn device(&self, uuid: &str) -> Option<*mut c_void> {
        type ByUuid = unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_int;
        let uuid = CString::new(uuid).ok()?;
        let mut device = std::ptr::null_mut();
        // SAFETY: the documented signature; both pointers lead to locals.
        let result = unsafe {
            let by_uuid = self.library.get::<ByUuid>(b"nvmlDeviceGetHandleByUUID\0").ok()?;
            by_uuid(uuid.as_ptr(), &raw mut device)
        };
        (result == 0).then_some(device)
    }
}
