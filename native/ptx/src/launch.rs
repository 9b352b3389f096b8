//! Running a kernel.

use crate::device::Device;
use crate::error::Fault;
use crate::module::{Function, Module};

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
/// # Errors
/// The first fault of any thread; the other threads are stopped.
pub fn launch(
    _module: &Module,
    _function: &Function,
    _config: &LaunchConfig<'_>,
    _device: &dyn Device,
) -> Result<LaunchStats, Fault> {
    todo!()
}
