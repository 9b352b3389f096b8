//! Loads and stores. Each address is compared with a range immediately before the access: with the length of shared or
//! local memory, or with the range of global memory that the instruction met last. The comparison is of the place in
//! units of the access's alignment, rotated: an odd place becomes a huge one, so one comparison covers alignment too.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use ptx::engine::{GENERIC, GLOBAL, Inst, LOCAL, Meaning, PARAM, SHARED, Slot};

use super::Emitter;
use super::values::{Val, scalar, vector};
use crate::abi::{self, field};
use crate::plan::Kind;

/// A load or store, taken apart.
#[derive(Debug, Clone, Copy)]
struct Access {
    space: u8,
    bits: u32,
    count: u32,
    signed: bool,
    store: bool,
}

impl Access {
    fn bytes(self) -> u32 {
        self.bits / 8 * self.count
    }
}

impl Emitter<'_, '_> {
    /// Emits an access if it can; false leaves it to the interpreter's function.
    pub(super) fn memory(&mut self, inst: &Inst) -> bool {
        // Loads that others may be waited for with count against the time slice.
        if !matches!(inst.op, ptx::engine::Op::Memory(_)) {
            return false;
        }
        let access = match inst.meaning {
            Meaning::Load { space, bits, count, signed } => Access { space, bits, count, signed, store: false },
            Meaning::Store { space, bits, count } => Access { space, bits, count, signed: false, store: true },
            _ => return false,
        };
        let group = self.plan.lanes > 1;
        if !matches!(access.bits, 8 | 16 | 32 | 64) || group && abi::is_private(inst.meaning) {
            return false;
        }
        if access.space == PARAM && self.parameter(inst, access) {
            return true;
        }
        let Some(address) = self.address(inst, access.space) else { return false };
        match address {
            Val::One(address) => {
                let host = self.checked(address, access, 0);
                self.transfer(inst, access, host);
                true
            }
            Val::Linear(address, stride) if stride == i64::from(access.bytes()) && access.bits >= 32 => {
                if access.count != 1 {
                    return false;
                }
                let host = self.checked(address, access, self.plan.lanes as u32 - 1);
                self.transfer_side_by_side(inst, access, host);
                true
            }
            _ => false,
        }
    }

    /// A parameter at a constant place inside what the launch was checked to have.
    fn parameter(&mut self, inst: &Inst, access: Access) -> bool {
        let Some(base) = self.plan.constant(inst.args.a) else { return false };
        let at = base.wrapping_add(inst.args.imm as u64);
        let bytes = u64::from(access.bytes());
        if access.store || at % bytes != 0 || at.checked_add(bytes).is_none_or(|end| end > self.parameter_bytes) {
            return false;
        }
        let params = self.context_word(field::PARAMS);
        let at = self.b.ins().iconst(types::I64, at as i64);
        let host = self.b.ins().iadd(params, at);
        self.transfer(inst, access, host);
        true
    }

    /// The address of an access, as the interpreter computes it.
    fn address(&mut self, inst: &Inst, space: u8) -> Option<Val> {
        let wraps = space == SHARED || space == LOCAL;
        let narrow = |kind| matches!(kind, Kind::I32 | Kind::F32 | Kind::Predicate);
        let slot = inst.args.a;
        let imm = inst.args.imm;
        let is_narrow = self.plan.presets[slot as usize].is_none() && narrow(self.plan.kinds[slot as usize]);
        let base = self.read(slot, if is_narrow { Kind::I32 } else { Kind::I64 });
        if let (Some(constant), true) = (self.plan.constant(slot), wraps) {
            let address = constant.wrapping_add(imm as u64);
            let wrapped = constant <= u64::from(u32::MAX);
            let address = if wrapped { address & u64::from(u32::MAX) } else { address };
            return Some(Val::One(self.b.ins().iconst(types::I64, address as i64)));
        }
        let (base, stride) = match base {
            Val::One(base) => (base, None),
            Val::Linear(base, stride) => (base, Some(stride)),
            Val::Many(_) => return None,
        };
        let address = if is_narrow && wraps {
            let imm = self.b.ins().iconst(types::I32, i64::from(imm as u32));
            let sum = self.b.ins().iadd(base, imm);
            self.b.ins().uextend(types::I64, sum)
        } else {
            if is_narrow && stride.is_some() {
                return None;
            }
            let base = if is_narrow { self.b.ins().uextend(types::I64, base) } else { base };
            let imm = self.b.ins().iconst(types::I64, imm);
            let sum = self.b.ins().iadd(base, imm);
            if wraps {
                let low = self.b.ins().band_imm_u(sum, i64::from(u32::MAX));
                let limit = i64::from(u32::MAX);
                let is_low = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThanOrEqual, base, limit);
                self.b.ins().select(is_low, low, sum)
            } else {
                sum
            }
        };
        Some(match stride {
            None => Val::One(address),
            Some(stride) => Val::Linear(address, stride),
        })
    }

    /// The host address of an access that is allowed; `more` further ones lie side by side behind it.
    fn checked(&mut self, address: Value, access: Access, more: u32) -> Value {
        let align = access.bytes();
        let shift = i64::from(align.trailing_zeros());
        let bytes = align * (more + 1);
        let site = if matches!(access.space, GLOBAL | GENERIC) {
            self.sites += 1;
            self.sites - 1
        } else {
            0
        };
        let description = abi::describe(access.space, access.store, align, bytes, site);
        let flags = MemFlagsData::trusted();
        // The place in units of the alignment, the number of places, and the host address.
        let (place, count, host) = match access.space {
            SHARED | LOCAL => {
                let (start, length) = if access.space == SHARED {
                    (field::SHARED, field::SHARED_BYTES)
                } else {
                    (field::LOCAL, field::LOCAL_BYTES)
                };
                let (start, length) = (self.context_word(start), self.context_word(length));
                let count = self.b.ins().ushr_imm_u(length, shift);
                let count = if more == 0 {
                    count
                } else {
                    let fewer = self.b.ins().iadd_imm_s(count, -i64::from(more));
                    let enough = self.b.ins().icmp_imm_u(IntCC::UnsignedGreaterThan, count, i64::from(more));
                    let none = self.b.ins().iconst(types::I64, 0);
                    self.b.ins().select(enough, fewer, none)
                };
                (address, count, self.b.ins().iadd(start, address))
            }
            GLOBAL | GENERIC => {
                let sites = self.context_word(field::SITES);
                let offset = 16 * site as i32;
                let start = self.b.ins().load(types::I64, flags, sites, offset);
                let count = self.b.ins().load(types::I64, flags, sites, offset + 8);
                (self.b.ins().isub(address, start), count, address)
            }
            _ => return self.ask(address, description),
        };
        let place = if shift == 0 { place } else { self.b.ins().rotr_imm_u(place, shift) };
        let inside = self.b.ins().icmp(IntCC::UnsignedLessThan, place, count);
        let (fast, slow) = (self.b.create_block(), self.cold_block());
        self.b.append_block_param(fast, types::I64);
        self.b.ins().brif(inside, fast, &[host.into()], slow, &[]);
        self.begin(slow);
        let answer = self.ask(address, description);
        self.b.ins().jump(fast, &[answer.into()]);
        self.begin(fast);
        self.b.block_params(fast)[0]
    }

    fn elements(inst: &Inst, count: u32) -> Vec<Slot> {
        let x = &inst.args;
        [x.d, x.b, x.c, x.e][..count as usize].to_vec()
    }

    /// How an element is held.
    fn element_kind(&self, slot: Slot, bits: u32) -> Kind {
        let own = self.plan.kinds[slot as usize];
        match (bits, own) {
            (32, Kind::F32) => Kind::F32,
            (64, Kind::F64) => Kind::F64,
            (64, _) => Kind::I64,
            _ => Kind::I32,
        }
    }

    /// One access for all lanes.
    fn transfer(&mut self, inst: &Inst, access: Access, host: Value) {
        // Other threads may use the memory at any time, but each has checked what it does.
        let flags = MemFlagsData::new().with_notrap();
        let mut results = Vec::new();
        for (index, slot) in Self::elements(inst, access.count).into_iter().enumerate() {
            let offset = (index as u32 * access.bits / 8) as i32;
            if access.store {
                let kind = self.element_kind(slot, access.bits);
                let val = self.read(slot, kind);
                let value = self.last(val, kind);
                match access.bits {
                    8 => self.b.ins().istore8(flags, value, host, offset),
                    16 => self.b.ins().istore16(flags, value, host, offset),
                    _ => self.b.ins().store(flags, value, host, offset),
                };
                continue;
            }
            let wide = self.plan.kinds[slot as usize] == Kind::I64 && access.signed;
            let (ty, kind) = if wide { (types::I64, Kind::I64) } else { (types::I32, Kind::I32) };
            let (value, kind) = match (access.bits, access.signed) {
                (8, true) => (self.b.ins().sload8(ty, flags, host, offset), kind),
                (8, _) => (self.b.ins().uload8(ty, flags, host, offset), kind),
                (16, true) => (self.b.ins().sload16(ty, flags, host, offset), kind),
                (16, _) => (self.b.ins().uload16(ty, flags, host, offset), kind),
                (32, true) if wide => (self.b.ins().sload32(flags, host, offset), Kind::I64),
                (bits, _) => {
                    let kind = self.element_kind(slot, bits);
                    (self.b.ins().load(scalar(kind), flags, host, offset), kind)
                }
            };
            results.push((slot, value, kind));
        }
        for (slot, value, kind) in results {
            self.write(slot, Val::One(value), kind, None);
        }
    }

    /// What remains when all lanes store to the same place, one after the other.
    fn last(&mut self, val: Val, kind: Kind) -> Value {
        match val {
            Val::One(value) => value,
            val => {
                let values = self.spread(val, kind);
                let per = 16 / kind.bytes();
                self.b.ins().extractlane(values[values.len() - 1], per as u8 - 1)
            }
        }
    }

    /// An access per lane, side by side.
    fn transfer_side_by_side(&mut self, inst: &Inst, access: Access, host: Value) {
        // Aligned for each lane only.
        let flags = MemFlagsData::new().with_notrap();
        let slot = inst.args.d;
        let kind = self.element_kind(slot, access.bits);
        if access.store {
            let val = self.read(slot, kind);
            for (index, value) in self.spread(val, kind).into_iter().enumerate() {
                self.b.ins().store(flags, value, host, 16 * index as i32);
            }
            return;
        }
        let values = (0..self.vectors(kind))
            .map(|index| self.b.ins().load(vector(kind), flags, host, 16 * index as i32))
            .collect();
        if access.signed {
            // Into registers of 64 bits.
            let values: Vec<Value> = values;
            let wide = self.widen_masks(&values);
            self.write(slot, Val::Many(wide), Kind::I64, None);
            return;
        }
        self.write(slot, Val::Many(values), kind, None);
    }
}
