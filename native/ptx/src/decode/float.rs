//! f32 and f64 arithmetic. Round-to-nearest runs on the host; other modes run in [`crate::softfloat`].
//! The approximate functions are computed in f64 and rounded, which is better than PTX asks for.

use super::select::{Mods, Ty};
use super::{Decode, Decoder, malformed, unsupported};
use crate::ast::Operand;
use crate::program::{Alu, Args};
use crate::softfloat::{F32, F64, Format, Real, Rounding};

fn flush<const FTZ: bool>(value: f32) -> f32 {
    if FTZ && value.is_subnormal() { 0f32.copysign(value) } else { value }
}

/// Flushes, saturates, and makes every NaN the canonical one.
fn finish<const FTZ: bool, const SAT: bool>(value: f32) -> f32 {
    if SAT {
        return if value > 0.0 { flush::<FTZ>(value.min(1.0)) } else { 0.0 };
    }
    // As a question about bits: a NaN is as good as any other to the optimiser, which leaves out the choice between two.
    let bits = std::hint::black_box(value.to_bits());
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        f32::from_bits(0x7fff_ffff)
    } else {
        flush::<FTZ>(f32::from_bits(bits))
    }
}

macro_rules! single {
    ($ftz:expr, $sat:expr; |$($x:ident),*| $body:expr) => {
        match ($ftz, $sat) {
            (false, false) => single!(@one false false |$($x),*| $body),
            (false, true) => single!(@one false true |$($x),*| $body),
            (true, false) => single!(@one true false |$($x),*| $body),
            (true, true) => single!(@one true true |$($x),*| $body),
        }
    };
    (@one $ftz:literal $sat:literal |$($x:ident),*| $body:expr) => {
        alu!(|$($x: f32),*| -> f32 {
            $(let $x = flush::<$ftz>($x);)*
            finish::<$ftz, $sat>($body)
        })
    };
}

macro_rules! double {
    (|$($x:ident),*| $body:expr) => { alu!(|$($x: f64),*| -> f64 { $body }) };
}

fn minimum(a: f64, b: f64) -> f64 {
    if a.is_nan() {
        return b;
    }
    if b.is_nan() {
        return a;
    }
    if a < b || (a == b && a.is_sign_negative()) { a } else { b }
}
fn maximum(a: f64, b: f64) -> f64 {
    if a.is_nan() {
        return b;
    }
    if b.is_nan() {
        return a;
    }
    if a > b || (a == b && a.is_sign_positive()) { a } else { b }
}

const OPERATIONS: [&str; 7] = ["add", "sub", "mul", "fma", "div", "rcp", "sqrt"];

/// imm: operation | rounding << 4 | ftz << 8 | sat << 9 | double << 10
fn soft(s: &mut [u64], x: &Args) {
    let double = x.imm >> 10 & 1 != 0;
    let (ftz, saturate) = (x.imm >> 8 & 1 != 0, x.imm >> 9 & 1 != 0);
    let format = if double { F64 } else { F32 };
    let rounding = match x.imm >> 4 & 15 {
        0 => Rounding::Nearest,
        1 => Rounding::Zero,
        2 => Rounding::Down,
        _ => Rounding::Up,
    };
    let read = |slot: u32| {
        let bits = s[slot as usize];
        let bits = if double { bits } else { flush_bits(bits & 0xffff_ffff, ftz) };
        Real::unpack(bits, format)
    };
    let bits = compute(x.imm & 15, [read(x.a), read(x.b), read(x.c)], format, rounding);
    let bits = if double { bits } else { flush_bits(bits, ftz) };
    s[x.d as usize] = if saturate && !double {
        u64::from(finish::<false, true>(f32::from_bits(bits as u32)).to_bits())
    } else {
        bits
    };
}

fn flush_bits(bits: u64, ftz: bool) -> u64 {
    if ftz && bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { bits }
}

fn compute(operation: i64, [a, b, c]: [Real; 3], format: Format, rounding: Rounding) -> u64 {
    let result = match operation {
        0 => a.add(b, rounding),
        1 => a.add(b.negate(), rounding),
        2 => a.multiply(b),
        3 => a.multiply(b).add(c, rounding),
        4 => a.divide(b),
        5 => Real::from_integer(1).divide(a),
        _ => a.square_root(),
    };
    result.pack(format, rounding)
}

fn compare(name: &str, ty: Ty, ftz: bool) -> Decode<Alu> {
    macro_rules! pick {
        ($a:ident, $b:ident => $body:expr) => {
            match (ty, ftz) {
                (Ty::F64, _) => alu!(|$a: f64, $b: f64| -> bool { $body }),
                (_, false) => alu!(|$a: f32, $b: f32| -> bool { $body }),
                (_, true) => alu!(|$a: f32, $b: f32| -> bool {
                    let ($a, $b) = (flush::<true>($a), flush::<true>($b));
                    $body
                }),
            }
        };
    }
    Ok(match name {
        "eq" => pick!(a, b => a == b),
        "ne" => pick!(a, b => a != b && !a.is_nan() && !b.is_nan()),
        "lt" => pick!(a, b => a < b),
        "le" => pick!(a, b => a <= b),
        "gt" => pick!(a, b => a > b),
        "ge" => pick!(a, b => a >= b),
        "equ" => pick!(a, b => a == b || a.is_nan() || b.is_nan()),
        "neu" => pick!(a, b => a != b),
        "ltu" => pick!(a, b => a < b || a.is_nan() || b.is_nan()),
        "leu" => pick!(a, b => a <= b || a.is_nan() || b.is_nan()),
        "gtu" => pick!(a, b => a > b || a.is_nan() || b.is_nan()),
        "geu" => pick!(a, b => a >= b || a.is_nan() || b.is_nan()),
        "num" => pick!(a, b => !a.is_nan() && !b.is_nan()),
        "nan" => pick!(a, b => a.is_nan() || b.is_nan()),
        _ => return malformed(format!("no comparison .{name}")),
    })
}

impl Decoder {
    pub(super) fn float(
        &mut self,
        opcode: &str,
        operands: &[Operand<'_>],
        mods: &mut Mods<'_>,
    ) -> Decode<bool> {
        let Some(ty @ (Ty::F32 | Ty::F64)) = mods.last_type() else { return Ok(false) };
        let ftz = mods.take("ftz");
        let sat = mods.take("sat");
        let single_type = ty == Ty::F32;
        if opcode == "setp" || opcode == "set" {
            let name = mods.take_any(&[
                "eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan",
            ]);
            let alu = compare(name.unwrap_or("(none)"), ty, ftz)?;
            self.comparison(opcode, operands, mods, alu)?;
            return Ok(true);
        }
        if opcode == "testp" {
            let alu = match (mods.take_first().unwrap_or_default(), single_type) {
                ("finite", true) => alu!(|a: f32| -> bool { a.is_finite() }),
                ("finite", _) => alu!(|a: f64| -> bool { a.is_finite() }),
                ("infinite", true) => alu!(|a: f32| -> bool { a.is_infinite() }),
                ("infinite", _) => alu!(|a: f64| -> bool { a.is_infinite() }),
                ("number", true) => alu!(|a: f32| -> bool { !a.is_nan() }),
                ("number", _) => alu!(|a: f64| -> bool { !a.is_nan() }),
                ("notanumber", true) => alu!(|a: f32| -> bool { a.is_nan() }),
                ("notanumber", _) => alu!(|a: f64| -> bool { a.is_nan() }),
                ("normal", true) => alu!(|a: f32| -> bool { a.is_normal() }),
                ("normal", _) => alu!(|a: f64| -> bool { a.is_normal() }),
                ("subnormal", true) => alu!(|a: f32| -> bool { a.is_subnormal() }),
                ("subnormal", _) => alu!(|a: f64| -> bool { a.is_subnormal() }),
                _ => return malformed("testp without a test"),
            };
            let args = self.plain(operands, 1)?;
            self.alu(alu, args);
            return Ok(true);
        }
        let rounding = mods.rounding();
        let approximate = mods.take_any(&["approx", "full"]).is_some();
        let opcode = if opcode == "mad" { "fma" } else { opcode };
        let number = OPERATIONS.iter().position(|name| *name == opcode);
        let sources = match opcode {
            "fma" => 3,
            "add" | "sub" | "mul" | "div" | "min" | "max" | "copysign" => 2,
            "rcp" | "sqrt" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" | "abs" | "neg" => 1,
            _ => return Ok(false),
        };
        if let (Some(number), Some(mode @ (Rounding::Zero | Rounding::Down | Rounding::Up))) =
            (number, rounding)
        {
            let imm = number as i64
                | (mode as i64) << 4
                | i64::from(ftz) << 8
                | i64::from(sat) << 9
                | i64::from(!single_type) << 10;
            let args = self.plain(operands, sources)?;
            self.alu(soft, Args { imm, ..args });
            return Ok(true);
        }
        let propagate = mods.take("NaN");
        let alu = if single_type {
            match opcode {
                "add" => single!(ftz, sat; |a, b| a + b),
                "sub" => single!(ftz, sat; |a, b| a - b),
                "mul" => single!(ftz, sat; |a, b| a * b),
                "fma" => single!(ftz, sat; |a, b, c| a.mul_add(b, c)),
                "div" => single!(ftz, sat; |a, b| a / b),
                "rcp" => single!(ftz, sat; |a| 1.0 / a),
                "sqrt" => single!(ftz, sat; |a| a.sqrt()),
                "rsqrt" if approximate => single!(ftz, sat; |a| (1.0 / f64::from(a).sqrt()) as f32),
                "ex2" if approximate => single!(ftz, sat; |a| f64::from(a).exp2() as f32),
                "lg2" if approximate => single!(ftz, sat; |a| f64::from(a).log2() as f32),
                "sin" if approximate => single!(ftz, sat; |a| f64::from(a).sin() as f32),
                "cos" if approximate => single!(ftz, sat; |a| f64::from(a).cos() as f32),
                "tanh" if approximate => single!(ftz, sat; |a| f64::from(a).tanh() as f32),
                "min" if propagate => {
                    single!(ftz, sat; |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { minimum(a.into(), b.into()) as f32 })
                }
                "max" if propagate => {
                    single!(ftz, sat; |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { maximum(a.into(), b.into()) as f32 })
                }
                "min" => single!(ftz, sat; |a, b| minimum(a.into(), b.into()) as f32),
                "max" => single!(ftz, sat; |a, b| maximum(a.into(), b.into()) as f32),
                "abs" if ftz => alu!(|a: f32| -> f32 { flush::<true>(a.abs()) }),
                "abs" => alu!(|a: u32| -> u32 { a & 0x7fff_ffff }),
                "neg" if ftz => alu!(|a: f32| -> f32 { flush::<true>(-a) }),
                "neg" => alu!(|a: u32| -> u32 { a ^ 0x8000_0000 }),
                "copysign" => alu!(|a: u32, b: u32| -> u32 { a & 0x8000_0000 | b & 0x7fff_ffff }),
                _ => return unsupported("this form for f32"),
            }
        } else {
            match opcode {
                "add" => double!(|a, b| a + b),
                "sub" => double!(|a, b| a - b),
                "mul" => double!(|a, b| a * b),
                "fma" => double!(|a, b, c| a.mul_add(b, c)),
                "div" => double!(|a, b| a / b),
                "rcp" => double!(|a| 1.0 / a),
                "sqrt" => double!(|a| a.sqrt()),
                "rsqrt" => double!(|a| 1.0 / a.sqrt()),
                "min" => double!(|a, b| minimum(a, b)),
                "max" => double!(|a, b| maximum(a, b)),
                "abs" => alu!(|a: u64| -> u64 { a & !(1 << 63) }),
                "neg" => alu!(|a: u64| -> u64 { a ^ 1 << 63 }),
                "copysign" => alu!(|a: u64, b: u64| -> u64 { a & 1 << 63 | b & !(1 << 63) }),
                _ => return unsupported("this form for f64"),
            }
        };
        let args = self.plain(operands, sources)?;
        self.alu(alu, args);
        Ok(true)
    }
}
