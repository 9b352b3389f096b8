//! f16, bf16 and their packed pairs. Sums and products are rounded correctly by way of f64, whose precision exceeds
//! twice theirs by far and whose range holds the products of all subnormals; `fma` is computed exactly.

use super::integer::combination;
use super::select::{Mods, Ty};
use super::{Decode, Decoder, malformed, unsupported};
use crate::ast::Operand;
use crate::program::{Alu, Args};
use crate::softfloat::{BF16, F16, F64, Format, Real, Rounding, convert, widen_bfloat, widen_half};

/// imm bits
const BRAIN: i64 = 1;
const FTZ: i64 = 2;
const SAT: i64 = 4;
const RELU: i64 = 8;
const PROPAGATE: i64 = 16;

fn widen(bits: u16, imm: i64) -> f64 {
    f64::from(if imm & BRAIN != 0 { widen_bfloat(bits) } else { widen_half(flush(bits, imm)) })
}

fn flush(bits: u16, imm: i64) -> u16 {
    if imm & FTZ != 0 && bits & 0x7c00 == 0 { bits & 0x8000 } else { bits }
}

fn narrow(value: f64, imm: i64) -> u16 {
    let value = if imm & SAT != 0 { if value > 0.0 { value.min(1.0) } else { 0.0 } } else { value };
    let value = if imm & RELU != 0 && value <= 0.0 { 0.0 } else { value };
    let bits = convert(value.to_bits(), F64, format(imm), Rounding::Nearest) as u16;
    if imm & BRAIN != 0 { bits } else { flush(bits, imm) }
}

fn format(imm: i64) -> Format {
    if imm & BRAIN != 0 { BF16 } else { F16 }
}

fn fused(a: u16, b: u16, c: u16, imm: i64) -> u16 {
    let unpack = |bits: u16| {
        Real::unpack(u64::from(if imm & BRAIN == 0 { flush(bits, imm) } else { bits }), format(imm))
    };
    let exact = unpack(a).multiply(unpack(b)).add(unpack(c), Rounding::Nearest);
    let bits = exact.pack(format(imm), Rounding::Nearest) as u16;
    if imm & (SAT | RELU) != 0 {
        narrow(widen(bits, imm), imm)
    } else if imm & BRAIN == 0 {
        flush(bits, imm)
    } else {
        bits
    }
}

fn least(a: f64, b: f64, imm: i64) -> f64 {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => f64::NAN,
        (true, _) | (_, true) if imm & PROPAGATE != 0 => f64::NAN,
        (true, _) => b,
        (_, true) => a,
        _ if a < b || (a == b && a.is_sign_negative()) => a,
        _ => b,
    }
}

type Half1 = fn(u16, i64) -> u16;
type Half2 = fn(u16, u16, i64) -> u16;

macro_rules! half_alu {
    ($packed:expr; |$imm:ident; $a:ident| $body:expr) => {{
        fn one($a: u16, $imm: i64) -> u16 { $body }
        let _: Half1 = one;
        if $packed {
            alu_imm!(|imm; a: u32| -> u32 { u32::from(one(a as u16, imm)) | u32::from(one((a >> 16) as u16, imm)) << 16 })
        } else {
            alu_imm!(|imm; a: u16| -> u16 { one(a, imm) })
        }
    }};
    ($packed:expr; |$imm:ident; $a:ident, $b:ident| $body:expr) => {{
        fn one($a: u16, $b: u16, $imm: i64) -> u16 { $body }
        let _: Half2 = one;
        if $packed {
            alu_imm!(|imm; a: u32, b: u32| -> u32 {
                u32::from(one(a as u16, b as u16, imm)) | u32::from(one((a >> 16) as u16, (b >> 16) as u16, imm)) << 16
            })
        } else {
            alu_imm!(|imm; a: u16, b: u16| -> u16 { one(a, b, imm) })
        }
    }};
}

fn fused_alu(packed: bool) -> Alu {
    if packed {
        alu_imm!(|imm; a: u32, b: u32, c: u32| -> u32 {
            let low = fused(a as u16, b as u16, c as u16, imm);
            let high = fused((a >> 16) as u16, (b >> 16) as u16, (c >> 16) as u16, imm);
            u32::from(low) | u32::from(high) << 16
        })
    } else {
        alu_imm!(|imm; a: u16, b: u16, c: u16| -> u16 { fused(a, b, c, imm) })
    }
}

/// Comparison number as in the table below; operands as f64.
fn holds(number: i64, a: f64, b: f64) -> bool {
    let unordered = a.is_nan() || b.is_nan();
    match number {
        0 => a == b,
        1 => a != b && !unordered,
        2 => a < b,
        3 => a <= b,
        4 => a > b,
        5 => a >= b,
        6 => a == b || unordered,
        7 => a != b,
        8 => a < b || unordered,
        9 => a <= b || unordered,
        10 => a > b || unordered,
        11 => a >= b || unordered,
        12 => !unordered,
        _ => unordered,
    }
}

const COMPARISONS: [&str; 14] =
    ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"];

impl Decoder {
    fn compare_half(
        &mut self,
        opcode: &str,
        operands: &[Operand<'_>],
        mods: &mut Mods<'_>,
        ty: Ty,
        flags: i64,
    ) -> Decode {
        let Some(number) = COMPARISONS.iter().position(|name| mods.take(name)) else {
            return malformed("comparison without an operator");
        };
        let packed = matches!(ty, Ty::F16x2 | Ty::Bf16x2);
        let [to, a, b, ..] = operands else { return malformed("expected three operands") };
        let (a, b) = (self.source(a)?, self.source(b)?);
        let imm = flags | (number as i64) << 8;
        let low = alu_imm!(|imm; a: u16, b: u16| -> bool { holds(imm >> 8, widen(a, imm), widen(b, imm)) });
        let high = alu_imm!(|imm; a: u32, b: u32| -> bool {
            holds(imm >> 8, widen((a >> 16) as u16, imm), widen((b >> 16) as u16, imm))
        });
        let (first, second) = (self.temporary(), self.temporary());
        self.alu(low, Args { d: first, a, b, imm, ..Args::default() });
        if packed {
            self.alu(high, Args { d: second, a, b, imm, ..Args::default() });
            if let Some(combine) = mods.take_any(&["and", "or", "xor"]) {
                let [.., predicate] = operands else { return malformed("expected four operands") };
                let c = self.source(predicate)?;
                for d in [first, second] {
                    self.alu(combination(combine), Args { d, a: d, b: c, ..Args::default() });
                }
            }
            if opcode == "set" {
                let [result, ..] = *mods.types() else { return malformed("set needs two types") };
                let d = self.destination(to)?;
                let (yes_low, yes_high) = match result {
                    Ty::F16x2 => (0x3c00i64, 0x3c00i64 << 16),
                    Ty::Bf16x2 => (0x3f80, 0x3f80 << 16),
                    _ => (0xffff, 0xffff << 16),
                };
                let alu = alu_imm!(|imm; a: bool, b: bool| -> u32 {
                    let (low, high) = (imm as u32 & 0xffff, imm as u32 & 0xffff_0000);
                    (u32::from(a) * low) | (u32::from(b) * high)
                });
                self.alu(alu, Args { d, a: first, b: second, imm: yes_low | yes_high, ..Args::default() });
                return Ok(());
            }
            let (d, q) = self.destinations(to)?;
            let copy = alu!(|a: bool| -> bool { a });
            self.alu(copy, Args { d, a: first, ..Args::default() });
            self.alu(copy, Args { d: q.unwrap_or(0), a: second, ..Args::default() });
            return Ok(());
        }
        // The comparison is done: the general path combines its result with itself.
        let mut items = operands.to_vec();
        items[1] = Operand::Register { slot: first, bits: 1 };
        items[2] = Operand::Register { slot: first, bits: 1 };
        self.comparison(opcode, &items, mods, alu!(|a: bool, _b: bool| -> bool { a }))
    }

    pub(super) fn half(
        &mut self,
        opcode: &str,
        operands: &[Operand<'_>],
        mods: &mut Mods<'_>,
    ) -> Decode<bool> {
        let Some(ty @ (Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2)) = mods.last_type() else {
            return Ok(false);
        };
        let packed = matches!(ty, Ty::F16x2 | Ty::Bf16x2);
        let mut imm = i64::from(matches!(ty, Ty::Bf16 | Ty::Bf16x2)) * BRAIN;
        for (word, flag) in [("ftz", FTZ), ("sat", SAT), ("relu", RELU), ("NaN", PROPAGATE)] {
            imm |= i64::from(mods.take(word)) * flag;
        }
        if !matches!(mods.rounding(), None | Some(Rounding::Nearest)) {
            return unsupported("rounding mode");
        }
        mods.take("approx");
        let alu = match opcode {
            "setp" | "set" => {
                self.compare_half(opcode, operands, mods, ty, imm)?;
                return Ok(true);
            }
            "add" => half_alu!(packed; |imm; a, b| narrow(widen(a, imm) + widen(b, imm), imm)),
            "sub" => half_alu!(packed; |imm; a, b| narrow(widen(a, imm) - widen(b, imm), imm)),
            "mul" => half_alu!(packed; |imm; a, b| narrow(widen(a, imm) * widen(b, imm), imm)),
            "min" => half_alu!(packed; |imm; a, b| narrow(least(widen(a, imm), widen(b, imm), imm), imm)),
            "max" => half_alu!(packed; |imm; a, b| narrow(-least(-widen(a, imm), -widen(b, imm), imm), imm)),
            "fma" => fused_alu(packed),
            "neg" => half_alu!(packed; |imm; a| flush(a ^ 0x8000, imm)),
            "abs" => half_alu!(packed; |imm; a| flush(a & 0x7fff, imm)),
            "ex2" => half_alu!(packed; |imm; a| narrow(widen(a, imm).exp2(), imm)),
            "tanh" => half_alu!(packed; |imm; a| narrow(widen(a, imm).tanh(), imm)),
            _ => return unsupported("this form for halves"),
        };
        let sources = match opcode {
            "fma" => 3,
            "neg" | "abs" | "ex2" | "tanh" => 1,
            _ => 2,
        };
        let args = self.plain(operands, sources)?;
        self.alu(alu, Args { imm, ..args });
        Ok(true)
    }
}
