//! Decoded code: what the interpreter's inner loop walks over.

use crate::ast::Slot;
use crate::matrix::Product;
use crate::memory::{Memory, Trouble};

/// A pure operation on a thread's slots.
pub(crate) type Alu = fn(&mut [u64], &Args);
/// An operation on memory.
pub(crate) type MemoryOp = fn(&mut [u64], &Args, &mut Memory<'_, '_>) -> Result<(), Trouble>;

/// Operand slots of an instruction. Unused ones are 0, the slot nobody reads.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Args {
    pub d: Slot,
    pub a: Slot,
    pub b: Slot,
    pub c: Slot,
    pub e: Slot,
    pub f: Slot,
    pub imm: i64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Op {
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BarrierKind {
    Sync,
    Arrive,
    Popc,
    And,
    Or,
}

/// Operations among the threads of a warp. `f` is the slot of the member mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collective {
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

/// Values that a slot holds from the start of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Preset {
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

#[derive(Debug, Clone, Copy)]
pub(crate) struct Inst {
    pub op: Op,
    /// `slot << 1 | negated`, or [`ALWAYS`].
    pub guard: u32,
    pub line: u32,
    pub args: Args,
}

pub(crate) const ALWAYS: u32 = u32::MAX;

/// A piece of a frame's local memory that holds a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub offset: u32,
    pub size: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Function(usize),
    /// Slot that holds the function's address.
    Indirect(Slot),
    Builtin(Builtin),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builtin {
    Printf,
    Malloc,
    Free,
    AssertFail,
}

#[derive(Debug, Clone)]
pub(crate) struct CallSite {
    pub target: Target,
    pub arguments: Vec<Piece>,
    pub results: Vec<Piece>,
}

/// A matrix product and the registers that hold its operands, one matrix in those of all lanes.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    pub product: Product,
    pub d: Vec<Slot>,
    pub a: Vec<Slot>,
    pub b: Vec<Slot>,
    pub c: Vec<Slot>,
}

/// The code of one function.
#[derive(Debug, Default)]
pub(crate) struct Code {
    pub insts: Vec<Inst>,
    /// Slots per frame.
    pub frame: u32,
    pub presets: Vec<(Slot, Preset)>,
    pub tables: Vec<Vec<usize>>,
    pub calls: Vec<CallSite>,
    pub matrices: Vec<Matrix>,
    /// Formal parameters and results of a device function, in its local memory.
    pub parameters: Vec<Piece>,
    pub results: Vec<Piece>,
    pub local_bytes: u32,
    /// Offset in static shared memory of each shared variable that the kernel can reach.
    pub shared: Vec<(usize, u32)>,
    /// Variables that the kernel can reach.
    pub variables: Vec<usize>,
    /// Symbols whose address the code takes or uses.
    pub places: Vec<crate::ast::Place>,
    /// Has `.extern` linkage without a body.
    pub declared_only: bool,
}
