//! One thread: registers, call stack and the inner loop.

use std::time::UNIX_EPOCH;

use super::{FRESH_BYTE, FRESH_WORD, Identity, Kernel, builtin};
use crate::ast::Special;
use crate::engine::Stop;
use crate::error::FaultKind;
use crate::memory::{Global, Memory, Trouble};
use crate::module::{FUNCTION_WINDOW, Function};
use crate::program::{ALWAYS, Code, Inst, MemoryOp, Op, Target};
use crate::races::Watch;

/// Instructions that a thread runs before the next one's turn.
const SLICE: i64 = 4096;
/// What a load that others may be waited for with costs of the slice.
const WAITING_COST: i64 = 64;
const MAX_DEPTH: usize = 1024;
const MAX_LOCAL: usize = 512 << 10;
const MAX_SLOTS: usize = 1 << 22;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Ready,
    /// At the collective operation at `pc`.
    AtCollective,
    /// At `activemask`, for so many rounds.
    AtActiveMask(u32),
    /// Just reached the barrier instruction at `pc`; the block has not looked at it yet.
    Arriving,
    AtBarrier(u8),
    /// Runs with its group, which knows its state and registers.
    Grouped,
    Exited,
}

struct Caller {
    function: usize,
    pc: usize,
    base: usize,
    local_base: usize,
    site: usize,
}

/// Index that stands for the kernel itself.
const KERNEL: usize = usize::MAX;

pub(crate) struct Thread {
    pub who: Identity,
    pub state: State,
    pub pc: usize,
    /// Its latest look at a barrier in shared memory was in vain, and it has done nothing since that others may have
    /// waited for; address and line of that look, and passes of the block since the first such one.
    pub polling: bool,
    pub polled: (u64, u32),
    pub idle: u32,
    slots: Vec<u64>,
    local: Vec<u8>,
    function: usize,
    base: usize,
    local_base: usize,
    callers: Vec<Caller>,
}

impl Thread {
    /// A thread of no launch yet.
    pub fn new() -> Self {
        Self {
            who: Identity::default(),
            state: State::Exited,
            pc: 0,
            polling: false,
            polled: (0, 0),
            idle: 0,
            slots: Vec::new(),
            local: Vec::new(),
            function: KERNEL,
            base: 0,
            local_base: 0,
            callers: Vec::new(),
        }
    }

    /// Makes it a thread of a launch. Registers may hold what another launch left there.
    pub fn prepare(&mut self, kernel: &Kernel<'_>, who: Identity) {
        let code = &kernel.function.code;
        self.who = who;
        self.slots.resize(code.frame as usize, FRESH_WORD);
        self.local.clear();
        self.local.resize(code.local_bytes as usize, FRESH_BYTE);
        for &(slot, preset) in &code.presets {
            self.slots[slot as usize] = kernel.preset(preset, &self.who, 0);
        }
    }

    /// Bytes that it keeps.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.slots.capacity() * size_of::<u64>() + self.local.capacity()
    }

    /// Makes it the same thread of another block. Registers keep what they held.
    pub fn start(&mut self, kernel: &Kernel<'_>, block: [u32; 3]) {
        self.who.block = block;
        self.state = State::Ready;
        self.pc = 0;
        (self.polling, self.idle) = (false, 0);
        self.function = KERNEL;
        (self.base, self.local_base) = (0, 0);
        self.callers.clear();
        for &(slot, preset) in &kernel.function.code.presets {
            if matches!(preset, crate::program::Preset::BlockId(_)) {
                self.slots[slot as usize] = kernel.preset(preset, &self.who, 0);
            }
        }
    }

    pub fn function<'a>(&self, kernel: &Kernel<'a>) -> &'a Function {
        if self.function == KERNEL { kernel.function } else { &kernel.module.functions[self.function] }
    }

    pub fn slot(&self, slot: u32) -> u64 {
        self.slots[self.base + slot as usize]
    }

    pub fn set_slot(&mut self, slot: u32, value: u64) {
        self.slots[self.base + slot as usize] = value;
    }

    /// Runs until it waits, exits, or its time slice ends. On a fault `pc` is the instruction's.
    /// Returns the instructions run.
    pub fn run(
        &mut self,
        kernel: &Kernel<'_>,
        shared: &mut [u8],
        mut watch: Option<&mut Watch>,
        global: &mut Global<'_>,
    ) -> (u64, Result<(), Trouble>) {
        let mut left = SLICE;
        let mut spent = 0u64;
        let result = loop {
            let before = left;
            let result = match kernel.engine.and_then(|engine| engine.routine(self.function_index())) {
                Some(routine) => self.run_routine(routine, kernel, shared, global, &mut left, &mut spent),
                None => {
                    let watch = watch.as_deref_mut();
                    self.run_frame(kernel, shared, watch, global, &mut left, &mut spent)
                }
            };
            // Costs that are no instructions were subtracted already.
            spent = spent.wrapping_add((before - left) as u64);
            match result {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(trouble) => break Err(trouble),
            }
        };
        (spent, result)
    }

    /// Index of the function in the module; none for the kernel.
    fn function_index(&self) -> Option<usize> {
        (self.function != KERNEL).then_some(self.function)
    }

    /// Whether it stands in the kernel itself, not in a function that the kernel called.
    pub fn in_kernel(&self) -> bool {
        self.function == KERNEL
    }

    /// Starts it as a thread of this block unless it is one already, in the kernel itself. Says whether it did.
    #[inline]
    pub fn belong_to(&mut self, kernel: &Kernel<'_>, block: [u32; 3]) -> bool {
        let is_other = self.who.block != block || self.function != KERNEL || self.base != 0;
        if is_other {
            self.start(kernel, block);
        }
        is_other
    }

    /// Registers of the current function, and local memory.
    pub fn parts(&mut self) -> (&mut [u64], &mut [u8]) {
        (&mut self.slots[self.base..], &mut self.local)
    }

    /// Runs compiled code up to an instruction that it leaves to the interpreter, and that one. True when there is
    /// more to run.
    fn run_routine(
        &mut self,
        routine: &dyn crate::engine::Routine,
        kernel: &Kernel<'_>,
        shared: &mut [u8],
        global: &mut Global<'_>,
        budget: &mut i64,
        correction: &mut u64,
    ) -> Result<bool, Trouble> {
        if routine.enters(self.pc) {
            let code = &self.function(kernel).code;
            let slots = &mut self.slots[self.base..self.base + code.frame as usize];
            let mut memory = Memory {
                shared: &mut *shared,
                local: &mut self.local,
                params: kernel.config.params,
                global: &mut *global,
                contended: false,
                watch: None,
            };
            if let Stop::Slice = routine.run(&mut self.pc, slots, &mut memory, budget)? {
                self.state = State::Ready;
                return Ok(false);
            }
        }
        let yields = matches!(self.function(kernel).code.insts[self.pc].op, Op::Yield | Op::Poll(_));
        let mut one = 1;
        let more = self.run_frame(kernel, shared, None, global, &mut one, correction)?;
        *budget -= 1 - one;
        Ok(more || self.state == State::Ready && !yields && *budget > 0)
    }

    /// Runs within one function; true when a call or return changed the function.
    fn run_frame(
        &mut self,
        kernel: &Kernel<'_>,
        shared: &mut [u8],
        watch: Option<&mut Watch>,
        global: &mut Global<'_>,
        budget: &mut i64,
        correction: &mut u64,
    ) -> Result<bool, Trouble> {
        let code = &self.function(kernel).code;
        let insts = &code.insts[..];
        let slots = &mut self.slots[self.base..self.base + code.frame as usize];
        let mut memory = Memory {
            shared,
            local: &mut self.local,
            params: kernel.config.params,
            global,
            contended: false,
            watch,
        };
        let mut pc = self.pc;
        let mut left = *budget;
        let next = loop {
            let inst = &insts[pc];
            if left <= 0 {
                break Ok(State::Ready);
            }
            left -= 1;
            if inst.guard != ALWAYS && (slots[(inst.guard >> 1) as usize] ^ u64::from(inst.guard)) & 1 == 0 {
                pc += 1;
                continue;
            }
            match inst.op {
                Op::Alu(run) => {
                    run(slots, &inst.args);
                    pc += 1;
                }
                Op::Memory(run) => match access(run, slots, (code, pc, inst), &mut memory) {
                    Ok(()) => pc += 1,
                    Err(trouble) => break Err(trouble),
                },
                Op::Branch => pc = inst.args.imm as usize,
                Op::WaitingLoad(run) => match access(run, slots, (code, pc, inst), &mut memory) {
                    Ok(()) => {
                        pc += 1;
                        (self.polling, self.idle) = (false, 0);
                        left -= WAITING_COST;
                        *correction = correction.wrapping_sub(WAITING_COST as u64);
                    }
                    Err(trouble) => break Err(trouble),
                },
                Op::Atomic(run) => match access(run, slots, (code, pc, inst), &mut memory) {
                    Ok(()) => {
                        pc += 1;
                        (self.polling, self.idle) = (false, 0);
                        if memory.contended {
                            memory.contended = false;
                            // Whoever holds the lock shall soon run.
                            let cost = (left - 16).max(0);
                            left -= cost;
                            *correction = correction.wrapping_sub(cost as u64);
                        }
                    }
                    Err(trouble) => break Err(trouble),
                },
                Op::Poll(run) => match run(slots, &inst.args, &mut memory) {
                    Ok(()) => {
                        pc += 1;
                        if std::mem::take(&mut memory.contended) {
                            self.polling = true;
                            let address = slots[inst.args.a as usize].wrapping_add(inst.args.imm as u64);
                            self.polled = (address, inst.line);
                            break Ok(State::Ready);
                        }
                        (self.polling, self.idle) = (false, 0);
                    }
                    Err(trouble) => break Err(trouble),
                },
                Op::BranchIndexed => {
                    let index = u64::from(slots[inst.args.a as usize] as u32);
                    match code.tables[inst.args.imm as usize].get(index as usize) {
                        Some(&target) => pc = target,
                        None => break Err(Box::new(FaultKind::InvalidPc { address: index })),
                    }
                }
                Op::Fence => {
                    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
                    if let Some(watch) = &mut memory.watch {
                        watch.advance();
                    }
                    pc += 1;
                }
                Op::Clock(special) => {
                    let nanoseconds = match special {
                        Special::Clock | Special::Clock64 | Special::ClockHigh => {
                            kernel.started.elapsed().as_nanos() as u64
                        }
                        _ => UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64),
                    };
                    slots[inst.args.d as usize] = match special {
                        Special::Clock | Special::GlobalTimerLow => nanoseconds & 0xffff_ffff,
                        Special::GlobalTimerHigh | Special::ClockHigh => nanoseconds >> 32,
                        _ => nanoseconds,
                    };
                    pc += 1;
                }
                Op::Yield => {
                    pc += 1;
                    break Ok(State::Ready);
                }
                Op::Trap => break Err(Box::new(FaultKind::Trap)),
                Op::Exit => break Ok(State::Exited),
                Op::Barrier(_) => break Ok(State::Arriving),
                Op::Collective(_) => break Ok(State::AtCollective),
                Op::ActiveMask => break Ok(State::AtActiveMask(0)),
                Op::Call => {
                    let site = &code.calls[inst.args.imm as usize];
                    self.pc = pc;
                    let callee = match site.target {
                        Target::Builtin(function) => {
                            announce(&mut memory, code, pc);
                            match builtin::call(function, site, self.local_base, &mut memory) {
                                Ok(()) => {
                                    pc += 1;
                                    continue;
                                }
                                Err(trouble) => break Err(trouble),
                            }
                        }
                        Target::Function(index) => index,
                        Target::Indirect(slot) => {
                            let address = slots[slot as usize];
                            let index = (address & 0xffff_ffff) as usize >> 4;
                            if address & 15 != 0
                                || address & !0xffff_ffff
                                    != FUNCTION_WINDOW | u64::from(kernel.module.id) << 32
                                || index >= kernel.module.functions.len()
                            {
                                break Err(Box::new(FaultKind::InvalidPc { address }));
                            }
                            index
                        }
                    };
                    *budget = left;
                    self.call(kernel, callee, inst.args.imm as usize)?;
                    return Ok(true);
                }
                Op::Return => {
                    *budget = left;
                    self.pc = pc;
                    if self.return_to_caller(kernel) {
                        return Ok(true);
                    }
                    self.state = State::Exited;
                    return Ok(false);
                }
            }
        };
        *budget = left;
        self.pc = pc;
        match next {
            Ok(state) => {
                self.state = state;
                Ok(false)
            }
            Err(trouble) => Err(trouble),
        }
    }

    fn call(&mut self, kernel: &Kernel<'_>, index: usize, site: usize) -> Result<(), Trouble> {
        let caller = &self.function(kernel).code;
        let callee = &kernel.module.functions[index];
        if let Some(unsupported) = &callee.unsupported {
            return Err(Box::new(FaultKind::Unsupported(unsupported.clone())));
        }
        if callee.is_entry || callee.code.declared_only {
            return Err(Box::new(FaultKind::InvalidPc { address: kernel.module.function_address(index) }));
        }
        let base = self.base + caller.frame as usize;
        let local_base = (self.local_base + caller.local_bytes as usize).next_multiple_of(16);
        let (slots_end, local_end) =
            (base + callee.code.frame as usize, local_base + callee.code.local_bytes as usize);
        if self.callers.len() >= MAX_DEPTH
            || slots_end > MAX_SLOTS
            || local_end > MAX_LOCAL.max(kernel.function.code.local_bytes as usize)
        {
            return Err(Box::new(FaultKind::StackOverflow));
        }
        if self.slots.len() < slots_end {
            self.slots.resize(slots_end, FRESH_WORD);
        }
        if self.local.len() < local_end {
            self.local.resize(local_end, FRESH_BYTE);
        }
        for &(slot, preset) in &callee.code.presets {
            self.slots[base + slot as usize] = kernel.preset(preset, &self.who, local_base);
        }
        let arguments = &caller.calls[site].arguments;
        if arguments.len() != callee.code.parameters.len()
            || caller.calls[site].results.len() != callee.code.results.len()
        {
            return Err(Box::new(FaultKind::InvalidPc { address: kernel.module.function_address(index) }));
        }
        for (from, to) in arguments.iter().zip(&callee.code.parameters) {
            self.copy_local(
                self.local_base + from.offset as usize,
                local_base + to.offset as usize,
                to.size as usize,
            )?;
        }
        self.callers.push(Caller {
            function: self.function,
            pc: self.pc,
            base: self.base,
            local_base: self.local_base,
            site,
        });
        self.function = index;
        self.pc = 0;
        self.base = base;
        self.local_base = local_base;
        Ok(())
    }

    fn copy_local(&mut self, from: usize, to: usize, size: usize) -> Result<(), Trouble> {
        if from + size > self.local.len() || to + size > self.local.len() {
            return Err(Box::new(FaultKind::IllegalInstruction));
        }
        self.local.copy_within(from..from + size, to);
        Ok(())
    }

    /// False when there is no caller.
    fn return_to_caller(&mut self, kernel: &Kernel<'_>) -> bool {
        let Some(caller) = self.callers.pop() else { return false };
        let callee = &kernel.module.functions[self.function].code;
        let from_base = self.local_base;
        self.function = caller.function;
        self.base = caller.base;
        self.local_base = caller.local_base;
        self.pc = caller.pc + 1;
        let site = &self.function(kernel).code.calls[caller.site];
        for (from, to) in callee.results.iter().zip(&site.results) {
            // Sizes were checked against this memory when the call was made.
            let _ = self.copy_local(
                from_base + from.offset as usize,
                self.local_base + to.offset as usize,
                from.size as usize,
            );
        }
        true
    }
}

/// Runs an operation on memory.
#[inline(always)]
fn access(
    run: MemoryOp,
    slots: &mut [u64],
    (code, pc, inst): (&Code, usize, &Inst),
    memory: &mut Memory<'_, '_>,
) -> Result<(), Trouble> {
    announce(memory, code, pc);
    run(slots, &inst.args, memory)
}

/// Tells the watch for races, if there is one, which instruction comes.
#[inline(always)]
fn announce(memory: &mut Memory<'_, '_>, code: &Code, pc: usize) {
    if let Some(watch) = &mut memory.watch {
        watch.expect(code, pc);
    }
}
