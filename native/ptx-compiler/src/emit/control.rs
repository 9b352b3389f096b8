//! Guards, branches, and what the interpreter does.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, InstBuilder, MemFlagsData, Value, types};
use ptx::engine::{ALWAYS, Inst, Meaning, Op, Slot};

use super::Emitter;
use super::values::Val;
use crate::abi;
use crate::flow::{Step, step};
use crate::plan::Kind;

impl Emitter<'_, '_> {
    /// Where an instruction is executed; none for everywhere.
    pub(super) fn guard(&mut self, inst: &Inst) -> Option<Val> {
        if inst.guard == ALWAYS {
            return None;
        }
        let val = self.read(inst.guard >> 1, Kind::Predicate);
        if inst.guard & 1 == 0 {
            return Some(val);
        }
        Some(self.negate(val))
    }

    pub(super) fn negate(&mut self, val: Val) -> Val {
        match val {
            Val::One(value) => {
                let one = self.b.ins().iconst(types::I8, 1);
                Val::One(self.b.ins().bxor(value, one))
            }
            val => {
                let values = self.spread(val, Kind::Predicate);
                Val::Many(values.into_iter().map(|value| self.b.ins().bnot(value)).collect())
            }
        }
    }

    /// An instruction after which the flow goes on.
    pub(super) fn instruction(&mut self, inst: &Inst) {
        match inst.op {
            Op::Fence => {
                // Guarded or not: a fence too many changes nothing.
                self.b.ins().fence();
            }
            Op::Alu(_) => {
                let guard = self.guard(inst);
                if !self.arithmetic(inst, guard.as_ref()) {
                    self.conditionally(inst, guard, |this, inst| this.operate(inst, None));
                }
            }
            _ => {
                let guard = self.guard(inst);
                self.conditionally(inst, guard, |this, inst| {
                    if !this.memory(inst) {
                        this.operate(inst, None);
                    }
                });
            }
        }
        self.finish_split();
    }

    /// Does something where the guard holds; lanes that differ do it by the interpreter's function.
    fn conditionally(&mut self, inst: &Inst, guard: Option<Val>, act: impl FnOnce(&mut Self, &Inst)) {
        let Some(guard) = guard else { return act(self, inst) };
        // What one branch settles the other does not have.
        self.settle_all();
        let (does, after) = (self.b.create_block(), self.b.create_block());
        match guard {
            Val::One(guard) => {
                self.b.ins().brif(guard, does, &[], after, &[]);
            }
            guard => {
                let mask = self.mask(guard);
                let (some, each) = (self.b.create_block(), self.b.create_block());
                self.b.ins().brif(mask, some, &[], after, &[]);
                self.begin(some);
                let every = self.every_lane() as i64;
                let all = self.b.ins().icmp_imm_u(IntCC::Equal, mask, every);
                self.b.ins().brif(all, does, &[], each, &[]);
                self.begin(each);
                self.operate(inst, Some(mask));
                self.settle_all();
                self.b.ins().jump(after, &[]);
            }
        }
        self.begin(does);
        act(self, inst);
        self.settle_all();
        self.b.ins().jump(after, &[]);
        self.begin(after);
    }

    fn every_lane(&self) -> u64 {
        (1 << self.plan.lanes) - 1
    }

    /// One bit per lane.
    fn mask(&mut self, val: Val) -> Value {
        let values = self.spread(val, Kind::Predicate);
        let mut mask = self.b.ins().iconst(types::I64, 0);
        for (index, value) in values.into_iter().enumerate() {
            let bits = self.b.ins().vhigh_bits(types::I32, value);
            let bits = self.b.ins().uextend(types::I64, bits);
            let bits = self.b.ins().ishl_imm_u(bits, 4 * index as i64);
            mask = self.b.ins().bor(mask, bits);
        }
        mask
    }

    /// Makes every pending NaN the one that PTX prescribes.
    pub(super) fn settle_all(&mut self) {
        let pending: Vec<Slot> = self.raw.iter().copied().collect();
        for slot in pending {
            self.read(slot, Kind::F32);
        }
    }

    /// The same for those that matter after the block.
    pub(super) fn settle(&mut self, index: usize) {
        let live = self.plan.flow.live_out(index);
        self.raw.retain(|&slot| live.contains(slot));
        self.settle_all();
    }

    /// Whether a condition holds in all lanes, and in any.
    fn all_and_any(&mut self, val: Val) -> (Value, Value) {
        let values = self.spread(val, Kind::Predicate);
        let (mut all, mut any) = (values[0], values[0]);
        for &value in &values[1..] {
            all = self.b.ins().band(all, value);
            any = self.b.ins().bor(any, value);
        }
        (self.b.ins().vall_true(all), self.b.ins().vany_true(any))
    }

    /// The last instruction of a block.
    pub(super) fn terminator(&mut self, index: usize, inst: &Inst) {
        let guard = self.guard(inst);
        let after = self.blocks.get(index + 1).copied();
        match step(inst) {
            Step::Branch(target) => {
                self.settle(index);
                let target = self.plan.flow.block_at[target].map(|block| self.blocks[block]);
                let (Some(target), Some(after)) = (target, after) else {
                    return self.leave(abi::INSTRUCTION);
                };
                match guard {
                    None => {
                        self.b.ins().jump(target, &[]);
                    }
                    Some(guard) => self.fork(guard, target, after),
                }
            }
            _ => match (guard, after) {
                (Some(guard), Some(after)) => {
                    self.settle(index);
                    let out = self.b.create_block();
                    self.fork(guard, out, after);
                    self.begin(out);
                    self.leave(abi::INSTRUCTION);
                }
                _ => self.leave(abi::INSTRUCTION),
            },
        }
        self.finish_split();
    }

    fn fork(&mut self, guard: Val, target: ir::Block, after: ir::Block) {
        match guard {
            Val::One(guard) => {
                self.b.ins().brif(guard, target, &[], after, &[]);
            }
            guard => {
                let (all, any) = self.all_and_any(guard);
                let (mixed, split) = (self.b.create_block(), self.split());
                self.b.ins().brif(all, target, &[], mixed, &[]);
                self.begin(mixed);
                self.b.ins().brif(any, split, &[], after, &[]);
            }
        }
    }

    /// Has the interpreter's function execute the instruction, in the lanes of a mask.
    pub(super) fn operate(&mut self, inst: &Inst, mask: Option<Value>) {
        let effect = self.plan.flow.effects[self.pc].clone();
        let guard = (inst.guard != ALWAYS).then_some(inst.guard >> 1);
        for &slot in &effect.reads {
            if Some(slot) == guard && !Self::uses(inst, slot) {
                continue;
            }
            if self.raw.contains(&slot) {
                self.read(slot, Kind::F32);
            }
            self.store_packed(slot);
        }
        // Where all operands are the same so are the results.
        let shared = matches!(inst.op, Op::Alu(_)) && {
            let one = |slot: &Slot| self.plan.classes[*slot as usize] == crate::plan::Class::Uniform;
            let named = [inst.args.a, inst.args.b, inst.args.c, inst.args.e, inst.args.f];
            let inputs = if inst.meaning == Meaning::Other { &named[..] } else { &effect.reads[..] };
            inputs.iter().filter(|&&slot| slot != 0 && Some(slot) != guard).all(one)
                && effect.writes.iter().all(one)
        };
        let mask = match mask {
            Some(mask) => mask,
            None => {
                let lanes = if shared { 1 } else { self.every_lane() };
                self.b.ins().iconst(types::I64, lanes as i64)
            }
        };
        let index = self.b.ins().iconst(types::I64, self.pc as i64);
        let function =
            self.b.ins().iconst(types::I64, (abi::operate as *const ()).expose_provenance() as i64);
        let call = self.b.ins().call_indirect(self.access, function, &[self.context, index, mask]);
        let failed = self.b.inst_results(call)[0];
        let (fault, on) = (self.cold_block(), self.b.create_block());
        self.b.ins().brif(failed, fault, &[], on, &[]);
        self.begin(fault);
        self.answer(abi::FAULT);
        self.begin(on);
        for &slot in &effect.writes {
            self.load_packed(slot);
        }
    }

    fn uses(inst: &Inst, slot: Slot) -> bool {
        let x = &inst.args;
        [x.a, x.b, x.c, x.d, x.e, x.f].contains(&slot)
    }

    /// Asks whether an access is allowed; the answer is a host address or [`abi::REFUSED`].
    pub(super) fn ask(&mut self, address: Value, description: u64) -> Value {
        let description = self.b.ins().iconst(types::I64, description as i64);
        let function = self.b.ins().iconst(types::I64, (abi::access as *const ()).expose_provenance() as i64);
        let call = self.b.ins().call_indirect(self.access, function, &[self.context, address, description]);
        self.b.inst_results(call)[0]
    }

    pub(super) fn context_word(&mut self, offset: i32) -> Value {
        let flags = MemFlagsData::trusted().with_readonly().with_can_move();
        self.b.ins().load(types::I64, flags, self.context, offset)
    }
}
