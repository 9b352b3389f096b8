//! What the interpreter needs from the GPU that it runs on.

/// A live piece of global memory: every address in `start..end` is a valid host pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryRange {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// Whether kernels may write to it.
    pub writable: bool,
}

/// The GPU under a launch. Implemented by the simulated GPU; called from several threads at once.
///
/// # Safety
///
/// The interpreter reads and writes host memory at every address inside the ranges that
/// [`Device::range`] returns. An implementer promises that such a range is mapped (and writable when
/// it says so), starts at a multiple of 16, and *stays mapped* until every launch that was running
/// when the range was withdrawn has returned. (Withdraw a range with a new [`Device::generation`];
/// kernels notice within a time slice.) Host code must not hold Rust references into such memory
/// while a launch runs.
#[allow(unsafe_code, reason = "the contract under `Safety` is what makes global memory accesses sound")]
pub unsafe trait Device: Sync {
    /// The live allocation that contains `address`, as large as possible. Called on a miss in a
    /// small cache of each worker thread, so a binary search under a read lock is fast enough.
    fn range(&self, address: u64) -> Option<MemoryRange>;
    /// The live allocation nearest to an address that is in none, for the report of a fault.
    fn nearest(&self, address: u64) -> Option<MemoryRange> {
        let _ = address;
        None
    }
    /// A number that changes whenever a range was withdrawn or lost write permission.
    fn generation(&self) -> u64;
    /// Address of variable `index` of [`crate::Module::variables`] in this loaded module. Asked once per launch
    /// and used variable.
    fn variable_address(&self, index: usize) -> u64;
    /// Formatted text of one device-side `printf` call.
    fn printf(&self, text: &[u8]);
    /// Whether the launch shall end early (asked every few thousand instructions).
    fn cancelled(&self) -> bool;
    /// Device-side `malloc`; 0 when there is no memory. The memory is 16-byte aligned.
    fn malloc(&self, size: u64) -> u64;
    /// Device-side `free`; false when `address` did not come from `malloc`. 0 is not passed on.
    fn free(&self, address: u64) -> bool;
    /// Calls `spawn`, which starts threads: the place to give them a signal mask.
    fn while_spawning(&self, spawn: &mut dyn FnMut()) {
        spawn();
    }
}
