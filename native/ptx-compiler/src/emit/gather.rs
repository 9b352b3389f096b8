//! Accesses whose lanes are in no order: a loop over the lanes, each of which is checked and done by itself.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Value, types};
use ptx::engine::{GENERIC, GLOBAL, Inst, SHARED, Slot};

use super::Emitter;
use super::memory::Access;
use super::values::{Val, vector};
use crate::abi::{self, field};
use crate::plan::Kind;

impl Emitter<'_, '_> {
    /// Emits an access lane by lane if it can.
    ///
    /// A lane that is refused makes the threads of the group do the whole instruction again. Of stores that is right only
    /// because nothing but a fault refuses them: generic addresses, which may be of local memory, are left alone.
    pub(super) fn gather(&mut self, inst: &Inst, access: Access) -> bool {
        let fits = match access.space {
            GLOBAL | SHARED => true,
            GENERIC => !access.store,
            _ => false,
        };
        if self.plan.lanes == 1 || !fits {
            return false;
        }
        let slot = inst.args.a;
        let narrow =
            self.plan.presets[slot as usize].is_none() && self.plan.kinds[slot as usize].bytes() == 4;
        let kind = if narrow { Kind::I32 } else { Kind::I64 };
        let base = self.read(slot, kind);
        let bases = self.in_memory(base, kind);
        let elements = self.elements(inst, access);
        let cells: Vec<(Slot, Kind, Value)> = elements
            .into_iter()
            .map(|(slot, kind)| {
                let cell = if access.store {
                    let val = self.read(slot, kind);
                    self.in_memory(val, kind)
                } else {
                    self.room(kind)
                };
                (slot, kind, cell)
            })
            .collect();
        let (head, after) = (self.b.create_block(), self.b.create_block());
        self.b.append_block_param(head, types::I64);
        let first = self.b.ins().iconst(types::I64, 0);
        self.b.ins().jump(head, &[first.into()]);
        self.b.switch_to_block(head);
        let lane = self.b.block_params(head)[0];
        let base = self.cell(bases, lane, kind);
        let address = self.lane_address(inst, access.space, base, kind);
        let host = self.lane_checked(address, access);
        for (index, &(_, kind, cell)) in cells.iter().enumerate() {
            let offset = (index as u32 * access.bits / 8) as i32;
            if access.store {
                let value = self.cell(cell, lane, kind);
                self.store_element(access, value, host, offset);
            } else {
                let value = self.load_element(access, kind, host, offset);
                let place = self.place(cell, lane, kind);
                self.b.ins().store(Self::flags(), value, place, 0);
            }
        }
        let next = self.b.ins().iadd_imm_s(lane, 1);
        let more = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, next, self.plan.lanes as i64);
        self.b.ins().brif(more, head, &[next.into()], after, &[]);
        self.b.seal_block(head);
        self.begin(after);
        if !access.store {
            for (slot, kind, cell) in cells {
                let values = (0..self.vectors(kind))
                    .map(|index| self.b.ins().load(vector(kind), Self::flags(), cell, 16 * index as i32))
                    .collect();
                self.write(slot, Val::Many(values), kind, None);
            }
        }
        true
    }

    /// Room on the stack for a value in all lanes.
    fn room(&mut self, kind: Kind) -> Value {
        let bytes = (self.plan.lanes * kind.bytes()) as u32;
        let slot = self.b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 4));
        self.b.ins().stack_addr(types::I64, slot, 0)
    }

    fn in_memory(&mut self, val: Val, kind: Kind) -> Value {
        let cell = self.room(kind);
        for (index, value) in self.spread(val, kind).into_iter().enumerate() {
            self.b.ins().store(Self::flags(), value, cell, 16 * index as i32);
        }
        cell
    }

    fn place(&mut self, cell: Value, lane: Value, kind: Kind) -> Value {
        let offset = self.b.ins().ishl_imm_u(lane, i64::from(kind.bytes().trailing_zeros()));
        self.b.ins().iadd(cell, offset)
    }

    fn cell(&mut self, cell: Value, lane: Value, kind: Kind) -> Value {
        let place = self.place(cell, lane, kind);
        self.b.ins().load(super::values::scalar(kind), Self::flags(), place, 0)
    }

    /// As the interpreter computes it.
    fn lane_address(&mut self, inst: &Inst, space: u8, base: Value, kind: Kind) -> Value {
        let imm = inst.args.imm;
        if kind == Kind::I32 && space == SHARED {
            let imm = self.b.ins().iconst(types::I32, i64::from(imm as u32));
            let sum = self.b.ins().iadd(base, imm);
            return self.b.ins().uextend(types::I64, sum);
        }
        let base = if kind == Kind::I32 { self.b.ins().uextend(types::I64, base) } else { base };
        let imm = self.b.ins().iconst(types::I64, imm);
        let sum = self.b.ins().iadd(base, imm);
        if space != SHARED {
            return sum;
        }
        let low = self.b.ins().band_imm_u(sum, i64::from(u32::MAX));
        let is_low = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThanOrEqual, base, i64::from(u32::MAX));
        self.b.ins().select(is_low, low, sum)
    }

    fn lane_checked(&mut self, address: Value, access: Access) -> Value {
        let shift = i64::from(access.bytes().trailing_zeros());
        if access.space == SHARED {
            let (start, length) = (self.context_word(field::SHARED), self.context_word(field::SHARED_BYTES));
            let count = self.b.ins().ushr_imm_u(length, shift);
            let place = if shift == 0 { address } else { self.b.ins().rotr_imm_u(address, shift) };
            let inside = self.b.ins().icmp(IntCC::UnsignedLessThan, place, count);
            let (fast, split) = (self.b.create_block(), self.split());
            self.b.ins().brif(inside, fast, &[], split, &[]);
            self.begin(fast);
            return self.b.ins().iadd(start, address);
        }
        let site = self.sites;
        self.sites += 1;
        let bytes = access.bytes() as u32;
        let description = abi::describe(access.space, access.store, bytes, bytes, site);
        self.checked_by_site(address, shift, description, site)
    }

    /// Compares an address with the range that a site knows, and asks where that does not hold.
    pub(super) fn checked_by_site(
        &mut self,
        address: Value,
        shift: i64,
        description: u64,
        site: usize,
    ) -> Value {
        let flags = MemFlagsData::trusted();
        let sites = self.context_word(field::SITES);
        let start = self.b.ins().load(types::I64, flags, sites, 16 * site as i32);
        let count = self.b.ins().load(types::I64, flags, sites, 16 * site as i32 + 8);
        let place = self.b.ins().isub(address, start);
        let place = if shift == 0 { place } else { self.b.ins().rotr_imm_u(place, shift) };
        let inside = self.b.ins().icmp(IntCC::UnsignedLessThan, place, count);
        let (fast, slow) = (self.b.create_block(), self.cold_block());
        self.b.append_block_param(fast, types::I64);
        self.b.ins().brif(inside, fast, &[address.into()], slow, &[]);
        self.begin(slow);
        let answer = self.ask(address, description);
        let split = self.split();
        let refused = self.b.ins().icmp_imm_u(IntCC::Equal, answer, abi::REFUSED as i64);
        self.b.ins().brif(refused, split, &[], fast, &[answer.into()]);
        self.begin(fast);
        self.b.block_params(fast)[0]
    }
}
