//! What only the simulated GPU offers.

use std::ffi::c_int;

type MemoryInfo = unsafe extern "C" fn(c_int, *mut u64, *mut u64) -> c_int;
type ProcessMemory = unsafe extern "C" fn(c_int, *mut u64) -> c_int;

/// The extension of the simulated GPU's library.
#[derive(Debug, Clone, Copy)]
pub struct Simulated {
    memory_info: MemoryInfo,
    process_memory: ProcessMemory,
}

impl Simulated {
    /// The extension, if `library` is the simulated GPU's.
    pub(crate) fn find(library: &libloading::Library) -> Option<Simulated> {
        // SAFETY: the symbol is ours, and this is its signature (ARCHITECTURE 4.9); the pointer is used only
        // while the library is loaded, which it stays for the life of the process.
        let memory_info = unsafe { library.get::<MemoryInfo>(b"farpoolSimgpuMemoryInfo\0") }.ok()?;
        // SAFETY: as above.
        let process_memory = unsafe { library.get::<ProcessMemory>(b"farpoolSimgpuProcessMemory\0") }.ok()?;
        Some(Simulated { memory_info: *memory_info, process_memory: *process_memory })
    }

    /// Bytes that all processes of this machine use on device `ordinal`.
    pub fn memory_used(&self, ordinal: i32) -> Option<u64> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: both places are valid.
        let result = unsafe { (self.memory_info)(ordinal, &raw mut free, &raw mut total) };
        (result == 0).then(|| total.saturating_sub(free))
    }

    /// Bytes that this process uses on device `ordinal`.
    pub fn memory_used_by_this_process(&self, ordinal: i32) -> Option<u64> {
        let mut used = 0;
        // SAFETY: the place is valid.
        let result = unsafe { (self.process_memory)(ordinal, &raw mut used) };
        (result == 0).then_some(used)
    }
}
