//! What the parser hands to the decoder: statements whose names are resolved as far as scopes allow.

use crate::program::Preset;

/// Index into a thread's frame of 64-bit slots.
pub type Slot = u32;

/// A symbol that has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Module-scope `.global` or `.const` variable.
    Variable(usize),
    /// Shared variable, index into the module's list.
    Shared(usize),
    /// The `.extern .shared` arrays: all start where static shared memory ends.
    DynamicShared,
    /// Byte offset in the frame's local memory (`.local`, and `.param` of and for device functions).
    Local(u32),
    /// Byte offset in the kernel's parameters.
    EntryParam(u32),
    /// Function index.
    Function(usize),
}

/// A special register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named as in PTX")]
pub enum Special {
    /// Constant while a thread runs: filled in when it starts.
    Fixed(Preset),
    /// Read anew each time.
    Clock,
    Clock64,
    ClockHigh,
    GlobalTimer,
    GlobalTimerLow,
    GlobalTimerHigh,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand<'a> {
    Register {
        slot: Slot,
        bits: u16,
    },
    Special(Special),
    Integer(u64),
    Float32(u32),
    Float64(u64),
    /// A symbol's address and a byte offset.
    Symbol(Place, i64),
    /// `[base+offset]`
    Address(Box<Operand<'a>>, i64),
    Vector(Vec<Operand<'a>>),
    /// `a|b`
    Pair(Box<Operand<'a>>, Box<Operand<'a>>),
    /// `r.b0`: a part of a register, for video instructions
    Part(Box<Operand<'a>>, &'a str),
    /// `!p`
    Not(Box<Operand<'a>>),
    /// `_`
    Sink,
    /// A name that is none of the above: a label, table or prototype.
    Name(&'a str),
    /// `(a, b)` of a call.
    Tuple(Vec<Operand<'a>>),
}

#[derive(Debug)]
pub(crate) struct Statement<'a> {
    pub line: u32,
    pub column: u32,
    /// Predicate slot and whether it is negated.
    pub guard: Option<(Slot, bool)>,
    pub opcode: &'a str,
    pub modifiers: Vec<&'a str>,
    pub operands: Vec<Operand<'a>>,
    pub scope: usize,
}

impl Statement<'_> {
    pub fn text(&self) -> String {
        let mut text = self.opcode.to_owned();
        for modifier in &self.modifiers {
            text.push('.');
            text.push_str(modifier);
        }
        text
    }
}
