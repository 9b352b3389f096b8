//! Decoded code: what the interpreter's inner loop walks over.

use crate::ast::Slot;
use crate::decode::meaning::Meaning;
use crate::matrix::Product;
use crate::memory::{Memory, Trouble};

/// A pure operation on a thread's slots. It reads at most the slots a, b, c, e and f of its [`Args`], and writes at most
/// d and f: engines that keep values elsewhere rely on it.
pub type Alu = fn(&mut [u64], &Args);
/// An operation on memory. It reads and writes at most the slots that its [`Args`] name.
pub type MemoryOp = fn(&mut [u64], &Args, &mut Memory<'_, '_>) -> Result<(), Trouble>;

/// Operand slots of an instruction. Unused ones are 0, the slot nobody reads.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs, reason = "PTX's names of operands")]
pub struct Args {
    pub d: Slot,
    pub a: Slot,
    pub b: Slot,
    pub c: Slot,
    pub e: Slot,
    pub f: Slot,
    pub imm: i64,
}

/// What happens at an instruction.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "named as in PTX")]
#[non_exhaustive]
pub enum Op {
    Alu(Alu),
    Memory(MemoryOp),
    /// A load that others may be waited for with (volatile, relaxed, acquire): shortens the time slice.
    WaitingLoad(MemoryOp),
    /// An atomic; a failed compare-and-swap shortens the time slice.
    Atomic(MemoryOp),
    /// A look at a barrier in shared memory; a failed one (`Memory::contended`) ends the time slice.
    Poll(MemoryOp),
    /// To `imm`.
    Branch,
    /// To entry `a` of table `imm`.
    BranchIndexed,
    /// Call site `imm`.
    Call,
    Return,
    Exit,
    Trap,
    Barrier(BarrierKind),
    Collective(Collective),
    ActiveMask,
    Clock(crate::ast::Special),
    Yield,
    Fence,
}

/// What a barrier instruction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in PTX")]
pub enum BarrierKind {
    Sync,
    Arrive,
    Popc,
    And,
    Or,
}

/// Operations among the threads of a warp. `f` is the slot of the member mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in PTX")]
#[non_exhaustive]
pub enum Collective {
    /// `bar.warp.sync`
    Barrier,
    ShuffleUp,
    ShuffleDown,
    ShuffleButterfly,
    ShuffleIndex,
    VoteAll,
    VoteAny,
    VoteUniform,
    VoteBallot,
    MatchAny32,
    MatchAny64,
    MatchAll32,
    MatchAll64,
    ReduceAdd,
    ReduceMinSigned,
    ReduceMaxSigned,
    ReduceMin,
    ReduceMax,
    ReduceAnd,
    ReduceOr,
    ReduceXor,
    /// Product `imm` of [`Code::matrices`], of the whole warp.
    Multiply,
}

/// Shared memory of each block that the system reserves, and that is not counted as the kernel's. It lies in front of the
/// kernel's own, and is there for the kernels that ask where it is: of those that do not, no access goes there.
pub const RESERVED_SHARED_BYTES: u32 = 1024;
/// Offsets in it: `%reserved_smem_offset_0` and `%reserved_smem_offset_1`. Cooperative groups use 288 bytes from the
/// second on.
pub const RESERVED_SHARED_PARTS: [u32; 2] = [0, 512];

/// Values that a slot holds from the start of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named as PTX's special registers")]
#[non_exhaustive]
pub enum Preset {
    Constant(u64),
    ThreadId(u8),
    BlockSize(u8),
    BlockId(u8),
    GridSize(u8),
    Lane,
    Warp,
    WarpCount,
    LaneMaskEq,
    LaneMaskLt,
    LaneMaskLe,
    LaneMaskGt,
    LaneMaskGe,
    Processor,
    ProcessorCount,
    GridId,
    DynamicSharedBytes,
    TotalSharedBytes,
    /// With what the system reserves.
    AggregateSharedBytes,
    /// Such an offset in the shared memory that the system reserves: see [`RESERVED_SHARED_BYTES`].
    ReservedShared(u32),
    /// Address of the grid barrier workspace, high and low half (envreg1, envreg2).
    WorkspaceHigh,
    WorkspaceLow,
    Variable(usize),
    Shared(usize),
    DynamicShared,
    /// Start of the frame's local memory.
    LocalFrame,
    Function(usize),
}

/// An instruction.
#[derive(Debug, Clone, Copy)]
pub struct Inst {
    /// What to do.
    pub op: Op,
    /// `slot << 1 | negated`, or [`ALWAYS`].
    pub guard: u32,
    /// Line of the PTX text.
    pub line: u32,
    /// Its operands.
    pub args: Args,
    /// For engines other than the interpreter.
    pub meaning: Meaning,
}

/// The guard of an instruction without one.
pub const ALWAYS: u32 = u32::MAX;

/// A piece of a frame's local memory that holds a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words say it")]
pub struct Piece {
    pub offset: u32,
    pub size: u32,
}

/// Whom a call calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Function of the module.
    Function(usize),
    /// Slot that holds the function's address.
    Indirect(Slot),
    /// Function of the device runtime.
    Builtin(Builtin),
}

/// Functions of the device runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in C")]
pub enum Builtin {
    Printf,
    Malloc,
    Free,
    AssertFail,
}

/// A call.
#[derive(Debug, Clone)]
pub struct CallSite {
    /// Whom it calls.
    pub target: Target,
    /// Where its arguments lie.
    pub arguments: Vec<Piece>,
    /// Where its results go.
    pub results: Vec<Piece>,
}

/// A matrix product and the registers that hold its operands, one matrix in those of all lanes.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "named as in D = A × B + C")]
pub struct Matrix {
    pub(crate) product: Product,
    pub d: Vec<Slot>,
    pub a: Vec<Slot>,
    pub b: Vec<Slot>,
    pub c: Vec<Slot>,
}

/// The code of one function.
#[derive(Debug, Default)]
pub struct Code {
    /// Instructions; the last one ends the function.
    pub insts: Vec<Inst>,
    /// Slots per frame.
    pub frame: u32,
    /// Declared bits of each slot; 64 where nothing was declared.
    pub bits: Vec<u16>,
    /// Slots that hold a value from the start.
    pub presets: Vec<(Slot, Preset)>,
    /// Targets of indexed branches.
    pub tables: Vec<Vec<usize>>,
    /// Calls.
    pub calls: Vec<CallSite>,
    /// Matrix products.
    pub matrices: Vec<Matrix>,
    /// Formal parameters and results of a device function, in its local memory.
    pub parameters: Vec<Piece>,
    /// See `parameters`.
    pub results: Vec<Piece>,
    /// Bytes of local memory per thread.
    pub local_bytes: u32,
    /// Offset in static shared memory of each shared variable that the kernel can reach.
    pub shared: Vec<(usize, u32)>,
    /// Variables that the kernel can reach.
    pub variables: Vec<usize>,
    /// Symbols whose address the code takes or uses.
    pub places: Vec<crate::ast::Place>,
    /// Stores and atomics that another thread may be waiting for, in ascending order.
    pub handovers: Vec<usize>,
    /// Has `.extern` linkage without a body.
    pub declared_only: bool,
}
