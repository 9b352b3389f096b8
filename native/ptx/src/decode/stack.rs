//! Memory of a size that is known at run time, on the thread's stack. A function that uses it has an arena of fixed
//! size in its frame's local memory, and a stack pointer in a slot.

use super::select::Mods;
use super::{Decode, Decoder, malformed, offset_alu};
use crate::ast::{Operand, Statement};
use crate::error::FaultKind;
use crate::memory::{Memory, Trouble};
use crate::program::{Args, Op, Preset};

/// Bytes of an arena.
pub(crate) const ARENA: u32 = 32 << 10;

/// `d` = the stack pointer (slot a), aligned; it moves up by `b`, to slot c at most. imm: alignment.
fn allocate(s: &mut [u64], x: &Args, _: &mut Memory<'_, '_>) -> Result<(), Trouble> {
    let align = x.imm as u64;
    let start = s[x.a as usize].checked_next_multiple_of(align);
    let end = start.and_then(|start| start.checked_add(s[x.b as usize]));
    match (start, end) {
        (Some(start), Some(end)) if end <= s[x.c as usize] => {
            s[x.a as usize] = end;
            s[x.d as usize] = start;
            Ok(())
        }
        _ => Err(Box::new(FaultKind::StackOverflow)),
    }
}

impl Decoder {
    /// Whether a function needs an arena.
    pub fn uses_stack(statements: &[Statement<'_>]) -> bool {
        statements.iter().any(|statement| matches!(statement.opcode, "alloca" | "stacksave" | "stackrestore"))
    }

    /// Begins a function whose arena lies at `start` of the frame's local memory.
    pub fn open_stack(&mut self, start: u32) {
        let (pointer, base) = (self.temporary(), self.frame.preset(Preset::LocalFrame));
        self.stack = Some((pointer, start + ARENA));
        self.alu(offset_alu(), Args { d: pointer, a: base, imm: i64::from(start), ..Args::default() });
    }

    pub(super) fn stack(
        &mut self,
        opcode: &str,
        operands: &[Operand<'_>],
        mods: &mut Mods<'_>,
    ) -> Decode<bool> {
        if !matches!(opcode, "alloca" | "stacksave" | "stackrestore") {
            return Ok(false);
        }
        let Some((pointer, end)) = self.stack else { return malformed("no stack") };
        mods.ty()?;
        match (opcode, operands) {
            ("alloca", [to, size, align @ ..]) => {
                let align = match align {
                    [] => 8,
                    [Operand::Integer(align)] if align.is_power_of_two() && *align <= 1 << 23 => {
                        (*align).max(8)
                    }
                    _ => return malformed("alignment is not a power of two"),
                };
                let base = self.frame.preset(Preset::LocalFrame);
                let (b, c, d) = (self.source(size)?, self.scratch(0), self.destination(to)?);
                self.alu(offset_alu(), Args { d: c, a: base, imm: i64::from(end), ..Args::default() });
                self.push(
                    Op::Memory(allocate),
                    Args { d, a: pointer, b, c, imm: align as i64, ..Args::default() },
                );
            }
            ("stacksave", [to]) => {
                let d = self.destination(to)?;
                self.alu(offset_alu(), Args { d, a: pointer, ..Args::default() });
            }
            ("stackrestore", [from]) => {
                let a = self.source(from)?;
                self.alu(offset_alu(), Args { d: pointer, a, ..Args::default() });
            }
            _ => return malformed("wrong number of operands"),
        }
        Ok(true)
    }
}
