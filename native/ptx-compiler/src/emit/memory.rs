//! Loads and stores. Addresses are compared with a range before they are used: with the length of shared or local
//! memory, or with the range of global memory that the instruction met last. The comparison is of the place in units of
//! the alignment, rotated: an odd place becomes a huge one, so one comparison covers alignment too.
//!
//! Accesses of a block that have the same base are compared as one, from the lowest to the highest byte that all lanes
//! touch, before the first of them: an allowed access must be inside in any case, so nothing is refused that need not
//! be. Where a comparison fails the code leaves before the instruction, and the interpreter decides.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use ptx::engine::{ALWAYS, GENERIC, GLOBAL, Inst, LOCAL, Meaning, Op, PARAM, SHARED, Slot};

use super::Emitter;
use super::values::{Val, scalar, vector};
use crate::abi::{self, field};
use crate::plan::{Class, Kind, is_near};

/// A load or store, taken apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access {
    pub(super) space: u8,
    pub(super) bits: u32,
    pub(super) count: u32,
    pub(super) signed: bool,
    pub(super) store: bool,
}

impl Access {
    fn of(inst: &Inst) -> Option<Self> {
        // Loads that others may be waited for with count against the time slice.
        if !matches!(inst.op, Op::Memory(_)) {
            return None;
        }
        let access = match inst.meaning {
            Meaning::Load { space, bits, count, signed } => Self { space, bits, count, signed, store: false },
            Meaning::Store { space, bits, count } => Self { space, bits, count, signed: false, store: true },
            _ => return None,
        };
        matches!(access.bits, 8 | 16 | 32 | 64).then_some(access)
    }

    pub(super) fn bytes(self) -> i64 {
        i64::from(self.bits / 8 * self.count)
    }
}

/// Accesses that are checked together.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    space: u8,
    base: Slot,
    /// First byte and one past the last, from the base of the first lane.
    low: i64,
    high: i64,
    align: i64,
    store: bool,
    /// Host address of the first byte, once it is checked.
    host: Option<Value>,
}

/// Bytes that accesses checked together may span.
const WIDEST: i64 = 8192;

impl Emitter<'_, '_> {
    /// The bytes that an access touches in all lanes, from its base in the first; none if its lanes are not so regular.
    fn extent(&self, inst: &Inst, access: Access) -> Option<Cluster> {
        let slot = inst.args.a;
        let kind = self.plan.kinds[slot as usize];
        let narrow = self.plan.presets[slot as usize].is_none() && kind.bytes() == 4;
        let private = access.space == LOCAL && self.plan.lanes > 1;
        let stride = match self.plan.classes[slot as usize] {
            Class::Uniform => 0,
            // Where a narrow base wraps around its lanes are no line.
            Class::Linear(_) if narrow && matches!(access.space, GLOBAL | GENERIC) => return None,
            Class::Linear(stride) => stride,
            Class::Varying => return None,
        };
        let align = access.bytes();
        if private || stride % align != 0 || access.space == PARAM {
            return None;
        }
        let far = stride.checked_mul(self.plan.lanes as i64 - 1)?;
        let imm = inst.args.imm;
        let low = imm.checked_add(far.min(0))?;
        let high = imm.checked_add(far.max(0))?.checked_add(align)?;
        let fits = high.checked_sub(low)? <= WIDEST && is_near(imm);
        fits.then_some(Cluster {
            space: access.space,
            base: slot,
            low,
            high,
            align,
            store: access.store,
            host: None,
        })
    }

    /// Finds the accesses of a block that are checked together.
    pub(super) fn cluster(&mut self, start: usize, end: usize) {
        self.clusters.clear();
        self.cluster_of = vec![None; end - start];
        let mut open: Vec<usize> = Vec::new();
        for pc in start..end {
            let inst = &self.code.insts[pc];
            if let Some(access) = Access::of(inst)
                && inst.guard == ALWAYS
                && let Some(new) = self.extent(inst, access)
                && new.low % new.align == 0
            {
                let joins = |&index: &usize| {
                    let old = &self.clusters[index];
                    let span = old.high.max(new.high) - old.low.min(new.low);
                    old.base == new.base && old.space == new.space && span <= WIDEST
                };
                match open.iter().copied().find(joins) {
                    Some(index) => {
                        let old = &mut self.clusters[index];
                        old.low = old.low.min(new.low);
                        old.high = old.high.max(new.high);
                        old.align = old.align.max(new.align);
                        old.store |= new.store;
                        self.cluster_of[pc - start] = Some(index);
                    }
                    None => {
                        open.push(self.clusters.len());
                        self.cluster_of[pc - start] = Some(self.clusters.len());
                        self.clusters.push(new);
                    }
                }
            }
            let writes = &self.plan.flow.effects[pc].writes;
            open.retain(|&index| !writes.contains(&self.clusters[index].base));
        }
        for cluster in &mut self.clusters {
            // Ranges start at multiples of 16: what is added below is inside when the rest is.
            cluster.low = cluster.low.div_euclid(cluster.align) * cluster.align;
        }
    }

    /// Emits an access if it can; false leaves it to the interpreter's function.
    pub(super) fn memory(&mut self, inst: &Inst) -> bool {
        let Some(access) = Access::of(inst) else { return false };
        if access.space == PARAM {
            return self.parameter(inst, access);
        }
        let Some(alone) = self.extent(inst, access) else { return self.gather(inst, access) };
        let index = self.cluster_of[self.pc - self.start];
        let cluster = index.map_or_else(|| alone.clone(), |index| self.clusters[index].clone());
        let host = match cluster.host {
            Some(host) => host,
            None => self.checked(&cluster),
        };
        if let Some(index) = index {
            self.clusters[index].host = Some(host);
        }
        let offset = (inst.args.imm - cluster.low) as i32;
        match self.plan.classes[inst.args.a as usize] {
            Class::Linear(stride) if stride == access.bytes() && access.count == 1 && access.bits >= 32 => {
                self.transfer_side_by_side(inst, access, host, offset);
            }
            Class::Linear(stride) => self.transfer_by_stride(inst, access, host, offset, stride as i32),
            _ => self.transfer(inst, access, host, offset),
        }
        true
    }

    /// A parameter at a constant place inside what the launch was checked to have.
    fn parameter(&mut self, inst: &Inst, access: Access) -> bool {
        let Some(base) = self.plan.constant(inst.args.a) else { return false };
        let at = base.wrapping_add(inst.args.imm as u64);
        let bytes = access.bytes() as u64;
        if access.store
            || at % bytes != 0
            || at.checked_add(bytes).is_none_or(|end| end > self.parameter_bytes)
        {
            return false;
        }
        let params = self.context_word(field::PARAMS);
        self.transfer(inst, access, params, at as i32);
        true
    }

    /// The host address of the first byte of accesses that are allowed.
    fn checked(&mut self, cluster: &Cluster) -> Value {
        let slot = cluster.base;
        let narrow =
            self.plan.presets[slot as usize].is_none() && self.plan.kinds[slot as usize].bytes() == 4;
        let base = match self.read(slot, if narrow { Kind::I32 } else { Kind::I64 }) {
            Val::One(base) | Val::Linear(base, _) => base,
            Val::Many(_) => unreachable!("only regular lanes have an extent"),
        };
        let base = if narrow { self.b.ins().uextend(types::I64, base) } else { base };
        let address = if cluster.low == 0 { base } else { self.b.ins().iadd_imm_s(base, cluster.low) };
        let shift = i64::from(cluster.align.trailing_zeros());
        let bytes = cluster.high - cluster.low;
        match cluster.space {
            SHARED | LOCAL => {
                let (start, length) = if cluster.space == SHARED {
                    (field::SHARED, field::SHARED_BYTES)
                } else {
                    (field::LOCAL, field::LOCAL_BYTES)
                };
                let (start, length) = (self.context_word(start), self.context_word(length));
                // Places where it fits; none where the memory is too small.
                let count = if bytes == cluster.align {
                    self.b.ins().ushr_imm_u(length, shift)
                } else {
                    let room = self.b.ins().iadd_imm_s(length, cluster.align - bytes);
                    let count = self.b.ins().sshr_imm_u(room, shift);
                    let none = self.b.ins().iconst(types::I64, 0);
                    self.b.ins().smax(count, none)
                };
                let place = if shift == 0 { address } else { self.b.ins().rotr_imm_u(address, shift) };
                let inside = self.b.ins().icmp(IntCC::UnsignedLessThan, place, count);
                let (fast, split) = (self.b.create_block(), self.split());
                self.b.ins().brif(inside, fast, &[], split, &[]);
                self.begin(fast);
                self.b.ins().iadd(start, address)
            }
            _ => {
                let site = self.sites;
                self.sites += 1;
                let description =
                    abi::describe(cluster.space, cluster.store, cluster.align as u32, bytes as u32, site);
                self.checked_by_site(address, shift, description, site)
            }
        }
    }

    /// Slots of the elements, and how each is held.
    pub(super) fn elements(&self, inst: &Inst, access: Access) -> Vec<(Slot, Kind)> {
        let x = &inst.args;
        let slots = &[x.d, x.b, x.c, x.e][..access.count as usize];
        slots.iter().map(|&slot| (slot, self.element_kind(slot, access))).collect()
    }

    /// How an element is held.
    fn element_kind(&self, slot: Slot, access: Access) -> Kind {
        match (access.bits, self.plan.kinds[slot as usize]) {
            (32, Kind::F32) => Kind::F32,
            (32, Kind::I64) if access.signed => Kind::I64,
            (8 | 16, Kind::I64) if access.signed => Kind::I64,
            (64, Kind::F64) => Kind::F64,
            (64, _) => Kind::I64,
            _ => Kind::I32,
        }
    }

    /// Other threads may use the memory at any time, and it is aligned for each lane only.
    pub(super) fn flags() -> MemFlagsData {
        MemFlagsData::new().with_notrap()
    }

    pub(super) fn load_element(&mut self, access: Access, kind: Kind, host: Value, offset: i32) -> Value {
        let (flags, ty) = (Self::flags(), scalar(kind));
        match (access.bits, access.signed) {
            (8, true) => self.b.ins().sload8(ty, flags, host, offset),
            (8, _) => self.b.ins().uload8(ty, flags, host, offset),
            (16, true) => self.b.ins().sload16(ty, flags, host, offset),
            (16, _) => self.b.ins().uload16(ty, flags, host, offset),
            (32, true) if kind == Kind::I64 => self.b.ins().sload32(flags, host, offset),
            _ => self.b.ins().load(ty, flags, host, offset),
        }
    }

    pub(super) fn store_element(&mut self, access: Access, value: Value, host: Value, offset: i32) {
        let flags = Self::flags();
        match access.bits {
            8 => self.b.ins().istore8(flags, value, host, offset),
            16 => self.b.ins().istore16(flags, value, host, offset),
            _ => self.b.ins().store(flags, value, host, offset),
        };
    }

    /// One access for all lanes.
    fn transfer(&mut self, inst: &Inst, access: Access, host: Value, offset: i32) {
        let mut results = Vec::new();
        for (index, (slot, kind)) in self.elements(inst, access).into_iter().enumerate() {
            let offset = offset + (index as u32 * access.bits / 8) as i32;
            if access.store {
                let val = self.read(slot, kind);
                let value = self.lane(&val, kind, self.plan.lanes - 1);
                self.store_element(access, value, host, offset);
            } else {
                results.push((slot, self.load_element(access, kind, host, offset), kind));
            }
        }
        for (slot, value, kind) in results {
            self.write(slot, Val::One(value), kind, None);
        }
    }

    /// The value in one lane: of the last one that is what remains when all store to the same place.
    fn lane(&mut self, val: &Val, kind: Kind, lane: usize) -> Value {
        match val {
            Val::One(value) => *value,
            val => {
                let values = self.spread(val.clone(), kind);
                let per = 16 / kind.bytes();
                self.b.ins().extractlane(values[lane / per], (lane % per) as u8)
            }
        }
    }

    /// An access per lane, side by side.
    fn transfer_side_by_side(&mut self, inst: &Inst, access: Access, host: Value, offset: i32) {
        let slot = inst.args.d;
        let flags = Self::flags();
        // Vectors are loaded as they are, and widened afterwards.
        let kind = match self.element_kind(slot, access) {
            Kind::I64 if access.bits == 32 => Kind::I32,
            kind => kind,
        };
        if access.store {
            let val = self.read(slot, kind);
            for (index, value) in self.spread(val, kind).into_iter().enumerate() {
                self.b.ins().store(flags, value, host, offset + 16 * index as i32);
            }
            return;
        }
        let values: Vec<Value> = (0..self.vectors(kind))
            .map(|index| self.b.ins().load(vector(kind), flags, host, offset + 16 * index as i32))
            .collect();
        if access.signed && access.bits == 32 && self.plan.kinds[slot as usize] == Kind::I64 {
            let wide = self.widen_masks(&values);
            self.write(slot, Val::Many(wide), Kind::I64, None);
            return;
        }
        self.write(slot, Val::Many(values), kind, None);
    }

    /// An access per lane, at equal distances.
    fn transfer_by_stride(&mut self, inst: &Inst, access: Access, host: Value, offset: i32, stride: i32) {
        let mut results: Vec<(Slot, Kind, Vec<Value>)> = Vec::new();
        for (index, (slot, kind)) in self.elements(inst, access).into_iter().enumerate() {
            let at = offset + (index as u32 * access.bits / 8) as i32;
            if access.store {
                let val = self.read(slot, kind);
                let val = if let Val::Linear(..) = val { Val::Many(self.spread(val, kind)) } else { val };
                for lane in 0..self.plan.lanes {
                    let value = self.lane(&val, kind, lane);
                    self.store_element(access, value, host, at + stride * lane as i32);
                }
                continue;
            }
            let values = (0..self.plan.lanes)
                .map(|lane| self.load_element(access, kind, host, at + stride * lane as i32))
                .collect::<Vec<_>>();
            results.push((slot, kind, self.gathered(kind, &values)));
        }
        for (slot, kind, values) in results {
            self.write(slot, Val::Many(values), kind, None);
        }
    }

    /// Vectors of the values of all lanes.
    fn gathered(&mut self, kind: Kind, lanes: &[Value]) -> Vec<Value> {
        lanes
            .chunks(16 / kind.bytes())
            .map(|part| {
                let mut all = self.b.ins().scalar_to_vector(vector(kind), part[0]);
                for (index, &value) in part.iter().enumerate().skip(1) {
                    all = self.b.ins().insertlane(all, value, index as u8);
                }
                all
            })
            .collect()
    }
}
