//! What an instruction computes, for engines that do more than call its function. An instruction whose meaning
//! is [`Meaning::Other`] is completely described by its function.

use super::select::Ty;
use crate::ast::{Operand, Statement};

/// Operations of one or two operands of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are PTX's")]
pub enum Operation {
    Add,
    Sub,
    Mul,
    MulHigh,
    Div,
    Rem,
    Min,
    Max,
    Neg,
    Abs,
    Shl,
    Shr,
    Sqrt,
    Reciprocal,
    PopulationCount,
    LeadingZeros,
    ReverseBits,
}

impl Operation {
    /// Whether it has one operand.
    pub fn is_unary(self) -> bool {
        matches!(
            self,
            Self::Neg
                | Self::Abs
                | Self::Sqrt
                | Self::Reciprocal
                | Self::PopulationCount
                | Self::LeadingZeros
                | Self::ReverseBits
        )
    }
}

/// Bitwise operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are PTX's")]
pub enum Logic {
    And,
    Or,
    Xor,
}

/// Comparisons. The unordered ones also hold when an operand is NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are PTX's")]
pub enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    EqUnordered,
    NeUnordered,
    LtUnordered,
    LeUnordered,
    GtUnordered,
    GeUnordered,
    Ordered,
    Unordered,
}

/// What an instruction computes. Operands are those of [`super::super::program::Args`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Only its function knows.
    Other,
    /// `d = a + imm`, 64 bits.
    Offset,
    /// `d` = the low bits of `a`; 1 means a predicate.
    Move(u32),
    /// `d` = so many bits of `a` from bit `imm` on.
    Extract(u32),
    /// `d` = `a`, `b`, … of so many bits each, one above the other; the second number is their count.
    Pack(u32, u32),
    /// `d = a op b`, of so many bits; 1 means predicates.
    Logic(Logic, u32),
    /// `d = !a`, of so many bits; 1 means a predicate.
    Not(u32),
    /// `d = op(a)` or `d = a op b`; the flag is `.ftz`.
    Arithmetic(Operation, Ty, bool),
    /// `d = a × b` of twice the width.
    MulWide(Ty),
    /// `d = low(a × b) + c`, or with floats the fused sum; the flag is `.ftz`.
    MulAdd(Ty, bool),
    /// `d = a × b + c`, product and `c` of twice the width.
    MulAddWide(Ty),
    /// `d = a cmp b`; the flag is `.ftz`.
    Compare(Comparison, Ty, bool),
    /// `d = c ? a : b`, of so many bits.
    Select(u32),
    /// `d` = bitwise function `imm` of a, b and c.
    Lop3,
    /// Funnel shift; `imm`: 1 = the count is clamped, 2 = left.
    Funnel,
    /// To the first type from the second, by a rounding modifier (or none).
    Convert(Ty, Ty, Option<Mode>),
    /// A load into `d`, `b`, `c`, `e`, as many as the vector has; sign-extended to 64 bits if the flag is set.
    Load {
        /// As in [`crate::engine`].
        space: u8,
        /// Bits of an element.
        bits: u32,
        /// Elements.
        count: u32,
        /// Whether the value is sign-extended.
        signed: bool,
    },
    /// A store of `d`, `b`, `c`, `e`, as many as the vector has.
    Store {
        /// As in [`crate::engine`].
        space: u8,
        /// Bits of an element.
        bits: u32,
        /// Elements.
        count: u32,
    },
}

/// Rounding modifiers of `cvt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are PTX's")]
pub enum Mode {
    Rn,
    Rz,
    Rni,
    Rzi,
}

/// The meaning of the arithmetic that a statement stands for; of a comparison without what combines it.
pub(crate) fn of(statement: &Statement<'_>) -> Meaning {
    let meaning = by_words(statement);
    // Forms with further operands compute something else.
    let count = match meaning {
        Meaning::Compare(..) if statement.operands.len() == 4 => 4,
        Meaning::Move(_) | Meaning::Not(_) | Meaning::Convert(..) | Meaning::Pack(..) => 2,
        Meaning::Arithmetic(operation, ..) if operation.is_unary() => 2,
        Meaning::Logic(..) | Meaning::Arithmetic(..) | Meaning::MulWide(_) | Meaning::Compare(..) => 3,
        Meaning::MulAdd(..) | Meaning::MulAddWide(_) | Meaning::Select(_) | Meaning::Funnel => 4,
        Meaning::Lop3 => 5,
        _ => return Meaning::Other,
    };
    if statement.operands.len() == count { meaning } else { Meaning::Other }
}

fn by_words(statement: &Statement<'_>) -> Meaning {
    let types: Vec<Ty> = statement.modifiers.iter().filter_map(|word| Ty::named(word)).collect();
    let mut words: Vec<&str> =
        statement.modifiers.iter().filter(|word| Ty::named(word).is_none()).copied().collect();
    let Some(&ty) = types.last() else { return Meaning::Other };
    let vectors = statement.operands.iter().any(|operand| matches!(operand, Operand::Vector(_)));
    match (statement.opcode, &words[..], &types[..]) {
        ("cvt", _, &[Ty::F16x2 | Ty::Bf16x2, _]) => return Meaning::Other,
        ("mov", [], _) if vectors => return pack(statement, ty),
        ("mov", [], _) if ty.bits() <= 64 => return Meaning::Move(ty.bits()),
        ("selp", [], _) => return Meaning::Select(ty.bits()),
        ("lop3", [], _) if statement.operands.len() == 5 => return Meaning::Lop3,
        ("shf", [_, _], _) => return Meaning::Funnel,
        ("cvt", [], &[to, from]) => return Meaning::Convert(to, from, None),
        ("cvt", ["rn"], &[to, from]) => return Meaning::Convert(to, from, Some(Mode::Rn)),
        ("cvt", ["rz"], &[to, from]) => return Meaning::Convert(to, from, Some(Mode::Rz)),
        ("cvt", ["rni"], &[to, from]) => return Meaning::Convert(to, from, Some(Mode::Rni)),
        ("cvt", ["rzi"], &[to, from]) => return Meaning::Convert(to, from, Some(Mode::Rzi)),
        _ => {}
    }
    let float = matches!(ty, Ty::F32 | Ty::F64);
    let mut flush = false;
    if float {
        // `.rn` is how the host rounds. Approximate forms are left to their functions.
        words.retain(|&word| {
            flush |= word == "ftz";
            !matches!(word, "rn" | "ftz")
        });
        flush &= ty == Ty::F32;
    }
    if matches!(statement.opcode, "setp" | "set") {
        words.retain(|word| !matches!(*word, "and" | "or" | "xor"));
        return match words[..] {
            [name] => comparison(name, ty, flush),
            _ => Meaning::Other,
        };
    }
    arithmetic(statement.opcode, &words, ty, flush)
}

fn pack(statement: &Statement<'_>, ty: Ty) -> Meaning {
    match &statement.operands[..] {
        [_, Operand::Vector(parts)] if matches!(parts.len(), 2 | 4) && ty.bits() <= 64 => {
            Meaning::Pack(ty.bits() / parts.len() as u32, parts.len() as u32)
        }
        _ => Meaning::Other,
    }
}

fn comparison(name: &str, ty: Ty, flush: bool) -> Meaning {
    use Comparison::{
        Eq, EqUnordered, Ge, GeUnordered, Gt, GtUnordered, Le, LeUnordered, Lt, LtUnordered, Ne, NeUnordered,
        Ordered, Unordered,
    };
    let float = matches!(ty, Ty::F32 | Ty::F64);
    if !float && !matches!(ty.unsigned(), Ty::U16 | Ty::U32 | Ty::U64) || ty.bits() > 64 {
        return Meaning::Other;
    }
    let (comparison, ty) = match name {
        "eq" => (Eq, ty),
        "ne" => (Ne, ty),
        "lt" => (Lt, ty),
        "le" => (Le, ty),
        "gt" => (Gt, ty),
        "ge" => (Ge, ty),
        "lo" => (Lt, ty.unsigned()),
        "ls" => (Le, ty.unsigned()),
        "hi" => (Gt, ty.unsigned()),
        "hs" => (Ge, ty.unsigned()),
        "equ" => (EqUnordered, ty),
        "neu" => (NeUnordered, ty),
        "ltu" => (LtUnordered, ty),
        "leu" => (LeUnordered, ty),
        "gtu" => (GtUnordered, ty),
        "geu" => (GeUnordered, ty),
        "num" => (Ordered, ty),
        "nan" => (Unordered, ty),
        _ => return Meaning::Other,
    };
    Meaning::Compare(comparison, ty, flush)
}

fn arithmetic(opcode: &str, words: &[&str], ty: Ty, flush: bool) -> Meaning {
    use Operation::{
        Abs, Add, Div, LeadingZeros, Max, Min, Mul, MulHigh, Neg, PopulationCount, Reciprocal, Rem,
        ReverseBits, Shl, Shr, Sqrt, Sub,
    };
    let float = matches!(ty, Ty::F32 | Ty::F64);
    let number = float || matches!(ty, Ty::U16 | Ty::S16 | Ty::U32 | Ty::S32 | Ty::U64 | Ty::S64);
    let bits = ty.bits();
    let whole = |operation| Meaning::Arithmetic(operation, ty, flush);
    match (opcode, words) {
        ("and", []) if bits <= 64 && !float => Meaning::Logic(Logic::And, bits),
        ("or", []) if bits <= 64 && !float => Meaning::Logic(Logic::Or, bits),
        ("xor", []) if bits <= 64 && !float => Meaning::Logic(Logic::Xor, bits),
        ("not", []) if bits <= 64 && !float => Meaning::Not(bits),
        ("shl", []) if bits <= 64 && !float => whole(Shl),
        ("shr", []) if bits <= 64 && !float => whole(Shr),
        ("popc", []) => whole(PopulationCount),
        ("clz", []) => whole(LeadingZeros),
        ("brev", []) => whole(ReverseBits),
        _ if !number => Meaning::Other,
        ("add", []) => whole(Add),
        ("sub", []) => whole(Sub),
        ("div", []) => whole(Div),
        ("rem", []) if !float => whole(Rem),
        ("min", []) => whole(Min),
        ("max", []) => whole(Max),
        ("neg", []) => whole(Neg),
        ("abs", []) => whole(Abs),
        ("sqrt", []) if float => whole(Sqrt),
        ("rcp", []) if float => whole(Reciprocal),
        ("mul", []) if float => whole(Mul),
        ("fma" | "mad", []) if float => Meaning::MulAdd(ty, flush),
        ("mul", ["lo"]) => whole(Mul),
        ("mul", ["hi"]) => whole(MulHigh),
        ("mul", ["wide"]) => Meaning::MulWide(ty),
        ("mad", ["lo"]) => Meaning::MulAdd(ty, flush),
        ("mad", ["wide"]) => Meaning::MulAddWide(ty),
        _ => Meaning::Other,
    }
}
