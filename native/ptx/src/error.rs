//! What can go wrong: malformed text, unsupported instructions, faults while a kernel runs.

use crate::device::MemoryRange;

/// Where an address lies beside the nearest memory.
fn position(address: u64, nearest: Option<MemoryRange>) -> String {
    let Some(MemoryRange { start, end, writable }) = nearest else { return String::new() };
    let length = end - start;
    let memory = format!("the {length} bytes at {start:#x}");
    if address < start {
        format!(", {} bytes before {memory}", start - address)
    } else if address == end {
        format!(", right behind {memory}")
    } else if address > end {
        format!(", {} bytes behind {memory}", address - end)
    } else if writable {
        format!(", {} bytes before the end of {memory}", end - address)
    } else {
        format!(", inside {memory}, which are read-only")
    }
}

/// Malformed PTX. It fails the whole module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}, found '{token}'")]
pub struct ParseError {
    /// Line, counted from 1.
    pub line: u32,
    /// Column in bytes, counted from 1.
    pub column: u32,
    /// What was expected or is wrong.
    pub message: String,
    /// The token at that place (empty at the end of the text).
    pub token: String,
}

/// A well-formed instruction that this implementation does not execute. It poisons only the
/// functions that contain it and the functions that call those.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {instruction}: {reason}")]
pub struct Unsupported {
    /// Line of the instruction in the PTX text, counted from 1.
    pub line: u32,
    /// The instruction with its modifiers, for instance `tex.2d.v4.f32.f32`.
    pub instruction: String,
    /// Why it is not executed.
    pub reason: String,
}

/// Why a kernel was stopped, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} (block {block:?}, thread {thread:?}, function {function}, PTX line {line})")]
pub struct Fault {
    /// What happened.
    pub kind: FaultKind,
    /// Block coordinates of the thread.
    pub block: [u32; 3],
    /// Thread coordinates in its block.
    pub thread: [u32; 3],
    /// Function that was executing (the innermost one).
    pub function: String,
    /// PTX line of the instruction; 0 when the fault has no instruction.
    pub line: u32,
}

/// The kinds of fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultKind {
    /// An access outside every live allocation or window, or a write to read-only memory.
    #[error(
        "illegal address {address:#x} for a {} of {size} bytes in {space} memory{}",
        if *write { "write" } else { "read" },
        position(*address, *nearest)
    )]
    IllegalAddress {
        /// The address as the program computed it.
        address: u64,
        /// Bytes accessed.
        size: u32,
        /// Whether it was a write.
        write: bool,
        /// The state space: global, shared, local or param, or generic for an address in none of them.
        space: &'static str,
        /// The nearest memory in that space, if any is known: global memory by address, others by offset.
        nearest: Option<MemoryRange>,
    },
    /// An access that is not naturally aligned.
    #[error("misaligned address {address:#x} for an access of {size} bytes")]
    MisalignedAddress {
        /// The address as the program computed it.
        address: u64,
        /// Bytes accessed.
        size: u32,
    },
    /// An instruction that cannot be executed with these operands.
    #[error("illegal instruction")]
    IllegalInstruction,
    /// `trap` or `brkpt`.
    #[error("trap")]
    Trap,
    /// A device-side assertion failed (`__assertfail`).
    #[error("{file}:{line}: {function}: assertion `{message}` failed")]
    Assert {
        /// The asserted expression.
        message: String,
        /// Source file.
        file: String,
        /// Source line.
        line: u32,
        /// Source function.
        function: String,
    },
    /// An indirect call or branch to something that is not a function or label of this module.
    #[error("invalid program counter {address:#x}")]
    InvalidPc {
        /// The value that was called.
        address: u64,
    },
    /// Calls nested too deeply or too much local memory in use.
    #[error("stack overflow")]
    StackOverflow,
    /// Every live thread of the block waits for something only its own threads could do.
    #[error("deadlock: every thread of the block waits: {waiting}")]
    Deadlock {
        /// Which warps wait where.
        waiting: String,
    },
    /// The device asked for the launch to end (`Device::cancelled`).
    #[error("launch cancelled")]
    Cancelled,
    /// The launch configuration does not fit the function (sizes, parameter bytes, shared memory).
    #[error("invalid launch configuration: {0}")]
    InvalidConfiguration(&'static str),
    /// The function contains an unsupported instruction.
    #[error("unsupported: {0}")]
    Unsupported(Unsupported),
}
