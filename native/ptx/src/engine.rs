//! For engines other than the interpreter: decoded code, and how compiled code takes part in a launch.
//!
//! The interpreter owns threads, blocks and all waiting. An [`Engine`] has compiled [`Routine`]s, which run one thread up
//! to an instruction that they leave to the interpreter, and at best a [`GroupRoutine`], which runs several neighbouring
//! threads at once for as long as they go the same way. So an engine need not know every instruction: what it leaves
//! alone is interpreted.

pub use crate::ast::{Place, Slot, Special};
pub use crate::decode::meaning::{Comparison, Logic, Meaning, Mode, Operation};
pub use crate::decode::select::Ty;
pub use crate::exec::group::Lanes;
pub use crate::memory::{
    GENERIC, GLOBAL, Global, LOCAL, LOCAL_WINDOW, Memory, PARAM, PARAM_WINDOW, SHARED, SHARED_WINDOW, Site,
    Spot, Trouble,
};
pub use crate::program::{
    ALWAYS, Alu, Args, BarrierKind, Builtin, CallSite, Code, Collective, Inst, MemoryOp, Op, Piece, Preset,
    Target,
};

use crate::device::Device;
use crate::error::Fault;
use crate::launch::{LaunchConfig, LaunchStats};
use crate::module::{Function, Module};

/// Code that was compiled for one kernel and the functions it calls.
pub trait Engine: Sync {
    /// The compiled code of a function of the module; of the kernel itself for `None`.
    fn routine(&self, function: Option<usize>) -> Option<&dyn Routine>;
    /// Code that runs neighbouring threads of the kernel together in a block of this shape.
    fn group(&self, block: [u32; 3]) -> Option<&dyn GroupRoutine>;
    /// Entries of [`Global::sites`] that the code uses.
    fn sites(&self) -> usize;
}

/// Why compiled code returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// At an instruction that the interpreter executes, for all threads concerned.
    Instruction,
    /// The budget is spent.
    Slice,
    /// Threads of a group must go on one by one.
    Split,
}

/// A function compiled for one thread.
pub trait Routine: Sync {
    /// Whether the code can begin at this instruction.
    fn enters(&self, pc: usize) -> bool;
    /// Runs a thread from `pc`, an entry. `pc` is then where it stopped, and at a fault the instruction's place.
    /// `budget` is counted down by instructions.
    ///
    /// # Errors
    /// A fault.
    fn run(
        &self,
        pc: &mut usize,
        slots: &mut [u64],
        memory: &mut Memory<'_, '_>,
        budget: &mut i64,
    ) -> Result<Stop, Trouble>;
}

/// A kernel compiled for neighbouring threads of a warp that go the same way. Between runs their registers are *packed*:
/// a layout that is the routine's own.
pub trait GroupRoutine: Sync {
    /// Threads in a group; divides 32.
    fn lanes(&self) -> usize;
    /// Words of packed registers.
    fn words(&self) -> usize;
    /// Whether the code can begin at this instruction.
    fn enters(&self, pc: usize) -> bool;
    /// Packs registers of threads that stand at `pc`; false when they do not fit the layout.
    fn pack(&self, pc: usize, lanes: &mut Lanes<'_>, packed: &mut [u64]) -> bool;
    /// The reverse.
    fn unpack(&self, pc: usize, lanes: &mut Lanes<'_>, packed: &[u64]);
    /// Gives the threads the operands of the exchange at `pc`, if they all take part in it together: `members` are their
    /// bits in the member mask. False when they must go on one by one.
    fn show_operands(&self, pc: usize, members: u32, lanes: &mut Lanes<'_>, packed: &[u64]) -> bool;
    /// Takes the results of the exchange at `pc` from the threads.
    fn take_results(&self, pc: usize, lanes: &mut Lanes<'_>, packed: &mut [u64]);
    /// The value of a slot that is the same in all threads of the group, if it is known to be.
    fn uniform(&self, slot: Slot, lanes: &mut Lanes<'_>, packed: &[u64]) -> Option<u64>;
    /// Runs from `pc`, an entry.
    ///
    /// # Errors
    /// A fault, and the lane that had it.
    fn run(
        &self,
        pc: &mut usize,
        lanes: &mut Lanes<'_>,
        packed: &mut [u64],
        memory: &mut GroupMemory<'_, '_>,
        budget: &mut i64,
    ) -> Result<Stop, LaneTrouble>;
}

/// A lane and its fault; boxed to keep the successful path small.
pub type LaneTrouble = Box<(usize, Trouble)>;

/// The memory that all threads of a group share.
pub struct GroupMemory<'a, 'd> {
    /// Shared memory of the block.
    pub shared: &'a mut [u8],
    /// Parameters of the kernel.
    pub params: &'a [u8],
    /// Global memory.
    pub global: &'a mut Global<'d>,
}

/// Decoded code of a function.
pub fn code(function: &Function) -> &Code {
    &function.code
}

/// All functions of a module, in the order of their numbers.
pub fn functions(module: &Module) -> &[Function] {
    &module.functions
}

/// As [`crate::launch`], with an engine for this kernel.
///
/// # Errors
/// As [`crate::launch`].
pub fn launch(
    module: &Module,
    function: &Function,
    config: &LaunchConfig<'_>,
    device: &dyn Device,
    engine: &dyn Engine,
) -> Result<LaunchStats, Fault> {
    crate::launch::run(module, function, config, device, Some(engine), None)
}
