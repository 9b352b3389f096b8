//! Machine code for a function: one Cranelift function that can begin at any of its entries.
//!
//! The same code serves a single thread and a group. Of a value that all lanes share, or that grows from lane to lane by
//! a constant, code computes one; of all others as many vectors as the group has lanes for. For a single thread every
//! value is shared.

mod arithmetic;
mod control;
mod convert;
mod gather;
mod memory;
mod values;

use std::collections::BTreeSet;

use cranelift_codegen::ir::{self, AbiParam, InstBuilder, MemFlagsData, Signature, Value, types};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Switch, Variable};
use ptx::engine::{Code, Slot};

use crate::abi::{self, field};
use crate::flow::Slots;
use crate::plan::Plan;

pub(crate) struct Emitter<'a, 'f> {
    b: FunctionBuilder<'f>,
    code: &'a Code,
    plan: &'a Plan,
    variables: Vec<Vec<Variable>>,
    blocks: Vec<ir::Block>,
    context: Value,
    /// Registers of the first thread, where presets are.
    slots: Value,
    packed: Value,
    access: ir::SigRef,
    /// Live slots before each instruction of the current block.
    live: Vec<Slots>,
    start: usize,
    pc: usize,
    /// Slots whose NaN may not yet be the one that PTX prescribes.
    raw: BTreeSet<Slot>,
    /// Accesses of the current block that are checked together, and to which of them each instruction belongs.
    clusters: Vec<memory::Cluster>,
    cluster_of: Vec<Option<usize>>,
    /// Where the current instruction gives up on going on together.
    split: Option<(ir::Block, BTreeSet<Slot>)>,
    /// Those of the instructions before, with their places, to be filled after the block.
    splits: Vec<(ir::Block, BTreeSet<Slot>, usize)>,
    /// Sites used so far, by this function and those before it.
    sites: usize,
    /// Bytes of parameters that every launch has; 0 in functions that are called.
    parameter_bytes: u64,
    /// Values were not as the plan says.
    contradicts: bool,
}

/// The signature of compiled code.
pub(crate) fn signature(convention: CallConv) -> Signature {
    let mut signature = Signature::new(convention);
    signature.params.extend([AbiParam::new(types::I64); 2]);
    signature.returns.push(AbiParam::new(types::I64));
    signature
}

/// Instructions of the code generator for each of PTX, at most. Compiling takes about three microseconds for each, so this
/// keeps a hundred instructions of PTX within some milliseconds. What goes beyond has many places where the interpreter
/// takes over and many values live there; compiled, it would not be faster either.
const MOST_FOR_EACH: usize = 40;
/// The same for what every function has.
const MOST_BESIDE: usize = 2000;

/// Emits the whole function. Returns the number of sites used in all.
///
/// # Errors
/// Why the function is not worth it.
pub(crate) fn emit(
    function: &mut ir::Function,
    workspace: &mut FunctionBuilderContext,
    code: &Code,
    plan: &Plan,
    sites: usize,
    parameter_bytes: u64,
    target: TargetFrontendConfig,
) -> Result<usize, String> {
    let convention = function.signature.call_conv;
    let mut b = FunctionBuilder::new(function, workspace);
    let mut helper = Signature::new(convention);
    helper.params.extend([AbiParam::new(types::I64); 3]);
    helper.returns.push(AbiParam::new(types::I64));
    let access = b.import_signature(helper);
    let first = b.create_block();
    b.append_block_params_for_function_params(first);
    b.switch_to_block(first);
    let (context, entry) = (b.block_params(first)[0], b.block_params(first)[1]);
    let constant = MemFlagsData::trusted().with_readonly().with_can_move();
    let slots = b.ins().load(types::I64, constant, context, field::SLOTS);
    let packed = b.ins().load(types::I64, constant, context, field::PACKED);
    let blocks = plan.flow.blocks.iter().map(|_| b.create_block()).collect();
    let mut emitter = Emitter {
        b,
        code,
        plan,
        variables: vec![Vec::new(); plan.kinds.len()],
        blocks,
        context,
        slots,
        packed,
        access,
        live: Vec::new(),
        start: 0,
        pc: 0,
        raw: BTreeSet::new(),
        clusters: Vec::new(),
        cluster_of: Vec::new(),
        split: None,
        splits: Vec::new(),
        sites,
        parameter_bytes,
        contradicts: false,
    };
    emitter.enter(entry);
    for index in 0..plan.flow.blocks.len() {
        emitter.block(index);
        let (made, most) = (emitter.b.func.dfg.num_insts(), MOST_BESIDE + MOST_FOR_EACH * code.insts.len());
        if made > most && !plan.unlimited {
            return Err(format!("more than {most} instructions of the code generator"));
        }
    }
    emitter.b.seal_all_blocks();
    if emitter.contradicts {
        return Err("registers are used at several widths".into());
    }
    let sites = emitter.sites;
    emitter.b.finalize(target);
    Ok(sites)
}

impl Emitter<'_, '_> {
    /// Begins at the block whose place is asked for.
    fn enter(&mut self, entry: Value) {
        let nowhere = self.b.create_block();
        self.b.set_cold_block(nowhere);
        let mut switch = Switch::new();
        let mut stubs = Vec::new();
        for &index in &self.plan.flow.entries {
            let stub = self.b.create_block();
            switch.set_entry(self.plan.flow.blocks[index].start as u128, stub);
            stubs.push((index, stub));
        }
        let entry = self.b.ins().ireduce(types::I32, entry);
        switch.emit(&mut self.b, entry, nowhere);
        self.b.seal_block(nowhere);
        self.b.switch_to_block(nowhere);
        // Nobody asks for another place; if somebody did, the interpreter would go on.
        let answer = self.b.ins().uextend(types::I64, entry);
        self.b.ins().return_(&[answer]);
        for (index, stub) in stubs {
            self.b.seal_block(stub);
            self.b.switch_to_block(stub);
            let slots: Vec<Slot> = self.plan.flow.blocks[index].live.iter().collect();
            slots.into_iter().for_each(|slot| self.load_packed(slot));
            self.count(self.straight(self.plan.flow.blocks[index].start));
            self.b.ins().jump(self.blocks[index], &[]);
        }
    }

    fn block(&mut self, index: usize) {
        self.instructions(index);
        self.fill_splits();
    }

    fn instructions(&mut self, index: usize) {
        let block = &self.plan.flow.blocks[index];
        self.b.switch_to_block(self.blocks[index]);
        self.live = self.plan.flow.live_within(index);
        self.start = block.start;
        self.raw.clear();
        self.cluster(block.start, block.end);
        if block.loops {
            self.spend(index);
        }
        for pc in block.start..block.end {
            self.pc = pc;
            self.split = None;
            let inst = self.code.insts[pc];
            if pc + 1 < block.end || crate::flow::step(&inst) == crate::flow::Step::Next {
                self.instruction(&inst);
            } else {
                self.terminator(index, &inst);
                return;
            }
        }
        self.settle(index);
        match self.plan.flow.blocks.get(index + 1) {
            Some(_) => {
                self.b.ins().jump(self.blocks[index + 1], &[]);
            }
            // Code ends with an instruction that ends it.
            None => self.leave(abi::INSTRUCTION),
        }
    }

    /// Counts the budget down at the head of a loop, by what the loop holds; leaves when it is spent.
    fn spend(&mut self, index: usize) {
        let start = self.plan.flow.blocks[index].start;
        let blocks = &self.plan.flow.blocks;
        let end = blocks.iter().filter(|block| block.next.contains(&index)).map(|block| block.end).max();
        let budget = self.count(end.unwrap_or(start + 1).saturating_sub(start).max(1));
        let zero = self.b.ins().iconst(types::I64, 0);
        let spent = self.b.ins().icmp(ir::condcodes::IntCC::SignedLessThan, budget, zero);
        let (out, on) = (self.cold_block(), self.b.create_block());
        self.b.ins().brif(spent, out, &[], on, &[]);
        self.begin(out);
        self.pc = start;
        self.leave(abi::SLICE);
        self.begin(on);
    }

    /// Instructions from a place to the next one that the interpreter executes in any case: about what an entry runs, but
    /// for loops, which count by themselves.
    fn straight(&self, pc: usize) -> usize {
        let stops = |inst: &ptx::engine::Inst| {
            crate::flow::step(inst) == crate::flow::Step::Interpreted && inst.guard == ptx::engine::ALWAYS
        };
        self.code.insts[pc..].iter().position(stops).unwrap_or(0) + 1
    }

    /// Takes so many instructions of each lane from the budget. Answers what it was before.
    fn count(&mut self, instructions: usize) -> Value {
        let flags = MemFlagsData::trusted();
        let budget = self.b.ins().load(types::I64, flags, self.context, field::BUDGET);
        let left = self.b.ins().iadd_imm_s(budget, -((instructions * self.plan.lanes) as i64));
        self.b.ins().store(flags, left, self.context, field::BUDGET);
        budget
    }

    fn cold_block(&mut self) -> ir::Block {
        let block = self.b.create_block();
        self.b.set_cold_block(block);
        block
    }

    /// Goes on in a block that has all its predecessors.
    fn begin(&mut self, block: ir::Block) {
        self.b.seal_block(block);
        self.b.switch_to_block(block);
    }

    /// Packs what matters before the current instruction, and returns.
    fn leave(&mut self, way: u64) {
        let slots: Vec<Slot> = self.live[self.pc - self.start].iter().collect();
        slots.into_iter().for_each(|slot| self.store_packed(slot));
        self.answer(way);
    }

    fn answer(&mut self, way: u64) {
        let answer = self.b.ins().iconst(types::I64, (way << 32 | self.pc as u64) as i64);
        self.b.ins().return_(&[answer]);
    }

    /// A block that leaves before the current instruction, which has changed nothing when it goes there: the interpreter
    /// executes it, for the threads of a group one by one.
    fn split(&mut self) -> ir::Block {
        if let Some((block, _)) = self.split {
            return block;
        }
        let block = self.cold_block();
        self.split = Some((block, self.raw.clone()));
        block
    }

    /// Keeps the block of [`Emitter::split`], if the instruction uses it, until its turn comes.
    fn finish_split(&mut self) {
        if let Some((block, raw)) = self.split.take() {
            self.splits.push((block, raw, self.pc));
        }
    }

    /// Fills the blocks of [`Emitter::split`].
    fn fill_splits(&mut self) {
        for (block, raw, pc) in std::mem::take(&mut self.splits) {
            self.begin(block);
            (self.raw, self.pc) = (raw, pc);
            self.leave(if self.plan.lanes == 1 { abi::INSTRUCTION } else { abi::SPLIT });
        }
    }
}
