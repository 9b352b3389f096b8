//! `cvt` between common pairs of types.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use ptx::engine::{Inst, Mode, Slot, Ty};

use super::Emitter;
use super::arithmetic::kind_of;
use super::values::{Val, scalar};
use crate::plan::{Kind, is_whole};

/// The integer type that bits without a sign stand for.
fn whole(ty: Ty) -> Ty {
    match ty {
        Ty::B8 => Ty::U8,
        Ty::B16 => Ty::U16,
        Ty::B32 => Ty::U32,
        Ty::B64 => Ty::U64,
        other => other,
    }
}

impl Emitter<'_, '_> {
    /// Emits a conversion if it can.
    pub(super) fn conversion(
        &mut self,
        inst: &Inst,
        to: Ty,
        from: Ty,
        mode: Option<Mode>,
        guard: Option<&Val>,
    ) -> bool {
        let (to, from) = (whole(to), whole(from));
        let d = inst.args.d;
        let own = self.plan.kinds[d as usize];
        // A register wider than the type gets bits that depend on the function.
        let fits = if to.bits() == 64 { own.bytes() == 8 } else { own.bytes() == 4 };
        if d == 0 || !fits {
            return false;
        }
        let a = inst.args.a;
        let result = match (is_whole(to), is_whole(from), mode) {
            (true, true, None) => self.between_integers(a, to, from),
            (false, true, _) => self.integer_to_float(a, to, from, mode),
            (true, false, Some(Mode::Rzi | Mode::Rz))
                if from == Ty::F32 && matches!(to, Ty::S32 | Ty::U32) =>
            {
                Some((self.float_to_integer(a, to == Ty::S32), Kind::I32))
            }
            (false, false, _) => self.between_floats(a, to, from, mode),
            _ => None,
        };
        let Some((val, kind)) = result else { return false };
        self.write(d, val, kind, guard);
        true
    }

    fn float_to_integer(&mut self, a: Slot, signed: bool) -> Val {
        let val = self.read_raw(a, Kind::F32);
        let act = move |this: &mut Self, v: &[Value]| {
            let vectors = this.b.func.dfg.value_type(v[0]).is_vector();
            let ty = if vectors { types::I32X4 } else { types::I32 };
            if signed {
                this.b.ins().fcvt_to_sint_sat(ty, v[0])
            } else {
                this.b.ins().fcvt_to_uint_sat(ty, v[0])
            }
        };
        self.each_if(signed, &[val], (Kind::F32, Kind::I32), &act)
    }

    fn between_integers(&mut self, a: Slot, to: Ty, from: Ty) -> Option<(Val, Kind)> {
        // Both narrow: only the least of both widths survives, then the destination's sign counts.
        if from.bits() < 32 || to.bits() < 32 {
            if to.bits() == 64 {
                return None;
            }
            let wide = self.read(a, if from.bits() == 64 { Kind::I64 } else { Kind::I32 });
            let val = if from.bits() == 64 { self.convert(wide, Kind::I64, Kind::I32) } else { wide };
            let val = if from.bits() < 32 { self.cut(val, from) } else { val };
            let val = if to.bits() < 32 { self.cut(val, to) } else { val };
            return Some((val, Kind::I32));
        }
        match (to.bits(), from.bits()) {
            (32, 32 | 64) => Some((self.read(a, Kind::I32), Kind::I32)),
            (64, 64) => Some((self.read(a, Kind::I64), Kind::I64)),
            (64, _) => {
                let val = self.read(a, Kind::I32);
                Some((self.extend(val, from.is_signed()), Kind::I64))
            }
            _ => None,
        }
    }

    /// Keeps so many low bits and fills up to 32 with zeros or the sign.
    fn cut(&mut self, val: Val, ty: Ty) -> Val {
        let bits = 32 - i64::from(ty.bits());
        let signed = ty.is_signed();
        let val = if let Val::Linear(..) = val { Val::Many(self.spread(val, Kind::I32)) } else { val };
        let act = move |this: &mut Self, v: &[Value]| {
            let high = this.b.ins().ishl_imm_u(v[0], bits);
            if signed { this.b.ins().sshr_imm_u(high, bits) } else { this.b.ins().ushr_imm_u(high, bits) }
        };
        self.each(&[val], Kind::I32, &act)
    }

    fn integer_to_float(&mut self, a: Slot, to: Ty, from: Ty, mode: Option<Mode>) -> Option<(Val, Kind)> {
        let (kind, target) = (kind_of(from)?, kind_of(to)?);
        // Every integer of 32 bits is an f64.
        let exact = target == Kind::F64 && kind == Kind::I32;
        if !matches!(target, Kind::F32 | Kind::F64)
            || kind == Kind::I64
            || !(mode == Some(Mode::Rn) || exact && mode.is_none())
        {
            return None;
        }
        let signed = from.is_signed();
        let val = self.read(a, kind);
        let act = move |this: &mut Self, v: &[Value]| {
            let vectors = this.b.func.dfg.value_type(v[0]).is_vector();
            let ty = if vectors { types::F32X4 } else { scalar(target) };
            if signed { this.b.ins().fcvt_from_sint(ty, v[0]) } else { this.b.ins().fcvt_from_uint(ty, v[0]) }
        };
        Some((self.each_if(target == Kind::F32, &[val], (kind, target), &act), target))
    }

    fn between_floats(&mut self, a: Slot, to: Ty, from: Ty, mode: Option<Mode>) -> Option<(Val, Kind)> {
        match (to, from, mode) {
            (Ty::F64, Ty::F32, None) => {
                let val = self.read(a, Kind::F32);
                let act = |this: &mut Self, v: &[Value]| this.b.ins().fpromote(types::F64, v[0]);
                Some((self.lane_by_lane(&[val], (Kind::F32, Kind::F64), &act), Kind::F64))
            }
            (Ty::F32, Ty::F64, Some(Mode::Rn)) => {
                let val = self.read(a, Kind::F64);
                let act = |this: &mut Self, v: &[Value]| {
                    let value = this.b.ins().fdemote(types::F32, v[0]);
                    let is_nan = this.b.ins().fcmp(FloatCC::Unordered, v[0], v[0]);
                    let nan = this.constant(Kind::F32, 0x7fff_ffff);
                    this.b.ins().select(is_nan, nan, value)
                };
                Some((self.lane_by_lane(&[val], (Kind::F64, Kind::F32), &act), Kind::F32))
            }
            _ => None,
        }
    }
}
