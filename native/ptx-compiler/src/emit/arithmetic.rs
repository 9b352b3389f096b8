//! Arithmetic, comparisons and moves. What is not lowered here the interpreter's functions compute.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};
use ptx::engine::{Comparison, Inst, Logic, Meaning, Operation, Slot, Ty};

use super::Emitter;
use super::values::{Val, as_is, scalar, vector};
use crate::plan::{Kind, is_whole};

/// How operands of a type are held; none for types that have no arithmetic here.
pub(super) fn kind_of(ty: Ty) -> Option<Kind> {
    Some(match ty {
        Ty::F32 => Kind::F32,
        Ty::F64 => Kind::F64,
        Ty::Pred => Kind::Predicate,
        _ if is_whole(ty) && ty.bits() == 32 => Kind::I32,
        _ if is_whole(ty) && ty.bits() == 64 => Kind::I64,
        _ => return None,
    })
}

fn kind_of_bits(bits: u32) -> Option<Kind> {
    Some(match bits {
        1 => Kind::Predicate,
        32 => Kind::I32,
        64 => Kind::I64,
        _ => return None,
    })
}

/// Operands of an operation.
enum Apart {
    /// All lanes have the same: one value of each.
    Once(Vec<Value>),
    /// The vectors of each.
    Vectors(Vec<Vec<Value>>),
}

impl Emitter<'_, '_> {
    /// Emits an operation on registers if it can.
    pub(super) fn arithmetic(&mut self, inst: &Inst, guard: Option<&Val>) -> bool {
        let x = inst.args;
        let (val, kind) = match inst.meaning {
            Meaning::Offset => {
                let a = self.read(x.a, Kind::I64);
                let b = Val::One(self.b.ins().iconst(types::I64, x.imm));
                (self.add(a, b, Kind::I64), Kind::I64)
            }
            Meaning::Move(bits) => {
                let Some(kind) = self.move_kind(bits, x.d) else {
                    return self.narrow_move(inst, bits, guard);
                };
                (self.read(x.a, kind), kind)
            }
            Meaning::Extract(32) => {
                let a = self.read(x.a, Kind::I64);
                let shifted = self.each(&[a], Kind::I64, &|this, v| this.b.ins().ushr_imm_u(v[0], x.imm));
                (self.convert(shifted, Kind::I64, Kind::I32), Kind::I32)
            }
            Meaning::Pack(32, 2) => {
                let low = self.read(x.a, Kind::I32);
                let low = self.convert(low, Kind::I32, Kind::I64);
                let high = self.read(x.b, Kind::I32);
                let high = self.convert(high, Kind::I32, Kind::I64);
                let pack = |this: &mut Self, v: &[Value]| {
                    let high = this.b.ins().ishl_imm_u(v[1], 32);
                    this.b.ins().bor(v[0], high)
                };
                (self.each(&[low, high], Kind::I64, &pack), Kind::I64)
            }
            Meaning::Logic(logic, bits) => {
                // Sixteen bits of both operands: so many of the result.
                let Some(kind) = kind_of_bits(if bits == 16 { return false } else { bits }) else {
                    return false;
                };
                let operands = [self.read(x.a, kind), self.read(x.b, kind)];
                let act = move |this: &mut Self, v: &[Value]| match logic {
                    Logic::And => this.b.ins().band(v[0], v[1]),
                    Logic::Or => this.b.ins().bor(v[0], v[1]),
                    Logic::Xor => this.b.ins().bxor(v[0], v[1]),
                };
                (self.each(&operands, kind, &act), kind)
            }
            Meaning::Not(1) => {
                let a = self.read(x.a, Kind::Predicate);
                (self.negate(a), Kind::Predicate)
            }
            Meaning::Not(bits) => {
                let Some(kind) = kind_of_bits(bits) else { return false };
                let a = self.read(x.a, kind);
                (self.each(&[a], kind, &|this, v| this.b.ins().bnot(v[0])), kind)
            }
            Meaning::Select(bits) => {
                let Some(kind) = self.move_kind(bits, x.d) else { return false };
                let (a, b) = (self.read(x.a, kind), self.read(x.b, kind));
                let condition = self.read(x.c, Kind::Predicate);
                (self.choose(&condition, a, b, kind), kind)
            }
            Meaning::Compare(comparison, ty, false) => {
                let Some(kind) = kind_of(ty) else { return false };
                (self.compare(comparison, ty, kind, x.a, x.b), Kind::Predicate)
            }
            Meaning::Arithmetic(operation, ty @ (Ty::F32 | Ty::F64), false) => {
                let kind = if ty == Ty::F32 { Kind::F32 } else { Kind::F64 };
                return self.float(inst, operation, kind, guard);
            }
            Meaning::MulAdd(ty @ (Ty::F32 | Ty::F64), false) => {
                let kind = if ty == Ty::F32 { Kind::F32 } else { Kind::F64 };
                let mut operands = [x.a, x.b, x.c].map(|slot| self.read_raw(slot, kind));
                // The machine overwrites the first factor: better one that is used once. Of f64 the order says which NaN
                // the result is.
                if kind == Kind::F32 && matches!((&operands[0], &operands[1]), (Val::One(_), Val::Many(_))) {
                    operands.swap(0, 1);
                }
                let val = self.each(&operands, kind, &|this, v| this.b.ins().fma(v[0], v[1], v[2]));
                self.write_float(x.d, val, kind, guard);
                return true;
            }
            Meaning::Arithmetic(operation, ty, false) => {
                let Some(kind @ (Kind::I32 | Kind::I64)) = kind_of(ty) else { return false };
                let Some((val, kind)) = self.whole(operation, ty, kind, x.a, x.b) else { return false };
                (val, kind)
            }
            Meaning::MulAdd(ty, false) => {
                let Some(kind @ (Kind::I32 | Kind::I64)) = kind_of(ty) else { return false };
                let Some(product) = self.multiply(kind, x.a, x.b) else { return false };
                let c = self.read(x.c, kind);
                (self.add(product, c, kind), kind)
            }
            Meaning::MulWide(ty @ (Ty::U32 | Ty::S32)) => (self.multiply_wide(ty, x.a, x.b), Kind::I64),
            Meaning::MulAddWide(ty @ (Ty::U32 | Ty::S32)) => {
                let product = self.multiply_wide(ty, x.a, x.b);
                let c = self.read(x.c, Kind::I64);
                (self.add(product, c, Kind::I64), Kind::I64)
            }
            Meaning::Lop3 => {
                let operands = [x.a, x.b, x.c].map(|slot| self.read(slot, Kind::I32));
                let act = move |this: &mut Self, v: &[Value]| this.lop3(v, x.imm);
                (self.each(&operands, Kind::I32, &act), Kind::I32)
            }
            Meaning::Convert(to, from, mode) => {
                return self.conversion(inst, to, from, mode, guard);
            }
            _ => return false,
        };
        self.write(x.d, val, kind, guard);
        true
    }

    /// What a move of so many bits is best done as.
    fn move_kind(&self, bits: u32, d: Slot) -> Option<Kind> {
        let own = self.plan.kinds[d as usize];
        match (bits, own) {
            (32, Kind::F32) => Some(Kind::F32),
            (64, Kind::F64) => Some(Kind::F64),
            _ => kind_of_bits(bits),
        }
    }

    fn narrow_move(&mut self, inst: &Inst, bits: u32, guard: Option<&Val>) -> bool {
        let mask = (1i64 << bits) - 1;
        let a = self.read(inst.args.a, Kind::I32);
        let mask = Val::One(self.b.ins().iconst(types::I32, mask));
        let val = self.each(&[a, mask], Kind::I32, &|this, v| this.b.ins().band(v[0], v[1]));
        self.write(inst.args.d, val, Kind::I32, guard);
        true
    }

    /// The same operation on each vector, or once when all lanes have the same operands.
    pub(super) fn each(
        &mut self,
        operands: &[Val],
        from: Kind,
        act: &dyn Fn(&mut Self, &[Value]) -> Value,
    ) -> Val {
        let operands = match self.taken_apart(operands, from) {
            Apart::Once(values) => return Val::One(act(self, &values)),
            Apart::Vectors(operands) => operands,
        };
        let results = (0..self.vectors(from)).map(|index| {
            let parts: Vec<Value> = operands.iter().map(|values| values[index]).collect();
            act(self, &parts)
        });
        Val::Many(results.collect())
    }

    /// The same operation on each lane, for what vectors do not have.
    pub(super) fn lane_by_lane(
        &mut self,
        operands: &[Val],
        (from, to): (Kind, Kind),
        act: &dyn Fn(&mut Self, &[Value]) -> Value,
    ) -> Val {
        let operands = match self.taken_apart(operands, from) {
            Apart::Once(values) => return Val::One(act(self, &values)),
            Apart::Vectors(operands) => operands,
        };
        let (per_from, per_to) = (16 / from.bytes(), 16 / to.bytes());
        let mut results: Vec<Value> = Vec::new();
        for lane in 0..self.plan.lanes {
            let parts: Vec<Value> = operands
                .iter()
                .map(|values| self.b.ins().extractlane(values[lane / per_from], (lane % per_from) as u8))
                .collect();
            let value = act(self, &parts);
            if lane % per_to == 0 {
                results.push(self.b.ins().scalar_to_vector(vector(to), value));
            } else if let Some(last) = results.last_mut() {
                *last = self.b.ins().insertlane(*last, value, (lane % per_to) as u8);
            }
        }
        Val::Many(results)
    }

    /// [`Self::each`] where vectors have the operation, else [`Self::lane_by_lane`].
    pub(super) fn each_if(
        &mut self,
        vectors_have_it: bool,
        operands: &[Val],
        (from, to): (Kind, Kind),
        act: &dyn Fn(&mut Self, &[Value]) -> Value,
    ) -> Val {
        if vectors_have_it {
            self.each(operands, from, act)
        } else {
            self.lane_by_lane(operands, (from, to), act)
        }
    }

    fn taken_apart(&mut self, operands: &[Val], kind: Kind) -> Apart {
        let one = |val: &Val| if let Val::One(value) = val { Some(*value) } else { None };
        match operands.iter().map(one).collect() {
            Some(values) => Apart::Once(values),
            None => Apart::Vectors(operands.iter().map(|val| self.spread(val.clone(), kind)).collect()),
        }
    }

    pub(super) fn add(&mut self, a: Val, b: Val, kind: Kind) -> Val {
        match (&a, &b) {
            (Val::Linear(a, stride), Val::One(b)) | (Val::One(b), Val::Linear(a, stride)) => {
                Val::Linear(self.b.ins().iadd(*a, *b), *stride)
            }
            (Val::Linear(a, stride), Val::Linear(b, other)) => self.linear(*a, *b, stride + other, true),
            _ => self.each(&[a, b], kind, &|this, v| this.b.ins().iadd(v[0], v[1])),
        }
    }

    fn linear(&mut self, a: Value, b: Value, stride: i64, plus: bool) -> Val {
        let value = if plus { self.b.ins().iadd(a, b) } else { self.b.ins().isub(a, b) };
        if stride == 0 { Val::One(value) } else { Val::Linear(value, stride) }
    }

    fn subtract(&mut self, a: Val, b: Val, kind: Kind) -> Val {
        match (&a, &b) {
            (Val::Linear(a, stride), Val::One(b)) => self.linear(*a, *b, *stride, false),
            (Val::One(a), Val::Linear(b, stride)) => self.linear(*a, *b, -stride, false),
            (Val::Linear(a, stride), Val::Linear(b, other)) => self.linear(*a, *b, stride - other, false),
            _ => self.each(&[a, b], kind, &|this, v| this.b.ins().isub(v[0], v[1])),
        }
    }

    /// A factor as a stride can be multiplied with it: as [`crate::plan`] sees it.
    fn factor(&self, slot: Slot) -> Option<i64> {
        i32::try_from(self.plan.constant(slot)?).ok().map(i64::from)
    }

    /// Low half of a product.
    fn multiply(&mut self, kind: Kind, a: Slot, b: Slot) -> Option<Val> {
        let (one, other) = (self.read(a, kind), self.read(b, kind));
        let scaled = match (&one, &other) {
            (Val::Linear(value, stride), Val::One(by)) => {
                self.factor(b).map(|factor| (*value, *by, stride * factor))
            }
            (Val::One(by), Val::Linear(value, stride)) => {
                self.factor(a).map(|factor| (*value, *by, stride * factor))
            }
            _ => None,
        };
        if let Some((value, by, stride)) = scaled.filter(|(_, _, stride)| i32::try_from(*stride).is_ok()) {
            let value = self.b.ins().imul(value, by);
            return Some(if stride == 0 { Val::One(value) } else { Val::Linear(value, stride) });
        }
        Some(self.each(&[one, other], kind, &|this, v| this.b.ins().imul(v[0], v[1])))
    }

    /// 32 bits to 64. A linear value stays so: where its sums would wrap around the group splits.
    pub(super) fn extend(&mut self, val: Val, signed: bool) -> Val {
        let one = |this: &mut Self, value| {
            if signed {
                this.b.ins().sextend(types::I64, value)
            } else {
                this.b.ins().uextend(types::I64, value)
            }
        };
        match val {
            Val::One(value) => Val::One(one(self, value)),
            Val::Linear(value, stride) => {
                let wide = one(self, value);
                let far = self.b.ins().iadd_imm_s(wide, stride.wrapping_mul(self.plan.lanes as i64 - 1));
                let cut = self.b.ins().ireduce(types::I32, far);
                let again = one(self, cut);
                let same = self.b.ins().icmp(IntCC::Equal, far, again);
                let (on, split) = (self.b.create_block(), self.split());
                self.b.ins().brif(same, on, &[], split, &[]);
                self.begin(on);
                Val::Linear(wide, stride)
            }
            Val::Many(values) => {
                let mut wide = Vec::new();
                for value in values {
                    if signed {
                        wide.push(self.b.ins().swiden_low(value));
                        wide.push(self.b.ins().swiden_high(value));
                    } else {
                        wide.push(self.b.ins().uwiden_low(value));
                        wide.push(self.b.ins().uwiden_high(value));
                    }
                }
                Val::Many(wide)
            }
        }
    }

    fn multiply_wide(&mut self, ty: Ty, a: Slot, b: Slot) -> Val {
        let signed = ty == Ty::S32;
        let (one, other) = (self.read(a, Kind::I32), self.read(b, Kind::I32));
        let factor = match (&one, &other) {
            (Val::Linear(_, stride), Val::One(_)) => self.factor(b).map(|factor| stride * factor),
            (Val::One(_), Val::Linear(_, stride)) => self.factor(a).map(|factor| stride * factor),
            _ => None,
        };
        if let Some(stride) = factor.filter(|stride| i32::try_from(*stride).is_ok()) {
            let (one, other) = (self.extend(one, signed), self.extend(other, signed));
            if let (Val::One(a) | Val::Linear(a, _), Val::One(b) | Val::Linear(b, _)) = (one, other) {
                let value = self.b.ins().imul(a, b);
                return if stride == 0 { Val::One(value) } else { Val::Linear(value, stride) };
            }
            unreachable!("values of one lane stay so");
        }
        // What is not linear any more needs no checks.
        let plain = |this: &mut Self, val: Val| match val {
            Val::Linear(..) => Val::Many(this.spread(val, Kind::I32)),
            val => val,
        };
        let (one, other) = (plain(self, one), plain(self, other));
        let (one, other) = (self.extend(one, signed), self.extend(other, signed));
        self.each(&[one, other], Kind::I64, &|this, v| this.b.ins().imul(v[0], v[1]))
    }

    fn whole(&mut self, operation: Operation, ty: Ty, kind: Kind, a: Slot, b: Slot) -> Option<(Val, Kind)> {
        use Operation as O;
        let signed = ty.is_signed();
        let bits = i64::from(ty.bits());
        let val = match operation {
            O::Add | O::Sub => {
                let (a, b) = (self.read(a, kind), self.read(b, kind));
                if operation == O::Add { self.add(a, b, kind) } else { self.subtract(a, b, kind) }
            }
            O::Mul => self.multiply(kind, a, b)?,
            O::MulHigh => {
                let operands = [self.read(a, kind), self.read(b, kind)];
                let act = move |this: &mut Self, v: &[Value]| {
                    if signed { this.b.ins().smulhi(v[0], v[1]) } else { this.b.ins().umulhi(v[0], v[1]) }
                };
                self.lane_by_lane(&operands, (kind, kind), &act)
            }
            O::Min | O::Max => {
                let operands = [self.read(a, kind), self.read(b, kind)];
                let act = move |this: &mut Self, v: &[Value]| match (operation == O::Min, signed) {
                    (true, true) => this.b.ins().smin(v[0], v[1]),
                    (true, false) => this.b.ins().umin(v[0], v[1]),
                    (false, true) => this.b.ins().smax(v[0], v[1]),
                    (false, false) => this.b.ins().umax(v[0], v[1]),
                };
                self.each_if(kind == Kind::I32, &operands, (kind, kind), &act)
            }
            O::Neg => {
                let a = self.read(a, kind);
                let zero = Val::One(self.b.ins().iconst(scalar(kind), 0));
                self.subtract_plain(zero, a, kind)
            }
            O::Abs => {
                let a = self.read(a, kind);
                let act = |this: &mut Self, v: &[Value]| this.b.ins().iabs(v[0]);
                self.each_if(kind == Kind::I32, &[a], (kind, kind), &act)
            }
            O::Shl | O::Shr => self.shift(operation == O::Shl, signed, bits, kind, a, b),
            O::Div | O::Rem => {
                let operands = [self.read(a, kind), self.read(b, kind)];
                let act =
                    move |this: &mut Self, v: &[Value]| this.divide(operation == O::Div, signed, kind, v);
                self.lane_by_lane(&operands, (kind, kind), &act)
            }
            O::PopulationCount | O::LeadingZeros => {
                let a = self.read(a, kind);
                let act = move |this: &mut Self, v: &[Value]| {
                    let count = if operation == O::PopulationCount {
                        this.b.ins().popcnt(v[0])
                    } else {
                        this.b.ins().clz(v[0])
                    };
                    if kind == Kind::I64 { this.b.ins().ireduce(types::I32, count) } else { count }
                };
                return Some((self.lane_by_lane(&[a], (kind, Kind::I32), &act), Kind::I32));
            }
            O::ReverseBits => {
                let a = self.read(a, kind);
                self.lane_by_lane(&[a], (kind, kind), &|this, v| this.b.ins().bitrev(v[0]))
            }
            _ => return None,
        };
        Some((val, kind))
    }

    fn subtract_plain(&mut self, a: Val, b: Val, kind: Kind) -> Val {
        let b = if let Val::Linear(..) = b { Val::Many(self.spread(b, kind)) } else { b };
        self.each(&[a, b], kind, &|this, v| this.b.ins().isub(v[0], v[1]))
    }

    /// Counts above the width shift everything out, or leave copies of the sign.
    fn shift(&mut self, left: bool, signed: bool, bits: i64, kind: Kind, a: Slot, b: Slot) -> Val {
        let val = self.read(a, kind);
        if let Some(count) = self.plan.constant(b) {
            let count = i64::from(count as u32);
            if let (Val::Linear(value, stride), true) = (&val, left && count < bits)
                && let Some(stride) = stride.checked_mul(1 << count.min(62))
            {
                return Val::Linear(self.b.ins().ishl_imm_u(*value, count), stride);
            }
            let act = move |this: &mut Self, v: &[Value]| match (left, signed) {
                (false, true) => this.b.ins().sshr_imm_u(v[0], count.min(bits - 1)),
                _ if count >= bits => this.b.ins().bxor(v[0], v[0]),
                (true, _) => this.b.ins().ishl_imm_u(v[0], count),
                (false, false) => this.b.ins().ushr_imm_u(v[0], count),
            };
            return self.each(&[val], kind, &act);
        }
        let count = self.read(b, Kind::I32);
        let same = matches!(count, Val::One(_));
        let shift = move |this: &mut Self, value: Value, count: Value| {
            let limit = this.b.ins().iconst(types::I32, bits - 1);
            let beyond = this.b.ins().icmp(IntCC::UnsignedGreaterThan, count, limit);
            if signed && !left {
                let count = this.b.ins().select(beyond, limit, count);
                return this.b.ins().sshr(value, count);
            }
            let shifted =
                if left { this.b.ins().ishl(value, count) } else { this.b.ins().ushr(value, count) };
            let ty = this.b.func.dfg.value_type(value);
            let zero =
                if ty.is_vector() { this.b.ins().bxor(value, value) } else { this.b.ins().iconst(ty, 0) };
            this.b.ins().select(beyond, zero, shifted)
        };
        match (count, val) {
            (Val::One(count), val) if same => self.each(&[val], kind, &|this, v| shift(this, v[0], count)),
            (count, val) => {
                // Lanes of both kinds are taken apart alike.
                let count = self.convert(count, Kind::I32, kind);
                let act = |this: &mut Self, v: &[Value]| {
                    let count = if kind == Kind::I64 { this.b.ins().ireduce(types::I32, v[1]) } else { v[1] };
                    shift(this, v[0], count)
                };
                self.lane_by_lane(&[val, count], (kind, kind), &act)
            }
        }
    }

    /// Division by zero answers all ones, and the dividend as remainder.
    fn divide(&mut self, quotient: bool, signed: bool, kind: Kind, v: &[Value]) -> Value {
        let ty = scalar(kind);
        let zero = self.b.ins().iconst(ty, 0);
        let one = self.b.ins().iconst(ty, 1);
        let ones = self.b.ins().bnot(zero);
        let by_zero = self.b.ins().icmp(IntCC::Equal, v[1], zero);
        if !signed {
            let divisor = self.b.ins().select(by_zero, one, v[1]);
            return if quotient {
                let result = self.b.ins().udiv(v[0], divisor);
                self.b.ins().select(by_zero, ones, result)
            } else {
                let result = self.b.ins().urem(v[0], divisor);
                self.b.ins().select(by_zero, v[0], result)
            };
        }
        // By -1 the machine's division overflows: the negated dividend and no remainder, without it.
        let by_minus = self.b.ins().icmp(IntCC::Equal, v[1], ones);
        let special = self.b.ins().bor(by_zero, by_minus);
        let divisor = self.b.ins().select(special, one, v[1]);
        if quotient {
            let result = self.b.ins().sdiv(v[0], divisor);
            let negated = self.b.ins().ineg(v[0]);
            let result = self.b.ins().select(by_minus, negated, result);
            self.b.ins().select(by_zero, ones, result)
        } else {
            let result = self.b.ins().srem(v[0], divisor);
            let result = self.b.ins().select(by_minus, zero, result);
            self.b.ins().select(by_zero, v[0], result)
        }
    }

    fn lop3(&mut self, v: &[Value], table: i64) -> Value {
        let (a, b, c) = (v[0], v[1], v[2]);
        match table & 0xff {
            0xc0 => return self.b.ins().band(a, b),
            0xfc => return self.b.ins().bor(a, b),
            0x3c => return self.b.ins().bxor(a, b),
            0x80 => {
                let ab = self.b.ins().band(a, b);
                return self.b.ins().band(ab, c);
            }
            0xfe => {
                let ab = self.b.ins().bor(a, b);
                return self.b.ins().bor(ab, c);
            }
            0x96 => {
                let ab = self.b.ins().bxor(a, b);
                return self.b.ins().bxor(ab, c);
            }
            0xca => return self.b.ins().bitselect(a, b, c),
            _ => {}
        }
        let mut result = self.b.ins().bxor(a, a);
        for bit in (0..8).filter(|bit| table >> bit & 1 != 0) {
            let pick = |this: &mut Self, value: Value, mask: i64| {
                if bit & mask != 0 { value } else { this.b.ins().bnot(value) }
            };
            let (a, b, c) = (pick(self, a, 4), pick(self, b, 2), pick(self, c, 1));
            let all = self.b.ins().band(a, b);
            let all = self.b.ins().band(all, c);
            result = self.b.ins().bor(result, all);
        }
        result
    }

    fn compare(&mut self, comparison: Comparison, ty: Ty, kind: Kind, a: Slot, b: Slot) -> Val {
        let float = matches!(kind, Kind::F32 | Kind::F64);
        let operands = if float {
            [self.read_raw(a, kind), self.read_raw(b, kind)]
        } else {
            [self.read(a, kind), self.read(b, kind)]
        };
        let signed = ty.is_signed();
        let act = move |this: &mut Self, v: &[Value]| {
            if float {
                this.compare_floats(comparison, v)
            } else {
                this.compare_integers(comparison, signed, v)
            }
        };
        if kind == Kind::I64 && !operands.iter().all(|val| matches!(val, Val::One(_))) {
            // Vectors of 64 bits compare for equality and with signs.
            let flip = !signed && !matches!(comparison, Comparison::Eq | Comparison::Ne);
            let act = move |this: &mut Self, v: &[Value]| {
                if !flip {
                    return this.compare_integers(comparison, true, v);
                }
                let sign = this.b.ins().iconst(types::I64, i64::MIN);
                let sign = this.b.ins().splat(types::I64X2, sign);
                let (a, b) = (this.b.ins().bxor(v[0], sign), this.b.ins().bxor(v[1], sign));
                this.compare_integers(comparison, true, &[a, b])
            };
            let Val::Many(masks) = self.each(&operands, kind, &act) else { unreachable!("vectors") };
            return Val::Many(self.narrow(&masks));
        }
        let val = self.each(&operands, kind, &act);
        match val {
            Val::Many(masks) if kind.bytes() == 8 => Val::Many(self.narrow(&masks)),
            val => val,
        }
    }

    fn compare_integers(&mut self, comparison: Comparison, signed: bool, v: &[Value]) -> Value {
        let code = match (comparison, signed) {
            (Comparison::Eq, _) => IntCC::Equal,
            (Comparison::Ne, _) => IntCC::NotEqual,
            (Comparison::Lt, true) => IntCC::SignedLessThan,
            (Comparison::Lt, false) => IntCC::UnsignedLessThan,
            (Comparison::Le, true) => IntCC::SignedLessThanOrEqual,
            (Comparison::Le, false) => IntCC::UnsignedLessThanOrEqual,
            (Comparison::Gt, true) => IntCC::SignedGreaterThan,
            (Comparison::Gt, false) => IntCC::UnsignedGreaterThan,
            (_, true) => IntCC::SignedGreaterThanOrEqual,
            (_, false) => IntCC::UnsignedGreaterThanOrEqual,
        };
        self.b.ins().icmp(code, v[0], v[1])
    }

    fn compare_floats(&mut self, comparison: Comparison, v: &[Value]) -> Value {
        use Comparison as C;
        let code = match comparison {
            C::Eq | C::NeUnordered => FloatCC::Equal,
            C::Lt | C::GeUnordered => FloatCC::LessThan,
            C::Le | C::GtUnordered => FloatCC::LessThanOrEqual,
            C::Gt | C::LeUnordered => FloatCC::GreaterThan,
            C::Ge | C::LtUnordered => FloatCC::GreaterThanOrEqual,
            C::Ordered => FloatCC::Ordered,
            C::Unordered => FloatCC::Unordered,
            C::Ne | C::EqUnordered => FloatCC::NotEqual,
        };
        let result = self.b.ins().fcmp(code, v[0], v[1]);
        let negated = matches!(
            comparison,
            C::NeUnordered | C::GeUnordered | C::GtUnordered | C::LeUnordered | C::LtUnordered
        );
        if negated {
            return self.opposite(result);
        }
        if !matches!(comparison, C::Ne | C::EqUnordered) {
            return result;
        }
        // Not equal holds with NaN too.
        let ordered = self.b.ins().fcmp(FloatCC::Ordered, v[0], v[1]);
        let differ = self.b.ins().band(result, ordered);
        if comparison == C::Ne { differ } else { self.opposite(differ) }
    }

    fn opposite(&mut self, truth: Value) -> Value {
        if self.b.func.dfg.value_type(truth).is_vector() {
            self.b.ins().bnot(truth)
        } else {
            let one = self.b.ins().iconst(types::I8, 1);
            self.b.ins().bxor(truth, one)
        }
    }

    fn float(&mut self, inst: &Inst, operation: Operation, kind: Kind, guard: Option<&Val>) -> bool {
        use Operation as O;
        let x = inst.args;
        let whole = if kind == Kind::F32 { Kind::I32 } else { Kind::I64 };
        if matches!(operation, O::Neg | O::Abs) {
            // On bits: also of NaN.
            let a = self.read(x.a, kind);
            let sign = if kind == Kind::F32 { 0x8000_0000 } else { 1 << 63 };
            let mask = if operation == O::Neg { sign } else { !sign };
            let mask = Val::One(self.constant(whole, mask));
            let a = self.convert(a, kind, whole);
            let act = move |this: &mut Self, v: &[Value]| {
                if operation == O::Neg {
                    this.b.ins().bxor(v[0], v[1])
                } else {
                    this.b.ins().band(v[0], v[1])
                }
            };
            let val = self.each(&[a, mask], whole, &act);
            self.write(x.d, val, whole, guard);
            return true;
        }
        if !matches!(operation, O::Add | O::Sub | O::Mul | O::Div | O::Sqrt | O::Reciprocal | O::Min | O::Max)
        {
            return false;
        }
        let operands = [self.read_raw(x.a, kind), self.read_raw(x.b, kind)];
        let count = if matches!(operation, O::Sqrt | O::Reciprocal) { 1 } else { 2 };
        let act = move |this: &mut Self, v: &[Value]| match operation {
            O::Add => this.b.ins().fadd(v[0], v[1]),
            O::Sub => this.b.ins().fsub(v[0], v[1]),
            O::Mul => this.b.ins().fmul(v[0], v[1]),
            O::Div => this.b.ins().fdiv(v[0], v[1]),
            O::Sqrt => this.b.ins().sqrt(v[0]),
            O::Reciprocal => {
                let one =
                    this.constant(kind, if kind == Kind::F32 { 0x3f80_0000 } else { 0x3ff0_0000_0000_0000 });
                let ty = this.b.func.dfg.value_type(v[0]);
                let one = if ty.is_vector() { this.b.ins().splat(ty, one) } else { one };
                this.b.ins().fdiv(one, v[0])
            }
            _ => this.extreme(operation == O::Min, v),
        };
        let val = self.each(&operands[..count], kind, &act);
        self.write_float(x.d, val, kind, guard);
        true
    }

    /// Minimum or maximum: of a number and NaN the number, and of zeros the one whose sign fits.
    fn extreme(&mut self, min: bool, v: &[Value]) -> Value {
        let (a, b) = (v[0], v[1]);
        let ty = self.b.func.dfg.value_type(a);
        let code = if min { FloatCC::LessThan } else { FloatCC::GreaterThan };
        let nearer = self.b.ins().fcmp(code, a, b);
        let equal = self.b.ins().fcmp(FloatCC::Equal, a, b);
        let no_number = self.b.ins().fcmp(FloatCC::Unordered, a, a);
        if !ty.is_vector() {
            let whole = if ty == types::F32 { types::I32 } else { types::I64 };
            let flags = cranelift_codegen::ir::MemFlagsData::new();
            let (x, y) = (self.b.ins().bitcast(whole, flags, a), self.b.ins().bitcast(whole, flags, b));
            let zero = if min { self.b.ins().bor(x, y) } else { self.b.ins().band(x, y) };
            let zero = self.b.ins().bitcast(ty, flags, zero);
            let other_none = self.b.ins().fcmp(FloatCC::Unordered, b, b);
            let far = self.b.ins().select(other_none, a, b);
            let chosen = self.b.ins().select(nearer, a, far);
            let chosen = self.b.ins().select(equal, zero, chosen);
            return self.b.ins().select(no_number, b, chosen);
        }
        let whole = if ty == types::F32X4 { types::I32X4 } else { types::I64X2 };
        let cast = |this: &mut Self, value| this.b.ins().bitcast(whole, as_is(), value);
        let (x, y) = (cast(self, a), cast(self, b));
        let zero = if min { self.b.ins().bor(x, y) } else { self.b.ins().band(x, y) };
        let other_none = self.b.ins().fcmp(FloatCC::Unordered, b, b);
        let far = self.b.ins().bitselect(other_none, x, y);
        let chosen = self.b.ins().bitselect(nearer, x, far);
        let chosen = self.b.ins().bitselect(equal, zero, chosen);
        let chosen = self.b.ins().bitselect(no_number, y, chosen);
        self.b.ins().bitcast(ty, as_is(), chosen)
    }

    /// A result of an operation on f32 is made canonical as late as possible: operations that make their own NaN do
    /// not look at it.
    pub(super) fn write_float(&mut self, d: Slot, val: Val, kind: Kind, guard: Option<&Val>) {
        if d == 0 {
            return;
        }
        let late = kind == Kind::F32 && self.plan.kinds[d as usize] == Kind::F32;
        let val = if kind == Kind::F32 && (!late || guard.is_some()) { self.canonical(val) } else { val };
        self.write(d, val, kind, guard);
        if late && guard.is_none() {
            self.raw.insert(d);
        }
    }
}
