//! Barriers in shared memory. A barrier is one 64-bit word, whose form is ours: pending arrivals in the lowest 20
//! bits, expected ones in the next 20, and the number of the phase above.

use super::memory::shared_or_generic;
use super::select::Mods;
use super::{Decode, Decoder, malformed, unsupported};
use crate::ast::Operand;
use crate::memory::{Memory, SHARED, SHARED_WINDOW, Trouble};
use crate::program::{Args, MemoryOp, Op};

const COUNT: u64 = (1 << 20) - 1;
const PHASE: u64 = 1 << 40;

fn pending(word: u64) -> u64 {
    word & COUNT
}

fn expected(word: u64) -> u64 {
    word >> 20 & COUNT
}

/// After so many arrivals; the last one begins the next phase.
fn arrived(word: u64, count: u64) -> u64 {
    if pending(word) > count {
        return word - count;
    }
    (word & !COUNT | expected(word)).wrapping_add(PHASE)
}

fn address(s: &[u64], x: &Args) -> u64 {
    s[x.a as usize].wrapping_add(x.imm as u64)
}

fn initialize(s: &mut [u64], x: &Args, memory: &mut Memory<'_, '_>) -> Result<(), Trouble> {
    let count = s[x.b as usize] & COUNT;
    memory.update_barrier(address(s, x), &mut |_| Some(count << 20 | count)).map(drop)
}

fn invalidate(s: &mut [u64], x: &Args, memory: &mut Memory<'_, '_>) -> Result<(), Trouble> {
    memory.update_barrier(address(s, x), &mut |_| Some(crate::exec::FRESH_WORD)).map(drop)
}

/// Changes a barrier; returns its state before. What came before the end of a phase is ordered before what comes after.
fn change(memory: &mut Memory<'_, '_>, address: u64, to: impl Fn(u64) -> u64) -> Result<u64, Trouble> {
    let before = memory.update_barrier(address, &mut |word| Some(to(word)))?;
    if let Some(watch) = &mut memory.watch
        && (before ^ to(before)) >= PHASE
    {
        watch.advance();
    }
    Ok(before)
}

/// `d` = the state before.
fn arrive(s: &mut [u64], x: &Args, memory: &mut Memory<'_, '_>) -> Result<(), Trouble> {
    let count = s[x.b as usize] & u64::from(u32::MAX);
    s[x.d as usize] = change(memory, address(s, x), |word| arrived(word, count))?;
    Ok(())
}

/// Arrives, and is not expected in later phases.
fn drop_out(s: &mut [u64], x: &Args, memory: &mut Memory<'_, '_>) -> Result<(), Trouble> {
    let count = s[x.b as usize] & u64::from(u32::MAX);
    s[x.d as usize] = change(memory, address(s, x), |word| {
        let left = expected(word).saturating_sub(count);
        arrived(word & !(COUNT << 20) | left << 20, count)
    })?;
    Ok(())
}

/// Is the phase of state `b` over?
fn test(s: &mut [u64], x: &Args, memory: &mut Memory<'_, '_>) -> Result<(), Trouble> {
    let word = memory.update_barrier(address(s, x), &mut |_| None)?;
    let over = word >> 40 != s[x.b as usize] >> 40;
    memory.contended = !over;
    s[x.d as usize] = u64::from(over);
    Ok(())
}

/// Is the phase of parity `b` over?
fn test_parity(s: &mut [u64], x: &Args, memory: &mut Memory<'_, '_>) -> Result<(), Trouble> {
    let word = memory.update_barrier(address(s, x), &mut |_| None)?;
    let over = (word >> 40 ^ s[x.b as usize]) & 1 != 0;
    memory.contended = !over;
    s[x.d as usize] = u64::from(over);
    Ok(())
}

impl Decoder {
    /// Slot and offset of a generic address.
    pub(super) fn barrier_address(&mut self, operand: &Operand<'_>, mods: &mut Mods<'_>) -> Decode<Args> {
        let (a, imm, place) = self.address(operand)?;
        let space = shared_or_generic(self.space(mods, place)?)?;
        let window = if space == SHARED { SHARED_WINDOW } else { 0 };
        Ok(Args { a, imm: imm.wrapping_add(window as i64), ..Args::default() })
    }

    fn arrival(&mut self, operands: &[Operand<'_>], mods: &mut Mods<'_>, run: MemoryOp) -> Decode {
        let counted = mods.take("noComplete");
        if mods.contains("expect_tx") {
            return unsupported("transactions exist since compute capability 9.0");
        }
        Self::ordering(mods);
        let (state, address, count) = match operands {
            [address @ Operand::Address(..)] => (None, address, None),
            [address @ Operand::Address(..), count] => (None, address, Some(count)),
            [state, address] if !counted => (Some(state), address, None),
            [state, address, count] => (Some(state), address, Some(count)),
            _ => return malformed("wrong number of operands"),
        };
        let args = self.barrier_address(address, mods)?;
        let b = match count {
            Some(count) => self.source(count)?,
            None => self.constant(1),
        };
        let d = state.map_or(Ok(0), |state| self.destination(state))?;
        self.push(Op::Atomic(run), Args { d, b, ..args });
        Ok(())
    }

    pub(super) fn memory_barrier(&mut self, operands: &[Operand<'_>], mods: &mut Mods<'_>) -> Decode {
        let names = [
            "init",
            "inval",
            "arrive",
            "arrive_drop",
            "test_wait",
            "try_wait",
            "pending_count",
            "expect_tx",
            "complete_tx",
        ];
        match mods.take_any(&names) {
            Some("init") => {
                let [place, count] = operands else { return malformed("expected two operands") };
                let args = self.barrier_address(place, mods)?;
                let b = self.source(count)?;
                self.push(Op::Atomic(initialize), Args { b, ..args });
            }
            Some("inval") => {
                let [place] = operands else { return malformed("expected one operand") };
                let args = self.barrier_address(place, mods)?;
                self.push(Op::Atomic(invalidate), args);
            }
            Some("arrive") => self.arrival(operands, mods, arrive)?,
            Some("arrive_drop") => self.arrival(operands, mods, drop_out)?,
            Some("test_wait" | "try_wait") => {
                let parity = mods.take("parity");
                Self::ordering(mods);
                // The third operand of `try_wait` is a hint of how long to wait.
                let [done, place, phase, ..] = operands else { return malformed("expected three operands") };
                let args = self.barrier_address(place, mods)?;
                let (b, d) = (self.source(phase)?, self.destination(done)?);
                self.push(Op::Poll(if parity { test_parity } else { test }), Args { b, d, ..args });
            }
            Some("pending_count") => {
                let args = self.plain(operands, 1)?;
                self.alu(alu!(|a: u64| -> u32 { pending(a) as u32 }), args);
            }
            Some(_) => return unsupported("transactions exist since compute capability 9.0"),
            None => return malformed("mbarrier without an operation"),
        }
        Ok(())
    }

    /// `cp.async.mbarrier.arrive`: copies are complete at once, so what remains is the arrival itself.
    /// Without `.noinc` an arrival is added to those pending and made: nothing changes.
    pub(super) fn copies_arrive(&mut self, operands: &[Operand<'_>], mods: &mut Mods<'_>) -> Decode {
        mods.take("arrive");
        let counted = mods.take("noinc");
        let [place] = operands else { return malformed("expected one operand") };
        let args = self.barrier_address(place, mods)?;
        let b = self.constant(u64::from(counted));
        let run: MemoryOp = if counted { arrive } else { touch };
        self.push(Op::Atomic(run), Args { b, ..args });
        Ok(())
    }
}

fn touch(s: &mut [u64], x: &Args, memory: &mut Memory<'_, '_>) -> Result<(), Trouble> {
    memory.update_barrier(address(s, x), &mut |_| None).map(drop)
}
